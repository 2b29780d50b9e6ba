//! `weir produce`: lines to records.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use serde::Serialize;
use tokio::sync::mpsc;

use super::context::Context;
use super::json_record::from_json;
use super::output::{OutputArgs, OutputFormat};
use super::progress::Progress;
use super::text::{counted, pair};
use super::{CliError, Output};
use crate::embedded::{Client, ProducerOptions, Record, Sent};
use crate::segment::Codec;
use crate::types::PartitionIndex;

/// Produce records from lines of stdin or of files.
///
/// Each line is the value of a record, without its end ("\n"). The summary at the end counts only records that are
/// stored durably. A line of stdin is sent as soon as it arrives.
#[derive(Debug, Args)]
pub(super) struct Produce {
    /// The topic. It is created if the cluster's auto.create.topics.enable allows it.
    topic: String,

    /// A file to read instead of stdin ("-" is stdin). May be repeated.
    #[arg(long, short, value_name = "FILE")]
    file: Vec<String>,

    /// What a line is: text (the value) or json, an object a line as `weir consume --output json` writes
    /// them: {"key":"k","value":"v","headers":[["h","x"]],"partition":0,"timestamp":0}.
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    format: LineFormat,

    /// The key of all records.
    #[arg(long, short, conflicts_with = "key_separator")]
    key: Option<String>,

    /// Each line is KEY, this text, VALUE. A line without it is an error.
    #[arg(long, value_name = "TEXT")]
    key_separator: Option<String>,

    /// A header of all records. May be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    header: Vec<(String, String)>,

    /// The partition of all records. Without it the key decides, or chance where there is no key.
    #[arg(long, short, value_name = "NUMBER")]
    partition: Option<i32>,

    /// How batches are compressed.
    #[arg(long, value_enum, default_value_t, value_name = "CODEC")]
    compression: Compression,

    /// Do not resend anything after an unclear answer, so that no producer id is needed.
    #[arg(long)]
    no_idempotence: bool,

    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum LineFormat {
    #[default]
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl From<Compression> for Codec {
    fn from(compression: Compression) -> Codec {
        match compression {
            Compression::None => Codec::None,
            Compression::Gzip => Codec::Gzip,
            Compression::Snappy => Codec::Snappy,
            Compression::Lz4 => Codec::Lz4,
            Compression::Zstd => Codec::Zstd,
        }
    }
}

/// The longest line.
const MAX_LINE: usize = 256 << 20;

/// How many bytes and lines are read before they are sent.
const CHUNK_BYTES: usize = 4 << 20;
const CHUNK_LINES: usize = 50_000;

pub(super) async fn run(command: &Produce, context: &mut Context) -> Result<(), CliError> {
    let lines = Lines {
        format: command.format,
        key: command.key.clone().map(Bytes::from),
        separator: command.key_separator.clone().map(String::into_bytes),
        headers: command
            .header
            .iter()
            .map(|(name, value)| (name.clone(), Some(Bytes::from(value.clone()))))
            .collect(),
        partition: command.partition.map(PartitionIndex),
    };
    let files = match command.file.is_empty() {
        true => vec!["-".to_owned()],
        false => command.file.clone(),
    };
    let options = ProducerOptions {
        compression: command.compression.into(),
        idempotent: !command.no_idempotence,
        ..ProducerOptions::default()
    };
    context
        .with_client(async |client, output| {
            let mut told = Told::default();
            let done = send(client, &command.topic, options, files, lines, &mut told).await;
            // What was stored is told even if something after it was not.
            told.write(&command.topic, command.output.output, output)?;
            done
        })
        .await
}

async fn send(
    client: &Client,
    topic: &str,
    options: ProducerOptions,
    files: Vec<String>,
    lines: Lines,
    told: &mut Told,
) -> Result<(), CliError> {
    let (chunks, mut received) = mpsc::channel(2);
    // Reading blocks, and goes on while a chunk is on its way. At an error it ends by itself; a read of stdin
    // that nobody waits for any more ends with the process.
    std::thread::spawn(move || {
        for file in files {
            if let Err(error) = lines.read(&file, &chunks) {
                let _ = chunks.blocking_send(Err(error));
                return;
            }
        }
    });
    // Before anything is read, so that an empty input does not hide that nothing could have been stored.
    client
        .broker()
        .check_destination(client.session(), topic)
        .await?;
    let mut producer = client.producer_with(options);
    let mut progress = Progress::counting("records");
    while let Some(chunk) = received.recv().await {
        let sent = producer.send_all(topic, chunk?).await?;
        progress.add(sent.len() as u64);
        told.count(&sent);
    }
    Ok(())
}

/// How lines become records.
struct Lines {
    format: LineFormat,
    key: Option<Bytes>,
    separator: Option<Vec<u8>>,
    headers: Vec<(String, Option<Bytes>)>,
    partition: Option<PartitionIndex>,
}

type Chunk = Result<Vec<Record>, CliError>;

impl Lines {
    /// Reads a file's lines and hands them on: when there are many, and when there are no more right now.
    fn read(&self, file: &str, chunks: &mpsc::Sender<Chunk>) -> Result<(), CliError> {
        let unreadable = |error: io::Error| CliError::failed(format!("{file}: {error}"));
        let source: Box<dyn Read> = match file {
            "-" => Box::new(io::stdin()),
            _ => Box::new(File::open(file).map_err(unreadable)?),
        };
        let mut source = BufReader::with_capacity(1 << 16, source);
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut number = 0u64;
        loop {
            let mut line = Vec::new();
            let limit = MAX_LINE as u64 + 1;
            let read = (&mut source)
                .take(limit)
                .read_until(b'\n', &mut line)
                .map_err(unreadable)?;
            let at_end = read == 0;
            if !at_end {
                number += 1;
                let refused =
                    |reason: String| CliError::failed(format!("{file}, line {number}: {reason}"));
                if line.last() == Some(&b'\n') {
                    line.pop();
                } else if line.len() > MAX_LINE {
                    return Err(refused(format!("it is longer than {MAX_LINE} bytes")));
                }
                bytes += line.len();
                records.push(self.record(line).map_err(refused)?);
            }
            let nothing_more_now = source.buffer().is_empty();
            let enough = bytes >= CHUNK_BYTES || records.len() >= CHUNK_LINES;
            if !records.is_empty() && (at_end || enough || nothing_more_now) {
                let chunk = std::mem::take(&mut records);
                bytes = 0;
                if chunks.blocking_send(Ok(chunk)).is_err() {
                    // Sending failed, and says why itself.
                    return Ok(());
                }
            }
            if at_end {
                return Ok(());
            }
        }
    }

    fn record(&self, line: Vec<u8>) -> Result<Record, String> {
        let mut record = match self.format {
            LineFormat::Json => from_json(&line)?,
            LineFormat::Text => self.of_text(line)?,
        };
        record.key = record.key.or_else(|| self.key.clone());
        record.partition = self.partition.or(record.partition);
        record.headers.extend(self.headers.iter().cloned());
        Ok(record)
    }

    fn of_text(&self, line: Vec<u8>) -> Result<Record, String> {
        let line = Bytes::from(line);
        let Some(separator) = &self.separator else {
            return Ok(Record::of_value(line));
        };
        let at = match separator.is_empty() {
            true => None,
            false => line
                .windows(separator.len())
                .position(|w| w == separator.as_slice()),
        };
        let at = at.ok_or_else(|| {
            format!(
                "it has no '{}' between key and value",
                String::from_utf8_lossy(separator)
            )
        })?;
        Ok(Record::new(
            line.slice(..at),
            line.slice(at + separator.len()..),
        ))
    }
}

/// What was stored, by partition: how many records, the first and the last offset.
#[derive(Default)]
struct Told {
    partitions: BTreeMap<PartitionIndex, (u64, i64, i64)>,
}

#[derive(Serialize)]
struct Row {
    partition: i32,
    records: u64,
    first_offset: i64,
    last_offset: i64,
}

#[derive(Serialize)]
struct Summary<'a> {
    topic: &'a str,
    records: u64,
    partitions: Vec<Row>,
}

impl Told {
    fn count(&mut self, sent: &[Sent]) {
        for sent in sent {
            let offset = sent.offset.0;
            let (count, first, last) = self
                .partitions
                .entry(sent.partition)
                .or_insert((0, offset, offset));
            *count += 1;
            *first = offset.min(*first);
            *last = offset.max(*last);
        }
    }

    fn write(
        &self,
        topic: &str,
        format: OutputFormat,
        output: &mut Output,
    ) -> Result<(), CliError> {
        let records = self.partitions.values().map(|(count, ..)| count).sum();
        if format == OutputFormat::Json {
            let partitions = self
                .partitions
                .iter()
                .map(|(partition, (records, first, last))| Row {
                    partition: partition.0,
                    records: *records,
                    first_offset: *first,
                    last_offset: *last,
                })
                .collect();
            return output.json(&Summary {
                topic,
                records,
                partitions,
            });
        }
        output.line(&format!("stored {} in {topic}", counted(records, "record")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(separator: Option<&str>) -> Lines {
        Lines {
            format: LineFormat::Text,
            key: None,
            separator: separator.map(|s| s.as_bytes().to_vec()),
            headers: vec![("h".to_owned(), Some("1".into()))],
            partition: Some(PartitionIndex(2)),
        }
    }

    #[test]
    fn a_line_is_a_value_and_flags_add_the_rest() {
        let record = lines(None).record(b"a\tb\r".to_vec()).unwrap();
        assert_eq!(record.value.as_deref(), Some(b"a\tb\r".as_slice()));
        assert_eq!(record.key, None);
        assert_eq!(record.partition, Some(PartitionIndex(2)));
        assert_eq!(record.headers.len(), 1);
    }

    #[test]
    fn a_separator_divides_key_and_value_at_its_first_place() {
        let record = lines(Some("::")).record(b"k::v::w".to_vec()).unwrap();
        assert_eq!(record.key.as_deref(), Some(b"k".as_slice()));
        assert_eq!(record.value.as_deref(), Some(b"v::w".as_slice()));
        assert!(lines(Some("::")).record(b"kv".to_vec()).is_err());
        assert!(lines(Some("")).record(b"kv".to_vec()).is_err());
    }

    #[test]
    fn a_file_is_read_in_lines_and_the_last_needs_no_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lines");
        std::fs::write(&path, "one\n\nthree").unwrap();
        let (chunks, mut received) = mpsc::channel(4);
        lines(None).read(path.to_str().unwrap(), &chunks).unwrap();
        drop(chunks);
        let records = received.blocking_recv().unwrap().unwrap();
        let values: Vec<_> = records.iter().map(|r| r.value.clone().unwrap()).collect();
        assert_eq!(values, ["one", "", "three"]);
        assert!(received.blocking_recv().is_none());
    }

    #[test]
    fn a_bad_line_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lines");
        std::fs::write(&path, "a:1\nb\n").unwrap();
        let (chunks, _received) = mpsc::channel(4);
        let error = lines(Some(":"))
            .read(path.to_str().unwrap(), &chunks)
            .unwrap_err();
        let mut stderr = Vec::new();
        error.report(&mut stderr);
        let text = String::from_utf8(stderr).unwrap();
        assert!(text.contains("lines, line 2: it has no ':'"), "{text}");
    }
}
