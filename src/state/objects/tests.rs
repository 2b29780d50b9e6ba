//! What may be deleted, and what is refused so that nothing is missed.

use std::time::Duration;

use proptest::prelude::*;

use super::{Dead, Now, Objects};
use crate::state::tests::*;

const SECOND: i64 = 1000;

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
fn each_rule_of_deletion_has_a_test_that_fails_without_it() {
    assert_needed(&[
        (
            Rule::DeadSegmentsStayDead,
            a_dead_segment_is_refused_for_ever,
        ),
        (
            Rule::DeadSegmentsAreRemembered,
            a_dead_segment_is_refused_for_ever,
        ),
        (
            Rule::ObjectsDieWithLastSlice,
            an_object_is_dead_when_its_last_slice_goes_and_not_before,
        ),
        (
            Rule::SweepBoundaryOnlyRises,
            a_segment_from_before_the_sweep_boundary_is_refused_and_the_boundary_never_falls,
        ),
    ]);
}

/// What happens to an object.
#[derive(Clone, Debug)]
enum Change {
    Acquire(ObjectRef),
    Release(ObjectRef),
    Delete(ObjectRef),
    Raise(Timestamp),
    Revive,
}

fn change() -> impl Strategy<Value = Change> {
    let object = || {
        prop_oneof![
            1 => (1..4u64).prop_map(|seq| ObjectRef::Commit(Seq(seq))),
            3 => (1..9i64, 0..2u8)
                .prop_map(|(at, n)| ObjectRef::Segment(minted(at * SECOND, n))),
        ]
    };
    prop_oneof![
        4 => object().prop_map(Change::Acquire),
        4 => object().prop_map(Change::Release),
        4 => object().prop_map(Change::Delete),
        2 => (0..10 * SECOND).prop_map(|at| Change::Raise(Timestamp(at))),
        1 => Just(Change::Revive),
    ]
}

proptest! {
    #[test]
    fn a_sweep_boundary_takes_by_the_index_what_it_took_by_a_look_at_all(
        changes in prop::collection::vec(change(), 0..80), revives in any::<bool>(),
    ) {
        let mut objects = Objects::default();
        let level = if revives { Level::NEWEST } else { Level::FIRST };
        objects.at(Now { level, ..Now::default() });
        for change in changes {
            match change {
                Change::Acquire(object) => objects.acquire(object),
                Change::Release(object) => objects.release(object),
                Change::Delete(object) => objects.note_deleted(object),
                Change::Revive => objects.revive(),
                Change::Raise(before) => {
                    let boundary = objects.sweep_boundary().max(before);
                    let is_past = |object: &ObjectRef| match object {
                        ObjectRef::Commit(_) => true,
                        ObjectRef::Segment(segment) => segment.minted() < boundary,
                    };
                    let all = objects.dead().clone().into_iter();
                    let kept: Vec<(ObjectRef, Dead)> =
                        all.filter(|(object, dead)| !(dead.deleted && is_past(object))).collect();
                    objects.raise_sweep_boundary(before);
                    let left: Vec<(ObjectRef, Dead)> = objects.dead().clone().into_iter().collect();
                    prop_assert_eq!(left, kept);
                }
            }
            // Read back from a snapshot, it is found as before.
            let bytes = minicbor::to_vec(&objects).unwrap();
            let mut read: Objects = minicbor::decode(&bytes).unwrap();
            read.index();
            prop_assert_eq!(read.deleted, objects.deleted.clone());
        }
    }
}
