//! `weir store usage`: what takes how much space in a bucket, and why.
//!
//! It lists everything, folds the log as a node that starts does, and shares the bytes out. Every byte listed has one
//! reason, so the reasons add up to the whole. It reads no segment and changes nothing. While a cluster runs the
//! figures are those of a moment that has passed.

use std::collections::BTreeSet;

use serde::Serialize;

use super::fsck::{Fold, Inventory, Step, Walk, Watch, YOUNG};
use crate::invariants::at_rest::{Reference, references};
use crate::state::{ObjectRef, State};
use crate::store::{ArchiveObject, Store, StoreError};
use crate::types::{FileId, LogId, Seq, TableName, Timestamp, TopicId};

/// Why something takes space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Records that can be read, where they were first stored.
    Live,
    /// Records that can be read, compacted.
    Compacted,
    /// Parts of objects in use in which no readable record is: frames, indexes, records that were deleted.
    Unused,
    /// Objects that nothing refers to any more; they go after the grace period.
    WaitingForDeletion,
    /// Segments that nothing refers to yet, younger than an hour.
    Uploading,
    /// Segments that nothing ever will refer to.
    Orphaned,
    /// Files and manifests of tables.
    Archive,
    /// What is derived of tables for engines, and files of tables that nothing refers to (yet).
    ArchiveOther,
    /// Commits, less the records in them that can be read. Records that went are in it until the log is truncated
    /// beyond them.
    Log,
    /// Snapshots of the state.
    Snapshots,
    /// `cluster.json`, boundaries, what checks left, what repairs kept.
    Other,
    /// Objects of logs that this version does not know.
    OtherLogs,
    /// Objects that are not Weir's.
    Foreign,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Reason; 13] = [
        Reason::Live,
        Reason::Compacted,
        Reason::Unused,
        Reason::WaitingForDeletion,
        Reason::Uploading,
        Reason::Orphaned,
        Reason::Archive,
        Reason::ArchiveOther,
        Reason::Log,
        Reason::Snapshots,
        Reason::Other,
        Reason::OtherLogs,
        Reason::Foreign,
    ];

    /// Its name in reports.
    pub fn id(self) -> &'static str {
        match self {
            Reason::Live => "live",
            Reason::Compacted => "compacted",
            Reason::Unused => "unused",
            Reason::WaitingForDeletion => "waiting-for-deletion",
            Reason::Uploading => "uploading",
            Reason::Orphaned => "orphaned",
            Reason::Archive => "archive",
            Reason::ArchiveOther => "archive-other",
            Reason::Log => "log",
            Reason::Snapshots => "snapshots",
            Reason::Other => "other",
            Reason::OtherLogs => "other-logs",
            Reason::Foreign => "foreign",
        }
    }

    /// What it means.
    pub fn meaning(self) -> &'static str {
        match self {
            Reason::Live => "records that can be read, where they were first stored",
            Reason::Compacted => "records that can be read, compacted",
            Reason::Unused => "in objects in use: frames, indexes, records deleted since",
            Reason::WaitingForDeletion => {
                "nothing refers to it any more; goes after the grace period"
            }
            Reason::Uploading => "nothing refers to it yet, younger than an hour",
            Reason::Orphaned => "uploaded and never committed; the sweep takes it",
            Reason::Archive => "data files and manifests of tables",
            Reason::ArchiveOther => {
                "of tables: metadata for engines, what was removed, what is being added"
            }
            Reason::Log => "commits, less the records that can be read; until the log is truncated",
            Reason::Snapshots => "states to start from",
            Reason::Other => "cluster.json, boundaries, what checks left and repairs kept",
            Reason::OtherLogs => "of logs that this version does not know",
            Reason::Foreign => "not Weir's",
        }
    }
}

/// How much space one reason takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Why.
    pub reason: Reason,
    /// In how many objects; one with several reasons counts for each.
    pub objects: u64,
    /// How much.
    pub bytes: u64,
}

/// How much space the readable records of a topic take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TopicShare {
    /// The topic.
    pub topic: String,
    /// Its id.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: i32,
    /// How many offsets lie between the log starts and the high watermarks.
    pub records: u64,
    /// Bytes of records, in all.
    pub bytes: u64,
    /// Bytes in commits.
    pub in_commits: u64,
    /// Bytes in segments that hold several partitions.
    pub in_segments: u64,
    /// Bytes in compacted segments.
    pub compacted: u64,
    /// In how many objects.
    pub objects: u64,
    /// How many slices the state has of it.
    pub slices: u64,
}

/// What takes how much space.
#[derive(Clone, Debug, Serialize)]
pub struct Usage {
    /// The store's URL.
    pub store: String,
    /// The log in which `state_seq` is a position.
    pub log: LogId,
    /// The seq of the state by which it was judged.
    pub state_seq: Seq,
    /// How many objects there are.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// By reason, each once.
    pub reasons: Vec<Share>,
    /// By topic, the largest first.
    pub topics: Vec<TopicShare>,
}

/// Why usage cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no cluster under the URL.
    #[error("there is no cluster at {0}")]
    NoCluster(String),
    /// The log cannot be folded to its end.
    #[error("the log ends at {end}, but can be read up to {reached} only")]
    Broken {
        /// The last commit listed.
        end: Seq,
        /// The last one that could be folded.
        reached: Seq,
    },
}

/// Lists the bucket and shares its bytes out. `now` tells uploads under way from those that were given up.
///
/// # Errors
///
/// [`UsageError`].
pub async fn usage(store: &Store, now: Timestamp, watch: &dyn Watch) -> Result<Usage, UsageError> {
    let walk = Walk {
        store,
        deep: false,
        watch,
    };
    watch.begin(Step::Listing, None);
    let listed = Inventory::of(&walk).await?;
    if listed.cluster.is_none() {
        return Err(UsageError::NoCluster(store.name().to_owned()));
    }
    let end = listed.log_end();
    watch.begin(Step::Log, None);
    let mut fold = Fold::default();
    fold.as_a_node(&walk, &mut listed.clone()).await?;
    let is_complete = fold.is_complete;
    match fold.state {
        Some(state) if is_complete => Ok(share_out(store.name(), &listed, &state, now)),
        state => {
            let reached = state.map_or(Seq::ZERO, |state| state.seq());
            Err(UsageError::Broken { end, reached })
        }
    }
}

/// Gives every byte listed one reason.
fn share_out(store: &str, listed: &Inventory, state: &State, now: Timestamp) -> Usage {
    let mut shares = Shares::default();
    let refers = references(state);
    let no_slices = Vec::new();
    for (seq, size) in &listed.commits {
        let object = ObjectRef::Commit(*seq);
        let rest = shares.records(*size, refers.get(&object).unwrap_or(&no_slices));
        let is_dead = state.death_of(object).is_some() && *seq <= state.log_boundary();
        shares.add(
            if is_dead {
                Reason::WaitingForDeletion
            } else {
                Reason::Log
            },
            rest,
        );
    }
    for (id, size) in &listed.segments {
        let object = ObjectRef::Segment(*id);
        let reason = match refers.get(&object) {
            Some(slices) => {
                let rest = shares.records(*size, slices);
                shares.add(Reason::Unused, rest);
                continue;
            }
            None if state.death_of(object).is_some_and(|dead| !dead.deleted) => {
                Reason::WaitingForDeletion
            }
            None if now.since(id.minted()) < YOUNG => Reason::Uploading,
            None => Reason::Orphaned,
        };
        shares.add(reason, *size);
    }
    let files: BTreeSet<(&TableName, FileId)> = state
        .tables()
        .flat_map(|table| {
            let live = table.manifests().flat_map(|live| live.manifest.objects());
            live.map(|file| (table.name(), file))
        })
        .collect();
    for ((table, object), (size, _)) in &listed.archive {
        let is_live = match object {
            ArchiveObject::Data(id) | ArchiveObject::Manifest(id) => files.contains(&(table, *id)),
            ArchiveObject::List(_) | ArchiveObject::Metadata(_) | ArchiveObject::Hint => false,
        };
        let reason = match is_live {
            true => Reason::Archive,
            false => Reason::ArchiveOther,
        };
        shares.add(reason, *size);
    }
    let snapshots = listed.snapshots.values().chain(listed.chunks.values());
    snapshots.for_each(|size| shares.add(Reason::Snapshots, *size));
    let checks = listed.checks.iter().map(|(_, size, _)| size);
    let other = listed
        .cluster
        .iter()
        .chain(listed.boundaries.values())
        .chain(checks);
    other.for_each(|size| shares.add(Reason::Other, *size));
    let other = shares.of(Reason::Other);
    other.objects += listed.copies.objects;
    other.bytes += listed.copies.bytes;
    let other_logs = shares.of(Reason::OtherLogs);
    other_logs.objects = listed.other_logs.objects;
    other_logs.bytes = listed.other_logs.bytes;
    let foreign = shares.of(Reason::Foreign);
    foreign.objects = listed.foreign_objects;
    foreign.bytes = listed.foreign_bytes;
    Usage {
        store: store.to_owned(),
        log: LogId::ZERO,
        state_seq: state.seq(),
        objects: listed.objects,
        bytes: listed.bytes,
        reasons: shares.0,
        topics: topics(state),
    }
}

struct Shares(Vec<Share>);

impl Default for Shares {
    fn default() -> Shares {
        let empty = |reason| Share {
            reason,
            objects: 0,
            bytes: 0,
        };
        Shares(Reason::ALL.into_iter().map(empty).collect())
    }
}

impl Shares {
    fn of(&mut self, reason: Reason) -> &mut Share {
        // In the order of the enum, each once.
        &mut self.0[reason as usize]
    }

    fn add(&mut self, reason: Reason, bytes: u64) {
        let share = self.of(reason);
        share.objects += 1;
        share.bytes += bytes;
    }

    /// Counts the records in an object of this size, a byte that several slices share once. Returns what is left.
    fn records(&mut self, size: u64, slices: &[Reference]) -> u64 {
        let mut ranges: Vec<(u64, u64, bool)> = slices
            .iter()
            .map(|reference| {
                let range = reference.range();
                let is_compacted = reference.slice.index.is_some();
                (range.start.min(size), range.end.min(size), is_compacted)
            })
            .collect();
        ranges.sort_unstable();
        let (mut at, mut live, mut compacted) = (0, 0, 0);
        for (start, end, is_compacted) in ranges {
            let new = end.saturating_sub(start.max(at));
            at = at.max(end);
            *(if is_compacted {
                &mut compacted
            } else {
                &mut live
            }) += new;
        }
        for (reason, bytes) in [(Reason::Live, live), (Reason::Compacted, compacted)] {
            if bytes > 0 {
                self.add(reason, bytes);
            }
        }
        size - live - compacted
    }
}

fn topics(state: &State) -> Vec<TopicShare> {
    let mut topics: Vec<TopicShare> = state
        .topics()
        .map(|topic| {
            let mut share = TopicShare {
                topic: topic.name().to_string(),
                id: topic.id(),
                partitions: topic.partition_count(),
                records: 0,
                bytes: 0,
                in_commits: 0,
                in_segments: 0,
                compacted: 0,
                objects: 0,
                slices: 0,
            };
            let mut objects = BTreeSet::new();
            for (_, partition) in topic.partitions() {
                share.records += partition.high_watermark().since(partition.log_start());
                share.bytes += partition.bytes().0;
                for (_, slice) in partition.slices_from(partition.log_start()) {
                    share.slices += 1;
                    objects.insert(slice.object);
                    let place = match (slice.index, slice.object) {
                        (Some(_), _) => &mut share.compacted,
                        (None, ObjectRef::Commit(_)) => &mut share.in_commits,
                        (None, ObjectRef::Segment(_)) => &mut share.in_segments,
                    };
                    *place += slice.len;
                }
            }
            share.objects = objects.len() as u64;
            share
        })
        .collect();
    topics.sort_by(|a, b| (b.bytes, &a.topic).cmp(&(a.bytes, &b.topic)));
    topics
}
