//! `weir user delete`.

use clap::Args;

use super::{CliError, Context, user_name};
use crate::broker::UsersError;
use crate::state::access::{AccessAction, AccessError, RuleFilter};
use crate::types::Principal;

/// Delete users, with their passwords and memberships. Connections that have logged in as such a user may do nothing
/// from then on.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Their names.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,

    /// Delete the last user although everybody may do everything then.
    #[arg(long)]
    open_to_everybody: bool,
}

pub(super) async fn run(command: &Delete, context: &mut Context) -> Result<(), CliError> {
    context
        .with_client(async |client, output| {
            let (broker, session) = (client.broker(), client.session());
            for name in &command.names {
                let user = user_name(name)?;
                let action = AccessAction::DeleteUser {
                    user: user.clone(),
                    open_to_everybody: command.open_to_everybody,
                };
                match broker.change_users(session, action).await {
                    Err(UsersError::Refused(refused @ AccessError::OpensToEverybody)) => {
                        return Err(CliError::failed(refused.to_string())
                            .hint("create another superuser first, or add --open-to-everybody"));
                    }
                    deleted => deleted?,
                }
                output.line(&format!("deleted {}", user.as_str().escape_debug()))?;
                let about = RuleFilter {
                    principal: Some(Principal::of_user(&user).to_string()),
                    ..RuleFilter::default()
                };
                let left = broker.access_rules(session, &about).await?;
                if !left.is_empty() {
                    let (count, name) = (left.len(), user.as_str().escape_debug());
                    output.line(&format!(
                        "{count} access rules about User:{name} are still there, for whoever has the name next; \
                         `weir acl remove --principal 'User:{name}' --all` removes them"
                    ))?;
                }
            }
            Ok(())
        })
        .await
}
