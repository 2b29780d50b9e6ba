//! Why an operation on topics or settings failed.

use super::access::Denied;
use super::{ConfigError, TopicNotFound, Unavailable};
use crate::types::{InvalidName, TopicName};

/// Why an operation on a topic failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// There is none.
    #[error(transparent)]
    NotFound(#[from] TopicNotFound),
    /// There is one of that name.
    #[error("there is already a topic named '{0}'")]
    Exists(String),
    /// The name breaks a rule.
    #[error(transparent)]
    InvalidName(#[from] InvalidName),
    /// The name differs from that of another topic only in dots and underscores.
    #[error(
        "topic '{name}' collides with topic '{existing}': '.' and '_' are the same in the names of Kafka's metrics; \
         choose another name"
    )]
    Collides {
        /// The name asked for.
        name: String,
        /// The topic that there is.
        existing: TopicName,
    },
    /// Partition counts are positive, grow, and are bounded.
    #[error("{0}")]
    InvalidPartitions(String),
    /// Replication factors are positive (or -1 for the default).
    #[error("{0}")]
    InvalidReplicationFactor(String),
    /// The manual assignment is not of the partitions `0..n`.
    #[error("{0}")]
    InvalidReplicaAssignment(String),
    /// There would be too many.
    #[error("{0}")]
    TooMany(String),
    /// A request that contradicts itself.
    #[error("{0}")]
    InvalidRequest(String),
    /// A setting is unknown or has a bad value.
    #[error(transparent)]
    InvalidConfig(#[from] ConfigError),
    /// The client may not do that.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Try again.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}
