use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::*;
use crate::env::Env;
use crate::manifest::{self, Manifest, ManifestMetrics, ManifestOptions};
use crate::segment::{BatchBuilder, Codec};
use crate::state::ObjectRef;
use crate::state::op::{AppendRejected, CreateTopic, Op, ProducerBatch};
use crate::store::{Fault, Faulty, RequestKind, Store};
use crate::types::{
    ByteCount, Incarnation, Offset, PartitionIndex, ProducerEpoch, ProducerId, Timestamp, TopicId,
    TopicName, TopicPartition,
};

const TOPIC: TopicId = TopicId(Uuid::from_u128(1));

struct Writing {
    ingest: Arc<Ingest>,
    manifest: Manifest,
    _stop: DropGuard,
}

/// A write path on `store`, with one topic of four partitions.
async fn start(store: &Store, options: IngestOptions) -> Writing {
    let writing = join(store, options, 1).await;
    let create = Op::CreateTopic(CreateTopic {
        id: TOPIC,
        name: TopicName::new("t").unwrap(),
        partitions: 4,
        configs: BTreeMap::new(),
    });
    writing.manifest.commit_one(create).await.unwrap().unwrap();
    writing
}

/// Another write path on `store`.
async fn join(store: &Store, options: IngestOptions, seed: u64) -> Writing {
    let env = Env::simulated(seed, Timestamp(1_700_000_000_000));
    let (manifest, tail, _) = manifest::open(
        store.clone(),
        env.clone(),
        ManifestOptions::default(),
        ManifestMetrics::default(),
        Arc::new(|_, _| {}),
        Incarnation(env.random_uuid()),
    )
    .await
    .unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(tail.run(stop.clone()));
    let metrics = IngestMetrics::default();
    let sink: SegmentSink = Arc::new(|_, parts| async move { parts }.boxed());
    let ingest = Ingest::new(manifest.clone(), store.clone(), env, options, metrics, sink);
    Writing {
        ingest,
        manifest,
        _stop: stop.drop_guard(),
    }
}

fn partition(index: i32) -> TopicPartition {
    TopicPartition {
        topic: TOPIC,
        partition: PartitionIndex(index),
    }
}

/// The batch of an idempotent producer with one record of `size` bytes.
fn batch(index: i32, sequence: i32, size: usize) -> Batch {
    let (id, epoch) = (ProducerId(1), ProducerEpoch(0));
    let mut builder = BatchBuilder::new(Codec::None).producer(id, epoch, sequence);
    builder
        .push(Timestamp(1), None, Some(&vec![7; size]), &[])
        .unwrap();
    let bytes = builder.finish().unwrap();
    Batch {
        partition: partition(index),
        memory: bytes.len(),
        bytes,
        records: 1,
        max_timestamp: Timestamp(1),
        producer: Some(ProducerBatch {
            id,
            epoch,
            base_sequence: sequence,
            continues: false,
        }),
    }
}

#[test]
fn a_long_batch_is_moved_only_if_it_would_keep_much_else() {
    let stays = |batch: &Batch| batch.part().as_ptr() == batch.bytes.as_ptr();
    let mut long = batch(0, 0, LONG_BATCH);
    assert!(stays(&long));
    long.memory += long.memory / 8;
    assert!(stays(&long));
    long.memory += long.memory / 8;
    assert!(!stays(&long));
    assert_eq!(long.part(), long.bytes);
    // It is moved into a block in any case.
    let mut short = batch(0, 0, LONG_BATCH / 2);
    short.memory *= 10;
    assert!(stays(&short));
}

fn small() -> IngestOptions {
    IngestOptions {
        buffer: ByteCount(20_000),
        inline_limit: ByteCount(600),
        segment_size: ByteCount(2_000),
        uploads: 3,
        ..IngestOptions::default()
    }
}

#[tokio::test(start_paused = true)]
async fn batches_of_a_partition_keep_their_order_whichever_way_their_bytes_take() {
    // One request in five fails first, so uploads end in another order than they began.
    let (store, _) = Faulty::store(|n| {
        if n % 5 == 3 {
            Fault::Fails
        } else {
            Fault::None
        }
    });
    let w = start(&store, small()).await;
    let mut waiting = Vec::new();
    for n in 0..120 {
        let (index, sequence) = (n % 4, n / 4);
        let size = if n % 7 == 0 { 900 } else { 60 };
        waiting.extend(
            w.ingest
                .append(vec![batch(index, sequence, size)])
                .await
                .unwrap(),
        );
        if n % 10 == 0 {
            // Time for uploads to end, so that small batches find none of their partition under way.
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        }
    }
    for (n, append) in (0..).zip(waiting) {
        // A gap in the sequence would be refused by the fold.
        assert_eq!(
            append.await.unwrap().unwrap().base_offset,
            Offset(n / 4),
            "batch {n}"
        );
    }
    assert!(store.metrics().requests(RequestKind::SegmentPut) > 3);
    let state = w.manifest.state();
    let slices = (0..4).flat_map(|index| {
        let partition = state.partition(partition(index)).unwrap();
        partition
            .slices_from(Offset(0))
            .map(|(_, slice)| slice.object)
            .collect::<Vec<_>>()
    });
    assert!(
        slices
            .clone()
            .any(|object| matches!(object, ObjectRef::Commit(_)))
    );
    assert!(
        slices
            .into_iter()
            .any(|object| matches!(object, ObjectRef::Segment(_)))
    );
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_segment_that_cannot_be_stored_is_told_and_nothing_is_appended() {
    let (store, broken) = Faulty::switched(Fault::Denied);
    let w = start(&store, small()).await;
    broken.set(true);
    let mut refused = w.ingest.append(vec![batch(0, 0, 3_000)]).await.unwrap();
    let outcome = refused.pop().unwrap().await.unwrap();
    assert!(
        matches!(outcome, Err(AppendError::Upload(_))),
        "{outcome:?}"
    );
    broken.set(false);
    let mut again = w.ingest.append(vec![batch(0, 0, 3_000)]).await.unwrap();
    assert_eq!(
        again.pop().unwrap().await.unwrap().unwrap().base_offset,
        Offset(0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_a_partition_that_is_being_uploaded_does_not_overtake_and_others_do_not_wait() {
    let (store, _) = Faulty::store(|_| Fault::None);
    let w = start(&store, small()).await;
    let large = w.ingest.append(vec![batch(0, 0, 3_000)]).await.unwrap();
    let behind = w.ingest.append(vec![batch(0, 1, 10)]).await.unwrap();
    let other = w.ingest.append(vec![batch(1, 0, 10)]).await.unwrap();
    for append in large.into_iter().chain(behind).chain(other) {
        append.await.unwrap().unwrap();
    }
    let state = w.manifest.state();
    assert_eq!(
        state.partition(partition(0)).unwrap().high_watermark(),
        Offset(2)
    );
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_the_buffer_fills_and_no_further() {
    let (store, away) = Faulty::switched(Fault::Fails);
    let w = start(&store, small()).await;
    away.set(true);
    let mut waiting = Vec::new();
    let mut sequence = 0;
    loop {
        let append = w.ingest.append(vec![batch(0, sequence, 400)]);
        match tokio::time::timeout(std::time::Duration::from_secs(5), append).await {
            Ok(admitted) => waiting.extend(admitted.unwrap()),
            Err(_) => break,
        }
        sequence += 1;
        assert!(
            sequence < 60,
            "the buffer of 20,000 bytes took {sequence} batches"
        );
    }
    assert!(sequence > 30, "{sequence}");
    away.set(false);
    for (n, append) in (0..).zip(waiting) {
        assert_eq!(append.await.unwrap().unwrap().base_offset, Offset(n));
    }
    let more = w
        .ingest
        .append(vec![batch(0, sequence, 400)])
        .await
        .unwrap();
    assert!(more.into_iter().next().unwrap().await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn while_uploads_are_under_way_a_little_more_waits_and_is_uploaded_together() {
    let second = std::time::Duration::from_secs(1);
    let (store, slow) = Faulty::switched(Fault::Slow(second));
    let w = start(&store, small()).await;
    slow.set(true);
    let mut waiting = w.ingest.append(vec![batch(0, 0, 3_000)]).await.unwrap();
    // More than travels in a commit, less than a third of a segment.
    let little = batch(1, 0, 550);
    assert!((601..666).contains(&little.bytes.len()));
    for batch in [little, batch(2, 0, 550)] {
        tokio::time::sleep(second / 10).await;
        waiting.extend(w.ingest.append(vec![batch]).await.unwrap());
    }
    for append in waiting {
        append.await.unwrap().unwrap();
    }
    assert_eq!(store.metrics().requests(RequestKind::SegmentPut), 2);
    // Nothing is under way any more, so it does not wait for company.
    let alone = w.ingest.append(vec![batch(3, 0, 550)]).await.unwrap();
    for append in alone {
        append.await.unwrap().unwrap();
    }
    assert_eq!(store.metrics().requests(RequestKind::SegmentPut), 3);
}

/// Sends the batches anew until each is stored, as a client does: what failed, and what comes behind it, in order.
async fn send_until_stored(w: &Writing, batches: Vec<Batch>) -> Vec<Offset> {
    let mut offsets = vec![None; batches.len()];
    for _ in 0..20 {
        let left: Vec<usize> = (0..batches.len())
            .filter(|n| offsets[*n].is_none())
            .collect();
        let mut waiting = Vec::new();
        for n in &left {
            waiting.extend(w.ingest.append(vec![batches[*n].clone()]).await.unwrap());
        }
        for (n, append) in left.into_iter().zip(waiting) {
            if let Ok(appended) = append.await.unwrap() {
                offsets[n] = Some(appended.base_offset);
            }
        }
    }
    offsets.into_iter().map(Option::unwrap).collect()
}

#[tokio::test(start_paused = true)]
async fn a_new_producer_whose_first_batch_fails_for_good_does_not_begin_with_its_second() {
    // The second goes another way each time: in a segment of its own, in the same one, in a commit.
    for (second, third) in [(3_000, 3_000), (3_000, 10), (10, 3_000), (10, 10)] {
        let fails = Arc::new(AtomicBool::new(false));
        let plan = fails.clone();
        let (store, _) = Faulty::store(move |_| match plan.swap(false, Ordering::Relaxed) {
            true => Fault::Denied,
            false => Fault::None,
        });
        let w = start(&store, small()).await;
        // The next request is the upload of the first batch.
        fails.store(true, Ordering::Relaxed);
        let batches = vec![batch(0, 0, 3_000), batch(0, 1, second), batch(0, 2, third)];
        let stored = send_until_stored(&w, batches).await;
        assert_eq!(stored, [0, 1, 2].map(Offset), "{second} and {third} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_comes_after_the_first_of_a_new_producer_has_failed_does_not_begin_it_either()
{
    let (store, denied) = Faulty::switched(Fault::Denied);
    let w = start(&store, small()).await;
    denied.set(true);
    let first = w.ingest.append(vec![batch(0, 0, 3_000)]).await.unwrap();
    assert!(first.into_iter().next().unwrap().await.unwrap().is_err());
    denied.set(false);
    // It was on its way when its client heard of the failure.
    let second = w.ingest.append(vec![batch(0, 1, 10)]).await.unwrap();
    let told = second.into_iter().next().unwrap().await.unwrap();
    assert!(
        matches!(
            told,
            Err(AppendError::Rejected(AppendRejected::NotBegun {
                found: 1,
                ..
            }))
        ),
        "{told:?}"
    );
    let stored = send_until_stored(&w, vec![batch(0, 0, 3_000), batch(0, 1, 10)]).await;
    assert_eq!(stored, [0, 1].map(Offset));
}

#[tokio::test(start_paused = true)]
async fn a_batch_for_which_there_was_no_room_in_time_is_not_overtaken_by_those_behind_it() {
    let (store, away) = Faulty::switched(Fault::Fails);
    let w = start(&store, small()).await;
    away.set(true);
    // Another producer has the buffer full.
    let full = w.ingest.append(vec![batch(1, 0, 19_900)]).await.unwrap();
    let second = std::time::Duration::from_secs(1);
    let first = w.ingest.append(vec![batch(0, 0, 400)]);
    assert!(
        tokio::time::timeout(second, first).await.is_err(),
        "there is room"
    );
    away.set(false);
    let behind = w.ingest.append(vec![batch(0, 1, 10)]).await.unwrap();
    for append in full {
        append.await.unwrap().unwrap();
    }
    assert!(behind.into_iter().next().unwrap().await.unwrap().is_err());
    let stored = send_until_stored(&w, vec![batch(0, 0, 400), batch(0, 1, 10)]).await;
    assert_eq!(stored, [0, 1].map(Offset));
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_another_node_knows_goes_on_at_this_one() {
    let (store, _) = Faulty::store(|_| Fault::None);
    let one = start(&store, small()).await;
    let stored = send_until_stored(&one, vec![batch(0, 0, 10), batch(0, 1, 10)]).await;
    assert_eq!(stored, [0, 1].map(Offset));
    // This one has not read what the other has committed; the fold is the judge, not the node.
    let other = join(&store, small(), 2).await;
    let sent = send_until_stored(&one, vec![batch(0, 2, 10)]).await;
    assert_eq!(sent, [Offset(2)]);
    let on = other
        .ingest
        .append(vec![batch(0, 3, 10), batch(0, 4, 10)])
        .await
        .unwrap();
    for append in on {
        append.await.unwrap().unwrap();
    }
}
