use proptest::prelude::*;
use uuid::Uuid;

use crate::segment::{BatchBuilder, Codec};
use crate::types::{PartitionIndex, TopicId};

use super::*;

fn partition(topic: u128, partition: i32) -> TopicPartition {
    TopicPartition {
        topic: TopicId(Uuid::from_u128(topic)),
        partition: PartitionIndex(partition),
    }
}

fn batch(records: u8) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    for i in 0..records {
        builder
            .push(Timestamp(100 + i64::from(i)), None, Some(&[i; 10]), &[])
            .unwrap();
    }
    builder.finish().unwrap()
}

fn example() -> (Vec<Slice>, Vec<Bytes>) {
    let mut builder = SegmentBuilder::new(SegmentId(Uuid::from_u128(42)));
    let two = Bytes::from([batch(1), batch(2)].concat());
    let slices = vec![
        builder.push(partition(1, 0), vec![batch(3), two]).unwrap(),
        builder.push(partition(1, 5), vec![batch(1)]).unwrap(),
        builder.push(partition(2, 0), vec![batch(4)]).unwrap(),
    ];
    (slices, builder.finish().unwrap())
}

#[test]
fn a_slice_is_where_push_said_and_the_index_says_the_same() {
    let (slices, parts) = example();
    let whole = Bytes::from(parts.concat());
    let (index, contents) = SegmentIndex::decode("segments/x", &whole).unwrap();
    assert_eq!(index.id, SegmentId(Uuid::from_u128(42)));
    assert_eq!(index.slices, slices);
    assert_eq!((slices[0].batches, slices[0].records), (3, 6));
    assert_eq!(slices[0].max_timestamp, Timestamp(102));
    for (slice, content) in slices.iter().zip(&contents) {
        let range = slice.range.start as usize..slice.range.end as usize;
        assert_eq!(whole[range], content[..]);
        check_slice("segments/x", &slice.range, slice.crc, content).unwrap();
    }
    assert_eq!(contents[2], batch(4));
}

#[test]
fn the_index_is_read_from_header_and_tail_alone() {
    let (slices, parts) = example();
    let whole = Bytes::from(parts.concat());
    let header = ObjectHeader::parse("x", &whole.slice(..HEADER_LEN as usize)).unwrap();
    let tail = header.tail_range();
    let tail = whole.slice(tail.start as usize..tail.end as usize);
    assert_eq!(
        SegmentIndex::decode_tail("x", &header, &tail)
            .unwrap()
            .slices,
        slices
    );
}

fn large_batch(records: u8) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    for i in 0..records {
        let value = vec![i; 100_000];
        builder.push(Timestamp(1), None, Some(&value), &[]).unwrap();
    }
    builder.finish().unwrap()
}

#[test]
fn the_checksums_of_large_batches_are_joined_to_those_of_slice_and_segment() {
    let mut builder = SegmentBuilder::new(SegmentId::default());
    let mixed = Bytes::from([batch(2), large_batch(3), large_batch(1), batch(1)].concat());
    let parts = vec![large_batch(2), mixed, batch(3), large_batch(2)];
    let bytes = parts.concat();
    let slice = builder.push(partition(1, 0), parts).unwrap();
    assert_eq!(slice.crc, crc32c::crc32c(&bytes));
    builder.push(partition(1, 1), vec![large_batch(2)]).unwrap();
    let whole = Bytes::from(builder.finish().unwrap().concat());
    // Checks them all.
    let (_, contents) = SegmentIndex::decode("segments/x", &whole).unwrap();
    assert_eq!(contents[0], bytes);
}

#[test]
fn a_byte_that_changes_after_a_batch_was_validated_is_found_by_who_reads_the_segment() {
    let mut changed = large_batch(2).to_vec();
    changed[150_000] ^= 1;
    let mut builder = SegmentBuilder::new(SegmentId::default());
    builder
        .push(partition(1, 0), vec![Bytes::from(changed)])
        .unwrap();
    let whole = Bytes::from(builder.finish().unwrap().concat());
    assert!(SegmentIndex::decode("segments/x", &whole).is_err());
}

#[test]
fn batches_are_not_copied() {
    let mut builder = SegmentBuilder::new(SegmentId::default());
    let bytes = batch(1);
    builder.push(partition(1, 1), vec![bytes.clone()]).unwrap();
    assert_eq!(builder.finish().unwrap()[1].as_ptr(), bytes.as_ptr());
}

#[test]
fn what_is_no_batch_does_not_get_in() {
    let mut builder = SegmentBuilder::new(SegmentId::default());
    let torn = batch(2).slice(..70);
    let error = builder
        .push(partition(1, 1), vec![batch(1), torn])
        .unwrap_err();
    assert!(matches!(error, SegmentError::NotBatches { .. }), "{error}");
    let error = builder
        .push(partition(1, 1), vec![Bytes::new()])
        .unwrap_err();
    assert!(matches!(error, SegmentError::EmptySlice { .. }), "{error}");
    assert!(builder.is_empty());
    assert_eq!(builder.data_len(), 0);
}

#[test]
fn a_corrupt_slice_is_named_with_its_range() {
    let (slices, _) = example();
    let error = check_slice(
        "segments/x",
        &slices[1].range,
        slices[1].crc,
        &batch(1).slice(1..),
    );
    assert!(matches!(error, Err(SegmentError::WrongLength { .. })));
    let mut bytes = batch(1).to_vec();
    bytes[3] ^= 1;
    let error = check_slice("segments/x", &slices[1].range, slices[1].crc, &bytes).unwrap_err();
    let Range { start, end } = slices[1].range;
    let says = format!("segments/x: bytes {start} to {end} are corrupt");
    assert!(error.to_string().starts_with(&says), "{error}");
}

#[test]
fn an_index_that_does_not_describe_the_data_is_refused() {
    let entry = |start, end, batches| Entry {
        partition: partition(1, 1),
        start,
        end,
        batches,
        records: 1,
        max_timestamp: Timestamp(1),
        crc: 0,
    };
    let table: Vec<Vec<Entry>> = vec![
        vec![],
        vec![entry(41, 140, 1)],
        vec![entry(40, 139, 1)],
        vec![entry(40, 141, 1)],
        vec![entry(40, 140, 0)],
        vec![entry(40, 40, 1), entry(40, 140, 1)],
        vec![entry(40, 100, 1), entry(90, 140, 1)],
        vec![entry(40, 100, 1), entry(110, 140, 1)],
        vec![entry(40, 30, 1), entry(30, 140, 1)],
        vec![entry(40, u64::MAX, 1)],
    ];
    for slices in table {
        let mut object = ObjectBuilder::new(ObjectKind::Segment);
        object.push(Bytes::from(vec![0; 100]));
        let index = minicbor::to_vec(Index {
            id: SegmentId::default(),
            slices,
        })
        .unwrap();
        let whole = Bytes::from(object.finish(b"", &index).unwrap().concat());
        let error = SegmentIndex::decode("segments/x", &whole).unwrap_err();
        assert!(matches!(error, SegmentError::BadIndex { .. }), "{error}");
    }
}

#[test]
fn the_segment_of_version_1_is_read_for_ever() {
    let fixture = include_bytes!("../../../tests/fixtures/formats/segment.1");
    let (slices, _) = example();
    let (index, contents) = SegmentIndex::decode("fixture", &Bytes::from_static(fixture)).unwrap();
    assert_eq!(index.id, SegmentId(Uuid::from_u128(42)));
    assert_eq!(index.slices, slices);
    assert_eq!(contents[1..], [batch(1), batch(4)]);
}

proptest! {
    #[test]
    fn a_hostile_index_never_panics(tail in prop::collection::vec(any::<u8>(), 0..200)) {
        // The beginning of an index that claims 2^64 - 1 slices.
        let claim = [&[0x82, 0x50][..], &[0; 16], &[0x9b], &[0xff; 8], &tail].concat();
        for tail in [tail, claim] {
            let mut object = ObjectBuilder::new(ObjectKind::Segment);
            object.push(Bytes::from(vec![0; 100]));
            let whole = Bytes::from(object.finish(b"", &tail).unwrap().concat());
            prop_assert!(SegmentIndex::decode("x", &whole).is_err());
        }
    }
}
