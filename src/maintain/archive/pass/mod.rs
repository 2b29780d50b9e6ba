//! One pass: from records that wait to the op that adds them to the table.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::super::compaction::Input;
use super::super::error::JobError;
use super::super::maintenance::Maintenance;
use super::input::Parts;
use super::write::{Writing, compute, discard};
use super::{TARGET, policy};
use crate::segment::{BatchError, BatchHeader, Limits, Records, TimestampType, decode_records};
use crate::state::op::{AlterTable, Archive, Op};
use crate::state::table::{MAX_SCHEMAS, Manifest, OffsetRange, Schema, Table};
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

/// What a row counts for beside them: a batch of some kilobytes may have millions of records that are empty.
const ROW_BYTES: u64 = 32;

/// So many of them are seen before it is decided which columns a pass adds.
const SEEN_BYTES: u64 = 64 << 20;

/// So many are pushed without a pause.
const PUSH_BYTES: u64 = 16 << 20;

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
    let grown = writing.wanted().filter(|_| has_room(table));
    let grown = grown.map(|schema| alter(table, schema));
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

/// The table with columns for what the first slice of a pass has, or the beginning of it, which are added before
/// anything is written.
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
    let mut parts = Parts::new(m, first);
    let mut evolution = Evolution::new(typing, table.schema(), table.last_column());
    let mut seen = 0;
    'seeing: while let Some(part) = parts.next().await? {
        let partition = part.input.partition.partition;
        for (base, batch) in part.batches {
            let seeing = move || {
                let seen = see(&mut evolution, partition, base, &batch);
                (evolution, seen)
            };
            let (again, read) = compute(m, seeing).await?;
            evolution = again;
            seen += read.map_err(|error| part.input.unreadable(error.to_string()))?;
            if seen >= SEEN_BYTES {
                break 'seeing;
            }
        }
    }
    let Some(schema) = evolution.schema() else {
        return Ok(table.clone());
    };
    if !has_room(table) {
        return Ok(table.clone());
    }
    let state = m.must_commit(vec![alter(table, schema)]).await?;
    let table = state.table(table.id()).cloned();
    table.ok_or(JobError::InputsChanged)
}

/// Shows the records of a batch to `evolution`, as many as it needs to see; returns how many bytes that were.
fn see(
    evolution: &mut Evolution,
    partition: PartitionIndex,
    base: Offset,
    batch: &Bytes,
) -> Result<u64, BatchError> {
    let mut seen = 0;
    let Some((header, records)) = open(batch)? else {
        return Ok(seen);
    };
    for record in records {
        let (record, time) = (record?, header.attributes.timestamp_type());
        let row = Row::of(partition, base, time, &record);
        evolution.see(&row);
        seen += cost(&row);
        if seen >= SEEN_BYTES {
            break;
        }
    }
    Ok(seen)
}

/// Whether a table can have one more schema. If not, it is archived with those that it has: what has no column is in
/// `value`.
fn has_room(table: &Table) -> bool {
    let has_room = table.schemas().count() < MAX_SCHEMAS;
    if !has_room {
        tracing::warn!(
            table = %table.name(),
            "the table has {MAX_SCHEMAS} schemas, and no table has more: new fields get no columns. To begin a new table, \
             set archive.enable to false, drop the table, and set it to true again"
        );
    }
    has_room
}

/// What a row counts for.
fn cost(row: &Row<'_>) -> u64 {
    row.bytes() as u64 + ROW_BYTES
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
    let mut parts = Parts::new(m, inputs);
    while let Some(part) = parts.next().await? {
        let (input, partition) = (part.input, part.input.partition.partition);
        let first = from.get(&partition).copied().unwrap_or(input.base);
        let mut pushing = Pushing {
            partition,
            first,
            batches: part.batches.into_iter(),
            batch: None,
            bytes: 0,
            is_enough: false,
        };
        let is_enough = |writing: &Writing<'_>, pushed| {
            let has_files = writing.files_left() == 0;
            has_files || pushed >= ENOUGH_BYTES
        };
        // What was finished is stored before the next rows are pushed.
        let up_to = loop {
            pushing.is_enough = is_enough(writing, pushed);
            let push = move |writer: &mut TableWriter| {
                let ended = pushing.push(writer)?;
                Ok((pushing, ended))
            };
            let (again, ended) = writing.push(push).await?;
            pushing = again;
            pushed += std::mem::take(&mut pushing.bytes);
            match ended.map_err(|error| input.unreadable(error.to_string()))? {
                Ended::More => {}
                Ended::Before(offset) => break Some(offset),
                Ended::All => break part.is_last.then_some(input.slice.end),
            }
        };
        let range = ranges.entry(partition).or_insert(OffsetRange {
            partition,
            base: first,
            end: first,
        });
        range.end = up_to.unwrap_or(range.end);
        if up_to.is_some() && is_enough(writing, pushed) {
            break;
        }
    }
    writing.finish(ranges.into_values().collect()).await
}

/// Batches of one partition that are being pushed, from an offset on.
struct Pushing {
    partition: PartitionIndex,
    first: Offset,
    batches: std::vec::IntoIter<(Offset, Bytes)>,
    /// The one that is being pushed, its offset and what is left of it.
    batch: Option<(Offset, TimestampType, Records)>,
    /// What the pushed rows count for.
    bytes: u64,
    /// Whether to end before the next batch.
    is_enough: bool,
}

/// Why no more rows were pushed.
enum Ended {
    /// A file is finished, or it has taken long enough: there is more to push.
    More,
    /// It was enough: this offset and what follows it was not pushed.
    Before(Offset),
    /// All was pushed.
    All,
}

impl Pushing {
    /// Pushes rows until a file is finished, or as many as take a moment.
    fn push(&mut self, writer: &mut TableWriter) -> Result<Result<Ended, BatchError>, FileError> {
        let until = self.bytes + PUSH_BYTES;
        loop {
            let Some((base, time, records)) = &mut self.batch else {
                match self.next_batch() {
                    Ok(None) => continue,
                    Ok(Some(ended)) => return Ok(Ok(ended)),
                    Err(error) => return Ok(Err(error)),
                }
            };
            let record = match records.next() {
                Some(Ok(record)) => record,
                Some(Err(error)) => return Ok(Err(error)),
                None => {
                    self.batch = None;
                    continue;
                }
            };
            let row = Row::of(self.partition, *base, *time, &record);
            if row.offset < self.first {
                continue;
            }
            self.bytes += cost(&row);
            writer.push(&row)?;
            if writer.finished() > 0 || self.bytes >= until {
                return Ok(Ok(Ended::More));
            }
        }
    }

    /// Opens the next batch. Says so if none is to be pushed.
    fn next_batch(&mut self) -> Result<Option<Ended>, BatchError> {
        let next = self.batches.as_slice().first().map(|(base, _)| *base);
        if let Some(base) = next.filter(|base| self.is_enough && *base > self.first) {
            return Ok(Some(Ended::Before(base)));
        }
        let Some((base, batch)) = self.batches.next() else {
            return Ok(Some(Ended::All));
        };
        if let Some((header, records)) = open(&batch)? {
            self.batch = Some((base, header.attributes.timestamp_type(), records));
        }
        Ok(None)
    }
}

/// An input that is missing or cannot be read was replaced, or has expired since; if it was not, it is lost.
async fn explained(m: &Maintenance, error: JobError) -> JobError {
    let (JobError::Missing { object, .. } | JobError::Unreadable { object, .. }) = error else {
        return error;
    };
    match (m.inner.manifest.fresh().await, error) {
        (Err(stopped), _) => stopped.into(),
        (Ok(fresh), _) if !fresh.is_live(object) => JobError::InputsChanged,
        (
            Ok(_),
            JobError::Missing {
                partition,
                offset,
                object,
            },
        ) => JobError::Unreadable {
            partition,
            offset,
            object,
            reason: "the object is not in the store".to_owned(),
        },
        (Ok(_), unreadable) => unreadable,
    }
}

#[cfg(test)]
mod tests;
