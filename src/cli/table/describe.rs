//! `weir table describe`.

use clap::Args;
use serde::Serialize;

use super::output::{OutputArgs, OutputFormat};
use super::text::shown;
use super::{CliError, Context, Output, named, topic_of};
use crate::broker::Unavailable;
use crate::state::State;
use crate::state::table::{Column, ColumnType, Table};
use crate::store::{ObjectPath, StoreUrl};
use crate::types::{ByteCount, PartitionIndex, TopicPartition};

/// Show a table in full: where it is, its columns, how far each partition is archived.
#[derive(Debug, Args)]
pub(crate) struct Describe {
    /// Its name, or that of its topic.
    #[arg(value_name = "TABLE")]
    table: String,

    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Description {
    table: String,
    id: String,
    topic: Option<String>,
    /// Where engines find it.
    location: String,
    archiving: bool,
    dropped: bool,
    version: u64,
    changed_at: String,
    rows: u64,
    rows_with_errors: u64,
    files: u64,
    bytes: u64,
    manifests: usize,
    snapshots: usize,
    /// Manifests that were removed and whose objects are not deleted yet.
    removed_manifests: usize,
    divided_by: String,
    columns: Vec<ColumnRow>,
    partitions: Vec<PartitionRow>,
}

#[derive(Serialize)]
struct ColumnRow {
    id: u32,
    name: String,
    r#type: String,
    required: bool,
}

#[derive(Serialize)]
struct PartitionRow {
    partition: i32,
    from: i64,
    archived_to: i64,
    /// Offsets between that were deleted from the topic before they were archived.
    skipped: u64,
    /// Offsets that are not archived yet; none once the topic is deleted.
    lag: Option<u64>,
}

pub(super) async fn run(command: &Describe, context: &mut Context) -> Result<(), CliError> {
    let store: StoreUrl = context.config.store.store.parse()?;
    context
        .with_client(async |client, output| {
            let manifest = client.broker().manifest();
            let state = manifest.fresh().await.map_err(Unavailable::from)?;
            let table = named(&state, &command.table)?;
            let location = store.url_of(&ObjectPath::folder_of(table.name()));
            let description = describe(&state, table, location);
            if command.output.output == OutputFormat::Json {
                return output.json(&description);
            }
            write(&description, output)
        })
        .await
}

fn describe(state: &State, table: &Table, location: String) -> Description {
    let total = table.total();
    let schema = table.schema();
    let partitions = table.partitions().map(|(index, at)| {
        let skipped = at.skipped().iter().map(|(from, to)| to.since(*from));
        PartitionRow {
            partition: index.0,
            from: at.start().0,
            archived_to: at.end().0,
            skipped: skipped.sum(),
            lag: lag(state, table, index),
        }
    });
    Description {
        table: table.name().to_string(),
        id: table.id().to_string(),
        topic: topic_of(state, table),
        location,
        archiving: table.is_enabled(),
        dropped: table.is_dropped(),
        version: table.version().0,
        changed_at: shown(table.changed_at()),
        rows: total.rows,
        rows_with_errors: total.errors,
        files: total.files,
        bytes: total.bytes,
        manifests: table.manifest_count(),
        snapshots: table.snapshots().len(),
        removed_manifests: table.retired().count(),
        divided_by: format!("{:?}", table.spec().by).to_lowercase(),
        columns: schema
            .columns
            .iter()
            .filter(|column| column.parent.is_none())
            .map(|column| ColumnRow {
                id: column.id.0,
                name: column.name.clone(),
                r#type: type_of(column),
                required: column.required,
            })
            .collect(),
        partitions: partitions.collect(),
    }
}

fn lag(state: &State, table: &Table, partition: PartitionIndex) -> Option<u64> {
    let topic = table.topic()?;
    let id = TopicPartition { topic, partition };
    let end = state.partition(id)?.high_watermark();
    Some(end.since(state.archive_position(id)))
}

fn type_of(column: &Column) -> String {
    match column.column_type {
        ColumnType::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
        ColumnType::Fixed(len) => format!("fixed({len})"),
        other => format!("{other:?}").to_lowercase(),
    }
}

fn write(description: &Description, output: &mut Output) -> Result<(), CliError> {
    let state = match (description.dropped, description.archiving) {
        (true, _) => "dropped",
        (_, true) => "archiving",
        (_, false) => "paused",
    };
    let topic = description.topic.as_deref().unwrap_or("-");
    for (name, value) in [
        ("table", description.table.as_str()),
        ("id", &description.id),
        ("topic", topic),
        ("location", &description.location),
        ("state", state),
        ("version", &description.version.to_string()),
        ("changed", &description.changed_at),
        ("rows", &description.rows.to_string()),
        ("errors", &description.rows_with_errors.to_string()),
        ("files", &description.files.to_string()),
        ("size", &ByteCount(description.bytes).to_string()),
        ("divided", &description.divided_by),
    ] {
        output.line(&format!("{name:<9} {value}"))?;
    }
    let cells: Vec<Vec<String>> = description
        .columns
        .iter()
        .map(|column| {
            let required = if column.required { "required" } else { "" };
            vec![
                column.id.to_string(),
                column.name.clone(),
                column.r#type.clone(),
                required.to_owned(),
            ]
        })
        .collect();
    output.table(&["ID", "COLUMN", "TYPE", ""], &cells)?;
    let cells: Vec<Vec<String>> = description
        .partitions
        .iter()
        .map(|row| {
            vec![
                row.partition.to_string(),
                row.from.to_string(),
                row.archived_to.to_string(),
                row.skipped.to_string(),
                row.lag
                    .map_or_else(|| "-".to_owned(), |lag| lag.to_string()),
            ]
        })
        .collect();
    output.table(
        &["PARTITION", "FROM", "ARCHIVED TO", "SKIPPED", "LAG"],
        &cells,
    )
}
