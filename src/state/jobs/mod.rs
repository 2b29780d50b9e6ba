//! Background jobs, and who claimed them.
//!
//! A claim keeps two nodes from doing the same work at the same time. Nothing else depends on it: the result of a job
//! is an op that the fold judges by its inputs alone, so a claim that lapses under its holder, or is never asked for,
//! costs work and harms nothing.
//!
//! Durable: the [`Claims`]. Derived from them: which an incarnation holds, and which lapse first.

mod rules;

#[cfg(test)]
mod tests;

use imbl::{OrdMap, OrdSet};
use minicbor::{Decode, Encode};
use serde::Serialize;

use super::State;
use super::codec::map;
use super::log::{Feature, Level};
use crate::rules::{Rule, holds};
use crate::types::{Incarnation, TableId, Timestamp, TopicPartition};

/// A piece of background work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize)]
pub enum Job {
    /// Rewriting slices of a partition: compaction of its segments or of its log.
    #[n(0)]
    Compaction(#[n(0)] TopicPartition),
    /// Deleting dead objects.
    #[n(1)]
    Deletion,
    /// Deleting the log behind the snapshots.
    #[n(2)]
    Truncation,
    /// Finding and deleting objects that nothing ever referred to.
    #[n(3)]
    Sweep,
    /// All that is done for the archive of a topic, or for a table whose topic is deleted. Since [`Feature::Tables`].
    #[n(4)]
    Archive(#[n(0)] TableId),
}

impl Job {
    /// The level that a node must know to fold a claim of it.
    pub(super) fn level(self) -> Level {
        match self {
            Job::Archive(_) => Feature::Tables.since(),
            Job::Compaction(_) | Job::Deletion | Job::Truncation | Job::Sweep => Level::FIRST,
        }
    }
}

/// Who does a job, and until when nobody else should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Claim {
    /// The incarnation of the node.
    #[n(0)]
    pub incarnation: Incarnation,
    /// When it lapses, in the fold's time.
    #[n(1)]
    pub until: Timestamp,
}

/// The claims that hold, and those that have lapsed since the last one was made.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode, Serialize)]
#[cbor(array)]
pub(super) struct Claims {
    #[cbor(n(0), with = "map")]
    claims: OrdMap<Job, Claim>,
    /// What each incarnation has claimed. Derived.
    #[cbor(skip)]
    #[serde(skip)]
    by_run: OrdMap<Incarnation, OrdSet<Job>>,
    /// Those that lapse first. Derived.
    #[cbor(skip)]
    #[serde(skip)]
    by_end: OrdSet<(Timestamp, Job)>,
}

impl Claims {
    fn get(&self, job: Job) -> Option<Claim> {
        self.claims.get(&job).copied()
    }

    fn iter(&self) -> impl Iterator<Item = (Job, Claim)> {
        self.claims.iter().map(|(job, claim)| (*job, *claim))
    }

    /// Gives `job` to an incarnation, or prolongs what it has. Refused, with the claim that stands, while another holds
    /// it.
    fn claim(&mut self, job: Job, claim: Claim, now: Timestamp) -> Result<(), Claim> {
        let held = self.get(job);
        if let Some(held) = held.filter(|held| !held.is_open_to(claim.incarnation, now)) {
            return Err(held);
        }
        while let Some((until, lapsed)) = self.by_end.get_min().copied()
            && until < now
        {
            self.remove(lapsed);
        }
        self.remove(job);
        self.claims.insert(job, claim);
        self.enter(job, claim);
        Ok(())
    }

    fn release(&mut self, job: Job, incarnation: Incarnation) {
        if self
            .get(job)
            .is_some_and(|held| held.incarnation == incarnation)
        {
            self.remove(job);
        }
    }

    /// Forgets what an incarnation held that is gone.
    pub(super) fn release_all(&mut self, incarnation: Incarnation) {
        for job in self.by_run.get(&incarnation).cloned().unwrap_or_default() {
            self.remove(job);
        }
    }

    /// Makes what is derived.
    pub(super) fn index(&mut self) {
        for (job, claim) in self.claims.clone() {
            self.enter(job, claim);
        }
    }

    fn enter(&mut self, job: Job, claim: Claim) {
        self.by_end.insert((claim.until, job));
        self.by_run
            .entry(claim.incarnation)
            .or_default()
            .insert(job);
    }

    fn remove(&mut self, job: Job) {
        let Some(claim) = self.claims.remove(&job) else {
            return;
        };
        self.by_end.remove(&(claim.until, job));
        if let Some(jobs) = self.by_run.get_mut(&claim.incarnation) {
            jobs.remove(&job);
            if jobs.is_empty() {
                self.by_run.remove(&claim.incarnation);
            }
        }
    }
}

impl Claim {
    /// Whether this claim does not keep `incarnation` from the job.
    pub fn is_open_to(&self, incarnation: Incarnation, now: Timestamp) -> bool {
        self.incarnation == incarnation || self.until < now || !holds(Rule::JobsHaveOneHolder)
    }
}

impl State {
    /// Who does a background job, if anybody claimed it. The claim may have lapsed.
    pub fn claim(&self, job: Job) -> Option<Claim> {
        self.claims.get(job)
    }

    /// All claims, lapsed ones among them.
    pub fn claims(&self) -> impl Iterator<Item = (Job, Claim)> {
        self.claims.iter()
    }
}
