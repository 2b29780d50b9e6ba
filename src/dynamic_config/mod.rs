//! Dynamic configuration, as Kafka calls it: the settings of topics, groups and the cluster that clients change while
//! nodes run. What a node is started with is in [`crate::config`].
//!
//! Three tables (`definitions.rs`) hold every setting: those of topics, those of the cluster (which are also the
//! defaults for topics), and those that a node only reports. The values that were set are in the state of the cluster,
//! so all nodes agree. [`TopicConfig`], [`GroupConfig`] and [`ClusterConfig`] are the values in force, typed; the write
//! path and the background jobs obey them.
//!
//! Everything here is a pure function of the values that were set: no I/O, no clock, and nothing to do after a crash.
//! Values are checked before they are stored. A stored value that this version does not understand counts as not set:
//! the default applies.

mod definitions;
mod edit;
mod effective;
mod node;
mod resolve;
#[cfg(test)]
mod tests;
mod values;

pub use edit::{Edited, Edits, edits, initial, replacement};
pub use effective::{
    ArchiveConfig, ArchiveFormat, CleanupPolicy, ClusterConfig, Compression, GroupConfig,
    TopicConfig,
};
pub use node::{ListenerAddresses, NodeProperties};
pub use resolve::{
    Layers, Overrides, describe_cluster, describe_cluster_in_full, describe_node, describe_topic,
};

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
    /// Set for one node, dynamically.
    Node,
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
    /// The value that it has where nobody sets it; `None` if it has none.
    pub default: Option<String>,
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
    /// Back to the default. Nothing is done if it is not set, or there is no such setting.
    Delete,
    /// Add to a list.
    Append(String),
    /// Take from a list.
    Subtract(String),
}

/// Why a setting was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DynamicConfigError {
    /// There is none of that name.
    #[error("a {resource} has no setting '{name}'")]
    Unknown {
        /// The setting.
        name: String,
        /// `topic`, `cluster`.
        resource: &'static str,
    },
    /// It does not take that value.
    #[error("'{value}' is not a valid value for {name}: {reason}")]
    Invalid {
        /// The setting.
        name: String,
        /// The value, shortened.
        value: String,
        /// What it takes.
        reason: String,
    },
    /// It is no matter of a single node.
    #[error(
        "{name} cannot be set for a single node, because all nodes share what is stored; set it for the cluster (the \
         broker resource without a name) or, if topics have this setting, for a topic"
    )]
    OfCluster {
        /// The setting.
        name: String,
    },
    /// Clients cannot change it.
    #[error("{name} is read-only: it is set when a node starts, see 'weir serve --help'")]
    ReadOnly {
        /// The setting.
        name: String,
    },
}
