//! Jobs on a store in memory, on simulated time.

mod archiving;
mod compacting;
mod crashes;
mod deleting;
mod expiring;
mod repairing;
mod rules;
mod running;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::broker::{
    ConfigResource, FetchLimits, FetchPartition, NewTopic, ProducePartition, Session, TopicRef,
};
use crate::dynamic_config::ConfigEdit;
use crate::env::Env;
use crate::node::{Node, NodeMetrics, NodeOptions};
use crate::segment::{BatchBuilder, Batches, Codec};
use crate::state::op::{Op, Outcome};
use crate::state::{Level, ObjectRef, State};
use crate::store::{ObjectKind, ObjectPath, ObjectPrefix, Store, StoreUrl};
use crate::types::{
    ByteCount, Incarnation, Offset, PartitionIndex, Seq, Timestamp, TopicPartition,
};

const START: Timestamp = Timestamp(1_700_000_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A node without background work of its own, and the jobs that a test runs on it.
struct Worker {
    node: Node,
    env: Env,
    jobs: Maintenance,
}

async fn worker(store: &Store, seed: u64) -> Worker {
    worker_with(store, seed, |_| {}).await
}

async fn worker_with(
    store: &Store,
    seed: u64,
    adapt: impl FnOnce(&mut MaintenanceOptions),
) -> Worker {
    worker_in(store, Env::simulated(seed, START), adapt).await
}

/// A worker whose software knows this level.
async fn worker_at(store: &Store, level: Level) -> Worker {
    let env = Env::simulated(1, START);
    let mut options = node_options(&env);
    options.manifest.level = level;
    worker_of(store, env, options, |_| {}).await
}

async fn worker_in(store: &Store, env: Env, adapt: impl FnOnce(&mut MaintenanceOptions)) -> Worker {
    let options = node_options(&env);
    worker_of(store, env, options, adapt).await
}

fn node_options(env: &Env) -> NodeOptions {
    let mut options = NodeOptions::new(StoreUrl::memory(), env.clone());
    options.manifest.snapshot_every = 8;
    options.ingest.inline_limit = ByteCount::kib(16);
    options
}

async fn worker_of(
    store: &Store,
    env: Env,
    options: NodeOptions,
    adapt: impl FnOnce(&mut MaintenanceOptions),
) -> Worker {
    let node = Node::start(store.clone(), options, &NodeMetrics::default())
        .await
        .unwrap();
    let mut options = MaintenanceOptions::default();
    adapt(&mut options);
    let jobs = Maintenance::new(MaintenanceParts {
        store: store.clone(),
        manifest: node.manifest().clone(),
        env: env.clone(),
        incarnation: Incarnation(env.random_uuid()),
        options,
        metrics: MaintenanceMetrics::default(),
        busy: Arc::new(|| false),
    });
    Worker { node, env, jobs }
}

fn session() -> Session {
    Session::internal("test")
}

impl Worker {
    async fn topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let new = NewTopic {
            name: name.to_owned(),
            partitions: Some(partitions),
            configs: configs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())))
                .collect(),
            ..NewTopic::default()
        };
        let broker = self.node.broker();
        let created = broker.create_topics(&session(), vec![new], false).await;
        assert!(created.unwrap()[0].is_ok());
    }

    async fn set(&self, topic: &str, name: &str, value: &str) {
        let resource = ConfigResource::Topic(topic.to_owned());
        let edits = [(name.to_owned(), ConfigEdit::Set(value.to_owned()))].into();
        let broker = self.node.broker();
        let altered = broker
            .alter_configs(&session(), &resource, edits, false)
            .await;
        altered.unwrap();
    }

    /// Appends a batch of two records of that many bytes together, made just now.
    async fn produce(&self, topic: &str, partition: i32, size: usize) -> Offset {
        self.produce_batch(topic, partition, batch(self.env.wall(), size))
            .await
    }

    async fn produce_batch(&self, topic: &str, partition: i32, records: Bytes) -> Offset {
        let wanted = ProducePartition::new(
            TopicRef::Name(topic.to_owned()),
            PartitionIndex(partition),
            records,
        );
        let timeout = Duration::from_secs(10);
        let broker = self.node.broker();
        let mut produced = broker.produce(&session(), vec![wanted], timeout).await;
        produced.pop().unwrap().unwrap().base_offset
    }

    /// Appends enough at once for a segment of its own. Returns it.
    async fn produce_segment(&self, topic: &str, partition: i32) -> ObjectRef {
        self.produce(topic, partition, 40_000).await;
        let state = self.node.manifest().state();
        let id = self.partition(topic, partition);
        let last = state.partition(id).unwrap().slices_from(Offset(0)).last();
        let object = last.unwrap().1.object;
        assert!(matches!(object, ObjectRef::Segment(_)), "{object:?}");
        object
    }

    async fn delete_records(&self, topic: &str, partition: i32, before: i64) {
        let op = Op::DeleteRecords {
            partition: self.partition(topic, partition),
            before: Some(Offset(before)),
        };
        self.commit(op).await.unwrap();
    }

    async fn commit(&self, op: Op) -> Outcome {
        self.node.manifest().commit_one(op).await.unwrap()
    }

    fn partition(&self, topic: &str, partition: i32) -> TopicPartition {
        let state = self.node.manifest().state();
        TopicPartition {
            topic: state.topic_by_name(topic).unwrap().id(),
            partition: PartitionIndex(partition),
        }
    }

    fn state(&self) -> Arc<State> {
        self.node.manifest().state()
    }

    fn log_start(&self, topic: &str, partition: i32) -> i64 {
        let id = self.partition(topic, partition);
        self.state().partition(id).unwrap().log_start().0
    }

    /// Every batch of a partition from its log start on: base offset, and the record count.
    async fn read(&self, topic: &str, partition: i32) -> Vec<(i64, i32)> {
        let mut found = Vec::new();
        let mut next = Offset(self.log_start(topic, partition));
        loop {
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
            let read = broker.fetch(&session(), &[wanted], limits).await;
            let read = read.into_iter().next().unwrap().unwrap();
            if read.is_empty() {
                return found;
            }
            for batch in read.records.iter().flat_map(|run| Batches::new(run)) {
                let header = batch.unwrap().header;
                found.push((header.base_offset.0, header.record_count));
                next = header.next_offset();
            }
        }
    }
}

fn batch(time: Timestamp, size: usize) -> Bytes {
    let mut batch = BatchBuilder::new(Codec::None);
    for n in 0..2 {
        let value = vec![n; size / 2];
        batch.push(time, None, Some(&value), &[]).unwrap();
    }
    batch.finish().unwrap()
}

async fn wait(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// The names of all objects of a folder.
async fn names(store: &Store, prefix: ObjectPrefix) -> BTreeSet<ObjectPath> {
    let listed = store.list(prefix, None, 100_000).await.unwrap();
    listed.into_iter().map(|meta| meta.path).collect()
}

/// Every object that the state needs is in the bucket (I10), and no commit is gone without a boundary that says so.
async fn assert_nothing_is_missing(store: &Store, state: &State) {
    let all = names(store, ObjectPrefix::All).await;
    for (object, _) in state.live_objects() {
        assert!(all.contains(&deletion::path_of(object)), "{object:?}");
    }
    let boundary = all.iter().filter_map(|path| match path.kind() {
        ObjectKind::Boundary(seq) => Some(seq),
        _ => None,
    });
    let boundary = boundary.max().unwrap_or_default();
    assert!(boundary <= state.log_boundary());
    for seq in boundary.0 + 1..=state.seq().0 {
        let path = ObjectPath::commit(Seq(seq));
        assert!(
            all.contains(&path),
            "{path} is gone, and the boundary is {boundary}"
        );
    }
}

/// What the bucket holds that nobody needs: neither the state nor a reader of what died lately.
async fn leftovers(w: &Worker, store: &Store) -> Vec<ObjectPath> {
    let all = names(store, ObjectPrefix::All).await;
    let (state, grace) = (w.state(), w.jobs.options().deletion_grace);
    let needed = |object| {
        let readable = |death: crate::state::Dead| w.env.wall() < death.since.after(grace);
        state.is_live(object) || state.death_of(object).is_some_and(readable)
    };
    let is_left = |path: &ObjectPath| match path.kind() {
        ObjectKind::Segment(id) => !needed(ObjectRef::Segment(id)),
        ObjectKind::Commit(seq) => seq <= state.log_truncated() && !needed(ObjectRef::Commit(seq)),
        _ => false,
    };
    all.into_iter().filter(is_left).collect()
}
