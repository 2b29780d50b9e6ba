//! `make bench`: Weir measured against its store, in the same run.
//!
//! Starts each store on the loopback, and nodes on it as processes of their own; speaks Kafka's protocol to
//! them; and measures the store alone, through the same library, in turns with them. So what disturbs the machine
//! disturbs both sides of a ratio, and a ratio says what Weir costs on top of its store.
//!
//! A setting (a store, near or far) is measured by a process of its own, which finds the store's address and
//! keys in its environment, as a node does. It hands its figures back as JSON.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it is a program of the command line"
)]

mod aging;
mod clients;
mod codecs;
mod competitors;
mod delay;
mod flood;
mod load;
mod machine;
mod many;
mod measure;
mod node;
mod process;
mod raw;
mod report;
mod scale;
mod stats;
mod stores;
mod wire;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, ValueEnum as _};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use measure::{Part, Plan, measure, work_folder};
use stats::Figures;
use stores::{Programs, RunningStore, SETTINGS, Setting};

/// Measures Weir against its store and writes docs/performance.md and docs/benchmarks.md.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench weir --")]
struct Arguments {
    /// The stores, near and with 30 ms added to each request. All on which a part belongs, if none is named.
    #[arg(long, value_delimiter = ',')]
    settings: Vec<String>,
    /// What to measure; all that belongs to the setting, if nothing is named. The figures go to
    /// docs/performance.md and docs/benchmarks.md if neither settings nor parts are named.
    #[arg(long, value_delimiter = ',')]
    parts: Vec<Part>,
    /// How often both sides take their turns.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// How many seconds a turn takes.
    #[arg(long, default_value_t = 4.0)]
    turn: f64,
    /// Measure the competitors as well: `tests/setup --bench --competitors` installs them.
    #[arg(long)]
    competitors: bool,
    /// After so many minutes no further part is begun.
    #[arg(long, default_value_t = 60.0)]
    minutes: f64,
    /// Keeps the figures in this file, adds those that are there already from earlier runs, and writes them all to
    /// docs/performance.md and docs/benchmarks.md: for a machine that is quiet for some minutes only.
    #[arg(long)]
    gather: Option<PathBuf>,
    /// Another binary to measure instead of the one that was just built.
    #[arg(long)]
    node: Option<PathBuf>,
    /// Where the figures of one setting go: this process is to measure it.
    #[arg(long, hide = true, requires = "url")]
    figures: Option<PathBuf>,
    /// The store's URL, without a prefix.
    #[arg(long, hide = true)]
    url: Option<String>,
    /// Cargo says this to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    /// Whether the page is to be written: this is all that there is to measure.
    fn is_whole(&self) -> bool {
        self.settings.is_empty() && self.parts.is_empty() && self.node.is_none()
            || self.gather.is_some()
    }

    /// The parts to measure in a setting.
    fn parts(&self, setting: &Setting) -> Vec<Part> {
        let all = Part::value_variants();
        let wanted = |part: &&Part| {
            let named = self.parts.contains(part);
            let usual = self.parts.is_empty() && (**part != Part::Competitors || self.competitors);
            // Who names both wants just that.
            (named && !self.settings.is_empty()) || (named || usual) && part.belongs(setting)
        };
        all.iter().filter(wanted).copied().collect()
    }

    fn time(&self) -> Result<Duration> {
        Duration::try_from_secs_f64(self.minutes * 60.0).context("--minutes")
    }

    fn plan(&self) -> Result<Plan> {
        ensure!(self.rounds > 0, "--rounds must be at least 1");
        let turn = Duration::try_from_secs_f64(self.turn).context("--turn")?;
        let built = || PathBuf::from(env!("CARGO_BIN_EXE_weir"));
        Ok(Plan {
            node: self.node.clone().unwrap_or_else(built),
            parts: self.parts.clone(),
            rounds: self.rounds,
            turn,
            log: work_folder().join("nodes.log"),
            until: Instant::now() + self.time()?,
        })
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let plan = arguments.plan()?;
    if let (Some(file), Some(url)) = (&arguments.figures, &arguments.url) {
        let figures = measure(&plan, url).await?;
        std::fs::write(file, serde_json::to_vec(&figures)?)?;
        return Ok(());
    }
    let mut settings = Vec::new();
    for name in &arguments.settings {
        settings.push(Setting::named(name)?);
    }
    if settings.is_empty() {
        settings.extend(SETTINGS);
    }
    let programs = Programs::find();
    let given: Vec<String> = std::env::args()
        .skip(1)
        .filter(|given| given != "--bench")
        .collect();
    let command = match given.as_slice() {
        [] => "make bench".to_owned(),
        given => format!("cargo bench --bench weir -- {}", given.join(" ")),
    };
    let mut measured = Measured::before(arguments.gather.as_deref())?;
    measured.runs.push(machine::run(&command));
    let mut done = false;
    for setting in settings {
        let parts = arguments.parts(&setting);
        if parts.is_empty() {
            continue;
        }
        let left = plan.until.saturating_duration_since(Instant::now());
        eprintln!("measuring on {} ...", setting.name);
        match one(setting, &parts, left, &programs, &arguments).await {
            Ok(figures) => {
                done = true;
                measured.of(setting.name).take(figures);
            }
            Err(error) => measured
                .of(setting.name)
                .note(format!("not measured: {error:#}")),
        }
    }
    if !done {
        bail!("nothing was measured");
    }
    if let Some(file) = &arguments.gather {
        std::fs::write(file, serde_json::to_vec_pretty(&measured)?)?;
    }
    let columns = measured.columns();
    let machine = machine::describe();
    let versions = machine::versions(&programs);
    let runs = list(&measured.runs);
    let notes = list(&report::notes(&columns));
    let results = format!("- {machine}\n{runs}{notes}\n{}", report::ratios(&columns));
    let details = format!(
        "- {machine}\n{}{runs}{notes}\n{}",
        list(&versions),
        report::details(&columns)
    );
    println!("{results}\n{details}");
    if arguments.is_whole() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
        for (page, text) in [("performance.md", &results), ("benchmarks.md", &details)] {
            let page = docs.join(page);
            report::write(&page, text)?;
            eprintln!("written to {}", page.display());
        }
    }
    Ok(())
}

fn list(lines: &[String]) -> String {
    lines.iter().map(|line| format!("- {line}\n")).collect()
}

/// All that was measured.
#[derive(Default, Serialize, Deserialize)]
struct Measured {
    /// When and how.
    runs: Vec<String>,
    /// By the name of the setting.
    figures: BTreeMap<String, Figures>,
}

impl Measured {
    /// What earlier runs left in a file, if there is one.
    fn before(file: Option<&Path>) -> Result<Measured> {
        match file {
            Some(file) if file.exists() => {
                let bytes = std::fs::read(file)?;
                serde_json::from_slice(&bytes).with_context(|| file.display().to_string())
            }
            _ => Ok(Measured::default()),
        }
    }

    fn of(&mut self, setting: &str) -> &mut Figures {
        self.figures.entry(setting.to_owned()).or_default()
    }

    fn columns(&self) -> report::Columns<'_> {
        let column = |setting: &Setting| Some((setting.name, self.figures.get(setting.name)?));
        SETTINGS.iter().filter_map(column).collect()
    }
}

/// Starts the store of a setting and a process that measures on it.
async fn one(
    setting: Setting,
    parts: &[Part],
    left: Duration,
    programs: &Programs,
    arguments: &Arguments,
) -> Result<Figures> {
    let folder = work_folder().join(format!("bench-{}", std::process::id()));
    let store = RunningStore::start(setting, programs, &folder.join(setting.name)).await?;
    let file = folder.join(format!("{}.json", setting.name));
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["--url", &store.url])
        .arg("--figures")
        .arg(&file)
        .args(["--rounds", &arguments.rounds.to_string()])
        .args(["--turn", &arguments.turn.to_string()])
        .args(["--minutes", &(left.as_secs_f64() / 60.0).to_string()])
        .envs(store.environment.iter().cloned());
    if let Some(node) = &arguments.node {
        command.arg("--node").arg(node);
    }
    for part in parts {
        let name = part.to_possible_value().context("a part without a name")?;
        command.args(["--parts", name.get_name()]);
    }
    let status = tokio::task::spawn_blocking(move || command.status()).await??;
    ensure!(status.success(), "the measuring process failed: {status}");
    let figures = serde_json::from_slice(&std::fs::read(&file)?)?;
    drop(store);
    let _ = std::fs::remove_dir_all(&folder);
    Ok(figures)
}
