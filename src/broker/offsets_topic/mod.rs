//! `__consumer_offsets`: what groups have committed and who is in them, as Kafka's coordinator would have written it.
//!
//! Nothing is stored: the topic is a view of the state, for tools that read it (lag exporters, web consoles). It can be
//! read like any compacted topic, through any node and from any offset, and not be written. Its offsets are the numbers
//! that the fold gives to the changes of groups ([`crate::state::GroupChange`]), so all nodes show the same
//! records at the same offsets. What was overtaken by a later change is left out, as if it had been compacted away; a
//! batch covers the gaps, and where a reader would wait for what is gone for ever an empty batch takes it on.
//!
//! A read makes the records it returns and keeps nothing: memory is bounded by what the reader asks for.

mod records;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::access::Permit;
use super::fetch::{FetchError, FetchPartition, FetchedPartition};
use super::partition_offsets::{FoundOffset, ListOffsetsError, OffsetSpec};
use super::topic_error::{InvalidRequest, TopicError};
use super::topics::{TopicRef, TopicView};
use crate::fetch::ReadLimits;
use crate::segment::sparse_batch;
use crate::state::{OFFSETS_PARTITIONS, OFFSETS_TOPIC, OFFSETS_TOPIC_ID, State};
use crate::types::{Offset, PartitionIndex, TopicName};

/// About what a record takes in a batch beside its key and value.
const RECORD_OVERHEAD: usize = 24;

/// The settings that Kafka gives the topic.
const CONFIGS: [(&str, &str); 3] = [
    ("cleanup.policy", "compact"),
    ("compression.type", "producer"),
    ("segment.bytes", "104857600"),
];

/// The topic, if it is served.
pub(super) fn view(state: &State) -> Option<TopicView> {
    let name = TopicName::new(OFFSETS_TOPIC).ok();
    Some(TopicView {
        id: OFFSETS_TOPIC_ID,
        name: name.filter(|_| state.serves_offsets_topic())?,
        partitions: OFFSETS_PARTITIONS,
        replicas: 1,
        internal: true,
    })
}

/// The topic, if it is served and is the one named.
pub(super) fn named(topic: &TopicRef, state: &State) -> Option<TopicView> {
    let is_it = match topic {
        TopicRef::Name(name) => name == OFFSETS_TOPIC,
        TopicRef::Id(id) => *id == OFFSETS_TOPIC_ID,
    };
    view(state).filter(|_| is_it)
}

/// Its settings.
pub(super) fn configs() -> BTreeMap<String, String> {
    let configs = CONFIGS.map(|(name, value)| (name.to_owned(), value.to_owned()));
    BTreeMap::from(configs)
}

/// Why it cannot be changed.
pub(super) fn unchangeable() -> TopicError {
    InvalidRequest::OffsetsTopic.into()
}

/// The offset after the last record of one of its partitions; `None` if it is none of them.
pub(super) fn end(state: &State, topic: &TopicRef, partition: PartitionIndex) -> Option<Offset> {
    named(topic, state)?;
    state.group_changes_end(partition)
}

/// Reads a partition; `None` if it is none of the topic's.
pub(super) fn read(
    _: Permit,
    state: &State,
    wanted: &FetchPartition,
    limits: ReadLimits,
) -> Option<Result<FetchedPartition, FetchError>> {
    let end = end(state, &wanted.topic, wanted.partition)?;
    if let Some(epoch) = wanted.current_leader_epoch.filter(|epoch| *epoch > 0) {
        return Some(Err(FetchError::UnknownLeaderEpoch(epoch)));
    }
    let log_start = Offset::ZERO;
    let from = wanted.offset;
    if from < log_start || from > end {
        return Some(Err(FetchError::OffsetOutOfRange {
            offset: from,
            log_start,
            high_watermark: end,
        }));
    }
    // What one batch can cover.
    let mut covered = end.min(Offset(from.0.saturating_add(i32::MAX.into())));
    let mut found = Vec::new();
    let mut bytes = 0usize;
    for change in state.group_changes(wanted.partition, from) {
        if change.offset >= covered {
            break;
        }
        let record = records::record(&change);
        let value = record.value.as_ref().map_or(0, Vec::len);
        bytes += record.key.len() + value + RECORD_OVERHEAD;
        let is_first = found.is_empty() && limits.at_least_one;
        if bytes > limits.max_bytes && !is_first {
            covered = change.offset;
            break;
        }
        found.push(record);
    }
    let batch = if covered > from {
        match sparse_batch(from, covered, &found) {
            Ok(batch) => vec![batch],
            Err(error) => return Some(Err(FetchError::Unshown(error.into()))),
        }
    } else {
        Vec::new()
    };
    Some(Ok(FetchedPartition {
        topic: OFFSETS_TOPIC_ID,
        records: batch,
        high_watermark: end,
        last_stable: end,
        log_start,
    }))
}

/// Finds an offset; `None` if the partition is none of the topic's.
pub(super) fn find_offset(
    _: Permit,
    state: &State,
    topic: &TopicRef,
    partition: PartitionIndex,
    epoch: Option<i32>,
    spec: OffsetSpec,
) -> Option<Result<FoundOffset, ListOffsetsError>> {
    let end = end(state, topic, partition)?;
    if let Some(epoch) = epoch.filter(|epoch| *epoch > 0) {
        return Some(Err(ListOffsetsError::UnknownLeaderEpoch(epoch)));
    }
    let plain = |offset| FoundOffset {
        offset: Some(offset),
        timestamp: None,
    };
    let mut times = state
        .group_changes(partition, Offset::ZERO)
        .map(|change| (change.offset, change.at));
    let found = match spec {
        OffsetSpec::Earliest => return Some(Ok(plain(Offset::ZERO))),
        OffsetSpec::Latest => return Some(Ok(plain(end))),
        OffsetSpec::At(time) => times.find(|(_, at)| *at >= time),
        OffsetSpec::MaxTimestamp => times.reduce(|a, b| if b.1 > a.1 { b } else { a }),
    };
    Some(Ok(FoundOffset {
        offset: found.map(|(offset, _)| offset),
        timestamp: found.map(|(_, at)| at),
    }))
}
