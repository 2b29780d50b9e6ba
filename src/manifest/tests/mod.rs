//! The commit loop on stores with faults, in simulated time.

mod abandoned;
mod chunks;
mod diverging;
mod fixtures;
mod forwarding;
mod pipeline;
mod snapshots;
mod truncation;

pub(crate) use super::parts::tests::snapshot_of_bytes;

/// The object of a commit of nothing, with that number among those of a node that is not there, which was sent while
/// the one that it follows was under way.
pub(crate) fn empty_commit(counter: u64, follows: Option<u64>) -> Bytes {
    let commit = Commit {
        id: CommitId {
            incarnation: Incarnation(Uuid::from_u128(1)),
            counter,
        },
        time: Timestamp(1_700_000_000_000),
        ops: Vec::new(),
        follows,
        forwarded: Vec::new(),
        wall: None,
        log: LogId::ZERO,
    };
    encode_commit(&commit, Bytes::new()).unwrap()
}

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::{Duration, Instant};
use uuid::Uuid;

use super::*;
use crate::env::Env;
use crate::state::op::{Applied, Commit, CreateTopic, Op, Rejected};
use crate::store::{ObjectPath, ObjectPrefix, RequestKind, Store};
use crate::testing::{Fault, Faulty};
use crate::types::{CommitId, Incarnation, LogId, ProducerId, Seq, Timestamp, TopicId, TopicName};
use tokio_util::sync::CancellationToken;

/// A node's manifest with its task running until the guard is dropped.
struct Running {
    manifest: Manifest,
    metrics: ManifestMetrics,
    _stop: tokio_util::sync::DropGuard,
}

async fn start(store: &Store, seed: u64) -> Running {
    start_with(store, seed, ManifestOptions::default()).await
}

async fn start_with(store: &Store, seed: u64, options: ManifestOptions) -> Running {
    start_in(store, Env::simulated(seed, Timestamp(1_000_000)), options).await
}

async fn start_in(store: &Store, env: Env, options: ManifestOptions) -> Running {
    let incarnation = Incarnation(env.random_uuid());
    let metrics = ManifestMetrics::default();
    let (manifest, tail, _) = open(
        store.clone(),
        env,
        options,
        metrics.clone(),
        Arc::new(|_, _| {}),
        incarnation,
    )
    .await
    .unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(tail.run(stop.clone()));
    Running {
        manifest,
        metrics,
        _stop: stop.drop_guard(),
    }
}

fn create_topic(name: &str, id: u128) -> Op {
    Op::CreateTopic(CreateTopic {
        id: TopicId(Uuid::from_u128(id)),
        name: TopicName::new(name).unwrap(),
        partitions: 1,
        configs: BTreeMap::new(),
        replicas: None,
    })
}

#[tokio::test(start_paused = true)]
async fn what_one_node_commits_the_other_sees_at_the_next_fresh_state() {
    let store = Store::memory();
    let (a, b) = (start(&store, 1).await, start(&store, 2).await);
    a.manifest.commit(vec![create_topic("t", 1)]).await.unwrap();
    assert!(b.manifest.state().topic_by_name("t").is_none());
    assert!(
        b.manifest
            .fresh()
            .await
            .unwrap()
            .topic_by_name("t")
            .is_some()
    );
}

#[tokio::test(start_paused = true)]
async fn of_two_nodes_that_create_one_topic_one_is_told_that_it_exists() {
    let store = Store::memory();
    let (a, b) = (start(&store, 1).await, start(&store, 2).await);
    let (first, second) = tokio::join!(
        a.manifest.commit_one(create_topic("t", 1)),
        b.manifest.commit_one(create_topic("t", 2)),
    );
    let outcomes = [first.unwrap(), second.unwrap()];
    assert_eq!(
        outcomes.iter().filter(|o| **o == Ok(Applied::Done)).count(),
        1
    );
    let exists = |o: &&_| matches!(o, Err(Rejected::TopicExists(_)));
    assert_eq!(outcomes.iter().filter(exists).count(), 1);
    let states = [
        a.manifest.fresh().await.unwrap(),
        b.manifest.fresh().await.unwrap(),
    ];
    assert_eq!(states[0].to_bytes(), states[1].to_bytes());
}

#[tokio::test(start_paused = true)]
async fn many_writers_lose_no_op_and_agree_on_every_byte() {
    let store = Store::memory();
    let mut nodes = Vec::new();
    for seed in 0..4 {
        nodes.push(start(&store, seed).await);
    }
    let tasks: Vec<_> = (0..100u128)
        .map(|n| {
            let manifest = nodes[(n % 4) as usize].manifest.clone();
            tokio::spawn(async move {
                manifest
                    .commit_one(create_topic(&format!("t{n}"), n + 1))
                    .await
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap(), Ok(Applied::Done));
    }
    let mut bytes = Vec::new();
    for node in &nodes {
        let state = node.manifest.fresh().await.unwrap();
        assert_eq!(state.topics().count(), 100);
        bytes.push(state.to_bytes());
    }
    assert!(bytes.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test(start_paused = true)]
async fn a_node_starts_from_the_newest_snapshot_and_superfluous_ones_are_deleted() {
    let store = Store::memory();
    let options = ManifestOptions {
        snapshot_every: 8,
        ..ManifestOptions::default()
    };
    let a = start_with(&store, 1, options).await;
    for n in 1..=100 {
        a.manifest
            .commit(vec![create_topic(&format!("t{n}"), n)])
            .await
            .unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let snapshots = store
        .list(ObjectPrefix::Snapshots, None, 1000)
        .await
        .unwrap();
    assert!((1..=5).contains(&snapshots.len()), "{snapshots:?}");
    let reads = |store: &Store| store.metrics().requests(RequestKind::CommitProbe);
    let before = reads(&store);
    let b = start(&store, 2).await;
    assert_eq!(b.manifest.state().topics().count(), 100);
    assert_eq!(
        b.manifest.state().to_bytes(),
        a.manifest.fresh().await.unwrap().to_bytes()
    );
    assert!(
        reads(&store) - before < 70,
        "{} reads",
        reads(&store) - before
    );
}

#[tokio::test(start_paused = true)]
async fn a_corrupt_commit_halts_the_fold_and_names_the_object() {
    let store = Store::memory();
    let a = start(&store, 1).await;
    a.manifest.commit(vec![create_topic("t", 1)]).await.unwrap();
    let path = ObjectPath::commit(Seq(2));
    store
        .put_unique(&path, b"WEIRgarbage".to_vec(), RequestKind::CommitPut)
        .await
        .unwrap();
    let error = a
        .manifest
        .commit(vec![create_topic("u", 2)])
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Stopped::Halted(why) if why.contains(path.as_str())),
        "{error}"
    );
    assert_eq!(a.manifest.fresh().await.unwrap_err(), error);
}

#[tokio::test(start_paused = true)]
async fn an_idle_node_asks_the_store_nothing_and_a_following_one_hears_of_commits() {
    let store = Store::memory();
    let (a, b) = (start(&store, 1).await, start(&store, 2).await);
    let probes = store.metrics().requests(RequestKind::CommitProbe);
    tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
    assert_eq!(store.metrics().requests(RequestKind::CommitProbe), probes);
    let guard = b.manifest.follow();
    let mut states = b.manifest.subscribe();
    a.manifest.commit(vec![create_topic("t", 1)]).await.unwrap();
    states
        .wait_for(|state| state.topic_by_name("t").is_some())
        .await
        .unwrap();
    drop(guard);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_comes_back_after_an_hour_is_noticed_within_seconds() {
    for fault in [Fault::Fails, Fault::Hangs] {
        let (store, gone) = Faulty::switched(fault);
        let node = start(&store, 1).await;
        gone.set(true);
        let manifest = node.manifest.clone();
        let commit = tokio::spawn(async move { manifest.commit(vec![create_topic("t", 1)]).await });
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(!commit.is_finished());
        gone.set(false);
        let back = Instant::now();
        commit.await.unwrap().unwrap();
        let took = back.elapsed();
        assert!(took < Duration::from_secs(14), "{fault:?}: {took:?}");
    }
}

/// A tenth of the requests fails before it is applied, a tenth after it.
fn unreliable(seed: u64) -> impl Fn(usize) -> Fault + Send + Sync + 'static {
    move |request| {
        let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ request as u64;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        match (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 32 & 0xff {
            0..26 => Fault::Fails,
            26..52 => Fault::AnswerLost,
            _ => Fault::None,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_becomes_of_requests_every_op_is_folded_once() {
    for seed in 0..20 {
        let (store, _) = Faulty::store(unreliable(seed));
        let mut nodes = Vec::new();
        for node in 0..3 {
            nodes.push(start(&store, seed * 10 + node).await);
        }
        let tasks: Vec<_> = (0..60)
            .map(|n| {
                let manifest = nodes[n % 3].manifest.clone();
                let op = Op::AllocateProducerIds { count: 1 };
                tokio::spawn(async move { manifest.commit_one(op).await })
            })
            .collect();
        let mut ids = Vec::new();
        for task in tasks {
            match task.await.unwrap().unwrap() {
                Ok(Applied::ProducerIds(id)) => ids.push(id.0),
                other => panic!("seed {seed}: {other:?}"),
            }
        }
        ids.sort_unstable();
        assert_eq!(ids, (0..60).collect::<Vec<_>>(), "seed {seed}");
        let mut states = Vec::new();
        for node in &nodes {
            states.push(node.manifest.fresh().await.unwrap());
        }
        let newest = states.iter().map(|state| state.seq()).max().unwrap();
        let same: Vec<_> = states
            .iter()
            .filter(|state| state.seq() == newest)
            .map(|s| s.to_bytes())
            .collect();
        assert!(
            same.windows(2).all(|pair| pair[0] == pair[1]),
            "seed {seed}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn commits_of_a_node_begin_at_least_the_interval_apart_but_a_lone_one_at_once() {
    let interval = std::time::Duration::from_millis(100);
    let options = ManifestOptions {
        commit_interval: interval,
        ..ManifestOptions::default()
    };
    let a = start_with(&Store::memory(), 1, options).await;
    let took = async || {
        let began = tokio::time::Instant::now();
        a.manifest
            .commit_one(Op::AllocateProducerIds { count: 1 })
            .await
            .unwrap()
            .unwrap();
        began.elapsed()
    };
    assert!(took().await < interval / 10);
    let second = took().await;
    assert!(
        (interval * 9 / 10..interval * 2).contains(&second),
        "{second:?}"
    );
    tokio::time::sleep(interval * 2).await;
    assert!(took().await < interval / 10);
}

#[tokio::test(start_paused = true)]
async fn who_has_time_for_a_fresh_state_costs_a_probe_only_if_no_commit_brings_it() {
    let store = Store::memory();
    let (a, b) = (start(&store, 1).await, start(&store, 2).await);
    let probes = || store.metrics().requests(RequestKind::CommitProbe);
    let wait = Duration::from_millis(500);

    let (before, due) = (probes(), Instant::now() + wait);
    let commit = async {
        tokio::time::sleep(wait / 2).await;
        a.manifest.commit(vec![create_topic("t", 1)]).await.unwrap()
    };
    let (fresh, _) = tokio::join!(a.manifest.fresh_by(due), commit);
    assert!(fresh.unwrap().topic_by_name("t").is_some());
    assert!(Instant::now() < due);
    assert_eq!(probes(), before);

    b.manifest.commit(vec![create_topic("u", 2)]).await.unwrap();
    let (before, due) = (probes(), Instant::now() + wait);
    let fresh = a.manifest.fresh_by(due).await.unwrap();
    assert!(fresh.topic_by_name("u").is_some());
    assert!(Instant::now() >= due);
    assert!(probes() > before);

    // Who does not wait any more costs nothing.
    let (before, due) = (probes(), Instant::now() + wait);
    let gone = tokio::time::timeout(wait / 2, a.manifest.fresh_by(due)).await;
    assert!(gone.is_err());
    tokio::time::sleep(wait).await;
    assert_eq!(probes(), before);
}

#[tokio::test(start_paused = true)]
async fn a_fold_that_panics_tells_all_who_wait() {
    let store = Store::memory();
    let env = Env::simulated(1, Timestamp(1_000_000));
    let incarnation = Incarnation(env.random_uuid());
    // It is told of each commit before its state is published.
    let panics: WriteThrough = Arc::new(|seq, _| assert_ne!(seq, Seq(2), "a panic on purpose"));
    let (options, metrics) = (ManifestOptions::default(), ManifestMetrics::default());
    let opened = open(store, env, options, metrics, panics, incarnation).await;
    let (manifest, tail, _) = opened.unwrap();
    let running = tokio::spawn(tail.run(CancellationToken::new()));
    manifest.commit(vec![create_topic("t", 1)]).await.unwrap();
    let asks = [2, 3, 4].map(|n| {
        let manifest = manifest.clone();
        tokio::spawn(async move {
            let ops = vec![create_topic(&format!("t{n}"), n)];
            manifest.commit(ops).await.map(|_| ())
        })
    });
    let halted = |told: &Result<(), Stopped>| matches!(told, Err(Stopped::Halted(_)));
    for ask in asks {
        let told = tokio::time::timeout(Duration::from_secs(5), ask).await;
        let told = told.unwrap().unwrap();
        assert!(halted(&told), "{told:?}");
    }
    assert!(halted(&running.await.unwrap()));
    assert!(halted(&manifest.fresh().await.map(|_| ())));
}
