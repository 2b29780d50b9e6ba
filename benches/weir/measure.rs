//! What is measured in one setting. Both sides of every ratio take turns.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use tokio::time::Instant;
use weir::store::ObjectPath;

use crate::load::{Flood, MESSAGE, Steady, catch_up, noise};
use crate::node::Node;
use crate::process::own_processor_seconds;
use crate::raw::Raw;
use crate::stats::{Figures, Samples};
use crate::stores::Setting;
use crate::{aging, clients, codecs, competitors, many, scale};

/// A part of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Part {
    /// The store alone, in every size.
    Store,
    /// Messages at a steady, low rate.
    Latency,
    /// As much as the node takes.
    Throughput,
    /// Reading that again, through nodes that have just been started.
    CatchUp,
    /// What compaction costs those who produce and consume meanwhile.
    Compaction,
    /// Reading old data from the start, before it is compacted and after.
    Old,
    /// Several producers, several nodes, and a node without clients.
    Many,
    /// Requests at a commit interval of 250 ms.
    Interval,
    /// A thousand partitions and connections.
    Scale,
    /// How soon a node serves when the one before it was killed.
    Restart,
    /// Latency with up to a million batches in a partition.
    Grown,
    /// Real text with each codec.
    Codecs,
    /// librdkafka and Kafka's own tools, also against Kafka.
    Clients,
    /// Tansu and S2 lite on the same store, Kafka on local disk.
    Competitors,
}

impl Part {
    /// Where the whole bench measures it: what does not depend on the store is measured on one, and what takes many
    /// round trips is not measured far away.
    pub(crate) fn belongs(self, setting: &Setting) -> bool {
        let on = |names: &[&str]| names.contains(&setting.name);
        match self {
            Part::Store | Part::Latency | Part::Throughput | Part::CatchUp => true,
            Part::Compaction | Part::Old => on(&["minio"]),
            Part::Many => on(&["minio+30"]),
            Part::Interval => on(&["seaweedfs+30"]),
            Part::Scale | Part::Restart => on(&["file", "seaweedfs"]),
            Part::Grown => on(&["file"]),
            Part::Codecs | Part::Clients => on(&["seaweedfs"]),
            Part::Competitors => on(&["seaweedfs", "seaweedfs+30"]),
        }
    }
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
    /// When no further part is begun.
    pub(crate) until: Instant,
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

/// How many producers flood the node: one, enough to fill its buffer, and eight, whose partitions are read again.
pub(crate) const PRODUCERS: [usize; 3] = [1, 16, 8];

/// The size that throughput is compared with.
pub(crate) const SEGMENT: usize = 8 << 20;

/// What is produced to be read from memory: well within the cache.
const CACHED: u64 = 40_000_000;

/// The topic of the flood.
const FLOOD: &str = "flood";

/// After this time nothing is recent any more for a node, and it reads as it reads what is old.
pub(crate) const OLD: Duration = Duration::from_secs(65);

/// Measures; the store's parts are at these URLs. A part that fails, or for which there is no time, is named and
/// left out.
pub(crate) async fn measure(plan: &Plan, url: &str) -> Result<Figures> {
    let mut figures = Figures::default();
    let raw = Raw::open(&format!("{url}/raw")).await?;
    let mut written = None;
    for part in &plan.parts {
        let name = part.to_possible_value();
        let name = name.as_ref().map_or("a part", |name| name.get_name());
        if Instant::now() > plan.until {
            figures.note(format!("{name} was not measured: the time was over"));
            continue;
        }
        eprintln!("  {name} ...");
        let begun = Instant::now();
        let done = one(plan, *part, &raw, url, &mut written, &mut figures).await;
        if let Err(error) = done {
            figures.note(format!("{name} was not measured: {error:#}"));
        }
        eprintln!("  {name} took {:.0} s", begun.elapsed().as_secs_f64());
    }
    // Last, so that what is read is not what was just written.
    if plan.parts.contains(&Part::CatchUp)
        && let Some(written) = written
        && let Err(error) = read_again(plan, &raw, written, &mut figures).await
    {
        figures.note(format!("reading again was not measured: {error:#}"));
    }
    Ok(figures)
}

async fn one(
    plan: &Plan,
    part: Part,
    raw: &Raw,
    store: &str,
    written: &mut Option<Written>,
    figures: &mut Figures,
) -> Result<()> {
    let url = |part: &str| format!("{store}/{part}");
    let folder = competitors::folder(work_folder());
    match part {
        Part::Store => store_alone(plan, raw, figures).await,
        Part::Latency => latency(plan, raw, &url("latency"), figures).await,
        Part::Throughput => {
            *written = Some(produce(plan, raw, url, figures).await?);
            Ok(())
        }
        // What is old is read in the end, after all other parts.
        Part::CatchUp => read_cached(plan, &url("cached"), figures).await,
        Part::Compaction => aging::disturbance(plan, url, figures).await,
        Part::Old => aging::old_data(plan, raw, url, figures).await,
        Part::Many => {
            many::producers(plan, raw, &url("eight"), figures).await?;
            many::across(plan, raw, &url("across"), figures).await?;
            many::nodes(plan, |count| url(&format!("nodes-{count}")), figures).await?;
            many::together(plan, |count| url(&format!("together-{count}")), figures).await?;
            many::idle(plan, &url("idle"), figures).await
        }
        Part::Interval => scale::interval(plan, url, figures).await,
        Part::Scale => scale::thousand(plan, url, figures).await,
        Part::Restart => scale::restart(plan, &url("restart"), figures).await,
        Part::Grown => scale::grown(plan, &url("grown"), figures).await,
        Part::Codecs => codecs::codecs(plan, &url("codecs"), figures).await,
        Part::Clients | Part::Competitors => {
            let _ = fs::remove_dir_all(&folder);
            let done = match part {
                Part::Competitors => competitors::competitors(plan, store, &folder, figures).await,
                _ => clients::clients(plan, store, &folder, figures).await,
            };
            let _ = fs::remove_dir_all(&folder);
            done
        }
    }
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
pub(crate) struct Flow {
    bytes: f64,
    seconds: f64,
    processor: f64,
}

impl Flow {
    pub(crate) fn add(&mut self, bytes: u64, took: Duration, processor: f64) {
        self.bytes += bytes as f64;
        self.seconds += took.as_secs_f64();
        self.processor += processor;
    }

    pub(crate) fn megabytes(&self) -> f64 {
        self.bytes / 1e6
    }

    pub(crate) fn megabytes_per_second(&self) -> f64 {
        self.megabytes() / self.seconds
    }

    pub(crate) fn processor_seconds_per_gigabyte(&self) -> f64 {
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

/// Reads what the node has in memory since it was produced, from the start again and again, by one consumer.
async fn read_cached(plan: &Plan, url: &str, figures: &mut Figures) -> Result<()> {
    let node = Node::start(&plan.node, url, &plan.log)?;
    let mut flood = Flood::start(FLOOD, node.kafka, 8).await?;
    flood.run_to(plan.turn, CACHED / 8).await?;
    let ends = flood.sent();
    let gets = node.gets().await?;
    let (mut flow, mut client) = (Flow::default(), 0.0);
    for round in 0..=plan.rounds {
        let before = (node.processor_seconds()?, own_processor_seconds()?);
        let (begun, mut bytes) = (Instant::now(), 0);
        while begun.elapsed() < plan.turn {
            bytes += catch_up(node.kafka, FLOOD, &ends, plan.turn).await?.0;
        }
        // The first round warms up.
        if round > 0 {
            let took = begun.elapsed();
            flow.add(bytes, took, node.processor_seconds()? - before.0);
            client += own_processor_seconds()? - before.1;
        }
    }
    ensure!(
        node.gets().await? == gets,
        "what was to be cached was read from the store"
    );
    figures.set("cached.rate", flow.megabytes_per_second());
    figures.set("cached.processor", flow.processor_seconds_per_gigabyte());
    figures.set("cached.client", client / (flow.megabytes() / 1e3));
    Ok(())
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

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Where a run keeps its stores and logs: on the same disk as the build, not in memory.
pub(crate) fn work_folder() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}
