//! What is counted of queries.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::error::QueryErrorKind;

/// How a query ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    outcome: &'static str,
}

/// The metrics of queries. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct QueryMetrics {
    ended: Family<Ended, Counter>,
    pub(super) running: Gauge,
    pub(super) read: Counter,
    pub(super) records: Counter,
    pub(super) rows: Counter,
    pub(super) memory: Gauge,
    duration: Histogram,
}

impl Default for QueryMetrics {
    fn default() -> QueryMetrics {
        QueryMetrics {
            ended: Family::default(),
            running: Gauge::default(),
            read: Counter::default(),
            records: Counter::default(),
            rows: Counter::default(),
            memory: Gauge::default(),
            duration: Histogram::new(exponential_buckets(0.001, 4.0, 10)),
        }
    }
}

impl QueryMetrics {
    /// Metrics that `registry` shows.
    pub fn register(registry: &mut Registry) -> QueryMetrics {
        let m = QueryMetrics::default();
        registry.register(
            "weir_query_statements",
            "Statements that ended, by outcome",
            m.ended.clone(),
        );
        registry.register(
            "weir_query_running",
            "Queries that are running",
            m.running.clone(),
        );
        registry.register_with_unit(
            "weir_query_read",
            "Record batches read for queries, as they are stored",
            Unit::Bytes,
            m.read.clone(),
        );
        registry.register(
            "weir_query_records",
            "Records read for queries",
            m.records.clone(),
        );
        registry.register(
            "weir_query_rows",
            "Rows that queries answered",
            m.rows.clone(),
        );
        registry.register_with_unit(
            "weir_query_memory",
            "Memory that running queries have reserved",
            Unit::Bytes,
            m.memory.clone(),
        );
        registry.register_with_unit(
            "weir_query_duration",
            "From a statement's arrival until its client had all of the answer",
            Unit::Seconds,
            m.duration.clone(),
        );
        m
    }

    /// A statement ended: well, or with an error of that kind, or because its client went away.
    pub(super) fn ended(&self, outcome: Outcome, took: std::time::Duration) {
        let outcome = match outcome {
            Outcome::Answered => "answered",
            Outcome::Cancelled => "cancelled",
            Outcome::Failed(kind) => kind.name(),
        };
        self.ended.get_or_create(&Ended { outcome }).inc();
        self.duration.observe(took.as_secs_f64());
    }
}

/// How a statement ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    Answered,
    Cancelled,
    Failed(QueryErrorKind),
}
