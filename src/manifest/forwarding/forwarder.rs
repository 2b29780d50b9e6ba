//! The forwarder's side: whether this node's commits are forwarded, to whom, and what became of those that were.

use tokio::time::{Duration, Instant};
use tokio_util::task::AbortOnDropHandle;

use super::contact::Contact;
use super::{Forwarding, Route};
use crate::env::Env;
use crate::manifest::freshness::Moment;
use crate::manifest::peers::PeerError;
use crate::manifest::prepared::{LogView, Prepared};
use crate::state::op::Commit;
use crate::state::{Feature, Folded, State};
use crate::types::{CommitId, Incarnation, Seq};

/// For how long a race is remembered, and for how long what others write keeps that memory alive.
const CONTEST: Duration = Duration::from_secs(1);

/// How long a receiver may take, beyond a few times what a PUT takes.
const RECEIVER_TIMEOUT: Duration = Duration::from_millis(500);

/// For how long a commit that was acknowledged may not be seen in the log.
const ACKNOWLEDGED_TIMEOUT: Duration = Duration::from_millis(100);

/// A commit that this node forwarded.
pub(super) struct Forwarded {
    prepared: Prepared,
    /// What the receiver says, until it has said it.
    answer: Option<AbortOnDropHandle<Result<Seq, PeerError>>>,
    /// When it is recalled.
    deadline: Instant,
}

impl Forwarded {
    fn id(&self) -> CommitId {
        self.prepared.commit.id
    }
}

/// The oldest forwarded commit, if its time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::manifest) struct Overdue {
    pub(in crate::manifest) id: CommitId,
    /// Its receiver says that it is in the log.
    pub(in crate::manifest) is_acknowledged: bool,
}

/// What is to be done when the receiver has said what became of the oldest forwarded commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::manifest) enum Verdict {
    /// Nothing: it is in the log, where this node has not read yet.
    Wait,
    /// Recall all: it stands in the log and had no effect, since a commit before it was missing there.
    Recall,
    /// Recall all: this receiver did not store it. Then [avoid](Forwarding::avoid) it.
    RecallFrom {
        receiver: Option<Incarnation>,
        /// It declined. Most likely another node is ahead now: the log tells.
        is_declined: bool,
    },
}

impl Forwarding {
    /// Where the next commit of this node goes. `again` is the first of those that are to be sent again.
    pub(in crate::manifest) fn route(
        &self,
        now: Instant,
        log: LogView<'_>,
        again: Option<&Prepared>,
    ) -> Route {
        match self.receiver(now, log, again) {
            Some(receiver) => Route::Forward(receiver),
            None => Route::Store,
        }
    }

    /// Who stores this node's commits, if it is better not to race.
    fn receiver(
        &self,
        now: Instant,
        log: LogView<'_>,
        again: Option<&Prepared>,
    ) -> Option<Contact> {
        if !self.is_contested(now) || log.is_storing() || self.avoided.is_active(now) {
            return None;
        }
        // It must be possible to say which commit the next one follows.
        let is_known = log.state.last_commit_of(self.own).is_some();
        if !is_known && self.forwarded.is_empty() && !self.is_to_register(log.state, again) {
            return None;
        }
        self.contact(log.state, self.newest?)
    }

    fn is_contested(&self, now: Instant) -> bool {
        self.contested_until.is_some_and(|until| now < until)
    }

    /// Whether the next commit of this node is its first and registers it, and has lost a race.
    fn is_to_register(&self, state: &State, again: Option<&Prepared>) -> bool {
        let is_it = |prepared: &Prepared| Commit::only_registers(&prepared.commit.ops, self.own);
        state.has(Feature::ForwardedRegistrations) && again.is_some_and(is_it)
    }

    /// Notes that this node lost a race.
    pub(in crate::manifest) fn note_lost_race(&mut self, now: Instant) {
        self.contested_until = Some(now + CONTEST);
    }

    /// Notes whose object was folded, and what became of it and of the forwarded commits in it.
    pub(in crate::manifest) fn note_writers(
        &mut self,
        now: Instant,
        writer: Incarnation,
        folded: &Folded,
        forwarded: &[(CommitId, Folded)],
    ) {
        let has_effect = |folded: &Folded| matches!(folded, Folded::Outcomes(_));
        let wrote = |writer, folded: &Folded| {
            writer != self.own && matches!(folded, Folded::Outcomes(ops) if !ops.is_empty())
        };
        let is_disputed = wrote(writer, folded)
            || forwarded
                .iter()
                .any(|(id, folded)| wrote(id.incarnation, folded));
        // A void commit was sent by somebody who did not know yet that the race was lost.
        if has_effect(folded) {
            if self.newest != Some(writer) {
                self.newest = Some(writer);
                self.avoided.forgive();
            }
            if writer != self.own {
                self.listener.note_writer(writer);
            }
        }
        if is_disputed && self.is_contested(now) {
            self.contested_until = Some(now + CONTEST);
        }
    }

    /// When the next commit may be forwarded; `None` if at once. They are spread over the time that a PUT takes, as
    /// those on their way to the store are. How far apart objects are is the receiver's to say.
    pub(in crate::manifest) fn slot(
        &self,
        last_commit: Option<Instant>,
        typical_put: Duration,
    ) -> Option<Instant> {
        let most = u32::try_from(self.max_in_flight).unwrap_or(u32::MAX);
        let last = last_commit.filter(|_| !self.forwarded.is_empty());
        last.map(|begun| begun + typical_put / most)
    }

    /// Whether another commit may be forwarded before the oldest is settled.
    pub(in crate::manifest) fn may_forward(&self) -> bool {
        self.forwarded.len() < self.max_in_flight
    }

    /// The count of the commit that the next one follows.
    pub(in crate::manifest) fn last_before(&self, state: &State) -> u64 {
        let newest = self.forwarded.back();
        newest
            .map(|forwarded| forwarded.id().counter)
            .or_else(|| state.last_commit_of(self.own))
            .unwrap_or(Commit::NOTHING)
    }

    /// Forwards a commit. It is recalled when nothing is seen of it for much longer than an object of the receiver
    /// takes, which is `usual` from one commit to the next.
    pub(in crate::manifest) fn forward(
        &mut self,
        env: &Env,
        mut prepared: Prepared,
        to: &Contact,
        moment: Moment,
        usual: Duration,
    ) {
        prepared.forwarded.get_or_insert(moment);
        let (to, object) = (to.clone(), prepared.encoded.object.clone());
        let asking = async move { to.forward(object).await };
        self.forwarded.push_back(Forwarded {
            prepared,
            answer: Some(AbortOnDropHandle::new(env.spawn(asking))),
            deadline: moment.at + RECEIVER_TIMEOUT + usual,
        });
    }

    /// Judges what the receiver says of the oldest forwarded commit. `folded` is how far this node has folded the log.
    pub(in crate::manifest) fn note_answer(
        &mut self,
        now: Instant,
        folded: Seq,
        answer: &Result<Seq, PeerError>,
    ) -> Verdict {
        let Some(oldest) = self.forwarded.front_mut() else {
            return Verdict::Wait;
        };
        oldest.answer = None;
        match answer {
            Ok(seq) if folded < *seq => {
                oldest.deadline = now + ACKNOWLEDGED_TIMEOUT;
                self.avoided.forgive();
                Verdict::Wait
            }
            Ok(_) => Verdict::Recall,
            Err(why) => Verdict::RecallFrom {
                receiver: self.newest,
                is_declined: matches!(why, PeerError::Declined(_)),
            },
        }
    }

    /// The oldest forwarded commit, if its time is over.
    pub(in crate::manifest) fn overdue(&self, now: Instant) -> Option<Overdue> {
        let oldest = self.forwarded.front();
        let oldest = oldest.filter(|oldest| oldest.deadline <= now)?;
        Some(Overdue {
            id: oldest.id(),
            is_acknowledged: oldest.answer.is_none(),
        })
    }

    /// When the oldest forwarded commit is overdue.
    pub(in crate::manifest) fn deadline(&self) -> Option<Instant> {
        self.forwarded.front().map(|oldest| oldest.deadline)
    }

    /// Whether this is the oldest forwarded commit.
    pub(in crate::manifest) fn is_oldest(&self, id: CommitId) -> bool {
        self.forwarded
            .front()
            .is_some_and(|oldest| oldest.id() == id)
    }

    /// Forwards nothing to that receiver for a while, if it is still the one; longer each time.
    pub(in crate::manifest) fn avoid(&mut self, receiver: Option<Incarnation>, now: Instant) {
        if self.newest == receiver {
            self.avoided.fail(now);
        }
    }

    /// The incarnation that wrote the newest object in the log.
    pub(in crate::manifest) fn newest(&self) -> Option<Incarnation> {
        self.newest
    }

    /// Whether any forwarded commit is not settled.
    pub(in crate::manifest) fn has_forwarded(&self) -> bool {
        !self.forwarded.is_empty()
    }

    /// Whether this commit is forwarded and not settled.
    pub(in crate::manifest) fn is_forwarded(&self, id: CommitId) -> bool {
        self.forwarded.iter().any(|forwarded| forwarded.id() == id)
    }

    /// Takes out a forwarded commit that was seen in the log.
    pub(in crate::manifest) fn take_forwarded(&mut self, id: CommitId) -> Option<Prepared> {
        let is_it = |forwarded: &Forwarded| forwarded.id() == id;
        let at = self.forwarded.iter().position(is_it)?;
        Some(self.forwarded.remove(at)?.prepared)
    }

    /// Recalls all forwarded commits, oldest first: nobody waits for what their receivers say any more.
    pub(in crate::manifest) fn recall(&mut self) -> Vec<Prepared> {
        let recalled = self.forwarded.drain(..);
        recalled.map(|forwarded| forwarded.prepared).collect()
    }
}

/// Waits for what the receiver says of the oldest forwarded commit. Safe to drop.
pub(super) async fn answer_of(oldest: Option<&mut Forwarded>) -> Result<Seq, PeerError> {
    match oldest.and_then(|oldest| oldest.answer.as_mut()) {
        Some(answer) => answer
            .await
            .unwrap_or_else(|lost| Err(PeerError::unreachable(&lost))),
        None => std::future::pending().await,
    }
}
