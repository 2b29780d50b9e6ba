//! What may be deleted, and what is refused so that nothing is missed.

use std::time::Duration;

use super::*;
use crate::mutants::{Mutant, assert_found};

const SECOND: i64 = 1000;

/// A state whose time the test moves.
struct Log {
    state: State,
    now: i64,
}

impl Log {
    /// With a topic of one partition.
    fn new() -> Log {
        let mut log = Log {
            state: State::new(),
            now: 1_700_000_000_000,
        };
        assert_eq!(log.apply(create("t", TOPIC, 1)), Ok(Applied::Done));
        log
    }

    fn apply(&mut self, op: Op) -> Outcome {
        let seq = self.state.seq().next();
        let commit = Commit {
            id: id(1, seq.0),
            time: Timestamp(self.now),
            ops: vec![op],
            follows: None,
            forwarded: Vec::new(),
            wall: None,
        };
        match self.state.apply(seq, &commit, 64) {
            Folded::Outcomes(mut outcomes) => outcomes.pop().unwrap(),
            folded => panic!("a new commit was not folded: {folded:?}"),
        }
    }

    fn wait(&mut self, duration: Duration) {
        self.now += i64::try_from(duration.as_millis()).unwrap();
    }

    /// Appends two records in the commit itself; returns it.
    fn inline(&mut self) -> ObjectRef {
        self.apply(append(vec![entry(0, 2, None)])).unwrap();
        ObjectRef::Commit(self.state.seq())
    }

    fn inline_many(&mut self, commits: usize) {
        for _ in 0..commits {
            self.inline();
        }
    }

    fn append_segment(&mut self, segment: SegmentId) -> Result<i64, AppendRejected> {
        let append = Op::Append(Append {
            partition: partition(0),
            source: AppendSource::Segment(segment),
            entries: vec![entry(40, 2, None)],
        });
        match self.apply(append) {
            Ok(Applied::Appended(mut entries)) => entries
                .pop()
                .unwrap()
                .map(|appended| appended.base_offset.0),
            other => panic!("{other:?}"),
        }
    }

    fn replace(&mut self, layout: u64, range: (i64, i64), outputs: &[(i64, SegmentId)]) -> Outcome {
        self.apply(Op::ReplaceSlices(ReplaceSlices {
            partition: partition(0),
            layout,
            base: Offset(range.0),
            end: Offset(range.1),
            outputs: outputs
                .iter()
                .map(|(end, segment)| CompactedSlice {
                    segment: *segment,
                    ..output(*end, 0)
                })
                .collect(),
            cleaned: None,
        }))
    }

    fn slices(&self) -> Vec<(i64, i64, ObjectRef)> {
        let found = self.state.partition(partition(0)).unwrap();
        found
            .slices_from(Offset(0))
            .map(|(base, slice)| (base.0, slice.end.0, slice.object))
            .collect()
    }
}

/// A segment minted at that wall time.
fn minted(at: i64, n: u8) -> SegmentId {
    let id = uuid::Builder::from_unix_timestamp_millis(u64::try_from(at).unwrap(), &[n; 10]);
    SegmentId(id.into_uuid())
}

#[test]
fn an_object_is_dead_when_its_last_slice_goes_and_not_before() {
    let mut log = Log::new();
    let segment = minted(log.now, 1);
    let object = ObjectRef::Segment(segment);
    log.append_segment(segment).unwrap();
    log.append_segment(segment).unwrap();
    let expire = |before| Op::DeleteRecords {
        partition: partition(0),
        before: Some(Offset(before)),
    };
    log.apply(expire(2)).unwrap();
    assert!(log.state.is_live(object));
    log.wait(Duration::from_secs(7));
    log.apply(expire(4)).unwrap();
    assert!(!log.state.is_live(object));
    let death = log.state.death_of(object).unwrap();
    assert_eq!((death.since, death.deleted), (Timestamp(log.now), false));
}

#[test]
fn deleting_a_topic_kills_the_objects_that_were_its_alone() {
    let mut log = Log::new();
    let other = TopicId(Uuid::from_u128(8));
    log.apply(create("u", other, 1)).unwrap();
    let (shared, own) = (minted(log.now, 1), minted(log.now, 2));
    log.append_segment(shared).unwrap();
    log.append_segment(own).unwrap();
    let elsewhere = Append {
        partition: TopicPartition {
            topic: other,
            partition: PartitionIndex(0),
        },
        source: AppendSource::Segment(shared),
        entries: vec![entry(140, 2, None)],
    };
    log.apply(Op::Append(elsewhere)).unwrap();
    log.apply(Op::DeleteTopic { topic: TOPIC }).unwrap();
    assert!(log.state.is_live(ObjectRef::Segment(shared)));
    assert!(log.state.death_of(ObjectRef::Segment(own)).is_some());
}

#[test]
fn a_dead_segment_is_refused_for_ever() {
    let mut log = Log::new();
    let segment = minted(log.now, 1);
    log.append_segment(segment).unwrap();
    log.apply(Op::DeleteRecords {
        partition: partition(0),
        before: None,
    })
    .unwrap();
    let stale = Err(AppendRejected::StaleSegment(segment));
    assert_eq!(log.append_segment(segment), stale);
    let deleted = Op::ObjectsDeleted {
        objects: vec![ObjectRef::Segment(segment)],
    };
    log.apply(deleted).unwrap();
    assert_eq!(log.append_segment(segment), stale);
    log.wait(Duration::from_secs(2));
    let before = Timestamp(log.now - SECOND);
    log.apply(Op::RaiseSweepBoundary { before }).unwrap();
    assert_eq!(log.state.dead_objects().count(), 0);
    assert_eq!(log.append_segment(segment), stale);
}

#[test]
fn a_dead_segment_that_is_not_deleted_stays_on_the_books() {
    let mut log = Log::new();
    let segment = minted(log.now, 1);
    log.append_segment(segment).unwrap();
    log.apply(Op::DeleteTopic { topic: TOPIC }).unwrap();
    log.wait(Duration::from_secs(2));
    let before = Timestamp(log.now - SECOND);
    log.apply(Op::RaiseSweepBoundary { before }).unwrap();
    let object = ObjectRef::Segment(segment);
    assert!(log.state.death_of(object).is_some());
    log.apply(Op::ObjectsDeleted {
        objects: vec![object],
    })
    .unwrap();
    assert!(log.state.death_of(object).is_none());
}

#[test]
fn a_segment_from_before_the_sweep_boundary_is_refused_and_the_boundary_never_falls() {
    let mut log = Log::new();
    let (old, new) = (minted(log.now, 1), minted(log.now + 5 * SECOND, 2));
    log.wait(Duration::from_secs(9));
    let raise = |at| Op::RaiseSweepBoundary {
        before: Timestamp(at),
    };
    let boundary = log.now - 4 * SECOND;
    log.apply(raise(boundary)).unwrap();
    log.apply(raise(boundary - 5 * SECOND)).unwrap();
    assert_eq!(log.state.sweep_boundary(), Timestamp(boundary));
    assert_eq!(
        log.append_segment(old),
        Err(AppendRejected::StaleSegment(old))
    );
    assert_eq!(log.append_segment(new), Ok(0));
    log.inline();
    assert_eq!(
        log.replace(0, (0, 4), &[(4, old)]),
        Err(Rejected::StaleSegment(old))
    );
    let future = log.now + SECOND;
    assert!(matches!(
        log.apply(raise(future)),
        Err(Rejected::SweepBoundary { .. })
    ));
}

#[test]
fn compacted_slices_take_the_place_of_those_that_were_read() {
    let mut log = Log::new();
    let inputs = [log.inline(), log.inline(), log.inline()];
    let segment = minted(log.now, 1);
    log.replace(0, (0, 4), &[(1, segment), (4, segment)])
        .unwrap();
    let new = ObjectRef::Segment(segment);
    assert_eq!(log.slices(), [(0, 1, new), (1, 4, new), (4, 6, inputs[2])]);
    let found = log.state.partition(partition(0)).unwrap();
    assert_eq!(found.gap_in_offsets(), None);
    assert_eq!(found.bytes(), ByteCount(300));
    assert!(log.state.death_of(inputs[0]).is_some() && log.state.death_of(inputs[1]).is_some());
    assert!(log.state.is_live(inputs[2]) && log.state.is_live(new));
    assert_eq!(log.state.totals().appended, ByteCount(300));
    assert_eq!(log.state.totals().compacted, ByteCount(200));
}

/// A slice of two records, of which the first is deleted; then two take its place, the first of which ends where the log
/// starts.
fn replace_across_the_log_start(log: &mut Log) -> [SegmentId; 2] {
    log.inline_many(2);
    let before = Some(Offset(1));
    let partition = partition(0);
    log.apply(Op::DeleteRecords { partition, before }).unwrap();
    let [below, above] = [1, 2].map(|n| minted(log.now, n));
    log.replace(0, (0, 4), &[(1, below), (4, above)]).unwrap();
    [below, above]
}

#[test]
fn a_replacement_leaves_no_slice_below_the_log_start() {
    let mut log = Log::new();
    log.apply(Op::RaiseLevel { to: Level(2) }).unwrap();
    let [below, above] = replace_across_the_log_start(&mut log);
    assert_eq!(log.slices(), [(1, 4, ObjectRef::Segment(above))]);
    assert!(log.state.death_of(ObjectRef::Segment(below)).is_some());
    let found = log.state.partition(partition(0)).unwrap();
    assert_eq!(found.bytes(), ByteCount(100));
    assert_eq!(State::from_bytes(&log.state.to_bytes()).unwrap(), log.state);
}

#[test]
fn what_the_first_level_left_below_the_log_start_can_be_read_and_raising_the_level_lets_go_of_it() {
    let mut log = Log::new();
    let [below, above] = replace_across_the_log_start(&mut log).map(ObjectRef::Segment);
    assert_eq!(log.slices(), [(0, 1, below), (1, 4, above)]);
    let mut read = State::from_bytes(&log.state.to_bytes()).unwrap();
    assert_eq!(read, log.state);
    log.apply(Op::RaiseLevel { to: Level(2) }).unwrap();
    assert_eq!(log.slices(), [(1, 4, above)]);
    assert!(log.state.death_of(below).is_some());
    std::mem::swap(&mut read, &mut log.state);
    log.apply(Op::RaiseLevel { to: Level(2) }).unwrap();
    assert_eq!(log.state.to_bytes(), read.to_bytes());
}

#[test]
fn a_compaction_of_slices_that_changed_meanwhile_is_refused() {
    let mut log = Log::new();
    log.inline_many(4);
    let changed = |base, end| {
        Err(Rejected::SlicesChanged {
            partition: partition(0),
            base: Offset(base),
            end: Offset(end),
        })
    };
    let segment = |n| minted(1_700_000_000_000, n);
    // Another node was faster with a part of them.
    log.replace(0, (2, 6), &[(6, segment(1))]).unwrap();
    assert_eq!(log.replace(0, (0, 4), &[(4, segment(2))]), changed(0, 4));
    assert_eq!(log.replace(0, (0, 2), &[(2, segment(2))]), changed(0, 2));
    // Not at the boundaries of slices.
    assert_eq!(log.replace(1, (0, 4), &[(4, segment(2))]), changed(0, 4));
    assert_eq!(log.replace(1, (3, 6), &[(6, segment(2))]), changed(3, 6));
    // The first ones expired.
    log.apply(Op::DeleteRecords {
        partition: partition(0),
        before: Some(Offset(2)),
    })
    .unwrap();
    assert_eq!(log.replace(1, (0, 6), &[(6, segment(2))]), changed(0, 6));
    // What came at the end does not matter.
    log.inline();
    log.replace(1, (2, 8), &[(8, segment(2))]).unwrap();
}

#[test]
fn outputs_that_do_not_cover_what_they_replace_are_refused() {
    let mut log = Log::new();
    log.inline_many(2);
    let segment = minted(log.now, 1);
    for outputs in [
        &[][..],
        &[(3, segment)],
        &[(5, segment)],
        &[(0, segment), (4, segment)],
        &[(3, segment), (2, segment), (4, segment)],
        &[(4, segment), (4, segment)],
    ] {
        let refused = log.replace(0, (0, 4), outputs);
        assert!(
            matches!(refused, Err(Rejected::InvalidReplacement { .. })),
            "{outputs:?}: {refused:?}"
        );
    }
    assert_eq!(log.state.totals().compacted, ByteCount(0));
}

#[test]
fn what_was_decided_by_settings_that_changed_is_refused() {
    let mut log = Log::new();
    log.inline_many(2);
    let expire = |as_of| Op::ExpireRecords {
        partition: partition(0),
        before: Offset(2),
        as_of,
    };
    let read_at = log.state.seq();
    for topic in [Some(TOPIC), None] {
        log.apply(Op::AlterConfigs {
            node: None,
            topic,
            edits: BTreeMap::from([("retention.ms".to_owned(), Some("-1".to_owned()))]),
        })
        .unwrap();
        let refused = log.apply(expire(read_at));
        assert!(matches!(refused, Err(Rejected::ConfigsAltered { .. })));
        let cleaned = log.apply(Op::ReplaceSlices(ReplaceSlices {
            partition: partition(0),
            layout: 0,
            base: Offset(0),
            end: Offset(2),
            outputs: vec![output(2, 1)],
            cleaned: Some(Cleaned {
                to: Offset(2),
                as_of: read_at,
            }),
        }));
        assert!(matches!(cleaned, Err(Rejected::ConfigsAltered { .. })));
    }
    let fresh = log.state.seq();
    assert_eq!(
        log.apply(expire(fresh)),
        Ok(Applied::RecordsDeleted(Offset(2)))
    );
}

#[test]
fn the_log_is_truncated_only_behind_a_snapshot_that_has_been_known_for_long() {
    let mut log = Log::new();
    log.inline_many(4);
    let snapshot = log.state.seq();
    let (seq, bytes) = (snapshot, 1);
    log.apply(Op::SnapshotTaken {
        seq,
        bytes,
        digest: None,
    })
    .unwrap();
    let raise = |to| Op::RaiseLogBoundary { to };
    log.wait(TRUNCATION_AGE - Duration::from_millis(1));
    let young = Err(Rejected::TooYoung {
        to: snapshot,
        limit: Seq(0),
    });
    assert_eq!(log.apply(raise(snapshot)), young);
    // A newer one that is not of age yet does not help, and does not make one forget the first.
    let newer = log.state.seq();
    log.apply(Op::SnapshotTaken {
        seq: newer,
        bytes,
        digest: None,
    })
    .unwrap();
    log.wait(Duration::from_millis(1));
    assert_eq!(
        log.apply(raise(newer)),
        Err(Rejected::TooYoung {
            to: newer,
            limit: snapshot
        })
    );
    assert_eq!(log.apply(raise(snapshot)), Ok(Applied::Done));
    assert_eq!(log.state.log_boundary(), snapshot);
    // Done is said of no more than was allowed, and the boundary never falls.
    log.apply(Op::LogTruncated { to: newer }).unwrap();
    assert_eq!(log.state.log_truncated(), snapshot);
    log.apply(raise(Seq(1))).unwrap();
    assert_eq!(log.state.log_boundary(), snapshot);
}

#[test]
fn frequent_snapshots_still_come_of_age() {
    let mut log = Log::new();
    let mut best = Seq(0);
    for _ in 0..200 {
        let seq = log.state.seq();
        log.apply(Op::SnapshotTaken {
            seq,
            bytes: 1,
            digest: None,
        })
        .unwrap();
        log.wait(Duration::from_secs(5));
        best = log.state.log_boundary_limit();
    }
    // Known for ten minutes; marks are a minute apart.
    let age = (log.state.seq().0 - best.0) * 5;
    assert!((600..=700).contains(&age), "{age}");
    let size = log.state.to_bytes().len();
    assert!(size < 2000, "{size}");
}

#[test]
fn a_job_has_one_holder_until_its_claim_lapses() {
    let mut log = Log::new();
    let (a, b) = (
        Incarnation(Uuid::from_u128(1)),
        Incarnation(Uuid::from_u128(2)),
    );
    let job = Job::Compaction(partition(0));
    let claim = |incarnation| Op::ClaimJob {
        job,
        incarnation,
        lease_millis: 5000,
    };
    log.apply(claim(a)).unwrap();
    assert!(matches!(log.apply(claim(b)), Err(Rejected::JobHeld { .. })));
    log.wait(Duration::from_secs(4));
    log.apply(claim(a)).unwrap();
    log.wait(Duration::from_secs(4));
    assert!(matches!(log.apply(claim(b)), Err(Rejected::JobHeld { .. })));
    log.wait(Duration::from_secs(2));
    log.apply(claim(b)).unwrap();
    log.apply(Op::ReleaseJob {
        job,
        incarnation: a,
    })
    .unwrap();
    assert_eq!(log.state.claim(job).unwrap().incarnation, b);
    log.apply(Op::ReleaseJob {
        job,
        incarnation: b,
    })
    .unwrap();
    assert_eq!(log.state.claim(job), None);
}

#[test]
fn each_rule_of_deletion_has_a_test_that_fails_without_it() {
    assert_found(&[
        (Mutant::DeadLivesAgain, a_dead_segment_is_refused_for_ever),
        (
            Mutant::DeadForgottenAtOnce,
            a_dead_segment_is_refused_for_ever,
        ),
        (
            Mutant::DeadWhileShared,
            an_object_is_dead_when_its_last_slice_goes_and_not_before,
        ),
        (
            Mutant::SweepBoundaryFalls,
            a_segment_from_before_the_sweep_boundary_is_refused_and_the_boundary_never_falls,
        ),
        (
            Mutant::BoundsUnchecked,
            a_compaction_of_slices_that_changed_meanwhile_is_refused,
        ),
        (
            Mutant::OutputsUnchecked,
            outputs_that_do_not_cover_what_they_replace_are_refused,
        ),
        (
            Mutant::Untrimmed,
            a_replacement_leaves_no_slice_below_the_log_start,
        ),
        (
            Mutant::SettingsUnchecked,
            what_was_decided_by_settings_that_changed_is_refused,
        ),
        (
            Mutant::TruncationAgeIgnored,
            the_log_is_truncated_only_behind_a_snapshot_that_has_been_known_for_long,
        ),
        (
            Mutant::ClaimsIgnored,
            a_job_has_one_holder_until_its_claim_lapses,
        ),
    ]);
}
