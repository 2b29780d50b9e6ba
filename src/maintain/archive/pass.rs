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
use crate::rules::{Rule, holds};
use crate::segment::{BatchError, BatchHeader, Limits, decode_records};
use crate::state::op::{Archive, Op};
use crate::state::table::{Manifest, OffsetRange, Table};
use crate::state::{State, Topic};
use crate::table::{FileError, Row, TableWriter};
use crate::types::{Offset, PartitionIndex};

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

/// Those of the partitions first whose records have waited for longest.
fn plan(state: &State, topic: &Topic) -> Plan {
    let mut partitions: Vec<_> = topic
        .partitions()
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

/// Archives what waits of a topic, as much as one pass takes. Returns whether there was anything.
///
/// # Errors
///
/// Those of the store; [`JobError::Unreadable`]; [`JobError::Stopped`]: the op may have taken effect.
pub(super) async fn archive(
    m: &Maintenance,
    state: &Arc<State>,
    table: &Table,
) -> Result<bool, JobError> {
    let topic = table.topic().and_then(|topic| state.topic(topic));
    let Some(topic) = topic else {
        return Ok(false);
    };
    let plan = plan(state, topic);
    if plan.inputs.is_empty() {
        return Ok(false);
    }
    let began = Instant::now();
    let mut writing = Writing::new(m, table)?;
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
    let committed = match m.commit(vec![op]).await {
        Err(error) if !holds(Rule::UnsettledFilesAreKept) => {
            discard(m, writing.into_stored()).await;
            return Err(error);
        }
        committed => committed?,
    };
    if let Some(Err(refused)) = committed.outcomes.into_iter().next() {
        discard(m, writing.into_stored()).await;
        return Err(refused.into());
    }
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
    Ok(true)
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
        let rows = move |writer: &mut TableWriter| push(writer, partition, first, &batches);
        let rows = writing.push(rows).await?;
        pushed += rows.map_err(|error| input.unreadable(error.to_string()))?;
        let range = ranges.entry(partition).or_insert(OffsetRange {
            partition,
            base: first,
            end: first,
        });
        range.end = input.slice.end;
        if writing.has_enough_files() || pushed >= ENOUGH_BYTES {
            break;
        }
    }
    writing.finish(ranges.into_values().collect()).await
}

/// Pushes the records of batches from an offset on. Returns how many bytes they have.
#[expect(
    clippy::type_complexity,
    reason = "what is wrong with the file and what with a batch are told apart by the caller"
)]
fn push(
    writer: &mut TableWriter,
    partition: PartitionIndex,
    first: Offset,
    batches: &[(Offset, Bytes)],
) -> Result<Result<u64, BatchError>, FileError> {
    let mut bytes = 0;
    for (base, batch) in batches {
        let opened = BatchHeader::parse(batch).and_then(|header| {
            header.check_crc(batch)?;
            let records = decode_records(batch, LIMITS)?;
            Ok((header, records))
        });
        let (header, records) = match opened {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(error)),
        };
        if header.attributes.is_control() {
            continue;
        }
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
    Ok(Ok(bytes))
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
