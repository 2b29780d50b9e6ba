//! The task that owns the fold.
//!
//! # What may be sent, and what leads out of each state
//!
//! One state of the task decides whether its commits go to the store, and [`Tail::may_send`] is where it is asked.
//!
//! * **The end was seen** ([`LogEnd::Seen`]): the state is the fold of the log up to a seq at which nothing stood once,
//!   or at which another's commit was met. A commit may be created behind it, or forwarded.
//! * **The end is unseen** ([`LogEnd::Unseen`]): the task has started over from a snapshot (`truncated.rs`), and has
//!   not read the log behind that to its end. A commit may be missing there, and its name is free: whatever this node
//!   created at it would split the log. Nothing goes to the store, nothing is on its way there, and what is handed in
//!   waits. It may still be forwarded: the node that stores it has seen the end.
//!
//! Only [`Tail::catch_up`] leads from the second to the first, and it halts the fold if a commit is missing. It must
//! not depend on anybody's asking: a node that only writes asks nothing. So **while the end is unseen the task looks
//! for it by itself**, whenever nothing is forwarded, and again after each failure, with a pause that grows. It looks
//! in the loop and not in a loop of its own: in between it takes what is handed in, watches the cluster, and ends at
//! `stop` if nothing waits to be committed. The one who dies in this state has sent nothing, and the next start reads
//! the log to its end anyway.
//!
//! Commits that are forwarded keep the task from looking (`is_idle`); each of them ends by an answer, by being seen in
//! the log, or by its deadline ([`Tail::recall_overdue`]), and is then to be sent again, which needs the end.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::FutureExt;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use super::cluster::Watch;
use super::divergence::{Divergence, Kept};
use super::due::Replay;
use super::forwarding::{Forwarding, News, Route};
use super::freshness::Freshness;
use super::handle::{CommitSource, Manifest, Message, Stopped, Submission, refuse};
use super::metrics::ManifestMetrics;
use super::object::LoggedCommit;
use super::options::ManifestOptions;
use super::peers::Declined;
use super::prepared::{Prepared, Sent, answer_of};
use super::published::Publisher;
use crate::env::Env;
use crate::rules::{Rule, holds};
use crate::state::{Folded, State};
use crate::store::{Created, Store, StoreError};
use crate::types::{CommitId, Incarnation, Seq};

/// Is handed every commit object that this node wrote or read as a whole, before its state is published:
/// so what consumers of the tail read next is in the cache.
pub type WriteThrough = Arc<dyn Fn(Seq, &Bytes) + Send + Sync>;

/// The owner of the fold. Drive it with [`Tail::run`].
pub struct Tail {
    pub(super) store: Store,
    pub(super) env: Env,
    pub(super) options: ManifestOptions,
    pub(super) metrics: ManifestMetrics,
    pub(super) write_through: WriteThrough,
    pub(super) incarnation: Incarnation,
    /// How many commits this incarnation has made.
    pub(super) counter: u64,
    pub(super) state: State,
    /// Whether the log behind the state was read to its end.
    pub(super) end: LogEnd,
    pub(super) published: Publisher,
    pub(super) mailbox: mpsc::Receiver<Message>,
    pub(super) manifest: Manifest,
    /// Handed in, not yet in a commit.
    pub(super) waiting: VecDeque<Submission>,
    /// Commits on their way to successive seqs, the first of them to the one after the state's.
    pub(super) in_flight: VecDeque<Sent>,
    /// Commits that lost a race, or were sent behind one that did, in the order in which they are to be sent again.
    /// Before anything that waits.
    pub(super) resend: VecDeque<Prepared>,
    /// Who else writes, and who stores whose commits.
    pub(super) forwarding: Forwarding,
    /// Commits of this node folded since the last one of another.
    pub(super) undisturbed: usize,
    /// How long the PUT of a commit takes, smoothed.
    pub(super) typical_put: Duration,
    /// What has shown that the state is the newest, and who wants to know.
    pub(super) freshness: Freshness,
    /// Whether the store is still that of the cluster.
    pub(super) watch: Watch,
    /// When the last commit was begun.
    pub(super) last_commit: Option<Instant>,
    /// Races lost in a row.
    pub(super) losses: u32,
    /// Its one permit is held while a snapshot is taken.
    pub(super) snapshots: Arc<Semaphore>,
    /// The state of which a snapshot was last tried, whatever became of it.
    pub(super) snapshot_tried: Seq,
    /// What a start would have to fold by now.
    pub(super) replay: Replay,
    /// The states of which a snapshot may be announced.
    pub(super) kept: Kept,
    /// Whether it has shown that this node's state is not that of the log: it must not go on.
    pub(super) divergence: Divergence,
}

/// Whether the log behind the state was read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogEnd {
    /// It was, or has been followed since it was.
    Seen,
    /// The state is that of a snapshot, behind which a commit may be missing. So many looks have failed in a row.
    Unseen { failures: u32 },
}

impl LogEnd {
    pub(super) fn is_unseen(self) -> bool {
        self != LogEnd::Seen
    }

    /// How many looks for the end have failed in a row.
    pub(super) fn failures(self) -> u32 {
        match self {
            LogEnd::Seen => 0,
            LogEnd::Unseen { failures } => failures,
        }
    }
}

/// What ended a rest.
enum Woken {
    Answered(Result<Created, StoreError>),
    Heard(News),
    Asked(Option<Message>),
    Nudged,
}

/// How many requests to commit are taken from the mailbox before the next commit is made.
pub(super) const MAX_WAITING: usize = 4096;

impl Tail {
    /// Commits and follows until `stop`, then commits what was handed in before, and ends.
    ///
    /// # Errors
    ///
    /// [`Stopped::Halted`] when the log holds something that cannot be folded, or when folding panics: all who wait are
    /// told, and nothing is folded on top of what may be half a commit.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Stopped> {
        let work = AssertUnwindSafe(self.work(&stop)).catch_unwind();
        let ended = work.await.unwrap_or_else(|_| {
            let what = "the task that writes and follows the log panicked; restart the node, and report this as a bug \
                 in Weir";
            Err(Stopped::Halted(what.into()))
        });
        let reason = ended.clone().err().unwrap_or(Stopped::Stopping);
        // Set first: whoever finds the mailbox closed asks why.
        let _ = self.manifest.shared.stopped.set(reason.clone());
        self.mailbox.close();
        self.receive();
        self.forwarding.decline_received(Declined::Stopping);
        refuse(self.unsettled(), &reason);
        refuse(self.waiting.drain(..).collect(), &reason);
        if let Some(source) = self.source() {
            source.ended(&reason);
        }
        ended
    }

    /// Who gathers appends, while somebody else holds it.
    pub(super) fn source(&self) -> Option<Arc<dyn CommitSource>> {
        self.manifest.shared.source.get()?.upgrade()
    }

    async fn work(&mut self, stop: &CancellationToken) -> Result<(), Stopped> {
        loop {
            self.check_diverged()?;
            self.receive();
            self.watch_cluster(stop).await;
            self.recall_overdue().await?;
            let now = Instant::now();
            if self.send_next(now) {
                continue;
            }
            self.freshness.drop_abandoned();
            // A commit on its way will show the tail by itself.
            if self.is_idle() {
                let is_over = self.is_over(stop);
                if self.is_look_due(now) || (self.end.is_unseen() && !is_over) {
                    self.catch_up().await?;
                    self.answer_fresh()?;
                    continue;
                }
                if is_over {
                    return Ok(());
                }
            }
            self.listen();
            self.rest(stop).await?;
        }
    }

    /// Whether the task is to end, and nothing is left to be committed before.
    fn is_over(&mut self, stop: &CancellationToken) -> bool {
        if !stop.is_cancelled() {
            return false;
        }
        if self.end.is_unseen() {
            // Nothing is sent, so nobody has looked what was gathered.
            self.gather();
        }
        self.waiting.is_empty() && self.resend.is_empty()
    }

    /// Whether somebody wants to know what is new in the log.
    fn is_look_due(&self, now: Instant) -> bool {
        self.freshness.is_asked(now) || (self.is_followed() && self.probe_due() <= now)
    }

    /// Whether nothing of this node is on its way into the log.
    fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && !self.forwarding.has_forwarded()
    }

    /// Takes what is in the mailbox, without waiting.
    fn receive(&mut self) {
        while self.waiting.len() < MAX_WAITING {
            match self.mailbox.try_recv() {
                Ok(message) => self.take(message),
                Err(_) => return,
            }
        }
    }

    pub(super) fn take(&mut self, message: Message) {
        match message {
            Message::Commit(submission) => self.waiting.push_back(submission),
            Message::Fresh(question) => {
                if let Some(question) = self.freshness.ask(question) {
                    self.publish_proof();
                    let _ = question.reply.send(self.published.latest());
                }
            }
            Message::Admit(received) => {
                let route = self.route();
                self.forwarding.admit(*received, self.options.level, &route);
            }
        }
    }

    /// Waits until there may be something to do, and settles the oldest commit on its way when it is answered.
    async fn rest(&mut self, stop: &CancellationToken) -> Result<(), Stopped> {
        let shared = self.manifest.shared.clone();
        let now = Instant::now();
        let slot = match self.route() {
            Route::Forward(_) => self.forward_slot(),
            Route::Store => self.slot().filter(|_| self.may_send()),
        };
        let slot = slot.filter(|slot| *slot > now);
        let is_idle = self.is_idle();
        let overdue = self.forwarding.deadline();
        let probe = (is_idle && self.is_followed()).then(|| self.probe_due());
        let asked = self.freshness.next_due().filter(|_| is_idle);
        let wake = [slot, probe, asked, overdue].into_iter().flatten().min();
        let takes = self.waiting.len() < MAX_WAITING;
        let timer = async {
            match wake {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        // In this order, and not in one drawn by lot: a simulation repeats itself.
        let woken = tokio::select! {
            biased;
            answer = answer_of(self.in_flight.front_mut()) => Woken::Answered(answer),
            news = self.forwarding.news() => Woken::Heard(news),
            message = self.mailbox.recv(), if takes => Woken::Asked(message),
            () = shared.nudged.notified() => Woken::Nudged,
            () = timer => Woken::Nudged,
            () = stop.cancelled(), if !stop.is_cancelled() => Woken::Nudged,
        };
        match woken {
            Woken::Answered(answer) => {
                self.settle_oldest(answer).await?;
                self.answer_fresh()?;
            }
            Woken::Heard(news) => {
                match news {
                    News::Told(told) => self.hear(told).await?,
                    News::Answer(answer) => self.hear_of_forwarded(answer).await?,
                }
                self.answer_fresh()?;
            }
            Woken::Asked(Some(message)) => self.take(message),
            Woken::Asked(None) | Woken::Nudged => {}
        }
        Ok(())
    }

    /// When the follower looks again: not so soon while somebody tells it what is new.
    fn probe_due(&self) -> Instant {
        self.freshness.next_look(self.forwarding.is_listening())
    }

    pub(super) fn is_followed(&self) -> bool {
        self.manifest.shared.followers.load(Ordering::Relaxed) > 0
    }

    /// Makes the last proof known, and answers those who asked before it. What was read before may have shown that the
    /// state is not that of the log: then nobody is answered.
    pub(super) fn answer_fresh(&mut self) -> Result<(), Stopped> {
        self.check_diverged()?;
        self.publish_proof();
        for question in self.freshness.answered() {
            // Whoever asked may be gone.
            let _ = question.reply.send(self.published.latest());
        }
        Ok(())
    }

    /// Folds the commit at the next seq and publishes the state.
    pub(super) fn fold(&mut self, logged: &LoggedCommit) -> Folded {
        if let Some(object) = &logged.whole {
            (self.write_through)(logged.seq, object);
        }
        let incarnation = logged.commit.id.incarnation;
        let mut forwarded = Vec::with_capacity(logged.commit.forwarded.len());
        let (seq, commit) = (logged.seq, &logged.commit);
        let folded = self
            .state
            .apply_each(seq, commit, logged.data_start, |id, folded| {
                forwarded.push((id, folded));
            });
        self.replay.note(seq, commit, self.state.last_snapshot());
        self.note_states(commit, &folded, &forwarded);
        self.undisturbed = if incarnation == self.incarnation {
            self.undisturbed.saturating_add(1)
        } else {
            0
        };
        self.metrics
            .seq
            .set(i64::try_from(logged.seq.0).unwrap_or(i64::MAX));
        if self.forwarding.has_peers() {
            let mut recent = self.manifest.shared.recent();
            recent.note(logged.seq, logged.whole.as_ref());
        }
        let now = self.env.boot();
        self.manifest.shared.clock.folded(self.state.time());
        self.note_heard(now, (commit.id, &folded), &forwarded);
        self.published.send(self.state.clone());
        self.manifest.shared.marks().note(now, &self.state);
        self.forwarding
            .note_writers(Instant::now(), incarnation, &folded, &forwarded);
        self.note_repair(seq, incarnation, &folded);
        let object = std::iter::once((commit.id, false, &folded));
        let forwarded = forwarded.iter().map(|(id, folded)| (*id, true, folded));
        for (id, is_forwarded, folded) in object.chain(forwarded) {
            if id.incarnation == self.incarnation {
                self.tell_of_own(seq, (id, is_forwarded), folded);
            }
        }
        folded
    }

    /// A commit of a repair takes effect, or is void: because it follows one that this node has folded as it was before
    /// the repair replaced it. From there on the state is another one than that of the log.
    fn note_repair(&mut self, seq: Seq, incarnation: Incarnation, folded: &Folded) {
        if !incarnation.is_of_repair() || !holds(Rule::SealedOutNodesHalt) {
            return;
        }
        if *folded == Folded::Void {
            let reason = format!(
                "the log was repaired while this node was away: what it has folded was replaced before commit {seq}. \
                 Restart it, so that it begins with the log as it is now"
            );
            self.divergence.note(reason);
        } else {
            tracing::info!(%seq, "a repair of the log was folded");
        }
    }

    /// Fails if this node's state is not that of the log.
    ///
    /// # Errors
    ///
    /// [`Stopped::Halted`].
    pub(super) fn check_diverged(&self) -> Result<(), Stopped> {
        let diverged = self.divergence.reason().cloned();
        diverged.map_or(Ok(()), |reason| Err(Stopped::Halted(reason)))
    }

    /// Notes whose commits took effect, for leases.
    fn note_heard(
        &self,
        now: Duration,
        own: (CommitId, &Folded),
        forwarded: &[(CommitId, Folded)],
    ) {
        let forwarded = forwarded.iter().map(|(id, folded)| (*id, folded));
        let mut heard = self.manifest.shared.heard();
        for (id, folded) in std::iter::once(own).chain(forwarded) {
            if matches!(folded, Folded::Outcomes(_)) {
                heard.folded(id, now, &self.state);
            }
        }
    }

    pub(super) fn halt(&self, error: &dyn std::error::Error) -> Stopped {
        tracing::error!(%error, seq = %self.state.seq().next(), "cannot apply the log any further; run `weir fsck`");
        Stopped::Halted(error.to_string().into())
    }
}
