//! How topics come, grow and go.

use super::{CreateTopic, MAX_PARTITIONS, Topic};
use crate::rules::{Rule, holds};
use crate::state::op::{Applied, Outcome, Rejected};
use crate::state::{Feature, Shared, State};
use crate::types::{Seq, TopicId, TopicName};

impl State {
    /// Creates a topic, if its name is free.
    pub(in crate::state) fn create_topic(&mut self, create: &CreateTopic) -> Outcome {
        if self.names.contains_key(&create.name) || self.topics.contains_key(&create.id) {
            return Err(Rejected::TopicExists(create.name.clone()));
        }
        // A node has looked before, but another may have been faster.
        if self.has(Feature::CollidingNamesAreRefused)
            && let Some(existing) = self.collision(&create.name)
            && holds(Rule::TopicNamesDoNotCollide)
        {
            return Err(Rejected::TopicCollides {
                name: create.name.clone(),
                existing: existing.clone(),
            });
        }
        if !(1..=MAX_PARTITIONS).contains(&create.partitions) {
            return Err(Rejected::InvalidPartitions(create.partitions));
        }
        let CreateTopic {
            id,
            name,
            partitions,
            configs,
            replicas,
        } = create.clone();
        self.enter_name(id, &name);
        let replicas = replicas.filter(|_| self.has(Feature::ReplicationFactor));
        let mut topic = Topic::new(id, name, partitions, configs, replicas, self.time);
        if self.has(Feature::AskedOps) {
            topic.sized = self.seq;
        }
        self.partitions += u64::from(partitions.unsigned_abs());
        self.topics.insert(id, Shared::new(topic));
        Ok(Applied::Done)
    }

    /// Deletes a topic with its records.
    pub(in crate::state) fn delete_topic(&mut self, id: TopicId) -> Outcome {
        let topic = self.topics.remove(&id).ok_or(Rejected::UnknownTopic(id))?;
        self.names.remove(topic.name());
        self.dotless.remove(&(topic.name().without_dots(), id));
        self.partitions -= u64::from(topic.partition_count().unsigned_abs());
        self.after_topic_deleted(&topic);
        Ok(Applied::Done)
    }

    /// Gives a topic more partitions.
    pub(in crate::state) fn create_partitions(&mut self, id: TopicId, total: i32) -> Outcome {
        let (seq, notes_size) = (self.seq, self.has(Feature::AskedOps));
        let topic = self.topic_mut(id)?;
        let current = topic.partition_count();
        if total <= current {
            return Err(Rejected::PartitionsNotMore {
                current,
                requested: total,
            });
        }
        if total > MAX_PARTITIONS {
            return Err(Rejected::InvalidPartitions(total));
        }
        topic.grow(total);
        if notes_size {
            topic.sized = seq;
        }
        self.partitions += u64::from(total.abs_diff(current));
        Ok(Applied::Done)
    }

    /// Enters a topic where topics are found by name.
    pub(super) fn enter_name(&mut self, id: TopicId, name: &TopicName) {
        self.names.insert(name.clone(), id);
        if may_collide(name) {
            self.dotless.insert((name.without_dots(), id));
        }
    }

    /// A topic, to change.
    pub(in crate::state) fn topic_mut(&mut self, id: TopicId) -> Result<&mut Topic, Rejected> {
        self.topics
            .get_mut(&id)
            .map(Shared::make_mut)
            .ok_or(Rejected::UnknownTopic(id))
    }

    /// When the topic was given partitions last, by being created or later.
    pub(in crate::state) fn sized(&self, topic: TopicId) -> Seq {
        let topic = self.topics.get(&topic);
        topic.map(|topic| topic.sized).unwrap_or_default()
    }
}

/// Whether the name can differ from another only in dots and underscores.
fn may_collide(name: &TopicName) -> bool {
    name.as_str().contains(['.', '_'])
}
