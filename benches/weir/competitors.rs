//! What Weir is measured against: Tansu and S2 lite on the same store, and Kafka on the local disk.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use tokio::time::Instant;

use crate::load::{Flood, Latencies, Steady, catch_up, closed_loop};
use crate::measure::{BEAT, Flow, Plan};
use crate::node::Node;
use crate::process::Process;
use crate::report::Row;
use crate::stats::{Figures, Samples};
use crate::stores::{Programs, free_address};

/// A competitor that speaks Kafka's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Competitor {
    Weir,
    Tansu,
    /// On local disk: the ceiling of the client.
    Kafka,
}

/// Competitors that are driven by this bench's own client, in the order of the columns.
const COMPETITORS: [(Competitor, &str); 3] = [
    (Competitor::Weir, "Weir"),
    (Competitor::Tansu, "Tansu"),
    (Competitor::Kafka, "Kafka on local disk"),
];

/// How long a server may take to start.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Producers that flood a competitor, and producers that each wait for their message.
const PRODUCERS: usize = 8;

/// The topic of the flood.
const FLOOD: &str = "flood";

/// Partitions of Kafka's own topics: as few as will do.
const KAFKA_PROPERTIES: &str = "\
process.roles=broker,controller
node.id=1
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
";

/// A server that speaks Kafka's protocol.
pub(crate) struct Server {
    process: ServerProcess,
    pub(crate) kafka: SocketAddr,
}

enum ServerProcess {
    Node(Node),
    Other(Process),
}

impl Server {
    pub(crate) fn process(&self) -> &Process {
        match &self.process {
            ServerProcess::Node(node) => node,
            ServerProcess::Other(process) => process,
        }
    }

    /// Starts a server on the store of this setting, as it comes, and waits until it listens. `name` tells clusters
    /// apart that share the store; `folder` is for those that need a disk.
    pub(crate) async fn start(
        competitor: Competitor,
        plan: &Plan,
        url: &str,
        name: &str,
        folder: &Path,
    ) -> Result<Server> {
        let programs = Programs::find();
        match competitor {
            Competitor::Weir => {
                let node = Node::start(&plan.node, &format!("{url}/{name}"), &plan.log)?;
                let kafka = node.kafka;
                let process = ServerProcess::Node(node);
                Ok(Server { process, kafka })
            }
            Competitor::Tansu => tansu(&programs, plan, url, name).await,
            Competitor::Kafka => kafka(&programs, plan, &folder.join(name)).await,
        }
    }
}

fn output(plan: &Plan) -> Result<fs::File> {
    let file = fs::File::options()
        .create(true)
        .append(true)
        .open(&plan.log)?;
    Ok(file)
}

/// Other programs know the endpoint by other names than the node.
fn store_environment(command: &mut Command) -> Result<()> {
    let endpoint = std::env::var("AWS_ENDPOINT_URL").context("the store is not a bucket")?;
    command
        .env("AWS_ENDPOINT", &endpoint)
        .env("AWS_ENDPOINT_URL_S3", &endpoint)
        .env("AWS_ALLOW_HTTP", "true");
    if let Ok(region) = std::env::var("AWS_REGION") {
        command.env("AWS_DEFAULT_REGION", region);
    }
    Ok(())
}

async fn tansu(programs: &Programs, plan: &Plan, url: &str, name: &str) -> Result<Server> {
    let kafka = free_address()?;
    let mut command = Command::new(programs.program("tansu")?);
    store_environment(&mut command)?;
    command
        .arg("broker")
        .args(["--cluster-id", name])
        .args(["--listener-url", &format!("tcp://{kafka}")])
        .args(["--advertised-listener-url", &format!("tcp://{kafka}")])
        .args(["--storage-engine", &format!("{url}/")])
        .env("RUST_LOG", "error");
    serving(command, plan, kafka).await
}

async fn kafka(programs: &Programs, plan: &Plan, folder: &Path) -> Result<Server> {
    fs::create_dir_all(folder)?;
    let (kafka, controller) = (free_address()?, free_address()?);
    let properties = folder.join("server.properties");
    let text = format!(
        "{KAFKA_PROPERTIES}\
         controller.quorum.bootstrap.servers={controller}\n\
         listeners=PLAINTEXT://{kafka},CONTROLLER://{controller}\n\
         advertised.listeners=PLAINTEXT://{kafka}\n\
         log.dirs={}\n",
        folder.join("data").display()
    );
    fs::write(&properties, text)?;
    let format = java(programs, "kafka.tools.StorageTool")?
        .args([
            "format",
            "--standalone",
            "-t",
            "d2Vpci1iZW5jaC1rYWZrYQ",
            "-c",
        ])
        .arg(&properties)
        .output()?;
    let said = String::from_utf8_lossy(&format.stderr).into_owned();
    ensure!(format.status.success(), "Kafka's storage: {said}");
    let mut command = java(programs, "kafka.Kafka")?;
    command.arg(&properties);
    serving(command, plan, kafka).await
}

/// Starts a server and waits until it listens there.
async fn serving(mut command: Command, plan: &Plan, kafka: SocketAddr) -> Result<Server> {
    command
        .stdin(Stdio::null())
        .stdout(output(plan)?)
        .stderr(output(plan)?);
    let mut process = Process::spawn(&mut command)?;
    listens(kafka, &mut process).await?;
    let process = ServerProcess::Other(process);
    Ok(Server { process, kafka })
}

/// A program of Apache Kafka's own jars.
pub(crate) fn java(programs: &Programs, class: &str) -> Result<Command> {
    let jars = programs.folder().join("reference");
    ensure!(
        jars.is_dir(),
        "Kafka's jars are not installed; `tests/setup --bench` installs them"
    );
    let mut command = Command::new("java");
    command
        .args(["-Xmx1g", "-cp"])
        .arg(format!("{}/*", jars.display()))
        .arg(class);
    Ok(command)
}

async fn listens(address: SocketAddr, process: &mut Process) -> Result<()> {
    let begun = Instant::now();
    while TcpStream::connect(address).is_err() {
        ensure!(
            !process.has_ended()?,
            "the server ended; see the log of the nodes"
        );
        ensure!(begun.elapsed() < TIMEOUT, "nothing listens on {address}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// A competitor with what it is to do and what it has done.
struct Side {
    name: &'static str,
    server: Server,
    steady: Steady,
    one: Flood,
    eight: Flood,
    ack: Samples,
    end_to_end: Samples,
    waiting: Samples,
    flows: [Flow; 2],
    catch_up: Flow,
}

impl Side {
    async fn start(
        plan: &Plan,
        url: &str,
        folder: &Path,
        (competitor, name): (Competitor, &'static str),
    ) -> Result<Side> {
        let server = Server::start(competitor, plan, url, "competitors", folder).await?;
        let at = server.kafka;
        Ok(Side {
            name,
            steady: Steady::start("steady", at, at).await?,
            one: Flood::start("one", at, 1).await?,
            eight: Flood::start(FLOOD, at, PRODUCERS).await?,
            server,
            ack: Samples::default(),
            end_to_end: Samples::default(),
            waiting: Samples::default(),
            flows: [Flow::default(), Flow::default()],
            catch_up: Flow::default(),
        })
    }

    async fn turn(&mut self, plan: &Plan, counts: bool) -> Result<()> {
        let time = if counts { plan.turn } else { plan.turn / 8 };
        let Latencies { ack, end_to_end } = self.steady.run(BEAT, time).await?;
        let waiting = closed_loop(self.server.kafka, PRODUCERS, time / 2).await?;
        let mut done = Vec::new();
        for flood in [&mut self.one, &mut self.eight] {
            let before = self.server.process().processor_seconds()?;
            let (bytes, took) = flood.run(time).await?;
            let used = self.server.process().processor_seconds()? - before;
            done.push((bytes, took, used));
        }
        if counts {
            self.ack.extend(ack);
            self.end_to_end.extend(end_to_end);
            self.waiting.extend(waiting);
            for (flow, (bytes, took, used)) in self.flows.iter_mut().zip(done) {
                flow.add(bytes, took, used);
            }
        }
        Ok(())
    }

    async fn read(&mut self, time: Duration) -> Result<()> {
        let before = self.server.process().processor_seconds()?;
        let ends = self.eight.sent();
        let (bytes, took) = catch_up(self.server.kafka, FLOOD, &ends, time).await?;
        let used = self.server.process().processor_seconds()? - before;
        self.catch_up.add(bytes, took, used);
        Ok(())
    }

    fn finish(mut self, figures: &mut Figures) -> Result<()> {
        let id = |what: &str| format!("competitor.{}.{what}", self.name);
        for (what, samples) in [
            ("ack", &mut self.ack),
            ("e2e", &mut self.end_to_end),
            ("waiting", &mut self.waiting),
        ] {
            for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
                figures.set_some(id(&format!("{what}.{name}")), samples.quantile(quantile));
            }
        }
        for (what, flow) in [
            ("one", &self.flows[0]),
            ("eight", &self.flows[1]),
            ("read", &self.catch_up),
        ] {
            figures.set(id(what), flow.megabytes_per_second());
            let used = flow.processor_seconds_per_gigabyte();
            figures.set(id(&format!("{what}.processor")), used);
        }
        figures.set(id("memory"), self.server.process().peak_mib()?);
        Ok(())
    }
}

/// The competitors in turns. One that cannot be measured is named and left out.
pub(crate) async fn competitors(
    plan: &Plan,
    url: &str,
    folder: &Path,
    figures: &mut Figures,
) -> Result<()> {
    let mut sides = Vec::new();
    for competitor in COMPETITORS {
        match Side::start(plan, url, folder, competitor).await {
            Ok(side) => sides.push(side),
            Err(error) => figures.note(format!("{} was not measured: {error:#}", competitor.1)),
        }
    }
    for round in 0..=plan.rounds {
        let mut left = Vec::new();
        for mut side in sides {
            match side.turn(plan, round > 0).await {
                Ok(()) => left.push(side),
                Err(error) => figures.note(format!("{} failed under load: {error:#}", side.name)),
            }
        }
        sides = left;
    }
    for mut side in sides {
        for _ in 0..plan.rounds {
            if let Err(error) = side.read(plan.turn).await {
                figures.note(format!("{} failed to be read from: {error:#}", side.name));
                break;
            }
        }
        side.finish(figures)?;
    }
    if let Err(error) = s2(plan, figures).await {
        figures.note(format!("{S2} was not measured: {error:#}"));
    }
    Ok(())
}

const S2: &str = "S2 lite";

/// What S2's own bench writes at most, in MiB a second: the least it knows, and more than it can.
const S2_RATES: [(&str, &str); 2] = [("steady", "1"), ("flood", "400")];

/// S2 lite, driven by the bench of its own command line: it speaks no protocol of others.
async fn s2(plan: &Plan, figures: &mut Figures) -> Result<()> {
    let program = Programs::find().program("s2")?;
    let at = free_address()?;
    let mut command = Command::new(&program);
    store_environment(&mut command)?;
    command
        .args(["lite", "--bucket", "weir", "--path", "s2-lite"])
        .args(["--port", &at.port().to_string()])
        .env("RUST_LOG", "error")
        .stdin(Stdio::null())
        .stdout(output(plan)?)
        .stderr(output(plan)?);
    let mut server = Process::spawn(&mut command)?;
    listens(at, &mut server).await?;
    let client = |arguments: Vec<String>| {
        let mut command = Command::new(&program);
        command
            .args(arguments)
            .envs([
                ("S2_ACCOUNT_ENDPOINT", format!("http://{at}")),
                ("S2_BASIN_ENDPOINT", format!("http://{at}")),
                ("S2_ACCESS_TOKEN", "none".to_owned()),
                ("NO_COLOR", "1".to_owned()),
            ])
            .stdin(Stdio::null());
        async move {
            let done = tokio::task::spawn_blocking(move || command.output());
            let done = done.await??;
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            ensure!(done.status.success(), "s2: {said}");
            Ok(said)
        }
    };
    let basin = "weir-bench-basin";
    client(["create-basin", basin].map(str::to_owned).to_vec()).await?;
    let time = plan.turn * plan.rounds;
    for (what, rate) in S2_RATES {
        let before = server.processor_seconds()?;
        let arguments = ["bench", basin, "-b", "1024", "-t", rate, "-w", "1s", "-d"];
        let mut arguments = arguments.map(str::to_owned).to_vec();
        arguments.push(format!("{}s", time.as_secs().max(1)));
        let said = client(arguments).await?;
        let used = server.processor_seconds()? - before;
        let id = |figure: &str| format!("competitor.{S2}.{figure}");
        if what == "steady" {
            let (ack, e2e) = s2_latencies(&said).with_context(|| said.clone())?;
            for (name, of) in [("ack", ack), ("e2e", e2e)] {
                figures.set(id(&format!("{name}.p50")), of.0);
                figures.set(id(&format!("{name}.p99")), of.1);
            }
        } else {
            let rate = |line: &str| s2_rate(&said, line).with_context(|| said.clone());
            figures.set(id("one"), rate("Write: ")?);
            figures.set(id("read"), rate("Catchup: ")?);
            // Each byte was written once and read twice.
            figures.note(format!(
                "{S2} used {used:.1} s of processor time for a stream that was written, followed and read again"
            ));
        }
    }
    figures.set(format!("competitor.{S2}.memory"), server.peak_mib()?);
    Ok(())
}

/// MB/s out of a line like `Write: 1.00 MiB/s, …`.
fn s2_rate(said: &str, line: &str) -> Option<f64> {
    let rest = said
        .lines()
        .find_map(|found| found.trim().strip_prefix(line))?;
    let mib: f64 = rest.split_whitespace().next()?.parse().ok()?;
    Some(mib * 1.048_576)
}

type Quantiles = (f64, f64);

/// p50 and p99 of acknowledgements and end to end, in ms. Side by side or one below the other: first the one,
/// then the other.
fn s2_latencies(said: &str) -> Option<(Quantiles, Quantiles)> {
    let of = |name: &str| {
        let mut found = Vec::new();
        for line in said.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            for (at, word) in words.iter().enumerate() {
                if word.trim_end_matches(':') == name {
                    let text = words[at + 1..].iter().find(|word| word.ends_with('s'));
                    found.push(text.and_then(|text| in_ms(text)));
                }
            }
        }
        match found.as_slice() {
            [Some(ack), Some(e2e)] => Some((*ack, *e2e)),
            _ => None,
        }
    };
    let (p50, p99) = (of("p50")?, of("p99")?);
    Some(((p50.0, p99.0), (p50.1, p99.1)))
}

/// A duration as Rust prints it.
fn in_ms(text: &str) -> Option<f64> {
    for (unit, factor) in [("ms", 1.0), ("us", 1e-3), ("ns", 1e-6), ("s", 1e3)] {
        if let Some(number) = text.strip_suffix(unit) {
            return Some(number.parse::<f64>().ok()? * factor);
        }
    }
    None
}

/// Where competitors keep what they need a disk for.
pub(crate) fn folder(of: &Path) -> PathBuf {
    of.join("competitors")
}

pub(crate) fn rows() -> Vec<Row> {
    let names = COMPETITORS.iter().map(|(_, name)| *name);
    let names: Vec<&str> = names.chain([S2]).collect();
    let mut rows = Vec::new();
    let figures = [
        ("ack p50 at 100/s, ms", "ack.p50"),
        ("ack p99 at 100/s, ms", "ack.p99"),
        ("end to end p50 at 100/s, ms", "e2e.p50"),
        ("end to end p99 at 100/s, ms", "e2e.p99"),
        ("8 producers that wait: ack p50, ms", "waiting.p50"),
        ("8 producers that wait: ack p99, ms", "waiting.p99"),
        ("produce, 1 producer, MB/s", "one"),
        ("produce, 8 producers, MB/s", "eight"),
        ("… CPU s per GB", "eight.processor"),
        ("catch-up read of one consumer, warm, MB/s", "read"),
        ("… CPU s per GB", "read.processor"),
        ("peak memory, MiB", "memory"),
    ];
    for (title, id) in figures {
        for name in &names {
            let title = format!("{title}: {name}");
            rows.push(Row::new(title, format!("competitor.{name}.{id}")));
        }
    }
    rows
}
