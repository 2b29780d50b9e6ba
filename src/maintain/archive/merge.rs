//! Neighbouring small manifests become one, with few files.
//!
//! The files are read as they are stored, checked against length and CRC of the state, and their rows are written
//! again in the order of partition and offset, with the columns of the newest schema. The fold refuses the result if
//! it has not as many rows as there were, or if what was read is not there any more.

use bytes::Bytes;
use tokio::time::Instant;

use super::super::error::JobError;
use super::super::maintenance::Maintenance;
use super::super::metrics::Task;
use super::write::{Writing, discard};
use crate::state::op::{Op, RewriteFiles};
use crate::state::table::{DataFile, LiveManifest, OffsetRange, Table};
use crate::store::{ArchiveObject, ObjectPath, RequestKind};
use crate::table::{Rewriting, TableWriter};

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
    let mut writing = Writing::again(m, table)?;
    let written = async {
        let mut files = Vec::new();
        for file in run.iter().flat_map(|live| &live.manifest.files) {
            files.push(read(m, table, file).await?);
        }
        let begin = move |writer: &mut TableWriter| Rewriting::new(writer, files);
        let mut rewriting = writing.push(begin).await?;
        loop {
            let go_on = move |writer: &mut TableWriter| {
                let has_more = rewriting.go_on(writer)?;
                Ok((rewriting, has_more))
            };
            // What was finished is stored before more is written.
            let (again, has_more) = writing.push(go_on).await?;
            if !has_more {
                break;
            }
            rewriting = again;
        }
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
    writing.commit(vec![op]).await?;
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

/// The offsets of all of these, in as few ranges as there can be.
fn joined(run: &[LiveManifest]) -> Vec<OffsetRange> {
    let ranges = run.iter().flat_map(|live| &live.manifest.ranges);
    OffsetRange::joined(ranges)
}
