//! How the state scales: what a partition takes in memory, and what snapshots of many partitions take.
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
use std::time::Instant;

use uuid::Uuid;
use weir::state::State;
use weir::state::op::{
    Append, AppendEntry, AppendSource, Commit, CreateTopic, Op, ProducerBatch, RegisterNode,
};
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

/// A batch of an idempotent producer for each partition, in a segment of its own.
fn append(n: i32, round: i32) -> Op {
    // Each topic is minted at another time; what matters is that segments differ.
    let segment =
        Uuid::from_u128((0x0190_0000_0000_7000 << 64) | (n as u128) << 20 | round as u128);
    Op::Append(Append {
        partition: TopicPartition {
            topic: topic(n / PER_TOPIC),
            partition: PartitionIndex(n % PER_TOPIC),
        },
        source: AppendSource::Segment(SegmentId(segment)),
        entries: vec![AppendEntry {
            start: 40,
            len: 1000,
            records: 10,
            max_timestamp: Timestamp(1_700_000_000_000),
            producer: Some(ProducerBatch {
                id: ProducerId(i64::from(n)),
                epoch: ProducerEpoch(0),
                base_sequence: round * 10,
                continues: false,
            }),
        }],
    })
}

/// A state of so many partitions, each with one producer and so many slices.
fn state_of(partitions: i32, slices: i32) -> State {
    let mut state = State::new();
    for n in 0..(partitions + PER_TOPIC - 1) / PER_TOPIC {
        let create = CreateTopic {
            id: topic(n),
            name: TopicName::new(&format!("topic-{n}")).unwrap(),
            partitions: PER_TOPIC.min(partitions - n * PER_TOPIC),
            configs: BTreeMap::new(),
            replicas: None,
        };
        let counter = state.seq().0 + 1;
        fold(
            &mut state,
            &commit(1, counter, vec![Op::CreateTopic(create)]),
        );
    }
    for round in 0..slices {
        for first in (0..partitions).step_by(1000) {
            let ops = (first..partitions.min(first + 1000)).map(|n| append(n, round));
            let counter = state.seq().0 + 1;
            fold(&mut state, &commit(1, counter, ops.collect()));
        }
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
