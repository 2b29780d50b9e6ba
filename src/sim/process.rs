//! The process of a node: its tasks, which are paused and killed together, and its clocks.

use std::sync::{Mutex, MutexGuard, PoisonError};
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

/// The clocks of one machine: its wall clock is off by a constant, its boot clock began at its own moment.
pub(super) struct Machine {
    pub(super) origin: Instant,
    pub(super) skew_millis: i64,
    pub(super) up: Duration,
}

impl Clock for Machine {
    fn wall(&self) -> Timestamp {
        let now = START.after(self.origin.elapsed());
        Timestamp(now.0 + self.skew_millis)
    }

    fn boot(&self) -> Duration {
        self.up + self.origin.elapsed()
    }
}
