//! What is set for topics, for the cluster and for single nodes.
//!
//! Values were validated by the node that asked for them; here they are text. What a node decides by settings names
//! the state that it took them from, and is refused if they were altered since ([`State::check_configs`]).
//!
//! Durable: the settings that differ from the defaults, with the topic, of the cluster, and by the id of a node,
//! whichever incarnation has it; and when those of each topic and of the cluster were altered last.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::op::{Applied, Outcome, Rejected};
use super::{Feature, State, Topic};
use crate::rules::{Rule, holds};
use crate::types::{Incarnation, NodeId, Seq, TopicId, TopicPartition};

static NO_CONFIGS: BTreeMap<String, String> = BTreeMap::new();

impl State {
    /// The cluster's settings that differ from the defaults.
    pub fn configs(&self) -> &BTreeMap<String, String> {
        &self.configs
    }

    /// What was set for the node of this id alone, whichever incarnation has it.
    pub fn node_configs(&self, id: NodeId) -> &BTreeMap<String, String> {
        self.node_configs.get(&id).unwrap_or(&NO_CONFIGS)
    }

    /// What was set for this incarnation of a node alone.
    pub fn configs_of(&self, incarnation: Incarnation) -> &BTreeMap<String, String> {
        if self.node_configs.is_empty() {
            return &NO_CONFIGS;
        }
        let id = self.node_of(incarnation);
        id.map_or(&NO_CONFIGS, |id| self.node_configs(id))
    }

    /// When the settings that hold for a topic, its own or the cluster's, were altered last.
    pub fn configs_altered(&self, topic: &Topic) -> Seq {
        self.configs_altered.max(topic.configs_altered)
    }

    /// Alters the settings of a node, or else of a topic, or else of the cluster.
    pub(super) fn alter_configs(
        &mut self,
        topic: Option<TopicId>,
        node: Option<NodeId>,
        edits: &BTreeMap<String, Option<String>>,
    ) -> Outcome {
        if let Some(node) = node {
            return self.alter_node_configs(node, edits);
        }
        let seq = self.seq;
        let configs = match topic {
            Some(id) => {
                let topic = self.topic_mut(id)?;
                topic.configs_altered = seq;
                &mut topic.configs
            }
            None => {
                self.configs_altered = seq;
                &mut self.configs
            }
        };
        edit(configs, edits);
        Ok(Applied::Done)
    }

    /// Settings stay with the id of a node when the node is gone, for who is given the id next: that is the node which
    /// is started in its place, mostly.
    fn alter_node_configs(
        &mut self,
        node: NodeId,
        edits: &BTreeMap<String, Option<String>>,
    ) -> Outcome {
        let is_known = self.nodes.contains_key(&node) || self.node_configs.contains_key(&node);
        if !is_known || !self.has(Feature::NodeSettings) {
            return Err(Rejected::NoSuchNode(node));
        }
        let configs = self.node_configs.entry(node).or_default();
        edit(configs, edits);
        if configs.is_empty() {
            self.node_configs.remove(&node);
        }
        Ok(Applied::Done)
    }

    /// Refuses what was decided by settings that were altered after `as_of`.
    pub(super) fn check_configs(
        &self,
        partition: TopicPartition,
        as_of: Seq,
    ) -> Result<(), Rejected> {
        let topic = self
            .topic(partition.topic)
            .ok_or(Rejected::UnknownPartition(partition))?;
        let altered = self.configs_altered(topic);
        if as_of < altered && holds(Rule::DecisionsMatchSettings) {
            return Err(Rejected::ConfigsAltered {
                partition,
                as_of,
                altered,
            });
        }
        Ok(())
    }

    /// When the topic's own settings were altered last.
    pub(super) fn altered(&self, topic: TopicId) -> Seq {
        let topic = self.topics.get(&topic);
        topic.map(|topic| topic.configs_altered).unwrap_or_default()
    }
}

fn edit(configs: &mut BTreeMap<String, String>, edits: &BTreeMap<String, Option<String>>) {
    for (name, value) in edits {
        match value {
            Some(value) => configs.insert(name.clone(), value.clone()),
            None => configs.remove(name),
        };
    }
}
