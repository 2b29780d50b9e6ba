//! What nodes tell each other of the log. Nothing depends on it: it saves races and probes.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::handle::Manifest;
use crate::types::{Incarnation, PeerKey, Seq};

/// Another node, as it registered itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Which run of it.
    pub incarnation: Incarnation,
    /// `host:port` of its HTTP front end, where other nodes reach it.
    pub address: String,
    /// With what it knows its peers.
    pub key: PeerKey,
}

/// The way to the other nodes.
#[async_trait]
pub trait Peers: Send + Sync + fmt::Debug {
    /// Hands a commit over, to be stored in the peer's next object: [`Manifest::carry`] there. Returns where it stands.
    /// After an error, and when the future is dropped, it may be stored all the same.
    async fn carry(&self, peer: &Peer, commit: Bytes) -> Result<Seq, PeerError>;

    /// The objects of the log after `after` that the peer has folded, in order and without gaps; none if none come for a
    /// while: [`Manifest::log_after`] there.
    async fn log_after(&self, peer: &Peer, after: Seq) -> Result<Vec<(Seq, Bytes)>, PeerError>;
}

/// A peer does not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// It says no.
    #[error("{0}")]
    Declined(Declined),
    /// It does not answer, or not in a way that makes sense.
    #[error("{0}")]
    Unreachable(Arc<str>),
}

/// Why a node says no to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Declined {
    /// It lost the race, or hands its own commits over to somebody.
    #[error("this node does not win races now")]
    NotWinning,
    /// It carries as much as it may.
    #[error("this node carries enough")]
    Full,
    /// It is no commit that can be carried.
    #[error("that cannot be carried")]
    Unfit,
    /// It has folded what is asked for and forgotten it.
    #[error("that part of the log is at hand no longer")]
    Forgotten,
    /// It stops.
    #[error("this node is stopping")]
    Stopping,
}

/// How many bytes of the log are kept at hand for peers.
const RECENT: usize = 8 << 20;

/// The most bytes of the log in one answer, a single larger object excepted.
const ANSWER: usize = 4 << 20;

/// The end of the log, as far as it is at hand as whole objects.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// At successive seqs.
    objects: VecDeque<(Seq, Bytes)>,
    bytes: usize,
}

impl Recent {
    /// Notes what stands at the next seq; `None` if not all of it is at hand.
    pub(super) fn note(&mut self, seq: Seq, object: Option<&Bytes>) {
        let last = self.objects.back().map(|(last, _)| last.next());
        if object.is_none() || last != Some(seq) {
            *self = Recent::default();
        }
        let Some(object) = object else { return };
        self.bytes += object.len();
        self.objects.push_back((seq, object.clone()));
        while self.bytes > RECENT {
            let Some((_, oldest)) = self.objects.pop_front() else {
                return;
            };
            self.bytes -= oldest.len();
        }
    }

    /// What comes after `after`, as much as one answer takes; `None` if the next one is not at hand.
    fn after(&self, after: Seq) -> Option<Vec<(Seq, Bytes)>> {
        let (first, _) = self.objects.front()?;
        let from = usize::try_from(after.next().0.checked_sub(first.0)?).ok()?;
        let mut room = ANSWER;
        let mut found = Vec::new();
        for (seq, object) in self.objects.iter().skip(from) {
            if !found.is_empty() && object.len() > room {
                break;
            }
            room = room.saturating_sub(object.len());
            found.push((*seq, object.clone()));
        }
        (!found.is_empty()).then_some(found)
    }
}

impl Manifest {
    /// For a peer that follows: what this node has folded after `after`, as soon as there is something; nothing, if
    /// there is nothing `within` that time.
    ///
    /// # Errors
    ///
    /// [`Declined::Forgotten`]: the store has it. [`Declined::Stopping`].
    pub async fn log_after(
        &self,
        after: Seq,
        within: Duration,
    ) -> Result<Vec<(Seq, Bytes)>, Declined> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn seqs(recent: &Recent, after: u64) -> Option<Vec<u64>> {
        let found = recent.after(Seq(after))?;
        Some(found.into_iter().map(|(seq, _)| seq.0).collect())
    }

    #[test]
    fn the_end_of_the_log_is_at_hand_without_gaps_and_within_its_bytes() {
        let mut recent = Recent::default();
        let object = Bytes::from(vec![0; 1 << 20]);
        for seq in 5..=9 {
            recent.note(Seq(seq), Some(&object));
        }
        assert_eq!(seqs(&recent, 3), None);
        assert_eq!(seqs(&recent, 4), Some(vec![5, 6, 7, 8]));
        assert_eq!(seqs(&recent, 7), Some(vec![8, 9]));
        assert_eq!(seqs(&recent, 9), None);
        for seq in 10..=30 {
            recent.note(Seq(seq), Some(&object));
        }
        assert_eq!(seqs(&recent, 21), None);
        assert_eq!(seqs(&recent, 22), Some(vec![23, 24, 25, 26]));
        // One that is not at hand is a gap, and so is what was jumped over.
        recent.note(Seq(31), None);
        assert_eq!(seqs(&recent, 22), None);
        recent.note(Seq(32), Some(&object));
        recent.note(Seq(40), Some(&object));
        assert_eq!(seqs(&recent, 31), None);
        assert_eq!(seqs(&recent, 39), Some(vec![40]));
    }
}
