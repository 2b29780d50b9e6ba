//! A node starts though its store is in trouble.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use uuid::Uuid;

use super::*;
use crate::state::op::{CreateTopic, Op};
use crate::testing::simulated::{Bucket, Fate, Network, Reply, Verb};
use crate::types::{TopicId, TopicName};

/// A way to the store that takes its time, and on which a share of all requests is answered 503.
struct Way {
    takes: Duration,
    percent: u32,
    seed: u64,
    number: AtomicU64,
}

impl Network for Way {
    fn send(&self, number: u64, _: Verb, _: &str, _: usize) -> Fate {
        let dice = crc32c::crc32c(&((self.seed << 32) | number).to_le_bytes()) % 100;
        let fails = dice < self.percent;
        Fate {
            arrives: self.takes / 2,
            applied: !fails,
            again: None,
            answer: if fails { Reply::Error } else { Reply::First },
            returns: self.takes / 2,
        }
    }

    fn written(&self, _: &str, _: &Bytes) {}

    fn applied(&self, _: u64, _: &str) {}

    fn date(&self) -> Option<Timestamp> {
        None
    }

    fn next(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed)
    }
}

async fn start(bucket: &Bucket, seed: u64, takes: Duration, percent: u32) -> Node {
    let env = Env::simulated(seed, Timestamp(1_700_000_000_000));
    let mut options = NodeOptions::new(StoreUrl::memory(), env);
    options.check_store = true;
    // The log is long: nobody takes a snapshot of it.
    options.manifest.snapshot_every = u64::MAX;
    let way = Way {
        takes,
        percent,
        seed,
        number: AtomicU64::new(0),
    };
    let store = bucket.behind(Arc::new(way), options.store.clone());
    Node::start(store, options, &NodeMetrics::default())
        .await
        .unwrap()
}

async fn write(node: &Node, number: u128) {
    let topic = Op::CreateTopic(CreateTopic {
        id: TopicId(Uuid::from_u128(number + 1)),
        name: TopicName::new(&format!("topic-{number}")).unwrap(),
        partitions: 1,
        configs: Default::default(),
        replicas: None,
    });
    node.manifest().commit(vec![topic]).await.unwrap();
}

/// How long a node may take to start.
const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test(start_paused = true)]
async fn a_node_starts_while_three_of_ten_requests_are_answered_503() {
    let bucket = Bucket::default();
    let writer = start(&bucket, 0, Duration::from_millis(2), 0).await;
    for number in 0..800 {
        write(&writer, number).await;
    }
    for seed in 1..20 {
        let began = Instant::now();
        let node = start(&bucket, seed, Duration::from_millis(20), 30).await;
        let took = began.elapsed();
        assert!(took < LIMIT, "seed {seed}: {took:?}");
        assert_eq!(node.manifest().state().topics().count(), 800);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_for_which_each_request_takes_two_seconds_starts_while_others_write() {
    let bucket = Bucket::default();
    let writer = start(&bucket, 0, Duration::from_millis(2), 0).await;
    for number in 0..250 {
        write(&writer, number).await;
    }
    let writes = tokio::spawn(async move {
        for number in 250.. {
            write(&writer, number).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let began = Instant::now();
    let node = start(&bucket, 1, Duration::from_secs(2), 0).await;
    let took = began.elapsed();
    assert!(took < LIMIT, "{took:?}");
    assert!(node.manifest().state().topics().count() > 250);
    writes.abort();
}
