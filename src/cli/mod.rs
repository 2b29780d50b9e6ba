//! The command line: one file per command, and nothing else in Weir prints.
//!
//! A command reads its arguments, its settings ([`crate::config`]) and perhaps stdin, does its work
//! through the library ([`crate::embedded`]) or the server, and writes to stdout. All commands but `serve`
//! open the bucket themselves as a short-lived node, so they work whether or not a node is running.
//!
//! Errors are one line `error: ...` on stderr and often one `hint: ...` with what to do next. The exit
//! code is 0 if the command did what it was asked, 1 if it failed, 2 if it was asked wrongly, 3 if `fsck` found
//! that something is wrong with the bucket. A reader of stdout that goes away (`weir consume ... | head`) ends the
//! command quietly and with 0.
//!
//! Nothing here panics on input. A command that is killed leaves what it had committed, and nothing half
//! done: each change is one commit.

mod cluster;
mod consume;
mod context;
mod cost;
mod error;
mod flags;
mod fsck;
mod group;
mod inspect;
mod json_record;
mod node;
mod output;
mod produce;
mod progress;
mod serve;
mod settings;
mod store;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod topic;

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{ClientConfig, ConfigFile, ServeConfig, Sources};
use crate::env::Env;
use crate::telemetry::start_logging;
use context::Context;
use error::CliError;
use flags::{ClientFlags, ServeFlags};
use output::Output;

const EXAMPLES: &str = "\
Examples:
  weir serve
      A durable queue for Kafka clients on localhost:9092, stored in ./weir-data.
  weir serve --store s3://bucket/weir --kafka 0.0.0.0:9092 --advertise $(hostname)
      One node of as many as you like on a bucket.
  weir topic create orders --partitions 6
  echo hello | weir produce orders
  weir consume orders --from-beginning
  weir group describe billing
  weir cluster set num.partitions=6
      New topics have six partitions, unless they say otherwise.
  weir store check --store s3://bucket/weir
      Does this bucket do what Weir needs?
  weir fsck --store s3://bucket/weir
      Is everything in it present, undamaged and consistent?

Settings are flags, environment variables (WEIR_STORE, ...) or keys of a TOML file
(--config), in this order; `weir settings` lists them all.";

/// A persistent message queue whose only durable part is a bucket.
///
/// `weir serve` starts a node: Kafka clients connect to it, and everything durable is in the store. Nodes
/// hold nothing that matters; start as many as you like on one bucket. All other commands open the bucket
/// themselves and need no node.
#[derive(Debug, Parser)]
#[command(name = "weir", version, after_help = EXAMPLES, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    flags: ClientFlags,

    #[command(flatten)]
    file: FileFlag,

    #[command(subcommand)]
    command: Command,
}

/// The flag of the configuration file. It stands before the command (or after `serve` and `settings`), since
/// to other commands `--config` is a setting of a topic.
#[derive(Clone, Debug, Default, clap::Args)]
struct FileFlag {
    /// A TOML file with settings [env: WEIR_CONFIG].
    #[arg(
        id = "settings_file",
        long = "config",
        value_name = "FILE",
        help_heading = "Settings"
    )]
    path: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node that serves clients.
    Serve(serve::Serve),
    /// Topics: create, list, describe, alter, delete.
    #[command(subcommand)]
    Topic(topic::Topic),
    /// Tables of archived topics: list, describe, files, snapshots, drop.
    #[command(subcommand)]
    Table(table::Table),
    /// Produce records from lines of stdin or of files.
    Produce(produce::Produce),
    /// Consume records and write them as lines.
    Consume(consume::Consume),
    /// The cluster as a whole: its settings, upgrade.
    #[command(subcommand)]
    Cluster(cluster::Cluster),
    /// Consumer groups: list, describe, reset, delete.
    #[command(subcommand)]
    Group(group::Group),
    /// Nodes: list those that are alive.
    #[command(subcommand)]
    Node(node::Node),
    /// The store: check that it does what Weir needs, show what takes how much space.
    #[command(subcommand)]
    Store(store::Store),
    /// Check that everything in the bucket is present, undamaged and consistent. Changes nothing.
    Fsck(fsck::Fsck),
    /// Show an object of the bucket as JSON.
    Inspect(inspect::Inspect),
    /// Estimate the requests that a workload makes to the store, and their cost per month.
    Cost(cost::Cost),
    /// Show all settings, the values in force and where they come from.
    Settings(settings::Settings),
}

/// The world that a command is started in.
struct World {
    /// The environment variables that begin with `WEIR_`.
    environment: BTreeMap<String, String>,
}

impl World {
    fn of_this_process() -> World {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.starts_with("WEIR_"))
            .map(|(name, value)| (name, value.to_string_lossy().into_owned()))
            .collect();
        World { environment }
    }
}

/// Runs the command that this process was started with.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to stdout with code 0, errors of usage to stderr with code 2.
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match run(cli, &World::of_this_process()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(&mut std::io::stderr()),
    }
}

fn run(cli: Cli, world: &World) -> Result<(), CliError> {
    let after = match &cli.command {
        Command::Serve(command) => command.file.path.clone(),
        Command::Settings(command) => command.file.path.clone(),
        _ => None,
    };
    let sources = sources(cli.flags, after.or(cli.file.path), world)?;
    match cli.command {
        Command::Serve(command) => {
            let sources = with_flags(sources, &command.flags);
            let config = ServeConfig::load(&sources)?;
            log(config.log.log.as_deref().unwrap_or("info"), &config.log)?;
            in_runtime(serve::run(config))
        }
        Command::Settings(command) => settings::run(&command, &sources, &mut Output::stdout()),
        Command::Cost(command) => {
            let config = ServeConfig::load(&sources)?;
            cost::run(&command, &config, &mut Output::stdout())
        }
        command => {
            let config = ClientConfig::load(&sources)?;
            log(config.log.log.as_deref().unwrap_or("warn"), &config.log)?;
            let mut context = Context {
                config,
                output: Output::stdout(),
                env: Env::system(),
            };
            in_runtime(run_client(command, &mut context))
        }
    }
}

/// Runs a command that opens the bucket itself.
async fn run_client(command: Command, context: &mut Context) -> Result<(), CliError> {
    match command {
        Command::Topic(command) => topic::run(&command, context).await,
        Command::Table(command) => table::run(&command, context).await,
        Command::Produce(command) => produce::run(&command, context).await,
        Command::Consume(command) => consume::run(&command, context).await,
        Command::Group(command) => group::run(&command, context).await,
        Command::Node(command) => node::run(&command, context).await,
        Command::Cluster(command) => cluster::run(&command, context).await,
        Command::Store(command) => store::run(&command, context).await,
        Command::Fsck(command) => fsck::run(&command, context).await,
        Command::Inspect(command) => inspect::run(&command, context).await,
        Command::Serve(_) | Command::Settings(_) | Command::Cost(_) => Ok(()),
    }
}

/// Everything that settings are taken from.
fn sources(flags: ClientFlags, config: Option<String>, world: &World) -> Result<Sources, CliError> {
    let path = config.or_else(|| world.environment.get("WEIR_CONFIG").cloned());
    let file = match path {
        None => None,
        Some(path) => {
            let contents = std::fs::read_to_string(&path).map_err(|error| {
                CliError::usage(format!(
                    "the configuration file {path} cannot be read: {error}"
                ))
            })?;
            Some(ConfigFile::parse(&path, &contents)?)
        }
    };
    Ok(Sources {
        flags: flags.0,
        environment: world.environment.clone(),
        file,
    })
}

fn with_flags(mut sources: Sources, flags: &ServeFlags) -> Sources {
    sources.flags.extend(flags.0.clone());
    sources
}

fn log(filter: &str, config: &crate::config::LogConfig) -> Result<(), CliError> {
    let json = config.log_format == crate::config::LogFormat::Json;
    start_logging(filter, json).map_err(|error| CliError::usage(error.to_string()))
}

/// Runs a command's future to its end.
fn in_runtime(command: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::failed(format!("the runtime cannot be started: {error}")))?
        .block_on(command)
}
