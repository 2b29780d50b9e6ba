//! The state of the cluster: a pure fold of the manifest.
//!
//! [`State::apply`] takes the next commit and returns the outcome of each of its ops. Every node folds the
//! same log to the same state, byte for byte (I3). So this room has no clock, no randomness, no I/O and no
//! iteration in an order that could differ between two nodes; time is the highest wall time of any commit.
//!
//! The collections are persistent (`imbl`): cloning a state costs a few pointers, and the clone is a
//! consistent view that readers keep while later commits are folded. That is how every request sees one
//! moment of the whole cluster without a lock.
//!
//! Whatever a commit contains, `apply` does not panic and stays within the bounds it can judge: an op that
//! is not valid (any more) gets an error as its outcome and changes nothing.

mod codec;
pub mod group;
mod node;
pub mod op;
mod partition;
mod producer;
mod topic;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use imbl::OrdMap;
use minicbor::{Decode, Encode};
use serde::Serialize;

pub use codec::Shared;
pub use group::Group;
pub use node::Node;
pub use partition::{ObjectRef, Partition, Slice, SliceIndex};
pub use producer::Producer;
pub use topic::Topic;

use codec::map;
use group::{GroupAction, GroupReply};
use op::{
    Append, AppendRejected, AppendSource, Applied, Commit, CreateTopic, Op, Outcome, RegisterNode,
    Rejected,
};

use crate::mutants::{self, Mutant};
use crate::types::{
    GroupId, Incarnation, NodeId, Offset, ProducerId, Seq, Timestamp, TopicId, TopicName,
    TopicPartition,
};

/// The most partitions that a topic may have.
pub const MAX_PARTITIONS: i32 = 100_000;

/// How many authors of commits are remembered for the duplicate guard. A commit can only come twice from
/// an author that is still trying to settle it, so the least recent are safe to forget.
const MAX_AUTHORS: usize = 1024;

/// The state of the cluster at one seq.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct State {
    #[n(0)]
    seq: Seq,
    #[n(1)]
    time: Timestamp,
    #[n(2)]
    next_producer_id: ProducerId,
    #[n(3)]
    configs: BTreeMap<String, String>,
    #[cbor(n(4), with = "map")]
    topics: OrdMap<TopicId, Shared<Topic>>,
    #[cbor(n(5), with = "map")]
    groups: OrdMap<GroupId, Shared<Group>>,
    #[cbor(n(6), with = "map")]
    nodes: OrdMap<NodeId, Shared<Node>>,
    #[cbor(n(7), with = "map")]
    authors: OrdMap<Incarnation, Author>,
    /// The newest snapshots, oldest first.
    #[n(8)]
    snapshots: Vec<Snapshot>,
    /// Derived from `topics`.
    #[cbor(skip)]
    #[serde(skip)]
    names: OrdMap<TopicName, TopicId>,
}

/// A stored snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Snapshot {
    /// The seq of the state in it.
    #[n(0)]
    pub seq: Seq,
    /// Its size in bytes.
    #[n(1)]
    pub bytes: u64,
}

/// How many snapshots are kept: one to start from, and others for a node that is just reading one when
/// the next is taken.
const KEPT_SNAPSHOTS: usize = 4;

/// What is remembered of one author of commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
struct Author {
    /// The counter of its last commit.
    #[n(0)]
    counter: u64,
    /// The seq of its last commit.
    #[n(1)]
    seq: Seq,
}

/// What folding a commit came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Folded {
    /// The outcomes of its ops, in order.
    Outcomes(Vec<Outcome>),
    /// It had been folded at an earlier seq. Nothing was changed but the seq.
    Duplicate,
}

impl State {
    /// The state before any commit.
    pub fn new() -> State {
        State::default()
    }

    /// The last commit folded.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// Time: the highest wall time of any commit folded.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// The topic of this id.
    pub fn topic(&self, id: TopicId) -> Option<&Topic> {
        self.topics.get(&id).map(|topic| &**topic)
    }

    /// The topic of this name.
    pub fn topic_by_name(&self, name: &str) -> Option<&Topic> {
        self.names.get(name).and_then(|id| self.topic(*id))
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.names.values().filter_map(|id| self.topic(*id))
    }

    /// A partition, if there is such.
    pub fn partition(&self, partition: TopicPartition) -> Option<&Partition> {
        self.topic(partition.topic)?.partition(partition.partition)
    }

    /// The cluster's settings that differ from the defaults.
    pub fn configs(&self) -> &BTreeMap<String, String> {
        &self.configs
    }

    /// The group of this id.
    pub fn group(&self, id: &GroupId) -> Option<&Group> {
        self.groups.get(id).map(|group| &**group)
    }

    /// All groups, by id.
    pub fn groups(&self) -> impl Iterator<Item = (&GroupId, &Group)> {
        self.groups.iter().map(|(id, group)| (id, &**group))
    }

    /// The registered nodes, by id, whether or not their lease has lapsed.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().map(|(id, node)| (*id, &**node))
    }

    /// The integer id under which a run of a node is registered.
    pub fn node_of(&self, incarnation: Incarnation) -> Option<NodeId> {
        self.nodes()
            .find(|(_, node)| node.incarnation() == incarnation)
            .map(|(id, _)| id)
    }

    /// The newest snapshot that is known to be stored.
    pub fn last_snapshot(&self) -> Option<Snapshot> {
        self.snapshots.last().copied()
    }

    /// How many slices all partitions have: the measure of the state's size.
    pub fn slice_count(&self) -> usize {
        self.topics()
            .flat_map(Topic::partitions)
            .map(|(_, p)| p.slice_count())
            .sum()
    }

    /// Folds `commit`, which stands at `seq`; the bytes of its inline appends begin at `data_start` of its
    /// object.
    ///
    /// # Panics
    ///
    /// If `seq` is not the one after the last: folding out of order would be silent divergence, and only a
    /// bug of the caller can ask for it.
    pub fn apply(&mut self, seq: Seq, commit: &Commit, data_start: u64) -> Folded {
        assert_eq!(seq, self.seq.next(), "the manifest is folded in order");
        self.seq = seq;
        if !self.is_first_time(seq, commit) {
            return Folded::Duplicate;
        }
        self.time = self.time.max(commit.time);
        self.hear_from(commit.id.incarnation);
        let outcomes = commit
            .ops
            .iter()
            .map(|op| self.apply_op(op, data_start))
            .collect();
        Folded::Outcomes(outcomes)
    }

    /// The duplicate guard: notes the commit's author and counter; false if it was folded before.
    fn is_first_time(&mut self, seq: Seq, commit: &Commit) -> bool {
        let author = commit.id.incarnation;
        let counter = commit.id.counter;
        if self
            .authors
            .get(&author)
            .is_some_and(|known| known.counter >= counter)
            && !mutants::on(Mutant::DuplicateGuardOff)
        {
            return false;
        }
        self.authors.insert(author, Author { counter, seq });
        if self.authors.len() > MAX_AUTHORS {
            let oldest = self.authors.iter().min_by_key(|(_, author)| author.seq);
            if let Some(oldest) = oldest.map(|(incarnation, _)| *incarnation) {
                self.authors.remove(&oldest);
            }
        }
        true
    }

    fn hear_from(&mut self, incarnation: Incarnation) {
        let now = self.time;
        if let Some(id) = self.node_of(incarnation)
            && let Some(node) = self.nodes.get_mut(&id)
        {
            node.make_mut().heard_from(now);
        }
    }

    fn apply_op(&mut self, op: &Op, data_start: u64) -> Outcome {
        match op {
            Op::Append(append) => Ok(Applied::Appended(self.append(append, data_start))),
            Op::CreateTopic(create) => self.create_topic(create),
            Op::DeleteTopic { topic } => self.delete_topic(*topic),
            Op::CreatePartitions { topic, total } => self.create_partitions(*topic, *total),
            Op::AlterConfigs { topic, edits } => self.alter_configs(*topic, edits),
            Op::DeleteRecords { partition, before } => self.delete_records(*partition, *before),
            Op::AllocateProducerIds { count } => self.allocate_producer_ids(*count),
            Op::ExpireProducers { before } => self.expire_producers(*before),
            Op::RegisterNode(register) => self.register_node(register),
            Op::RenewLease {
                node,
                incarnation,
                lease_millis,
            } => {
                let now = self.time;
                self.registered_mut(*node, *incarnation)?
                    .set_lease(*lease_millis, now);
                Ok(Applied::Done)
            }
            Op::RetireNode { node, incarnation } => {
                self.registered_mut(*node, *incarnation)?;
                self.remove_node(*node);
                Ok(Applied::Done)
            }
            Op::ExpireNode { node, incarnation } => self.expire_node(*node, *incarnation),
            Op::SnapshotTaken { seq, bytes } => Ok(self.snapshot_taken(*seq, *bytes)),
            Op::Group { group, action } => self.change_group(group, action).map(Applied::Group),
        }
    }

    fn append(
        &mut self,
        append: &Append,
        data_start: u64,
    ) -> Vec<Result<op::Appended, AppendRejected>> {
        let now = self.time;
        let this = append.partition;
        let (object, base) = match append.source {
            AppendSource::Inline => (ObjectRef::Commit(self.seq), data_start),
            AppendSource::Segment(segment) => (ObjectRef::Segment(segment), 0),
        };
        let Some(topic) = self.topics.get_mut(&this.topic) else {
            return vec![Err(AppendRejected::UnknownTopic(this.topic)); append.entries.len()];
        };
        let Some(partition) = topic.make_mut().partition_mut(this.partition) else {
            return vec![Err(AppendRejected::UnknownPartition(this)); append.entries.len()];
        };
        let entries = append.entries.iter();
        entries
            .map(|entry| partition.append(this, object, base, entry, now))
            .collect()
    }

    fn create_topic(&mut self, create: &CreateTopic) -> Outcome {
        if self.names.contains_key(&create.name) || self.topics.contains_key(&create.id) {
            return Err(Rejected::TopicExists(create.name.clone()));
        }
        if !(1..=MAX_PARTITIONS).contains(&create.partitions) {
            return Err(Rejected::InvalidPartitions(create.partitions));
        }
        let CreateTopic {
            id,
            name,
            partitions,
            configs,
        } = create.clone();
        self.names.insert(name.clone(), id);
        let topic = Topic::new(id, name, partitions, configs, self.time);
        self.topics.insert(id, Shared::new(topic));
        Ok(Applied::Done)
    }

    fn delete_topic(&mut self, id: TopicId) -> Outcome {
        let topic = self.topics.remove(&id).ok_or(Rejected::UnknownTopic(id))?;
        self.names.remove(topic.name());
        self.for_each_group(|group| group.topic_deleted(id));
        Ok(Applied::Done)
    }

    fn create_partitions(&mut self, id: TopicId, total: i32) -> Outcome {
        let topic = self.topic_mut(id)?;
        let current = topic.partition_count();
        if total <= current {
            return Err(Rejected::PartitionsNotMore {
                current,
                requested: total,
            });
        }
        if total > MAX_PARTITIONS {
            return Err(Rejected::InvalidPartitions(total));
        }
        topic.grow(total);
        Ok(Applied::Done)
    }

    fn alter_configs(
        &mut self,
        topic: Option<TopicId>,
        edits: &BTreeMap<String, Option<String>>,
    ) -> Outcome {
        let configs = match topic {
            Some(id) => &mut self.topic_mut(id)?.configs,
            None => &mut self.configs,
        };
        for (name, value) in edits {
            match value {
                Some(value) => configs.insert(name.clone(), value.clone()),
                None => configs.remove(name),
            };
        }
        Ok(Applied::Done)
    }

    fn delete_records(&mut self, this: TopicPartition, before: Option<Offset>) -> Outcome {
        let unknown = Rejected::UnknownPartition(this);
        let topic = self.topics.get_mut(&this.topic).ok_or(unknown.clone())?;
        let partition = topic
            .make_mut()
            .partition_mut(this.partition)
            .ok_or(unknown)?;
        let high_watermark = partition.high_watermark();
        let before = before.unwrap_or(high_watermark);
        if before < Offset::ZERO || before > high_watermark {
            return Err(Rejected::OffsetOutOfRange {
                partition: this,
                offset: before,
                log_start: partition.log_start(),
                high_watermark,
            });
        }
        partition.delete_before(before);
        Ok(Applied::RecordsDeleted(partition.log_start()))
    }

    fn allocate_producer_ids(&mut self, count: u32) -> Outcome {
        let first = self.next_producer_id;
        self.next_producer_id = ProducerId(first.0.saturating_add(count.into()));
        Ok(Applied::ProducerIds(first))
    }

    fn expire_producers(&mut self, before: Timestamp) -> Outcome {
        let stale: Vec<TopicPartition> = self
            .topics()
            .flat_map(Topic::partitions)
            .filter(|(_, partition)| partition.has_producers_older_than(before))
            .map(|(id, _)| id)
            .collect();
        for id in stale {
            if let Ok(topic) = self.topic_mut(id.topic)
                && let Some(partition) = topic.partition_mut(id.partition)
            {
                partition.expire_producers(before);
            }
        }
        Ok(Applied::Done)
    }

    fn register_node(&mut self, register: &RegisterNode) -> Outcome {
        let lapsed: Vec<NodeId> = self
            .nodes()
            .filter(|(_, n)| n.lease_until() < self.time)
            .map(|(id, _)| id)
            .collect();
        let id = self.node_of(register.incarnation);
        for node in lapsed.into_iter().filter(|node| Some(*node) != id) {
            self.remove_node(node);
        }
        let lowest_free = || (0..).map(NodeId).find(|id| !self.nodes.contains_key(id));
        let id = id.or_else(lowest_free).unwrap_or_default();
        self.nodes
            .insert(id, Shared::new(Node::new(register, self.time)));
        Ok(Applied::NodeRegistered(id))
    }

    fn expire_node(&mut self, id: NodeId, incarnation: Incarnation) -> Outcome {
        let now = self.time;
        let until = self.registered_mut(id, incarnation)?.lease_until();
        if now <= until {
            return Err(Rejected::LeaseHolds {
                node: id,
                until,
                now,
            });
        }
        self.remove_node(id);
        Ok(Applied::Done)
    }

    /// Removes a node; its group members must be vouched for by another before their session time-out.
    fn remove_node(&mut self, id: NodeId) {
        self.nodes.remove(&id);
        let now = self.time;
        self.for_each_group(|group| group.node_gone(id, now));
    }

    fn snapshot_taken(&mut self, seq: Seq, bytes: u64) -> Applied {
        if self.snapshots.iter().all(|known| known.seq < seq) && seq <= self.seq {
            self.snapshots.push(Snapshot { seq, bytes });
        }
        let superfluous = self.snapshots.len().saturating_sub(KEPT_SNAPSHOTS);
        let retired = self.snapshots.drain(..superfluous).map(|old| old.seq);
        Applied::SnapshotsRetired(retired.collect())
    }

    fn change_group(&mut self, id: &GroupId, action: &GroupAction) -> Result<GroupReply, Rejected> {
        let now = self.time;
        let mut group = self.groups.get(id).cloned().unwrap_or_default();
        let reply = group.make_mut().apply(action, now)?;
        for topic in action
            .topics()
            .filter(|topic| !self.topics.contains_key(topic))
        {
            group.make_mut().topic_deleted(topic);
        }
        if let Some(node) = action
            .voucher()
            .filter(|node| !self.nodes.contains_key(node))
        {
            group.make_mut().node_gone(node, now);
        }
        self.put_group(id, group);
        Ok(reply)
    }

    /// Changes every group by itself; forgets those of which nothing is left.
    fn for_each_group(&mut self, change: impl Fn(&mut Group)) {
        for (id, mut group) in self.groups.clone() {
            change(group.make_mut());
            self.put_group(&id, group);
        }
    }

    fn put_group(&mut self, id: &GroupId, group: Shared<Group>) {
        if group.is_vacant() {
            self.groups.remove(id);
        } else {
            self.groups.insert(id.clone(), group);
        }
    }

    fn topic_mut(&mut self, id: TopicId) -> Result<&mut Topic, Rejected> {
        self.topics
            .get_mut(&id)
            .map(Shared::make_mut)
            .ok_or(Rejected::UnknownTopic(id))
    }

    fn registered_mut(
        &mut self,
        id: NodeId,
        incarnation: Incarnation,
    ) -> Result<&mut Node, Rejected> {
        self.nodes
            .get_mut(&id)
            .filter(|node| node.incarnation() == incarnation)
            .map(Shared::make_mut)
            .ok_or(Rejected::UnknownNode {
                node: id,
                incarnation,
            })
    }

    /// The state as bytes; equal states have equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        minicbor::to_vec(self).unwrap_or_else(|never: minicbor::encode::Error<_>| {
            // Writing to a Vec cannot fail.
            unreachable!("{never}")
        })
    }

    /// Reads a state from [`State::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<State, minicbor::decode::Error> {
        let mut state: State = minicbor::decode(bytes)?;
        if mutants::on(Mutant::SnapshotForgets) {
            state.next_producer_id = ProducerId::default();
        }
        state.names = state
            .topics
            .values()
            .map(|topic| (topic.name().clone(), topic.id()))
            .collect();
        Ok(state)
    }
}
