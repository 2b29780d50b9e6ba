//! `weir store check`.

use clap::Args;

use super::output::{OutputArgs, OutputFormat};
use super::{CliError, Context, Progress};
use crate::store::check::{CheckOptions, check};

/// Check that the store does what Weir needs, and report.
///
/// Creates, reads, lists and deletes objects below `check/` in the store. A node makes the quick form of this
/// check at every start and refuses a store that fails it.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Check only what a node checks at its start.
    #[arg(long)]
    quick: bool,

    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(command: &Check, context: &mut Context) -> Result<(), CliError> {
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
