//! The offsets that consumer groups commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::broker::access::{Denied, Permit};
use crate::broker::{Home, Session};
use crate::state::group::{
    self, CommitOffsets, GroupAction, GroupReply, OffsetToCommit, OffsetToDelete,
};
use crate::state::op::Op;
use crate::state::{OFFSETS_TOPIC, State};
use crate::types::{Generation, GroupId, TopicPartition};

use super::coordinator::{Groups, reply, unexpected};
use super::membership::check_group_id;
use super::{CommitOffset, CommittedOffset, GroupOpError, Identity};

type Outcomes = Vec<Result<(), GroupOpError>>;

impl Groups {
    pub(super) async fn commit_offsets(
        &self,
        _: Permit,
        session: &Session,
        identity: &Identity,
        offsets: Vec<CommitOffset>,
        of_topic: impl Fn(&str) -> Result<Permit, Denied>,
    ) -> Result<Outcomes, GroupOpError> {
        let session = self.arrives(session);
        let state = self.state_with_topics(&identity.group, &offsets).await?;
        let limit = self.settings().offset_metadata_max;
        let may_commit = |offset: &CommitOffset| {
            let permit = permitted(&state, offset.partition, &of_topic)?;
            check_metadata(permit, offset, limit)
        };
        let outcomes: Outcomes = offsets.iter().map(may_commit).collect();
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
        let ops = |state: &State| {
            let mut actions = self.adoption(state, identity);
            if *generation < Generation(0)
                && let Some(found) = state.group(group)
            {
                // Who commits from outside may do so once nobody is in the group.
                actions = self.overdue(state, group, &found, true);
            }
            actions.push(GroupAction::CommitOffsets(commit.clone()));
            let ops = actions.into_iter().map(|action| Op::Group {
                group: group.clone(),
                action,
            });
            ops.collect()
        };
        let mut committed = self.commit(&session, group, state, ops).await?;
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
    fn adoption(&self, state: &State, identity: &Identity) -> Vec<GroupAction> {
        let Identity {
            group,
            member,
            instance,
            generation,
        } = identity;
        let found = state.group(group);
        let found = found.as_ref().and_then(|g| g.member(member));
        let moved = found.is_some_and(|m| !self.speaks_for(state, m.voucher()));
        let me = state.node_of(self.incarnation);
        let Some(node) = me.filter(|_| moved && *generation != Generation::NONE) else {
            return Vec::new();
        };
        let (member, instance, generation) = (member.clone(), instance.clone(), *generation);
        vec![GroupAction::Adopt {
            member,
            instance,
            generation,
            node,
        }]
    }

    /// A state that knows the topics, or is up to date.
    async fn state_with_topics(
        &self,
        group: &GroupId,
        offsets: &[CommitOffset],
    ) -> Result<Arc<State>, GroupOpError> {
        let home = Home::Group(group);
        let state = self.logs.of(home).state();
        if offsets.iter().all(|o| state.has_partition(o.partition)) {
            return Ok(state);
        }
        Ok(self.fresh(home).await?)
    }

    pub(super) async fn committed_offsets(
        &self,
        _: Permit,
        group: &GroupId,
        partitions: Option<&[TopicPartition]>,
        of_topic: impl Fn(&str) -> Result<Permit, Denied>,
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>, GroupOpError> {
        let state = self.fresh(Home::Group(group)).await?;
        let Some(group) = state.group(group) else {
            return Ok(BTreeMap::new());
        };
        let mut found = BTreeMap::new();
        let Some(partitions) = partitions else {
            for (at, offset) in group.offsets() {
                if let Ok(permit) = permitted(&state, at, &of_topic) {
                    found.insert(at, as_committed(permit, offset));
                }
            }
            return Ok(found);
        };
        for at in partitions {
            match (permitted(&state, *at, &of_topic), group.offset(*at)) {
                (Ok(permit), Some(offset)) => {
                    found.insert(*at, as_committed(permit, offset));
                }
                // Of what there is not nothing is committed.
                (Ok(_), None) | (Err(GroupOpError::UnknownPartition), _) => {}
                (Err(error), _) => return Err(error),
            }
        }
        Ok(found)
    }

    pub(super) async fn delete_offsets(
        &self,
        _: Permit,
        session: &Session,
        group: &GroupId,
        partitions: &[TopicPartition],
        of_topic: impl Fn(&str) -> Result<Permit, Denied>,
    ) -> Result<Outcomes, GroupOpError> {
        check_group_id(group)?;
        let session = self.arrives(session);
        let state = self.fresh(Home::Group(group)).await?;
        if state.group(group).is_none() {
            return Err(GroupOpError::GroupIdNotFound);
        }
        let named = |at: &TopicPartition| {
            let topic = state.name_of_partition(*at);
            let topic = topic.ok_or(GroupOpError::UnknownPartition)?;
            let _: Permit = of_topic(topic.as_str())?;
            Ok(OffsetToDelete {
                partition: *at,
                topic,
            })
        };
        let offsets: Vec<Result<OffsetToDelete, GroupOpError>> =
            partitions.iter().map(named).collect();
        let known = offsets.iter().flatten().cloned().collect();
        let action = GroupAction::DeleteOffsets { offsets: known };
        let mut deleted = match self.act_in_time(&session, group, action).await? {
            (_, GroupReply::OffsetsDeleted(outcomes)) => outcomes.into_iter(),
            (_, other) => return Err(unexpected(&other)),
        };
        let outcome = |offset: Result<OffsetToDelete, GroupOpError>| {
            offset?;
            match deleted.next() {
                Some(outcome) => outcome.map_err(GroupOpError::from),
                None => Err(GroupOpError::UnknownPartition),
            }
        };
        Ok(offsets.into_iter().map(outcome).collect())
    }
}

/// The permit for the topic of the partition, if there is such.
fn permitted(
    state: &State,
    partition: TopicPartition,
    of_topic: impl Fn(&str) -> Result<Permit, Denied>,
) -> Result<Permit, GroupOpError> {
    if !state.has_partition(partition) {
        return Err(GroupOpError::UnknownPartition);
    }
    let topic = state.topic(partition.topic);
    // What is not stored is the view of the groups.
    Ok(of_topic(
        topic.map_or(OFFSETS_TOPIC, |topic| topic.name().as_str()),
    )?)
}

/// As Kafka: the limit of the metadata counts characters (UTF-16 units), whatever its name says. The state's bound
/// counts bytes.
fn check_metadata(_: Permit, offset: &CommitOffset, limit: usize) -> Result<(), GroupOpError> {
    let Some(metadata) = &offset.metadata else {
        return Ok(());
    };
    let found = metadata.encode_utf16().count();
    if found > limit || metadata.len() > group::MAX_OFFSET_METADATA_BYTES {
        return Err(GroupOpError::OffsetMetadataTooLarge { found, limit });
    }
    Ok(())
}

fn to_commit(offset: CommitOffset) -> OffsetToCommit {
    OffsetToCommit {
        partition: offset.partition,
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: offset.metadata,
    }
}

fn as_committed(_: Permit, offset: &group::CommittedOffset) -> CommittedOffset {
    CommittedOffset {
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: offset.metadata.clone(),
        committed_at: offset.committed_at,
    }
}
