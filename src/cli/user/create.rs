//! `weir user create`.

use clap::Args;

use super::{CliError, Context, PasswordArgs, user_name};
use crate::broker::{UsersError, may_everyone};
use crate::state::access::{AccessAction, AccessError, Verifiers};

/// Create a user.
///
/// Without a password nobody can log in as this user with one; a certificate may still tell that somebody is this user.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Its name. Access rules name it as User:NAME.
    #[arg(value_name = "NAME")]
    name: String,

    #[command(flatten)]
    password: PasswordArgs,

    /// Create it without a password.
    #[arg(long, conflicts_with_all = ["password_stdin", "password_file"])]
    no_password: bool,

    /// Whether it may do everything, whatever the rules say.
    #[arg(long)]
    superuser: bool,
}

pub(super) async fn run(command: &Create, context: &mut Context) -> Result<(), CliError> {
    let user = user_name(&command.name)?;
    let password = command.password.read()?;
    if password.is_none() && !command.no_password {
        return Err(CliError::usage("a password is missing").hint(
            "--password-stdin reads it from stdin, --password-file FILE from a file; with --no-password there is none",
        ));
    }
    context
        .with_client(async |client, output| {
            let broker = client.broker();
            let verifiers = match &password {
                Some(password) => broker
                    .verifiers(password)
                    .await
                    .map_err(|error| CliError::usage(error.to_string()))?,
                None => Verifiers::new(),
            };
            let state = broker.users(client.session()).await?;
            if state.access().is_open() && command.superuser {
                output.line(
                    "nobody was defined, so everybody could do everything. That ends now: superusers may do everything, \
                     others what access rules allow (`weir acl add`), and clients that do not log in are User:ANONYMOUS",
                )?;
                if may_everyone(&state) {
                    output.line(
                        "but allow.everyone.if.no.acl.found is true: whoever it is may do all about which there is no rule. \
                         `weir cluster set allow.everyone.if.no.acl.found=false` ends that, too",
                    )?;
                }
                output.flush()?;
            }
            let action = AccessAction::CreateUser {
                user: user.clone(),
                superuser: command.superuser,
                verifiers,
            };
            match broker.change_users(client.session(), action).await {
                Err(UsersError::Refused(AccessError::NoAdministrator)) => {
                    Err(CliError::failed("the first user has to be a superuser: nobody else could create more")
                        .hint("add --superuser, or create a superuser first"))
                }
                changed => {
                    changed?;
                    let what = if command.superuser { "superuser" } else { "user" };
                    output.line(&format!("created {what} {}", user.as_str().escape_debug()))
                }
            }
        })
        .await
}
