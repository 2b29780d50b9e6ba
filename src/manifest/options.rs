//! How the manifest behaves.

use std::time::Duration;

use super::parts::MAX_CHUNK;
use crate::state::Level;

/// How the manifest behaves.
#[derive(Clone, Debug)]
pub struct ManifestOptions {
    /// The least time between the beginnings of two commits of this node: the dial between the cost of
    /// requests and latency. A commit after a pause still goes at once.
    pub commit_interval: Duration,
    /// How many commits may be on their way at once, while no other node commits.
    pub commits_in_flight: usize,
    /// How often the next seq is probed while somebody follows. Grows up to five times while nothing is found.
    pub follow_interval: Duration,
    /// The least number of commits between two snapshots.
    pub snapshot_every: u64,
    /// The most bytes of a state in one object of a snapshot.
    pub max_chunk: u64,
    /// The highest level of the log that this node takes part in.
    pub level: Level,
    /// How often a node that does something looks whether the store is still that of its cluster.
    pub look_interval: Duration,
}

impl Default for ManifestOptions {
    fn default() -> ManifestOptions {
        ManifestOptions {
            commit_interval: Duration::ZERO,
            commits_in_flight: 4,
            follow_interval: Duration::from_millis(10),
            snapshot_every: 256,
            max_chunk: MAX_CHUNK,
            level: Level::NEWEST,
            look_interval: Duration::from_secs(30),
        }
    }
}
