//! What this node does for its peers when they ask: the other end of [`Peers`](crate::manifest::Peers).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use super::received::Received;
use super::receiver::MAX_FORWARDED;
use crate::manifest::handle::{Manifest, Message};
use crate::manifest::object::LOG;
use crate::manifest::peers::Declined;
use crate::types::{LogId, Seq};

/// How many bytes of commits a node admits at once.
const CAPACITY: usize = 16 << 20;

/// A permit for each byte of the commits that a node admits.
pub(in crate::manifest) fn capacity() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(CAPACITY))
}

impl Manifest {
    /// Admits a commit that a peer forwards as the object that it would store itself, and stores it in the next object
    /// of this node. Returns its seq; what became of it there the peer must see for itself.
    ///
    /// # Errors
    ///
    /// [`Declined`]; it may be in the log all the same.
    pub async fn admit(&self, object: Bytes) -> Result<Seq, Declined> {
        let len = object.len();
        if len > MAX_FORWARDED {
            return Err(Declined::Unfit);
        }
        let permits = u32::try_from(len).map_err(|_| Declined::Unfit)?;
        let capacity = self.shared.forwarded_capacity.clone();
        let share = capacity
            .try_acquire_many_owned(permits)
            .map_err(|_| Declined::Full)?;
        let (reply, stored) = oneshot::channel();
        let received = Received::read(&object, reply, share)?;
        let message = Message::Admit(Box::new(received));
        self.shared
            .mailbox
            .try_send(message)
            .map_err(|_| Declined::Full)?;
        stored.await.unwrap_or(Err(Declined::Stopping))
    }

    /// For a peer that follows: what this node has folded of `log` after `after`, as soon as there is something;
    /// nothing, if there is nothing `within` that time.
    ///
    /// # Errors
    ///
    /// [`Declined::OtherLog`]. [`Declined::Forgotten`]: the store has it. [`Declined::Stopping`].
    pub async fn log_after(
        &self,
        log: LogId,
        after: Seq,
        within: Duration,
    ) -> Result<Vec<(Seq, Bytes)>, Declined> {
        if log != LOG {
            return Err(Declined::OtherLog);
        }
        let until = Instant::now() + within;
        let mut states = self.subscribe();
        loop {
            if after < states.see().seq() {
                let found = self.shared.recent().after(after);
                return found.ok_or(Declined::Forgotten);
            }
            match timeout_at(until, states.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Declined::Stopping),
                Err(_) => return Ok(Vec::new()),
            }
        }
    }
}
