//! A bucket that changes under the walk, and one whose old log is gone.

use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;

use super::scene::{Bucket, ORDERS, Writer, kinds, partition};
use crate::format::{ObjectBuilder, ObjectKind};
use crate::state::ObjectRef;
use crate::state::op::Op;
use crate::store::{Created, ObjectPath, RequestKind};
use crate::types::{Seq, Timestamp};

/// The bucket as it is now, to be walked while it becomes what `later` makes of it.
fn fork(objects: &InMemory) -> Arc<InMemory> {
    Arc::new(objects.fork())
}

#[tokio::test(start_paused = true)]
async fn what_is_retired_and_deleted_during_the_walk_is_no_finding() {
    let objects = Arc::new(InMemory::new());
    let writer = Writer::open(&objects, 1000).await;
    writer.create_orders().await;
    let segment = writer.append_segment(5).await;
    writer.append_inline(0, 2).await;
    let before = fork(&objects);
    writer.commit(Op::DeleteTopic { topic: ORDERS }).await;
    let path = ObjectPath::segment(segment);
    objects.delete(&Path::from(path.as_str())).await.unwrap();
    let now = writer.env.wall();
    drop(writer);

    // It goes between the listing and the look into it, or while it is read.
    for deep in [false, true] {
        let name = format!("get {}", path.as_str());
        let mut bucket = Bucket::of(fork(&before), now);
        let trigger = Box::new(move |request: &str| request == name);
        bucket.then = Some((trigger, fork(&objects)));
        let report = bucket.check(deep).await;
        assert_eq!(report.findings, []);
        assert_eq!(report.state_seq, Some(Seq(4)), "the walk looked again");
    }
    // The same without the deletion of the topic is one.
    let mut bucket = Bucket::of(fork(&before), now);
    bucket.delete(path.as_str()).await;
    assert_eq!(bucket.kinds(false).await, ["missing-object"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_committed_during_the_walk_is_no_orphan() {
    let objects = Arc::new(InMemory::new());
    let writer = Writer::open(&objects, 1000).await;
    writer.create_orders().await;
    let (_, ops) = writer.upload(5).await;
    let before = fork(&objects);
    writer.manifest.commit(ops).await.unwrap();
    let now = writer.env.wall().after(Duration::from_secs(7200));
    drop(writer);
    let mut bucket = Bucket::of(before.clone(), now);
    let trigger = Box::new(|request: &str| request.contains("commit"));
    bucket.then = Some((trigger, objects));
    assert_eq!(bucket.check(true).await.findings, []);
    let mut bucket = Bucket::of(before, now);
    assert_eq!(bucket.kinds(true).await, ["orphan"]);
}

/// A cluster that has truncated its log: the boundary is raised as far as it may be, and what is allowed to go is gone.
async fn truncated() -> (Bucket, Seq, Vec<Seq>) {
    let objects = Arc::new(InMemory::new());
    let writer = Writer::open(&objects, 4).await;
    writer.create_orders().await;
    for n in 0..10 {
        writer.append_inline(n % 2, 2).await;
        writer.catch_up().await;
    }
    // Records at the start of one partition are deleted, so some commits hold none any more.
    writer
        .commit(Op::DeleteRecords {
            partition: partition(0),
            before: None,
        })
        .await;
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_secs(300)).await;
        writer.append_inline(1, 1).await;
    }
    let state = writer.catch_up().await;
    let to = state.log_boundary_limit();
    assert!(to > Seq(4), "{to}");
    writer.commit(Op::RaiseLogBoundary { to }).await;
    let state = writer.catch_up().await;
    assert_eq!(state.log_boundary(), to);
    let boundary = ObjectBuilder::new(ObjectKind::Boundary).finish(&[], &[]);
    let (path, body) = (ObjectPath::boundary(to), boundary.unwrap());
    let created = writer.store.create(&path, body, RequestKind::BoundaryPut);
    assert!(matches!(created.await, Ok(Created::Created)));
    let mut live = Vec::new();
    for seq in (1..=to.0).map(Seq) {
        if state.is_live(ObjectRef::Commit(seq)) {
            live.push(seq);
            continue;
        }
        let path = Path::from(ObjectPath::commit(seq).as_str());
        objects.delete(&path).await.unwrap();
    }
    let deleted: Vec<ObjectRef> = state
        .dead_objects()
        .map(|(object, _)| object)
        .filter(|object| matches!(object, ObjectRef::Commit(seq) if *seq <= to))
        .collect();
    assert!(!live.is_empty() && !deleted.is_empty());
    writer.commit(Op::ObjectsDeleted { objects: deleted }).await;
    writer.commit(Op::LogTruncated { to }).await;
    writer.catch_up().await;
    let now = writer.env.wall();
    drop(writer);
    (Bucket::of(objects, now), to, live)
}

#[tokio::test(start_paused = true)]
async fn a_truncated_log_is_sound_and_what_must_live_on_is_missed_if_it_does_not() {
    let (mut bucket, boundary, live) = truncated().await;
    for deep in [false, true] {
        let report = bucket.check(deep).await;
        assert_eq!(report.findings, [], "{report:?}");
        assert_eq!(report.state_seq, Some(report.log_end));
        assert!(report.checked.snapshots_compared > 0);
    }
    // A commit that only lives on for its records.
    let path = ObjectPath::commit(live[0]);
    let body = bucket.get(path.as_str()).await;
    bucket.delete(path.as_str()).await;
    assert_eq!(bucket.kinds(false).await, ["missing-object"]);
    // Its records are looked at, though no fold needs it any more.
    let mut damaged = body.to_vec();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    bucket.put(path.as_str(), damaged).await;
    assert_eq!(bucket.kinds(true).await, ["bad-slice"]);
    bucket.put(path.as_str(), body).await;
    // The boundary, damaged and gone.
    let name = ObjectPath::boundary(boundary);
    let body = bucket.get(name.as_str()).await;
    bucket.put(name.as_str(), body.slice(..20)).await;
    assert_eq!(bucket.kinds(false).await, ["wrong-length"]);
    bucket.delete(name.as_str()).await;
    assert_eq!(bucket.kinds(false).await, ["missing-boundary"]);
    bucket.put(name.as_str(), body).await;
    // A snapshot of before the boundary is read as well, though nothing is folded from it.
    let oldest = bucket
        .names()
        .await
        .into_iter()
        .find(|name| name.contains("snapshot"));
    let oldest = oldest.unwrap();
    let body = bucket.get(&oldest).await;
    bucket.put(&oldest, body.slice(..100)).await;
    assert!(bucket.kinds(false).await.contains(&"wrong-length"));
    bucket.put(&oldest, body).await;
    assert!(bucket.kinds(true).await.is_empty());
    // A commit after the boundary.
    let after = ObjectPath::commit(boundary.next());
    bucket.delete(after.as_str()).await;
    assert!(bucket.kinds(false).await.contains(&"missing-commit"));
}

#[tokio::test(start_paused = true)]
async fn what_a_node_that_slept_left_at_a_free_name_is_not_folded() {
    let (mut bucket, boundary, _) = truncated().await;
    // The beginning of another history, right up to the boundary.
    let other = Arc::new(InMemory::new());
    let writer = Writer::open(&other, 1000).await;
    for _ in 0..boundary.0 {
        writer.commit(Op::AllocateProducerIds { count: 1 }).await;
    }
    drop(writer);
    let other = Bucket::of(other, bucket.now);
    for seq in (1..=boundary.0).map(Seq) {
        let name = ObjectPath::commit(seq);
        if !bucket.names().await.contains(&name.as_str().to_owned()) {
            bucket
                .put(name.as_str(), other.get(name.as_str()).await)
                .await;
        }
    }
    let report = bucket.check(true).await;
    assert_eq!(kinds(&report), ["spare-commit"], "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_was_truncated_and_is_still_there_is_a_note() {
    let (mut bucket, boundary, live) = truncated().await;
    let spare = (1..=boundary.0)
        .map(Seq)
        .find(|seq| !live.contains(seq))
        .unwrap();
    let some = ObjectPath::commit(live[0]);
    let body = bucket.get(some.as_str()).await;
    bucket.put(ObjectPath::commit(spare).as_str(), body).await;
    let report = bucket.check(false).await;
    assert_eq!(kinds(&report), ["spare-commit"]);
    assert!(report.is_sound());
    assert!(bucket.now > Timestamp(0));
}
