//! Coming and going: joins, leaves, expiry, adoption.

use std::time::Duration;

use super::action::{GroupError, GroupReply, Join, JoinedGroup, Leaver};
use super::{Group, MAX_MEMBER_BYTES, MAX_MEMBERS, Member, Phase, Voucher};
use crate::state::codec::Shared;
use crate::types::{Generation, MemberId, NodeId, Timestamp};

impl Group {
    /// Kafka's `handleJoinGroup`.
    pub(super) fn join(&mut self, join: &Join, now: Timestamp) -> Result<GroupReply, GroupError> {
        check_size(join)?;
        self.check_capacity(join)?;
        if !self.supports(join) {
            return Err(GroupError::InconsistentProtocol);
        }
        let after = self.generation;
        let told = if join.known {
            self.join_known(join, now)?
        } else {
            self.join_unknown(join, now)?
        };
        if let Some(reply) = told {
            return Ok(reply);
        }
        self.complete_join_if_all_did(now);
        Ok(match self.joined(&join.member) {
            Some(joined) => GroupReply::Joined(joined),
            None => GroupReply::AwaitJoin { after },
        })
    }

    /// Kafka's `acceptJoiningMember`. The members who have rejoined are counted and not all, so that a limit that
    /// was lowered sheds those who come last.
    fn check_capacity(&self, join: &Join) -> Result<(), GroupError> {
        let limit = join.max_size.min(MAX_MEMBERS);
        let member = self.member(&join.member);
        let (is_in, count) = match self.phase {
            Phase::Empty { .. } => (false, 0),
            Phase::PreparingRebalance { .. } => (
                member.is_some_and(|member| member.awaits_join),
                self.members()
                    .filter(|(_, member)| member.awaits_join)
                    .count(),
            ),
            Phase::CompletingRebalance { .. } | Phase::Stable { .. } => {
                (member.is_some(), self.size())
            }
        };
        // Static members that never rejoin count too where the bound of the state is concerned.
        let has_capacity =
            count < limit as usize && (member.is_some() || self.size() < MAX_MEMBERS as usize);
        let replaces = !join.known && self.instance_taken(join).is_some();
        if is_in || has_capacity || replaces {
            Ok(())
        } else {
            Err(GroupError::MaxSizeReached(limit))
        }
    }

    fn instance_taken(&self, join: &Join) -> Option<MemberId> {
        join.instance
            .as_deref()
            .and_then(|instance| self.member_of_instance(instance))
            .cloned()
    }

    /// Kafka's `supportsProtocols`: all present members have one of the newcomer's protocols in common.
    fn supports(&self, join: &Join) -> bool {
        if join.protocol_type.is_empty() || join.protocols.is_empty() {
            return false;
        }
        if matches!(self.phase, Phase::Empty { .. }) {
            return true;
        }
        self.protocol_type.as_ref() == Some(&join.protocol_type)
            && join
                .protocols
                .iter()
                .any(|p| self.members().all(|(_, m)| m.supports(&p.name)))
    }

    /// A client without an id. `Some` is the answer; `None` means that it now awaits the rebalance.
    fn join_unknown(
        &mut self,
        join: &Join,
        now: Timestamp,
    ) -> Result<Option<GroupReply>, GroupError> {
        let id = &join.member;
        if self.members.contains_key(id) || self.reserved.contains_key(id) {
            // Ids are random, so this is no accident: nobody gets another's place by chance or by force.
            return Err(GroupError::UnknownMember(id.clone()));
        }
        if let Some(old) = self.instance_taken(join) {
            return Ok(self.replace_static(&old, join, now));
        }
        if join.instance.is_none() && join.require_known_member {
            if self.reserved.len() >= MAX_MEMBERS as usize {
                return Err(GroupError::MaxSizeReached(MAX_MEMBERS));
            }
            let until = now.after(Duration::from_millis(join.session_timeout_millis));
            self.reserved.insert(id.clone(), until);
            return Ok(Some(GroupReply::MemberIdRequired));
        }
        self.add_member(join, now);
        Ok(None)
    }

    /// A client with an id: reserved for it, or of a member.
    fn join_known(
        &mut self,
        join: &Join,
        now: Timestamp,
    ) -> Result<Option<GroupReply>, GroupError> {
        let id = &join.member;
        if join.instance.is_none() && self.reserved.contains_key(id) {
            self.add_member(join, now);
            return Ok(None);
        }
        let member = self.check_member(id, join.instance.as_deref())?;
        let same = member.protocols == join.protocols;
        let leads = self.leader.as_ref() == Some(id);
        let rebalances = match self.phase {
            Phase::Empty { .. } => return Err(GroupError::UnknownMember(id.clone())),
            Phase::PreparingRebalance { .. } => true,
            // With the same metadata it only missed the answer.
            Phase::CompletingRebalance { .. } => !same,
            // A leader rejoins because it saw something that concerns the assignment.
            Phase::Stable { .. } => leads || !same,
        };
        if !rebalances {
            if let Some(member) = self.member_mut(id) {
                member.voucher = Voucher::Node(join.node);
            }
            return Ok(self.joined(id).map(GroupReply::Joined));
        }
        if let Some(member) = self.member_mut(id) {
            member.rejoin(join);
        }
        self.prepare_rebalance_if_none(join.initial_delay_millis, now);
        Ok(None)
    }

    /// Kafka's `addMemberAndRebalance`.
    fn add_member(&mut self, join: &Join, now: Timestamp) {
        if let Phase::PreparingRebalance {
            initial: Some(initial),
            ..
        } = &mut self.phase
        {
            initial.more_came = true;
        }
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        self.reserved.remove(&join.member);
        self.members
            .insert(join.member.clone(), Shared::new(Member::new(join)));
        if self.leader.is_none() {
            self.leader = Some(join.member.clone());
        }
        self.prepare_rebalance_if_none(join.initial_delay_millis, now);
    }

    /// Kafka's `updateStaticMemberAndRebalance`: a static member restarted and takes its old place under a new id,
    /// which fences the old one. `Some` is the answer; `None` means that it now awaits the rebalance.
    fn replace_static(
        &mut self,
        old: &MemberId,
        join: &Join,
        now: Timestamp,
    ) -> Option<GroupReply> {
        let old_leader = self.leader.clone();
        let leads = old_leader.as_ref() == Some(old);
        let mut member = self.members.remove(old)?;
        member.make_mut().rejoin(join);
        self.members.insert(join.member.clone(), member);
        if leads {
            self.leader = Some(join.member.clone());
        }
        match self.phase {
            Phase::Stable { .. } if self.select_protocol() == self.protocol => {
                if let Some(member) = self.member_mut(&join.member) {
                    member.awaits_join = false;
                }
                let joined = self.joined(&join.member)?;
                Some(GroupReply::Joined(if join.supports_skip_assignment {
                    JoinedGroup {
                        skip_assignment: leads,
                        ..joined
                    }
                } else {
                    // An assignment would come to nothing in a stable group. Told its old id, a client that cannot
                    // skip it does not take itself for the leader.
                    let leader = old_leader.unwrap_or(joined.leader);
                    JoinedGroup {
                        leader,
                        members: Vec::new(),
                        ..joined
                    }
                }))
            }
            // While the assignment is being made it may name the old id, so it must be made again.
            Phase::Stable { .. } | Phase::CompletingRebalance { .. } => {
                self.prepare_rebalance(join.initial_delay_millis, now);
                None
            }
            Phase::PreparingRebalance { .. } | Phase::Empty { .. } => None,
        }
    }

    /// Kafka's `handleLeaveGroup`.
    pub(super) fn leave(&mut self, leavers: &[Leaver], now: Timestamp) -> GroupReply {
        let outcomes = leavers.iter().map(|leaver| {
            let instance = leaver.instance.as_deref();
            let nobody = MemberId::from("");
            let id = match &leaver.member {
                None => instance
                    .and_then(|instance| self.member_of_instance(instance))
                    .cloned()
                    .ok_or(GroupError::UnknownMember(nobody))?,
                Some(id) if self.reserved.contains_key(id) => id.clone(),
                Some(id) => {
                    self.check_member(id, instance)?;
                    id.clone()
                }
            };
            self.remove(&id, now);
            Ok(())
        });
        GroupReply::Left(outcomes.collect())
    }

    /// A node, or the time, says that a member is not heard from any more.
    pub(super) fn expire_member(
        &mut self,
        id: &MemberId,
        node: Option<NodeId>,
        now: Timestamp,
    ) -> Result<GroupReply, GroupError> {
        let is_over = match (self.member(id), node) {
            (Some(member), Some(node)) => member.voucher == Voucher::Node(node),
            (Some(member), None) => {
                matches!(member.voucher, Voucher::Nobody { until } if until <= now)
            }
            (None, _) => match self.reserved.get(id) {
                Some(until) => *until <= now,
                None => return Err(GroupError::UnknownMember(id.clone())),
            },
        };
        if !is_over {
            return Err(GroupError::Vouched(id.clone()));
        }
        self.remove(id, now);
        Ok(GroupReply::Done)
    }

    /// A member shows up at another node.
    pub(super) fn adopt(
        &mut self,
        id: &MemberId,
        instance: Option<&str>,
        generation: Generation,
        node: NodeId,
    ) -> Result<GroupReply, GroupError> {
        self.check_generation(id, instance, generation)?;
        if let Some(member) = self.member_mut(id) {
            member.voucher = Voucher::Node(node);
        }
        Ok(GroupReply::Done)
    }

    /// Takes a member or a reserved id out, and does what follows from it.
    fn remove(&mut self, id: &MemberId, now: Timestamp) {
        let was_member = self.members.contains_key(id);
        self.forget(id);
        if was_member
            && matches!(
                self.phase,
                Phase::CompletingRebalance { .. } | Phase::Stable { .. }
            )
        {
            self.prepare_rebalance(0, now);
        }
        self.complete_join_if_all_did(now);
    }

    /// Takes a member or a reserved id out; another member leads if it led.
    pub(super) fn forget(&mut self, id: &MemberId) {
        self.reserved.remove(id);
        self.members.remove(id);
        if self.leader.as_ref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
    }
}

fn check_size(join: &Join) -> Result<(), GroupError> {
    let protocols = join
        .protocols
        .iter()
        .map(|p| p.name.len() + p.metadata.bytes().len());
    let instance = join.instance.as_ref().map_or(0, String::len);
    let names = [&join.client_id, &join.client_host, &join.protocol_type].map(String::len);
    let size = protocols.sum::<usize>()
        + names.iter().sum::<usize>()
        + instance
        + join.member.as_str().len();
    if size > MAX_MEMBER_BYTES {
        return Err(GroupError::TooLarge {
            what: "a member",
            size,
            limit: MAX_MEMBER_BYTES,
        });
    }
    Ok(())
}
