//! Dead objects: those in which no slice lies any more.
//!
//! One goes when it has been dead for the grace period, by what has passed by every clock
//! ([`Manifest::passed`](crate::manifest::Manifest::passed)), and by how long this node has itself known of it
//! ([`Manifest::known_for`](crate::manifest::Manifest::known_for)): nobody who knew it alive can still be reading it. A
//! dead *commit* goes only once the log is truncated beyond it, for to delete it is to shorten the log; see
//! `truncation.rs`. What is deleted is then struck off by an op. In between a crash costs nothing: to delete what is
//! gone is no error.

use std::sync::Arc;

use super::error::JobError;
use super::maintenance::Maintenance;
use crate::rules::{Rule, holds};
use crate::state::op::Op;
use crate::state::{Job, ObjectRef, State};
use crate::store::ObjectPath;
use crate::types::Timestamp;

/// How many objects are deleted and struck off at once: as many as one request of S3 deletes.
pub(super) const BATCH: usize = 1000;

/// Whether there is a whole batch to delete, or one object has been due for a while.
pub(super) fn is_due(m: &Maintenance, state: &State, now: Timestamp) -> bool {
    let late = m.options().deletion_grace / 10;
    let mut count = 0;
    deletable(m, state, now).any(|(_, since)| {
        count += 1;
        count >= BATCH || since.after(m.options().deletion_grace + late) <= now
    })
}

/// Deletes the dead objects that are due. Returns whether there was any.
///
/// # Errors
///
/// Those of the store, after which any number may be gone; [`JobError::Stopped`].
pub async fn run(m: &Maintenance) -> Result<bool, JobError> {
    if deletable(m, &m.state(), m.passed()).next().is_none() {
        return Ok(false);
    }
    let Some(state) = m.claim(Job::Deletion).await? else {
        return Ok(false);
    };
    m.holding(&[Job::Deletion], delete(m, state)).await
}

async fn delete(m: &Maintenance, mut state: Arc<State>) -> Result<bool, JobError> {
    let mut deleted = 0;
    loop {
        let batch: Vec<ObjectRef> = deletable(m, &state, m.passed())
            .take(BATCH)
            .map(|(object, _)| object)
            .collect();
        let is_last = batch.len() < BATCH;
        let mut ops = Vec::new();
        if !batch.is_empty() {
            deleted += batch.len();
            let (commits, segments) = batch
                .iter()
                .map(|object| path_of(*object))
                .partition(|path: &ObjectPath| path.as_str().ends_with(".commit"));
            m.delete("commit", commits).await?;
            m.delete("segment", segments).await?;
            ops.push(Op::ObjectsDeleted { objects: batch });
        }
        if is_last {
            ops.extend(m.releasing(&[Job::Deletion]));
        }
        state = m.must_commit(ops).await?;
        if is_last {
            break;
        }
    }
    if deleted > 0 {
        tracing::info!(objects = deleted, "deleted dead objects");
    }
    Ok(deleted > 0)
}

/// The dead objects that may be deleted, and since when they are dead.
fn deletable<'a>(
    m: &'a Maintenance,
    state: &'a State,
    now: Timestamp,
) -> impl Iterator<Item = (ObjectRef, Timestamp)> + 'a {
    let grace = m.options().deletion_grace;
    let known = m.inner.manifest.known_for(grace, &m.inner.env);
    state.dead_objects().filter_map(move |(object, dead)| {
        let in_log = match object {
            // Not the boundary: that may be raised and not stored yet.
            ObjectRef::Commit(seq) => seq > state.log_truncated(),
            ObjectRef::Segment(_) => false,
        };
        let by_fold = dead.since.after(grace) > now;
        let by_own_clock = dead.seq > known.seq && holds(Rule::GraceGoesByOwnClock);
        // A log of the first level may have commits that are both.
        let is_live = state.is_live(object);
        let stays = dead.deleted
            || in_log && holds(Rule::DeadCommitsWaitForTruncation)
            || (by_fold || by_own_clock) && holds(Rule::DeadObjectsWaitForGrace)
            || is_live && holds(Rule::LiveObjectsAreNotDeleted);
        (!stays).then_some((object, dead.since))
    })
}

/// The name of an object that holds records.
pub(super) fn path_of(object: ObjectRef) -> ObjectPath {
    match object {
        ObjectRef::Commit(seq) => ObjectPath::commit(seq),
        ObjectRef::Segment(id) => ObjectPath::segment(id),
    }
}
