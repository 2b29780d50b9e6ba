//! `weir cluster upgrade`.

use clap::Args;

use super::{CliError, Context};
use crate::broker::RaiseLevelError;

/// Let the cluster use what its upgraded nodes support: raise its level to the newest that this software knows.
///
/// Run it when every node has been upgraded; otherwise it fails and names a node that has not. There is no way back:
/// older nodes cannot read the log any further. Until then, any node can be put back to the older version.
#[derive(Debug, Args)]
pub(crate) struct Upgrade {}

pub(super) async fn run(_command: &Upgrade, context: &mut Context) -> Result<(), CliError> {
    context
        .with_client(async |client, output| {
            let (before, now) = client.broker().raise_level(client.session()).await?;
            if before == now {
                return output.line(&format!("the cluster is at level {now} already"));
            }
            output.line(&format!("raised the cluster from level {before} to {now}"))
        })
        .await
}

impl From<RaiseLevelError> for CliError {
    fn from(error: RaiseLevelError) -> CliError {
        match error {
            RaiseLevelError::Unavailable(error) => error.into(),
            RaiseLevelError::Denied(error) => CliError::failed(error.to_string()),
            RaiseLevelError::Refused(error) => CliError::failed(error.to_string())
                .hint("`weir node list --all` shows the nodes, and the level that each knows"),
        }
    }
}
