use super::*;
use crate::state::Job;
use crate::store::RequestKind;

const OLD: Duration = Duration::from_secs(2000);

/// What is left of a partition: how many slices, how many of them compacted.
fn slices(w: &Worker, topic: &str, partition: i32) -> (usize, usize) {
    let state = w.state();
    let found = state.partition(w.partition(topic, partition)).unwrap();
    let compacted = found
        .slices_from(Offset(0))
        .filter(|(_, s)| s.index.is_some());
    (found.slice_count(), compacted.count())
}

/// The offsets of batches of two records, from 0.
fn twos(batches: i64) -> Vec<(i64, i32)> {
    (0..batches).map(|n| (2 * n, 2)).collect()
}

#[tokio::test(start_paused = true)]
pub(super) async fn many_slices_become_one_and_every_record_keeps_its_offset() {
    let store = Store::memory();
    let a = worker(&store, 1).await;
    a.topic("t", 1, &[]).await;
    for n in 0..50 {
        a.produce("t", 0, if n % 10 == 3 { 60_000 } else { 1000 })
            .await;
    }
    assert!(!compaction::run(&a.jobs).await.unwrap(), "it is young");
    wait(OLD).await;
    assert!(compaction::run(&a.jobs).await.unwrap());
    assert_eq!(slices(&a, "t", 0), (1, 1));
    assert!(!compaction::run(&a.jobs).await.unwrap());
    a.produce("t", 0, 1000).await;
    let cold = worker(&store, 2).await;
    assert_eq!(cold.read("t", 0).await, twos(51));
    assert_eq!(a.read("t", 0).await, twos(51));
    assert_eq!(a.state().claims().count(), 0);
    let totals = a.state().totals();
    assert!(totals.compacted < totals.appended && totals.compacted.0 > 300_000);
}

#[tokio::test(start_paused = true)]
pub(super) async fn partitions_are_compacted_together_and_each_object_is_read_once() {
    let store = Store::memory();
    let a = worker(&store, 1).await;
    a.topic("t", 40, &[]).await;
    let begun = a.state().seq();
    for _ in 0..30 {
        let each = (0..40).map(|partition| a.produce("t", partition, 500));
        futures::future::join_all(each).await;
    }
    let commits = a.state().seq().0 - begun.0;
    wait(OLD).await;
    // But for looks at whether the cluster is still there, and a snapshot.
    let metrics = store.metrics();
    let others = [
        RequestKind::Cluster,
        RequestKind::SnapshotPut,
        RequestKind::SnapshotGet,
    ];
    let of_others = || {
        others
            .map(|kind| metrics.requests(kind))
            .iter()
            .sum::<u64>()
    };
    let requests = || metrics.total() - of_others();
    let before = requests();
    assert!(compaction::run(&a.jobs).await.unwrap());
    for partition in 0..40 {
        assert_eq!(slices(&a, "t", partition), (1, 1));
    }
    let segments: BTreeSet<ObjectRef> =
        a.state().live_objects().map(|(object, _)| object).collect();
    assert_eq!(segments.len(), 1);
    let reads = store.metrics().requests(RequestKind::CompactedGet);
    assert!(reads <= commits, "{reads} requests for {commits} commits");
    // Claim, reads, one segment, one commit; and what is said of a snapshot.
    assert!(requests() - before <= reads + 6);
    let cold = worker(&store, 2).await;
    for partition in 0..40 {
        assert_eq!(cold.read("t", partition).await, twos(30));
    }
}

#[tokio::test(start_paused = true)]
pub(super) async fn what_does_not_fit_in_memory_is_a_stream_of_segments_in_parts() {
    let store = Store::memory();
    let little = |options: &mut MaintenanceOptions| {
        options.compaction.memory = ByteCount::mib(1);
        options.compaction.target = ByteCount::mib(20);
        options.compaction.job = ByteCount::mib(80);
    };
    let a = worker_with(&store, 1, little).await;
    a.topic("t", 1, &[]).await;
    for _ in 0..70 {
        a.produce("t", 0, 900_000).await;
    }
    wait(OLD).await;
    assert!(compaction::run(&a.jobs).await.unwrap());
    assert_eq!(slices(&a, "t", 0), (4, 4));
    assert_eq!(a.state().live_objects().count(), 4);
    let cold = worker(&store, 2).await;
    assert_eq!(cold.read("t", 0).await, twos(70));
}

#[tokio::test(start_paused = true)]
pub(super) async fn short_compacted_slices_are_merged_and_their_offsets_are_checked() {
    let store = Store::memory();
    let a = worker(&store, 1).await;
    a.topic("t", 2, &[]).await;
    for _ in 0..compaction::policy::GROWTH {
        for partition in 0..2 {
            for _ in 0..3 {
                a.produce("t", partition, 100).await;
            }
        }
        wait(OLD).await;
        while compaction::run(&a.jobs).await.unwrap() {}
    }
    assert_eq!(slices(&a, "t", 0), (1, 1));
    assert_eq!(slices(&a, "t", 1), (1, 1));
    let cold = worker(&store, 2).await;
    assert_eq!(cold.read("t", 0).await, twos(48));
}

#[tokio::test(start_paused = true)]
pub(super) async fn a_reader_whose_state_is_old_goes_on_when_its_objects_are_gone() {
    let store = Store::memory();
    let (a, b) = (worker(&store, 1).await, worker(&store, 2).await);
    a.topic("t", 1, &[]).await;
    for _ in 0..20 {
        a.produce("t", 0, 1000).await;
        a.produce_segment("t", 0).await;
    }
    b.node.manifest().fresh().await.unwrap();
    wait(OLD).await;
    assert!(compaction::run(&a.jobs).await.unwrap());
    // The log goes, too.
    for _ in 0..3 {
        wait(15 * MINUTE).await;
        for _ in 0..10 {
            a.produce("t", 0, 10).await;
        }
        truncation::run(&a.jobs).await.unwrap();
        deletion::run(&a.jobs).await.unwrap();
    }
    let gone = |w: &Worker| {
        let state = w.state();
        let objects: Vec<ObjectRef> = state.live_objects().map(|(object, _)| object).collect();
        objects
    };
    let all = names(&store, ObjectPrefix::All).await;
    let known = gone(&b);
    assert_eq!(known.len(), 40);
    assert!(
        known
            .iter()
            .all(|object| !all.contains(&deletion::path_of(*object)))
    );
    assert_eq!(b.read("t", 0).await, twos(70));
}

#[tokio::test(start_paused = true)]
pub(super) async fn a_reader_that_misses_an_object_looks_where_its_records_are_now() {
    let store = Store::memory();
    let (a, b) = (worker(&store, 1).await, worker(&store, 2).await);
    a.topic("t", 1, &[]).await;
    for _ in 0..20 {
        // Not in a commit, which the other would have in its cache.
        a.produce_segment("t", 0).await;
    }
    wait(OLD).await;
    // This one has just seen the end of the log, and will rely on that.
    b.node.manifest().fresh().await.unwrap();
    let state = b.state();
    let objects = state.live_objects().map(|(object, _)| object);
    let objects: Vec<ObjectPath> = objects.map(deletion::path_of).collect();
    assert!(compaction::run(&a.jobs).await.unwrap());
    // Long before their time, as seen by a reader that takes very long.
    store.delete(objects).await.unwrap();
    assert_eq!(b.read("t", 0).await, twos(20));
}

#[tokio::test(start_paused = true)]
pub(super) async fn of_two_nodes_that_compact_the_same_one_is_refused_and_leaves_nothing() {
    let store = Store::memory();
    let (a, b) = (worker(&store, 1).await, worker(&store, 2).await);
    a.topic("t", 1, &[]).await;
    for _ in 0..20 {
        a.produce("t", 0, 1000).await;
    }
    wait(OLD).await;
    b.node.manifest().fresh().await.unwrap();
    // One has a claim that has lapsed by the time the other asks, and does not know.
    let (one, other) = tokio::join!(compaction::run(&a.jobs), async {
        b.jobs
            .release(&[Job::Compaction(b.partition("t", 0))])
            .await;
        compaction::run(&b.jobs).await
    });
    let did = [one, other]
        .into_iter()
        .filter(|done| matches!(done, Ok(true)))
        .count();
    assert_eq!(did, 1);
    let state = a.node.manifest().fresh().await.unwrap();
    assert_eq!(slices(&a, "t", 0), (1, 1));
    let segments = names(&store, ObjectPrefix::Segments).await;
    assert_eq!(segments.len(), 1);
    assert_nothing_is_missing(&store, &state).await;
    assert_eq!(b.read("t", 0).await, twos(20));
}

#[tokio::test(start_paused = true)]
pub(super) async fn a_compaction_whose_inputs_changed_is_refused_and_its_segment_deleted_at_once() {
    let store = Store::memory();
    let a = worker(&store, 1).await;
    a.topic("t", 1, &[]).await;
    for _ in 0..20 {
        a.produce("t", 0, 1000).await;
    }
    // The records go while their compaction waits: behind the claim, before the result.
    let slow = |options: &mut MaintenanceOptions| {
        options.compaction.bandwidth = Some(ByteCount(10_000));
    };
    let b = worker_with(&store, 2, slow).await;
    wait(OLD).await;
    b.node.manifest().fresh().await.unwrap();
    b.jobs.pace(100_000).await;
    let (done, ()) = tokio::join!(compaction::run(&b.jobs), async {
        wait(Duration::from_secs(1)).await;
        a.delete_records("t", 0, 4).await;
    });
    assert!(matches!(done, Err(JobError::InputsChanged)), "{done:?}");
    assert_eq!(names(&store, ObjectPrefix::Segments).await.len(), 0);
    assert_eq!(b.state().claims().count(), 0);
}

#[tokio::test(start_paused = true)]
pub(super) async fn a_segment_whose_op_may_have_taken_effect_is_left_to_the_sweep() {
    let store = Store::memory();
    let a = worker(&store, 1).await;
    a.topic("t", 1, &[]).await;
    for _ in 0..20 {
        a.produce("t", 0, 1000).await;
    }
    let slow = |options: &mut MaintenanceOptions| {
        options.compaction.bandwidth = Some(ByteCount(10_000));
    };
    let Worker { node, jobs, .. } = worker_with(&store, 2, slow).await;
    wait(OLD).await;
    node.manifest().fresh().await.unwrap();
    jobs.pace(100_000).await;
    let (done, ()) = tokio::join!(compaction::run(&jobs), async {
        wait(Duration::from_secs(1)).await;
        node.stop(Duration::from_secs(1)).await;
    });
    assert!(matches!(done, Err(JobError::Stopped(_))), "{done:?}");
    assert_eq!(names(&store, ObjectPrefix::Segments).await.len(), 1);
}

#[tokio::test(start_paused = true)]
pub(super) async fn an_input_that_went_and_was_deleted_meanwhile_is_no_damage() {
    let store = Store::memory();
    let a = worker(&store, 1).await;
    a.topic("t", 1, &[]).await;
    let mut commits = Vec::new();
    for _ in 0..20 {
        a.produce("t", 0, 1000).await;
        commits.push(ObjectPath::commit(a.state().seq()));
    }
    let slow = |options: &mut MaintenanceOptions| {
        options.compaction.bandwidth = Some(ByteCount(10_000));
    };
    let b = worker_with(&store, 2, slow).await;
    wait(OLD).await;
    b.node.manifest().fresh().await.unwrap();
    b.jobs.pace(100_000).await;
    let (done, ()) = tokio::join!(compaction::run(&b.jobs), async {
        wait(Duration::from_secs(1)).await;
        a.delete_records("t", 0, 40).await;
        store.delete(commits).await.unwrap();
    });
    assert!(matches!(done, Err(JobError::InputsChanged)), "{done:?}");
}

/// Damages the last byte of an object.
async fn damage(store: &Store, path: &ObjectPath) {
    let object = store.get(path, RequestKind::SegmentGet).await.unwrap();
    let mut bytes = object.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let put = store.put_unique(path, bytes, RequestKind::SegmentPut);
    put.await.unwrap();
}

#[tokio::test(start_paused = true)]
pub(super) async fn damaged_and_missing_records_are_reported_and_never_dropped() {
    for missing in [false, true] {
        let store = Store::memory();
        let a = worker(&store, 1).await;
        a.topic("t", 1, &[]).await;
        let mut commits = Vec::new();
        for _ in 0..5 {
            a.produce("t", 0, 1000).await;
            commits.push(a.state().seq());
        }
        let path = ObjectPath::commit(commits[2]);
        if missing {
            store.delete(vec![path]).await.unwrap();
        } else {
            damage(&store, &path).await;
        }
        wait(OLD).await;
        let error = compaction::run(&a.jobs).await.unwrap_err();
        let JobError::Unreadable { offset, object, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(
            (*offset, *object),
            (Offset(4), ObjectRef::Commit(commits[2]))
        );
        assert_eq!(slices(&a, "t", 0), (5, 0));
        assert_eq!(names(&store, ObjectPrefix::Segments).await.len(), 0);
        assert_eq!(a.state().claims().count(), 0);
    }
}

#[tokio::test(start_paused = true)]
pub(super) async fn a_compacted_batch_that_says_another_offset_is_not_believed() {
    let store = Store::memory();
    let a = worker(&store, 1).await;
    a.topic("t", 1, &[]).await;
    let mut compacted = Vec::new();
    for n in 1..=compaction::policy::GROWTH {
        a.produce("t", 0, 100).await;
        wait(OLD).await;
        if n < compaction::policy::GROWTH {
            assert!(compaction::run(&a.jobs).await.unwrap());
        }
        compacted = names(&store, ObjectPrefix::Segments)
            .await
            .into_iter()
            .collect();
    }
    // The base offset of the first batch, which the checksum of the batch does not cover.
    let path = &compacted[3];
    let object = store.get(path, RequestKind::SegmentGet).await.unwrap();
    let mut bytes = object.to_vec();
    bytes[40 + 7] += 1;
    let put = store.put_unique(path, bytes, RequestKind::SegmentPut);
    put.await.unwrap();
    assert!(compaction::run(&a.jobs).await.unwrap(), "the last raw one");
    let error = compaction::run(&a.jobs).await.unwrap_err();
    assert!(matches!(error, JobError::Unreadable { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
pub(super) async fn one_partition_that_cannot_be_read_does_not_keep_the_others_waiting() {
    let store = Store::memory();
    let feed = worker(&store, 1).await;
    feed.topic("t", 3, &[]).await;
    for partition in 0..3 {
        for _ in 0..5 {
            feed.produce("t", partition, 1000).await;
        }
    }
    // One in the middle of partition 1. Between the appends are commits about snapshots.
    let state = feed.state();
    let one = state.partition(feed.partition("t", 1)).unwrap();
    let (_, slice) = one.slices_from(Offset(0)).nth(2).unwrap();
    let ObjectRef::Commit(seq) = slice.object else {
        panic!("{slice:?}")
    };
    damage(&store, &ObjectPath::commit(seq)).await;
    let (b, metrics) = running::node(&store, 2, MaintenanceOptions::default()).await;
    wait(OLD + 5 * MINUTE).await;
    feed.node.manifest().fresh().await.unwrap();
    assert_eq!(slices(&feed, "t", 0), (1, 1));
    assert_eq!(slices(&feed, "t", 1), (5, 0));
    assert_eq!(slices(&feed, "t", 2), (1, 1));
    assert_eq!(metrics.maintenance().failures(Task::Compaction), 1);
    drop(b);
}

#[tokio::test(start_paused = true)]
pub(super) async fn compaction_reads_no_faster_than_it_may_and_steps_back_for_producers() {
    let store = Store::memory();
    let slow = |options: &mut MaintenanceOptions| {
        options.compaction.bandwidth = Some(ByteCount::kib(100));
        options.compaction.memory = ByteCount(0);
    };
    let a = worker_with(&store, 1, slow).await;
    a.topic("t", 1, &[]).await;
    for _ in 0..60 {
        a.produce("t", 0, 900_000).await;
    }
    wait(OLD).await;
    let began = tokio::time::Instant::now();
    assert!(compaction::run(&a.jobs).await.unwrap());
    // 54 MB, of which the last 16 MiB are paid for by what comes next.
    let took = began.elapsed().as_secs();
    assert!((330..=530).contains(&took), "{took}");

    let busy = Maintenance::new(MaintenanceParts {
        store: store.clone(),
        manifest: a.node.manifest().clone(),
        env: a.env.clone(),
        incarnation: Incarnation(a.env.random_uuid()),
        options: MaintenanceOptions::default(),
        metrics: MaintenanceMetrics::default(),
        busy: Arc::new(|| true),
    });
    a.produce("t", 0, 100).await;
    wait(OLD).await;
    let began = tokio::time::Instant::now();
    assert!(compaction::run(&busy).await.unwrap(), "it does not starve");
    assert!(began.elapsed() >= Duration::from_secs(10));
}
