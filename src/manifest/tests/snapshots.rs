//! Snapshots that cannot be started from: not announced by whoever takes them, passed over by whoever starts.

use std::sync::OnceLock;

use bytes::Bytes;
use futures::FutureExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::*;
use crate::manifest::parts::MAX_CHUNK;
use crate::manifest::restore::newest_state;
use crate::manifest::snapshot::Taking;
use crate::rules::{Rule, assert_needed};
use crate::state::State;
use crate::store::Created;
use crate::testing::empty_commit;
use crate::types::MAX_COMMITS_IN_FLIGHT;

/// A node that takes a snapshot after every fourth commit.
async fn writer(store: &Store, seed: u64) -> Running {
    let options = ManifestOptions {
        snapshot_every: 4,
        ..ManifestOptions::default()
    };
    start_with(store, seed, options).await
}

/// Commits so many topics, and lets the snapshots be taken.
pub(super) async fn fill(node: &Running, topics: u128) -> Arc<State> {
    for n in 1..=topics {
        let topic = create_topic(&format!("t{n}"), n);
        node.manifest.commit(vec![topic]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    node.manifest.fresh().await.unwrap()
}

/// The seqs of the snapshots in the bucket, oldest first.
pub(super) async fn stored(store: &Store) -> Vec<Seq> {
    let listed = store.list(ObjectPrefix::Snapshots, None, 1000).await;
    let kinds = listed.unwrap().into_iter().map(|meta| meta.path.kind());
    kinds
        .filter_map(|kind| match kind {
            crate::store::ObjectKind::Snapshot(seq) => Some(seq),
            _ => None,
        })
        .collect()
}

/// Changes one byte in the middle of the object.
async fn damage(store: &Store, path: &ObjectPath) {
    let mut bytes = store
        .get(path, RequestKind::SnapshotGet)
        .await
        .unwrap()
        .to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    store
        .put_unique(path, bytes, RequestKind::SnapshotPut)
        .await
        .unwrap();
}

async fn take(store: &Store, manifest: &Manifest, metrics: &ManifestMetrics, state: Arc<State>) {
    let taking = Taking {
        store: store.clone(),
        manifest: manifest.clone(),
        metrics: metrics.clone(),
        max_chunk: MAX_CHUNK,
    };
    taking.take(state).await;
}

pub(super) async fn try_start(
    store: &Store,
    seed: u64,
) -> Result<(State, ManifestMetrics), OpenError> {
    let env = Env::simulated(seed, Timestamp(1_000_000));
    let incarnation = Incarnation(env.random_uuid());
    let metrics = ManifestMetrics::default();
    let options = ManifestOptions::default();
    let through: WriteThrough = Arc::new(|_, _| {});
    let opened = open(
        store.clone(),
        env,
        options,
        metrics.clone(),
        through,
        incarnation,
    );
    let (manifest, _tail, _) = opened.await?;
    Ok(((*manifest.state()).clone(), metrics))
}

#[tokio::test(start_paused = true)]
async fn a_state_that_nobody_could_start_from_is_not_stored() {
    let store = Store::memory();
    let node = start(&store, 1).await;
    let mut state = State::clone(&*fill(&node, 3).await);
    state.spoil();
    let metrics = ManifestMetrics::default();
    take(&store, &node.manifest, &metrics, Arc::new(state)).await;
    assert_eq!(stored(&store).await, []);
    assert_eq!(node.manifest.state().last_snapshot(), None);
    assert_eq!(
        (metrics.snapshots.get(), metrics.snapshots_refused.get()),
        (0, 1)
    );
    // A sound one is.
    take(&store, &node.manifest, &metrics, node.manifest.state()).await;
    assert_eq!(stored(&store).await, [Seq(3)]);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_the_store_spoils_is_not_announced() {
    let (store, spoils) = Faulty::switched(Fault::Garbles);
    let node = start(&store, 1).await;
    let state = fill(&node, 3).await;
    let metrics = ManifestMetrics::default();
    spoils.set(true);
    take(&store, &node.manifest, &metrics, state).await;
    spoils.set(false);
    assert_eq!(node.manifest.state().last_snapshot(), None);
    assert_eq!(metrics.snapshots_refused.get(), 1);
    // Nor does it keep a node from starting.
    let (state, metrics) = try_start(&store, 2).await.unwrap();
    assert_eq!(state.to_bytes(), node.manifest.state().to_bytes());
    assert_eq!(metrics.snapshots_unreadable.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_starts_from_whatever_snapshot_can_be_read_and_else_from_the_log() {
    let store = Store::memory();
    let node = writer(&store, 1).await;
    let state = fill(&node, 14).await;
    let snapshots = stored(&store).await;
    assert!(snapshots.len() > 2, "{snapshots:?}");
    for (n, seq) in snapshots.iter().rev().enumerate() {
        damage(&store, &ObjectPath::snapshot(*seq)).await;
        let (started, metrics) = try_start(&store, 2 + n as u64).await.unwrap();
        assert_eq!(started.to_bytes(), state.to_bytes());
        assert_eq!(metrics.snapshots_unreadable.get(), n as u64 + 1);
    }
}

fn a_missing_commit_stops_a_start() {
    // One; as many as no node has under way.
    for missing in [5..=5, 5..=28] {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build();
        runtime.unwrap().block_on(async {
            let store = Store::memory();
            let node = writer(&store, 1).await;
            let state = fill(&node, 30).await;
            let snapshots = stored(&store).await;
            store
                .delete(snapshots.into_iter().map(ObjectPath::snapshot).collect())
                .await
                .unwrap();
            let mut kept = Vec::new();
            for seq in missing {
                let path = ObjectPath::commit(Seq(seq));
                let body = store.get(&path, RequestKind::CommitGet).await.unwrap();
                store.delete(vec![path.clone()]).await.unwrap();
                kept.push((path, body));
            }
            let error = try_start(&store, 2).await.err().unwrap();
            assert!(
                matches!(&error, OpenError::MissingCommit { missing, .. } if *missing == kept[0].0),
                "{error}"
            );
            for (path, body) in kept {
                let created = store.create(&path, body, RequestKind::CommitPut).await;
                assert!(matches!(created, Ok(Created::Created)), "{created:?}");
            }
            let (started, _) = try_start(&store, 3).await.unwrap();
            assert_eq!(started.to_bytes(), state.to_bytes());
        });
    }
}

fn commits_that_all_follow_others_show_that_one_is_missing() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(async {
        let store = Store::memory();
        let node = writer(&store, 1).await;
        let end = fill(&node, 3).await.seq().0;
        drop(node);
        // Nobody sends more than that before the first of them stands.
        for ahead in 0..u64::from(MAX_COMMITS_IN_FLIGHT) {
            let path = ObjectPath::commit(Seq(end + 2 + ahead));
            let body = empty_commit(7 + ahead, Some(6 + ahead));
            let created = store.create(&path, body, RequestKind::CommitPut).await;
            assert!(matches!(created, Ok(Created::Created)), "{created:?}");
            let is_last = ahead + 1 == u64::from(MAX_COMMITS_IN_FLIGHT);
            if is_last || ahead == 3 {
                let looks = try_start(&store, 2 + ahead).await;
                let is_missing = matches!(&looks, Err(OpenError::MissingCommit { .. }));
                assert_eq!(is_missing, is_last, "{:?}", looks.err());
            }
        }
    });
}

#[test]
fn a_commit_that_is_missing_in_the_middle_of_the_log_stops_a_start() {
    a_missing_commit_stops_a_start();
    assert_needed(&[(
        Rule::MissingCommitsStopStarts,
        a_missing_commit_stops_a_start,
    )]);
}

#[test]
fn a_commit_that_is_missing_before_many_that_follow_one_another_stops_a_start() {
    commits_that_all_follow_others_show_that_one_is_missing();
    assert_needed(&[(
        Rule::MissingCommitsStopStarts,
        commits_that_all_follow_others_show_that_one_is_missing,
    )]);
}

#[tokio::test(start_paused = true)]
async fn a_log_without_its_beginning_is_not_started_from() {
    let store = Store::memory();
    let node = writer(&store, 1).await;
    fill(&node, 14).await;
    let snapshots = stored(&store).await;
    let newest = *snapshots.last().unwrap();
    let boundary = ObjectPath::boundary(newest);
    let body = Bytes::from_static(b"-");
    store
        .put_unique(&boundary, body, RequestKind::BoundaryPut)
        .await
        .unwrap();
    damage(&store, &ObjectPath::snapshot(newest)).await;
    let error = try_start(&store, 2).await.err().unwrap().to_string();
    assert!(
        error.contains(ObjectPath::snapshot(newest).as_str()),
        "{error}"
    );
    // Somebody deletes all of them: the log is not taken for a new one.
    let all = snapshots.into_iter().map(ObjectPath::snapshot).collect();
    store.delete(all).await.unwrap();
    let error = try_start(&store, 3).await.err().unwrap();
    assert!(matches!(error, OpenError::NoStart { boundary, .. } if boundary == newest));
}

#[test]
fn a_log_that_is_truncated_during_a_start_from_an_older_snapshot_is_not_taken_for_its_end() {
    let runtime = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build();
        runtime.unwrap()
    };
    let mut ends = [0, 0];
    for at in 0..24 {
        match runtime().block_on(truncated_at(at)) {
            true => ends[0] += 1,
            false => ends[1] += 1,
        }
    }
    assert!(ends[0] > 0 && ends[1] > 0, "{ends:?}");
}

/// Starts a node from the snapshot before the newest, which is damaged, and truncates the log up to the newest at the
/// request of that number. Returns whether the node came to the state, which it must unless it says that it cannot.
async fn truncated_at(at: usize) -> bool {
    let when = Arc::new(std::sync::atomic::AtomicUsize::new(usize::MAX));
    /// The store, its commits, and the boundary.
    type Truncated = (Arc<Faulty>, Vec<String>, String);
    let faulty: Arc<OnceLock<Truncated>> = Arc::default();
    let (due, then) = (when.clone(), faulty.clone());
    let (store, objects) = Faulty::store(move |n| {
        if n == due.load(std::sync::atomic::Ordering::SeqCst)
            && let Some((objects, commits, boundary)) = then.get()
        {
            let path = Path::from(boundary.as_str());
            let put = objects.inner().put(&path, "-".into());
            put.now_or_never().unwrap().unwrap();
            for commit in commits {
                let path = Path::from(commit.as_str());
                let gone = objects.inner().delete(&path);
                gone.now_or_never().unwrap().unwrap();
            }
        }
        Fault::None
    });
    let node = writer(&store, 1).await;
    let state = fill(&node, 14).await;
    let newest = *stored(&store).await.last().unwrap();
    damage(&store, &ObjectPath::snapshot(newest)).await;
    let commits = (1..=newest.0).map(|seq| ObjectPath::commit(Seq(seq)).to_string());
    let boundary = ObjectPath::boundary(newest).to_string();
    let _ = faulty.set((objects.clone(), commits.collect(), boundary));
    when.store(objects.requests() + at, std::sync::atomic::Ordering::SeqCst);
    match try_start(&store, 2).await {
        Ok((started, _)) => {
            assert_eq!(
                started.to_bytes(),
                state.to_bytes(),
                "truncated at request {at}"
            );
            true
        }
        Err(error) => {
            let said = error.to_string();
            assert!(said.contains("truncated"), "{said}");
            false
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_says_nothing_about_a_snapshot() {
    for fault in [Fault::Fails, Fault::Denied] {
        let (store, away) = Faulty::switched(fault);
        let node = writer(&store, 1).await;
        fill(&node, 14).await;
        let metrics = ManifestMetrics::default();
        away.set(true);
        let error = newest_state(&store, &metrics).await.err().unwrap();
        assert!(matches!(error, OpenError::Store(_)), "{error}");
        assert_eq!(metrics.snapshots_unreadable.get(), 0);
    }
}

#[test]
fn each_rule_of_snapshots_has_a_test_that_fails_without_it() {
    assert_needed(&[
        (
            Rule::SnapshotsAreDecodedFirst,
            a_state_that_nobody_could_start_from_is_not_stored,
        ),
        (
            Rule::SnapshotsAreReadBack,
            a_snapshot_that_the_store_spoils_is_not_announced,
        ),
        (
            Rule::UnreadableSnapshotsAreSkipped,
            a_node_starts_from_whatever_snapshot_can_be_read_and_else_from_the_log,
        ),
        (
            Rule::OlderSnapshotsNeedTheirLog,
            a_log_that_is_truncated_during_a_start_from_an_older_snapshot_is_not_taken_for_its_end,
        ),
        (
            Rule::OlderSnapshotsNeedTheirLog,
            a_log_without_its_beginning_is_not_started_from,
        ),
    ]);
}
