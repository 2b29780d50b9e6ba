//! Buckets on which no node starts, and what a repair makes of them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use uuid::Uuid;

use super::*;
use crate::maintain::fsck::{FsckOptions, Kind, Severity, fsck};
use crate::maintain::repair::{Plan, PlanOptions, RepairError, Repaired, carry_out, plan};
use crate::manifest::{Stopped, encode_commit};
use crate::state::op::Commit;
use crate::store::RequestKind;
use crate::testing::{Fault, Faulty};
use crate::types::{CommitId, LogId};

const GRACE: Duration = Duration::from_secs(5);

/// A log of some commits with records, written by a node that has stopped. Returns the seqs of the commits with the
/// records of `t`, in order.
async fn stopped(store: &Store) -> Vec<Seq> {
    let a = worker(store, 1).await;
    a.topic("t", 1, &[]).await;
    let mut seqs = Vec::new();
    for n in 0..6 {
        a.produce("t", 0, 100 + n).await;
        seqs.push(a.state().seq());
    }
    a.node.stop(GRACE).await;
    seqs
}

async fn damage(store: &Store, path: &ObjectPath) -> Bytes {
    let whole = store.get(path, RequestKind::CommitGet).await.unwrap();
    let mut bytes = whole.to_vec();
    // In the head of a commit, the data of a snapshot.
    bytes[45] ^= 1;
    let put = store.put_unique(path, bytes.clone(), RequestKind::CommitPut);
    put.await.unwrap();
    bytes.into()
}

fn options(run: u128) -> PlanOptions {
    PlanOptions {
        now: START.after(HOUR),
        run: Uuid::from_u128(run),
        void: BTreeSet::new(),
    }
}

async fn planned(store: &Store, run: u128) -> Plan {
    plan(store, &options(run), &()).await.unwrap()
}

async fn repair(store: &Store, run: u128) -> Repaired {
    let plan = planned(store, run).await;
    carry_out(store, &plan, false).await.unwrap()
}

async fn starts(store: &Store, seed: u64) -> bool {
    let env = Env::simulated(seed, START.after(HOUR));
    let mut options = NodeOptions::new(StoreUrl::memory(), env);
    options.manifest.snapshot_every = 8;
    match Node::start(store.clone(), options, &NodeMetrics::default()).await {
        Ok(node) => {
            node.stop(GRACE).await;
            true
        }
        Err(_) => false,
    }
}

/// What `fsck` finds wrong.
async fn errors(store: &Store) -> Vec<Kind> {
    let options = FsckOptions {
        deep: true,
        now: START.after(HOUR),
    };
    let report = fsck(store, options, &()).await.unwrap();
    let errors = report.findings.iter();
    let errors = errors.filter(|finding| finding.severity == Severity::Error);
    errors.map(|finding| finding.kind).collect()
}

#[tokio::test(start_paused = true)]
pub(super) async fn a_damaged_commit_is_given_up_and_nodes_start_again() {
    let store = Store::memory();
    let seqs = stopped(&store).await;
    let path = ObjectPath::commit(seqs[2]);
    let damaged = damage(&store, &path).await;
    assert!(!starts(&store, 2).await);
    let found = planned(&store, 1).await;
    assert_eq!(found.commits.len(), 1);
    assert_eq!(
        (found.commits[0].seq, found.commits[0].exists),
        (seqs[2], true)
    );
    assert!(found.refused.is_empty(), "{found:?}");
    let done = carry_out(&store, &found, false).await.unwrap();
    assert_eq!((done.voided.len(), done.seals.len()), (1, 1));
    // The copy is what was there.
    let copy: ObjectPath = done.copies[0].parse().unwrap();
    assert_eq!(
        copy.kind(),
        ObjectKind::Copy {
            run: found.run,
            of: Box::new(path)
        }
    );
    let kept = store.get(&copy, RequestKind::CommitGet).await.unwrap();
    assert_eq!(kept, damaged);
    // Five of six batches are left, and new ones come behind them.
    assert_eq!(errors(&store).await, []);
    let a = worker(&store, 3).await;
    a.produce("t", 0, 10).await;
    let read: Vec<i64> = a
        .read("t", 0)
        .await
        .into_iter()
        .map(|(base, _)| base)
        .collect();
    assert_eq!(read, [0, 2, 4, 6, 8, 10]);
    // The sweep leaves the copy alone.
    wait(DAY).await;
    a.produce("t", 0, 10).await;
    sweep::run(&a.jobs).await.unwrap();
    assert_eq!(names(&store, ObjectPrefix::Repairs).await, [copy].into());
    a.node.stop(GRACE).await;
    // There is nothing left to repair.
    assert!(planned(&store, 2).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn missing_commits_are_given_up_together_with_damaged_ones() {
    let store = Store::memory();
    let seqs = stopped(&store).await;
    let gone = vec![ObjectPath::commit(seqs[1]), ObjectPath::commit(seqs[2])];
    store.delete(gone).await.unwrap();
    damage(&store, &ObjectPath::commit(seqs[4])).await;
    let done = repair(&store, 1).await;
    assert_eq!(done.voided, [seqs[1], seqs[2], seqs[4]]);
    assert_eq!((done.copies.len(), done.seals.len()), (1, 1));
    assert!(starts(&store, 2).await);
    assert_eq!(errors(&store).await, []);
}

#[tokio::test(start_paused = true)]
async fn what_a_snapshot_covers_is_not_given_up_and_damaged_snapshots_are_removed() {
    let store = Store::memory();
    let a = worker(&store, 1).await;
    a.topic("t", 1, &[]).await;
    for n in 0..30 {
        a.produce("t", 0, 100 + n).await;
        wait(Duration::from_secs(1)).await;
    }
    a.node.stop(GRACE).await;
    let snapshots: Vec<ObjectPath> = names(&store, ObjectPrefix::Snapshots)
        .await
        .into_iter()
        .collect();
    assert!(snapshots.len() > 2);
    let covered = ObjectPath::commit(Seq(2));
    damage(&store, &covered).await;
    assert!(planned(&store, 1).await.is_empty());
    let newest = snapshots.last().unwrap();
    damage(&store, newest).await;
    let found = planned(&store, 1).await;
    assert_eq!((found.snapshots.len(), found.commits.len()), (1, 0));
    let done = carry_out(&store, &found, false).await.unwrap();
    assert_eq!(
        (done.removed.len(), done.copies.len(), done.seals.len()),
        (1, 1, 0)
    );
    assert!(
        !names(&store, ObjectPrefix::Snapshots)
            .await
            .contains(newest)
    );
    assert!(starts(&store, 2).await);
    assert!(planned(&store, 2).await.is_empty());
}

/// They are of the log as it was, and no node comes to those states any more.
#[tokio::test(start_paused = true)]
pub(super) async fn nodes_do_not_compare_themselves_with_snapshots_of_what_was_replaced() {
    let store = Store::memory();
    let a = worker(&store, 1).await;
    a.topic("t", 1, &[]).await;
    for _ in 0..30 {
        a.produce("t", 0, 100).await;
        wait(Duration::from_secs(1)).await;
    }
    a.node.stop(GRACE).await;
    let snapshots = names(&store, ObjectPrefix::Snapshots).await;
    let newest = snapshots.last().unwrap();
    let ObjectKind::Snapshot(at) = newest.kind() else {
        panic!("{newest}");
    };
    damage(&store, newest).await;
    damage(&store, &ObjectPath::commit(Seq(at.0 - 2))).await;
    let done = repair(&store, 1).await;
    assert_eq!((done.removed.len(), done.voided.len()), (1, 1));
    let b = worker(&store, 2).await;
    for _ in 0..20 {
        b.produce("t", 0, 10).await;
        wait(Duration::from_secs(1)).await;
    }
    b.node.manifest().fresh().await.unwrap();
    assert_eq!(errors(&store).await, []);
}

/// A void and a seal that follow a forgotten one would be void to everybody, and no node could go on.
#[tokio::test(start_paused = true)]
async fn a_log_by_more_authors_than_the_fold_remembers_is_repaired() {
    let store = Store::memory();
    let a = worker_at(&store, Level::FIRST).await;
    a.topic("t", 1, &[]).await;
    a.produce("t", 0, 100).await;
    let lost = a.state().seq();
    a.node.stop(GRACE).await;
    let mut end = planned(&store, 1).await.log_end;
    for author in 1..=1_100 {
        end = end.next();
        let commit = Commit {
            id: CommitId {
                incarnation: Incarnation(Uuid::from_u128(author)),
                counter: 1,
            },
            time: START,
            ops: vec![Op::AllocateProducerIds { count: 1 }],
            follows: None,
            forwarded: Vec::new(),
            wall: None,
            log: LogId::ZERO,
        };
        let object = encode_commit(&commit, Bytes::new()).unwrap();
        let path = ObjectPath::commit(end);
        let put = store.put_unique(&path, object, RequestKind::CommitPut);
        put.await.unwrap();
    }
    let snapshots = names(&store, ObjectPrefix::Snapshots).await;
    store.delete(snapshots.into_iter().collect()).await.unwrap();
    for (run, damaged) in [(1, vec![lost]), (2, vec![lost.next(), Seq(end.0 - 3)])] {
        for seq in damaged {
            damage(&store, &ObjectPath::commit(seq)).await;
        }
        repair(&store, run).await;
        assert!(planned(&store, 3).await.is_empty(), "{run}");
        assert!(starts(&store, 2).await, "{run}");
    }
    assert_eq!(errors(&store).await, []);
    let b = worker(&store, 3).await;
    b.produce("t", 0, 10).await;
}

#[tokio::test(start_paused = true)]
async fn the_chunks_of_a_snapshot_that_is_removed_are_kept_as_well() {
    let store = Store::memory();
    let env = Env::simulated(1, START);
    let mut options = node_options(&env);
    options.manifest.max_chunk = 64;
    let a = worker_of(&store, env, options, |_| {}).await;
    a.topic("t", 1, &[]).await;
    for _ in 0..10 {
        a.produce("t", 0, 100).await;
        wait(Duration::from_secs(1)).await;
    }
    a.node.stop(GRACE).await;
    let chunks = names(&store, ObjectPrefix::Chunks).await;
    assert!(chunks.len() > 2);
    let newest = chunks.last().unwrap();
    damage(&store, newest).await;
    let found = planned(&store, 1).await;
    let [damaged] = &found.snapshots[..] else {
        panic!("{found:?}");
    };
    assert!(damaged.reason.contains(newest.as_str()), "{damaged:?}");
    let done = carry_out(&store, &found, false).await.unwrap();
    assert_eq!(done.copies.len(), 1 + damaged.chunks.len());
    assert!(starts(&store, 2).await);
    assert_eq!(errors(&store).await, []);
}

#[tokio::test(start_paused = true)]
async fn a_void_and_a_seal_are_repaired_as_all_else() {
    let store = Store::memory();
    let seqs = stopped(&store).await;
    for seq in [seqs[1], seqs[3]] {
        damage(&store, &ObjectPath::commit(seq)).await;
    }
    let first = repair(&store, 1).await;
    // The second void follows the first, and the seal the second.
    for (run, seq) in [(2, first.voided[0]), (3, first.seals[0])] {
        damage(&store, &ObjectPath::commit(seq)).await;
        repair(&store, run).await;
        assert!(planned(&store, 9).await.is_empty(), "{run}");
        assert!(starts(&store, 2).await, "{run}");
        assert_eq!(errors(&store).await, [], "{run}");
    }
    let a = worker(&store, 3).await;
    a.produce("t", 0, 10).await;
    a.node.manifest().fresh().await.unwrap();
}

/// What the fold hands out by counting is handed out once, and so no new producer is taken for one that has written.
#[tokio::test(start_paused = true)]
pub(super) async fn whatever_commit_was_lost_what_is_acknowledged_after_the_repair_is_read() {
    let mut lost = Seq(2);
    loop {
        let store = Store::memory();
        // Nodes with a producer each: ids are minted in blocks, for the life of a node.
        for seed in 1..=3 {
            let a = worker(&store, seed).await;
            if seed == 1 {
                a.topic("t", 1, &[]).await;
            }
            a.produce_new("t").await;
            a.node.stop(GRACE).await;
        }
        if lost > planned(&store, 1).await.log_end {
            return;
        }
        damage(&store, &ObjectPath::commit(lost)).await;
        repair(&store, 1).await;
        let b = worker(&store, 4).await;
        if b.state().topic_by_name("t").is_none() {
            b.topic("t", 1, &[]).await;
        }
        let before = b.read("t", 0).await.len();
        for stored in 1..=3 {
            b.produce_new("t").await;
            let read = b.read("t", 0).await;
            assert_eq!(read.len(), before + stored, "without {lost}");
        }
        b.node.stop(GRACE).await;
        lost = lost.next();
    }
}

impl Worker {
    /// Appends a record as the first of a new producer.
    async fn produce_new(&self, topic: &str) -> Offset {
        let (id, epoch) = self.node.broker().new_producer(&session()).await.unwrap();
        let mut batch = BatchBuilder::new(Codec::None).producer(id, epoch, 0);
        batch.push(self.env.wall(), None, Some(b"v"), &[]).unwrap();
        self.produce_batch(topic, 0, batch.finish().unwrap()).await
    }
}

#[tokio::test(start_paused = true)]
pub(super) async fn a_bucket_is_not_repaired_under_nodes_that_may_be_running() {
    let store = Store::memory();
    let seqs = stopped(&store).await;
    // It registers, and dies.
    let mut options = options(1);
    options.now = START;
    let env = Env::simulated(7, START);
    let node_options = NodeOptions::new(StoreUrl::memory(), env.clone());
    let node = Node::start(store.clone(), node_options, &NodeMetrics::default())
        .await
        .unwrap();
    let register = Op::RegisterNode(crate::state::op::RegisterNode {
        incarnation: Incarnation(env.random_uuid()),
        endpoints: Default::default(),
        rack: None,
        version: crate::state::Level::NEWEST.label("0"),
        lease_millis: 60_000,
        peer_key: None,
        properties: None,
    });
    node.manifest().commit_one(register).await.unwrap().unwrap();
    node.stop(GRACE).await;
    damage(&store, &ObjectPath::commit(seqs[2])).await;
    let before = names(&store, ObjectPrefix::All).await;
    let found = plan(&store, &options, &()).await.unwrap();
    assert_eq!(found.live.len(), 1);
    let refused = carry_out(&store, &found, false).await.unwrap_err();
    assert!(matches!(refused, RepairError::Live(_)), "{refused}");
    assert_eq!(names(&store, ObjectPrefix::All).await, before);
    // Later its lease is over; and somebody may know better.
    options.now = START.after(HOUR);
    assert!(plan(&store, &options, &()).await.unwrap().live.is_empty());
    carry_out(&store, &found, true).await.unwrap();
    assert!(starts(&store, 2).await);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_grows_under_the_repair_ends_it() {
    let store = Store::memory();
    let seqs = stopped(&store).await;
    damage(&store, &ObjectPath::commit(seqs[2])).await;
    let found = planned(&store, 1).await;
    let next = ObjectPath::commit(found.log_end.next());
    let put = store.put_unique(&next, Bytes::from_static(b"-"), RequestKind::CommitPut);
    put.await.unwrap();
    let refused = carry_out(&store, &found, false).await.unwrap_err();
    assert!(matches!(refused, RepairError::InUse(..)), "{refused}");
}

#[tokio::test(start_paused = true)]
pub(super) async fn a_node_that_had_folded_what_was_replaced_halts_at_the_seal() {
    let store = Store::memory();
    let a = worker(&store, 1).await;
    a.topic("t", 1, &[]).await;
    let lost = a.state().seq().next();
    for n in 0..4 {
        a.produce("t", 0, 100 + n).await;
    }
    // It sleeps with what it has folded, while others go on without it.
    let sleeper = worker(&store, 2).await;
    a.produce("t", 0, 10).await;
    a.node.stop(GRACE).await;
    store.delete(vec![ObjectPath::commit(lost)]).await.unwrap();
    let found = planned(&store, 1).await;
    carry_out(&store, &found, true).await.unwrap();
    let b = worker(&store, 3).await;
    b.produce("t", 0, 10).await;
    let woken = sleeper
        .node
        .manifest()
        .fresh()
        .await
        .map(|state| state.to_bytes());
    match woken {
        Err(Stopped::Halted(why)) => assert!(why.contains("repaired"), "{why}"),
        other => {
            let same = other.is_ok_and(|bytes| bytes == b.state().to_bytes());
            panic!("it went on, with the state of the log: {same}");
        }
    }
    // Started anew it is as all others.
    let again = worker(&store, 4).await;
    // A snapshot is being announced.
    wait(Duration::from_secs(1)).await;
    let state = again.node.manifest().fresh().await.unwrap();
    let others = b.node.manifest().fresh().await.unwrap();
    assert_eq!(state.to_bytes(), others.to_bytes());
}

#[tokio::test(start_paused = true)]
pub(super) async fn a_repair_that_is_killed_anywhere_is_finished_by_the_next_and_loses_nothing_more()
 {
    for served in 0..60 {
        let last = Arc::new(AtomicUsize::new(usize::MAX));
        let until = last.clone();
        let (store, requests) = Faulty::store(move |n| match n < until.load(Ordering::SeqCst) {
            true => Fault::None,
            false => Fault::Hangs,
        });
        let seqs = stopped(&store).await;
        let broken = [ObjectPath::commit(seqs[1]), ObjectPath::commit(seqs[4])];
        let mut damaged = Vec::new();
        for path in &broken {
            damaged.push(damage(&store, path).await);
        }
        store
            .delete(vec![ObjectPath::commit(seqs[3])])
            .await
            .unwrap();
        let found = planned(&store, 1).await;
        last.store(requests.requests() + served, Ordering::SeqCst);
        let run = tokio::time::timeout(Duration::from_secs(10), carry_out(&store, &found, false));
        let ended = matches!(run.await, Ok(Ok(_)));
        last.store(usize::MAX, Ordering::SeqCst);
        if !ended {
            repair(&store, 2).await;
        }
        assert!(planned(&store, 3).await.is_empty(), "{served}");
        // Every damaged object is kept, and each chain of voids has its seal.
        let copies = names(&store, ObjectPrefix::Repairs).await;
        for (path, bytes) in broken.iter().zip(&damaged) {
            let mut kept = false;
            for copy in &copies {
                let of = matches!(copy.kind(), ObjectKind::Copy { of, .. } if *of == *path);
                let bytes_of = store.get(copy, RequestKind::CommitGet).await.unwrap();
                kept |= of && bytes_of == *bytes;
            }
            assert!(kept, "{path}, {served}");
        }
        assert!(starts(&store, 2).await, "{served}");
        assert_eq!(errors(&store).await, [], "{served}");
        if ended {
            assert!(served > 10);
            return;
        }
    }
    panic!("it does not come to an end");
}

#[tokio::test(start_paused = true)]
async fn a_log_without_a_beginning_and_what_newer_software_wrote_are_not_given_up() {
    let store = Store::memory();
    let seqs = stopped(&store).await;
    let path = ObjectPath::commit(seqs[2]);
    let mut newer = store
        .get(&path, RequestKind::CommitGet)
        .await
        .unwrap()
        .to_vec();
    newer[6] = 200;
    let crc = crc32c::crc32c(&newer[..36]);
    newer[36..40].copy_from_slice(&crc.to_le_bytes());
    let put = store.put_unique(&path, newer, RequestKind::CommitPut);
    put.await.unwrap();
    let error = plan(&store, &options(1), &()).await.unwrap_err();
    assert!(matches!(error, RepairError::Newer(_)), "{error}");
    // Unless somebody says so.
    let mut asked = options(1);
    asked.void.insert(seqs[2]);
    let found = plan(&store, &asked, &()).await.unwrap();
    carry_out(&store, &found, false).await.unwrap();
    assert!(starts(&store, 2).await);
    let boundary = ObjectPath::boundary(Seq(3));
    let put = store.put_unique(
        &boundary,
        Bytes::from_static(b"-"),
        RequestKind::BoundaryPut,
    );
    put.await.unwrap();
    let all = names(&store, ObjectPrefix::Snapshots).await;
    store.delete(all.into_iter().collect()).await.unwrap();
    let error = plan(&store, &options(2), &()).await.unwrap_err();
    assert!(matches!(error, RepairError::NoStart(Seq(3))), "{error}");
}

#[tokio::test(start_paused = true)]
async fn where_cluster_json_is_damaged_or_gone_that_is_said() {
    let store = Store::memory();
    stopped(&store).await;
    let path = ObjectPath::cluster();
    let put = store.put_unique(&path, Bytes::from_static(b"{"), RequestKind::Cluster);
    put.await.unwrap();
    assert!(!starts(&store, 2).await);
    for _ in 0..2 {
        let error = plan(&store, &options(1), &()).await.unwrap_err();
        assert!(matches!(error, RepairError::BadCluster(_)), "{error}");
        store.delete(vec![path.clone()]).await.unwrap();
    }
    let error = plan(&Store::memory(), &options(1), &()).await.unwrap_err();
    assert!(matches!(error, RepairError::NoCluster(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_and_what_is_refused_is_said() {
    let store = Store::memory();
    let a = worker(&store, 1).await;
    a.topic("kept", 1, &[]).await;
    a.topic("lost", 1, &[]).await;
    let made = a.state().seq();
    a.produce("kept", 0, 10).await;
    let produced = a.state().seq();
    a.produce("lost", 0, 10).await;
    a.produce("lost", 0, 10).await;
    a.node.stop(GRACE).await;
    damage_data_only(&store, produced).await;
    for seq in [made, produced] {
        let path = ObjectPath::commit(seq);
        let bytes = store.get(&path, RequestKind::CommitGet).await.unwrap();
        // The checksum of the head is wrong, and its bytes are right.
        let mut bytes = bytes.to_vec();
        bytes[12] ^= 1;
        let crc = crc32c::crc32c(&bytes[..36]);
        bytes[36..40].copy_from_slice(&crc.to_le_bytes());
        let put = store.put_unique(&path, bytes, RequestKind::CommitPut);
        put.await.unwrap();
    }
    let found = planned(&store, 1).await;
    let lost: Vec<_> = found
        .commits
        .iter()
        .map(|commit| commit.lost.clone().unwrap())
        .collect();
    assert_eq!(lost[0].ops.get("CreateTopic lost"), Some(&1), "{lost:?}");
    assert_eq!(lost[1].records.get("kept/0"), Some(&2), "{lost:?}");
    let refused: u64 = found.refused.records.values().sum();
    assert_eq!(refused, 4, "{found:?}");
}

/// Damage that does not keep a commit from being folded is none of the repair's business.
async fn damage_data_only(store: &Store, seq: Seq) {
    let path = ObjectPath::commit(seq);
    let whole = store.get(&path, RequestKind::CommitGet).await.unwrap();
    let mut bytes = whole.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let put = store.put_unique(&path, bytes, RequestKind::CommitPut);
    put.await.unwrap();
    assert!(planned(store, 9).await.is_empty());
}
