//! `weir fsck`: walks a bucket, checks the invariants that data at rest can show, and says what it found.
//!
//! It takes a store that it only reads: it creates nothing, deletes nothing, repairs nothing, and prints nothing;
//! the findings are data. The bucket may belong to a cluster that runs.
//!
//! # The walk
//!
//! 1. **List** everything under the URL ([`Inventory`]).
//! 2. **Fold** the log as far as it goes, from the beginning if it still exists, otherwise from the oldest snapshot
//!    that can be read. Each snapshot on the way must be the fold up to it (I3). Where a commit is missing or
//!    unreadable, go on from the next snapshot.
//! 3. **Look into the objects** that the state refers to: header, index, lengths; with `deep` every byte (I4).
//! 4. **Judge** listing against state: what must exist and does not (I10), whether offsets are dense (I2), and what
//!    is there though nothing refers to it.
//! 5. **Judge again**, if there was anything to say: list once more, fold what was committed meanwhile, and keep only
//!    what is still so. An object that was retired or deleted during the walk is no finding.
//!
//! # What it relies on, what it costs
//!
//! A commit is listed only after everything it refers to was created, and stores that list in order show the log
//! first. One request per commit and two per segment; with `deep` every object is read once. Memory holds the names of
//! all objects, the state, and a bounded number of objects or pieces of them.
//!
//! A store that cannot be reached ends the walk with an error; a walk that is dropped leaves nothing behind.

mod archive;
mod commit;
mod compacted;
mod finding;
mod inventory;
mod judge;
mod log;
mod objects;
mod read;
#[cfg(test)]
mod tests;

pub use finding::{Finding, Kind, Severity};
pub use inventory::Inventory;

pub(super) use commit::read as read_commit;
pub(super) use judge::YOUNG;
pub(super) use log::Fold;
pub(super) use read::Looked;

use serde::Serialize;
use uuid::Uuid;

use crate::manifest::{OpenError, read_cluster};
use crate::store::{ObjectPath, RequestKind, Store, StoreError};
use crate::types::{LogId, Seq, Timestamp};
use finding::{About, Candidate};
use judge::Judgement;
use read::look;

/// How the walk goes.
#[derive(Clone, Copy, Debug)]
pub struct FsckOptions {
    /// Whether every byte is read.
    pub deep: bool,
    /// The present time, for telling an upload under way from one that was given up.
    pub now: Timestamp,
}

/// A part of the walk, for showing how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Listing objects.
    Listing,
    /// Reading commits and snapshots.
    Log,
    /// Reading segments, and commits that the fold did not need.
    Objects,
    /// Listing again and reading what was committed meanwhile.
    Again,
}

/// Is told how far the walk is.
pub trait Watch: Send + Sync {
    /// A step begins; it will take `total` objects, if that is known.
    fn begin(&self, step: Step, total: Option<u64>);
    /// So many more objects of the step are done.
    fn advance(&self, objects: u64);
}

/// Does not care.
impl Watch for () {
    fn begin(&self, _: Step, _: Option<u64>) {}
    fn advance(&self, _: u64) {}
}

/// What a walk saw and found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The store's URL.
    pub store: String,
    /// The cluster's id, if `cluster.json` could be read.
    pub cluster_id: Option<Uuid>,
    /// Whether every byte was read.
    pub deep: bool,
    /// The log that was checked, in which the seqs are positions.
    pub log: LogId,
    /// The last commit that was listed first; 0 if there is none.
    pub log_end: Seq,
    /// The seq of the state that was judged; none if no state could be made.
    pub state_seq: Option<Seq>,
    /// What was looked at.
    pub checked: Checked,
    /// What is not as it should be, the worst first.
    pub findings: Vec<Finding>,
}

/// How much a walk looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Objects listed.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Commits read.
    pub commits: u64,
    /// Snapshots read and compared with the fold.
    pub snapshots_compared: u64,
    /// Segments looked into.
    pub segments: u64,
    /// Slices that the state has.
    pub slices: u64,
    /// Bytes read.
    pub bytes_read: u64,
}

impl Report {
    /// How many findings are of this severity.
    pub fn count(&self, severity: Severity) -> usize {
        let of_it = |finding: &&Finding| finding.severity == severity;
        self.findings.iter().filter(of_it).count()
    }

    /// Whether nothing is wrong: there are no errors.
    pub fn is_sound(&self) -> bool {
        self.count(Severity::Error) == 0
    }
}

/// What everything in a walk needs.
pub(super) struct Walk<'a> {
    pub(super) store: &'a Store,
    pub(super) deep: bool,
    pub(super) watch: &'a dyn Watch,
}

/// Walks the bucket. See the module.
///
/// # Errors
///
/// The store could not be read. What is wrong with the bucket is no error but a finding.
pub async fn fsck(
    store: &Store,
    options: FsckOptions,
    watch: &dyn Watch,
) -> Result<Report, StoreError> {
    let deep = options.deep;
    let walk = Walk { store, deep, watch };
    watch.begin(Step::Listing, None);
    let mut inventory = Inventory::of(&walk).await?;
    let mut checked = Checked {
        objects: inventory.objects,
        bytes: inventory.bytes,
        ..Checked::default()
    };
    let log_end = inventory.log_end();
    let mut candidates = Vec::new();
    let cluster_id = look_at_cluster(&walk, &inventory, &mut candidates).await?;

    watch.begin(Step::Log, Some(inventory.commits.len() as u64));
    let mut fold = Fold::default();
    fold.advance(&walk, &mut inventory, &mut candidates).await?;

    let mut objects = objects::Objects::new(&inventory, &fold);
    watch.begin(Step::Objects, Some(objects.count()));
    objects
        .look(&walk, &mut inventory, &mut candidates, &mut checked)
        .await?;

    let mut judgement = Judgement::of(&inventory, &fold, options.now);
    let mut tables = archive::judge(&inventory, &fold, options.now);
    let mut damaged = archive::look_into(&walk, &inventory, &fold, &mut checked).await?;
    let is_clear = judgement.is_clear() && candidates.is_empty();
    if !is_clear || !tables.is_empty() || !damaged.is_empty() {
        watch.begin(Step::Again, None);
        inventory = Inventory::of(&walk).await?;
        let quick = Walk {
            deep: false,
            ..walk
        };
        fold.advance(&quick, &mut inventory, &mut candidates)
            .await?;
        let again = Judgement::of(&inventory, &fold, options.now);
        candidates.retain(|candidate| again.concerns(&candidate.about));
        judgement = judgement.confirmed_by(again);
        let again = archive::judge(&inventory, &fold, options.now);
        tables.retain(|object, _| again.contains_key(object));
        let state = fold.state.as_ref();
        damaged.retain(|object, _| state.is_some_and(|state| archive::concerns(state, object)));
    }
    checked.commits += fold.commits;
    checked.snapshots_compared = fold.compared;
    checked.bytes_read += fold.bytes;
    checked.slices = fold.state.as_ref().map_or(0, |s| s.slice_count() as u64);
    let mut findings = judgement.into_findings(&inventory, &fold);
    findings.extend(tables.into_values().chain(damaged.into_values()));
    findings.extend(candidates.into_iter().map(|candidate| candidate.finding));
    findings.sort_by(|a, b| (a.severity, a.kind, &a.object).cmp(&(b.severity, b.kind, &b.object)));
    findings.dedup();
    Ok(Report {
        store: store.name().to_owned(),
        cluster_id,
        deep: options.deep,
        log: LogId::ZERO,
        log_end,
        state_seq: fold.state.as_ref().map(|state| state.seq()),
        checked,
        findings,
    })
}

async fn look_at_cluster(
    walk: &Walk<'_>,
    inventory: &Inventory,
    candidates: &mut Vec<Candidate>,
) -> Result<Option<Uuid>, StoreError> {
    let path = ObjectPath::cluster();
    if inventory.cluster.is_none() {
        return Ok(None);
    }
    let (kind, detail) = match look(walk.store.get(&path, RequestKind::Cluster).await)? {
        Looked::Gone => return Ok(None),
        Looked::Bad(kind, detail) => (kind, detail),
        Looked::At(bytes) => match read_cluster(&bytes) {
            Ok(cluster) => return Ok(Some(cluster.cluster_id)),
            Err(error @ OpenError::NewerLayout { .. }) => (Kind::Newer, error.to_string()),
            Err(error) => (Kind::BadCluster, error.to_string()),
        },
    };
    candidates.push(Candidate {
        about: About::Cluster,
        finding: Finding::new(kind, path.as_str(), detail),
    });
    Ok(None)
}
