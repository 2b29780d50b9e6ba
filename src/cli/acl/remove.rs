//! `weir acl remove`.

use clap::Args;

use super::{CliError, Context, ResourceArgs};
use crate::state::access::{Operation, PatternFilter, PatternType, RuleFilter};

/// Remove the rules that are as described: what is not given may be anything.
#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// About whom.
    #[arg(long, value_name = "PRINCIPAL")]
    principal: Option<String>,

    /// About which operation.
    #[arg(long, value_name = "OPERATION")]
    operation: Option<Operation>,

    #[command(flatten)]
    resource: ResourceArgs,

    /// The names are beginnings of names.
    #[arg(long)]
    prefixed: bool,

    /// Remove them although no resource is named: all rules of the principal, or all rules there are.
    #[arg(long)]
    all: bool,
}

pub(super) async fn run(command: &Remove, context: &mut Context) -> Result<(), CliError> {
    let named = command.resource.named();
    if named.is_empty() && !command.all {
        return Err(CliError::usage("it does not say what the rules are about").hint(
            "--topic, --group, --transactional-id and --cluster do; with --all it is everything",
        ));
    }
    let pattern = match command.prefixed {
        true => PatternType::Prefixed,
        false => PatternType::Literal,
    };
    let of = |kind, name: Option<&str>, pattern| RuleFilter {
        kind,
        pattern,
        name: name.map(str::to_owned),
        principal: command.principal.clone(),
        operation: command.operation,
        ..RuleFilter::default()
    };
    let filters: Vec<RuleFilter> = match named.is_empty() {
        true => vec![of(None, None, PatternFilter::Any)],
        false => named
            .iter()
            .map(|(kind, name)| of(Some(*kind), Some(*name), PatternFilter::Is(pattern)))
            .collect(),
    };
    context
        .with_client(async |client, output| {
            let removed = client
                .broker()
                .remove_access_rules(client.session(), filters)
                .await?;
            let mut count = 0;
            for rule in removed.iter().flatten() {
                output.line(&format!("removed {rule}"))?;
                count += 1;
            }
            match count {
                0 => Err(CliError::failed("there is no such rule")
                    .hint("`weir acl list` shows the rules")),
                _ => Ok(()),
            }
        })
        .await
}
