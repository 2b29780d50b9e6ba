//! `weir cluster describe`, `set` and `unset`: the settings that hold for all nodes; most are the defaults of topics'.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use super::output::{OutputArgs, OutputFormat};
use super::text::pair;
use super::{CliError, Context, Output};
use crate::broker::{ConfigEdit, ConfigEntry, ConfigResource, ConfigSource};
use crate::embedded::Client;

pub(super) const EXAMPLES: &str = "\
Examples:
  weir cluster set num.partitions=6 log.retention.hours=72
      New topics have 6 partitions, and records are kept for three days where the topic does not say otherwise.
  weir cluster describe --changed
  weir cluster unset log.retention.hours";

/// Show the cluster's settings: values, where they come from, defaults.
#[derive(Debug, Args)]
pub(crate) struct Describe {
    /// Only these settings.
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// Only settings that were set.
    #[arg(long)]
    changed: bool,

    #[command(flatten)]
    output: OutputArgs,
}

/// Set settings of the cluster.
#[derive(Debug, Args)]
pub(crate) struct Set {
    /// Settings, by Kafka's names of them, with their new values: num.partitions=6.
    #[arg(required = true, value_name = "NAME=VALUE", value_parser = pair)]
    settings: Vec<(String, String)>,

    #[command(flatten)]
    output: OutputArgs,
}

/// Return settings of the cluster to their defaults.
#[derive(Debug, Args)]
pub(crate) struct Unset {
    /// The settings.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,

    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Row {
    setting: &'static str,
    value: Option<String>,
    source: &'static str,
    /// The setting that gives the value, where that is another one.
    taken_from: Option<&'static str>,
    default: Option<String>,
    meaning: &'static str,
}

pub(super) async fn set(command: &Set, context: &mut Context) -> Result<(), CliError> {
    let edits = command.settings.iter();
    let edits = edits.map(|(name, value)| (name, ConfigEdit::Set(value.clone())));
    change(edits.collect(), command.output, context).await
}

pub(super) async fn unset(command: &Unset, context: &mut Context) -> Result<(), CliError> {
    let edits = command.names.iter().map(|name| (name, ConfigEdit::Delete));
    change(edits.collect(), command.output, context).await
}

pub(super) async fn describe(command: &Describe, context: &mut Context) -> Result<(), CliError> {
    let wanted = (!command.names.is_empty()).then_some(&command.names[..]);
    context
        .with_client(async |client, output| {
            let mut found = settings(client, wanted).await?;
            if command.changed {
                found.retain(|entry| {
                    entry.source == ConfigSource::Cluster && taken_from(entry).is_none()
                });
            }
            show(found, command.output.output, output)
        })
        .await
}

async fn change(
    wanted: Vec<(&String, ConfigEdit)>,
    form: OutputArgs,
    context: &mut Context,
) -> Result<(), CliError> {
    let mut edits = BTreeMap::new();
    for (name, edit) in wanted {
        if edits.insert(name.clone(), edit).is_some() {
            return Err(CliError::usage(format!("{name} is changed twice")));
        }
    }
    let names: Vec<String> = edits.keys().cloned().collect();
    context
        .with_client(async |client, output| {
            // For Kafka's clients it is no error to unset what there is not; for a person it is a slip of the pen.
            settings(client, Some(&names)).await?;
            let (broker, session) = (client.broker(), client.session());
            broker
                .alter_configs(session, &ConfigResource::Cluster, edits, false)
                .await?;
            let now = settings(client, Some(&names)).await?;
            show(now, form.output, output)
        })
        .await
}

/// The settings named, or all.
async fn settings(client: &Client, names: Option<&[String]>) -> Result<Vec<ConfigEntry>, CliError> {
    let (broker, session) = (client.broker(), client.session());
    let found = broker.describe_cluster_configs(session, names).await?;
    let unknown = names.and_then(|names| {
        let known = |name: &String| found.iter().any(|entry| entry.name == name);
        names.iter().find(|name| !known(name))
    });
    match unknown {
        Some(name) => Err(
            CliError::failed(format!("the cluster has no setting '{name}'")).hint(
                "`weir cluster describe` lists them; settings of one topic are changed by `weir topic alter`, those of \
                 a node where it is started (`weir settings`)",
            ),
        ),
        None => Ok(found),
    }
}

/// The name of the setting that another one takes its value from: log.retention.hours for log.retention.ms.
fn taken_from(entry: &ConfigEntry) -> Option<&'static str> {
    let (name, _, _) = entry.synonyms.first()?;
    (*name != entry.name).then_some(*name)
}

fn show(found: Vec<ConfigEntry>, form: OutputFormat, output: &mut Output) -> Result<(), CliError> {
    let rows = found.into_iter().map(|entry| Row {
        setting: entry.name,
        taken_from: taken_from(&entry),
        value: entry.value,
        source: match entry.source {
            ConfigSource::Default => "default",
            _ => "cluster",
        },
        default: entry.default,
        meaning: entry.documentation,
    });
    let rows: Vec<Row> = rows.collect();
    if form == OutputFormat::Json {
        return output.json(&rows);
    }
    let or_none = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let cells: Vec<Vec<String>> = rows
        .into_iter()
        .map(|row| {
            vec![
                row.setting.to_owned(),
                or_none(row.value),
                row.taken_from.unwrap_or(row.source).to_owned(),
                or_none(row.default),
            ]
        })
        .collect();
    output.table(&["SETTING", "VALUE", "FROM", "DEFAULT"], &cells)
}
