//! From what clients name to what the state holds.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use super::access::Permit;
use super::topics::TopicRef;
use super::{Broker, Home, PartitionNotFound, TopicNotFound, Unavailable};
use crate::dynamic_config::{Layers, Overrides, TopicConfig};
use crate::state::{Partition, State, Topic};
use crate::types::{PartitionIndex, TopicId, TopicPartition};

impl TopicRef {
    /// The topic in `state`.
    pub(super) fn find<'a>(&self, state: &'a State) -> Option<&'a Topic> {
        match self {
            TopicRef::Name(name) => state.topic_by_name(name),
            TopicRef::Id(id) => state.topic(*id),
        }
    }

    /// The partition in `state`, and its topic, for who may do something with it.
    pub(super) fn partition<'a, E: From<TopicNotFound> + From<PartitionNotFound>>(
        &self,
        _: Permit,
        state: &'a State,
        index: PartitionIndex,
    ) -> Result<(&'a Topic, TopicPartition, &'a Partition), E> {
        let topic = self
            .find(state)
            .ok_or_else(|| TopicNotFound(self.clone()))?;
        let partition = topic.partition(index).ok_or_else(|| PartitionNotFound {
            topic: self.clone(),
            partition: index,
        })?;
        let id = TopicPartition {
            topic: topic.id(),
            partition: index,
        };
        Ok((topic, id, partition))
    }

    fn has_partition(&self, index: PartitionIndex, state: &State) -> bool {
        self.find(state)
            .is_some_and(|topic| topic.partition(index).is_some())
    }
}

impl std::fmt::Display for TopicRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TopicRef::Name(name) => write!(f, "'{}'", name.escape_debug()),
            TopicRef::Id(id) => id.fmt(f),
        }
    }
}

impl Broker {
    /// The state as this node knows it, if all these partitions are in it; else an up-to-date one.
    pub(super) async fn state_with<'a>(
        &self,
        mut partitions: impl Iterator<Item = (&'a TopicRef, PartitionIndex)>,
    ) -> Result<Arc<State>, Unavailable> {
        let state = self.inner.logs.of(Home::Partitions).state();
        if partitions.all(|(topic, index)| topic.has_partition(index, &state)) {
            return Ok(state);
        }
        self.fresh(Home::Partitions).await
    }

    /// The settings of a topic in force.
    pub(super) fn topic_configs(&self, state: &State, topic: &Topic) -> Arc<TopicConfig> {
        let configs = self.configs_in_force(state);
        self.inner.topic_configs.get(topic, &configs)
    }

    /// The cluster's settings as they hold for this node.
    pub(super) fn configs_in_force<'a>(&self, state: &'a State) -> Cow<'a, Overrides> {
        self.layers(state).in_force()
    }

    /// What was set of the cluster's settings, for this node and for all.
    pub(super) fn layers<'a>(&self, state: &'a State) -> Layers<'a> {
        Layers {
            node: state.configs_of(self.inner.incarnation),
            cluster: state.configs(),
        }
    }
}

/// How many topics' settings are kept.
const MAX_CACHED: usize = 10_000;

/// The topics' settings, read once for as long as they do not change.
#[derive(Default)]
pub(super) struct TopicConfigCache {
    topics: Mutex<HashMap<TopicId, Cached>>,
}

struct Cached {
    topic: BTreeMap<String, String>,
    cluster: BTreeMap<String, String>,
    settings: Arc<TopicConfig>,
}

impl TopicConfigCache {
    fn get(&self, topic: &Topic, cluster: &BTreeMap<String, String>) -> Arc<TopicConfig> {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cached) = topics.get(&topic.id())
            && cached.topic == *topic.configs()
            && cached.cluster == *cluster
        {
            return cached.settings.clone();
        }
        if topics.len() >= MAX_CACHED {
            topics.clear();
        }
        let settings = Arc::new(TopicConfig::effective(topic.configs(), cluster));
        let cached = Cached {
            topic: topic.configs().clone(),
            cluster: cluster.clone(),
            settings: settings.clone(),
        };
        topics.insert(topic.id(), cached);
        settings
    }
}
