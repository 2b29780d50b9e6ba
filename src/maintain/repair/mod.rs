//! `weir store repair`: the way out of a log that cannot be folded.
//!
//! A commit that is damaged or gone stops every node that must fold it, and a damaged snapshot keeps nodes from
//! starting where the log behind it is gone as well. What was in such an object is lost, unless somebody has a copy of
//! it; bringing that back is always better. Without one, a repair makes the bucket one that nodes start from:
//!
//! * a commit that nodes would have to fold and cannot is replaced by a **void** commit, which has its seq and does
//!   nothing of what it did ([`void`]); one that is gone is put there as a void;
//! * a snapshot that cannot be read is removed;
//! * a **seal** is put at the end of the log.
//!
//! What nodes do not need to fold, because a snapshot beyond it can be read, is left alone: damaged records in it are
//! found when they are read.
//!
//! # Nodes must be stopped
//!
//! A node that folded the original has another state than one that folds the void, and would acknowledge by it. So a
//! repair refuses while a node's lease lasts, and while the log grows. Against a node that slept through all of that,
//! and the repair too, stands the seal: it has the incarnation of the voids and *follows* the last of them
//! ([`Commit::follows`](crate::state::op::Commit::follows)), so it is void itself to whoever has not folded that one. A
//! node to which a seal is void halts, and says that it must be restarted (`manifest/tail.rs`). This is a rule of the
//! reader alone: no op, no field and no rule of the fold was added for it, so a bucket of any level can be repaired.
//!
//! # What follows from what is lost
//!
//! What later commits say stands, judged by a state without what is lost. Records that were appended behind lost ones
//! have lower offsets than their producers were told; appends to a topic whose creation is lost are refused. An
//! idempotent producer whose batch is lost must not take all its later ones with it, so the void forgets all producers
//! ([`Op::ExpireProducers`]): the next batch of each may begin anywhere. A batch that was stored before and comes again
//! after is then stored twice, which is the lesser evil. The [`Plan`] says what is refused.
//!
//! What the fold hands out by counting must not be handed out again. A commit that is lost may have minted producer ids
//! that later commits use; minted again, they would make the first batch of a new producer a retry of one of those, and
//! it would be acknowledged and not stored. So the void mints more ids than can be in a commit, for nobody.
//!
//! # Incarnations that the fold has forgotten
//!
//! The fold remembers a bounded number of incarnations. If so many others have written since the last void that it has
//! forgotten that one's, nothing can follow it: a void or a seal that did would be void to everybody, and every node
//! would halt at it. A void follows none then, and there is no seal: whoever slept through the repair and all of those
//! commits is not told.
//!
//! # A crash at any point
//!
//! Everything is copied below `repair/` before it is changed, and each copy is read back; nothing there is ever deleted
//! by Weir. A damaged commit is overwritten, not deleted and created: there is no moment at which its place is free. So
//! whatever was done when the process died, the bucket is one of the same kind with less to repair, and running the
//! command again does the rest; a seal that is missing behind voids is put there then. Running it on a bucket with
//! nothing to repair changes nothing. A future that is dropped is a crash.

mod lost;
mod plan;
mod work;

pub use lost::Lost;
pub use plan::{DamagedCommit, DamagedSnapshot, LiveNode, Plan, PlanOptions, plan};
pub use work::{Repaired, carry_out};

use std::time::Duration;

use crate::format::FormatError;
use crate::rules::{Rule, holds};
use crate::state::op::{Commit, Op};
use crate::store::StoreError;
use crate::types::{CommitId, Incarnation, NodeId, Seq, Timestamp};

/// The most commits that are replaced in one repair. A log that lacks more is no log.
pub const MAX_VOIDS: usize = 10_000;

/// How many producer ids a void mints: more than a commit can, which has room for three million ops of a thousand each.
const UNUSED_IDS: u32 = u32::MAX;

/// Why a bucket cannot be repaired.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no cluster.
    #[error("there is no cluster at {0}: check the URL and its prefix")]
    NoCluster(String),
    /// `cluster.json` is not what it should be.
    #[error(
        "{0}. It cannot be made anew: bring it back from a copy or an old version of the object"
    )]
    BadCluster(String),
    /// An object was written by newer software.
    #[error(
        "{0}. It is not damaged: a newer version of Weir wrote it. Use the newest version that runs on this bucket"
    )]
    Newer(String),
    /// The store has an object and does not hand it out.
    #[error(
        "{0}. The object may be undamaged: check its permissions, encryption keys and storage class"
    )]
    Withheld(String),
    /// Nothing can be folded.
    #[error(
        "the log is truncated up to {0}, and no snapshot at or after it can be read: without one, the rest of the log \
         cannot be used. Restore a snapshot from a copy or an old version of the object"
    )]
    NoStart(Seq),
    /// Too much is missing.
    #[error(
        "{0} commits are damaged or missing, and at most {MAX_VOIDS} can be replaced: restore the log from a copy of \
         the bucket"
    )]
    TooMuch(usize),
    /// A commit is to be replaced that nodes do not fold.
    #[error("commit {0} cannot be replaced: nodes need only the commits after {1} and up to {2}")]
    NotFolded(Seq, Seq, Seq),
    /// Nodes are running.
    #[error(
        "node {0} may be running: its lease has not ended. Stop all nodes and run this again, or wait for the lease to \
         end; if you know that the node is gone, use --force"
    )]
    Live(NodeId),
    /// The log grew meanwhile.
    #[error(
        "{0} appeared while the bucket was being repaired: a node is writing. Stop all nodes, then run this again to finish"
    )]
    InUse(String),
    /// The store does not give back what it was given.
    #[error("{0} was written, but reading it back gave other bytes: check the disk or the store")]
    NotStored(String),
    /// A void could not be encoded.
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// The void in the place of a commit, the `counter`th of a repair. `time` is the time in the fold before it.
pub fn void(incarnation: Incarnation, counter: u64, time: Timestamp) -> Commit {
    let before = time.after(Duration::from_millis(1));
    let count = match holds(Rule::VoidsMintUnusedIds) {
        true => UNUSED_IDS,
        false => 0,
    };
    Commit {
        ops: vec![
            Op::ExpireProducers { before },
            Op::AllocateProducerIds { count },
        ],
        ..empty(incarnation, counter)
    }
}

/// What stands at the end of a log in which voids of this incarnation are, `after` being the last of them.
pub fn seal(after: CommitId) -> Commit {
    empty(after.incarnation, after.counter.saturating_add(1))
}

/// A commit that follows the one of its incarnation before it.
fn empty(incarnation: Incarnation, counter: u64) -> Commit {
    Commit {
        id: CommitId {
            incarnation,
            counter,
        },
        // The log's time does not go on.
        time: Timestamp(0),
        wall: None,
        ops: Vec::new(),
        follows: counter.checked_sub(1).filter(|before| *before > 0),
        forwarded: Vec::new(),
    }
}
