//! Why an operation on topics or settings failed.

use super::access::Denied;
use super::topics::{CLUSTER_METADATA, MAX_CREATED, MAX_REPLICAS};
use super::{DynamicConfigError, TopicNotFound, Unavailable};
use crate::state::op::Rejected;
use crate::state::{Level, MAX_PARTITIONS, OFFSETS_TOPIC};
use crate::types::{InvalidName, NodeId, TopicName};

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
    /// A topic cannot have that many partitions.
    #[error("a topic can have 1 to {most} partitions, not {asked}", most = MAX_PARTITIONS)]
    InvalidPartitions {
        /// How many were asked for.
        asked: i32,
    },
    /// A topic can be given more partitions only, up to a bound.
    #[error(
        "topic '{topic}' has {current} partitions; the new number must be larger, and at most {most}, but it is \
         {asked}",
        most = MAX_PARTITIONS
    )]
    NotMorePartitions {
        /// The topic.
        topic: String,
        /// How many it has.
        current: i32,
        /// How many were asked for.
        asked: i32,
    },
    /// A topic cannot be said to have that many replicas.
    #[error("the replication factor must be 1 to {most}, not {asked}", most = MAX_REPLICAS)]
    InvalidReplicationFactor {
        /// How many were asked for.
        asked: i16,
    },
    /// The manual assignment is not of the partitions `0..n`.
    #[error(
        "a replica assignment must name the partitions from 0 on without gaps, each with the same number of nodes"
    )]
    InvalidReplicaAssignment,
    /// The manual assignment is not of the partitions that are added.
    #[error("a replica assignment must name the nodes of each of the {added} new partitions")]
    IncompleteAssignment {
        /// How many they are.
        added: u64,
    },
    /// The request would create too many topics.
    #[error("a request can create at most {most} topics; {asked} were requested", most = MAX_CREATED)]
    TooManyTopics {
        /// How many were asked for.
        asked: usize,
    },
    /// The cluster would have too many partitions.
    #[error(
        "the cluster has {exist} of at most {limit} partitions (the node setting 'max_partitions'); {asked} more were \
         requested"
    )]
    TooManyPartitions {
        /// How many there are.
        exist: u64,
        /// How many there may be.
        limit: u64,
        /// How many more were asked for.
        asked: u64,
    },
    /// The request cannot be meant.
    #[error(transparent)]
    InvalidRequest(#[from] InvalidRequest),
    /// A setting is unknown or has a bad value.
    #[error(transparent)]
    InvalidConfig(#[from] DynamicConfigError),
    /// The client may not do that.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Try again.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a request about topics or settings cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// The one name, besides the internal ones, under which Kafka creates no topic.
    #[error("'{name}' is reserved for the log of Kafka's controllers and cannot be created", name = CLUSTER_METADATA)]
    ClusterMetadata,
    /// The partitions of a new topic are given twice.
    #[error("give either a replica assignment or numbers of partitions and replicas, not both")]
    NumbersAndAssignment,
    /// A topic is named twice.
    #[error("the request names topic '{}' more than once", .0.escape_debug())]
    NamedTwice(String),
    /// Settings of a topic are to be changed, and it has no name.
    #[error("no topic is named; to change a setting for all topics, set it for the cluster")]
    NoTopicNamed,
    /// The topic shows what is kept elsewhere.
    #[error("{topic} shows the state of consumer groups; it can be read but not changed", topic = OFFSETS_TOPIC)]
    OffsetsTopic,
    /// There is no such node.
    #[error("there is no node {0}")]
    NoSuchNode(NodeId),
    /// Settings of a single node come with a level.
    #[error(
        "settings of a single node need a cluster at level {since}: upgrade all nodes and run 'weir cluster upgrade', \
         or set them for the cluster (the broker resource without a name)"
    )]
    NodeSettings {
        /// The level.
        since: Level,
    },
    /// The fold refuses it.
    #[error(transparent)]
    Rejected(Rejected),
}
