//! What is noted of deleting: the sweep boundary, and what is deleted.

use std::time::Duration;

use super::ObjectRef;
use crate::rules::{Rule, holds};
use crate::state::op::{Applied, Outcome, Rejected};
use crate::state::{Feature, State};
use crate::types::Timestamp;

/// How far a sweep boundary must be behind the time before the commit that raises it: so much may what others took for
/// the time, when they named their segments, have been behind.
pub(in crate::state) const SWEEP_MARGIN: Duration = Duration::from_secs(20);

impl State {
    /// The latest sweep boundary that a commit may raise that finds time at `before`.
    fn sweep_boundary_limit(&self, before: Timestamp) -> Timestamp {
        if !self.has(Feature::BoundedTime) || !holds(Rule::SweepBoundaryKeepsMargin) {
            return self.time;
        }
        let margin = i64::try_from(SWEEP_MARGIN.as_millis()).unwrap_or(i64::MAX);
        Timestamp(before.0.saturating_sub(margin))
    }

    /// Raises the sweep boundary, in a commit that found time at `now`.
    pub(in crate::state) fn raise_sweep_boundary(
        &mut self,
        before: Timestamp,
        now: Timestamp,
    ) -> Outcome {
        if before > self.sweep_boundary_limit(now) {
            return Err(Rejected::SweepBoundary { before, now });
        }
        self.objects.raise_sweep_boundary(before);
        Ok(Applied::Done)
    }

    /// Notes that dead objects are deleted from the bucket.
    pub(in crate::state) fn note_objects_deleted(&mut self, objects: &[ObjectRef]) -> Outcome {
        for object in objects {
            self.objects.note_deleted(*object);
        }
        Ok(Applied::Done)
    }
}
