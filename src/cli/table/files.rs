//! `weir table files`.

use clap::Args;
use serde::Serialize;

use super::output::{OutputArgs, OutputFormat};
use super::{CliError, Context, named};
use crate::broker::Unavailable;
use crate::store::{ArchiveObject, ObjectPath};
use crate::types::ByteCount;

/// List the data files of a table.
#[derive(Debug, Args)]
pub(crate) struct Files {
    /// Its name, or that of its topic.
    #[arg(value_name = "TABLE")]
    table: String,

    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Row {
    file: String,
    rows: u64,
    bytes: u64,
    crc32c: String,
    /// The hour, day or month since the epoch of its rows.
    partition: Option<i32>,
    manifest: String,
    /// The snapshot that added it.
    added: u64,
}

pub(super) async fn run(command: &Files, context: &mut Context) -> Result<(), CliError> {
    context
        .with_client(async |client, output| {
            let manifest = client.broker().manifest();
            let state = manifest.fresh().await.map_err(Unavailable::from)?;
            let table = named(&state, &command.table)?;
            let path = |object| ObjectPath::archive(table.name(), object).to_string();
            let mut rows = Vec::new();
            for live in table.manifests() {
                let manifest = &live.manifest;
                rows.extend(manifest.files.iter().map(|file| Row {
                    file: path(ArchiveObject::Data(file.id)),
                    rows: file.rows,
                    bytes: file.bytes,
                    crc32c: format!("{:08x}", file.crc32c),
                    partition: file.partition,
                    manifest: path(ArchiveObject::Manifest(manifest.id)),
                    added: live.added.0,
                }));
            }
            if command.output.output == OutputFormat::Json {
                return output.json(&rows);
            }
            let cells: Vec<Vec<String>> = rows
                .into_iter()
                .map(|row| {
                    let partition = row.partition.map(|value| value.to_string());
                    vec![
                        row.file,
                        row.rows.to_string(),
                        ByteCount(row.bytes).to_string(),
                        partition.unwrap_or_else(|| "-".to_owned()),
                        row.added.to_string(),
                    ]
                })
                .collect();
            output.table(&["FILE", "ROWS", "SIZE", "PARTITION", "ADDED"], &cells)
        })
        .await
}
