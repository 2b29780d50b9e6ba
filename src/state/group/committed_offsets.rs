//! The offsets that consumer groups commit.

use imbl::OrdMap;
use minicbor::{Decode, Encode};
use serde::{Serialize, Serializer};

use super::action::{CommitOffsets, GroupError, GroupReply, OffsetToDelete};
use super::{Group, MAX_OFFSET_METADATA_BYTES, Phase};
use crate::types::{Generation, MemberId, Offset, Seq, Timestamp, TopicPartition};

/// An offset that was committed.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct CommittedOffset {
    /// The next offset to read.
    #[n(0)]
    pub offset: Offset,
    /// The leader epoch of the last record read (KIP-320).
    #[n(1)]
    pub leader_epoch: Option<i32>,
    /// Whatever the client wanted to remember.
    #[n(2)]
    pub metadata: Option<String>,
    /// When, in the fold's time.
    #[n(3)]
    pub committed_at: Timestamp,
    /// The number of this change of the group, where changes are numbered (`changes.rs`).
    #[n(4)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// The seq of the commit that did it: with [`Feature::AskedOps`](crate::state::Feature::AskedOps), else nothing.
    #[cbor(n(5), default, skip_if = "Seq::is_zero")]
    pub changed: Seq,
}

impl Group {
    pub(super) fn commit_offsets(
        &mut self,
        commit: &CommitOffsets,
        now: Timestamp,
        exists: bool,
    ) -> Result<GroupReply, GroupError> {
        self.may_commit(commit, exists)?;
        let sizes = commit
            .offsets
            .iter()
            .filter_map(|offset| offset.metadata.as_ref());
        if let Some(size) = sizes
            .map(String::len)
            .find(|size| *size > MAX_OFFSET_METADATA_BYTES)
        {
            let (what, limit) = ("the metadata of an offset", MAX_OFFSET_METADATA_BYTES);
            return Err(GroupError::TooLarge { what, size, limit });
        }
        for offset in &commit.offsets {
            let committed = CommittedOffset {
                offset: offset.offset,
                leader_epoch: offset.leader_epoch,
                metadata: offset.metadata.clone(),
                committed_at: now,
                number: None,
                changed: Seq::ZERO,
            };
            self.offsets.insert(offset.partition, committed);
        }
        Ok(GroupReply::Done)
    }

    /// Notes at which seq offsets were committed.
    pub(in crate::state) fn note_committed(&mut self, commit: &CommitOffsets, seq: Seq) {
        for offset in &commit.offsets {
            if let Some(committed) = self.offsets.get_mut(&offset.partition) {
                committed.changed = seq;
            }
        }
    }

    /// Kafka's `validateOffsetCommit`: members commit in the present generation; clients outside of group
    /// management commit while the group has no members.
    fn may_commit(&self, commit: &CommitOffsets, exists: bool) -> Result<(), GroupError> {
        let is_empty = matches!(self.phase, Phase::Empty { .. });
        let found = commit.generation;
        if found < Generation(0) && is_empty {
            return Ok(());
        }
        if !exists {
            return Err(GroupError::IllegalGeneration {
                found,
                current: self.generation,
            });
        }
        let nobody = MemberId::from("");
        let member = commit.member.as_ref().unwrap_or(&nobody);
        self.check_generation(member, commit.instance.as_deref(), found)?;
        if let Phase::CompletingRebalance { .. } = self.phase {
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }

    /// Each offset has its own outcome; a group whose members are no consumers refuses all.
    pub(super) fn delete_offsets(
        &mut self,
        offsets: &[OffsetToDelete],
        exists: bool,
    ) -> Result<GroupReply, GroupError> {
        if !exists {
            return Err(GroupError::NotFound);
        }
        let is_empty = matches!(self.phase, Phase::Empty { .. });
        if !is_empty && !self.is_of_consumers() {
            return Err(GroupError::NonEmpty);
        }
        let outcomes = offsets.iter().map(|offset| {
            if !is_empty && self.subscribes_to(&offset.topic) {
                return Err(GroupError::SubscribedToTopic(offset.topic.clone()));
            }
            self.offsets.remove(&offset.partition);
            Ok(())
        });
        Ok(GroupReply::OffsetsDeleted(outcomes.collect()))
    }

    /// Deletes what is left of a group without members.
    pub(super) fn delete(&mut self, exists: bool) -> Result<GroupReply, GroupError> {
        if !exists {
            return Err(GroupError::NotFound);
        }
        if !matches!(self.phase, Phase::Empty { .. }) {
            return Err(GroupError::NonEmpty);
        }
        *self = Group::new();
        Ok(GroupReply::Done)
    }

    /// Forgets offsets that were out of use since before `before`. The offsets of a group with members are in use.
    pub(super) fn expire_offsets(&mut self, before: Timestamp) -> GroupReply {
        if let Some(since) = self.unused_since() {
            let used = |offset: &CommittedOffset| offset.committed_at.max(since);
            let expired: Vec<TopicPartition> = self
                .offsets()
                .filter(|(_, offset)| used(offset) < before)
                .map(|(partition, _)| partition)
                .collect();
            for partition in expired {
                self.offsets.remove(&partition);
            }
        }
        GroupReply::Done
    }

    /// Whether [`ExpireOffsets`](super::GroupAction::ExpireOffsets) with this time would forget anything.
    pub fn has_expired_offsets(&self, before: Timestamp) -> bool {
        self.unused_since().is_some_and(|since| {
            since < before
                && self
                    .offsets()
                    .any(|(_, offset)| offset.committed_at < before)
        })
    }

    fn unused_since(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Empty { since } => Some(since),
            _ => None,
        }
    }
}

/// As a list: JSON has no maps with such keys.
pub(super) fn serialize<S: Serializer>(
    offsets: &OrdMap<TopicPartition, CommittedOffset>,
    s: S,
) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Entry<'a> {
        #[serde(flatten)]
        partition: TopicPartition,
        #[serde(flatten)]
        committed: &'a CommittedOffset,
    }
    s.collect_seq(offsets.iter().map(|(partition, committed)| Entry {
        partition: *partition,
        committed,
    }))
}
