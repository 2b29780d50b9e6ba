//! Compaction of logs on a store in memory, on simulated time.

mod due;
mod examples;
mod model;
mod needed;
mod running;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::task::AbortHandle;

use super::job::CleaningOptions;
use super::*;
use crate::broker::{
    ConfigResource, FetchLimits, FetchPartition, NewTopic, ProducePartition, Session, TopicRef,
};
use crate::dynamic_config::ConfigEdit;
use crate::env::{Env, Hold};
use crate::maintain::{
    JobError, Maintenance, MaintenanceMetrics, MaintenanceOptions, MaintenanceParts,
};
use crate::node::{Node, NodeMetrics, NodeOptions};
use crate::segment::{BatchBuilder, BatchHeader, Batches, Codec, Limits, decode_records};
use crate::state::{Partition, State};
use crate::store::{Store, StoreUrl};
use crate::types::{
    ByteCount, Incarnation, Offset, PartitionIndex, ProducerEpoch, ProducerId, Timestamp,
    TopicPartition,
};

const START: Timestamp = Timestamp(1_700_000_000_000);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Settings with which everything older than a second is cleaned when it is asked for.
const EAGER: &[(&str, &str)] = &[
    ("cleanup.policy", "compact"),
    ("segment.ms", "1000"),
    ("min.cleanable.dirty.ratio", "0"),
];

/// Holds nothing back.
struct Free;

impl Hold for Free {
    fn poll_run(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn started(&self, _: AbortHandle) {}
}

/// A record as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    offset: i64,
    time: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

/// A node without background work, with a topic of one partition, and the job.
struct World {
    node: Node,
    jobs: Maintenance,
    options: CleaningOptions,
}

const DEFAULTS: CleaningOptions = CleaningOptions {
    dedupe_buffer: ByteCount::mib(128),
    target: ByteCount::mib(256),
};

impl World {
    async fn new(configs: &[(&str, &str)]) -> World {
        World::with(configs, &Store::memory(), DEFAULTS).await
    }

    async fn with(configs: &[(&str, &str)], store: &Store, options: CleaningOptions) -> World {
        let world = World::node(5, store, options).await;
        let new = NewTopic {
            name: "t".to_owned(),
            partitions: Some(1),
            configs: configs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())))
                .collect(),
            ..NewTopic::default()
        };
        let broker = world.node.broker();
        let created = broker.create_topics(&session(), vec![new], false).await;
        assert!(created.unwrap()[0].is_ok());
        world
    }

    /// A node on a store that has the topic or will.
    async fn node(seed: u64, store: &Store, options: CleaningOptions) -> World {
        // Held, so that what computes does so on the test's own thread, where rules may be broken.
        let env = Env::simulated(seed, START).held(Arc::new(Free));
        let node_options = NodeOptions::new(StoreUrl::memory(), env.clone());
        let node = Node::start(store.clone(), node_options, &NodeMetrics::default())
            .await
            .unwrap();
        let jobs = Maintenance::new(MaintenanceParts {
            store: store.clone(),
            manifest: node.manifest().clone(),
            incarnation: Incarnation(env.random_uuid()),
            env,
            options: MaintenanceOptions::default(),
            metrics: MaintenanceMetrics::default(),
            busy: Arc::new(|| false),
        });
        World {
            node,
            jobs,
            options,
        }
    }

    fn now(&self) -> Timestamp {
        self.jobs.time()
    }

    fn plan(&self) -> job::Plan<'_> {
        job::Plan::new(&self.jobs, &self.state(), self.id(), self.options).unwrap()
    }

    fn state(&self) -> Arc<State> {
        self.node.manifest().state()
    }

    fn id(&self) -> TopicPartition {
        TopicPartition {
            topic: self.state().topic_by_name("t").unwrap().id(),
            partition: PartitionIndex(0),
        }
    }

    fn partition(&self) -> Partition {
        self.state().partition(self.id()).unwrap().clone()
    }

    async fn set(&self, name: &str, value: &str) {
        let resource = ConfigResource::Topic("t".to_owned());
        let edits = [(name.to_owned(), ConfigEdit::Set(value.to_owned()))].into();
        let broker = self.node.broker();
        broker
            .alter_configs(&session(), &resource, edits, false)
            .await
            .unwrap();
    }

    /// Appends a batch; returns the offset of its first record.
    async fn append(&self, batch: Bytes) -> i64 {
        let wanted =
            ProducePartition::new(TopicRef::Name("t".to_owned()), PartitionIndex(0), batch);
        let timeout = Duration::from_secs(10);
        let broker = self.node.broker();
        let mut produced = broker.produce(&session(), vec![wanted], timeout).await;
        produced.pop().unwrap().unwrap().base_offset.0
    }

    /// Appends keys and values, one batch for all.
    async fn put(&self, records: &[(&str, Option<&str>)]) -> i64 {
        let mut batch = BatchBuilder::new(Codec::None);
        for (key, value) in records {
            let value = value.map(str::as_bytes);
            batch
                .push(self.now(), Some(key.as_bytes()), value, &[])
                .unwrap();
        }
        self.append(batch.finish().unwrap()).await
    }

    async fn clean(&self) -> Result<Option<Cleaning>, JobError> {
        job::clean_with(&self.jobs, self.id(), self.options).await
    }

    async fn fetch(&self, offset: i64, max_bytes: usize) -> Bytes {
        let wanted = FetchPartition {
            topic: TopicRef::Name("t".to_owned()),
            partition: PartitionIndex(0),
            offset: Offset(offset),
            max_bytes,
            current_leader_epoch: None,
        };
        let limits = FetchLimits {
            min_bytes: 1,
            max_bytes,
            max_wait: Duration::ZERO,
            read_committed: false,
        };
        let broker = self.node.broker();
        let mut read = broker.fetch(&session(), &[wanted], limits).await;
        let mut joined = BytesMut::new();
        for piece in read.pop().unwrap().unwrap().records {
            joined.extend_from_slice(&piece);
        }
        joined.freeze()
    }

    /// All that a consumer sees that begins at `offset`.
    async fn read_from(&self, offset: i64) -> Vec<Seen> {
        let mut found = Vec::new();
        let mut next = offset;
        loop {
            let records = self.fetch(next, 1 << 20).await;
            if records.is_empty() {
                return found;
            }
            for batch in batches(&records) {
                let header = BatchHeader::parse(&batch).unwrap();
                let seen = seen(&batch);
                found.extend(seen.into_iter().filter(|record| record.offset >= next));
                next = header.next_offset().0;
            }
        }
    }

    /// All that can be read.
    async fn read(&self) -> Vec<Seen> {
        self.read_from(self.partition().log_start().0).await
    }

    /// Keys and values with their offsets, as text.
    async fn texts(&self) -> Vec<(i64, String, Option<String>)> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        self.read()
            .await
            .into_iter()
            .map(|r| (r.offset, text(r.key.unwrap()), r.value.map(text)))
            .collect()
    }
}

fn session() -> Session {
    Session::internal("test")
}

async fn wait(duration: Duration) {
    tokio::time::sleep(duration).await;
}

fn batches(run: &Bytes) -> Vec<Bytes> {
    Batches::new(run)
        .map(|batch| {
            let batch = batch.unwrap();
            let bytes = batch.slice(run);
            batch.header.check_crc(&bytes).unwrap();
            bytes
        })
        .collect()
}

fn seen(batch: &Bytes) -> Vec<Seen> {
    let limits = Limits {
        max_uncompressed: 1 << 24,
    };
    let records = decode_records(batch, limits).unwrap();
    let base = records.header().base_offset.0;
    records
        .map(|record| {
            let record = record.unwrap();
            Seen {
                offset: base + i64::from(record.offset_delta),
                time: record.timestamp.0,
                key: record.key.map(|key| key.to_vec()),
                value: record.value.map(|value| value.to_vec()),
            }
        })
        .collect()
}

/// Keys and values with their offsets, as text.
fn texts(expected: &[(i64, &str, Option<&str>)]) -> Vec<(i64, String, Option<String>)> {
    expected
        .iter()
        .map(|(offset, key, value)| (*offset, (*key).to_owned(), value.map(str::to_owned)))
        .collect()
}
