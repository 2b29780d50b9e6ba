//! Deliberate bugs, for the tests that show that the simulator finds bugs.
//!
//! Each stands where the real one would be made, as one condition that is never true outside of tests and compiles
//! to nothing there. A test switches some on for its own thread. `docs/simulator.md` has the table of what finds
//! them. Nothing here is ever on unless a test says so, and no other test can see it: the switch is the thread's.

/// A deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mutant {
    /// A commit whose answer was lost is taken for one that lost the race, and goes to the next seq.
    LostAnswerIsConflict,
    /// While nobody knows what became of a commit, another one is tried at its seq.
    UnsettledSeqReused,
    /// "Exists" is taken for our own commit of which the answer was lost.
    ExistsIsOurs,
    /// Waiters are told what the fold would say if the commit were won, before it is sent.
    AcknowledgedBeforeFold,
    /// The second and later batches of an append are given the offset of the first.
    OffsetReused,
    /// A commit that lost a race is tried again without what its producers said of sequences.
    ProducersForgottenAfterConflict,
    /// The fold folds a commit again that it had folded before.
    DuplicateGuardOff,
    /// The fold folds a commit that was sent behind one which is not in the log.
    BrokenChainFolded,
    /// A retry of a remembered batch is appended again.
    RetriesAppended,
    /// A group accepts any generation.
    StaleGenerationAccepted,
    /// A group believes what is said for a node by a run that had its id before.
    SpokenForByAnyRun,
    /// The waiters of a commit are handed each other's outcomes.
    WaitersCrossed,
    /// Batches are returned with the offsets that the producer wrote.
    OffsetsNotPatched,
    /// A fresh state is the one at hand.
    FreshWithoutProbe,
    /// A segment that could not be stored is committed.
    FailedUploadCommitted,
    /// A probe that the store did not answer is taken for the end of the log.
    FailedProbeIsEnd,
    /// A fetch that finds nothing says so without asking what other nodes have committed.
    EmptyWithoutAsking,
    /// A node that slept believes what it finds at the next seq without looking for a boundary.
    BoundaryUnchecked,
    /// The fold takes segments from before the sweep boundary.
    SweepWithoutBoundary,
    /// What was read by a state of long ago is handed out.
    ReadByOldState,
    /// A compacted slice takes the place of others than it was made of.
    StaleReplacementAccepted,
    /// A new producer may begin with any batch of its pipeline, though the first ones have failed.
    BegunInTheMiddle,
    /// A snapshot is read without one of its fields.
    SnapshotForgets,
}

/// Whether this bug is on.
#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn on(_: Mutant) -> bool {
    false
}

#[cfg(test)]
pub(crate) use switch::{Active, on};

#[cfg(test)]
mod switch {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use super::Mutant;

    thread_local! {
        static ACTIVE: RefCell<BTreeSet<Mutant>> = const { RefCell::new(BTreeSet::new()) };
    }

    /// Whether this bug is on in this thread.
    pub(crate) fn on(mutant: Mutant) -> bool {
        ACTIVE.with_borrow(|active| active.contains(&mutant))
    }

    /// While it lives, these bugs are on in this thread.
    pub(crate) struct Active(());

    impl Active {
        pub(crate) fn new(mutants: &[Mutant]) -> Active {
            ACTIVE.with_borrow_mut(|active| active.extend(mutants));
            Active(())
        }
    }

    impl Drop for Active {
        fn drop(&mut self) {
            ACTIVE.with_borrow_mut(BTreeSet::clear);
        }
    }
}
