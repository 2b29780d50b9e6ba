//! Several producers of one node, several nodes on one bucket, and a node that has nothing to do.

use std::time::Duration;

use anyhow::Result;
use futures::future::try_join_all;
use tokio::time::Instant;

use crate::flood::Flood;
use crate::load::{MESSAGE, Steady, closed_loop, noise};
use crate::measure::{BEAT, Flow, Plan};
use crate::node::Node;
use crate::raw::Raw;
use crate::stats::{Figures, Samples};

/// How many nodes produce at once.
pub(crate) const NODES: [usize; 5] = [1, 2, 3, 5, 10];

/// How many producers wait for each message before the next.
const PRODUCERS: usize = 8;

/// How long a node is left alone; its requests are scaled to an hour.
const IDLE: Duration = Duration::from_secs(120);

/// Eight producers that each wait for their message, in turns with the PUTs that they are compared with.
pub(crate) async fn producers(
    plan: &Plan,
    raw: &Raw,
    url: &str,
    figures: &mut Figures,
) -> Result<()> {
    let node = Node::start(&plan.node, url, &plan.log)?;
    closed_loop(node.kafka, PRODUCERS, plan.turn / 8).await?;
    let (mut put, mut ack) = (Samples::default(), Samples::default());
    let mut seconds = 0.0;
    for _ in 0..plan.rounds {
        put.extend(
            raw.puts_at_intervals(&noise(MESSAGE), BEAT, plan.turn)
                .await?,
        );
        let begun = Instant::now();
        ack.extend(closed_loop(node.kafka, PRODUCERS, plan.turn).await?);
        seconds += begun.elapsed().as_secs_f64();
    }
    figures.set("eight.rate", ack.len() as f64 / seconds);
    figures.set_some("eight.put.p50", put.quantile(0.5));
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
        figures.set_some(format!("eight.ack.{name}"), ack.quantile(quantile));
        let of = format!("eight.ack.{name}");
        figures.set_ratio(&format!("ratio.eight.{name}"), &of, "eight.put.p50");
    }
    Ok(())
}

/// Messages produced on one node and consumed on another.
pub(crate) async fn across(plan: &Plan, raw: &Raw, url: &str, figures: &mut Figures) -> Result<()> {
    let producing = Node::start(&plan.node, url, &plan.log)?;
    let consuming = Node::start(&plan.node, url, &plan.log)?;
    let mut steady = Steady::start("across", producing.kafka, consuming.kafka).await?;
    steady.run(BEAT, plan.turn / 8).await?;
    let (mut put, mut end_to_end) = (Samples::default(), Samples::default());
    for _ in 0..plan.rounds {
        put.extend(
            raw.puts_at_intervals(&noise(MESSAGE), BEAT, plan.turn)
                .await?,
        );
        end_to_end.extend(steady.run(BEAT, plan.turn).await?.end_to_end);
    }
    figures.set_some("across.put.p50", put.quantile(0.5));
    figures.set_some("across.e2e.p50", end_to_end.quantile(0.5));
    figures.set_some("across.e2e.p99", end_to_end.quantile(0.99));
    figures.set_ratio("ratio.across.p50", "across.e2e.p50", "across.put.p50");
    Ok(())
}

/// One producer at 100 messages a second on each of several nodes.
pub(crate) async fn nodes(
    plan: &Plan,
    url: impl Fn(usize) -> String,
    figures: &mut Figures,
) -> Result<()> {
    for count in NODES {
        let url = url(count);
        let nodes: Vec<Node> = (0..count)
            .map(|_| Node::start(&plan.node, &url, &plan.log))
            .collect::<Result<_>>()?;
        let mut producers = Vec::new();
        for (at, node) in nodes.iter().enumerate() {
            let topic = format!("of-{at}");
            producers.push(Steady::start(&topic, node.kafka, node.kafka).await?);
        }
        try_join_all(producers.iter_mut().map(|one| one.run(BEAT, plan.turn / 8))).await?;
        let before = puts(&nodes).await?;
        let all = try_join_all(producers.iter_mut().map(|one| one.run(BEAT, plan.turn))).await?;
        let sent = puts(&nodes).await? - before;
        let (mut ack, mut end_to_end) = (Samples::default(), Samples::default());
        for latencies in all {
            ack.extend(latencies.ack);
            end_to_end.extend(latencies.end_to_end);
        }
        let id = |what: &str| format!("nodes.{count}.{what}");
        figures.set(id("puts"), sent * 1000.0 / ack.len() as f64);
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
            figures.set_some(id(&format!("ack.{name}")), ack.quantile(quantile));
            figures.set_some(id(&format!("e2e.{name}")), end_to_end.quantile(quantile));
        }
    }
    Ok(())
}

/// Attempts to commit, of all nodes, whether they won or not.
async fn puts(nodes: &[Node]) -> Result<f64> {
    let mut sum = 0.0;
    for node in nodes {
        let requests = node.requests().await?;
        sum += requests.get("commit_put").copied().unwrap_or(0.0);
    }
    Ok(sum)
}

/// How often more than elsewhere both take their turns: they are near each other.
const TURNS: u32 = 3;

/// A cluster that takes as much as it can.
#[derive(Clone, Copy)]
pub(crate) struct Cluster {
    pub(crate) nodes: usize,
    /// To each node.
    pub(crate) producers: usize,
}

impl Cluster {
    /// The name of one of its figures.
    pub(crate) fn figure(self, what: &str) -> String {
        format!("together.{}.{}.{what}", self.nodes, self.producers)
    }
}

/// One node; three with as many producers in all; and three of which each has as many as the one.
pub(crate) const CLUSTERS: [Cluster; 3] = [
    Cluster {
        nodes: 1,
        producers: 6,
    },
    Cluster {
        nodes: 3,
        producers: 2,
    },
    Cluster {
        nodes: 3,
        producers: 6,
    },
];

/// As much as the nodes take, in turns, each cluster with a bucket of its own.
pub(crate) async fn together(
    plan: &Plan,
    url: impl Fn(usize) -> String,
    figures: &mut Figures,
) -> Result<()> {
    struct Side {
        nodes: Vec<Node>,
        floods: Vec<Flood>,
        flow: Flow,
    }
    impl Side {
        fn processor_seconds(&self) -> Result<f64> {
            self.nodes.iter().map(|node| node.processor_seconds()).sum()
        }
    }
    let mut sides = Vec::new();
    for (number, cluster) in CLUSTERS.into_iter().enumerate() {
        let url = url(number);
        let (mut nodes, mut floods) = (Vec::new(), Vec::new());
        for topic in ["flood-0", "flood-1", "flood-2"].iter().take(cluster.nodes) {
            let node = Node::start(&plan.node, &url, &plan.log)?;
            floods.push(Flood::start(topic, node.kafka, cluster.producers).await?);
            nodes.push(node);
        }
        sides.push(Side {
            nodes,
            floods,
            flow: Flow::default(),
        });
    }
    for round in 0..=plan.rounds * TURNS {
        for side in &mut sides {
            // The first round finds out who wins, and counts nothing.
            let time = if round == 0 { plan.turn / 4 } else { plan.turn };
            let (begun, before) = (Instant::now(), side.processor_seconds()?);
            let all = side.floods.iter_mut().map(|flood| flood.run(time));
            let sent = try_join_all(all).await?;
            if round > 0 {
                let bytes = sent.iter().map(|(bytes, _)| bytes).sum();
                let processor = side.processor_seconds()? - before;
                side.flow.add(bytes, begun.elapsed(), processor);
            }
        }
    }
    for (cluster, side) in CLUSTERS.into_iter().zip(&sides) {
        let id = |what: &str| cluster.figure(what);
        figures.set(id("rate"), side.flow.megabytes_per_second());
        figures.set(id("processor"), side.flow.processor_seconds_per_gigabyte());
        let (mut lost, mut in_vain) = (0.0, 0.0);
        for node in &side.nodes {
            let conflicts = node
                .metric("weir_manifest_conflicts_total{log=\"0\"}")
                .await?;
            lost += conflicts;
            in_vain += conflicts
                + node
                    .metric("weir_manifest_withdrawn_commits_total{log=\"0\"}")
                    .await?;
        }
        figures.set(id("lost"), lost);
        figures.set(id("vain"), in_vain / puts(&side.nodes).await? * 100.0);
    }
    let [one, several @ ..] = CLUSTERS;
    for cluster in several {
        let (ratio, rate) = (cluster.figure("ratio"), cluster.figure("rate"));
        figures.set_ratio(&ratio, &rate, &one.figure("rate"));
    }
    Ok(())
}

/// What a node asks of the store when nobody asks anything of it.
pub(crate) async fn idle(plan: &Plan, url: &str, figures: &mut Figures) -> Result<()> {
    let node = Node::start(&plan.node, url, &plan.log)?;
    // What is done once, after the start, is no part of an hour.
    tokio::time::sleep(IDLE / 4).await;
    let before: f64 = node.requests().await?.values().sum();
    tokio::time::sleep(IDLE).await;
    let made = node.requests().await?.values().sum::<f64>() - before;
    figures.set("idle", made * 3600.0 / IDLE.as_secs_f64());
    Ok(())
}
