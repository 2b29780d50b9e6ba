//! [`Maintenance`]: what every background job works with, and how they share the node with its clients.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::error::JobError;
use super::metrics::MaintenanceMetrics;
use super::options::MaintenanceOptions;
use crate::env::Env;
use crate::manifest::{Committed, Manifest};
use crate::state::op::{Op, Outcome};
use crate::state::{State, Totals};
use crate::store::{ObjectPath, Store};
use crate::types::{Incarnation, Timestamp, TopicPartition, bid};

/// Says whether clients are being held up just now. Then background work steps back.
pub type Busy = Arc<dyn Fn() -> bool + Send + Sync>;

/// What background work is made of.
pub struct MaintenanceParts {
    /// The bucket.
    pub store: Store,
    /// The log.
    pub manifest: Manifest,
    /// Clocks and randomness.
    pub env: Env,
    /// This incarnation of the node.
    pub incarnation: Incarnation,
    /// How it behaves.
    pub options: MaintenanceOptions,
    /// What it counts.
    pub metrics: MaintenanceMetrics,
    /// Whether clients are being held up.
    pub busy: Busy,
}

/// The background work of a node. Cheap to clone. [`Maintenance::run`] does all of it, again and again; each job can
/// also be called by itself.
#[derive(Clone)]
pub struct Maintenance {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) store: Store,
    pub(super) manifest: Manifest,
    pub(super) env: Env,
    pub(super) incarnation: Incarnation,
    pub(super) options: MaintenanceOptions,
    pub(super) metrics: MaintenanceMetrics,
    busy: Busy,
    /// Places for what is read: one for each mebibyte, or for a shorter request.
    reading: Semaphore,
    /// When the bytes read so far are paid for.
    paid: Mutex<Instant>,
    /// What was ever stored, and since when nothing was added.
    quiet: Mutex<(Totals, Timestamp)>,
    /// The partitions that this node is rewriting.
    rewriting: Mutex<BTreeSet<TopicPartition>>,
}

/// The only right of this node to rewrite a partition, until it is dropped: a claim keeps other nodes away, but not the
/// other jobs of its holder.
pub(super) struct Reserved {
    inner: Arc<Inner>,
    partition: TopicPartition,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        lock(&self.inner.rewriting).remove(&self.partition);
    }
}

/// The longest time for which background work steps back. Then it goes on even though clients are being held up, or
/// the backlog would grow for ever.
const GIVE_WAY_TIMEOUT: Duration = Duration::from_secs(10);

/// How often it looks whether it may go on.
const LOOK: Duration = Duration::from_millis(50);

/// How many mebibytes are read at once, or shorter requests made, while one part is uploaded at a time.
const READS_AT_ONCE: usize = 4;

impl Maintenance {
    /// The background work of a node with these parts.
    pub fn new(parts: MaintenanceParts) -> Maintenance {
        let totals = parts.manifest.state().totals();
        let now = parts.manifest.time();
        let reading = Semaphore::new(READS_AT_ONCE * parts.options.compaction.at_once());
        Maintenance {
            inner: Arc::new(Inner {
                store: parts.store,
                manifest: parts.manifest,
                env: parts.env,
                incarnation: parts.incarnation,
                options: parts.options,
                metrics: parts.metrics,
                busy: parts.busy,
                reading,
                paid: Mutex::new(Instant::now()),
                quiet: Mutex::new((totals, now)),
                rewriting: Mutex::default(),
            }),
        }
    }

    /// What it counts.
    pub fn metrics(&self) -> &MaintenanceMetrics {
        &self.inner.metrics
    }

    /// The state as this node knows it. Asks nobody.
    pub(super) fn state(&self) -> Arc<State> {
        self.inner.manifest.state()
    }

    /// The time by which everything goes that waits. See [`Manifest::time`].
    pub(super) fn time(&self) -> Timestamp {
        self.inner.manifest.time()
    }

    /// The time by which everything goes that destroys. See [`Manifest::passed`].
    pub(super) fn passed(&self) -> Timestamp {
        self.inner.manifest.passed()
    }

    /// Which incarnation of a node this works for.
    pub(super) fn incarnation(&self) -> Incarnation {
        self.inner.incarnation
    }

    pub(super) fn options(&self) -> &MaintenanceOptions {
        &self.inner.options
    }

    pub(super) async fn commit(&self, ops: Vec<Op>) -> Result<Committed, JobError> {
        Ok(self.inner.manifest.commit(ops).await?)
    }

    /// Commits ops of which each must take effect.
    pub(super) async fn must_commit(&self, ops: Vec<Op>) -> Result<Arc<State>, JobError> {
        let committed = self.commit(ops).await?;
        let outcomes: Outcome = committed
            .outcomes
            .into_iter()
            .try_fold(crate::state::op::Applied::Done, |_, outcome| outcome);
        outcomes?;
        Ok(committed.state)
    }

    /// Deletes objects.
    pub(super) async fn delete(&self, kind: &str, paths: Vec<ObjectPath>) -> Result<(), JobError> {
        let count = paths.len() as u64;
        self.inner.store.delete(paths).await?;
        self.inner.metrics.deleted(kind, count);
        Ok(())
    }

    /// Whether work with this key falls to this node: so that nodes seldom meet. All that see the same nodes agree. A
    /// node that is not registered leaves the work to those that are.
    pub(super) fn is_preferred(&self, key: u64, state: &State) -> bool {
        let now = self.time();
        let mut alive = state
            .nodes()
            .filter(|(_, node)| node.lease_until() >= now)
            .peekable();
        let own = alive.peek().is_none();
        let best = alive.max_by_key(|(id, _)| (bid(key, id.0.unsigned_abs().into()), *id));
        best.map_or(own, |(_, node)| {
            node.incarnation() == self.inner.incarnation
        })
    }

    /// The right to rewrite a partition, unless another job of this node has it.
    pub(super) fn reserve(&self, partition: TopicPartition) -> Option<Reserved> {
        lock(&self.inner.rewriting)
            .insert(partition)
            .then(|| Reserved {
                inner: Arc::clone(&self.inner),
                partition,
            })
    }

    /// Steps back while clients are being held up.
    pub(super) async fn give_way(&self) {
        let began = Instant::now();
        while (self.inner.busy)() && began.elapsed() < GIVE_WAY_TIMEOUT {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until a request for so many bytes may be made: none of a client is held up, the bandwidth allows it, and
    /// few others are under way. Requests are made one by one at the pace of the bandwidth, and not many at once, for a
    /// commit may have to wait for those that came before it. The place is given back when what is returned is dropped.
    pub(super) async fn turn_to_read(&self, bytes: u64) -> SemaphorePermit<'_> {
        let places = bytes.div_ceil(1 << 20).clamp(1, READS_AT_ONCE as u64) as u32;
        let permit = self.inner.reading.acquire_many(places).await;
        self.give_way().await;
        self.pace(bytes).await;
        permit.expect("the semaphore is never closed")
    }

    /// Waits until that many more bytes may be read.
    pub(super) async fn pace(&self, bytes: u64) {
        let Some(rate) = self.options().compaction.bandwidth else {
            return;
        };
        let cost = Duration::from_secs_f64(bytes as f64 / rate.0.max(1) as f64);
        let due = {
            let mut paid = lock(&self.inner.paid);
            let due = (*paid).max(Instant::now());
            *paid = due + cost;
            due
        };
        tokio::time::sleep_until(due).await;
    }

    /// Since when nothing was stored, as far as this node has seen.
    pub(super) fn quiet_since(&self, state: &State) -> Timestamp {
        let mut quiet = lock(&self.inner.quiet);
        if quiet.0 != state.totals() {
            *quiet = (state.totals(), self.time());
        }
        quiet.1
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in a critical section panics half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
