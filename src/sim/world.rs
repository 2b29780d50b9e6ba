//! What all actors of a run share: its seed, its time, its trace, its history, and the judge of the log.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

use super::dice::Dice;
pub(super) use super::times::Ages;
use super::times::Times;
use crate::invariants::history::{
    DeletedHistory, GroupHistory, KeyedHistory, Moment, PartitionHistory, RegisterHistory,
    StateSeen, TopicHistory, Value,
};
use crate::invariants::{Invariant, Violation};
use crate::manifest::LoggedCommit;
use crate::state::op::Commit;
use crate::state::{Folded, State};
use crate::types::{CommitId, Seq, Timestamp};

/// The wall time at which every run begins.
pub(super) const START: Timestamp = Timestamp(1_700_000_000_000);

/// What a run has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// An invariant does not hold.
    Broken(Violation),
    /// Code panicked.
    Panicked(String),
    /// A node ended though nobody told it to.
    NodeFailed(String),
    /// A client was told what it must not be told.
    Wrong(String),
    /// Something did not end though all was well again.
    Stuck(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Broken(violation) => violation.fmt(f),
            Finding::Panicked(what) => write!(f, "panic: {what}"),
            Finding::NodeFailed(what) => write!(f, "a node failed: {what}"),
            Finding::Wrong(what) => write!(f, "a client was told wrongly: {what}"),
            Finding::Stuck(what) => write!(f, "stuck: {what}"),
        }
    }
}

/// All that happened.
#[derive(Default)]
pub(super) struct History {
    pub(super) partitions: BTreeMap<i32, PartitionHistory>,
    /// When the records were made that may expire, by the first of their batch.
    pub(super) made: BTreeMap<Value, Timestamp>,
    pub(super) keyed: KeyedHistory,
    pub(super) group: GroupHistory,
    pub(super) topics: Vec<TopicHistory>,
    /// What was deleted and who read it, by the log.
    pub(super) deleted: BTreeMap<String, DeletedHistory>,
    pub(super) registers: Vec<RegisterHistory>,
    pub(super) states: Vec<StateSeen>,
    pub(super) findings: Vec<Finding>,
}

impl History {
    /// What was deleted of a log and who read it.
    pub(super) fn deleted(&mut self, log: &str) -> &mut DeletedHistory {
        let history = self.deleted.entry(log.to_owned()).or_default();
        if history.name.is_empty() {
            log.clone_into(&mut history.name);
        }
        history
    }
}

/// How often which thing happened.
pub(super) type Tally = BTreeMap<&'static str, u64>;

/// The run. Cheap to clone.
#[derive(Clone)]
pub(super) struct World {
    inner: Arc<Inner>,
}

struct Inner {
    seed: u64,
    origin: Instant,
    ends: OnceLock<Instant>,
    longest_wait: OnceLock<Duration>,
    moment: Mutex<Moment>,
    value: Mutex<Value>,
    trace: Mutex<Vec<String>>,
    tally: Mutex<Tally>,
    history: Mutex<History>,
    judge: Mutex<Judge>,
    ages: OnceLock<Ages>,
    /// At every so many seqs the states are compared: to write them out is most of what a long run costs.
    stride: AtomicU64,
}

/// Folds the log as it comes to stand in the bucket, before any node knows of it.
#[derive(Default)]
struct Judge {
    state: State,
    /// Those that are the first in their object.
    commits: BTreeMap<CommitId, Seq>,
    forwarded: BTreeSet<CommitId>,
    /// What came to stand behind a place where nothing stands yet.
    ahead: BTreeMap<Seq, Bytes>,
    /// The log may be deleted up to here.
    boundary: Seq,
    /// When the last commit was folded.
    at: Timestamp,
    /// What any commit's time may have been carried on to by then.
    carried_on: Timestamp,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A digest of a state.
fn digest(state: &State) -> u64 {
    let bytes = state.to_bytes();
    u64::from(crc32c::crc32c(&bytes)) << 32 | bytes.len() as u64
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        World {
            inner: Arc::new(Inner {
                seed,
                origin: Instant::now(),
                ends: OnceLock::new(),
                longest_wait: OnceLock::new(),
                moment: Mutex::new(0),
                value: Mutex::new(0),
                trace: Mutex::default(),
                tally: Mutex::default(),
                history: Mutex::default(),
                judge: Mutex::default(),
                ages: OnceLock::new(),
                stride: AtomicU64::new(1),
            }),
        }
    }

    pub(super) fn seed(&self) -> u64 {
        self.inner.seed
    }

    pub(super) fn dice(&self, name: &str) -> Dice {
        Dice::of(self.inner.seed, name)
    }

    /// When the run began.
    pub(super) fn origin(&self) -> Instant {
        self.inner.origin
    }

    /// Says when all actors are to end.
    pub(super) fn ends(&self, at: Instant) {
        let _ = self.inner.ends.set(at);
    }

    /// From now on nobody who writes may wait for longer.
    pub(super) fn bound_waits(&self, longest: Duration) {
        let _ = self.inner.longest_wait.set(longest);
    }

    /// Somebody who wrote has waited for an answer since then.
    pub(super) fn waited(&self, since: Instant, what: &str) {
        let longest = self.inner.longest_wait.get();
        let waited = since.elapsed();
        if longest.is_some_and(|longest| waited > *longest) {
            let waited = waited.as_secs_f64();
            self.found(Finding::Stuck(format!("{what} waited for {waited:.1} s")));
        }
    }

    /// Does nothing for a while, or until all are to end.
    pub(super) async fn rest(&self, time: Duration) {
        let at = Instant::now() + time;
        let ends = self.inner.ends.get().copied().unwrap_or(at);
        sleep_until(at.min(ends)).await;
    }

    /// Says after how long what is destroyed.
    pub(super) fn ages(&self, ages: Option<Ages>) {
        if let Some(ages) = ages {
            let _ = self.inner.ages.set(ages);
        }
    }

    /// The wall time, of a clock that is right.
    pub(super) fn now(&self) -> Timestamp {
        START.after(self.inner.origin.elapsed())
    }

    /// Has states compared at every so many seqs only.
    pub(super) fn compare_every(&self, stride: u64) {
        self.inner.stride.store(stride, Ordering::Relaxed);
    }

    /// A node, or the log, has this state; it is compared with all others of its seq.
    pub(super) fn see(&self, node: &str, state: &State) {
        let seq = state.seq();
        if seq
            .0
            .is_multiple_of(self.inner.stride.load(Ordering::Relaxed))
        {
            if let Err(why) = state.check() {
                self.found(Finding::Wrong(format!(
                    "the state of {node} at {seq}: {why}"
                )));
            }
            self.history().states.push(StateSeen {
                node: node.to_owned(),
                seq,
                digest: digest(state),
            });
        }
    }

    /// Counts something that happened.
    pub(super) fn count(&self, what: &'static str, times: u64) {
        *lock(&self.inner.tally).entry(what).or_default() += times;
    }

    /// What was counted.
    pub(super) fn tally(&self) -> Tally {
        lock(&self.inner.tally).clone()
    }

    /// The next moment.
    pub(super) fn moment(&self) -> Moment {
        let mut moment = lock(&self.inner.moment);
        *moment += 1;
        *moment
    }

    /// Values that nobody had before.
    pub(super) fn values(&self, count: u64) -> Vec<Value> {
        let mut next = lock(&self.inner.value);
        let first = *next + 1;
        *next += count;
        (first..=*next).collect()
    }

    /// Adds a line to the trace.
    pub(super) fn note(&self, what: fmt::Arguments<'_>) {
        let at = self.inner.origin.elapsed().as_millis();
        lock(&self.inner.trace).push(format!("{at:>8} {what}"));
    }

    /// The trace so far; it is empty afterwards.
    pub(super) fn take_trace(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.inner.trace))
    }

    /// The history. Held for a moment, never across an await.
    pub(super) fn history(&self) -> MutexGuard<'_, History> {
        lock(&self.inner.history)
    }

    pub(super) fn found(&self, finding: Finding) {
        self.note(format_args!("FOUND {finding}"));
        self.history().findings.push(finding);
    }

    /// Whether anything was found.
    pub(super) fn is_broken(&self) -> bool {
        !self.history().findings.is_empty()
    }

    /// A boundary of the log was stored.
    pub(super) fn bounded(&self, seq: Seq) {
        let mut judge = lock(&self.inner.judge);
        judge.boundary = judge.boundary.max(seq);
    }

    /// A commit came to stand in the log.
    pub(super) fn committed(&self, seq: Seq, object: &Bytes) {
        let mut judge = lock(&self.inner.judge);
        let due = judge.state.seq().next();
        if seq < due {
            let behind = seq <= judge.boundary;
            drop(judge);
            if behind {
                // A sleeper put it where one was deleted. The boundary tells that it is worth nothing.
                return self.note(format_args!("{seq} is put once more behind the boundary"));
            }
            let what = format!("a commit was created at {seq} when {due} was the next");
            return self.found(Finding::Wrong(what));
        }
        judge.ahead.insert(seq, object.clone());
        drop(judge);
        loop {
            let mut judge = lock(&self.inner.judge);
            let due = judge.state.seq().next();
            let Some(object) = judge.ahead.remove(&due) else {
                return;
            };
            drop(judge);
            self.fold(due, &object);
        }
    }

    /// Folds the commit at the next seq.
    fn fold(&self, seq: Seq, object: &Bytes) {
        let mut judge = lock(&self.inner.judge);
        let len = object.len() as u64;
        let logged = match LoggedCommit::decode("commit", seq, object, len) {
            Ok(logged) => logged,
            Err(error) => {
                drop(judge);
                return self.found(Finding::Wrong(error.to_string()));
            }
        };
        let mut forwarded = Vec::new();
        let (commit, start) = (&logged.commit, logged.data_start);
        let (earlier, now) = (judge.state.clone(), self.now());
        let passed = now.since(std::mem::replace(&mut judge.at, now));
        let carried_on = judge.carried_on.after(passed);
        let folded = judge.state.apply_each(seq, commit, start, |id, folded| {
            forwarded.push((id, folded));
        });
        // A forwarded copy may stand anywhere and often. The forwarder stores it once.
        let before = match folded {
            Folded::Void => None,
            _ => judge.commits.insert(commit.id, seq),
        };
        for (id, folded) in forwarded {
            let what = match folded {
                Folded::Outcomes(_) => "forwarded commits stored",
                Folded::Duplicate => "forwarded in vain",
                Folded::Void => "forwarded out of order",
            };
            self.count(what, 1);
            let of_it = commit.forwarded.iter().find(|forwarded| forwarded.id == id);
            if of_it.is_some_and(|forwarded| forwarded.follows == Commit::NOTHING)
                && matches!(folded, Folded::Outcomes(_))
            {
                self.count("first commits forwarded", 1);
            }
            if folded != Folded::Void {
                judge.forwarded.insert(id);
            }
        }
        judge.carried_on = carried_on.max(judge.state.time());
        let times = Times { carried_on, now };
        let wrong = times.judge(self.inner.ages.get(), &earlier, &judge.state, commit);
        let was_forwarded = judge.forwarded.contains(&commit.id);
        let state = judge.state.clone();
        drop(judge);
        self.see("the log", &state);
        for what in wrong {
            self.found(Finding::Wrong(format!("{seq}: {what}")));
        }
        if before.is_some() || (folded == Folded::Duplicate && !was_forwarded) {
            let id = logged.commit.id;
            self.found(Finding::Broken(Violation {
                invariant: Invariant::RetriesAreStoredOnce,
                what: format!("commit {id} stands in the log at {before:?} and again at {seq}"),
            }));
        }
    }
}
