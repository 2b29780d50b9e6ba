//! Offsets of partitions: find them by time, and raise the log start.

use crate::types::{Offset, PartitionIndex, Timestamp};

use super::{Broker, Session, TopicRef, Unavailable};

/// Which offset is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first there is. (Also Kafka's earliest-local, KIP-405: all data is in the one store.)
    Earliest,
    /// The one after the last record; with `read_committed` the last stable offset.
    Latest,
    /// The record with the largest timestamp (KIP-734), the first of several.
    MaxTimestamp,
    /// The first record, in offset order, whose timestamp is not before this.
    At(Timestamp),
}

/// An offset that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    /// The offset; `None` if no record answers (`At` later than all, `MaxTimestamp` of an empty log).
    pub offset: Option<Offset>,
    /// The record's timestamp, for `At` and `MaxTimestamp`.
    pub timestamp: Option<Timestamp>,
}

/// Why no offset could be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListOffsetsError {
    /// No such topic or partition.
    #[error("there is no partition {partition} of a topic {topic}")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: PartitionIndex,
    },
    /// The client knows a newer leader epoch than there is.
    #[error("leader epoch {0} is unknown; it is always 0")]
    UnknownLeaderEpoch(i32),
    /// The stored bytes fail their checksum.
    #[error("{0}")]
    Corrupt(String),
    /// Try again.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why records could not be deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteRecordsError {
    /// No such topic or partition.
    #[error("there is no partition {partition} of a topic {topic}")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: PartitionIndex,
    },
    /// The offset is beyond the high watermark, or negative.
    #[error("offset {offset} is not between {log_start} and {high_watermark}")]
    OffsetOutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// The first offset there is.
        log_start: Offset,
        /// The offset after the last record.
        high_watermark: Offset,
    },
    /// Try again.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Broker {
    /// Finds offsets; up to date. Exact also by time: the batch is opened.
    pub async fn list_offsets(
        &self,
        session: &Session,
        partitions: &[(TopicRef, PartitionIndex, Option<i32>, OffsetSpec)],
        read_committed: bool,
    ) -> Vec<Result<FoundOffset, ListOffsetsError>> {
        let _ = (session, partitions, read_committed);
        todo!()
    }

    /// The end offset of a leader epoch (KIP-101). There is one epoch, 0, for ever: answers with the high
    /// watermark, and with `None` for any other epoch.
    pub async fn end_of_epoch(
        &self,
        session: &Session,
        topic: &TopicRef,
        partition: PartitionIndex,
        epoch: i32,
    ) -> Result<Option<Offset>, ListOffsetsError> {
        let _ = (session, topic, partition, epoch);
        todo!()
    }

    /// Raises log start offsets: `None` means to the high watermark. Answers the log start afterwards.
    pub async fn delete_records(
        &self,
        session: &Session,
        partitions: &[(TopicRef, PartitionIndex, Option<Offset>)],
    ) -> Vec<Result<Offset, DeleteRecordsError>> {
        let _ = (session, partitions);
        todo!()
    }
}
