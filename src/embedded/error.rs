//! What can go wrong in the library.

use crate::broker::{
    Denied, FetchError, GroupOpError, ListOffsetsError, NewProducerError, ProduceError, TopicError,
    Unavailable,
};
use crate::node::NodeError;
use crate::segment::{BatchError, BuildError};
use crate::store::InvalidStoreUrl;
use crate::types::{InvalidName, PartitionIndex, TopicPartition};

use super::assignment::NotOfConsumers;

/// Why a call of the library failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The bucket is not written as a URL.
    #[error("{0}")]
    Url(#[from] InvalidStoreUrl),
    /// The bucket could not be opened.
    #[error(transparent)]
    Open(#[from] NodeError),
    /// Creating, finding or deleting a topic failed.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// A record was addressed to a partition that the topic does not have.
    #[error("topic {topic} has no partition {partition}; its partitions are 0 to {last}")]
    NoPartition {
        /// The topic.
        topic: String,
        /// The partition asked for.
        partition: PartitionIndex,
        /// The last one there is.
        last: i32,
    },
    /// The records were refused. Those of other partitions, and those before, may have been stored.
    #[error("topic {topic}, partition {partition}: {source}")]
    Produce {
        /// The topic.
        topic: String,
        /// The partition.
        partition: PartitionIndex,
        /// Why.
        source: ProduceError,
    },
    /// The records cannot be made a batch.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Reading a partition failed.
    #[error("partition {partition}: {source}")]
    Fetch {
        /// The partition.
        partition: TopicPartition,
        /// Why.
        source: FetchError,
    },
    /// What was read is no record batch.
    #[error("partition {partition}: {source}")]
    Batch {
        /// The partition.
        partition: TopicPartition,
        /// Why.
        source: BatchError,
    },
    /// Finding an offset failed.
    #[error(transparent)]
    Offsets(#[from] ListOffsetsError),
    /// The name of a topic or group is not allowed.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The group refused.
    #[error("group {group}: {source}")]
    Group {
        /// The group.
        group: String,
        /// Why.
        source: GroupOpError,
    },
    /// Another member of the group speaks another protocol.
    #[error(transparent)]
    NotOfConsumers(#[from] NotOfConsumers),
    /// A consumer was asked for what it cannot do.
    #[error("{0}")]
    Consumer(&'static str),
    /// The gate of the node let this client not through.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The store or the node cannot answer now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl From<NewProducerError> for ClientError {
    fn from(error: NewProducerError) -> ClientError {
        match error {
            NewProducerError::Denied(error) => error.into(),
            NewProducerError::Unavailable(error) => error.into(),
        }
    }
}
