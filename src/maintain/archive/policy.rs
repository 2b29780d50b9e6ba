//! What is due for a table.

use std::time::Duration;

use super::super::options::ArchiveOptions;
use super::TARGET;
use crate::dynamic_config::ArchiveConfig;
use crate::state::table::{LiveManifest, Table};
use crate::state::{Slice, State, Topic};
use crate::types::{FileId, Offset, Seq, Timestamp, TopicPartition};

/// What of a topic is not archived yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::maintain) struct Lag {
    /// Offsets.
    pub(in crate::maintain) records: u64,
    /// Bytes of the slices.
    pub(in crate::maintain) bytes: u64,
    /// When the oldest was appended.
    pub(in crate::maintain) oldest: Option<Timestamp>,
}

/// The settings that hold for the archive of a table.
pub(super) fn settings(state: &State, table: &Table) -> ArchiveConfig {
    let topic = table.topic().and_then(|topic| state.topic(topic));
    let own = topic.map_or(table.options(), Topic::configs);
    ArchiveConfig::effective(own, state.configs())
}

/// The slices of a partition that are not archived, or not wholly.
pub(super) fn waiting(state: &State, id: TopicPartition) -> impl Iterator<Item = (Offset, &Slice)> {
    let from = state.archive_position(id);
    let partition = state.partition(id).into_iter();
    partition.flat_map(move |partition| partition.slices_from(from))
}

/// What of a topic is not archived.
pub(in crate::maintain) fn backlog(state: &State, topic: &Topic) -> Lag {
    let mut lag = Lag::default();
    for (id, partition) in topic.partitions() {
        let from = state.archive_position(id);
        lag.records = lag
            .records
            .saturating_add(partition.high_watermark().since(from));
        for (_, slice) in waiting(state, id) {
            lag.bytes = lag.bytes.saturating_add(slice.len);
            let oldest = lag.oldest.into_iter().chain([slice.appended_at]);
            lag.oldest = oldest.min();
        }
    }
    lag
}

/// Whether records of a topic are to be archived.
pub(super) fn is_archiving_due(lag: &Lag, settings: &ArchiveConfig, now: Timestamp) -> bool {
    let oldest = lag.oldest.filter(|_| lag.records > 0);
    oldest.is_some_and(|oldest| lag.bytes >= TARGET || oldest.after(settings.lag) <= now)
}

/// Neighbouring manifests that are worth merging: so many that it pays, or few that have been there for a while.
pub(super) fn merge(
    table: &Table,
    options: &ArchiveOptions,
    now: Timestamp,
) -> Option<Vec<LiveManifest>> {
    let is_small = |live: &LiveManifest| live.manifest.counts().bytes <= options.small.0;
    let mut run: Vec<&LiveManifest> = Vec::new();
    let (mut bytes, mut files) = (0u64, 0u64);
    for live in table.manifests() {
        let counts = live.manifest.counts();
        let fits = bytes.saturating_add(counts.bytes) <= options.merged.0
            && files + counts.files <= options.merge_files;
        if !is_small(live) || !fits {
            if is_worth_it(&run, options, now) {
                break;
            }
            run.clear();
            (bytes, files) = (0, 0);
        }
        if is_small(live) {
            bytes += counts.bytes;
            files += counts.files;
            run.push(live);
        }
    }
    is_worth_it(&run, options, now).then(|| run.into_iter().cloned().collect())
}

fn is_worth_it(run: &[&LiveManifest], options: &ArchiveOptions, now: Timestamp) -> bool {
    let old = |live: &&LiveManifest| live.manifest.id.minted().after(options.merge_wait) <= now;
    run.len() >= options.merge_at || run.len() > 1 && run.first().is_some_and(old)
}

/// The first snapshot that stays, if older ones are to go.
pub(super) fn snapshots(table: &Table, options: &ArchiveOptions, now: Timestamp) -> Option<Seq> {
    let snapshots = table.snapshots();
    let (_, older) = snapshots.split_last()?;
    // So that not each one that is added takes another commit.
    let slack = options.snapshot_age / 24;
    let surplus = snapshots.len().saturating_sub(options.snapshots);
    let late = |age: Duration| {
        older
            .iter()
            .take_while(|snapshot| snapshot.time.after(age) < now)
            .count()
    };
    let is_due = surplus > options.snapshots / 10 || late(options.snapshot_age + slack) > 0;
    let gone = surplus.max(late(options.snapshot_age));
    (is_due && gone > 0)
        .then(|| snapshots.get(gone).map(|snapshot| snapshot.seq))
        .flatten()
}

/// The last of the manifests that are to go by time or by size, if any is.
pub(super) fn expired(table: &Table, settings: &ArchiveConfig, now: Timestamp) -> Option<FileId> {
    let mut left = table.total().bytes;
    let mut last = None;
    for live in table.manifests() {
        let bytes = live.manifest.counts().bytes;
        let too_old = settings
            .retention
            .is_some_and(|keep| time_of(live).after(keep) < now);
        let too_large = settings
            .retention_bytes
            .is_some_and(|most| left.saturating_sub(bytes) >= most.0);
        if !too_old && !too_large {
            break;
        }
        left -= bytes;
        last = Some(live.manifest.id);
    }
    last
}

/// What the age of a manifest counts from: its newest record, or if that has no timestamp, when it was written.
fn time_of(live: &LiveManifest) -> Timestamp {
    match live.manifest.max_timestamp {
        timestamp if timestamp < Timestamp(0) => live.manifest.id.minted(),
        timestamp => timestamp,
    }
}
