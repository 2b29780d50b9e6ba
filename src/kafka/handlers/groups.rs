//! The membership of consumer groups: JoinGroup, SyncGroup, Heartbeat, LeaveGroup.
//!
//! Texts and bytes that the broker keeps are copied out of the frame, which they would otherwise keep
//! in memory as a whole.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use crate::broker::{GroupOpError, Identity, JoinRequest, LeavingMember, SyncRequest};
use crate::types::{Generation, GroupId, MemberId};

use super::super::context::{Answer, Context};
use super::super::errors;
use super::items::unanswered;
use super::{millis, text};

/// A group's id. Members need one that is not empty.
pub(super) fn group_id(id: &str, may_be_empty: bool) -> Result<GroupId, GroupOpError> {
    if id.is_empty() && !may_be_empty {
        return Err(GroupOpError::InvalidGroupId);
    }
    GroupId::new(id).map_err(|_| GroupOpError::InvalidGroupId)
}

fn member_id(id: &str) -> Option<MemberId> {
    (!id.is_empty()).then(|| MemberId::from(id))
}

/// The code of an outcome.
pub(super) fn code(context: &Context, outcome: Result<(), GroupOpError>) -> i16 {
    match outcome {
        Ok(()) => 0,
        Err(error) => context.fault(&errors::group(&error)).0,
    }
}

pub(super) async fn join(
    context: &Context,
    request: JoinGroupRequest,
) -> Answer<JoinGroupResponse> {
    let given = request.member_id.clone();
    let outcome = match join_request(context.version, request) {
        Ok(request) => context.broker().join_group(&context.session, request).await,
        Err(error) => Err(error),
    };
    let response = JoinGroupResponse::default();
    Ok(match outcome {
        Ok(joined) => {
            let members = joined.members.into_iter().map(|member| {
                JoinGroupResponseMember::default()
                    .with_member_id(text(member.member.as_str()))
                    .with_group_instance_id(member.instance.map(text))
                    .with_metadata(member.metadata)
            });
            response
                .with_generation_id(joined.generation.0)
                .with_protocol_type(Some(text(joined.protocol_type)))
                .with_protocol_name(Some(text(joined.protocol)))
                .with_leader(text(joined.leader.as_str()))
                .with_skip_assignment(context.version >= 9 && joined.skip_assignment)
                .with_member_id(text(joined.member.as_str()))
                .with_members(members.collect())
        }
        Err(error) => {
            let (code, _) = context.fault(&errors::group(&error));
            let member = match &error {
                GroupOpError::MemberIdRequired(member) => text(member.as_str()),
                _ => given,
            };
            // The protocol's name may be null since version 7.
            let protocol = (context.version < 7).then(StrBytes::default);
            response
                .with_error_code(code)
                .with_generation_id(-1)
                .with_protocol_type(None)
                .with_protocol_name(protocol)
                .with_member_id(member)
        }
    })
}

fn join_request(version: i16, request: JoinGroupRequest) -> Result<JoinRequest, GroupOpError> {
    let instance = request.group_instance_id.map(|id| id.to_string());
    // Negative timeouts become zero, which no group allows.
    let session_timeout = millis(request.session_timeout_ms);
    // Before version 1 there was one timeout for both.
    let rebalance_timeout = if version == 0 {
        session_timeout
    } else {
        millis(request.rebalance_timeout_ms)
    };
    let protocols = request.protocols.into_iter().map(|protocol| {
        let metadata = Bytes::copy_from_slice(&protocol.metadata);
        (protocol.name.to_string(), metadata)
    });
    Ok(JoinRequest {
        group: group_id(&request.group_id, false)?,
        member: member_id(&request.member_id),
        // KIP-394, but for static members.
        require_known_member: version >= 4 && instance.is_none(),
        instance,
        session_timeout,
        rebalance_timeout,
        protocol_type: request.protocol_type.to_string(),
        protocols: protocols.collect(),
        supports_skip_assignment: version >= 9,
    })
}

fn identity(
    group: &str,
    member: &str,
    instance: Option<&StrBytes>,
    generation: i32,
) -> Result<Identity, GroupOpError> {
    Ok(Identity {
        group: group_id(group, false)?,
        member: MemberId::from(member),
        instance: instance.map(StrBytes::to_string),
        generation: Generation(generation),
    })
}

pub(super) async fn sync(
    context: &Context,
    request: SyncGroupRequest,
) -> Answer<SyncGroupResponse> {
    let response = SyncGroupResponse::default();
    // Both are mandatory since there are fields for them.
    let told = request.protocol_type.is_some() && request.protocol_name.is_some();
    if context.version >= 5 && !told {
        let code = context.code(ResponseError::InconsistentGroupProtocol);
        return Ok(response.with_error_code(code));
    }
    let identity = identity(
        &request.group_id,
        &request.member_id,
        request.group_instance_id.as_ref(),
        request.generation_id,
    );
    let outcome = match identity {
        Ok(identity) => {
            let assignments = request.assignments.into_iter().map(|assignment| {
                let member = MemberId::from(assignment.member_id.as_str());
                (member, Bytes::copy_from_slice(&assignment.assignment))
            });
            let request = SyncRequest {
                identity,
                protocol_type: request.protocol_type.map(|text| text.to_string()),
                protocol: request.protocol_name.map(|text| text.to_string()),
                assignments: assignments.collect(),
            };
            context.broker().sync_group(&context.session, request).await
        }
        Err(error) => Err(error),
    };
    Ok(match outcome {
        Ok(synced) => response
            .with_protocol_type(Some(text(synced.protocol_type)))
            .with_protocol_name(Some(text(synced.protocol)))
            .with_assignment(synced.assignment),
        Err(error) => response.with_error_code(context.fault(&errors::group(&error)).0),
    })
}

pub(super) async fn heartbeat(
    context: &Context,
    request: HeartbeatRequest,
) -> Answer<HeartbeatResponse> {
    let identity = identity(
        &request.group_id,
        &request.member_id,
        request.group_instance_id.as_ref(),
        request.generation_id,
    );
    let outcome = match identity {
        Ok(identity) => {
            context
                .broker()
                .heartbeat(&context.session, &identity)
                .await
        }
        Err(error) => Err(error),
    };
    Ok(HeartbeatResponse::default().with_error_code(code(context, outcome)))
}

pub(super) async fn leave(
    context: &Context,
    request: LeaveGroupRequest,
) -> Answer<LeaveGroupResponse> {
    // Before version 3 one member leaves, and its outcome is that of the request.
    let leaving: Vec<(StrBytes, Option<StrBytes>)> = if context.version >= 3 {
        let members = request.members.into_iter();
        members
            .map(|member| (member.member_id, member.group_instance_id))
            .collect()
    } else {
        vec![(request.member_id, None)]
    };
    let members = leaving.iter().map(|(member, instance)| LeavingMember {
        member: member_id(member),
        instance: instance.as_ref().map(StrBytes::to_string),
    });
    let outcome = match group_id(&request.group_id, false) {
        Ok(group) => {
            let broker = context.broker();
            broker
                .leave_group(&context.session, &group, members.collect())
                .await
        }
        Err(error) => Err(error),
    };
    let response = LeaveGroupResponse::default();
    let outcomes = match outcome {
        Ok(outcomes) => outcomes,
        Err(error) => {
            return Ok(response.with_error_code(context.fault(&errors::group(&error)).0));
        }
    };
    if context.version < 3 {
        let code = match outcomes.into_iter().next() {
            Some(outcome) => code(context, outcome),
            None => context.fault(&unanswered()).0,
        };
        return Ok(response.with_error_code(code));
    }
    let members = leaving.into_iter().zip(outcomes);
    let members = members.map(|((member, instance), outcome)| {
        MemberResponse::default()
            .with_member_id(member)
            .with_group_instance_id(instance)
            .with_error_code(code(context, outcome))
    });
    Ok(response.with_members(members.collect()))
}
