//! What a node's limits cost: a commit interval, very many partitions and connections, a restart, a long history.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::flood::{Flood, Load};
use crate::load::{IN_FLIGHT, MESSAGE, Steady, noise};
use crate::measure::{BEAT, Plan};
use crate::node::Node;
use crate::report::Row;
use crate::stats::{Figures, Samples};
use crate::wire::{Connection, batch, stamp};

/// The commit interval that requests are counted with.
const INTERVAL: &str = "250ms";

/// Producers and partitions with which they are counted.
const INTERVAL_LOADS: [(usize, usize); 2] = [(1, 1), (100, 1000)];

/// Messages a second, of all producers together.
const INTERVAL_RATE: usize = 500;

/// Many partitions, and as many connections.
const MANY: usize = 1000;

/// Few, with which many are compared.
const FEW: usize = 8;

/// Messages in a batch of the many: a thousand batches fit in the memory of a node.
const MANY_BATCH: usize = 64;

/// What is stored when a node is killed.
const STORED: u64 = 1 << 30;

/// Batches in a partition when its latency is looked at.
const GROWN: [u64; 3] = [10_000, 100_000, 1_000_000];

/// Producers that make the partition grow.
const GROWERS: usize = 32;

/// How long that may take, each time.
const GROWING: Duration = Duration::from_secs(180);

/// How many requests a node makes at an interval, whatever its clients do.
pub(crate) async fn interval(
    plan: &Plan,
    url: impl Fn(&str) -> String,
    figures: &mut Figures,
) -> Result<()> {
    for (producers, partitions) in INTERVAL_LOADS {
        let url = url(&format!("interval-{producers}"));
        let node = Node::start_at_interval(&plan.node, &url, &plan.log, INTERVAL, &[])?;
        let mut first = Connection::open(node.kafka).await?;
        let topic = "interval";
        first
            .create_topic(topic, i32::try_from(partitions)?)
            .await?;
        let load = |time| trickle(node.kafka, topic, producers, partitions, time);
        load(plan.turn / 4).await?;
        let before: f64 = node.requests().await?.values().sum();
        let begun = Instant::now();
        let mut acknowledged = load(plan.turn * 2).await?;
        let took = begun.elapsed().as_secs_f64();
        let made = node.requests().await?.values().sum::<f64>() - before;
        let id = |what: &str| format!("interval.{producers}.{what}");
        figures.set(id("requests"), made / took);
        figures.set(id("rate"), acknowledged.len() as f64 / took);
        figures.set_some(id("ack"), acknowledged.quantile(0.5));
    }
    Ok(())
}

/// Producers that together send so many messages a second, to the partitions in turn; how long each message took.
async fn trickle(
    address: SocketAddr,
    topic: &'static str,
    producers: usize,
    partitions: usize,
    time: Duration,
) -> Result<Samples> {
    let every = Duration::from_secs_f64(producers as f64 / INTERVAL_RATE as f64);
    let mut workers = JoinSet::new();
    for worker in 0..producers {
        workers.spawn(async move {
            let mut connection = Connection::open(address).await?;
            let producer = connection.producer().await?;
            let message = batch(&[noise(MESSAGE)])?;
            let mut beat = tokio::time::interval(every);
            let begun = Instant::now();
            let mut times = Samples::default();
            let mut mine: Vec<(usize, i32)> = (worker..partitions)
                .step_by(producers)
                .map(|partition| (partition, 0))
                .collect();
            let mut sent = std::collections::VecDeque::new();
            let mut turn = 0;
            while begun.elapsed() < time || !sent.is_empty() {
                tokio::select! {
                    _ = beat.tick(), if begun.elapsed() < time && sent.len() < IN_FLIGHT as usize => {
                        let at = turn % mine.len();
                        let (partition, sequence) = &mut mine[at];
                        let stamped = stamp(message.clone(), producer, *sequence);
                        let partition = i32::try_from(*partition)?;
                        connection.produce(topic, partition, stamped).await?;
                        sent.push_back(Instant::now());
                        *sequence += 1;
                        turn += 1;
                    }
                    answer = connection.acknowledged(), if !sent.is_empty() => {
                        let (came, _) = answer?;
                        if let Some(begun) = sent.pop_front() {
                            times.push(came.duration_since(begun));
                        }
                    }
                }
            }
            Ok::<_, anyhow::Error>(times)
        });
    }
    let mut all = Samples::default();
    while let Some(worker) = workers.join_next().await {
        all.extend(worker??);
    }
    Ok(all)
}

/// A thousand partitions and a thousand connections, in turns with eight of each.
pub(crate) async fn thousand(
    plan: &Plan,
    url: impl Fn(&str) -> String,
    figures: &mut Figures,
) -> Result<()> {
    weir::net::open_files();
    memory(plan, &url("scale-memory"), figures).await?;
    let few = Node::start(&plan.node, &url("scale-few"), &plan.log)?;
    let many = Node::start(&plan.node, &url("scale-many"), &plan.log)?;
    let few_load = Load::noise(1000, IN_FLIGHT)?;
    let many_load = Load::noise(MANY_BATCH, 1)?;
    let mut floods = [
        Flood::start_with("scale", few.kafka, FEW, FEW, few_load).await?,
        Flood::start_with("scale", many.kafka, MANY, MANY, many_load).await?,
    ];
    let mut sums = [(0, 0.0); 2];
    for round in 0..=plan.rounds {
        for (flood, sum) in floods.iter_mut().zip(&mut sums) {
            // The first round warms up.
            let time = if round == 0 { plan.turn / 8 } else { plan.turn };
            let (bytes, took) = flood.run(time).await?;
            if round > 0 {
                *sum = (sum.0 + bytes, sum.1 + took.as_secs_f64());
            }
        }
    }
    for ((id, node), (bytes, seconds)) in [("few", &few), ("many", &many)].into_iter().zip(sums) {
        figures.set(format!("scale.{id}.rate"), bytes as f64 / seconds / 1e6);
        figures.set(format!("scale.{id}.memory"), node.peak_mib()?);
    }
    figures.set_ratio("ratio.scale", "scale.many.rate", "scale.few.rate");
    Ok(())
}

/// What a connection and a partition take of a node's memory, each alone.
async fn memory(plan: &Plan, url: &str, figures: &mut Figures) -> Result<()> {
    let node = Node::start(&plan.node, url, &plan.log)?;
    let mut first = Connection::open(node.kafka).await?;
    first.create_topic("one", 1).await?;
    let quiesce = || tokio::time::sleep(Duration::from_millis(500));
    quiesce().await;
    let before = node.resident_mib()?;
    let mut open = Vec::new();
    for _ in 0..MANY {
        let mut connection = Connection::open(node.kafka).await?;
        // It has been of use, and waits.
        connection.producer().await?;
        open.push(connection);
    }
    quiesce().await;
    let connected = node.resident_mib()?;
    drop(open);
    quiesce().await;
    let without = node.resident_mib()?;
    first.create_topic("many", i32::try_from(MANY)?).await?;
    let producer = first.producer().await?;
    let message = batch(&[noise(16)])?;
    for partition in 0..i32::try_from(MANY)? {
        let stamped = stamp(message.clone(), producer, 0);
        first.produce("many", partition, stamped).await?;
        if first.in_flight() >= IN_FLIGHT {
            first.acknowledged().await?;
        }
    }
    while first.in_flight() > 0 {
        first.acknowledged().await?;
    }
    quiesce().await;
    let partitioned = node.resident_mib()?;
    let kib_each = |mib: f64| mib.max(0.0) * 1024.0 / MANY as f64;
    figures.set("scale.connection", kib_each(connected - before));
    figures.set("scale.partition", kib_each(partitioned - without));
    Ok(())
}

/// A node is killed while it is produced to, with a gigabyte stored; how soon the next one serves.
pub(crate) async fn restart(plan: &Plan, url: &str, figures: &mut Figures) -> Result<()> {
    let node = Node::start(&plan.node, url, &plan.log)?;
    let mut flood = Flood::start("restart", node.kafka, FEW).await?;
    // However slow the store is.
    let timeout = Duration::from_secs(60);
    let (stored, _) = flood.run_to(timeout, STORED / FEW as u64).await?;
    figures.set("restart.stored", stored as f64 / 1e9);
    // Killed at work: its clients see the connection break.
    let kill = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        drop(node);
    };
    let (_, broken) = tokio::join!(kill, flood.run(Duration::from_secs(2)));
    ensure!(
        broken.is_err(),
        "the node was killed and its clients do not know"
    );
    let (mut ready, mut fetched) = (Samples::default(), Samples::default());
    for _ in 0..plan.rounds.max(3) {
        let begun = Instant::now();
        // It is killed again when it goes out of scope.
        let node = Node::start(&plan.node, url, &plan.log)?;
        ready.push(begun.elapsed());
        let mut connection = Connection::open(node.kafka).await?;
        let (came, partitions) = connection.fetch("restart", &[0; FEW]).await?;
        let bytes: u64 = partitions.iter().map(|partition| partition.bytes).sum();
        ensure!(bytes > 0, "the first fetch brought nothing");
        fetched.push(came.duration_since(begun));
    }
    // The slowest of them.
    figures.set_some("restart.ready", ready.quantile(1.0).map(|ms| ms / 1e3));
    figures.set_some("restart.fetched", fetched.quantile(1.0).map(|ms| ms / 1e3));
    Ok(())
}

/// End-to-end latency in a partition with ever more batches in it.
pub(crate) async fn grown(plan: &Plan, url: &str, figures: &mut Figures) -> Result<()> {
    let node = Node::start(&plan.node, url, &plan.log)?;
    let mut steady = Steady::start("grown", node.kafka, node.kafka).await?;
    steady.run(BEAT, plan.turn / 8).await?;
    let mut batches = steady.next();
    for upto in GROWN {
        let growing = grow(node.kafka, upto.saturating_sub(batches));
        batches += tokio::time::timeout(GROWING, growing).await??;
        steady.skip_to(batches);
        // What compaction and snapshots have to do goes on meanwhile, as it would.
        let mut latencies = steady.run(BEAT, plan.turn).await?;
        batches += latencies.ack.len() as u64;
        let id = |what: &str| format!("grown.{upto}.{what}");
        figures.set_some(id("ack"), latencies.ack.quantile(0.5));
        figures.set_some(id("e2e"), latencies.end_to_end.quantile(0.5));
        figures.set_some(id("e2e.p99"), latencies.end_to_end.quantile(0.99));
        figures.set(id("memory"), node.resident_mib()?);
    }
    let id = |batches: u64| format!("grown.{batches}.e2e");
    figures.set_ratio("ratio.grown", &id(GROWN[2]), &id(GROWN[0]));
    Ok(())
}

/// So many batches of one message, from producers that all use the one partition.
async fn grow(address: SocketAddr, batches: u64) -> Result<u64> {
    let each = batches.div_ceil(GROWERS as u64);
    let workers = (0..GROWERS).map(|_| async move {
        let mut connection = Connection::open(address).await?;
        let producer = connection.producer().await?;
        let message = batch(&[noise(MESSAGE)])?;
        for sequence in 0..i32::try_from(each)? {
            let stamped = stamp(message.clone(), producer, sequence);
            connection.produce("grown", 0, stamped).await?;
            if connection.in_flight() >= IN_FLIGHT {
                connection.acknowledged().await?;
            }
        }
        while connection.in_flight() > 0 {
            connection.acknowledged().await?;
        }
        Ok::<_, anyhow::Error>(())
    });
    try_join_all(workers).await?;
    Ok(each * GROWERS as u64)
}

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (producers, partitions) in INTERVAL_LOADS {
        let id = |what: &str| format!("interval.{producers}.{what}");
        let title = |what: &str| {
            format!(
                "commit_interval={INTERVAL}, {producers} producer(s), {partitions} partition(s): {what}"
            )
        };
        let row = Row::new(title("store requests/s"), id("requests"));
        rows.push(row.goal("<= 5"));
        rows.push(Row::new(title("messages/s"), id("rate")).whole());
        rows.push(Row::new(title("ack p50, ms"), id("ack")).whole());
    }
    let title = |what: &str| format!("{MANY} partitions and connections{what}");
    rows.push(Row::new(title(": throughput / 8 of them"), "ratio.scale").goal(">= 0.8"));
    for (id, name) in [
        ("many", title("")),
        ("few", format!("{FEW} partitions and connections")),
    ] {
        rows.push(Row::new(format!("{name}: MB/s"), format!("scale.{id}.rate")).whole());
        let memory = Row::new(
            format!("{name}: peak memory, MiB"),
            format!("scale.{id}.memory"),
        );
        rows.push(memory.goal("<= 512").whole());
    }
    rows.push(Row::new(
        "memory of a connection that waits, KiB",
        "scale.connection",
    ));
    let partition = "memory of a partition with one producer, KiB";
    rows.push(Row::new(partition, "scale.partition"));
    rows.push(Row::new("killed with so much stored, GB", "restart.stored"));
    let ready = Row::new("the next node is ready after, s", "restart.ready");
    rows.push(ready.goal("<= 0.5"));
    let fetched = Row::new(
        "… and has answered its first fetch after, s",
        "restart.fetched",
    );
    rows.push(fetched.goal("<= 0.5"));
    let flat = format!(
        "end to end p50 with {} batches in the partition / with {}",
        GROWN[2], GROWN[0]
    );
    rows.push(Row::new(flat, "ratio.grown").goal("flat"));
    for batches in GROWN {
        for (what, id) in [
            ("ack p50, ms", "ack"),
            ("end to end p50, ms", "e2e"),
            ("end to end p99, ms", "e2e.p99"),
            ("memory of the node, MiB", "memory"),
        ] {
            let title = format!("after {batches} batches: {what}");
            rows.push(Row::new(title, format!("grown.{batches}.{id}")));
        }
    }
    rows
}
