//! Settings of topics and of the cluster: their definitions, validation, description and change.

use std::collections::BTreeMap;

use super::{Broker, Session, TopicError, Unavailable};

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
    /// The settings of a resource, up to date: those named, or all.
    pub async fn describe_configs(
        &self,
        session: &Session,
        resource: &ConfigResource,
        names: Option<&[String]>,
    ) -> Result<Vec<ConfigEntry>, TopicError> {
        let _ = (session, resource, names);
        todo!()
    }

    /// Changes the settings named and leaves the others (IncrementalAlterConfigs). All or none.
    pub async fn alter_configs(
        &self,
        session: &Session,
        resource: &ConfigResource,
        edits: BTreeMap<String, ConfigEdit>,
        validate_only: bool,
    ) -> Result<(), TopicError> {
        let _ = (session, resource, edits, validate_only);
        todo!()
    }

    /// Replaces all settings of the resource (the older AlterConfigs): those not named return to defaults.
    pub async fn replace_configs(
        &self,
        session: &Session,
        resource: &ConfigResource,
        configs: BTreeMap<String, Option<String>>,
        validate_only: bool,
    ) -> Result<(), TopicError> {
        let _ = (session, resource, configs, validate_only);
        let _: Option<Unavailable> = None;
        todo!()
    }
}
