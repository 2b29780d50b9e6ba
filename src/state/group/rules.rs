//! How an action changes a group, its indexes and its numbers.

use super::changes::{Changes, OFFSETS_TOPIC_ID, name_of};
use super::{Group, GroupAction, Member, Which};
use crate::rules::{Rule, holds};
use crate::state::op::{Applied, Outcome, Rejected};
use crate::state::{Feature, State};
use crate::types::{GroupId, Incarnation, NodeId, Seq, TopicId};

impl State {
    /// Does what an action asks of a group, in a commit of `incarnation`.
    pub(in crate::state) fn change_group(
        &mut self,
        id: &GroupId,
        action: &GroupAction,
        incarnation: Incarnation,
    ) -> Outcome {
        let now = self.time;
        // An incarnation that slept until another was given its node's id speaks for nobody.
        let of_another = |node: &NodeId| {
            let known = self.nodes.get(node);
            known.is_some_and(|known| known.incarnation() != incarnation)
                && holds(Rule::OnlyCurrentIncarnationVouches)
        };
        if let Some(node) = action.speaker().filter(of_another) {
            return Err(Rejected::UnknownNode { node, incarnation });
        }
        self.refresh(id);
        let known = self.groups.get(id);
        let before = known.clone().unwrap_or_default();
        let mut group = before.clone();
        let mut touched = group.touched(action);
        let stays = self.empty_groups_stay();
        let exists = known
            .as_ref()
            .is_some_and(|known| stays || !known.is_vacant());
        let reply = group.make_mut().apply_to(action, now, exists)?;
        self.note_group_changed(id, action, &before, group.make_mut());
        let is_known = |topic: &TopicId| {
            self.topics.contains_key(topic)
                || (*topic == OFFSETS_TOPIC_ID && self.serves_offsets_topic())
        };
        for topic in action.topics().filter(|topic| !is_known(topic)) {
            group.make_mut().topic_deleted(topic);
        }
        if let Some(node) = action
            .voucher()
            .filter(|node| !self.nodes.contains_key(node))
        {
            group.make_mut().node_gone(node, now);
            touched.members = Which::All;
        }
        let stays = stays && known.is_some() && !group.ends_with(action);
        let mut after = Some(group).filter(|group| stays || !group.is_vacant());
        let (topics, serves) = (&self.topics, self.serves_offsets_topic());
        if let Some(changes) = &mut self.changes {
            let name = |topic| name_of(topics, serves, topic);
            changes.note(id, &before, after.as_mut(), action, now, name);
        }
        self.groups.put(id, after, &touched);
        Ok(Applied::Group(reply))
    }

    /// Whether a group of which nothing is left is still there.
    pub(in crate::state) fn empty_groups_stay(&self) -> bool {
        self.has(Feature::EmptyGroupsStay) && holds(Rule::EmptyGroupsStay)
    }

    /// Refreshes a group, which may then be changed.
    fn refresh(&mut self, id: &GroupId) {
        if !holds(Rule::GroupsCatchUpBeforeChange) {
            return;
        }
        let changes = &mut self.changes;
        self.groups.refresh(id, &mut |group, number| {
            if let Some(changes) = changes {
                changes.dropped(group, number);
            }
        });
    }

    /// Refreshes some groups with what is pending for them.
    pub(in crate::state) fn refresh_some(&mut self, most: u32) {
        let changes = &mut self.changes;
        self.groups.refresh_some(most, &mut |group, number| {
            if let Some(changes) = changes {
                changes.dropped(group, number);
            }
        });
    }

    /// From its level on the changes of groups are numbered, first what is there.
    pub(in crate::state) fn begin_changes(&mut self) {
        if self.changes.is_some() || !self.has(Feature::OffsetsTopic) {
            return;
        }
        self.refresh_some(u32::MAX);
        let mut changes = Changes::new();
        let now = self.time;
        self.groups
            .for_each(|id, group| changes.begin(id, group, now));
        self.changes = Some(changes);
    }

    /// Notes what `action` has made of a group, which was `before`.
    fn note_group_changed(
        &mut self,
        id: &GroupId,
        action: &GroupAction,
        before: &Group,
        group: &mut Group,
    ) {
        if !self.has(Feature::AskedOps) {
            return;
        }
        let seq = self.seq;
        match action {
            GroupAction::CommitOffsets(commit) => group.note_committed(commit, seq),
            GroupAction::Delete | GroupAction::DeleteOffsets { .. } => {
                self.after_group_deleted(id);
            }
            _ => {}
        }
        if let Some(member) = action.vouched_for() {
            let voucher = |group: &Group| group.member(member).map(Member::voucher);
            if voucher(group) != voucher(before) {
                group.note_vouched(member, seq);
            }
        }
    }

    /// When what this action overwrites was changed or deleted last.
    pub(in crate::state) fn changed_of_group(&self, id: &GroupId, action: &GroupAction) -> Seq {
        let group = self.group(id);
        let group = group.as_deref();
        let vouched = |member| {
            let member = group.and_then(|group| group.member(member));
            member.map(|member| member.vouched()).unwrap_or_default()
        };
        let committed = |partition| {
            let offset = group.and_then(|group| group.offset(partition));
            offset.map(|offset| offset.changed).unwrap_or_default()
        };
        match action {
            GroupAction::CommitOffsets(commit) => {
                let offsets = commit.offsets.iter();
                let changed = offsets.map(|offset| {
                    let topic = self.sized(offset.partition.topic);
                    committed(offset.partition).max(topic)
                });
                let changed = changed.max();
                changed
                    .max(commit.member.as_ref().map(vouched))
                    .unwrap_or_default()
                    .max(self.deletions.last_of_group(id))
            }
            GroupAction::DeleteOffsets { offsets } => {
                let changed = offsets.iter().map(|offset| committed(offset.partition));
                changed.max().unwrap_or_default()
            }
            GroupAction::Delete => {
                let offsets = group.into_iter().flat_map(|group| group.offsets());
                let changed = offsets.map(|(_, offset)| offset.changed);
                changed.max().unwrap_or_default()
            }
            GroupAction::Join(join) => vouched(&join.member),
            GroupAction::Sync(sync) => vouched(&sync.member),
            GroupAction::Adopt { member, .. } => vouched(member),
            // A member says once that it leaves, and the others are the fold's own to judge.
            GroupAction::Leave { .. }
            | GroupAction::ExpireMember { .. }
            | GroupAction::CompleteJoin { .. }
            | GroupAction::CompleteSync { .. }
            | GroupAction::ExpireOffsets { .. } => Seq::ZERO,
        }
    }
}
