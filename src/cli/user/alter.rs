//! `weir user alter`.

use std::collections::BTreeSet;

use clap::Args;

use super::{CliError, Context, group_name, user_name};
use crate::state::access::AccessAction;

/// Change what a user may do at all, and the groups it is in.
#[derive(Debug, Args)]
pub(crate) struct Alter {
    /// Its name.
    #[arg(value_name = "NAME")]
    name: String,

    /// Whether it may do everything.
    #[arg(long, value_name = "yes|no", value_parser = yes_or_no)]
    superuser: Option<bool>,

    /// Whether it may do nothing, and cannot log in; connections that have logged in may do nothing from then on.
    #[arg(long, value_name = "yes|no", value_parser = yes_or_no)]
    disabled: Option<bool>,

    /// Add it to a group, which rules name as Group:NAME. May be repeated.
    #[arg(long, value_name = "GROUP")]
    add_to: Vec<String>,

    /// Remove it from a group. May be repeated.
    #[arg(long, value_name = "GROUP")]
    remove_from: Vec<String>,
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("it must be yes or no".to_owned()),
    }
}

pub(super) async fn run(command: &Alter, context: &mut Context) -> Result<(), CliError> {
    let user = user_name(&command.name)?;
    let mut actions = Vec::new();
    if command.superuser.is_some() || command.disabled.is_some() {
        actions.push(AccessAction::AlterUser {
            user: user.clone(),
            superuser: command.superuser,
            disabled: command.disabled,
        });
    }
    let this = BTreeSet::from([user.clone()]);
    for group in &command.add_to {
        let (group, add) = (group_name(group)?, this.clone());
        let remove = BTreeSet::new();
        actions.push(AccessAction::AlterGroup { group, add, remove });
    }
    for group in &command.remove_from {
        let (group, remove) = (group_name(group)?, this.clone());
        let add = BTreeSet::new();
        actions.push(AccessAction::AlterGroup { group, add, remove });
    }
    if actions.is_empty() {
        return Err(CliError::usage("it does not say what to change")
            .hint("--superuser, --disabled, --add-to and --remove-from change a user"));
    }
    context
        .with_client(async |client, output| {
            for action in actions {
                client
                    .broker()
                    .change_users(client.session(), action)
                    .await?;
            }
            output.line(&format!("altered {}", user.as_str().escape_debug()))
        })
        .await
}
