//! Snapshots: the state as an object, so that a node can start without the whole log.
//!
//! A node takes one after a commit of its own, when the log since the last has grown long enough. It writes
//! the object (the state at a seq is the same on every node, byte for byte, so it does not matter who
//! writes it last), then says so in an op; the fold keeps the newest few and names those that are superfluous, which
//! the node deletes. If it dies between two of these steps, an object is left over that costs a little
//! space, and the next snapshot is taken as if this one had not been.

use std::sync::Arc;

use super::handle::Manifest;
use super::metrics::ManifestMetrics;
use super::object::encode_snapshot;
use super::tail::Tail;
use crate::state::State;
use crate::state::op::{Applied, Op};
use crate::store::{ObjectPath, RequestKind, Store};

/// Writing a snapshot must pay: it is due no sooner than one commit after the last for every so many bytes
/// of it. So at most this is written per commit on top of the commit itself.
const SNAPSHOT_BYTES_PER_COMMIT: u64 = 32 << 10;

impl Tail {
    /// Takes a snapshot in the background, if one is due and none is being taken.
    pub(super) fn snapshot_if_due(&mut self) {
        let last = self.state.last_snapshot();
        let since = self.state.seq().0 - last.map_or(0, |last| last.seq.0);
        let by_size = last.map_or(0, |last| last.bytes / SNAPSHOT_BYTES_PER_COMMIT);
        if since < self.options.snapshot_every.max(by_size) {
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
        self.env.spawn(async move {
            take(&store, &manifest, &metrics, state).await;
            drop(permit);
        });
    }
}

async fn take(store: &Store, manifest: &Manifest, metrics: &ManifestMetrics, state: Arc<State>) {
    let seq = state.seq();
    let encoded = store
        .options()
        .env
        .compute(move || encode_snapshot(&state))
        .await;
    let object = match encoded {
        Ok(Ok(object)) => object,
        Ok(Err(error)) => return tracing::error!(%seq, %error, "the state does not fit a snapshot"),
        Err(error) => return tracing::error!(%seq, %error, "encoding a snapshot failed"),
    };
    let bytes = object.len() as u64;
    let path = ObjectPath::snapshot(seq);
    // Every node's snapshot of a seq is the same bytes, so a repeated write can do no harm.
    if let Err(error) = store
        .put_unique(&path, object, RequestKind::SnapshotPut)
        .await
    {
        return tracing::warn!(%seq, %error, "could not store a snapshot; the next one will be tried");
    }
    metrics.snapshots.inc();
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
