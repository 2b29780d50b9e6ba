//! All groups, and which of them a node or a topic concerns.
//!
//! A node may vouch for a hundred thousand members when it goes, and as many groups may have offsets of a topic when
//! it is deleted. The fold must not stall for either: each node folds it, and nothing else meanwhile. So such an event
//! is noted once, with the groups that it concerns, which the index hands over whole; and each of them is *refreshed*,
//! that is changed by it, later: before anything else changes the group, and a few groups with each commit.
//!
//! Nobody can tell. A group is shown, compared and encoded as it is with what is pending applied, in the order in which
//! it happened; it is changed only after that. So the outcome is the same, byte for byte, as if every group had been
//! visited at once. The indexes and what is pending are in no snapshot: in a snapshot every group is refreshed, and
//! whoever reads it makes the indexes of it. Two nodes may have refreshed different groups at the same seq and are
//! still in the same state (I3).

use std::collections::BTreeMap;

use imbl::{OrdMap, Vector};
use minicbor::decode::{self, Decoder};
use minicbor::encode::{self, Encoder, Write};
use minicbor::{Decode, Encode};
use serde::{Serialize, Serializer};

use super::{Group, Touched, Which};
use crate::state::State;
use crate::state::codec::{Shared, map};
use crate::types::{GroupId, NodeId, Timestamp, TopicId};

/// How many members, or groups without any, are refreshed with each commit: about a millisecond of work. Tests refresh
/// as little as there is, so that they see what is not refreshed.
pub(in crate::state) const REFRESHED_PER_COMMIT: u32 = if cfg!(test) { 1 } else { 500 };

/// Groups, with how many of their members are concerned; at least one each.
type Concerned = OrdMap<GroupId, u32>;

/// All groups.
#[derive(Clone, Debug, Default)]
pub(in crate::state) struct Groups {
    all: OrdMap<GroupId, Shared<Group>>,
    /// In which groups each node vouches for members, and for how many. Derived.
    vouched: OrdMap<NodeId, Concerned>,
    /// Which groups have offsets of each topic. Derived.
    committed: OrdMap<TopicId, Concerned>,
    /// What happened to groups that do not show it yet, oldest first.
    pending: Vector<Pending>,
}

/// Something that happened to many groups.
#[derive(Clone, Debug)]
struct Pending {
    event: Event,
    /// Those that do not show it yet.
    groups: Concerned,
    /// Whether a group of which it leaves nothing is forgotten.
    forgets: bool,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    NodeGone(NodeId, Timestamp),
    TopicDeleted(TopicId),
}

impl Pending {
    /// Applies it to one of its groups; `None` if nothing worth remembering is left.
    fn apply(&self, mut group: Shared<Group>) -> Option<Shared<Group>> {
        match self.event {
            Event::NodeGone(node, at) => group.make_mut().node_gone(node, at),
            Event::TopicDeleted(topic) => group.make_mut().topic_deleted(topic),
        }
        (!self.forgets || !group.is_vacant()).then_some(group)
    }
}

impl Groups {
    /// A group.
    pub(in crate::state) fn get(&self, id: &GroupId) -> Option<Shared<Group>> {
        self.shown(id, self.all.get(id)?)
    }

    /// All groups, by id.
    pub(in crate::state) fn iter(&self) -> impl Iterator<Item = (&GroupId, Shared<Group>)> {
        let all = self.all.iter();
        all.filter_map(|(id, group)| Some((id, self.shown(id, group)?)))
    }

    /// The groups in which a node vouches for members, by id.
    pub(in crate::state) fn vouched_by(
        &self,
        node: NodeId,
    ) -> impl Iterator<Item = (&GroupId, Shared<Group>)> {
        let groups = self.vouched.get(&node).into_iter();
        groups
            .flat_map(|groups| groups.keys())
            .filter_map(|id| Some((id, self.get(id)?)))
    }

    /// The group as it is with what is pending.
    fn shown(&self, id: &GroupId, group: &Shared<Group>) -> Option<Shared<Group>> {
        let mut concerned = self
            .pending
            .iter()
            .filter(|pending| pending.groups.contains_key(id));
        concerned.try_fold(group.clone(), |group, pending| pending.apply(group))
    }

    /// A node is gone, and with it who vouched for its members.
    pub(in crate::state) fn node_gone(&mut self, node: NodeId, at: Timestamp, forgets: bool) {
        if let Some(groups) = self.vouched.remove(&node) {
            self.note(Event::NodeGone(node, at), groups, forgets);
        }
    }

    /// A topic is gone, and what was committed for it.
    pub(in crate::state) fn topic_deleted(&mut self, topic: TopicId, forgets: bool) {
        if let Some(groups) = self.committed.remove(&topic) {
            self.note(Event::TopicDeleted(topic), groups, forgets);
        }
    }

    fn note(&mut self, event: Event, groups: Concerned, forgets: bool) {
        self.pending.push_back(Pending {
            event,
            groups,
            forgets,
        });
    }

    /// Refreshes all of what is pending, or a few groups of it. `dropped` is told of the offsets that went with their
    /// topic, by their numbers.
    pub(in crate::state) fn refresh_some(
        &mut self,
        most: u32,
        dropped: &mut impl FnMut(&GroupId, u64),
    ) {
        let mut left = most;
        while let Some(oldest) = self.pending.front()
            && left > 0
        {
            match oldest.groups.get_min().cloned() {
                Some((id, members)) => {
                    self.refresh(&id, dropped);
                    left = left.saturating_sub(members);
                }
                None => {
                    self.pending.pop_front();
                }
            }
        }
    }

    /// Refreshes the group, which may then be changed.
    pub(in crate::state) fn refresh(
        &mut self,
        id: &GroupId,
        dropped: &mut impl FnMut(&GroupId, u64),
    ) {
        let concerned = |pending: &Pending| pending.groups.contains_key(id);
        if !self.pending.iter().any(concerned) {
            return;
        }
        if let Some(group) = self.all.get(id) {
            let refreshed = self.shown(id, group);
            for pending in self.pending.iter().filter(|pending| concerned(pending)) {
                if let Event::TopicDeleted(topic) = pending.event {
                    let numbers = group.numbers_of(topic);
                    numbers.for_each(|number| dropped(id, number));
                }
            }
            match refreshed {
                Some(refreshed) => self.all.insert(id.clone(), refreshed),
                None => self.all.remove(id),
            };
        }
        for at in 0..self.pending.len() {
            if self.pending.get(at).is_some_and(concerned)
                && let Some(pending) = self.pending.get_mut(at)
            {
                pending.groups.remove(id);
            }
        }
    }

    /// Sets, or forgets, a refreshed group, of which only what is `touched` was changed.
    pub(in crate::state) fn put(
        &mut self,
        id: &GroupId,
        group: Option<Shared<Group>>,
        touched: &Touched,
    ) {
        let before = self.all.get(id).cloned();
        let mut vouchers: BTreeMap<NodeId, i64> = BTreeMap::new();
        for (found, sign) in [(&before, -1), (&group, 1)] {
            let nodes = found
                .iter()
                .flat_map(|group| group.vouchers(&touched.members));
            nodes.for_each(|node| *vouchers.entry(node).or_default() += sign);
        }
        for (node, change) in vouchers {
            let concerned = self.vouched.get(&node).and_then(|groups| groups.get(id));
            let count = i64::from(concerned.copied().unwrap_or(0)) + change;
            enter(
                &mut self.vouched,
                node,
                id,
                u32::try_from(count).unwrap_or(0),
            );
        }
        let topics: Vec<TopicId> = match &touched.topics {
            Which::These(topics) => topics.clone(),
            Which::All => [&before, &group]
                .into_iter()
                .flatten()
                .flat_map(|group| group.topics())
                .collect(),
        };
        for topic in topics {
            let has = group
                .as_ref()
                .is_some_and(|group| group.has_offsets_of(topic));
            enter(&mut self.committed, topic, id, u32::from(has));
        }
        match group {
            Some(group) => self.all.insert(id.clone(), group),
            None => self.all.remove(id),
        };
    }

    /// Changes every group in ways that no index knows of. All are refreshed.
    pub(in crate::state) fn for_each(
        &mut self,
        mut change: impl FnMut(&GroupId, &mut Shared<Group>),
    ) {
        for (id, mut group) in self.all.clone() {
            change(&id, &mut group);
            self.all.insert(id, group);
        }
    }

    /// The groups of a snapshot, which are refreshed.
    fn of(all: OrdMap<GroupId, Shared<Group>>) -> Groups {
        let mut groups = Groups::default();
        for (id, group) in all {
            groups.put(&id, Some(group), &Touched::everything());
        }
        groups
    }
}

/// Enters how many members of a group an event of `key` would concern; none takes the entry out.
fn enter<K: Ord + Clone>(index: &mut OrdMap<K, Concerned>, key: K, id: &GroupId, count: u32) {
    if count > 0 {
        index.entry(key).or_default().insert(id.clone(), count);
    } else if let Some(groups) = index.get_mut(&key) {
        groups.remove(id);
        if groups.is_empty() {
            index.remove(&key);
        }
    }
}

impl PartialEq for Groups {
    fn eq(&self, other: &Groups) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<C> Encode<C> for Groups {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        if self.pending.is_empty() {
            return map::encode(&self.all, e, ctx);
        }
        let refreshed: OrdMap<GroupId, Shared<Group>> =
            self.iter().map(|(id, group)| (id.clone(), group)).collect();
        map::encode(&refreshed, e, ctx)
    }
}

impl<'b, C> Decode<'b, C> for Groups {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Self, decode::Error> {
        map::decode(d, ctx).map(Groups::of)
    }
}

impl Serialize for Groups {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.iter())
    }
}

impl State {
    /// The group of this id.
    pub fn group(&self, id: &GroupId) -> Option<Shared<Group>> {
        self.groups.get(id)
    }

    /// All groups, by id.
    pub fn groups(&self) -> impl Iterator<Item = (&GroupId, Shared<Group>)> {
        self.groups.iter()
    }

    /// The groups in which a node vouches for members, by id.
    pub fn groups_vouched_by(
        &self,
        node: NodeId,
    ) -> impl Iterator<Item = (&GroupId, Shared<Group>)> {
        self.groups.vouched_by(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Groups {
        /// How many groups something is pending for.
        pub(in crate::state) fn outdated(&self) -> usize {
            self.pending
                .iter()
                .map(|pending| pending.groups.len())
                .sum()
        }

        /// The same groups with their indexes made anew.
        pub(in crate::state) fn indexed_anew(&self) -> Groups {
            Groups::of(self.iter().map(|(id, group)| (id.clone(), group)).collect())
        }

        /// Both indexes, for comparison.
        pub(in crate::state) fn indexes(&self) -> impl PartialEq + std::fmt::Debug + use<> {
            (self.vouched.clone(), self.committed.clone())
        }
    }
}
