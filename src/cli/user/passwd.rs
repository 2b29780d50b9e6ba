//! `weir user passwd`.

use std::collections::BTreeSet;

use clap::Args;

use super::{CliError, Context, PasswordArgs, user_name};
use crate::broker::UsersError;
use crate::state::access::{AccessAction, AccessError};

/// Set the password of a user. Connections that have logged in stay.
#[derive(Debug, Args)]
pub(crate) struct Passwd {
    /// Its name.
    #[arg(value_name = "NAME")]
    name: String,

    #[command(flatten)]
    password: PasswordArgs,
}

pub(super) async fn run(command: &Passwd, context: &mut Context) -> Result<(), CliError> {
    let user = user_name(&command.name)?;
    let Some(password) = command.password.read()? else {
        return Err(CliError::usage("the new password is missing")
            .hint("--password-stdin reads it from stdin, --password-file FILE from a file"));
    };
    context
        .with_client(async |client, output| {
            let broker = client.broker();
            let state = broker.users(client.session()).await?;
            if state.access().user(user.as_str()).is_none() {
                let unknown = AccessError::UnknownUser(user.clone());
                return Err(CliError::from(UsersError::Refused(unknown)).hint(
                    "`weir user list` shows the users, `weir user create NAME` creates one",
                ));
            }
            let set = broker
                .verifiers(&password)
                .await
                .map_err(|error| CliError::usage(error.to_string()))?;
            let action = AccessAction::AlterVerifiers {
                user: user.clone(),
                set,
                remove: BTreeSet::new(),
            };
            broker.change_users(client.session(), action).await?;
            output.line(&format!(
                "set the password of {}",
                user.as_str().escape_debug()
            ))
        })
        .await
}
