//! The process of a node: its tasks, which are paused and killed together, and its clocks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::world::START;
use crate::env::{Clock, Hold};
use crate::types::Timestamp;

/// A process. While it is paused none of its tasks runs and time goes on, as under `SIGSTOP`; what the network
/// brings meanwhile it finds when it goes on. A killed one never runs again: its tasks are dropped wherever they
/// were, and what they had sent goes on without them.
#[derive(Default)]
pub(super) struct Process {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    paused: bool,
    dead: bool,
    /// What has been done to its wall clock, while that is not right.
    wander: Option<Wander>,
    /// Of tasks that wait for the process to go on, in their order.
    wakers: Vec<Waker>,
    tasks: Vec<AbortHandle>,
}

impl Process {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_dead(&self) -> bool {
        self.lock().dead
    }

    pub(super) fn is_paused(&self) -> bool {
        self.lock().paused
    }

    pub(super) fn wander(&self) -> Option<Wander> {
        self.lock().wander
    }

    /// Puts its wall clock wrong, or right again.
    pub(super) fn set_wander(&self, wander: Option<Wander>) {
        self.lock().wander = wander;
    }

    pub(super) fn pause(&self) {
        self.lock().paused = true;
    }

    pub(super) fn resume(&self) {
        let wakers = {
            let mut inner = self.lock();
            inner.paused = false;
            std::mem::take(&mut inner.wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(super) fn kill(&self) {
        let tasks = {
            let mut inner = self.lock();
            inner.dead = true;
            inner.wakers.clear();
            std::mem::take(&mut inner.tasks)
        };
        tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Hold for Process {
    fn poll_run(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        if inner.dead {
            return Poll::Pending;
        }
        if !inner.paused {
            return Poll::Ready(());
        }
        if !inner.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            inner.wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }

    fn started(&self, task: AbortHandle) {
        let mut inner = self.lock();
        if inner.dead {
            task.abort();
            return;
        }
        if inner.tasks.len() >= 64 && inner.tasks.len().is_power_of_two() {
            inner.tasks.retain(|task| !task.is_finished());
        }
        inner.tasks.push(task);
    }
}

/// The clocks of one machine: its boot clock began at its own moment; its wall clock is off, and somebody may set it
/// while the node runs, or it may go too fast or too slowly.
pub(super) struct Machine {
    pub(super) origin: Instant,
    pub(super) skew_millis: i64,
    pub(super) up: Duration,
    pub(super) process: Arc<Process>,
}

/// What has been done to a wall clock.
#[derive(Clone, Copy)]
pub(super) struct Wander {
    /// It was set so far ahead, or back.
    pub(super) jump_millis: i64,
    /// It goes faster by so many millionths, or slower, since then.
    pub(super) drift_ppm: i64,
    pub(super) since: Instant,
}

impl Wander {
    fn millis(self) -> i64 {
        let passed = i64::try_from(self.since.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.jump_millis + passed * self.drift_ppm / 1_000_000
    }
}

impl Clock for Machine {
    fn wall(&self) -> Timestamp {
        let now = START.after(self.origin.elapsed());
        let wandered = self.process.wander().map_or(0, Wander::millis);
        Timestamp(now.0 + self.skew_millis + wandered)
    }

    fn boot(&self) -> Duration {
        self.up + self.origin.elapsed()
    }
}
