//! How the state scales: what a partition takes in memory, what snapshots of many partitions take, and what a node has
//! to do before it serves.
//!
//! `cargo test --test scale` runs bounded sizes; `make scale` the large ones of `docs/growth.md`, and prints the
//! figures.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "all of this file is a test"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use uuid::Uuid;
use weir::env::Env;
use weir::manifest::encode_commit;
use weir::node::{Node, NodeMetrics, NodeOptions};
use weir::state::State;
use weir::state::op::{
    Append, AppendEntry, AppendSource, Commit, CreateTopic, Op, ProducerBatch, RegisterNode,
};
use weir::store::{Created, ObjectPath, RequestKind, Store, StoreUrl};
use weir::types::{
    CommitId, Incarnation, LogId, PartitionIndex, ProducerEpoch, ProducerId, SegmentId, Seq,
    Timestamp, TopicId, TopicName, TopicPartition,
};

/// The partitions of a topic.
const PER_TOPIC: i32 = 10_000;

fn commit(incarnation: u128, counter: u64, ops: Vec<Op>) -> Commit {
    Commit {
        id: CommitId {
            incarnation: Incarnation(Uuid::from_u128(incarnation)),
            counter,
        },
        time: Timestamp(1_700_000_000_000),
        wall: None,
        ops,
        follows: None,
        forwarded: Vec::new(),
        log: LogId::ZERO,
    }
}

fn fold(state: &mut State, commit: &Commit) {
    state.apply(state.seq().next(), commit, 100);
}

fn topic(n: i32) -> TopicId {
    TopicId(Uuid::from_u128(n as u128 + 1))
}

/// Batches of an idempotent producer for a partition, in a segment of its own. Each round has as many.
fn append(n: i32, round: i32, batches: i32) -> Op {
    // Each topic is minted at another time; what matters is that segments differ.
    let segment =
        Uuid::from_u128((0x0190_0000_0000_7000 << 64) | (n as u128) << 20 | round as u128);
    Op::Append(Append {
        partition: TopicPartition {
            topic: topic(n / PER_TOPIC),
            partition: PartitionIndex(n % PER_TOPIC),
        },
        source: AppendSource::Segment(SegmentId(segment)),
        entries: (0..batches)
            .map(|batch| AppendEntry {
                start: 40 + 1000 * batch as u64,
                len: 1000,
                records: 10,
                max_timestamp: Timestamp(1_700_000_000_000),
                producer: Some(ProducerBatch {
                    id: ProducerId(i64::from(n)),
                    epoch: ProducerEpoch(0),
                    base_sequence: (round * batches + batch) * 10,
                    continues: false,
                }),
            })
            .collect(),
    })
}

/// The commits that create so many partitions and give each so many slices, with so many batches each.
fn commits_of(partitions: i32, slices: i32, batches: i32) -> impl Iterator<Item = Vec<Op>> {
    let topics = (0..(partitions + PER_TOPIC - 1) / PER_TOPIC).map(move |n| {
        vec![Op::CreateTopic(CreateTopic {
            id: topic(n),
            name: TopicName::new(&format!("topic-{n}")).unwrap(),
            partitions: PER_TOPIC.min(partitions - n * PER_TOPIC),
            configs: BTreeMap::new(),
            replicas: None,
        })]
    });
    topics.chain((0..slices).flat_map(move |round| appends(partitions, round, batches)))
}

/// The commits that give each of so many partitions a slice, a thousand partitions at a time.
fn appends(partitions: i32, round: i32, batches: i32) -> impl Iterator<Item = Vec<Op>> {
    (0..partitions).step_by(1000).map(move |first| {
        let until = partitions.min(first + 1000);
        (first..until).map(|n| append(n, round, batches)).collect()
    })
}

/// A state of so many partitions, each with one producer and so many slices.
fn state_of(partitions: i32, slices: i32) -> State {
    let mut state = State::new();
    for ops in commits_of(partitions, slices, 1) {
        let counter = state.seq().0 + 1;
        fold(&mut state, &commit(1, counter, ops));
    }
    state
}

/// Bytes of heap that `make` leaves allocated.
fn heap<T>(make: impl FnOnce() -> T) -> (T, u64) {
    let mut made = None;
    let counted = allocation_counter::measure(|| made = Some(make()));
    (made.unwrap(), u64::try_from(counted.bytes_current).unwrap())
}

#[test]
fn a_partition_with_one_producer_and_one_slice_takes_less_than_half_a_kilobyte() {
    let (few, many) = (1000, 9000);
    let (_few, of_few) = heap(|| state_of(few, 1));
    let (_many, of_many) = heap(|| state_of(many, 1));
    // The books on objects, one per slice here, are a part of it.
    let each = (of_many - of_few) / 8000;
    println!("{each} bytes of heap per partition with one producer and one slice");
    assert!(each < 600, "{each}");
}

/// Encodes, decodes and encodes again, and says what it takes.
fn measure(partitions: i32, slices: i32) {
    let (state, heap) = heap(|| state_of(partitions, slices));
    let begun = Instant::now();
    let bytes = state.to_bytes();
    let encoded = begun.elapsed();
    let begun = Instant::now();
    let again = State::from_bytes(&bytes).unwrap();
    let decoded = begun.elapsed();
    assert!(again.to_bytes() == bytes, "decoded, it is another state");
    println!(
        "{partitions} partitions, {slices} slices each: heap {} MB, snapshot {} MB, encoded in {:.2} s, decoded in {:.2} s",
        heap >> 20,
        bytes.len() >> 20,
        encoded.as_secs_f64(),
        decoded.as_secs_f64(),
    );
}

#[test]
fn a_state_of_many_partitions_is_encoded_and_decoded() {
    measure(20_000, 8);
}

#[test]
#[ignore = "takes a minute and gigabytes: make scale"]
fn a_state_of_two_hundred_thousand_partitions_with_eight_slices() {
    measure(200_000, 8);
}

#[test]
#[ignore = "takes minutes and gigabytes: make scale"]
fn a_state_of_two_million_partitions() {
    measure(2_000_000, 1);
}

#[test]
fn three_hundred_nodes_register_and_live() {
    let mut state = State::new();
    let register = |n: u128| {
        Op::RegisterNode(RegisterNode {
            incarnation: Incarnation(Uuid::from_u128(n)),
            endpoints: BTreeMap::from([("kafka".to_owned(), format!("node-{n}:9092"))]),
            rack: None,
            version: "0.1.0".to_owned(),
            lease_millis: 15_000,
            peer_key: None,
            properties: None,
        })
    };
    let begun = Instant::now();
    for n in 1..=300 {
        fold(&mut state, &commit(n, 1, vec![register(n)]));
    }
    let registered = begun.elapsed();
    let begun = Instant::now();
    for counter in 2..=101 {
        for n in 1..=300 {
            fold(&mut state, &commit(n, counter, Vec::new()));
        }
    }
    println!(
        "300 nodes registered in {registered:?}; a commit of one takes {:?}",
        begun.elapsed() / 30_000
    );
    assert_eq!(state.nodes().count(), 300);
    assert_eq!(state.seq(), Seq(300 + 30_000));
}

/// Somebody who writes to a log and needs no state for it.
struct Writer {
    store: Store,
    counter: u64,
    end: Seq,
}

impl Writer {
    /// Puts a commit at the end of the log, wherever that is now.
    async fn write(&mut self, ops: Vec<Op>) {
        self.counter += 1;
        let object = encode_commit(&commit(1, self.counter, ops), Bytes::new()).unwrap();
        loop {
            self.end = self.end.next();
            let path = ObjectPath::commit(self.end);
            let put = self
                .store
                .create(&path, object.clone(), RequestKind::CommitPut);
            if matches!(put.await.unwrap(), Created::Created) {
                return;
            }
        }
    }
}

/// A snapshot is due after a million entries, or two if the node whose turn it is does not take it: so many are behind
/// the last one at most, and while a node reads them, more come.
#[test]
fn a_node_starts_within_ten_seconds_while_a_hundred_thousand_entries_a_second_are_written() {
    const PARTITIONS: i32 = 20_000;
    const BATCHES: i32 = 10;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = Store::memory();
        let node = async || {
            let options = NodeOptions::new(StoreUrl::memory(), Env::system());
            Node::start(store.clone(), options, &NodeMetrics::default())
                .await
                .unwrap()
        };
        let first = node().await;
        let mut writer = Writer {
            store: store.clone(),
            counter: 0,
            end: Seq::ZERO,
        };
        for ops in commits_of(PARTITIONS, 8, BATCHES) {
            writer.write(ops).await;
        }
        let limit = Instant::now() + Duration::from_secs(120);
        while first.manifest().state().last_snapshot().is_none() {
            assert!(Instant::now() < limit, "no snapshot was taken");
            first.manifest().commit(Vec::new()).await.unwrap();
        }
        first.stop(Duration::from_secs(10)).await;
        for ops in (8..18).flat_map(|round| appends(PARTITIONS, round, BATCHES)) {
            writer.write(ops).await;
        }
        let started = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&started);
        let written = tokio::spawn(async move {
            // A commit has a tenth of a second's entries.
            let mut every = tokio::time::interval(Duration::from_millis(100));
            let mut more = (18..).flat_map(|round| appends(PARTITIONS, round, BATCHES));
            while !until.load(Ordering::Relaxed) {
                every.tick().await;
                writer.write(more.next().unwrap()).await;
            }
            writer.end
        });
        let began = Instant::now();
        let second = node().await;
        let took = began.elapsed();
        let reached = second.manifest().state().seq();
        started.store(true, Ordering::Relaxed);
        let end = written.await.unwrap();
        println!("started in {took:?} at seq {} of {}", reached.0, end.0);
        assert!(took < Duration::from_secs(10), "{took:?}");
        second.stop(Duration::from_secs(10)).await;
    });
}
