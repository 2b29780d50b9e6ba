//! How background work behaves.

use std::time::Duration;

use crate::config::MaintenanceConfig;
use crate::types::ByteCount;

/// How background work behaves.
#[derive(Clone, Debug)]
pub struct MaintenanceOptions {
    /// How often a node looks whether there is work; jittered.
    pub interval: Duration,
    /// How many intervals a node waits before it takes work that another should have done.
    pub takeover_intervals: u32,
    /// How long a claim holds that is not renewed.
    pub claim: Duration,
    /// How long an object stays in the bucket after its last slice has gone. Longer than any read.
    pub deletion_grace: Duration,
    /// How often orphans are looked for.
    pub sweep_interval: Duration,
    /// How old a segment must be that is taken for an orphan. Longer than any upload with its commit.
    pub sweep_age: Duration,
    /// The log is truncated when so many commits may go.
    pub truncate_commits: u64,
    /// … or when any may, and have for so long.
    pub truncate_wait: Duration,
    /// Producers that wrote nothing for so long are forgotten (Kafka's `producer.id.expiration.ms`).
    pub producer_expiration: Duration,
    /// The compaction of segments.
    pub compaction: CompactionOptions,
    /// The archive.
    pub archive: ArchiveOptions,
}

/// How tables are kept.
#[derive(Clone, Debug)]
pub struct ArchiveOptions {
    /// Manifests with so many bytes of files are not merged any more.
    pub small: ByteCount,
    /// How many bytes of files are merged at once, at most.
    pub merged: ByteCount,
    /// How many files are merged at once, at most.
    pub merge_files: u64,
    /// So many small neighbours are merged at once.
    pub merge_at: usize,
    /// Fewer are merged when they have been there for so long.
    pub merge_wait: Duration,
    /// How long a snapshot stays, so that engines can read what was.
    pub snapshot_age: Duration,
    /// How many snapshots a table keeps at most.
    pub snapshots: usize,
}

/// How segments are compacted.
#[derive(Clone, Debug)]
pub struct CompactionOptions {
    /// The length of a compacted slice, if there is enough for one.
    pub target: ByteCount,
    /// Slices younger than that are left alone: consumers have them cached.
    pub min_age: Duration,
    /// Slices older than that are compacted however few there are, unless they are to expire within as long.
    pub max_wait: Duration,
    /// So many slices in a row are compacted however short they are.
    pub max_slices: usize,
    /// While the state has more slices than that, whatever makes it smaller is compacted.
    pub state_slices: usize,
    /// Partitions are compacted together up to so many bytes, all of which are held in memory.
    pub memory: ByteCount,
    /// How much one job reads at most.
    pub job: ByteCount,
    /// How many requests of it are waiting or under way at once.
    pub requests: usize,
    /// How many bytes are read per second; `None` is without bound.
    pub bandwidth: Option<ByteCount>,
}

/// For so many bytes a second one part is uploaded at a time: a store that takes it in 100 ms keeps up with that.
const STREAM: u64 = 64 << 20;

/// The most parts that are uploaded at once.
const MAX_AT_ONCE: u64 = 4;

impl CompactionOptions {
    /// How many parts are uploaded at once, and four times as many short reads are made: one, unless the bandwidth is
    /// more than one is likely to fill. A store may serve one request after the other, and then a commit waits for all
    /// that are before it.
    pub(super) fn at_once(&self) -> usize {
        let bandwidth = self.bandwidth.map_or(u64::MAX, |bandwidth| bandwidth.0);
        bandwidth.div_ceil(STREAM).clamp(1, MAX_AT_ONCE) as usize
    }
}

impl Default for MaintenanceOptions {
    fn default() -> MaintenanceOptions {
        MaintenanceOptions::from(&MaintenanceConfig::default())
    }
}

impl Default for CompactionOptions {
    fn default() -> CompactionOptions {
        MaintenanceOptions::default().compaction
    }
}

impl From<&MaintenanceConfig> for MaintenanceOptions {
    fn from(config: &MaintenanceConfig) -> MaintenanceOptions {
        MaintenanceOptions {
            interval: config.maintenance_interval,
            takeover_intervals: 3,
            claim: Duration::from_secs(60),
            deletion_grace: config.deletion_grace,
            sweep_interval: config.sweep_interval,
            sweep_age: config.sweep_age,
            truncate_commits: 1000,
            truncate_wait: Duration::from_secs(3600),
            producer_expiration: Duration::from_secs(24 * 3600),
            compaction: CompactionOptions {
                target: config.compaction_target,
                min_age: config.compaction_min_age,
                max_wait: config.compaction_max_wait,
                max_slices: 8192,
                state_slices: usize::try_from(config.compaction_state_slices).unwrap_or(usize::MAX),
                memory: ByteCount::mib(64),
                job: ByteCount(config.compaction_target.0.saturating_mul(4)),
                requests: 8,
                bandwidth: (config.compaction_bandwidth.0 > 0)
                    .then_some(config.compaction_bandwidth),
            },
            archive: ArchiveOptions {
                small: ByteCount::mib(32),
                merged: ByteCount::mib(96),
                merge_files: 256,
                merge_at: 8,
                merge_wait: Duration::from_secs(24 * 3600),
                snapshot_age: Duration::from_secs(24 * 3600),
                snapshots: 100,
            },
        }
    }
}
