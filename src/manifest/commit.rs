//! Committing: from waiting ops to outcomes.

use bytes::{Bytes, BytesMut};
use tokio::time::{Duration, Instant};

use super::handle::{Committed, Stopped, Submission};
use super::log::{self, LogError};
use super::object::{EncodedCommit, LoggedCommit};
use super::tail::Tail;
use super::truncated::Moment;
use crate::mutants::{self, Mutant};
use crate::state::op::{AppendSource, Commit, Op};
use crate::state::{Folded, State};
use crate::store::{Created, ObjectPath, RequestKind};
use crate::types::{CommitId, Seq};

use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The most bytes of ops in one commit: what every node must read to follow.
const MAX_HEAD: u64 = 16 << 20;

/// The most bytes of inline appends that are gathered into one commit.
const MAX_DATA: usize = 4 << 20;

/// The longest pause between two attempts of a node that keeps losing races.
const MAX_LOSING_PAUSE: Duration = Duration::from_millis(100);

impl Tail {
    /// Commits what is waiting, as much as fits in one commit.
    pub(super) async fn commit_round(&mut self) -> Result<(), Stopped> {
        let mut batch = self.take_batch();
        let (commit, encoded) = loop {
            let commit = self.assemble(&mut batch);
            match EncodedCommit::new(&commit.0, commit.1) {
                Ok(encoded) if encoded.head_len <= MAX_HEAD => break (commit.0, encoded),
                refused => {
                    // More ops than fit: the later half waits for the next commit. One submission that
                    // does not fit by itself never will.
                    if batch.len() > 1 {
                        for submission in batch.split_off(batch.len() / 2).into_iter().rev() {
                            self.waiting.push_front(submission);
                        }
                    } else if let Some(submission) = batch.pop() {
                        let size = refused.map_or(u64::MAX, |encoded| encoded.head_len);
                        (submission.done)(Err(Stopped::TooLarge {
                            size,
                            limit: MAX_HEAD,
                        }));
                        return Ok(());
                    }
                }
            }
        };
        let begun = Instant::now();
        self.last_commit = Some(begun);
        self.metrics.ops.observe(commit.ops.len() as f64);
        if mutants::on(Mutant::AcknowledgedBeforeFold) {
            let seq = self.state.seq().next();
            let guess = self.state.clone().apply(seq, &commit, encoded.data_start);
            self.hand_out(std::mem::take(&mut batch), (seq, guess));
        }
        let folded = match self.settle(&commit, &encoded).await {
            Ok(Some(folded)) => folded,
            Ok(None) => {
                refuse(batch, &Stopped::OutcomeUnknown);
                return self.start_over().await;
            }
            Err(stopped) => {
                refuse(batch, &stopped);
                return Err(stopped);
            }
        };
        self.metrics.commits.inc();
        self.metrics.duration.observe(begun.elapsed().as_secs_f64());
        self.hand_out(batch, folded);
        self.snapshot_if_due();
        Ok(())
    }

    /// Takes from the waiting submissions what one commit may carry.
    fn take_batch(&mut self) -> Vec<Submission> {
        let mut batch = Vec::new();
        let mut data = 0;
        while let Some(next) = self.waiting.front() {
            if !batch.is_empty() && data + next.data.len() > MAX_DATA {
                break;
            }
            data += next.data.len();
            batch.extend(self.waiting.pop_front());
        }
        batch
    }

    /// One commit of all the submissions, with their data one after the other.
    fn assemble(&mut self, batch: &mut [Submission]) -> (Commit, Bytes) {
        let mut ops = Vec::with_capacity(batch.iter().map(|submission| submission.ops.len()).sum());
        let mut data = BytesMut::new();
        for submission in batch.iter() {
            let base = data.len() as u64;
            ops.extend(submission.ops.iter().cloned().map(|op| moved(op, base)));
            data.extend_from_slice(&submission.data);
        }
        let commit = Commit {
            id: self.next_id(),
            time: self.env.now(),
            ops,
        };
        (commit, data.freeze())
    }

    /// Brings the commit into the log and folds it, however many seqs, attempts and readings that takes. `None` if the
    /// log was truncated beyond where it was tried: then nobody can tell any more what became of it.
    async fn settle(
        &mut self,
        commit: &Commit,
        encoded: &EncodedCommit,
    ) -> Result<Option<(Seq, Folded)>, Stopped> {
        let mut failures = 0;
        let mut lost = 0u32;
        // Of the first attempt at this seq: any of them may be the one that is applied, and from then on others may
        // stand behind it.
        let mut sent = self.moment();
        loop {
            let seq = self.state.seq().next();
            let path = ObjectPath::commit(seq);
            let created = self
                .store
                .create(&path, encoded.object.clone(), RequestKind::CommitPut)
                .await;
            match created {
                Ok(Created::Created) => {
                    if self.is_left_behind_for_sure().await {
                        return Ok(None);
                    }
                    self.note_race(lost);
                    return Ok(Some((seq, self.fold_own(seq, commit, encoded, sent))));
                }
                Ok(Created::Exists) if mutants::on(Mutant::ExistsIsOurs) => {
                    return Ok(Some((seq, self.fold_own(seq, commit, encoded, sent))));
                }
                Ok(Created::Exists) => {}
                Ok(Created::Unknown(cause)) => {
                    self.metrics.unknown.inc();
                    tracing::debug!(%seq, %cause, "the outcome of a commit is unknown; reading");
                }
                Err(error) => self.pause_after(&error, &mut failures, "commit").await,
            }
            let stands = self.read_settled(seq, commit.id).await;
            if self.is_left_behind_for_sure().await {
                return Ok(None);
            }
            match stands? {
                Stands::Ours => {
                    self.note_race(lost);
                    return Ok(Some((seq, self.fold_own(seq, commit, encoded, sent))));
                }
                Stands::Nothing if mutants::on(Mutant::UnsettledSeqReused) => {
                    let id = self.next_id();
                    let (commit, encoded) = encoded.changed(commit, |commit| commit.id = id);
                    return Box::pin(self.settle(&commit, &encoded)).await;
                }
                Stands::Nothing => self.pause_before_repeat(&mut failures).await,
                Stands::Another(logged) => {
                    self.metrics.conflicts.inc();
                    lost = lost.saturating_add(1);
                    self.fold(&logged);
                    self.metrics.followed.inc();
                    self.pause_losing(lost).await;
                    self.catch_up().await?;
                    if mutants::on(Mutant::ProducersForgottenAfterConflict) {
                        let (commit, encoded) = encoded.changed(commit, forget_producers);
                        return Box::pin(self.settle(&commit, &encoded)).await;
                    }
                    sent = self.moment();
                }
            }
        }
    }

    /// Reads what stands at `seq`, for as long as it takes to know.
    async fn read_settled(&mut self, seq: Seq, ours: CommitId) -> Result<Stands, Stopped> {
        let mut failures = 0;
        loop {
            let read = log::read(&self.store, seq, self.read_limit(), RequestKind::CommitGet);
            match read.await {
                Ok(None) => return Ok(Stands::Nothing),
                Ok(Some(logged))
                    if logged.commit.id == ours && !mutants::on(Mutant::LostAnswerIsConflict) =>
                {
                    return Ok(Stands::Ours);
                }
                Ok(Some(logged)) => return Ok(Stands::Another(Box::new(logged))),
                Err(LogError::Object(error)) => return Err(self.halt(&error)),
                Err(LogError::Store(error)) => {
                    self.pause_after(&error, &mut failures, "settle a commit")
                        .await;
                }
            }
        }
    }

    /// Folds our own commit, of which nothing needs to be read.
    fn fold_own(
        &mut self,
        seq: Seq,
        commit: &Commit,
        encoded: &EncodedCommit,
        sent: Moment,
    ) -> Folded {
        self.note_proof(sent);
        let logged = LoggedCommit {
            seq,
            commit: commit.clone(),
            data_start: encoded.data_start,
            object_len: encoded.object.len() as u64,
            whole: Some(encoded.object.clone()),
        };
        self.fold(&logged)
    }

    /// Hands every submission the outcomes of its own ops.
    fn hand_out(&self, batch: Vec<Submission>, (seq, folded): (Seq, Folded)) {
        let state: Arc<State> = self.published.latest();
        let mut outcomes = match folded {
            Folded::Outcomes(outcomes) => outcomes.into_iter(),
            Folded::Duplicate => {
                tracing::error!(%seq, "a commit of this run had been folded before");
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

    async fn pause_before_repeat(&mut self, failures: &mut u32) {
        let pause = self.pause(*failures);
        *failures = failures.saturating_add(1);
        tokio::time::sleep(pause).await;
    }
}

/// Tells all that nothing can be said of their ops.
fn refuse(batch: Vec<Submission>, why: &Stopped) {
    for submission in batch {
        (submission.done)(Err(why.clone()));
    }
}

/// What stands at the seq at which a commit was tried.
enum Stands {
    Ours,
    Another(Box<LoggedCommit>),
    Nothing,
}

/// What [`Mutant::ProducersForgottenAfterConflict`] forgets.
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

/// The op, with the positions of an inline append moved by `base`.
fn moved(op: Op, base: u64) -> Op {
    match op {
        Op::Append(mut append) if append.source == AppendSource::Inline => {
            append
                .entries
                .iter_mut()
                .for_each(|entry| entry.start += base);
            Op::Append(append)
        }
        op => op,
    }
}
