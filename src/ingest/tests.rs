use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::*;
use crate::env::Env;
use crate::manifest::{self, Manifest, ManifestMetrics, ManifestOptions, Stopped};
use crate::rules::{Broken, Rule, assert_needed};
use crate::segment::{BatchBuilder, Codec};
use crate::state::ObjectRef;
use crate::state::op::{AppendRejected, CreateTopic, Op, ProducerBatch};
use crate::store::{RequestKind, Store};
use crate::testing::{Fault, Faulty};
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
    create_topic(&writing).await;
    writing
}

async fn create_topic(writing: &Writing) {
    let create = Op::CreateTopic(CreateTopic {
        id: TOPIC,
        name: TopicName::new("t").unwrap(),
        partitions: 4,
        configs: BTreeMap::new(),
        replicas: None,
    });
    writing.manifest.commit_one(create).await.unwrap().unwrap();
}

/// Another write path on `store`.
async fn join(store: &Store, options: IngestOptions, seed: u64) -> Writing {
    let sink: SegmentSink = Arc::new(|_, parts| async move { parts }.boxed());
    join_with(store, options, seed, sink).await
}

async fn join_with(store: &Store, options: IngestOptions, seed: u64, sink: SegmentSink) -> Writing {
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

/// On simulated time.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(test);
}

#[test]
fn batches_of_a_partition_keep_their_order_whichever_way_their_bytes_take() {
    let test = || run(order_is_kept());
    test();
    assert_needed(&[(Rule::UploadsCommitInOrder, test)]);
}

async fn order_is_kept() {
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
    // Not so long that one is sent twice.
    let put = Duration::from_millis(250);
    let (store, slow) = Faulty::switched(Fault::Slow(put));
    let w = start(&store, small()).await;
    slow.set(true);
    let mut waiting = w.ingest.append(vec![batch(0, 0, 3_000)]).await.unwrap();
    // More than travels in a commit, less than a third of a segment.
    let little = batch(1, 0, 550);
    assert!((601..666).contains(&little.bytes.len()));
    for batch in [little, batch(2, 0, 550)] {
        tokio::time::sleep(put / 10).await;
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
        "there is space"
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

const PUT: Duration = Duration::from_millis(40);

/// A store that takes a moment for each request, and swallows so many puts of segments once that is said.
fn swallowing() -> (Store, Arc<AtomicU64>) {
    let left = Arc::new(AtomicU64::new(0));
    let swallow = left.clone();
    let (store, _) = Faulty::by_name(move |_, name| {
        let swallowed = name.contains("segments/")
            && swallow
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                    left.checked_sub(1)
                })
                .is_ok();
        match swallowed {
            true => Fault::Hangs,
            false => Fault::Slow(PUT),
        }
    });
    (store, left)
}

/// A producer that writes batches of a size to a partition at a steady pace. The longest that one waited.
async fn produce(ingest: Arc<Ingest>, index: i32, size: usize, times: i32) -> Duration {
    let mut waiting = Vec::new();
    for sequence in 1..=times {
        let ingest = ingest.clone();
        let began = Instant::now();
        let admitted = ingest.append(vec![batch(index, sequence, size)]).await;
        let admitted = admitted.unwrap().pop().unwrap();
        waiting.push(tokio::spawn(async move {
            let appended = admitted.await.unwrap().unwrap();
            assert_eq!(appended.base_offset, Offset(sequence.into()));
            began.elapsed()
        }));
        sleep(PUT).await;
    }
    let mut longest = Duration::ZERO;
    for wait in waiting {
        longest = longest.max(wait.await.unwrap());
    }
    longest
}

/// Partition 0 has a large batch on its way whose put is swallowed. How long then those of each partition wait, of
/// which the first goes on with large batches.
async fn waits(sizes: [usize; 4]) -> Vec<Duration> {
    let (store, swallow) = swallowing();
    let w = start(&store, IngestOptions::default()).await;
    for index in 0..4 {
        let first = w.ingest.append(vec![batch(index, 0, 10)]).await.unwrap();
        for append in first {
            append.await.unwrap().unwrap();
        }
    }
    swallow.store(1, Ordering::Relaxed);
    let mut producers = Vec::new();
    for (index, size) in (0..).zip(sizes) {
        producers.push(tokio::spawn(produce(w.ingest.clone(), index, size, 40)));
        // So what is swallowed is of the first partition.
        sleep(Duration::from_millis(5)).await;
    }
    let mut longest = Vec::new();
    for producer in producers {
        longest.push(producer.await.unwrap());
    }
    assert_eq!(swallow.load(Ordering::Relaxed), 0, "one was swallowed");
    longest
}

#[test]
#[expect(
    clippy::print_stdout,
    reason = "for who wants to see how long they waited"
)]
fn a_swallowed_put_of_a_segment_holds_up_others_for_less_than_a_second_and_its_own_for_less_than_three()
 {
    const KIB: usize = 1 << 10;
    let test = || {
        for sizes in [
            // Others: little; more than travels in a commit, less than a segment; segments.
            [900 * KIB, KIB, 300 * KIB, 900 * KIB],
            // Nothing but the first is large.
            [900 * KIB, KIB, KIB, KIB],
            // What the first partition goes on with is small, and yet behind what was swallowed.
            [600 * KIB, 100 * KIB, 200 * KIB, 100 * KIB],
        ] {
            run(async move {
                let waits = waits(sizes).await;
                let (own, others) = waits.split_first().unwrap();
                println!("{sizes:?}: {waits:?}");
                assert!(*own < Duration::from_secs(3), "{waits:?}");
                let in_time = |wait: &Duration| *wait < Duration::from_secs(1);
                assert!(others.iter().all(in_time), "{waits:?}");
            });
        }
    };
    test();
    assert_needed(&[(Rule::SlowPutsAreHedged, test)]);
}

/// Even if a put can never be repeated, others do not wait for it.
#[test]
#[expect(
    clippy::print_stdout,
    reason = "for who wants to see how long they waited"
)]
fn who_has_nothing_in_an_upload_does_not_wait_for_it_however_long_it_takes() {
    let _broken = Broken::new(&[Rule::SlowPutsAreHedged]);
    run(async {
        let waits = waits([900 << 10, 1 << 10, 300 << 10, 900 << 10]).await;
        let (own, others) = waits.split_first().unwrap();
        println!("{waits:?}");
        assert!(*own > Duration::from_secs(29), "{waits:?}");
        let in_time = |wait: &Duration| *wait < Duration::from_secs(1);
        assert!(others.iter().all(in_time), "{waits:?}");
    });
}

#[tokio::test(start_paused = true)]
async fn one_request_for_several_partitions_is_answered_for_each_as_it_is_done() {
    let (store, swallow) = swallowing();
    let w = start(&store, small()).await;
    swallow.store(u64::MAX, Ordering::Relaxed);
    let stuck = w.ingest.append(vec![batch(0, 0, 3_000)]).await.unwrap();
    sleep(PUT / 4).await;
    swallow.store(0, Ordering::Relaxed);
    // In one segment: one of a partition that waits, one of a partition that does not.
    let both = vec![batch(0, 1, 800), batch(1, 0, 1_000)];
    let mut both = w.ingest.append(both).await.unwrap();
    let free = timeout(PUT * 4, both.pop().unwrap()).await;
    assert!(matches!(free, Ok(Ok(Ok(_)))), "{free:?}");
    assert!(futures::poll!(&mut both[0]).is_pending());
    for (offset, append) in (0..).zip(stuck.into_iter().chain(both)) {
        assert_eq!(append.await.unwrap().unwrap().base_offset, Offset(offset));
    }
    // Both commits refer to the one segment.
    let state = w.manifest.state();
    let object = |index| {
        let slices = state.partition(partition(index)).unwrap();
        slices.slices_from(Offset(0)).last().unwrap().1.object
    };
    assert_eq!(object(0), object(1));
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_panics_leaves_nobody_waiting() {
    let (store, _) = Faulty::store(|_| Fault::None);
    let panics = Arc::new(AtomicBool::new(true));
    let sink: SegmentSink = Arc::new(move |_, parts| {
        let panics = panics.swap(false, Ordering::Relaxed);
        async move {
            assert!(!panics, "a panic on purpose");
            parts
        }
        .boxed()
    });
    let w = join_with(&store, small(), 1, sink).await;
    create_topic(&w).await;
    let second = Duration::from_secs(1);
    let lost = w.ingest.append(vec![batch(0, 0, 3_000)]).await.unwrap();
    // Another producer's, behind it.
    let mut behind = batch(0, 0, 10);
    behind.producer = None;
    let behind = w.ingest.append(vec![behind]).await.unwrap();
    for append in lost {
        let told = timeout(second, append).await;
        assert!(matches!(told, Ok(Err(_))), "{told:?}");
    }
    for append in behind {
        let told = timeout(second, append).await;
        assert!(matches!(told, Ok(Ok(Ok(_)))), "{told:?}");
    }
    // It is not appended, and its space is free again.
    let stored = send_until_stored(&w, vec![batch(0, 0, 3_000)]).await;
    assert_eq!(stored, [Offset(1)]);
    assert_eq!(w.ingest.metrics.buffered.get(), 0);
    assert_eq!(w.ingest.metrics.failures.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_an_upload_when_the_log_ends_is_told() {
    let (store, slow) = Faulty::switched(Fault::Slow(Duration::from_secs(5)));
    let w = start(&store, small()).await;
    slow.set(true);
    let mut waiting = w.ingest.append(vec![batch(0, 0, 3_000)]).await.unwrap();
    // Behind it, and of another partition.
    for other in [batch(0, 1, 10), batch(0, 2, 900), batch(1, 0, 500)] {
        waiting.extend(w.ingest.append(vec![other]).await.unwrap());
    }
    let Writing {
        ingest,
        manifest,
        _stop,
    } = w;
    drop(_stop);
    for append in waiting {
        let told = timeout(Duration::from_secs(30), append).await;
        let told = told.expect("nobody waits for ever").unwrap();
        assert!(
            matches!(told, Ok(_) | Err(AppendError::Stopped(Stopped::Stopping))),
            "{told:?}"
        );
    }
    assert!(manifest.stopped().is_some());
    assert_eq!(ingest.metrics.buffered.get(), 0);
    let late = ingest.append(vec![batch(0, 3, 10)]).await;
    assert!(matches!(late, Err(AppendError::Stopped(_))));
}
