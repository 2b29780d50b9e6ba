//! `weir serve`: a node.

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::flags::ServeFlags;
use super::output::Output;
use super::{CliError, FileFlag};
use crate::config::{ListenAddress, ServeConfig};
use crate::server::Server;

/// Run a node that serves clients until it is told to stop (SIGTERM or Ctrl-C).
///
/// What was acknowledged is in the store; a node may be killed at any time. Told to stop, it answers what it
/// has begun and takes nothing more, for at most --shutdown-grace.
#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    pub(super) file: FileFlag,

    #[command(flatten)]
    pub(super) flags: ServeFlags,
}

/// Runs the node.
pub(super) async fn run(config: ServeConfig) -> Result<(), CliError> {
    // Before anything is started: a signal that comes meanwhile must not be missed.
    let mut terminate = listen_for(SignalKind::terminate())?;
    let mut interrupt = listen_for(SignalKind::interrupt())?;
    let amqp = config.listen.amqp.clone();
    let server = Server::start(config)
        .await
        .map_err(|error| CliError::failed(error.to_string()))?;
    print_where(&server, &amqp)?;
    let shutdown = async {
        let signal = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "Ctrl-C",
        };
        tracing::info!(signal, "stopping");
    };
    server
        .run(shutdown)
        .await
        .map_err(|error| CliError::failed(error.to_string()))
}

fn listen_for(kind: SignalKind) -> Result<tokio::signal::unix::Signal, CliError> {
    signal(kind).map_err(|error| CliError::failed(format!("cannot listen for signals: {error}")))
}

/// Says where the node listens; scripts read these lines.
fn print_where(server: &Server, amqp: &ListenAddress) -> Result<(), CliError> {
    let mut output = Output::stdout();
    let node = server.node();
    output.line(&format!("weir {}", env!("CARGO_PKG_VERSION")))?;
    output.line(&format!("store {}", node.store().name()))?;
    output.line(&format!("cluster {}", node.broker().cluster_id()))?;
    output.line(&format!("node {}", server.node_id()))?;
    for one in server.listening() {
        output.line(&format!("{} listening on {}", one.name, one.address))?;
    }
    if amqp.address().is_some() {
        output.line("amqp: not in this version")?;
    }
    output.line("ready")?;
    output.flush()
}
