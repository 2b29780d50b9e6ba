//! Data that gets old: what its compaction costs those who produce and consume meanwhile, and what it gives to those
//! who read from the start.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use tokio::time::Instant;

use crate::load::{Flood, MESSAGE, Paced, Steady, catch_up, noise, singles};
use crate::measure::{BEAT, Flow, OLD, Plan, SEGMENT, mean};
use crate::node::Node;
use crate::raw::Raw;
use crate::stats::{Figures, Samples};

/// What is produced while latency is measured, a second: so that there is something to compact all the time.
const LOAD: u64 = 8_000_000;

/// Partitions of that load.
const PARTITIONS: i32 = 2;

/// Compaction of what is a second old, as soon as there is enough of it for a slice that is whole.
const BUSY: [&str; 6] = [
    "--compaction-min-age",
    "1s",
    "--compaction-target",
    "8MiB",
    "--maintenance-interval",
    "500ms",
];

/// All that there is becomes one slice of each partition at once, and nothing more is done to it.
const AT_ONCE: [&str; 6] = [
    "--compaction-min-age",
    "1s",
    "--compaction-max-wait",
    "1s",
    "--maintenance-interval",
    "500ms",
];

/// How long it takes at least until so much is compacted as is produced.
const SETTLING: Duration = Duration::from_secs(5);

const OFF: [&str; 2] = ["--background-work", "off"];

/// How many messages are produced one by one, so many commits.
const SINGLES: usize = 100_000;

/// What is produced one by one: so little that all of it is read in a moment, and enough that reading it goes on for
/// longer than it takes to begin.
const SINGLE_TOPICS: [(&str, usize); 2] = [("single", MESSAGE), ("tenfold", 10 * MESSAGE)];

/// How much is produced in large batches, to be read.
const BULK: Duration = Duration::from_secs(6);

/// How long compaction may take.
const TIMEOUT: Duration = Duration::from_secs(300);

/// A cluster of one node under load, one of two that take turns.
struct Side {
    id: &'static str,
    node: Node,
    steady: Steady,
    paced: Paced,
    produced: u64,
    ack: Samples,
    end_to_end: Samples,
}

impl Side {
    async fn start(plan: &Plan, url: &str, id: &'static str, more: &[&str]) -> Result<Side> {
        let node = Node::start_with(&plan.node, url, &plan.log, more)?;
        let steady = Steady::start("steady", node.kafka, node.kafka).await?;
        let paced = Paced::start("paced", node.kafka, PARTITIONS).await?;
        Ok(Side {
            id,
            node,
            steady,
            paced,
            produced: 0,
            ack: Samples::default(),
            end_to_end: Samples::default(),
        })
    }

    async fn turn(&mut self, time: Duration, counts: bool) -> Result<()> {
        let (latencies, produced) =
            tokio::try_join!(self.steady.run(BEAT, time), self.paced.run(LOAD, time))?;
        self.produced += produced;
        if counts {
            self.ack.extend(latencies.ack);
            self.end_to_end.extend(latencies.end_to_end);
        }
        Ok(())
    }
}

/// Two clusters under the same load take turns, each stopped while the other has its turn. One compacts.
pub(crate) async fn disturbance(
    plan: &Plan,
    url: impl Fn(&str) -> String,
    figures: &mut Figures,
) -> Result<()> {
    let mut off = Side::start(plan, &url("compaction-off"), "off", &OFF).await?;
    let mut on = Side::start(plan, &url("compaction-on"), "on", &BUSY).await?;
    let written = "weir_maintenance_written_bytes_total{task=\"compaction\"}";
    for round in 0..=plan.rounds {
        // In the first nothing is old enough yet, connections are opened and code is loaded.
        let time = if round == 0 {
            plan.turn.max(SETTLING)
        } else {
            plan.turn
        };
        on.node.pause(true)?;
        off.turn(time, round > 0).await?;
        on.node.pause(false)?;
        off.node.pause(true)?;
        on.turn(time, round > 0).await?;
        off.node.pause(false)?;
    }
    let compacted = on.node.metric(written).await?;
    ensure!(
        compacted > on.produced as f64 / 2.0,
        "of {} bytes only {compacted} were compacted meanwhile",
        on.produced
    );
    figures.set("compaction.share", compacted / on.produced as f64);
    let amplification = "weir_compaction_write_amplification";
    figures.set(
        "compaction.amplification",
        on.node.metric(amplification).await?,
    );
    for side in [&mut off, &mut on] {
        for (what, samples) in [("ack", &mut side.ack), ("e2e", &mut side.end_to_end)] {
            for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
                let id = format!("compaction.{}.{what}.{name}", side.id);
                figures.set_some(id, samples.quantile(quantile));
            }
        }
    }
    for what in ["ack", "e2e"] {
        for name in ["p50", "p99"] {
            figures.set_ratio(
                &format!("ratio.compaction.{what}.{name}"),
                &format!("compaction.on.{what}.{name}"),
                &format!("compaction.off.{what}.{name}"),
            );
        }
    }
    Ok(())
}

/// A topic that is read before it is compacted and after.
struct Old {
    id: &'static str,
    url: String,
    /// Messages in each partition.
    ends: Vec<i64>,
}

/// What reading came to.
#[derive(Default)]
struct Reading {
    flow: Flow,
    gets: f64,
    memory: f64,
}

/// Reads what is old from the start through nodes that were just started, in turns with the store alone.
pub(crate) async fn old_data(
    plan: &Plan,
    raw: &Raw,
    url: impl Fn(&str) -> String,
    figures: &mut Figures,
) -> Result<()> {
    let mut topics = vec![bulk(plan, url("old-bulk")).await?];
    let singles = SINGLE_TOPICS.map(|(id, bytes)| single(plan, id, bytes, url(id)));
    topics.extend(try_join_all(singles).await?);
    let objects = raw.puts(&noise(SEGMENT), 8, plan.turn).await?.objects;
    tokio::time::sleep_until(Instant::now() + OLD).await;
    let mut rates = (Vec::new(), Vec::new());
    for when in ["before", "after"] {
        if when == "after" {
            for old in &topics {
                compact(plan, &old.url, figures, old.id).await?;
            }
        }
        let mut readings = Vec::new();
        readings.resize_with(topics.len(), Reading::default);
        for _ in 0..plan.rounds {
            for (at_once, rates) in [(1, &mut rates.0), (8, &mut rates.1)] {
                let burst = raw.gets(objects.clone(), at_once, plan.turn / 2).await?;
                rates.push(burst.bytes_per_second / 1e6);
            }
            for (old, reading) in topics.iter().zip(&mut readings) {
                read(plan, old, reading).await?;
            }
        }
        for (old, reading) in topics.iter().zip(readings) {
            let id = |what: &str| format!("old.{}.{when}.{what}", old.id);
            figures.set(id("rate"), reading.flow.megabytes_per_second());
            figures.set(id("gets"), reading.gets / reading.flow.megabytes());
            figures.set(
                id("processor"),
                reading.flow.processor_seconds_per_gigabyte(),
            );
            figures.set(id("memory"), reading.memory);
        }
    }
    figures.set("old.raw.1", mean(&rates.0));
    figures.set("old.raw.8", mean(&rates.1));
    for Old { id, .. } in &topics {
        for when in ["before", "after"] {
            let rate = format!("old.{id}.{when}.rate");
            figures.set_ratio(&format!("ratio.old.{id}.{when}"), &rate, "old.raw.8");
        }
        let rate = format!("old.{id}.after.rate");
        figures.set_ratio(&format!("ratio.old.{id}.after.1"), &rate, "old.raw.1");
    }
    Ok(())
}

async fn bulk(plan: &Plan, url: String) -> Result<Old> {
    let node = Node::start_with(&plan.node, &url, &plan.log, &OFF)?;
    let mut flood = Flood::start("old", node.kafka, 8).await?;
    flood.run(BULK).await?;
    Ok(Old {
        id: "bulk",
        url,
        ends: flood.sent(),
    })
}

async fn single(plan: &Plan, id: &'static str, bytes: usize, url: String) -> Result<Old> {
    let node = Node::start_with(&plan.node, &url, &plan.log, &OFF)?;
    let ends = singles("old", node.kafka, 8, SINGLES, bytes).await?;
    Ok(Old { id, url, ends })
}

/// A node compacts all there is.
async fn compact(plan: &Plan, url: &str, figures: &mut Figures, id: &str) -> Result<()> {
    let node = Node::start_with(&plan.node, url, &plan.log, &AT_ONCE)?;
    let begun = Instant::now();
    let (mut backlog, mut runs) = (f64::MAX, 0.0);
    while backlog > 0.0 || runs < 1.0 {
        ensure!(
            begun.elapsed() < TIMEOUT,
            "{backlog} slices are not compacted yet"
        );
        tokio::time::sleep(Duration::from_millis(250)).await;
        runs = node
            .metric("weir_maintenance_runs_total{task=\"compaction\"}")
            .await?;
        backlog = node.metric("weir_compaction_backlog_slices").await?;
    }
    let written = node
        .metric("weir_maintenance_written_bytes_total{task=\"compaction\"}")
        .await?;
    let took = begun.elapsed().as_secs_f64();
    figures.set(format!("old.{id}.compacting"), written / 1e6 / took);
    figures.set(
        format!("old.{id}.slices"),
        node.metric("weir_slices").await?,
    );
    Ok(())
}

async fn read(plan: &Plan, old: &Old, reading: &mut Reading) -> Result<()> {
    let node = Node::start_with(&plan.node, &old.url, &plan.log, &OFF)?;
    let (before, gets) = (node.processor_seconds()?, node.gets().await?);
    let (bytes, took) = catch_up(node.kafka, "old", &old.ends, plan.turn).await?;
    let processor = node.processor_seconds()? - before;
    ensure!(bytes > MESSAGE as u64, "nothing was read");
    reading.flow.add(bytes, took, processor);
    reading.gets += node.gets().await? - gets;
    reading.memory = reading.memory.max(node.peak_mib()?);
    Ok(())
}
