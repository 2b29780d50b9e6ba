//! `weir cost`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::CliError;
use super::output::{Output, OutputArgs, OutputFormat};
use crate::config::{ServeConfig, Value};
use crate::cost::{Bill, Billed, Demand, NodeSettings, Prices, Workload};
use crate::types::ByteCount;

/// Estimate the requests that a workload makes, and the monthly cost of requests, storage and traffic.
///
/// Makes no request to any store. Settings of nodes that have no option here have the values in force; see `weir
/// settings`.
#[derive(Debug, Args)]
pub(super) struct Cost {
    /// How much all producers write in a second, as it is stored.
    #[arg(long, value_name = "SIZE/s", value_parser = rate)]
    rate: f64,
    /// How large a message is.
    #[arg(long, value_name = "SIZE", default_value = "1KiB")]
    message_size: ByteCount,
    /// How many nodes take them.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    nodes: u32,
    /// How many consumer groups read everything as it comes.
    #[arg(long, default_value_t = 1)]
    consumers: u32,
    /// How long messages are kept.
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = Duration::read)]
    retention: Duration,
    /// Leave out the compaction of old data.
    #[arg(long)]
    no_compaction: bool,
    /// How many zones clients and nodes are spread over, if clients do not choose nodes in their own zone; 1 if they do
    /// (`rack`).
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    zones: u32,
    /// The least time between two commits of a node.
    #[arg(long, value_name = "DURATION", default_value = "100ms", value_parser = Duration::read)]
    commit_interval: Duration,
    /// How often nodes look for the commits of others.
    #[arg(long, value_name = "DURATION", default_value = "50ms", value_parser = Duration::read)]
    follow_interval: Duration,
    /// How long the store takes to create a small object.
    #[arg(long, value_name = "DURATION", default_value = "30ms", value_parser = Duration::read)]
    put_time: Duration,
    /// A JSON file of prices in US dollars; missing ones are S3's in us-east-1.
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

fn rate(text: &str) -> Result<f64, String> {
    let size = text.trim().strip_suffix("/s").unwrap_or(text);
    let bytes: ByteCount = size
        .parse()
        .map_err(|_| "it is not a rate; write, for example, 100MiB/s or 500KB/s".to_owned())?;
    Ok(bytes.0 as f64)
}

#[derive(Serialize)]
struct Estimate<'a> {
    #[serde(flatten)]
    demand: &'a Demand,
    prices: Prices,
    usd_per_month: Bill,
    total_usd_per_month: f64,
}

pub(super) fn run(
    command: &Cost,
    config: &ServeConfig,
    output: &mut Output,
) -> Result<(), CliError> {
    let prices = match &command.prices {
        Some(path) => read_prices(path)?,
        None => Prices::default(),
    };
    let ServeConfig {
        node, maintenance, ..
    } = config;
    let zones = f64::from(command.zones);
    let workload = Workload {
        rate: command.rate,
        message: command.message_size.0 as f64,
        nodes: command.nodes,
        consumers: command.consumers,
        retention: command.retention,
        compaction: !command.no_compaction,
        across_zones: (zones - 1.0) / zones,
        node: NodeSettings {
            commit_interval: command.commit_interval,
            follow_interval: command.follow_interval,
            commits_in_flight: node.commits_in_flight,
            inline_limit: node.inline_limit,
            segment_size: node.segment_size,
            compaction_target: maintenance.compaction_target,
        },
        put: command.put_time,
    };
    let demand = workload.demand();
    let bill = prices.bill(&demand, command.nodes);
    if command.output.output == OutputFormat::Json {
        output.json(&Estimate {
            demand: &demand,
            prices,
            usd_per_month: bill,
            total_usd_per_month: bill.total(),
        })?;
        return output.flush();
    }
    let rows: Vec<Vec<String>> = demand
        .requests
        .iter()
        .map(|line| {
            let billed = match line.billed {
                Billed::Put => "PUT",
                Billed::Get => "GET",
            };
            vec![
                format!("{:.1}", line.per_second),
                billed.to_owned(),
                line.what.to_owned(),
            ]
        })
        .collect();
    output.table(&["A SECOND", "BILLED AS", "WHAT"], &rows)?;
    output.line("")?;
    let usd = |amount: f64| format!("{amount:.2}");
    let rows = [
        ("PUT and LIST", bill.puts),
        ("GET", bill.gets),
        ("storage", bill.storage),
        ("between zones", bill.across_zones),
        ("nodes", bill.nodes),
        ("all", bill.total()),
    ]
    .map(|(what, amount)| vec![usd(amount), what.to_owned()]);
    output.table(&["USD A MONTH", "FOR"], &rows)?;
    output.flush()
}

fn read_prices(path: &PathBuf) -> Result<Prices, CliError> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        CliError::usage(format!("the prices in {shown} cannot be read: {error}"))
    })?;
    serde_json::from_str(&text).map_err(|error| {
        CliError::usage(format!("the prices in {shown} cannot be parsed: {error}"))
    })
}
