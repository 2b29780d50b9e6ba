//! `weir topic`: topics.

mod alter;
mod create;
mod delete;
mod describe;
mod list;

use clap::Subcommand;

use super::context::Context;
use super::{CliError, Output, output, text};

#[derive(Debug, Subcommand)]
pub(super) enum Topic {
    /// Create topics.
    Create(create::Create),
    /// List the topics.
    List(list::List),
    /// Show topics in full: their partitions and settings.
    Describe(describe::Describe),
    /// Change settings of a topic or raise its number of partitions.
    Alter(alter::Alter),
    /// Delete topics with all their records.
    Delete(delete::Delete),
}

pub(super) async fn run(command: &Topic, context: &mut Context) -> Result<(), CliError> {
    match command {
        Topic::Create(command) => create::run(command, context).await,
        Topic::List(command) => list::run(command, context).await,
        Topic::Describe(command) => describe::run(command, context).await,
        Topic::Alter(command) => alter::run(command, context).await,
        Topic::Delete(command) => delete::run(command, context).await,
    }
}
