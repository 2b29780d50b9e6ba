//! What the manifest counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::object::LOG;

/// The manifest's metrics. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct ManifestMetrics {
    /// Commits of this node that are in the log.
    pub commits: Counter,
    /// Races for the next seq that another node won.
    pub conflicts: Counter,
    /// Commits that were sent behind one that lost its race, and had to be sent again.
    pub withdrawn: Counter,
    /// Commits that were forwarded to the node that was winning.
    pub forwarded: Counter,
    /// Commits that were forwarded and recalled.
    pub recalled: Counter,
    /// Forwarded commits of other nodes that this one stored in its objects.
    pub received: Counter,
    /// Commits that another node told of, before this one looked.
    pub heard: Counter,
    /// Creates of unknown outcome, settled by reading.
    pub unknown: Counter,
    /// From the first attempt to the fold.
    pub duration: Histogram,
    /// Ops in each commit of this node.
    pub ops: Histogram,
    /// Commits of other nodes that were folded.
    pub followed: Counter,
    /// The seq that this node has folded.
    pub seq: Gauge,
    /// How many commits the last look at the log found this node to be behind.
    pub lag: Gauge,
    /// Snapshots that this node stored.
    pub snapshots: Counter,
    /// Snapshots that this node did not store or announce, because nobody could have started from them.
    pub snapshots_refused: Counter,
    /// Snapshots in the bucket that this node wanted to start from and could not read.
    pub snapshots_unreadable: Counter,
    /// Snapshots of other nodes whose state this node has had itself.
    pub states_compared: Counter,
    /// Snapshots of other nodes whose state was another than this node had.
    pub divergences: Counter,
    /// How often this node had to start over from a snapshot, because the log was truncated while it was away.
    pub started_over: Counter,
}

impl Default for ManifestMetrics {
    fn default() -> ManifestMetrics {
        ManifestMetrics {
            commits: Counter::default(),
            conflicts: Counter::default(),
            withdrawn: Counter::default(),
            forwarded: Counter::default(),
            recalled: Counter::default(),
            received: Counter::default(),
            heard: Counter::default(),
            unknown: Counter::default(),
            duration: Histogram::new(exponential_buckets(0.000_5, 2.0, 16)),
            ops: Histogram::new(exponential_buckets(1.0, 4.0, 8)),
            followed: Counter::default(),
            seq: Gauge::default(),
            lag: Gauge::default(),
            snapshots: Counter::default(),
            snapshots_refused: Counter::default(),
            snapshots_unreadable: Counter::default(),
            states_compared: Counter::default(),
            divergences: Counter::default(),
            started_over: Counter::default(),
        }
    }
}

impl ManifestMetrics {
    /// Metrics that `registry` shows, with the log as a label: what is counted here is of one log, and seqs are
    /// positions in it.
    pub fn register(registry: &mut Registry) -> ManifestMetrics {
        let m = ManifestMetrics::default();
        let log = ("log".into(), LOG.to_string().into());
        let r = registry.sub_registry_with_prefix("weir_manifest");
        let r = r.sub_registry_with_label(log);
        r.register(
            "commits",
            "Commits of this node that are in the log",
            m.commits.clone(),
        );
        r.register(
            "conflicts",
            "Races for the next place in the log that another node won",
            m.conflicts.clone(),
        );
        r.register(
            "withdrawn_commits",
            "Commits sent behind one that lost its race, and so sent again",
            m.withdrawn.clone(),
        );
        r.register(
            "forwarded_commits",
            "Commits forwarded to the node that was winning the races",
            m.forwarded.clone(),
        );
        r.register(
            "recalled_commits",
            "Commits forwarded and recalled, because they were not stored in time",
            m.recalled.clone(),
        );
        r.register(
            "received_commits",
            "Forwarded commits of other nodes that this node stored in its objects",
            m.received.clone(),
        );
        r.register(
            "heard_commits",
            "Commits that this node learned of from another node",
            m.heard.clone(),
        );
        r.register(
            "unknown_outcomes",
            "Commits whose outcome had to be found out by reading",
            m.unknown.clone(),
        );
        r.register_with_unit(
            "commit_duration",
            "From the first attempt to commit to the fold",
            Unit::Seconds,
            m.duration.clone(),
        );
        r.register(
            "commit_ops",
            "Ops in each commit of this node",
            m.ops.clone(),
        );
        r.register(
            "followed_commits",
            "Commits of other nodes that were folded",
            m.followed.clone(),
        );
        r.register(
            "seq",
            "The last commit that this node has folded",
            m.seq.clone(),
        );
        r.register(
            "lag_commits",
            "How many commits the last look at the log found this node to be behind",
            m.lag.clone(),
        );
        r.register(
            "snapshots",
            "Snapshots that this node stored",
            m.snapshots.clone(),
        );
        r.register(
            "refused_snapshots",
            "Snapshots that this node made and did not announce, because they could not be read back",
            m.snapshots_refused.clone(),
        );
        r.register(
            "compared_states",
            "Snapshots of other nodes whose state this node has had itself",
            m.states_compared.clone(),
        );
        r.register(
            "divergences",
            "Snapshots of other nodes whose state differed from this node's: it has stopped",
            m.divergences.clone(),
        );
        r.register(
            "unreadable_snapshots",
            "Snapshots in the bucket that this node wanted to start from and could not read",
            m.snapshots_unreadable.clone(),
        );
        r.register(
            "restarts_from_snapshot",
            "How often the log had been truncated while this node was away, so that it started over",
            m.started_over.clone(),
        );
        m
    }
}
