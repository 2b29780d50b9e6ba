//! Committing: from waiting ops to commits on their way into the log.

use bytes::{Bytes, BytesMut};
use tokio::time::{Duration, Instant};
use tokio_util::task::AbortOnDropHandle;

use super::clock::Stamp;
use super::forwarding::Route;
use super::forwarding::received::{Received, attach};
use super::freshness::Moment;
use super::handle::{Caller, Stopped, Submission, refuse};
use super::object::{EncodedCommit, LOG};
use super::peers::Declined;
use super::prepared::{LogView, MAX_DATA, Prepared, Sent, put};
use super::tail::Tail;
use crate::rules::{Rule, holds};
use crate::state::op::{AppendSource, Commit, Op};
use crate::state::{Feature, Level};
use crate::store::ClockOff;
use crate::types::{CommitId, MAX_COMMITS_IN_FLIGHT, Seq};

/// The most bytes of ops in one commit: what every node must read to follow.
const MAX_HEAD: u64 = 16 << 20;

impl Tail {
    /// Whether another commit may be sent to the store before those on their way are answered. Never from a snapshot
    /// behind which a commit may be missing.
    pub(super) fn may_send(&self) -> bool {
        let is_free = !self.forwarding.has_forwarded() && !self.end.is_unseen();
        is_free && self.in_flight.len() < self.window()
    }

    /// How many commits may be on their way at once. Each that meets no other node's allows one more; what is sent
    /// behind one that loses its race is sent in vain.
    fn window(&self) -> usize {
        let most = self
            .options
            .commits_in_flight
            .clamp(1, MAX_COMMITS_IN_FLIGHT as usize);
        self.undisturbed.saturating_add(1).min(most)
    }

    /// When the next commit may be sent, `None` if at once: `commit_interval` after the one before was, and so that
    /// those on their way are spread over the time that one takes.
    pub(super) fn slot(&self) -> Option<Instant> {
        let begun = self.last_commit?;
        let mut apart = self.options.commit_interval;
        if !self.in_flight.is_empty() {
            let most = u32::try_from(self.window()).unwrap_or(u32::MAX);
            apart = apart.max(self.typical_put / most);
        }
        Some(begun + apart)
    }

    /// Sends the next commit, if there is anything to commit and the time has come: to the store, or to the node that
    /// is winning.
    pub(super) fn send_next(&mut self, now: Instant) -> bool {
        if let Route::Forward(receiver) = self.route() {
            return self.forward_next(&receiver, now);
        }
        if !self.may_send() {
            return false;
        }
        if let Some(again) = self.next_again() {
            self.send(again);
            return true;
        }
        if self.slot().is_some_and(|slot| slot > now) {
            return false;
        }
        match self.prepare_next() {
            Some(prepared) => self.send(prepared),
            None => return false,
        }
        true
    }

    /// The next of the commits that are to be sent again.
    pub(super) fn next_again(&mut self) -> Option<Prepared> {
        let mut again = self.resend.pop_front()?;
        again.leave_out_abandoned();
        Some(again)
    }

    /// A commit of what is waiting and ready; `None` if nothing is.
    pub(super) fn prepare_next(&mut self) -> Option<Prepared> {
        if let Err(off) = self.manifest.judge_clock() {
            self.make_no_changes(off);
            return None;
        }
        self.gather();
        self.waiting.retain(|waiting| !waiting.is_abandoned());
        self.begin_log();
        while self.has_received() || !self.waiting.is_empty() {
            if let Some(prepared) = self.prepare() {
                self.last_commit = Some(prepared.begun);
                self.metrics.ops.observe(prepared.commit.ops.len() as f64);
                return Some(prepared);
            }
        }
        None
    }

    /// Takes what is ready of what others gather.
    pub(super) fn gather(&mut self) {
        if let Some(source) = self.source() {
            self.waiting.extend(source.take());
        }
    }

    /// Whether a commit of another node can go into the next object.
    fn has_received(&mut self) -> bool {
        let log = LogView {
            state: &self.state,
            in_flight: &self.in_flight,
        };
        self.forwarding.has_received(log)
    }

    /// A new log begins at the newest level that its first node knows: its first commit says so, before anything else.
    /// If another node is faster, that one has decided, and this op changes nothing or is refused.
    fn begin_log(&mut self) {
        let to = self.options.level;
        let is_new = self.state.seq() == Seq::ZERO && self.in_flight.is_empty();
        if is_new && !self.waiting.is_empty() && to > Level::FIRST {
            self.waiting.push_front(Submission {
                ops: vec![Op::RaiseLevel { to }],
                data: Bytes::new(),
                caller: Caller::insists(),
                done: Box::new(|_| {}),
            });
        }
    }

    /// Tells all who wait for a commit that there will be none while the wall clock is off.
    fn make_no_changes(&mut self, off: ClockOff) {
        let gathered = self.source().map(|source| source.take());
        let waiting = self.waiting.drain(..).chain(gathered.into_iter().flatten());
        let refused: Vec<Submission> = waiting.collect();
        refuse(refused, &Stopped::ClockOff(off));
        self.forwarding.decline_received(Declined::NotWinning);
    }

    /// A commit of what is waiting, as much as fits in one. `None` if the first that waits does not fit by itself; it
    /// was told so.
    fn prepare(&mut self) -> Option<Prepared> {
        let mut batch = self.take_batch();
        let own_data = batch.iter().map(|submission| submission.data.len()).sum();
        let log = LogView {
            state: &self.state,
            in_flight: &self.in_flight,
        };
        let mut received = self.forwarding.take_received(own_data, log);
        loop {
            let (commit, data, own_data) = self.assemble(&batch, &received);
            match EncodedCommit::new(&commit, data) {
                Ok(encoded) if encoded.head_len <= MAX_HEAD => {
                    return Some(Prepared {
                        commit,
                        encoded,
                        batch,
                        own_data,
                        received,
                        sent: None,
                        forwarded: None,
                        begun: Instant::now(),
                        lost: 0,
                    });
                }
                _ if !received.is_empty() => {
                    self.forwarding
                        .return_received(std::mem::take(&mut received));
                }
                refused => {
                    // More ops than fit: the later half waits for the next commit. One submission that
                    // does not fit by itself never will.
                    if batch.len() > 1 {
                        for submission in batch.split_off(batch.len() / 2).into_iter().rev() {
                            self.waiting.push_front(submission);
                        }
                    } else {
                        let size = refused.map_or(u64::MAX, |encoded| encoded.head_len);
                        let limit = MAX_HEAD;
                        refuse(batch, &Stopped::TooLarge { size, limit });
                        return None;
                    }
                }
            }
        }
    }

    /// Takes from the waiting submissions what fits in one commit.
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

    /// One commit of all the submissions, and the received commits beside it, with their data one after the other; and
    /// how long its own data are.
    fn assemble(&mut self, batch: &[Submission], received: &[Received]) -> (Commit, Bytes, usize) {
        let mut ops = Vec::with_capacity(batch.iter().map(|submission| submission.ops.len()).sum());
        let mut data = BytesMut::new();
        for submission in batch {
            let base = data.len() as u64;
            ops.extend(submission.ops.iter().cloned().map(|op| moved(op, base)));
            data.extend_from_slice(&submission.data);
        }
        let before = self.in_flight.back().map(|sent| sent.prepared.commit.id);
        let own_data = data.len();
        let Stamp {
            carried: time,
            wall,
        } = self.manifest.shared.clock.stamp();
        // Whoever does not know the field takes the later of the two for the time.
        let (time, wall) = match self.state.has(Feature::BoundedTime) {
            true => (time, Some(wall)),
            false => (time.max(wall), None),
        };
        let commit = Commit {
            id: self.next_id(),
            time,
            wall,
            ops,
            follows: before.map(|before| before.counter),
            forwarded: attach(received, &mut data),
            log: LOG,
        };
        (commit, data.freeze(), own_data)
    }

    /// Sends the commit to the seq after those on their way.
    pub(super) fn send(&mut self, mut prepared: Prepared) {
        debug_assert!(
            self.may_send(),
            "a commit is sent where one may be missing, or beyond the window"
        );
        let last = self.in_flight.back().map(|sent| sent.seq);
        let seq = last.unwrap_or(self.state.seq()).next();
        if !holds(Rule::AcknowledgementsFollowFold) && prepared.lost == 0 {
            let next = self.state.seq().next();
            let start = prepared.encoded.data_start;
            let guess = self.state.clone().apply(next, &prepared.commit, start);
            self.hand_out(std::mem::take(&mut prepared.batch), (next, guess));
        }
        let sent = Moment::now(&self.env);
        prepared.sent.get_or_insert(sent);
        let answer = self.env.spawn(put(&self.store, seq, &prepared.encoded));
        self.in_flight.push_back(Sent {
            prepared,
            seq,
            sent,
            answer: AbortOnDropHandle::new(answer),
        });
    }

    /// Notes how long a PUT of a commit took.
    pub(super) fn note_put(&mut self, took: Duration) {
        // One that is slow for once changes little.
        self.typical_put = match self.typical_put {
            Duration::ZERO => took,
            typical => (typical * 7 + took) / 8,
        };
    }

    /// Those who wait for commits that are on their way, or to be sent again.
    pub(super) fn unsettled(&mut self) -> Vec<Submission> {
        let sent = self.in_flight.drain(..).map(|sent| sent.prepared);
        sent.chain(self.forwarding.recall())
            .chain(self.resend.drain(..))
            .flat_map(|prepared| prepared.batch)
            .collect()
    }

    /// The id of the next commit of this incarnation.
    pub(super) fn next_id(&mut self) -> CommitId {
        self.counter += 1;
        let made = self.env.boot();
        self.manifest.shared.heard().made(self.counter, made);
        CommitId {
            incarnation: self.incarnation,
            counter: self.counter,
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
