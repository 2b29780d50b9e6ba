//! `weir table`: the tables of archived topics.

mod describe;
mod drop;
mod files;
mod list;
mod snapshots;

use clap::Subcommand;

use super::context::Context;
use super::{CliError, Output, output, text};
use crate::state::State;
use crate::state::table::Table as ArchiveTable;

#[derive(Debug, Subcommand)]
pub(super) enum Table {
    /// List the tables.
    List(list::List),
    /// Show a table in full: where it is, its columns, how far each partition is archived.
    Describe(describe::Describe),
    /// List the data files of a table.
    Files(files::Files),
    /// List the snapshots of a table that engines can still read.
    Snapshots(snapshots::Snapshots),
    /// Drop a table with all its files. This cannot be undone.
    Drop(drop::Drop),
}

pub(super) async fn run(command: &Table, context: &mut Context) -> Result<(), CliError> {
    match command {
        Table::List(command) => list::run(command, context).await,
        Table::Describe(command) => describe::run(command, context).await,
        Table::Files(command) => files::run(command, context).await,
        Table::Snapshots(command) => snapshots::run(command, context).await,
        Table::Drop(command) => drop::run(command, context).await,
    }
}

/// The table of that name, or of the topic of that name.
fn named<'a>(state: &'a State, name: &str) -> Result<&'a ArchiveTable, CliError> {
    let of_topic = || {
        let topic = state.topic_by_name(name)?;
        state.table_of(topic.id())
    };
    let table = state.table_by_name(name).or_else(of_topic);
    table.ok_or_else(|| {
        let hint = match state.topic_by_name(name) {
            Some(_) => format!(
                "a topic gets a table with `weir topic alter {name} --config archive.enable=true`, once a node runs"
            ),
            None => "`weir table list` shows all tables".to_owned(),
        };
        CliError::failed(format!("there is no table '{name}'")).hint(hint)
    })
}

/// The name of the topic of a table.
fn topic_of(state: &State, table: &ArchiveTable) -> Option<String> {
    let topic = table.topic().and_then(|topic| state.topic(topic))?;
    Some(topic.name().to_string())
}
