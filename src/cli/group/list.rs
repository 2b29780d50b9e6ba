//! `weir group list`.

use clap::Args;
use serde::Serialize;

use super::output::{OutputArgs, OutputFormat};
use super::{CliError, Context};

/// List the groups.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Row {
    group: String,
    state: &'static str,
    protocol_type: String,
}

pub(super) async fn run(command: &List, context: &mut Context) -> Result<(), CliError> {
    context
        .with_client(async |client, output| {
            let groups = client.broker().list_groups(client.session()).await?;
            let rows: Vec<Row> = groups
                .into_iter()
                .map(|group| Row {
                    group: group.group.to_string(),
                    state: group.state,
                    protocol_type: group.protocol_type,
                })
                .collect();
            if command.output.output == OutputFormat::Json {
                return output.json(&rows);
            }
            let cells: Vec<Vec<String>> = rows
                .into_iter()
                .map(|row| vec![row.group, row.state.to_owned(), row.protocol_type])
                .collect();
            output.table(&["GROUP", "STATE", "TYPE"], &cells)
        })
        .await
}
