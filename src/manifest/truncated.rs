//! The log truncated under a node that slept.
//!
//! A commit that is deleted leaves its name free. So to a node that did not see the commit, the end of the log seems to
//! be where it is not: a probe finds nothing there, and a create succeeds. Even a commit that is found may be one that
//! another such node put there. All three answers are wrong in one way: the log has gone on.
//!
//! The rule that keeps them harmless: no commit is deleted before the boundary that allows it is stored, and no
//! boundary is stored before a snapshot beyond it has been known for [`TRUNCATION_AGE`](crate::state::TRUNCATION_AGE).
//! So a node that has *proof* not older than [`TAIL_PROOF_LIFE`](crate::state::TAIL_PROOF_LIFE) that nothing stood at
//! the next seq can trust any answer about it; and one whose proof is older when the answer comes asks for a boundary
//! at or beyond that seq before it believes anything. Is there one, the node forgets its state and starts over from the
//! newest snapshot. What it was just committing was then created too late to be seen by anybody, or long ago, before it
//! slept: its waiters are told that the outcome is unknown.
//!
//! The age of a proof counts by the boot-time clock: a machine that is suspended does not stop it.
//!
//! The records in a commit are read by its name as well, by a state that may be old. A name in it that was deleted may
//! be taken, too; so who reads by a state checks [`Proof`] when the bytes have come, and reads again by a newer state
//! if it is too old. A proof that came during the read does not count: it is of another state.

use std::sync::atomic::Ordering;

use super::due::Replay;
use super::error::OpenError;
use super::freshness::{Moment, Proof};
use super::handle::{Stopped, refuse};
use super::restore::newest_state;
use super::tail::{LogEnd, Tail};
use crate::rules::{Rule, holds};
use crate::store::{ObjectPath, ObjectPrefix, StoreError};

impl Tail {
    /// A request sent at that moment showed that nothing stood at the next seq, and that the store does what it is
    /// asked.
    pub(super) fn note_proof(&mut self, sent: Moment) {
        self.freshness.prove(sent);
        self.manifest.shared.refuse_no_longer();
    }

    /// Lets readers know how old the proof of the published state is. After the state is published, never before: who
    /// reads the proof and then takes the state must not get an older state than the proof is of.
    pub(super) fn publish_proof(&self) {
        let Proof(proven) = self.freshness.proof();
        let nanos = u64::try_from(proven.as_nanos()).unwrap_or(u64::MAX);
        self.manifest
            .shared
            .proven
            .fetch_max(nanos, Ordering::Release);
    }

    /// Whether an answer about the next seq that has just come cannot be believed, because the log was truncated
    /// beyond it while this node knew nothing of the log's end. Asks the store only if the last proof is old.
    pub(super) async fn is_left_behind(&mut self) -> Result<bool, StoreError> {
        let is_trusted = self.freshness.is_trusted(self.env.boot());
        if is_trusted || !holds(Rule::SleepersLookForBoundary) {
            return Ok(false);
        }
        let here = ObjectPath::boundary(self.state.seq());
        let beyond = self
            .store
            .list(ObjectPrefix::Boundaries, Some(&here), 1)
            .await?;
        Ok(!beyond.is_empty())
    }

    /// The same, asking for as long as it takes to know.
    pub(super) async fn is_left_behind_for_sure(&mut self) -> bool {
        let mut failures = 0;
        loop {
            match self.is_left_behind().await {
                Ok(behind) => return behind,
                Err(error) => {
                    self.pause_after(&error, &mut failures, "look for a truncation of the log")
                        .await;
                }
            }
        }
    }

    /// Forgets the state for that of the newest snapshot, from which on the log is whole.
    ///
    /// # Errors
    ///
    /// [`Stopped::Halted`] if there is no snapshot beyond this node's state, which a truncated log must have.
    pub(super) async fn start_over(&mut self) -> Result<(), Stopped> {
        let mut failures = 0;
        let before = self.state.seq();
        loop {
            let listed = Moment::now(&self.env);
            let start = newest_state(&self.store, &self.metrics).await;
            let (state, is_newest) = match start {
                Ok(start) => (Ok(start.state), start.is_newest),
                Err(error) => (Err(error), false),
            };
            match state {
                Ok(state) if before < state.seq() => {
                    tracing::warn!(
                        seq = %before, snapshot = %state.seq(),
                        "the log was truncated while this node was away; starting over from a snapshot"
                    );
                    self.metrics.started_over.inc();
                    if self.may_be_stored_elsewhere() {
                        refuse(self.unsettled(), &Stopped::OutcomeUnknown);
                    }
                    self.replay = Replay::new(state.seq());
                    self.kept.clear();
                    self.state = state;
                    self.end = LogEnd::Unseen { failures: 0 };
                    self.freshness.start_over(listed, is_newest);
                    self.manifest.shared.clock.folded(self.state.time());
                    self.published.send(self.state.clone());
                    return Ok(());
                }
                Ok(state) => {
                    let reason = format!(
                        "the log is truncated beyond seq {before}, but the newest snapshot is of seq {}",
                        state.seq()
                    );
                    tracing::error!("{reason}");
                    return Err(Stopped::Halted(reason.into()));
                }
                Err(OpenError::Store(error)) => {
                    self.pause_after(&error, &mut failures, "read the newest snapshot")
                        .await;
                }
                Err(error) => {
                    tracing::error!(%error, "cannot start over from a snapshot");
                    return Err(Stopped::Halted(error.to_string().into()));
                }
            }
        }
    }
}
