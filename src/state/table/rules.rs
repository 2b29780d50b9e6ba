//! How tables come, grow, are rewritten and go.

use std::collections::{BTreeMap, BTreeSet};

use imbl::OrdMap;

use super::manifest::FileKey;
use super::{
    AlterTable, Archive, ArchivedPartition, Counts, CreateTable, LiveManifest, MAX_SCHEMAS,
    MAX_SNAPSHOTS, Manifest, OPTIONS, OffsetRange, PartitionBy, PartitionSpec, RetiredManifest,
    RewriteFiles, Schema, Table, TableSnapshot, Unnamed,
};
use crate::rules::{Rule, holds};
use crate::state::op::{Applied, Outcome, Rejected};
use crate::state::{Feature, Shared, State, Topic};
use crate::types::{FileId, Offset, PartitionIndex, Seq, TableId, Timestamp, TopicPartition};

/// More manifests than any table ever has. What is added to a number below it does not overflow.
const LAST_MANIFEST: u64 = 1 << 62;

impl State {
    /// Creates the table of a topic.
    pub(in crate::state) fn create_table(&mut self, create: &CreateTable) -> Outcome {
        let CreateTable {
            id,
            topic,
            name,
            schema,
            by,
        } = create.clone();
        if !self.has(Feature::Tables) {
            return Err(invalid(id, "the level of the cluster has no tables"));
        }
        if self.topic(topic).is_none() {
            return Err(Rejected::UnknownTopic(topic));
        }
        if self.table(id).is_some()
            || self.table_of(topic).is_some()
            || self.table_by_name(name.as_str()).is_some()
        {
            return Err(Rejected::TableExists(name));
        }
        let misnumbered = (schema.id != 0).then(|| "its first schema is not number 0".to_owned());
        if let Some(fault) = misnumbered.or_else(|| schema.fault()) {
            return Err(invalid(id, &fault));
        }
        let mut table = Table {
            id,
            topic: Some(topic),
            name,
            version: self.seq,
            created_at: self.time,
            last_column: schema.last_column_id().unwrap_or_default(),
            schemas: vec![Shared::new(schema)],
            specs: vec![PartitionSpec::default()],
            spec: 0,
            enabled: true,
            options: BTreeMap::new(),
            partitions: Default::default(),
            manifests: OrdMap::new(),
            next_manifest: 0,
            snapshots: Vec::new(),
            retired: OrdMap::new(),
            dropped: false,
            total: Counts::default(),
            changed_at: self.time,
        };
        table.divide(by);
        self.tables.insert(table);
        Ok(Applied::Done)
    }

    /// Changes how a table is written from now on.
    pub(in crate::state) fn alter_table(&mut self, alter: &AlterTable) -> Outcome {
        let (seq, now) = (self.seq, self.time);
        let table = self.live_table(alter.table)?;
        if alter.enabled == Some(true) && table.topic.is_none() {
            return Err(invalid(table.id, "its topic is deleted"));
        }
        if let Some(schema) = &alter.schema {
            let newest = table.schema();
            let fault = if schema.id != newest.id.saturating_add(1) {
                Some(format!(
                    "a schema with the number {} cannot follow number {}",
                    schema.id, newest.id
                ))
            } else if table.schemas.len() >= MAX_SCHEMAS {
                Some(format!(
                    "it has {MAX_SCHEMAS} schemas, and no table has more"
                ))
            } else {
                let conflict = || schema.conflict(newest, table.last_column);
                let kept = holds(Rule::ColumnsKeepTheirMeaning);
                schema.fault().or_else(|| conflict().filter(|_| kept))
            };
            if let Some(fault) = fault {
                return Err(invalid(table.id, &fault));
            }
        }
        if let Some(schema) = &alter.schema {
            table.last_column = table
                .last_column
                .max(schema.last_column_id().unwrap_or_default());
            table.schemas.push(Shared::new(schema.clone()));
            table.touch(seq, now);
        }
        if let Some(by) = alter.by {
            table.divide(by);
            table.touch(seq, now);
        }
        if let Some(enabled) = alter.enabled {
            table.enabled = enabled;
        }
        Ok(Applied::Done)
    }

    /// Drops a table: all of it is removed, and it is forgotten when its objects are deleted.
    pub(in crate::state) fn drop_table(&mut self, id: TableId) -> Outcome {
        let (seq, now) = (self.seq, self.time);
        let table = self.live_table(id)?;
        if table.enabled && table.topic.is_some() {
            return Err(invalid(
                id,
                "its topic has archive.enable=true; set that to false first",
            ));
        }
        table.snapshots.clear();
        let orders: Vec<u64> = table.manifests.keys().copied().collect();
        table.retire(&orders, &BTreeSet::new(), seq);
        table.let_go(seq, now);
        table.partitions = Default::default();
        table.dropped = true;
        table.touch(seq, now);
        let (topic, is_gone) = (table.topic.take(), table.retired.is_empty());
        if let Some(topic) = topic {
            self.tables.by_topic.remove(&topic);
        }
        if is_gone {
            self.tables.remove(id);
        }
        Ok(Applied::Done)
    }

    /// Adds records to a table.
    pub(in crate::state) fn archive(&mut self, archive: &Archive) -> Outcome {
        let Archive {
            table: id,
            manifest,
        } = archive;
        let table = self.table(*id).filter(|table| !table.dropped);
        let table = table.ok_or(Rejected::UnknownTable(*id))?;
        let topic = table.topic.ok_or(Rejected::UnknownTable(*id))?;
        let partitions = manifest.ranges.iter().map(|range| range.partition);
        if !partitions.is_sorted_by(|a, b| a < b) {
            return Err(invalid(*id, "the manifest has two ranges of one partition"));
        }
        let mut offsets = 0u64;
        for range in &manifest.ranges {
            let partition = TopicPartition {
                topic,
                partition: range.partition,
            };
            let known = self.partition(partition);
            let known = known.ok_or(Rejected::UnknownPartition(partition))?;
            let (archived, position) = (
                table.archived(range.partition),
                self.archive_position(partition),
            );
            // The first records of a pass may have been deleted since it read them.
            let continues = archived <= range.base && range.base <= position;
            if !continues && holds(Rule::ArchivesContinue) {
                return Err(Rejected::NotFromArchived {
                    partition,
                    base: range.base,
                    archived: position,
                });
            }
            if range.end > known.high_watermark() || range.base.max(known.log_start()) >= range.end
            {
                return Err(Rejected::OffsetOutOfRange {
                    partition,
                    offset: range.end,
                    log_start: position,
                    high_watermark: known.high_watermark(),
                });
            }
            offsets = offsets.saturating_add(range.end.0.abs_diff(range.base.0));
        }
        if manifest.rows() > offsets {
            return Err(invalid(
                *id,
                "the manifest has more rows than there are offsets",
            ));
        }
        table.check_manifest(manifest)?;
        self.check_new_files(table, manifest, &BTreeSet::new())?;
        let (seq, now) = (self.seq, self.time);
        let table = self.live_table(*id)?;
        for range in &manifest.ranges {
            table.extend(*range);
        }
        let order = table.next_manifest;
        table.next_manifest = order.saturating_add(1);
        table.put(order, manifest.clone(), seq);
        table.snapshot_of(manifest.counts(), Counts::default(), seq, now);
        Ok(Applied::Done)
    }

    /// Puts one manifest in the place of neighbours.
    pub(in crate::state) fn rewrite_files(&mut self, rewrite: &RewriteFiles) -> Outcome {
        let RewriteFiles {
            table: id,
            removes,
            manifest,
        } = rewrite;
        let table = self.table(*id).filter(|table| !table.dropped);
        let table = table.ok_or(Rejected::UnknownTable(*id))?;
        let orders = table.neighbours(removes);
        let orders = orders.ok_or(Rejected::ManifestsChanged(*id))?;
        let removed = || orders.iter().filter_map(|order| table.manifests.get(order));
        let counts = removed()
            .map(|live| live.manifest.counts())
            .fold(Counts::default(), Counts::plus);
        let ranges = OffsetRange::joined(removed().flat_map(|live| &live.manifest.ranges));
        let same = manifest.ranges == ranges && manifest.rows() == counts.rows;
        if !same && holds(Rule::RewritesKeepRows) {
            return Err(invalid(
                *id,
                "the new manifest has other records than those that it replaces",
            ));
        }
        table.check_manifest(manifest)?;
        let files: BTreeSet<FileKey> = removed()
            .flat_map(|live| live.manifest.files.iter().map(FileKey::from))
            .collect();
        let kept: BTreeSet<FileId> = manifest
            .files
            .iter()
            .filter(|file| files.contains(&FileKey::from(*file)))
            .map(|file| file.id)
            .collect();
        self.check_new_files(table, manifest, &kept)?;
        let (seq, now) = (self.seq, self.time);
        let table = self.live_table(*id)?;
        let first = orders.first().copied().unwrap_or_default();
        table.retire(&orders, &kept, seq);
        table.put(first, manifest.clone(), seq);
        table.snapshot_of(manifest.counts(), counts, seq, now);
        Ok(Applied::Done)
    }

    /// Lets go of the snapshots before one.
    pub(in crate::state) fn expire_snapshots(&mut self, id: TableId, before: Seq) -> Outcome {
        let (seq, now) = (self.seq, self.time);
        let table = self.live_table(id)?;
        let newest = table.snapshots.last().map(|snapshot| snapshot.seq);
        if newest.is_none_or(|newest| newest < before) {
            return Err(invalid(id, "the newest snapshot does not expire"));
        }
        table.snapshots.retain(|snapshot| before <= snapshot.seq);
        table.let_go(seq, now);
        table.touch(seq, now);
        Ok(Applied::Done)
    }

    /// Removes the oldest manifests up to `through` because the settings of `as_of` say so.
    pub(in crate::state) fn expire_files(
        &mut self,
        id: TableId,
        through: FileId,
        as_of: Seq,
    ) -> Outcome {
        let table = self.table(id).filter(|table| !table.dropped);
        let table = table.ok_or(Rejected::UnknownTable(id))?;
        if let Some(topic) = table.topic.and_then(|topic| self.topic(topic)) {
            let partition = TopicPartition {
                topic: topic.id(),
                partition: PartitionIndex(0),
            };
            self.check_configs(partition, as_of)?;
        } else if as_of < self.configs_altered && holds(Rule::DecisionsMatchSettings) {
            // The settings that a table has of its topic are as they were, but not those of the cluster.
            let reason =
                "the settings of the cluster were altered since it was decided which files expire";
            return Err(invalid(id, reason));
        }
        let mut orders = Vec::new();
        let mut counts = Counts::default();
        let mut is_there = false;
        for (order, live) in &table.manifests {
            orders.push(*order);
            counts = counts.plus(live.manifest.counts());
            if live.manifest.id == through {
                is_there = true;
                break;
            }
        }
        if !is_there {
            return Err(Rejected::ManifestsChanged(id));
        }
        let (seq, now) = (self.seq, self.time);
        let table = self.live_table(id)?;
        for order in &orders {
            let ranges = table.manifests.get(order);
            let ranges = ranges.map(|live| live.manifest.ranges.clone());
            for range in ranges.into_iter().flatten() {
                table.shorten(range);
            }
        }
        table.retire(&orders, &BTreeSet::new(), seq);
        table.snapshot_of(Counts::default(), counts, seq, now);
        Ok(Applied::Done)
    }

    /// Notes that removed manifests are deleted from the bucket, with the files that went with them.
    pub(in crate::state) fn note_manifests_deleted(
        &mut self,
        id: TableId,
        manifests: &[FileId],
    ) -> Outcome {
        let table = self.tables.get_mut(id).ok_or(Rejected::UnknownTable(id))?;
        let may_go = |manifest| {
            let retired: Option<&Shared<RetiredManifest>> = table.retired.get(manifest);
            retired.is_some_and(|retired| retired.unnamed.is_some())
        };
        if !manifests.iter().all(may_go) && holds(Rule::NamedManifestsAreKept) {
            return Err(Rejected::ManifestsChanged(id));
        }
        for manifest in manifests {
            table.retired.remove(manifest);
        }
        if table.dropped && table.retired.is_empty() {
            self.tables.remove(id);
        }
        Ok(Applied::Done)
    }

    /// Refuses to remove records of a partition up to `before` on behalf of its settings, while those say that they are
    /// to be archived first.
    pub(in crate::state) fn check_archived(
        &self,
        partition: TopicPartition,
        before: Offset,
    ) -> Result<(), Rejected> {
        let Some(table) = self.table_of(partition.topic) else {
            return Ok(());
        };
        let archived = table.archived(partition.partition);
        if table.enabled && before > archived && holds(Rule::RetentionWaitsForArchive) {
            return Err(Rejected::NotArchived {
                partition,
                before,
                archived,
            });
        }
        Ok(())
    }

    /// The topic of a table is deleted: the table stays, with what the topic's settings said of it.
    pub(in crate::state) fn detach_table(&mut self, topic: &Topic) {
        let Some(id) = self.tables.by_topic.remove(&topic.id()) else {
            return;
        };
        if let Some(table) = self.tables.get_mut(id) {
            let options = topic.configs().iter();
            let options = options.filter(|(name, _)| name.starts_with(OPTIONS));
            table.options = options
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            table.topic = None;
            table.enabled = false;
        }
    }

    /// A table to change, if it is not dropped.
    fn live_table(&mut self, id: TableId) -> Result<&mut Table, Rejected> {
        let table = self.tables.get_mut(id).filter(|table| !table.dropped);
        table.ok_or(Rejected::UnknownTable(id))
    }

    /// Refuses objects that the sweep may have deleted, and such as are in the table already; `kept` are those that a
    /// manifest takes over.
    fn check_new_files(
        &self,
        table: &Table,
        manifest: &Manifest,
        kept: &BTreeSet<FileId>,
    ) -> Result<(), Rejected> {
        let boundary = self.objects.sweep_boundary();
        let new: BTreeSet<FileId> = manifest.objects().filter(|id| !kept.contains(id)).collect();
        let stale = new.iter().find(|id| id.minted() < boundary);
        if let Some(stale) = stale.filter(|_| holds(Rule::SweptFilesAreRefused)) {
            return Err(Rejected::StaleFile(*stale));
        }
        if new.len() + kept.len() != manifest.files.len() + 1
            || table.objects().any(|known| new.contains(&known))
        {
            return Err(invalid(table.id, "a file is in the table twice"));
        }
        Ok(())
    }
}

impl Table {
    /// Why this is no table that the fold can come to; nothing if it may be one.
    pub(in crate::state) fn fault(&self, seq: Seq) -> Option<String> {
        let counts = self.manifests().map(|live| live.manifest.counts());
        let counted = counts.fold(Counts::default(), Counts::plus);
        if counted != self.total {
            return Some("its manifests have other files or rows than are counted".to_owned());
        }
        let snapshots = self.snapshots.iter().map(|snapshot| snapshot.seq);
        if !snapshots.clone().is_sorted_by(|a, b| a < b) || snapshots.max() > Some(seq) {
            return Some("its snapshots are not in order".to_owned());
        }
        let numbers = self.schemas().map(|schema| schema.id);
        if self.schemas.is_empty() || !numbers.eq(0..self.schemas.len() as u32) {
            return Some("its schemas are not in order".to_owned());
        }
        let columns = self.schemas().filter_map(Schema::last_column_id).max();
        if self.schemas().any(|schema| schema.fault().is_some()) || columns > Some(self.last_column)
        {
            return Some("its columns are not in order".to_owned());
        }
        let numbers = self.specs.iter().map(|spec| spec.id);
        if !numbers.eq(0..self.specs.len() as u32) || self.spec_of(self.spec).is_none() {
            return Some("its partition spec is missing".to_owned());
        }
        let last = self.manifests.keys().next_back();
        if last.is_some_and(|last| *last >= self.next_manifest)
            || self.next_manifest > LAST_MANIFEST
            || !self.manifests().all(|live| live.manifest.is_sound())
        {
            return Some("its manifests are not in order".to_owned());
        }
        let mut ids = BTreeSet::new();
        let is_new = |id: FileId| ids.insert(id);
        if !self
            .manifests()
            .flat_map(|live| live.manifest.objects())
            .all(is_new)
        {
            return Some("it has a file twice".to_owned());
        }
        let misplaced = |(id, retired): (&FileId, &Shared<RetiredManifest>)| {
            let named = self.names(retired);
            *id != retired.manifest.id || named == retired.unnamed.is_some()
        };
        if self.retired.iter().any(misplaced) {
            return Some("what was removed is not what its snapshots name".to_owned());
        }
        if self.loses_a_named_file() {
            return Some("a file goes that a snapshot names".to_owned());
        }
        self.gap_in_archive()
    }

    /// Whether a file is to be deleted that a snapshot names.
    fn loses_a_named_file(&self) -> bool {
        let goes = |retired: &&RetiredManifest| retired.unnamed.is_some();
        let files = |manifest: &Manifest| manifest.files.clone().into_iter().map(|file| file.id);
        let going: BTreeSet<FileId> = self
            .retired()
            .filter(goes)
            .flat_map(|retired| retired.files.iter().copied())
            .collect();
        let live = self.manifests().map(|live| &live.manifest);
        let named = self.retired().filter(|retired| !goes(retired));
        let mut named = live
            .chain(named.map(|retired| &retired.manifest))
            .flat_map(files);
        !going.is_empty() && named.any(|file| going.contains(&file))
    }

    /// Refuses a manifest that no table can have.
    fn check_manifest(&self, manifest: &Manifest) -> Result<(), Rejected> {
        let in_order = |a: &OffsetRange, b: &OffsetRange| {
            (a.partition, a.end) <= (b.partition, b.base) || a.partition < b.partition
        };
        let fault = if manifest.ranges.is_empty() || !manifest.ranges.is_sorted_by(in_order) {
            "the ranges of the manifest are not in order"
        } else if !manifest.is_sound() {
            "the manifest has more files, bytes, rows or errors than one can have"
        } else if self.schema_of(manifest.schema).is_none() {
            "the schema of the manifest is not known"
        } else if self.spec_of(manifest.spec).is_none() {
            "the partition spec of the manifest is not known"
        } else {
            return Ok(());
        };
        Err(invalid(self.id, fault))
    }

    /// From now on files are divided by `by`.
    fn divide(&mut self, by: PartitionBy) {
        let known = self.specs.iter().find(|spec| spec.by == by);
        let known = known.map(|spec| spec.id);
        self.spec = known.unwrap_or_else(|| {
            let id = u32::try_from(self.specs.len()).unwrap_or(u32::MAX);
            self.specs.push(PartitionSpec { id, by });
            id
        });
    }

    /// Notes that a partition is archived further.
    fn extend(&mut self, range: OffsetRange) {
        let is_new = self.partitions.get(&range.partition).is_none();
        let partition = self.partitions.get_or_default(&range.partition);
        if is_new {
            partition.start = range.base;
        } else if partition.start == partition.end {
            // Nothing of before is left, so nothing is missing in between.
            partition.start = range.base;
        } else if partition.end < range.base {
            partition.skipped.push((partition.end, range.base));
        }
        partition.end = range.end;
    }

    /// Notes that the first of a partition is removed.
    fn shorten(&mut self, range: OffsetRange) {
        let partition: &mut ArchivedPartition = self.partitions.get_or_default(&range.partition);
        partition.start = partition.start.max(range.end);
        while let Some((from, to)) = partition.skipped.first().copied()
            && from <= partition.start
        {
            partition.start = partition.start.max(to);
            partition.skipped.remove(0);
        }
    }

    /// Puts a manifest at a place in the order.
    fn put(&mut self, order: u64, manifest: Manifest, seq: Seq) {
        self.total = self.total.plus(manifest.counts());
        let live = LiveManifest {
            manifest,
            added: seq,
        };
        self.manifests.insert(order, Shared::new(live));
    }

    /// Removes manifests; the `kept` of their files another one takes over.
    fn retire(&mut self, orders: &[u64], kept: &BTreeSet<FileId>, seq: Seq) {
        for order in orders {
            let Some(live) = self.manifests.remove(order) else {
                continue;
            };
            let LiveManifest { manifest, added } = (*live).clone();
            self.total = self.total.minus(manifest.counts());
            let files = manifest.files.iter().map(|file| file.id);
            let retired = RetiredManifest {
                files: files.filter(|file| !kept.contains(file)).collect(),
                added,
                removed: seq,
                unnamed: None,
                manifest,
            };
            self.retired
                .insert(retired.manifest.id, Shared::new(retired));
        }
    }

    /// Makes the snapshot of the commit that is being folded, or adds to it.
    pub(super) fn snapshot_of(&mut self, added: Counts, removed: Counts, seq: Seq, now: Timestamp) {
        let (schema, total) = (self.schema().id, self.total);
        let parent = self.snapshots.last().map(|snapshot| snapshot.seq);
        match self.snapshots.last_mut() {
            Some(last) if last.seq == seq => {
                last.added = last.added.plus(added);
                last.removed = last.removed.plus(removed);
                (last.schema, last.total) = (schema, total);
            }
            _ => self.snapshots.push(TableSnapshot {
                seq,
                parent,
                time: now,
                schema,
                added,
                removed,
                total,
            }),
        }
        let surplus = self.snapshots.len().saturating_sub(MAX_SNAPSHOTS);
        self.snapshots.drain(..surplus);
        self.let_go(seq, now);
        self.touch(seq, now);
    }

    /// Notes which of the removed manifests no snapshot names any more.
    fn let_go(&mut self, seq: Seq, now: Timestamp) {
        let unnamed: Vec<FileId> = self
            .retired()
            .filter(|retired| retired.unnamed.is_none() && !self.names(retired))
            .map(|retired| retired.manifest.id)
            .collect();
        for id in unnamed {
            if let Some(retired) = self.retired.get_mut(&id) {
                retired.make_mut().unnamed = Some(Unnamed { since: now, seq });
            }
        }
    }

    /// Whether a snapshot names what was removed, or a file that goes with it. Each commit makes a snapshot, and they
    /// go from the first, so of the manifests that had a file, one after the other, the last is also the last to be
    /// named: but for one that came and went in one commit, which no snapshot names. Its files wait for the others.
    fn names(&self, retired: &RetiredManifest) -> bool {
        let takes_over = |other: &RetiredManifest| {
            self.names_manifest(other)
                && other
                    .manifest
                    .files
                    .iter()
                    .any(|file| retired.files.contains(&file.id))
        };
        let was_never_named = retired.added == retired.removed;
        self.names_manifest(retired)
            || was_never_named
                && holds(Rule::TakenOverFilesAreKept)
                && self.retired().any(takes_over)
    }

    /// Whether a snapshot names a manifest that was removed.
    fn names_manifest(&self, retired: &RetiredManifest) -> bool {
        let before = |snapshot: &TableSnapshot| snapshot.seq < retired.added;
        let first = self.snapshots.partition_point(before);
        let first = self.snapshots.get(first);
        first.is_some_and(|snapshot| retired.is_named_by(snapshot.seq))
    }

    /// The places of manifests, if they are neighbours in this order.
    fn neighbours(&self, removes: &[FileId]) -> Option<Vec<u64>> {
        let first = removes.first()?;
        let mut manifests = self.manifests.iter();
        let (order, _) = manifests.find(|(_, live)| live.manifest.id == *first)?;
        let mut orders = vec![*order];
        for remove in removes.get(1..)? {
            let (order, live) = manifests.next()?;
            if live.manifest.id != *remove && holds(Rule::RewritesReplaceNeighbours) {
                return None;
            }
            orders.push(*order);
        }
        Some(orders)
    }

    fn touch(&mut self, seq: Seq, now: Timestamp) {
        (self.version, self.changed_at) = (seq, now);
    }
}

fn invalid(table: TableId, reason: &str) -> Rejected {
    Rejected::InvalidTable {
        table,
        reason: reason.to_owned(),
    }
}
