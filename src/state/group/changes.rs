//! The changes of groups, numbered: the offsets of what is served as `__consumer_offsets`.
//!
//! Kafka's coordinator writes what a group has committed, and who is in it, to a compacted topic. Here that is in the
//! state, and tools that read the topic are shown a view of it (`broker/offsets_topic`). What the view needs and the
//! groups alone do not say is an order: in a log, what changed later stands further back, and whoever reads on finds
//! each change once. So each change of a group takes the next number of its partition; a committed offset and a group's
//! description remember theirs. The numbers are the offsets: dense as they are given, the same on every node, never
//! given twice.
//!
//! Numbered are what Kafka writes: a committed offset; a group when a generation has got its assignment, when its last
//! member has left, when a static member rejoins; and what is deleted or expires. Of what went, the
//! last [`MAX_GONE`] are remembered as tombstones. What goes with its topic leaves none: a deleted topic may concern
//! any number of groups, and the fold visits none of them for it (`group/groups.rs`).
//!
//! Which partition a group is in is Kafka's own rule, so that tools that compute it look in the right partition.
//!
//! From [`Feature::OffsetsTopic`](crate::state::Feature::OffsetsTopic) on: the first commit after it numbers what is
//! there, once, in the order of the groups' ids.

use imbl::OrdMap;
use minicbor::{Decode, Encode};
use serde::Serialize;
use uuid::Uuid;

use super::{Group, GroupAction, Numbered, Phase};
use crate::rules::{Rule, holds};
use crate::state::codec::{Shared, map};
use crate::state::{State, Topic};
use crate::types::{
    GroupId, Offset, PartitionIndex, Timestamp, TopicId, TopicName, TopicPartition,
};

/// The topic's name.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// The topic's id, in every cluster.
pub const OFFSETS_TOPIC_ID: TopicId =
    TopicId(Uuid::from_u128(0x7765_6972_0000_4000_8000_5f5f_6f66_6673));

/// How many partitions the topic has: Kafka's `offsets.topic.num.partitions`.
pub const OFFSETS_PARTITIONS: i32 = 50;

/// How many tombstones are remembered.
const MAX_GONE: usize = 10_000;

/// Where a change stands: a partition of the topic, and an offset in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize)]
#[cbor(array)]
struct Position {
    #[n(0)]
    partition: i32,
    #[n(1)]
    offset: u64,
}

/// What a tombstone stands for.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize)]
#[cbor(array)]
struct Gone {
    #[n(0)]
    group: GroupId,
    /// A committed offset of it, or the group itself.
    #[n(1)]
    offset: Option<(TopicName, PartitionIndex)>,
    #[n(2)]
    at: Timestamp,
    /// Which of all tombstones it is: the first are forgotten first.
    #[n(3)]
    ordinal: u64,
}

/// The numbers that were given, and what they were given for.
#[derive(Clone, Debug, Default, Encode, Decode, Serialize)]
#[cbor(array)]
pub(in crate::state) struct Changes {
    /// The number that the next change in each partition takes.
    #[n(0)]
    next: Vec<u64>,
    #[cbor(n(1), with = "map")]
    #[serde(serialize_with = "as_list")]
    gone: OrdMap<Position, Gone>,
    /// How many tombstones there were ever.
    #[n(2)]
    buried: u64,
    /// What is found at each position. Derived.
    #[cbor(skip)]
    #[serde(skip)]
    positions: OrdMap<Position, What>,
    /// The tombstones in the order in which they came. Derived.
    #[cbor(skip)]
    #[serde(skip)]
    ordinals: OrdMap<u64, Position>,
}

/// What stands at a position.
#[derive(Clone, Debug, PartialEq)]
enum What {
    Offset(GroupId, TopicPartition),
    Group(GroupId),
    Gone,
}

impl PartialEq for Changes {
    /// What is derived does not count: what went with its topic may still be in it.
    fn eq(&self, other: &Changes) -> bool {
        (&self.next, &self.gone, self.buried) == (&other.next, &other.gone, other.buried)
    }
}

fn as_list<S: serde::Serializer>(gone: &OrdMap<Position, Gone>, s: S) -> Result<S::Ok, S::Error> {
    s.collect_seq(gone.iter())
}

/// A change as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupChange {
    /// Its offset in the partition.
    pub offset: Offset,
    /// When it was made, in the fold's time.
    pub at: Timestamp,
    /// The group.
    pub group: GroupId,
    /// What was changed.
    pub what: Changed,
}

/// What of a group was changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Changed {
    /// An offset was committed.
    Offset {
        /// The topic.
        topic: TopicName,
        /// The partition of the topic; the group has an offset of it.
        partition: TopicPartition,
        /// The group, in which the offset is.
        group: Shared<Group>,
    },
    /// The group has another generation, or other members.
    Group(Shared<Group>),
    /// A committed offset is gone.
    OffsetGone {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionIndex,
    },
    /// The group is gone.
    GroupGone,
}

/// The partition in which a group's changes are: Kafka's `Utils.abs(groupId.hashCode()) % 50`.
pub fn offsets_partition_of(group: &GroupId) -> PartitionIndex {
    let units = group.as_str().encode_utf16();
    let hash = units.fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    // As in Java, where the least number has no absolute value; Kafka takes 0.
    PartitionIndex(hash.checked_abs().unwrap_or(0) % OFFSETS_PARTITIONS)
}

impl Changes {
    /// Numbers for groups that have none yet.
    pub(in crate::state) fn new() -> Changes {
        Changes {
            next: vec![0; OFFSETS_PARTITIONS as usize],
            ..Changes::default()
        }
    }

    fn take(&mut self, group: &GroupId) -> Position {
        let partition = offsets_partition_of(group).0;
        let at = usize::try_from(partition).unwrap_or_default();
        if self.next.len() <= at {
            self.next.resize(at + 1, 0);
        }
        let next = self.next.get_mut(at);
        let offset = next.map_or(0, |next| {
            let offset = *next;
            if holds(Rule::ChangeNumbersAreUnique) {
                *next = next.saturating_add(1);
            }
            offset
        });
        Position { partition, offset }
    }

    /// The offset after the last change of a partition.
    fn end(&self, partition: PartitionIndex) -> Option<u64> {
        self.next.get(usize::try_from(partition.0).ok()?).copied()
    }

    fn forget(&mut self, group: &GroupId, number: Option<u64>) {
        if let Some(offset) = number {
            let partition = offsets_partition_of(group).0;
            self.positions.remove(&Position { partition, offset });
        }
    }

    fn bury(
        &mut self,
        group: &GroupId,
        offset: Option<(TopicName, PartitionIndex)>,
        at: Timestamp,
    ) {
        let position = self.take(group);
        let gone = Gone {
            group: group.clone(),
            offset,
            at,
            ordinal: self.buried,
        };
        self.positions.insert(position, What::Gone);
        self.ordinals.insert(self.buried, position);
        self.gone.insert(position, gone);
        self.buried = self.buried.saturating_add(1);
        while self.gone.len() > MAX_GONE
            && let Some((ordinal, position)) = self.ordinals.get_min().cloned()
        {
            self.ordinals.remove(&ordinal);
            self.gone.remove(&position);
            self.positions.remove(&position);
        }
    }

    /// Numbers an offset of a group, which was just committed.
    fn number_offset(&mut self, id: &GroupId, group: &mut Group, partition: TopicPartition) {
        if group.offset(partition).is_none() {
            return;
        }
        let position = self.take(id);
        group.number_offset(partition, position.offset);
        self.positions
            .insert(position, What::Offset(id.clone(), partition));
    }

    fn number_group(&mut self, id: &GroupId, group: &mut Group, at: Timestamp) {
        self.forget(id, group.numbered().map(|known| known.offset));
        let position = self.take(id);
        let offset = position.offset;
        group.number(Numbered { offset, at });
        self.positions.insert(position, What::Group(id.clone()));
    }

    /// Numbers what `action` has made of a group: it was `before` and is `after`, or no more. `name` knows the topics.
    pub(in crate::state) fn note(
        &mut self,
        id: &GroupId,
        before: &Group,
        after: Option<&mut Shared<Group>>,
        action: &GroupAction,
        at: Timestamp,
        name: impl Fn(TopicId) -> Option<TopicName>,
    ) {
        match action {
            GroupAction::CommitOffsets(commit) => {
                let Some(after) = after else { return };
                let after = after.make_mut();
                for offset in &commit.offsets {
                    let partition = offset.partition;
                    // Of one that is named twice the earlier number is taken back.
                    let number = |of: &Group| of.offset(partition).and_then(|offset| offset.number);
                    self.forget(id, number(after).or(number(before)));
                    self.number_offset(id, after, partition);
                }
            }
            GroupAction::DeleteOffsets { .. }
            | GroupAction::ExpireOffsets { .. }
            | GroupAction::Delete => {
                let is_left = |partition| {
                    let after = after.as_ref();
                    after.is_some_and(|after| after.offset(partition).is_some())
                };
                let gone = before
                    .offsets()
                    .filter(|(partition, _)| !is_left(*partition));
                for (partition, offset) in gone {
                    self.forget(id, offset.number);
                    if let Some(topic) = name(partition.topic) {
                        self.bury(id, Some((topic, partition.partition)), at);
                    }
                }
                if after.is_none()
                    && let Some(known) = before.numbered()
                {
                    self.forget(id, Some(known.offset));
                    self.bury(id, None, at);
                }
            }
            _ => {
                if let Some(after) = after
                    && shows_more(before, after, action)
                {
                    self.number_group(id, after.make_mut(), at);
                }
            }
        }
    }

    /// Numbers all of a group that has no numbers yet.
    pub(in crate::state) fn begin(
        &mut self,
        id: &GroupId,
        group: &mut Shared<Group>,
        at: Timestamp,
    ) {
        let partitions: Vec<TopicPartition> = group.offsets().map(|(at, _)| at).collect();
        let group = group.make_mut();
        for partition in partitions {
            self.number_offset(id, group, partition);
        }
        if is_between_rebalances(group) {
            self.number_group(id, group, at);
        }
    }

    /// An offset went with its topic.
    pub(in crate::state) fn dropped(&mut self, group: &GroupId, number: u64) {
        self.forget(group, Some(number));
    }

    /// Makes what is derived.
    pub(in crate::state) fn derive<'a>(
        &mut self,
        groups: impl Iterator<Item = (&'a GroupId, Shared<Group>)>,
    ) {
        for (id, group) in groups {
            let partition = offsets_partition_of(id).0;
            for (at, offset) in group.offsets() {
                if let Some(offset) = offset.number {
                    let position = Position { partition, offset };
                    self.positions
                        .insert(position, What::Offset(id.clone(), at));
                }
            }
            if let Some(Numbered { offset, .. }) = group.numbered() {
                let position = Position { partition, offset };
                self.positions.insert(position, What::Group(id.clone()));
            }
        }
        for (position, gone) in &self.gone {
            self.positions.insert(*position, What::Gone);
            self.ordinals.insert(gone.ordinal, *position);
        }
    }
}

/// Whether a group is as a record of Kafka's shows it: between rebalances, and not of offsets only.
fn is_between_rebalances(group: &Group) -> bool {
    group.protocol_type().is_some()
        && matches!(group.phase(), Phase::Empty { .. } | Phase::Stable { .. })
}

/// Whether Kafka would write a record of the group.
fn shows_more(before: &Group, after: &Group, action: &GroupAction) -> bool {
    let same_phase =
        std::mem::discriminant(&before.phase()) == std::mem::discriminant(&after.phase());
    let same = same_phase && before.generation() == after.generation();
    let replaced = match action {
        GroupAction::Join(join) => {
            before.member(&join.member).is_none() && after.member(&join.member).is_some()
        }
        _ => false,
    };
    is_between_rebalances(after) && (!same || replaced)
}

/// The name of a topic of which offsets can be committed. `__consumer_offsets` is not among the others.
pub(in crate::state) fn name_of(
    topics: &OrdMap<TopicId, Shared<Topic>>,
    serves: bool,
    topic: TopicId,
) -> Option<TopicName> {
    if topic == OFFSETS_TOPIC_ID && serves {
        return TopicName::new(OFFSETS_TOPIC).ok();
    }
    topics.get(&topic).map(|topic| topic.name().clone())
}

impl State {
    /// The offset after the last change in a partition of `__consumer_offsets`; `None` if there is no such partition.
    pub fn group_changes_end(&self, partition: PartitionIndex) -> Option<Offset> {
        let end = self.changes.as_ref()?.end(partition)?;
        Some(Offset(i64::try_from(end).unwrap_or(i64::MAX)))
    }

    /// The changes in a partition of `__consumer_offsets` that are still true, from an offset on. While a group
    /// rebalances it is not among them: it will have another number after that.
    pub fn group_changes(
        &self,
        partition: PartitionIndex,
        from: Offset,
    ) -> impl Iterator<Item = GroupChange> {
        let partition = partition.0;
        let offset = u64::try_from(from.0).unwrap_or(0);
        let range = Position { partition, offset }..Position {
            partition: partition.saturating_add(1),
            offset: 0,
        };
        let changes = self.changes.iter();
        changes
            .flat_map(move |changes| {
                changes
                    .positions
                    .range(range.clone())
                    .map(move |at| (changes, at))
            })
            .filter_map(|(changes, (position, what))| self.shown(changes, *position, what))
    }

    fn shown(&self, changes: &Changes, position: Position, what: &What) -> Option<GroupChange> {
        let (at, id, what) = match what {
            What::Offset(id, partition) => {
                let group = self.group(id)?;
                let committed = group.offset(*partition)?;
                let at = committed.committed_at;
                if committed.number != Some(position.offset) {
                    return None;
                }
                let topic = name_of(&self.topics, self.serves_offsets_topic(), partition.topic)?;
                let partition = *partition;
                let what = Changed::Offset {
                    topic,
                    partition,
                    group,
                };
                (at, id.clone(), what)
            }
            What::Group(id) => {
                let group = self
                    .group(id)
                    .filter(|group| is_between_rebalances(group))?;
                let numbered = group
                    .numbered()
                    .filter(|known| known.offset == position.offset)?;
                (numbered.at, id.clone(), Changed::Group(group))
            }
            What::Gone => {
                let gone = changes.gone.get(&position)?;
                let what = match gone.offset.clone() {
                    Some((topic, partition)) => Changed::OffsetGone { topic, partition },
                    None => Changed::GroupGone,
                };
                (gone.at, gone.group.clone(), what)
            }
        };
        Some(GroupChange {
            offset: Offset(i64::try_from(position.offset).unwrap_or(i64::MAX)),
            at,
            group: id,
            what,
        })
    }

    /// Whether `__consumer_offsets` is the view of these changes. A topic of that name that was made before it was
    /// one's own affair hides the view for as long as it exists.
    pub fn serves_offsets_topic(&self) -> bool {
        self.changes.is_some() && self.topic_by_name(OFFSETS_TOPIC).is_none()
    }

    /// The name of the topic of a partition of which offsets can be committed.
    pub fn name_of_partition(&self, partition: TopicPartition) -> Option<TopicName> {
        let name = name_of(&self.topics, self.serves_offsets_topic(), partition.topic);
        name.filter(|_| self.has_partition(partition))
    }

    /// Whether any change of a group was ever numbered.
    pub fn has_group_changes(&self) -> bool {
        let mut next = self.changes.iter().flat_map(|changes| &changes.next);
        next.any(|next| *next > 0)
    }

    /// Whether offsets of the partition can be committed: it exists, or is one of `__consumer_offsets`.
    pub fn has_partition(&self, partition: TopicPartition) -> bool {
        let of_view = partition.topic == OFFSETS_TOPIC_ID
            && (0..OFFSETS_PARTITIONS).contains(&partition.partition.0);
        self.partition(partition).is_some() || of_view && self.serves_offsets_topic()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Changes {
        /// How many positions something is found at.
        pub(in crate::state) fn position_count(&self) -> usize {
            self.positions.len()
        }
    }
}
