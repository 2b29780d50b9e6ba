//! `weir acl test`.

use clap::Args;

use super::{CliError, Context, ResourceArgs};
use crate::state::access::{Operation, Verdict};
use crate::types::Principal;

/// Say whether somebody may do something, and which rule says so. The exit code is 0 if it is allowed, else 1.
#[derive(Debug, Args)]
pub(crate) struct Test {
    /// Who: `User:NAME`, or `User:ANONYMOUS` for a client that does not log in.
    #[arg(value_name = "PRINCIPAL")]
    principal: String,

    /// What: read, write, and so on.
    #[arg(value_name = "OPERATION")]
    operation: Operation,

    #[command(flatten)]
    resource: ResourceArgs,

    /// From which address.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: String,
}

pub(super) async fn run(command: &Test, context: &mut Context) -> Result<(), CliError> {
    let principal =
        Principal::new(&command.principal).map_err(|error| CliError::usage(error.to_string()))?;
    let resources = command.resource.required()?;
    context
        .with_client(async |client, output| {
            let mut denied = None;
            for (kind, name) in &resources {
                let who = (principal.as_str(), command.host.as_str());
                let broker = client.broker();
                let verdict = broker
                    .judge(client.session(), who, command.operation, (*kind, *name))
                    .await?;
                let what = format!(
                    "{} {} {kind} {}",
                    principal.as_str().escape_debug(),
                    command.operation,
                    name.escape_debug()
                );
                let line = match verdict.allows() {
                    true => format!("allowed: {what}: {}", why(&verdict)),
                    false => format!("denied: {what}: {}", why(&verdict)),
                };
                output.line(&line)?;
                if !verdict.allows() {
                    denied = denied.or(Some(what));
                }
            }
            match denied {
                None => Ok(()),
                Some(what) => Err(CliError::failed(format!("{what} is denied"))),
            }
        })
        .await
}

fn why(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Open => "nobody is defined, so everybody may do everything".to_owned(),
        Verdict::Superuser => "it is a superuser".to_owned(),
        Verdict::NoUser => "the user is disabled".to_owned(),
        Verdict::Rule(rule) => format!("by the rule {rule}"),
        Verdict::NoRules(true) => {
            "no rule is about it, and allow.everyone.if.no.acl.found is true".to_owned()
        }
        Verdict::NoRules(false) => "no rule is about it".to_owned(),
        Verdict::NotAllowed => "no rule about it allows this".to_owned(),
    }
}
