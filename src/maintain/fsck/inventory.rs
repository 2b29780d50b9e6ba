//! What lies in the bucket.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::read::Looked;
use super::{Walk, commit};
use crate::store::{ArchiveObject, Listed, ObjectKind, StoreError, is_of_another_log};
use crate::types::{SegmentId, Seq, TableName, Timestamp};

/// How many names that are not Weir's are kept; the others are counted.
const KEPT_FOREIGN: usize = 1000;

/// Objects of one kind that are counted, however many there are.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// How many.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The name of the first.
    pub first: Option<String>,
}

impl Counted {
    fn add(&mut self, name: String, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
        self.first.get_or_insert(name);
    }
}

/// Everything under a URL, by kind, with sizes in bytes.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// How many objects there are.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// `cluster.json`.
    pub cluster: Option<u64>,
    /// Commits.
    pub commits: BTreeMap<Seq, u64>,
    /// Commits behind the log's end: sent when the one before them was not in the log yet, which may still come, or
    /// not.
    pub ahead: BTreeMap<Seq, u64>,
    /// Snapshots.
    pub snapshots: BTreeMap<Seq, u64>,
    /// Chunks of snapshots.
    pub chunks: BTreeMap<(Seq, u32), u64>,
    /// Boundaries.
    pub boundaries: BTreeMap<Seq, u64>,
    /// Segments.
    pub segments: BTreeMap<SegmentId, u64>,
    /// Objects of tables: size, and when it was written.
    pub archive: BTreeMap<(TableName, ArchiveObject), (u64, Timestamp)>,
    /// What checks of the store left: name, size, and when it was written.
    pub checks: Vec<(String, u64, Timestamp)>,
    /// What repairs kept copies of.
    pub copies: Counted,
    /// The snapshots among them: a repair removed those.
    pub copied_snapshots: BTreeSet<Seq>,
    /// What belongs to other logs than the one that this version knows.
    pub other_logs: Counted,
    /// The first names that are not Weir's, with their sizes.
    pub foreign: Vec<(String, u64)>,
    /// How many of those there are.
    pub foreign_objects: u64,
    /// Their bytes.
    pub foreign_bytes: u64,
}

impl Inventory {
    /// Lists the bucket.
    pub(in crate::maintain) async fn of(walk: &Walk<'_>) -> Result<Inventory, StoreError> {
        let mut inventory = Inventory::default();
        walk.store
            .survey(|listed| {
                inventory.add(listed);
                walk.watch.advance(1);
            })
            .await?;
        inventory.find_ahead(walk).await?;
        Ok(inventory)
    }

    /// Tells a gap in the log, where something is missing, from its end with commits on their way behind it: those are
    /// few, each says that it follows another, and no snapshot covers the gap.
    async fn find_ahead(&mut self, walk: &Walk<'_>) -> Result<(), StoreError> {
        let newest = self.snapshots.last_key_value();
        let gaps = self.gaps(newest.map_or(Seq::ZERO, |(seq, _)| *seq));
        let Some(end) = gaps.first().map(|gap| Seq(*gap.start())) else {
            return Ok(());
        };
        let behind: Vec<Seq> = self.commits.range(end..).map(|(seq, _)| *seq).collect();
        if behind.iter().any(|seq| seq.proves(end)) {
            return Ok(());
        }
        let heads = Walk {
            deep: false,
            ..*walk
        };
        for seq in behind {
            match commit::read(&heads, seq).await? {
                Looked::At(read) if read.logged.commit.follows.is_some() => {}
                Looked::Gone => {}
                _ => return Ok(()),
            }
        }
        self.ahead = self.commits.split_off(&end);
        Ok(())
    }

    fn add(&mut self, listed: Listed) {
        self.objects += 1;
        self.bytes += listed.size;
        let size = listed.size;
        match listed.path.map(|path| path.kind()) {
            Some(ObjectKind::Cluster) => self.cluster = Some(size),
            // Nothing depends on what is in it: what it signed is worth nothing an hour later.
            Some(ObjectKind::CatalogKey) => {}
            Some(ObjectKind::Commit(seq)) => drop(self.commits.insert(seq, size)),
            Some(ObjectKind::Snapshot(seq)) => drop(self.snapshots.insert(seq, size)),
            Some(ObjectKind::Chunk(seq, index)) => {
                self.chunks.insert((seq, index), size);
            }
            Some(ObjectKind::Boundary(seq)) => drop(self.boundaries.insert(seq, size)),
            Some(ObjectKind::Segment(id)) => drop(self.segments.insert(id, size)),
            Some(ObjectKind::Archive(table, object)) => {
                let written = listed.last_modified;
                self.archive.insert((table, object), (size, written));
            }
            Some(ObjectKind::Check { .. }) => {
                self.checks.push((listed.name, size, listed.last_modified));
            }
            Some(ObjectKind::Copy { of, .. }) => {
                if let ObjectKind::Snapshot(seq) = of.kind() {
                    self.copied_snapshots.insert(seq);
                }
                self.copies.add(listed.name, size);
            }
            None if is_of_another_log(&listed.name) => self.other_logs.add(listed.name, size),
            None => {
                self.foreign_objects += 1;
                self.foreign_bytes += size;
                if self.foreign.len() < KEPT_FOREIGN {
                    self.foreign.push((listed.name, size));
                }
            }
        }
    }

    /// The last commit listed; 0 if there is none.
    pub fn log_end(&self) -> Seq {
        let last = self.commits.last_key_value();
        last.map_or(Seq::ZERO, |(seq, _)| *seq)
    }

    /// The seqs after `after` and before the log's end at which no commit is.
    pub fn gaps(&self, after: Seq) -> Vec<RangeInclusive<u64>> {
        let mut gaps = Vec::new();
        let mut due = after.0.saturating_add(1);
        for (seq, _) in self.commits.range(Seq(due)..) {
            if seq.0 > due {
                gaps.push(due..=seq.0 - 1);
            }
            due = seq.0.saturating_add(1);
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_what_lies_between_commits_that_exist() {
        let mut inventory = Inventory::default();
        assert!(inventory.gaps(Seq(0)).is_empty());
        for seq in [2, 3, 7, u64::MAX] {
            inventory.commits.insert(Seq(seq), 1);
        }
        assert_eq!(inventory.gaps(Seq(0)), [1..=1, 4..=6, 8..=u64::MAX - 1]);
        assert_eq!(inventory.gaps(Seq(4)), [5..=6, 8..=u64::MAX - 1]);
        assert_eq!(inventory.gaps(Seq(u64::MAX)), []);
    }
}
