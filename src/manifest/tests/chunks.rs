//! Snapshots in several objects.

use super::snapshots::{fill, stored, try_start};
use super::*;
use crate::rules::{Rule, assert_needed};
use crate::state::Level;
use crate::store::ObjectKind;

fn on_paused_time<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(test)
}

/// A cluster of the second level, whose states are in chunks of 100 bytes, and snapshots are taken of after every
/// fourth commit.
async fn writer_of_chunks(store: &Store, seed: u64) -> Running {
    let options = ManifestOptions {
        snapshot_every: 4,
        max_chunk: 100,
        ..ManifestOptions::default()
    };
    let node = start_with(store, seed, options).await;
    let raise = Op::RaiseLevel { to: Level(2) };
    node.manifest.commit(vec![raise]).await.unwrap();
    node
}

/// The seqs of the chunks in the bucket, in order, each once.
async fn chunked(store: &Store) -> Vec<Seq> {
    let listed = store.list(ObjectPrefix::Chunks, None, 10_000).await;
    let kinds = listed.unwrap().into_iter().map(|meta| meta.path.kind());
    let mut seqs: Vec<Seq> = kinds
        .filter_map(|kind| match kind {
            ObjectKind::Chunk(seq, _) => Some(seq),
            _ => None,
        })
        .collect();
    seqs.dedup();
    seqs
}

#[tokio::test(start_paused = true)]
async fn a_state_that_is_larger_than_one_object_is_started_from_in_chunks() {
    let store = Store::memory();
    let node = writer_of_chunks(&store, 1).await;
    let state = fill(&node, 40).await;
    let snapshots = stored(&store).await;
    // Of the snapshots that were retired neither heads nor chunks are left.
    assert_eq!(snapshots.len(), 4);
    assert_eq!(chunked(&store).await, snapshots);
    let listed = store
        .list(ObjectPrefix::Chunks, None, 10_000)
        .await
        .unwrap();
    assert!(listed.len() > 4 * 10, "{}", listed.len());
    let (started, metrics) = try_start(&store, 2).await.unwrap();
    assert_eq!(started.to_bytes(), state.to_bytes());
    assert_eq!(metrics.snapshots_unreadable.get(), 0);
    // One that lost a chunk is passed over, and so is one with another's.
    let newest = *snapshots.last().unwrap();
    let gone = vec![ObjectPath::chunk(newest, 3)];
    store.delete(gone).await.unwrap();
    let other = ObjectPath::chunk(snapshots[2], 1);
    let other = store.get(&other, RequestKind::SnapshotGet).await.unwrap();
    let path = ObjectPath::chunk(snapshots[2], 0);
    let put = store.put_unique(&path, other, RequestKind::SnapshotPut);
    put.await.unwrap();
    let (started, metrics) = try_start(&store, 3).await.unwrap();
    assert_eq!(started.to_bytes(), state.to_bytes());
    assert_eq!(metrics.snapshots_unreadable.get(), 2);
}

/// Lets the store fail for good from some request on, as if the node died there, and looks whether every head in the
/// bucket has its chunks.
fn heads_have_their_chunks_wherever_a_node_dies() {
    for dies_at in 0.. {
        let died = on_paused_time(async {
            let (store, objects) = Faulty::store(move |n| match n < dies_at {
                true => Fault::None,
                false => Fault::Denied,
            });
            let options = ManifestOptions {
                snapshot_every: 4,
                max_chunk: 300,
                ..ManifestOptions::default()
            };
            let env = Env::simulated(1, Timestamp(1_000_000));
            let incarnation = Incarnation(env.random_uuid());
            let metrics = ManifestMetrics::default();
            let through: WriteThrough = Arc::new(|_, _| {});
            let opened = open(store, env, options, metrics, through, incarnation);
            if let Ok((manifest, tail, _)) = opened.await {
                let running = tokio::spawn(tail.run(CancellationToken::new()));
                let mut all = vec![Op::RaiseLevel { to: Level(2) }];
                all.extend((1..=24).map(|n| create_topic(&format!("t{n}"), n)));
                for op in all {
                    let commit = manifest.commit(vec![op]);
                    let _ = tokio::time::timeout(Duration::from_millis(10), commit).await;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                running.abort();
            }
            let died = dies_at < objects.requests();
            let sound = objects.beside();
            for seq in stored(&sound).await {
                let read = read_snapshot(&sound, seq).await;
                assert!(read.is_ok(), "died at request {dies_at}: {:?}", read.err());
            }
            died
        });
        if !died {
            assert!(dies_at > 100, "{dies_at}");
            return;
        }
    }
}

#[test]
fn a_head_that_is_there_has_its_chunks_wherever_a_node_died() {
    heads_have_their_chunks_wherever_a_node_dies();
    assert_needed(&[
        (
            Rule::ChunksPrecedeHead,
            heads_have_their_chunks_wherever_a_node_dies,
        ),
        (
            Rule::HeadIsDeletedFirst,
            heads_have_their_chunks_wherever_a_node_dies,
        ),
    ]);
}
