//! `weir group delete`.

use clap::Args;

use super::{CliError, Context, group_id};
use crate::broker::GroupOpError;

/// Delete groups that have no members, with their offsets.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Their names.
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
}

pub(super) async fn run(command: &Delete, context: &mut Context) -> Result<(), CliError> {
    context
        .with_client(async |client, output| {
            for name in &command.groups {
                let group = group_id(name)?;
                let deleted = client.broker().delete_group(client.session(), &group).await;
                match deleted {
                    Ok(()) => output.line(&format!("deleted {group}"))?,
                    Err(error @ GroupOpError::NonEmptyGroup) => {
                        return Err(CliError::failed(format!("group {group}: {error}"))
                            .hint("stop its consumers first; `weir group describe` shows them"));
                    }
                    Err(error) => return Err(CliError::failed(format!("group {group}: {error}"))),
                }
            }
            Ok(())
        })
        .await
}
