//! Storing the files of a manifest, and then the manifest.

use bytes::Bytes;

use super::super::error::JobError;
use super::super::maintenance::Maintenance;
use super::super::metrics::Task;
use super::WRITER;
use crate::manifest::Stopped;
use crate::state::table::{DataFile, MAX_FILES, Manifest, OffsetRange, PartitionBy, Table};
use crate::store::{ArchiveObject, ObjectPath, RequestKind};
use crate::table::iceberg::{self, Location, ManifestFile};
use crate::table::{Columns, FileError, FinishedFile, TableWriter};
use crate::types::{TableName, Timestamp};

/// A pass ends early when it has written so many files, which is long before a manifest may have no more.
const ENOUGH_FILES: usize = MAX_FILES / 4;

/// What is written of one manifest. Whatever is stored is noted in `stored` as it is begun, so that it can be deleted if
/// no op ever names it.
pub(super) struct Writing<'a> {
    m: &'a Maintenance,
    table: &'a Table,
    writer: Option<TableWriter>,
    files: Vec<ManifestFile>,
    errors: u64,
    times: Option<(Timestamp, Timestamp)>,
    stored: Vec<ObjectPath>,
}

impl<'a> Writing<'a> {
    pub(super) fn new(m: &'a Maintenance, table: &'a Table) -> Result<Writing<'a>, JobError> {
        let columns = Columns::new(table.schema().clone());
        let columns = columns.map_err(|error| JobError::Table {
            table: table.name().clone(),
            reason: error.to_string(),
        })?;
        Ok(Writing {
            m,
            table,
            writer: Some(TableWriter::new(columns, table.spec().by, WRITER)),
            files: Vec::new(),
            errors: 0,
            times: None,
            stored: Vec::new(),
        })
    }

    /// Where the table is, as engines see it.
    pub(super) fn location(m: &Maintenance, table: &TableName) -> Location {
        Location::new(&m.inner.store.url_of(&ObjectPath::folder_of(table)))
    }

    /// What was stored, whole or in part.
    pub(super) fn into_stored(self) -> Vec<ObjectPath> {
        self.stored
    }

    /// Whether the pass should end, for its manifest has many files.
    pub(super) fn has_enough_files(&self) -> bool {
        self.files.len() >= ENOUGH_FILES
    }

    /// Pushes rows, on a thread where that holds nobody up, and stores the files that are full.
    pub(super) async fn push<T: Send + 'static>(
        &mut self,
        push: impl FnOnce(&mut TableWriter) -> Result<T, FileError> + Send + 'static,
    ) -> Result<T, JobError> {
        let Some(mut writer) = self.writer.take() else {
            return Err(Stopped::Stopping.into());
        };
        let (mut writer, pushed) = compute(self.m, move || {
            let pushed = push(&mut writer);
            (writer, pushed)
        })
        .await?;
        let full = writer.take();
        self.writer = Some(writer);
        let pushed = pushed.map_err(|error| self.failed(&error.to_string()))?;
        for file in full {
            self.store(file).await?;
        }
        Ok(pushed)
    }

    /// Stores the rest and the manifest.
    pub(super) async fn finish(&mut self, ranges: Vec<OffsetRange>) -> Result<Manifest, JobError> {
        let Some(writer) = self.writer.take() else {
            return Err(Stopped::Stopping.into());
        };
        let pass = compute(self.m, move || writer.finish()).await?;
        let pass = pass.map_err(|error| self.failed(&error.to_string()))?;
        for file in pass.files {
            self.store(file).await?;
        }
        let asked = self.table.spec();
        let undivided = self.table.spec_of(0).unwrap_or_default();
        let spec = match pass.by == asked.by {
            true => asked,
            false => undivided,
        };
        if spec.by == PartitionBy::None {
            for file in &mut self.files {
                file.file.partition = None;
            }
        }
        let location = Writing::location(self.m, self.table.name());
        let schema = self.table.schema();
        let bytes = iceberg::manifest(&location, schema, spec, &self.files);
        let bytes = Bytes::from(bytes.map_err(|error| self.failed(&error.to_string()))?);
        let id = self.m.inner.manifest.mint_file();
        let crc32c = crc32c::crc32c(&bytes);
        let len = bytes.len() as u64;
        self.put(ArchiveObject::Manifest(id), bytes).await?;
        let (min_timestamp, max_timestamp) =
            self.times.unwrap_or((Timestamp::NONE, Timestamp::NONE));
        Ok(Manifest {
            id,
            bytes: len,
            crc32c,
            schema: schema.id,
            spec: spec.id,
            files: self.files.iter().map(|file| file.file).collect(),
            ranges,
            errors: self.errors,
            min_timestamp,
            max_timestamp,
        })
    }

    async fn store(&mut self, file: FinishedFile) -> Result<(), JobError> {
        let id = self.m.inner.manifest.mint_file();
        let len = file.bytes.len() as u64;
        self.put(ArchiveObject::Data(id), file.bytes).await?;
        self.errors += file.errors;
        let (least, most) = (file.min_timestamp, file.max_timestamp);
        self.times = Some(match self.times {
            None => (least, most),
            Some((min, max)) => (min.min(least), max.max(most)),
        });
        self.files.push(ManifestFile {
            file: DataFile {
                id,
                bytes: len,
                crc32c: file.crc32c,
                rows: file.rows,
                partition: file.value,
            },
            stats: file.stats,
        });
        Ok(())
    }

    async fn put(&mut self, object: ArchiveObject, bytes: Bytes) -> Result<(), JobError> {
        let path = ObjectPath::archive(self.table.name(), object);
        self.stored.push(path.clone());
        let len = bytes.len() as u64;
        let store = &self.m.inner.store;
        if len <= store.options().part_len as u64 {
            let kind = RequestKind::ArchivePut;
            store.put_unique(&path, vec![bytes], kind).await?;
        } else {
            upload(self.m, &path, bytes).await?;
        }
        self.m.inner.metrics.moved(Task::Archive, 0, len);
        Ok(())
    }

    fn failed(&self, reason: &str) -> JobError {
        JobError::Table {
            table: self.table.name().clone(),
            reason: reason.to_owned(),
        }
    }
}

/// Stores a long file in parts.
async fn upload(m: &Maintenance, path: &ObjectPath, mut bytes: Bytes) -> Result<(), JobError> {
    let store = &m.inner.store;
    let at_once = m.options().compaction.at_once();
    let mut upload = store.upload(path, at_once, RequestKind::ArchivePut).await?;
    let part_len = store.options().part_len;
    let mut number = 0;
    while !bytes.is_empty() {
        m.give_way().await;
        let part = bytes.split_to(part_len.min(bytes.len()));
        upload.part(number, part).await?;
        number += 1;
    }
    Ok(upload.finish().await?)
}

/// Does what takes long on a thread where that holds nobody up.
pub(super) async fn compute<T: Send + 'static>(
    m: &Maintenance,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JobError> {
    match m.inner.env.compute(work).await {
        Ok(done) => Ok(done),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Stopped::Stopping.into()),
    }
}

/// Deletes objects that nothing refers to nor ever will. If that fails, the sweep finds them.
pub(super) async fn discard(m: &Maintenance, stored: Vec<ObjectPath>) {
    if let Err(error) = m.delete("orphan", stored).await {
        tracing::debug!(%error, "orphans were not deleted; the sweep will find them");
    }
}
