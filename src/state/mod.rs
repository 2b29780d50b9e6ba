//! The state of the cluster: a pure fold of the manifest.
//!
//! [`State::apply`] takes the next commit and returns the outcome of each of its ops. Every node folds the
//! same log to the same state, byte for byte (I3). So this room has no clock, no randomness, no I/O and no
//! iteration in an order that could differ between two nodes; time is what commits say of it (`log/time.rs`).
//!
//! The collections are persistent (`imbl`): cloning a state costs a few pointers, and the clone is a
//! consistent view that readers keep while later commits are folded. That is how every request sees one
//! moment of the whole cluster without a lock.
//!
//! Whatever a commit contains, `apply` does not panic and stays within the bounds it can judge: an op that
//! is not valid (any more) gets an error as its outcome and changes nothing.

mod apply;
mod asked;
mod check;
mod codec;
pub mod group;
mod jobs;
mod log;
mod node;
mod objects;
pub mod op;
mod partition;
mod producer;
mod rejected;
mod small;
mod topic;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use imbl::{OrdMap, OrdSet};
use minicbor::{Decode, Encode};
use serde::Serialize;

pub use codec::Shared;
pub use group::{
    Changed, Group, GroupChange, OFFSETS_PARTITIONS, OFFSETS_TOPIC, OFFSETS_TOPIC_ID,
    offsets_partition_of,
};
pub use jobs::{Claim, Job};
pub use log::{Feature, Level, TAIL_PROOF_LIFE, TRUNCATION_AGE};
pub use node::Node;
pub use objects::Dead;
pub use partition::{ObjectRef, Partition, Slice, SliceIndex};
pub use producer::Producer;
pub use topic::Topic;

use asked::Deletions;
use codec::map;
use group::{Changes, Groups};
use jobs::Claims;
use log::{Authors, Truncation};
use objects::Objects;
use op::Outcome;

use crate::mutants::{self, Mutant};
use crate::types::{
    ByteCount, GroupId, Incarnation, NodeId, ProducerId, Seq, Timestamp, TopicId, TopicName,
    TopicPartition,
};

/// The most partitions that a topic may have.
pub const MAX_PARTITIONS: i32 = 100_000;

static NO_CONFIGS: BTreeMap<String, String> = BTreeMap::new();

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
    #[n(5)]
    groups: Groups,
    #[cbor(n(6), with = "map")]
    nodes: OrdMap<NodeId, Shared<Node>>,
    #[n(7)]
    authors: Authors,
    /// The newest snapshots, oldest first.
    #[n(8)]
    snapshots: Vec<Snapshot>,
    /// When the cluster's settings were altered last.
    #[n(9)]
    #[cbor(default)]
    configs_altered: Seq,
    #[n(10)]
    #[cbor(default)]
    objects: Objects,
    #[n(11)]
    #[cbor(default)]
    truncation: Truncation,
    #[n(12)]
    #[cbor(default)]
    claims: Claims,
    #[n(13)]
    #[cbor(default)]
    totals: Totals,
    #[cbor(n(14), default, skip_if = "Level::is_first")]
    level: Level,
    /// The numbers of the changes of groups; none until the cluster's level has them.
    #[n(15)]
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Changes>,
    /// What was set for single nodes, by their ids, whoever has them.
    #[cbor(n(16), default, skip_if = "BTreeMap::is_empty")]
    node_configs: BTreeMap<NodeId, BTreeMap<String, String>>,
    /// What was deleted lately, of what may come back.
    #[cbor(n(18), default, skip_if = "Deletions::is_empty")]
    deletions: Deletions,
    /// Derived from `topics`.
    #[cbor(skip)]
    #[serde(skip)]
    names: OrdMap<TopicName, TopicId>,
    /// The topics whose names have dots or underscores, by what their names have in common with those that collide with
    /// them. Derived from `topics`.
    #[cbor(skip)]
    #[serde(skip)]
    dotless: OrdSet<(TopicName, TopicId)>,
    /// Which node a run is registered as. Derived from `nodes`.
    #[cbor(skip)]
    #[serde(skip)]
    runs: OrdMap<Incarnation, NodeId>,
    /// How many partitions all topics have. Derived from `topics`.
    #[cbor(skip)]
    #[serde(skip)]
    partitions: u64,
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

/// What was ever stored, in bytes of record batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Totals {
    /// What producers appended.
    #[n(0)]
    pub appended: ByteCount,
    /// What compaction wrote again.
    #[n(1)]
    pub compacted: ByteCount,
}

/// What folding a commit came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Folded {
    /// The outcomes of its ops, in order.
    Outcomes(Vec<Outcome>),
    /// It had been folded at an earlier seq. Nothing was changed but the seq.
    Duplicate,
    /// It follows a commit that is not in the log before it ([`Commit::follows`](op::Commit::follows)). Nothing was changed
    /// but the seq; it may come again.
    Void,
}

impl State {
    /// The state before any commit.
    pub fn new() -> State {
        State::default()
    }

    /// The state before any commit, at a level.
    #[cfg(test)]
    pub(crate) fn at_level(level: Level) -> State {
        State {
            level,
            ..State::default()
        }
    }

    /// The last commit folded.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// Time, as far as the commits that were folded have moved it: see [`State::time_after`]. It does not go back.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// Which rules hold.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Whether a rule is in force, or something may be written.
    pub fn has(&self, feature: Feature) -> bool {
        feature.since() <= self.level
    }

    /// The topic of this id.
    pub fn topic(&self, id: TopicId) -> Option<&Topic> {
        self.topics.get(&id).map(|topic| &**topic)
    }

    /// The topic of this name.
    pub fn topic_by_name(&self, name: &str) -> Option<&Topic> {
        self.names.get(name).and_then(|id| self.topic(*id))
    }

    /// A topic whose name differs from `name` only in dots and underscores. Those of old logs may be several.
    pub fn collision(&self, name: &TopicName) -> Option<&TopicName> {
        let dotless = name.without_dots();
        let first = (dotless.clone(), TopicId::default());
        let alike = self.dotless.range(first..);
        let alike = alike.take_while(|(other, _)| *other == dotless);
        let mut names = alike.filter_map(|(_, id)| self.topic(*id)).map(Topic::name);
        names.find(|other| *other != name)
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.names.values().filter_map(|id| self.topic(*id))
    }

    /// How many topics there are.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// How many partitions all topics have.
    pub fn partition_count(&self) -> u64 {
        self.partitions
    }

    /// A partition, if there is such.
    pub fn partition(&self, partition: TopicPartition) -> Option<&Partition> {
        self.topic(partition.topic)?.partition(partition.partition)
    }

    /// The cluster's settings that differ from the defaults.
    pub fn configs(&self) -> &BTreeMap<String, String> {
        &self.configs
    }

    /// What was set for the node of this id alone, whichever run has it.
    pub fn node_configs(&self, id: NodeId) -> &BTreeMap<String, String> {
        self.node_configs.get(&id).unwrap_or(&NO_CONFIGS)
    }

    /// What was set for this run of a node alone.
    pub fn configs_of(&self, run: Incarnation) -> &BTreeMap<String, String> {
        if self.node_configs.is_empty() {
            return &NO_CONFIGS;
        }
        let id = self.node_of(run);
        id.map_or(&NO_CONFIGS, |id| self.node_configs(id))
    }

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

    /// The registered nodes, by id, whether or not their lease has lapsed.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().map(|(id, node)| (*id, &**node))
    }

    /// The integer id under which a run of a node is registered.
    pub fn node_of(&self, incarnation: Incarnation) -> Option<NodeId> {
        self.runs.get(&incarnation).copied()
    }

    /// A registered node.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id).map(|node| &**node)
    }

    /// The newest snapshot that is known to be stored.
    pub fn last_snapshot(&self) -> Option<Snapshot> {
        self.snapshots.last().copied()
    }

    /// The snapshots that are known to be stored, oldest first.
    pub fn snapshots(&self) -> impl Iterator<Item = Snapshot> {
        self.snapshots.iter().copied()
    }

    /// When the settings that hold for a topic, its own or the cluster's, were altered last.
    pub fn configs_altered(&self, topic: &Topic) -> Seq {
        self.configs_altered.max(topic.configs_altered)
    }

    /// The objects in which slices lie, in the order of their names, each with how many.
    pub fn live_objects(&self) -> impl Iterator<Item = (ObjectRef, u32)> {
        self.objects
            .live()
            .iter()
            .map(|(object, slices)| (*object, *slices))
    }

    /// Whether a slice lies in the object.
    pub fn is_live(&self, object: ObjectRef) -> bool {
        self.objects.live().contains_key(&object)
    }

    /// The objects in which no slice lies any more. They may be deleted when nobody can be reading them, the commits
    /// among them no sooner than the log boundary is beyond them.
    pub fn dead_objects(&self) -> impl Iterator<Item = (ObjectRef, Dead)> {
        self.objects
            .dead()
            .iter()
            .map(|(object, dead)| (*object, *dead))
    }

    /// Since when no slice lies in the object any more, if that is known of it.
    pub fn death_of(&self, object: ObjectRef) -> Option<Dead> {
        self.objects.dead().get(&object).copied()
    }

    /// Segments that were minted before are refused: those that no slice lies in are orphans.
    pub fn sweep_boundary(&self) -> Timestamp {
        self.objects.sweep_boundary()
    }

    /// Commits up to here may be deleted, but for those in which a slice lies.
    pub fn log_boundary(&self) -> Seq {
        self.truncation.boundary
    }

    /// Commits up to here are deleted, but for those in which a slice lies and those that are dead.
    pub fn log_truncated(&self) -> Seq {
        self.truncation.truncated
    }

    /// How far the log boundary may be raised.
    pub fn log_boundary_limit(&self) -> Seq {
        self.truncation.limit(self.time)
    }

    /// Who does a background job, if anybody claimed it. The claim may have lapsed.
    pub fn claim(&self, job: Job) -> Option<Claim> {
        self.claims.get(job)
    }

    /// All claims, lapsed ones among them.
    pub fn claims(&self) -> impl Iterator<Item = (Job, Claim)> {
        self.claims.iter()
    }

    /// What was ever stored.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// How many slices all partitions have: the measure of the state's size.
    pub fn slice_count(&self) -> usize {
        self.topics()
            .flat_map(Topic::partitions)
            .map(|(_, p)| p.slice_count())
            .sum()
    }

    /// The state as bytes; equal states have equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        minicbor::to_vec(self).unwrap_or_else(|never: minicbor::encode::Error<_>| {
            // Writing to a Vec cannot fail.
            unreachable!("{never}")
        })
    }

    /// Reads a state from [`State::to_bytes`]. Bytes of a state that the fold cannot come to are refused.
    pub fn from_bytes(bytes: &[u8]) -> Result<State, minicbor::decode::Error> {
        let mut state: State = minicbor::decode(bytes)?;
        if mutants::on(Mutant::SnapshotForgets) {
            state.next_producer_id = ProducerId::default();
        }
        for topic in state.topics.values() {
            let name = topic.name();
            state.names.insert(name.clone(), topic.id());
            if may_collide(name) {
                state.dotless.insert((name.without_dots(), topic.id()));
            }
        }
        let runs = state
            .nodes
            .iter()
            .map(|(id, node)| (node.incarnation(), *id));
        state.runs = runs.collect();
        let counts = state.topics.values().map(|topic| topic.partition_count());
        state.partitions = counts.map(|count| u64::from(count.unsigned_abs())).sum();
        for (_, partition) in state.topics.values().flat_map(|topic| topic.partitions()) {
            partition.acquire_all(&mut state.objects);
        }
        if let Some(changes) = &mut state.changes {
            changes.derive(state.groups.iter());
        }
        state.objects.at(state.now());
        state.check().map_err(minicbor::decode::Error::message)?;
        Ok(state)
    }
}

/// Whether the name can differ from another only in dots and underscores.
fn may_collide(name: &TopicName) -> bool {
    name.as_str().contains(['.', '_'])
}
