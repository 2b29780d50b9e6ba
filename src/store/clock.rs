//! The store's clock against ours.

use tokio::time::Instant;

use crate::types::Timestamp;

use super::backend::Nature;
use super::client::{Store, reading};
use super::error::StoreError;
use super::failure::Verdict;
use super::metrics::{Outcome, RequestKind};
use super::paths::ObjectPath;
use super::watch::ClockOff;

/// How far the store's clock is from ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ClockDifference {
    /// The store's clock minus ours, in milliseconds.
    pub ahead_millis: i64,
    /// How far off that figure may be, in milliseconds: stores tell the time to the second.
    pub uncertainty_millis: u64,
}

impl ClockDifference {
    /// The difference that an answer with this date shows. The head of an answer tells the second that had
    /// begun when it was written.
    fn between(date: Timestamp, asked: Timestamp, answered: Timestamp) -> ClockDifference {
        let round_trip = u64::try_from(answered.0.saturating_sub(asked.0)).unwrap_or(0);
        ClockDifference {
            ahead_millis: date.0 + 500 - asked.0.midpoint(answered.0),
            uncertainty_millis: 500 + round_trip / 2,
        }
    }

    /// Whether the clocks certainly differ by more than that.
    pub fn exceeds(&self, limit: std::time::Duration) -> bool {
        let certain = self
            .ahead_millis
            .unsigned_abs()
            .saturating_sub(self.uncertainty_millis);
        u128::from(certain) > limit.as_millis()
    }
}

impl Store {
    /// About what the store's clock says, if this machine's wall clock is too far from it, as far as the store's
    /// answers have shown. Asks nobody.
    pub fn clock_instead(&self) -> Option<Timestamp> {
        self.requests.clock.instead()
    }

    /// Whether this machine's wall clock is near enough to the store's, as far as its answers have shown. Asks nobody.
    ///
    /// # Errors
    /// [`ClockOff`].
    pub fn judge_clock(&self) -> Result<(), ClockOff> {
        self.requests.clock.judge()
    }

    /// Whether the only clock of the store is the time it gives to what is written.
    pub(super) fn has_file_clock(&self) -> bool {
        self.requests.backend.nature == Nature::File
    }

    /// How far the store's clock is from ours, measured with an object that was written just now, at
    /// `written` by our clock. `None` for a store that has no clock of its own.
    ///
    /// # Errors
    /// Those of [`Store::head`].
    pub async fn clock_difference(
        &self,
        object: &ObjectPath,
        written: Timestamp,
        kind: RequestKind,
    ) -> Result<Option<ClockDifference>, StoreError> {
        match self.requests.backend.nature {
            Nature::Memory => Ok(None),
            Nature::File => {
                let meta = self.head(object, kind).await?;
                let now = self.options().env.wall();
                let write_took = u64::try_from(now.0.saturating_sub(written.0)).unwrap_or(0);
                Ok(Some(ClockDifference {
                    ahead_millis: meta.last_modified.0.saturating_sub(written.0),
                    uncertainty_millis: write_took.saturating_add(10),
                }))
            }
            Nature::Http(_) => self.http_clock_difference(object, kind).await,
        }
    }

    async fn http_clock_difference(
        &self,
        object: &ObjectPath,
        kind: RequestKind,
    ) -> Result<Option<ClockDifference>, StoreError> {
        let location = self.location(object);
        let asked = reading(object, kind);
        let (options, began) = (self.options(), Instant::now());
        let mut attempts = 0;
        loop {
            attempts += 1;
            let asked_at = options.env.wall();
            let head = self.meta(&location);
            let attempt = self
                .requests
                .attempt(asked, options.request_timeout, head)
                .await;
            let answered_at = options.env.wall();
            let Err(failure) = attempt.result else {
                attempt.running.end(Outcome::Ok);
                return Ok(attempt
                    .date
                    .map(|date| ClockDifference::between(date, asked_at, answered_at)));
            };
            let pause = options.retry.pause(attempts, &options.env);
            let retriable = matches!(failure.verdict, Verdict::Transient { .. });
            if !retriable || began.elapsed() + pause >= options.retry.deadline {
                attempt.running.end(Outcome::Error);
                let error = self
                    .requests
                    .unavailable(asked, failure.cause, attempts, began);
                return Err(error);
            }
            attempt.running.end(Outcome::Retry);
            tokio::time::sleep(pause).await;
        }
    }
}
