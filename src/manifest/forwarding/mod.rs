//! Forwarding: a node that loses races has its commits stored by the node that wins, beside that node's own.
//!
//! Nodes that write at the same time race for each seq. One of them is ahead: it has sent its next commits before the
//! others know of its last. So the others do not race. They **forward** their commits to it ([`Peers::forward`]), until
//! no other node has written for a second, and store by themselves again. Nobody is elected and nothing is agreed on:
//! the **receiver** is whoever wrote the newest object in the log. It **admits** the commit, puts it into its next
//! object, and **acknowledges** it with the seq of that object.
//!
//! * A forwarded commit stays the forwarder's: it has the forwarder's id and its place in the forwarder's chain. So a
//!   receiver may store a commit that the forwarder has recalled, that another receiver stores as well, or that the
//!   forwarder stores itself. The fold takes one of them.
//! * Nobody needs to believe the receiver. The forwarder tells its clients what became of a commit when it sees the
//!   commit in the log, as for one that it stored itself. The acknowledgement is a hint.
//! * A forwarded commit says which commit it follows; the first commit of an incarnation, if it registers the node,
//!   says that it follows none. So when the receiver declines it or does not answer in time, the forwarder **recalls**
//!   it with all behind it and sends them in order, by whichever way, under the same ids. Whatever becomes of the other
//!   copies, one takes effect.
//! * Nothing is forwarded while a commit is on its way to the store, nor the other way round: what a node commits is
//!   settled in order.
//!
//! # Order at the receiver
//!
//! Requests overtake each other, and a commit that comes into the log before the one that it follows is void there. So
//! the receiver takes the commits of one forwarder in the order of their ids, and one that is early waits for the one
//! before it, as long as anything of the receiver is on its way to the store: the answer to that wakes it. When an
//! object loses its race, the forwarded commits are **detached** from it. They wait for the next object, or are
//! declined if this node now forwards its own.
//!
//! # News of the log
//!
//! The other node that wrote the newest object tells what it folds to whoever asks ([`Peers::log_after`]), so that a
//! commit is known here one hop after it is in the log, without a probe. An object is folded whoever it comes from:
//! what stands in the log never changes, and it has its checksums. It proves nothing about where the log ends, so a
//! state that must be fresh is shown to be so as ever. Only a commit of this node in it does: it left this node after
//! those were stored that were acknowledged before.
//!
//! # When an answer is lost, when a process dies
//!
//! No answer, or a peer that dies or sleeps: the commit is recalled when its time is over. When the forwarder dies,
//! what it forwarded may take effect, as what it sent to the store may. When the receiver dies, the forwarders hear
//! nothing and recall.
//!
//! [`Forwarding`] decides, and does no more than ask peers; what is done about a decision is in `steps.rs`.

mod contact;
mod forwarder;
mod listener;
pub(super) mod received;
mod receiver;
pub(super) mod recent;
mod service;
mod steps;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use super::peers::{Peer, PeerError, Peers};
use super::prepared::LogView;
use crate::env::Env;
use crate::state::State;
use crate::types::{Incarnation, Seq};
use contact::{Backoff, Contact};
use forwarder::{Forwarded, answer_of};
use listener::{Listener, Told};
use received::Received;

pub(super) use service::capacity;

/// Among the endpoints of a node, where its peers reach it.
pub const PEER_ENDPOINT: &str = "peer";

/// What a node knows of the others that write: where its commits go, and what the others have it store.
pub(super) struct Forwarding {
    own: Incarnation,
    /// How many forwarded commits may be unsettled at once.
    max_in_flight: usize,
    /// The way to other nodes, if this one speaks to any.
    peers: Option<Arc<dyn Peers>>,
    /// The incarnation that wrote the newest object in the log: the receiver, unless it is this node.
    newest: Option<Incarnation>,
    /// Until then it counts that this node lost a race.
    contested_until: Option<Instant>,
    /// Nothing is forwarded to it for a while.
    avoided: Backoff,
    /// This node's commits that were forwarded and are not settled, oldest first. Empty while any is in flight.
    forwarded: VecDeque<Forwarded>,
    /// Commits that this node has admitted and that are in no object yet.
    received: VecDeque<Received>,
    listener: Listener,
}

/// Where the next commit of this node goes.
#[derive(Clone, Debug)]
pub(super) enum Route {
    /// To the store.
    Store,
    /// To the node that is winning.
    Forward(Contact),
}

/// What a peer has said.
pub(super) enum News {
    /// What comes next in the log.
    Told(Told),
    /// Where the oldest forwarded commit is stored.
    Answer(Result<Seq, PeerError>),
}

impl Forwarding {
    /// Of an incarnation that has forwarded nothing and speaks to nobody yet.
    pub(super) fn new(own: Incarnation, commits_in_flight: usize) -> Forwarding {
        Forwarding {
            own,
            max_in_flight: commits_in_flight.max(1),
            peers: None,
            newest: None,
            contested_until: None,
            avoided: Backoff::default(),
            forwarded: VecDeque::new(),
            received: VecDeque::new(),
            listener: Listener::default(),
        }
    }

    /// Lets this node speak to others.
    pub(super) fn set_peers(&mut self, peers: Arc<dyn Peers>) {
        self.peers = Some(peers);
    }

    /// Whether this node speaks to others.
    pub(super) fn has_peers(&self) -> bool {
        self.peers.is_some()
    }

    /// Another node that can be spoken to.
    fn contact(&self, state: &State, incarnation: Incarnation) -> Option<Contact> {
        let peers = self.peers.clone()?;
        if incarnation == self.own {
            return None;
        }
        let id = state.node_of(incarnation)?;
        let node = state.node(id)?;
        let peer = Peer {
            incarnation,
            address: node.endpoints().get(PEER_ENDPOINT)?.clone(),
            key: node.peer_key()?.clone(),
        };
        Some(Contact { peer, peers })
    }

    /// Asks the newest other writer for what comes next in the log, if anybody here wants to know and it is not asked
    /// yet.
    pub(super) fn listen(&mut self, env: &Env, now: Instant, is_followed: bool, log: LogView<'_>) {
        let is_wanted = is_followed || self.has_forwarded();
        if !is_wanted || log.is_storing() {
            return self.listener.stop();
        }
        let writer = self.listener.to_ask(now);
        if let Some(peer) = writer.and_then(|writer| self.contact(log.state, writer)) {
            self.listener.ask(env, peer, log.state.seq());
        }
    }

    /// Whether a peer is asked what comes next in the log.
    pub(super) fn is_listening(&self) -> bool {
        self.listener.is_asking()
    }

    /// Asks nobody what comes next in the log, until it [listens](Forwarding::listen) again.
    pub(super) fn stop_listening(&mut self) {
        self.listener.stop();
    }

    /// Notes how asking for the log went. Says whether it has to be read in the store instead.
    pub(super) fn note_told(&mut self, now: Instant, told: &Result<(), PeerError>) -> bool {
        self.listener.note(now, told)
    }

    /// Waits for what a peer says. Safe to drop.
    pub(super) async fn news(&mut self) -> News {
        tokio::select! {
            biased;
            told = self.listener.answer() => News::Told(told),
            answer = answer_of(self.forwarded.front_mut()) => News::Answer(answer),
        }
    }
}
