//! `weir consume`: records to lines.

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use super::context::Context;
use super::json_record::to_json;
use super::output::OutputFormat;
use super::progress::Progress;
use super::text::{Moment, moment};
use super::{CliError, Output};
use crate::embedded::{Client, ConsumedRecord, Consumer, StartAt};
use crate::types::{Offset, PartitionIndex, Timestamp};

/// Consume records and write them as lines.
///
/// Reads what is there and ends; with --follow it waits for more until it is interrupted. As a member of a group
/// (--group) it goes on where the group is, and commits what it has written.
#[derive(Debug, Args)]
pub(super) struct Consume {
    /// The topics.
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,

    /// Begin at the first record. This is the default, except with --follow alone, which begins at the end. In a
    /// group it counts for partitions that the group has not read.
    #[arg(long, group = "start")]
    from_beginning: bool,

    /// Begin at this offset of each partition.
    #[arg(long, group = "start", value_name = "OFFSET", conflicts_with = "group")]
    offset: Option<u32>,

    /// Begin at the first record of this time or later: 2026-01-31T12:00:00Z, @MILLISECONDS, or how long ago
    /// (15min).
    #[arg(long, group = "start", value_name = "TIME", value_parser = moment)]
    from_time: Option<Moment>,

    /// Read as a member of this group.
    #[arg(long, short)]
    group: Option<String>,

    /// Read only this partition. May be repeated.
    #[arg(long, short, value_name = "NUMBER", conflicts_with = "group")]
    partition: Vec<i32>,

    /// End after this many records.
    #[arg(long, short = 'n', alias = "max", value_name = "NUMBER")]
    count: Option<u64>,

    /// Wait for more at the end.
    #[arg(long, short = 'f')]
    follow: bool,

    /// The form of a record: text (its value on a line) or json (an object a line, with everything).
    #[arg(
        long,
        visible_alias = "format",
        value_enum,
        default_value_t,
        value_name = "FORM"
    )]
    output: OutputFormat,

    /// Write the key before the value, with a tab between.
    #[arg(long)]
    print_key: bool,

    /// Write topic, partition and offset before the rest, with tabs between.
    #[arg(long)]
    print_offsets: bool,

    /// Write the time before the rest.
    #[arg(long)]
    print_timestamps: bool,

    /// Write the headers before the key, as NAME=VALUE,NAME=VALUE.
    #[arg(long)]
    print_headers: bool,

    /// The text to write between them instead of a tab.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "\t",
        hide_default_value = true
    )]
    separator: String,
}

/// How often a member commits what it has written.
const COMMIT_EVERY: Duration = Duration::from_secs(1);

pub(super) async fn run(command: &Consume, context: &mut Context) -> Result<(), CliError> {
    let now = context.now();
    context
        .with_client(async |client, output| {
            let mut consumer = start(client, command, now).await?;
            let written = write_all(command, &mut consumer, output).await;
            // Also after an error: what was written is committed, and the group is told.
            let left = leave(command, consumer, output).await;
            written.and(left)
        })
        .await
}

async fn start(client: &Client, command: &Consume, now: Timestamp) -> Result<Consumer, CliError> {
    let start = match (command.offset, command.from_time) {
        (Some(offset), _) => StartAt::Offset(Offset(offset.into())),
        (_, Some(moment)) => StartAt::Time(moment.resolve(now)),
        _ if command.follow && !command.from_beginning && command.group.is_none() => {
            StartAt::Latest
        }
        _ => StartAt::Earliest,
    };
    let mut consumer = client
        .consumer()
        .topics(command.topics.clone())
        .partitions(command.partition.iter().copied().map(PartitionIndex))
        .start_at(start)
        .until_end(!command.follow);
    if let Some(group) = &command.group {
        consumer = consumer.group(group);
    }
    Ok(Progress::during("joining", consumer.start()).await?)
}

/// Ctrl-C and SIGTERM.
struct Interrupt(Signal, Signal);

impl Interrupt {
    fn new() -> Result<Interrupt, CliError> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| CliError::failed(format!("cannot listen for signals: {error}")))
        };
        Ok(Interrupt(
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
        ))
    }

    async fn came(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }
}

async fn write_all(
    command: &Consume,
    consumer: &mut Consumer,
    output: &mut Output,
) -> Result<(), CliError> {
    let mut interrupt = Interrupt::new()?;
    let mut left = command.count.unwrap_or(u64::MAX);
    let mut committed = Instant::now();
    while left > 0 {
        if !consumer.is_ahead() {
            // Nobody should wait for a record that is here because another is not.
            output.flush()?;
        }
        let next = tokio::select! {
            next = consumer.next() => next?,
            () = interrupt.came() => None,
        };
        let Some(record) = next else {
            return Ok(());
        };
        write(command, &record, output)?;
        left -= 1;
        if command.group.is_some() && committed.elapsed() >= COMMIT_EVERY {
            // Written first: what is committed is never read again.
            output.flush()?;
            consumer.commit().await?;
            committed = Instant::now();
        }
    }
    Ok(())
}

async fn leave(
    command: &Consume,
    mut consumer: Consumer,
    output: &mut Output,
) -> Result<(), CliError> {
    if command.group.is_some() {
        // What could not be written was not consumed.
        output.flush()?;
        consumer.commit().await?;
    }
    Ok(consumer.close().await?)
}

fn write(command: &Consume, record: &ConsumedRecord, output: &mut Output) -> Result<(), CliError> {
    if command.output == OutputFormat::Json {
        let line =
            to_json(record).map_err(|error| CliError::failed(format!("writing JSON: {error}")))?;
        return output.line(&line);
    }
    let separator = command.separator.as_bytes();
    if command.print_offsets {
        for field in [
            record.topic.to_string(),
            record.partition.to_string(),
            record.offset.to_string(),
        ] {
            output.bytes(field.as_bytes())?;
            output.bytes(separator)?;
        }
    }
    if command.print_timestamps {
        output.bytes(super::text::shown(record.timestamp).as_bytes())?;
        output.bytes(separator)?;
    }
    if command.print_headers {
        for (i, (name, value)) in record.headers.iter().enumerate() {
            output.bytes(if i == 0 { b"" } else { b"," })?;
            output.bytes(name.as_bytes())?;
            output.bytes(b"=")?;
            output.bytes(or_empty(value))?;
        }
        output.bytes(separator)?;
    }
    if command.print_key {
        output.bytes(or_empty(&record.key))?;
        output.bytes(separator)?;
    }
    output.bytes(or_empty(&record.value))?;
    output.bytes(b"\n")
}

fn or_empty(bytes: &Option<Bytes>) -> &[u8] {
    bytes.as_deref().unwrap_or_default()
}
