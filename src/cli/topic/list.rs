//! `weir topic list`.

use clap::Args;
use serde::Serialize;

use super::output::{OutputArgs, OutputFormat};
use super::{CliError, Context};
use crate::broker::Unavailable;
use crate::types::ByteCount;

/// List the topics.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Include internal topics.
    #[arg(long)]
    internal: bool,

    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Row {
    topic: String,
    id: String,
    partitions: i32,
    /// How many offsets lie between the log starts and the high watermarks.
    records: u64,
    bytes: u64,
}

pub(super) async fn run(command: &List, context: &mut Context) -> Result<(), CliError> {
    context
        .with_client(async |client, output| {
            let topics = client.broker().list_topics(client.session()).await?;
            let state = client
                .broker()
                .manifest()
                .fresh()
                .await
                .map_err(Unavailable::from)?;
            let rows: Vec<Row> = topics
                .into_iter()
                .filter(|topic| command.internal || !topic.internal)
                .map(|topic| {
                    let partitions = state
                        .topic(topic.id)
                        .into_iter()
                        .flat_map(|t| t.partitions());
                    let (mut records, mut bytes) = (0, 0);
                    for (_, partition) in partitions {
                        records += partition.high_watermark().since(partition.log_start());
                        bytes += partition.bytes().0;
                    }
                    Row {
                        topic: topic.name.to_string(),
                        id: topic.id.to_string(),
                        partitions: topic.partitions,
                        records,
                        bytes,
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
                        row.topic,
                        row.partitions.to_string(),
                        row.records.to_string(),
                        ByteCount(row.bytes).to_string(),
                    ]
                })
                .collect();
            output.table(&["TOPIC", "PARTITIONS", "RECORDS", "SIZE"], &cells)
        })
        .await
}
