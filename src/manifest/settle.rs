//! Settling: what became of a commit that was sent.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::{Duration, Instant};

use super::forwarding::Route;
use super::freshness::Moment;
use super::handle::{Committed, Stopped, Submission, refuse};
use super::log::{self, LogError};
use super::object::LoggedCommit;
use super::prepared::{Prepared, Sent, put};
use super::tail::{MAX_WAITING, Tail};
use crate::rules::{Rule, holds};
use crate::state::op::{Commit, Op};
use crate::state::{Folded, Level, State};
use crate::store::{Created, RequestKind, Store, StoreError};
use crate::types::{CommitId, Seq};

/// The longest pause between two attempts of a node that keeps losing races.
const MAX_LOSING_PAUSE: Duration = Duration::from_millis(100);

/// What stands at the seq at which a commit was tried.
enum Stands {
    /// Our commit; as it was read, if it was: it may have been sent there before, with others beside it.
    Ours(Option<Box<LoggedCommit>>),
    Another(Box<LoggedCommit>),
    Nothing,
}

impl Tail {
    /// Finds out what became of the oldest commit on its way, however many attempts and readings that takes, and folds
    /// what stands there: that commit, whose waiters are told, or another, and then it goes to a later seq, and so does
    /// all that was sent behind it.
    pub(super) async fn settle_oldest(
        &mut self,
        answer: Result<Created, StoreError>,
    ) -> Result<(), Stopped> {
        let Some(mut oldest) = self.in_flight.pop_front() else {
            return Ok(());
        };
        match self.find_out(&mut oldest, answer).await {
            Ok(Some(Stands::Another(logged))) => self.lose(oldest.prepared, &logged).await,
            Ok(Some(Stands::Ours(read))) => {
                self.win(oldest, read.map(|read| *read));
                Ok(())
            }
            // Not returned.
            Ok(Some(Stands::Nothing)) => Ok(()),
            Ok(None) => {
                // The log was truncated beyond where it was tried: nobody can tell any more what became of it.
                let behind = self.unsettled();
                let all = oldest.prepared.batch.into_iter().chain(behind);
                refuse(all.collect(), &Stopped::OutcomeUnknown);
                self.start_over().await?;
                self.catch_up().await
            }
            Err(stopped) => {
                refuse(oldest.prepared.batch, &stopped);
                Err(stopped)
            }
        }
    }

    /// What stands at the seq of the commit, which is the next one; `None` if nothing that the store says of it can be
    /// believed. Repeats the commit there for as long as nothing stands.
    async fn find_out(
        &mut self,
        tried: &mut Sent,
        mut answer: Result<Created, StoreError>,
    ) -> Result<Option<Stands>, Stopped> {
        let mut failures = 0;
        let seq = tried.seq;
        loop {
            match answer {
                Ok(Created::Created) => {
                    self.note_put(tried.sent.at.elapsed());
                    let left_behind = self.is_left_behind_for_sure().await;
                    return Ok((!left_behind).then_some(Stands::Ours(None)));
                }
                Ok(Created::Exists) if !holds(Rule::ExistingCommitsAreIdentified) => {
                    return Ok(Some(Stands::Ours(None)));
                }
                Ok(Created::Exists) => self.note_put(tried.sent.at.elapsed()),
                Ok(Created::Unknown(_)) if !holds(Rule::UnsettledSeqsAreNotReused) => {
                    let id = self.next_id();
                    tried.prepared.change(|commit| commit.id = id);
                    answer = put(&self.store, seq, &tried.prepared.encoded).await;
                    continue;
                }
                Ok(Created::Unknown(cause)) => {
                    self.metrics.unknown.inc();
                    tracing::debug!(%seq, %cause, "the outcome of a commit is unknown; reading");
                }
                Err(error) => {
                    let pause = self.note_failure(&error, &mut failures, "commit");
                    self.rest_answering(pause, seq, tried.prepared.commit.id)
                        .await?;
                }
            }
            let stands = self.read_settled(seq, tried.prepared.commit.id).await;
            if self.is_left_behind_for_sure().await {
                return Ok(None);
            }
            match stands? {
                Stands::Nothing => {}
                stands => return Ok(Some(stands)),
            }
            let pause = self.pause(failures);
            failures = failures.saturating_add(1);
            self.rest_answering(pause, seq, tried.prepared.commit.id)
                .await?;
            answer = put(&self.store, seq, &tried.prepared.encoded).await;
        }
    }

    /// Reads what stands at `seq`, for as long as it takes to know.
    async fn read_settled(&mut self, seq: Seq, ours: CommitId) -> Result<Stands, Stopped> {
        let mut failures = 0;
        loop {
            let (known, limit) = (self.options.level, self.read_limit());
            match look(&self.store, (known, limit), seq, ours).await {
                Ok(stands) => return Ok(stands),
                Err(LogError::Object(error)) => return Err(self.halt(&error)),
                Err(LogError::Store(error)) => {
                    self.pause_after(&error, &mut failures, "settle a commit")
                        .await;
                }
            }
        }
    }

    /// Rests before the commit is repeated. A store that takes no commits, because it is full or refuses them, may
    /// still be read, and so may what is in it: who asks for a fresh state is answered meanwhile, if nothing stands
    /// where the commit was tried. If something does, the rest is over.
    async fn rest_answering(
        &mut self,
        pause: Duration,
        seq: Seq,
        ours: CommitId,
    ) -> Result<(), Stopped> {
        let until = Instant::now() + pause;
        while Instant::now() < until {
            self.freshness.drop_abandoned();
            if self.freshness.is_asked(Instant::now()) {
                let sent = Moment::now(&self.env);
                let (known, limit) = (self.options.level, self.read_limit());
                match look(&self.store, (known, limit), seq, ours).await {
                    Ok(Stands::Nothing) if !self.is_left_behind_for_sure().await => {
                        self.freshness.prove(sent);
                        self.answer_fresh()?;
                        continue;
                    }
                    Ok(_) => return Ok(()),
                    // It is as deaf to readers.
                    Err(_) => break,
                }
            }
            let due = self.freshness.next_due();
            let due = due.map_or(until, |due| due.min(until));
            let takes = self.waiting.len() < MAX_WAITING;
            tokio::select! {
                biased;
                message = self.mailbox.recv(), if takes => match message {
                    Some(message) => self.take(message),
                    None => break,
                },
                () = tokio::time::sleep_until(due) => {}
            }
        }
        tokio::time::sleep_until(until).await;
        Ok(())
    }

    /// Folds our own commit, of which nothing needs to be read unless it was, and tells those who wait.
    fn win(&mut self, tried: Sent, read: Option<LoggedCommit>) {
        let Sent {
            mut prepared,
            seq,
            sent,
            ..
        } = tried;
        // One that stands there already may do so since it was sent first, and much may stand behind it.
        let stands_since = read.as_ref().and(prepared.sent).unwrap_or(sent);
        self.note_proof(stands_since);
        let was_sent = |read: &LoggedCommit| read.commit != prepared.commit;
        let logged = read.filter(was_sent).unwrap_or_else(|| LoggedCommit {
            seq,
            commit: prepared.commit.clone(),
            data_start: prepared.encoded.data_start,
            object_len: prepared.encoded.object.len() as u64,
            whole: Some(prepared.encoded.object.clone()),
        });
        let folded = self.fold(&logged);
        let received = prepared.received.len() as u64;
        self.metrics.received.inc_by(received);
        if logged.commit.forwarded == prepared.commit.forwarded {
            prepared.acknowledge(seq);
        }
        if folded == Folded::Void {
            return self.renew(prepared);
        }
        self.finish(prepared, seq, folded);
        self.snapshot_if_due();
    }

    /// Tells those who wait for a commit that was folded.
    pub(super) fn finish(&mut self, prepared: Prepared, seq: Seq, folded: Folded) {
        self.note_race(prepared.lost);
        self.metrics.commits.inc();
        let took = prepared.begun.elapsed();
        self.metrics.duration.observe(took.as_secs_f64());
        self.hand_out(prepared.batch, (seq, folded));
    }

    /// A void commit that was the oldest on its way: what it follows was folded, and then so many others that the fold
    /// has forgotten who made it. So it goes again as another commit that follows none, and all behind it go as others
    /// too, each following the new id of the one before it: what is sent behind one that loses its race must still be
    /// void. Of the old copies, wherever they stand or are yet to stand, none takes effect: each says that it follows
    /// an old id, which is never again the last of this incarnation.
    fn renew(&mut self, void: Prepared) {
        self.send_again(void);
        let mut again = std::mem::take(&mut self.resend);
        let mut before = None;
        for prepared in &mut again {
            let id = self.next_id();
            prepared.change(|commit| (commit.id, commit.follows) = (id, before));
            before = Some(id.counter).filter(|_| holds(Rule::RenewedCommitsStayChained));
        }
        self.resend = again;
    }

    /// Puts the commit, and all that was sent behind it, before what waits to be sent. The commits of other nodes in
    /// their objects wait for the next one.
    fn send_again(&mut self, first: Prepared) {
        self.undisturbed = 0;
        self.metrics.withdrawn.inc_by(self.in_flight.len() as u64);
        let behind = self.in_flight.drain(..).map(|sent| sent.prepared);
        let unsent = std::mem::take(&mut self.resend);
        let all = std::iter::once(first).chain(behind).chain(unsent);
        self.resend = all.collect();
        let again = self.resend.iter_mut();
        let received = again.flat_map(Prepared::detach).collect();
        self.forwarding.return_received(received);
    }

    /// Folds the commit that was faster; ours may be in its object, forwarded. Else ours is the next to be sent, before
    /// those behind it.
    async fn lose(&mut self, mut lost: Prepared, faster: &LoggedCommit) -> Result<(), Stopped> {
        lost.lost = lost.lost.saturating_add(1);
        let races = lost.lost;
        let id = lost.commit.id;
        if !holds(Rule::RetriedCommitsKeepSequences) {
            lost.change(forget_producers);
        }
        self.send_again(lost);
        self.fold(faster);
        if faster.commit.id.incarnation != self.incarnation {
            self.metrics.conflicts.inc();
            self.metrics.followed.inc();
            self.forwarding.note_lost_race(Instant::now());
        }
        // A copy of what was forwarded before may stand in the log, further on.
        let next = self.resend.front();
        let may_stand = next.is_some_and(|next| next.commit.id == id && next.forwarded.is_some());
        match self.route() {
            Route::Forward(_) if may_stand => {}
            Route::Forward(_) => return Ok(()),
            Route::Store => self.pause_losing(races).await,
        }
        self.catch_up().await
    }

    /// Hands every submission the outcomes of its own ops.
    pub(super) fn hand_out(&self, batch: Vec<Submission>, (seq, folded): (Seq, Folded)) {
        let state: Arc<State> = self.published.latest();
        let mut outcomes = match folded {
            Folded::Outcomes(outcomes) => outcomes.into_iter(),
            Folded::Duplicate | Folded::Void => {
                tracing::error!(%seq, "a commit of this incarnation had been folded before");
                return refuse(batch, &Stopped::OutcomeUnknown);
            }
        };
        for submission in batch {
            let outcomes = outcomes.by_ref().take(submission.ops.len()).collect();
            (submission.done)(Ok(Committed {
                seq,
                state: state.clone(),
                outcomes,
            }));
        }
    }

    /// Notes whether this commit had to race.
    fn note_race(&mut self, lost: u32) {
        self.losses = if lost > 0 {
            self.losses.saturating_add(lost).min(8)
        } else {
            self.losses / 2
        };
        self.manifest
            .shared
            .contended
            .store(self.losses > 0, Ordering::Relaxed);
    }

    /// A node that keeps losing steps back a little, so that the others get through and it meets them less.
    async fn pause_losing(&mut self, lost: u32) {
        if lost > 1 {
            let around = Duration::from_millis(1 << lost.min(7)).min(MAX_LOSING_PAUSE);
            tokio::time::sleep(self.env.jittered(around)).await;
        }
    }
}

/// Reads what stands at `seq`, once: at most so many bytes of it, of a level that is known.
async fn look(
    store: &Store,
    (known, limit): (Level, u64),
    seq: Seq,
    ours: CommitId,
) -> Result<Stands, LogError> {
    let read = log::read(store, known, seq, limit, RequestKind::CommitGet);
    Ok(match read.await? {
        None => Stands::Nothing,
        Some(logged) if logged.commit.id == ours && holds(Rule::OwnCommitsAreFound) => {
            Stands::Ours(Some(Box::new(logged)))
        }
        Some(logged) => Stands::Another(Box::new(logged)),
    })
}

/// What a commit loses where [`Rule::RetriedCommitsKeepSequences`] is broken.
fn forget_producers(commit: &mut Commit) {
    for op in &mut commit.ops {
        if let Op::Append(append) = op {
            append
                .entries
                .iter_mut()
                .for_each(|entry| entry.producer = None);
        }
    }
}
