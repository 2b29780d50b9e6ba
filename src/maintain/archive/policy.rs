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
    backlog_but(state, topic, |_| false)
}

/// The same, without the partitions that are left alone.
pub(super) fn backlog_but(
    state: &State,
    topic: &Topic,
    left_alone: impl Fn(TopicPartition) -> bool,
) -> Lag {
    let mut lag = Lag::default();
    let partitions = topic.partitions().filter(|(id, _)| !left_alone(*id));
    for (id, partition) in partitions {
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

/// The most of the time for which records are kept that is between the oldest and the newest record of a manifest that
/// is merged: all of it goes with its newest record.
const RETENTION_PARTS: u32 = 16;

/// Neighbouring manifests that are worth merging: so many that it pays, or few that have been there for a while.
pub(super) fn merge(
    table: &Table,
    options: &ArchiveOptions,
    retention: Option<Duration>,
    now: Timestamp,
) -> Option<Vec<LiveManifest>> {
    let longest = retention.map(|retention| retention / RETENTION_PARTS);
    let is_small = |live: &LiveManifest| live.manifest.counts().bytes <= options.small.0;
    let mut run: Vec<&LiveManifest> = Vec::new();
    let (mut bytes, mut files, mut span) = (0u64, 0u64, None);
    for live in table.manifests() {
        let counts = live.manifest.counts();
        let wider = widened(span, live);
        let fits = bytes.saturating_add(counts.bytes) <= options.merged.0
            && files + counts.files <= options.merge_files
            && longest.is_none_or(|longest| wider.0.after(longest) >= wider.1);
        if !is_small(live) || !fits {
            if is_worth_it(&run, options, now) {
                break;
            }
            run.clear();
            (bytes, files, span) = (0, 0, None);
        }
        if is_small(live) {
            bytes += counts.bytes;
            files += counts.files;
            span = Some(widened(span, live));
            run.push(live);
        }
    }
    if !is_worth_it(&run, options, now) {
        return None;
    }
    let alike = alike(&run);
    let chosen = match alike.len() >= options.merge_at {
        true => alike,
        false => &run[..],
    };
    Some(chosen.iter().map(|live| (*live).clone()).collect())
}

/// The time from the oldest record to the newest, with those of one more manifest.
fn widened(span: Option<(Timestamp, Timestamp)>, live: &LiveManifest) -> (Timestamp, Timestamp) {
    let newest = time_of(live);
    let oldest = match live.manifest.min_timestamp {
        timestamp if timestamp < Timestamp(0) => newest.min(live.manifest.id.minted()),
        timestamp => timestamp.min(newest),
    };
    match span {
        None => (oldest, newest),
        Some((least, most)) => (least.min(oldest), most.max(newest)),
    }
}

fn is_worth_it(run: &[&LiveManifest], options: &ArchiveOptions, now: Timestamp) -> bool {
    let old = |live: &&LiveManifest| live.manifest.id.minted().after(options.merge_wait) <= now;
    run.len() > 1 && run.first().is_some_and(old) || alike(run).len() >= options.merge_at
}

/// The end of a run without what is larger than all that is behind it: to write that again for the sake of a few
/// small ones would be to write it again and again.
fn alike<'a, 'b>(run: &'a [&'b LiveManifest]) -> &'a [&'b LiveManifest] {
    let bytes = |live: &LiveManifest| live.manifest.counts().bytes;
    let mut behind = 0u64;
    let mut from = run.len();
    for (place, live) in run.iter().enumerate().rev() {
        let own = bytes(live);
        if own > behind && place + 1 < run.len() {
            break;
        }
        behind = behind.saturating_add(own);
        from = place;
    }
    run.get(from..).unwrap_or_default()
}

/// The first snapshot that stays, if older ones are to go.
pub(super) fn snapshots(table: &Table, options: &ArchiveOptions, now: Timestamp) -> Option<Seq> {
    let snapshots = table.snapshots();
    let (_, older) = snapshots.split_last()?;
    // So that not each one that is added takes another commit.
    let slack = options.snapshot_age / 24;
    let surplus = snapshots.len().saturating_sub(options.snapshots);
    // A snapshot is old since the next one took its place, not since it was made.
    let late = |age: Duration| {
        older
            .iter()
            .zip(snapshots.iter().skip(1))
            .take_while(|(_, next)| next.time.after(age) < now)
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

#[cfg(test)]
mod tests {
    use super::super::super::options::MaintenanceOptions;
    use super::*;
    use crate::state::table::{DataFile, Manifest};

    fn run(sizes: &[u64]) -> Vec<LiveManifest> {
        let live = |bytes: &u64| LiveManifest {
            manifest: Manifest {
                files: vec![DataFile {
                    bytes: *bytes,
                    ..DataFile::default()
                }],
                ..Manifest::default()
            },
            added: Seq(1),
        };
        sizes.iter().map(live).collect()
    }

    fn minted(at: u64) -> FileId {
        let id = uuid::Builder::from_unix_timestamp_millis(at, &[1; 10]);
        FileId(id.into_uuid())
    }

    #[test]
    fn what_is_larger_than_all_behind_it_is_not_written_again_for_their_sake() {
        for (sizes, expected) in [
            (&[][..], 0),
            (&[1], 1),
            (&[1, 1, 1], 3),
            (&[3, 1, 1], 2),
            (&[2, 1, 1], 3),
            (&[1, 30, 1, 1], 2),
            (&[8, 4, 2, 1, 1], 5),
        ] {
            let run = run(sizes);
            let run: Vec<&LiveManifest> = run.iter().collect();
            assert_eq!(alike(&run).len(), expected, "{sizes:?}");
        }
    }

    #[test]
    fn what_is_merged_spans_a_small_part_of_the_retention() {
        let day = 24 * 3_600_000;
        fn at(oldest: i64, newest: i64) -> LiveManifest {
            let mut live = run(&[1]).remove(0);
            live.manifest.min_timestamp = Timestamp(oldest);
            live.manifest.max_timestamp = Timestamp(newest);
            live
        }
        let span = widened(Some(widened(None, &at(day, 2 * day))), &at(day / 2, day));
        assert_eq!(span, (Timestamp(day / 2), Timestamp(2 * day)));
        // Without timestamps it is when they were written.
        let mut untimed = at(-1, -1);
        untimed.manifest.id = minted(5_000);
        assert_eq!(
            widened(None, &untimed),
            (Timestamp(5_000), Timestamp(5_000))
        );
    }

    #[test]
    fn a_few_that_have_been_there_for_long_are_merged_however_different_they_are() {
        let options = MaintenanceOptions::default().archive;
        let mut run = run(&[30, 1]);
        run[0].manifest.id = minted(1_000_000);
        let run: Vec<&LiveManifest> = run.iter().collect();
        let at = |later: Duration| is_worth_it(&run, &options, Timestamp(1_000_000).after(later));
        assert!(!at(Duration::from_secs(3600)));
        assert!(at(options.merge_wait));
        assert!(!is_worth_it(&run[..1], &options, Timestamp(i64::MAX)));
    }
}
