//! What ops say of a partition's records: batches to append, and compacted slices in the place of others.

use minicbor::{Decode, Encode};
use serde::Serialize;

use super::SliceIndex;
use crate::state::op::ProducerBatch;
use crate::types::{
    Offset, ProducerEpoch, ProducerId, SegmentId, Seq, Timestamp, TopicId, TopicPartition,
};

/// Append batches to one partition, in order. Each entry has its own outcome.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Append {
    /// The partition.
    #[n(0)]
    pub partition: TopicPartition,
    /// The object that holds the bytes of all entries.
    #[n(1)]
    pub source: AppendSource,
    /// The batches.
    #[n(2)]
    pub entries: Vec<AppendEntry>,
}

/// Where the bytes of an append are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub enum AppendSource {
    /// In the data section of the commit itself; positions count from the start of that section.
    #[n(0)]
    Inline,
    /// In a segment; positions count from the start of the object.
    #[n(1)]
    Segment(#[n(0)] SegmentId),
}

/// One record batch: Kafka's v2 batch, byte for byte as the producer sent it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct AppendEntry {
    /// The position of its first byte (see [`AppendSource`]).
    #[n(0)]
    pub start: u64,
    /// Its length in bytes.
    #[n(1)]
    pub len: u32,
    /// How many offsets it takes: its last offset delta + 1.
    #[n(2)]
    pub records: u32,
    /// The largest timestamp of its records.
    #[n(3)]
    pub max_timestamp: Timestamp,
    /// Its producer, if that is idempotent.
    #[n(4)]
    pub producer: Option<ProducerBatch>,
}

/// Where a batch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of its first record.
    pub base_offset: Offset,
    /// The partition's log start offset.
    pub log_start: Offset,
    /// True if this batch was a retry, already stored at `base_offset`.
    pub duplicate: bool,
}

/// Why a batch was not appended. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendRejected {
    /// The topic was deleted, or never existed.
    #[error("there is no topic with id {0}")]
    UnknownTopic(TopicId),
    /// The topic has no such partition.
    #[error("there is no partition {0}")]
    UnknownPartition(TopicPartition),
    /// The segment with its bytes is too old, or was deleted: the batch is to be stored again.
    #[error("segment {0} is too old to be referred to; send the records again")]
    StaleSegment(SegmentId),
    /// The offsets of the partition are used up.
    #[error("{0} has no offsets left")]
    OffsetsExhausted(TopicPartition),
    /// The batch has no records, no bytes, or lies where nothing can.
    #[error("a batch for {0} has no records, no bytes, or an impossible position")]
    Impossible(TopicPartition),
    /// The producer's epoch is older than one seen before.
    #[error(
        "producer {id} wrote to {partition} with epoch {epoch}, which is fenced: the current one is {current}"
    )]
    FencedProducer {
        /// The partition.
        partition: TopicPartition,
        /// The producer.
        id: ProducerId,
        /// Its epoch in the batch.
        epoch: ProducerEpoch,
        /// The newest epoch seen.
        current: ProducerEpoch,
    },
    /// Batches that the producer wrote before this one are not stored: they are to be sent again, and this one after
    /// them.
    #[error(
        "producer {id} wrote sequence {found} to {partition} before the batches that precede it; send those again"
    )]
    NotBegun {
        /// The partition.
        partition: TopicPartition,
        /// The producer.
        id: ProducerId,
        /// The sequence of the batch.
        found: i32,
    },
    /// The batch does not follow the producer's last one.
    #[error("producer {id} wrote sequence {found} to {partition}, expected {expected}")]
    OutOfOrderSequence {
        /// The partition.
        partition: TopicPartition,
        /// The producer.
        id: ProducerId,
        /// The sequence that was due.
        expected: i32,
        /// The sequence of the batch.
        found: i32,
    },
}

/// Put compacted slices in the place of the slices that cover the offsets from `base` to `end`.
///
/// Accepted only if those are still the slices that the node read: the partition's layout is what it was, and `base`
/// and `end` are boundaries of slices in it. Slices come and go at the two ends of a partition, and nothing but a
/// replacement changes those between; each raises [`Partition::layout`](crate::state::Partition::layout).
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct ReplaceSlices {
    /// The partition.
    #[n(0)]
    pub partition: TopicPartition,
    /// The partition's layout in the state from which the node took its inputs.
    #[n(1)]
    pub layout: u64,
    /// The base offset of the first slice replaced.
    #[n(2)]
    pub base: Offset,
    /// The end of the last slice replaced.
    #[n(3)]
    pub end: Offset,
    /// What takes their place, in order: the first begins at `base`, each of the others where the one before ends, and
    /// the last ends at `end`.
    #[n(4)]
    pub outputs: Vec<CompactedSlice>,
    /// Set if records that later ones supersede were left out (`cleanup.policy=compact`).
    #[n(5)]
    pub cleaned: Option<Cleaned>,
}

impl ReplaceSlices {
    /// Whether the outputs lie end to end from `base` to `end`, at places that an object can have.
    pub(in crate::state) fn outputs_fit(&self) -> bool {
        let mut next = self.base;
        let in_order = self.outputs.iter().all(|output| {
            let begins_before = next < output.end;
            next = output.end;
            let ends = output.start.checked_add(output.len);
            let index_ends = output.index.start.checked_add(output.index.len.into());
            begins_before && ends.is_some() && index_ends.is_some()
        });
        in_order && next == self.end && !self.outputs.is_empty()
    }
}

/// A slice of a compacted segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct CompactedSlice {
    /// The offset after the last that it stands for.
    #[n(0)]
    pub end: Offset,
    /// The segment.
    #[n(1)]
    pub segment: SegmentId,
    /// The position of its first byte.
    #[n(2)]
    pub start: u64,
    /// Its length in bytes.
    #[n(3)]
    pub len: u64,
    /// The largest timestamp of its records.
    #[n(4)]
    pub max_timestamp: Timestamp,
    /// Where its index is.
    #[n(5)]
    pub index: SliceIndex,
}

/// What a compaction of the log did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Cleaned {
    /// Up to here, each key has at most one record.
    #[n(0)]
    pub to: Offset,
    /// The seq of the state whose settings the node went by. Refused if they were altered since.
    #[n(1)]
    pub as_of: Seq,
}
