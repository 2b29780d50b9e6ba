//! Claims: so that two nodes rarely do the same work. Nothing else depends on them.

use std::sync::Arc;
use std::time::Duration;

use super::error::JobError;
use super::maintenance::Maintenance;
use crate::state::op::Op;
use crate::state::{Job, State};

impl Maintenance {
    /// Claims one job. Returns the state with the claim in it, or `None` if another node has it.
    pub(super) async fn claim(&self, job: Job) -> Result<Option<Arc<State>>, JobError> {
        let (state, granted) = self.claim_all(&[job]).await?;
        Ok((granted == [job]).then_some(state))
    }

    /// Claims what others do not hold of these. Returns the state with the claims in it, and which were granted. Asks
    /// nobody if there is none to be had.
    pub(super) async fn claim_all(&self, jobs: &[Job]) -> Result<(Arc<State>, Vec<Job>), JobError> {
        let state = self.state();
        let jobs: Vec<Job> = jobs
            .iter()
            .filter(|job| self.is_open(**job, &state))
            .copied()
            .collect();
        if jobs.is_empty() {
            return Ok((state, jobs));
        }
        let committed = self
            .commit(jobs.iter().map(|job| self.claiming(*job)).collect())
            .await?;
        let outcomes = jobs.into_iter().zip(&committed.outcomes);
        let granted = outcomes
            .filter(|(_, outcome)| outcome.is_ok())
            .map(|(job, _)| job)
            .collect();
        Ok((committed.state, granted))
    }

    /// Whether no other node holds the job, as far as this one knows.
    pub(super) fn is_open(&self, job: Job, state: &State) -> bool {
        let held = state.claim(job);
        held.is_none_or(|claim| claim.is_open_to(self.inner.incarnation, self.time()))
    }

    /// Does `work` while prolonging the claims; gives up if another node has got one of them.
    pub(super) async fn holding<T>(
        &self,
        jobs: &[Job],
        work: impl Future<Output = Result<T, JobError>>,
    ) -> Result<T, JobError> {
        tokio::select! {
            biased;
            done = work => done,
            lost = self.prolong(jobs) => Err(lost),
        }
    }

    async fn prolong(&self, jobs: &[Job]) -> JobError {
        loop {
            tokio::time::sleep(self.options().claim / 3).await;
            let ops = jobs.iter().map(|job| self.claiming(*job)).collect();
            match self.commit(ops).await {
                Ok(committed) if committed.outcomes.iter().all(Result::is_ok) => {}
                Ok(_) => return JobError::ClaimLost,
                Err(error) => return error,
            }
        }
    }

    /// Gives claims back. If that fails they lapse by themselves.
    pub(super) async fn release(&self, jobs: &[Job]) {
        if let Err(error) = self.commit(self.releasing(jobs)).await {
            tracing::debug!(%error, "claims could not be released; they will expire");
        }
    }

    /// The ops that give claims back.
    pub(super) fn releasing(&self, jobs: &[Job]) -> Vec<Op> {
        let incarnation = self.inner.incarnation;
        let release = |job: &Job| Op::ReleaseJob {
            job: *job,
            incarnation,
        };
        jobs.iter().map(release).collect()
    }

    pub(super) fn claiming(&self, job: Job) -> Op {
        Op::ClaimJob {
            job,
            incarnation: self.inner.incarnation,
            lease_millis: millis(self.options().claim),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
