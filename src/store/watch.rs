//! This machine's wall clock, watched by the store's.
//!
//! Every answer over HTTP carries a `Date`, to the second. Between it and the boot-time clock, which nobody sets, there
//! is a difference that does not change: each answer bounds it, and all of them together bound it to a fraction of a
//! second. So at *any* moment it can be told what the store's clock says, without asking, and a wall clock that jumps
//! is found out at its next reading, not at the next answer. No answer is believed alone: a proxy may have a clock of
//! its own, so one that contradicts the others counts only when two more agree with it.
//!
//! A store without a clock (in memory, files) says nothing, and nothing is ever off. A jump is logged in any case.
//! Nothing here is durable; a lock is held for a few comparisons.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;

use crate::env::Env;
use crate::rules::{Rule, holds};
use crate::types::Timestamp;

/// How far the wall clock of a node may be from the store's, either way. Beyond that it makes no changes.
pub const MAX_CLOCK_DIFFERENCE: Duration = Duration::from_secs(5);

/// In how many parts of the time that passes two clocks come apart by one, if each is kept right by itself.
const DRIFT: i64 = 2_000;

/// How many answers in a row must contradict what was known before they are believed.
const DISSENT: u32 = 3;

/// What is smaller is no jump.
const JUMP_MILLIS: u64 = 1_000;

/// This machine's wall clock is too far from the store's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockOff {
    /// This machine's clock minus the store's, in milliseconds: the least that it certainly is.
    pub ahead_millis: i64,
}

impl std::error::Error for ClockOff {}

impl std::fmt::Display for ClockOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let by = Duration::from_millis(self.ahead_millis.unsigned_abs()).as_secs_f64();
        let side = if self.ahead_millis < 0 {
            "behind"
        } else {
            "ahead of"
        };
        let most = MAX_CLOCK_DIFFERENCE.as_secs();
        write!(
            f,
            "this machine's clock is {by:.1} s {side} the store's, but at most {most} s are allowed: this node makes \
             no changes until the clock is right; synchronise it with NTP"
        )
    }
}

/// What is known of the difference between the store's clock and this machine's boot-time clock.
pub(super) struct ClockWatch {
    env: Env,
    off: Gauge,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    store: Option<Bounds>,
    dissent: u32,
    /// The wall clock minus the boot-time clock at the last look.
    last: Option<i64>,
    is_off: bool,
}

/// The store's clock minus the boot-time clock, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    least: i64,
    most: i64,
    /// When, by the boot-time clock.
    at: i64,
}

impl Bounds {
    /// What is left of them later.
    fn at(self, now: i64) -> Bounds {
        let drift = now.saturating_sub(self.at).max(0) / DRIFT + 1;
        Bounds {
            least: self.least - drift,
            most: self.most + drift,
            at: now,
        }
    }

    fn and(self, other: Bounds) -> Option<Bounds> {
        let (least, most) = (self.least.max(other.least), self.most.min(other.most));
        (least <= most).then_some(Bounds {
            least,
            most,
            at: self.at,
        })
    }
}

impl std::fmt::Debug for ClockWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClockWatch")
    }
}

fn millis(boot: Duration) -> i64 {
    i64::try_from(boot.as_millis()).unwrap_or(i64::MAX)
}

impl ClockWatch {
    pub(super) fn new(env: Env, off: Gauge) -> ClockWatch {
        ClockWatch {
            env,
            off,
            inner: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in a critical section panics half-way through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer had this date, to a request that was sent at `asked` by the boot-time clock and has just been
    /// answered.
    pub(super) fn note(&self, date: Timestamp, asked: Duration) {
        let now = millis(self.env.boot());
        // The date is the second that had begun when the head was written, which was between the two.
        let seen = Bounds {
            least: date.0.saturating_sub(now).saturating_sub(1),
            most: date.0.saturating_add(1_000).saturating_sub(millis(asked)),
            at: now,
        };
        {
            let mut inner = self.lock();
            match inner.store.map(|known| known.at(now).and(seen)) {
                None => inner.store = Some(seen),
                Some(Some(both)) => (inner.store, inner.dissent) = (Some(both), 0),
                Some(None) => {
                    inner.dissent += 1;
                    if inner.dissent >= DISSENT {
                        (inner.store, inner.dissent) = (Some(seen), 0);
                    }
                }
            }
        }
        let _ = self.judge();
    }

    /// About what the store's clock says, if this machine's is too far from it.
    pub(super) fn instead(&self) -> Option<Timestamp> {
        self.judge().err()?;
        let now = millis(self.env.boot());
        let known = self.lock().store?;
        let store = known.least.midpoint(known.most);
        Some(Timestamp(store.saturating_add(now)))
    }

    /// Whether the wall clock is near enough to the store's now. Says so once when that changes.
    pub(super) fn judge(&self) -> Result<(), ClockOff> {
        if !holds(Rule::ClockIsWatched) {
            return Ok(());
        }
        let (wall, now) = (self.env.wall(), millis(self.env.boot()));
        let ahead = wall.0.saturating_sub(now);
        let mut inner = self.lock();
        if let Some(last) = inner.last.replace(ahead)
            && ahead.abs_diff(last) > JUMP_MILLIS
        {
            let jump_millis = ahead.saturating_sub(last);
            tracing::warn!(jump_millis, "this machine's wall clock was set");
        }
        let judged = inner.judge(ahead, now);
        if inner.is_off != judged.is_err() {
            inner.is_off = judged.is_err();
            self.off.set(i64::from(inner.is_off));
            match judged {
                Err(off) => tracing::error!("{off}"),
                Ok(()) => tracing::info!("this machine's clock is right again; resuming"),
            }
        }
        judged
    }
}

impl Inner {
    fn judge(&self, ahead: i64, now: i64) -> Result<(), ClockOff> {
        let Some(store) = self.store.map(|known| known.at(now)) else {
            return Ok(());
        };
        let most = millis(MAX_CLOCK_DIFFERENCE);
        let ahead_millis = match ahead {
            _ if ahead > store.most => ahead.saturating_sub(store.most),
            _ if ahead < store.least => ahead.saturating_sub(store.least),
            _ => 0,
        };
        match ahead_millis.abs() > most {
            true => Err(ClockOff { ahead_millis }),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::rules::assert_needed;

    const START: Timestamp = Timestamp(1_800_000_000_000);

    /// A machine, and the clock of the store, which is right.
    #[derive(Clone)]
    struct Machine(Arc<Mutex<(Duration, i64)>>);

    impl Machine {
        fn pass(&self, time: Duration) {
            self.0.lock().unwrap().0 += time;
        }

        fn set(&self, off_millis: i64) {
            self.0.lock().unwrap().1 = off_millis;
        }

        fn truth(&self) -> Timestamp {
            START.after(self.0.lock().unwrap().0)
        }

        fn answer(&self, watch: &ClockWatch, off_millis: i64, took: Duration) {
            let asked = watch.env.boot();
            let written = self.truth().0 + off_millis;
            self.pass(took);
            watch.note(Timestamp(written - written % 1000), asked);
        }
    }

    impl crate::env::Clock for Machine {
        fn wall(&self) -> Timestamp {
            Timestamp(self.truth().0 + self.0.lock().unwrap().1)
        }

        fn boot(&self) -> Duration {
            Duration::from_secs(1_000) + self.0.lock().unwrap().0
        }
    }

    fn watched() -> (Machine, ClockWatch) {
        let machine = Machine(Arc::new(Mutex::new((Duration::from_millis(123), 0))));
        let env = Env::new(Arc::new(machine.clone()), StdRng::seed_from_u64(1));
        let watch = ClockWatch::new(env, Gauge::default());
        (machine, watch)
    }

    fn a_jump_is_found_out_before_the_next_answer() {
        let (machine, watch) = watched();
        machine.set(86_400_000);
        assert_eq!(watch.judge(), Ok(()), "nobody has said anything");
        machine.set(0);
        for _ in 0..20 {
            machine.answer(&watch, 0, Duration::from_millis(70));
            machine.pass(Duration::from_millis(333));
        }
        for allowed in [0, 4_900, -4_900] {
            machine.set(allowed);
            assert_eq!(watch.judge(), Ok(()), "{allowed}");
            assert_eq!(watch.instead(), None);
        }
        for jump in [5_500, -5_500, 86_400_000, -86_400_000] {
            machine.set(jump);
            let off = watch.judge().unwrap_err();
            assert!(off.ahead_millis.abs_diff(jump) < 500, "{off}");
            assert_eq!(watch.off.get(), 1);
            let instead = watch.instead().unwrap();
            assert!(instead.0.abs_diff(machine.truth().0) < 500);
        }
        machine.set(0);
        assert_eq!(watch.judge(), Ok(()));
        assert_eq!(watch.off.get(), 0);
    }

    #[test]
    fn a_jump_of_the_clock_is_found_out_at_its_next_reading() {
        a_jump_is_found_out_before_the_next_answer();
        assert_needed(&[(
            Rule::ClockIsWatched,
            a_jump_is_found_out_before_the_next_answer,
        )]);
    }

    #[test]
    fn a_clock_that_drifts_is_found_out_when_it_has_drifted_too_far() {
        let (machine, watch) = watched();
        let mut off = 0;
        while watch.judge().is_ok() {
            machine.answer(&watch, 0, Duration::from_millis(10));
            machine.pass(Duration::from_secs(60));
            off += 60;
            machine.set(off);
            assert!(off < 7_000);
        }
        assert!(off > 5_000);
    }

    #[test]
    fn one_answer_that_contradicts_all_others_is_not_believed_and_three_are() {
        let (machine, watch) = watched();
        let answer = |off| machine.answer(&watch, off, Duration::from_millis(10));
        answer(0);
        answer(3_600_000);
        answer(3_600_000);
        assert_eq!(watch.judge(), Ok(()));
        answer(0);
        answer(3_600_000);
        answer(3_600_000);
        assert_eq!(watch.judge(), Ok(()));
        answer(3_600_000);
        assert!(watch.judge().is_err());
    }
}
