//! How background jobs are claimed and given back.

use std::time::Duration;

use super::{Claim, Job};
use crate::state::State;
use crate::state::op::{Applied, Outcome, Rejected};
use crate::types::Incarnation;

impl State {
    /// Gives a job to an incarnation of a node, or prolongs its claim.
    pub(in crate::state) fn claim_job(
        &mut self,
        job: Job,
        incarnation: Incarnation,
        lease_millis: u64,
    ) -> Outcome {
        let now = self.time;
        let until = now.after(Duration::from_millis(lease_millis));
        let claim = Claim { incarnation, until };
        let claimed = self.claims.claim(job, claim, now);
        claimed.map_err(|held| Rejected::JobHeld { job, held })?;
        Ok(Applied::Done)
    }

    /// Takes a job back from the incarnation that held it.
    pub(in crate::state) fn release_job(&mut self, job: Job, incarnation: Incarnation) -> Outcome {
        self.claims.release(job, incarnation);
        Ok(Applied::Done)
    }
}
