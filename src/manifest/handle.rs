//! What everybody else holds of the manifest.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::clock::{Clock, Stamp};
use super::forwarding::received::Received;
use super::forwarding::recent::Recent;
use super::freshness::{Moment, Proof, Question};
use super::heard::Heard;
use super::known::{Known, Marks};
use super::published::States;
use crate::env::Env;
use crate::rules::{Rule, holds};
use crate::state::op::{Op, Outcome};
use crate::state::{Level, State};
use crate::store::ClockOff;
use crate::types::{FileId, Incarnation, SegmentId, Seq, TableId, Timestamp};

/// Ops that are in the log and folded.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Where they stand.
    pub seq: Seq,
    /// The state right after them.
    pub state: Arc<State>,
    /// What became of each.
    pub outcomes: Vec<Outcome>,
}

/// Why the manifest does not tell what became of ops, or gives no fresh state. They may or may not be in the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// The node is stopping.
    #[error("this node is stopping")]
    Stopping,
    /// The log contains something that this node cannot fold.
    #[error("this node cannot follow the log any further: {0}")]
    Halted(Arc<str>),
    /// The node was away for so long that the log was truncated where the commit was tried. It goes on with the newest
    /// state, but what became of these ops it cannot tell: they took effect before it was away, or not at all.
    #[error("this node was away for too long to know whether the request took effect; try again")]
    OutcomeUnknown,
    /// The wall clock of this machine is off, so this node makes no changes. The ops are not in the log.
    #[error(transparent)]
    ClockOff(#[from] ClockOff),
    /// The ops do not fit in a commit.
    #[error("the request needs {size} bytes in a commit; the limit is {limit}")]
    TooLarge {
        /// Their size in bytes.
        size: u64,
        /// The most bytes of ops in one commit.
        limit: u64,
    },
}

/// Ops to commit together, with the bytes of their inline appends.
pub struct Submission {
    /// The ops. Inline appends count positions from the start of `data`.
    pub ops: Vec<Op>,
    /// The bytes of the inline appends.
    pub data: Bytes,
    /// For whom it is. What nobody wants any more is not sent.
    pub caller: Caller,
    /// Is told what became of them; called once, from the task that folds, so it must be quick.
    pub done: Box<dyn FnOnce(Result<Committed, Stopped>) + Send>,
}

impl Submission {
    /// Whether nobody waits for what becomes of it.
    pub(super) fn is_abandoned(&self) -> bool {
        self.caller.is_gone() && holds(Rule::AbandonedOpsAreDropped)
    }
}

/// Who handed in a submission, as far as the commit loop must know: whether they still wait.
#[derive(Clone, Debug, Default)]
pub struct Caller(Option<Weak<()>>);

/// Held by a caller for as long as it waits. See [`Caller`].
#[derive(Debug, Default)]
pub struct Waits(Arc<()>);

impl Caller {
    /// Somebody whose ops are to be committed whether or not anybody waits for their outcome.
    pub fn insists() -> Caller {
        Caller(None)
    }

    fn is_gone(&self) -> bool {
        self.0.as_ref().is_some_and(|held| held.strong_count() == 0)
    }
}

impl Waits {
    /// Whoever waits for as long as this is not dropped.
    pub fn caller(&self) -> Caller {
        Caller(Some(Arc::downgrade(&self.0)))
    }
}

/// Tells all that nothing can be said of their ops.
pub(super) fn refuse(batch: Vec<Submission>, why: &Stopped) {
    for submission in batch {
        (submission.done)(Err(why.clone()));
    }
}

/// Something that gathers ops until a commit can take them: the ingest buffer. Gathering instead of sending
/// is how batches form while the commit before is under way.
pub trait CommitSource: Send + Sync {
    /// Called when a commit is about to be made: everything that is ready now.
    fn take(&self) -> Vec<Submission>;
    /// Called once, when no commit will be made any more: those who wait are to be told why.
    fn ended(&self, why: &Stopped);
}

/// A handle on the manifest. Cheap to clone.
#[derive(Clone)]
pub struct Manifest {
    pub(super) shared: Arc<Shared>,
}

pub(super) enum Message {
    Commit(Submission),
    Fresh(Question),
    Admit(Box<Received>),
}

pub(super) struct Shared {
    pub(super) incarnation: Incarnation,
    pub(super) mailbox: mpsc::Sender<Message>,
    pub(super) states: States,
    pub(super) nudged: Notify,
    pub(super) followers: AtomicUsize,
    pub(super) contended: AtomicBool,
    /// Not held: the gatherer holds a manifest.
    pub(super) source: OnceLock<Weak<dyn CommitSource>>,
    pub(super) stopped: OnceLock<Stopped>,
    /// Why nothing can be committed until somebody changes something.
    pub(super) refusal: Mutex<Option<String>>,
    /// The boot-time clock, in nanoseconds, at the last proof that the published state was the newest.
    pub(super) proven: AtomicU64,
    /// The clocks, and with them the ids that carry a time.
    pub(super) clock: Clock,
    /// When this node last heard of each incarnation of a node.
    pub(super) heard: Mutex<Heard>,
    /// What this node has known for how long.
    pub(super) marks: Mutex<Marks>,
    /// The end of the log, for peers.
    pub(super) recent: Mutex<Recent>,
    /// A permit for each byte of the commits that this node admits.
    pub(super) forwarded_capacity: Arc<Semaphore>,
    /// The highest level that this node takes part in.
    pub(super) level: Level,
}

impl Manifest {
    /// The state as far as this node has folded the log.
    pub fn state(&self) -> Arc<State> {
        self.shared.states.latest()
    }

    /// The state, with a wake-up at each commit folded.
    pub fn subscribe(&self) -> States {
        self.shared.states.clone()
    }

    /// The highest level of the log that this node takes part in.
    pub fn level(&self) -> Level {
        self.shared.level
    }

    /// How old the state may be. Take it before the state that it shall be of: what is read by that state may be handed
    /// out while the proof holds.
    pub fn proof(&self) -> Proof {
        Proof(Duration::from_nanos(
            self.shared.proven.load(Ordering::Acquire),
        ))
    }

    /// What this node has itself known for `age`, by the boot-time clock.
    pub fn known_for(&self, age: Duration, env: &Env) -> Known {
        let mut marks = self.shared.marks();
        marks.note(env.boot(), &self.state());
        marks.for_at_least(age, env.boot())
    }

    /// The time, for whatever waits: what the fold's time would be if this node made a commit now. Not before the time
    /// of any state that was published. See `clock.rs`.
    pub fn time(&self) -> Timestamp {
        let state = self.state();
        let Stamp { carried, wall } = self.shared.clock.stamp();
        state.time_after(carried, Some(wall), self.shared.incarnation)
    }

    /// The boot-time clock, which nobody sets and which counts suspension.
    pub fn boot(&self) -> Duration {
        self.shared.clock.boot()
    }

    /// Whether this machine's wall clock is right, as far as the store's answers have shown. While it is not, this node
    /// makes no changes.
    ///
    /// # Errors
    /// How far it is off.
    pub fn judge_clock(&self) -> Result<(), ClockOff> {
        self.shared.clock.judge()
    }

    /// The time that has passed for certain, for whatever destroys: by the wall clock, by the fold's time and by this
    /// node's own reckoning.
    pub fn passed(&self) -> Timestamp {
        self.shared.clock.passed()
    }

    /// A name for a segment, minted now.
    pub fn mint_segment(&self) -> SegmentId {
        let time = match holds(Rule::SegmentsAreNamedByClusterTime) {
            true => self.time(),
            false => self.shared.clock.stamp().wall,
        };
        SegmentId(self.shared.clock.uuid_at(time))
    }

    /// A name for a file of a table, minted now.
    pub fn mint_file(&self) -> FileId {
        FileId(self.shared.clock.uuid_at(self.time()))
    }

    /// A name for a table, minted now.
    pub fn mint_table(&self) -> TableId {
        TableId(self.shared.clock.uuid_at(self.time()))
    }

    /// For how long this node has not heard of that incarnation of a node, by the boot-time clock: since it folded the
    /// last commit of it, or has been looking at the log at all; of this one itself, since it made the last of its
    /// commits that is in the log. Says something of another only by a state that is fresh.
    pub fn silent_for(&self, run: Incarnation) -> Duration {
        let now = self.shared.clock.boot();
        self.shared.heard().silence(run, now)
    }

    /// A state that contains every commit acknowledged anywhere before the call. Takes as long as the store
    /// takes to answer; the caller brings the timeout.
    pub async fn fresh(&self) -> Result<Arc<State>, Stopped> {
        self.fresh_by(Instant::now()).await
    }

    /// The same for a caller who has time until `due`: a commit of this node, or a probe for somebody else or
    /// for the timer, may show the tail meanwhile, and then this costs no request of its own.
    pub async fn fresh_by(&self, due: Instant) -> Result<Arc<State>, Stopped> {
        let (at, boot) = (Instant::now(), Duration::ZERO);
        self.proven_since(Moment { at, boot }, due).await
    }

    /// A state that contains every commit acknowledged anywhere up to `age` before the call. Costs no request if this
    /// node knows of a proof so young, or one that is under way will be.
    pub async fn fresh_within(&self, age: Duration, env: &Env) -> Result<Arc<State>, Stopped> {
        let now = Instant::now();
        let since = Moment {
            at: now.checked_sub(age).unwrap_or(now),
            boot: env.boot().saturating_sub(age),
        };
        self.proven_since(since, now).await
    }

    async fn proven_since(&self, since: Moment, due: Instant) -> Result<Arc<State>, Stopped> {
        if !holds(Rule::FreshStatesAreProbed) {
            return Ok(self.state());
        }
        let (reply, state) = oneshot::channel();
        self.send(Message::Fresh(Question { since, due, reply }))
            .await?;
        state.await.map_err(|_| self.why_stopped())
    }

    /// Commits ops together and returns when they are in the log and folded. Dropping the future abandons the
    /// answer; and the ops, unless a commit with them has been sent of which nobody knows yet whether it is in the log.
    pub async fn commit(&self, ops: Vec<Op>) -> Result<Committed, Stopped> {
        let (reply, committed) = oneshot::channel();
        let done = Box::new(move |result| {
            // The caller may be gone; the ops are in the log all the same.
            let _ = reply.send(result);
        });
        let waits = Waits::default();
        self.send(Message::Commit(Submission {
            ops,
            data: Bytes::new(),
            caller: waits.caller(),
            done,
        }))
        .await?;
        let committed = committed.await.map_err(|_| self.why_stopped())?;
        drop(waits);
        committed
    }

    /// Commits one op and returns its outcome.
    pub async fn commit_one(&self, op: Op) -> Result<Outcome, Stopped> {
        let mut committed = self.commit(vec![op]).await?;
        committed.outcomes.pop().ok_or(Stopped::Stopping)
    }

    /// Sets the one gatherer of appends, which is asked for as long as somebody else holds it. False if there is one
    /// already.
    pub fn attach(&self, source: Weak<dyn CommitSource>) -> bool {
        self.shared.source.set(source).is_ok()
    }

    /// Tells the task that the gatherer has something.
    pub fn nudge(&self) {
        self.shared.nudged.notify_one();
    }

    /// While the guard lives, this node follows the log on a shared timer.
    pub fn follow(&self) -> Following {
        if self.shared.followers.fetch_add(1, Ordering::Relaxed) == 0 {
            self.nudge();
        }
        Following {
            shared: self.shared.clone(),
        }
    }

    /// Whether other nodes have been winning races for the next seq lately: then large inline commits waste
    /// requests.
    pub fn contended(&self) -> bool {
        self.shared.contended.load(Ordering::Relaxed)
    }

    /// Why the task ended, if it has.
    pub fn stopped(&self) -> Option<Stopped> {
        self.shared.stopped.get().cloned()
    }

    /// Why nothing is committed until somebody changes something: what happened to the store, and what to do. `None` if
    /// all is well, or if the store only does not answer.
    pub fn refusal(&self) -> Option<String> {
        self.shared.refusal().clone()
    }

    async fn send(&self, message: Message) -> Result<(), Stopped> {
        self.shared
            .mailbox
            .send(message)
            .await
            .map_err(|_| self.why_stopped())
    }

    fn why_stopped(&self) -> Stopped {
        self.stopped().unwrap_or(Stopped::Stopping)
    }
}

impl Shared {
    pub(super) fn marks(&self) -> MutexGuard<'_, Marks> {
        // Nothing in a critical section panics half-way through a change.
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn refusal(&self) -> MutexGuard<'_, Option<String>> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn refuse(&self, why: String) {
        *self.refusal() = Some(why);
    }

    pub(super) fn refuse_no_longer(&self) {
        self.refusal().take();
    }

    pub(super) fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the node following the log. See [`Manifest::follow`].
pub struct Following {
    shared: Arc<Shared>,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.shared.followers.fetch_sub(1, Ordering::Relaxed);
    }
}
