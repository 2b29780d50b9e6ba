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
use crate::state::op::{CreateTopic, Op, ProducerBatch};
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
    let env = Env::simulated(1, Timestamp(1_700_000_000_000));
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
    let create = Op::CreateTopic(CreateTopic {
        id: TOPIC,
        name: TopicName::new("t").unwrap(),
        partitions: 4,
        configs: BTreeMap::new(),
    });
    manifest.commit_one(create).await.unwrap().unwrap();
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
    Batch {
        partition: partition(index),
        bytes: builder.finish().unwrap(),
        records: 1,
        max_timestamp: Timestamp(1),
        producer: Some(ProducerBatch {
            id,
            epoch,
            base_sequence: sequence,
        }),
    }
}

fn small() -> IngestOptions {
    IngestOptions {
        buffer: ByteCount(20_000),
        inline_limit: ByteCount(600),
        segment_size: ByteCount(2_000),
        uploads: 3,
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
    let broken = Arc::new(AtomicBool::new(false));
    let plan = broken.clone();
    let (store, _) = Faulty::store(move |_| match plan.load(Ordering::Relaxed) {
        true => Fault::Denied,
        false => Fault::None,
    });
    let w = start(&store, small()).await;
    broken.store(true, Ordering::Relaxed);
    let mut refused = w.ingest.append(vec![batch(0, 0, 3_000)]).await.unwrap();
    let outcome = refused.pop().unwrap().await.unwrap();
    assert!(
        matches!(outcome, Err(AppendError::Upload(_))),
        "{outcome:?}"
    );
    broken.store(false, Ordering::Relaxed);
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
    let away = Arc::new(AtomicBool::new(false));
    let plan = away.clone();
    let (store, _) = Faulty::store(move |_| match plan.load(Ordering::Relaxed) {
        true => Fault::Fails,
        false => Fault::None,
    });
    let w = start(&store, small()).await;
    away.store(true, Ordering::Relaxed);
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
    away.store(false, Ordering::Relaxed);
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
