//! Why an op changes nothing. Why a batch is not appended: [`AppendRejected`](super::op::AppendRejected).

use super::group::GroupError;
use super::jobs::{Claim, Job};
use super::log::Level;
use crate::types::{
    FileId, Incarnation, NodeId, Offset, SegmentId, Seq, TableId, TableName, Timestamp, TopicId,
    TopicName, TopicPartition,
};

/// Why an op changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The topic was deleted, or never existed.
    #[error("there is no topic with id {0}")]
    UnknownTopic(TopicId),
    /// The topic has no such partition.
    #[error("there is no partition {0}")]
    UnknownPartition(TopicPartition),
    /// The name is taken.
    #[error("there is already a topic named '{0}'")]
    TopicExists(TopicName),
    /// The name differs from another topic's only in dots and underscores.
    #[error("topic '{name}' collides with topic '{existing}'")]
    TopicCollides {
        /// The name asked for.
        name: TopicName,
        /// The topic that there is.
        existing: TopicName,
    },
    /// The topic has that many partitions or more.
    #[error(
        "the topic has {current} partitions; the new number must be larger, but it is {requested}"
    )]
    PartitionsNotMore {
        /// How many it has.
        current: i32,
        /// How many were asked for.
        requested: i32,
    },
    /// A topic has from 1 to [`MAX_PARTITIONS`](super::MAX_PARTITIONS) partitions.
    #[error("a topic cannot have {0} partitions")]
    InvalidPartitions(i32),
    /// The offset is not in the log.
    #[error("offset {offset} of {partition} is not between {log_start} and {high_watermark}")]
    OffsetOutOfRange {
        /// The partition.
        partition: TopicPartition,
        /// The offset.
        offset: Offset,
        /// The first offset there is.
        log_start: Offset,
        /// The offset after the last record.
        high_watermark: Offset,
    },
    /// That incarnation of the node is not registered (any more).
    #[error("node {node} is not registered as incarnation {incarnation}")]
    UnknownNode {
        /// The node.
        node: NodeId,
        /// Its incarnation.
        incarnation: Incarnation,
    },
    /// There is no such node, so nothing is set for it.
    #[error("there is no node {0}")]
    NoSuchNode(NodeId),
    /// The node's lease has not lapsed.
    #[error("the lease of node {node} lasts until {until}, and it is {now}")]
    LeaseHolds {
        /// The node.
        node: NodeId,
        /// When its lease lapses.
        until: Timestamp,
        /// The time in the fold.
        now: Timestamp,
    },
    /// The group refused.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// Another incarnation has the job.
    #[error("{job:?} is held by incarnation {} until {}", held.incarnation, held.until)]
    JobHeld {
        /// The job.
        job: Job,
        /// Who has it.
        held: Claim,
    },
    /// The slices that were to be replaced are not there any more as they were read.
    #[error("the slices of {partition} from {base} to {end} are not those that were read")]
    SlicesChanged {
        /// The partition.
        partition: TopicPartition,
        /// Where they were to begin.
        base: Offset,
        /// Where they were to end.
        end: Offset,
    },
    /// The slices that were to take the place of others do not fit there.
    #[error("the compacted slices of {partition} do not cover the offsets from {base} to {end}")]
    InvalidReplacement {
        /// The partition.
        partition: TopicPartition,
        /// Where they should begin.
        base: Offset,
        /// Where they should end.
        end: Offset,
    },
    /// A segment is too old, or was deleted: what was stored in it is to be stored again.
    #[error("segment {0} is too old to be referred to")]
    StaleSegment(SegmentId),
    /// The settings by which a node went were altered meanwhile.
    #[error("the settings for {partition} were altered at {altered}, after {as_of}")]
    ConfigsAltered {
        /// The partition.
        partition: TopicPartition,
        /// The seq of the state that the node went by.
        as_of: Seq,
        /// The seq of the alteration.
        altered: Seq,
    },
    /// What a client asked to change was changed after the state against which that was judged.
    #[error(
        "another commit changed the same thing at {changed}; the request was checked against the state at {as_of}"
    )]
    Overtaken {
        /// The seq of the state that the node went by.
        as_of: Seq,
        /// The seq of the change.
        changed: Seq,
    },
    /// What a client asked for comes later than the client waits.
    #[error("the request had to take effect by {until}, and it is {now}")]
    Late {
        /// Until when.
        until: Timestamp,
        /// The time in the fold.
        now: Timestamp,
    },
    /// There is no such table, or it is dropped, or its topic is deleted.
    #[error("there is no table with id {0} that could be changed so")]
    UnknownTable(TableId),
    /// The topic has a table, or the name is taken.
    #[error("there is already a table of that topic, or one named '{0}'")]
    TableExists(TableName),
    /// No table can be like that.
    #[error("table {table} is not changed: {reason}")]
    InvalidTable {
        /// The table.
        table: TableId,
        /// Why not.
        reason: String,
    },
    /// Records are archived that are archived already, or whose predecessors are not.
    #[error("offset {base} of {partition} is not the next to be archived, which is {archived}")]
    NotFromArchived {
        /// The partition.
        partition: TopicPartition,
        /// Where the records begin.
        base: Offset,
        /// Where they would have to.
        archived: Offset,
    },
    /// Records are to go that are to be archived first.
    #[error(
        "the records of {partition} before {before} are kept until they are archived, which they are up to {archived}"
    )]
    NotArchived {
        /// The partition.
        partition: TopicPartition,
        /// The first offset that was to stay.
        before: Offset,
        /// Up to where it is archived.
        archived: Offset,
    },
    /// The manifests of the table are not those that were read, or a snapshot still names one.
    #[error("the manifests of table {0} are not those that were read")]
    ManifestsChanged(TableId),
    /// A file of a table is too old: the sweep may have deleted it.
    #[error("file {0} is too old to be added to a table")]
    StaleFile(FileId),
    /// The log cannot be truncated that far (yet).
    #[error(
        "the log cannot be truncated to {to}: no snapshot beyond {limit} is known for long enough"
    )]
    TooYoung {
        /// How far was asked.
        to: Seq,
        /// How far it may be.
        limit: Seq,
    },
    /// A registered node could not fold the log any further.
    #[error(
        "the level cannot be raised to {to}: node {node} supports levels up to {known} only; upgrade or stop that node"
    )]
    LevelUnknown {
        /// The level that was asked for.
        to: Level,
        /// The node.
        node: NodeId,
        /// The highest level that it knows.
        known: Level,
    },
    /// The node does not know the level of the cluster.
    #[error(
        "the cluster is at level {level}, but the node supports levels up to {known} only; upgrade the node"
    )]
    LevelTooLow {
        /// The cluster's level.
        level: Level,
        /// The highest level that the node knows.
        known: Level,
    },
    /// The sweep boundary cannot lie in the future.
    #[error("the sweep boundary {before} is not far enough before {now}")]
    SweepBoundary {
        /// What was asked for.
        before: Timestamp,
        /// The time in the fold.
        now: Timestamp,
    },
}
