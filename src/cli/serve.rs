//! `weir serve`: a node.

use clap::Args;

use super::CliError;
use super::flags::ServeFlags;
use crate::config::ServeConfig;

/// Run a node that serves clients until it is told to stop (SIGTERM or Ctrl-C).
///
/// What was acknowledged is in the store; a node may be killed at any time. Told to stop, it answers what it
/// has begun and takes nothing more, for at most --shutdown-grace.
#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    pub(super) flags: ServeFlags,
}

/// Runs the node.
pub(super) async fn run(config: ServeConfig) -> Result<(), CliError> {
    let _ = config;
    Err(CliError::failed("the server is not wired yet"))
}
