//! `weir acl add`.

use clap::Args;

use super::{CliError, Context, RuleArgs};

/// Add a rule for each principal, operation and resource that is named.
#[derive(Debug, Args)]
pub(crate) struct Add {
    #[command(flatten)]
    rule: RuleArgs,
}

pub(super) async fn run(command: &Add, context: &mut Context) -> Result<(), CliError> {
    let rules = command.rule.rules()?;
    context
        .with_client(async |client, output| {
            let added = client
                .broker()
                .add_access_rules(client.session(), rules.clone())
                .await?;
            for (rule, added) in rules.iter().zip(added) {
                added.map_err(|error| CliError::failed(error.to_string()))?;
                output.line(&format!("added {rule}"))?;
            }
            Ok(())
        })
        .await
}
