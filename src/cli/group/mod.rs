//! `weir group`: consumer groups.

mod delete;
mod describe;
mod list;
mod reset;

use std::collections::BTreeMap;

use clap::Subcommand;

use super::context::Context;
use super::{CliError, Output, output, text};
use crate::broker::{GroupDescription, ListOffsetsError, OffsetSpec, TopicRef};
use crate::embedded::Client;
use crate::types::{GroupId, Offset, PartitionIndex, TopicId, TopicPartition};

#[derive(Debug, Subcommand)]
pub(super) enum Group {
    /// List the groups.
    List(list::List),
    /// Show groups in full: their members, offsets and lag.
    Describe(describe::Describe),
    /// Move a group that has no members to other offsets.
    Reset(reset::Reset),
    /// Delete groups that have no members, with their offsets.
    Delete(delete::Delete),
}

pub(super) async fn run(command: &Group, context: &mut Context) -> Result<(), CliError> {
    match command {
        Group::List(command) => list::run(command, context).await,
        Group::Describe(command) => describe::run(command, context).await,
        Group::Reset(command) => reset::run(command, context).await,
        Group::Delete(command) => delete::run(command, context).await,
    }
}

/// The id of a group, as it was given.
fn group_id(text: &str) -> Result<GroupId, CliError> {
    if text.is_empty() {
        return Err(CliError::usage("the name of a group must not be empty"));
    }
    GroupId::new(text).map_err(|error| CliError::usage(error.to_string()))
}

/// A group that exists, in full.
async fn described(client: &Client, group: &GroupId) -> Result<GroupDescription, CliError> {
    let description = client
        .broker()
        .describe_group(client.session(), group)
        .await?;
    if description.state == "Dead" {
        return Err(
            CliError::failed(format!("there is no group named '{group}'"))
                .hint("`weir group list` shows the groups"),
        );
    }
    Ok(description)
}

/// The names of all topics.
async fn topic_names(client: &Client) -> Result<BTreeMap<TopicId, String>, CliError> {
    let topics = client.broker().list_topics(client.session()).await?;
    let names = topics
        .into_iter()
        .map(|topic| (topic.id, topic.name.to_string()));
    Ok(names.collect())
}

/// Offsets of partitions; `None` where no record answers or the partition is gone.
async fn offsets(
    client: &Client,
    partitions: &[TopicPartition],
    spec: OffsetSpec,
) -> Result<Vec<Option<Offset>>, CliError> {
    let asked: Vec<(TopicRef, PartitionIndex, Option<i32>, OffsetSpec)> = partitions
        .iter()
        .map(|p| (TopicRef::Id(p.topic), p.partition, None, spec))
        .collect();
    let found = client
        .broker()
        .list_offsets(client.session(), &asked, false)
        .await;
    let mut offsets = Vec::new();
    for result in found {
        offsets.push(match result {
            Ok(found) => found.offset,
            Err(ListOffsetsError::TopicNotFound(_) | ListOffsetsError::PartitionNotFound(_)) => {
                None
            }
            Err(error) => return Err(error.into()),
        });
    }
    Ok(offsets)
}
