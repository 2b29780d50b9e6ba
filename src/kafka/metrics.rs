//! What is counted of Kafka clients.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::time::Duration;

use crate::net::{ListenerEvent, Rejection};

use super::errors;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    api: &'static str,
    error: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Api {
    api: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Direction {
    direction: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// The metrics of the Kafka front end. Cheap to clone; clones share the figures.
#[derive(Clone, Debug)]
pub struct KafkaMetrics {
    requests: Family<Outcome, Counter>,
    durations: Family<Api, Histogram>,
    waits: Family<Api, Histogram>,
    connections: Gauge,
    rejected: Family<Reason, Counter>,
    closed: Family<Reason, Counter>,
    bytes: Family<Direction, Counter>,
    logins: Family<Login, Counter>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Login {
    mechanism: &'static str,
    result: &'static str,
}

fn seconds() -> Histogram {
    Histogram::new([
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    ])
}

impl KafkaMetrics {
    /// Metrics that appear in `registry` as `weir_kafka_...`.
    pub fn register(registry: &mut Registry) -> KafkaMetrics {
        let metrics = KafkaMetrics {
            requests: Family::default(),
            durations: Family::new_with_constructor(seconds),
            waits: Family::new_with_constructor(seconds),
            connections: Gauge::default(),
            rejected: Family::default(),
            closed: Family::default(),
            bytes: Family::default(),
            logins: Family::default(),
        };
        registry.register(
            "weir_kafka_requests",
            "Requests answered, by API and by the first error in the answer",
            metrics.requests.clone(),
        );
        registry.register_with_unit(
            "weir_kafka_request_duration",
            "Time from a whole request to its answer, of APIs that answer as soon as they can",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register_with_unit(
            "weir_kafka_long_poll_duration",
            "The same of APIs that wait for something to happen: Fetch, JoinGroup, SyncGroup",
            Unit::Seconds,
            metrics.waits.clone(),
        );
        registry.register(
            "weir_kafka_connections",
            "Connections of Kafka clients at this moment",
            metrics.connections.clone(),
        );
        registry.register(
            "weir_kafka_connections_rejected",
            "Connections closed at once because there were too many",
            metrics.rejected.clone(),
        );
        registry.register(
            "weir_kafka_connections_closed",
            "Connections that this node ended, by reason",
            metrics.closed.clone(),
        );
        registry.register_with_unit(
            "weir_kafka",
            "Bytes of requests and responses",
            Unit::Bytes,
            metrics.bytes.clone(),
        );
        registry.register(
            "weir_kafka_logins",
            "Logins, by mechanism and by whether they succeeded",
            metrics.logins.clone(),
        );
        metrics
    }

    pub(crate) fn login(&self, mechanism: &'static str, succeeded: bool) {
        let result = if succeeded { "succeeded" } else { "failed" };
        let login = Login { mechanism, result };
        self.logins.get_or_create(&login).inc();
    }

    pub(crate) fn answered(&self, api: &'static str, error: i16, waits: bool, took: Duration) {
        let error = errors::name(error);
        self.requests.get_or_create(&Outcome { api, error }).inc();
        let family = if waits { &self.waits } else { &self.durations };
        family
            .get_or_create(&Api { api })
            .observe(took.as_secs_f64());
    }

    pub(crate) fn connection(&self, event: ListenerEvent) {
        match event {
            ListenerEvent::Opened => {
                self.connections.inc();
            }
            ListenerEvent::Closed => {
                self.connections.dec();
            }
            ListenerEvent::Rejected(why) => {
                let reason = match why {
                    Rejection::Node => "max_connections",
                    Rejection::Address => "max_connections_per_ip",
                };
                self.rejected.get_or_create(&Reason { reason }).inc();
            }
        }
    }

    pub(crate) fn ended(&self, reason: &'static str) {
        self.closed.get_or_create(&Reason { reason }).inc();
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.count("in", bytes);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.count("out", bytes);
    }

    fn count(&self, direction: &'static str, bytes: usize) {
        self.bytes
            .get_or_create(&Direction { direction })
            .inc_by(bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_documentation() {
        let mut registry = Registry::default();
        let metrics = KafkaMetrics::register(&mut registry);
        metrics.answered("Metadata", 3, false, Duration::from_millis(3));
        metrics.answered("Fetch", 0, true, Duration::from_millis(500));
        metrics.connection(ListenerEvent::Opened);
        metrics.connection(ListenerEvent::Rejected(Rejection::Node));
        metrics.ended("idle");
        metrics.received(10);
        metrics.login("PLAIN", false);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"weir_kafka_requests_total{api="Metadata",error="UnknownTopicOrPartition"} 1"#,
            r#"weir_kafka_requests_total{api="Fetch",error="none"} 1"#,
            r#"weir_kafka_request_duration_seconds_count{api="Metadata"} 1"#,
            r#"weir_kafka_long_poll_duration_seconds_count{api="Fetch"} 1"#,
            "weir_kafka_connections 1",
            r#"weir_kafka_connections_rejected_total{reason="max_connections"} 1"#,
            r#"weir_kafka_connections_closed_total{reason="idle"} 1"#,
            r#"weir_kafka_bytes_total{direction="in"} 10"#,
            r#"weir_kafka_logins_total{mechanism="PLAIN",result="failed"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
