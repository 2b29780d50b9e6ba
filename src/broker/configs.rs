//! The settings of topics, of the cluster and of nodes, described and changed. What they are is in
//! [`crate::settings`].
//!
//! A change is checked against the state and handed to the commit loop as values; the fold stores them
//! unseen. Two clients that append to the same list at the same moment may overwrite each other, as
//! in Kafka. A future dropped after the commit began leaves the change done.

use std::collections::BTreeMap;

use super::{Broker, NewTopic, Session, TopicError, TopicRef, Unavailable, offsets_topic};
use crate::settings::{
    self, ConfigEdit, ConfigEntry, ConfigError, Edited, Edits, NodeProperties, describe_cluster,
    describe_cluster_in_full, describe_node, describe_topic, initial,
};
use crate::state::State;
use crate::state::op::{Op, Rejected};
use crate::types::TopicName;

/// Whose settings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigResource {
    /// A topic, by name.
    Topic(String),
    /// All nodes: dynamic cluster-wide defaults (Kafka's broker resource with an empty name).
    Cluster,
    /// The node that answers: its start-up settings, read-only, and the cluster's.
    Node(i32),
}

impl Broker {
    /// The settings of a resource, up to date: those named, or all. Of the cluster, those that were set.
    pub async fn describe_configs(
        &self,
        session: &Session,
        resource: &ConfigResource,
        names: Option<&[String]>,
    ) -> Result<Vec<ConfigEntry>, TopicError> {
        self.authorize(session);
        let state = self.fresh().await?;
        self.configs_in(&state, resource, names)
    }

    /// The same of many resources at one moment, in their order. The store is asked once for all of them.
    pub async fn describe_all_configs(
        &self,
        session: &Session,
        asked: &[(ConfigResource, Option<Vec<String>>)],
    ) -> Result<Vec<Result<Vec<ConfigEntry>, TopicError>>, Unavailable> {
        self.authorize(session);
        let state = self.fresh().await?;
        let all = asked.iter();
        Ok(all
            .map(|(resource, names)| self.configs_in(&state, resource, names.as_deref()))
            .collect())
    }

    /// The settings that a new topic has, whether it was created or only could be.
    pub fn configs_of_new(
        &self,
        session: &Session,
        new: &NewTopic,
    ) -> Result<Vec<ConfigEntry>, TopicError> {
        self.authorize(session);
        let state = self.inner.manifest.state();
        let configs = initial(&new.configs, state.configs())?;
        Ok(describe_topic(&configs, state.configs(), None))
    }

    /// The cluster's settings, up to date: those named, or all, also those that nobody has set.
    pub async fn describe_cluster_configs(
        &self,
        session: &Session,
        names: Option<&[String]>,
    ) -> Result<Vec<ConfigEntry>, Unavailable> {
        self.authorize(session);
        let state = self.fresh().await?;
        Ok(describe_cluster_in_full(state.configs(), names))
    }

    fn configs_in(
        &self,
        state: &State,
        resource: &ConfigResource,
        names: Option<&[String]>,
    ) -> Result<Vec<ConfigEntry>, TopicError> {
        let cluster = state.configs();
        match resource {
            ConfigResource::Topic(name) => {
                let reference = TopicRef::Name(name.clone());
                if offsets_topic::named(&reference, state).is_some() {
                    return Ok(describe_topic(&offsets_topic::configs(), cluster, names));
                }
                let topic = state
                    .topic_by_name(name)
                    .ok_or_else(|| no_settings_of(name))?;
                Ok(describe_topic(topic.configs(), cluster, names))
            }
            ConfigResource::Cluster => Ok(describe_cluster(cluster, names)),
            ConfigResource::Node(id) => {
                let this = self.node_id().map(|node| node.0);
                if this != Some(*id) {
                    return Err(TopicError::InvalidRequest(match this {
                        Some(this) => format!("this is node {this}; ask node {id} itself"),
                        None => "this node has not registered yet".to_owned(),
                    }));
                }
                let unknown = NodeProperties::default();
                let properties = self.inner.properties.get().unwrap_or(&unknown);
                Ok(describe_node(properties, cluster, names))
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
            settings::edits(edited, &edits)
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
            settings::replacement(edited, &configs)
        })
        .await
    }

    async fn edit_configs(
        &self,
        session: &Session,
        resource: &ConfigResource,
        validate_only: bool,
        plan: impl FnOnce(Edited<'_>) -> Result<Edits, ConfigError>,
    ) -> Result<(), TopicError> {
        self.authorize(session);
        let state = self.fresh().await?;
        let cluster = state.configs();
        let (topic, edits) = match resource {
            ConfigResource::Topic(name) if name.is_empty() => {
                return Err(TopicError::InvalidRequest(
                    "no topic is named; settings of all topics are the cluster's".to_owned(),
                ));
            }
            ConfigResource::Topic(name) => {
                let unknown = || TopicRef::Name(name.clone()).unchangeable(&state);
                let topic = state.topic_by_name(name).ok_or_else(unknown)?;
                let edits = plan(Edited::Topic(topic.configs(), cluster))?;
                (Some(topic.id()), edits)
            }
            ConfigResource::Cluster => (None, plan(Edited::Cluster(cluster))?),
            ConfigResource::Node(_) => {
                return Err(TopicError::InvalidRequest(
                    "a single node's settings cannot be changed by clients: dynamic settings are the \
                     cluster's (the broker resource without a name), the others are set where the node is \
                     started"
                        .to_owned(),
                ));
            }
        };
        if validate_only || edits.is_empty() {
            return Ok(());
        }
        let committed = self.commit(vec![Op::AlterConfigs { topic, edits }]).await?;
        match committed.outcomes.into_iter().next() {
            Some(Err(Rejected::UnknownTopic(id))) => Err(TopicError::UnknownId(id)),
            Some(Err(rejected)) => Err(TopicError::InvalidRequest(rejected.to_string())),
            Some(Ok(_)) | None => Ok(()),
        }
    }
}

/// There is no topic of that name, or there can be none.
fn no_settings_of(name: &str) -> TopicError {
    match TopicName::new(name) {
        Ok(_) => TopicError::UnknownName(name.to_owned()),
        Err(invalid) => invalid.into(),
    }
}
