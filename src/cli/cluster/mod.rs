//! `weir cluster`: the cluster as a whole.

mod settings;
mod upgrade;

use clap::Subcommand;

use super::context::Context;
use super::{CliError, Output, output, text};

#[derive(Debug, Subcommand)]
pub(super) enum Cluster {
    /// Show the cluster's settings: values, where they come from, defaults.
    Describe(settings::Describe),
    /// Set settings of the cluster, all of them or none. They hold at once, on all nodes.
    #[command(after_help = settings::EXAMPLES)]
    Set(settings::Set),
    /// Return settings of the cluster to their defaults.
    Unset(settings::Unset),
    /// Let the cluster use what its upgraded nodes support.
    Upgrade(upgrade::Upgrade),
}

pub(super) async fn run(command: &Cluster, context: &mut Context) -> Result<(), CliError> {
    match command {
        Cluster::Describe(command) => settings::describe(command, context).await,
        Cluster::Set(command) => settings::set(command, context).await,
        Cluster::Unset(command) => settings::unset(command, context).await,
        Cluster::Upgrade(command) => upgrade::run(command, context).await,
    }
}
