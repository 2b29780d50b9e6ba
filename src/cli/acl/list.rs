//! `weir acl list`.

use clap::Args;

use super::output::{OutputArgs, OutputFormat};
use super::{CliError, Context, ResourceArgs};
use crate::state::access::{AccessRule, PatternFilter, RuleFilter};

/// List the rules: all of them, or those about somebody or something.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Those about this principal alone.
    #[arg(long, value_name = "PRINCIPAL")]
    principal: Option<String>,

    #[command(flatten)]
    resource: ResourceArgs,

    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run(command: &List, context: &mut Context) -> Result<(), CliError> {
    let named = command.resource.named();
    let of = |kind, name: Option<&str>| RuleFilter {
        kind,
        pattern: PatternFilter::Match,
        name: name.map(str::to_owned),
        principal: command.principal.clone(),
        ..RuleFilter::default()
    };
    let filters: Vec<RuleFilter> = match named.is_empty() {
        true => vec![of(None, None)],
        false => named
            .iter()
            .map(|(kind, name)| of(Some(*kind), Some(*name)))
            .collect(),
    };
    context
        .with_client(async |client, output| {
            let all = client
                .broker()
                .access_rules(client.session(), &RuleFilter::default())
                .await?;
            let matching = |rule: &AccessRule| filters.iter().any(|filter| filter.matches(rule));
            let rules: Vec<AccessRule> = all.into_iter().filter(matching).collect();
            if command.output.output == OutputFormat::Json {
                return output.json(&rules);
            }
            let rows: Vec<Vec<String>> = rows(&rules);
            output.table(
                &[
                    "RESOURCE",
                    "PATTERN",
                    "NAME",
                    "PRINCIPAL",
                    "",
                    "OPERATION",
                    "HOST",
                ],
                &rows,
            )
        })
        .await
}

fn rows(rules: &[AccessRule]) -> Vec<Vec<String>> {
    let row = |AccessRule { resource, entry }: &AccessRule| {
        vec![
            resource.kind.to_string(),
            resource.pattern.to_string(),
            resource.name.escape_debug().to_string(),
            entry.principal.as_str().escape_debug().to_string(),
            entry.permission.to_string(),
            entry.operation.to_string(),
            entry.host.escape_debug().to_string(),
        ]
    };
    rules.iter().map(row).collect()
}
