//! Settings of topics and of the cluster: their definitions, validation, description and change.
//!
//! Three tables ([`definitions`]) hold every setting: those of topics, those of the cluster (which are
//! also the defaults of the topics'), and what a node says of itself and nobody changes. What was set
//! is in the state of the cluster, so all nodes agree; everything here but the methods of [`Broker`]
//! is a pure function of it.
//!
//! A change is checked against the state and handed to the commit loop as values; the fold stores them
//! unseen. Two clients that append to the same list at the same moment may overwrite each other, as
//! in Kafka. A future dropped after the commit began leaves the change done.

mod definitions;
mod edit;
mod node;
mod resolve;
mod settings;
#[cfg(test)]
mod tests;
mod values;

pub use node::{GroupBounds, Listener, NodeProperties};
pub use settings::{CleanupPolicy, ClusterSettings, Compression, TopicSettings};

use std::collections::BTreeMap;

use super::{Broker, Session, TopicError, Unavailable};
use crate::state::State;
use crate::state::op::{Op, Rejected};
use crate::types::TopicName;
use edit::{Edited, Edits};

pub(super) use edit::initial as initial_configs;

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

/// Kafka's `ConfigType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are Kafka's and say it")]
pub enum ConfigType {
    Boolean,
    String,
    Int,
    Short,
    Long,
    Double,
    List,
    Class,
    Password,
}

/// Where a value comes from (Kafka's `ConfigSource`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set on the topic.
    Topic,
    /// Set for the cluster, dynamically.
    Cluster,
    /// From the node's flags, environment or file.
    Static,
    /// The default.
    Default,
}

/// One setting with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Kafka's name of it.
    pub name: &'static str,
    /// The value in force; `None` for a secret.
    pub value: Option<String>,
    /// Where it comes from.
    pub source: ConfigSource,
    /// Cannot be changed by clients.
    pub read_only: bool,
    /// A secret.
    pub sensitive: bool,
    /// Its type.
    pub kind: ConfigType,
    /// What it means.
    pub documentation: &'static str,
    /// Names and values that it takes effect from, strongest first (Kafka's synonyms).
    pub synonyms: Vec<(&'static str, Option<String>, ConfigSource)>,
}

/// A change of one setting (KIP-339).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigEdit {
    /// Set it.
    Set(String),
    /// Back to the default.
    Delete,
    /// Add to a list.
    Append(String),
    /// Take from a list.
    Subtract(String),
}

/// Why a setting was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// There is none of that name.
    #[error("there is no setting '{name}' of a {resource}")]
    Unknown {
        /// The setting.
        name: String,
        /// `topic`, `cluster`.
        resource: &'static str,
    },
    /// It does not take that value.
    #[error("'{value}' is not a value of {name}: {reason}")]
    Invalid {
        /// The setting.
        name: String,
        /// The value, shortened.
        value: String,
        /// What it takes.
        reason: String,
    },
    /// Clients cannot change it.
    #[error("{name} cannot be changed while the node runs; it is set by the node's flags")]
    ReadOnly {
        /// The setting.
        name: String,
    },
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

    /// The settings of a topic as far as this node has followed, such as one that it has just created.
    pub fn known_configs(
        &self,
        session: &Session,
        topic: &TopicName,
    ) -> Result<Vec<ConfigEntry>, TopicError> {
        self.authorize(session);
        let resource = ConfigResource::Topic(topic.to_string());
        self.configs_in(&self.inner.manifest.state(), &resource, None)
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
                let topic = state
                    .topic_by_name(name)
                    .ok_or_else(|| TopicError::UnknownName(name.clone()))?;
                Ok(resolve::describe_topic(topic.configs(), cluster, names))
            }
            ConfigResource::Cluster => Ok(resolve::describe_cluster(cluster, names)),
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
                Ok(resolve::describe_node(properties, cluster, names))
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
            edit::edits(edited, &edits)
        })
        .await
    }

    /// Replaces all settings of the resource (the older AlterConfigs): those not named return to defaults.
    pub async fn replace_configs(
        &self,
        session: &Session,
        resource: &ConfigResource,
        configs: BTreeMap<String, Option<String>>,
        validate_only: bool,
    ) -> Result<(), TopicError> {
        self.edit_configs(session, resource, validate_only, |edited| {
            edit::replacement(edited, &configs)
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
            ConfigResource::Topic(name) => {
                let unknown = || TopicError::UnknownName(name.clone());
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
