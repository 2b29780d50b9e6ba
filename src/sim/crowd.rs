//! Many others that write for a moment: more than the fold of the first level remembers, so that it forgets those who
//! wrote before them and whose commits are on their way.
//!
//! Their requests have no network: they stand in the log at once, one after the other. Which nodes they are and what
//! they want is of no importance, so they have no ops.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout, timeout_at};
use uuid::Uuid;

use super::cluster::Cluster;
use super::world::{Finding, World};
use crate::env::Env;
use crate::manifest::encode_commit;
use crate::state::Feature;
use crate::state::op::Commit;
use crate::store::{Created, ObjectKind, ObjectPath, RequestKind, Store, StoreOptions};
use crate::testing::simulated::{Fate, Network, Reply, Verb};
use crate::types::{CommitId, Incarnation, LogId, Timestamp};

/// How many there are: as many as are remembered at the first level, and some more.
const CROWD: u64 = 1_050;

/// In which share of the runs that begin at the first level they come.
const COMES: f64 = 0.6;

/// How many of them come late, one by one, if they can when two commits are on their way: they take the place for which
/// the first of the two is meant.
const LATE: u64 = 40;

/// Comes a few times while the cluster is at the first level, each time when a node has just sent a commit behind two
/// others that are on their way: these three lose the race, and are sent again as others, the last two of them side by
/// side.
pub(super) async fn crowd(cluster: Cluster, name: String, until: Instant) {
    let world = cluster.world.clone();
    let mut dice = world.dice(&name);
    if !cluster.settings.upgraded || !dice.chance(COMES) {
        return;
    }
    let options = StoreOptions::new(Env::system());
    let store = cluster.store_behind(Arc::new(AtOnce::new(&world)), options);
    let mut number = 0xc0_0000_0000;
    for _ in 0..3 {
        world.rest(dice.time(1_000, 10_000)).await;
        let three = timeout_at(until, world.commit_sent_behind(2)).await;
        if three.is_err() || world.has(Feature::ManyIncarnations) {
            return;
        }
        for late in 0..CROWD + LATE {
            if late >= CROWD {
                let most = dice.time(1, 1_000);
                let _ = timeout(most, world.commit_sent_behind(1)).await;
            }
            number += 1;
            stand_next(&world, &store, Uuid::from_u128(number)).await;
        }
        world.count("crowds", 1);
    }
}

/// How often one of them tries to be the next in the log: a node's commit may come to stand in the same millisecond.
const TRIES: u32 = 8;

/// Puts the only commit of an incarnation at the end of the log.
async fn stand_next(world: &World, store: &Store, who: Uuid) {
    let commit = Commit {
        id: CommitId {
            incarnation: Incarnation(who),
            counter: 1,
        },
        time: Timestamp(0),
        ops: Vec::new(),
        follows: None,
        forwarded: Vec::new(),
        wall: None,
        log: LogId::ZERO,
    };
    let object = match encode_commit(&commit, Bytes::new()) {
        Ok(object) => object,
        Err(error) => return world.found(Finding::Wrong(error.to_string())),
    };
    let mut tries = 0;
    let created = loop {
        let path = ObjectPath::commit(world.next_seq());
        let created = store
            .create(&path, object.clone(), RequestKind::CommitPut)
            .await;
        tries += 1;
        if tries == TRIES || !matches!(created, Ok(Created::Exists)) {
            break created;
        }
    };
    if !matches!(created, Ok(Created::Created)) {
        let what = format!("a commit of the crowd did not come to stand: {created:?}");
        world.found(Finding::Wrong(what));
    }
}

/// A network that takes no time and loses nothing.
struct AtOnce {
    world: World,
    number: AtomicU64,
}

impl AtOnce {
    fn new(world: &World) -> AtOnce {
        AtOnce {
            world: world.clone(),
            number: AtomicU64::new(0),
        }
    }
}

impl Network for AtOnce {
    fn send(&self, _: u64, _: Verb, _: &str, _: usize) -> Fate {
        Fate {
            arrives: Duration::ZERO,
            applied: true,
            again: None,
            answer: Reply::First,
            returns: Duration::ZERO,
        }
    }

    fn written(&self, name: &str, body: &Bytes) {
        if let Ok(ObjectKind::Commit(seq)) = name.parse::<ObjectPath>().map(|path| path.kind()) {
            self.world.committed(seq, body);
        }
    }

    fn applied(&self, _: u64, _: &str) {}

    fn date(&self) -> Option<Timestamp> {
        None
    }

    fn next(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed)
    }
}
