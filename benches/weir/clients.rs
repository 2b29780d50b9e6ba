//! The clients that programs use: librdkafka, and the tools of Kafka's own jars.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::competitors::{Competitor, Server, java};
use crate::load::MESSAGE;
use crate::measure::Plan;
use crate::report::Row;
use crate::stats::Figures;
use crate::stores::Programs;
use crate::wire::Connection;

const PARTITIONS: i32 = 8;

/// Kafka's tools are told a number of messages, not a time: they begin with so many for each second of a turn.
const MESSAGES_PER_SECOND: f64 = 100_000.0;

/// The servers: Weir, and the ceiling.
const SERVERS: [(Competitor, &str); 2] = [
    (Competitor::Weir, "Weir"),
    (Competitor::Kafka, "Kafka on local disk"),
];

const CLIENTS: [(&str, &str); 2] = [
    ("librdkafka", "librdkafka (Python)"),
    ("java", "kafka-producer-perf-test, kafka-consumer-perf-test"),
];

#[derive(Default, Deserialize)]
struct Rates {
    produce: f64,
    consume: f64,
}

/// Each client against Weir and against Kafka, in turns.
pub(crate) async fn clients(
    plan: &Plan,
    url: &str,
    folder: &Path,
    figures: &mut Figures,
) -> Result<()> {
    let mut servers = Vec::new();
    for (competitor, name) in SERVERS {
        match Server::start(competitor, plan, url, "clients", folder).await {
            Ok(server) => servers.push((name, server)),
            Err(error) => figures.note(format!("{name} was not measured with clients: {error:#}")),
        }
    }
    for (client, title) in CLIENTS {
        let mut sums: Vec<Rates> = servers.iter().map(|_| Rates::default()).collect();
        let mut done = 0.0;
        for round in 0..=plan.rounds {
            // The first round warms up.
            let time = if round == 0 { plan.turn / 4 } else { plan.turn };
            let mut rates = Vec::new();
            for (_, server) in &servers {
                let topic = format!("{client}-{round}");
                let rate = run(client, server.kafka, &topic, time).await;
                rates.push(rate.with_context(|| title.to_owned())?);
            }
            if round > 0 {
                done += 1.0;
                for (sum, rates) in sums.iter_mut().zip(rates) {
                    sum.produce += rates.produce;
                    sum.consume += rates.consume;
                }
            }
        }
        for ((name, _), sum) in servers.iter().zip(sums) {
            figures.set(
                format!("client.{client}.{name}.produce"),
                sum.produce / done,
            );
            figures.set(
                format!("client.{client}.{name}.consume"),
                sum.consume / done,
            );
        }
    }
    Ok(())
}

async fn run(client: &str, at: SocketAddr, topic: &str, time: Duration) -> Result<Rates> {
    let mut connection = Connection::open(at).await?;
    connection.create_topic(topic, PARTITIONS).await?;
    let (client, topic) = (client.to_owned(), topic.to_owned());
    let work = move || match client.as_str() {
        "librdkafka" => librdkafka(at, &topic, time),
        _ => kafka_tools(at, &topic, time),
    };
    tokio::task::spawn_blocking(work).await?
}

/// Runs a program to its end; what it printed.
fn said(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}{errors}");
    Ok(said)
}

fn librdkafka(at: SocketAddr, topic: &str, time: Duration) -> Result<Rates> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/clients/librdkafka.py");
    let python = Programs::find().folder().join("venv/bin/python");
    ensure!(
        python.is_file(),
        "librdkafka is not installed; `tests/setup --bench` installs it"
    );
    let mut command = Command::new(python);
    command
        .arg(script)
        .args([&at.to_string(), topic, &time.as_secs_f64().to_string()]);
    let said = said(&mut command)?;
    serde_json::from_str(&said).with_context(|| said)
}

fn kafka_tools(at: SocketAddr, topic: &str, time: Duration) -> Result<Rates> {
    let programs = Programs::find();
    let messages = ((MESSAGES_PER_SECOND * time.as_secs_f64()) as u64).to_string();
    let mut producer = java(&programs, "org.apache.kafka.tools.ProducerPerformance")?;
    producer
        .args(["--topic", topic, "--num-records", &messages])
        .args(["--record-size", &MESSAGE.to_string(), "--throughput", "-1"])
        .args(["--producer-props", &format!("bootstrap.servers={at}")])
        .args(["acks=all", "enable.idempotence=true"]);
    let produced = said(&mut producer)?;
    let mut consumer = java(&programs, "org.apache.kafka.tools.ConsumerPerformance")?;
    consumer
        .args(["--topic", topic, "--messages", &messages])
        .args(["--bootstrap-server", &at.to_string()])
        .args(["--timeout", "60000"]);
    let consumed = said(&mut consumer)?;
    Ok(Rates {
        produce: producer_rate(&produced).context(produced)?,
        consume: consumer_rate(&consumed).context(consumed)?,
    })
}

/// MB/s out of the last of lines like `60000 records sent, 59171.6 records/sec (57.79 MB/sec), …`, which mean MiB.
fn producer_rate(said: &str) -> Option<f64> {
    let line = said.lines().rfind(|line| line.contains("MB/sec)"))?;
    let (before, _) = line.split_once(" MB/sec)")?;
    let (_, number) = before.rsplit_once('(')?;
    Some(number.parse::<f64>().ok()? * 1.048_576)
}

/// MB/s out of a table whose line of names has one that says how fast messages were fetched.
fn consumer_rate(said: &str) -> Option<f64> {
    let mut lines = said.lines().filter(|line| line.contains(", "));
    let names: Vec<&str> = lines.next()?.split(", ").map(str::trim).collect();
    let values: Vec<&str> = lines.next()?.split(", ").map(str::trim).collect();
    // Without the time that joining the group takes.
    let at = names.iter().position(|name| *name == "fetch.MB.sec")?;
    Some(values.get(at)?.parse::<f64>().ok()? * 1.048_576)
}

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (client, title) in CLIENTS {
        for what in ["produce", "consume"] {
            for (_, name) in SERVERS {
                let id = format!("client.{client}.{name}.{what}");
                rows.push(Row::new(format!("{title}: {what} with {name}, MB/s"), id).whole());
            }
        }
    }
    rows
}
