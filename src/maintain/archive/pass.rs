//! One pass: from records that wait to the op that adds them to the table.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use tokio::time::Instant;

use super::super::compaction::{Input, read};
use super::super::error::JobError;
use super::super::maintenance::Maintenance;
use super::super::metrics::Task;
use super::write::{Writing, discard};
use super::{TARGET, policy};
use crate::segment::{BatchError, BatchHeader, Limits, Records, decode_records};
use crate::state::op::{AlterTable, Archive, Op};
use crate::state::table::{Manifest, OffsetRange, Schema, Table};
use crate::state::{State, Topic};
use crate::table::typing::{Evolution, Formats, Typing};
use crate::table::{FileError, Row, TableWriter};
use crate::types::{Offset, PartitionIndex, TopicPartition};

/// A batch that decompresses to more is not accepted from a producer.
const LIMITS: Limits = Limits {
    max_uncompressed: 256 << 20,
};

/// So many bytes of keys, values and headers end a pass.
const ENOUGH_BYTES: u64 = 1 << 30;

/// What is read by a pass: the slices, in the order of partitions and offsets, and where each partition begins.
struct Plan {
    inputs: Vec<Input>,
    from: BTreeMap<PartitionIndex, Offset>,
}

/// Those of the partitions first whose records have waited for longest, without those that are left alone.
fn plan(state: &State, topic: &Topic, left_alone: impl Fn(TopicPartition) -> bool) -> Plan {
    let mut partitions: Vec<_> = topic
        .partitions()
        .filter(|(id, _)| !left_alone(*id))
        .filter_map(|(id, _)| {
            let (_, first) = policy::waiting(state, id).next()?;
            Some((first.appended_at, id))
        })
        .collect();
    partitions.sort();
    let (mut inputs, mut from, mut bytes) = (Vec::new(), BTreeMap::new(), 0u64);
    for (_, id) in partitions {
        for (base, slice) in policy::waiting(state, id) {
            if bytes >= TARGET {
                break;
            }
            bytes += slice.len;
            from.insert(id.partition, state.archive_position(id));
            inputs.push(Input {
                partition: id,
                base,
                slice: *slice,
            });
        }
    }
    inputs.sort_by_key(|input: &Input| (input.partition.partition, input.base));
    Plan { inputs, from }
}

/// Archives what waits of a topic, as much as one pass takes.
///
/// # Errors
///
/// Those of the store; [`JobError::Unreadable`]; [`JobError::Stopped`]: the op may have taken effect.
pub(super) async fn archive(
    m: &Maintenance,
    state: &Arc<State>,
    table: &Table,
    left_alone: impl Fn(TopicPartition) -> bool,
) -> Result<(), JobError> {
    let topic = table.topic().and_then(|topic| state.topic(topic));
    let Some(topic) = topic else {
        return Err(JobError::InputsChanged);
    };
    let plan = plan(state, topic, left_alone);
    if plan.inputs.is_empty() {
        return Err(JobError::InputsChanged);
    }
    let began = Instant::now();
    let typing = typing(state, table)?;
    let table = &match with_columns(m, &plan, table, &typing).await {
        Ok(table) => table,
        Err(error) => return Err(explained(m, error).await),
    };
    let mut writing = Writing::new(m, table, &typing)?;
    let manifest = match write(m, plan, &mut writing).await {
        Ok(manifest) => manifest,
        Err(error) => {
            // No op speaks of them yet.
            discard(m, writing.into_stored()).await;
            return Err(explained(m, error).await);
        }
    };
    let (counts, ranges) = (manifest.counts(), manifest.ranges.clone());
    let op = Op::Archive(Archive {
        table: table.id(),
        manifest,
    });
    // Fields that came later have columns from the next pass on.
    let grown = writing.wanted().map(|schema| alter(table, schema));
    let ops = std::iter::once(op).chain(grown).collect();
    writing.commit(ops).await?;
    m.inner.metrics.archived(counts);
    tracing::info!(
        topic = %topic.name(),
        table = %table.name(),
        partitions = ranges.len(),
        rows = counts.rows,
        errors = counts.errors,
        files = counts.files,
        bytes = counts.bytes,
        millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        "archived"
    );
    Ok(())
}

/// What the settings of a topic say of its keys and values. A schema that cannot be used stops nothing: columns are
/// made as the format says without one.
fn typing(state: &State, table: &Table) -> Result<Typing, JobError> {
    let settings = policy::settings(state, table);
    let (key, value) = (settings.key, settings.value);
    let typing = Typing::new(&key.name, &key.schema, &value.name, &value.schema);
    let typing = typing.or_else(|error| {
        tracing::warn!(
            table = %table.name(), %error,
            "a schema of the archive cannot be used: the topic is archived without it. Correct archive.value.schema or \
             archive.key.schema"
        );
        Typing::new(&key.name, "", &value.name, "")
    });
    typing.map_err(|error| JobError::Table {
        table: table.name().clone(),
        reason: error.to_string(),
    })
}

fn alter(table: &Table, schema: Schema) -> Op {
    Op::AlterTable(AlterTable {
        table: table.id(),
        schema: Some(schema),
        by: None,
        enabled: None,
    })
}

/// The table with columns for what the first slice of a pass has, which are added before anything is written.
async fn with_columns(
    m: &Maintenance,
    plan: &Plan,
    table: &Table,
    typing: &Typing,
) -> Result<Table, JobError> {
    if typing.formats() == Formats::default() {
        return Ok(table.clone());
    }
    let first = plan.inputs.iter().take(1).copied().collect();
    let mut read = pin!(read(m, Task::Archive, first, true));
    let mut evolution = Evolution::new(typing, table.schema(), table.last_column());
    while let Some((input, bytes)) = read.try_next().await? {
        let partition = input.partition.partition;
        for (base, batch) in input.batches(&bytes)? {
            let opened = open(&batch).map_err(|error| input.unreadable(error.to_string()))?;
            let Some((header, records)) = opened else {
                continue;
            };
            for record in records {
                let record = record.map_err(|error| input.unreadable(error.to_string()))?;
                let time = header.attributes.timestamp_type();
                evolution.see(&Row::of(partition, base, time, &record));
            }
            tokio::task::yield_now().await;
        }
    }
    let Some(schema) = evolution.schema() else {
        return Ok(table.clone());
    };
    let state = m.must_commit(vec![alter(table, schema)]).await?;
    let table = state.table(table.id()).cloned();
    table.ok_or(JobError::InputsChanged)
}

/// The records of a batch, whose checksum is checked; nothing, if it is one that says something of transactions.
fn open(batch: &Bytes) -> Result<Option<(BatchHeader, Records)>, BatchError> {
    let header = BatchHeader::parse(batch)?;
    header.check_crc(batch)?;
    if header.attributes.is_control() {
        return Ok(None);
    }
    Ok(Some((header, decode_records(batch, LIMITS)?)))
}

async fn write(
    m: &Maintenance,
    plan: Plan,
    writing: &mut Writing<'_>,
) -> Result<Manifest, JobError> {
    let Plan { inputs, from } = plan;
    let mut ranges: BTreeMap<PartitionIndex, OffsetRange> = BTreeMap::new();
    let mut pushed = 0u64;
    let mut read = pin!(read(m, Task::Archive, inputs, false));
    while let Some((input, bytes)) = read.try_next().await? {
        let partition = input.partition.partition;
        let first = from.get(&partition).copied().unwrap_or(input.base);
        let batches = input.batches(&bytes)?;
        let room = writing.files_left();
        let rows = move |writer: &mut TableWriter| push(writer, partition, first, &batches, room);
        let rows = writing.push(rows).await?;
        let rows = rows.map_err(|error| input.unreadable(error.to_string()))?;
        pushed += rows.bytes;
        let range = ranges.entry(partition).or_insert(OffsetRange {
            partition,
            base: first,
            end: first,
        });
        range.end = rows.up_to.unwrap_or(input.slice.end);
        if rows.up_to.is_some() || writing.files_left() == 0 || pushed >= ENOUGH_BYTES {
            break;
        }
    }
    writing.finish(ranges.into_values().collect()).await
}

/// What was pushed.
struct Pushed {
    /// The bytes of keys, values and headers.
    bytes: u64,
    /// Where it ends, if that is before the end of the batches: there are enough files.
    up_to: Option<Offset>,
}

/// Pushes the records of batches from an offset on, up to a batch before which so many files are finished.
fn push(
    writer: &mut TableWriter,
    partition: PartitionIndex,
    first: Offset,
    batches: &[(Offset, Bytes)],
    room: usize,
) -> Result<Result<Pushed, BatchError>, FileError> {
    let mut bytes = 0;
    for (base, batch) in batches {
        if writer.finished() >= room && *base > first {
            let up_to = Some(*base);
            return Ok(Ok(Pushed { bytes, up_to }));
        }
        let (header, records) = match open(batch) {
            Ok(Some(opened)) => opened,
            Ok(None) => continue,
            Err(error) => return Ok(Err(error)),
        };
        for record in records {
            let record = match record {
                Ok(record) => record,
                Err(error) => return Ok(Err(error)),
            };
            let time = header.attributes.timestamp_type();
            let row = Row::of(partition, *base, time, &record);
            if row.offset >= first {
                bytes += row.bytes() as u64;
                writer.push(&row)?;
            }
        }
    }
    let up_to = None;
    Ok(Ok(Pushed { bytes, up_to }))
}

/// An input that is missing was replaced, or has expired since; if it was not, it is lost.
async fn explained(m: &Maintenance, error: JobError) -> JobError {
    let JobError::Missing {
        partition,
        offset,
        object,
    } = error
    else {
        return error;
    };
    match m.inner.manifest.fresh().await {
        Err(stopped) => stopped.into(),
        Ok(fresh) if !fresh.is_live(object) => JobError::InputsChanged,
        Ok(_) => JobError::Unreadable {
            partition,
            offset,
            object,
            reason: "the object is not in the store".to_owned(),
        },
    }
}
