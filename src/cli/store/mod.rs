//! `weir store`: the bucket itself.

mod check;
mod repair;
mod usage;

use clap::Subcommand;

use super::context::Context;
use super::progress::{Progress, Steps};
use super::{CliError, output};

#[derive(Debug, Subcommand)]
pub(super) enum Store {
    /// Check that the store does what Weir needs, and report.
    Check(check::Check),
    /// Show what takes how much space in the store, and why.
    Usage(usage::Usage),
    /// Give up what is damaged or missing in the log, so that nodes can start again.
    Repair(repair::Repair),
}

pub(super) async fn run(command: &Store, context: &mut Context) -> Result<(), CliError> {
    match command {
        Store::Check(command) => check::run(command, context).await,
        Store::Usage(command) => usage::run(command, context).await,
        Store::Repair(command) => repair::run(command, context).await,
    }
}
