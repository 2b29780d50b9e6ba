//! What grows with the data, over as many commits as asked: nothing may.
//!
//! A node as it runs in production, all background work on, on a store in memory and on simulated time, writes to
//! topics of every kind of retention. Every now and then another node takes over and the first stops, topics come and
//! go, producers come and are never seen again, and partitions are read from their log start. A row says what there is:
//! in the state, in its snapshot, in the bucket, in memory, and what a start takes. In the second half of a run no
//! figure may be much above what it was in the quarter before it.
//!
//! `make growth` runs a million commits over 1,000 partitions, and prints the table of `docs/growth.md`; here run
//! fewer.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "all of this file is a test"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use weir::broker::{FetchLimits, FetchPartition, NewTopic, ProducePartition, Session, TopicRef};
use weir::env::Env;
use weir::maintain::MaintenanceOptions;
use weir::node::{Node, NodeMetrics, NodeOptions};
use weir::segment::{BatchBuilder, Batches, Codec};
use weir::store::{Store, StoreUrl};
use weir::types::{PartitionIndex, ProducerEpoch, ProducerId, Timestamp};

const START: Timestamp = Timestamp(1_700_000_000_000);
const MINUTE: Duration = Duration::from_secs(60);

/// How much is done.
struct Plan {
    commits: u64,
    /// Between two of them, in simulated time.
    pause: Duration,
    partitions: i32,
    /// How many partitions each writes to.
    together: u64,
    /// The `retention.ms` of the topics that have one.
    keep: Duration,
    /// A row every so many commits.
    row: u64,
    /// Another node takes over every so many commits, a topic comes and goes, and a producer. Nodes need to live for
    /// longer than the grace period.
    takeover: u64,
}

/// A topic of each kind, and which part of the partitions it has, of 20.
const TOPICS: [(&str, i32); 4] = [("plain", 12), ("sized", 3), ("table", 3), ("both", 2)];

/// How many keys a partition of a compacted topic has.
const KEYS: u64 = 50;

/// The figures of a row.
struct Row {
    commits: u64,
    hours: f64,
    slices: u64,
    dead: u64,
    snapshot: u64,
    start_seconds: f64,
    start_requests: u64,
    memory: u64,
    objects: u64,
    bucket: u64,
    retained: u64,
    amplification: f64,
}

struct Run {
    plan: Plan,
    env: Env,
    store: Store,
    node: Node,
    metrics: NodeMetrics,
    session: Session,
    producer: (ProducerId, ProducerEpoch),
    /// The next sequence of the producer in each partition.
    sequences: BTreeMap<(usize, i32), i32>,
    /// Where the walk over the partitions is.
    next: u64,
    nodes: u64,
}

fn options(env: &Env) -> NodeOptions {
    let mut options = NodeOptions::new(StoreUrl::memory(), env.clone());
    options.maintenance = Some(MaintenanceOptions {
        producer_expiration: 120 * MINUTE,
        ..MaintenanceOptions::default()
    });
    options
}

impl Run {
    async fn begin(plan: Plan) -> Run {
        let env = Env::simulated(7, START);
        let store = Store::memory();
        let metrics = NodeMetrics::default();
        let node = Node::start(store.clone(), options(&env), &metrics)
            .await
            .unwrap();
        let session = Session::internal("growth");
        let producer = node.broker().new_producer(&session).await.unwrap();
        let run = Run {
            plan,
            env,
            store,
            node,
            metrics,
            session,
            producer,
            sequences: BTreeMap::new(),
            next: 0,
            nodes: 1,
        };
        run.register(&run.node).await;
        for (topic, (name, _)) in TOPICS.into_iter().enumerate() {
            run.create(name, run.partitions(topic), &run.configs(name))
                .await;
        }
        run
    }

    fn partitions(&self, topic: usize) -> i32 {
        self.plan.partitions * TOPICS[topic].1 / 20
    }

    fn configs(&self, topic: &str) -> Vec<(String, String)> {
        let keep = self.plan.keep.as_millis().to_string();
        let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        match topic {
            "sized" => vec![set("retention.ms", "-1"), set("retention.bytes", "100000")],
            "table" => vec![set("cleanup.policy", "compact")],
            "both" => vec![
                set("cleanup.policy", "compact,delete"),
                set("retention.ms", &keep),
            ],
            _ => vec![set("retention.ms", &keep)],
        }
    }

    async fn register(&self, node: &Node) {
        let endpoints = [("kafka".to_owned(), format!("n{}:9092", self.nodes))].into();
        node.broker().register(endpoints, None).await.unwrap();
    }

    async fn create(&self, name: &str, partitions: i32, configs: &[(String, String)]) {
        let new = NewTopic {
            name: name.to_owned(),
            partitions: Some(partitions),
            configs: configs
                .iter()
                .map(|(name, value)| (name.clone(), Some(value.clone())))
                .collect(),
            ..NewTopic::default()
        };
        let broker = self.node.broker();
        let created = broker.create_topics(&self.session, vec![new], false).await;
        created.unwrap().pop().unwrap().unwrap();
    }

    /// One commit: a batch for each of some partitions.
    async fn commit(&mut self, number: u64) {
        let total: u64 = TOPICS
            .iter()
            .enumerate()
            .map(|(topic, _)| u64::from(self.partitions(topic).unsigned_abs()))
            .sum();
        // A stride that is prime to the number of partitions meets all of them, far from each other.
        let wanted: Vec<ProducePartition> = (0..self.plan.together)
            .map(|at| {
                let place = (self.next + at) * 337 % total;
                self.batch(number, i32::try_from(place).unwrap())
            })
            .collect();
        self.next = (self.next + self.plan.together) % total;
        let broker = self.node.broker();
        let produced = broker.produce(&self.session, wanted, MINUTE).await;
        for produced in produced {
            produced.unwrap();
        }
    }

    fn batch(&mut self, number: u64, place: i32) -> ProducePartition {
        let (mut topic, mut partition) = (0, place);
        while partition >= self.partitions(topic) {
            partition -= self.partitions(topic);
            topic += 1;
        }
        let sequence = self.sequences.entry((topic, partition)).or_default();
        let mut batch =
            BatchBuilder::new(Codec::None).producer(self.producer.0, self.producer.1, *sequence);
        *sequence += 2;
        for record in 0..2 {
            let key = format!("key-{}", (number * 7 + record) % KEYS);
            let value = format!("{number:0>100}");
            let pushed = batch.push(
                self.env.wall(),
                Some(key.as_bytes()),
                Some(value.as_bytes()),
                &[],
            );
            pushed.unwrap();
        }
        let name = TopicRef::Name(TOPICS[topic].0.to_owned());
        ProducePartition::new(name, PartitionIndex(partition), batch.finish().unwrap())
    }

    /// Another node takes over; topics and producers come and go. Returns how long the start took and its requests.
    async fn take_over(&mut self) -> (f64, u64) {
        let real = Env::system();
        let (began, before) = (real.boot(), self.store.metrics().total());
        let metrics = NodeMetrics::default();
        let node = Node::start(self.store.clone(), options(&self.env), &metrics)
            .await
            .unwrap();
        let took = (real.boot() - began).as_secs_f64();
        let requests = self.store.metrics().total() - before;
        self.nodes += 1;
        self.register(&node).await;
        std::mem::replace(&mut self.node, node).stop(MINUTE).await;
        self.metrics = metrics;
        let name = format!("passing-{}", self.nodes);
        self.create(&name, 5, &self.configs("plain")).await;
        let broker = self.node.broker();
        let topics: Vec<TopicRef> = [self.nodes - 1]
            .iter()
            .filter(|last| **last > 1)
            .map(|last| TopicRef::Name(format!("passing-{last}")))
            .collect();
        for deleted in broker.delete_topics(&self.session, &topics).await.unwrap() {
            deleted.unwrap();
        }
        self.producer = broker.new_producer(&self.session).await.unwrap();
        self.sequences.clear();
        (took, requests)
    }

    /// Reads a partition from its log start to its end: every offset, or where keys are compacted, ascending ones.
    async fn read_all(&self, topic: &str, partition: i32) {
        let state = self.node.manifest().state();
        let found = state.topic_by_name(topic).unwrap();
        let of = found.partition(PartitionIndex(partition)).unwrap();
        let (mut next, end) = (of.log_start(), of.high_watermark());
        let compacted = topic == "table" || topic == "both";
        while next < end {
            let wanted = FetchPartition {
                topic: TopicRef::Name(topic.to_owned()),
                partition: PartitionIndex(partition),
                offset: next,
                max_bytes: 1 << 20,
                current_leader_epoch: None,
            };
            let limits = FetchLimits {
                min_bytes: 1,
                max_bytes: 1 << 20,
                max_wait: Duration::ZERO,
                read_committed: false,
            };
            let broker = self.node.broker();
            let mut read = broker.fetch(&self.session, &[wanted], limits).await;
            let read = read.pop().unwrap().unwrap();
            let before = next;
            for batch in read
                .records
                .iter()
                .flat_map(|run: &Bytes| Batches::new(run))
            {
                let header = batch.unwrap().header;
                let follows = header.base_offset == next || compacted && header.base_offset > next;
                assert!(
                    follows,
                    "{topic}/{partition}: {} at {next}",
                    header.base_offset
                );
                next = header.next_offset();
            }
            assert!(
                next > before,
                "{topic}/{partition}: nothing at {next} of {end}"
            );
        }
    }

    async fn row(&self, commits: u64, (start_seconds, start_requests): (f64, u64)) -> Row {
        let (mut objects, mut bucket) = (0, 0);
        self.store
            .survey(|listed| {
                objects += 1;
                bucket += listed.size;
            })
            .await
            .unwrap();
        let state = self.node.manifest().state();
        let partitions = state.topics().flat_map(|topic| topic.partitions());
        let totals = state.totals();
        Row {
            commits,
            hours: self.env.wall().since(START).as_secs_f64() / 3600.0,
            slices: state.slice_count() as u64,
            dead: state.dead_objects().count() as u64,
            snapshot: state.to_bytes().len() as u64,
            start_seconds,
            start_requests,
            memory: resident(),
            objects,
            bucket,
            retained: partitions.map(|(_, partition)| partition.bytes().0).sum(),
            amplification: 1.0 + totals.compacted.0 as f64 / totals.appended.0.max(1) as f64,
        }
    }
}

/// What the process has in memory, the bucket among it.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = pages.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0u64) * 4096
}

const HEAD: &str = "| commits | hours | slices | dead objects | snapshot, KiB | start, s | its requests | memory, MiB \
    | of it the bucket, MiB | objects | retained, MiB | bucket / retained | written / produced |\n\
    |---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|";

fn print(row: &Row) {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "| {} | {:.1} | {} | {} | {} | {:.3} | {} | {:.0} | {:.1} | {} | {:.1} | {:.2} | {:.2} |",
        row.commits,
        row.hours,
        row.slices,
        row.dead,
        row.snapshot >> 10,
        row.start_seconds,
        row.start_requests,
        mib(row.memory),
        mib(row.bucket),
        row.objects,
        mib(row.retained),
        row.bucket as f64 / row.retained.max(1) as f64,
        row.amplification,
    );
}

async fn grow(plan: Plan) -> Vec<Row> {
    let mut run = Run::begin(plan).await;
    let mut rows = Vec::new();
    println!("{HEAD}");
    let mut start = (0.0, 0);
    for number in 1..=run.plan.commits {
        run.commit(number).await;
        tokio::time::sleep(run.plan.pause).await;
        if number.is_multiple_of(run.plan.takeover) {
            start = run.take_over().await;
        }
        if number.is_multiple_of(run.plan.row) {
            for (topic, (name, _)) in TOPICS.into_iter().enumerate() {
                let count = u64::from(run.partitions(topic).unsigned_abs());
                let partition = i32::try_from(number / run.plan.row * 13 % count).unwrap();
                run.read_all(name, partition).await;
            }
            let row = run.row(number, start).await;
            print(&row);
            rows.push(row);
        }
    }
    rows
}

type Figure = fn(&Row) -> u64;

/// The figures that may not grow, by name, and by how much they may be above what they were.
const FLAT: [(&str, Figure); 6] = [
    ("slices", |row| row.slices),
    ("dead objects", |row| row.dead),
    ("bytes of a snapshot", |row| row.snapshot),
    ("requests of a start", |row| row.start_requests),
    ("objects in the bucket", |row| row.objects),
    ("bytes in the bucket", |row| row.bucket),
];

/// In the second half of the rows nothing is much above what it was in the quarter before it.
fn assert_flat(rows: &[Row]) {
    let (before, after) = (
        &rows[rows.len() / 4..rows.len() / 2],
        &rows[rows.len() / 2..],
    );
    for (name, figure) in FLAT {
        let highest = |rows: &[Row]| rows.iter().map(figure).max().unwrap();
        let (was, is) = (highest(before), highest(after));
        assert!(is <= was + was / 4, "{name}: {was} at most, then {is}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_grows_with_the_data() {
    let rows = grow(Plan {
        commits: 20_000,
        pause: Duration::from_secs(2),
        partitions: 100,
        together: 4,
        keep: 40 * MINUTE,
        row: 500,
        takeover: 500,
    })
    .await;
    assert_flat(&rows);
}

#[tokio::test(start_paused = true)]
#[ignore = "minutes; `make growth`"]
async fn nothing_grows_over_a_million_commits() {
    let rows = grow(Plan {
        commits: 1_000_000,
        pause: Duration::from_millis(100),
        partitions: 1000,
        together: 10,
        keep: 120 * MINUTE,
        row: 25_000,
        takeover: 20_000,
    })
    .await;
    assert_flat(&rows);
    let late = &rows[rows.len() / 2..];
    let memory = |row: &Row| row.memory - row.bucket;
    let (was, is) = (memory(&late[0]), memory(&late[late.len() - 1]));
    assert!(is <= was + was / 4, "memory: {was}, then {is}");
}
