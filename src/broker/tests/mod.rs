//! The broker on a memory store, several nodes in one process, on simulated time.

mod late;

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::manifest::PEER_ENDPOINT;
use crate::node::{Node, NodeMetrics, NodeOptions};
use crate::rules::{Rule, assert_needed, assert_needed_together};
use crate::segment::{BatchBuilder, Batches, Codec, Limits, decode_records};
use crate::store::{Created, ObjectPath, RequestKind, Store, StoreUrl};
use crate::testing::{Fault, Faulty};
use crate::types::{
    ByteCount, NodeId, Offset, PartitionIndex, ProducerEpoch, ProducerId, Timestamp,
};

const START: Timestamp = Timestamp(1_700_000_000_000);
const TIMEOUT: Duration = Duration::from_secs(10);

mod settings;
mod stale;

fn session() -> Session {
    Session::internal("test")
}

async fn node(store: &Store, seed: u64, adapt: impl FnOnce(&mut NodeOptions)) -> Node {
    let mut options = NodeOptions::new(StoreUrl::memory(), Env::simulated(seed, START));
    adapt(&mut options);
    Node::start(store.clone(), options, &NodeMetrics::default())
        .await
        .unwrap()
}

async fn topic(node: &Node, name: &str, partitions: i32) {
    let new = NewTopic {
        name: name.to_owned(),
        partitions: Some(partitions),
        ..NewTopic::default()
    };
    let created = node
        .broker()
        .create_topics(&session(), vec![new], false)
        .await
        .unwrap();
    assert!(created[0].is_ok(), "{created:?}");
}

#[tokio::test(start_paused = true)]
async fn there_are_no_more_partitions_than_the_node_allows() {
    let node = node(&Store::memory(), 1, |o| o.broker.max_partitions = 10).await;
    let new = |name: &str, partitions| NewTopic {
        name: name.to_owned(),
        partitions: Some(partitions),
        ..NewTopic::default()
    };
    let broker = node.broker();
    let create = async |topics| broker.create_topics(&session(), topics, false).await;
    let created = create(vec![new("a", 4), new("b", 5), new("c", 2), new("d", 1)]).await;
    let created: Vec<_> = created.unwrap().iter().map(Result::is_ok).collect();
    assert_eq!(created, [true, true, false, true], "what fits is created");
    let refused = create(vec![new("e", 1)]).await.unwrap().remove(0);
    assert!(
        matches!(refused, Err(TopicError::TooManyPartitions { .. })),
        "{refused:?}"
    );
    let more = |total| MorePartitions {
        topic: "a".to_owned(),
        total,
        assignment: None,
    };
    let grow = async |total| {
        let session = session();
        let grown = broker.create_partitions(&session, vec![more(total)], false);
        grown.await.unwrap().remove(0)
    };
    assert!(matches!(
        grow(5).await,
        Err(TopicError::TooManyPartitions { .. })
    ));
    // Who asks for a topic that might be created is told that there is none.
    let wanted = [TopicRef::Name("e".to_owned())];
    let described = broker
        .describe_topics(&session(), &wanted, true)
        .await
        .unwrap();
    assert!(
        matches!(described[0], Err(TopicError::NotFound(_))),
        "{described:?}"
    );
    // A topic less makes space, also after a restart from the log alone.
    let gone = [TopicRef::Name("b".to_owned())];
    broker.delete_topics(&session(), &gone).await.unwrap()[0]
        .as_ref()
        .unwrap();
    assert_eq!(broker.manifest().state().partition_count(), 5);
    assert!(grow(9).await.is_ok());
    assert!(create(vec![new("e", 1)]).await.unwrap()[0].is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_requests_at_once_create_no_more_partitions_than_one() {
    let node = node(&Store::memory(), 1, |o| o.broker.max_partitions = 4_000).await;
    for round in 0..20 {
        let requests = (0..6).map(|request| {
            let broker = node.broker().clone();
            let new = |n| NewTopic {
                name: format!("topic-{round}-{request}-{n}"),
                ..NewTopic::default()
            };
            let topics = (0..1_900).map(new).collect();
            tokio::spawn(async move { broker.create_topics(&session(), topics, false).await })
        });
        for created in futures::future::join_all(requests).await {
            created.unwrap().unwrap();
        }
        let state = node.broker().manifest().state();
        // A request that is just done may be counted twice for a moment, and never not at all.
        let created = state.partition_count();
        assert!((1_900..=4_000).contains(&created), "{created}");
        let names: Vec<_> = state.topics().map(|t| TopicRef::Id(t.id())).collect();
        node.broker()
            .delete_topics(&session(), &names)
            .await
            .unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_creates_a_bounded_number_of_topics() {
    let node = node(&Store::memory(), 1, |_| {}).await;
    let names = |count| (0..count).map(|n| format!("topic-{n}"));
    let new = |name| NewTopic {
        name,
        ..NewTopic::default()
    };
    let topics = names(MAX_CREATED + 1).map(new).collect();
    let created = node.broker().create_topics(&session(), topics, false).await;
    let refused = |one: &Result<_, _>| matches!(one, Err(TopicError::TooManyTopics { .. }));
    assert!(created.unwrap().iter().all(refused));
    let wanted: Vec<_> = names(MAX_CREATED + 1).map(TopicRef::Name).collect();
    let described = node
        .broker()
        .describe_topics(&session(), &wanted, true)
        .await;
    assert!(described.unwrap().iter().all(Result::is_err));
    let described = node
        .broker()
        .describe_topics(&session(), &wanted[1..], true)
        .await;
    assert!(described.unwrap().iter().all(Result::is_ok));
    assert_eq!(node.broker().manifest().state().topic_count(), MAX_CREATED);
}

/// A batch of records with these values, one millisecond apart from `time` on.
fn batch(values: &[&str], time: i64, producer: Option<(i64, i16, i32)>) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    if let Some((id, epoch, sequence)) = producer {
        builder = builder.producer(ProducerId(id), ProducerEpoch(epoch), sequence);
    }
    for (n, value) in (0..).zip(values) {
        let value = value.as_bytes();
        builder
            .push(Timestamp(time + n), None, Some(value), &[])
            .unwrap();
    }
    builder.finish().unwrap()
}

fn to(name: &str, partition: i32, records: Bytes) -> ProducePartition {
    let topic = TopicRef::Name(name.to_owned());
    ProducePartition::new(topic, PartitionIndex(partition), records)
}

async fn produce(node: &Node, name: &str, records: Bytes) -> Result<Produced, ProduceError> {
    let mut results = node
        .broker()
        .produce(&session(), vec![to(name, 0, records)], TIMEOUT)
        .await;
    results.pop().unwrap()
}

fn from(name: &str, offset: i64) -> FetchPartition {
    FetchPartition {
        topic: TopicRef::Name(name.to_owned()),
        partition: PartitionIndex(0),
        offset: Offset(offset),
        max_bytes: 1 << 20,
        current_leader_epoch: None,
    }
}

const AT_ONCE: FetchLimits = FetchLimits {
    min_bytes: 1,
    max_bytes: 50 << 20,
    max_wait: Duration::ZERO,
    read_committed: false,
};

/// The records of partition 0 from `offset` to the end, with their offsets.
async fn fetch(node: &Node, name: &str, mut offset: i64) -> Vec<(i64, String)> {
    let mut found = Vec::new();
    loop {
        let wanted = [from(name, offset)];
        let mut answer = node.broker().fetch(&session(), &wanted, AT_ONCE).await;
        let more = records(&answer.pop().unwrap().unwrap());
        let Some((last, _)) = more.last() else {
            return found;
        };
        offset = last + 1;
        found.extend(more);
    }
}

fn records(fetched: &FetchedPartition) -> Vec<(i64, String)> {
    let mut found = Vec::new();
    for run in &fetched.records {
        for batch in Batches::new(run) {
            let batch = batch.unwrap();
            let bytes = batch.slice(run);
            batch.header.check_crc(&bytes).unwrap();
            let limits = Limits {
                max_uncompressed: 1 << 20,
            };
            for record in decode_records(&bytes, limits).unwrap() {
                let record = record.unwrap();
                let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                found.push((
                    batch.header.base_offset.0 + i64::from(record.offset_delta),
                    value,
                ));
            }
        }
    }
    found
}

fn numbered(from: i64, values: &[&str]) -> Vec<(i64, String)> {
    (from..)
        .zip(values.iter().map(|value| (*value).to_owned()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn what_one_node_acknowledged_another_returns_with_its_real_offsets() {
    let store = Store::memory();
    let (a, b) = (node(&store, 1, |_| {}).await, node(&store, 2, |_| {}).await);
    topic(&a, "t", 1).await;
    let first = produce(&a, "t", batch(&["a", "b"], 1, None)).await.unwrap();
    let second = produce(&b, "t", batch(&["c"], 3, None)).await.unwrap();
    assert_eq!(
        (first.base_offset, second.base_offset),
        (Offset(0), Offset(2))
    );
    for node in [&a, &b] {
        assert_eq!(fetch(node, "t", 0).await, numbered(0, &["a", "b", "c"]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_fetch_in_the_middle_of_a_batch_returns_that_batch() {
    let store = Store::memory();
    let a = node(&store, 1, |_| {}).await;
    topic(&a, "t", 1).await;
    produce(&a, "t", batch(&["a", "b", "c"], 1, None))
        .await
        .unwrap();
    produce(&a, "t", batch(&["d"], 1, None)).await.unwrap();
    assert_eq!(fetch(&a, "t", 1).await, numbered(0, &["a", "b", "c", "d"]));
    assert_eq!(fetch(&a, "t", 3).await, numbered(3, &["d"]));
    assert_eq!(fetch(&a, "t", 4).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_lone_message_costs_one_put_and_reading_it_back_nothing() {
    let store = Store::memory();
    let a = node(&store, 1, |_| {}).await;
    topic(&a, "t", 1).await;
    let before = store.metrics().total();
    produce(&a, "t", batch(&["a"], 1, None)).await.unwrap();
    assert_eq!(store.metrics().total() - before, 1);
    let state = a.manifest().state();
    let wanted = FetchPartition {
        topic: TopicRef::Id(state.topic_by_name("t").unwrap().id()),
        ..from("t", 0)
    };
    let answer = a.broker().fetch(&session(), &[wanted], AT_ONCE).await;
    assert_eq!(records(answer[0].as_ref().unwrap()), numbered(0, &["a"]));
    assert_eq!(store.metrics().total() - before, 1);
    // By name it is shown once which topic that is.
    let answer = a.broker().fetch(&session(), &[from("t", 0)], AT_ONCE).await;
    assert_eq!(records(answer[0].as_ref().unwrap()), numbered(0, &["a"]));
    assert_eq!(store.metrics().total() - before, 2);
}

#[tokio::test(start_paused = true)]
async fn a_retried_batch_gets_its_original_offset_also_through_another_node() {
    let store = Store::memory();
    let (a, b) = (node(&store, 1, |_| {}).await, node(&store, 2, |_| {}).await);
    topic(&a, "t", 1).await;
    let (id, epoch) = a.broker().new_producer(&session()).await.unwrap();
    let sent = |sequence| batch(&["x", "y"], 1, Some((id.0, epoch.0, sequence)));
    for sequence in [0, 2, 4] {
        let produced = produce(&a, "t", sent(sequence)).await.unwrap();
        assert_eq!(produced.base_offset, Offset(sequence.into()));
    }
    assert_eq!(
        produce(&b, "t", sent(2)).await.unwrap().base_offset,
        Offset(2)
    );
    assert!(matches!(
        produce(&b, "t", sent(8)).await,
        Err(ProduceError::OutOfOrderSequence(_))
    ));
    assert_eq!(fetch(&b, "t", 0).await.len(), 6);
}

#[tokio::test(start_paused = true)]
async fn large_batches_go_to_segments_and_come_back_in_order() {
    let store = Store::memory();
    let small = |options: &mut NodeOptions| {
        options.ingest.inline_limit = ByteCount(100);
        options.ingest.segment_size = ByteCount(1000);
    };
    let (a, b) = (node(&store, 1, small).await, node(&store, 2, |_| {}).await);
    topic(&a, "t", 1).await;
    let values: Vec<String> = (0..200).map(|n| format!("value number {n}")).collect();
    let sends = values
        .iter()
        .map(|value| produce(&a, "t", batch(&[value], 1, None)));
    let produced = futures::future::join_all(sends).await;
    let mut offsets: Vec<_> = produced
        .into_iter()
        .map(|p| p.unwrap().base_offset.0)
        .collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (0..200).collect::<Vec<_>>());
    assert!(store.metrics().requests(RequestKind::SegmentPut) > 5);
    let expected: Vec<&str> = values.iter().map(String::as_str).collect();
    for node in [&a, &b] {
        assert_eq!(fetch(node, "t", 0).await, numbered(0, &expected));
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiting_fetch_on_another_node_is_answered_soon_after_the_append() {
    let store = Store::memory();
    let (a, b) = (node(&store, 1, |_| {}).await, node(&store, 2, |_| {}).await);
    topic(&a, "t", 1).await;
    let broker = b.broker().clone();
    let waiting = tokio::spawn(async move {
        let limits = FetchLimits {
            max_wait: Duration::from_secs(30),
            ..AT_ONCE
        };
        let began = tokio::time::Instant::now();
        let mut answer = broker.fetch(&session(), &[from("t", 0)], limits).await;
        (records(&answer.pop().unwrap().unwrap()), began.elapsed())
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    produce(&a, "t", batch(&["a"], 1, None)).await.unwrap();
    let (found, took) = waiting.await.unwrap();
    assert_eq!(found, numbered(0, &["a"]));
    assert!(took < Duration::from_millis(5_100), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_need_not_wait_does_not() {
    let store = Store::memory();
    let a = node(&store, 1, |_| {}).await;
    topic(&a, "t", 1).await;
    let began = tokio::time::Instant::now();
    let max_wait = Duration::from_secs(30);
    let no_bytes = FetchLimits {
        min_bytes: 0,
        max_wait,
        ..AT_ONCE
    };
    let answer = a
        .broker()
        .fetch(&session(), &[from("t", 0)], no_bytes)
        .await;
    assert!(answer[0].as_ref().unwrap().is_empty());
    let waiting = FetchLimits {
        max_wait,
        ..AT_ONCE
    };
    assert!(a.broker().fetch(&session(), &[], waiting).await.is_empty());
    let answer = a.broker().fetch(&session(), &[from("t", 9)], waiting).await;
    assert!(matches!(
        answer[0],
        Err(FetchError::OffsetOutOfRange { .. })
    ));
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn an_offset_is_found_by_time_to_the_record() {
    let store = Store::memory();
    let a = node(&store, 1, |_| {}).await;
    topic(&a, "t", 1).await;
    produce(&a, "t", batch(&["a", "b", "c"], 100, None))
        .await
        .unwrap();
    produce(&a, "t", batch(&["d", "e"], 200, None))
        .await
        .unwrap();
    let wanted = |spec| {
        (
            TopicRef::Name("t".to_owned()),
            PartitionIndex(0),
            None,
            spec,
        )
    };
    let specs = [
        OffsetSpec::At(Timestamp(101)),
        OffsetSpec::At(Timestamp(103)),
        OffsetSpec::At(Timestamp(202)),
        OffsetSpec::MaxTimestamp,
        OffsetSpec::Earliest,
        OffsetSpec::Latest,
    ];
    let asked: Vec<_> = specs.into_iter().map(wanted).collect();
    let found = a.broker().list_offsets(&session(), &asked, false).await;
    let offsets: Vec<_> = found
        .into_iter()
        .map(|found| found.unwrap().offset.map(|offset| offset.0))
        .collect();
    assert_eq!(offsets, [Some(1), Some(3), None, Some(4), Some(0), Some(5)]);
}

#[tokio::test(start_paused = true)]
async fn the_newest_record_is_none_that_was_deleted() {
    let a = node(&Store::memory(), 1, |_| {}).await;
    topic(&a, "t", 1).await;
    let mut builder = BatchBuilder::new(Codec::None);
    for time in [90, 10, 30] {
        let at = Timestamp(time);
        builder.push(at, None, Some(b"v"), &[]).unwrap();
    }
    let records = builder.finish().unwrap();
    produce(&a, "t", records).await.unwrap();
    let t = || TopicRef::Name("t".to_owned());
    let found = [(0, 0, 90), (1, 2, 30), (2, 2, 30)];
    for (log_start, offset, time) in found {
        let before = (t(), PartitionIndex(0), Some(Offset(log_start)));
        let deleted = a.broker().delete_records(&session(), &[before]).await;
        assert_eq!(deleted, [Ok(Offset(log_start))]);
        let asked = [(t(), PartitionIndex(0), None, OffsetSpec::MaxTimestamp)];
        let newest = a.broker().list_offsets(&session(), &asked, false).await;
        let expected = FoundOffset {
            offset: Some(Offset(offset)),
            timestamp: Some(Timestamp(time)),
        };
        assert_eq!(newest, [Ok(expected)], "from {log_start} on");
    }
}

#[tokio::test(start_paused = true)]
async fn deleted_records_are_out_of_range_and_the_rest_stays() {
    let store = Store::memory();
    let a = node(&store, 1, |_| {}).await;
    topic(&a, "t", 1).await;
    for value in ["a", "b", "c"] {
        produce(&a, "t", batch(&[value], 1, None)).await.unwrap();
    }
    let wanted = |before| (TopicRef::Name("t".to_owned()), PartitionIndex(0), before);
    let broker = a.broker();
    let deleted = broker
        .delete_records(&session(), &[wanted(Some(Offset(2)))])
        .await;
    assert_eq!(deleted, [Ok(Offset(2))]);
    let answer = broker.fetch(&session(), &[from("t", 1)], AT_ONCE).await;
    assert!(
        matches!(answer[0], Err(FetchError::OffsetOutOfRange { .. })),
        "{answer:?}"
    );
    assert_eq!(fetch(&a, "t", 2).await, numbered(2, &["c"]));
    let refused = broker
        .delete_records(&session(), &[wanted(Some(Offset(9)))])
        .await;
    assert!(matches!(
        refused[0],
        Err(DeleteRecordsError::OffsetOutOfRange { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn a_topic_made_on_one_node_is_known_on_another_at_once() {
    let store = Store::memory();
    let (a, b) = (node(&store, 1, |_| {}).await, node(&store, 2, |_| {}).await);
    topic(&a, "t", 3).await;
    produce(&b, "t", batch(&["a"], 1, None)).await.unwrap();
    let asked = [
        TopicRef::Name("t".to_owned()),
        TopicRef::Name("u".to_owned()),
    ];
    let found = b
        .broker()
        .describe_topics(&session(), &asked, true)
        .await
        .unwrap();
    assert_eq!(found[0].as_ref().unwrap().partitions, 3);
    let created = found[1].as_ref().unwrap();
    let again = a
        .broker()
        .describe_topics(&session(), &asked, false)
        .await
        .unwrap();
    assert_eq!(again[1].as_ref().unwrap(), created);
}

#[tokio::test(start_paused = true)]
async fn a_full_buffer_makes_producers_wait_and_loses_nothing() {
    let store = Store::memory();
    let tiny = |options: &mut NodeOptions| options.ingest.buffer = ByteCount(500);
    let a = node(&store, 1, tiny).await;
    topic(&a, "t", 1).await;
    let sends = (0..100).map(|_| produce(&a, "t", batch(&["some value or other"], 1, None)));
    let produced = futures::future::join_all(sends).await;
    assert!(produced.iter().all(Result::is_ok));
    assert_eq!(fetch(&a, "t", 0).await.len(), 100);
}

/// What clients of a node connect to.
fn at(port: u16) -> Endpoints {
    Endpoints::from([("kafka".to_owned(), format!("h:{port}"))])
}

/// The brokers that clients are told of: ids and ports.
fn told(cluster: &ClusterView) -> Vec<(i32, u16)> {
    let nodes = cluster.nodes.iter().map(|node| (node.id.0, node.port));
    nodes.collect()
}

/// Takes another node for dead; returns the id that is free now.
async fn take_for_dead(by: &Node, other: &Node) -> NodeId {
    let incarnation = other.broker().inner.incarnation;
    let node = other.broker().node_id().unwrap();
    by.broker()
        .commit(Home::Cluster, vec![Op::RetireNode { node, incarnation }])
        .await
        .unwrap();
    node
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_taken_for_dead_registers_anew() {
    let store = Store::memory();
    let (a, b) = (node(&store, 1, |_| {}).await, node(&store, 2, |_| {}).await);
    a.broker().register(at(1), None).await.unwrap();
    b.broker().register(at(2), None).await.unwrap();
    let both = a.broker().cluster(&session(), "kafka").await.unwrap();
    assert_eq!(both.nodes.len(), 2);
    take_for_dead(&b, &a).await;
    a.broker().fresh(Home::Cluster).await.unwrap();
    tokio::time::sleep(Duration::from_secs(300)).await;
    let again = b.broker().cluster(&session(), "kafka").await.unwrap();
    assert_eq!(again.nodes.len(), 2, "{again:?}");
}

/// Its id was free and is another's by now: clients that are told of two brokers under one id break off all that they
/// do.
#[tokio::test(start_paused = true)]
async fn a_node_that_was_taken_for_dead_tells_clients_of_no_two_brokers_under_one_id() {
    let store = Store::memory();
    let (a, b) = (node(&store, 1, |_| {}).await, node(&store, 2, |_| {}).await);
    a.broker().register(at(1), None).await.unwrap();
    let free = take_for_dead(&b, &a).await;
    assert_eq!(b.broker().register(at(2), None).await, Ok(free));
    let session = session();
    let asked = (0..10).map(|_| a.broker().cluster(&session, "kafka"));
    for answer in futures::future::join_all(asked).await {
        let answer = answer.unwrap();
        assert_eq!(told(&answer), [(0, 2), (1, 1)]);
        assert_eq!(answer.this, NodeId(1));
    }
    assert_eq!(a.broker().node_id(), Some(NodeId(1)));
    let by_b = b.broker().cluster(&session, "kafka").await.unwrap();
    assert_eq!(by_b.nodes.len(), 2, "{by_b:?}");
}

/// Neither can renew its lease while the store is away, and each sees that of the other lapse.
#[tokio::test(start_paused = true)]
async fn an_outage_of_the_store_takes_no_living_node_for_dead() {
    let (store, away) = Faulty::switched(Fault::Fails);
    let mut nodes = Vec::new();
    let mut clients = Vec::new();
    for seed in 1..=3 {
        let node = node(&store, seed.into(), |_| {}).await;
        node.broker().register(at(seed), None).await.unwrap();
        clients.push(node.broker().client_arrived());
        nodes.push(node);
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    let registered = async |by: &Node| {
        let state = by.manifest().fresh().await.unwrap();
        let nodes = state.nodes().map(|(id, node)| (id.0, node.registered_at()));
        nodes.collect::<Vec<_>>()
    };
    let before = registered(&nodes[0]).await;
    assert_eq!(before.len(), 3);

    away.set(true);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let dies = nodes.pop().unwrap();
    clients.pop();
    dies.stop(Duration::ZERO).await;
    away.set(false);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(registered(&nodes[0]).await, before[..2]);
}

/// A node was killed and started again where it was, and its first lease has not lapsed yet. One that saw the first
/// incarnation end and one that did not tell clients of the same brokers.
#[tokio::test(start_paused = true)]
async fn all_nodes_call_a_node_that_was_started_again_the_same() {
    let store = Store::memory();
    let a = node(&store, 1, |_| {}).await;
    let killed = node(&store, 2, |_| {}).await;
    let again = node(&store, 3, |_| {}).await;
    a.broker().register(at(1), None).await.unwrap();
    killed.broker().register(at(2), None).await.unwrap();
    a.broker().fresh(Home::Cluster).await.unwrap();
    let first_run = a.broker().neighbours("kafka").remove(0);
    a.broker().note_looks(&[(first_run.clone(), Look::Reached)]);
    a.broker().note_looks(&[(first_run, Look::Refused)]);
    let seen = async |by: &Node| told(&by.broker().cluster(&session(), "kafka").await.unwrap());
    assert_eq!(seen(&a).await, [(0, 1)]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    again.broker().register(at(2), None).await.unwrap();
    assert_eq!(seen(&a).await, [(0, 1), (2, 2)]);
    assert_eq!(seen(&again).await, [(0, 1), (2, 2)]);
}

#[tokio::test(start_paused = true)]
async fn the_broker_that_a_load_balancer_is_stays_the_same_when_nodes_join() {
    let store = Store::memory();
    let nodes = [
        node(&store, 1, |_| {}).await,
        node(&store, 2, |_| {}).await,
        node(&store, 3, |_| {}).await,
    ];
    for (own, node) in nodes.iter().enumerate() {
        let endpoints = Endpoints::from([
            ("kafka".to_owned(), "balancer:9092".to_owned()),
            (PEER_ENDPOINT.to_owned(), format!("h{own}:8080")),
        ]);
        node.broker().register(endpoints, None).await.unwrap();
        let told = node.broker().cluster(&session(), "kafka").await.unwrap();
        let ids: Vec<_> = told.nodes.iter().map(|node| node.id.0).collect();
        assert_eq!(ids, [0]);
        assert_eq!(told.this, told.nodes[0].id);
    }
}

/// A deleted commit leaves its name free, and a writer that slept may have taken it: a node with an old state must not
/// take those bytes for its own.
#[tokio::test(start_paused = true)]
async fn what_an_old_state_says_of_records_is_not_believed() {
    // Too long to come with the ops when another node's commit is followed.
    let (truth, lies) = ("truth".repeat(40_000), "false".repeat(40_000));
    let written = async |value: &str| {
        let store = Store::memory();
        let a = node(&store, 1, |_| {}).await;
        topic(&a, "t", 1).await;
        produce(&a, "t", batch(&[value], 0, None)).await.unwrap();
        let commit = ObjectPath::commit(a.manifest().state().seq());
        (store, a, commit)
    };
    let (elsewhere, _other, place) = written(&lies).await;
    let (store, a, commit) = written(&truth).await;
    assert_eq!(place, commit);
    let garbage = elsewhere
        .get(&commit, RequestKind::CommitGet)
        .await
        .unwrap();
    let b = node(&store, 2, |_| {}).await;
    let state = b.manifest().fresh().await.unwrap();
    assert_eq!(state.seq(), a.manifest().state().seq());

    let everything = (TopicRef::Name("t".to_owned()), PartitionIndex(0), None);
    let deleted = a.broker().delete_records(&session(), &[everything]).await;
    assert!(deleted[0].is_ok(), "{deleted:?}");
    tokio::time::sleep(Duration::from_secs(20 * 60)).await;
    store.delete(vec![commit.clone()]).await.unwrap();
    let kind = RequestKind::CommitPut;
    let created = store.create(&commit, garbage, kind).await.unwrap();
    assert!(matches!(created, Created::Created));

    let answer = b.broker().fetch(&session(), &[from("t", 0)], AT_ONCE).await;
    assert!(
        matches!(answer[..], [Err(FetchError::OffsetOutOfRange { .. })]),
        "{} bytes",
        answer[0].as_ref().map_or(0, FetchedPartition::len)
    );
}

#[test]
fn a_reader_that_does_not_look_at_the_age_of_its_state_is_found() {
    let test = what_an_old_state_says_of_records_is_not_believed;
    // Each of the two would find these records by itself: they are deleted as well.
    assert_needed_together(
        &[
            Rule::OutdatedReadsAreDiscarded,
            Rule::FetchesConfirmTheirState,
        ],
        test,
    );
}

#[tokio::test(start_paused = true)]
async fn an_offset_that_a_node_has_not_heard_of_is_not_out_of_range_while_it_cannot_ask() {
    let (store, away) = Faulty::switched(Fault::Fails);
    let (a, b) = (node(&store, 1, |_| {}).await, node(&store, 2, |_| {}).await);
    topic(&a, "t", 1).await;
    b.manifest().fresh().await.unwrap();
    produce(&a, "t", batch(&["x", "y"], 0, None)).await.unwrap();
    away.set(true);
    // Its consumer has read the first record through the other node.
    let answer = b.broker().fetch(&session(), &[from("t", 1)], AT_ONCE).await;
    assert!(
        matches!(answer[..], [Err(FetchError::Unavailable(_))]),
        "{answer:?}"
    );
    away.set(false);
    let answer = b.broker().fetch(&session(), &[from("t", 1)], AT_ONCE).await;
    assert!(
        matches!(&answer[..], [Ok(found)] if !found.is_empty()),
        "{answer:?}"
    );
}
