//! The ops: every durable change that Weir knows, listed in one place.
//!
//! Each op belongs to one domain. What it says, where that is more than a few fields, and its rule are in the folder of
//! that domain; here are the numbers.
//!
//! An op is a *request*. It says "append these batches", not "append at offset 512": the fold decides
//! its outcome. So a commit that loses the race for its seq is sent again at the next one as it is.
//!
//! Ops are encoded as CBOR arrays with numbered fields and numbered variants. Numbers are never
//! reused; a new field is optional and goes at the end; a node that meets a variant it does not know
//! refuses to fold further and says that it is older than the log.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use serde::Serialize;

pub use super::asked::Asked;
use super::group::{GroupAction, GroupReply};
use super::jobs::Job;
use super::log::{Feature, Level};
pub use super::node::RegisterNode;
use super::objects::ObjectRef;
pub use super::partition::{
    Append, AppendEntry, AppendRejected, AppendSource, Appended, Cleaned, CompactedSlice,
    ReplaceSlices,
};
pub use super::producer::ProducerBatch;
pub use super::rejected::Rejected;
pub use super::table::{AlterTable, Archive, CreateTable, RewriteFiles};
pub use super::topic::CreateTopic;
use crate::types::{
    CommitId, FileId, GroupId, Incarnation, LogId, NodeId, Offset, ProducerId, Seq, StateDigest,
    TableId, Timestamp, TopicId, TopicPartition,
};

/// One commit: a batch of ops by one node. The bytes of its inline appends follow it in the object.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Commit {
    /// Who made it, and how many they had made before. The guard against applying a commit twice.
    #[n(0)]
    pub id: CommitId,
    /// What the node took the time to be when it made the commit. Without [`Commit::wall`] that is the greater of its
    /// wall clock and of the fold's time as it carries it on; with it, the latter alone.
    #[n(1)]
    pub time: Timestamp,
    /// The ops, applied in this order.
    #[n(2)]
    pub ops: Vec<Op>,
    /// The commit of the same incarnation that must be the last of it in the log: the count in its id. Sent before
    /// anybody knew whether that one is, it is void where it is not, so what an incarnation commits is folded in the
    /// order in which it was handed in. Since version 2.
    #[n(3)]
    pub follows: Option<u64>,
    /// Commits of other incarnations, which forwarded them to be stored in this object. Folded after this one, in this
    /// order, each as if it stood by itself: it has its own incarnation, and may be a duplicate or void when this one
    /// is not. Their bytes follow those of this one. Since version 3.
    #[n(4)]
    #[cbor(default)]
    pub forwarded: Vec<ForwardedCommit>,
    /// What the node's wall clock said. How far the fold believes it: [`State::time_after`](super::State::time_after).
    /// From the level of [`BoundedTime`](super::Feature::BoundedTime) on.
    #[n(5)]
    pub wall: Option<Timestamp>,
    /// The log in which it stands, with the commits forwarded in its object. Not written if it is the first, so that
    /// commits of before are of it, and are the same bytes now. No reader folds a commit into another log.
    #[cbor(n(6), default, skip_if = "LogId::is_zero")]
    pub log: LogId,
}

impl Commit {
    /// What the first commit of an incarnation follows, if it must say so: their counts begin at 1. The fold takes such
    /// a commit only if it does [nothing but register](Commit::only_registers) its incarnation.
    pub const NOTHING: u64 = 0;

    /// Whether these are the ops of a commit that may follow [`Commit::NOTHING`]. A copy of it that comes so late that
    /// the fold has forgotten its incarnation takes effect again; and that is harmless, for the node is then registered
    /// for as long as its lease says and vouches for nobody.
    pub fn only_registers(ops: &[Op], incarnation: Incarnation) -> bool {
        matches!(ops, [Op::RegisterNode(register)] if register.incarnation == incarnation)
    }
}

/// A commit that its node forwarded, in the object of another node. It contains none itself.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct ForwardedCommit {
    /// As [`Commit::id`].
    #[n(0)]
    pub id: CommitId,
    /// As [`Commit::time`].
    #[n(1)]
    pub time: Timestamp,
    /// As [`Commit::ops`].
    #[n(2)]
    pub ops: Vec<Op>,
    /// As [`Commit::follows`], and never absent: whatever copies of it are still on their way somewhere, and however
    /// late they come, at most one of them takes effect, even when the fold has forgotten its incarnation. The first
    /// commit of an incarnation follows [`Commit::NOTHING`].
    #[n(3)]
    pub follows: u64,
    /// Where the bytes of its inline appends begin in the object's data.
    #[n(4)]
    pub start: u64,
    /// As [`Commit::wall`].
    #[n(5)]
    pub wall: Option<Timestamp>,
}

/// One requested change.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize)]
pub enum Op {
    /// Append batches to one partition.
    #[n(0)]
    Append(#[n(0)] Append),
    /// Create a topic.
    #[n(1)]
    CreateTopic(#[n(0)] CreateTopic),
    /// Delete a topic with its records and committed offsets.
    #[n(2)]
    DeleteTopic {
        /// The topic.
        #[n(0)]
        topic: TopicId,
    },
    /// Raise a topic's number of partitions to `total`.
    #[n(3)]
    CreatePartitions {
        /// The topic.
        #[n(0)]
        topic: TopicId,
        /// The number of partitions afterwards.
        #[n(1)]
        total: i32,
    },
    /// Change settings of a topic, or with `topic: None` the cluster-wide defaults of all nodes.
    #[n(4)]
    AlterConfigs {
        /// The topic; `None` is the cluster.
        #[n(0)]
        topic: Option<TopicId>,
        /// Settings to set (`Some`) and to return to their default (`None`). Values were validated by
        /// the node that made the op.
        #[n(1)]
        edits: BTreeMap<String, Option<String>>,
        /// The node whose settings they are, if they are not the topic's or the cluster's. Since
        /// [`Feature::NodeSettings`].
        #[n(2)]
        node: Option<NodeId>,
    },
    /// Raise a partition's log start offset (Kafka's DeleteRecords, KIP-107).
    #[n(5)]
    DeleteRecords {
        /// The partition.
        #[n(0)]
        partition: TopicPartition,
        /// The first offset to keep; `None` is the high watermark.
        #[n(1)]
        before: Option<Offset>,
    },
    /// Mint `count` producer ids.
    #[n(6)]
    AllocateProducerIds {
        /// How many.
        #[n(0)]
        count: u32,
    },
    /// Forget producers that wrote nothing since `before`.
    #[n(7)]
    ExpireProducers {
        /// Producers whose last batch is older are forgotten.
        #[n(0)]
        before: Timestamp,
    },
    /// Register a node and begin its lease; also how a node returns whose lease had lapsed.
    #[n(8)]
    RegisterNode(#[n(0)] RegisterNode),
    /// Prolong the lease of the node that commits to at least `lease_millis` from the commit's time.
    #[n(9)]
    RenewLease {
        /// The node.
        #[n(0)]
        node: NodeId,
        /// Its incarnation.
        #[n(1)]
        incarnation: Incarnation,
        /// The length of the lease in milliseconds.
        #[n(2)]
        lease_millis: u64,
    },
    /// A node stops and says so.
    #[n(10)]
    RetireNode {
        /// The node.
        #[n(0)]
        node: NodeId,
        /// Its incarnation.
        #[n(1)]
        incarnation: Incarnation,
    },
    /// Somebody found a node's lease lapsed. The fold judges.
    #[n(11)]
    ExpireNode {
        /// The node.
        #[n(0)]
        node: NodeId,
        /// Its incarnation.
        #[n(1)]
        incarnation: Incarnation,
        /// The last commit of the state by which that was found. Refused if the node has committed since. From the
        /// level of [`BoundedTime`](super::Feature::BoundedTime) on.
        #[n(2)]
        as_of: Option<Seq>,
    },
    /// A change to a consumer group.
    #[n(12)]
    Group {
        /// The group.
        #[n(0)]
        group: GroupId,
        /// The change.
        #[n(1)]
        action: GroupAction,
    },
    /// A snapshot was stored; starting nodes need not read the log before it.
    #[n(13)]
    SnapshotTaken {
        /// The seq of the state in it.
        #[n(0)]
        seq: Seq,
        /// Its size in bytes.
        #[n(1)]
        bytes: u64,
        /// The digest of the state. Since [`Feature::SnapshotDigests`].
        #[n(2)]
        digest: Option<StateDigest>,
    },
    /// Put compacted slices in the place of the slices of a part of a partition.
    #[n(14)]
    ReplaceSlices(#[n(0)] ReplaceSlices),
    /// Raise a partition's log start because its settings say so: by time or by size.
    #[n(15)]
    ExpireRecords {
        /// The partition.
        #[n(0)]
        partition: TopicPartition,
        /// The first offset to keep.
        #[n(1)]
        before: Offset,
        /// The seq of the state whose settings the node went by. Refused if they were altered since.
        #[n(2)]
        as_of: Seq,
    },
    /// Allow the log up to `to` to be deleted.
    #[n(16)]
    RaiseLogBoundary {
        /// The last commit that may be deleted.
        #[n(0)]
        to: Seq,
    },
    /// The commits up to `to` are deleted, but for those in which a slice lies or that are dead.
    #[n(17)]
    LogTruncated {
        /// The last commit.
        #[n(0)]
        to: Seq,
    },
    /// From now on refuse segments that were minted before `before`.
    #[n(18)]
    RaiseSweepBoundary {
        /// The time.
        #[n(0)]
        before: Timestamp,
    },
    /// These dead objects are deleted from the bucket.
    #[n(19)]
    ObjectsDeleted {
        /// The objects.
        #[n(0)]
        objects: Vec<ObjectRef>,
    },
    /// Claim a background job, or prolong the claim.
    #[n(20)]
    ClaimJob {
        /// The job.
        #[n(0)]
        job: Job,
        /// The incarnation of the node that will do it.
        #[n(1)]
        incarnation: Incarnation,
        /// The length of the claim in milliseconds.
        #[n(2)]
        lease_millis: u64,
    },
    /// Give a claimed job back.
    #[n(21)]
    ReleaseJob {
        /// The job.
        #[n(0)]
        job: Job,
        /// The incarnation of the node that held it.
        #[n(1)]
        incarnation: Incarnation,
    },
    /// From now on fold by the rules of a higher level. Since version 4.
    #[n(22)]
    RaiseLevel {
        /// The level.
        #[n(0)]
        to: Level,
    },
    /// The next ops of the commit are what a client asked for.
    #[n(24)]
    Asked(#[n(0)] Asked),
    /// Create the table of a topic. This and the other ops of tables: since [`Feature::Tables`].
    #[n(30)]
    CreateTable(#[n(0)] CreateTable),
    /// Change how a table is written from now on.
    #[n(31)]
    AlterTable(#[n(0)] AlterTable),
    /// Remove all of a table, and forget it when its objects are deleted.
    #[n(32)]
    DropTable {
        /// The table.
        #[n(0)]
        table: TableId,
    },
    /// Add records of its topic to a table.
    #[n(33)]
    Archive(#[n(0)] Archive),
    /// Put one manifest in the place of several of a table.
    #[n(34)]
    RewriteFiles(#[n(0)] RewriteFiles),
    /// Let go of the oldest snapshots of a table.
    #[n(35)]
    ExpireSnapshots {
        /// The table.
        #[n(0)]
        table: TableId,
        /// The oldest snapshot that stays, or any seq after those that go.
        #[n(1)]
        before: Seq,
    },
    /// Remove the oldest manifests of a table because its settings say so: by time or by size.
    #[n(36)]
    ExpireFiles {
        /// The table.
        #[n(0)]
        table: TableId,
        /// The last manifest that goes; those before it go, too.
        #[n(1)]
        through: FileId,
        /// The seq of the state whose settings the node went by. Refused if they were altered since.
        #[n(2)]
        as_of: Seq,
    },
    /// These removed manifests of a table are deleted from the bucket, with the data files that went with them.
    #[n(37)]
    ManifestsDeleted {
        /// The table.
        #[n(0)]
        table: TableId,
        /// The manifests.
        #[n(1)]
        manifests: Vec<FileId>,
    },
}

impl Commit {
    /// The level that a node must know to fold this commit.
    pub fn level(&self) -> Level {
        let forwarded = self.forwarded.iter().flat_map(|forwarded| &forwarded.ops);
        let levels = self.ops.iter().chain(forwarded).map(Op::level);
        let mut walls = self.forwarded.iter().map(|forwarded| forwarded.wall);
        let says_wall = self.wall.is_some() || walls.any(|wall| wall.is_some());
        let of_time = says_wall.then_some(Feature::BoundedTime.since());
        levels.chain(of_time).max().unwrap_or_default()
    }
}

impl Op {
    /// The level that a node must know to fold this op as it is.
    fn level(&self) -> Level {
        match self {
            Op::RaiseLevel { to } => (*to).max(Level(2)),
            Op::ExpireNode { as_of: Some(_), .. } => Feature::BoundedTime.since(),
            Op::CreateTopic(create) if create.replicas.is_some() => {
                Feature::ReplicationFactor.since()
            }
            Op::AlterConfigs { node: Some(_), .. } => Feature::NodeSettings.since(),
            Op::RegisterNode(node) if node.properties.is_some() => Feature::NodeSettings.since(),
            Op::SnapshotTaken {
                digest: Some(_), ..
            } => Feature::SnapshotDigests.since(),
            Op::Asked(_) => Feature::AskedOps.since(),
            Op::CreateTable(_)
            | Op::AlterTable(_)
            | Op::DropTable { .. }
            | Op::Archive(_)
            | Op::RewriteFiles(_)
            | Op::ExpireSnapshots { .. }
            | Op::ExpireFiles { .. }
            | Op::ManifestsDeleted { .. } => Feature::Tables.since(),
            Op::ClaimJob { job, .. } | Op::ReleaseJob { job, .. } => job.level(),
            Op::Append(_)
            | Op::CreateTopic(_)
            | Op::DeleteTopic { .. }
            | Op::CreatePartitions { .. }
            | Op::AlterConfigs { .. }
            | Op::DeleteRecords { .. }
            | Op::AllocateProducerIds { .. }
            | Op::ExpireProducers { .. }
            | Op::RegisterNode(_)
            | Op::RenewLease { .. }
            | Op::RetireNode { .. }
            | Op::ExpireNode { .. }
            | Op::Group { .. }
            | Op::SnapshotTaken { .. }
            | Op::ReplaceSlices(_)
            | Op::ExpireRecords { .. }
            | Op::RaiseLogBoundary { .. }
            | Op::LogTruncated { .. }
            | Op::RaiseSweepBoundary { .. }
            | Op::ObjectsDeleted { .. } => Level::FIRST,
        }
    }
}

/// What became of an op.
pub type Outcome = Result<Applied, Rejected>;

/// The outcome of an op that took effect (or, for an append, was judged entry by entry).
#[derive(Clone, Debug, PartialEq)]
pub enum Applied {
    /// Nothing to tell.
    Done,
    /// What became of each entry of an append, in order.
    Appended(Vec<Result<Appended, AppendRejected>>),
    /// The partition's log start offset afterwards.
    RecordsDeleted(Offset),
    /// The first of the ids minted; the others follow it.
    ProducerIds(ProducerId),
    /// The integer id of the node.
    NodeRegistered(NodeId),
    /// What the group says.
    Group(GroupReply),
    /// Snapshots that newer ones have made superfluous; their objects may be deleted.
    SnapshotsRetired(Vec<Seq>),
}
