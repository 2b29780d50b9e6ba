//! `weir topic alter`.

use std::collections::BTreeMap;

use clap::Args;

use super::text::{counted, pair};
use super::{CliError, Context};
use crate::broker::{ConfigEdit, ConfigResource, MorePartitions};
use crate::embedded::Client;

/// Change settings of a topic or raise its number of partitions.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub(crate) struct Alter {
    /// Its name.
    topic: String,

    /// A setting and its new value. May be repeated.
    #[arg(long, short, group = "change", value_name = "NAME=VALUE", value_parser = pair)]
    config: Vec<(String, String)>,

    /// A setting to return to its default. May be repeated.
    #[arg(long, group = "change", value_name = "NAME")]
    unset: Vec<String>,

    /// Add to a setting that is a list: cleanup.policy=compact. May be repeated.
    #[arg(long, group = "change", value_name = "NAME=VALUE", value_parser = pair)]
    append: Vec<(String, String)>,

    /// Take from a setting that is a list. May be repeated.
    #[arg(long, group = "change", value_name = "NAME=VALUE", value_parser = pair)]
    subtract: Vec<(String, String)>,

    /// The new number of partitions; it can only grow. Keys are spread over more partitions from then on.
    #[arg(long, short, group = "change", value_name = "NUMBER")]
    partitions: Option<i32>,
}

pub(super) async fn run(command: &Alter, context: &mut Context) -> Result<(), CliError> {
    let edits = edits(command)?;
    let name = &command.topic;
    context
        .with_client(async |client, output| {
            let (broker, session) = (client.broker(), client.session());
            if !edits.is_empty() {
                let resource = ConfigResource::Topic(name.clone());
                let count = edits.len() as u64;
                check_unset(client, &resource, &command.unset).await?;
                broker
                    .alter_configs(session, &resource, edits, false)
                    .await?;
                let settings = counted(count, "setting");
                output.line(&format!("changed {settings} of {name}"))?;
            }
            if let Some(partitions) = command.partitions {
                let wanted = vec![MorePartitions {
                    topic: name.clone(),
                    total: partitions,
                    assignment: None,
                }];
                let done = broker.create_partitions(session, wanted, false).await?;
                done.into_iter().collect::<Result<Vec<()>, _>>()?;
                output.line(&format!("{name} has {partitions} partitions"))?;
            }
            Ok(())
        })
        .await
}

/// For Kafka's clients it is no error to unset what there is not; for a person it is a slip of the pen.
async fn check_unset(
    client: &Client,
    topic: &ConfigResource,
    names: &[String],
) -> Result<(), CliError> {
    if names.is_empty() {
        return Ok(());
    }
    let (broker, session) = (client.broker(), client.session());
    let known = broker.describe_configs(session, topic, Some(names)).await?;
    let unknown = |name: &&String| known.iter().all(|entry| entry.name != name.as_str());
    match names.iter().find(unknown) {
        Some(name) => Err(CliError::failed(format!("a topic has no setting '{name}'"))
            .hint("`weir topic describe TOPIC --all` lists them")),
        None => Ok(()),
    }
}

fn edits(command: &Alter) -> Result<BTreeMap<String, ConfigEdit>, CliError> {
    let set = command
        .config
        .iter()
        .map(|(n, v)| (n, ConfigEdit::Set(v.clone())));
    let unset = command.unset.iter().map(|n| (n, ConfigEdit::Delete));
    let append = command
        .append
        .iter()
        .map(|(n, v)| (n, ConfigEdit::Append(v.clone())));
    let subtract = command
        .subtract
        .iter()
        .map(|(n, v)| (n, ConfigEdit::Subtract(v.clone())));
    let mut edits = BTreeMap::new();
    for (name, edit) in set.chain(unset).chain(append).chain(subtract) {
        if edits.insert(name.clone(), edit).is_some() {
            return Err(CliError::usage(format!("{name} is changed twice")));
        }
    }
    Ok(edits)
}
