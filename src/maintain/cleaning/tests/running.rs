//! Cleanings that nobody asked for.

use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::maintain::Task;
use crate::state::op::Op;
use crate::state::{Claim, Job};

/// Lets the jobs of a node run until the guard is dropped.
fn run(world: &World) -> DropGuard {
    let stop = CancellationToken::new();
    let (jobs, stopped) = (world.jobs.clone(), stop.clone());
    tokio::spawn(async move { jobs.run(stopped).await });
    stop.drop_guard()
}

fn runs(world: &World) -> u64 {
    world.jobs.metrics().runs(Task::Cleaning)
}

#[tokio::test(start_paused = true)]
async fn a_compacted_topic_is_cleaned_by_itself_and_by_one_of_the_nodes() {
    let store = Store::memory();
    let a = World::with(&[("cleanup.policy", "compact")], &store, DEFAULTS).await;
    let b = World::node(6, &store, DEFAULTS).await;
    let _running = [run(&a), run(&b)];
    let mut expected = Vec::new();
    for round in 0..3 {
        for value in ["1", "2", "3"] {
            a.put(&[("a", Some(value)), ("b", Some(value))]).await;
        }
        wait(MINUTE / 2).await;
        assert!(a.jobs.metrics().dirty() > 0);
        wait(12 * MINUTE).await;
        assert_eq!(a.jobs.metrics().dirty(), 0);
        expected = vec![round * 6 + 4, round * 6 + 5];
        let offsets: Vec<i64> = b.read().await.iter().map(|r| r.offset).collect();
        assert_eq!(offsets, expected);
    }
    assert_eq!(runs(&a) + runs(&b), 3);
    assert_eq!(a.jobs.metrics().failures(Task::Cleaning), 0);
    assert_eq!(b.jobs.metrics().failures(Task::Cleaning), 0);
    assert_eq!(a.state().claim(Job::Compaction(a.id())), None);
    assert_eq!(expected.len(), a.read().await.len());
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_another_rewrites_is_left_to_it() {
    let world = World::new(EAGER).await;
    let job = Job::Compaction(world.id());
    let other = Op::ClaimJob {
        job,
        incarnation: Incarnation(uuid::Uuid::from_u128(9)),
        lease_millis: 120_000,
    };
    world.put(&[("a", Some("1")), ("a", Some("2"))]).await;
    let claimed = world.node.manifest().commit_one(other).await;
    claimed.unwrap().unwrap();
    let _running = run(&world);
    wait(100 * SECOND).await;
    assert_eq!((runs(&world), world.read().await.len()), (0, 2));
    // The claim lapses.
    wait(60 * SECOND).await;
    assert_eq!((runs(&world), world.read().await.len()), (1, 1));

    // Another job of the same node has the partition.
    let reserved = world.jobs.reserve(world.id()).unwrap();
    assert!(world.jobs.reserve(world.id()).is_none());
    world.put(&[("a", Some("3"))]).await;
    wait(MINUTE).await;
    assert_eq!((runs(&world), world.read().await.len()), (1, 2));
    drop(reserved);
    wait(MINUTE).await;
    assert_eq!((runs(&world), world.read().await.len()), (2, 1));
    let claim: Option<Claim> = world.state().claim(job);
    assert_eq!(claim, None);
}
