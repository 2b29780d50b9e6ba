//! Clocks that differ, that jump, and that have jumped.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use tokio::time::timeout;

use super::*;
use crate::broker::{
    CommitOffset, GroupOpError, Identity, JoinRequest, LeavingMember, ProducePartition,
    SyncRequest, TopicRef,
};
use crate::maintain::MaintenanceOptions;
use crate::rules::{Rule, assert_needed};
use crate::segment::{BatchBuilder, Codec};
use crate::state::op::Op;
use crate::state::{Level, State};
use crate::testing::simulated::{Bucket, Fate, Network, Reply, Verb};
use crate::types::{GroupId, Offset, PartitionIndex, TopicPartition};

const START: Timestamp = Timestamp(1_700_000_000_000);

/// A node whose wall clock is off by so much, registered.
async fn node_off_by(store: &Store, seed: u64, millis: i64) -> Node {
    let env = Env::simulated(seed, Timestamp(START.0 + millis));
    let options = NodeOptions::new(StoreUrl::memory(), env);
    let node = Node::start(store.clone(), options, &NodeMetrics::default())
        .await
        .unwrap();
    let endpoint = ("kafka".to_owned(), format!("127.0.0.1:{seed}"));
    let registered = node.broker().register([endpoint].into(), None).await;
    registered.unwrap();
    node
}

/// Which runs are registered under which id, since when.
fn registrations(node: &Node) -> Vec<(crate::types::NodeId, Incarnation, Timestamp)> {
    let state = node.manifest().state();
    let registered = state.nodes();
    registered
        .map(|(id, node)| (id, node.incarnation(), node.registered_at()))
        .collect()
}

/// Issue 12, A4: the slower one registered anew six to twelve times in two minutes, and its id went to the other.
#[tokio::test(start_paused = true)]
async fn nodes_whose_clocks_are_as_far_apart_as_allowed_leave_each_other_registered() {
    for (clients_of_slow, clients_of_fast) in [(1, 1), (1, 0), (0, 1), (0, 0)] {
        let store = Store::memory();
        let slow = node_off_by(&store, 1, -4_900).await;
        let fast = node_off_by(&store, 2, 4_900).await;
        let present = |node: &Node, count: usize| {
            let broker = node.broker().clone();
            (0..count)
                .map(move |_| broker.client_arrived())
                .collect::<Vec<_>>()
        };
        let _clients = (
            present(&slow, clients_of_slow),
            present(&fast, clients_of_fast),
        );
        slow.manifest().fresh().await.unwrap();
        let registered = registrations(&slow);
        assert_eq!(registered.len(), 2);
        for second in 0..600 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let fresh = fast.manifest().fresh().await.unwrap();
            let now = registrations(&fast);
            let clients = (clients_of_slow, clients_of_fast);
            assert_eq!(
                now,
                registered,
                "after {second} s with {clients:?} clients: {:?}",
                fresh.seq()
            );
        }
    }
}

/// A bucket that tells its clock, as over HTTP.
struct Dated {
    began: tokio::time::Instant,
    requests: AtomicU64,
}

impl Network for Dated {
    fn send(&self, _: u64, _: Verb, _: &str, _: usize) -> Fate {
        Fate {
            arrives: Duration::from_millis(5),
            applied: true,
            again: None,
            answer: Reply::First,
            returns: Duration::from_millis(5),
        }
    }

    fn written(&self, _: &str, _: &bytes::Bytes) {}

    fn applied(&self, _: u64, _: &str) {}

    fn date(&self) -> Option<Timestamp> {
        let now = START.after(self.began.elapsed()).0;
        Some(Timestamp(now - now % 1_000))
    }

    fn next(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }
}

/// A machine whose wall clock somebody sets.
struct Machine {
    began: tokio::time::Instant,
    off: Arc<AtomicI64>,
}

impl crate::env::Clock for Machine {
    fn wall(&self) -> Timestamp {
        let now = START.after(self.began.elapsed()).0;
        Timestamp(now + self.off.load(Ordering::Relaxed))
    }

    fn boot(&self) -> Duration {
        self.began.elapsed() + Duration::from_secs(1)
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_clock_jumps_makes_no_changes_until_it_is_right_again() {
    let began = tokio::time::Instant::now();
    let off = Arc::new(AtomicI64::new(0));
    let clock = Machine {
        began,
        off: off.clone(),
    };
    let env = Env::new(Arc::new(clock), rand::SeedableRng::seed_from_u64(1));
    let network = Arc::new(Dated {
        began,
        requests: AtomicU64::default(),
    });
    let options = NodeOptions::new(StoreUrl::memory(), env);
    let store = Bucket::default().behind(network, options.store.clone());
    let node = Node::start(store, options, &NodeMetrics::default())
        .await
        .unwrap();
    let session = Session::internal("test");
    let create = async |name: &str| {
        let topic = NewTopic {
            name: name.to_owned(),
            partitions: Some(1),
            ..NewTopic::default()
        };
        let created = node.broker().create_topics(&session, vec![topic], false);
        created.await.map(|mut all| all.pop().unwrap())
    };
    create("right").await.unwrap().unwrap();
    // The store tells whole seconds: the more answers, the better its clock is known.
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(333)).await;
        node.manifest().fresh().await.unwrap();
    }
    let time = || node.manifest().state().time();
    for jump in [86_400_000, -86_400_000, 5_600] {
        let before = time();
        off.store(jump, Ordering::Relaxed);
        let refused = create("wrong").await;
        let says = format!("{refused:?}");
        assert!(says.contains("Clock("), "by {jump} ms: {says}");
        assert!(node.manifest().judge_clock().is_err());
        // What only looks goes on.
        node.manifest().fresh().await.unwrap();
        assert_eq!(time(), before);
        off.store(0, Ordering::Relaxed);
        node.manifest().judge_clock().unwrap();
        create(&format!("after{jump}")).await.unwrap().unwrap();
        assert!(time().since(before) < Duration::from_secs(5));
    }
}

const WEEK_AND_DAY: i64 = 8 * 24 * 3_600_000;
const HOUR: Duration = Duration::from_secs(3_600);
/// How long what takes no time may take.
const SOON: Duration = Duration::from_secs(10);

/// A process that can be killed.
#[derive(Default)]
struct Process(Mutex<Vec<AbortHandle>>);

impl Hold for Process {
    fn poll_run(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn started(&self, task: AbortHandle) {
        self.tasks().push(task);
    }
}

impl Process {
    fn tasks(&self) -> std::sync::MutexGuard<'_, Vec<AbortHandle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kill(&self) {
        self.tasks().iter().for_each(AbortHandle::abort);
    }
}

/// A registered node that does everything, of that level.
async fn member_of(store: &Store, level: Level, seed: u64, off: i64) -> (Node, Arc<Process>) {
    let process = Arc::new(Process::default());
    let env = Env::simulated(seed, Timestamp(START.0 + off)).held(process.clone());
    let mut options = NodeOptions::new(StoreUrl::memory(), env);
    options.manifest.level = level;
    options.maintenance = Some(MaintenanceOptions::default());
    let node = Node::start(store.clone(), options, &NodeMetrics::default())
        .await
        .unwrap();
    let endpoint = ("kafka".to_owned(), format!("127.0.0.1:{seed}"));
    let registered = node.broker().register([endpoint].into(), None).await;
    registered.unwrap();
    (node, process)
}

/// Stores one record with so many bytes, and tells where.
async fn produce(node: &Node, len: usize) -> Offset {
    let mut batch = BatchBuilder::new(Codec::None);
    batch.push(START, None, Some(&vec![7; len]), &[]).unwrap();
    let topic = TopicRef::Name("t".to_owned());
    let produce = ProducePartition::new(topic, PartitionIndex(0), batch.finish().unwrap());
    let session = Session::internal("producer");
    let produced = node.broker().produce(&session, vec![produce], SOON);
    produced.await.pop().unwrap().unwrap().base_offset
}

/// A consumer joins the group, alone, commits an offset, and leaves.
async fn consume(node: &Node, group: &str, partition: TopicPartition, offset: i64) {
    let (broker, session) = (node.broker(), Session::internal("consumer"));
    let _present = broker.client_arrived();
    let group = GroupId::new(group).unwrap();
    let mut request = JoinRequest {
        group: group.clone(),
        member: None,
        instance: None,
        session_timeout: SOON,
        rebalance_timeout: SOON,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), Bytes::from_static(b"m"))],
        require_known_member: true,
        supports_skip_assignment: true,
    };
    let Err(GroupOpError::MemberIdRequired(id)) =
        broker.join_group(&session, request.clone()).await
    else {
        panic!("a member gets an id first");
    };
    request.member = Some(id);
    let joined = broker.join_group(&session, request).await.unwrap();
    let identity = Identity {
        group: group.clone(),
        member: joined.member.clone(),
        instance: None,
        generation: joined.generation,
    };
    let sync = SyncRequest {
        identity: identity.clone(),
        protocol_type: Some("consumer".into()),
        protocol: Some("range".into()),
        assignments: vec![(joined.member.clone(), Bytes::from_static(b"all"))],
    };
    broker.sync_group(&session, sync).await.unwrap();
    let commit = CommitOffset {
        partition,
        offset: Offset(offset),
        leader_epoch: None,
        metadata: None,
    };
    let committed = broker.commit_offsets(&session, &identity, vec![commit]);
    committed.await.unwrap().pop().unwrap().unwrap();
    let leaving = LeavingMember {
        member: Some(joined.member),
        instance: None,
    };
    let left = broker.leave_group(&session, &group, vec![leaving]);
    left.await.unwrap().pop().unwrap().unwrap();
}

fn offset(state: &State, group: &str, partition: TopicPartition) -> Option<Offset> {
    let group = state.group(&GroupId::new(group).unwrap())?;
    let offset = group.offsets().find(|(of, _)| *of == partition);
    offset.map(|(_, offset)| offset.offset)
}

/// Issue 12, A3. A node whose clock is eight days ahead takes part; before the level of bounded time for a moment, from
/// then on for as long as the rest lasts.
async fn a_clock_that_is_eight_days_ahead(level: Level) {
    let store = Store::memory();
    let (node, _process) = member_of(&store, level, 1, 0).await;
    let topic = NewTopic {
        name: "t".to_owned(),
        partitions: Some(1),
        ..NewTopic::default()
    };
    let session = Session::internal("admin");
    let created = node.broker().create_topics(&session, vec![topic], false);
    let topic = created.await.unwrap().pop().unwrap().unwrap();
    let partition = TopicPartition {
        topic: topic.id,
        partition: PartitionIndex(0),
    };
    assert_eq!(produce(&node, 100).await, Offset(0));
    consume(&node, "before", partition, 1).await;

    let (ahead, _ahead_s_process) = member_of(&store, level, 2, WEEK_AND_DAY).await;
    let bounded = level == Level::NEWEST;
    let sweep = Op::RaiseSweepBoundary {
        before: Timestamp(START.0 + WEEK_AND_DAY - 60_000),
    };
    let swept = ahead.manifest().commit_one(sweep).await.unwrap();
    assert_eq!(swept.is_err(), bounded, "{swept:?}");
    let ahead = match bounded {
        true => Some(ahead),
        false => {
            ahead.stop(SOON).await;
            None
        }
    };
    let state = node.manifest().fresh().await.unwrap();
    let jumped = state.time().since(START);
    assert_eq!(jumped < 2 * SOON, bounded, "{jumped:?}");

    // In a segment of its own, which the sweep boundary does not refuse.
    assert_eq!(produce(&node, 1_000_000).await, Offset(1));
    let group = consume(&node, "after", partition, 2);
    timeout(SOON, group).await.expect("time stands still");
    let (dead, its_process) = member_of(&store, level, 3, 0).await;
    its_process.kill();
    tokio::time::sleep(HOUR).await;
    assert_eq!(produce(&node, 1_000_000).await, Offset(2));
    drop((dead, ahead));

    let state = node.manifest().fresh().await.unwrap();
    let registered: Vec<String> = state
        .nodes()
        .map(|(_, node)| node.endpoints()["kafka"].clone())
        .collect();
    assert!(
        !registered.contains(&"127.0.0.1:3".to_owned()),
        "a dead node stays: {registered:?}"
    );
    assert_eq!(offset(&state, "before", partition), Some(Offset(1)));
    assert_eq!(offset(&state, "after", partition), Some(Offset(2)));
    let log = state.partition(partition).unwrap();
    assert_eq!(log.log_start(), Offset(0), "retention is seven days");
}

fn on_simulated_time(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(test);
}

fn a_log_that_is_eight_days_ahead_stops_nothing_and_destroys_nothing() {
    on_simulated_time(a_clock_that_is_eight_days_ahead(Level::FIRST));
}

fn a_clock_that_stays_eight_days_ahead_stops_nothing_and_destroys_nothing() {
    on_simulated_time(a_clock_that_is_eight_days_ahead(Level::NEWEST));
}

#[test]
fn a_clock_that_jumped_ahead_poisons_nothing() {
    a_log_that_is_eight_days_ahead_stops_nothing_and_destroys_nothing();
    a_clock_that_stays_eight_days_ahead_stops_nothing_and_destroys_nothing();
    assert_needed(&[
        (
            Rule::TimeKeepsRunning,
            a_log_that_is_eight_days_ahead_stops_nothing_and_destroys_nothing,
        ),
        (
            Rule::SegmentsAreNamedByClusterTime,
            a_log_that_is_eight_days_ahead_stops_nothing_and_destroys_nothing,
        ),
        (
            Rule::TimeIsBounded,
            a_clock_that_stays_eight_days_ahead_stops_nothing_and_destroys_nothing,
        ),
        (
            Rule::DestructionDistrustsWallClock,
            a_clock_that_stays_eight_days_ahead_stops_nothing_and_destroys_nothing,
        ),
    ]);
}
