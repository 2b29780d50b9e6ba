//! Retention: what a topic's settings let go, by time and by size.
//!
//! The oldest slices of a partition go, one after the other, as long as each is due: its newest record is older than
//! `retention.ms`, or without it the partition still has `retention.bytes`. The fold checks that nobody altered the
//! settings meanwhile; apart from that, raising a log start twice does no harm, so this job needs no claim.
//!
//! Records of a topic that is archived stay until they are archived, whatever the settings say.
//!
//! # Records that are old when they are written
//!
//! A record's own time may be long ago: it is restored from elsewhere, or its producer counts from another year. Such a
//! record is not taken away from under those who just write and read it. Kafka deletes whole segments, looks for them
//! every five minutes, and closes a segment after `segment.ms` or `segment.bytes`; so what is written together stays
//! together for a while. There are no such segments here, and the same is said of the end of the log by the time at
//! which a slice was appended: however old its records, it stays
//!
//! * for as long as the five minutes, and
//! * among the last `segment.bytes` of the partition, for `segment.ms`.
//!
//! Neither is longer than `retention.ms`: nothing stays for longer after it was appended than records that were new
//! then.

use std::time::Duration;

use super::error::JobError;
use super::maintenance::Maintenance;
use crate::dynamic_config::{ArchiveConfig, TopicConfig};
use crate::rules::{Rule, holds};
use crate::state::op::{Applied, Op};
use crate::state::{Feature, Partition, Slice, State};
use crate::types::{Offset, Timestamp, TopicPartition};

/// How many partitions are changed by one commit.
const PER_COMMIT: usize = 1000;

/// How long past its time a slice may stay, so that slices go together and an op is worth its place in the log. A
/// twentieth of the retention is less, where that is short.
const LATENESS: Duration = Duration::from_secs(300);

/// A partition whose log start is to be raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Expired {
    partition: TopicPartition,
    before: Offset,
    records: u64,
    bytes: u64,
}

/// Whether anything has expired.
pub(super) fn is_due(state: &State, now: Timestamp) -> bool {
    expired(state, now).next().is_some()
}

/// Expires what is due. Returns whether there was anything.
///
/// # Errors
///
/// [`JobError::Stopped`]: the ops may have taken effect.
pub async fn run(m: &Maintenance) -> Result<bool, JobError> {
    let state = m.state();
    let due: Vec<Expired> = expired(&state, m.passed()).collect();
    for chunk in due.chunks(PER_COMMIT) {
        let ops = chunk.iter().map(|expired| Op::ExpireRecords {
            partition: expired.partition,
            before: expired.before,
            as_of: state.seq(),
        });
        let committed = m.commit(ops.collect()).await?;
        let (mut partitions, mut records, mut bytes) = (0, 0, 0);
        for (expired, outcome) in chunk.iter().zip(&committed.outcomes) {
            match outcome {
                Ok(Applied::RecordsDeleted(_)) => {
                    partitions += 1;
                    records += expired.records;
                    bytes += expired.bytes;
                }
                // The settings were altered, or the partition is gone: look again.
                other => tracing::debug!(partition = %expired.partition, ?other, "not expired"),
            }
        }
        tracing::info!(partitions, records, bytes, "expired records");
    }
    Ok(!due.is_empty())
}

fn expired(state: &State, now: Timestamp) -> impl Iterator<Item = Expired> {
    let topics = state.topics().flat_map(move |topic| {
        let settings = TopicConfig::effective(topic.configs(), state.configs());
        let expires = settings.cleanup.delete || !holds(Rule::RetentionSparesCompactedTopics);
        topic
            .partitions()
            .filter(move |_| expires)
            .map(move |(id, partition)| (id, partition, settings.clone()))
    });
    let limit = move |id| archive_limit(state, id);
    topics.filter_map(move |(id, partition, settings)| {
        let mut slices = cut(partition, &settings, now);
        let limit = limit(id);
        slices.retain(|slice| limit.is_none_or(|limit| slice.end <= limit));
        let last = slices.last()?;
        Some(Expired {
            partition: id,
            before: last.end,
            records: last.end.since(partition.log_start()),
            bytes: slices.iter().map(|slice| slice.len).sum(),
        })
    })
}

/// Up to where records may go on behalf of a topic's settings, which is up to where they are archived; nothing, if they are
/// not to be archived. The fold refuses more, once there is a table.
pub(super) fn archive_limit(state: &State, id: TopicPartition) -> Option<Offset> {
    let topic = state.topic(id.topic)?;
    let settings = ArchiveConfig::effective(topic.configs(), state.configs());
    let table = state.table_of(id.topic);
    let waits = match table {
        Some(table) => table.is_enabled() || settings.enable,
        None => settings.enable && state.has(Feature::Tables),
    };
    waits.then(|| table.map_or(Offset::ZERO, |table| table.archived(id.partition)))
}

/// The slices that go, oldest first.
fn cut<'a>(partition: &'a Partition, settings: &TopicConfig, now: Timestamp) -> Vec<&'a Slice> {
    let mut left = partition.bytes().0;
    let mut late = false;
    let mut gone = Vec::new();
    for (_, slice) in partition.slices_from(partition.log_start()) {
        let over = settings.retention_bytes;
        let slack = match holds(Rule::RetentionKeepsItsBytes) {
            true => slice.len,
            false => 0,
        };
        let too_large = over.is_some_and(|most| left.saturating_sub(slack) >= most.0);
        let too_old = settings.retention.is_some_and(|keep| {
            // Once one is late, all that are due go with it.
            let lateness = LATENESS.min(keep / 20);
            let due = time_of(slice).after(keep);
            late |= gone.is_empty() && due.after(lateness) < now;
            let is_due = late && due < now;
            let is_fresh = closed_at(slice, left, settings, keep) >= now;
            let stays = is_fresh && holds(Rule::RetentionSparesFreshAppends);
            is_due && !stays || !holds(Rule::RetentionSparesYoungRecords)
        });
        if !too_large && !too_old {
            break;
        }
        left -= slice.len;
        gone.push(slice);
    }
    gone
}

/// Until when a slice stays whatever the times of its records, if so many bytes are left from it on to the end.
fn closed_at(slice: &Slice, left: u64, settings: &TopicConfig, keep: Duration) -> Timestamp {
    let open = match left <= settings.segment_bytes.0 {
        true => settings.segment_time.max(LATENESS),
        false => LATENESS,
    };
    slice.appended_at.after(open.min(keep))
}

/// What a slice's age counts from: its newest record, or if that has no timestamp, when it was appended.
pub(super) fn time_of(slice: &Slice) -> Timestamp {
    match slice.max_timestamp {
        Timestamp::NONE => slice.appended_at,
        timestamp => timestamp,
    }
}
