//! What is measured in one setting. Both sides of every ratio take turns.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use tokio::time::Instant;
use weir::store::ObjectPath;

use crate::load::{Flood, MESSAGE, Steady, catch_up, noise};
use crate::many;
use crate::node::Node;
use crate::raw::Raw;
use crate::stats::{Figures, Samples};

/// A part of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Part {
    /// The store alone, in every size.
    Store,
    /// Messages at a steady, low rate.
    Latency,
    /// As much as the node takes, and reading it again.
    Throughput,
    /// Several producers, several nodes, and a node without clients.
    Many,
}

/// What to measure, and how long.
pub(crate) struct Plan {
    pub(crate) node: PathBuf,
    pub(crate) parts: Vec<Part>,
    pub(crate) rounds: u32,
    /// The length of a turn.
    pub(crate) turn: Duration,
    /// The log of the nodes.
    pub(crate) log: PathBuf,
}

/// A message at the rate at which latency is measured: 100 a second.
pub(crate) const BEAT: Duration = Duration::from_millis(10);

/// The sizes in which the store alone is measured.
pub(crate) const SIZES: [(&str, usize); 4] = [
    ("1 KiB", 1 << 10),
    ("256 KiB", 256 << 10),
    ("4 MiB", 4 << 20),
    ("8 MiB", 8 << 20),
];

/// How many requests at once.
pub(crate) const AT_ONCE: [usize; 2] = [1, 8];

/// How many producers flood the node.
pub(crate) const PRODUCERS: [usize; 2] = [1, 8];

/// The size that throughput is compared with.
const SEGMENT: usize = 8 << 20;

/// The topic of the flood.
const FLOOD: &str = "flood";

/// After this time nothing is recent any more for a node, and it reads as it reads what is old.
const OLD: Duration = Duration::from_secs(65);

/// Measures; the store's parts are at these URLs.
pub(crate) async fn measure(plan: &Plan, url: impl Fn(&str) -> String) -> Result<Figures> {
    let mut figures = Figures::default();
    let raw = Raw::open(&url("raw")).await?;
    let written = match plan.parts.contains(&Part::Throughput) {
        true => Some(produce(plan, &raw, &url, &mut figures).await?),
        false => None,
    };
    if plan.parts.contains(&Part::Store) {
        store_alone(plan, &raw, &mut figures).await?;
    }
    if plan.parts.contains(&Part::Latency) {
        latency(plan, &raw, &url("latency"), &mut figures).await?;
    }
    if plan.parts.contains(&Part::Many) {
        many::producers(plan, &raw, &url("eight"), &mut figures).await?;
        many::across(plan, &raw, &url("across"), &mut figures).await?;
        many::nodes(plan, |count| url(&format!("nodes-{count}")), &mut figures).await?;
        many::idle(plan, &url("idle"), &mut figures).await?;
    }
    // Last, so that what is read is not what was just written.
    if let Some(written) = written {
        read_again(plan, &raw, written, &mut figures).await?;
    }
    Ok(figures)
}

async fn store_alone(plan: &Plan, raw: &Raw, figures: &mut Figures) -> Result<()> {
    for (name, size) in SIZES {
        let body = noise(size);
        for at_once in AT_ONCE {
            let mut put = raw.puts(&body, at_once, plan.turn / 2).await?;
            let mut get = raw.gets(put.objects, at_once, plan.turn / 2).await?;
            for (what, burst) in [("put", &mut put.times), ("get", &mut get.times)] {
                let id = format!("{what}.{name}.{at_once}");
                figures.set_some(format!("{id}.p50"), burst.quantile(0.5));
                figures.set_some(format!("{id}.p99"), burst.quantile(0.99));
            }
            let mega = 1e6;
            figures.set(
                format!("put.{name}.{at_once}.rate"),
                put.bytes_per_second / mega,
            );
            figures.set(
                format!("get.{name}.{at_once}.rate"),
                get.bytes_per_second / mega,
            );
        }
    }
    Ok(())
}

async fn latency(plan: &Plan, raw: &Raw, url: &str, figures: &mut Figures) -> Result<()> {
    let node = Node::start(&plan.node, url, &plan.log)?;
    let mut steady = Steady::start("steady", node.kafka, node.kafka).await?;
    // Connections are opened and code is loaded.
    raw.puts_at_intervals(&noise(MESSAGE), BEAT, plan.turn / 8)
        .await?;
    steady.run(BEAT, plan.turn / 8).await?;

    let (mut put, mut ack, mut end_to_end) =
        (Samples::default(), Samples::default(), Samples::default());
    let mut requests = std::collections::BTreeMap::new();
    let mut messages = 0.0;
    for _ in 0..plan.rounds {
        put.extend(
            raw.puts_at_intervals(&noise(MESSAGE), BEAT, plan.turn)
                .await?,
        );
        let before = node.requests().await?;
        let mut latencies = steady.run(BEAT, plan.turn).await?;
        for (kind, count) in node.requests().await? {
            let made = count - before.get(&kind).copied().unwrap_or(0.0);
            *requests.entry(kind).or_insert(0.0) += made;
        }
        messages += latencies.ack.len() as f64;
        ack.extend(std::mem::take(&mut latencies.ack));
        end_to_end.extend(latencies.end_to_end);
    }
    for (id, samples) in [
        ("put", &mut put),
        ("ack", &mut ack),
        ("e2e", &mut end_to_end),
    ] {
        figures.set_some(format!("latency.{id}.p50"), samples.quantile(0.5));
        figures.set_some(format!("latency.{id}.p99"), samples.quantile(0.99));
    }
    for (of, quantile) in [
        ("ack", "p50"),
        ("ack", "p99"),
        ("e2e", "p50"),
        ("e2e", "p99"),
    ] {
        let id = format!("ratio.{of}.{quantile}");
        figures.set_ratio(
            &id,
            &format!("latency.{of}.{quantile}"),
            &format!("latency.put.{quantile}"),
        );
    }
    let mut all = 0.0;
    for (kind, count) in requests {
        all += count;
        if count > 0.0 {
            figures.set(format!("requests.{kind}"), count * 1000.0 / messages);
        }
    }
    figures.set("requests", all * 1000.0 / messages);
    Ok(())
}

/// Bytes, the seconds in which they went, and the node's processor seconds.
#[derive(Default)]
struct Flow {
    bytes: f64,
    seconds: f64,
    processor: f64,
}

impl Flow {
    fn add(&mut self, bytes: u64, took: Duration, processor: f64) {
        self.bytes += bytes as f64;
        self.seconds += took.as_secs_f64();
        self.processor += processor;
    }

    fn megabytes_per_second(&self) -> f64 {
        self.bytes / 1e6 / self.seconds
    }

    fn processor_seconds_per_gigabyte(&self) -> f64 {
        self.processor / (self.bytes / 1e9)
    }
}

/// What the flood left, to be read.
struct Written {
    url: String,
    /// Messages in each partition.
    ends: Vec<i64>,
    objects: Vec<ObjectPath>,
    at: Instant,
}

async fn produce(
    plan: &Plan,
    raw: &Raw,
    url: impl Fn(&str) -> String,
    figures: &mut Figures,
) -> Result<Written> {
    let body = noise(SEGMENT);
    let warm_up = plan.turn / 8;
    let mut put = Vec::new();
    let mut objects = raw.puts(&body, 8, warm_up).await?.objects;

    // One node for each number of producers, so that each figure of memory is of one load.
    let mut nodes = Vec::new();
    let mut url_of_last = String::new();
    for producers in PRODUCERS {
        url_of_last = url(&format!("flood-{producers}"));
        let node = Node::start(&plan.node, &url_of_last, &plan.log)?;
        let mut flood = Flood::start(FLOOD, node.kafka, producers).await?;
        flood.run(warm_up).await?;
        nodes.push((node, flood, Flow::default()));
    }
    for _ in 0..plan.rounds {
        let burst = raw.puts(&body, 8, plan.turn).await?;
        put.push(burst.bytes_per_second / 1e6);
        objects.extend(burst.objects);
        for (node, flood, flow) in &mut nodes {
            let before = node.processor_seconds()?;
            let (bytes, took) = flood.run(plan.turn).await?;
            flow.add(bytes, took, node.processor_seconds()? - before);
        }
    }
    figures.set("raw.put", mean(&put));
    let mut ends = Vec::new();
    for (producers, (node, flood, flow)) in PRODUCERS.into_iter().zip(nodes) {
        let id = |what: &str| format!("produce.{producers}.{what}");
        figures.set(id("rate"), flow.megabytes_per_second());
        figures.set(id("processor"), flow.processor_seconds_per_gigabyte());
        figures.set(id("memory"), node.peak_mib()?);
        let ratio = format!("ratio.produce.{producers}");
        figures.set_ratio(&ratio, &id("rate"), "raw.put");
        ends = flood.sent();
    }
    Ok(Written {
        url: url_of_last,
        ends,
        objects,
        at: Instant::now(),
    })
}

/// Reads what the flood left through fresh nodes, whose caches are empty.
async fn read_again(plan: &Plan, raw: &Raw, written: Written, figures: &mut Figures) -> Result<()> {
    let Written {
        url,
        ends,
        objects,
        at,
    } = written;
    tokio::time::sleep_until(at + OLD).await;
    let mut get = Vec::new();
    let mut flow = Flow::default();
    let mut memory: f64 = 0.0;
    let mut start = Duration::ZERO;
    for _ in 0..plan.rounds {
        let burst = raw.gets(objects.clone(), 8, plan.turn).await?;
        get.push(burst.bytes_per_second / 1e6);
        let begun = Instant::now();
        let node = Node::start(&plan.node, &url, &plan.log)?;
        start = start.max(begun.elapsed());
        let before = node.processor_seconds()?;
        let (bytes, took) = catch_up(node.kafka, FLOOD, &ends, plan.turn).await?;
        flow.add(bytes, took, node.processor_seconds()? - before);
        memory = memory.max(node.peak_mib()?);
    }
    figures.set("raw.get", mean(&get));
    figures.set("catchup.rate", flow.megabytes_per_second());
    figures.set("catchup.processor", flow.processor_seconds_per_gigabyte());
    figures.set("catchup.memory", memory);
    let written = ends.iter().sum::<i64>() as f64 * MESSAGE as f64;
    figures.set("start.stored", written / 1e9);
    figures.set("start.seconds", start.as_secs_f64());
    figures.set_ratio("ratio.catchup", "catchup.rate", "raw.get");
    Ok(())
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Where a run keeps its stores and logs: on the same disk as the build, not in memory.
pub(crate) fn work_folder() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}
