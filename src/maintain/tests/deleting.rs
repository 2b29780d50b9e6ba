use std::sync::atomic::{AtomicUsize, Ordering};

use object_store::memory::InMemory;
use object_store::{ObjectStoreExt, PutPayload};

use super::*;
use crate::state::TRUNCATION_AGE;
use crate::state::op::{Append, AppendEntry, AppendRejected, AppendSource, Applied};
use crate::store::{RequestKind, StoreMetrics, StoreOptions};
use crate::testing::{Fault, Faulty};
use crate::types::SegmentId;

const GRACE: Duration = Duration::from_secs(15 * 60);

async fn exists(store: &Store, object: ObjectRef) -> bool {
    let path = deletion::path_of(object);
    store.head(&path, RequestKind::SegmentGet).await.is_ok()
}

/// Appends until a snapshot is of age, and the log may be truncated up to it.
async fn age(w: &Worker) {
    w.topic("filler", 1, &[]).await;
    for _ in 0..10 {
        w.produce("filler", 0, 10).await;
        wait(Duration::from_secs(1)).await;
    }
    wait(TRUNCATION_AGE + MINUTE).await;
    w.produce("filler", 0, 10).await;
    assert!(w.state().log_boundary_limit() > Seq(0));
}

#[tokio::test(start_paused = true)]
pub(super) async fn a_dead_segment_goes_after_the_grace_period_and_a_live_one_stays() {
    let store = Store::memory();
    let a = worker(&store, 1).await;
    a.topic("t", 1, &[]).await;
    let (old, new) = (
        a.produce_segment("t", 0).await,
        a.produce_segment("t", 0).await,
    );
    wait(HOUR).await;
    a.delete_records("t", 0, 2).await;
    wait(GRACE - Duration::from_millis(10)).await;
    a.produce("t", 0, 10).await;
    assert!(!deletion::run(&a.jobs).await.unwrap());
    assert!(exists(&store, old).await);
    wait(Duration::from_millis(20)).await;
    assert!(deletion::run(&a.jobs).await.unwrap());
    assert!(!exists(&store, old).await);
    assert!(exists(&store, new).await);
    assert!(a.state().death_of(old).unwrap().deleted);
    assert!(!deletion::run(&a.jobs).await.unwrap());
}

#[tokio::test(start_paused = true)]
pub(super) async fn a_clock_that_runs_ahead_of_the_log_deletes_nothing_early() {
    let store = Store::memory();
    let a = worker(&store, 1).await;
    a.topic("t", 1, &[]).await;
    let old = a.produce_segment("t", 0).await;
    a.delete_records("t", 0, 2).await;
    // Ten minutes of the grace have passed where the log is written; the other's clock is an hour ahead.
    let b = worker_in(&store, Env::simulated(2, START.after(HOUR)), |_| {}).await;
    wait(10 * MINUTE).await;
    assert!(!deletion::run(&b.jobs).await.unwrap());
    assert!(exists(&store, old).await);
    assert_eq!(
        b.node.manifest().state().claim(crate::state::Job::Deletion),
        None
    );
}

#[tokio::test(start_paused = true)]
pub(super) async fn where_the_log_is_ahead_of_time_as_well_nothing_is_deleted_early() {
    let store = Store::memory();
    let a = worker(&store, 1).await;
    a.topic("t", 1, &[]).await;
    let old = a.produce_segment("t", 0).await;
    a.delete_records("t", 0, 2).await;
    // A node whose clock is an hour ahead writes, too: by the fold's time the grace is over. The node that deletes has
    // known of the death for ten minutes.
    let b = worker_in(&store, Env::simulated(2, START.after(HOUR)), |_| {}).await;
    wait(10 * MINUTE).await;
    b.produce("t", 0, 10).await;
    assert!(!deletion::run(&b.jobs).await.unwrap());
    assert!(exists(&store, old).await);
    wait(6 * MINUTE).await;
    assert!(deletion::run(&b.jobs).await.unwrap());
    assert!(!exists(&store, old).await);
}

#[tokio::test(start_paused = true)]
pub(super) async fn where_the_log_is_ahead_of_time_it_is_not_truncated_early() {
    let store = Store::memory();
    let a = worker(&store, 1).await;
    a.topic("t", 1, &[]).await;
    for _ in 0..10 {
        a.produce("t", 0, 10).await;
        wait(Duration::from_secs(1)).await;
    }
    let b = worker_in(&store, Env::simulated(2, START.after(HOUR)), |_| {}).await;
    wait(MINUTE).await;
    b.produce("t", 0, 10).await;
    assert!(
        b.state().log_boundary_limit() > Seq(0),
        "of age by the fold's time"
    );
    assert!(!truncation::run(&b.jobs).await.unwrap());
    assert_eq!(b.state().log_boundary(), Seq(0));
    wait(TRUNCATION_AGE).await;
    assert!(truncation::run(&b.jobs).await.unwrap());
}

#[tokio::test(start_paused = true)]
pub(super) async fn the_log_is_said_to_be_truncated_when_it_is() {
    for served in 1..10 {
        let last = Arc::new(AtomicUsize::new(usize::MAX));
        let until = last.clone();
        let (store, requests) = Faulty::store(move |n| {
            if n < until.load(Ordering::SeqCst) {
                Fault::None
            } else {
                Fault::Hangs
            }
        });
        let a = worker(&store, 1).await;
        age(&a).await;
        last.store(requests.requests() + served, Ordering::SeqCst);
        let run = tokio::time::timeout(Duration::from_secs(10), truncation::run(&a.jobs));
        let ended = run.await.is_ok();
        last.store(usize::MAX, Ordering::SeqCst);
        let state = a.state();
        let log = names(&store, ObjectPrefix::Log).await;
        for seq in 1..=state.log_truncated().0 {
            let needed = truncation::is_needed(&state, Seq(seq));
            assert!(
                needed || !log.contains(&ObjectPath::commit(Seq(seq))),
                "{seq}, {served}"
            );
        }
        if ended {
            assert!(state.log_truncated() > Seq(0) && served > 3);
            return;
        }
    }
    panic!("it does not come to an end");
}

#[tokio::test(start_paused = true)]
pub(super) async fn the_log_is_kept_while_no_snapshot_beyond_it_can_be_read_back() {
    let store = Store::memory();
    let a = worker(&store, 1).await;
    age(&a).await;
    let mut whole = Vec::new();
    for path in names(&store, ObjectPrefix::Snapshots).await {
        let bytes = store.get(&path, RequestKind::SnapshotGet).await.unwrap();
        let cut = bytes.slice(..bytes.len() - 1);
        let put = store.put_unique(&path, cut, RequestKind::SnapshotPut);
        put.await.unwrap();
        whole.push((path, bytes));
    }
    let error = truncation::run(&a.jobs).await.unwrap_err();
    assert!(matches!(error, JobError::Uncovered { .. }), "{error}");
    assert_eq!(a.state().log_boundary(), Seq(0));
    assert!(names(&store, ObjectPrefix::Boundaries).await.is_empty());
    // One is enough, and the log goes no further than to that one.
    let (path, bytes) = whole.remove(0);
    let put = store.put_unique(&path, bytes, RequestKind::SnapshotPut);
    put.await.unwrap();
    assert!(truncation::run(&a.jobs).await.unwrap());
    let to = a.state().log_boundary();
    assert!(
        Seq(0) < to && ObjectPath::snapshot(to) <= path,
        "{to}, {path}"
    );
}

#[tokio::test(start_paused = true)]
pub(super) async fn a_dead_commit_goes_only_when_the_log_is_truncated_beyond_it() {
    let store = Store::memory();
    let a = worker(&store, 1).await;
    a.topic("t", 1, &[]).await;
    a.produce("t", 0, 10).await;
    let commit = ObjectRef::Commit(a.state().seq());
    a.delete_records("t", 0, 2).await;
    age(&a).await;
    wait(GRACE).await;
    a.produce("filler", 0, 10).await;
    assert!(!deletion::run(&a.jobs).await.unwrap());
    assert!(exists(&store, commit).await);
    let to = a.state().log_boundary_limit();
    a.commit(Op::RaiseLogBoundary { to }).await.unwrap();
    assert!(
        !deletion::run(&a.jobs).await.unwrap(),
        "no boundary is stored yet"
    );
    assert!(truncation::run(&a.jobs).await.unwrap());
    assert!(exists(&store, commit).await, "it may have readers");
    assert!(deletion::run(&a.jobs).await.unwrap());
    assert!(!exists(&store, commit).await);
    assert_eq!(a.state().death_of(commit), None);
}

/// In a log of the first level, in which a commit can be both.
#[tokio::test(start_paused = true)]
pub(super) async fn a_commit_that_is_alive_and_dead_stays() {
    let store = Store::memory();
    let a = worker_at(&store, Level::FIRST).await;
    a.topic("t", 1, &[]).await;
    let partition = a.partition("t", 0);
    let append = |start| {
        Op::Append(Append {
            partition,
            source: AppendSource::Inline,
            entries: vec![AppendEntry {
                start,
                len: 10,
                records: 1,
                max_timestamp: a.env.wall(),
                producer: None,
            }],
        })
    };
    let all = Op::DeleteRecords {
        partition,
        before: None,
    };
    let in_one_object = vec![append(0), all, append(10)];
    let committed = a.node.manifest().commit(in_one_object).await.unwrap();
    let commit = ObjectRef::Commit(committed.seq);
    let state = a.state();
    assert!(state.is_live(commit) && state.death_of(commit).is_some());
    age(&a).await;
    wait(GRACE).await;
    a.produce("filler", 0, 10).await;
    truncation::run(&a.jobs).await.unwrap();
    assert!(a.state().log_truncated() >= committed.seq);
    deletion::run(&a.jobs).await.unwrap();
    assert!(exists(&store, commit).await);
    assert_nothing_is_missing(&store, &a.state()).await;
}

#[tokio::test(start_paused = true)]
pub(super) async fn the_log_is_deleted_behind_a_snapshot_of_age_but_for_commits_with_records() {
    let store = Store::memory();
    let a = worker(&store, 1).await;
    a.topic("t", 1, &[]).await;
    a.produce("t", 0, 100).await;
    let with_records = ObjectRef::Commit(a.state().seq());
    for n in 0..10 {
        a.set("t", "retention.ms", &format!("{}", 1_000_000_000 + n))
            .await;
    }
    assert!(!truncation::run(&a.jobs).await.unwrap(), "too young");
    wait(TRUNCATION_AGE + MINUTE).await;
    a.produce("t", 0, 100).await;
    assert!(truncation::run(&a.jobs).await.unwrap());
    let state = a.state();
    assert!(state.log_truncated() > Seq(5));
    assert_eq!(state.log_truncated(), state.log_boundary());
    let boundaries = names(&store, ObjectPrefix::Boundaries).await;
    assert!(boundaries.contains(&ObjectPath::boundary(state.log_boundary())));
    let log = names(&store, ObjectPrefix::Log).await;
    let kept: Vec<ObjectPath> = log
        .into_iter()
        .filter(|path| *path <= ObjectPath::commit(state.log_truncated()))
        .collect();
    assert_eq!(kept, [deletion::path_of(with_records)]);
    // Whoever starts now has the same state, and the records.
    // A snapshot may still be on its way.
    wait(Duration::from_secs(1)).await;
    let b = worker(&store, 2).await;
    let ours = a.node.manifest().fresh().await.unwrap();
    assert_eq!(b.state().to_bytes(), ours.to_bytes());
    assert_eq!(b.read("t", 0).await, [(0, 2), (2, 2)]);
    assert!(!truncation::run(&a.jobs).await.unwrap());
    assert_eq!(state.claim(crate::state::Job::Truncation), None);
}

#[tokio::test(start_paused = true)]
pub(super) async fn a_boundary_that_was_raised_and_not_stored_is_stored_before_anything_is_deleted()
{
    let store = Store::memory();
    let a = worker(&store, 1).await;
    age(&a).await;
    let to = a.state().log_boundary_limit();
    a.commit(Op::RaiseLogBoundary { to }).await.unwrap();
    let b = worker(&store, 2).await;
    assert!(truncation::run(&b.jobs).await.unwrap());
    let boundaries = names(&store, ObjectPrefix::Boundaries).await;
    assert_eq!(
        boundaries.into_iter().collect::<Vec<_>>(),
        [ObjectPath::boundary(to)]
    );
    assert_eq!(b.state().log_truncated(), to);
}

/// An object that looks like a segment that was uploaded at that time and never committed.
async fn orphan(store: &Store, minted: Timestamp, n: u8) -> ObjectRef {
    let millis = u64::try_from(minted.0).unwrap();
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &[n; 10]);
    let id = SegmentId(id.into_uuid());
    let path = ObjectPath::segment(id);
    let put = store.put_unique(&path, vec![n; 10], RequestKind::SegmentPut);
    put.await.unwrap();
    ObjectRef::Segment(id)
}

#[tokio::test(start_paused = true)]
pub(super) async fn an_orphan_goes_when_it_can_never_be_committed_any_more() {
    let store = Store::memory();
    let a = worker(&store, 1).await;
    a.topic("t", 1, &[]).await;
    let age = a.jobs.options().sweep_age;
    let dying = a.produce_segment("t", 0).await;
    let live = a.produce_segment("t", 0).await;
    let old = orphan(&store, a.env.wall(), 1).await;
    // A check of the store that somebody has just begun.
    let check = ObjectPath::check(a.env.random_uuid(), "race");
    let put = store.put_unique(&check, vec![1; 10], RequestKind::Check);
    put.await.unwrap();
    wait(age / 2).await;
    let young = orphan(&store, a.env.wall(), 2).await;
    wait(age / 2 + MINUTE).await;
    a.produce("t", 0, 10).await;
    a.delete_records("t", 0, 2).await;
    assert!(sweep::run(&a.jobs).await.unwrap());
    assert!(!exists(&store, old).await);
    assert!(exists(&store, young).await, "its commit may be on its way");
    assert!(exists(&store, dying).await, "it may have readers");
    assert!(store.head(&check, RequestKind::Check).await.is_ok());
    assert!(exists(&store, live).await);
    let refer = |object| {
        let ObjectRef::Segment(segment) = object else {
            panic!("{object:?}");
        };
        Op::Append(crate::state::op::Append {
            partition: a.partition("t", 0),
            source: crate::state::op::AppendSource::Segment(segment),
            entries: vec![crate::state::op::AppendEntry {
                start: 40,
                len: 100,
                records: 1,
                max_timestamp: START,
                producer: None,
            }],
        })
    };
    let refused = a.commit(refer(old)).await.unwrap();
    assert!(
        matches!(&refused, Applied::Appended(entries)
            if matches!(entries[..], [Err(AppendRejected::StaleSegment(_))])),
        "{refused:?}"
    );
    let taken = a.commit(refer(young)).await.unwrap();
    assert!(matches!(&taken, Applied::Appended(entries) if entries[0].is_ok()));
}

/// What is reserved for other logs looks like what the sweep deletes, and is none of it.
#[tokio::test(start_paused = true)]
async fn the_sweep_leaves_alone_what_lies_below_the_names_of_other_logs() {
    let objects = Arc::new(InMemory::new());
    let store = Store::from_multipart_store(
        Arc::clone(&objects),
        StoreOptions::default(),
        StoreMetrics::default(),
    );
    // The store in memory tells the time by the machine's clock; in this test all that is in it is old.
    let late = Env::simulated(1, Timestamp(4_000_000_000_000));
    let a = worker_in(&store, late, |_| {}).await;
    a.topic("t", 1, &[]).await;
    let old = orphan(&store, a.env.wall(), 1).await;
    let swept = [
        deletion::path_of(old),
        ObjectPath::commit(Seq(1)),
        ObjectPath::snapshot(Seq(1)),
        ObjectPath::chunk(Seq(1), 0),
        ObjectPath::boundary(Seq(1)),
        ObjectPath::check(a.env.random_uuid(), "race"),
    ];
    let reserved = swept.map(|path| object_store::path::Path::from(format!("logs/7/{path}")));
    for path in &reserved {
        let bytes = PutPayload::from_static(b"of another log");
        objects.put(path, bytes).await.unwrap();
    }
    wait(a.jobs.options().sweep_age + MINUTE).await;
    age(&a).await;
    assert!(truncation::run(&a.jobs).await.unwrap());
    assert!(sweep::run(&a.jobs).await.unwrap());
    assert!(!exists(&store, old).await);
    for path in &reserved {
        assert!(objects.head(path).await.is_ok(), "{path}");
    }
}

#[tokio::test(start_paused = true)]
pub(super) async fn a_segment_that_a_late_request_brings_back_is_swept_up() {
    let store = Store::memory();
    let a = worker(&store, 1).await;
    a.topic("t", 1, &[]).await;
    let old = a.produce_segment("t", 0).await;
    a.delete_records("t", 0, 2).await;
    wait(HOUR).await;
    a.produce("t", 0, 10).await;
    assert!(deletion::run(&a.jobs).await.unwrap());
    let path = deletion::path_of(old);
    let put = store.put_unique(&path, vec![1; 10], RequestKind::SegmentPut);
    put.await.unwrap();
    wait(a.jobs.options().sweep_age).await;
    assert!(sweep::run(&a.jobs).await.unwrap());
    assert!(!exists(&store, old).await);
    assert_eq!(a.state().death_of(old), None);
}

#[tokio::test(start_paused = true)]
pub(super) async fn what_a_stalled_writer_puts_in_the_truncated_log_is_swept_up() {
    let store = Store::memory();
    let a = worker(&store, 1).await;
    age(&a).await;
    assert!(truncation::run(&a.jobs).await.unwrap());
    let garbage = ObjectPath::commit(Seq(1));
    let put = store.put_unique(&garbage, vec![1; 10], RequestKind::CommitPut);
    put.await.unwrap();
    let before = names(&store, ObjectPrefix::Log).await;
    assert!(sweep::run(&a.jobs).await.unwrap());
    let after = names(&store, ObjectPrefix::Log).await;
    let gone: Vec<&ObjectPath> = before.difference(&after).collect();
    assert_eq!(gone, [&garbage]);
    assert_nothing_is_missing(&store, &a.state()).await;
}

#[tokio::test(start_paused = true)]
pub(super) async fn snapshots_that_were_never_announced_old_boundaries_and_old_checks_are_swept_up()
{
    let store = Store::memory();
    // The store in memory tells the time by the machine's clock; in this test all that is in it is old.
    let late = Env::simulated(1, Timestamp(4_000_000_000_000));
    let a = worker_in(&store, late, |_| {}).await;
    a.topic("t", 1, &[]).await;
    for _ in 0..60 {
        a.produce("t", 0, 10).await;
        wait(Duration::from_secs(1)).await;
    }
    let known: Vec<Seq> = a.state().snapshots().map(|known| known.seq).collect();
    assert_eq!(known.len(), 4);
    let check = ObjectPath::check(a.env.random_uuid(), "race");
    let leftovers = [
        ObjectPath::snapshot(Seq(known[0].0 - 1)),
        ObjectPath::chunk(Seq(known[0].0 - 1), 0),
        ObjectPath::chunk(Seq(known[0].0 - 1), 1),
        ObjectPath::boundary(Seq(3)),
        check,
    ];
    // Between two that are kept: a node may be starting from it.
    let between = ObjectPath::snapshot(Seq(known[1].0 + 1));
    let newest = ObjectPath::boundary(Seq(5));
    let chunk = ObjectPath::chunk(known[0], 0);
    for path in leftovers.iter().chain([&between, &newest, &chunk]) {
        let put = store.put_unique(path, vec![1; 10], RequestKind::SnapshotPut);
        put.await.unwrap();
    }
    assert!(sweep::run(&a.jobs).await.unwrap());
    let left = names(&store, ObjectPrefix::All).await;
    for path in &leftovers {
        assert!(!left.contains(path), "{path}");
    }
    for path in [between, newest, chunk, ObjectPath::cluster()] {
        assert!(left.contains(&path), "{path}");
    }
    for known in a.state().snapshots() {
        assert!(left.contains(&ObjectPath::snapshot(known.seq)));
    }
}

#[tokio::test(start_paused = true)]
pub(super) async fn a_job_that_another_node_has_is_left_to_it() {
    let store = Store::memory();
    let (a, b) = (worker(&store, 1).await, worker(&store, 2).await);
    a.topic("t", 1, &[]).await;
    let old = a.produce_segment("t", 0).await;
    a.delete_records("t", 0, 2).await;
    wait(HOUR).await;
    let job = crate::state::Job::Deletion;
    b.commit(b.jobs.claiming(job)).await.unwrap();
    assert!(!deletion::run(&a.jobs).await.unwrap());
    assert!(exists(&store, old).await);
    wait(2 * MINUTE).await;
    assert!(deletion::run(&a.jobs).await.unwrap());
    assert!(!exists(&store, old).await);
}
