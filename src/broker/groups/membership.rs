//! Join, sync, heartbeat, leave.

use std::time::Duration;

use crate::broker::access::Permit;
use crate::broker::{Home, Session};
use crate::state::State;
use crate::state::group::{
    Assignment, GroupAction, GroupReply, Join, JoinedGroup, Leaver, Opaque, Phase, Protocol, Sync,
    SyncedMember, Voucher,
};
use crate::types::{GroupId, MemberId};

use super::coordinator::{Groups, unexpected};
use super::{
    GroupOpError, Identity, JoinRequest, Joined, JoinedMember, LeavingMember, SyncRequest, Synced,
};

/// How much longer than its rebalance timeout a member's request waits. Clients wait 5 s longer than that.
const MARGIN: Duration = Duration::from_secs(4);

/// How much of a client's name goes into its member id.
const MAX_NAME_IN_ID: usize = 255;

impl Groups {
    pub(super) async fn join(
        &self,
        _: Permit,
        session: &Session,
        request: JoinRequest,
    ) -> Result<Joined, GroupOpError> {
        check_group_id(&request.group)?;
        let settings = self.settings();
        let (min, max) = (settings.min_session_timeout, settings.max_session_timeout);
        if !(min..=max).contains(&request.session_timeout) {
            return Err(GroupOpError::InvalidSessionTimeout {
                asked: millis(request.session_timeout),
                min: millis(min),
                max: millis(max),
            });
        }
        let session = &self.arrives(session);
        let node = self.me().await?;
        let group = request.group.clone();
        let instance = request.instance.clone();
        let limit = request.rebalance_timeout + MARGIN;
        let known = request.member.is_some();
        let member = match &request.member {
            Some(member) => member.clone(),
            None => self.mint_member_id(session, instance.as_deref()),
        };
        let join = Join {
            member: member.clone(),
            known,
            instance: instance.clone(),
            node,
            client_id: session.client_id.clone().unwrap_or_default(),
            client_host: session
                .remote
                .map(|remote| format!("/{}", remote.ip()))
                .unwrap_or_default(),
            session_timeout_millis: millis(request.session_timeout),
            rebalance_timeout_millis: millis(request.rebalance_timeout),
            protocol_type: request.protocol_type,
            protocols: request
                .protocols
                .into_iter()
                .map(|(name, metadata)| Protocol {
                    name,
                    metadata: metadata.into(),
                })
                .collect(),
            require_known_member: request.require_known_member,
            supports_skip_assignment: request.supports_skip_assignment,
            max_size: settings.max_size,
            initial_delay_millis: millis(settings.initial_rebalance_delay),
        };
        let _following = self.logs.of(Home::Group(&group)).follow();
        let _waiting = self.sessions.wait(&group, &member, &self.env);
        let (state, reply) = self.act(session, &group, GroupAction::Join(join)).await?;
        match reply {
            GroupReply::MemberIdRequired => Err(GroupOpError::MemberIdRequired(member)),
            GroupReply::Joined(joined) => Ok(as_joined(member, joined)),
            GroupReply::AwaitJoin { .. } => {
                let answer = |state: &State| {
                    let found = state.group(&group);
                    let found = found.as_deref();
                    match found.and_then(|g| g.member(&member)) {
                        None => Some(Err(Self::lost(found, &member, instance.as_deref()))),
                        Some(m) if m.awaits_join() => None,
                        Some(_) => found.and_then(|g| g.joined(&member)).map(Ok),
                    }
                };
                let joined = self.wait_for(&group, state, limit, answer).await?;
                Ok(as_joined(member, joined))
            }
            other => Err(unexpected(&other)),
        }
    }

    pub(super) async fn sync(
        &self,
        _: Permit,
        session: &Session,
        request: SyncRequest,
    ) -> Result<Synced, GroupOpError> {
        let session = &self.arrives(session);
        let Identity {
            group,
            member,
            instance,
            generation,
        } = request.identity;
        check_group_id(&group)?;
        let assignments = request.assignments.into_iter();
        let sync = Sync {
            member: member.clone(),
            instance: instance.clone(),
            generation,
            node: self.me().await?,
            protocol_type: request.protocol_type,
            protocol: request.protocol,
            assignments: assignments
                .map(|(member, assignment)| Assignment {
                    member,
                    assignment: assignment.into(),
                })
                .collect(),
        };
        let _following = self.logs.of(Home::Group(&group)).follow();
        let _waiting = self.sessions.wait(&group, &member, &self.env);
        let (state, reply) = self.act(session, &group, GroupAction::Sync(sync)).await?;
        match reply {
            GroupReply::Synced(synced) => Ok(as_synced(synced)),
            GroupReply::AwaitSync => {
                let this = state.group(&group);
                let this = this.as_ref().and_then(|g| g.member(&member));
                let limit = this.map_or(Duration::ZERO, |m| m.rebalance_timeout()) + MARGIN;
                let answer = |state: &State| {
                    let found = state.group(&group);
                    let found = found.as_deref();
                    match found.map(|g| (g, g.member(&member))) {
                        Some((g, Some(_))) if g.generation() != generation => {
                            Some(Err(GroupOpError::RebalanceInProgress))
                        }
                        Some((g, Some(_))) => match g.phase() {
                            Phase::CompletingRebalance { .. } => None,
                            Phase::Stable { .. } => g.synced(&member).map(Ok),
                            _ => Some(Err(GroupOpError::RebalanceInProgress)),
                        },
                        _ => Some(Err(Self::lost(found, &member, instance.as_deref()))),
                    }
                };
                Ok(as_synced(
                    self.wait_for(&group, state, limit, answer).await?,
                ))
            }
            other => Err(unexpected(&other)),
        }
    }

    pub(super) async fn heartbeat(
        &self,
        _: Permit,
        session: &Session,
        identity: &Identity,
    ) -> Result<(), GroupOpError> {
        let Identity {
            group,
            member,
            instance,
            generation,
        } = identity;
        check_group_id(group)?;
        if let Some(group) = self.vouched_from_memory(identity) {
            return answer_of(group.phase);
        }
        // Something is amiss or new: the truth is in the log.
        let session = &self.arrives(session);
        let _following = self.logs.of(Home::Group(group)).follow();
        let state = self.fresh(Home::Group(group)).await?;
        let found = state
            .group(group)
            .ok_or(GroupOpError::UnknownMember(member.clone()))?;
        found.check_generation(member, instance.as_deref(), *generation)?;
        let adopt = GroupAction::Adopt {
            member: member.clone(),
            instance: instance.clone(),
            generation: *generation,
            node: self.me().await?,
        };
        let (state, _) = self.act(session, group, adopt).await?;
        self.heard_from(group, member);
        state
            .group(group)
            .map_or(Ok(()), |group| answer_of(group.phase()))
    }

    /// The group's phase, if this node may speak for the member without asking anybody: it vouches for it, its
    /// own lease holds, and the member says nothing that the state here does not know. Counts as a sign of life.
    fn vouched_from_memory(&self, identity: &Identity) -> Option<Vouched> {
        let Identity {
            group: id,
            member,
            instance,
            generation,
        } = identity;
        let state = self.logs.of(Home::Group(id)).state();
        let group = state.group(id)?;
        let found = group
            .check_generation(member, instance.as_deref(), *generation)
            .ok()?;
        let phase = group.phase();
        (self.speaks_for(&state, found.voucher())
            && self.sessions.touch_known(id, member, self.env.boot()))
        .then_some(Vouched { phase })
    }

    /// Whether this node is that voucher and its lease holds. A node that cannot renew its lease because it is
    /// cut off from the store must not tell members that all is well while the others give them up.
    pub(super) fn speaks_for(&self, state: &State, voucher: Voucher) -> bool {
        let Some(me) = state.node_of(self.incarnation) else {
            return false;
        };
        let silence = self.logs.of(Home::Cluster).silent_for(self.incarnation);
        let holds = state.node(me).is_some_and(|node| silence < node.lease());
        voucher == Voucher::Node(me) && holds
    }

    pub(super) async fn leave(
        &self,
        _: Permit,
        session: &Session,
        group: &GroupId,
        members: Vec<LeavingMember>,
    ) -> Result<Vec<Result<(), GroupOpError>>, GroupOpError> {
        check_group_id(group)?;
        let leaver = |m: &LeavingMember| Leaver {
            member: m.member.clone(),
            instance: m.instance.clone(),
        };
        let leave = GroupAction::Leave {
            members: members.iter().map(leaver).collect(),
        };
        match self.act(session, group, leave).await? {
            (_, GroupReply::Left(outcomes)) => {
                for member in members.iter().filter_map(|m| m.member.as_ref()) {
                    self.sessions.forget(group, member);
                }
                Ok(outcomes
                    .into_iter()
                    .map(|o| o.map_err(GroupOpError::from))
                    .collect())
            }
            (_, other) => Err(unexpected(&other)),
        }
    }

    fn mint_member_id(&self, session: &Session, instance: Option<&str>) -> MemberId {
        let name = instance
            .or(session.client_id.as_deref())
            .unwrap_or_default();
        let end = name.floor_char_boundary(MAX_NAME_IN_ID);
        MemberId::from(format!("{}-{}", &name[..end], self.env.random_uuid()).as_str())
    }
}

struct Vouched {
    phase: Phase,
}

/// What a member is told that shows a sign of life in the present generation.
fn answer_of(phase: Phase) -> Result<(), GroupOpError> {
    match phase {
        Phase::PreparingRebalance { .. } => Err(GroupOpError::RebalanceInProgress),
        Phase::Empty { .. } | Phase::CompletingRebalance { .. } | Phase::Stable { .. } => Ok(()),
    }
}

pub(super) fn check_group_id(group: &GroupId) -> Result<(), GroupOpError> {
    if group.as_str().is_empty() {
        Err(GroupOpError::InvalidGroupId)
    } else {
        Ok(())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn as_joined(member: MemberId, joined: JoinedGroup) -> Joined {
    let of = |m: crate::state::group::JoinedMember| JoinedMember {
        member: m.member,
        instance: m.instance,
        metadata: m.metadata.bytes().clone(),
    };
    Joined {
        member,
        generation: joined.generation,
        protocol_type: joined.protocol_type,
        protocol: joined.protocol,
        leader: joined.leader,
        members: joined.members.into_iter().map(of).collect(),
        skip_assignment: joined.skip_assignment,
    }
}

fn as_synced(synced: SyncedMember) -> Synced {
    Synced {
        protocol_type: synced.protocol_type,
        protocol: synced.protocol,
        assignment: Opaque::bytes(&synced.assignment).clone(),
    }
}
