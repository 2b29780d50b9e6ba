//! The administration of groups: ListGroups (KIP-518, KIP-848), DescribeGroups, DeleteGroups (KIP-229).

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    GroupId as WireGroupId, ListGroupsRequest, ListGroupsResponse,
};
use kafka_protocol::protocol::StrBytes;

use crate::broker::{GroupDescription, GroupOpError, Resource};

use super::super::context::{Answer, Context};
use super::super::errors;
use super::groups::{code, group_id};
use super::items::once;
use super::{allowed, text};

/// The type of every group here (KIP-848 has `consumer`).
const TYPE: &str = "classic";

/// The state of a group that does not exist.
const DEAD: &str = "Dead";

pub(super) async fn list(
    context: &Context,
    request: ListGroupsRequest,
) -> Answer<ListGroupsResponse> {
    let response = ListGroupsResponse::default();
    let groups = match context.broker().list_groups(&context.session).await {
        Ok(groups) => groups,
        Err(error) => {
            return Ok(response.with_error_code(context.fault(&errors::group(&error)).0));
        }
    };
    let wanted = |filter: &[StrBytes], found: &str| {
        filter.is_empty() || filter.iter().any(|one| one.eq_ignore_ascii_case(found))
    };
    let groups = groups
        .into_iter()
        .filter(|group| {
            wanted(&request.states_filter, group.state) && wanted(&request.types_filter, TYPE)
        })
        .map(|group| {
            let listed = ListedGroup::default()
                .with_group_id(WireGroupId(text(group.group.as_str())))
                .with_protocol_type(text(group.protocol_type));
            // Later fields can be set only where the version has them.
            let listed = match context.version {
                4.. => listed.with_group_state(text(group.state)),
                _ => listed,
            };
            match context.version {
                5.. => listed.with_group_type(text(TYPE)),
                _ => listed,
            }
        });
    Ok(response.with_groups(groups.collect()))
}

pub(super) async fn describe(
    context: &Context,
    request: DescribeGroupsRequest,
) -> Answer<DescribeGroupsResponse> {
    let mut groups = Vec::with_capacity(request.groups.len());
    for asked in once(request.groups, Clone::clone) {
        let outcome = match group_id(&asked, true) {
            Ok(group) => {
                let broker = context.broker();
                broker.describe_group(&context.session, &group).await
            }
            Err(error) => Err(error),
        };
        let answer = DescribedGroup::default()
            .with_group_id(asked)
            .with_authorized_operations(allowed::NOT_ASKED);
        let missing = |group: &GroupDescription| group.state == DEAD && group.members.is_empty();
        groups.push(match outcome {
            // Since version 6 a group that does not exist is an error (KIP-1043).
            Ok(group) if context.version >= 6 && missing(&group) => {
                let fault = errors::group(&GroupOpError::GroupIdNotFound);
                let (code, message) = context.fault(&fault);
                answer
                    .with_error_code(code)
                    .with_error_message(message)
                    .with_group_state(text(DEAD))
            }
            Ok(group) => described(
                context,
                answer,
                group,
                request.include_authorized_operations,
            ),
            Err(error) => {
                let (code, message) = context.fault(&errors::group(&error));
                let answer = answer.with_error_code(code).with_group_state(text(""));
                match context.version {
                    6.. => answer.with_error_message(message),
                    _ => answer,
                }
            }
        });
    }
    Ok(DescribeGroupsResponse::default().with_groups(groups))
}

fn described(
    context: &Context,
    answer: DescribedGroup,
    group: GroupDescription,
    include_operations: bool,
) -> DescribedGroup {
    let members = group.members.into_iter().map(|member| {
        let described = DescribedGroupMember::default()
            .with_member_id(text(member.member.as_str()))
            .with_client_id(text(member.client_id))
            .with_client_host(text(member.client_host))
            .with_member_metadata(member.metadata)
            .with_member_assignment(member.assignment);
        match context.version {
            4.. => described.with_group_instance_id(member.instance.map(text)),
            _ => described,
        }
    });
    let answer = answer
        .with_group_state(text(group.state))
        .with_protocol_type(text(group.protocol_type))
        .with_protocol_data(text(group.protocol))
        .with_members(members.collect());
    if context.version >= 3 && include_operations {
        let group = Resource::group(group.group.as_str());
        answer.with_authorized_operations(allowed::on(context, &group))
    } else {
        answer
    }
}

pub(super) async fn delete(
    context: &Context,
    request: DeleteGroupsRequest,
) -> Answer<DeleteGroupsResponse> {
    let mut results = Vec::with_capacity(request.groups_names.len());
    for asked in request.groups_names {
        let outcome = match group_id(&asked, true) {
            Ok(group) => {
                context
                    .broker()
                    .delete_group(&context.session, &group)
                    .await
            }
            Err(error) => Err(error),
        };
        results.push(
            DeletableGroupResult::default()
                .with_group_id(asked)
                .with_error_code(code(context, outcome)),
        );
    }
    Ok(DeleteGroupsResponse::default().with_results(results))
}
