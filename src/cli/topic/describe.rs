//! `weir topic describe`.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use serde::Serialize;

use super::output::{OutputArgs, OutputFormat};
use super::text::shown;
use super::{CliError, Context, Output};
use crate::broker::{ConfigResource, ConfigSource, TopicRef, Unavailable};
use crate::embedded::Client;
use crate::state::{ObjectRef, Partition, Slice, State};
use crate::types::{ByteCount, TopicPartition};

/// Show topics in full: their partitions and settings.
#[derive(Debug, Args)]
pub(crate) struct Describe {
    /// Their names.
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,

    /// Show all settings, not only those that differ from the defaults.
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Description {
    topic: String,
    id: String,
    created_at: String,
    partitions: Vec<PartitionRow>,
    /// Its table, if it is archived.
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<String>,
    settings: BTreeMap<String, SettingRow>,
}

#[derive(Serialize)]
struct PartitionRow {
    partition: i32,
    log_start: i64,
    high_watermark: i64,
    bytes: u64,
    slices: usize,
    /// In how many segments its records are, and in how many commits.
    segments: usize,
    commits: usize,
    /// How many of the bytes are compacted.
    compacted_bytes: u64,
    /// Up to which offset it is archived, and how many offsets are not; if it is archived.
    #[serde(skip_serializing_if = "Option::is_none")]
    archived_to: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    archive_lag: Option<u64>,
    /// When the oldest of its records were appended, and the newest.
    oldest: Option<String>,
    newest: Option<String>,
}

#[derive(Serialize)]
struct SettingRow {
    value: Option<String>,
    source: &'static str,
    meaning: &'static str,
}

pub(super) async fn run(command: &Describe, context: &mut Context) -> Result<(), CliError> {
    context
        .with_client(async |client, output| {
            let asked: Vec<TopicRef> = command.topics.iter().cloned().map(TopicRef::Name).collect();
            let found = client
                .broker()
                .describe_topics(client.session(), &asked, false)
                .await?;
            let state = client
                .broker()
                .manifest()
                .fresh()
                .await
                .map_err(Unavailable::from)?;
            let mut all = Vec::new();
            for topic in found {
                let name = topic?.name.to_string();
                all.push(describe(client, &state, name, command.all).await?);
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

async fn describe(
    client: &Client,
    state: &State,
    name: String,
    all: bool,
) -> Result<Description, CliError> {
    let entries = client
        .broker()
        .describe_configs(client.session(), &ConfigResource::Topic(name.clone()), None)
        .await?;
    let settings = entries
        .into_iter()
        .filter(|entry| all || entry.source != ConfigSource::Default)
        .map(|entry| {
            let source = match entry.source {
                ConfigSource::Topic => "topic",
                ConfigSource::Cluster => "cluster",
                ConfigSource::Node | ConfigSource::Static => "node",
                ConfigSource::Default => "default",
            };
            let row = SettingRow {
                value: entry.value,
                source,
                meaning: entry.documentation,
            };
            (entry.name.to_owned(), row)
        })
        .collect();
    let topic = state.topic_by_name(&name);
    Ok(Description {
        topic: name,
        id: topic.map(|t| t.id().to_string()).unwrap_or_default(),
        created_at: topic.map(|t| shown(t.created_at())).unwrap_or_default(),
        partitions: topic
            .into_iter()
            .flat_map(|t| t.partitions())
            .map(|(id, partition)| row(state, id, partition))
            .collect(),
        table: topic
            .and_then(|topic| state.table_of(topic.id()))
            .map(|table| table.name().to_string()),
        settings,
    })
}

fn row(state: &State, id: TopicPartition, partition: &Partition) -> PartitionRow {
    let table = state.table_of(id.topic);
    let position = state.archive_position(id);
    let slices: Vec<&Slice> = partition
        .slices_from(partition.log_start())
        .map(|(_, slice)| slice)
        .collect();
    let objects: BTreeSet<ObjectRef> = slices.iter().map(|slice| slice.object).collect();
    let is_segment = |object: &&ObjectRef| matches!(object, ObjectRef::Segment(_));
    let segments = objects.iter().filter(is_segment).count();
    let compacted = slices.iter().filter(|slice| slice.index.is_some());
    PartitionRow {
        partition: id.partition.0,
        log_start: partition.log_start().0,
        high_watermark: partition.high_watermark().0,
        bytes: partition.bytes().0,
        slices: slices.len(),
        segments,
        commits: objects.len() - segments,
        compacted_bytes: compacted.map(|slice| slice.len).sum(),
        archived_to: table.map(|table| table.archived(id.partition).0),
        archive_lag: table.map(|_| partition.high_watermark().since(position)),
        oldest: slices.first().map(|slice| shown(slice.appended_at)),
        newest: slices.last().map(|slice| shown(slice.appended_at)),
    }
}

fn write(description: &Description, output: &mut Output) -> Result<(), CliError> {
    output.line(&format!("topic    {}", description.topic))?;
    output.line(&format!("id       {}", description.id))?;
    output.line(&format!("created  {}", description.created_at))?;
    if let Some(table) = &description.table {
        output.line(&format!("table    {table}"))?;
    }
    let rows: Vec<Vec<String>> = description
        .partitions
        .iter()
        .map(|row| {
            vec![
                row.partition.to_string(),
                row.log_start.to_string(),
                row.high_watermark.to_string(),
                ByteCount(row.bytes).to_string(),
                ByteCount(row.compacted_bytes).to_string(),
                row.segments.to_string(),
                row.commits.to_string(),
                row.slices.to_string(),
                row.oldest.clone().unwrap_or_else(|| "-".to_owned()),
            ]
            .into_iter()
            .chain(row.archived_to.map(|to| to.to_string()))
            .chain(row.archive_lag.map(|lag| lag.to_string()))
            .collect()
        })
        .collect();
    let mut heading = vec![
        "PARTITION",
        "FROM",
        "TO",
        "SIZE",
        "COMPACTED",
        "SEGMENTS",
        "COMMITS",
        "SLICES",
        "OLDEST",
    ];
    if description.table.is_some() {
        heading.extend(["ARCHIVED TO", "LAG"]);
    }
    output.table(&heading, &rows)?;
    if description.settings.is_empty() {
        return Ok(());
    }
    let rows: Vec<Vec<String>> = description
        .settings
        .iter()
        .map(|(name, row)| {
            let value = row.value.clone().unwrap_or_default();
            vec![name.clone(), value, row.source.to_owned()]
        })
        .collect();
    output.table(&["SETTING", "VALUE", "FROM"], &rows)
}
