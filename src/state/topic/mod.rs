//! Topics: their ids and names, how many partitions each has, and its own settings.
//!
//! * A name has one topic, and an id is used once: a topic that is created again under the same name is another topic.
//! * A topic gets more partitions and never fewer.
//! * Two topics whose names differ only in dots and underscores are not created any more; old logs may have such.
//!
//! Durable: each [`Topic`] with its [partitions](super::Partition), by id. Derived from them: the ids by name, the
//! names that may collide, and how many partitions there are ([`State::index_topics`]).

mod op;
mod rules;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use imbl::Vector;
use minicbor::{Decode, Encode};
use serde::Serialize;

pub use op::CreateTopic;

use super::State;
use super::codec::{Shared, vector};
use super::partition::Partition;
use crate::types::{PartitionIndex, Seq, Timestamp, TopicId, TopicName, TopicPartition};

/// The most partitions that a topic may have.
pub const MAX_PARTITIONS: i32 = 100_000;

/// One topic.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Topic {
    #[n(0)]
    id: TopicId,
    #[n(1)]
    name: TopicName,
    #[n(2)]
    created_at: Timestamp,
    /// The settings that differ from the defaults.
    #[n(3)]
    pub(super) configs: BTreeMap<String, String>,
    #[cbor(n(4), with = "vector")]
    partitions: Vector<Shared<Partition>>,
    /// When its settings were altered last.
    #[n(5)]
    #[cbor(default)]
    pub(super) configs_altered: Seq,
    /// When it was given partitions last, by being created or later: with
    /// [`Feature::AskedOps`](super::Feature::AskedOps), else nothing.
    #[cbor(n(6), default, skip_if = "Seq::is_zero")]
    pub(super) sized: Seq,
    /// How many replicas its creator asked for; one, if none.
    #[n(7)]
    replicas: Option<i16>,
}

impl Topic {
    pub(super) fn new(
        id: TopicId,
        name: TopicName,
        partitions: i32,
        configs: BTreeMap<String, String>,
        replicas: Option<i16>,
        now: Timestamp,
    ) -> Topic {
        let mut topic = Topic {
            id,
            name,
            created_at: now,
            configs,
            partitions: Vector::new(),
            configs_altered: Seq::ZERO,
            sized: Seq::ZERO,
            replicas,
        };
        topic.grow(partitions);
        topic
    }

    /// Its id.
    pub fn id(&self) -> TopicId {
        self.id
    }

    /// Its name.
    pub fn name(&self) -> &TopicName {
        &self.name
    }

    /// When it was created, in the fold's time.
    pub fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// The settings that differ from the defaults.
    pub fn configs(&self) -> &BTreeMap<String, String> {
        &self.configs
    }

    /// Kafka's replication factor, as it was asked for when the topic was created. The store decides how often anything
    /// is kept; so this is what is shown, and nothing else.
    pub fn replicas(&self) -> i16 {
        self.replicas.unwrap_or(1)
    }

    /// How many partitions it has.
    pub fn partition_count(&self) -> i32 {
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }

    /// A partition, if it has it.
    pub fn partition(&self, index: PartitionIndex) -> Option<&Partition> {
        let index = usize::try_from(index.0).ok()?;
        self.partitions.get(index).map(|shared| &**shared)
    }

    /// All partitions, in order.
    pub fn partitions(&self) -> impl Iterator<Item = (TopicPartition, &Partition)> {
        (0..).zip(&self.partitions).map(|(index, partition)| {
            (
                TopicPartition {
                    topic: self.id,
                    partition: PartitionIndex(index),
                },
                &**partition,
            )
        })
    }

    pub(super) fn partition_mut(&mut self, index: PartitionIndex) -> Option<&mut Partition> {
        let index = usize::try_from(index.0).ok()?;
        self.partitions.get_mut(index).map(Shared::make_mut)
    }

    pub(super) fn grow(&mut self, total: i32) {
        // One for all until they are written to: an op of a few bytes may ask for very many.
        let empty: Shared<Partition> = Shared::default();
        while self.partition_count() < total {
            self.partitions.push_back(empty.clone());
        }
    }
}

impl State {
    /// The topic of this id.
    pub fn topic(&self, id: TopicId) -> Option<&Topic> {
        self.topics.get(&id).map(|topic| &**topic)
    }

    /// The topic of this name.
    pub fn topic_by_name(&self, name: &str) -> Option<&Topic> {
        self.names.get(name).and_then(|id| self.topic(*id))
    }

    /// A topic whose name differs from `name` only in dots and underscores. Those of old logs may be several.
    pub fn collision(&self, name: &TopicName) -> Option<&TopicName> {
        let dotless = name.without_dots();
        let first = (dotless.clone(), TopicId::default());
        let alike = self.dotless.range(first..);
        let alike = alike.take_while(|(other, _)| *other == dotless);
        let mut names = alike.filter_map(|(_, id)| self.topic(*id)).map(Topic::name);
        names.find(|other| *other != name)
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.names.values().filter_map(|id| self.topic(*id))
    }

    /// How many topics there are.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// How many partitions all topics have.
    pub fn partition_count(&self) -> u64 {
        self.partitions
    }

    /// Makes what is derived from the topics of a snapshot.
    pub(super) fn index_topics(&mut self) {
        let topics: Vec<Shared<Topic>> = self.topics.values().cloned().collect();
        for topic in topics {
            self.enter_name(topic.id(), topic.name());
            self.partitions += u64::from(topic.partition_count().unsigned_abs());
        }
    }
}
