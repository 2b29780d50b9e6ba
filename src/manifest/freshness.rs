//! How fresh a node's state is: what has shown that it is the newest, who wants that to be shown, and when to look
//! again.
//!
//! A state is proven by a request that showed the tail of the log: a probe of the next seq that found nothing, or a
//! create there that succeeded. It then contains every commit that was acknowledged anywhere before that request was
//! *sent*, so it answers whoever asked before that. When the answer came does not matter: others may have committed
//! meanwhile.
//!
//! Nothing here asks the store. [`Freshness`] is told what a request has shown and says who is answered by it, whether
//! anybody needs another, and when the follower is to look again. What it says of [trust](Freshness::is_trusted) is for
//! `truncated.rs`.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::{Duration, Instant};

use crate::env::Env;
use crate::state::{State, TAIL_PROOF_LIFE};

/// How many times longer than at first the follower rests at most.
const MAX_REST: u32 = 5;

/// The moment at which a request was sent, by the clock for waiting and by the one that counts suspension.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) at: Instant,
    pub(super) boot: Duration,
}

impl Moment {
    /// This moment.
    pub(super) fn now(env: &Env) -> Moment {
        Moment {
            at: Instant::now(),
            boot: env.boot(),
        }
    }

    /// Whether it is not later than another, by either clock.
    pub(super) fn is_before(self, other: Moment) -> bool {
        self.at <= other.at && self.boot <= other.boot
    }
}

/// When it was last shown, by the boot-time clock, that a state is the newest. See
/// [`Manifest::proof`](super::Manifest::proof).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Proof(pub(super) Duration);

impl Proof {
    /// The proof of a state that was asked for at this moment ([`Manifest::fresh`](super::Manifest::fresh)).
    pub fn begun_now(env: &Env) -> Proof {
        Proof(env.boot())
    }

    /// Whether what was read by a state of this proof is what the state meant, so that it may be handed out now.
    pub fn holds(self, env: &Env) -> bool {
        self.is_within(TAIL_PROOF_LIFE, env)
    }

    /// Whether the state was shown to be the newest not longer ago than `age`.
    pub fn is_within(self, age: Duration, env: &Env) -> bool {
        env.boot().saturating_sub(self.0) <= age
    }
}

/// What [`Manifest::fresh`](super::Manifest::fresh) and those like it ask.
pub(super) struct Question {
    /// The answer must contain every commit acknowledged before this moment.
    pub(super) since: Moment,
    /// Until then a proof may come by itself; then the store is asked for one.
    pub(super) due: Instant,
    pub(super) reply: oneshot::Sender<Arc<State>>,
}

/// What is known of how fresh the state is, and who wants to know.
pub(super) struct Freshness {
    /// The state contains every commit acknowledged before this moment.
    proven: Moment,
    /// When, by the boot-time clock, nothing stood at the next seq, or the snapshot that this node began with was the
    /// newest; `None` if neither was ever so.
    trusted: Option<Duration>,
    /// Those who wait for a fresh state.
    asking: Vec<Question>,
    /// When the follower last looked, whether or not the store answered.
    looked: Instant,
    /// How many commits its last look found.
    last_found: u64,
    /// How long it rests before it looks again: grows while it finds nothing.
    rest: Duration,
    /// How long it rests at first.
    follow_interval: Duration,
}

impl Freshness {
    /// Of a state that was read from a snapshot at that moment, perhaps not from the newest one. It is not proven yet:
    /// reading the log to its end will prove it.
    pub(super) fn new(began: Moment, is_newest: bool, follow_interval: Duration) -> Freshness {
        Freshness {
            proven: began,
            trusted: is_newest.then_some(began.boot),
            asking: Vec::new(),
            looked: Instant::now(),
            last_found: 0,
            rest: follow_interval,
            follow_interval,
        }
    }

    /// A request sent at that moment showed that nothing stood at the next seq.
    pub(super) fn prove(&mut self, sent: Moment) {
        if self.proven.at < sent.at {
            self.proven = sent;
        }
        self.trusted = self.trusted.max(Some(sent.boot));
    }

    /// The state is that of another snapshot, which was the newest when that was listed, or was not.
    pub(super) fn start_over(&mut self, listed: Moment, is_newest: bool) {
        self.trusted = is_newest.then_some(listed.boot);
    }

    /// The last proof.
    pub(super) fn proof(&self) -> Proof {
        Proof(self.proven.boot)
    }

    /// Whether an answer about the next seq that comes `now`, by the boot-time clock, can be believed as it is. If not,
    /// the log may have been truncated beyond that seq.
    pub(super) fn is_trusted(&self, now: Duration) -> bool {
        self.trusted
            .is_some_and(|seen| now.saturating_sub(seen) <= TAIL_PROOF_LIFE)
    }

    /// Takes a question in; returns it if it can be answered at once, by a proof that came while it was on its way
    /// here, or that is young enough for it. A proof of the very moment of the question may have been asked for before
    /// it.
    pub(super) fn ask(&mut self, question: Question) -> Option<Question> {
        let since = question.since;
        if since.is_before(self.proven) && since.at < self.proven.at {
            return Some(question);
        }
        self.asking.push(question);
        None
    }

    /// Takes out the questions that the last proof answers.
    pub(super) fn answered(&mut self) -> Vec<Question> {
        let proven = self.proven;
        let asking = self.asking.drain(..);
        let (answered, still) = asking.partition(|question| question.since.is_before(proven));
        self.asking = still;
        answered
    }

    /// Drops the questions of those who do not wait any more.
    pub(super) fn drop_abandoned(&mut self) {
        self.asking.retain(|question| !question.reply.is_closed());
    }

    /// Whether anybody needs a proof that has not come by itself.
    pub(super) fn is_asked(&self, now: Instant) -> bool {
        self.asking.iter().any(|question| question.due <= now)
    }

    /// When somebody will need a proof that has not come by itself.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.asking.iter().map(|question| question.due).min()
    }

    /// When the follower looks again: not so soon while a peer tells what is new.
    pub(super) fn next_look(&self, is_told: bool) -> Instant {
        let rest = match is_told {
            true => self.longest_rest(),
            false => self.rest,
        };
        self.proven.at.max(self.looked) + rest
    }

    fn longest_rest(&self) -> Duration {
        self.follow_interval * MAX_REST
    }

    /// How many commits the last look found.
    pub(super) fn last_found(&self) -> u64 {
        self.last_found
    }

    /// A look begun at that moment got no answer, and only the follower's timer wanted one.
    pub(super) fn note_failed_look(&mut self, sent: Moment) {
        self.looked = sent.at;
    }

    /// A look has ended, which found so many commits.
    pub(super) fn note_look(&mut self, found: u64) {
        self.last_found = found;
        self.rest = match found {
            0 => (self.rest * 2).min(self.longest_rest()),
            _ => self.follow_interval,
        };
    }

    /// A peer has told of a commit. Whoever writes meets what others write, so nothing need be looked for while it
    /// tells.
    pub(super) fn note_told(&mut self, now: Instant) {
        self.looked = now;
        self.rest = self.follow_interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const INTERVAL: Duration = Duration::from_millis(10);

    /// So long after the start, by both clocks.
    fn after(start: Instant, time: Duration) -> Moment {
        Moment {
            at: start + time,
            boot: time,
        }
    }

    fn question(since: Moment) -> (Question, oneshot::Receiver<Arc<State>>) {
        let (reply, answer) = oneshot::channel();
        let due = since.at + SECOND;
        (Question { since, due, reply }, answer)
    }

    fn begun(is_newest: bool) -> (Freshness, Instant) {
        let start = Instant::now();
        let began = after(start, Duration::ZERO);
        (Freshness::new(began, is_newest, INTERVAL), start)
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_is_answered_by_a_request_that_was_sent_after_it_by_both_clocks() {
        let (mut freshness, start) = begun(true);
        let (asked, _answer) = question(after(start, SECOND));
        assert!(freshness.ask(asked).is_none());
        // Under way when the question came, though its answer came after it.
        freshness.prove(after(start, SECOND / 2));
        assert!(freshness.answered().is_empty());
        // The machine slept: the one clock did not count it.
        freshness.prove(Moment {
            at: start + SECOND * 2,
            boot: SECOND / 2,
        });
        assert!(freshness.answered().is_empty());
        freshness.prove(after(start, SECOND * 3));
        assert_eq!(freshness.answered().len(), 1);
        assert!(freshness.answered().is_empty(), "it was answered");
        // An older proof takes nothing back.
        freshness.prove(after(start, SECOND));
        assert_eq!(freshness.proof(), Proof(SECOND * 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_costs_nothing_if_a_younger_proof_is_known_already() {
        let (mut freshness, start) = begun(true);
        freshness.prove(after(start, SECOND * 2));
        let (late, _answer) = question(after(start, SECOND));
        assert!(freshness.ask(late).is_some());
        // At the same moment nobody can tell which came first; the next proof answers it.
        let (same, _answer) = question(after(start, SECOND * 2));
        assert!(freshness.ask(same).is_none());
        assert_eq!(freshness.next_due(), Some(start + SECOND * 3));
        assert!(!freshness.is_asked(start + SECOND * 2));
        assert!(freshness.is_asked(start + SECOND * 3));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_wait_any_more_does_not_ask() {
        let (mut freshness, start) = begun(true);
        let (asked, answer) = question(after(start, SECOND));
        assert!(freshness.ask(asked).is_none());
        drop(answer);
        freshness.drop_abandoned();
        assert!(!freshness.is_asked(start + SECOND * 10));
        assert_eq!(freshness.next_due(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_store_is_believed_only_while_a_proof_is_young_by_the_boot_clock() {
        let (mut freshness, start) = begun(true);
        let millisecond = Duration::from_millis(1);
        assert!(freshness.is_trusted(TAIL_PROOF_LIFE));
        assert!(!freshness.is_trusted(TAIL_PROOF_LIFE + millisecond));
        freshness.prove(after(start, SECOND));
        assert!(freshness.is_trusted(TAIL_PROOF_LIFE + SECOND));
        // It starts over from a snapshot that may not be the newest, and then proves its state.
        freshness.start_over(after(start, SECOND * 2), false);
        assert!(!freshness.is_trusted(SECOND * 2));
        freshness.prove(after(start, SECOND * 3));
        assert!(freshness.is_trusted(SECOND * 3));
        freshness.start_over(after(start, SECOND * 4), true);
        assert!(freshness.is_trusted(TAIL_PROOF_LIFE + SECOND * 4));

        let (older, _) = begun(false);
        assert!(!older.is_trusted(Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn the_follower_rests_longer_while_it_finds_nothing_and_while_a_peer_tells() {
        let (mut freshness, start) = begun(true);
        let rest = |freshness: &Freshness| freshness.next_look(false) - start;
        assert_eq!(rest(&freshness), INTERVAL);
        for times in [2, 4, 5, 5] {
            freshness.note_look(0);
            assert_eq!(rest(&freshness), INTERVAL * times);
        }
        freshness.note_look(3);
        assert_eq!((rest(&freshness), freshness.last_found()), (INTERVAL, 3));
        assert_eq!(freshness.next_look(true) - start, INTERVAL * 5);
        // It rests after the last that was proven, or tried, or told.
        freshness.note_failed_look(after(start, SECOND));
        assert_eq!(rest(&freshness), SECOND + INTERVAL);
        freshness.prove(after(start, SECOND * 2));
        assert_eq!(rest(&freshness), SECOND * 2 + INTERVAL);
        freshness.note_look(0);
        freshness.note_told(start + SECOND * 3);
        assert_eq!(rest(&freshness), SECOND * 3 + INTERVAL);
    }
}
