//! `weir acl`: access rules, which Kafka calls ACLs.
//!
//! Whoever can write to the bucket may do all of this: no rule is asked.

mod add;
mod list;
mod remove;
mod test;

use clap::{Args, Subcommand};

use super::context::Context;
use super::{CliError, output};
use crate::state::access::{
    AccessRule, Entry, Operation, PatternType, Permission, ResourcePattern, ResourceType,
};
use crate::types::Principal;

#[derive(Debug, Subcommand)]
pub(super) enum Acl {
    /// Add rules.
    Add(add::Add),
    /// List the rules.
    List(list::List),
    /// Remove rules.
    Remove(remove::Remove),
    /// Say whether somebody may do something, and which rule says so.
    Test(test::Test),
}

pub(super) async fn run(command: &Acl, context: &mut Context) -> Result<(), CliError> {
    match command {
        Acl::Add(command) => add::run(command, context).await,
        Acl::List(command) => list::run(command, context).await,
        Acl::Remove(command) => remove::run(command, context).await,
        Acl::Test(command) => test::run(command, context).await,
    }
}

/// What rules are about.
#[derive(Debug, Args)]
struct ResourceArgs {
    /// A topic, or `*` for all. May be repeated.
    #[arg(long, value_name = "NAME")]
    topic: Vec<String>,

    /// A consumer group, or `*` for all. May be repeated.
    #[arg(long, value_name = "ID")]
    group: Vec<String>,

    /// A transactional id, or `*` for all. May be repeated.
    #[arg(long, value_name = "ID")]
    transactional_id: Vec<String>,

    /// The cluster as a whole.
    #[arg(long)]
    cluster: bool,
}

impl ResourceArgs {
    /// Types and names, in this order.
    fn named(&self) -> Vec<(ResourceType, &str)> {
        let each = [
            (ResourceType::Topic, &self.topic),
            (ResourceType::Group, &self.group),
            (ResourceType::TransactionalId, &self.transactional_id),
        ];
        let named = each
            .into_iter()
            .flat_map(|(kind, names)| names.iter().map(move |name| (kind, name.as_str())));
        let cluster = self
            .cluster
            .then_some((ResourceType::Cluster, ResourcePattern::CLUSTER));
        named.chain(cluster).collect()
    }

    fn required(&self) -> Result<Vec<(ResourceType, &str)>, CliError> {
        let named = self.named();
        match named.is_empty() {
            true => Err(CliError::usage("it does not say what the rule is about")
                .hint("--topic, --group, --transactional-id and --cluster do")),
            false => Ok(named),
        }
    }
}

/// The words of rules.
#[derive(Debug, Args)]
struct RuleArgs {
    /// Whom to allow it: `User:NAME`, `User:*` for everybody, `Group:NAME`. May be repeated.
    #[arg(long, value_name = "PRINCIPAL")]
    allow: Vec<String>,

    /// Whom to deny it, whatever is allowed. May be repeated.
    #[arg(long, value_name = "PRINCIPAL")]
    deny: Vec<String>,

    /// What: read, write, create, delete, alter, describe, alter-configs, describe-configs, idempotent-write,
    /// cluster-action or all. May be repeated.
    #[arg(long, value_name = "OPERATION", required = true)]
    operation: Vec<Operation>,

    #[command(flatten)]
    resource: ResourceArgs,

    /// The names are beginnings of names.
    #[arg(long)]
    prefixed: bool,

    /// From which address; from all of them if it is not given.
    #[arg(long, value_name = "ADDRESS", default_value = "*")]
    host: String,
}

impl RuleArgs {
    fn rules(&self) -> Result<Vec<AccessRule>, CliError> {
        let allowed = self
            .allow
            .iter()
            .map(|principal| (principal, Permission::Allow));
        let denied = self
            .deny
            .iter()
            .map(|principal| (principal, Permission::Deny));
        let pattern = match self.prefixed {
            true => PatternType::Prefixed,
            false => PatternType::Literal,
        };
        let mut rules = Vec::new();
        for (principal, permission) in allowed.chain(denied) {
            let principal =
                Principal::new(principal).map_err(|error| CliError::usage(error.to_string()))?;
            for (kind, name) in self.resource.required()? {
                for operation in &self.operation {
                    let rule = AccessRule {
                        resource: ResourcePattern {
                            kind,
                            // There is one cluster.
                            pattern: match kind {
                                ResourceType::Cluster => PatternType::Literal,
                                _ => pattern,
                            },
                            name: name.into(),
                        },
                        entry: Entry {
                            principal: principal.clone(),
                            host: self.host.as_str().into(),
                            operation: *operation,
                            permission,
                        },
                    };
                    if let Some(fault) = rule.fault() {
                        return Err(CliError::usage(format!("{rule}: {fault}")));
                    }
                    rules.push(rule);
                }
            }
        }
        match rules.is_empty() {
            true => Err(CliError::usage("it does not say whom the rule is about")
                .hint("--allow User:NAME or --deny User:NAME")),
            false => Ok(rules),
        }
    }
}
