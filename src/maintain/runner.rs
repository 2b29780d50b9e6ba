//! When which job runs, and on which node.
//!
//! Each task is looked at every interval. It is done when it is due and falls to this node; or if it falls to another
//! and is still due after a few intervals: that one is busy, or dead, or does not know yet that it is. Before a node
//! takes what falls to another it brings its state up to date, for most likely the work is done.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::archive::{self, Archiving};
use super::compaction::Compacting;
use super::error::JobError;
use super::maintenance::Maintenance;
use super::metrics::Task;
use super::{cleaning, deletion, producers, retention, sweep, truncation};
use crate::manifest::Stopped;
use crate::state::State;
use crate::state::table::Counts;
use crate::types::Timestamp;

/// The longest pause after failures in a row.
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// Whether there is work, and if so, how long it may wait.
type Due = fn(&Maintenance, &State, Timestamp) -> Option<Duration>;

/// A task with what is remembered of it between looks.
pub(super) struct Duty {
    task: Task,
    due: Due,
    run: for<'a> fn(&'a Maintenance) -> BoxFuture<'a, Result<bool, JobError>>,
    /// Since when there is work.
    since: Option<Instant>,
    pub(super) backoff: Backoff,
}

/// Failures in a row, and until when to leave it alone.
#[derive(Default)]
pub(super) struct Backoff {
    failures: u32,
    until: Option<Instant>,
}

impl Backoff {
    pub(super) fn holds(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }

    pub(super) fn succeeded(&mut self) {
        *self = Backoff::default();
    }

    pub(super) fn failed(&mut self, m: &Maintenance) {
        let times = 2u32.saturating_pow(self.failures.min(16));
        let pause = m.options().interval.saturating_mul(times).min(MAX_PAUSE);
        self.failures += 1;
        self.until = Some(Instant::now() + m.inner.env.jittered(pause));
    }
}

fn at_once(due: bool) -> Option<Duration> {
    due.then_some(Duration::ZERO)
}

fn housekeeping() -> Vec<Duty> {
    let duty = |task, due, run| Duty {
        task,
        due,
        run,
        since: None,
        backoff: Backoff::default(),
    };
    vec![
        duty(
            Task::Retention,
            |_, state, now| at_once(retention::is_due(state, now)),
            |m| retention::run(m).boxed(),
        ),
        duty(
            Task::Producers,
            |m, state, now| at_once(producers::is_due(m, state, now)),
            |m| producers::run(m).boxed(),
        ),
        duty(
            Task::Deletion,
            |m, state, now| at_once(deletion::is_due(m, state, now)),
            |m| deletion::run(m).boxed(),
        ),
        duty(
            Task::Truncation,
            |m, state, _| truncation::is_due(m, state),
            |m| truncation::run(m).boxed(),
        ),
    ]
}

fn sweeping() -> Vec<Duty> {
    vec![Duty {
        task: Task::Sweep,
        due: |m, state, now| at_once(sweep::is_due(m, state, now)),
        run: |m| sweep::run(m).boxed(),
        since: None,
        backoff: Backoff::default(),
    }]
}

impl Maintenance {
    /// Does what is to do, until `stop`. What is under way then is dropped: another node, or the next incarnation of
    /// this one, begins it again.
    pub async fn run(&self, stop: CancellationToken) {
        // A sweep takes long, and so does compaction; they must not hold up what is quick.
        let lanes = async {
            tokio::join!(
                self.lane(housekeeping()),
                self.lane(sweeping()),
                self.compacting(),
                self.clean_logs(),
                self.archiving(),
            )
        };
        let _ = stop.run_until_cancelled(lanes).await;
    }

    /// Looks after some duties, one after the other, until the manifest ends.
    async fn lane(&self, mut duties: Vec<Duty>) {
        loop {
            tokio::time::sleep(self.inner.env.jittered(self.options().interval)).await;
            for duty in &mut duties {
                if self.tend(duty).await.is_err() {
                    return;
                }
            }
            let state = self.state();
            self.note(&state);
        }
    }

    /// Compacts until the manifest ends.
    async fn compacting(&self) {
        let mut compacting = Compacting::default();
        loop {
            tokio::time::sleep(self.inner.env.jittered(self.options().interval)).await;
            if compacting.tend(self).await.is_err() {
                return;
            }
        }
    }

    /// Looks after tables until the manifest ends.
    async fn archiving(&self) {
        let mut archiving = Archiving::default();
        loop {
            tokio::time::sleep(self.inner.env.jittered(self.options().interval)).await;
            if archiving.tend(self).await.is_err() {
                return;
            }
        }
    }

    /// Shows what the state says of tables.
    pub(super) fn note_archive(&self, state: &State) {
        let (mut lag, mut total, mut tables) = (archive::Lag::default(), Counts::default(), 0);
        for table in state.tables().filter(|table| !table.is_dropped()) {
            tables += 1;
            let of = table.total();
            total.files += of.files;
            total.bytes += of.bytes;
            total.rows += of.rows;
            total.errors += of.errors;
            let topic = table.topic().filter(|_| table.is_enabled());
            let Some(topic) = topic.and_then(|topic| state.topic(topic)) else {
                continue;
            };
            let of = archive::backlog(state, topic);
            lag.records += of.records;
            lag.bytes += of.bytes;
            lag.oldest = lag.oldest.into_iter().chain(of.oldest).min();
        }
        self.inner
            .metrics
            .set_archive(tables, total, lag, self.time());
    }

    /// Shows what the state says about what is left to do.
    fn note(&self, state: &State) {
        let dead = state.dead_objects().filter(|(_, dead)| !dead.deleted);
        self.inner.metrics.set_dead(dead.count() as u64);
        let log = state.seq().0.saturating_sub(state.log_truncated().0);
        self.inner.metrics.set_log(log);
        self.inner.metrics.set_dirty(cleaning::dirty(state));
        let totals = state.totals();
        if totals.appended.0 > 0 {
            let written = totals.appended.0 as f64 + totals.compacted.0 as f64;
            self.inner
                .metrics
                .set_amplification(written / totals.appended.0 as f64);
        }
    }

    /// Does a duty if it is due and this node's. An error is the end of the manifest.
    async fn tend(&self, duty: &mut Duty) -> Result<(), Stopped> {
        let state = self.state();
        let Some(wait) = (duty.due)(self, &state, self.passed()) else {
            duty.since = None;
            return Ok(());
        };
        let since = *duty.since.get_or_insert_with(Instant::now);
        let preferred = self.is_preferred(duty.task as u64, &state);
        let delay = self.takeover_delay(preferred);
        if since.elapsed() < wait + delay || duty.backoff.holds() {
            return Ok(());
        }
        if !preferred {
            let fresh = match self.inner.manifest.fresh().await {
                Ok(state) => state,
                Err(stopped) => return self.unless_ended(stopped),
            };
            if (duty.due)(self, &fresh, self.passed()).is_none() {
                duty.since = None;
                return Ok(());
            }
        }
        duty.since = None;
        let done = (duty.run)(self).await;
        self.conclude(duty.task, &mut duty.backoff, done)
    }

    /// How long a node leaves work to the node that should do it before it takes the work over.
    pub(super) fn takeover_delay(&self, preferred: bool) -> Duration {
        let options = self.options();
        if preferred {
            Duration::ZERO
        } else {
            options.interval * options.takeover_intervals
        }
    }

    /// Counts and logs how a run ended.
    pub(super) fn conclude(
        &self,
        task: Task,
        backoff: &mut Backoff,
        done: Result<bool, JobError>,
    ) -> Result<(), Stopped> {
        match done {
            Ok(did) => {
                backoff.succeeded();
                if did {
                    self.inner.metrics.succeeded(task, self.inner.env.wall());
                }
                Ok(())
            }
            Err(JobError::Stopped(stopped)) if self.inner.manifest.stopped().is_some() => {
                Err(stopped)
            }
            Err(error) if error.is_benign() => {
                tracing::debug!(task = task.label(), %error, "left to others");
                Ok(())
            }
            Err(error) => {
                tracing::warn!(task = task.label(), %error, "background work failed; it will be tried again");
                self.inner.metrics.failed(task);
                backoff.failed(self);
                Ok(())
            }
        }
    }

    fn unless_ended(&self, stopped: Stopped) -> Result<(), Stopped> {
        match self.inner.manifest.stopped() {
            Some(_) => Err(stopped),
            None => Ok(()),
        }
    }
}
