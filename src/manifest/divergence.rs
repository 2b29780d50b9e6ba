//! Whether this node's state is that of the other nodes.
//!
//! All nodes fold the same log to the same state, byte for byte (I3). If that ever fails, by a fault of the fold, of a
//! machine's memory or of a repair, nodes acknowledge what others do not see, and nothing else would show it: each goes
//! on by itself without an error. So whoever announces a snapshot says the digest of the state in it, and every node
//! that folds the announcement compares the digest of its own state at that seq, in the background.
//!
//! A node has its state of that seq at hand if it kept it: a state is a few pointers, and what it keeps from being
//! freed is what was changed since. So a node keeps very few, those at the seqs of which snapshots are due (`due.rs`):
//! they follow from the state and the options, and so all nodes with the same options keep the same, and whoever takes
//! a snapshot takes it of such a one. Nothing is compared where a node has no such state: it began after that seq, it
//! has another `snapshot_every`, or the snapshot was taken because of what a start would have to fold.
//!
//! Nor is anything compared of the part of a log that a repair has changed: from a void on, up to the seal, the
//! snapshots that commits announce are of the log as it was before the repair (`maintain/repair`).
//!
//! A node that differs ends its task as for a log that cannot be folded ([`Stopped::Halted`](super::Stopped::Halted)):
//! it answers no request from then on. It cannot know whether it is wrong or the one that took the snapshot. `weir
//! fsck` can: it folds the log and compares the snapshots with that. What was acknowledged between the seq and the halt
//! is in the log.
//!
//! The comparison is not waited for and writes nothing. If the process dies before its end, the next snapshot tells.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, OnceLock};

use super::due::is_of_snapshots;
use super::options::ManifestOptions;
use super::tail::Tail;
use crate::rules::{Rule, holds};
use crate::state::op::{Commit, Op};
use crate::state::{Folded, State};
use crate::types::{CommitId, Incarnation, Seq, StateDigest};

/// How many states are kept: that of the last seq of which a snapshot is due, and the one before it, of which a
/// snapshot may be on its way.
const MAX_KEPT: usize = 2;

/// Why this node's state is not that of the log, once that has shown. Cheap to clone; clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Divergence(Arc<OnceLock<Arc<str>>>);

impl Divergence {
    /// Notes that it has shown, and says so.
    pub(super) fn note(&self, reason: String) {
        tracing::error!("{reason}");
        // The first reason is the one that counts.
        let _ = self.0.set(reason.into());
    }

    /// Why, if it has shown.
    pub(super) fn reason(&self) -> Option<&Arc<str>> {
        self.0.get()
    }
}

/// States of which a snapshot may be announced.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Oldest first.
    states: VecDeque<State>,
    /// The repairs of which a void was folded, and the seal not yet.
    unsealed: BTreeSet<Incarnation>,
}

impl Kept {
    /// Notes the void or the seal of a repair.
    fn note_repair(&mut self, commit: &Commit, folded: &Folded) {
        let incarnation = commit.id.incarnation;
        let has_effect = matches!(folded, Folded::Outcomes(_));
        if !incarnation.is_of_repair() || !has_effect || !holds(Rule::RepairedPartsAreNotCompared) {
            return;
        }
        let is_seal = commit.ops.is_empty();
        if is_seal {
            self.unsealed.remove(&incarnation);
        } else {
            self.unsealed.insert(incarnation);
        }
    }

    /// Keeps the state, if a snapshot of it is due. Lets go of those that are no newer than the last snapshot.
    fn note(&mut self, state: &State, options: &ManifestOptions) {
        let last = state
            .last_snapshot()
            .map_or(Seq::ZERO, |snapshot| snapshot.seq);
        self.states.retain(|kept| last < kept.seq());
        if is_of_snapshots(state, options) && self.unsealed.is_empty() {
            self.states.push_back(state.clone());
        }
        while self.states.len() > MAX_KEPT {
            self.states.pop_front();
        }
    }

    /// The state at `seq`, if it was kept.
    fn at(&self, seq: Seq) -> Option<&State> {
        self.states.iter().find(|kept| kept.seq() == seq)
    }

    /// The newest.
    pub(super) fn newest(&self) -> Option<&State> {
        self.states.back()
    }

    /// Lets go of all: they are of a log that this node does not go on with.
    pub(super) fn clear(&mut self) {
        *self = Kept::default();
    }
}

impl Tail {
    /// Has this node's states compared with those of the snapshots that the commit announces, and keeps the present
    /// state if there may be one of it. `forwarded` are those in the commit and what became of them.
    pub(super) fn note_states(
        &mut self,
        commit: &Commit,
        folded: &Folded,
        forwarded: &[(CommitId, Folded)],
    ) {
        self.compare(commit.id.incarnation, &commit.ops, folded);
        for (parts, (id, folded)) in commit.forwarded.iter().zip(forwarded) {
            self.compare(id.incarnation, &parts.ops, folded);
        }
        self.kept.note_repair(commit, folded);
        self.kept.note(&self.state, &self.options);
    }

    fn compare(&self, incarnation: Incarnation, ops: &[Op], folded: &Folded) {
        // Its own snapshots are of its own states.
        let is_foreign = matches!(folded, Folded::Outcomes(_)) && incarnation != self.incarnation;
        if !is_foreign || !holds(Rule::DivergentNodesHalt) {
            return;
        }
        for op in ops {
            if let Op::SnapshotTaken { seq, digest, .. } = op
                && let Some(announced) = digest
                && let Some(state) = self.kept.at(*seq)
            {
                self.compare_in_background(state.clone(), announced.clone());
            }
        }
    }

    fn compare_in_background(&self, state: State, announced: StateDigest) {
        let (env, metrics) = (self.env.clone(), self.metrics.clone());
        let (divergence, shared) = (self.divergence.clone(), self.manifest.shared.clone());
        self.env.spawn(async move {
            let seq = state.seq();
            let own = env
                .compute(move || StateDigest::of(&state.to_bytes()))
                .await;
            match own {
                Ok(own) if own == announced => {
                    metrics.states_compared.inc();
                }
                Ok(own) => {
                    metrics.divergences.inc();
                    divergence.note(format!(
                        "this node's state at commit {seq} differs from the state of the node that took the snapshot \
                         there ({own} here, {announced} there): one of them is wrong, so this node stops committing \
                         and answering. Run `weir fsck`, which says whether the snapshot is right, and report this as \
                         a bug in Weir. After a restart, this node starts from the snapshot"
                    ));
                    // The task may be at rest.
                    shared.nudged.notify_one();
                }
                Err(error) => tracing::warn!(%seq, %error, "could not compare the state with a snapshot"),
            }
        });
    }
}
