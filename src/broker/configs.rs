//! The settings of topics, of the cluster and of nodes, described and changed. What they are is in
//! [`crate::dynamic_config`].
//!
//! A change is checked against the state and handed to the commit loop as values; the fold stores them
//! unseen, unless the settings were changed since: then the change is checked again ([`Asking`](super::asked)). So two
//! clients that append to the same list at the same moment both have their way. A future dropped after the commit has
//! left may leave the change done.
//!
//! Every node answers for every other: what a node says of itself is in its registration. One that registered when
//! nodes of an older version were there does not say it until the cluster's level has been raised, and is described by
//! what all share. What is set for a single node stays with its id.

use std::collections::BTreeMap;

use super::access::{Action, EVERYONE, Permit, Resource};
use super::{
    Broker, Home, InvalidRequest, NewTopic, Session, TopicError, TopicNotFound, TopicRef,
    Unavailable, offsets_topic,
};
use crate::dynamic_config::{
    self, ConfigEdit, ConfigEntry, DynamicConfigError, Edited, Edits, Layers, NodeProperties,
    describe_cluster, describe_cluster_in_full, describe_node, describe_topic, initial,
};
use crate::state::op::{Op, Rejected};
use crate::state::{Feature, State};
use crate::types::{NodeId, TopicId};

/// Whose settings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigResource {
    /// A topic, by name.
    Topic(String),
    /// All nodes: dynamic cluster-wide defaults (Kafka's broker resource with an empty name).
    Cluster,
    /// A node, by its id: its start-up settings, read-only, and the cluster's, some of which may be set for it alone.
    Node(i32),
}

impl ConfigResource {
    /// By what it is judged who may see and alter the settings. As in Kafka those of a node are the cluster's.
    fn of_access(&self) -> Resource<'_> {
        match self {
            ConfigResource::Topic(name) => Resource::topic(name),
            ConfigResource::Cluster | ConfigResource::Node(_) => Resource::Cluster,
        }
    }
}

fn no_such_node(id: NodeId) -> TopicError {
    InvalidRequest::NoSuchNode(id).into()
}

impl Broker {
    /// The settings of a resource, up to date: those named, or all. Of the cluster, those that were set.
    pub async fn describe_configs(
        &self,
        session: &Session,
        resource: &ConfigResource,
        names: Option<&[String]>,
    ) -> Result<Vec<ConfigEntry>, TopicError> {
        let permit = self.authorize(session, Action::DescribeConfigs, resource.of_access())?;
        let state = self.fresh(Home::Cluster).await?;
        self.configs_in(permit, &state, resource, names)
    }

    /// The same of many resources at one moment, in their order. The store is asked once for all of them.
    pub async fn describe_all_configs(
        &self,
        session: &Session,
        asked: &[(ConfigResource, Option<Vec<String>>)],
    ) -> Result<Vec<Result<Vec<ConfigEntry>, TopicError>>, Unavailable> {
        let state = self.fresh(Home::Cluster).await?;
        let describe = |(resource, names): &(ConfigResource, Option<Vec<String>>)| {
            let permit = self.authorize(session, Action::DescribeConfigs, resource.of_access())?;
            self.configs_in(permit, &state, resource, names.as_deref())
        };
        Ok(asked.iter().map(describe).collect())
    }

    /// The settings that a new topic has, whether it was created or only could be.
    pub fn configs_of_new(
        &self,
        session: &Session,
        new: &NewTopic,
    ) -> Result<Vec<ConfigEntry>, TopicError> {
        let topic = Resource::topic(&new.name);
        let permit = self.authorize(session, Action::DescribeConfigs, topic)?;
        self.configs_to_be(permit, new)
    }

    fn configs_to_be(&self, _: Permit, new: &NewTopic) -> Result<Vec<ConfigEntry>, TopicError> {
        let state = self.inner.logs.of(Home::Cluster).state();
        let configs = initial(&new.configs, state.configs())?;
        Ok(describe_topic(&configs, self.layers(&state), None))
    }

    /// The cluster's settings, up to date: those named, or all, also those that nobody has set.
    pub async fn describe_cluster_configs(
        &self,
        session: &Session,
        names: Option<&[String]>,
    ) -> Result<Vec<ConfigEntry>, TopicError> {
        let permit = self.authorize(session, Action::DescribeConfigs, Resource::Cluster)?;
        Ok(self.cluster_configs(permit, names).await?)
    }

    async fn cluster_configs(
        &self,
        _: Permit,
        names: Option<&[String]>,
    ) -> Result<Vec<ConfigEntry>, Unavailable> {
        let state = self.fresh(Home::Cluster).await?;
        Ok(describe_cluster_in_full(state.configs(), names))
    }

    fn configs_in(
        &self,
        _: Permit,
        state: &State,
        resource: &ConfigResource,
        names: Option<&[String]>,
    ) -> Result<Vec<ConfigEntry>, TopicError> {
        let cluster = state.configs();
        match resource {
            ConfigResource::Topic(name) => {
                let reference = TopicRef::Name(name.clone());
                let set = self.layers(state);
                if offsets_topic::named(&reference, state).is_some() {
                    return Ok(describe_topic(&offsets_topic::configs(), set, names));
                }
                let topic = state
                    .topic_by_name(name)
                    .ok_or_else(|| reference.unknown())?;
                Ok(describe_topic(topic.configs(), set, names))
            }
            ConfigResource::Cluster => Ok(describe_cluster(cluster, names)),
            ConfigResource::Node(id) => {
                let id = NodeId(*id);
                let node = state.node(id).ok_or_else(|| no_such_node(id))?;
                let set = Layers {
                    node: state.node_configs(id),
                    cluster,
                };
                let own = self.inner.properties.get();
                let own = own.filter(|_| node.incarnation() == self.inner.incarnation);
                let said = || node.properties().cloned().map(NodeProperties::from);
                let properties = own.cloned().or_else(said);
                let properties = properties.map(|properties| properties.of(id));
                Ok(describe_node(properties.as_ref(), set, names))
            }
        }
    }

    /// Changes the settings named and leaves the others (IncrementalAlterConfigs). All or none.
    pub async fn alter_configs(
        &self,
        session: &Session,
        resource: &ConfigResource,
        edits: BTreeMap<String, ConfigEdit>,
        validate_only: bool,
    ) -> Result<(), TopicError> {
        self.edit_configs(session, resource, validate_only, |edited| {
            dynamic_config::edits(edited, &edits)
        })
        .await
    }

    /// Replaces all settings of the resource (the older AlterConfigs): those not named return to defaults.
    pub async fn replace_configs(
        &self,
        session: &Session,
        resource: &ConfigResource,
        configs: BTreeMap<String, String>,
        validate_only: bool,
    ) -> Result<(), TopicError> {
        self.edit_configs(session, resource, validate_only, |edited| {
            dynamic_config::replacement(edited, &configs)
        })
        .await
    }

    async fn edit_configs(
        &self,
        session: &Session,
        resource: &ConfigResource,
        validate_only: bool,
        plan: impl Fn(Edited<'_>) -> Result<Edits, DynamicConfigError>,
    ) -> Result<(), TopicError> {
        let permit = self.authorize(session, Action::AlterConfigs, resource.of_access())?;
        let mut asking = self.asks(session, Home::Cluster).await?;
        loop {
            let (topic, node, edits) = planned(permit, asking.state(), resource, &plan)?;
            if edits.contains_key(EVERYONE) {
                // It decides what everybody may do, so it is for those who may make rules.
                let _: Permit = self.authorize(session, Action::Alter, Resource::Cluster)?;
            }
            if validate_only || edits.is_empty() {
                return Ok(());
            }
            let op = Op::AlterConfigs { topic, edits, node };
            let Some(committed) = asking.commit(vec![op]).await? else {
                continue;
            };
            return match committed.outcomes.into_iter().next() {
                Some(Err(Rejected::UnknownTopic(id))) => {
                    Err(TopicNotFound(TopicRef::Id(id)).into())
                }
                Some(Err(Rejected::NoSuchNode(node))) => Err(no_such_node(node)),
                Some(Err(rejected)) => Err(InvalidRequest::Rejected(rejected).into()),
                Some(Ok(_)) | None => Ok(()),
            };
        }
    }
}

/// Whose settings are to be changed, a topic's or a node's or else the cluster's, and how.
fn planned(
    _: Permit,
    state: &State,
    resource: &ConfigResource,
    plan: impl Fn(Edited<'_>) -> Result<Edits, DynamicConfigError>,
) -> Result<(Option<TopicId>, Option<NodeId>, Edits), TopicError> {
    let cluster = state.configs();
    match resource {
        ConfigResource::Topic(name) if name.is_empty() => Err(InvalidRequest::NoTopicNamed.into()),
        ConfigResource::Topic(name) => {
            let unknown = || TopicRef::Name(name.clone()).unchangeable(state);
            let topic = state.topic_by_name(name).ok_or_else(unknown)?;
            let edits = plan(Edited::Topic(topic.configs(), cluster))?;
            Ok((Some(topic.id()), None, edits))
        }
        ConfigResource::Cluster => Ok((None, None, plan(Edited::Cluster(cluster))?)),
        ConfigResource::Node(id) => {
            let id = NodeId(*id);
            if state.node(id).is_none() {
                return Err(no_such_node(id));
            }
            if !state.has(Feature::NodeSettings) {
                let since = Feature::NodeSettings.since();
                return Err(InvalidRequest::NodeSettings { since }.into());
            }
            let node = state.node_configs(id);
            let edits = plan(Edited::Node(Layers { node, cluster }))?;
            Ok((None, Some(id), edits))
        }
    }
}
