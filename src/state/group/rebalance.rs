//! Rebalances: from one generation to the next.

use std::collections::BTreeMap;
use std::time::Duration;

use super::action::{GroupError, GroupReply, Sync};
use super::{Group, InitialDelay, MAX_ASSIGNMENT_BYTES, Opaque, Phase, Voucher};
use crate::types::{Generation, MemberId, Timestamp};

/// A rebalance that nobody joined is prolonged by at least this, so that it is not proposed in a loop.
const MIN_PROLONGATION: Duration = Duration::from_secs(1);

impl Group {
    /// Begins a rebalance unless one is being prepared.
    pub(super) fn prepare_rebalance_if_none(&mut self, initial_delay_millis: u64, now: Timestamp) {
        if !matches!(self.phase, Phase::PreparingRebalance { .. }) {
            self.prepare_rebalance(initial_delay_millis, now);
        }
    }

    /// Kafka's `prepareRebalance`. What the generation was assigned is void from here on, but its members may still
    /// commit until the next one begins.
    pub(super) fn prepare_rebalance(&mut self, initial_delay_millis: u64, now: Timestamp) {
        let timeout = self.rebalance_timeout();
        let delay = Duration::from_millis(initial_delay_millis);
        let was_empty = matches!(self.phase, Phase::Empty { .. });
        if let Phase::CompletingRebalance { .. } = self.phase {
            self.each_member(|_, member| member.assignment = Opaque::default());
        }
        self.each_member(|_, member| member.synced = false);
        let (deadline, initial) = if was_empty && !delay.is_zero() {
            let until = now.after(delay.max(timeout));
            let delay_millis = initial_delay_millis;
            (
                now.after(delay),
                Some(InitialDelay {
                    delay_millis,
                    until,
                    more_came: false,
                }),
            )
        } else {
            (now.after(timeout), None)
        };
        self.phase = Phase::PreparingRebalance { deadline, initial };
        if was_empty && delay.is_zero() {
            self.begin_generation(now);
        }
    }

    /// Kafka's `tryCompleteJoin`: a rebalance ends before its time if all who are known have joined it.
    pub(super) fn complete_join_if_all_did(&mut self, now: Timestamp) {
        if let Phase::PreparingRebalance { initial: None, .. } = self.phase
            && self.reserved.is_empty()
            && self.members().all(|(_, member)| member.awaits_join)
        {
            self.begin_generation(now);
        }
    }

    /// The time to rejoin is over: kafka's `InitialDelayedJoin` and `onCompleteJoin`.
    pub(super) fn complete_join(
        &mut self,
        generation: Generation,
        now: Timestamp,
    ) -> Result<GroupReply, GroupError> {
        let Phase::PreparingRebalance { deadline, initial } = self.phase else {
            return Err(GroupError::NotDue);
        };
        if generation != self.generation || now < deadline {
            return Err(GroupError::NotDue);
        }
        if let Some(initial) = initial
            && initial.more_came
            && now < initial.until
        {
            let delay = Duration::from_millis(initial.delay_millis);
            let deadline = now.after(delay).min(initial.until);
            let initial = Some(InitialDelay {
                more_came: false,
                ..initial
            });
            self.phase = Phase::PreparingRebalance { deadline, initial };
            return Ok(GroupReply::Done);
        }
        // Static members keep their place until their session is over (KIP-345).
        let absent: Vec<MemberId> = self
            .members()
            .filter(|(_, member)| !member.awaits_join && member.instance().is_none())
            .map(|(id, _)| id.clone())
            .collect();
        absent.iter().for_each(|id| self.forget(id));
        if self.members.is_empty() || self.elect_joined_leader() {
            self.begin_generation(now);
        } else {
            let timeout = self.rebalance_timeout().max(MIN_PROLONGATION);
            let deadline = now.after(timeout);
            self.phase = Phase::PreparingRebalance {
                deadline,
                initial: None,
            };
        }
        Ok(GroupReply::Done)
    }

    /// A leader that did not rejoin makes way for a member that did; false if there is none.
    fn elect_joined_leader(&mut self) -> bool {
        let leader = self.leader.as_ref().and_then(|id| self.member(id));
        if leader.is_some_and(|leader| leader.awaits_join) {
            return true;
        }
        let joined = self.members().find(|(_, member)| member.awaits_join);
        let Some(joined) = joined.map(|(id, _)| id.clone()) else {
            return false;
        };
        self.leader = Some(joined);
        true
    }

    /// Kafka's `initNextGeneration`, and the end of the wait of those who joined.
    fn begin_generation(&mut self, now: Timestamp) {
        self.generation = Generation(self.generation.0.saturating_add(1));
        self.protocol = self.select_protocol();
        if self.members.is_empty() {
            self.leader = None;
            self.phase = Phase::Empty { since: now };
            return;
        }
        self.each_member(|_, member| {
            member.awaits_join = false;
            member.synced = false;
            member.assignment = Opaque::default();
        });
        self.phase = Phase::CompletingRebalance {
            deadline: now.after(self.rebalance_timeout()),
        };
    }

    /// Kafka's `doSyncGroup`.
    pub(super) fn sync(&mut self, sync: &Sync) -> Result<GroupReply, GroupError> {
        self.check_generation(&sync.member, sync.instance.as_deref(), sync.generation)?;
        let differs = |said: &Option<String>, is: &Option<String>| said.is_some() && said != is;
        if differs(&sync.protocol_type, &self.protocol_type)
            || differs(&sync.protocol, &self.protocol)
        {
            return Err(GroupError::InconsistentProtocol);
        }
        let leads = self.leader.as_ref() == Some(&sync.member);
        match self.phase {
            Phase::Empty { .. } => return Err(GroupError::UnknownMember(sync.member.clone())),
            Phase::PreparingRebalance { .. } => return Err(GroupError::RebalanceInProgress),
            Phase::CompletingRebalance { deadline } if leads => {
                check_size(sync)?;
                self.assign(sync);
                self.phase = Phase::Stable {
                    deadline: Some(deadline),
                };
            }
            Phase::CompletingRebalance { .. } | Phase::Stable { .. } => {}
        }
        if let Some(member) = self.member_mut(&sync.member) {
            member.synced = true;
            member.voucher = Voucher::Node(sync.node);
        }
        if let Phase::Stable { deadline } = &mut self.phase
            && self.members.values().all(|member| member.synced)
        {
            *deadline = None;
        }
        Ok(match self.synced(&sync.member) {
            Some(synced) => GroupReply::Synced(synced),
            None => GroupReply::AwaitSync,
        })
    }

    /// Sets everybody's assignment; members whom the leader forgot get an empty one.
    fn assign(&mut self, sync: &Sync) {
        let given: BTreeMap<&MemberId, &Opaque> = sync
            .assignments
            .iter()
            .map(|a| (&a.member, &a.assignment))
            .collect();
        self.each_member(|id, member| {
            member.assignment = given.get(id).copied().cloned().unwrap_or_default();
        });
    }

    /// The time to sync is over: Kafka's `onExpirePendingSync`. Members who did not are out.
    pub(super) fn complete_sync(
        &mut self,
        generation: Generation,
        now: Timestamp,
    ) -> Result<GroupReply, GroupError> {
        let (Phase::CompletingRebalance { deadline }
        | Phase::Stable {
            deadline: Some(deadline),
        }) = self.phase
        else {
            return Err(GroupError::NotDue);
        };
        if generation != self.generation || now < deadline {
            return Err(GroupError::NotDue);
        }
        let absent: Vec<MemberId> = self
            .members()
            .filter(|(_, member)| !member.synced)
            .map(|(id, _)| id.clone())
            .collect();
        absent.iter().for_each(|id| self.forget(id));
        self.prepare_rebalance(0, now);
        self.complete_join_if_all_did(now);
        Ok(GroupReply::Done)
    }

    /// The longest that a member wants a rebalance to wait.
    fn rebalance_timeout(&self) -> Duration {
        self.members()
            .map(|(_, member)| member.rebalance_timeout())
            .max()
            .unwrap_or_default()
    }

    /// Each member votes for the protocol that it wants most of those that all have. The most votes win; of
    /// equals the one that the leader wants more, so that all nodes choose alike. `None` without members.
    pub(super) fn select_protocol(&self) -> Option<String> {
        let (_, first) = self.members().next()?;
        let common = |name: &str| self.members().all(|(_, member)| member.supports(name));
        let leader = self
            .leader
            .as_ref()
            .and_then(|id| self.member(id))
            .unwrap_or(first);
        let candidates: Vec<&str> = leader
            .protocols()
            .iter()
            .map(|p| p.name.as_str())
            .filter(|name| common(name))
            .collect();
        let votes = |name: &str| {
            let vote = |member: &super::Member| {
                let mut wanted = member.protocols().iter().map(|p| p.name.as_str());
                wanted.find(|name| candidates.contains(name)) == Some(name)
            };
            self.members().filter(|(_, member)| vote(member)).count()
        };
        // The last of equals is taken, and the leader's favourite stands last. Whoever joins has a protocol in
        // common with all others, so there is a candidate.
        let chosen = candidates
            .iter()
            .rev()
            .max_by_key(|name| votes(name))
            .copied();
        chosen
            .or_else(|| leader.protocols().first().map(|p| p.name.as_str()))
            .map(str::to_owned)
    }
}

fn check_size(sync: &Sync) -> Result<(), GroupError> {
    let size = sync
        .assignments
        .iter()
        .map(|a| a.assignment.bytes().len())
        .sum();
    if size > MAX_ASSIGNMENT_BYTES {
        let limit = MAX_ASSIGNMENT_BYTES;
        return Err(GroupError::TooLarge {
            what: "an assignment",
            size,
            limit,
        });
    }
    Ok(())
}
