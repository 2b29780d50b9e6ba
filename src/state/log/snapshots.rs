//! Which snapshots are stored: the newest few, from which a node starts.

use minicbor::{Decode, Encode};
use serde::Serialize;

use crate::state::State;
use crate::state::op::{Applied, Outcome};
use crate::types::Seq;

/// How many snapshots are kept: one to start from, and others for a node that is just reading one when
/// the next is taken.
const KEPT_SNAPSHOTS: usize = 4;

/// A stored snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Snapshot {
    /// The seq of the state in it.
    #[n(0)]
    pub seq: Seq,
    /// Its size in bytes.
    #[n(1)]
    pub bytes: u64,
}

impl State {
    /// The newest snapshot that is known to be stored.
    pub fn last_snapshot(&self) -> Option<Snapshot> {
        self.snapshots.last().copied()
    }

    /// The snapshots that are known to be stored, oldest first.
    pub fn snapshots(&self) -> impl Iterator<Item = Snapshot> {
        self.snapshots.iter().copied()
    }

    /// Notes a snapshot that is stored, and names those that need not be kept any more.
    pub(in crate::state) fn snapshot_taken(&mut self, seq: Seq, bytes: u64) -> Outcome {
        if self.snapshots.iter().all(|known| known.seq < seq) && seq <= self.seq {
            self.snapshots.push(Snapshot { seq, bytes });
            self.truncation.note_snapshot(seq, self.time);
        }
        let superfluous = self.snapshots.len().saturating_sub(KEPT_SNAPSHOTS);
        let retired = self.snapshots.drain(..superfluous).map(|old| old.seq);
        Ok(Applied::SnapshotsRetired(retired.collect()))
    }
}
