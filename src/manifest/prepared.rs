//! Commits that this node has made and of which it does not know yet what became of them.

use std::collections::VecDeque;

use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::forwarding::received::Received;
use super::freshness::Moment;
use super::handle::Submission;
use super::object::EncodedCommit;
use crate::state::State;
use crate::state::op::Commit;
use crate::store::{Created, ObjectPath, RequestKind, Store, StoreError};
use crate::types::Seq;

/// The most bytes of inline appends that are gathered into one object.
pub(super) const MAX_DATA: usize = 4 << 20;

/// A commit, with those who wait for what becomes of it.
pub(super) struct Prepared {
    pub(super) commit: Commit,
    pub(super) encoded: EncodedCommit,
    pub(super) batch: Vec<Submission>,
    /// How many bytes of the object's data are its own.
    pub(super) own_data: usize,
    /// The commits of other nodes in its object.
    pub(super) received: Vec<Received>,
    /// When it was sent to the store first, if it was: from then on it may stand in the log as an object of this node.
    pub(super) sent: Option<Moment>,
    /// When it was forwarded first, if it was: from then on another node may store it.
    pub(super) forwarded: Option<Moment>,
    /// When it was made, for how long it takes until it is folded.
    pub(super) begun: Instant,
    /// How many races it has lost.
    pub(super) lost: u32,
}

impl Prepared {
    /// Changes what it says, but not its data.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut Commit)) {
        (self.commit, self.encoded) = self.encoded.changed(&self.commit, change);
    }

    /// Leaves out the ops for which nobody waits any more, of a commit that is to be sent again. It lost its race, or
    /// was sent behind one that did and is void wherever it stands, so nothing of it is in the log or can come there:
    /// it may go with other ops under the same id, which others follow. Not so what was forwarded: another node may
    /// store it yet.
    pub(super) fn leave_out_abandoned(&mut self) {
        // What brings bytes has somebody who insists.
        let is_left_out = |s: &Submission| s.is_abandoned() && s.data.is_empty();
        if self.forwarded.is_some() || !self.batch.iter().any(is_left_out) {
            return;
        }
        let mut ops = std::mem::take(&mut self.commit.ops).into_iter();
        let mut wanted = Vec::with_capacity(ops.len());
        self.batch.retain(|submission| {
            let own = ops.by_ref().take(submission.ops.len());
            let stays = !is_left_out(submission);
            own.for_each(|op| {
                if stays {
                    wanted.push(op);
                }
            });
            stays
        });
        self.change(|commit| commit.ops = wanted);
    }

    /// Tells those who forwarded the commits in its object that they are stored at `seq`.
    pub(super) fn acknowledge(&mut self, seq: Seq) {
        for received in self.received.drain(..) {
            received.acknowledge(seq);
        }
    }

    /// Takes the commits of other nodes out of its object: the commit goes on alone.
    pub(super) fn detach(&mut self) -> Vec<Received> {
        let received = std::mem::take(&mut self.received);
        if !self.commit.forwarded.is_empty() {
            let mut alone = self.commit.clone();
            alone.forwarded.clear();
            let start = usize::try_from(self.encoded.data_start).unwrap_or(usize::MAX);
            let own = self.encoded.object.slice(start..start + self.own_data);
            // With less in it, it fits if it did before.
            if let Ok(encoded) = EncodedCommit::new(&alone, own) {
                (self.commit, self.encoded) = (alone, encoded);
            }
        }
        received
    }
}

/// A commit on its way to the store.
pub(super) struct Sent {
    pub(super) prepared: Prepared,
    /// Where it was sent to.
    pub(super) seq: Seq,
    /// Of the first attempt at this seq: any of them may be the one that is applied, and from then on others may
    /// stand behind it.
    pub(super) sent: Moment,
    /// The answer to the first attempt.
    pub(super) answer: AbortOnDropHandle<Result<Created, StoreError>>,
}

/// What a node has folded, and what it has sent to the store to stand behind that.
#[derive(Clone, Copy)]
pub(super) struct LogView<'a> {
    pub(super) state: &'a State,
    pub(super) in_flight: &'a VecDeque<Sent>,
}

impl LogView<'_> {
    /// Whether anything is on its way to the store.
    pub(super) fn is_storing(&self) -> bool {
        !self.in_flight.is_empty()
    }
}

/// Asks the store to create the commit at its seq.
pub(super) fn put(
    store: &Store,
    seq: Seq,
    encoded: &EncodedCommit,
) -> impl Future<Output = Result<Created, StoreError>> + Send + use<> {
    let (store, object) = (store.clone(), encoded.object.clone());
    async move {
        let path = ObjectPath::commit(seq);
        store.create(&path, object, RequestKind::CommitPut).await
    }
}

/// Waits for the answer to the oldest commit on its way. Safe to drop: the answer stays.
pub(super) async fn answer_of(oldest: Option<&mut Sent>) -> Result<Created, StoreError> {
    match oldest {
        // A request whose task was lost is as good as one of which nothing was heard: what stands there tells.
        Some(oldest) => (&mut oldest.answer).await.unwrap_or(Ok(Created::Exists)),
        None => std::future::pending().await,
    }
}
