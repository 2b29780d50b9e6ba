//! Carrying: commits of other nodes, stored in the objects of this one.
//!
//! A node that keeps losing races hands its commits over to the one that wins ([`Peers::carry`](super::Peers::carry)), which puts
//! them into its next object beside its own. Each stays what it was: its own id, its own place in its author's chain. So a
//! node may carry a commit that its author has taken back, that somebody else carries too, or that its author stores itself, and
//! the fold takes one of them. Whoever carries need not be believed: the author sees in the log what became of its commit.
//!
//! Requests overtake each other, and a commit that comes into the log before the one that it follows is void there. So an author's
//! guests go in the order of their ids, and one that is early waits for the one before it, as long as anything of this node is
//! on its way to the store: the answer to that wakes it.
//!
//! When a race is lost, its guests wait for the next object, or are declined if the node now hands over its own. When the
//! process dies, their authors hear nothing and take them back.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::commit::{MAX_DATA, Prepared};
use super::handle::{Manifest, Message};
use super::object::{EncodedCommit, LoggedCommit};
use super::peers::Declined;
use super::tail::Tail;
use crate::state::op::{Commit, ForwardedCommit};
use crate::types::{CommitId, Seq};

/// The largest object of a commit that is handed over: all but those with very many ops. A larger one races for its place,
/// and may wait for long while others do not.
pub(super) const MAX_GUEST: usize = MAX_DATA + (2 << 20);

/// How many bytes of guests a node takes in at once.
pub(super) const ROOM: usize = 16 << 20;

/// The most guests in one object, and the most bytes of their ops.
const MAX_CARRIED: usize = 256;
const MAX_CARRIED_HEADS: usize = 4 << 20;

/// A commit that another node has handed over.
pub(super) struct Guest {
    commit: Commit,
    follows: u64,
    /// Of its inline appends.
    data: Bytes,
    head_len: usize,
    done: oneshot::Sender<Result<Seq, Declined>>,
    /// Its share of what this node takes in.
    _room: OwnedSemaphorePermit,
}

impl Guest {
    pub(super) fn decline(self, why: Declined) {
        // Whoever asked may be gone.
        let _ = self.done.send(Err(why));
    }
}

impl Manifest {
    /// Stores a commit for a peer, which hands it over as the object that it would store itself, in the next object of this
    /// node. Returns where it stands; what became of it there the peer must see for itself.
    ///
    /// # Errors
    ///
    /// [`Declined`]; it may be in the log all the same.
    pub async fn carry(&self, object: Bytes) -> Result<Seq, Declined> {
        let len = object.len();
        if len > MAX_GUEST {
            return Err(Declined::Unfit);
        }
        let permits = u32::try_from(len).map_err(|_| Declined::Unfit)?;
        let room = self.shared.guest_room.clone();
        let room = room
            .try_acquire_many_owned(permits)
            .map_err(|_| Declined::Full)?;
        let (done, stored) = oneshot::channel();
        let guest = guest(&object, done, room).ok_or(Declined::Unfit)?;
        let message = Message::Carry(Box::new(guest));
        self.shared
            .mailbox
            .try_send(message)
            .map_err(|_| Declined::Full)?;
        stored.await.unwrap_or(Err(Declined::Stopping))
    }
}

/// Reads what a peer hands over; `None` if it cannot be carried.
fn guest(
    object: &Bytes,
    done: oneshot::Sender<Result<Seq, Declined>>,
    room: OwnedSemaphorePermit,
) -> Option<Guest> {
    let len = object.len() as u64;
    let logged = LoggedCommit::decode("a commit that a peer hands over", Seq(0), object, len)
        .inspect_err(|error| tracing::warn!(%error, "a peer hands over what is no commit"))
        .ok()?;
    logged.whole?;
    let start = usize::try_from(logged.data_start).ok()?;
    let commit = logged.commit;
    let follows = commit.follows.filter(|_| commit.forwarded.is_empty())?;
    Some(Guest {
        follows,
        data: object.slice(start..),
        head_len: start,
        commit,
        done,
        _room: room,
    })
}

impl Tail {
    /// Takes a guest in, unless this node hands over what it has itself.
    pub(super) fn welcome(&mut self, guest: Guest) {
        let too_new = guest.commit.level() > self.options.level;
        if too_new || guest.commit.id.incarnation == self.incarnation {
            return guest.decline(Declined::Unfit);
        }
        if self.carrier().is_some() {
            return guest.decline(Declined::NotWinning);
        }
        let CommitId {
            incarnation,
            counter,
        } = guest.commit.id;
        let comes_later = |waiting: &Guest| {
            let id = waiting.commit.id;
            id.incarnation == incarnation && id.counter > counter
        };
        let later = self.guests.iter().position(comes_later);
        self.guests
            .insert(later.unwrap_or(self.guests.len()), guest);
    }

    /// Whether a guest can go. Those whose authors have taken them back are let go of.
    pub(super) fn has_guests(&mut self) -> bool {
        self.guests.retain(|guest| !guest.done.is_closed());
        self.guests.iter().any(|guest| !self.is_early(guest, &[]))
    }

    /// Whether the one that this guest follows is neither in the log nor on its way there nor taken, and may still come.
    fn is_early(&self, guest: &Guest, taken: &[Guest]) -> bool {
        let author = guest.commit.id.incarnation;
        let under_way = self.in_flight.iter();
        let carried = under_way.flat_map(|sent| &sent.prepared.commit.forwarded);
        let before = carried
            .map(|carried| carried.id)
            .chain(taken.iter().map(|taken| taken.commit.id))
            .filter(|id| id.incarnation == author)
            .map(|id| id.counter)
            .chain(self.state.last_commit_of(author));
        !self.in_flight.is_empty() && before.max().unwrap_or(Commit::NOTHING) < guest.follows
    }

    /// Takes from the guests that can go what fits in one object beside `data` bytes.
    pub(super) fn take_guests(&mut self, mut data: usize) -> Vec<Guest> {
        let mut heads = 0;
        let (mut taken, mut early) = (Vec::new(), Vec::new());
        while let Some(next) = self.guests.pop_front() {
            if self.is_early(&next, &taken) {
                early.push(next);
                continue;
            }
            data += next.data.len();
            heads += next.head_len;
            let is_full = data > MAX_DATA || heads > MAX_CARRIED_HEADS;
            // One is taken in any case, so that none waits for ever.
            if !taken.is_empty() && (is_full || taken.len() == MAX_CARRIED) {
                self.guests.push_front(next);
                break;
            }
            taken.push(next);
        }
        self.return_guests(early);
        taken
    }

    /// They wait for the next object, before those who came later.
    pub(super) fn return_guests(&mut self, guests: Vec<Guest>) {
        for guest in guests.into_iter().rev() {
            self.guests.push_front(guest);
        }
    }

    /// Sends all guests away, who have not been sent on their way.
    pub(super) fn decline_guests(&mut self, why: Declined) {
        self.guests.drain(..).for_each(|guest| guest.decline(why));
    }
}

/// The guests as the object carries them, and their bytes at the end of `data`.
pub(super) fn carried(guests: &[Guest], data: &mut BytesMut) -> Vec<ForwardedCommit> {
    let board = |guest: &Guest| {
        let start = data.len() as u64;
        data.extend_from_slice(&guest.data);
        ForwardedCommit {
            id: guest.commit.id,
            time: guest.commit.time,
            wall: guest.commit.wall,
            ops: guest.commit.ops.clone(),
            follows: guest.follows,
            start,
        }
    };
    guests.iter().map(board).collect()
}

impl Prepared {
    /// Tells the guests where they stand.
    pub(super) fn land(&mut self, seq: Seq) {
        for guest in self.guests.drain(..) {
            let _ = guest.done.send(Ok(seq));
        }
    }

    /// Lets the guests out: the commit goes on alone.
    pub(super) fn put_ashore(&mut self) -> Vec<Guest> {
        let guests = std::mem::take(&mut self.guests);
        if !self.commit.forwarded.is_empty() {
            let mut alone = self.commit.clone();
            alone.carried.clear();
            let start = usize::try_from(self.encoded.data_start).unwrap_or(usize::MAX);
            let own = self.encoded.object.slice(start..start + self.own_data);
            // With less in it, it fits if it did before.
            if let Ok(encoded) = EncodedCommit::new(&alone, own) {
                (self.commit, self.encoded) = (alone, encoded);
            }
        }
        guests
    }
}

/// The room for guests.
pub(super) fn guest_room() -> Arc<tokio::sync::Semaphore> {
    Arc::new(tokio::sync::Semaphore::new(ROOM))
}
