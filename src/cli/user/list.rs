//! `weir user list`.

use clap::Args;
use serde::Serialize;

use super::output::{OutputArgs, OutputFormat};
use super::{CliError, Context};

/// List the users.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Serialize)]
struct Row {
    user: String,
    superuser: bool,
    disabled: bool,
    /// The mechanisms for which it has a password.
    passwords: Vec<&'static str>,
    groups: Vec<String>,
}

pub(super) async fn run(command: &List, context: &mut Context) -> Result<(), CliError> {
    context
        .with_client(async |client, output| {
            let state = client.broker().users(client.session()).await?;
            let access = state.access();
            let rows: Vec<Row> = access
                .users()
                .map(|(name, user)| Row {
                    user: name.to_string(),
                    superuser: user.superuser,
                    disabled: user.disabled,
                    passwords: user.verifiers.keys().map(|one| one.name()).collect(),
                    groups: access
                        .groups_of(name.as_str())
                        .map(ToString::to_string)
                        .collect(),
                })
                .collect();
            if command.output.output == OutputFormat::Json {
                return output.json(&rows);
            }
            if access.is_open() {
                return output.line("nobody is defined: everybody may do everything");
            }
            let yes = |is: bool| if is { "yes" } else { "-" }.to_owned();
            let list = |list: &[String]| match list {
                [] => "-".to_owned(),
                list => list.join(","),
            };
            let cells: Vec<Vec<String>> = rows
                .into_iter()
                .map(|row| {
                    let passwords: Vec<String> =
                        row.passwords.iter().map(ToString::to_string).collect();
                    vec![
                        row.user.escape_debug().to_string(),
                        yes(row.superuser),
                        yes(row.disabled),
                        list(&passwords),
                        list(&row.groups),
                    ]
                })
                .collect();
            output.table(
                &["USER", "SUPERUSER", "DISABLED", "PASSWORDS", "GROUPS"],
                &cells,
            )
        })
        .await
}
