//! `weir node`: nodes.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::CliError;
use super::context::Context;
use super::output::{OutputArgs, OutputFormat};
use super::text::shown;
use crate::broker::Unavailable;
use crate::state::{Level, State};

#[derive(Debug, Subcommand)]
pub(super) enum Node {
    /// List the nodes that are alive.
    List(List),
}

/// List the nodes that are alive.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Include nodes whose lease has lapsed, and nodes that serve no clients.
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Row {
    node: i32,
    alive: bool,
    endpoints: BTreeMap<String, String>,
    rack: Option<String>,
    version: String,
    /// The highest level of the log that it knows.
    level: Level,
    since: String,
    lease_until: String,
}

pub(super) async fn run(command: &Node, context: &mut Context) -> Result<(), CliError> {
    let Node::List(command) = command;
    let now = context.now();
    context
        .with_client(async |client, output| {
            let state = client
                .broker()
                .manifest()
                .fresh()
                .await
                .map_err(Unavailable::from)?;
            let rows: Vec<Row> = state
                .nodes()
                .map(|(id, node)| Row {
                    node: id.0,
                    alive: node.lease_until() >= now.max(state.time()),
                    endpoints: node.endpoints().clone(),
                    rack: node.rack().map(str::to_owned),
                    version: node.version().to_owned(),
                    level: node.level(),
                    since: shown(node.registered_at()),
                    lease_until: shown(node.lease_until()),
                })
                .filter(|row| command.all || (row.alive && !row.endpoints.is_empty()))
                .collect();
            if command.output.output == OutputFormat::Json {
                return output.json(&rows);
            }
            let cells: Vec<Vec<String>> = rows
                .into_iter()
                .map(|row| {
                    let endpoints: Vec<String> = row
                        .endpoints
                        .iter()
                        .map(|(protocol, address)| format!("{protocol}={address}"))
                        .collect();
                    vec![
                        row.node.to_string(),
                        (if row.alive { "alive" } else { "gone" }).to_owned(),
                        endpoints.join(","),
                        row.rack.unwrap_or_else(|| "-".to_owned()),
                        row.version,
                        row.level.to_string(),
                        row.since,
                    ]
                })
                .collect();
            output.table(
                &[
                    "NODE",
                    "STATE",
                    "ENDPOINTS",
                    "RACK",
                    "VERSION",
                    "LEVEL",
                    "SINCE",
                ],
                &cells,
            )?;
            level_note(&state).map_or(Ok(()), |note| output.line(&note))
        })
        .await
}

/// What to do, if the cluster is not at the newest level.
fn level_note(state: &State) -> Option<String> {
    let (level, known) = (state.level(), Level::NEWEST);
    (level < known).then(|| {
        format!(
            "\nThe cluster is at level {level}, and this software knows level {known}. When every node knows it, run \
             `weir cluster upgrade`."
        )
    })
}
