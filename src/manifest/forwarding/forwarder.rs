//! Handing over: a node that loses races gives its commits to the one that wins, and hears from it what is in the log.
//!
//! Nodes that write at the same time race for each place in the log. One is ahead: it has the next places taken before the others
//! know of the last. So the others do not race: they hand their commits to it ([`Peers::carry`]), until nobody else has written
//! for [`CONTEST`], and store by themselves again. Nobody is chosen and nothing is agreed on: the winner is whose object is the
//! newest in the log.
//!
//! * A commit that is handed over is told of when it is seen in the log, as one that this node stored itself; what the
//!   carrier answers is a hint.
//! * It keeps its id, and says which one it follows; the first of a run, if it registers the node, that it follows none. So when the carrier does not answer in time, or says no, it is taken back with
//!   all behind it, in order, and sent otherwise; whatever becomes of the other copy, one takes effect.
//! * Nothing is handed over while a commit is on its way to the store, nor the other way round: what a node commits is
//!   settled in order.
//!
//! The same node tells what it folds to whoever asks ([`Peers::log_after`]), so that a commit is known here one hop after it is in
//! the log, without a probe. An object is folded whoever it comes from: what stands in the log never changes, and it carries its
//! checksums. It proves nothing about where the log ends, so a state that must be fresh is shown to be so as ever. Only a commit of
//! this node in it does: it left this node after those were stored that were acknowledged before.
//!
//! A dropped answer, a peer that dies or sleeps: the commit is taken back when its time is over. This process dies: what it
//! handed over may take effect, as what it sent to the store may.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::{Duration, Instant};
use tokio_util::task::AbortOnDropHandle;

use super::carry::MAX_GUEST;
use super::commit::Prepared;
use super::handle::Stopped;
use super::object::LoggedCommit;
use super::peers::{Declined, Peer, PeerError, Peers};
use super::tail::Tail;
use crate::mutants::{self, Mutant};
use crate::state::op::Commit;
use crate::state::{Feature, Folded};
use crate::types::{CommitId, Incarnation, Seq};

/// Among the endpoints of a node, where its peers reach it.
pub const PEER_ENDPOINT: &str = "peer";

/// For how long a race is remembered, and for how long what others write keeps that memory alive.
const CONTEST: Duration = Duration::from_secs(1);

/// What a carrier may take beyond what a PUT of it takes.
const PATIENCE: Duration = Duration::from_millis(500);

/// For how long a commit that is said to stand in the log may not be heard of.
const HEARSAY: Duration = Duration::from_millis(100);

/// The first and the longest time for which a peer that failed is left alone.
const ALONE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// A commit that was handed over.
pub(super) struct Handed {
    pub(super) prepared: Prepared,
    /// What the carrier says, until it has said it.
    answer: Option<AbortOnDropHandle<Result<Seq, PeerError>>>,
    /// When it is taken back.
    pub(super) until: Instant,
}

/// What this node knows of the others that write.
#[derive(Debug, Default)]
pub(super) struct Rivals {
    /// The author of the newest object in the log.
    newest: Option<Incarnation>,
    /// The author of the newest object that is not this node's.
    other: Option<Incarnation>,
    /// Until then it counts that this node lost a race.
    contested: Option<Instant>,
    /// Peers are not asked to carry, and not asked for the log.
    carrying: Shunned,
    telling: Shunned,
}

/// A peer that failed is left alone for a while, longer each time.
#[derive(Debug, Default)]
struct Shunned {
    until: Option<Instant>,
    failures: u32,
}

impl Shunned {
    fn is_shunned(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    fn fail(&mut self, now: Instant) {
        let (first, longest) = ALONE;
        let pause = first
            .saturating_mul(1 << self.failures.min(16))
            .min(longest);
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + pause);
    }

    fn forgive(&mut self) {
        *self = Shunned::default();
    }
}

/// A question for the log, under way.
pub(super) struct Hearing(AbortOnDropHandle<Result<Vec<(Seq, Bytes)>, PeerError>>);

/// Waits for what the carrier says of the oldest commit handed over. Safe to drop.
pub(super) async fn said_of(oldest: Option<&mut Handed>) -> Result<Seq, PeerError> {
    match oldest.and_then(|oldest| oldest.answer.as_mut()) {
        Some(answer) => answer.await.unwrap_or_else(|lost| Err(unreachable(&lost))),
        None => std::future::pending().await,
    }
}

/// Waits for what a peer tells of the log. Safe to drop.
pub(super) async fn heard(hearing: Option<&mut Hearing>) -> Result<Vec<(Seq, Bytes)>, PeerError> {
    match hearing {
        Some(hearing) => (&mut hearing.0)
            .await
            .unwrap_or_else(|lost| Err(unreachable(&lost))),
        None => std::future::pending().await,
    }
}

fn unreachable(why: &dyn std::fmt::Display) -> PeerError {
    PeerError::Unreachable(why.to_string().into())
}

impl Tail {
    /// Lets this node speak to others.
    #[must_use]
    pub fn with_peers(mut self, peers: Arc<dyn Peers>) -> Tail {
        self.peers = Some(peers);
        self
    }

    /// Who takes this node's commits, if it is better not to race.
    pub(super) fn carrier(&self) -> Option<Peer> {
        let now = Instant::now();
        let rivals = &self.rivals;
        let is_contested = rivals.contested.is_some_and(|until| now < until);
        if !is_contested || !self.in_flight.is_empty() || rivals.carrying.is_shunned(now) {
            return None;
        }
        // It must be possible to say which commit the next one follows.
        let is_known = self.state.last_commit_of(self.incarnation).is_some();
        if !is_known && self.handed.is_empty() && !self.is_to_register() {
            return None;
        }
        self.peer(rivals.newest?)
    }

    /// Whether the next commit of this node is its first and registers it, and has lost a race.
    fn is_to_register(&self) -> bool {
        let is_it =
            |prepared: &Prepared| Commit::only_registers(&prepared.commit.ops, self.incarnation);
        self.state.has(Feature::ForwardedRegistrations) && self.resend.front().is_some_and(is_it)
    }

    /// Another node that can be spoken to.
    fn peer(&self, incarnation: Incarnation) -> Option<Peer> {
        self.peers.as_ref()?;
        if incarnation == self.incarnation {
            return None;
        }
        let id = self.state.node_of(incarnation)?;
        let node = self.state.node(id)?;
        Some(Peer {
            incarnation,
            address: node.endpoints().get(PEER_ENDPOINT)?.clone(),
            key: node.peer_key()?.clone(),
        })
    }

    /// Notes that a race was lost.
    pub(super) fn note_contest(&mut self) {
        self.rivals.contested = Some(Instant::now() + CONTEST);
    }

    /// Notes whose object was folded, and what became of the commits in it.
    pub(super) fn note_writers(
        &mut self,
        author: Incarnation,
        folded: &Folded,
        carried: &[(CommitId, Folded)],
    ) {
        let wrote = |author, folded: &Folded| {
            author != self.incarnation && matches!(folded, Folded::Outcomes(ops) if !ops.is_empty())
        };
        let carries = |(id, folded): &(CommitId, Folded)| wrote(id.incarnation, folded);
        let is_disputed = wrote(author, folded) || carried.iter().any(carries);
        // A void commit was sent by somebody who did not know yet that the race was lost.
        if matches!(folded, Folded::Outcomes(_)) {
            if self.rivals.newest != Some(author) {
                self.rivals.newest = Some(author);
                self.rivals.carrying.forgive();
            }
            if author != self.incarnation && self.rivals.other != Some(author) {
                self.rivals.other = Some(author);
                self.rivals.telling.forgive();
                self.hearing = None;
            }
        }
        let now = Instant::now();
        if is_disputed && self.rivals.contested.is_some_and(|until| now < until) {
            self.rivals.contested = Some(now + CONTEST);
        }
    }

    /// When the next commit may be handed over: they are spread over the time that one takes, as those on their way to the
    /// store are. How far apart objects are is the carrier's to say.
    pub(super) fn next_hand_over(&self) -> Instant {
        let most = u32::try_from(self.options.commits_in_flight.max(1)).unwrap_or(u32::MAX);
        match self.last_commit {
            Some(begun) if !self.handed.is_empty() => begun + self.typical_put / most,
            _ => self.proven.at,
        }
    }

    /// Hands the next commit over, if there is anything to commit and there is room.
    pub(super) fn hand_over_next(&mut self, peer: &Peer, now: Instant) -> bool {
        self.decline_guests(Declined::NotWinning);
        if self.handed.len() >= self.options.commits_in_flight.max(1) {
            return false;
        }
        let prepared = match self.next_again() {
            Some(again) => Some(again),
            None if self.next_hand_over() > now => None,
            None => self.prepare_next(),
        };
        let Some(mut prepared) = prepared else {
            return false;
        };
        let before = self
            .handed
            .back()
            .map(|handed| handed.prepared.commit.id.counter);
        let before = before.or_else(|| self.state.last_commit_of(self.incarnation));
        let before = Some(before.unwrap_or(Commit::NOTHING));
        if prepared.commit.follows != before {
            prepared.change(|commit| commit.follows = before);
        }
        if prepared.encoded.object.len() > MAX_GUEST {
            // It goes to the store, when all before it is settled.
            if self.handed.is_empty() {
                self.send(prepared);
                return true;
            }
            self.resend.push_front(prepared);
            return false;
        }
        self.hand_over(prepared, peer);
        true
    }

    fn hand_over(&mut self, mut prepared: Prepared, peer: &Peer) {
        let Some(peers) = self.peers.clone() else {
            return self.resend.push_front(prepared);
        };
        let moment = self.moment();
        prepared.handed.get_or_insert(moment);
        self.metrics.handed_over.inc();
        let (peer, object) = (peer.clone(), prepared.encoded.object.clone());
        let asking = async move { peers.carry(&peer, object).await };
        let answer = AbortOnDropHandle::new(self.env.spawn(asking));
        let patience = PATIENCE + self.options.commit_interval + self.typical_put * 4;
        self.handed.push_back(Handed {
            prepared,
            answer: Some(answer),
            until: moment.at + patience,
        });
    }

    /// Takes in what the carrier says of the oldest commit handed over.
    pub(super) async fn hear_of_handed(
        &mut self,
        said: Result<Seq, PeerError>,
    ) -> Result<(), Stopped> {
        let Some(oldest) = self.handed.front_mut() else {
            return Ok(());
        };
        oldest.answer = None;
        match said {
            Ok(seq) if self.state.seq() < seq => {
                oldest.until = Instant::now() + HEARSAY;
                self.rivals.carrying.forgive();
            }
            // It stands there, and has had no effect: something before it was missing.
            Ok(_) => self.take_back(),
            Err(why) => {
                tracing::debug!(%why, "a commit was not carried");
                let carrier = self.rivals.newest;
                self.take_back();
                if matches!(why, PeerError::Declined(_)) {
                    // Most likely somebody else is ahead now.
                    self.catch_up().await?;
                }
                if self.rivals.newest == carrier {
                    self.rivals.carrying.fail(Instant::now());
                }
            }
        }
        Ok(())
    }

    /// Takes back what was handed over for too long.
    pub(super) async fn take_back_overdue(&mut self) -> Result<(), Stopped> {
        let now = Instant::now();
        let Some(oldest) = self.handed.front().filter(|oldest| oldest.until <= now) else {
            return Ok(());
        };
        let id = oldest.prepared.commit.id;
        if oldest.answer.is_none() {
            // It is in the log, and nobody tells.
            self.catch_up().await?;
        }
        if self
            .handed
            .front()
            .is_some_and(|oldest| oldest.prepared.commit.id == id)
        {
            self.take_back();
            self.rivals.carrying.fail(Instant::now());
        }
        Ok(())
    }

    /// Takes back all that was handed over, to be sent before anything else.
    pub(super) fn take_back(&mut self) {
        self.metrics.taken_back.inc_by(self.handed.len() as u64);
        for handed in self.handed.drain(..).rev() {
            let mut prepared = handed.prepared;
            if mutants::on(Mutant::TakenBackAsNew) {
                self.counter += 1;
                let counter = self.counter;
                prepared.change(|commit| (commit.id.counter, commit.follows) = (counter, None));
            }
            self.resend.push_front(prepared);
        }
    }

    /// Whether somebody else may have stored a commit of which this node does not know what became.
    pub(super) fn is_any_handed(&self) -> bool {
        !self.handed.is_empty() || self.resend.iter().any(|prepared| prepared.handed.is_some())
    }

    /// Tells those who wait for a commit of this node what became of it, if it was found in the log and not by
    /// settling: it was handed over.
    pub(super) fn tell_of_own(
        &mut self,
        seq: Seq,
        (id, is_carried): (CommitId, bool),
        folded: &Folded,
    ) {
        let is_it = |prepared: &Prepared| prepared.commit.id == id;
        match folded {
            // What goes to the next seq.
            Folded::Outcomes(_) if mutants::on(Mutant::LostAnswerIsConflict) => {}
            Folded::Outcomes(_) => {
                let handed = self
                    .handed
                    .iter()
                    .position(|handed| is_it(&handed.prepared));
                let handed = handed.and_then(|at| self.handed.remove(at));
                let prepared = handed.map(|handed| handed.prepared).or_else(|| {
                    let at = self.resend.iter().position(is_it)?;
                    self.resend.remove(at)
                });
                let Some(prepared) = prepared else { return };
                let stands_since = match is_carried {
                    true => prepared.handed,
                    false => prepared.sent,
                };
                if let Some(moment) = stands_since {
                    self.note_proof(moment);
                }
                self.finish(prepared, seq, folded.clone());
            }
            Folded::Void if self.handed.iter().any(|handed| is_it(&handed.prepared)) => {
                self.take_back();
            }
            Folded::Void | Folded::Duplicate => {}
        }
    }

    /// Asks the newest other author for what comes next in the log, if somebody here wants to know.
    pub(super) fn listen(&mut self) {
        let wanted = self.is_followed() || !self.handed.is_empty();
        if !wanted || !self.in_flight.is_empty() {
            self.hearing = None;
            return;
        }
        if self.hearing.is_some() || self.rivals.telling.is_shunned(Instant::now()) {
            return;
        }
        let peer = self.rivals.other.and_then(|other| self.peer(other));
        let (Some(peer), Some(peers)) = (peer, self.peers.clone()) else {
            return;
        };
        let after = self.state.seq();
        let asking = async move { peers.log_after(&peer, after).await };
        let asking = AbortOnDropHandle::new(self.env.spawn(asking));
        self.hearing = Some(Hearing(asking));
    }

    /// Folds what a peer tells of the log.
    pub(super) async fn hear(
        &mut self,
        heard: Result<Vec<(Seq, Bytes)>, PeerError>,
    ) -> Result<(), Stopped> {
        self.hearing = None;
        let told = heard.and_then(|objects| self.fold_heard(&objects));
        match told {
            Ok(()) => self.rivals.telling.forgive(),
            Err(why) => {
                tracing::debug!(%why, "a peer does not tell of the log");
                self.rivals.telling.fail(Instant::now());
                if matches!(why, PeerError::Declined(Declined::Forgotten)) {
                    self.catch_up().await?;
                }
            }
        }
        // At once, for who is told need not look.
        self.listen();
        Ok(())
    }

    fn fold_heard(&mut self, objects: &[(Seq, Bytes)]) -> Result<(), PeerError> {
        for (seq, object) in objects {
            // What this node has folded meanwhile, or what does not come next.
            if *seq != self.state.seq().next() {
                continue;
            }
            let len = object.len() as u64;
            const NAME: &str = "a commit that a peer tells of";
            let logged = LoggedCommit::decode(NAME, *seq, object, len)
                .and_then(|logged| logged.at_level(NAME, self.options.level))
                .map_err(|error| unreachable(&error))?;
            if logged.whole.is_none() {
                return Err(unreachable(&"a commit came with damaged data"));
            }
            self.fold(&logged);
            self.metrics.followed.inc();
            self.metrics.heard.inc();
            // Whoever writes meets what others write. So nothing need be looked for while it tells.
            self.looked = Instant::now();
            self.rest = self.options.follow_interval;
        }
        Ok(())
    }
}
