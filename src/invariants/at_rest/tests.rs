use bytes::Bytes;
use uuid::Uuid;

use super::*;
use crate::segment::{BatchBuilder, Codec, patch};
use crate::state::SliceIndex;
use crate::state::op::{Append, AppendEntry, AppendSource, Commit, CreateTopic, Op};
use crate::types::{
    CommitId, Incarnation, PartitionIndex, SegmentId, Seq, Timestamp, TopicId, TopicName,
};

const ORDERS: TopicPartition = TopicPartition {
    topic: TopicId(Uuid::from_u128(7)),
    partition: PartitionIndex(0),
};
const SEGMENT: SegmentId = SegmentId(Uuid::from_u128(9));

fn folded(ops: Vec<Op>) -> State {
    let mut state = State::new();
    let create = Op::CreateTopic(CreateTopic {
        id: ORDERS.topic,
        name: TopicName::new("orders").unwrap(),
        partitions: 1,
        configs: BTreeMap::new(),
        replicas: None,
    });
    let commit = Commit {
        id: CommitId {
            incarnation: Incarnation(Uuid::from_u128(1)),
            counter: 1,
        },
        time: Timestamp(1000),
        ops: [vec![create], ops].concat(),
        follows: None,
        forwarded: Vec::new(),
        wall: None,
    };
    state.apply(Seq(1), &commit, 64);
    state
}

fn append(source: AppendSource, start: u64, len: u32, records: u32) -> Op {
    Op::Append(Append {
        partition: ORDERS,
        source,
        entries: vec![AppendEntry {
            start,
            len,
            records,
            max_timestamp: Timestamp(5),
            producer: None,
        }],
    })
}

/// A partition as it is stored: log start, high watermark, bytes, and slices of (base, end, bytes).
fn partition(log_start: i64, end: i64, bytes: u64, slices: &[(i64, i64, u64)]) -> Partition {
    let mut e = minicbor::Encoder::new(Vec::new());
    e.array(5).unwrap();
    e.i64(log_start).unwrap().i64(end).unwrap();
    e.u64(bytes).unwrap().map(slices.len() as u64).unwrap();
    for (base, end, len) in slices {
        let slice = slice(*end, *len, None);
        e.i64(*base).unwrap().encode(slice).unwrap();
    }
    e.map(0).unwrap();
    minicbor::decode(&e.into_writer()).unwrap()
}

fn slice(end: i64, len: u64, index: Option<SliceIndex>) -> Slice {
    Slice {
        end: Offset(end),
        object: ObjectRef::Segment(SEGMENT),
        start: 40,
        len,
        max_timestamp: Timestamp(5),
        appended_at: Timestamp(5),
        index,
    }
}

fn reference(base: i64, end: i64, len: u64) -> Reference {
    Reference {
        partition: ORDERS,
        base: Offset(base),
        slice: slice(end, len, None),
    }
}

fn compacted(base: i64, end: i64, len: u64) -> Reference {
    let mut reference = reference(base, end, len);
    reference.slice.index = Some(SliceIndex { start: 0, len: 0 });
    reference
}

fn batch(records: usize) -> Bytes {
    let mut batch = BatchBuilder::new(Codec::None);
    for n in 0..records {
        batch
            .push(Timestamp(5), None, Some(&[n as u8; 20]), &[])
            .unwrap();
    }
    batch.finish().unwrap()
}

fn at(offset: i64, batch: &[u8]) -> Vec<u8> {
    let mut batch = batch.to_vec();
    patch(&mut batch, Offset(offset), 0).unwrap();
    batch
}

#[test]
fn slices_that_lie_end_to_end_are_dense_and_any_other_arrangement_is_named() {
    for (partition, wrong) in [
        (partition(0, 0, 0, &[]), None),
        (partition(7, 7, 0, &[]), None),
        (partition(3, 9, 30, &[(0, 5, 10), (5, 9, 20)]), None),
        (
            partition(0, 9, 30, &[(0, 5, 10), (6, 9, 20)]),
            Some("offset 6 where 5 is due"),
        ),
        (
            partition(0, 9, 30, &[(0, 5, 10), (4, 9, 20)]),
            Some("offset 4 where 5 is due"),
        ),
        (
            partition(0, 9, 10, &[(0, 5, 10)]),
            Some("end before offset 5, and the high watermark is 9"),
        ),
        (
            partition(0, 5, 10, &[(2, 5, 10)]),
            Some("starts at 0, and the first slice at 2"),
        ),
        (
            partition(0, 5, 10, &[(0, 0, 10)]),
            Some("offset 0 and ends before 0"),
        ),
        (
            partition(6, 5, 0, &[]),
            Some("starts at 6 and ends before 5"),
        ),
        (
            partition(0, 5, 11, &[(0, 5, 10)]),
            Some("11 bytes are counted, but the slices have 10"),
        ),
        (
            partition(0, 5, 0, &[]),
            Some("end before offset 0, and the high watermark is 5"),
        ),
    ] {
        let found = offsets_are_dense("orders/0", &partition);
        match (&found, wrong) {
            (None, None) => {}
            (Some(violation), Some(wrong)) => {
                assert_eq!(violation.invariant, Invariant::OffsetsAreDense);
                assert!(violation.what.starts_with("orders/0: "), "{violation}");
                assert!(violation.what.contains(wrong), "{violation}");
            }
            _ => panic!("{partition:?}: {found:?}, not {wrong:?}"),
        }
    }
}

#[test]
fn a_state_that_differs_in_one_place_is_not_equal_and_the_place_is_named() {
    let appended = |len| folded(vec![append(AppendSource::Inline, 0, len, 3)]);
    assert_eq!(states_are_equal(&appended(50), "x", &appended(50)), None);
    let found = states_are_equal(&appended(50), "snapshot 1", &appended(51)).unwrap();
    assert_eq!(found.invariant, Invariant::StatesAreEqual);
    assert!(
        found.what.contains("snapshot 1 is not the fold")
            && found.what.contains("is 51 and should be 50"),
        "{found}"
    );
}

#[test]
fn what_refers_to_an_object_that_is_gone_is_told_with_its_offsets() {
    let state = folded(vec![
        append(AppendSource::Inline, 0, 50, 3),
        append(AppendSource::Segment(SEGMENT), 40, 50, 4),
    ]);
    let found = references(&state);
    assert_eq!(found.len(), 2);
    assert_eq!(referenced_objects_exist(&state, &found, |_| true), []);
    let missing =
        referenced_objects_exist(&state, &found, |object| object == ObjectRef::Commit(Seq(1)));
    let [(object, violation)] = missing.as_slice() else {
        panic!("{missing:?}");
    };
    assert_eq!(*object, ObjectRef::Segment(SEGMENT));
    assert_eq!(violation.invariant, Invariant::NothingReferencedIsDeleted);
    assert!(
        violation.what.contains("offsets 3 to 6 of orders/0"),
        "{violation}"
    );
}

#[test]
fn a_slice_that_reaches_out_of_its_object_does_not_resolve() {
    let state = folded(vec![]);
    let reference = reference(0, 3, 100);
    assert_eq!(slice_lies_within(&state, &reference, &(40..140)), None);
    for data in [41..200, 40..139, 0..0] {
        let found = slice_lies_within(&state, &reference, &data).unwrap();
        assert_eq!(found.invariant, Invariant::SlicesResolve);
    }
}

#[test]
fn whole_batches_with_the_right_offsets_resolve_however_they_are_fed() {
    let state = folded(vec![]);
    let bytes = [batch(3), batch(1), batch(10)].concat();
    let reference = reference(100, 114, bytes.len() as u64);
    assert_eq!(slice_resolves(&state, reference, &bytes), None);
    for piece in [1, 7, 61, 100] {
        let mut check = SliceCheck::new(reference);
        bytes.chunks(piece).for_each(|piece| check.feed(piece));
        assert_eq!(check.finish(&state), None, "{piece}");
    }
}

#[test]
fn every_flipped_bit_that_the_checksum_covers_is_found() {
    let state = folded(vec![]);
    let bytes = [batch(3), batch(2)].concat();
    let reference = reference(0, 5, bytes.len() as u64);
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        let found = slice_resolves(&state, reference, &damaged);
        // Base offset and leader epoch are written anew whenever a batch is served.
        let first = batch(3).len();
        let free = matches!(at % first, 0..8 | 12..16) && at < first + BATCH_HEADER_LEN;
        assert_eq!(found.is_none(), free, "byte {at}: {found:?}");
    }
}

#[test]
fn too_few_too_many_or_other_offsets_do_not_resolve() {
    let state = folded(vec![]);
    let bytes = [batch(3), batch(2)].concat();
    let len = bytes.len() as u64;
    for (reference, bytes) in [
        (reference(0, 6, len), bytes.clone()),
        (reference(0, 4, len), bytes.clone()),
        (reference(0, 5, len), bytes[..bytes.len() - 1].to_vec()),
        (reference(0, 5, len - 1), bytes[..bytes.len() - 1].to_vec()),
        (reference(0, 5, len), [bytes.clone(), vec![0]].concat()),
        (reference(0, 5, len), vec![0; bytes.len()]),
        (reference(0, 5, 10), bytes[..10].to_vec()),
    ] {
        let found = slice_resolves(&state, reference, &bytes);
        assert!(found.is_some(), "{reference:?}");
    }
}

#[test]
fn several_damaged_batches_are_one_violation_that_counts_them() {
    let state = folded(vec![]);
    let mut bytes = [batch(3), batch(2)].concat();
    let last = bytes.len() - 1;
    bytes[70] ^= 1;
    bytes[last] ^= 1;
    let found = slice_resolves(&state, reference(8, 13, bytes.len() as u64), &bytes).unwrap();
    assert!(
        found.what.contains("offset 8") && found.what.contains("2 of its batches"),
        "{found}"
    );
}

#[test]
fn a_compacted_slice_has_real_offsets_with_gaps_and_may_be_empty() {
    let state = folded(vec![]);
    assert_eq!(slice_resolves(&state, compacted(0, 50, 0), &[]), None);
    let bytes = [at(10, &batch(3)), at(40, &batch(2))].concat();
    let len = bytes.len() as u64;
    assert_eq!(slice_resolves(&state, compacted(5, 42, len), &bytes), None);
    // Out of order, before the slice, and behind its end.
    let swapped = [at(40, &batch(2)), at(10, &batch(3))].concat();
    for (reference, bytes) in [
        (compacted(5, 42, len), &swapped),
        (compacted(11, 42, len), &bytes),
        (compacted(5, 41, len), &bytes),
    ] {
        assert!(
            slice_resolves(&state, reference, bytes).is_some(),
            "{reference:?}"
        );
    }
}
