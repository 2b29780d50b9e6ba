//! The sweep: objects that nothing refers to and nobody will ever refer to.
//!
//! * **Segments.** An op raises the sweep boundary. From then on the fold refuses segments that were minted before it,
//!   so what the state after that op does not know, and is older, is an orphan for ever: uploaded and never committed,
//!   or put there once more by a request that was on its way for long.
//! * **Commits** up to where the log is truncated that the state does not know: a stalled writer put one where one had
//!   been deleted, and was told by the boundary that it is worth nothing.
//! * **Snapshots** older than the oldest that is kept: their node died before it could announce or delete them.
//! * **Files of tables** that no table has, nor had until they are deleted, and that are older than the boundary: as
//!   segments. What is derived of a table from the state, for versions of it before the oldest of its snapshots. All of a
//!   table that is forgotten.
//! * **Boundaries**, but for the newest. **Checks** of stores that were not ended, after a day.
//!
//! Nothing is remembered between pages: a sweep that is broken off is begun again.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::deletion::BATCH;
use super::error::JobError;
use super::maintenance::Maintenance;
use super::producers::ago;
use super::truncation::is_needed;
use crate::rules::{Rule, holds};
use crate::state::op::{Op, Rejected};
use crate::state::table::Table;
use crate::state::{Job, ObjectRef, State};
use crate::store::{ArchiveObject, ObjectKind, ObjectMeta, ObjectPath, ObjectPrefix};
use crate::types::{FileId, Seq, TableName, Timestamp};

/// How many names are listed at once.
const PAGE: usize = 1000;

/// How old what a check left must be.
const CHECK_AGE: Duration = Duration::from_secs(24 * 3600);

/// Whether it is time. A cluster in which nothing was stored since before the last sweep boundary needs no sweep.
pub(super) fn is_due(m: &Maintenance, state: &State, now: Timestamp) -> bool {
    let options = m.options();
    let last = state.sweep_boundary().after(options.sweep_age);
    let quiet = m.quiet_since(state) < state.sweep_boundary();
    last.after(options.sweep_interval) <= now && !quiet
}

/// Sweeps, whether or not it is time. Returns whether another node does so already.
///
/// # Errors
///
/// Those of the store; [`JobError::Stopped`].
pub async fn run(m: &Maintenance) -> Result<bool, JobError> {
    let Some(_) = m.claim(Job::Sweep).await? else {
        return Ok(false);
    };
    m.holding(&[Job::Sweep], sweep(m)).await?;
    m.release(&[Job::Sweep]).await;
    Ok(true)
}

/// What a sweep deleted.
#[derive(Debug, Default)]
struct Swept {
    listed: usize,
    segments: usize,
    commits: usize,
    others: usize,
}

async fn sweep(m: &Maintenance) -> Result<(), JobError> {
    let before = ago(m.passed(), m.options().sweep_age);
    let old = m.state();
    let raised = match m.must_commit(vec![Op::RaiseSweepBoundary { before }]).await {
        // The clock stands before what the log knows: nothing is old enough.
        Err(JobError::Rejected(Rejected::SweepBoundary { .. })) => return Ok(()),
        raised => raised?,
    };
    let state = match holds(Rule::SweepSeesItsBoundary) {
        true => raised,
        false => old,
    };
    let mut swept = Swept::default();
    swept.segments = segments(m, &state, &mut swept.listed).await?;
    swept.commits = commits(m, &state, &mut swept.listed).await?;
    swept.others = snapshots(m, &state, &mut swept.listed).await?
        + chunks(m, &state, &mut swept.listed).await?
        + archive(m, &state, &mut swept.listed).await?
        + boundaries(m, &mut swept.listed).await?
        + checks(m, &mut swept.listed).await?;
    let Swept {
        listed,
        segments,
        commits,
        others,
    } = swept;
    if segments + commits + others > 0 {
        tracing::info!(
            listed,
            segments,
            commits,
            others,
            "deleted orphaned objects"
        );
    } else {
        tracing::debug!(listed, "found no orphans");
    }
    Ok(())
}

async fn segments(
    m: &Maintenance,
    state: &Arc<State>,
    listed: &mut usize,
) -> Result<usize, JobError> {
    let is_orphan = |meta: &ObjectMeta| match meta.path.kind() {
        ObjectKind::Segment(id) => {
            let object = ObjectRef::Segment(id);
            let is_young = id.minted() >= state.sweep_boundary();
            let is_spared = is_young && holds(Rule::SweepSparesYoungSegments)
                || state.is_live(object) && holds(Rule::SweepSparesLiveSegments)
                || state.death_of(object).is_some() && holds(Rule::SweepSparesDeadSegments);
            !is_spared
        }
        _ => false,
    };
    let kept = Kept::All;
    delete_listed(m, "orphan", ObjectPrefix::Segments, kept, is_orphan, listed).await
}

async fn commits(
    m: &Maintenance,
    state: &Arc<State>,
    listed: &mut usize,
) -> Result<usize, JobError> {
    let last = state.log_truncated();
    let is_garbage = |meta: &ObjectMeta| match meta.path.kind() {
        ObjectKind::Commit(seq) => {
            let is_spared = is_needed(state, seq) && holds(Rule::SweepSparesNeededCommits);
            seq <= last && !is_spared
        }
        _ => false,
    };
    let kept = Kept::After(ObjectPath::commit(last));
    delete_listed(m, "commit", ObjectPrefix::Log, kept, is_garbage, listed).await
}

async fn snapshots(
    m: &Maintenance,
    state: &Arc<State>,
    listed: &mut usize,
) -> Result<usize, JobError> {
    let known: HashSet<Seq> = state.snapshots().map(|known| known.seq).collect();
    let Some(oldest) = known.iter().min().copied() else {
        return Ok(0);
    };
    let is_superfluous = |meta: &ObjectMeta| match meta.path.kind() {
        ObjectKind::Snapshot(seq) => {
            let may_be_known = seq >= oldest || known.contains(&seq);
            !(may_be_known && holds(Rule::SweepSparesKnownSnapshots))
        }
        _ => false,
    };
    let kept = Kept::After(ObjectPath::snapshot(oldest));
    let prefix = ObjectPrefix::Snapshots;
    delete_listed(m, "snapshot", prefix, kept, is_superfluous, listed).await
}

/// Those of snapshots that are not there any more, or never were: heads are swept first.
async fn chunks(
    m: &Maintenance,
    state: &Arc<State>,
    listed: &mut usize,
) -> Result<usize, JobError> {
    let known: HashSet<Seq> = state.snapshots().map(|known| known.seq).collect();
    let Some(oldest) = known.iter().min().copied() else {
        return Ok(0);
    };
    let is_superfluous = |meta: &ObjectMeta| match meta.path.kind() {
        ObjectKind::Chunk(seq, _) => {
            let may_be_needed = seq >= oldest;
            !(may_be_needed && holds(Rule::SweepSparesNeededChunks))
        }
        _ => false,
    };
    let kept = Kept::After(ObjectPath::chunk(oldest, 0));
    let prefix = ObjectPrefix::Chunks;
    delete_listed(m, "chunk", prefix, kept, is_superfluous, listed).await
}

async fn archive(
    m: &Maintenance,
    state: &Arc<State>,
    listed: &mut usize,
) -> Result<usize, JobError> {
    // All that is known of each table, looked up when the first of its objects is met: they are listed together.
    let known: HashMap<&TableName, OnceLock<HashSet<FileId>>> = state
        .tables()
        .map(|table| (table.name(), OnceLock::new()))
        .collect();
    let derived_before = ago(m.passed(), m.options().sweep_age);
    let is_garbage = |meta: &ObjectMeta| {
        let ObjectKind::Archive(name, object) = meta.path.kind() else {
            return false;
        };
        let table = state.table_by_name(name.as_str());
        match object {
            ArchiveObject::Data(id) | ArchiveObject::Manifest(id) => {
                let all = || {
                    table
                        .map(|table| table.objects().collect())
                        .unwrap_or_default()
                };
                let files = known.get(&name).map(|files| files.get_or_init(all));
                let is_known = files.is_some_and(|files| files.contains(&id));
                let is_young = id.minted() >= state.sweep_boundary();
                let is_spared = is_known && holds(Rule::SweepSparesFilesOfTables)
                    || is_young && holds(Rule::SweepSparesYoungFiles);
                !is_spared
            }
            // By the store's clock they are old enough that no node is about to name them.
            _ if meta.last_modified >= derived_before => false,
            ArchiveObject::List(seq) | ArchiveObject::Metadata(seq) => {
                let Some(table) = table.filter(|table| !table.is_dropped()) else {
                    return true;
                };
                let oldest = table.snapshots().first().map(|snapshot| snapshot.seq);
                seq < oldest.unwrap_or(table.version()).min(table.version())
            }
            ArchiveObject::Hint => table.is_none_or(Table::is_dropped),
        }
    };
    let prefix = ObjectPrefix::Archive;
    delete_listed(m, "archive", prefix, Kept::All, is_garbage, listed).await
}

/// All but the newest: it says all that the others do.
async fn boundaries(m: &Maintenance, listed: &mut usize) -> Result<usize, JobError> {
    let mut all: Vec<ObjectPath> = Vec::new();
    loop {
        let store = &m.inner.store;
        let page = store
            .list(ObjectPrefix::Boundaries, all.last(), PAGE)
            .await?;
        let is_last = page.len() < PAGE;
        *listed += page.len();
        all.extend(page.into_iter().map(|meta| meta.path));
        if is_last {
            break;
        }
    }
    if holds(Rule::SweepSparesNewestBoundary) {
        all.pop();
    }
    let count = all.len();
    for batch in all.chunks(BATCH) {
        m.delete("boundary", batch.to_vec()).await?;
    }
    Ok(count)
}

async fn checks(m: &Maintenance, listed: &mut usize) -> Result<usize, JobError> {
    let before = ago(m.passed(), CHECK_AGE);
    let is_old = |meta: &ObjectMeta| {
        let may_be_running = meta.last_modified >= before;
        !(may_be_running && holds(Rule::SweepSparesRunningChecks))
    };
    let prefix = ObjectPrefix::Checks;
    delete_listed(m, "check", prefix, Kept::All, is_old, listed).await
}

/// How far a folder needs to be listed.
enum Kept {
    /// To its end.
    All,
    /// Names after that are of no concern.
    After(ObjectPath),
}

/// Deletes what is listed of a folder and `goes`, a page at a time. Returns how many.
async fn delete_listed(
    m: &Maintenance,
    kind: &str,
    prefix: ObjectPrefix,
    kept: Kept,
    goes: impl Fn(&ObjectMeta) -> bool,
    listed: &mut usize,
) -> Result<usize, JobError> {
    let mut after: Option<ObjectPath> = None;
    let mut deleted = 0;
    loop {
        let page = m.inner.store.list(prefix, after.as_ref(), PAGE).await?;
        *listed += page.len();
        let beyond = |meta: &ObjectMeta| matches!(&kept, Kept::After(last) if meta.path > *last);
        let is_last = page.len() < PAGE || page.last().is_some_and(beyond);
        after = page.last().map(|meta| meta.path.clone());
        let gone: Vec<ObjectPath> = page
            .into_iter()
            .filter(|meta| goes(meta))
            .map(|meta| meta.path)
            .collect();
        if !gone.is_empty() {
            deleted += gone.len();
            m.delete(kind, gone).await?;
        }
        if is_last {
            return Ok(deleted);
        }
    }
}
