//! `weir table snapshots`.

use clap::Args;
use serde::Serialize;

use super::output::{OutputArgs, OutputFormat};
use super::text::shown;
use super::{CliError, Context, named};
use crate::broker::Unavailable;

/// List the snapshots of a table that engines can still read.
#[derive(Debug, Args)]
pub(crate) struct Snapshots {
    /// Its name, or that of its topic.
    #[arg(value_name = "TABLE")]
    table: String,

    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Row {
    snapshot: u64,
    at: String,
    operation: &'static str,
    added_rows: u64,
    removed_rows: u64,
    added_files: u64,
    removed_files: u64,
    rows: u64,
    files: u64,
    bytes: u64,
}

pub(super) async fn run(command: &Snapshots, context: &mut Context) -> Result<(), CliError> {
    context
        .with_client(async |client, output| {
            let manifest = client.broker().manifest();
            let state = manifest.fresh().await.map_err(Unavailable::from)?;
            let table = named(&state, &command.table)?;
            let rows: Vec<Row> = table
                .snapshots()
                .iter()
                .map(|snapshot| Row {
                    snapshot: snapshot.seq.0,
                    at: shown(snapshot.time),
                    operation: snapshot.operation().name(),
                    added_rows: snapshot.added.rows,
                    removed_rows: snapshot.removed.rows,
                    added_files: snapshot.added.files,
                    removed_files: snapshot.removed.files,
                    rows: snapshot.total.rows,
                    files: snapshot.total.files,
                    bytes: snapshot.total.bytes,
                })
                .collect();
            if command.output.output == OutputFormat::Json {
                return output.json(&rows);
            }
            let cells: Vec<Vec<String>> = rows
                .into_iter()
                .map(|row| {
                    vec![
                        row.snapshot.to_string(),
                        row.at,
                        row.operation.to_owned(),
                        format!("+{} -{}", row.added_rows, row.removed_rows),
                        format!("+{} -{}", row.added_files, row.removed_files),
                        row.rows.to_string(),
                        row.files.to_string(),
                    ]
                })
                .collect();
            let heading = [
                "SNAPSHOT",
                "AT",
                "OPERATION",
                "ROWS",
                "FILES",
                "ALL ROWS",
                "ALL FILES",
            ];
            output.table(&heading, &cells)
        })
        .await
}
