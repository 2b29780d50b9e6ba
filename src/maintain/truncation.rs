//! The log behind the snapshots.
//!
//! 1. An op raises the boundary, as far as the fold allows, and no further than to a snapshot that this node has itself
//!    known for as long by its own clock: the fold goes by wall clocks, and one that is ahead must not shorten the
//!    wait. And no further than to a snapshot that it has just read back: the announcement of another node proves
//!    nothing about what lies in the bucket now.
//! 2. The boundary object is created. From here on a node that slept can find out that the log went on without it.
//! 3. Commits up to the boundary are deleted, but for those in which slices lie, and those that are dead: they have
//!    readers still, and go by themselves when those are done.
//! 4. An op says how far that is done.
//!
//! A crash in between leaves a boundary that is ahead of what is truncated; whoever finds that goes on with 2.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::deletion::BATCH;
use super::error::JobError;
use super::maintenance::Maintenance;
use crate::format::{ObjectBuilder, ObjectKind};
use crate::manifest::{SnapshotError, read_snapshot};
use crate::rules::{Rule, holds};
use crate::segment::SegmentError;
use crate::state::op::Op;
use crate::state::{Job, ObjectRef, State, TRUNCATION_AGE};
use crate::store::{Created, ObjectPath, RequestKind, Store};
use crate::types::Seq;

/// After so many commits it is said how far the truncation has come.
const STRIDE: u64 = 20_000;

/// How often a create is tried whose outcome stays unknown.
const ATTEMPTS: u32 = 5;

/// Whether the log may be shortened, and if so, how long that can wait.
pub(super) fn is_due(m: &Maintenance, state: &State) -> Option<Duration> {
    if state.log_truncated() < state.log_boundary() {
        return Some(Duration::ZERO);
    }
    let more = limit(m, state).0 - state.log_boundary().0;
    match more {
        0 => None,
        _ if more >= m.options().truncate_commits => Some(Duration::ZERO),
        _ => Some(m.options().truncate_wait),
    }
}

/// Shortens the log as far as it may be. Returns whether it could be.
///
/// # Errors
///
/// Those of the store, after which any number of commits may be gone; [`JobError::Stopped`].
pub async fn run(m: &Maintenance) -> Result<bool, JobError> {
    if is_due(m, &m.state()).is_none() {
        return Ok(false);
    }
    let Some(state) = m.claim(Job::Truncation).await? else {
        return Ok(false);
    };
    m.holding(&[Job::Truncation], truncate(m, state)).await
}

async fn truncate(m: &Maintenance, mut state: Arc<State>) -> Result<bool, JobError> {
    if state.log_truncated() == state.log_boundary() {
        let to = covered(m, &state).await?;
        if to <= state.log_boundary() {
            m.release(&[Job::Truncation]).await;
            return Ok(false);
        }
        state = m.must_commit(vec![Op::RaiseLogBoundary { to }]).await?;
    }
    let (from, to) = (state.log_truncated(), state.log_boundary());
    if holds(Rule::BoundaryPrecedesDeletion) {
        store_boundary(m, to).await?;
    }
    if !holds(Rule::TruncationIsRecordedLast) {
        m.must_commit(vec![Op::LogTruncated { to }]).await?;
    }
    let mut deleted = 0;
    let mut next = from;
    while next < to {
        let until = Seq(next.0.saturating_add(STRIDE)).min(to);
        let unneeded: Vec<ObjectPath> = (next.0 + 1..=until.0)
            .map(Seq)
            .filter(|seq| !is_needed(&state, *seq))
            .map(ObjectPath::commit)
            .collect();
        for batch in unneeded.chunks(BATCH) {
            deleted += batch.len();
            m.delete("commit", batch.to_vec()).await?;
        }
        let mut ops = vec![Op::LogTruncated { to: until }];
        if until == to {
            ops.extend(m.releasing(&[Job::Truncation]));
        }
        m.must_commit(ops).await?;
        next = until;
    }
    tracing::info!(%from, %to, deleted, "truncated the log");
    Ok(true)
}

/// How far the boundary may be raised: by the fold, and by what this node has known for long enough.
fn limit(m: &Maintenance, state: &State) -> Seq {
    let known = m.inner.manifest.known_for(TRUNCATION_AGE, &m.inner.env);
    let own = match holds(Rule::TruncationGoesByOwnClock) {
        true => known.snapshot,
        false => state.seq(),
    };
    let limit = state.log_boundary_limit().min(own);
    limit.max(state.log_boundary())
}

/// How far the boundary may be raised: no further than to a snapshot that this node has just read from the bucket, for
/// that is what a node starts from once the log before it is gone. Snapshots that cannot be read are passed over; if
/// none of those beyond the boundary can, it stays where it is.
async fn covered(m: &Maintenance, state: &State) -> Result<Seq, JobError> {
    let limit = limit(m, state);
    let boundary = state.log_boundary();
    if limit <= boundary || !holds(Rule::TruncationNeedsReadableSnapshot) {
        return Ok(limit);
    }
    let beyond = state.snapshots().map(|snapshot| snapshot.seq);
    let beyond: Vec<Seq> = beyond.filter(|seq| *seq > boundary).collect();
    let mut reason = None;
    for seq in beyond.into_iter().rev() {
        match read_snapshot(&m.inner.store, seq).await {
            Ok(_) => return Ok(limit.min(seq)),
            Err(SnapshotError::Store(error)) => return Err(error.into()),
            Err(error) => reason = Some(error.to_string()),
        }
    }
    // None is known beyond the boundary: those that were are retired, and newer ones are known by the next incarnation.
    reason.map_or(Ok(boundary), |reason| Err(JobError::Uncovered { reason }))
}

/// Whether the state or a reader needs the commit. Once it does not, it never will again, for only a commit itself ever
/// refers to what is in it: so a state that is not the newest tells it as well.
pub(super) fn is_needed(state: &State, seq: Seq) -> bool {
    let commit = ObjectRef::Commit(seq);
    state.is_live(commit) && holds(Rule::TruncationSparesLiveCommits)
        || state.death_of(commit).is_some() && holds(Rule::TruncationSparesDeadCommits)
}

/// Sees to it that the boundary object of `to` is there.
async fn store_boundary(m: &Maintenance, to: Seq) -> Result<(), JobError> {
    let store = &m.inner.store;
    let path = ObjectPath::boundary(to);
    let object = boundary(to).map_err(|error| JobError::Segment(SegmentError::Format(error)))?;
    let mut attempt = 0;
    loop {
        let cause = match store
            .create(&path, object.clone(), RequestKind::BoundaryPut)
            .await?
        {
            Created::Created | Created::Exists => return Ok(()),
            Created::Unknown(cause) => cause,
        };
        if exists(store, &path).await? {
            return Ok(());
        }
        attempt += 1;
        if attempt == ATTEMPTS {
            let object = path.to_string();
            return Err(JobError::Unsettled { object, cause });
        }
        tokio::time::sleep(store.options().retry.pause(attempt, &m.inner.env)).await;
    }
}

async fn exists(store: &Store, path: &ObjectPath) -> Result<bool, JobError> {
    match store.head(path, RequestKind::BoundaryGet).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The boundary object: its name says everything; the seq is in it for people who look.
fn boundary(to: Seq) -> Result<Vec<Bytes>, crate::format::FormatError> {
    let mut builder = ObjectBuilder::new(ObjectKind::Boundary);
    let text = format!("the log up to {to} may be deleted\n");
    builder.push(text.into());
    builder.finish(&[], &[])
}
