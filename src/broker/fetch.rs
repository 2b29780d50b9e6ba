//! Fetch: read from offsets, wait for more when there is too little.

use std::time::Duration;

use bytes::Bytes;

use crate::types::{Offset, PartitionIndex};

use super::{Broker, Session, TopicRef, Unavailable};

/// Where to read.
#[derive(Clone, Debug)]
pub struct FetchPartition {
    /// The topic.
    pub topic: TopicRef,
    /// The partition.
    pub partition: PartitionIndex,
    /// The first offset wanted. In the middle of a batch, that batch is returned.
    pub offset: Offset,
    /// The most bytes to return for this partition; the first batch of the whole answer is returned even if
    /// it is larger (KIP-74).
    pub max_bytes: usize,
    /// The leader epoch the client believes in, if it says so (KIP-320).
    pub current_leader_epoch: Option<i32>,
}

/// How much and how long.
#[derive(Clone, Copy, Debug)]
pub struct FetchLimits {
    /// Answer as soon as this many bytes are there.
    pub min_bytes: usize,
    /// The most bytes of the whole answer.
    pub max_bytes: usize,
    /// Answer after this time with whatever is there.
    pub max_wait: Duration,
    /// Only records of decided transactions (`isolation_level` 1).
    pub read_committed: bool,
}

/// What was read of one partition.
#[derive(Clone, Debug)]
pub struct FetchedPartition {
    /// Whole record batches with their real offsets, as consecutive pieces; empty if there is nothing.
    pub records: Vec<Bytes>,
    /// The offset after the last record.
    pub high_watermark: Offset,
    /// The last stable offset (KIP-98).
    pub last_stable: Offset,
    /// The first offset there is.
    pub log_start: Offset,
}

/// Why a partition could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// No such topic.
    #[error("there is no topic {0}")]
    UnknownTopic(String),
    /// No topic of that id.
    #[error("there is no topic with id {0}")]
    UnknownTopicId(crate::types::TopicId),
    /// No such partition.
    #[error("topic {topic} has no partition {partition}")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: PartitionIndex,
    },
    /// The offset is not in the log.
    #[error("offset {offset} is not between {log_start} and {high_watermark}")]
    OffsetOutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// The first offset there is.
        log_start: Offset,
        /// The offset after the last record.
        high_watermark: Offset,
    },
    /// The client knows a newer leader epoch than there is.
    #[error("leader epoch {0} is unknown; it is always 0")]
    UnknownLeaderEpoch(i32),
    /// The stored bytes fail their checksum. Never handed out.
    #[error("{0}")]
    Corrupt(String),
    /// Try again.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Broker {
    /// Reads the partitions, in order, within the limits; answers when `min_bytes` are there, a
    /// partition has an error, or `max_wait` is over. Every record acknowledged anywhere before the call is
    /// seen.
    pub async fn fetch(
        &self,
        session: &Session,
        partitions: &[FetchPartition],
        limits: FetchLimits,
    ) -> Vec<Result<FetchedPartition, FetchError>> {
        let _ = (session, partitions, limits);
        todo!()
    }
}
