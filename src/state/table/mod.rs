//! Tables: which files the archive of each topic consists of, and up to which offset each partition is archived.
//!
//! * Each archived offset is in exactly one live manifest, until it expires (I11): [`Archive`] appends at the end what
//!   begins where the one before it ended, [`RewriteFiles`] puts one manifest in the place of neighbours, and
//!   expiry takes from the front. So manifests have an order, and those of a partition lie end to end in it.
//! * What is in the bucket as `metadata.json` and as manifest lists is derived from here by any node, and from nothing
//!   else. The version of a table, the ids of its snapshots and their sequence numbers are seqs of the log: they grow,
//!   and a table that is created again under an old name has other ones.
//! * A manifest that was removed stays on the books while a snapshot names it, and until its objects are deleted.
//! * The number of manifests is kept small by merging: one for each 32 MiB or more. That of snapshots is bounded by
//!   [`MAX_SNAPSHOTS`], that of schemas by
//!   [`MAX_SCHEMAS`].
//! * A table outlives its topic, until it is dropped.
//!
//! Durable: each [`Table`]. Derived from them: which table has a name, and which a topic.

mod manifest;
mod op;
mod rules;
mod schema;

#[cfg(test)]
pub(in crate::state) mod tests;

use std::collections::BTreeMap;

use imbl::OrdMap;
use minicbor::{Decode, Encode};
use serde::Serialize;

pub use manifest::{
    Counts, DataFile, LiveManifest, MAX_FILES, Manifest, OffsetRange, Operation, RetiredManifest,
    Snapshot as TableSnapshot, Unnamed,
};
pub use op::{AlterTable, Archive, CreateTable, RewriteFiles};
pub use schema::{
    Column, ColumnType, FieldId, MAX_COLUMN_NAME, MAX_COLUMNS, MAX_DEPTH, PartitionBy,
    PartitionSpec, Schema,
};

use super::State;
use super::codec::{Shared, map};
use super::small::SmallMap;
use crate::types::{
    FileId, Offset, PartitionIndex, Seq, TableId, TableName, Timestamp, TopicId, TopicPartition,
};

/// How many snapshots a table has at most: the commit that makes one more lets go of the oldest.
pub const MAX_SNAPSHOTS: usize = 1000;

/// How many schemas a table has at most.
pub const MAX_SCHEMAS: usize = 1000;

/// How the settings of a topic begin that stay with its table when it is deleted.
const OPTIONS: &str = "archive.";

/// One table of the archive.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Table {
    #[n(0)]
    id: TableId,
    /// None once the topic is deleted.
    #[n(1)]
    topic: Option<TopicId>,
    #[n(2)]
    name: TableName,
    /// When it was changed last: the version of the derived metadata.
    #[n(3)]
    version: Seq,
    #[n(4)]
    created_at: Timestamp,
    /// The last is the one by which is written.
    #[n(5)]
    schemas: Vec<Shared<Schema>>,
    /// The greatest number that a column ever had.
    #[n(6)]
    last_column: FieldId,
    /// The first does not divide files: that of manifests with more hours, days or months than a pass writes apart.
    #[n(7)]
    specs: Vec<PartitionSpec>,
    /// The spec by which is written.
    #[n(8)]
    spec: u32,
    /// Whether records are kept in the topic until they are archived.
    #[n(9)]
    enabled: bool,
    /// What the topic's settings said of its archive when it was deleted.
    #[n(10)]
    options: BTreeMap<String, String>,
    #[n(11)]
    partitions: SmallMap<PartitionIndex, ArchivedPartition>,
    /// In the order in which their records were archived.
    #[cbor(n(12), with = "map")]
    manifests: OrdMap<u64, Shared<LiveManifest>>,
    /// The number of the next manifest.
    #[n(13)]
    next_manifest: u64,
    /// Oldest first.
    #[n(14)]
    snapshots: Vec<TableSnapshot>,
    /// By the name of the manifest.
    #[cbor(n(15), with = "map")]
    retired: OrdMap<FileId, Shared<RetiredManifest>>,
    /// Whether it was dropped: it is forgotten when nothing of it is left in the bucket.
    #[n(16)]
    dropped: bool,
    /// How much is in its manifests.
    #[n(17)]
    total: Counts,
    /// When it was changed last, in the fold's time.
    #[n(18)]
    changed_at: Timestamp,
}

/// How far a partition is archived.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct ArchivedPartition {
    /// The first offset that the table has, or that it passed over.
    #[n(0)]
    start: Offset,
    /// The offset after the last.
    #[n(1)]
    end: Offset,
    /// Offsets between that it does not have: they were deleted from the topic before they were archived.
    #[n(2)]
    skipped: Vec<(Offset, Offset)>,
}

/// All tables.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode, Serialize)]
#[cbor(array)]
pub(super) struct Tables {
    #[cbor(n(0), with = "map")]
    tables: OrdMap<TableId, Shared<Table>>,
    /// Derived.
    #[cbor(skip)]
    #[serde(skip)]
    by_name: OrdMap<TableName, TableId>,
    /// Derived.
    #[cbor(skip)]
    #[serde(skip)]
    by_topic: OrdMap<TopicId, TableId>,
}

impl Table {
    /// Its id.
    pub fn id(&self) -> TableId {
        self.id
    }

    /// The topic whose records it has; none once that is deleted.
    pub fn topic(&self) -> Option<TopicId> {
        self.topic
    }

    /// Its name, and that of its folder.
    pub fn name(&self) -> &TableName {
        &self.name
    }

    /// The commit that changed it last: which metadata is derived from this state of it.
    pub fn version(&self) -> Seq {
        self.version
    }

    /// When it was created, in the fold's time.
    pub fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// When it was changed last, in the fold's time.
    pub fn changed_at(&self) -> Timestamp {
        self.changed_at
    }

    /// All schemas that it had, by their numbers.
    pub fn schemas(&self) -> impl DoubleEndedIterator<Item = &Schema> {
        self.schemas.iter().map(|schema| &**schema)
    }

    /// A schema that it had or has.
    pub fn schema_of(&self, id: u32) -> Option<&Schema> {
        self.schemas().find(|schema| schema.id == id)
    }

    /// The schema by which is written.
    pub fn schema(&self) -> &Schema {
        static NONE: Schema = Schema {
            id: 0,
            columns: Vec::new(),
        };
        self.schemas.last().map_or(&NONE, |schema| schema)
    }

    /// The greatest number that a column ever had.
    pub fn last_column(&self) -> FieldId {
        self.last_column
    }

    /// All the ways in which its files were divided.
    pub fn specs(&self) -> &[PartitionSpec] {
        &self.specs
    }

    /// How its files are divided that are written now.
    pub fn spec(&self) -> PartitionSpec {
        self.spec_of(self.spec).unwrap_or_default()
    }

    /// How files were divided once.
    pub fn spec_of(&self, id: u32) -> Option<PartitionSpec> {
        self.specs.iter().copied().find(|spec| spec.id == id)
    }

    /// Whether records are kept in the topic until they are archived.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// What the topic's settings said of its archive when it was deleted.
    pub fn options(&self) -> &BTreeMap<String, String> {
        &self.options
    }

    /// Whether it was dropped, and only the deletion of its objects is left to do.
    pub fn is_dropped(&self) -> bool {
        self.dropped
    }

    /// How far each partition is archived of which anything is.
    pub fn partitions(&self) -> impl Iterator<Item = (PartitionIndex, &ArchivedPartition)> {
        self.partitions
            .iter()
            .map(|(index, partition)| (*index, partition))
    }

    /// How far a partition is archived; nothing if nothing of it is.
    pub fn partition(&self, index: PartitionIndex) -> Option<&ArchivedPartition> {
        self.partitions.get(&index)
    }

    /// The offset after the last that is archived of a partition.
    pub fn archived(&self, index: PartitionIndex) -> Offset {
        self.partition(index).map_or(Offset::ZERO, |at| at.end)
    }

    /// The manifests of the newest version, in the order in which their records were archived.
    pub fn manifests(&self) -> impl DoubleEndedIterator<Item = &LiveManifest> {
        self.manifests.values().map(|manifest| &**manifest)
    }

    /// Why the archive of a partition is not what it says, in words; nothing if it is: the manifests of each partition
    /// lie end to end from where the archive of it starts to where it ends, but for what was skipped (I11).
    pub fn gap_in_archive(&self) -> Option<String> {
        /// The offset that is due next, and what is skipped behind it.
        type Due<'a> = (Offset, &'a [(Offset, Offset)]);
        let mut due: BTreeMap<PartitionIndex, Due<'_>> = self
            .partitions()
            .map(|(index, partition)| (index, (partition.start, partition.skipped.as_slice())))
            .collect();
        for live in self.manifests() {
            let id = live.manifest.id;
            for range in &live.manifest.ranges {
                let OffsetRange {
                    partition,
                    base,
                    end,
                } = *range;
                let Some((due, skipped)) = due.get_mut(&partition) else {
                    return Some(format!(
                        "manifest {id} has offsets of partition {partition}, of which nothing is archived"
                    ));
                };
                if let [(from, to), rest @ ..] = *skipped
                    && *due == *from
                    && base == *to
                {
                    (*due, *skipped) = (*to, rest);
                }
                if *due != base || base >= end {
                    return Some(format!(
                        "manifest {id} has the offsets from {base} to {end} of partition {partition} where {due} is due"
                    ));
                }
                *due = end;
            }
        }
        for (index, partition) in self.partitions() {
            let reached = due.get(&index);
            if let Some((reached, left)) = reached
                && (*reached != partition.end || !left.is_empty())
            {
                return Some(format!(
                    "the manifests of partition {index} end before offset {reached}, and it is archived up to {}",
                    partition.end
                ));
            }
        }
        None
    }

    /// How many manifests the newest version has.
    pub fn manifest_count(&self) -> usize {
        self.manifests.len()
    }

    /// The snapshots, oldest first.
    pub fn snapshots(&self) -> &[TableSnapshot] {
        &self.snapshots
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Option<&TableSnapshot> {
        self.snapshots.last()
    }

    /// The manifests that a snapshot names: those that are live, and those that were removed later. In the order of
    /// their sequence numbers, then of their names.
    pub fn manifests_of(&self, snapshot: Seq) -> Vec<LiveManifest> {
        let live = self.manifests().filter(|live| live.added <= snapshot);
        let removed = self
            .retired()
            .filter(|retired| retired.is_named_by(snapshot))
            .map(|retired| LiveManifest {
                manifest: retired.manifest.clone(),
                added: retired.added,
            });
        let mut manifests: Vec<LiveManifest> = live.cloned().chain(removed).collect();
        manifests.sort_by_key(|live| (live.added, live.manifest.id));
        manifests
    }

    /// The manifests that were removed and whose objects are not deleted yet, by name.
    pub fn retired(&self) -> impl Iterator<Item = &RetiredManifest> {
        self.retired.values().map(|retired| &**retired)
    }

    /// How long a data file or a manifest is that belongs to the table, or did.
    pub fn size_of(&self, id: FileId) -> Option<u64> {
        let live = self.manifests().map(|live| &live.manifest);
        let mut all = live.chain(self.retired().map(|retired| &retired.manifest));
        all.find_map(|manifest| {
            let file = manifest.files.iter().find(|file| file.id == id);
            let own = (manifest.id == id).then_some(manifest.bytes);
            own.or(file.map(|file| file.bytes))
        })
    }

    /// How much the newest version has.
    pub fn total(&self) -> Counts {
        self.total
    }

    /// All data files and manifests that may be in the bucket: those of the newest version and those that were removed.
    /// A data file is named several times if manifests took it over from one another.
    pub fn objects(&self) -> impl Iterator<Item = FileId> {
        let live = self.manifests().flat_map(|live| live.manifest.objects());
        let retired = self.retired().flat_map(|retired| {
            std::iter::once(retired.manifest.id).chain(retired.files.iter().copied())
        });
        live.chain(retired)
    }
}

impl RetiredManifest {
    /// Whether the snapshot of that commit names it.
    pub fn is_named_by(&self, snapshot: Seq) -> bool {
        self.added <= snapshot && snapshot < self.removed
    }
}

impl ArchivedPartition {
    /// The first offset that the table has, or that it passed over.
    pub fn start(&self) -> Offset {
        self.start
    }

    /// The offset after the last.
    pub fn end(&self) -> Offset {
        self.end
    }

    /// Offsets between that it does not have, in order: they were deleted from the topic before they were archived.
    pub fn skipped(&self) -> &[(Offset, Offset)] {
        &self.skipped
    }
}

impl Tables {
    pub(super) fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Whether each is found by its id, its name and its topic.
    pub(super) fn are_found(&self) -> bool {
        let topics = self.tables.values().filter(|table| table.topic.is_some());
        self.by_name.len() == self.tables.len()
            && self.by_topic.len() == topics.count()
            && self.tables.iter().all(|(id, table)| *id == table.id)
    }

    fn get(&self, id: TableId) -> Option<&Table> {
        self.tables.get(&id).map(|table| &**table)
    }

    fn get_mut(&mut self, id: TableId) -> Option<&mut Table> {
        self.tables.get_mut(&id).map(Shared::make_mut)
    }

    fn insert(&mut self, table: Table) {
        self.by_name.insert(table.name.clone(), table.id);
        if let Some(topic) = table.topic {
            self.by_topic.insert(topic, table.id);
        }
        self.tables.insert(table.id, Shared::new(table));
    }

    fn remove(&mut self, id: TableId) {
        if let Some(table) = self.tables.remove(&id) {
            self.by_name.remove(&table.name);
            if let Some(topic) = table.topic {
                self.by_topic.remove(&topic);
            }
        }
    }

    /// Makes what is derived.
    pub(super) fn index(&mut self) {
        for (id, table) in &self.tables {
            self.by_name.insert(table.name.clone(), *id);
            if let Some(topic) = table.topic {
                self.by_topic.insert(topic, *id);
            }
        }
    }
}

impl State {
    /// All tables, by name; those that were dropped among them, while anything of them is in the bucket.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.tables
            .by_name
            .values()
            .filter_map(|id| self.tables.get(*id))
    }

    /// The table of this id.
    pub fn table(&self, id: TableId) -> Option<&Table> {
        self.tables.get(id)
    }

    /// The table of this name.
    pub fn table_by_name(&self, name: &str) -> Option<&Table> {
        let id = self.tables.by_name.get(name)?;
        self.table(*id)
    }

    /// The table that has the records of a topic, if that is archived.
    pub fn table_of(&self, topic: TopicId) -> Option<&Table> {
        let id = self.tables.by_topic.get(&topic)?;
        self.table(*id)
    }

    /// The offset from which a partition is to be archived: behind what is archived, and not before the log starts.
    pub fn archive_position(&self, of: TopicPartition) -> Offset {
        let archived = self.table_of(of.topic);
        let archived = archived.map_or(Offset::ZERO, |table| table.archived(of.partition));
        let log_start = self.partition(of).map(|partition| partition.log_start());
        archived.max(log_start.unwrap_or_default())
    }
}
