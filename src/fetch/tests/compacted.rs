//! Reading compacted slices, alone and among others.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use uuid::Uuid;

use crate::fetch::{Blocks, CacheOptions, FetchMetrics, ReadLimits, Reader, Wanted};
use crate::segment::{
    BatchBuilder, Batches, CHUNK_LEN, Codec, CompactedBuilder, CompactedSlice, LEADER_EPOCH,
    Limits, SegmentBuilder, decode_records, patch,
};
use crate::state::{ObjectRef, Partition, Slice, SliceIndex, State};
use crate::store::{ObjectPath, PART_LEN, RequestKind, Store};
use crate::testing::{Fault, Faulty};
use crate::types::{
    ByteCount, LogId, Offset, PartitionIndex, SegmentId, Timestamp, TopicId, TopicPartition,
};

const ID: TopicPartition = TopicPartition {
    topic: TopicId(Uuid::from_u128(7)),
    partition: PartitionIndex(3),
};

fn batch(records: u8, timestamp: i64, size: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    for i in 0..records {
        // In some of them time goes backwards.
        let step = if size % 2 == 1 { records - i } else { i };
        let at = Timestamp(timestamp + i64::from(step));
        builder.push(at, None, Some(&vec![i; size]), &[]).unwrap();
    }
    builder.finish().unwrap()
}

/// A batch as a consumer gets it.
fn placed(batch: &Bytes, offset: i64) -> Bytes {
    let mut batch = BytesMut::from(&batch[..]);
    patch(&mut batch, Offset(offset), LEADER_EPOCH).unwrap();
    batch.freeze()
}

/// A slice to make: whether it is compacted, the gap at its end, and its batches with the gap before each.
type Content = (bool, i64, Vec<(i64, Bytes)>);

/// A partition in a store, and all its batches as a consumer gets them.
struct Made {
    store: Store,
    partition: Partition,
    batches: Vec<Bytes>,
}

fn compacted_slice(object: ObjectRef, made: &CompactedSlice) -> (Offset, Slice) {
    let slice = Slice {
        end: made.offsets.end,
        object,
        start: made.range.start,
        len: made.range.end - made.range.start,
        max_timestamp: made.max_timestamp,
        appended_at: Timestamp(0),
        index: Some(SliceIndex {
            start: made.index.start,
            len: (made.index.end - made.index.start) as u32,
        }),
    };
    (made.offsets.start, slice)
}

/// Every slice in an object of its own, behind a slice of another partition.
async fn make(store: Store, log_start: i64, contents: &[Content], chunk_len: usize) -> Made {
    let other = TopicPartition {
        partition: PartitionIndex(9),
        ..ID
    };
    let (mut slices, mut batches) = (Vec::new(), Vec::new());
    let mut next = 0;
    for (number, (compacted, gap, content)) in (1..).zip(contents) {
        let id = SegmentId(Uuid::from_u128(number));
        let object = ObjectRef::Segment(id);
        let parts;
        if *compacted {
            let mut builder = CompactedBuilder::with_chunks(id, PART_LEN, chunk_len);
            builder.begin_slice(other, Offset(0)).unwrap();
            builder.push(Offset(0), &batch(1, 1, 10)).unwrap();
            builder.end_slice(Offset(1)).unwrap();
            builder.begin_slice(ID, Offset(next)).unwrap();
            let base = next;
            let mut pieces = Vec::new();
            for (gap, batch) in content {
                next += gap;
                builder.push(Offset(next), batch).unwrap();
                pieces.extend(std::iter::from_fn(|| builder.next_part()));
                batches.push(placed(batch, next));
                next = Batches::new(batches.last().unwrap())
                    .next()
                    .unwrap()
                    .unwrap()
                    .header
                    .next_offset()
                    .0;
            }
            next = (next + gap).max(base + 1);
            slices.push(compacted_slice(
                object,
                &builder.end_slice(Offset(next)).unwrap(),
            ));
            let finished = builder.finish().unwrap();
            pieces.extend(finished.parts);
            pieces.sort_by_key(|part| part.number);
            parts = pieces.into_iter().map(|part| part.bytes).collect();
        } else {
            if content.is_empty() {
                continue;
            }
            let base = next;
            let mut builder = SegmentBuilder::new(id);
            builder.push(other, vec![batch(1, 1, 10)]).unwrap();
            let pieces: Vec<Bytes> = content.iter().map(|(_, batch)| batch.clone()).collect();
            let made = builder.push(ID, pieces).unwrap();
            for (_, batch) in content {
                batches.push(placed(batch, next));
                next += i64::from(
                    Batches::new(batch)
                        .next()
                        .unwrap()
                        .unwrap()
                        .header
                        .record_count,
                );
            }
            let slice = Slice {
                end: Offset(next),
                object,
                start: made.range.start,
                len: made.range.end - made.range.start,
                max_timestamp: made.max_timestamp,
                appended_at: Timestamp(0),
                index: None,
            };
            slices.push((Offset(base), slice));
            parts = builder.finish().unwrap();
        }
        let path = ObjectPath::segment(id);
        store
            .put_unique(&path, parts, RequestKind::SegmentPut)
            .await
            .unwrap();
    }
    Made {
        store,
        partition: Partition::of_slices(Offset(log_start.min(next)), slices),
        batches,
    }
}

impl Made {
    fn reader(&self) -> Reader {
        let options = CacheOptions::default();
        Reader::new(Blocks::new(
            self.store.clone(),
            LogId::ZERO,
            &options,
            FetchMetrics::default(),
        ))
    }

    fn wanted(&self, offset: i64, bytes: usize) -> Wanted<'_> {
        Wanted {
            id: ID,
            partition: &self.partition,
            offset: Offset(offset),
            bytes,
        }
    }

    async fn read(&self, reader: &Reader, offset: i64, max_bytes: usize) -> Vec<Bytes> {
        let limits = ReadLimits {
            max_bytes,
            at_least_one: true,
        };
        let state = old_state();
        reader
            .read(&state, ID, &self.partition, Offset(offset), limits)
            .await
            .unwrap()
    }

    /// What a read must bring, by the definition.
    fn model(&self, offset: i64, max_bytes: usize) -> Bytes {
        let mut expected = BytesMut::new();
        for batch in &self.batches {
            let header = Batches::new(batch).next().unwrap().unwrap().header;
            if header.next_offset().0 <= offset {
                continue;
            }
            if !expected.is_empty() && expected.len() + batch.len() > max_bytes {
                break;
            }
            expected.extend_from_slice(batch);
        }
        expected.freeze()
    }

    /// The first record from the log's start on at or after a time, by the definition.
    fn model_by_time(&self, target: i64) -> Option<(Offset, Timestamp)> {
        let mut records = self.records().into_iter();
        records.find(|(_, timestamp)| timestamp.0 >= target)
    }

    /// The record with the largest timestamp, by the definition.
    fn model_newest(&self) -> Option<(Offset, Timestamp)> {
        let newest = self.records().into_iter().map(|(_, timestamp)| timestamp);
        self.model_by_time(newest.max()?.0)
    }

    /// Every record from the log's start on, with its timestamp.
    fn records(&self) -> Vec<(Offset, Timestamp)> {
        let limits = Limits {
            max_uncompressed: 1 << 20,
        };
        let records = self.batches.iter().flat_map(|batch| {
            let base = Batches::new(batch)
                .next()
                .unwrap()
                .unwrap()
                .header
                .base_offset;
            let records = decode_records(batch, limits).unwrap();
            records.map(move |record| {
                let record = record.unwrap();
                (base.advance(record.offset_delta as u64), record.timestamp)
            })
        });
        let there = records.filter(|(offset, _)| *offset >= self.partition.log_start());
        there.collect()
    }
}

/// A state in which all of the slices are old.
fn old_state() -> State {
    State::default()
}

fn contents() -> impl Strategy<Value = Vec<Content>> {
    let sized = (0..5i64, 1..4u8, 0..1000i64, 0..100usize)
        .prop_map(|(gap, records, timestamp, size)| (gap, batch(records, timestamp, size)));
    let slice = (any::<bool>(), 0..5i64, prop::collection::vec(sized, 0..12));
    prop::collection::vec(slice, 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn reading_from_any_offset_and_by_any_time_is_as_the_model_says(
        contents in contents(), chunk_len in 1..600usize, log_start in 0..30i64, max_bytes in 1..2000usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let made = make(Store::memory(), log_start, &contents, chunk_len).await;
            let reader = made.reader();
            for offset in made.partition.log_start().0..=made.partition.high_watermark().0 {
                let found = made.read(&reader, offset, max_bytes).await;
                prop_assert_eq!(found.concat(), &made.model(offset, max_bytes)[..], "from offset {}", offset);
            }
            for time in (0..1010).step_by(43) {
                let (state, target) = (old_state(), Timestamp(time));
                let found = reader.find_by_time(&state, ID, &made.partition, target).await.unwrap();
                prop_assert_eq!(found, made.model_by_time(time), "at {}", time);
            }
            let found = reader.find_newest(&old_state(), ID, &made.partition).await.unwrap();
            prop_assert_eq!(found, made.model_newest());
            Ok(())
        })?;
    }
}

/// Some mebibytes of batches of 100 kB.
async fn large(store: Store, batches: usize) -> Made {
    let batches = (0..batches)
        .map(|n| (1, batch(2, n as i64, 50_000)))
        .collect();
    make(store, 0, &[(true, 5, batches)], CHUNK_LEN).await
}

/// Reads everything as a consumer does, a mebibyte at a time.
async fn consume(made: &Made, reader: &Reader) -> usize {
    let (mut offset, mut bytes) = (Offset(0), 0);
    let state = old_state();
    loop {
        for further in [false, true] {
            reader.read_ahead(&state, &[made.wanted(offset.0, 1 << 20)], further);
        }
        let found = made.read(reader, offset.0, 1 << 20).await;
        // A consumer takes its time, or at least a network does.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let Some(last) = found.last() else {
            return bytes;
        };
        bytes += found.iter().map(Bytes::len).sum::<usize>();
        offset = Batches::new(last)
            .last()
            .unwrap()
            .unwrap()
            .header
            .next_offset();
    }
}

#[tokio::test(start_paused = true)]
async fn reading_in_order_takes_a_request_for_every_few_mebibytes_and_loads_nothing_twice() {
    let made = large(Store::memory(), 300).await;
    let len: usize = made.batches.iter().map(Bytes::len).sum();
    assert_eq!(consume(&made, &made.reader()).await, len);
    let requests = made.store.metrics().requests(RequestKind::SegmentGet);
    // 29 MiB in stretches of 8 MiB, one request for the index, and a short one where the first read begins.
    assert!(requests <= 4 + 1 + 1, "{requests} requests");
    let received = made.store.metrics().received(RequestKind::SegmentGet);
    assert!(
        received as usize <= len + (1 << 20),
        "{received} of {len} bytes"
    );
}

#[tokio::test(start_paused = true)]
async fn a_reader_in_the_middle_loads_nothing_before_it() {
    let made = large(Store::memory(), 300).await;
    let reader = made.reader();
    let found = made.read(&reader, 540, 1 << 20).await;
    assert_eq!(found.concat(), made.model(540, 1 << 20));
    let received = made.store.metrics().received(RequestKind::SegmentGet);
    assert!(received < 2 << 20, "{received} bytes for one");
    assert_eq!(
        made.store.metrics().requests(RequestKind::SegmentGet),
        2,
        "the index and the extent"
    );
    made.read(&reader, 540, 1 << 20).await;
    assert_eq!(
        made.store.metrics().requests(RequestKind::SegmentGet),
        2,
        "both are cached"
    );
}

#[tokio::test(start_paused = true)]
async fn many_readers_of_one_place_make_one_request() {
    let made = large(Store::memory(), 50).await;
    let reader = made.reader();
    let reads = (0..20).map(|_| made.read(&reader, 60, 1 << 20));
    let found = futures::future::join_all(reads).await;
    assert!(
        found
            .iter()
            .all(|found| found.concat() == made.model(60, 1 << 20))
    );
    assert_eq!(made.store.metrics().requests(RequestKind::SegmentGet), 2);
}

#[tokio::test(start_paused = true)]
async fn large_pieces_are_handed_out_from_the_cache_and_small_ones_are_copied() {
    let made = large(Store::memory(), 50).await;
    let reader = made.reader();
    let (first, again) = (
        made.read(&reader, 0, 1 << 20).await,
        made.read(&reader, 0, 1 << 20).await,
    );
    assert_eq!(first[0].as_ptr(), again[0].as_ptr());
    let (small, again) = (
        made.read(&reader, 0, 1).await,
        made.read(&reader, 0, 1).await,
    );
    assert_ne!(small[0].as_ptr(), again[0].as_ptr());
    assert_eq!(small.concat(), made.batches[0]);
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_is_bounded_in_memory_however_much_is_asked_for() {
    let (store, faulty) = Faulty::store(|n| if n < 4 { Fault::None } else { Fault::Hangs });
    // Requests: the object, then the index and twice an extent.
    let made = large(store, 600).await;
    let options = CacheOptions {
        size: ByteCount::mib(512),
        catch_up_loads: 12,
        ..CacheOptions::default()
    };
    let reader = Reader::new(Blocks::new(
        made.store.clone(),
        LogId::ZERO,
        &options,
        FetchMetrics::default(),
    ));
    made.read(&reader, 0, 1 << 20).await;
    let before = faulty.requests();
    let state = old_state();
    reader.read_ahead(&state, &[made.wanted(30, 50 << 20)], false);
    tokio::time::sleep(Duration::from_secs(1)).await;
    // One stretch of 8 MiB takes eight of the twelve, and the next does not fit.
    let began = faulty.requests() - before;
    assert!((1..=2).contains(&began), "{began} requests");
}

/// Flips a bit of the object.
async fn damage(store: &Store, at: u64) {
    let path = ObjectPath::segment(SegmentId(Uuid::from_u128(1)));
    let object = store.get(&path, RequestKind::SegmentGet).await.unwrap();
    let mut object = BytesMut::from(&object[..]);
    object[at as usize] ^= 1;
    store
        .put_unique(&path, object.freeze(), RequestKind::SegmentPut)
        .await
        .unwrap();
}

async fn read_error(made: &Made, offset: i64) -> crate::fetch::ReadError {
    let limits = ReadLimits {
        max_bytes: 1,
        at_least_one: true,
    };
    let (state, reader) = (old_state(), made.reader());
    let read = reader
        .read(&state, ID, &made.partition, Offset(offset), limits)
        .await;
    read.unwrap_err()
}

#[tokio::test]
async fn a_damaged_index_is_told_with_the_object_and_nothing_is_guessed() {
    let made = large(Store::memory(), 20).await;
    let index = made
        .partition
        .slices_from(Offset(0))
        .next()
        .unwrap()
        .1
        .index
        .unwrap();
    damage(&made.store, index.start + 5).await;
    let error = read_error(&made, 0).await;
    assert!(error.is_corrupt() && !error.is_missing_object());
    let says = error.to_string();
    assert!(
        says.contains("segments/1/") && says.contains("index") && says.contains("corrupt"),
        "{says}"
    );
    let (state, reader) = (old_state(), made.reader());
    let found = reader
        .find_by_time(&state, ID, &made.partition, Timestamp(3))
        .await;
    assert!(found.unwrap_err().is_corrupt());
}

#[tokio::test]
async fn a_damaged_chunk_is_told_and_the_others_are_read() {
    let made = large(Store::memory(), 20).await;
    let slice = *made.partition.slices_from(Offset(0)).next().unwrap().1;
    // The base offset of the slice's first batch, which no checksum of a batch covers.
    damage(&made.store, slice.start + 7).await;
    let error = read_error(&made, 0).await;
    assert!(error.is_corrupt(), "{error}");
    assert!(error.to_string().contains("checksum"), "{error}");
    let reader = made.reader();
    assert_eq!(made.read(&reader, 40, 1).await.concat(), made.model(40, 1));
}

#[tokio::test]
async fn a_slice_whose_index_is_of_another_one_is_not_read() {
    let made = large(Store::memory(), 20).await;
    let (base, slice) = made.partition.slices_from(Offset(0)).next().unwrap();
    let longer = Slice {
        end: slice.end.advance(1),
        ..*slice
    };
    let partition = Partition::of_slices(Offset(0), vec![(base, longer)]);
    let error = read_error(&Made { partition, ..made }, 0).await;
    assert!(error.to_string().contains("was expected"), "{error}");
}

#[tokio::test]
async fn a_compacted_segment_that_is_gone_is_a_missing_object() {
    let made = large(Store::memory(), 5).await;
    made.store
        .delete(vec![ObjectPath::segment(SegmentId(Uuid::from_u128(1)))])
        .await
        .unwrap();
    assert!(read_error(&made, 0).await.is_missing_object());
}

/// A slice that is not compacted, with batches that are longer than half a block.
async fn long_batches() -> Made {
    let batches = (0..6).map(|n| (0, batch(1, n, 700_000 + 1000 * n as usize)));
    make(
        Store::memory(),
        0,
        &[(false, 0, batches.collect())],
        CHUNK_LEN,
    )
    .await
}

#[tokio::test(start_paused = true)]
async fn long_batches_that_lie_across_blocks_come_whole_and_with_their_real_offsets() {
    let made = long_batches().await;
    let reader = made.reader();
    for offset in 0..6 {
        for max_bytes in [1, 1 << 20, 2 << 20, 50 << 20] {
            let found = made.read(&reader, offset, max_bytes).await;
            assert_eq!(
                found.concat(),
                made.model(offset, max_bytes),
                "from {offset}"
            );
        }
    }
    let (first, again) = (
        made.read(&reader, 0, 1).await,
        made.read(&reader, 0, 1).await,
    );
    let shared = |piece: &&Bytes| again.iter().any(|other| other.as_ptr() == piece.as_ptr());
    let copied: usize = first
        .iter()
        .filter(|piece| !shared(piece))
        .map(Bytes::len)
        .sum();
    assert!(copied < 1000, "{copied} bytes were copied");
}

#[tokio::test]
async fn a_long_batch_that_is_damaged_is_not_handed_out() {
    let made = long_batches().await;
    let slice = *made.partition.slices_from(Offset(0)).next().unwrap().1;
    damage(&made.store, slice.start + 650_000).await;
    let error = read_error(&made, 0).await;
    assert!(error.is_corrupt(), "{error}");
    assert_eq!(
        made.read(&made.reader(), 1, 1).await.concat(),
        made.model(1, 1)
    );
}
