//! Which value is in force, and where it comes from.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::definitions::{CLUSTER, Definition, NODE, TOPIC, find};
use super::{ConfigEntry, ConfigSource, NodeProperties};

/// Settings that were set, by name.
pub type Overrides = BTreeMap<String, String>;

/// What was set of the cluster's settings, and for whom: what holds for a single node is stronger.
#[derive(Clone, Copy, Debug)]
pub struct Layers<'a> {
    /// For one node. None of these is of the cluster's records.
    pub node: &'a Overrides,
    /// For all.
    pub cluster: &'a Overrides,
}

impl<'a> Layers<'a> {
    /// What holds for the node.
    pub fn in_force(self) -> Cow<'a, Overrides> {
        if self.node.is_empty() {
            return Cow::Borrowed(self.cluster);
        }
        let mut all = self.cluster.clone();
        let node = self.node.iter();
        all.extend(node.map(|(name, value)| (name.clone(), value.clone())));
        Cow::Owned(all)
    }
}

/// The value of a topic setting in force; `None` if there is no setting of that name.
pub(super) fn topic_value(name: &str, topic: &Overrides, cluster: &Overrides) -> Option<String> {
    let definition = find(TOPIC, name)?;
    synonyms(definition, Some(topic), of_cluster(cluster))
        .into_iter()
        .next()
        .map(|found| found.value)
}

/// The value of a cluster setting in force; `None` if there is no setting of that name or it has no
/// value.
pub(super) fn cluster_value(name: &str, cluster: &Overrides) -> Option<String> {
    node_value(name, of_cluster(cluster))
}

/// The same for a single node.
pub(super) fn node_value(name: &str, set: Layers<'_>) -> Option<String> {
    let definition = find(CLUSTER, name)?;
    synonyms(definition, None, set)
        .into_iter()
        .next()
        .map(|found| found.value)
}

static NOTHING: Overrides = Overrides::new();

/// What was set for all, seen by no node in particular.
fn of_cluster(cluster: &Overrides) -> Layers<'_> {
    Layers {
        node: &NOTHING,
        cluster,
    }
}

/// A value that a setting could take effect from.
struct Found {
    /// Whose value it is.
    name: &'static str,
    /// The value as it was set there.
    written: String,
    /// The value in the units of the setting that asks.
    value: String,
    source: ConfigSource,
}

/// Everything that `definition` could take its value from, strongest first.
fn synonyms(
    definition: &'static Definition,
    topic: Option<&Overrides>,
    set: Layers<'_>,
) -> Vec<Found> {
    let found = |name, written: &str, factor, source| {
        Some(Found {
            name,
            written: written.to_owned(),
            value: converted(written, factor)?,
            source,
        })
    };
    let own = |set: &Overrides, source| {
        let value = set.get(definition.name);
        value.and_then(|value| found(definition.name, value, 1, source))
    };
    let mut all: Vec<Found> = Vec::new();
    all.extend(topic.and_then(|topic| own(topic, ConfigSource::Topic)));
    let dynamic = [
        (set.node, ConfigSource::Node),
        (set.cluster, ConfigSource::Cluster),
    ];
    for (set, source) in dynamic {
        if topic.is_none() {
            all.extend(own(set, source));
        }
        for fallback in definition.falls_back_to {
            let value = set.get(fallback.name);
            all.extend(value.and_then(|v| found(fallback.name, v, fallback.factor, source)));
        }
    }
    let mut default_found = false;
    for fallback in definition.falls_back_to {
        let default = find(CLUSTER, fallback.name).and_then(|d| d.default);
        let default =
            default.and_then(|v| found(fallback.name, v, fallback.factor, ConfigSource::Default));
        default_found |= default.is_some();
        all.extend(default);
    }
    if !default_found && let Some(default) = definition.default {
        all.extend(found(definition.name, default, 1, ConfigSource::Default));
    }
    all
}

/// A value in the units of the setting that falls back to it. Negative values mean "without bound" in all
/// units. `None` if it is no number.
fn converted(value: &str, factor: i64) -> Option<String> {
    if factor == 1 {
        return Some(value.to_owned());
    }
    let number: i64 = value.parse().ok()?;
    let number = if number < 0 {
        -1
    } else {
        number.saturating_mul(factor)
    };
    Some(number.to_string())
}

fn wanted(definition: &Definition, names: Option<&[String]>) -> bool {
    names.is_none_or(|names| names.iter().any(|name| name == definition.name))
}

fn entry(definition: &'static Definition, found: Vec<Found>) -> ConfigEntry {
    let first = found.first();
    let default = found.iter().find(|f| f.source == ConfigSource::Default);
    ConfigEntry {
        name: definition.name,
        value: first.map(|f| f.value.clone()),
        source: first.map_or(ConfigSource::Default, |f| f.source),
        default: default.map(|f| f.value.clone()),
        read_only: false,
        sensitive: false,
        kind: definition.kind,
        documentation: definition.documentation,
        synonyms: found
            .into_iter()
            .map(|f| (f.name, Some(f.written), f.source))
            .collect(),
    }
}

/// The settings of a topic, as a node goes by them: those named, or all.
pub fn describe_topic(
    topic: &Overrides,
    set: Layers<'_>,
    names: Option<&[String]>,
) -> Vec<ConfigEntry> {
    TOPIC
        .iter()
        .filter(|definition| wanted(definition, names))
        .map(|definition| entry(definition, synonyms(definition, Some(topic), set)))
        .collect()
}

/// The settings of the cluster that were set, as Kafka describes the broker resource without a name:
/// those named, or all.
pub fn describe_cluster(cluster: &Overrides, names: Option<&[String]>) -> Vec<ConfigEntry> {
    CLUSTER
        .iter()
        .filter(|definition| cluster.contains_key(definition.name) && wanted(definition, names))
        .map(|definition| entry(definition, synonyms(definition, None, of_cluster(cluster))))
        .collect()
}

/// The settings of the cluster, also those that were not set: those named, or all. By name.
pub fn describe_cluster_in_full(cluster: &Overrides, names: Option<&[String]>) -> Vec<ConfigEntry> {
    in_full(of_cluster(cluster), names)
}

fn in_full(set: Layers<'_>, names: Option<&[String]>) -> Vec<ConfigEntry> {
    CLUSTER
        .iter()
        .filter(|definition| wanted(definition, names))
        .map(|definition| entry(definition, synonyms(definition, None, set)))
        .collect()
}

/// The settings of a node: its own, read-only, and the cluster's as they hold for it; those named, or all. By name. Of
/// a node that does not say what its own are, those of the cluster.
pub fn describe_node(
    properties: Option<&NodeProperties>,
    set: Layers<'_>,
    names: Option<&[String]>,
) -> Vec<ConfigEntry> {
    let known = properties.map(|properties| {
        let table = NODE.iter();
        table.map(move |definition| (definition, properties))
    });
    let own = known
        .into_iter()
        .flatten()
        .filter(|(definition, _)| wanted(definition, names))
        .map(|(definition, properties)| {
            let set = properties.get(definition.name);
            let found = set.map(|value| (value, ConfigSource::Static)).or(definition
                .default
                .map(|value| (value, ConfigSource::Default)));
            let found = found.map(|(value, source)| Found {
                name: definition.name,
                written: value.to_owned(),
                value: value.to_owned(),
                source,
            });
            ConfigEntry {
                read_only: true,
                ..entry(definition, found.into_iter().collect())
            }
        });
    let shared = in_full(set, names);
    let mut all: Vec<ConfigEntry> = own.chain(shared).collect();
    all.sort_by_key(|entry| entry.name);
    all
}
