//! Idempotent producers that have written nothing for long are forgotten, as in Kafka
//! (`producer.id.expiration.ms`). A retry that comes later still is taken for a new batch, as there.

use std::time::Duration;

use super::error::JobError;
use super::maintenance::Maintenance;
use crate::rules::{Rule, holds};
use crate::state::State;
use crate::state::op::Op;
use crate::types::Timestamp;

/// How much longer one is remembered, so that they go together.
const LATENESS: u32 = 10;

/// Whether there is one to forget.
pub(super) fn is_due(m: &Maintenance, state: &State, now: Timestamp) -> bool {
    let keep = match holds(Rule::ProducersAreRemembered) {
        true => m.options().producer_expiration,
        false => Duration::ZERO,
    };
    let before = ago(now, keep + keep / LATENESS);
    state.has_producers_older_than(before)
}

/// Forgets them. Returns whether there was any.
///
/// # Errors
///
/// [`JobError::Stopped`]: the op may have taken effect.
pub async fn run(m: &Maintenance) -> Result<bool, JobError> {
    let now = m.passed();
    if !is_due(m, &m.state(), now) {
        return Ok(false);
    }
    let before = ago(now, m.options().producer_expiration);
    m.must_commit(vec![Op::ExpireProducers { before }]).await?;
    tracing::info!(%before, "forgot idle producers");
    Ok(true)
}

/// The time `by` before `now`.
pub(super) fn ago(now: Timestamp, by: Duration) -> Timestamp {
    let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    Timestamp(now.0.saturating_sub(millis).max(0))
}
