//! `weir group describe`.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use super::output::{OutputArgs, OutputFormat};
use super::text::shown;
use super::{CliError, Context, Output, described, group_id, offsets, topic_names};
use crate::broker::OffsetSpec;
use crate::embedded::{Client, assigned_partitions};
use crate::types::{GroupId, TopicPartition};

/// Show groups in full: their members, offsets and lag.
#[derive(Debug, Args)]
pub(crate) struct Describe {
    /// Their names.
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,

    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Description {
    group: String,
    state: &'static str,
    protocol_type: String,
    protocol: String,
    members: Vec<MemberRow>,
    offsets: Vec<OffsetRow>,
}

#[derive(Serialize)]
struct MemberRow {
    member: String,
    instance: Option<String>,
    client: String,
    host: String,
    partitions: BTreeMap<String, Vec<i32>>,
}

#[derive(Serialize)]
struct OffsetRow {
    topic: String,
    partition: i32,
    /// Where the group goes on; none if it has not committed there.
    committed: Option<i64>,
    end: Option<i64>,
    /// How many offsets lie between.
    lag: Option<u64>,
    metadata: Option<String>,
    committed_at: Option<String>,
    member: Option<String>,
}

pub(super) async fn run(command: &Describe, context: &mut Context) -> Result<(), CliError> {
    context
        .with_client(async |client, output| {
            let mut all = Vec::new();
            for group in &command.groups {
                all.push(describe(client, &group_id(group)?).await?);
            }
            if command.output.output == OutputFormat::Json {
                return output.json(&all);
            }
            for (i, description) in all.iter().enumerate() {
                if i > 0 {
                    output.line("")?;
                }
                write(description, output)?;
            }
            Ok(())
        })
        .await
}

async fn describe(client: &Client, group: &GroupId) -> Result<Description, CliError> {
    let found = described(client, group).await?;
    let members: Vec<MemberRow> = found
        .members
        .iter()
        .map(|member| MemberRow {
            member: member.member.to_string(),
            instance: member.instance.clone(),
            client: member.client_id.clone(),
            host: member.client_host.clone(),
            // A group of another kind than consumers has assignments that only it can read.
            partitions: assigned_partitions(&member.assignment).unwrap_or_default(),
        })
        .collect();
    let offsets = offset_rows(client, group, &members).await?;
    Ok(Description {
        group: group.to_string(),
        state: found.state,
        protocol_type: found.protocol_type,
        protocol: found.protocol,
        members,
        offsets,
    })
}

/// The partitions that the group has committed or has members on, with lag.
async fn offset_rows(
    client: &Client,
    group: &GroupId,
    members: &[MemberRow],
) -> Result<Vec<OffsetRow>, CliError> {
    let names = topic_names(client).await?;
    let committed = client
        .broker()
        .committed_offsets(client.session(), group, None)
        .await?;
    let mut owners: BTreeMap<TopicPartition, Option<String>> = committed
        .keys()
        .map(|partition| (*partition, None))
        .collect();
    for member in members {
        for (topic, partitions) in &member.partitions {
            let Some((id, _)) = names.iter().find(|(_, name)| *name == topic) else {
                continue;
            };
            for index in partitions {
                let partition = TopicPartition {
                    topic: *id,
                    partition: crate::types::PartitionIndex(*index),
                };
                owners.insert(partition, Some(member.member.clone()));
            }
        }
    }
    let partitions: Vec<TopicPartition> = owners.keys().copied().collect();
    let ends = offsets(client, &partitions, OffsetSpec::Latest).await?;
    let mut rows: Vec<OffsetRow> = owners
        .into_iter()
        .zip(ends)
        .map(|((partition, member), end)| {
            let entry = committed.get(&partition);
            OffsetRow {
                topic: names
                    .get(&partition.topic)
                    .cloned()
                    .unwrap_or_else(|| partition.topic.to_string()),
                partition: partition.partition.0,
                committed: entry.map(|e| e.offset.0),
                end: end.map(|e| e.0),
                lag: entry.zip(end).map(|(e, end)| end.since(e.offset)),
                metadata: entry.and_then(|e| e.metadata.clone()),
                committed_at: entry.map(|e| shown(e.committed_at)),
                member,
            }
        })
        .collect();
    rows.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    Ok(rows)
}

fn write(description: &Description, output: &mut Output) -> Result<(), CliError> {
    output.line(&format!("group    {}", description.group))?;
    output.line(&format!("state    {}", description.state))?;
    if !description.protocol.is_empty() {
        output.line(&format!("assignor {}", description.protocol))?;
    }
    let dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let rows: Vec<Vec<String>> = description
        .offsets
        .iter()
        .map(|row| {
            vec![
                row.topic.clone(),
                row.partition.to_string(),
                dash(row.committed.map(|n| n.to_string())),
                dash(row.end.map(|n| n.to_string())),
                dash(row.lag.map(|n| n.to_string())),
                dash(row.member.clone()),
            ]
        })
        .collect();
    output.table(
        &["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER"],
        &rows,
    )?;
    if description.members.is_empty() {
        return Ok(());
    }
    let rows: Vec<Vec<String>> = description
        .members
        .iter()
        .map(|row| {
            let partitions: usize = row.partitions.values().map(Vec::len).sum();
            vec![
                row.member.clone(),
                dash(row.instance.clone()),
                row.client.clone(),
                row.host.clone(),
                partitions.to_string(),
            ]
        })
        .collect();
    output.table(
        &["MEMBER", "INSTANCE", "CLIENT", "HOST", "PARTITIONS"],
        &rows,
    )
}
