//! `weir table drop`.

use clap::Args;

use super::{CliError, Context};

/// Drop a table with all its files. This cannot be undone. The topic, if there is one, stays as it is; it must not be
/// archived any more.
#[derive(Debug, Args)]
pub(crate) struct Drop {
    /// Its name.
    #[arg(value_name = "TABLE")]
    table: String,
}

pub(super) async fn run(command: &Drop, context: &mut Context) -> Result<(), CliError> {
    context
        .with_client(async |client, output| {
            let dropped = client
                .broker()
                .drop_table(client.session(), &command.table)
                .await;
            let name = dropped.map_err(|error| CliError::failed(error.to_string()))?;
            output.line(&format!(
                "dropped {name}; nodes delete its files after the grace period"
            ))
        })
        .await
}
