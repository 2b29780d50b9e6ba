//! Hedging: a put for which others wait, and of which nothing is heard, is sent again beside itself.
//!
//! Now and then a store, or something on the way to it, swallows a request: it is never answered, while the next one is
//! answered in milliseconds. To wait for its timeout costs half a minute. So when a put takes much longer than puts of
//! its size took lately, the same bytes are sent again under the same name, and the first answer counts. That is
//! harmless for the names that [`Store::put_hedged`](super::Store::put_hedged) takes: nobody else can mint them, and
//! whichever put arrives last, a minute later too, leaves the same bytes there.
//!
//! A hedge may be swallowed as well. So hedges are sent until one attempt is answered or the time of the first is over,
//! each after a pause that is longer than the one before ([`GROWTH`]). The first attempt and the first hedge are never
//! given up for another, since they may only be slow; of the later hedges each replaces the one before. A first attempt
//! that fails ends them all: it is repeated as a request is that was never hedged.
//!
//! What it costs is bounded. A hedge shares the memory of its first attempt; it takes a place that is free and waits
//! for none; at most [`MAX_HEDGES`] are under way beside one attempt; and there is at most one hedge for
//! [`PUTS_PER_HEDGE`] puts, or [`HEDGES_PER_SECOND`] where there are few puts, [`SAVED`] at once. A put that has been
//! hedged leaves one hedge for others, so that one whose attempts are never answered does not use up all of them.
//!
//! A store, or a link to it, that is slow for all is not sent twice what it cannot take once: while no put is answered
//! that was sent later, nothing shows that a late one was swallowed, and only one of all that are late is hedged. Once
//! a later one is answered, the others are. What puts took lately is the median of the last [`REMEMBERED`], those that
//! ran out of time among them.
//!
//! Files of this machine are not hedged: a call to the system is not swallowed, and one that hangs cannot be given up.
//!
//! A dropped future drops all attempts, each of which may arrive, as any put that is dropped may.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use super::attempt::{Asked, Attempt, Ended, Requests};
use super::backend::Nature;
use super::failure::Verdict;
use super::metrics::Outcome;
use crate::rules::{Rule, holds};

/// The most hedges that are under way beside one attempt at the same time.
const MAX_HEDGES: usize = 2;

/// How many times longer each pause is than the one before it, between two hedges of one attempt. The sooner hedges
/// follow one another, the more of them can be lost without a long wait: with pauses from 0.4 s on, the fourth is sent
/// after 2.3 s, and the thirteenth is the last before an attempt times out at 30 s.
const GROWTH: f64 = 1.25;

/// How many puts must succeed for one to be hedged, in the long run.
const PUTS_PER_HEDGE: f64 = 8.0;

/// How many hedges there may be in any case: a node that writes seldom would else wait for many puts to succeed before
/// the next that is swallowed can be hedged.
const HEDGES_PER_SECOND: f64 = 1.0;

/// How many hedges may be saved up.
const SAVED: f64 = 4.0;

/// What a put takes of a store of ordinary speed: so long, and so much more for each MiB.
const ORDINARY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(32));

/// A put is hedged when it has taken so many times what puts of its size took lately, and never before `SOONEST`.
const TIMES: f64 = 2.5;
const SOONEST: Duration = Duration::from_millis(400);

/// Of how many puts the median is what puts took lately: fewer than half of them can be swallowed, or held up, and
/// change nothing.
const REMEMBERED: usize = 9;

/// What is known of puts: how long they take, and how many may be hedged.
#[derive(Debug)]
pub(super) struct Hedging(Mutex<Pace>);

#[derive(Debug)]
struct Pace {
    /// How many times longer than an ordinary store's each of the last puts took, oldest first.
    lately: VecDeque<f64>,
    /// When the latest of the attempts was sent that were answered.
    answered: Option<Instant>,
    /// Whether a put is hedged though no later one was answered.
    is_probing: bool,
    /// How many puts may be hedged, as of then.
    saved: f64,
    as_of: Instant,
}

impl Pace {
    /// Adds to what may be hedged.
    fn save(&mut self, hedges: f64) {
        self.saved = (self.saved + hedges).min(SAVED);
    }

    /// Remembers how long a put took.
    fn remember(&mut self, bytes: u64, took: Duration) {
        let slowness = took.as_secs_f64() / ordinary(bytes).as_secs_f64();
        self.lately.pop_front();
        self.lately.push_back(slowness);
    }

    fn slowness(&self) -> f64 {
        let mut lately: Vec<f64> = self.lately.iter().copied().collect();
        lately.sort_by(f64::total_cmp);
        lately.get(REMEMBERED / 2).copied().unwrap_or(1.0)
    }
}

impl Default for Hedging {
    fn default() -> Hedging {
        Hedging(Mutex::new(Pace {
            lately: VecDeque::from([1.0; REMEMBERED]),
            answered: None,
            is_probing: false,
            saved: SAVED,
            as_of: Instant::now(),
        }))
    }
}

/// While it lives its put may be hedged though no later one was answered.
struct Probe<'a>(&'a Hedging);

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        self.0.pace().is_probing = false;
    }
}

/// What a put of so many bytes takes of a store of ordinary speed.
fn ordinary(bytes: u64) -> Duration {
    let (latency, per_mib) = ORDINARY;
    latency + per_mib.mul_f64(bytes as f64 / f64::from(1 << 20))
}

impl Hedging {
    fn pace(&self) -> MutexGuard<'_, Pace> {
        // Nothing in a critical section panics half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long a put of so many bytes takes, going by the last ones.
    pub(super) fn expected(&self, bytes: u64) -> Duration {
        ordinary(bytes).mul_f64(self.pace().slowness())
    }

    /// How long a put of so many bytes is waited for before it is hedged.
    fn delay(&self, bytes: u64) -> Duration {
        SOONEST.max(self.expected(bytes).mul_f64(TIMES))
    }

    /// Notes how long a put took that succeeded, which was sent then.
    fn note(&self, bytes: u64, took: Duration, sent: Instant) {
        let mut pace = self.pace();
        pace.remember(bytes, took);
        pace.answered = pace.answered.max(Some(sent));
        pace.save(1.0 / PUTS_PER_HEDGE);
    }

    /// Notes that a put, which was sent then, ran out of time. If a later one was answered it was swallowed, which says
    /// nothing of how long puts take.
    fn note_overdue(&self, bytes: u64, took: Duration, sent: Instant) {
        let mut pace = self.pace();
        if pace.answered <= Some(sent) {
            pace.remember(bytes, took);
        }
    }

    /// Whether a put was answered that was sent later than then.
    fn is_overtaken(&self, sent: Instant) -> bool {
        self.pace().answered > Some(sent)
    }

    /// Leave to hedge a put though no later one was answered: nobody else has it meanwhile.
    fn probe(&self) -> Option<Probe<'_>> {
        let is_first = !std::mem::replace(&mut self.pace().is_probing, true);
        is_first.then(|| Probe(self))
    }

    /// Whether a hedge may be sent now and so many are left then; it is counted as sent.
    fn spend(&self, left: f64) -> bool {
        let (mut pace, now) = (self.pace(), Instant::now());
        let passed = now.saturating_duration_since(pace.as_of);
        pace.as_of = now;
        pace.save(passed.as_secs_f64() * HEDGES_PER_SECOND);
        let may = pace.saved >= 1.0 + left && holds(Rule::SlowPutsAreHedged);
        if may {
            pace.saved -= 1.0;
        }
        may
    }
}

impl Requests {
    /// As [`Requests::repeat`], for what may be sent twice at the same time.
    pub(super) async fn repeat_hedged<T, W>(
        &self,
        asked: Asked<'_>,
        work: impl Fn() -> W,
    ) -> Result<T, Ended>
    where
        W: Future<Output = object_store::Result<T>>,
    {
        if self.backend.nature == Nature::File {
            return self.repeat(asked, work).await;
        }
        let attempt = |limit| self.hedged(asked, limit, &work);
        self.repeat_by(asked, attempt).await
    }

    /// Makes one attempt, and others beside it while nothing is heard of it. The first that succeeds counts, or the
    /// failure of the first attempt.
    async fn hedged<T, W>(
        &self,
        asked: Asked<'_>,
        limit: Duration,
        work: &impl Fn() -> W,
    ) -> Attempt<'_, T>
    where
        W: Future<Output = object_store::Result<T>>,
    {
        let place = self.place(asked.kind).await;
        let began = Instant::now();
        let until = began + limit;
        let send = |place, is_first: bool| async move {
            let (sent, left) = (
                Instant::now(),
                until.saturating_duration_since(Instant::now()),
            );
            let ended = self.attempt_in(place, asked, left, work()).await;
            (ended, sent, is_first)
        };
        // Those that are kept until they end, and the one that the next hedge replaces.
        let mut kept = FuturesUnordered::new();
        kept.push(send(place, true));
        let mut last = FuturesUnordered::new();
        let mut pause = self.hedging.delay(asked.sent);
        let mut due = began + pause;
        let mut is_hedged = false;
        let mut probe = None;
        loop {
            let (ended, sent, is_first) = tokio::select! {
                biased;
                Some(ended) = kept.next() => ended,
                Some(ended) = last.next() => ended,
                () = tokio::time::sleep_until(due) => {
                    let is_overtaken = self.hedging.is_overtaken(began);
                    if is_overtaken {
                        probe = None;
                    } else if probe.is_none() {
                        probe = self.hedging.probe();
                    }
                    let left_for_others = if is_hedged { 1.0 } else { 0.0 };
                    if (is_overtaken || probe.is_some())
                        && let Some(place) = self.free_place(asked.kind)
                        && self.hedging.spend(left_for_others)
                    {
                        is_hedged = true;
                        pause = pause.mul_f64(GROWTH);
                        tracing::debug!(subject = %asked.subject, "no answer yet; sent the request again");
                        if kept.len() < MAX_HEDGES {
                            kept.push(send(place, false));
                        } else {
                            last.clear();
                            last.push(send(place, false));
                        }
                    }
                    due = Instant::now() + pause;
                    continue;
                }
            };
            let took = ended.took();
            match &ended.result {
                Ok(_) => {
                    self.hedging.note(asked.sent, took, sent);
                    return ended;
                }
                Err(failure) => {
                    let may_succeed = matches!(failure.verdict, Verdict::Transient { .. });
                    if is_first && took >= limit {
                        self.hedging.note_overdue(asked.sent, took, sent);
                    }
                    if is_first || !may_succeed {
                        return ended;
                    }
                    ended.running.end(Outcome::Retry);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_put_is_hedged_the_sooner_the_faster_the_store_is_and_the_smaller_the_put() {
        let hedging = Hedging::default();
        let (small, large) = (hedging.delay(1), hedging.delay(8 * MIB));
        assert_eq!(small, SOONEST);
        assert!(large > small && large < Duration::from_secs(1), "{large:?}");
        for _ in 0..REMEMBERED {
            hedging.note(8 * MIB, Duration::from_millis(20), Instant::now());
        }
        assert_eq!(hedging.delay(8 * MIB), SOONEST);
        // One that was held up changes nothing, and neither do three more.
        for _ in 0..4 {
            hedging.note(8 * MIB, Duration::from_secs(7), Instant::now());
            assert_eq!(hedging.delay(8 * MIB), SOONEST);
        }
        hedging.note(8 * MIB, Duration::from_secs(7), Instant::now());
        let slow = hedging.delay(8 * MIB).as_secs_f64();
        assert!((17.0..18.0).contains(&slow), "{slow}");
    }

    #[test]
    fn what_runs_out_of_time_is_slow_unless_a_later_one_was_answered() {
        let hedging = Hedging::default();
        let sent = Instant::now();
        for _ in 0..5 {
            hedging.note_overdue(MIB, Duration::from_secs(30), sent);
        }
        assert!(hedging.delay(MIB) > Duration::from_secs(30));
        let hedging = Hedging::default();
        hedging.note(
            MIB,
            Duration::from_millis(50),
            sent + Duration::from_secs(1),
        );
        assert!(hedging.is_overtaken(sent));
        for _ in 0..REMEMBERED {
            hedging.note_overdue(MIB, Duration::from_secs(30), sent);
        }
        assert_eq!(hedging.delay(MIB), SOONEST);
    }

    #[test]
    fn of_puts_that_are_not_overtaken_one_is_hedged_at_a_time() {
        let hedging = Hedging::default();
        let probe = hedging.probe();
        assert!(probe.is_some());
        assert!(hedging.probe().is_none());
        drop(probe);
        assert!(hedging.probe().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn where_there_are_few_puts_one_may_be_hedged_each_second() {
        let hedging = Hedging::default();
        while hedging.spend(0.0) {}
        for _ in 0..10 {
            tokio::time::advance(Duration::from_millis(999)).await;
            assert!(!hedging.spend(0.0));
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(hedging.spend(0.0));
        }
        tokio::time::advance(Duration::from_secs(3_600)).await;
        assert_eq!((0..100).filter(|_| hedging.spend(0.0)).count(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_put_that_is_hedged_in_vain_leaves_a_hedge_for_others() {
        let hedging = Hedging::default();
        for _ in 0..10 {
            while hedging.spend(1.0) {}
            assert!(hedging.spend(0.0));
            assert!(!hedging.spend(0.0));
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(!hedging.spend(1.0));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn few_puts_are_hedged_whatever_the_store_does() {
        let hedging = Hedging::default();
        let mut spent = 0;
        for _ in 0..1_000 {
            hedging.note(MIB, Duration::from_millis(100), Instant::now());
            spent += u32::from(hedging.spend(0.0));
        }
        assert!((120..=130).contains(&spent), "{spent}");
        let at_once = (0..100).filter(|_| Hedging::default().spend(0.0)).count();
        assert_eq!(at_once, 100);
        let fresh = Hedging::default();
        assert_eq!((0..100).filter(|_| fresh.spend(0.0)).count(), 4);
    }
}
