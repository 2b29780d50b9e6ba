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
//!
//! # Domains
//!
//! [`op`] has the numbered list of ops, [`State`] the numbered list of what is durable. Each op, and each field,
//! belongs to one domain, which is a folder: `mod.rs` says what is stored and how it is read, `op.rs` what ops say,
//! where that is more than a few fields, and `rules.rs` what they do. `apply.rs` takes a commit, and knows for each op
//! which rule that is.
//!
//! | domain | what |
//! |---|---|
//! | `topic` | names, ids, numbers of partitions |
//! | `configs` | what is set for topics, the cluster and nodes |
//! | `partition` | records: where they are, from which offset to which |
//! | `producer` | idempotent producers: their ids, and their last batches in each partition |
//! | `objects` | which objects hold records, which are dead, which segments are too old |
//! | `group` | consumer groups: members, offsets, the numbers of their changes |
//! | `node` | registered nodes and their leases |
//! | `jobs` | who claimed which background work |
//! | `log` | the log itself: last commits, time, level, snapshots, truncation |
//! | `table` | the archive: which files each table consists of, and up to where each partition is archived |
//! | `asked` | what clients ask for: requests that come too late |
//!
//! A rule reads what it needs and changes its own domain; what follows for others is in `effects.rs`, by name, and
//! found by an index, not by a loop over everything. A new domain (delivery, transactions, access, tables) is one more
//! folder, its fields at the end of [`State`], its ops at the end of the list, and a line for each in `apply.rs`.
//!
//! There is one log, and a state is the fold of it alone.

mod apply;
mod asked;
mod check;
mod codec;
mod configs;
mod effects;
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
pub mod table;
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
pub use log::{Feature, Level, Snapshot, TAIL_PROOF_LIFE, TRUNCATION_AGE};
pub use node::Node;
pub use objects::{Dead, ObjectRef};
pub use partition::{Partition, Slice, SliceIndex};
pub use producer::Producer;
pub use topic::{MAX_PARTITIONS, Topic};

use asked::Deletions;
use codec::map;
use group::{Changes, Groups};
use jobs::Claims;
use log::{LastCommits, Truncation};
use objects::Objects;
use op::Outcome;
use producer::ByAge;
use table::Tables;

use crate::rules::{Rule, holds};
use crate::types::{
    ByteCount, Incarnation, NodeId, ProducerId, Seq, Timestamp, TopicId, TopicName,
};

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
    last_commits: LastCommits,
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
    #[cbor(n(19), default, skip_if = "Tables::is_empty")]
    tables: Tables,
    /// Derived from `topics`.
    #[cbor(skip)]
    #[serde(skip)]
    names: OrdMap<TopicName, TopicId>,
    /// The topics whose names have dots or underscores, by what their names have in common with those that collide with
    /// them. Derived from `topics`.
    #[cbor(skip)]
    #[serde(skip)]
    dotless: OrdSet<(TopicName, TopicId)>,
    /// Which node an incarnation is registered as. Derived from `nodes`.
    #[cbor(skip)]
    #[serde(skip)]
    by_incarnation: OrdMap<Incarnation, NodeId>,
    /// How many partitions all topics have. Derived from `topics`.
    #[cbor(skip)]
    #[serde(skip)]
    partitions: u64,
    /// The partitions that may have producers which wrote nothing for long. Derived from `topics`.
    #[cbor(skip)]
    #[serde(skip)]
    producers_by_age: ByAge,
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
    /// It follows a commit that is not in the log before it ([`Commit::follows`](op::Commit::follows)). Nothing was
    /// changed but the seq; it may come again.
    Void,
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

    /// What was ever stored.
    pub fn totals(&self) -> Totals {
        self.totals
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
        if !holds(Rule::SnapshotsAreReadWhole) {
            state.next_producer_id = ProducerId::default();
        }
        state.index_topics();
        state.index_nodes();
        state.index_slices();
        state.index_producers();
        state.objects.index();
        state.claims.index();
        state.tables.index();
        if let Some(changes) = &mut state.changes {
            changes.derive(state.groups.iter());
        }
        state.objects.at(state.now());
        state.check().map_err(minicbor::decode::Error::message)?;
        Ok(state)
    }
}
