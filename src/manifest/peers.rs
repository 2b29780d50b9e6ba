//! What nodes tell each other of the log. Nothing depends on it: it saves races and probes.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::types::{Incarnation, LogId, PeerKey, Seq};

/// Another node, as it registered itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// `host:port` of its HTTP front end, where other nodes reach it.
    pub address: String,
    /// With what it knows its peers.
    pub key: PeerKey,
}

/// The way to the other nodes.
#[async_trait]
pub trait Peers: Send + Sync + fmt::Debug {
    /// Forwards a commit, to be stored in the peer's next object: [`Manifest::admit`](super::Manifest::admit) there.
    /// Returns where it stands. After an error, and when the future is dropped, it may be stored all the same.
    async fn forward(&self, peer: &Peer, commit: Bytes) -> Result<Seq, PeerError>;

    /// The objects of `log` after `after` that the peer has folded, in order and without gaps; none if none come for
    /// a while: [`Manifest::log_after`](super::Manifest::log_after) there.
    async fn log_after(
        &self,
        peer: &Peer,
        log: LogId,
        after: Seq,
    ) -> Result<Vec<(Seq, Bytes)>, PeerError>;
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

impl PeerError {
    /// A peer that does not answer, or not in a way that makes sense.
    pub(super) fn unreachable(why: &dyn fmt::Display) -> PeerError {
        PeerError::Unreachable(why.to_string().into())
    }
}

/// Why a node says no to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Declined {
    /// It lost the race, or forwards its own commits.
    #[error("this node is not winning races at the moment")]
    NotWinning,
    /// It has admitted as much as it may.
    #[error("this node cannot admit more commits of other nodes at the moment")]
    Full,
    /// It is no commit that can be forwarded.
    #[error("a node may not store that commit for another one")]
    Unfit,
    /// It is asked for, or handed a commit of, a log that it does not serve.
    #[error("this node does not serve that log")]
    OtherLog,
    /// It has folded what is asked for and forgotten it.
    #[error("that part of the log is no longer in memory")]
    Forgotten,
    /// It stops.
    #[error("this node is stopping")]
    Stopping,
}
