//! Which snapshot a node starts from.
//!
//! The newest, if it can be read. A snapshot that is damaged or missing costs time, not the cluster: the one before it
//! will do, and so on, and finally the state before the first commit, as long as the log after it is whole. What was
//! passed over is said loudly and counted, for somebody has to look at the bucket. A store that does not answer, or
//! that refuses, says nothing about a snapshot: that is an error, and whoever asked may ask again. So is a snapshot of
//! a newer version: the node is too old for this bucket, and an older snapshot would only lead it to commits that it
//! cannot read either.
//!
//! # The log after an older snapshot
//!
//! Nothing is deleted of the log behind the newest snapshot for
//! [`TRUNCATION_AGE`](crate::state::TRUNCATION_AGE) after it became known, so a node that has just found a snapshot to
//! be the newest may trust the names after it for a while. Of an older snapshot that does not hold: the boundary may be
//! beyond it, or may be raised beyond it at any moment. So the boundaries are listed first, and a snapshot before the
//! newest of them is of no use; and the node begins with no proof at all ([`Start::is_newest`]), so that it asks for a
//! boundary again after each window of commits that it reads, before it believes any of them, until it has seen the end
//! of the log.
//!
//! Nothing here writes. A process that dies here, or a future that is dropped, leaves nothing.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use super::error::OpenError;
use super::metrics::ManifestMetrics;
use super::object::ObjectError;
use super::parts::SnapshotParts;
use crate::rules::{Rule, holds};
use crate::state::State;
use crate::store::{ObjectKind, ObjectPath, ObjectPrefix, RequestKind, Store, StoreError};
use crate::types::Seq;

/// How many chunks are read at once.
const CHUNKS_AT_ONCE: usize = 4;

/// How many names a listing returns at once.
const PAGE: usize = 1000;

/// How often a snapshot that was listed may be gone when it is read, before it counts as missing: each time a newer one
/// has made it superfluous, or the store's listing is wrong.
const MAX_GONE: u32 = 4;

/// What a node starts from.
pub(super) struct Start {
    /// The state.
    pub(super) state: State,
    /// Whether it is that of the newest snapshot, or there has never been any: whether the names after it can be
    /// trusted for [`TAIL_PROOF_LIFE`](crate::state::TAIL_PROOF_LIFE) from the call on.
    pub(super) is_newest: bool,
}

/// Why a snapshot cannot be started from.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The store could not be asked, or refused. It says nothing about the snapshot.
    #[error(transparent)]
    Store(StoreError),
    /// It is not there.
    #[error("{0} does not exist")]
    Gone(ObjectPath),
    /// It was written by newer software.
    #[error(transparent)]
    Newer(ObjectError),
    /// Its bytes are not those of a state.
    #[error("{0}")]
    Damaged(String),
}

impl SnapshotError {
    /// What the store's error says of an object that it has.
    fn of_store(error: StoreError) -> SnapshotError {
        match error {
            StoreError::TooLarge { .. } | StoreError::OutOfRange { .. } => {
                SnapshotError::Damaged(error.to_string())
            }
            error => SnapshotError::Store(error),
        }
    }
}

impl From<ObjectError> for SnapshotError {
    fn from(error: ObjectError) -> SnapshotError {
        match error.is_of_newer_software() {
            true => SnapshotError::Newer(error),
            false => SnapshotError::Damaged(error.to_string()),
        }
    }
}

/// Reads the snapshot of the state at `seq`. One that seems to be damaged is read again before that is said of it:
/// something between the node and the store may have cut the answer off.
///
/// # Errors
///
/// See [`SnapshotError`].
pub async fn read_snapshot(store: &Store, seq: Seq) -> Result<State, SnapshotError> {
    match read_once(store, seq).await {
        Err(SnapshotError::Damaged(_)) => read_once(store, seq).await,
        read => read,
    }
}

async fn read_once(store: &Store, seq: Seq) -> Result<State, SnapshotError> {
    let path = ObjectPath::snapshot(seq);
    let bytes = match store.get(&path, RequestKind::SnapshotGet).await {
        Ok(bytes) => bytes,
        Err(StoreError::NotFound { path }) => return Err(SnapshotError::Gone(path)),
        Err(error) => return Err(SnapshotError::of_store(error)),
    };
    let parts = match SnapshotParts::decode(path.as_str(), &bytes) {
        Ok(parts) => parts,
        Err(error) => return Err(error.into()),
    };
    let chunks = chunks(store, seq, parts.chunks()).await?;
    let decode = move || parts.state(path.as_str(), seq, &chunks);
    match store.options().env.compute(decode).await {
        Ok(read) => read.map_err(SnapshotError::from),
        // Decoding does not panic; if it did, another snapshot would be worth a try.
        Err(error) => Err(SnapshotError::Damaged(format!(
            "decoding the snapshot at {seq} failed: {error}"
        ))),
    }
}

/// The bytes of the state in all chunks of a snapshot, which have those lengths.
async fn chunks(store: &Store, seq: Seq, lens: &[u64]) -> Result<Vec<Bytes>, SnapshotError> {
    let read = (0..).zip(lens.to_vec()).map(|(index, len)| {
        let store = store.clone();
        async move {
            let path = ObjectPath::chunk(seq, index);
            let bytes = match store.get(&path, RequestKind::SnapshotGet).await {
                Ok(bytes) => bytes,
                Err(error) if error.is_not_found() => {
                    return Err(without_chunk(&store, seq, &path).await);
                }
                Err(error) => return Err(SnapshotError::of_store(error)),
            };
            SnapshotParts::chunk(path.as_str(), len, &bytes).map_err(SnapshotError::from)
        }
    });
    let read = futures::stream::iter(read).buffered(CHUNKS_AT_ONCE);
    read.try_collect().await
}

/// What it means that a chunk is not there: heads are deleted before their chunks.
async fn without_chunk(store: &Store, seq: Seq, chunk: &ObjectPath) -> SnapshotError {
    let head = ObjectPath::snapshot(seq);
    match store.head(&head, RequestKind::SnapshotGet).await {
        Ok(_) => SnapshotError::Damaged(format!("{head} is there, and its {chunk} is not")),
        Err(error) if error.is_not_found() => SnapshotError::Gone(head),
        Err(error) => SnapshotError::of_store(error),
    }
}

/// The state to start from: that of the newest snapshot from which the log can be folded, or that before the first
/// commit.
///
/// # Errors
///
/// Those of the store; [`OpenError::Object`] of a newer version; [`OpenError::NoStart`].
pub(super) async fn newest_state(
    store: &Store,
    metrics: &ManifestMetrics,
) -> Result<Start, OpenError> {
    let mut gone = 0;
    'listing: loop {
        let listed = snapshots(store).await?;
        let mut unreadable: Vec<String> = Vec::new();
        for seq in listed.into_iter().rev() {
            let reason = match read_snapshot(store, seq).await {
                Ok(state) if unreadable.is_empty() => {
                    let is_newest = true;
                    return Ok(Start { state, is_newest });
                }
                Ok(state) => return with_the_log(store, state, unreadable).await,
                Err(SnapshotError::Store(error)) => return Err(error.into()),
                Err(SnapshotError::Newer(error)) => return Err(error.into()),
                // Newer ones have made it superfluous since the listing: those are listed by now.
                Err(SnapshotError::Gone(_)) if gone < MAX_GONE => {
                    gone += 1;
                    continue 'listing;
                }
                Err(error) => error.to_string(),
            };
            metrics.snapshots_unreadable.inc();
            tracing::error!(
                snapshot = %seq, error = %reason,
                "a snapshot cannot be read; trying the one before it. Check the bucket with `weir fsck`"
            );
            unreadable.push(reason);
            if !holds(Rule::UnreadableSnapshotsAreSkipped) {
                return Err(no_start(unreadable, Seq::ZERO));
            }
        }
        return with_the_log(store, State::new(), unreadable).await;
    }
}

/// The state as a start, if the log after it has not been truncated.
async fn with_the_log(
    store: &Store,
    state: State,
    unreadable: Vec<String>,
) -> Result<Start, OpenError> {
    let boundary = match holds(Rule::OlderSnapshotsNeedTheirLog) {
        true => newest_boundary(store, state.seq()).await?,
        false => None,
    };
    if let Some(boundary) = boundary {
        return Err(no_start(unreadable, boundary));
    }
    if !unreadable.is_empty() {
        tracing::error!(
            passed_over = unreadable.len(), from = %state.seq(),
            "starting from an older state, since newer snapshots cannot be read; folding the log after it takes longer"
        );
    }
    Ok(Start {
        state,
        is_newest: unreadable.is_empty() || !holds(Rule::OlderSnapshotsNeedTheirLog),
    })
}

fn no_start(unreadable: Vec<String>, boundary: Seq) -> OpenError {
    let unreadable = match unreadable.is_empty() {
        true => "there is none".to_owned(),
        false => unreadable.join("; "),
    };
    OpenError::NoStart {
        boundary,
        unreadable,
    }
}

/// The seqs of all snapshots that are listed, oldest first.
async fn snapshots(store: &Store) -> Result<Vec<Seq>, StoreError> {
    let listed = list_after(store, ObjectPrefix::Snapshots, None).await?;
    let seqs = listed.into_iter().filter_map(|path| match path.kind() {
        ObjectKind::Snapshot(seq) => Some(seq),
        _ => None,
    });
    Ok(seqs.collect())
}

/// The newest boundary beyond `after`.
async fn newest_boundary(store: &Store, after: Seq) -> Result<Option<Seq>, StoreError> {
    let after = ObjectPath::boundary(after);
    let listed = list_after(store, ObjectPrefix::Boundaries, Some(after)).await?;
    Ok(listed.last().and_then(|path| match path.kind() {
        ObjectKind::Boundary(seq) => Some(seq),
        _ => None,
    }))
}

async fn list_after(
    store: &Store,
    prefix: ObjectPrefix,
    after: Option<ObjectPath>,
) -> Result<Vec<ObjectPath>, StoreError> {
    let mut listed: Vec<ObjectPath> = Vec::new();
    loop {
        let last = listed.last().or(after.as_ref());
        let page = store.list(prefix, last, PAGE).await?;
        let is_last = page.len() < PAGE;
        listed.extend(page.into_iter().map(|meta| meta.path));
        if is_last {
            return Ok(listed);
        }
    }
}
