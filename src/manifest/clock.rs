//! Time: which clock a node goes by, for what.
//!
//! Time in the fold is moved by commits. Every commit says what its node took the time to be, and the wall clock of a
//! machine may be wrong, or jump while it is asked. So nothing in the rooms of a node goes by the wall clock alone:
//!
//! * [`Manifest::time`](super::Manifest::time) is for what waits: names of segments, deadlines, claims. It is what the
//!   fold's time would be if this node made a commit now: at least the fold's time *carried on*, which is the last that
//!   this node folded and what has passed since by the boot-time clock, which nobody sets and which counts suspension;
//!   and the wall clock, if that is ahead, as far as the fold believes it
//!   ([`State::time_after`](crate::state::State::time_after)). So if the fold's time is ever ahead of every wall clock,
//!   nothing stands still until they have caught up: time goes on from there.
//! * [`Manifest::passed`](super::Manifest::passed) is for what destroys: it has passed by the wall clock, *and* by the
//!   fold's time carried on, *and* by this node's own reckoning, which is what the wall clock said when the node began
//!   and what has passed since. One clock that is ahead destroys nothing.
//! * `Env::boot`, through [`Manifest::known_for`](super::Manifest::known_for) and
//!   [`Manifest::silent_for`](super::Manifest::silent_for), is for what this node has itself seen for so long.
//!
//! The fold's time may be ahead of a right wall clock (a clock was ahead for a while). While it is, it is carried on by
//! 15 seconds in 16, so that the two meet again: a minute within 16, and nobody whose timeout is 6 % longer notices.
//! Never by more than the boot-time clock says, and never back.
//!
//! A wall clock that is off by more than [`MAX_CLOCK_DIFFERENCE`](crate::store::MAX_CLOCK_DIFFERENCE) from the store's,
//! as the store's answers show, has no say at all, and while it is off the node makes no changes: who hands in ops is
//! told so at once ([`Stopped::ClockOff`](super::Stopped::ClockOff)). What is on its way already was stamped when the
//! clock was right.
//!
//! A node that starts begins with the time of the last commit that it reads; what passed since then while nobody was
//! there, its wall clock says. Nothing here is durable, and nothing waits: a lock is held for a few comparisons.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use crate::env::Env;
use crate::rules::{Rule, holds};
use crate::store::{ClockOff, Store};
use crate::types::Timestamp;

/// How much slower time is carried on while it is ahead of the wall clock: by one part in so many.
const SLOWER: u32 = 16;

/// How long the wall clock must have been ahead of this node's own reckoning before the reckoning follows it: after
/// that it is taken for a clock that was set right.
const BELIEVED_AFTER: Duration = Duration::from_secs(24 * 3600);

/// How far apart wall clock and reckoning come to be, in parts of the time that passes, though neither is wrong.
const DRIFT: u32 = 1000;

/// The clocks of a node, taken together.
pub(super) struct Clock {
    env: Env,
    /// Its answers say whether the wall clock is right.
    store: Store,
    inner: Mutex<Inner>,
}

/// What a node takes the time to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The fold's time, carried on by the boot-time clock.
    pub(super) carried: Timestamp,
    /// The wall clock.
    pub(super) wall: Timestamp,
}

struct Inner {
    /// The fold's time, carried on, and when by the boot-time clock that was. `None` before any commit.
    carried: Option<Carried>,
    reckoned: Reckoned,
}

#[derive(Clone, Copy)]
struct Carried {
    /// Finer than a millisecond: many small steps are as long as one.
    since_epoch: Duration,
    at: Duration,
}

/// What the wall clock said once, and what it would say now if it had gone on from there.
#[derive(Clone, Copy)]
struct Reckoned {
    wall: Timestamp,
    at: Duration,
    /// Since when, by the boot-time clock, the wall clock has been ahead of that.
    ahead_since: Option<Duration>,
}

impl Clock {
    pub(super) fn new(env: Env, store: Store) -> Clock {
        // The clock may have been set while the node was starting.
        let reckoned = Reckoned {
            wall: believed(&store, &env).min(env.wall_carried_on()),
            at: env.boot(),
            ahead_since: None,
        };
        Clock {
            env,
            store,
            inner: Mutex::new(Inner {
                carried: None,
                reckoned,
            }),
        }
    }

    /// Notes the fold's time after a commit was folded.
    pub(super) fn folded(&self, time: Timestamp) {
        let (wall, now) = (self.wall(), self.env.boot());
        let since_epoch = Duration::from_millis(u64::try_from(time.0).unwrap_or(0));
        let mut inner = self.lock();
        let carried = inner.carry_on(wall, now);
        if carried.is_none_or(|carried| carried.since_epoch < since_epoch) {
            inner.carried = Some(Carried {
                since_epoch,
                at: now,
            });
        }
    }

    /// What a commit says of the time, if it is made now.
    pub(super) fn stamp(&self) -> Stamp {
        let wall = self.wall();
        let carried = self.carried(wall).unwrap_or(wall);
        Stamp { carried, wall }
    }

    /// Time since some fixed moment, counting suspension.
    pub(super) fn boot(&self) -> Duration {
        self.env.boot()
    }

    /// An id that carries that time.
    pub(super) fn uuid_at(&self, time: Timestamp) -> Uuid {
        self.env.uuid_at(time)
    }

    /// Whether the wall clock is right, as far as the store's answers have shown.
    pub(super) fn judge(&self) -> Result<(), ClockOff> {
        self.store.judge_clock()
    }

    /// For what destroys.
    pub(super) fn passed(&self) -> Timestamp {
        if !holds(Rule::DestructionDistrustsWallClock) {
            return self.env.wall();
        }
        let (wall, now) = (self.wall().min(self.env.wall()), self.env.boot());
        let reckoned = self.lock().reckoned.now(wall, now);
        let carried = self.carried(wall).unwrap_or(Timestamp(0));
        wall.min(reckoned).min(carried)
    }

    fn wall(&self) -> Timestamp {
        believed(&self.store, &self.env)
    }

    fn carried(&self, wall: Timestamp) -> Option<Timestamp> {
        let carried = self.lock().carry_on(wall, self.env.boot())?;
        let millis = carried.since_epoch.as_millis();
        Some(Timestamp(i64::try_from(millis).unwrap_or(i64::MAX)))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in a critical section panics half-way through a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the wall clock says, unless the store's shows that it is off.
fn believed(store: &Store, env: &Env) -> Timestamp {
    store.clock_instead().unwrap_or_else(|| env.wall())
}

impl Inner {
    fn carry_on(&mut self, wall: Timestamp, now: Duration) -> Option<Carried> {
        let carried = self.carried.as_mut()?;
        if !holds(Rule::TimeKeepsRunning) {
            return Some(*carried);
        }
        let passed = now.saturating_sub(carried.at);
        let wall = Duration::from_millis(u64::try_from(wall.0).unwrap_or(0));
        let slowly = carried.since_epoch + (passed - passed / SLOWER);
        let quickly = carried.since_epoch + passed;
        carried.since_epoch = quickly.min(wall.max(slowly));
        carried.at = now.max(carried.at);
        Some(*carried)
    }
}

impl Reckoned {
    fn now(&mut self, wall: Timestamp, now: Duration) -> Timestamp {
        let passed = now.saturating_sub(self.at);
        let reckoned = self.wall.after(passed + passed / DRIFT);
        if wall <= reckoned {
            self.ahead_since = None;
            return reckoned;
        }
        let since = *self.ahead_since.get_or_insert(now);
        if now.saturating_sub(since) >= BELIEVED_AFTER {
            (self.wall, self.at, self.ahead_since) = (wall, now, None);
            return wall;
        }
        reckoned
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::store::{StoreMetrics, StoreOptions};

    const START: Timestamp = Timestamp(1_800_000_000_000);
    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(24 * 3600);

    /// A machine whose clocks are set by hand.
    #[derive(Clone)]
    struct Machine(Arc<Mutex<(Timestamp, Duration)>>);

    impl Machine {
        fn new() -> (Machine, Clock) {
            let machine = Machine(Arc::new(Mutex::new((START, HOUR))));
            let env = Env::new(Arc::new(machine.clone()), StdRng::seed_from_u64(1));
            let objects = Arc::new(object_store::memory::InMemory::new());
            let options = StoreOptions::new(env.clone());
            let store = Store::from_multipart_store(objects, options, StoreMetrics::default());
            (machine, Clock::new(env, store))
        }

        /// Time goes on for so long.
        fn pass(&self, time: Duration) {
            let mut clocks = self.0.lock().unwrap();
            *clocks = (clocks.0.after(time), clocks.1 + time);
        }

        /// Somebody sets the wall clock.
        fn set(&self, wall: Timestamp) {
            self.0.lock().unwrap().0 = wall;
        }

        fn said(&self) -> (Timestamp, Duration) {
            *self.0.lock().unwrap()
        }
    }

    impl crate::env::Clock for Machine {
        fn wall(&self) -> Timestamp {
            self.said().0
        }

        fn boot(&self) -> Duration {
            self.said().1
        }
    }

    /// The later of the two.
    fn time(clock: &Clock) -> Timestamp {
        let Stamp { carried, wall } = clock.stamp();
        carried.max(wall)
    }

    #[test]
    fn time_goes_on_from_a_fold_that_is_a_day_ahead_and_meets_the_wall_clock_again() {
        let (machine, clock) = Machine::new();
        clock.folded(START.after(DAY));
        let mut before = time(&clock);
        assert_eq!(before, START.after(DAY));
        for _ in 0..600 {
            machine.pass(Duration::from_millis(100));
            let now = time(&clock);
            let step = now.since(before);
            assert!((93..=95).contains(&step.as_millis()), "{step:?}");
            before = now;
        }
        machine.pass(DAY * 16);
        assert_eq!(time(&clock), machine.said().0, "they have met");
    }

    #[test]
    fn a_wall_clock_that_is_set_back_does_not_set_time_back() {
        let (machine, clock) = Machine::new();
        clock.folded(START);
        machine.pass(HOUR);
        let before = time(&clock);
        machine.set(START);
        assert_eq!(time(&clock), before);
        machine.pass(HOUR);
        assert!(time(&clock) > before.after(HOUR * 9 / 10));
    }

    #[test]
    fn nothing_has_passed_before_every_clock_says_so() {
        let (machine, clock) = Machine::new();
        assert_eq!(clock.passed(), Timestamp(0), "no commit was ever folded");
        clock.folded(START.after(DAY));
        assert_eq!(clock.passed(), START, "the fold's time is ahead");
        machine.pass(HOUR);
        machine.set(START.after(DAY));
        let drift = Duration::from_secs(4);
        assert!(
            clock.passed() <= START.after(HOUR + drift),
            "the wall clock has jumped"
        );
        machine.set(START);
        assert_eq!(clock.passed(), START, "the wall clock was set back");
    }

    #[test]
    fn a_wall_clock_that_jumps_while_the_node_starts_makes_nothing_pass() {
        let (machine, clock) = Machine::new();
        machine.pass(HOUR);
        machine.set(START.after(DAY * 8));
        let (env, store) = (clock.env.clone(), clock.store.clone());
        let clock = Clock::new(env, store);
        clock.folded(START.after(DAY * 8));
        assert_eq!(clock.passed(), START.after(HOUR));
    }

    #[test]
    fn a_wall_clock_that_stays_ahead_for_a_day_was_set_right() {
        let (machine, clock) = Machine::new();
        clock.folded(START.after(DAY * 30));
        machine.set(START.after(DAY * 7));
        assert_eq!(clock.passed(), START);
        machine.pass(DAY - HOUR);
        assert!(clock.passed() < START.after(DAY));
        machine.pass(HOUR);
        assert_eq!(clock.passed(), START.after(DAY * 8));
    }
}
