//! One commit that another node forwarded to this one.

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::manifest::object::{LoggedCommit, ObjectError};
use crate::manifest::peers::Declined;
use crate::state::op::{Commit, ForwardedCommit};
use crate::types::Seq;

/// A commit that another node forwarded to this one.
pub(in crate::manifest) struct Received {
    pub(super) commit: Commit,
    pub(super) follows: u64,
    /// Of its inline appends.
    pub(super) data: Bytes,
    pub(super) head_len: usize,
    reply: oneshot::Sender<Result<Seq, Declined>>,
    /// Its share of what this node takes in.
    _share: OwnedSemaphorePermit,
}

impl Received {
    /// Reads the object that a peer forwards.
    ///
    /// # Errors
    ///
    /// Why it cannot be stored for its forwarder.
    pub(super) fn read(
        object: &Bytes,
        reply: oneshot::Sender<Result<Seq, Declined>>,
        share: OwnedSemaphorePermit,
    ) -> Result<Received, Declined> {
        let len = object.len() as u64;
        let logged = LoggedCommit::decode("a commit that a peer forwards", Seq(0), object, len)
            .inspect_err(
                |error| tracing::warn!(%error, "a peer forwarded a commit that cannot be read"),
            )
            .map_err(|error| match error {
                ObjectError::WrongLog { .. } => Declined::OtherLog,
                _ => Declined::Unfit,
            })?;
        let (Some(_), Ok(start)) = (&logged.whole, usize::try_from(logged.data_start)) else {
            return Err(Declined::Unfit);
        };
        let commit = logged.commit;
        let follows = commit.follows.filter(|_| commit.forwarded.is_empty());
        let follows = follows.ok_or(Declined::Unfit)?;
        Ok(Received {
            follows,
            data: object.slice(start..),
            head_len: start,
            commit,
            reply,
            _share: share,
        })
    }

    /// Tells the forwarder where it is stored.
    pub(in crate::manifest) fn acknowledge(self, seq: Seq) {
        // The forwarder may be gone.
        let _ = self.reply.send(Ok(seq));
    }

    /// Whether the forwarder has recalled it, or is gone.
    pub(super) fn is_recalled(&self) -> bool {
        self.reply.is_closed()
    }

    /// Tells the forwarder that it will not be stored here.
    pub(super) fn decline(self, why: Declined) {
        let _ = self.reply.send(Err(why));
    }
}

/// The received commits as they stand in an object of this node, with their bytes at the end of its `data`.
pub(in crate::manifest) fn attach(
    received: &[Received],
    data: &mut BytesMut,
) -> Vec<ForwardedCommit> {
    let attach = |received: &Received| {
        let start = data.len() as u64;
        data.extend_from_slice(&received.data);
        ForwardedCommit {
            id: received.commit.id,
            time: received.commit.time,
            wall: received.commit.wall,
            ops: received.commit.ops.clone(),
            follows: received.follows,
            start,
        }
    };
    received.iter().map(attach).collect()
}
