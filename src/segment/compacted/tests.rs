use proptest::prelude::*;
use uuid::Uuid;

use crate::segment::{BatchBuilder, Codec};
use crate::types::{PartitionIndex, TopicId};

use super::*;

const ID: SegmentId = SegmentId(Uuid::from_u128(42));

fn partition(number: i32) -> TopicPartition {
    TopicPartition {
        topic: TopicId(Uuid::from_u128(7)),
        partition: PartitionIndex(number),
    }
}

/// A batch as a producer sends it: base offset 0.
fn batch(records: u8, timestamp: i64, size: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    for i in 0..records {
        let at = Timestamp(timestamp + i64::from(i));
        builder.push(at, None, Some(&vec![i; size]), &[]).unwrap();
    }
    builder.finish().unwrap()
}

/// The parts in the order of their places.
fn whole(mut parts: Vec<Part>) -> Bytes {
    parts.sort_by_key(|part| part.number);
    let numbers: Vec<u32> = parts.iter().map(|part| part.number).collect();
    assert_eq!(numbers, (0..parts.len() as u32).collect::<Vec<_>>());
    parts.iter().flat_map(|part| part.bytes.clone()).collect()
}

/// What a slice is made of: the offsets it stands for, and batches at their offsets.
type Content = (Range<i64>, Vec<(i64, Bytes)>);

fn build(
    slices: &[Content],
    part_len: usize,
    chunk_len: usize,
) -> (Vec<CompactedSlice>, Vec<Part>) {
    let mut builder = CompactedBuilder::with_chunks(ID, part_len, chunk_len);
    let mut parts = Vec::new();
    for (number, (offsets, batches)) in (0..).zip(slices) {
        builder
            .begin_slice(partition(number), Offset(offsets.start))
            .unwrap();
        for (offset, batch) in batches {
            builder.push(Offset(*offset), batch).unwrap();
            parts.extend(std::iter::from_fn(|| builder.next_part()));
        }
        builder.end_slice(Offset(offsets.end)).unwrap();
    }
    let finished = builder.finish().unwrap();
    parts.extend(finished.parts);
    assert_eq!(parts.last().unwrap().number, 0, "part 0 comes last");
    let len: usize = parts.iter().map(|part| part.bytes.len()).sum();
    assert_eq!(len as u64, finished.len);
    let (full, last) = (
        parts.len() - 1,
        parts.iter().map(|part| part.number).max().unwrap(),
    );
    for part in &parts {
        assert!(
            part.bytes.len() == part_len || part.number == last && part.bytes.len() <= part_len,
            "{full}"
        );
    }
    (finished.slices, parts)
}

fn example() -> Vec<Content> {
    vec![
        (
            100..200,
            vec![
                (100, batch(3, 1000, 10)),
                (120, batch(1, 900, 300)),
                (150, batch(2, 2000, 10)),
            ],
        ),
        (0..50, vec![]),
        (7..9, vec![(8, batch(1, 5, 10))]),
    ]
}

#[test]
fn batches_lie_in_the_object_with_their_real_offsets_and_the_directory_says_where() {
    let (slices, parts) = build(&example(), 256, 200);
    let object = whole(parts);
    let (directory, contents) = CompactedDirectory::decode("x", &object).unwrap();
    assert_eq!((directory.id, &directory.slices), (ID, &slices));
    let found = |content: &Bytes| {
        let headers = Batches::new(content).map(|batch| batch.unwrap().header);
        headers
            .map(|h| (h.base_offset.0, h.leader_epoch, h.record_count))
            .collect::<Vec<_>>()
    };
    assert_eq!(found(&contents[0]), [(100, 0, 3), (120, 0, 1), (150, 0, 2)]);
    assert_eq!(found(&contents[1]), []);
    assert_eq!(found(&contents[2]), [(8, 0, 1)]);
    assert_eq!(slices[0].offsets, Offset(100)..Offset(200));
    assert_eq!((slices[0].batches, slices[0].records), (3, 6));
    assert_eq!(slices[0].max_timestamp, Timestamp(2001));
    assert!(slices[1].range.is_empty() && !slices[1].index.is_empty());
}

#[test]
fn the_index_of_a_slice_is_read_alone_and_leads_to_its_chunks() {
    let (slices, parts) = build(&example(), 256, 200);
    let object = whole(parts);
    let cut = |range: &Range<u64>| object.slice(range.start as usize..range.end as usize);
    let index = ChunkIndex::decode("x", &cut(&slices[0].index)).unwrap();
    // The second batch is longer than a chunk, so each is a chunk of its own.
    let chunks: Vec<_> = index
        .chunks()
        .iter()
        .map(|c| (c.offset.0, c.max_timestamp.0))
        .collect();
    assert_eq!(chunks, [(100, 1002), (120, 900), (150, 2001)]);
    for (offset, chunk) in [
        (0, 0),
        (100, 0),
        (119, 0),
        (120, 1),
        (149, 1),
        (150, 2),
        (199, 2),
    ] {
        assert_eq!(index.chunk_at(Offset(offset)), chunk, "{offset}");
    }
    for number in 0..3 {
        let range = index.range_of(number);
        index.check_chunk("x", number, &cut(&range)).unwrap();
        let mut damaged = cut(&range).to_vec();
        // The base offset, which the batch's own CRC does not cover.
        damaged[7] ^= 1;
        let error = index.check_chunk("x", number, &damaged).unwrap_err();
        assert!(
            matches!(error, SegmentError::CorruptSlice { .. }),
            "{error}"
        );
    }
    assert!(index.range_of(3).is_empty());
    let empty = ChunkIndex::decode("x", &cut(&slices[1].index)).unwrap();
    assert_eq!((empty.chunks().len(), empty.chunk_at(Offset(3))), (0, 0));
    assert!(empty.range_of(0).is_empty());
}

#[test]
fn an_index_of_another_slice_is_refused() {
    let (slices, parts) = build(&example(), 256, 200);
    let object = whole(parts);
    let at = slices[0].index.start as usize..slices[0].index.end as usize;
    let index = ChunkIndex::decode("x", &object[at]).unwrap();
    let slice = &slices[0];
    index
        .expect("x", slice.partition, &slice.offsets, &slice.range)
        .unwrap();
    let other = Offset(100)..Offset(201);
    let error = index
        .expect("x", slice.partition, &other, &slice.range)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("x: bad segment index: it is that of partition"),
        "{error}"
    );
    assert!(
        index
            .expect("x", partition(1), &slice.offsets, &slice.range)
            .is_err()
    );
    assert!(
        index
            .expect("x", slice.partition, &slice.offsets, &slices[2].range)
            .is_err()
    );
}

#[test]
fn what_does_not_belong_there_does_not_get_in_and_changes_nothing() {
    let mut builder = CompactedBuilder::new(ID, 1 << 20);
    let sound = batch(3, 1, 10);
    builder.push(Offset(1), &sound).unwrap_err();
    builder.begin_slice(partition(0), Offset(-1)).unwrap_err();
    builder.begin_slice(partition(0), Offset(10)).unwrap();
    builder.begin_slice(partition(1), Offset(0)).unwrap_err();
    builder.push(Offset(9), &sound).unwrap_err();
    builder.push(Offset(10), &sound).unwrap();
    let mut damaged = sound.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let error = builder.push(Offset(20), &damaged).unwrap_err();
    assert!(error.to_string().contains("checksum"), "{error}");
    builder.push(Offset(20), &sound.slice(..30)).unwrap_err();
    builder
        .push(Offset(20), &[sound.clone(), sound.clone()].concat())
        .unwrap_err();
    let error = builder.push(Offset(12), &sound).unwrap_err();
    assert!(matches!(error, SegmentError::Misplaced { .. }), "{error}");
    builder.end_slice(Offset(12)).unwrap_err();
    builder.push(Offset(13), &sound).unwrap();
    builder.end_slice(Offset(16)).unwrap();
    builder.end_slice(Offset(16)).unwrap_err();
    let finished = builder.finish().unwrap();
    let object = whole(finished.parts);
    let (_, contents) = CompactedDirectory::decode("x", &object).unwrap();
    assert_eq!(contents[0].len(), 2 * sound.len());
    let mut open = CompactedBuilder::new(ID, 1 << 20);
    open.begin_slice(partition(0), Offset(0)).unwrap();
    open.finish().unwrap_err();
}

#[test]
fn a_batch_out_of_its_place_is_found_even_where_every_checksum_holds() {
    let (slices, parts) = build(&example(), 4096, 200);
    let object = whole(parts);
    let start = slices[0].range.start as usize;
    let first = object.slice(start..start + batch(3, 1000, 10).len());
    let slice = &slices[0];
    assert_eq!(
        check_batches("x", slice, Offset(100), &first).unwrap(),
        Offset(103)
    );
    for least in [101, 150] {
        let error = check_batches("x", slice, Offset(least), &first).unwrap_err();
        assert!(matches!(error, SegmentError::BadBatch { .. }), "{error}");
    }
    let mut short = slice.clone();
    short.offsets.end = Offset(102);
    assert!(check_batches("x", &short, Offset(100), &first).is_err());
}

#[test]
fn the_compacted_segment_of_version_1_is_read_for_ever() {
    let (slices, _) = build(&example(), 256, 200);
    let fixture = include_bytes!("../../../tests/fixtures/formats/compacted.1");
    let fixture = Bytes::from_static(fixture);
    let (directory, contents) = CompactedDirectory::decode("fixture", &fixture).unwrap();
    assert_eq!((directory.id, &directory.slices), (ID, &slices));
    let mut last = batch(1, 5, 10).to_vec();
    patch(&mut last, Offset(8), LEADER_EPOCH).unwrap();
    assert_eq!(contents[2], last);
}

fn contents() -> impl Strategy<Value = Vec<Content>> {
    let batches = prop::collection::vec((0..20i64, 1..4u8, 0..1000i64, 0..120usize), 0..25);
    let slice = (0..1000i64, batches, 0..10i64).prop_map(|(base, batches, gap)| {
        let mut next = base;
        let mut placed = Vec::new();
        for (gap, records, timestamp, size) in batches {
            placed.push((next + gap, batch(records, timestamp, size)));
            next += gap + i64::from(records);
        }
        (base..(next + gap).max(base + 1), placed)
    });
    prop::collection::vec(slice, 1..4)
}

proptest! {
    #[test]
    fn what_is_pushed_is_found_by_every_offset_and_by_every_time(
        contents in contents(), part_len in 60..2000usize, chunk_len in 1..800usize,
    ) {
        let (slices, parts) = build(&contents, part_len, chunk_len);
        let object = whole(parts);
        let (directory, stored) = CompactedDirectory::decode("x", &object).unwrap();
        prop_assert_eq!(&directory.slices, &slices);
        for ((slice, stored), (offsets, pushed)) in slices.iter().zip(&stored).zip(&contents) {
            let at = slice.index.start as usize..slice.index.end as usize;
            let index = ChunkIndex::decode("x", &object[at]).unwrap();
            let headers: Vec<_> = Batches::new(stored).map(|b| b.unwrap()).collect();
            prop_assert_eq!(headers.len(), pushed.len());
            // Where each batch is in the object, in the order of the model.
            let starts: Vec<u64> = headers.iter().map(|b| slice.range.start + b.range.start as u64).collect();
            for offset in offsets.clone() {
                let wanted = headers.iter().position(|b| b.header.next_offset().0 > offset);
                let from = index.range_of(index.chunk_at(Offset(offset))).start;
                let wanted = wanted.map_or(slice.range.end, |n| starts[n]);
                // Reading begins at or before the batch, and at most one chunk before it.
                prop_assert!(from <= wanted);
                prop_assert!(index.range_of(index.chunk_at(Offset(offset)) + 1).end >= wanted);
            }
            for time in (0..1004).step_by(97) {
                let wanted = headers.iter().position(|b| b.header.max_timestamp.0 >= time);
                let chunk = index.chunks().iter().position(|c| c.max_timestamp.0 >= time);
                match (wanted, chunk) {
                    (Some(n), Some(chunk)) => prop_assert!(index.range_of(chunk).contains(&starts[n])),
                    (None, None) => {}
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
    }

    #[test]
    fn any_flipped_bit_is_found(at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let (_, parts) = build(&example(), 256, 200);
        let mut object = whole(parts).to_vec();
        let at = at.index(object.len());
        object[at] ^= 1 << bit;
        prop_assert!(CompactedDirectory::decode("x", &object.into()).is_err());
    }

    #[test]
    fn a_hostile_index_or_directory_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut sealed = bytes.clone();
        sealed.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        prop_assert!(ChunkIndex::decode("x", &sealed).is_err());
        let mut object = ObjectBuilder::new(ObjectKind::Compacted);
        object.push(Bytes::from(vec![0; 100]));
        let whole = Bytes::from(object.finish(b"", &bytes).unwrap().concat());
        prop_assert!(CompactedDirectory::decode("x", &whole).is_err());
    }
}
