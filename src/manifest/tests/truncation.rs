//! A node that sleeps while the log is truncated, and everything that it may be about to believe when it wakes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::*;
use crate::env::Env;
use crate::state::op::{Applied, CreateTopic, Op};
use crate::state::{TAIL_PROOF_LIFE, TRUNCATION_AGE};
use crate::store::{Created, ObjectPath, ObjectPrefix, RequestKind, Store};
use crate::types::{Seq, Timestamp, TopicId, TopicName};

async fn start(store: &Store, seed: u64) -> Running {
    let env = Env::simulated(seed, Timestamp(1_700_000_000_000));
    let options = ManifestOptions {
        snapshot_every: 4,
        ..ManifestOptions::default()
    };
    start_in(store, env, options).await
}

fn create_topic(name: &str) -> Op {
    Op::CreateTopic(CreateTopic {
        id: TopicId(Uuid::from_u128(crc32c::crc32c(name.as_bytes()).into())),
        name: TopicName::new(name).unwrap(),
        partitions: 1,
        configs: Default::default(),
        replicas: None,
    })
}

impl Running {
    async fn create(&self, name: &str) -> Result<Committed, Stopped> {
        self.manifest.commit(vec![create_topic(name)]).await
    }

    /// Commits enough for a snapshot, waits until it is of age, and deletes the log behind it.
    async fn truncate(&self, store: &Store) -> Seq {
        for n in 0..9 {
            self.create(&format!("filler-{n}")).await.unwrap();
        }
        tokio::time::sleep(TRUNCATION_AGE + Duration::from_secs(1)).await;
        // Time in the fold goes on with a commit.
        let state = self.create("later").await.unwrap().state;
        let to = state.log_boundary_limit();
        assert!(Seq(4) <= to, "no snapshot was taken: {to}");
        let raised = self.manifest.commit_one(Op::RaiseLogBoundary { to });
        assert_eq!(raised.await.unwrap(), Ok(Applied::Done));
        let boundary = ObjectPath::boundary(to);
        let created = store.create(&boundary, Bytes::from_static(b"-"), RequestKind::CommitPut);
        assert!(matches!(created.await.unwrap(), Created::Created));
        let log = (1..=to.0).map(|seq| ObjectPath::commit(Seq(seq))).collect();
        store.delete(log).await.unwrap();
        // A snapshot may be under way; its op follows.
        tokio::time::sleep(Duration::from_secs(1)).await;
        to
    }

    fn names(&self) -> usize {
        self.manifest.state().topics().count()
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_slept_does_not_take_a_free_name_for_the_end_of_the_log() {
    let store = Store::memory();
    let (awake, sleeper) = (start(&store, 1).await, start(&store, 2).await);
    awake.truncate(&store).await;
    assert_eq!(sleeper.names(), 0);
    let state = sleeper.manifest.fresh().await.unwrap();
    assert_eq!(state.to_bytes(), awake.manifest.state().to_bytes());
    assert_eq!(sleeper.metrics.started_over.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_starts_over_does_not_write_where_a_commit_is_missing() {
    let store = Store::memory();
    let (awake, sleeper) = (start(&store, 1).await, start(&store, 2).await);
    awake.truncate(&store).await;
    let mut n = 0;
    let gap = loop {
        awake.create(&format!("more-{n}")).await.unwrap();
        n += 1;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let newest = *snapshots::stored(&store).await.last().unwrap();
        if newest.next() < awake.manifest.state().seq() {
            break ObjectPath::commit(newest.next());
        }
    };
    store.delete(vec![gap.clone()]).await.unwrap();
    let told = sleeper.create("late").await;
    assert_eq!(told.unwrap_err(), Stopped::OutcomeUnknown);
    let told = sleeper.create("late").await.unwrap_err();
    assert!(
        matches!(&told, Stopped::Halted(why) if why.contains(gap.as_str())),
        "{told:?}"
    );
    assert!(store.head(&gap, RequestKind::CommitGet).await.is_err());
}

/// A store whose requests for commits fail for a while once a snapshot was read after this is armed, and one beside it
/// that is sound.
fn failing_after_a_snapshot(fails_for: Duration) -> (Store, Store, Arc<AtomicBool>) {
    let armed = Arc::new(AtomicBool::new(false));
    let (is_armed, snapshot_read) = (armed.clone(), Mutex::new(None));
    let (log, snapshots) = (ObjectPrefix::Log.name(), ObjectPrefix::Snapshots.name());
    let (faulty, bucket) = Faulty::by_name(move |_, name| {
        let mut read = snapshot_read.lock().unwrap();
        if is_armed.load(Ordering::SeqCst) && name.starts_with(&snapshots) {
            read.get_or_insert_with(Instant::now);
        }
        let fails = read.is_some_and(|read: Instant| read.elapsed() < fails_for);
        match fails && name.starts_with(&log) {
            true => Fault::Fails,
            false => Fault::None,
        }
    });
    (faulty, bucket.beside(), armed)
}

#[tokio::test(start_paused = true)]
async fn a_node_that_starts_over_looks_for_the_end_though_nobody_asks_and_the_store_fails() {
    let (faulty, store, armed) = failing_after_a_snapshot(Duration::from_secs(5));
    let (awake, sleeper) = (start(&store, 1).await, start(&faulty, 2).await);
    awake.truncate(&store).await;
    armed.store(true, Ordering::SeqCst);
    let told = sleeper.create("late").await;
    assert_eq!(told.unwrap_err(), Stopped::OutcomeUnknown);
    // It only writes: nothing here asks for a fresh state.
    let again = tokio::time::timeout(Duration::from_secs(20), sleeper.create("late"));
    let told = again
        .await
        .expect("it looks for the end by itself")
        .unwrap();
    assert_eq!(told.outcomes, [Ok(Applied::Done)]);
    assert_eq!(sleeper.metrics.started_over.get(), 1);
    let state = awake.manifest.fresh().await.unwrap();
    assert!(state.topic_by_name("late").is_some());
    assert!(state.topic_by_name("filler-1").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_not_found_the_end_stops_if_nothing_waits() {
    let (faulty, store, armed) = failing_after_a_snapshot(Duration::from_secs(3600));
    let (awake, sleeper) = (start(&store, 1).await, start(&faulty, 2).await);
    awake.truncate(&store).await;
    armed.store(true, Ordering::SeqCst);
    let told = sleeper.create("late").await;
    assert_eq!(told.unwrap_err(), Stopped::OutcomeUnknown);
    let requests = || faulty.metrics().requests(RequestKind::CommitProbe);
    let before = requests();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let looks = requests() - before;
    assert!((10..1000).contains(&looks), "{looks} requests");
    let Running {
        manifest, _stop, ..
    } = sleeper;
    drop(_stop);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let told = manifest.commit(vec![create_topic("later")]);
    let told = tokio::time::timeout(Duration::from_secs(1), told).await;
    let told = told.expect("the task has ended");
    assert_eq!(told.unwrap_err(), Stopped::Stopping);
}

#[tokio::test(start_paused = true)]
async fn a_commit_created_at_a_name_that_was_deleted_is_not_acknowledged() {
    let store = Store::memory();
    let (awake, sleeper) = (start(&store, 1).await, start(&store, 2).await);
    awake.truncate(&store).await;
    let told = sleeper.create("late").await;
    assert_eq!(told.unwrap_err(), Stopped::OutcomeUnknown);
    // It goes on with the present state, and what it is asked again is done once.
    sleeper.create("late").await.unwrap();
    assert_eq!(sleeper.metrics.started_over.get(), 1);
    // One of them may be announcing a snapshot meanwhile.
    let (one, other) = loop {
        let one = awake.manifest.fresh().await.unwrap();
        let other = sleeper.manifest.fresh().await.unwrap();
        if one.seq() == other.seq() {
            break (one, other);
        }
    };
    assert!(one.topic_by_name("late").is_some());
    assert_eq!(one.to_bytes(), other.to_bytes());
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_another_sleeper_left_at_a_deleted_name_is_not_folded() {
    let store = Store::memory();
    let (awake, first) = (start(&store, 1).await, start(&store, 2).await);
    let second = start(&store, 3).await;
    awake.truncate(&store).await;
    first.create("late").await.unwrap_err();
    assert!(
        store
            .head(&ObjectPath::commit(Seq(1)), RequestKind::CommitGet)
            .await
            .is_ok(),
        "the name was free, so the first left a commit there"
    );
    let state = second.manifest.fresh().await.unwrap();
    assert!(state.topic_by_name("late").is_none());
    assert_eq!(state.to_bytes(), awake.manifest.state().to_bytes());
    // The same for one that loses the race against it.
    let third = start(&store, 4).await;
    third.create("late").await.unwrap();
    assert!(third.manifest.state().topic_by_name("filler-1").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_proof_that_is_young_costs_no_question_about_truncation() {
    let store = Store::memory();
    let node = start(&store, 1).await;
    for n in 0..3 {
        tokio::time::sleep(TAIL_PROOF_LIFE - Duration::from_secs(1)).await;
        node.create(&format!("t-{n}")).await.unwrap();
        node.manifest.fresh().await.unwrap();
    }
    let lists = || store.metrics().requests(RequestKind::List);
    let before = lists();
    node.create("again").await.unwrap();
    assert_eq!(lists(), before);
    tokio::time::sleep(TAIL_PROOF_LIFE + Duration::from_secs(1)).await;
    node.create("old").await.unwrap();
    assert_eq!(lists(), before + 1);
}
