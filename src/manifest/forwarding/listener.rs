//! News of the log: asking the newest other writer what comes next, before looking for it in the store.

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::contact::{Backoff, Contact};
use crate::env::Env;
use crate::manifest::object::LOG;
use crate::manifest::peers::{Declined, PeerError};
use crate::types::{Incarnation, Seq};

/// Objects of the log, each with its seq, as a peer tells of them.
pub(in crate::manifest) type Told = Result<Vec<(Seq, Bytes)>, PeerError>;

/// Whom this node asks what comes next in the log, and whether it is asking.
#[derive(Debug, Default)]
pub(super) struct Listener {
    /// The incarnation that wrote the newest object that is not this node's.
    writer: Option<Incarnation>,
    /// It is not asked for a while.
    avoided: Backoff,
    /// The question, while it is under way.
    question: Option<AbortOnDropHandle<Told>>,
}

impl Listener {
    /// Notes who wrote the newest object that is not this node's: it is asked from now on.
    pub(super) fn note_writer(&mut self, writer: Incarnation) {
        if self.writer != Some(writer) {
            self.writer = Some(writer);
            self.avoided.forgive();
            self.question = None;
        }
    }

    /// Who is to be asked now, if anybody.
    pub(super) fn to_ask(&self, now: Instant) -> Option<Incarnation> {
        let may_ask = self.question.is_none() && !self.avoided.is_active(now);
        self.writer.filter(|_| may_ask)
    }

    /// Asks for what comes after `after`.
    pub(super) fn ask(&mut self, env: &Env, peer: Contact, after: Seq) {
        let asking = async move { peer.log_after(LOG, after).await };
        self.question = Some(AbortOnDropHandle::new(env.spawn(asking)));
    }

    /// Whether a question is under way.
    pub(super) fn is_asking(&self) -> bool {
        self.question.is_some()
    }

    /// Drops the question that is under way or answered.
    pub(super) fn stop(&mut self) {
        self.question = None;
    }

    /// Waits for the answer. Safe to drop.
    pub(super) async fn answer(&mut self) -> Told {
        match &mut self.question {
            Some(question) => question
                .await
                .unwrap_or_else(|lost| Err(PeerError::unreachable(&lost))),
            None => std::future::pending().await,
        }
    }

    /// Notes how asking went. Says whether the log has to be read in the store, since the peer has forgotten that part.
    pub(super) fn note(&mut self, now: Instant, told: &Result<(), PeerError>) -> bool {
        match told {
            Ok(()) => {
                self.avoided.forgive();
                false
            }
            Err(why) => {
                self.avoided.fail(now);
                matches!(why, PeerError::Declined(Declined::Forgotten))
            }
        }
    }
}
