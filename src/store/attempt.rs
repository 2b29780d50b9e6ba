//! One attempt of a request, and the loop that repeats attempts.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use crate::env::Env;
use crate::types::Timestamp;

use super::backend::{Backend, Nature};
use super::client::Store;
use super::error::{Cause, StoreError};
use super::failure::{Failure, Verdict, judge_http, judge_local};
use super::hedge::Hedging;
use super::metrics::{Outcome, RequestKind, StoreMetrics};
use super::options::StoreOptions;
use super::watch::ClockWatch;
use super::wire::Trace;

/// A backend with bounds, timeouts, retries and metrics.
#[derive(Debug)]
pub(super) struct Requests {
    pub(super) backend: Backend,
    pub(super) options: StoreOptions,
    pub(super) metrics: StoreMetrics,
    /// This machine's wall clock against the store's.
    pub(super) clock: ClockWatch,
    /// Places that are kept for requests about the manifest.
    manifest: Semaphore,
    /// Places for all.
    data: Semaphore,
    /// The last request about the manifest was not answered in its time.
    overdue: AtomicBool,
    pub(super) hedging: Hedging,
}

/// What a request about the manifest has on top of its time, for each MiB that it moves.
const TIME_PER_MIB: Duration = Duration::from_secs(2);

/// What a request is for, on what, and how large its body is.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) kind: RequestKind,
    pub(super) subject: &'a (dyn Display + Sync),
    pub(super) sent: u64,
    /// The most bytes that its answer may have, where that is known.
    pub(super) expected: u64,
}

/// One attempt that has ended, to be counted under the outcome that the caller sees in it.
pub(super) struct Attempt<'a, T> {
    pub(super) result: Result<T, Failure>,
    /// The store's clock in the answer's head.
    pub(super) date: Option<Timestamp>,
    pub(super) running: Running<'a>,
}

impl<T> Attempt<'_, T> {
    /// How long it has taken.
    pub(super) fn took(&self) -> Duration {
        self.running.began.elapsed()
    }
}

/// An attempt under way. Dropped without an outcome, as when the caller's future is, it counts as
/// cancelled.
pub(super) struct Running<'a> {
    metrics: &'a StoreMetrics,
    kind: RequestKind,
    began: Instant,
    ended: Option<(Outcome, Instant)>,
}

impl Running<'_> {
    pub(super) fn end(mut self, outcome: Outcome) {
        self.ended = Some((outcome, Instant::now()));
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let (outcome, at) = self.ended.unwrap_or((Outcome::Cancelled, Instant::now()));
        self.metrics.ended(self.kind, outcome, at - self.began);
    }
}

impl Requests {
    pub(super) fn new(backend: Backend, options: StoreOptions, metrics: StoreMetrics) -> Requests {
        let places = options.max_requests.clamp(2, Semaphore::MAX_PERMITS);
        let kept = (places / 4).max(1);
        let clock = ClockWatch::new(options.env.clone(), metrics.clock_off.clone());
        Requests {
            backend,
            options,
            metrics,
            clock,
            manifest: Semaphore::new(kept),
            data: Semaphore::new(places - kept),
            overdue: AtomicBool::new(false),
            hedging: Hedging::default(),
        }
    }

    /// How long an attempt may take, of at most `limit`. Everybody waits for a request about the manifest, and
    /// making one again is always safe, so one that got lost is not waited for as long as an upload may take. A
    /// store that is slow, and not just silent, is given twice the time after that.
    fn timeout(&self, asked: Asked<'_>, limit: Duration) -> Duration {
        if !asked.kind.is_manifest() {
            return limit;
        }
        let times = if self.overdue.load(Ordering::Relaxed) {
            2
        } else {
            1
        };
        let mib = u32::try_from(asked.sent.max(asked.expected) >> 20).unwrap_or(u32::MAX);
        let timeout = self.options.log_timeout.saturating_mul(times);
        limit.min(timeout.saturating_add(TIME_PER_MIB.saturating_mul(mib)))
    }

    pub(super) fn env(&self) -> &Env {
        &self.options.env
    }

    /// Places for data are also taken by requests about the manifest, not the other way round.
    pub(super) async fn place(&self, kind: RequestKind) -> SemaphorePermit<'_> {
        let place = if kind.is_manifest() {
            tokio::select! {
                biased;
                place = self.manifest.acquire() => place,
                place = self.data.acquire() => place,
            }
        } else {
            self.data.acquire().await
        };
        place.expect("the semaphores are never closed")
    }

    /// A place, if one is free.
    pub(super) fn free_place(&self, kind: RequestKind) -> Option<SemaphorePermit<'_>> {
        let places = match kind.is_manifest() {
            true => &self.manifest,
            false => &self.data,
        };
        places.try_acquire().ok()
    }

    /// Makes one attempt, when there is a place for it, and gives it at most `limit`, or less: see
    /// [`Requests::timeout`].
    pub(super) async fn attempt<T>(
        &self,
        asked: Asked<'_>,
        limit: Duration,
        work: impl Future<Output = object_store::Result<T>>,
    ) -> Attempt<'_, T> {
        let place = self.place(asked.kind).await;
        self.attempt_in(place, asked, limit, work).await
    }

    /// Makes one attempt in that place.
    pub(super) async fn attempt_in<'a, T>(
        &'a self,
        _place: SemaphorePermit<'a>,
        asked: Asked<'_>,
        limit: Duration,
        work: impl Future<Output = object_store::Result<T>>,
    ) -> Attempt<'a, T> {
        let limit = self.timeout(asked, limit);
        let running = Running {
            metrics: &self.metrics,
            kind: asked.kind,
            began: Instant::now(),
            ended: None,
        };
        self.metrics.add_sent(asked.kind, asked.sent);
        let trace = Arc::new(Trace::default());
        let asked_at = self.env().boot();
        let done = timeout(limit, Trace::noting(Arc::clone(&trace), work)).await;
        if asked.kind.is_manifest() {
            self.overdue.store(done.is_err(), Ordering::Relaxed);
        }
        let traced = trace.read();
        if let Some(date) = traced.date_of_store() {
            self.clock.note(date, asked_at);
        }
        let over_http = matches!(self.backend.nature, Nature::Http(_));
        let result = match done {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) if over_http => Err(judge_http(&error, &traced)),
            Ok(Err(error)) => Err(judge_local(&error)),
            Err(_) => Err(Failure {
                verdict: Verdict::Transient {
                    reached: traced.sent || !over_http,
                },
                cause: Cause::new(&format!("no answer within {:.1} s", limit.as_secs_f64())),
                foreign: false,
            }),
        };
        Attempt {
            result,
            date: traced.date_of_store(),
            running,
        }
    }

    /// Makes attempts until one succeeds, fails for good, or the deadline passes. Only for requests that
    /// may be repeated whatever became of the attempts before. `Err(Ok(verdict))` is a final answer that
    /// the caller turns into its own error.
    pub(super) async fn repeat<T, W>(
        &self,
        asked: Asked<'_>,
        work: impl Fn() -> W,
    ) -> Result<T, Ended>
    where
        W: Future<Output = object_store::Result<T>>,
    {
        self.repeat_by(asked, |limit| self.attempt(asked, limit, work()))
            .await
    }

    /// The same with attempts of whatever kind, which are told how long they may take.
    pub(super) async fn repeat_by<'a, T, A>(
        &'a self,
        asked: Asked<'_>,
        attempt: impl Fn(Duration) -> A,
    ) -> Result<T, Ended>
    where
        A: Future<Output = Attempt<'a, T>>,
    {
        let began = Instant::now();
        let policy = self.options.retry;
        let deadline = began + policy.deadline;
        let mut attempts = 0u32;
        loop {
            attempts = attempts.saturating_add(1);
            let left = deadline.saturating_duration_since(Instant::now());
            let limit = self.options.request_timeout.min(left);
            // Waiting for a place counts towards the deadline too.
            let Ok(attempt) = tokio::time::timeout_at(deadline, attempt(limit)).await else {
                let cause = Cause::new("no answer before the deadline");
                return Err(Ended::Error(
                    self.unavailable(asked, cause, attempts, began),
                ));
            };
            let failure = match attempt.result {
                Ok(value) => {
                    attempt.running.end(Outcome::Ok);
                    return Ok(value);
                }
                Err(failure) => failure,
            };
            match failure.verdict {
                Verdict::NotFound => {
                    attempt.running.end(Outcome::NotFound);
                    return Err(Ended::NotFound);
                }
                Verdict::OutOfRange => {
                    attempt.running.end(Outcome::Error);
                    return Err(Ended::OutOfRange);
                }
                Verdict::Permanent { advice } => {
                    attempt.running.end(Outcome::Error);
                    return Err(Ended::Error(refused(asked, failure.cause, advice)));
                }
                Verdict::Exists => {
                    attempt.running.end(Outcome::Error);
                    let advice =
                        "This request set no condition: check what is between Weir and the store";
                    return Err(Ended::Error(refused(asked, failure.cause, advice)));
                }
                Verdict::Transient { .. } => {}
            }
            let pause = policy.pause(attempts, self.env());
            if Instant::now() + pause >= deadline {
                attempt.running.end(Outcome::Error);
                let error = self.unavailable(asked, failure.cause, attempts, began);
                return Err(Ended::Error(error));
            }
            attempt.running.end(Outcome::Retry);
            if failure.foreign && attempts.is_power_of_two() {
                // Nothing is known to be wrong with the store, and somebody may have to do something.
                tracing::warn!(kind = asked.kind.label(), cause = %failure.cause, attempts, "trying again");
            }
            tracing::debug!(
                kind = asked.kind.label(), subject = %asked.subject, cause = %failure.cause, attempts,
                "retrying a request to the store"
            );
            tokio::time::sleep(pause).await;
        }
    }

    pub(super) fn unavailable(
        &self,
        asked: Asked<'_>,
        cause: Cause,
        attempts: u32,
        began: Instant,
    ) -> StoreError {
        StoreError::Unavailable {
            kind: asked.kind,
            subject: asked.subject.to_string(),
            cause,
            attempts,
            elapsed: began.elapsed(),
        }
    }
}

/// While it lives there are more places for requests about the manifest.
pub struct MorePlaces(Arc<Requests>);

/// How many there are then.
const MORE_PLACES: usize = 192;

impl Store {
    /// Gives requests about the manifest more places, and sockets, than `max_requests`, for as long as the guard lives.
    /// For a node that is starting: it has no clients that need sockets, and a long log to read.
    pub fn more_places(&self) -> MorePlaces {
        self.requests.manifest.add_permits(MORE_PLACES);
        MorePlaces(Arc::clone(&self.requests))
    }
}

impl Drop for MorePlaces {
    fn drop(&mut self) {
        // Those who read have ended, so that all of them are free.
        self.0.manifest.forget_permits(MORE_PLACES);
    }
}

/// How a request ended that did not succeed.
pub(super) enum Ended {
    NotFound,
    OutOfRange,
    Error(StoreError),
}

pub(super) fn refused(asked: Asked<'_>, cause: Cause, advice: &'static str) -> StoreError {
    StoreError::Refused {
        kind: asked.kind,
        subject: asked.subject.to_string(),
        cause,
        advice,
    }
}
