use super::*;
use crate::node::NodeMetrics;

/// A node that does background work by itself.
pub(super) async fn node(
    store: &Store,
    seed: u64,
    options: MaintenanceOptions,
) -> (Node, NodeMetrics) {
    let env = Env::simulated(seed, START);
    let metrics = NodeMetrics::default();
    let mut node_options = NodeOptions::new(StoreUrl::memory(), env);
    node_options.maintenance = Some(options);
    let node = Node::start(store.clone(), node_options, &metrics)
        .await
        .unwrap();
    (node, metrics)
}

async fn register(node: &Node, name: &str) {
    let endpoints = [("kafka".to_owned(), format!("{name}:9092"))].into();
    node.broker().register(endpoints, None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn background_work_with_nothing_to_do_asks_the_store_nothing() {
    let store = Store::memory();
    let (a, _) = node(&store, 1, MaintenanceOptions::default()).await;
    let feed = worker(&store, 2).await;
    feed.topic("t", 1, &[]).await;
    feed.produce("t", 0, 100).await;
    a.manifest().fresh().await.unwrap();
    // It sweeps until all that was uploaded before it came is old enough.
    wait(6 * HOUR).await;
    let before = store.metrics().total();
    wait(24 * HOUR).await;
    assert_eq!(store.metrics().total(), before);
}

#[tokio::test(start_paused = true)]
async fn of_several_nodes_one_does_the_work() {
    let store = Store::memory();
    let mut nodes = Vec::new();
    for seed in 1..4 {
        let (node, metrics) = node(&store, seed, MaintenanceOptions::default()).await;
        register(&node, &format!("n{seed}")).await;
        nodes.push((node, metrics));
    }
    let feed = worker(&store, 9).await;
    feed.topic("t", 1, &[("retention.ms", "600000")]).await;
    for _ in 0..200 {
        feed.produce("t", 0, 100).await;
        for (node, _) in &nodes {
            node.manifest().fresh().await.unwrap();
        }
        wait(Duration::from_secs(15)).await;
    }
    let runs: Vec<u64> = nodes
        .iter()
        .map(|(_, metrics)| metrics.maintenance().runs(Task::Retention))
        .collect();
    assert!(runs.iter().sum::<u64>() > 10, "{runs:?}");
    assert_eq!(runs.iter().filter(|runs| **runs > 0).count(), 1, "{runs:?}");
    feed.node.manifest().fresh().await.unwrap();
    let kept = 400 - feed.log_start("t", 0);
    assert!((80..=90).contains(&kept), "{kept}");
}

#[tokio::test(start_paused = true)]
async fn work_that_falls_to_a_node_that_does_none_is_done_by_another() {
    let store = Store::memory();
    // Registered and alive, and does nothing: with many of them it falls to one.
    let mut idle = Vec::new();
    for seed in 10..18 {
        let worker = worker(&store, seed).await;
        register(&worker.node, &format!("n{seed}")).await;
        idle.push(worker);
    }
    let (a, metrics) = node(&store, 1, MaintenanceOptions::default()).await;
    register(&a, "a").await;
    let feed = &idle[0];
    feed.topic("t", 1, &[("retention.ms", "60000")]).await;
    feed.produce("t", 0, 100).await;
    a.manifest().fresh().await.unwrap();
    wait(5 * MINUTE).await;
    feed.node.manifest().fresh().await.unwrap();
    assert_eq!(feed.log_start("t", 0), 2);
    assert_eq!(metrics.maintenance().runs(Task::Retention), 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stops_ends_its_background_work() {
    let store = Store::memory();
    let (a, _) = node(&store, 1, MaintenanceOptions::default()).await;
    register(&a, "a").await;
    wait(MINUTE).await;
    let began = tokio::time::Instant::now();
    a.stop(Duration::from_secs(10)).await;
    assert!(began.elapsed() < Duration::from_secs(1));
}
