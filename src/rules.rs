//! The rules that protect data, by name: what must hold at a place in the code that a change could break unnoticed.
//!
//! Each rule is one condition, `holds(Rule::…)`, where the code keeps it. In production it is the constant `true` and
//! compiles to nothing. A test breaks rules for its own thread (`Broken`), so that the code there does what the rule
//! forbids, and shows that some test, the simulator or a model then fails: a rule that nothing needs is no rule, and a
//! test that passes without its rule is no test. No other test sees what one breaks, and no binary can break a rule.
//!
//! `docs/rules.md` lists them with the tests that need them; the sentences there are the comments here, and
//! `tests/docs.rs` holds the two in step.

/// A rule that holds everywhere but in a test that breaks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    // Committing
    /// A commit whose answer was lost, and that is found in the log, was won; it is not sent again at the next seq.
    OwnCommitsAreFound,
    /// When the store says that a commit exists, it is read: it may be our own, or that of a node that was faster.
    ExistingCommitsAreIdentified,
    /// While it is unknown what became of a commit, no other is sent with its seq.
    UnsettledSeqsAreNotReused,
    /// The fold takes a commit once, however often it stands in the log.
    CommitsFoldOnce,
    /// A commit that was sent behind another one is void if that one is not in the log.
    CommitsFoldInChain,
    /// Commits that get new ids, because the fold has forgotten their author, still follow one another.
    RenewedCommitsStayChained,
    /// A forwarded commit that is recalled is sent under its own id, because it may have been stored meanwhile.
    RecalledCommitsKeepTheirId,
    /// Ops for which nobody waits any more are not sent.
    AbandonedOpsAreDropped,
    /// An op that was judged against a state that is outdated, or that comes after its deadline, is refused.
    LateOpsAreRefused,
    /// A request is as old as the boot-time clock says, also when the machine was suspended while it was under way.
    SuspensionsAgeRequests,
    /// Clients are answered after their commit is won and folded, and not by what the fold would say.
    AcknowledgementsFollowFold,
    /// Each waiter of a commit gets the outcome of its own op.
    WaitersGetTheirOwnOutcomes,
    /// The fold remembers the last commit of every registered node, however many authors there are (level 2).
    NodesAreRememberedAsAuthors,
    /// A probe of the next seq that the store did not answer says nothing about the end of the log.
    FailedProbesAreNoEnd,
    /// A node that slept looks for a boundary before it takes an absent commit for the end of the log.
    SleepersLookForBoundary,

    // Nodes and their cluster
    /// The level is raised only when every registered node knows it.
    LevelIsKnownToAll,
    /// An incarnation whose node was removed is not found as that node any more.
    GoneNodesAreNotFound,
    /// A background job has one holder until its claim lapses; that saves work, and no data depends on it.
    JobsHaveOneHolder,
    /// No cluster is begun in a bucket that holds a log or snapshots.
    NewClustersNeedEmptyLog,
    /// A node watches whether its bucket is still that of its cluster.
    ClusterIsWatched,
    /// Only a "not found" in the store's own words is believed, and none of a proxy or a gateway in between.
    OnlyStoreSaysNotFound,

    // Producing
    /// Each batch of an append gets offsets of its own.
    OffsetsAreUnique,
    /// A retry of a batch that is remembered gets the offset of the first attempt, and is not appended again.
    RetriesAreDeduplicated,
    /// A commit that lost a race is sent again with the sequences of its producers.
    RetriedCommitsKeepSequences,
    /// A new producer begins with the first batch of its pipeline, and with no later one if that fails.
    PipelinesBeginWithFirstBatch,
    /// Uploads with batches of the same partition are committed in the order in which the batches came.
    UploadsCommitInOrder,
    /// A segment that could not be stored is not committed.
    FailedUploadsAreNotCommitted,
    /// A put that takes long without an answer is sent again, instead of waited for until it times out.
    SlowPutsAreHedged,

    // Topics and groups
    /// A topic is refused whose name differs from that of another only in dots and underscores, as in Kafka.
    TopicNamesDoNotCollide,
    /// What was decided by settings that were altered since is refused.
    DecisionsMatchSettings,
    /// A group is changed only after what has happened to many groups at once is applied to it.
    GroupsCatchUpBeforeChange,
    /// A group of which nothing is left stays until its time is over, as in Kafka (level 2).
    EmptyGroupsStay,
    /// No two changes of groups have the same number.
    ChangeNumbersAreUnique,
    /// A group accepts requests of its present generation only.
    StaleGenerationsAreRefused,
    /// Only the present incarnation of a node speaks for its members, and none that had its id before.
    OnlyCurrentIncarnationVouches,

    // Who may do what
    /// Once anybody is defined there is a superuser who is not disabled, so that nobody is locked out for good.
    SomebodyCanAdminister,
    /// A rule that denies decides, whatever other rules allow.
    DenialsComeFirst,
    /// A session may do nothing once its user is disabled or deleted, whoever has the name afterwards.
    SessionsEndWithTheirUser,

    // Reading
    /// Batches are served with their real offsets, and not with those that the producer wrote.
    RealOffsetsAreServed,
    /// A state is called fresh only if the store was asked for newer commits.
    FreshStatesAreProbed,
    /// A fetch that finds nothing asks what other nodes have committed before it says so.
    EmptyFetchesProbe,
    /// A fetch hands out records only if the state by which it read them is confirmed to be recent.
    FetchesConfirmTheirState,
    /// What was read by a state that is too old is discarded: its objects may be deleted and their names reused.
    OutdatedReadsAreDiscarded,
    /// A reader that misses an object looks where its records are now, before it says that they are lost.
    MissingObjectsAreLookedUpAgain,

    // Objects in the fold
    /// An object is dead when its last slice goes, and not before.
    ObjectsDieWithLastSlice,
    /// A dead segment is never referred to again.
    DeadSegmentsStayDead,
    /// A dead segment is remembered after it is deleted, until the sweep boundary has passed it.
    DeadSegmentsAreRemembered,
    /// A commit into which records are put while it is folded is alive, though all of it was deleted before (level 2).
    AppendsReviveCommits,
    /// The sweep boundary is only ever raised.
    SweepBoundaryOnlyRises,
    /// Segments from before the sweep boundary are refused.
    SweptSegmentsAreRefused,
    /// A replacement names the layout that it was made of, and begins and ends where slices do.
    ReplacementsMatchLayout,
    /// The outputs of a replacement cover what they replace.
    OutputsCoverInputs,
    /// A replacement leaves no slice wholly below the log start (level 2).
    ReplacementsAreTrimmed,

    // Time and leases
    /// A wall clock moves time no further than another node vouches for, and 10 s.
    TimeIsBounded,
    /// Time that is ahead of the wall clock goes on, and does not wait for it.
    TimeKeepsRunning,
    /// Segments are named by the cluster's time, and not by a wall clock.
    SegmentsAreNamedByClusterTime,
    /// What destroys goes by no wall clock alone.
    DestructionDistrustsWallClock,
    /// A sweep boundary is 20 s behind the time before its commit.
    SweepBoundaryKeepsMargin,
    /// A node that registers removes no other.
    RegistrationRemovesNobody,
    /// A node that has committed since it was found lapsed keeps its lease.
    CommitsRenewLeases,
    /// A node whose clock is too far from the store's makes no changes.
    ClockIsWatched,

    // Retention
    /// Records that are younger than `retention.ms` stay.
    RetentionSparesYoungRecords,
    /// What was just appended stays, however old its records say that they are.
    RetentionSparesFreshAppends,
    /// A partition is never cut below `retention.bytes`.
    RetentionKeepsItsBytes,
    /// Topics that are only compacted do not expire.
    RetentionSparesCompactedTopics,
    /// A producer is remembered for a day after its last batch.
    ProducersAreRemembered,

    // Deleting dead objects
    /// A dead object stays for the grace period, because readers may be at it.
    DeadObjectsWaitForGrace,
    /// The grace period is over only when this node has known of the death for as long, by its own clock.
    GraceGoesByOwnClock,
    /// An object in which slices lie stays, even if it is among the dead, as in a log of the first level.
    LiveObjectsAreNotDeleted,
    /// A dead commit is deleted only when the log is truncated beyond it.
    DeadCommitsWaitForTruncation,

    // Truncating the log
    /// The log is truncated only behind a snapshot that has been known for ten minutes.
    TruncationNeedsAgedSnapshot,
    /// Those ten minutes have also passed by the own clock of the node that truncates, since it heard of the snapshot.
    TruncationGoesByOwnClock,
    /// The log is truncated only behind a snapshot that this node has just read back from the bucket.
    TruncationNeedsReadableSnapshot,
    /// The boundary object is stored before anything of the log is deleted.
    BoundaryPrecedesDeletion,
    /// A commit in which slices lie stays.
    TruncationSparesLiveCommits,
    /// A commit that has just died stays for its grace period.
    TruncationSparesDeadCommits,
    /// That the log is truncated is recorded after it is.
    TruncationIsRecordedLast,

    // The sweep
    /// The sweep spares segments in use.
    SweepSparesLiveSegments,
    /// The sweep spares dead segments, which wait for the end of their grace period.
    SweepSparesDeadSegments,
    /// The sweep spares segments that were minted after its boundary, because they may still be committed.
    SweepSparesYoungSegments,
    /// The sweep goes by a state that has its boundary.
    SweepSeesItsBoundary,
    /// The sweep takes commits only where the log is truncated, and only if nobody needs them.
    SweepSparesNeededCommits,
    /// The sweep spares snapshots that are known.
    SweepSparesKnownSnapshots,
    /// The sweep spares the chunks of snapshots that are known.
    SweepSparesNeededChunks,
    /// The sweep spares the newest boundary object.
    SweepSparesNewestBoundary,
    /// The sweep spares what a running check of the store has made.
    SweepSparesRunningChecks,

    // Snapshots and repair
    /// A snapshot is stored only if it can be decoded, so that a node can start from it.
    SnapshotsAreDecodedFirst,
    /// A snapshot is announced only when it was read back from the store.
    SnapshotsAreReadBack,
    /// A snapshot is read with all of its fields.
    SnapshotsAreReadWhole,
    /// A node that cannot read a snapshot tries the one before it.
    UnreadableSnapshotsAreSkipped,
    /// A node that starts from an older snapshot looks for boundaries, because the log after it may be truncated.
    OlderSnapshotsNeedTheirLog,
    /// The head of a snapshot is written after its chunks.
    ChunksPrecedeHead,
    /// The head of a snapshot is deleted before its chunks.
    HeadIsDeletedFirst,
    /// A node does not start, or start over, behind a commit that is missing, which it would write anew, if one
    /// behind it shows that it was there.
    MissingCommitsStopStarts,
    /// A node whose state is not that of a snapshot of another node halts.
    DivergentNodesHalt,
    /// A node that has folded what a repair took out of the log halts at the seal of the repair.
    SealedOutNodesHalt,
    /// A node compares its states with no snapshot between a commit that a repair replaced and the seal of the repair.
    RepairedPartsAreNotCompared,
    /// What a repair puts in the place of a commit mints as many producer ids as that commit may have minted.
    VoidsMintUnusedIds,
    /// A bucket is not repaired while the lease of a node lasts.
    RepairNeedsStoppedNodes,
    /// What a repair replaces or removes is copied first.
    RepairCopiesFirst,

    // The archive
    /// Records are archived from where their partition is archived to, so that no copy of an op adds them again.
    ArchivesContinue,
    /// A manifest takes the place of others only if it has the same records.
    RewritesKeepRows,
    /// What a manifest takes the place of are the manifests that were read, and neighbours.
    RewritesReplaceNeighbours,
    /// Files are refused that are so old that the sweep may have deleted them.
    SweptFilesAreRefused,
    /// Records stay in their topic until they are archived, whatever its retention says.
    RetentionWaitsForArchive,
    /// What was removed from a table stays in the bucket while a snapshot names it.
    NamedManifestsAreKept,
    /// A file that a manifest took over from another stays while a snapshot names either, though none ever named the
    /// one that took it over.
    TakenOverFilesAreKept,
    /// Files of a table stay while the op that names them may have taken effect.
    UnsettledFilesAreKept,
    /// What no snapshot of a table names any more stays for the grace period, for engines that read it.
    UnnamedManifestsWaitForGrace,
    /// The sweep spares files that are in a table, or that were and are not deleted yet.
    SweepSparesFilesOfTables,
    /// The sweep spares files whose op may still come.
    SweepSparesYoungFiles,
    /// A schema keeps the numbers, the names and the types of columns, or widens them.
    ColumnsKeepTheirMeaning,

    // Compaction of segments
    /// A segment stays while the op that refers to it may have taken effect.
    UnsettledOutputsAreKept,
    /// An input that is missing because it was replaced meanwhile is not reported as damage.
    ReplacedInputsAreNoDamage,
    /// Batches of an input that are damaged or missing are reported, and never left out.
    DamageIsReported,

    // Compaction of logs
    /// The last record of each key stays.
    LastRecordOfKeyStays,
    /// Tombstones stay for `delete.retention.ms`.
    TombstonesStayForTheirTime,
    /// A tombstone begins to age when all of its batch is cleaned.
    TombstonesAgeOnceCleaned,
    /// Records above the end of the map of keys stay.
    RecordsBeyondMapStay,
    /// Records that are younger than `min.compaction.lag.ms` stay.
    CompactionLagIsKept,
    /// Batches of transactions and control batches stay whole.
    TransactionalBatchesStayWhole,
    /// The chunk of a compacted slice is checked before its offsets are believed, so that damaged ones are not copied.
    CompactedOffsetsAreVerified,
}

/// Whether the rule holds: always, but in a test that breaks it.
#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn holds(_: Rule) -> bool {
    true
}

#[cfg(test)]
pub(crate) use switch::{Broken, assert_needed, assert_needed_together, holds};

#[cfg(test)]
mod switch {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use super::Rule;

    thread_local! {
        static BROKEN: RefCell<BTreeSet<Rule>> = const { RefCell::new(BTreeSet::new()) };
    }

    /// Whether the rule holds in this thread.
    pub(crate) fn holds(rule: Rule) -> bool {
        BROKEN.with_borrow(|broken| !broken.contains(&rule))
    }

    /// While it lives, these rules do not hold in this thread.
    pub(crate) struct Broken(());

    impl Broken {
        pub(crate) fn new(rules: &[Rule]) -> Broken {
            BROKEN.with_borrow_mut(|broken| broken.extend(rules));
            Broken(())
        }
    }

    /// Each of these rules is needed by the test beside it, which fails while the rule is broken.
    pub(crate) fn assert_needed(rules: &[(Rule, fn())]) {
        let passed: Vec<Rule> = rules
            .iter()
            .filter(|(rule, test)| {
                let _broken = Broken::new(&[*rule]);
                std::panic::catch_unwind(test).is_ok()
            })
            .map(|(rule, _)| *rule)
            .collect();
        assert!(passed.is_empty(), "the tests pass without {passed:?}");
    }

    /// The test fails while all of these rules are broken.
    pub(crate) fn assert_needed_together(rules: &[Rule], test: fn()) {
        let _broken = Broken::new(rules);
        assert!(
            std::panic::catch_unwind(test).is_err(),
            "it passes without {rules:?}"
        );
    }

    impl Drop for Broken {
        fn drop(&mut self) {
            BROKEN.with_borrow_mut(BTreeSet::clear);
        }
    }
}
