//! Neighbouring small manifests become one, with few files.
//!
//! The files are read as they are stored, checked against length and CRC of the state, and their records are written
//! again in the order of partition and offset: of each file one batch of rows is decoded at a time. The fold refuses the
//! result if it has not as many rows as there were, or if what was read is not there any more.

use bytes::Bytes;
use tokio::time::Instant;

use super::super::error::JobError;
use super::super::maintenance::Maintenance;
use super::super::metrics::Task;
use super::write::{Writing, discard};
use crate::rules::{Rule, holds};
use crate::state::op::{Op, RewriteFiles};
use crate::state::table::{DataFile, LiveManifest, OffsetRange, Table};
use crate::store::{ArchiveObject, ObjectPath, RequestKind};
use crate::table::{ArchivedRecord, FileError, TableWriter, base_batches, records_of};

/// Merges these manifests of a table.
///
/// # Errors
///
/// Those of the store; [`JobError::Table`]: a file is damaged or missing; [`JobError::Stopped`]: the op may have taken
/// effect.
pub(super) async fn merge(
    m: &Maintenance,
    table: &Table,
    run: &[LiveManifest],
) -> Result<(), JobError> {
    let began = Instant::now();
    let mut writing = Writing::new(m, table)?;
    let written = async {
        let mut files = Vec::new();
        for file in run.iter().flat_map(|live| &live.manifest.files) {
            files.push(read(m, table, file).await?);
        }
        writing.push(move |writer| rewrite(writer, files)).await?;
        writing.finish(joined(run)).await
    };
    let manifest = match written.await {
        Ok(manifest) => manifest,
        Err(error) => {
            discard(m, writing.into_stored()).await;
            return Err(error);
        }
    };
    let into = manifest.counts();
    let op = Op::RewriteFiles(RewriteFiles {
        table: table.id(),
        removes: run.iter().map(|live| live.manifest.id).collect(),
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
    tracing::info!(
        table = %table.name(),
        manifests = run.len(),
        into = into.files,
        rows = into.rows,
        bytes = into.bytes,
        millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        "merged small files of a table"
    );
    Ok(())
}

/// Reads a data file, which must be the one that the state knows.
async fn read(m: &Maintenance, table: &Table, file: &DataFile) -> Result<Bytes, JobError> {
    let path = ObjectPath::archive(table.name(), ArchiveObject::Data(file.id));
    let damaged = |reason: String| JobError::Table {
        table: table.name().clone(),
        reason,
    };
    let _turn = m.turn_to_read(file.bytes).await;
    let read = m.inner.store.get(&path, RequestKind::ArchiveGet).await;
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => {
            return Err(damaged(format!("{path} is not in the store")));
        }
        Err(error) => return Err(error.into()),
    };
    m.inner.metrics.moved(Task::Archive, file.bytes, 0);
    if bytes.len() as u64 != file.bytes || crc32c::crc32c(&bytes) != file.crc32c {
        return Err(damaged(format!(
            "{path} is damaged: its length or its checksum is wrong"
        )));
    }
    Ok(bytes)
}

/// Writes the records of all files again, in the order of partition and offset.
fn rewrite(writer: &mut TableWriter, files: Vec<Bytes>) -> Result<(), FileError> {
    let mut sources = files
        .into_iter()
        .map(Source::new)
        .collect::<Result<Vec<_>, _>>()?;
    loop {
        for source in &mut sources {
            source.fill()?;
        }
        let first = sources
            .iter_mut()
            .filter(|source| source.next().is_some())
            .min_by_key(|source| source.next().map(|row| (row.partition, row.offset)));
        let Some(first) = first else {
            return Ok(());
        };
        if let Some(record) = first.rows.pop() {
            writer.push(&record.row())?;
        }
    }
}

/// The records of a file, in order: one batch of them is in memory.
struct Source {
    batches: Box<dyn Iterator<Item = Result<Vec<ArchivedRecord>, FileError>> + Send>,
    /// The last is the next.
    rows: Vec<ArchivedRecord>,
    ended: bool,
}

impl Source {
    fn new(file: Bytes) -> Result<Source, FileError> {
        let batches = base_batches(file)?;
        Ok(Source {
            batches: Box::new(batches.map(|batch| records_of(&batch?))),
            rows: Vec::new(),
            ended: false,
        })
    }

    fn fill(&mut self) -> Result<(), FileError> {
        while self.rows.is_empty() && !self.ended {
            match self.batches.next() {
                Some(rows) => self.rows = rows?.into_iter().rev().collect(),
                None => self.ended = true,
            }
        }
        Ok(())
    }

    fn next(&self) -> Option<&ArchivedRecord> {
        self.rows.last()
    }
}

/// The offsets of all of these, in as few ranges as there can be.
fn joined(run: &[LiveManifest]) -> Vec<OffsetRange> {
    let ranges = run.iter().flat_map(|live| &live.manifest.ranges);
    OffsetRange::joined(ranges)
}
