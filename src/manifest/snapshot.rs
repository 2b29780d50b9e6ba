//! Snapshots: the state as an object, so that a node can start without the whole log.
//!
//! A node takes one after a commit of its own, when the log since the last has grown long enough (`due.rs`). The state
//! at a seq is the same on every node, byte for byte, so it does not matter who writes it last. Nobody else is told of
//! a snapshot that was not shown to be good for a start:
//!
//! 1. the state is encoded, and the bytes are decoded and encoded again, which must give the same; away from the tasks
//!    that serve. What fails this is not stored: a state that no node could start from, or that would be another one
//!    there, is a fault of the fold that a person must hear of, and the log stays as long as it is. So is a state of
//!    the first level that is larger than anything that is read as a whole; later ones are in chunks (`parts.rs`);
//! 2. it is stored, the chunks before the head, and read back: what the store hands out must be what it was given;
//! 3. an op announces it, with the digest of the state (`divergence.rs`). The fold keeps the newest few and names those
//!    that are superfluous, which the node deletes.
//!
//! If the process dies between two of these steps, an object is left over that costs a little space, and the next
//! snapshot is taken as if this one had not been. So it is after one that was refused, but not before the log has grown
//! as much again.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;

use super::due::{Due, due};
use super::handle::Manifest;
use super::metrics::ManifestMetrics;
use super::parts::EncodedSnapshot;
use super::tail::Tail;
use crate::rules::{Rule, holds};
use crate::state::State;
use crate::state::op::{Applied, Op};
use crate::store::{ObjectKind, ObjectPath, ObjectPrefix, RequestKind, Store, StoreError};
use crate::types::Seq;

/// How many names a listing returns at once.
const PAGE: usize = 1000;

/// How many chunks are written at once.
const CHUNKS_AT_ONCE: usize = 4;

impl Tail {
    /// Takes a snapshot in the background, if one is due and none is being taken.
    pub(super) fn snapshot_if_due(&mut self) {
        let (entries, tried) = (self.replay.entries(), self.snapshot_tried);
        let due = due(&self.state, entries, tried, &self.options, self.incarnation);
        let Some(due) = due else {
            return;
        };
        let Ok(permit) = self.snapshots.clone().try_acquire_owned() else {
            return;
        };
        let last = self
            .state
            .last_snapshot()
            .map_or(Seq::ZERO, |last| last.seq);
        // One that the others have as well. What a start must fold is bounded by the newest.
        let kept = self.kept.newest();
        let kept = kept.filter(|kept| due == Due::Commits && last.max(tried) < kept.seq());
        let state = match kept {
            Some(kept) => Arc::new(kept.clone()),
            None => self.published.latest(),
        };
        self.snapshot_tried = state.seq();
        let taking = Taking {
            store: self.store.clone(),
            manifest: self.manifest.clone(),
            metrics: self.metrics.clone(),
            max_chunk: self.options.max_chunk,
        };
        self.env.spawn(async move {
            taking.take(state).await;
            drop(permit);
        });
    }
}

/// What it takes to take a snapshot.
pub(super) struct Taking {
    pub(super) store: Store,
    pub(super) manifest: Manifest,
    pub(super) metrics: ManifestMetrics,
    /// The most bytes of a state in one object.
    pub(super) max_chunk: u64,
}

impl Taking {
    /// Stores a snapshot of the state and announces it, if it is good for a start.
    pub(super) async fn take(&self, state: Arc<State>) {
        let seq = state.seq();
        let (max_chunk, max) = (self.max_chunk, self.store.options().max_object.0);
        let env = &self.store.options().env;
        let is_checked = holds(Rule::SnapshotsAreDecodedFirst);
        let encode = move || encode(&state, max_chunk, max, is_checked);
        let encoded = env.compute(encode).await;
        let refusal = match encoded {
            Ok(Ok(encoded)) => match self.is_stored(seq, &encoded).await {
                Some(true) => return self.announce(seq, &encoded).await,
                Some(false) => "the store handed out other bytes than it was given".to_owned(),
                None => return,
            },
            Ok(Err(reason)) => reason,
            Err(error) => format!("encoding it failed: {error}"),
        };
        self.metrics.snapshots_refused.inc();
        tracing::error!(
            %seq, reason = %refusal,
            "this snapshot is not announced, because no node could start from it. The log is not truncated until a \
             snapshot succeeds"
        );
    }

    /// Whether the store has taken the snapshot and hands out the same; nothing if it cannot be asked. The chunks come
    /// first, so that a head that is there has all of them.
    async fn is_stored(&self, seq: Seq, encoded: &EncodedSnapshot) -> Option<bool> {
        let head_first = !holds(Rule::ChunksPrecedeHead);
        let head = ObjectPath::snapshot(seq);
        if head_first {
            self.is_object_stored(&head, encoded.object.clone()).await?;
        }
        let chunks = (0..)
            .zip(0..encoded.chunk_count())
            .map(|(index, chunk)| async move {
                let path = ObjectPath::chunk(seq, index);
                match encoded.chunk(chunk) {
                    Ok(object) => self.is_object_stored(&path, object).await,
                    // It is no longer than what can be encoded.
                    Err(_) => Some(false),
                }
            });
        let stored = futures::stream::iter(chunks).buffered(CHUNKS_AT_ONCE);
        let stored: Vec<Option<bool>> = stored.collect().await;
        for stored in stored {
            if !stored? {
                return Some(false);
            }
        }
        match head_first {
            true => Some(true),
            false => self.is_object_stored(&head, encoded.object.clone()).await,
        }
    }

    async fn is_object_stored(&self, path: &ObjectPath, object: Bytes) -> Option<bool> {
        // Every node's snapshot of a seq is the same bytes, so a repeated write can do no harm.
        let stored = self
            .store
            .put_unique(path, object.clone(), RequestKind::SnapshotPut);
        let read = match stored.await {
            Ok(()) if !holds(Rule::SnapshotsAreReadBack) => return Some(true),
            Ok(()) => self.store.get(path, RequestKind::SnapshotGet).await,
            Err(error) => Err(error),
        };
        match read {
            Ok(read) => Some(read == object),
            // A node that slept over it finds that what it wrote was swept: nothing had announced it.
            Err(error) if error.is_not_found() => {
                tracing::warn!(%path, "part of a snapshot was deleted while it was taken; the next one will be tried");
                None
            }
            Err(error) => {
                tracing::warn!(%path, %error, "could not store a snapshot; the next one will be tried");
                None
            }
        }
    }

    /// Says that the snapshot is there, and deletes those that it makes superfluous.
    async fn announce(&self, seq: Seq, encoded: &EncodedSnapshot) {
        self.metrics.snapshots.inc();
        let bytes = encoded.len();
        let digest = encoded.digest.clone();
        let announced = Op::SnapshotTaken { seq, bytes, digest };
        let retired = match self.manifest.commit_one(announced).await {
            Ok(Ok(Applied::SnapshotsRetired(retired))) => retired,
            _ => return,
        };
        tracing::debug!(%seq, bytes, "took a snapshot");
        if let Err(error) = self.delete(&retired).await {
            tracing::warn!(%error, "could not delete old snapshots");
        }
    }

    /// Deletes snapshots: their heads, and then their chunks. What is left of the chunks if that fails is swept.
    async fn delete(&self, retired: &[Seq]) -> Result<(), StoreError> {
        let heads = retired.iter().copied().map(ObjectPath::snapshot).collect();
        if !holds(Rule::HeadIsDeletedFirst) {
            self.delete_chunks(retired).await?;
        }
        self.store.delete(heads).await?;
        // Where all of the last few are in one object so were these, or nearly all: then nothing is listed.
        let state = self.manifest.state();
        match state.snapshots().any(|known| self.max_chunk < known.bytes) {
            true => self.delete_chunks(retired).await,
            false => Ok(()),
        }
    }

    async fn delete_chunks(&self, of: &[Seq]) -> Result<(), StoreError> {
        let Some(last) = of.iter().max() else {
            return Ok(());
        };
        let mut after: Option<ObjectPath> = None;
        loop {
            let listed = self.store.list(ObjectPrefix::Chunks, after.as_ref(), PAGE);
            let listed = listed.await?;
            let is_beyond = |path: &ObjectPath| ObjectPath::chunk(last.next(), 0) <= *path;
            after = listed.last().map(|meta| meta.path.clone());
            let is_last = listed.len() < PAGE || after.as_ref().is_some_and(is_beyond);
            let paths = listed.into_iter().map(|meta| meta.path);
            let gone = paths.filter(|path| match path.kind() {
                ObjectKind::Chunk(seq, _) => of.contains(&seq),
                _ => false,
            });
            self.store.delete(gone.collect()).await?;
            if is_last {
                return Ok(());
            }
        }
    }
}

/// The snapshot of `state`, or why nobody could start from it if that `is_checked`; `max` bytes are read as a whole at
/// most.
fn encode(
    state: &State,
    max_chunk: u64,
    max: u64,
    is_checked: bool,
) -> Result<EncodedSnapshot, String> {
    let encoded = EncodedSnapshot::new(state, max_chunk).map_err(|error| error.to_string())?;
    let len = encoded.max_len();
    if len > max {
        return Err(format!(
            "it has {len} bytes, more than the {max} that are read as a whole"
        ));
    }
    if !is_checked {
        return Ok(encoded);
    }
    match encoded.is_read_back(state) {
        Ok(true) => Ok(encoded),
        Ok(false) => Err("decoded, it is another state".to_owned()),
        Err(error) => Err(format!("it cannot be decoded: {error}")),
    }
}
