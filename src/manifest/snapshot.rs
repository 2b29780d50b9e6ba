//! Snapshots: the state as an object, so that a node can start without the whole log.
//!
//! A node takes one after a commit of its own, when the log since the last has grown long enough (`due.rs`). The state at a seq is the
//! same on every node, byte for byte, so it does not matter who writes it last. Nobody else is told of a snapshot that was
//! not shown to be good for a start:
//!
//! 1. the state is encoded, and the bytes are decoded and encoded again, which must give the same; away from the tasks that
//!    serve. What fails this is not stored: a state that no node could start from, or that would be another one there, is
//!    a fault of the fold that a person must hear of, and the log stays as long as it is. So is a state that is larger than
//!    anything that is read as a whole;
//! 2. it is stored, and read back: what the store hands out must be what it was given;
//! 3. an op announces it. The fold keeps the newest few and names those that are superfluous, which the node deletes.
//!
//! If the process dies between two of these steps, an object is left over that costs a little space, and the next snapshot
//! is taken as if this one had not been. So it is after one that was refused, but not before the log has grown as much again.

use std::sync::Arc;

use bytes::Bytes;

use super::due::is_due;
use super::handle::Manifest;
use super::metrics::ManifestMetrics;
use super::object::{decode_snapshot, encode_snapshot};
use super::tail::Tail;
use crate::mutants::{self, Mutant};
use crate::state::State;
use crate::state::op::{Applied, Op};
use crate::store::{ObjectPath, RequestKind, Store};
use crate::types::Seq;

impl Tail {
    /// Takes a snapshot in the background, if one is due and none is being taken.
    pub(super) fn snapshot_if_due(&mut self) {
        let (entries, tried) = (self.replay.entries(), self.snapshot_tried);
        if !is_due(&self.state, entries, tried, &self.options, self.incarnation) {
            return;
        }
        let Ok(permit) = self.snapshots.clone().try_acquire_owned() else {
            return;
        };
        let (store, manifest, metrics) = (
            self.store.clone(),
            self.manifest.clone(),
            self.metrics.clone(),
        );
        let state = self.published.latest();
        self.snapshot_tried = state.seq();
        self.env.spawn(async move {
            take(&store, &manifest, &metrics, state).await;
            drop(permit);
        });
    }
}

pub(super) async fn take(
    store: &Store,
    manifest: &Manifest,
    metrics: &ManifestMetrics,
    state: Arc<State>,
) {
    let seq = state.seq();
    let max = store.options().max_object.0;
    let is_checked = !mutants::on(Mutant::SnapshotUndecoded);
    let encoded = store
        .options()
        .env
        .compute(move || encode(&state, max, is_checked))
        .await;
    let refusal = match encoded {
        Ok(Ok(object)) => match is_stored(store, seq, &object).await {
            Some(true) => return announce(store, manifest, metrics, seq, object.len()).await,
            Some(false) => "the store handed out other bytes than it was given".to_owned(),
            None => return,
        },
        Ok(Err(reason)) => reason,
        Err(error) => format!("encoding it failed: {error}"),
    };
    metrics.snapshots_refused.inc();
    tracing::error!(
        %seq, reason = %refusal,
        "this snapshot is not announced, since no node could start from it. The log stays as long as it is until one succeeds"
    );
}

/// The snapshot of `state`, or why nobody could start from it if that `is_checked`; `max` bytes are read as a whole at most.
fn encode(state: &State, max: u64, is_checked: bool) -> Result<Bytes, String> {
    let object = encode_snapshot(state).map_err(|error| error.to_string())?;
    let len = object.len() as u64;
    if len > max {
        return Err(format!(
            "it has {len} bytes, more than the {max} that are read as a whole"
        ));
    }
    if !is_checked {
        return Ok(object);
    }
    let decoded = decode_snapshot("the new snapshot", state.seq(), &object)
        .map_err(|error| format!("it cannot be decoded: {error}"))?;
    let again = encode_snapshot(&decoded).map_err(|error| error.to_string())?;
    match again == object {
        true => Ok(object),
        false => Err("decoded, it is another state".to_owned()),
    }
}

/// Whether the store has taken the object and hands out the same; nothing if it cannot be asked.
async fn is_stored(store: &Store, seq: Seq, object: &Bytes) -> Option<bool> {
    let path = ObjectPath::snapshot(seq);
    // Every node's snapshot of a seq is the same bytes, so a repeated write can do no harm.
    let stored = store.put_unique(&path, object.clone(), RequestKind::SnapshotPut);
    let read = match stored.await {
        Ok(()) if mutants::on(Mutant::SnapshotNotReadBack) => return Some(true),
        Ok(()) => store.get(&path, RequestKind::SnapshotGet).await,
        Err(error) => Err(error),
    };
    match read {
        Ok(read) => Some(read == *object),
        Err(error) if error.is_not_found() => Some(false),
        Err(error) => {
            tracing::warn!(%seq, %error, "could not store a snapshot; the next one will be tried");
            None
        }
    }
}

/// Says that the snapshot is there, and deletes those that it makes superfluous.
async fn announce(
    store: &Store,
    manifest: &Manifest,
    metrics: &ManifestMetrics,
    seq: Seq,
    len: usize,
) {
    metrics.snapshots.inc();
    let bytes = len as u64;
    let retired = match manifest.commit_one(Op::SnapshotTaken { seq, bytes }).await {
        Ok(Ok(Applied::SnapshotsRetired(retired))) => retired,
        _ => return,
    };
    tracing::debug!(%seq, bytes, "took a snapshot");
    let paths = retired.into_iter().map(ObjectPath::snapshot).collect();
    if let Err(error) = store.delete(paths).await {
        tracing::warn!(%error, "could not delete superfluous snapshots");
    }
}
