//! Every attempt of every request, counted, timed and sized by kind.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RequestKind {
    /// Creating a commit.
    CommitPut,
    /// Reading a commit that is known to exist, or settling one of unknown outcome.
    CommitGet,
    /// Asking whether the next commit exists.
    CommitProbe,
    /// Creating a snapshot.
    SnapshotPut,
    /// Reading a snapshot.
    SnapshotGet,
    /// Creating a boundary.
    BoundaryPut,
    /// Reading a boundary.
    BoundaryGet,
    /// Uploading a segment.
    SegmentPut,
    /// Reading a segment or a block of it.
    SegmentGet,
    /// Uploading a compacted segment: its parts, and what begins and ends the upload.
    CompactedPut,
    /// Reading what is to be compacted.
    CompactedGet,
    /// Storing an object of a table.
    ArchivePut,
    /// Reading an object of a table.
    ArchiveGet,
    /// Creating or reading `cluster.json`, or the key of the catalog.
    Cluster,
    /// Listing: only at start-up and by fsck.
    List,
    /// Deleting.
    Delete,
    /// The conformance check.
    Check,
    /// Repairing a bucket.
    Repair,
}

impl RequestKind {
    /// Every kind.
    pub const ALL: [RequestKind; 18] = [
        RequestKind::CommitPut,
        RequestKind::CommitGet,
        RequestKind::CommitProbe,
        RequestKind::SnapshotPut,
        RequestKind::SnapshotGet,
        RequestKind::BoundaryPut,
        RequestKind::BoundaryGet,
        RequestKind::SegmentPut,
        RequestKind::SegmentGet,
        RequestKind::CompactedPut,
        RequestKind::CompactedGet,
        RequestKind::ArchivePut,
        RequestKind::ArchiveGet,
        RequestKind::Cluster,
        RequestKind::List,
        RequestKind::Delete,
        RequestKind::Check,
        RequestKind::Repair,
    ];

    /// The kind as a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            RequestKind::CommitPut => "commit_put",
            RequestKind::CommitGet => "commit_get",
            RequestKind::CommitProbe => "commit_probe",
            RequestKind::SnapshotPut => "snapshot_put",
            RequestKind::SnapshotGet => "snapshot_get",
            RequestKind::BoundaryPut => "boundary_put",
            RequestKind::BoundaryGet => "boundary_get",
            RequestKind::SegmentPut => "segment_put",
            RequestKind::SegmentGet => "segment_get",
            RequestKind::CompactedPut => "compacted_put",
            RequestKind::CompactedGet => "compacted_get",
            RequestKind::ArchivePut => "archive_put",
            RequestKind::ArchiveGet => "archive_get",
            RequestKind::Cluster => "cluster",
            RequestKind::List => "list",
            RequestKind::Delete => "delete",
            RequestKind::Check => "check",
            RequestKind::Repair => "repair",
        }
    }

    /// Whether the request takes one of the places kept for the manifest.
    pub(super) fn is_manifest(self) -> bool {
        match self {
            RequestKind::CommitPut
            | RequestKind::CommitGet
            | RequestKind::CommitProbe
            | RequestKind::BoundaryPut
            | RequestKind::BoundaryGet
            | RequestKind::Cluster => true,
            RequestKind::SnapshotPut
            | RequestKind::SnapshotGet
            | RequestKind::SegmentPut
            | RequestKind::SegmentGet
            | RequestKind::CompactedPut
            | RequestKind::CompactedGet
            | RequestKind::ArchivePut
            | RequestKind::ArchiveGet
            | RequestKind::List
            | RequestKind::Delete
            | RequestKind::Check
            | RequestKind::Repair => false,
        }
    }
}

impl fmt::Display for RequestKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// How one attempt of a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// It did what it should.
    Ok,
    /// There is no such object: for a probe the normal answer.
    NotFound,
    /// The object to create exists.
    Exists,
    /// A create of which it is not known whether the store applied it.
    Unknown,
    /// It failed and is repeated.
    Retry,
    /// It failed and is not repeated.
    Error,
    /// The caller stopped waiting before there was an answer.
    Cancelled,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Outcome; 7] = [
        Outcome::Ok,
        Outcome::NotFound,
        Outcome::Exists,
        Outcome::Unknown,
        Outcome::Retry,
        Outcome::Error,
        Outcome::Cancelled,
    ];

    /// The outcome as a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::NotFound => "not_found",
            Outcome::Exists => "exists",
            Outcome::Unknown => "unknown",
            Outcome::Retry => "retry",
            Outcome::Error => "error",
            Outcome::Cancelled => "cancelled",
        }
    }
}

/// Which way the bytes of a body went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Direction {
    Sent,
    Received,
}

macro_rules! label_value {
    ($($name:ident),*) => {$(
        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
                EncodeLabelValue::encode(&self.label(), encoder)
            }
        }
    )*};
}

label_value!(RequestKind, Outcome, Direction);

impl Direction {
    fn label(self) -> &'static str {
        match self {
            Direction::Sent => "sent",
            Direction::Received => "received",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    kind: RequestKind,
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: RequestKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByteLabels {
    kind: RequestKind,
    direction: Direction,
}

/// The counters of one store. Clones share them. The default is not registered anywhere but counts all
/// the same.
#[derive(Clone, Debug)]
pub struct StoreMetrics {
    requests: Family<RequestLabels, Counter>,
    durations: Family<KindLabel, Histogram, fn() -> Histogram>,
    bytes: Family<ByteLabels, Counter>,
    /// 1 while this machine's clock is too far from the store's.
    pub(super) clock_off: Gauge,
}

impl Default for StoreMetrics {
    fn default() -> StoreMetrics {
        StoreMetrics {
            requests: Family::default(),
            durations: Family::new_with_constructor(request_histogram),
            bytes: Family::default(),
            clock_off: Gauge::default(),
        }
    }
}

/// From half a millisecond (a file) to half a minute (a timeout).
fn request_histogram() -> Histogram {
    Histogram::new([
        0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    ])
}

impl StoreMetrics {
    /// Counters that appear in the registry as `weir_store_requests_total{kind,outcome}`,
    /// `weir_store_request_duration_seconds{kind}` and `weir_store_request_bytes_total{kind,direction}`.
    pub fn register(registry: &mut Registry) -> StoreMetrics {
        let metrics = StoreMetrics::default();
        registry.register(
            "weir_store_requests",
            "Attempts of requests to the object store",
            metrics.requests.clone(),
        );
        registry.register(
            "weir_store_request_duration_seconds",
            "How long attempts of requests to the object store took",
            metrics.durations.clone(),
        );
        registry.register(
            "weir_store_request_bytes",
            "Bytes of bodies sent to and received from the object store",
            metrics.bytes.clone(),
        );
        registry.register(
            "weir_store_clock_off",
            "1 while this machine's clock is too far from the store's, and this node makes no changes",
            metrics.clock_off.clone(),
        );
        metrics
    }

    /// How many attempts of that kind ended that way.
    pub fn count(&self, kind: RequestKind, outcome: Outcome) -> u64 {
        let labels = RequestLabels { kind, outcome };
        self.requests
            .get(&labels)
            .map_or(0, |counter| counter.get())
    }

    /// How many attempts of that kind ended, in whatever way.
    pub fn requests(&self, kind: RequestKind) -> u64 {
        Outcome::ALL
            .iter()
            .map(|outcome| self.count(kind, *outcome))
            .sum()
    }

    /// How many attempts ended, of whatever kind and in whatever way.
    pub fn total(&self) -> u64 {
        RequestKind::ALL
            .iter()
            .map(|kind| self.requests(*kind))
            .sum()
    }

    /// Bytes of bodies sent in attempts of that kind.
    pub fn sent(&self, kind: RequestKind) -> u64 {
        self.transferred(kind, Direction::Sent)
    }

    /// Bytes of bodies received by attempts of that kind.
    pub fn received(&self, kind: RequestKind) -> u64 {
        self.transferred(kind, Direction::Received)
    }

    fn transferred(&self, kind: RequestKind, direction: Direction) -> u64 {
        let labels = ByteLabels { kind, direction };
        self.bytes.get(&labels).map_or(0, |counter| counter.get())
    }

    pub(super) fn ended(&self, kind: RequestKind, outcome: Outcome, took: Duration) {
        self.requests
            .get_or_create(&RequestLabels { kind, outcome })
            .inc();
        self.durations
            .get_or_create(&KindLabel { kind })
            .observe(took.as_secs_f64());
    }

    pub(super) fn add_sent(&self, kind: RequestKind, bytes: u64) {
        self.add(kind, Direction::Sent, bytes);
    }

    pub(super) fn add_received(&self, kind: RequestKind, bytes: u64) {
        self.add(kind, Direction::Received, bytes);
    }

    fn add(&self, kind: RequestKind, direction: Direction, bytes: u64) {
        if bytes > 0 {
            self.bytes
                .get_or_create(&ByteLabels { kind, direction })
                .inc_by(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metrics_appear_under_their_documented_names() {
        let mut registry = Registry::default();
        let metrics = StoreMetrics::register(&mut registry);
        metrics.ended(
            RequestKind::CommitPut,
            Outcome::Exists,
            Duration::from_millis(3),
        );
        metrics.add_sent(RequestKind::CommitPut, 100);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "weir_store_requests_total{kind=\"commit_put\",outcome=\"exists\"} 1",
            "weir_store_request_duration_seconds_count{kind=\"commit_put\"} 1",
            "weir_store_request_bytes_total{kind=\"commit_put\",direction=\"sent\"} 100",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert_eq!(metrics.requests(RequestKind::CommitPut), 1);
        assert_eq!(metrics.total(), 1);
    }
}
