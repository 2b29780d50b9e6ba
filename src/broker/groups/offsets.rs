//! Committed offsets.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::state::State;
use crate::state::group::{
    self, CommitOffsets, GroupAction, GroupReply, OffsetToCommit, OffsetToDelete,
};
use crate::state::op::Op;
use crate::types::{Generation, GroupId, TopicPartition};

use super::coordinator::{Groups, reply, unexpected};
use super::membership::check_group_id;
use super::{CommitOffset, CommittedOffset, GroupOpError, Identity};

type Outcomes = Vec<Result<(), GroupOpError>>;

impl Groups {
    pub(super) async fn commit_offsets(
        &self,
        identity: &Identity,
        offsets: Vec<CommitOffset>,
    ) -> Result<Outcomes, GroupOpError> {
        let state = self.state_with_topics(&offsets).await?;
        let outcomes: Outcomes = offsets.iter().map(|o| self.may_commit(&state, o)).collect();
        let accepted = offsets
            .into_iter()
            .zip(&outcomes)
            .filter(|(_, o)| o.is_ok());
        let accepted: Vec<OffsetToCommit> = accepted.map(|(o, _)| to_commit(o)).collect();
        if accepted.is_empty() {
            return Ok(outcomes);
        }
        let Identity {
            group,
            member,
            instance,
            generation,
        } = identity;
        let commit = CommitOffsets {
            member: (!member.as_str().is_empty()).then(|| member.clone()),
            instance: instance.clone(),
            generation: *generation,
            offsets: accepted,
        };
        let mut ops = self.adoption(&state, identity);
        ops.push(Op::Group {
            group: group.clone(),
            action: GroupAction::CommitOffsets(commit),
        });
        let mut committed = self.commit(ops).await?;
        match reply(committed.outcomes.pop())? {
            GroupReply::Done => {
                self.sessions.touch_known(group, member, self.env.boot());
                Ok(outcomes)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// A commit is a sign of life, so it comes with the adoption of a member for which another node, or nobody,
    /// vouches as far as is known here.
    fn adoption(&self, state: &State, identity: &Identity) -> Vec<Op> {
        let Identity {
            group,
            member,
            instance,
            generation,
        } = identity;
        let found = state.group(group).and_then(|g| g.member(member));
        let moved = found.is_some_and(|m| !self.speaks_for(state, m.voucher()));
        let me = state.node_of(self.incarnation);
        let Some(node) = me.filter(|_| moved && *generation != Generation::NONE) else {
            return Vec::new();
        };
        let (member, instance, generation) = (member.clone(), instance.clone(), *generation);
        let action = GroupAction::Adopt {
            member,
            instance,
            generation,
            node,
        };
        vec![Op::Group {
            group: group.clone(),
            action,
        }]
    }

    /// A state that knows the topics, or is up to date.
    async fn state_with_topics(
        &self,
        offsets: &[CommitOffset],
    ) -> Result<Arc<State>, GroupOpError> {
        let state = self.manifest.state();
        if offsets
            .iter()
            .all(|o| state.partition(o.partition).is_some())
        {
            return Ok(state);
        }
        Ok(self.fresh().await?)
    }

    fn may_commit(&self, state: &State, offset: &CommitOffset) -> Result<(), GroupOpError> {
        if state.partition(offset.partition).is_none() {
            return Err(GroupOpError::UnknownPartition);
        }
        let limit = self
            .settings
            .offset_metadata_max_bytes
            .min(group::MAX_OFFSET_METADATA_BYTES);
        if offset
            .metadata
            .as_ref()
            .is_some_and(|metadata| metadata.len() > limit)
        {
            return Err(GroupOpError::OffsetMetadataTooLarge);
        }
        Ok(())
    }

    pub(super) async fn committed_offsets(
        &self,
        group: &GroupId,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>, GroupOpError> {
        let state = self.fresh().await?;
        let Some(group) = state.group(group) else {
            return Ok(BTreeMap::new());
        };
        let found: BTreeMap<_, _> = match partitions {
            Some(partitions) => partitions
                .iter()
                .filter_map(|at| group.offset(*at).map(|offset| (*at, as_committed(offset))))
                .collect(),
            None => group
                .offsets()
                .map(|(at, offset)| (at, as_committed(offset)))
                .collect(),
        };
        Ok(found)
    }

    pub(super) async fn delete_offsets(
        &self,
        group: &GroupId,
        partitions: &[TopicPartition],
    ) -> Result<Outcomes, GroupOpError> {
        check_group_id(group)?;
        let state = self.fresh().await?;
        if state.group(group).is_none() {
            return Err(GroupOpError::GroupIdNotFound);
        }
        let named = |at: &TopicPartition| {
            let topic = state.partition(*at).and_then(|_| state.topic(at.topic))?;
            Some(OffsetToDelete {
                partition: *at,
                topic: topic.name().clone(),
            })
        };
        let offsets: Vec<Option<OffsetToDelete>> = partitions.iter().map(named).collect();
        let known = offsets.iter().flatten().cloned().collect();
        let action = GroupAction::DeleteOffsets { offsets: known };
        let mut deleted = match self.act(group, action).await? {
            (_, GroupReply::OffsetsDeleted(outcomes)) => outcomes.into_iter(),
            (_, other) => return Err(unexpected(&other)),
        };
        let outcome = |offset: Option<OffsetToDelete>| match offset.and_then(|_| deleted.next()) {
            Some(outcome) => outcome.map_err(GroupOpError::from),
            None => Err(GroupOpError::UnknownPartition),
        };
        Ok(offsets.into_iter().map(outcome).collect())
    }
}

fn to_commit(offset: CommitOffset) -> OffsetToCommit {
    OffsetToCommit {
        partition: offset.partition,
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: offset.metadata,
    }
}

fn as_committed(offset: &group::CommittedOffset) -> CommittedOffset {
    CommittedOffset {
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: offset.metadata.clone(),
        committed_at: offset.committed_at,
    }
}
