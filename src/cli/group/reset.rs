//! `weir group reset`.

use clap::Args;
use serde::Serialize;

use super::output::{OutputArgs, OutputFormat};
use super::text::{Moment, moment};
use super::{CliError, Context, group_id, offsets, topic_names};
use crate::broker::{CommitOffset, Identity, OffsetSpec, TopicRef};
use crate::embedded::Client;
use crate::types::{
    Generation, GroupId, MemberId, Offset, PartitionIndex, Timestamp, TopicPartition,
};

/// Move a group that has no members to other offsets.
///
/// What is committed afterwards is shown. With --dry-run nothing is committed.
#[derive(Debug, Args)]
pub(crate) struct Reset {
    /// Its name. It need not exist.
    group: String,

    /// A topic, or some of its partitions: orders:0,2. May be repeated. Without it: all partitions for which
    /// the group has committed offsets.
    #[arg(long, short, value_name = "TOPIC[:PARTITION,...]", value_parser = some_partitions)]
    topic: Vec<SomePartitions>,

    /// Where to: earliest, latest, an offset, a time (2026-01-31T12:00:00Z, @MILLISECONDS) or how long ago
    /// (15min).
    #[arg(long, value_name = "WHERE", value_parser = destination)]
    to: Destination,

    /// Only show what would be committed.
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    output: OutputArgs,
}

/// A topic, and which of its partitions; none means all.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SomePartitions {
    topic: String,
    partitions: Vec<i32>,
}

fn some_partitions(text: &str) -> Result<SomePartitions, String> {
    let (topic, partitions) = match text.split_once(':') {
        None => (text, Ok(Vec::new())),
        Some((topic, list)) => (topic, list.split(',').map(str::parse).collect()),
    };
    let partitions: Result<Vec<i32>, _> = partitions;
    match partitions {
        Ok(partitions) if !topic.is_empty() => Ok(SomePartitions {
            topic: topic.to_owned(),
            partitions,
        }),
        _ => Err("write TOPIC or TOPIC:PARTITION,PARTITION".to_owned()),
    }
}

/// Where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Destination {
    Earliest,
    Latest,
    Offset(Offset),
    Time(Moment),
}

fn destination(text: &str) -> Result<Destination, String> {
    match text {
        "earliest" => return Ok(Destination::Earliest),
        "latest" => return Ok(Destination::Latest),
        _ => {}
    }
    if let Ok(offset) = text.parse::<i64>()
        && offset >= 0
    {
        return Ok(Destination::Offset(Offset(offset)));
    }
    moment(text)
        .map(Destination::Time)
        .map_err(|reason| format!("write earliest, latest or an offset, or {reason}"))
}

#[derive(Serialize)]
struct Row {
    topic: String,
    partition: i32,
    from: Option<i64>,
    to: i64,
}

pub(super) async fn run(command: &Reset, context: &mut Context) -> Result<(), CliError> {
    let group = group_id(&command.group)?;
    let now = context.now();
    context
        .with_client(async |client, output| {
            let state = client
                .broker()
                .describe_group(client.session(), &group)
                .await?
                .state;
            if !matches!(state, "Empty" | "Dead") {
                return Err(CliError::failed(format!(
                    "the group {group} is {state}: its members would not notice the new offsets"
                ))
                .hint("stop its consumers first; `weir group describe` shows them"));
            }
            let names = topic_names(client).await?;
            let partitions = partitions(client, &group, &command.topic).await?;
            if partitions.is_empty() {
                return Err(CliError::failed(format!(
                    "the group {group} has no committed offsets"
                ))
                .hint("name the topics with --topic"));
            }
            let targets = targets(client, &partitions, command.to, now).await?;
            let before = client
                .broker()
                .committed_offsets(client.session(), &group, Some(&partitions))
                .await?;
            let rows: Vec<Row> = targets
                .iter()
                .map(|(partition, to)| Row {
                    topic: names.get(&partition.topic).cloned().unwrap_or_default(),
                    partition: partition.partition.0,
                    from: before.get(partition).map(|committed| committed.offset.0),
                    to: to.0,
                })
                .collect();
            if !command.dry_run {
                commit(client, &group, &targets).await?;
            }
            if command.output.output == OutputFormat::Json {
                return output.json(&rows);
            }
            let cells: Vec<Vec<String>> = rows
                .into_iter()
                .map(|row| {
                    let from = row
                        .from
                        .map_or_else(|| "-".to_owned(), |from| from.to_string());
                    vec![
                        row.topic,
                        row.partition.to_string(),
                        from,
                        row.to.to_string(),
                    ]
                })
                .collect();
            output.table(&["TOPIC", "PARTITION", "FROM", "TO"], &cells)
        })
        .await
}

/// The partitions that were asked for, or all that the group has committed.
async fn partitions(
    client: &Client,
    group: &GroupId,
    asked: &[SomePartitions],
) -> Result<Vec<TopicPartition>, CliError> {
    if asked.is_empty() {
        let committed = client
            .broker()
            .committed_offsets(client.session(), group, None)
            .await?;
        return Ok(committed.into_keys().collect());
    }
    let topics: Vec<TopicRef> = asked
        .iter()
        .map(|a| TopicRef::Name(a.topic.clone()))
        .collect();
    let found = client
        .broker()
        .describe_topics(client.session(), &topics, false)
        .await?;
    let mut partitions = Vec::new();
    for (asked, view) in asked.iter().zip(found) {
        let view = view?;
        let all: Vec<i32> = (0..view.partitions).collect();
        let wanted = if asked.partitions.is_empty() {
            &all
        } else {
            &asked.partitions
        };
        for index in wanted {
            if !all.contains(index) {
                return Err(CliError::usage(format!(
                    "topic {} has no partition {index}; its partitions are 0 to {}",
                    asked.topic,
                    view.partitions - 1
                )));
            }
            partitions.push(TopicPartition {
                topic: view.id,
                partition: PartitionIndex(*index),
            });
        }
    }
    Ok(partitions)
}

/// The offsets to commit, within what is in the log.
async fn targets(
    client: &Client,
    partitions: &[TopicPartition],
    to: Destination,
    now: Timestamp,
) -> Result<Vec<(TopicPartition, Offset)>, CliError> {
    let starts = offsets(client, partitions, OffsetSpec::Earliest).await?;
    let ends = offsets(client, partitions, OffsetSpec::Latest).await?;
    let wanted = match to {
        Destination::Earliest => starts.clone(),
        Destination::Latest => ends.clone(),
        Destination::Offset(offset) => vec![Some(offset); partitions.len()],
        Destination::Time(moment) => {
            offsets(client, partitions, OffsetSpec::At(moment.resolve(now))).await?
        }
    };
    let bounds = starts.into_iter().zip(ends);
    Ok(partitions
        .iter()
        .zip(wanted.into_iter().zip(bounds))
        .filter_map(|(partition, (wanted, bounds))| {
            let (start, end) = (bounds.0?, bounds.1?);
            // After the last record where no record is as late as the time.
            let offset = wanted.unwrap_or(end).max(start).min(end);
            Some((*partition, offset))
        })
        .collect())
}

async fn commit(
    client: &Client,
    group: &GroupId,
    targets: &[(TopicPartition, Offset)],
) -> Result<(), CliError> {
    let identity = Identity {
        group: group.clone(),
        member: MemberId::from(""),
        instance: None,
        generation: Generation::NONE,
    };
    let offsets = targets
        .iter()
        .map(|(partition, offset)| CommitOffset {
            partition: *partition,
            offset: *offset,
            leader_epoch: None,
            metadata: None,
        })
        .collect();
    let committed = client
        .broker()
        .commit_offsets(client.session(), &identity, offsets)
        .await?;
    for result in committed {
        result?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_read() {
        for (text, expected) in [
            ("earliest", Destination::Earliest),
            ("latest", Destination::Latest),
            ("7", Destination::Offset(Offset(7))),
            ("@7", Destination::Time(Moment::At(Timestamp(7)))),
            (
                "15min",
                Destination::Time(Moment::Ago(std::time::Duration::from_secs(900))),
            ),
        ] {
            assert_eq!(destination(text), Ok(expected), "{text}");
        }
        for bad in ["", "-1", "first", "99999999999999999999"] {
            assert!(destination(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn topics_and_partitions_are_read() {
        let some = |topic: &str, partitions: &[i32]| SomePartitions {
            topic: topic.to_owned(),
            partitions: partitions.to_vec(),
        };
        assert_eq!(some_partitions("orders"), Ok(some("orders", &[])));
        assert_eq!(some_partitions("orders:0,2"), Ok(some("orders", &[0, 2])));
        for bad in ["", ":1", "orders:", "orders:x"] {
            assert!(some_partitions(bad).is_err(), "{bad}");
        }
    }
}
