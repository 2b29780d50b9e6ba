//! What takes how much space.

use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use object_store::memory::InMemory;

use super::scene::{Bucket, ORDERS, Writer, batch};
use crate::env::Env;
use crate::maintain::usage::{Reason, Usage, UsageError, usage};
use crate::state::SliceIndex;
use crate::state::op::{CompactedSlice, Op, ReplaceSlices};
use crate::store::{ObjectPath, Store, StoreMetrics, StoreOptions};
use crate::types::{Offset, SegmentId, Seq, Timestamp};

async fn used(bucket: &Bucket) -> Result<Usage, UsageError> {
    let store = Store::from_object_store(
        Arc::clone(&bucket.objects) as Arc<dyn ObjectStore>,
        StoreOptions::new(Env::simulated(3, bucket.now)),
        StoreMetrics::default(),
    );
    let usage = usage(&store, bucket.now, &()).await?;
    let reasons: u64 = usage.reasons.iter().map(|share| share.bytes).sum();
    assert_eq!(reasons, usage.bytes, "every byte has one reason: {usage:?}");
    Ok(usage)
}

fn bytes(usage: &Usage, reason: Reason) -> u64 {
    let share = usage.reasons.iter().find(|share| share.reason == reason);
    share.unwrap().bytes
}

#[tokio::test(start_paused = true)]
async fn every_byte_has_one_reason_and_the_records_are_those_of_the_topics() {
    let mut bucket = Bucket::healthy().await;
    let log = bytes(&used(&bucket).await.unwrap(), Reason::Log);
    bucket.put_ahead(Some(6), 2).await;
    let ahead = bytes(&used(&bucket).await.unwrap(), Reason::Log);
    assert!(log < ahead, "{ahead}");
    let env = Env::simulated(9, bucket.now);
    let orphan = ObjectPath::segment(SegmentId(env.uuid_at(env.wall())));
    bucket.put(orphan.as_str(), vec![0; 1000]).await;
    bucket.put("notes.txt", vec![0; 77]).await;
    bucket.put("logs/1/cluster.json", vec![0; 55]).await;
    let check = ObjectPath::check(uuid::Uuid::from_u128(5), "race");
    bucket.put(check.as_str(), vec![0; 11]).await;
    let young = used(&bucket).await.unwrap();
    assert_eq!(bytes(&young, Reason::Uploading), 1000);
    assert_eq!(bytes(&young, Reason::Orphaned), 0);
    assert_eq!(bytes(&young, Reason::OtherLogs), 55);
    assert_eq!(bytes(&young, Reason::Foreign), 77);
    assert!(bytes(&young, Reason::Snapshots) > 0 && bytes(&young, Reason::Log) > 0);
    let [orders] = young.topics.as_slice() else {
        panic!("{:?}", young.topics);
    };
    assert_eq!(bytes(&young, Reason::Live), orders.bytes);
    assert_eq!(orders.bytes, orders.in_commits + orders.in_segments);
    // Four segments of two batches of four records, each with a frame and an index.
    assert_eq!(orders.in_segments, 8 * batch(4).len() as u64);
    assert!(bytes(&young, Reason::Unused) > 4 * 40);
    assert_eq!(orders.partitions, 2);

    let later = Bucket {
        now: bucket.now.after(Duration::from_secs(3601)),
        ..bucket
    };
    let old = used(&later).await.unwrap();
    assert_eq!(bytes(&old, Reason::Uploading), 0);
    assert_eq!(bytes(&old, Reason::Orphaned), 1000);
}

#[tokio::test(start_paused = true)]
async fn what_was_compacted_and_what_waits_for_its_deletion_are_told_apart() {
    let objects = Arc::new(InMemory::new());
    let writer = Writer::open(&objects, 1000).await;
    writer.create_orders().await;
    let old = writer.append_segment(4).await;
    let (new, ops) = writer.upload(4).await;
    let len = batch(4).len() as u64;
    for op in ops {
        let Op::Append(append) = op else {
            panic!("{op:?}")
        };
        writer
            .commit(Op::ReplaceSlices(ReplaceSlices {
                partition: append.partition,
                layout: 0,
                base: Offset(0),
                end: Offset(4),
                outputs: vec![CompactedSlice {
                    end: Offset(4),
                    segment: new,
                    start: append.entries[0].start,
                    len,
                    max_timestamp: Timestamp(5),
                    index: SliceIndex { start: 0, len: 0 },
                }],
                cleaned: None,
            }))
            .await;
    }
    let bucket = Bucket::of(objects, writer.env.wall().after(Duration::from_secs(7200)));
    let compacted = used(&bucket).await.unwrap();
    assert_eq!(bytes(&compacted, Reason::Compacted), 2 * len);
    assert_eq!(compacted.topics[0].compacted, 2 * len);
    assert_eq!(bytes(&compacted, Reason::Live), 0);
    let size = bucket.get(ObjectPath::segment(old).as_str()).await.len() as u64;
    assert_eq!(bytes(&compacted, Reason::WaitingForDeletion), size);
    assert_eq!(bytes(&compacted, Reason::Orphaned), 0);

    writer.commit(Op::DeleteTopic { topic: ORDERS }).await;
    let deleted = used(&bucket).await.unwrap();
    assert_eq!(bytes(&deleted, Reason::WaitingForDeletion), 2 * size);
    assert_eq!(bytes(&deleted, Reason::Compacted), 0);
    assert!(deleted.topics.is_empty());
}

#[tokio::test(start_paused = true)]
async fn of_no_cluster_and_of_a_broken_log_nothing_is_guessed() {
    let nothing = used(&Bucket::empty()).await.unwrap_err();
    assert!(matches!(nothing, UsageError::NoCluster(_)), "{nothing}");
    let bucket = Bucket::healthy().await;
    let last = bucket.log_end().await;
    bucket
        .delete(ObjectPath::commit(Seq(last - 1)).as_str())
        .await;
    let broken = used(&bucket).await.unwrap_err();
    assert!(
        matches!(broken, UsageError::Broken { end, reached } if end.0 == last && reached.0 == last - 2),
        "{broken}"
    );
    // What a snapshot covers is not needed.
    let bucket = Bucket::healthy().await;
    bucket.delete(ObjectPath::commit(Seq(1)).as_str()).await;
    assert!(used(&bucket).await.is_ok());
}
