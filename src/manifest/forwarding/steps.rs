//! What the task does about forwarding: [`Forwarding`](super::Forwarding) decides.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::Route;
use super::contact::Contact;
use super::forwarder::Verdict;
use super::listener::Told;
use super::receiver::MAX_FORWARDED;
use crate::manifest::freshness::Moment;
use crate::manifest::handle::Stopped;
use crate::manifest::object::LoggedCommit;
use crate::manifest::peers::{Declined, PeerError, Peers};
use crate::manifest::prepared::{LogView, Prepared};
use crate::manifest::tail::Tail;
use crate::rules::{Rule, holds};
use crate::state::Folded;
use crate::types::{CommitId, Seq};

impl Tail {
    /// Lets this node speak to others.
    #[must_use]
    pub fn with_peers(mut self, peers: Arc<dyn Peers>) -> Tail {
        self.forwarding.set_peers(peers);
        self
    }

    /// Where the next commit goes.
    pub(in crate::manifest) fn route(&self) -> Route {
        let log = LogView {
            state: &self.state,
            in_flight: &self.in_flight,
        };
        self.forwarding
            .route(Instant::now(), log, self.resend.front())
    }

    /// Forwards the next commit, if there is anything to commit and there is space.
    pub(in crate::manifest) fn forward_next(&mut self, to: &Contact, now: Instant) -> bool {
        self.forwarding.decline_received(Declined::NotWinning);
        if !self.forwarding.may_forward() {
            return false;
        }
        let prepared = match self.next_again() {
            Some(again) => Some(again),
            None if self.forward_slot().is_some_and(|slot| slot > now) => None,
            None => self.prepare_next(),
        };
        let Some(mut prepared) = prepared else {
            return false;
        };
        let before = Some(self.forwarding.last_before(&self.state));
        if prepared.commit.follows != before {
            prepared.change(|commit| commit.follows = before);
        }
        if prepared.encoded.object.len() > MAX_FORWARDED {
            // It goes to the store, when all before it is settled and the end of the log was seen.
            if self.may_send() {
                self.send(prepared);
                return true;
            }
            self.resend.push_front(prepared);
            return false;
        }
        let usual = self.options.commit_interval + self.typical_put * 4;
        let moment = Moment::now(&self.env);
        self.metrics.forwarded.inc();
        self.forwarding
            .forward(&self.env, prepared, to, moment, usual);
        true
    }

    /// When the next commit may be forwarded; `None` if at once.
    pub(in crate::manifest) fn forward_slot(&self) -> Option<Instant> {
        self.forwarding.slot(self.last_commit, self.typical_put)
    }

    /// Takes in what the receiver says of the oldest forwarded commit.
    pub(in crate::manifest) async fn hear_of_forwarded(
        &mut self,
        answer: Result<Seq, PeerError>,
    ) -> Result<(), Stopped> {
        let folded = self.state.seq();
        let verdict = self.forwarding.note_answer(Instant::now(), folded, &answer);
        match verdict {
            Verdict::Wait => {}
            Verdict::Recall => self.recall(),
            Verdict::RecallFrom {
                receiver,
                is_declined,
            } => {
                if let Err(why) = answer {
                    tracing::debug!(%why, "a forwarded commit was not stored");
                }
                self.recall();
                if is_declined {
                    self.catch_up().await?;
                }
                self.forwarding.avoid(receiver, Instant::now());
            }
        }
        Ok(())
    }

    /// Recalls what was forwarded too long ago.
    pub(in crate::manifest) async fn recall_overdue(&mut self) -> Result<(), Stopped> {
        let Some(overdue) = self.forwarding.overdue(Instant::now()) else {
            return Ok(());
        };
        if overdue.is_acknowledged {
            // It is in the log, and nobody tells.
            self.catch_up().await?;
        }
        if self.forwarding.is_oldest(overdue.id) {
            self.recall();
            let receiver = self.forwarding.newest();
            self.forwarding.avoid(receiver, Instant::now());
        }
        Ok(())
    }

    /// Recalls all that was forwarded, to be sent before anything else.
    fn recall(&mut self) {
        let recalled = self.forwarding.recall();
        self.metrics.recalled.inc_by(recalled.len() as u64);
        for mut prepared in recalled.into_iter().rev() {
            if !holds(Rule::RecalledCommitsKeepTheirId) {
                self.counter += 1;
                let counter = self.counter;
                prepared.change(|commit| (commit.id.counter, commit.follows) = (counter, None));
            }
            self.resend.push_front(prepared);
        }
    }

    /// Whether another node may have stored a commit of this one of which this one does not know what became.
    pub(in crate::manifest) fn may_be_stored_elsewhere(&self) -> bool {
        let was_forwarded = |prepared: &Prepared| prepared.forwarded.is_some();
        self.forwarding.has_forwarded() || self.resend.iter().any(was_forwarded)
    }

    /// Tells those who wait for a commit of this node what became of it, if it was found in the log and not by
    /// settling: it was forwarded.
    pub(in crate::manifest) fn tell_of_own(
        &mut self,
        seq: Seq,
        (id, is_forwarded): (CommitId, bool),
        folded: &Folded,
    ) {
        match folded {
            // What goes to the next seq.
            Folded::Outcomes(_) if !holds(Rule::OwnCommitsAreFound) => {}
            Folded::Outcomes(_) => {
                let prepared = self.forwarding.take_forwarded(id).or_else(|| {
                    let resend = self.resend.iter();
                    let at = resend
                        .map(|prepared| prepared.commit.id)
                        .position(|of| of == id)?;
                    self.resend.remove(at)
                });
                let Some(prepared) = prepared else { return };
                let stands_since = match is_forwarded {
                    true => prepared.forwarded,
                    false => prepared.sent,
                };
                if let Some(moment) = stands_since {
                    self.note_proof(moment);
                }
                self.finish(prepared, seq, folded.clone());
            }
            Folded::Void if self.forwarding.is_forwarded(id) => self.recall(),
            Folded::Void | Folded::Duplicate => {}
        }
    }

    /// Asks the newest other writer for what comes next in the log, if anybody here wants to know.
    pub(in crate::manifest) fn listen(&mut self) {
        let is_followed = self.is_followed();
        let log = LogView {
            state: &self.state,
            in_flight: &self.in_flight,
        };
        self.forwarding
            .listen(&self.env, Instant::now(), is_followed, log);
    }

    /// Folds what a peer tells of the log.
    pub(in crate::manifest) async fn hear(&mut self, told: Told) -> Result<(), Stopped> {
        self.forwarding.stop_listening();
        let told = told.and_then(|objects| self.fold_told(&objects));
        if let Err(why) = &told {
            tracing::debug!(%why, "a peer did not send the newest part of the log");
        }
        if self.forwarding.note_told(Instant::now(), &told) {
            self.catch_up().await?;
        }
        // At once, for who is told need not look.
        self.listen();
        Ok(())
    }

    fn fold_told(&mut self, objects: &[(Seq, Bytes)]) -> Result<(), PeerError> {
        for (seq, object) in objects {
            // What this node has folded meanwhile, or what does not come next.
            if *seq != self.state.seq().next() {
                continue;
            }
            let len = object.len() as u64;
            const NAME: &str = "a commit that a peer tells of";
            let logged = LoggedCommit::decode(NAME, *seq, object, len)
                .and_then(|logged| logged.at_level(NAME, self.options.level))
                .map_err(|error| PeerError::unreachable(&error))?;
            if logged.whole.is_none() {
                return Err(PeerError::unreachable(&"a commit came with damaged data"));
            }
            self.fold(&logged);
            self.metrics.followed.inc();
            self.metrics.heard.inc();
            self.freshness.note_told(Instant::now());
        }
        Ok(())
    }
}
