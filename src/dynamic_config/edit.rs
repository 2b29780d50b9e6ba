//! From a wish to change settings to the edits of an op.

use std::collections::BTreeMap;

use super::definitions::{CLUSTER, Definition, NODE, TOPIC, find, is_shared};
use super::resolve::{Layers, Overrides, cluster_value, node_value, topic_value};
use super::values::{check, items};
use super::{ConfigEdit, ConfigType, DynamicConfigError};

/// What an op sets (`Some`) and returns to its default (`None`).
pub type Edits = BTreeMap<String, Option<String>>;

/// Whose settings are edited, with those that are set.
#[derive(Clone, Copy, Debug)]
pub enum Edited<'a> {
    /// A topic's, in a cluster with these.
    Topic(&'a Overrides, &'a Overrides),
    /// The cluster's.
    Cluster(&'a Overrides),
    /// Those of the cluster's that hold for a single node.
    Node(Layers<'a>),
}

impl Edited<'_> {
    fn definition(&self, name: &str) -> Result<&'static Definition, DynamicConfigError> {
        let (table, resource) = match self {
            Edited::Topic(..) => (TOPIC, "topic"),
            Edited::Cluster(_) => (CLUSTER, "cluster"),
            Edited::Node(_) => (CLUSTER, "node"),
        };
        let definition = find(table, name).ok_or_else(|| {
            let is_read_only = find(NODE, name).is_some();
            let name = name.chars().take(128).collect();
            match self {
                Edited::Cluster(_) | Edited::Node(_) if is_read_only => {
                    DynamicConfigError::ReadOnly { name }
                }
                _ => DynamicConfigError::Unknown { name, resource },
            }
        })?;
        if matches!(self, Edited::Node(_)) && is_shared(name) {
            let name = name.to_owned();
            return Err(DynamicConfigError::OfCluster { name });
        }
        Ok(definition)
    }

    /// Whether there is such a setting, or another version of this software has set one of that name.
    fn knows(&self, name: &str) -> bool {
        self.set().contains_key(name) || self.definition(name).is_ok()
    }

    fn set(&self) -> &Overrides {
        match self {
            Edited::Topic(topic, _) => topic,
            Edited::Cluster(cluster) => cluster,
            Edited::Node(set) => set.node,
        }
    }

    fn in_force(&self, name: &str) -> Option<String> {
        match self {
            Edited::Topic(topic, cluster) => topic_value(name, topic, cluster),
            Edited::Cluster(cluster) => cluster_value(name, cluster),
            Edited::Node(set) => node_value(name, *set),
        }
    }
}

/// Checks edits and turns them into those of an op: lists are written out. All or none.
pub fn edits(
    edited: Edited<'_>,
    wanted: &BTreeMap<String, ConfigEdit>,
) -> Result<Edits, DynamicConfigError> {
    let mut edits = Edits::new();
    for (name, edit) in wanted {
        let value = match edit {
            // As in Kafka, what there is not can be unset.
            ConfigEdit::Delete if !edited.knows(name) => continue,
            ConfigEdit::Delete => None,
            ConfigEdit::Set(value) => Some(check(edited.definition(name)?, value)?),
            ConfigEdit::Append(value) | ConfigEdit::Subtract(value) => {
                let definition = edited.definition(name)?;
                if definition.kind != ConfigType::List {
                    return Err(DynamicConfigError::Invalid {
                        name: name.clone(),
                        value: value.chars().take(64).collect(),
                        reason: "values can be added to or removed from lists only".to_owned(),
                    });
                }
                let current = edited.in_force(name).unwrap_or_default();
                let list = match edit {
                    ConfigEdit::Append(_) => appended(&current, value),
                    _ => subtracted(&current, value),
                };
                Some(check(definition, &list)?)
            }
        };
        edits.insert(name.clone(), value);
    }
    consistent(edited, &edits)?;
    Ok(edits)
}

/// Checks a whole new set of settings and turns it into the edits that lead there from what is set now.
pub fn replacement(
    edited: Edited<'_>,
    wanted: &BTreeMap<String, String>,
) -> Result<Edits, DynamicConfigError> {
    let mut edits: Edits = edited
        .set()
        .keys()
        .map(|name| (name.clone(), None))
        .collect();
    for (name, value) in wanted {
        let definition = edited.definition(name)?;
        edits.insert(name.clone(), Some(check(definition, value)?));
    }
    consistent(edited, &edits)?;
    Ok(edits)
}

/// Checks the settings of a topic to be created: what is stored with it.
pub fn initial(
    wanted: &BTreeMap<String, Option<String>>,
    cluster: &Overrides,
) -> Result<Overrides, DynamicConfigError> {
    let empty = Overrides::new();
    let edited = Edited::Topic(&empty, cluster);
    let mut values = BTreeMap::new();
    for (name, value) in wanted {
        let Some(value) = value else {
            edited.definition(name)?;
            return Err(DynamicConfigError::Invalid {
                name: name.clone(),
                value: "null".to_owned(),
                reason: "a setting of a new topic needs a value; to use the default, leave the setting out"
                    .to_owned(),
            });
        };
        values.insert(name.clone(), value.clone());
    }
    let edits = replacement(edited, &values)?;
    Ok(edits
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect())
}

fn appended(current: &str, more: &str) -> String {
    let mut list = items(current);
    for item in items(more) {
        if !list.contains(&item) {
            list.push(item);
        }
    }
    list.join(",")
}

fn subtracted(current: &str, less: &str) -> String {
    let less = items(less);
    let mut list = items(current);
    list.retain(|item| !less.contains(item));
    list.join(",")
}

/// Checks the rules between settings, as they will be in force after the edits.
fn consistent(edited: Edited<'_>, edits: &Edits) -> Result<(), DynamicConfigError> {
    let mut after = edited.set().clone();
    for (name, value) in edits {
        match value {
            Some(value) => after.insert(name.clone(), value.clone()),
            None => after.remove(name),
        };
    }
    const TOPIC_PAIRS: &[(&str, &str)] = &[("min.compaction.lag.ms", "max.compaction.lag.ms")];
    const CLUSTER_PAIRS: &[(&str, &str)] = &[
        (
            "log.cleaner.min.compaction.lag.ms",
            "log.cleaner.max.compaction.lag.ms",
        ),
        (
            "group.min.session.timeout.ms",
            "group.max.session.timeout.ms",
        ),
    ];
    let (pairs, after) = match edited {
        Edited::Topic(_, cluster) => (TOPIC_PAIRS, Edited::Topic(&after, cluster)),
        Edited::Cluster(_) => (CLUSTER_PAIRS, Edited::Cluster(&after)),
        Edited::Node(Layers { cluster, .. }) => {
            let set = Layers {
                node: &after,
                cluster,
            };
            (CLUSTER_PAIRS, Edited::Node(set))
        }
    };
    let number = |name| {
        after
            .in_force(name)
            .and_then(|text| text.parse::<i64>().ok())
    };
    for (least, most) in pairs {
        let edited = [least, most].iter().any(|name| edits.contains_key(**name));
        if edited
            && let (Some(low), Some(high)) = (number(least), number(most))
            && low > high
        {
            return Err(DynamicConfigError::Invalid {
                name: (*least).to_owned(),
                value: low.to_string(),
                reason: format!("it is more than {most}, which is {high}"),
            });
        }
    }
    Ok(())
}
