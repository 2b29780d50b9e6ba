//! Cleanings, one at a time.

use super::*;
use crate::invariants::at_rest::offsets_are_dense;
use crate::segment::Attributes;
use crate::state::ObjectRef;
use crate::state::op::{Op, Rejected};
use crate::store::{ObjectPath, RequestKind};

#[tokio::test(start_paused = true)]
pub(super) async fn the_last_value_of_each_key_stays_where_it_was() {
    let world = World::new(EAGER).await;
    world
        .put(&[("a", Some("1")), ("b", Some("1")), ("a", Some("2"))])
        .await;
    world.put(&[("c", Some("1")), ("b", Some("2"))]).await;
    wait(2 * SECOND).await;
    // Not yet: the active part.
    world.put(&[("c", Some("2"))]).await;
    let cleaning = world.clean().await.unwrap().unwrap();
    assert_eq!(cleaning.to, Offset(5));
    assert_eq!(cleaning.segments, 1);
    assert!(cleaning.bytes_out < cleaning.bytes_in);
    assert_eq!(
        world.texts().await,
        texts(&[
            (2, "a", Some("2")),
            (3, "c", Some("1")),
            (4, "b", Some("2")),
            (5, "c", Some("2")),
        ])
    );
    wait(2 * SECOND).await;
    world.clean().await.unwrap().unwrap();
    assert_eq!(
        world.texts().await,
        texts(&[
            (2, "a", Some("2")),
            (4, "b", Some("2")),
            (5, "c", Some("2"))
        ])
    );
    assert_eq!(world.partition().slice_count(), 1);
    assert_eq!(world.clean().await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
pub(super) async fn a_tombstone_stays_for_its_time_from_the_first_cleaning_and_then_goes() {
    let world = World::new(EAGER).await;
    world.put(&[("a", Some("1")), ("b", Some("1"))]).await;
    world.put(&[("a", None)]).await;
    // Time before the first cleaning does not count.
    wait(3 * DAY).await;
    let before = world.now();
    world.clean().await.unwrap().unwrap();
    let with_tombstone = texts(&[(1, "b", Some("1")), (2, "a", None)]);
    assert_eq!(world.texts().await, with_tombstone);
    let batch = batches(&world.fetch(2, 1).await).remove(0);
    let horizon = BatchHeader::parse(&batch).unwrap().delete_horizon();
    let expected = before.after(DAY)..=world.now().after(DAY);
    assert!(expected.contains(&horizon.unwrap()), "{horizon:?}");

    wait(DAY - 5 * SECOND).await;
    world.put(&[("c", Some("1"))]).await;
    wait(2 * SECOND).await;
    world.clean().await.unwrap().unwrap();
    assert_eq!(world.texts().await[..2], with_tombstone);

    wait(3 * SECOND).await;
    world.put(&[("c", Some("2"))]).await;
    wait(2 * SECOND).await;
    world.clean().await.unwrap().unwrap();
    assert_eq!(
        world.texts().await,
        texts(&[(1, "b", Some("1")), (4, "c", Some("2"))])
    );
}

#[tokio::test(start_paused = true)]
pub(super) async fn with_fewer_keys_in_memory_than_there_are_it_takes_several_goes() {
    let options = CleaningOptions {
        // Space for three keys.
        dedupe_buffer: ByteCount(4 * 24),
        ..DEFAULTS
    };
    let world = World::with(EAGER, &Store::memory(), options).await;
    let all: Vec<(&str, Option<&str>)> = ["a", "b", "c", "d", "e", "a", "b", "c", "d", "e"]
        .map(|key| (key, Some("v")))
        .to_vec();
    world.put(&all).await;
    wait(2 * SECOND).await;
    let mut ends = Vec::new();
    while let Some(cleaning) = world.clean().await.unwrap() {
        ends.push(cleaning.to.0);
    }
    assert_eq!(ends, [3, 6, 9, 10]);
    let offsets: Vec<i64> = world.read().await.iter().map(|r| r.offset).collect();
    assert_eq!(offsets, [5, 6, 7, 8, 9]);
}

#[tokio::test(start_paused = true)]
pub(super) async fn a_tombstone_does_not_age_before_all_of_its_batch_is_cleaned() {
    let options = CleaningOptions {
        dedupe_buffer: ByteCount(4 * 24),
        ..DEFAULTS
    };
    let world = World::with(EAGER, &Store::memory(), options).await;
    world
        .put(&[
            ("a", None),
            ("b", Some("1")),
            ("c", Some("1")),
            ("d", Some("1")),
        ])
        .await;
    wait(2 * SECOND).await;
    let horizon = async || {
        let batch = batches(&world.fetch(0, 1).await).remove(0);
        BatchHeader::parse(&batch).unwrap().delete_horizon()
    };
    assert_eq!(world.clean().await.unwrap().unwrap().to, Offset(3));
    assert_eq!(horizon().await, None);
    assert_eq!(world.clean().await.unwrap().unwrap().to, Offset(4));
    assert_ne!(horizon().await, None);
}

#[tokio::test(start_paused = true)]
pub(super) async fn output_is_cut_at_the_target_and_each_segment_replaces_its_part() {
    let options = CleaningOptions {
        target: ByteCount(3000),
        ..DEFAULTS
    };
    let world = World::with(EAGER, &Store::memory(), options).await;
    let value = "v".repeat(1000);
    for key in ["a", "b", "c", "d", "e", "a"] {
        world.put(&[(key, Some(&value))]).await;
    }
    wait(2 * SECOND).await;
    let cleaning = world.clean().await.unwrap().unwrap();
    assert_eq!(cleaning.segments, 3);
    let partition = world.partition();
    let slices: Vec<(i64, i64)> = partition
        .slices_from(Offset(0))
        .map(|(base, slice)| (base.0, slice.end.0))
        .collect();
    // The first segment had space for a third batch, since one of its own went.
    assert_eq!(slices, [(0, 3), (3, 5), (5, 6)]);
    let offsets: Vec<i64> = world.read().await.iter().map(|r| r.offset).collect();
    assert_eq!(offsets, [1, 2, 3, 4, 5]);
    assert_eq!(partition.cleaned_to(), Offset(6));
}

#[tokio::test(start_paused = true)]
pub(super) async fn where_records_expire_too_a_segment_covers_a_part_of_the_retention() {
    let world = World::new(&[
        ("cleanup.policy", "compact,delete"),
        ("retention.ms", "3200000"),
    ])
    .await;
    for (key, value) in [("a", "1"), ("a", "2"), ("b", "1")] {
        world.put(&[(key, Some(value))]).await;
    }
    wait(5 * MINUTE).await;
    world.put(&[("c", Some("1"))]).await;
    wait(11 * MINUTE).await;
    assert_eq!(world.clean().await.unwrap().unwrap().segments, 2);
    assert_eq!(world.read().await.len(), 3);
    // The first segment's newest record is older than the retention, and the second's is not.
    wait(42 * MINUTE).await;
    assert!(crate::maintain::retention::run(&world.jobs).await.unwrap());
    assert_eq!(world.texts().await, texts(&[(3, "c", Some("1"))]));
    assert_eq!(world.partition().log_start(), Offset(3));
}

#[tokio::test(start_paused = true)]
pub(super) async fn records_without_a_key_from_before_the_topic_was_compacted_go() {
    let world = World::new(&[("segment.ms", "1000"), ("min.cleanable.dirty.ratio", "0")]).await;
    let mut batch = BatchBuilder::new(Codec::Lz4);
    for key in [None, Some(&b"a"[..]), None] {
        batch.push(START, key, Some(b"1"), &[]).unwrap();
    }
    world.append(batch.finish().unwrap()).await;
    world.set("cleanup.policy", "compact").await;
    wait(2 * SECOND).await;
    world.clean().await.unwrap().unwrap();
    assert_eq!(world.texts().await, texts(&[(1, "a", Some("1"))]));
}

#[tokio::test(start_paused = true)]
pub(super) async fn a_log_of_which_nothing_is_left_is_read_to_its_end() {
    let world = World::new(EAGER).await;
    world.set("delete.retention.ms", "0").await;
    world.put(&[("a", Some("1")), ("a", None)]).await;
    wait(2 * SECOND).await;
    world.clean().await.unwrap().unwrap();
    assert_eq!(world.texts().await, texts(&[(1, "a", None)]));
    world.put(&[("b", None)]).await;
    wait(2 * SECOND).await;
    world.clean().await.unwrap().unwrap();
    world.put(&[("c", None)]).await;
    wait(2 * SECOND).await;
    world.clean().await.unwrap().unwrap();
    assert_eq!(world.texts().await, texts(&[(3, "c", None)]));
    assert_eq!(offsets_are_dense("t", &world.partition()), None);
    assert_eq!(world.put(&[("d", Some("1"))]).await, 4);
    assert_eq!(world.read_from(0).await.len(), 2);
}

#[tokio::test(start_paused = true)]
pub(super) async fn a_switch_of_the_policy_meanwhile_refuses_the_result() {
    let world = World::new(EAGER).await;
    world.put(&[("a", Some("1")), ("a", Some("2"))]).await;
    wait(2 * SECOND).await;
    let before = world.read().await;
    let plan = world.plan();
    let rules = plan.learn().await.unwrap();
    world.set("cleanup.policy", "delete").await;
    let cleaned = plan.rewrite(rules).await;
    let refused = matches!(
        cleaned,
        Err(JobError::Rejected(Rejected::ConfigsAltered { .. }))
    );
    assert!(refused, "{cleaned:?}");
    assert_eq!(world.read().await, before);
    assert_eq!(world.partition().cleaned_to(), Offset(0));
}

#[tokio::test(start_paused = true)]
pub(super) async fn slices_that_go_meanwhile_refuse_the_result_and_the_next_go_succeeds() {
    let world = World::new(EAGER).await;
    for value in ["1", "2", "3"] {
        world.put(&[("a", Some(value))]).await;
    }
    wait(2 * SECOND).await;
    let plan = world.plan();
    let rules = plan.learn().await.unwrap();
    let delete = Op::DeleteRecords {
        partition: world.id(),
        before: Some(Offset(1)),
    };
    let deleted = world.node.manifest().commit_one(delete).await;
    deleted.unwrap().unwrap();
    let cleaned = plan.rewrite(rules).await;
    let refused = matches!(
        cleaned,
        Err(JobError::Rejected(Rejected::SlicesChanged { .. }))
    );
    assert!(refused, "{cleaned:?}");
    assert_eq!(world.clean().await.unwrap().unwrap().to, Offset(3));
    assert_eq!(world.texts().await, texts(&[(2, "a", Some("3"))]));
}

#[tokio::test(start_paused = true)]
pub(super) async fn damaged_records_stop_it_and_nothing_is_replaced() {
    let store = Store::memory();
    let world = World::with(EAGER, &store, DEFAULTS).await;
    world.put(&[("a", Some("1"))]).await;
    let (base, slice) = {
        let partition = world.partition();
        let (base, slice) = partition.slices_from(Offset(0)).next().unwrap();
        (base, *slice)
    };
    let ObjectRef::Commit(_) = slice.object else {
        panic!("{slice:?}");
    };
    // A slice that begins one byte later.
    let shifted = [(
        base,
        crate::state::Slice {
            start: slice.start + 1,
            ..slice
        },
    )];
    let mut input = input::Input::new(&world.jobs, world.id(), &shifted);
    let read = input.next().await;
    assert!(matches!(read, Err(JobError::Unreadable { .. })));
    assert_eq!(world.partition().layout(), 0);
}

#[tokio::test(start_paused = true)]
pub(super) async fn an_offset_that_was_damaged_in_a_compacted_slice_is_not_written_again() {
    let store = Store::memory();
    let world = World::with(EAGER, &store, DEFAULTS).await;
    for key in ["a", "x", "x", "b"] {
        world.put(&[(key, Some("1"))]).await;
    }
    wait(2 * SECOND).await;
    world.clean().await.unwrap().unwrap();
    let offsets: Vec<i64> = world.read().await.iter().map(|r| r.offset).collect();
    assert_eq!(offsets, [0, 2, 3]);
    let slice = *world.partition().slices_from(Offset(0)).next().unwrap().1;
    let ObjectRef::Segment(id) = slice.object else {
        panic!("{slice:?}");
    };
    let path = ObjectPath::segment(id);
    let whole = store.get(&path, RequestKind::SegmentGet).await.unwrap();
    let mut damaged = whole.to_vec();
    // The first batch's base offset becomes 1, which would fit. Its own checksum does not cover that.
    damaged[slice.start as usize + 7] ^= 1;
    let put = store.put_unique(&path, damaged, RequestKind::SegmentPut);
    put.await.unwrap();
    world.put(&[("a", Some("2"))]).await;
    wait(2 * SECOND).await;
    let before = world.partition();
    let refused = world.clean().await;
    assert!(
        matches!(refused, Err(JobError::Unreadable { .. })),
        "{refused:?}"
    );
    assert_eq!(world.partition(), before);
}

#[test]
pub(super) fn batches_of_transactions_and_control_batches_stay_whole() {
    for flag in [1 << 4, 1 << 5] {
        let mut batch = BatchBuilder::new(Codec::None);
        for value in [b"1", b"2"] {
            batch.push(START, Some(b"a"), Some(value), &[]).unwrap();
        }
        let mut bytes = BytesMut::from(&batch.finish().unwrap()[..]);
        let flags = Attributes(flag);
        assert!(flags.is_transactional() || flags.is_control());
        bytes[22] |= flag as u8;
        let bytes = bytes.freeze();
        let mut map = offset_map::OffsetMap::new(ByteCount::mib(1), 10);
        let full = rules::note_keys(&mut map, Offset(0), Offset(0), &bytes).unwrap();
        assert_eq!((full, map.len()), (None, 0));
        assert!(map.insert(b"a", Offset(9)));
        let rules = rules::Rules {
            map,
            to: Offset(10),
            log_start: Offset(0),
            now: START,
            horizon: START,
        };
        let retained = rules.clean(Offset(0), &bytes).unwrap();
        assert_eq!(retained, crate::segment::Retained::Whole);
    }
}
