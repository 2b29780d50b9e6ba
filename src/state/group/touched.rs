//! What of a group an action may change, as far as the state keeps indexes of it: who vouches for its members, and
//! of which topics it has offsets.

use super::action::GroupAction;
use super::{Group, Voucher};
use crate::types::{MemberId, NodeId, PartitionIndex, TopicId, TopicPartition};

/// Members whose voucher, and topics whose offsets, may not be what they were.
pub(in crate::state) struct Touched {
    pub(in crate::state) members: Which<MemberId>,
    pub(in crate::state) topics: Which<TopicId>,
}

/// Some or all.
pub(in crate::state) enum Which<T> {
    These(Vec<T>),
    All,
}

impl Touched {
    pub(in crate::state) fn everything() -> Touched {
        Touched {
            members: Which::All,
            topics: Which::All,
        }
    }
}

impl Group {
    /// What `action` may change of this group.
    pub(in crate::state) fn touched(&self, action: &GroupAction) -> Touched {
        let of_instance = |instance: Option<&String>| {
            instance
                .and_then(|instance| self.member_of_instance(instance))
                .cloned()
        };
        let members = match action {
            GroupAction::Join(join) => {
                let mut members = vec![join.member.clone()];
                members.extend(of_instance(join.instance.as_ref()).filter(|id| *id != join.member));
                Which::These(members)
            }
            GroupAction::Sync(sync) => Which::These(vec![sync.member.clone()]),
            GroupAction::Adopt { member, .. } | GroupAction::ExpireMember { member, .. } => {
                Which::These(vec![member.clone()])
            }
            GroupAction::Leave { members } => {
                let ids = members.iter().filter_map(|leaver| {
                    let named = leaver.member.clone();
                    named.or_else(|| of_instance(leaver.instance.as_ref()))
                });
                let mut ids: Vec<MemberId> = ids.collect();
                ids.sort();
                ids.dedup();
                Which::These(ids)
            }
            GroupAction::CompleteJoin { .. } | GroupAction::CompleteSync { .. } => Which::All,
            GroupAction::CommitOffsets(_)
            | GroupAction::DeleteOffsets { .. }
            | GroupAction::Delete
            | GroupAction::ExpireOffsets { .. } => Which::These(Vec::new()),
        };
        let topics = match action {
            GroupAction::DeleteOffsets { offsets } => Which::These(
                offsets
                    .iter()
                    .map(|offset| offset.partition.topic)
                    .collect(),
            ),
            GroupAction::Delete | GroupAction::ExpireOffsets { .. } => Which::All,
            other => {
                let mut topics: Vec<TopicId> = other.topics().collect();
                topics.dedup();
                Which::These(topics)
            }
        };
        Touched { members, topics }
    }

    /// The nodes that vouch for those of these members that there are, once for each.
    pub(in crate::state) fn vouchers(&self, of: &Which<MemberId>) -> Vec<NodeId> {
        let node = |member: &super::Member| match member.voucher() {
            Voucher::Node(node) => Some(node),
            Voucher::Nobody { .. } => None,
        };
        match of {
            Which::These(ids) => ids.iter().filter_map(|id| node(self.member(id)?)).collect(),
            Which::All => self
                .members()
                .filter_map(|(_, member)| node(member))
                .collect(),
        }
    }

    /// The partitions of a topic of which it has an offset.
    pub(super) fn offsets_of(&self, topic: TopicId) -> impl Iterator<Item = TopicPartition> {
        let first = TopicPartition {
            topic,
            partition: PartitionIndex(i32::MIN),
        };
        self.offsets
            .range(first..)
            .map(|(partition, _)| *partition)
            .take_while(move |partition| partition.topic == topic)
    }

    /// The numbers of its offsets of a topic, where changes are numbered.
    pub(in crate::state) fn numbers_of(&self, topic: TopicId) -> impl Iterator<Item = u64> {
        self.offsets_of(topic)
            .filter_map(|partition| self.offset(partition)?.number)
    }

    /// Whether it has any.
    pub(in crate::state) fn has_offsets_of(&self, topic: TopicId) -> bool {
        self.offsets_of(topic).next().is_some()
    }

    /// The topics of which it has offsets, by id.
    pub(in crate::state) fn topics(&self) -> Vec<TopicId> {
        let mut topics: Vec<TopicId> = self.offsets.keys().map(|at| at.topic).collect();
        topics.dedup();
        topics
    }
}
