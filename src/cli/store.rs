//! `weir store`: the bucket itself.

use clap::{Args, Subcommand};

use super::CliError;
use super::context::Context;
use super::output::{OutputArgs, OutputFormat};
use super::progress::Progress;
use crate::store::check::{CheckOptions, check};

#[derive(Debug, Subcommand)]
pub(super) enum Store {
    /// Check that the store keeps what Weir needs of it, and report.
    Check(Check),
}

/// Check that the store keeps what Weir needs of it, and report.
///
/// Creates, reads, lists and deletes objects below `check/` in the store. A node makes the quick form of this
/// check at every start and refuses a store that fails it.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// Only what a node checks at its start.
    #[arg(long)]
    quick: bool,

    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(command: &Store, context: &mut Context) -> Result<(), CliError> {
    let Store::Check(command) = command;
    let store = context.open_store().await?;
    let options = if command.quick {
        CheckOptions::quick()
    } else {
        CheckOptions::full()
    };
    let checking = format!("checking {}", store.name());
    let report = Progress::during(&checking, check(&store, &options)).await;
    match command.output.output {
        OutputFormat::Json => context.output.json(&report)?,
        OutputFormat::Text => context.output.line(&report.to_string())?,
    }
    context.output.flush()?;
    match report.refusal() {
        None => Ok(()),
        Some(refusal) => Err(CliError::failed(refusal)),
    }
}
