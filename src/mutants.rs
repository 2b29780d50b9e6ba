//! Deliberate bugs, for the tests that show that the simulator finds bugs.
//!
//! Each stands where the real one would be made, as one condition that is never true outside of tests and compiles
//! to nothing there. A test switches some on for its own thread. `docs/simulator.md` has the table of what finds
//! them. Nothing here is ever on unless a test says so, and no other test can see it: the switch is the thread's.

/// A deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mutant {
    // Deleting and compacting: `docs/rules.md` says which test finds each.
    /// A dead segment may be referred to again.
    DeadLivesAgain,
    /// A commit to which records are appended behind deleted ones of the same object stays dead.
    DeadAndAlive,
    /// Dead objects are deleted though slices lie in them.
    LivenessUnchecked,
    /// The level is raised above what a registered node knows.
    LevelUnchecked,
    /// The sweep boundary may be lowered.
    SweepBoundaryFalls,
    /// A dead segment is forgotten when it is deleted, though no boundary has passed it.
    DeadForgottenAtOnce,
    /// An object is dead when any of its slices goes.
    DeadWhileShared,
    /// A replacement need not begin and end where slices do.
    BoundsUnchecked,
    /// The outputs of a replacement need not cover what they replace.
    OutputsUnchecked,
    /// A replacement may leave slices wholly below the log start.
    Untrimmed,
    /// What was decided by settings that were altered since is accepted.
    SettingsUnchecked,
    /// The log may be truncated behind a snapshot that was just taken.
    TruncationAgeIgnored,
    /// Everybody is given every claim.
    ClaimsIgnored,
    /// Dead objects are deleted at once.
    GraceIgnored,
    /// What destroys goes by the wall clock of the node that does it.
    WallClockDestroys,
    /// The grace is judged by the fold's time, however short a time the node has known of the death.
    GraceByFoldAlone,
    /// A dead commit is deleted though the log is not truncated beyond it.
    DeadCommitsOfTheLog,
    /// The log is truncated behind a snapshot that the node has just heard of.
    TruncationByFoldAlone,
    /// The log is deleted without a boundary object.
    BoundaryNotStored,
    /// A commit in which slices lie is truncated.
    LiveCommitsTruncated,
    /// A commit that has just died is truncated.
    DeadCommitsTruncated,
    /// It is said that the log is truncated before it is.
    TruncatedSaidFirst,
    /// The sweep takes segments in use.
    SweepTakesLive,
    /// The sweep takes segments that wait for the end of their grace.
    SweepTakesDead,
    /// The sweep takes segments minted after its boundary.
    SweepTakesYoung,
    /// The sweep goes by the state before its boundary.
    SweepByOldState,
    /// The sweep takes commits that are in use.
    SweepTakesCommits,
    /// The sweep takes snapshots that are known.
    SweepTakesSnapshots,
    /// The sweep takes the newest boundary as well.
    SweepTakesBoundaries,
    /// The sweep takes what a check of a store that is running has made.
    SweepTakesChecks,
    /// Expired is whatever there is.
    YoungExpire,
    /// What was just appended expires if its records say that they are old.
    JustAppendedExpire,
    /// A partition is cut below its `retention.bytes`.
    CutBelowSize,
    /// Topics expire that only are compacted.
    CompactedExpire,
    /// Producers are forgotten at once.
    ProducersForgottenEarly,
    /// A segment is deleted though the op that refers to it may have taken effect.
    UnknownDiscarded,
    /// A missing input is taken for damage, though it was replaced.
    ReplacedIsDamage,
    /// Batches of an input that are damaged or missing are left out.
    DamagedLeftOut,
    /// A batch of a compacted input is believed to be at the offset that it says.
    PlaceUnchecked,
    /// Of a compacted log the last record of a key goes as well.
    LastRecordGoes,
    /// Tombstones go with the first cleaning.
    TombstonesGo,
    /// A tombstone that was cleaned in part begins to age.
    HorizonOfPart,
    /// Records above the end of the map go.
    CleanedBeyondMap,
    /// `min.compaction.lag.ms` is ignored.
    LagIgnored,
    /// Records of transactions are opened.
    TransactionsOpened,
    /// A reader that misses an object says that the records are lost.
    MissingIsFinal,
    // Everything else: `docs/simulator.md`.
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
    /// A topic is created though its name collides with another's.
    CollidingNamesCreated,
    /// The fold folds a commit again that it had folded before.
    DuplicateGuardOff,
    /// The fold folds a commit that was sent behind one which is not in the log.
    BrokenChainFolded,
    /// A commit that was forwarded and is recalled is sent as another one.
    RecalledAsNew,
    /// Ops are sent for which nobody waits any more.
    AbandonedOpsSent,
    /// The fold takes what was judged against a state that is not so any more, or comes after its time.
    LateOpsAccepted,
    /// A request that was under way when the machine was suspended is as young as before.
    SuspensionUncounted,
    /// Commits that go again as others, since the fold has forgotten their author, do not follow one another.
    ChainBrokenOnRenew,
    /// A retry of a remembered batch is appended again.
    RetriesAppended,
    /// A group is changed before what has happened to it among many is applied.
    ChangedOutdated,
    /// A group of which nothing is left is forgotten at once.
    EmptyGroupsVanish,
    /// Two changes of groups are given one number.
    NumberReused,
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
    /// Of uploads that hold batches of one partition, the one that ends first is committed first.
    UploadsOvertake,
    /// A put of which nothing is heard is waited for until its time is over.
    NeverHedged,
    /// A segment that could not be stored is committed.
    FailedUploadCommitted,
    /// A probe that the store did not answer is taken for the end of the log.
    FailedProbeIsEnd,
    /// A new cluster is begun where there is a log.
    LogWithoutCluster,
    /// A node does not look whether its store is still that of its cluster.
    ClusterUnwatched,
    /// A "not found" is believed whoever says it.
    ForeignNotFoundBelieved,
    /// A fetch that finds nothing says so without asking what other nodes have committed.
    EmptyWithoutAsking,
    /// A fetch hands out what it read by a state of whatever age.
    StaleNamesServed,
    /// A node that slept believes what it finds at the next seq without looking for a boundary.
    BoundaryUnchecked,
    /// The fold takes segments from before the sweep boundary.
    SweepWithoutBoundary,
    /// What was read by a state of long ago is handed out.
    ReadByOldState,
    /// Nobody compares this machine's wall clock with the store's.
    ClockUnwatched,
    /// Segments are named by the wall clock.
    SegmentsByWallClock,
    /// Time that is ahead of the wall clock waits for it.
    TimeStandsStill,
    /// Any commit may move time in the fold as far as it says.
    UnboundedTime,
    /// Any sweep boundary is accepted that is not ahead of time.
    SweepBoundaryAtHand,
    /// A node's lease is ended though it has committed since it was found lapsed.
    HeardSinceIgnored,
    /// Who registers removes the nodes whose leases have lapsed.
    RegistrationRemoves,
    /// A new producer may begin with any batch of its pipeline, though the first ones have failed.
    BegunInTheMiddle,
    /// A snapshot is stored though it cannot be decoded.
    SnapshotUndecoded,
    /// A snapshot is announced without being read back.
    SnapshotNotReadBack,
    /// A node that cannot read the newest snapshot does not look at any other.
    NewestSnapshotOnly,
    /// A node that starts from an older snapshot does not look whether the log after it is there.
    OlderSnapshotTrusted,
    /// The log is truncated up to a snapshot that nobody has read back.
    BoundaryUnread,
    /// No more authors are remembered than at the first level, whoever they are.
    FewAuthors,
    /// A run whose node is gone is still found as that node.
    GoneRunsFound,
    /// A node does not compare its state with the snapshots of others.
    DivergenceUnnoticed,
    /// The head of a snapshot is written before its chunks.
    HeadBeforeChunks,
    /// The chunks of a snapshot are deleted before its head.
    ChunksDeletedFirst,
    /// The sweep takes chunks of snapshots that nodes start from.
    SweepTakesChunks,
    /// A node whose state has what a repair took out of the log goes on.
    SealIgnored,
    /// A node compares its states with snapshots of the log as it was before a repair.
    RepairedPartCompared,
    /// What a repair puts in the place of a commit mints no producer ids in the place of those that it may have minted.
    VoidMintsNothing,
    /// A bucket is repaired under nodes that may be running.
    RepairedUnderNodes,
    /// What a repair replaces or removes is not copied.
    RepairedWithoutCopy,
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
pub(crate) use switch::{Active, assert_found, assert_found_together, on};

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

    /// Each of these bugs is found by the test beside it, which passes without it.
    pub(crate) fn assert_found(bugs: &[(Mutant, fn())]) {
        let missed: Vec<Mutant> = bugs
            .iter()
            .filter(|(bug, test)| {
                let _on = Active::new(&[*bug]);
                std::panic::catch_unwind(test).is_ok()
            })
            .map(|(bug, _)| *bug)
            .collect();
        assert!(missed.is_empty(), "the tests pass with {missed:?}");
    }

    /// The test fails when all of these bugs are there.
    pub(crate) fn assert_found_together(bugs: &[Mutant], test: fn()) {
        let _on = Active::new(bugs);
        assert!(
            std::panic::catch_unwind(test).is_err(),
            "it passes with {bugs:?}"
        );
    }

    impl Drop for Active {
        fn drop(&mut self) {
            ACTIVE.with_borrow_mut(BTreeSet::clear);
        }
    }
}
