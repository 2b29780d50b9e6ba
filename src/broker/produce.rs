//! Produce: validate, admit, hand to the write path, answer when durable and folded.

use std::time::Duration;

use bytes::Bytes;

use crate::types::{Offset, PartitionIndex, Timestamp};

use super::{Broker, Session, TopicRef, Unavailable};

/// The records for one partition.
#[derive(Clone, Debug)]
pub struct ProducePartition {
    /// The topic. A name that does not exist is an error: clients ask for the topic's metadata first,
    /// which may create it.
    pub topic: TopicRef,
    /// The partition.
    pub partition: PartitionIndex,
    /// One record batch (Kafka's v2 format).
    pub records: Bytes,
}

/// Where the records stand, durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    /// The offset of the first record.
    pub base_offset: Offset,
    /// The time given to the records, where the topic's `message.timestamp.type` is `LogAppendTime`.
    pub log_append_time: Option<Timestamp>,
    /// The partition's log start offset.
    pub log_start: Offset,
}

/// Why records were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    /// No such topic or partition.
    #[error("there is no topic {0}")]
    UnknownTopic(String),
    /// No topic of that id.
    #[error("there is no topic with id {0}")]
    UnknownTopicId(crate::types::TopicId),
    /// No such topic or partition.
    #[error("topic {topic} has no partition {partition}")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: PartitionIndex,
    },
    /// The batch is larger than `max.message.bytes`.
    #[error("the batch has {size} bytes; max.message.bytes of {topic} is {limit}")]
    TooLarge {
        /// The topic.
        topic: String,
        /// The size of the batch in bytes.
        size: usize,
        /// The limit in bytes.
        limit: u64,
    },
    /// The bytes are not a batch, or fail their checksum.
    #[error("{0}")]
    Corrupt(String),
    /// The batch is in a format before v2.
    #[error("{0}")]
    UnsupportedFormat(String),
    /// The batch is whole but breaks a rule (several batches, a control batch, counts that differ, no key
    /// for a compacted topic ...).
    #[error("{0}")]
    InvalidRecord(String),
    /// A record's timestamp is too far from now (`message.timestamp.before/after.max.ms`).
    #[error("{0}")]
    InvalidTimestamp(String),
    /// The codec is not one of the five.
    #[error("{0}")]
    UnsupportedCompression(String),
    /// The producer was fenced by a newer epoch.
    #[error("{0}")]
    FencedProducer(String),
    /// A sequence is missing.
    #[error("{0}")]
    OutOfOrderSequence(String),
    /// Try again. The records may or may not have been stored.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Broker {
    /// Appends each partition's batch and answers in the same order, once all are durable and folded or
    /// refused, or `timeout` is over. Waits for room in the bounded ingest buffer.
    ///
    /// Order: batches of one partition are appended in the order in which the *calls* were made and first
    /// polled to their admission; a front end that pipelines must poll them in order.
    pub async fn produce(
        &self,
        session: &Session,
        partitions: Vec<ProducePartition>,
        timeout: Duration,
    ) -> Vec<Result<Produced, ProduceError>> {
        let _ = (session, partitions, timeout);
        todo!()
    }
}
