//! What is read, through a cache, from stores with faults.

mod compacted;

use std::time::Duration;

use bytes::BytesMut;

use crate::broker::{
    FetchError, FetchLimits, FetchPartition, NewTopic, ProducePartition, Session, TopicRef,
};
use crate::env::Env;
use crate::node::{Node, NodeMetrics, NodeOptions};
use crate::segment::{BatchBuilder, Codec};
use crate::store::{ObjectPath, RequestKind, Store, StoreUrl};
use crate::types::{ByteCount, Offset, PartitionIndex, Seq, Timestamp};

async fn node(store: &Store, seed: u64, adapt: impl FnOnce(&mut NodeOptions)) -> Node {
    let env = Env::simulated(seed, Timestamp(1_700_000_000_000));
    let mut options = NodeOptions::new(StoreUrl::memory(), env);
    adapt(&mut options);
    Node::start(store.clone(), options, &NodeMetrics::default())
        .await
        .unwrap()
}

async fn topic(node: &Node, partitions: i32) {
    let new = NewTopic {
        name: "t".to_owned(),
        partitions: Some(partitions),
        ..NewTopic::default()
    };
    node.broker()
        .create_topics(&session(), vec![new], false)
        .await
        .unwrap();
}

fn session() -> Session {
    Session::internal("test")
}

/// Appends one record of `size` bytes to a partition, in a commit of its own.
async fn produce(node: &Node, partition: i32, size: usize) -> Offset {
    let mut batch = BatchBuilder::new(Codec::None);
    batch
        .push(Timestamp(1), None, Some(&vec![7; size]), &[])
        .unwrap();
    let records = ProducePartition::new(
        TopicRef::Name("t".to_owned()),
        PartitionIndex(partition),
        batch.finish().unwrap(),
    );
    let timeout = Duration::from_secs(10);
    let mut produced = node
        .broker()
        .produce(&session(), vec![records], timeout)
        .await;
    produced.pop().unwrap().unwrap().base_offset
}

async fn fetch(node: &Node, partition: i32, offset: i64) -> Result<usize, FetchError> {
    let wanted = FetchPartition {
        topic: TopicRef::Name("t".to_owned()),
        partition: PartitionIndex(partition),
        offset: Offset(offset),
        max_bytes: 1,
        current_leader_epoch: None,
    };
    let limits = FetchLimits {
        min_bytes: 1,
        max_bytes: 50 << 20,
        max_wait: Duration::ZERO,
        read_committed: false,
    };
    let mut answer = node.broker().fetch(&session(), &[wanted], limits).await;
    answer.pop().unwrap().map(|read| read.len())
}

#[tokio::test(start_paused = true)]
async fn a_block_that_many_want_is_loaded_once() {
    let store = Store::memory();
    let a = node(&store, 1, |_| {}).await;
    topic(&a, 1).await;
    produce(&a, 0, 100_000).await;
    let cold = node(&store, 2, |_| {}).await;
    let before = store.metrics().requests(RequestKind::CommitGet);
    let reads = futures::future::join_all((0..20).map(|_| fetch(&cold, 0, 0))).await;
    assert!(
        reads
            .iter()
            .all(|read| read.as_ref().is_ok_and(|bytes| *bytes > 100_000))
    );
    assert_eq!(store.metrics().requests(RequestKind::CommitGet) - before, 1);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_batch_is_never_handed_out_and_the_others_are() {
    let store = Store::memory();
    let a = node(&store, 1, |_| {}).await;
    topic(&a, 1).await;
    for _ in 0..3 {
        produce(&a, 0, 1000).await;
    }
    let last = a.manifest().state().seq();
    let path = ObjectPath::commit(Seq(last.0 - 1));
    let object = store.get(&path, RequestKind::CommitGet).await.unwrap();
    let mut damaged = BytesMut::from(&object[..]);
    *damaged.last_mut().unwrap() ^= 1;
    store
        .put_unique(&path, damaged.freeze(), RequestKind::CommitPut)
        .await
        .unwrap();
    let cold = node(&store, 2, |_| {}).await;
    assert!(fetch(&cold, 0, 0).await.is_ok());
    let error = fetch(&cold, 0, 1).await.unwrap_err();
    assert!(matches!(error, FetchError::Corrupt(_)), "{error}");
    assert!(fetch(&cold, 0, 2).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn whoever_catches_up_does_not_evict_the_tail() {
    let store = Store::memory();
    let a = node(&store, 1, |_| {}).await;
    let little = |options: &mut NodeOptions| options.cache.size = ByteCount::mib(8);
    let b = node(&store, 2, little).await;
    topic(&a, 2).await;
    // Old data, many times what the cache holds.
    for _ in 0..60 {
        produce(&a, 0, 500_000).await;
    }
    tokio::time::sleep(Duration::from_secs(120)).await;
    let tail = produce(&b, 1, 1000).await;
    for offset in 0..60 {
        fetch(&b, 0, offset).await.unwrap();
    }
    let before = store.metrics().total();
    assert!(fetch(&b, 1, tail.0).await.unwrap() > 1000);
    // Who begins to read by name is shown which topic that is: one look at the log.
    assert_eq!(store.metrics().total(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn reading_lists_nothing() {
    let store = Store::memory();
    let a = node(&store, 1, |_| {}).await;
    topic(&a, 1).await;
    for _ in 0..20 {
        produce(&a, 0, 1000).await;
    }
    let cold = node(&store, 2, |_| {}).await;
    let before = store.metrics().requests(RequestKind::List);
    for offset in 0..20 {
        fetch(&cold, 0, offset).await.unwrap();
    }
    assert_eq!(store.metrics().requests(RequestKind::List), before);
}
