//! Consumer groups in the fold: Kafka's classic protocol as replicated state.
//!
//! A [`Group`] is what Kafka's group coordinator keeps in memory and in `__consumer_offsets`: members,
//! generation, assignment, committed offsets. Here it is folded from actions in the manifest, so there is no
//! coordinator to find, to elect or to fail over: every node holds every group, and any node serves any
//! member. The rules are those of Kafka's `GroupCoordinator`: KIP-62 (rebalance timeouts), 134 (initial
//! delay), 345 (static members), 394 (member ids), 429 (cooperative rebalancing, which asks nothing of the
//! broker), 496 (deletion of offsets), 559 (checks of protocol names), 814 (static leaders that skip the
//! assignment).
//!
//! # Phases
//!
//! ```text
//!          first join                all rejoined, or time is over          leader syncs
//!  Empty ────────────> Preparing ───────────────────────────> Completing ──────────────> Stable
//!    ^                  Rebalance <─────────────────────────── Rebalance                    │
//!    │  nobody is left │    ^     a member joins, leaves, expires     │                     │
//!    └─────────────────┘    └─────────────────────────────────────────┴─────────────────────┘
//! ```
//!
//! # Time and life
//!
//! Nothing here reads a clock. `now` is the fold's time (`state/log/time.rs`). What must happen
//! at some time is told by [`Group::next_deadline`]: any node may propose that action then, and the fold
//! judges whether it is due; proposals of several nodes do no harm.
//!
//! Heartbeats never come here. The node that a member talks to *vouches* for it ([`Voucher`]) with its own
//! lease, and says so when the member falls silent ([`GroupAction::ExpireMember`]). When that node is gone
//! the member has its session timeout, from then on, to show up at another node, which
//! [adopts](GroupAction::Adopt) it.
//!
//! # Invariant I6: in one generation a partition has one owner
//!
//! Whoever acts as a member must name its id and the present generation: sync, commit and adoption with any
//! other are refused. A generation has one leader and one assignment, set once, by the sync that ends
//! [`Phase::CompletingRebalance`]; every change of membership or of assignment raises the generation. (The
//! one exception is a static member that restarts with unchanged protocols: it takes over the place of its
//! old id, which is fenced from that moment.)
//!
//! A group without members and offsets [is forgotten](Group::is_vacant): at once, or, where the cluster's level has
//! [`EmptyGroupsStay`](super::Feature::EmptyGroupsStay), when it is deleted or some node looks for old offsets
//! ([`GroupAction::ExpireOffsets`]), which is when Kafka does it. Its generations begin anew. No
//! commit of the old group can pass for one of the new: a member is known by its id, ids are minted by nodes
//! from random UUIDs, and an id that is neither a member nor reserved is never admitted, so a member of the old
//! group is unknown to the new one whatever generation it names. A client outside of group management has
//! no generation in either.
//!
//! # Bounds
//!
//! A group has at most [`MAX_MEMBERS`] members and as many reserved ids; a member brings at most
//! [`MAX_MEMBER_BYTES`], a generation at most [`MAX_ASSIGNMENT_BYTES`], an offset at most
//! [`MAX_OFFSET_METADATA_BYTES`] of metadata. There is at most one offset for each partition that exists; the
//! state sees to that ([`GroupAction::topics`]). No action, however strange, panics; an action that is
//! refused changes nothing.
//!
//! # What is durable
//!
//! Each [`Group`], by id (`groups.rs`), and the numbers that its changes were given (`changes.rs`). Derived, and in no
//! snapshot: in which groups a node vouches for members, which have offsets of a topic, and what is found at which
//! number. `rules.rs` has what the state does around an action; what an action says is in `action.rs`.

mod action;
mod changes;
mod committed_offsets;
mod groups;
mod member;
mod membership;
mod rebalance;
mod rules;
mod subscription;
mod touched;

#[cfg(test)]
pub(in crate::state) mod tests;

use imbl::OrdMap;
use minicbor::{Decode, Encode};
use serde::Serialize;

pub use action::{
    Assignment, CommitOffsets, GroupAction, GroupError, GroupReply, Join, JoinedGroup,
    JoinedMember, Leaver, OffsetToCommit, OffsetToDelete, Sync, SyncedMember,
};
pub(in crate::state) use changes::Changes;
pub use changes::{
    Changed, GroupChange, OFFSETS_PARTITIONS, OFFSETS_TOPIC, OFFSETS_TOPIC_ID, offsets_partition_of,
};
pub use committed_offsets::CommittedOffset;
pub(in crate::state) use groups::{Groups, REFRESHED_PER_COMMIT};
pub use member::{Member, Opaque, Protocol, Voucher};
pub(in crate::state) use touched::{Touched, Which};

use super::codec::{Shared, map};
use crate::rules::{Rule, holds};
use crate::types::{Generation, MemberId, NodeId, Seq, Timestamp, TopicId, TopicPartition};

/// The most members of a group, whatever `group.max.size` says.
pub const MAX_MEMBERS: u32 = 10_000;

/// The most bytes of names and metadata that one member may bring.
pub const MAX_MEMBER_BYTES: usize = 1 << 20;

/// The most bytes that the assignments of a generation may take.
pub const MAX_ASSIGNMENT_BYTES: usize = 8 << 20;

/// The most bytes of metadata with an offset, whatever `offset.metadata.max.bytes` says.
pub const MAX_OFFSET_METADATA_BYTES: usize = 32_767;

/// Where a group stands. The names are Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
pub enum Phase {
    /// Nobody is in it.
    #[n(0)]
    Empty {
        /// Since when.
        #[n(0)]
        since: Timestamp,
    },
    /// Members are to join again.
    #[n(1)]
    PreparingRebalance {
        /// Those who have not by then are out.
        #[n(0)]
        deadline: Timestamp,
        /// This is the first rebalance of a group that was empty: it lasts until the deadline even when all
        /// known members have joined, because others may be about to.
        #[n(1)]
        initial: Option<InitialDelay>,
    },
    /// The leader is to bring the assignment.
    #[n(2)]
    CompletingRebalance {
        /// Members who have not asked for theirs by then are out.
        #[n(0)]
        deadline: Timestamp,
    },
    /// Everybody's assignment is known.
    #[n(3)]
    Stable {
        /// Members who have not asked for theirs by then are out. `None`: all have.
        #[n(0)]
        deadline: Option<Timestamp>,
    },
}

impl Phase {
    /// Kafka's name of it.
    pub fn name(&self) -> &'static str {
        match self {
            Phase::Empty { .. } => "Empty",
            Phase::PreparingRebalance { .. } => "PreparingRebalance",
            Phase::CompletingRebalance { .. } => "CompletingRebalance",
            Phase::Stable { .. } => "Stable",
        }
    }
}

/// How a first rebalance waits for more members (KIP-134): each arrival prolongs it by the delay, up to the
/// rebalance timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct InitialDelay {
    /// By how much to prolong it.
    #[n(0)]
    pub delay_millis: u64,
    /// No longer than this.
    #[n(1)]
    pub until: Timestamp,
    /// Somebody joined since the deadline was set.
    #[n(2)]
    pub more_came: bool,
}

/// A consumer group.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Group {
    #[n(0)]
    phase: Phase,
    #[n(1)]
    generation: Generation,
    #[n(2)]
    protocol_type: Option<String>,
    /// The assignor of the present generation.
    #[n(3)]
    protocol: Option<String>,
    #[n(4)]
    leader: Option<MemberId>,
    #[cbor(n(5), with = "map")]
    members: OrdMap<MemberId, Shared<Member>>,
    /// Ids that were minted for clients that have not joined with them yet, and until when.
    #[cbor(n(6), with = "map")]
    reserved: OrdMap<MemberId, Timestamp>,
    #[cbor(n(7), with = "map")]
    #[serde(serialize_with = "committed_offsets::serialize")]
    offsets: OrdMap<TopicPartition, CommittedOffset>,
    /// The last change of it that Kafka would write a record of, where changes are numbered.
    #[n(8)]
    #[serde(skip_serializing_if = "Option::is_none")]
    numbered: Option<Numbered>,
}

/// The number of a change (`changes.rs`), and when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub(in crate::state) struct Numbered {
    #[n(0)]
    pub(in crate::state) offset: u64,
    #[n(1)]
    pub(in crate::state) at: Timestamp,
}

impl Default for Group {
    fn default() -> Group {
        Group::new()
    }
}

impl Group {
    /// A group of which nothing is known.
    pub fn new() -> Group {
        Group {
            phase: Phase::Empty {
                since: Timestamp(0),
            },
            generation: Generation(0),
            protocol_type: None,
            protocol: None,
            leader: None,
            members: OrdMap::new(),
            reserved: OrdMap::new(),
            offsets: OrdMap::new(),
            numbered: None,
        }
    }

    /// Does what is asked, or refuses and changes nothing. A group of which nothing is left counts as none.
    pub fn apply(
        &mut self,
        action: &GroupAction,
        now: Timestamp,
    ) -> Result<GroupReply, GroupError> {
        let exists = !self.is_vacant();
        self.apply_to(action, now, exists)
    }

    /// The same, told whether there is such a group: with nothing left of it, it may still be there.
    pub fn apply_to(
        &mut self,
        action: &GroupAction,
        now: Timestamp,
        exists: bool,
    ) -> Result<GroupReply, GroupError> {
        match action {
            GroupAction::Join(join) => self.join(join, now),
            GroupAction::Sync(sync) => self.sync(sync),
            GroupAction::Leave { members } => Ok(self.leave(members, now)),
            GroupAction::CommitOffsets(commit) => self.commit_offsets(commit, now, exists),
            GroupAction::DeleteOffsets { offsets } => self.delete_offsets(offsets, exists),
            GroupAction::Delete => self.delete(exists),
            GroupAction::Adopt {
                member,
                instance,
                generation,
                node,
            } => self.adopt(member, instance.as_deref(), *generation, *node),
            GroupAction::ExpireMember { member, node } => self.expire_member(member, *node, now),
            GroupAction::CompleteJoin { generation } => self.complete_join(*generation, now),
            GroupAction::CompleteSync { generation } => self.complete_sync(*generation, now),
            GroupAction::ExpireOffsets { before } => Ok(self.expire_offsets(*before)),
        }
    }

    /// This group after these actions; those that it refuses are passed over.
    pub fn after(&self, actions: &[GroupAction], now: Timestamp) -> Group {
        let mut group = self.clone();
        for action in actions {
            let _refused = group.apply(action, now).is_err();
        }
        group
    }

    /// A node is gone: its members have their session timeout, from `now` on, to find another.
    pub fn node_gone(&mut self, node: NodeId, now: Timestamp) {
        let orphans: Vec<MemberId> = self
            .members
            .iter()
            .filter(|(_, member)| member.voucher == Voucher::Node(node))
            .map(|(id, _)| id.clone())
            .collect();
        for id in orphans {
            if let Some(member) = self.member_mut(&id) {
                member.voucher = Voucher::Nobody {
                    until: now.after(member.session_timeout()),
                };
            }
        }
    }

    /// Notes at which seq a node began to vouch for a member.
    pub(in crate::state) fn note_vouched(&mut self, member: &MemberId, seq: Seq) {
        if let Some(member) = self.member_mut(member) {
            member.vouched = seq;
        }
    }

    /// A topic is gone, and what was committed for it.
    pub fn topic_deleted(&mut self, topic: TopicId) {
        let gone: Vec<TopicPartition> = self.offsets_of(topic).collect();
        for partition in gone {
            self.offsets.remove(&partition);
        }
    }

    /// Whether it is over with this action: deleted, or out of use with nothing left when that is looked for. Otherwise
    /// a group stays, as Kafka's `Empty`, once it is there.
    pub(in crate::state) fn ends_with(&self, action: &GroupAction) -> bool {
        match action {
            GroupAction::Delete => true,
            GroupAction::ExpireOffsets { .. } => self.vacant_since().is_some(),
            _ => false,
        }
    }

    /// Since when nothing of it is left and nobody is in it; since ever if nobody ever was.
    pub fn vacant_since(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Empty { since } if self.is_vacant() => Some(since),
            _ => None,
        }
    }

    /// Nothing of it is worth remembering (the module's page says why its generation is not).
    pub fn is_vacant(&self) -> bool {
        self.members.is_empty() && self.reserved.is_empty() && self.offsets.is_empty()
    }

    /// What some node should propose, and when. The fold accepts it if its time is then that or later.
    pub fn next_deadline(&self) -> Option<(Timestamp, GroupAction)> {
        self.deadlines().min_by_key(|(at, _)| *at)
    }

    /// All that is due at `now`, members first: with them gone nothing else may be due.
    pub fn due(&self, now: Timestamp) -> impl Iterator<Item = GroupAction> {
        self.deadlines()
            .filter(move |(at, _)| *at <= now)
            .map(|(_, action)| action)
    }

    fn deadlines(&self) -> impl Iterator<Item = (Timestamp, GroupAction)> {
        let orphans = self
            .members
            .iter()
            .filter_map(|(id, member)| match member.voucher {
                Voucher::Node(_) => None,
                Voucher::Nobody { until } => Some((until, id)),
            });
        let reserved = self.reserved.iter().map(|(id, until)| (*until, id));
        let expiry = |(until, id): (Timestamp, &MemberId)| {
            (
                until,
                GroupAction::ExpireMember {
                    member: id.clone(),
                    node: None,
                },
            )
        };
        orphans
            .chain(reserved)
            .map(expiry)
            .chain(self.phase_deadline())
    }

    fn phase_deadline(&self) -> Option<(Timestamp, GroupAction)> {
        let generation = self.generation;
        match self.phase {
            Phase::Empty { .. } | Phase::Stable { deadline: None } => None,
            Phase::PreparingRebalance { deadline, .. } => {
                Some((deadline, GroupAction::CompleteJoin { generation }))
            }
            Phase::CompletingRebalance { deadline }
            | Phase::Stable {
                deadline: Some(deadline),
            } => Some((deadline, GroupAction::CompleteSync { generation })),
        }
    }

    /// The number of its last change that is numbered.
    pub(in crate::state) fn numbered(&self) -> Option<Numbered> {
        self.numbered
    }

    pub(in crate::state) fn number(&mut self, numbered: Numbered) {
        self.numbered = Some(numbered);
    }

    pub(in crate::state) fn number_offset(&mut self, partition: TopicPartition, number: u64) {
        if let Some(offset) = self.offsets.get_mut(&partition) {
            offset.number = Some(number);
        }
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The present generation. While a rebalance is being prepared it is the one that ends.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// `consumer`, `connect` ...; `None` if it never had members.
    pub fn protocol_type(&self) -> Option<&str> {
        self.protocol_type.as_deref()
    }

    /// The assignor of the present generation.
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// The member that assigns.
    pub fn leader(&self) -> Option<&MemberId> {
        self.leader.as_ref()
    }

    /// A member.
    pub fn member(&self, id: &MemberId) -> Option<&Member> {
        self.members.get(id).map(|member| &**member)
    }

    /// The member that has this instance id.
    pub fn member_of_instance(&self, instance: &str) -> Option<&MemberId> {
        self.members()
            .find(|(_, member)| member.instance() == Some(instance))
            .map(|(id, _)| id)
    }

    /// All members, by id.
    pub fn members(&self) -> impl Iterator<Item = (&MemberId, &Member)> {
        self.members.iter().map(|(id, member)| (id, &**member))
    }

    /// How many members it has.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// A committed offset.
    pub fn offset(&self, partition: TopicPartition) -> Option<&CommittedOffset> {
        self.offsets.get(&partition)
    }

    /// All committed offsets, by partition.
    pub fn offsets(&self) -> impl Iterator<Item = (TopicPartition, &CommittedOffset)> {
        self.offsets
            .iter()
            .map(|(partition, offset)| (*partition, offset))
    }

    /// Checks that `member` is in the group, and if it names an instance that this is its own (KIP-345).
    pub fn check_member(
        &self,
        member: &MemberId,
        instance: Option<&str>,
    ) -> Result<&Member, GroupError> {
        let unknown = || GroupError::UnknownMember(member.clone());
        if let Some(instance) = instance {
            let current = self.member_of_instance(instance).ok_or_else(unknown)?;
            if current != member {
                return Err(GroupError::FencedInstance {
                    instance: instance.to_owned(),
                    member: member.clone(),
                    current: current.clone(),
                });
            }
        }
        self.member(member).ok_or_else(unknown)
    }

    /// As [`check_member`](Self::check_member), and checks that `generation` is the present one.
    pub fn check_generation(
        &self,
        member: &MemberId,
        instance: Option<&str>,
        generation: Generation,
    ) -> Result<&Member, GroupError> {
        let found = self.check_member(member, instance)?;
        if generation != self.generation && holds(Rule::StaleGenerationsAreRefused) {
            return Err(GroupError::IllegalGeneration {
                found: generation,
                current: self.generation,
            });
        }
        Ok(found)
    }

    /// The present generation as `member` is to learn of it; `None` if it is not a member or still awaits the
    /// rebalance.
    pub fn joined(&self, member: &MemberId) -> Option<JoinedGroup> {
        if self.member(member)?.awaits_join {
            return None;
        }
        let protocol = self.protocol.clone()?;
        let leader = self.leader.clone()?;
        let members = if leader == *member {
            self.joined_members(&protocol)
        } else {
            Vec::new()
        };
        Some(JoinedGroup {
            generation: self.generation,
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol,
            leader,
            members,
            skip_assignment: false,
        })
    }

    /// What `member` has to do; `None` if it is not a member or that is not known yet.
    pub fn synced(&self, member: &MemberId) -> Option<SyncedMember> {
        let Phase::Stable { .. } = self.phase else {
            return None;
        };
        Some(SyncedMember {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: self.protocol.clone().unwrap_or_default(),
            assignment: self.member(member)?.assignment.clone(),
        })
    }

    fn joined_members(&self, protocol: &str) -> Vec<JoinedMember> {
        self.members()
            .map(|(id, member)| JoinedMember {
                member: id.clone(),
                instance: member.instance.clone(),
                metadata: member.metadata(protocol).cloned().unwrap_or_default(),
            })
            .collect()
    }

    fn member_mut(&mut self, id: &MemberId) -> Option<&mut Member> {
        self.members.get_mut(id).map(Shared::make_mut)
    }

    /// Changes every member.
    fn each_member(&mut self, mut change: impl FnMut(&MemberId, &mut Member)) {
        let members = std::mem::take(&mut self.members).into_iter();
        let changed = members.map(|(id, mut member)| {
            change(&id, member.make_mut());
            (id, member)
        });
        self.members = changed.collect();
    }
}
