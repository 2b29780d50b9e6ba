//! `weir cluster`: the cluster as a whole.

mod upgrade;

use clap::Subcommand;

use super::CliError;
use super::context::Context;

#[derive(Debug, Subcommand)]
pub(super) enum Cluster {
    /// Let the cluster use what its nodes were upgraded for.
    Upgrade(upgrade::Upgrade),
}

pub(super) async fn run(command: &Cluster, context: &mut Context) -> Result<(), CliError> {
    match command {
        Cluster::Upgrade(command) => upgrade::run(command, context).await,
    }
}
