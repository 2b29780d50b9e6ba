//! The world outside: wall clock, boot-time clock, randomness, the minting of ids, and the starting of tasks.
//!
//! Everything above takes these from an [`Env`] and never from the system, so that a whole cluster
//! runs in one process on simulated time from one seed. Waiting goes through `tokio::time`, which the
//! simulation pauses. Clippy's `disallowed_methods` holds the rule, and for tasks `tests/layers.rs`.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use tokio::task::{AbortHandle, JoinError, JoinHandle, JoinSet};
use uuid::Uuid;

use crate::types::Timestamp;

/// Reads a clock.
pub trait Clock: Send + Sync {
    /// The wall time.
    fn wall(&self) -> Timestamp;
    /// Time since some fixed moment, counting the time that the machine was suspended.
    fn boot(&self) -> Duration;
}

/// Holds all tasks of one node: so a simulation pauses and kills a node as a whole.
pub trait Hold: Send + Sync {
    /// Asked before each poll of a task; while this is pending the task is not polled.
    fn poll_run(&self, cx: &mut Context<'_>) -> Poll<()>;
    /// A task was started.
    fn started(&self, task: AbortHandle);
}

/// The clocks and the randomness of one node, and what its tasks run on. Cheap to clone; clones share the randomness.
#[derive(Clone)]
pub struct Env {
    clock: Arc<dyn Clock>,
    random: Arc<Mutex<StdRng>>,
    hold: Option<Arc<dyn Hold>>,
    /// Wall and boot-time clock when this was made.
    began: (Timestamp, Duration),
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Env")
    }
}

impl Env {
    /// The machine's clocks and randomness.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that takes the machine's"
    )]
    pub fn system() -> Env {
        Env::new(
            Arc::new(SystemClock::new()),
            StdRng::from_rng(&mut rand::rng()),
        )
    }

    /// Simulated time (tokio's, which a test may pause) beginning at `start`, and randomness from
    /// `seed`. Make it inside the runtime whose time it shall follow.
    pub fn simulated(seed: u64, start: Timestamp) -> Env {
        let clock = SimulatedClock {
            start,
            origin: tokio::time::Instant::now(),
        };
        Env::new(Arc::new(clock), StdRng::seed_from_u64(seed))
    }

    /// Any clock and randomness.
    pub fn new(clock: Arc<dyn Clock>, random: StdRng) -> Env {
        Env {
            began: (clock.wall(), clock.boot()),
            clock,
            random: Arc::new(Mutex::new(random)),
            hold: None,
        }
    }

    /// The same, with every task of the node in `hold`.
    pub fn held(self, hold: Arc<dyn Hold>) -> Env {
        Env {
            hold: Some(hold),
            ..self
        }
    }

    /// Starts a task of this node.
    pub fn spawn<T>(&self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T>
    where
        T: Send + 'static,
    {
        let Some(hold) = &self.hold else {
            return tokio::spawn(task);
        };
        let handle = tokio::spawn(Held::new(hold, task));
        hold.started(handle.abort_handle());
        handle
    }

    /// Starts a task of this node as one of a set.
    pub fn spawn_in<T>(&self, set: &mut JoinSet<T>, task: impl Future<Output = T> + Send + 'static)
    where
        T: Send + 'static,
    {
        match &self.hold {
            Some(hold) => hold.started(set.spawn(Held::new(hold, task))),
            None => drop(set.spawn(task)),
        }
    }

    /// Computes something that would hold up other tasks, beside them. In a simulation, in which nothing takes
    /// time, at once.
    ///
    /// # Errors
    ///
    /// The computation panicked.
    pub async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        match &self.hold {
            Some(_) => Ok(work()),
            None => tokio::task::spawn_blocking(work).await,
        }
    }

    /// What the wall clock of this machine says. It may be wrong, and it may jump either way, so in the rooms of a node
    /// it is only for what shall say what the machine's clock says (credentials, metrics). What waits, expires or
    /// destroys goes by `manifest::clock`; `tests/layers.rs` has the list.
    pub fn wall(&self) -> Timestamp {
        self.clock.wall()
    }

    /// What the wall clock said when this was made, as the process began, and what has passed since by the boot-time
    /// clock.
    pub fn wall_carried_on(&self) -> Timestamp {
        let (wall, boot) = self.began;
        wall.after(self.boot().saturating_sub(boot))
    }

    /// Time since some fixed moment, counting suspension: for judging how old a proof is.
    pub fn boot(&self) -> Duration {
        self.clock.boot()
    }

    /// Random bytes for a key.
    pub fn random_key(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.with_random(|random| random.fill_bytes(&mut bytes));
        bytes
    }

    /// A random UUID (v4).
    pub fn random_uuid(&self) -> Uuid {
        let mut bytes = [0; 16];
        self.with_random(|random| random.fill_bytes(&mut bytes));
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// A UUID v7 that carries that time.
    pub fn uuid_at(&self, time: Timestamp) -> Uuid {
        let mut bytes = [0; 10];
        self.with_random(|random| random.fill_bytes(&mut bytes));
        let millis = u64::try_from(time.0).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid()
    }

    /// A duration drawn evenly from half of `around` to one and a half of it.
    pub fn jittered(&self, around: Duration) -> Duration {
        around.mul_f64(self.with_random(|random| random.random_range(0.5..1.5)))
    }

    /// A number drawn evenly from 0 (inclusive) to 1 (exclusive).
    pub fn fraction(&self) -> f64 {
        self.with_random(|random| random.random_range(0.0..1.0))
    }

    fn with_random<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        // A panic while drawing leaves the generator usable.
        draw(&mut self.random.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A task in a [`Hold`].
struct Held<F> {
    hold: Arc<dyn Hold>,
    task: Pin<Box<F>>,
}

impl<F> Held<F> {
    fn new(hold: &Arc<dyn Hold>, task: F) -> Held<F> {
        Held {
            hold: hold.clone(),
            task: Box::pin(task),
        }
    }
}

impl<F: Future> Future for Held<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.hold.poll_run(cx) {
            Poll::Ready(()) => self.task.as_mut().poll(cx),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// The machine's clocks.
struct SystemClock {
    #[cfg(not(target_os = "linux"))]
    origin: std::time::Instant,
}

impl SystemClock {
    #[cfg_attr(
        not(target_os = "linux"),
        expect(
            clippy::disallowed_methods,
            reason = "this is the one place that reads the clocks"
        )
    )]
    fn new() -> SystemClock {
        SystemClock {
            #[cfg(not(target_os = "linux"))]
            origin: std::time::Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the clocks"
    )]
    fn wall(&self) -> Timestamp {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    #[cfg(target_os = "linux")]
    fn boot(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(
            u64::try_from(time.tv_sec).unwrap_or(0),
            u32::try_from(time.tv_nsec).unwrap_or(0),
        )
    }

    #[cfg(not(target_os = "linux"))]
    fn boot(&self) -> Duration {
        self.origin.elapsed()
    }
}

/// Tokio's clock, which a test may pause and advance.
struct SimulatedClock {
    start: Timestamp,
    origin: tokio::time::Instant,
}

impl Clock for SimulatedClock {
    fn wall(&self) -> Timestamp {
        self.start.after(self.origin.elapsed())
    }

    fn boot(&self) -> Duration {
        self.origin.elapsed()
    }
}
