//! When a partition of a compacted topic is cleaned, and how far.
//!
//! Kafka cleans closed segment files, and a file is closed when it is `segment.bytes` long or its first record
//! `segment.ms` old. There are no such files here, and with Kafka's defaults (1 GiB, 7 days) small topics would hardly
//! ever be compacted. So the *active part*, which is left as it is, is the youngest minute, and the rest waits until
//! there is as much as `segment.bytes`, or its oldest record as old as `segment.ms` or 10 minutes, whichever is less:
//! that bounds how often a partition with a trickle of updates is rewritten, and so what that costs.
//!
//! Beyond that it is Kafka's rules: the dirty part must be more of the log than `min.cleanable.dirty.ratio`, or its
//! oldest record older than `max.compaction.lag.ms`; and nothing younger than `min.compaction.lag.ms` is touched. The
//! age of a record is the time since it was appended, whatever its producer wrote into it.

use std::time::Duration;

use crate::dynamic_config::TopicConfig;
use crate::rules::{Rule, holds};
use crate::state::{Partition, Slice};
use crate::types::{Offset, Timestamp};

/// The youngest part of a log is not cleaned, so that readers at its end find it as it was written, in their node's
/// cache.
const ACTIVE: Duration = Duration::from_secs(60);

/// How long the oldest uncleaned record waits at most, where `segment.ms` is more.
const MAX_WAIT: Duration = Duration::from_secs(600);

/// A partition that is to be cleaned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Due {
    /// Where the uncleaned part begins.
    pub dirty: Offset,
    /// How far it may be cleaned: the end of a slice.
    pub end: Offset,
    /// Which part of the log, in bytes up to `end`, is not cleaned.
    pub ratio: f64,
    /// Whether a record is older than `max.compaction.lag.ms`.
    pub overdue: bool,
}

/// Whether a partition of a topic with these settings is to be cleaned.
pub fn due(partition: &Partition, settings: &TopicConfig, now: Timestamp) -> Option<Due> {
    if !settings.cleanup.compact {
        return None;
    }
    let log_start = partition.log_start();
    let dirty = partition.cleaned_to().max(log_start);
    let wait = settings.segment_time.min(MAX_WAIT);
    let most = settings.max_compaction_lag.unwrap_or(Duration::MAX);
    let least = match holds(Rule::CompactionLagIsKept) {
        true => settings.min_compaction_lag,
        false => Duration::ZERO,
    };
    let lag = wait.min(ACTIVE).min(most).max(least);
    let (mut clean_bytes, mut dirty_bytes) = (0.0, 0.0);
    let mut end = dirty;
    let mut oldest = None;
    let mut before: Option<&Slice> = None;
    for (base, slice) in partition.slices_from(log_start) {
        let part = dirty_part(base, slice, dirty);
        if part > 0.0 {
            if now.since(slice.appended_at) < lag {
                break;
            }
            end = slice.end;
            oldest.get_or_insert_with(|| appended(slice, before));
        }
        dirty_bytes += part * slice.len as f64;
        clean_bytes += (1.0 - part) * slice.len as f64;
        before = Some(slice);
    }
    let age = now.since(oldest?);
    let ratio = dirty_bytes / (clean_bytes + dirty_bytes).max(1.0);
    let overdue = age > most;
    let ripe = age >= wait || dirty_bytes >= settings.segment_bytes.0 as f64;
    let due = overdue || ripe && ratio > settings.min_cleanable_dirty_ratio;
    due.then_some(Due {
        dirty,
        end,
        ratio,
        overdue,
    })
}

impl Due {
    /// The same, no further than to `limit`; nothing, if that leaves nothing to clean.
    pub(super) fn up_to(self, partition: &Partition, limit: Option<Offset>) -> Option<Due> {
        let Some(limit) = limit.filter(|limit| *limit < self.end) else {
            return Some(self);
        };
        let ends = partition
            .slices_from(self.dirty)
            .map(|(_, slice)| slice.end);
        let end = ends.take_while(|end| *end <= limit).last()?;
        (end > self.dirty).then_some(Due { end, ..self })
    }
}

/// The bytes of a partition that were not cleaned yet, whether or not they are to be soon.
pub(in crate::maintain) fn dirty_bytes(partition: &Partition) -> u64 {
    let dirty = partition.cleaned_to().max(partition.log_start());
    partition
        .slices_from(dirty)
        .map(|(base, slice)| (dirty_part(base, slice, dirty) * slice.len as f64) as u64)
        .sum()
}

/// When the first record of a slice was appended, or before. A compacted slice tells the time of its last only; but
/// its first came after the one before it.
fn appended(slice: &Slice, before: Option<&Slice>) -> Timestamp {
    match (slice.index, before) {
        (Some(_), Some(before)) => before.appended_at.min(slice.appended_at),
        _ => slice.appended_at,
    }
}

/// Which part of the slice lies at or above `dirty`, by its offsets: 0 to 1.
fn dirty_part(base: Offset, slice: &Slice, dirty: Offset) -> f64 {
    let all = slice.end.since(base);
    let above = slice.end.since(dirty.max(base));
    if slice.end <= dirty || all == 0 {
        return 0.0;
    }
    above as f64 / all as f64
}
