//! Topics: create, describe, grow, delete.

use std::collections::BTreeMap;

use crate::types::{InvalidName, PartitionIndex, TopicId, TopicName};

use super::{Broker, ConfigError, Session, Unavailable};

/// How a client names a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicRef {
    /// By name; not validated yet.
    Name(String),
    /// By id (KIP-516).
    Id(TopicId),
}

/// A topic as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicView {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// How many partitions it has: their indexes are `0..partitions`.
    pub partitions: i32,
    /// True for topics of the system (`__...`).
    pub internal: bool,
}

/// A topic to create.
#[derive(Clone, Debug, Default)]
pub struct NewTopic {
    /// Its name; not validated yet.
    pub name: String,
    /// How many partitions; `None` is the cluster's `num.partitions`.
    pub partitions: Option<i32>,
    /// Kafka's replication factor. The store replicates, so any positive number is taken and means
    /// nothing; `None` is the default.
    pub replication_factor: Option<i16>,
    /// Kafka's manual replica assignment: partition -> node ids. Only its shape is checked (the partitions
    /// must be `0..n`); it then gives the number of partitions.
    pub assignment: Option<BTreeMap<i32, Vec<i32>>>,
    /// Settings by name. `None` values are refused, as Kafka does.
    pub configs: BTreeMap<String, Option<String>>,
}

/// Why an operation on a topic failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// There is none of that name.
    #[error("there is no topic named '{0}'")]
    UnknownName(String),
    /// There is none of that id.
    #[error("there is no topic with id {0}")]
    UnknownId(TopicId),
    /// There is one of that name.
    #[error("there is already a topic named '{0}'")]
    Exists(String),
    /// The name breaks a rule.
    #[error(transparent)]
    InvalidName(#[from] InvalidName),
    /// Partition counts are positive, grow, and are bounded.
    #[error("{0}")]
    InvalidPartitions(String),
    /// Replication factors are positive (or -1 for the default).
    #[error("{0}")]
    InvalidReplicationFactor(String),
    /// The manual assignment is not of the partitions `0..n`.
    #[error("{0}")]
    InvalidReplicaAssignment(String),
    /// A request that contradicts itself.
    #[error("{0}")]
    InvalidRequest(String),
    /// A setting is unknown or has a bad value.
    #[error(transparent)]
    InvalidConfig(#[from] ConfigError),
    /// Try again.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Broker {
    /// All topics, by name; up to date.
    pub async fn list_topics(&self, session: &Session) -> Result<Vec<TopicView>, Unavailable> {
        let _ = session;
        todo!()
    }

    /// The topics asked for, in order; up to date. With `create`, those that do not exist are created
    /// with the cluster's defaults if the setting `auto.create.topics.enable` allows it.
    pub async fn describe_topics(
        &self,
        session: &Session,
        topics: &[TopicRef],
        create: bool,
    ) -> Result<Vec<Result<TopicView, TopicError>>, Unavailable> {
        let _ = (session, topics, create);
        todo!()
    }

    /// Creates topics; each has its own outcome. With `validate_only` nothing is changed. The second part
    /// of a success is the topic's effective settings.
    pub async fn create_topics(
        &self,
        session: &Session,
        topics: Vec<NewTopic>,
        validate_only: bool,
    ) -> Result<Vec<Result<TopicView, TopicError>>, Unavailable> {
        let _ = (session, topics, validate_only);
        todo!()
    }

    /// Deletes topics with all their records and committed offsets.
    pub async fn delete_topics(
        &self,
        session: &Session,
        topics: &[TopicRef],
    ) -> Result<Vec<Result<TopicView, TopicError>>, Unavailable> {
        let _ = (session, topics);
        todo!()
    }

    /// Raises the numbers of partitions. `assignments` is Kafka's manual assignment of the new
    /// partitions, of which only the length is checked.
    pub async fn create_partitions(
        &self,
        session: &Session,
        topics: Vec<(String, i32, Option<Vec<Vec<i32>>>)>,
        validate_only: bool,
    ) -> Result<Vec<Result<(), TopicError>>, Unavailable> {
        let _ = (session, topics, validate_only);
        todo!()
    }
}

/// The indexes of a topic's partitions.
impl TopicView {
    /// `0..partitions`.
    pub fn indexes(&self) -> impl Iterator<Item = PartitionIndex> + use<> {
        (0..self.partitions).map(PartitionIndex)
    }
}
