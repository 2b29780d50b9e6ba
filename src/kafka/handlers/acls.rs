//! CreateAcls, DescribeAcls and DeleteAcls (KIP-140, KIP-290).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::create_acls_response::AclCreationResult;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::delete_acls_response::{
    DeleteAclsFilterResult, DeleteAclsMatchingAcl,
};
use kafka_protocol::messages::describe_acls_response::{AclDescription, DescribeAclsResource};
use kafka_protocol::messages::{
    CreateAclsRequest, CreateAclsResponse, DeleteAclsRequest, DeleteAclsResponse,
    DescribeAclsRequest, DescribeAclsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::super::context::{Answer, Context};
use super::super::errors::{self, Fault};
use super::text;
use crate::state::access::{
    AccessRule, Entry, Operation, PatternFilter, PatternType, Permission, ResourcePattern,
    ResourceType, RuleFilter,
};
use crate::types::Principal;

/// Kafka's code that stands for any, in filters.
const ANY: i8 = 1;

/// Kafka's pattern type that stands for all patterns that match a name.
const MATCH: i8 = 2;

/// About how many bytes a rule takes in an answer.
const RULE: usize = 160;

fn invalid(what: impl Into<String>) -> Fault {
    Fault::new(ResponseError::InvalidRequest, what)
}

fn rule(asked: &AclCreation) -> Result<AccessRule, Fault> {
    let what = |what: &str, code: i8| invalid(format!("the ACL has an invalid {what}: {code}"));
    let kind = ResourceType::of_code(asked.resource_type);
    let pattern = PatternType::of_code(asked.resource_pattern_type);
    let operation = Operation::of_code(asked.operation);
    let permission = Permission::of_code(asked.permission_type);
    let principal = Principal::new(&asked.principal).map_err(|why| invalid(why.to_string()))?;
    Ok(AccessRule {
        resource: ResourcePattern {
            kind: kind.ok_or_else(|| what("resource type", asked.resource_type))?,
            pattern: pattern.ok_or_else(|| what("pattern type", asked.resource_pattern_type))?,
            name: asked.resource_name.as_str().into(),
        },
        entry: Entry {
            principal,
            host: asked.host.as_str().into(),
            operation: operation.ok_or_else(|| what("operation", asked.operation))?,
            permission: permission.ok_or_else(|| what("permission type", asked.permission_type))?,
        },
    })
}

pub(super) async fn create(
    context: &Context,
    request: CreateAclsRequest,
) -> Answer<CreateAclsResponse> {
    let asked: Vec<Result<AccessRule, Fault>> = request.creations.iter().map(rule).collect();
    let rules = asked.iter().flatten().cloned().collect();
    let added = context
        .broker()
        .add_access_rules(&context.session, rules)
        .await;
    let result = |fault: Option<Fault>| {
        let (code, message) = fault.map_or((0, None), |fault| context.fault(&fault));
        AclCreationResult::default()
            .with_error_code(code)
            .with_error_message(message)
    };
    let results: Vec<AclCreationResult> = match added {
        Ok(outcomes) => {
            let mut outcomes = outcomes.into_iter();
            let each = asked.into_iter().map(|asked| match asked {
                Err(fault) => result(Some(fault)),
                Ok(_) => {
                    let outcome = outcomes.next().unwrap_or(Ok(()));
                    result(outcome.err().map(|why| errors::access(&why)))
                }
            });
            each.collect()
        }
        Err(why) => {
            let fault = errors::users(&why);
            asked.iter().map(|_| result(Some(fault.clone()))).collect()
        }
    };
    Ok(CreateAclsResponse::default().with_results(results))
}

/// A filter by Kafka's codes: those of types, and what they are to be.
fn filter(
    (kind, pattern, operation, permission): (i8, i8, i8, i8),
    (name, principal, host): (&Option<StrBytes>, &Option<StrBytes>, &Option<StrBytes>),
) -> Result<RuleFilter, Fault> {
    fn of<T>(what: &str, code: i8, found: Option<T>) -> Result<Option<T>, Fault> {
        match (code, found) {
            (ANY, _) => Ok(None),
            (_, Some(found)) => Ok(Some(found)),
            _ => Err(invalid(format!("the filter has an invalid {what}: {code}"))),
        }
    }
    let owned = |text: &Option<StrBytes>| text.as_ref().map(StrBytes::to_string);
    Ok(RuleFilter {
        kind: of("resource type", kind, ResourceType::of_code(kind))?,
        pattern: match pattern {
            MATCH => PatternFilter::Match,
            code => of("pattern type", code, PatternType::of_code(code))?
                .map_or(PatternFilter::Any, PatternFilter::Is),
        },
        name: owned(name),
        principal: owned(principal),
        host: owned(host),
        operation: of("operation", operation, Operation::of_code(operation))?,
        permission: of(
            "permission type",
            permission,
            Permission::of_code(permission),
        )?,
    })
}

pub(super) async fn describe(
    context: &Context,
    request: DescribeAclsRequest,
) -> Answer<DescribeAclsResponse> {
    let codes = (
        request.resource_type_filter,
        request.pattern_type_filter,
        request.operation,
        request.permission_type,
    );
    let texts = (
        &request.resource_name_filter,
        &request.principal_filter,
        &request.host_filter,
    );
    let found = match filter(codes, texts) {
        Ok(filter) => {
            let found = context
                .broker()
                .access_rules(&context.session, &filter)
                .await;
            found.map_err(|why| errors::users(&why))
        }
        Err(fault) => Err(fault),
    };
    let response = DescribeAclsResponse::default();
    let rules = match found {
        Ok(rules) => rules,
        Err(fault) => {
            let (code, message) = context.fault(&fault);
            return Ok(response.with_error_code(code).with_error_message(message));
        }
    };
    context.reserve(rules.len() * RULE).await;
    let mut resources: Vec<DescribeAclsResource> = Vec::new();
    let mut last: Option<ResourcePattern> = None;
    for AccessRule { resource, entry } in rules {
        if last.as_ref() != Some(&resource) {
            resources.push(
                DescribeAclsResource::default()
                    .with_resource_type(resource.kind.code())
                    .with_resource_name(text(&*resource.name))
                    .with_pattern_type(resource.pattern.code()),
            );
            last = Some(resource);
        }
        let described = AclDescription::default()
            .with_principal(text(entry.principal.as_str()))
            .with_host(text(&*entry.host))
            .with_operation(entry.operation.code())
            .with_permission_type(entry.permission.code());
        if let Some(of) = resources.last_mut() {
            of.acls.push(described);
        }
    }
    Ok(response.with_resources(resources))
}

pub(super) async fn delete(
    context: &Context,
    request: DeleteAclsRequest,
) -> Answer<DeleteAclsResponse> {
    let of = |asked: &DeleteAclsFilter| {
        let codes = (
            asked.resource_type_filter,
            asked.pattern_type_filter,
            asked.operation,
            asked.permission_type,
        );
        let texts = (
            &asked.resource_name_filter,
            &asked.principal_filter,
            &asked.host_filter,
        );
        filter(codes, texts)
    };
    let asked: Vec<Result<RuleFilter, Fault>> = request.filters.iter().map(of).collect();
    let filters = asked.iter().flatten().cloned().collect();
    let removed = context
        .broker()
        .remove_access_rules(&context.session, filters)
        .await;
    let failed = |fault: &Fault| {
        let (code, message) = context.fault(fault);
        DeleteAclsFilterResult::default()
            .with_error_code(code)
            .with_error_message(message)
    };
    let results: Vec<DeleteAclsFilterResult> = match removed {
        Ok(removed) => {
            let rules: usize = removed.iter().map(Vec::len).sum();
            context.reserve(rules * RULE).await;
            let mut removed = removed.into_iter();
            let each = asked.iter().map(|asked| match asked {
                Err(fault) => failed(fault),
                Ok(_) => {
                    let of_this = removed.next().unwrap_or_default().into_iter();
                    DeleteAclsFilterResult::default()
                        .with_matching_acls(of_this.map(matching).collect())
                }
            });
            each.collect()
        }
        Err(why) => {
            let fault = errors::users(&why);
            asked.iter().map(|_| failed(&fault)).collect()
        }
    };
    Ok(DeleteAclsResponse::default().with_filter_results(results))
}

fn matching(rule: AccessRule) -> DeleteAclsMatchingAcl {
    let AccessRule { resource, entry } = rule;
    DeleteAclsMatchingAcl::default()
        .with_resource_type(resource.kind.code())
        .with_resource_name(text(&*resource.name))
        .with_pattern_type(resource.pattern.code())
        .with_principal(text(entry.principal.as_str()))
        .with_host(text(&*entry.host))
        .with_operation(entry.operation.code())
        .with_permission_type(entry.permission.code())
}
