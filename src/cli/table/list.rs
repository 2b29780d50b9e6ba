//! `weir table list`.

use clap::Args;
use serde::Serialize;

use super::output::{OutputArgs, OutputFormat};
use super::text::shown;
use super::{CliError, Context, topic_of};
use crate::broker::Unavailable;
use crate::types::ByteCount;

/// List the tables.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Row {
    table: String,
    id: String,
    /// None once the topic is deleted.
    topic: Option<String>,
    /// `archiving`, `paused` or `dropped`.
    state: &'static str,
    rows: u64,
    rows_with_errors: u64,
    files: u64,
    bytes: u64,
    version: u64,
    changed_at: String,
}

pub(super) async fn run(command: &List, context: &mut Context) -> Result<(), CliError> {
    context
        .with_client(async |client, output| {
            let manifest = client.broker().manifest();
            let state = manifest.fresh().await.map_err(Unavailable::from)?;
            let rows: Vec<Row> = state
                .tables()
                .map(|table| {
                    let total = table.total();
                    Row {
                        table: table.name().to_string(),
                        id: table.id().to_string(),
                        topic: topic_of(&state, table),
                        state: match (table.is_dropped(), table.is_enabled()) {
                            (true, _) => "dropped",
                            (_, true) => "archiving",
                            (_, false) => "paused",
                        },
                        rows: total.rows,
                        rows_with_errors: total.errors,
                        files: total.files,
                        bytes: total.bytes,
                        version: table.version().0,
                        changed_at: shown(table.changed_at()),
                    }
                })
                .collect();
            if command.output.output == OutputFormat::Json {
                return output.json(&rows);
            }
            let cells: Vec<Vec<String>> = rows
                .into_iter()
                .map(|row| {
                    vec![
                        row.table,
                        row.topic.unwrap_or_else(|| "-".to_owned()),
                        row.state.to_owned(),
                        row.rows.to_string(),
                        row.files.to_string(),
                        ByteCount(row.bytes).to_string(),
                        row.changed_at,
                    ]
                })
                .collect();
            let heading = [
                "TABLE", "TOPIC", "STATE", "ROWS", "FILES", "SIZE", "CHANGED",
            ];
            output.table(&heading, &cells)
        })
        .await
}
