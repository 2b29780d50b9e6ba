use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::task::AbortHandle;

use super::*;
use crate::broker::{NewTopic, Session};
use crate::env::{Env, Hold};
use crate::store::StoreUrl;
use crate::store::simulated::{Bucket, Fate, Network, Reply, Verb};
use crate::types::Timestamp;

/// Holds nothing back; every part of a node that can start a task has it.
struct Free;

impl Hold for Free {
    fn poll_run(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn started(&self, _: AbortHandle) {}
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_stopped_leaves_nothing_in_memory() {
    let hold: Arc<dyn Hold> = Arc::new(Free);
    let env = Env::simulated(1, Timestamp(1_700_000_000_000)).held(hold.clone());
    let mut options = NodeOptions::new(StoreUrl::memory(), env);
    options.maintenance = Some(crate::maintain::MaintenanceOptions::default());
    let node = Node::start(Store::memory(), options, &NodeMetrics::default())
        .await
        .unwrap();
    let topic = NewTopic {
        name: "t".to_owned(),
        partitions: Some(1),
        ..NewTopic::default()
    };
    let session = Session::internal("test");
    let created = node
        .broker()
        .create_topics(&session, vec![topic], false)
        .await;
    created.unwrap().pop().unwrap().unwrap();
    node.stop(Duration::from_secs(10)).await;
    // What was told to end gets to it.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(Arc::strong_count(&hold), 1);
}

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
    let time = || node.manifest().state().time();
    for jump in [86_400_000, -86_400_000, 5_600] {
        let before = time();
        off.store(jump, Ordering::Relaxed);
        let refused = create("wrong").await;
        let says = format!("{refused:?}");
        assert!(says.contains("Clock("), "{says}");
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
