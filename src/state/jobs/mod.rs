//! Background jobs, and who claimed them.
//!
//! A claim keeps two nodes from doing the same work at the same time. Nothing else depends on it: the result of a job
//! is an op that the fold judges by its inputs alone, so a claim that lapses under its holder, or is never asked for,
//! costs work and harms nothing.
//!
//! Durable: the [`Claims`].

mod rules;

#[cfg(test)]
mod tests;

use imbl::OrdMap;
use minicbor::{Decode, Encode};
use serde::Serialize;

use super::State;
use super::codec::map;
use crate::mutants::{self, Mutant};
use crate::types::{Incarnation, Timestamp, TopicPartition};

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
}

/// Who does a job, and until when nobody else should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Claim {
    /// The run of the node.
    #[n(0)]
    pub incarnation: Incarnation,
    /// When it lapses, in the fold's time.
    #[n(1)]
    pub until: Timestamp,
}

/// The claims that hold.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode, Serialize)]
#[cbor(array)]
pub(super) struct Claims {
    #[cbor(n(0), with = "map")]
    claims: OrdMap<Job, Claim>,
}

impl Claims {
    pub(super) fn get(&self, job: Job) -> Option<Claim> {
        self.claims.get(&job).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Job, Claim)> {
        self.claims.iter().map(|(job, claim)| (*job, *claim))
    }

    /// Gives `job` to a run, or prolongs what it has. Refused, with the claim that stands, while another run holds it.
    pub(super) fn claim(&mut self, job: Job, claim: Claim, now: Timestamp) -> Result<(), Claim> {
        let held = self.claims.get(&job).copied();
        if let Some(held) = held.filter(|held| !held.is_open_to(claim.incarnation, now)) {
            return Err(held);
        }
        self.forget(|claim| claim.until < now);
        self.claims.insert(job, claim);
        Ok(())
    }

    pub(super) fn release(&mut self, job: Job, incarnation: Incarnation) {
        if self
            .get(job)
            .is_some_and(|held| held.incarnation == incarnation)
        {
            self.claims.remove(&job);
        }
    }

    /// Forgets what a run held that is gone.
    pub(super) fn release_all(&mut self, incarnation: Incarnation) {
        self.forget(|claim| claim.incarnation == incarnation);
    }

    fn forget(&mut self, which: impl Fn(&Claim) -> bool) {
        let gone: Vec<Job> = self
            .iter()
            .filter(|(_, claim)| which(claim))
            .map(|(job, _)| job)
            .collect();
        for job in gone {
            self.claims.remove(&job);
        }
    }
}

impl Claim {
    /// Whether this claim does not keep `incarnation` from the job.
    pub fn is_open_to(&self, incarnation: Incarnation, now: Timestamp) -> bool {
        self.incarnation == incarnation || self.until < now || mutants::on(Mutant::ClaimsIgnored)
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
