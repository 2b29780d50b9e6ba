//! What one pass over topics writes: records in, the files of a manifest out.
//!
//! Records come in the order of partition and offset, and are divided among files by the partition spec. Memory is
//! bounded, whatever the records are: when all open files together take more than [`WriterOptions::memory`], the largest
//! is finished. Producers choose timestamps, so a pass may see any number of days: when there are more than
//! [`WriterOptions::max_values`], the rest goes to one more file, and the manifest of the pass is of the spec that does
//! not divide files. That is right for every reader: in it a file may have any days. The files of the days that came
//! first are listed in it as well; engines still skip by the bounds of the column.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::state::table::PartitionBy;
use crate::types::{Offset, PartitionIndex, Timestamp};

use super::file::FileWriter;
use super::partition::partition_value;
use super::{Columns, FileError, FileStats, Row, RowEncoder};

/// How files are written.
#[derive(Clone, Copy, Debug)]
pub struct WriterOptions {
    /// A file that is so long is finished.
    pub file_bytes: usize,
    /// How many bytes the files that are not finished may take together.
    pub memory: usize,
    /// How many hours, days or months one pass divides.
    pub max_values: usize,
}

impl Default for WriterOptions {
    fn default() -> WriterOptions {
        WriterOptions {
            file_bytes: 128 << 20,
            memory: 192 << 20,
            max_values: 64,
        }
    }
}

/// A file that is ready to be stored.
#[derive(Clone, Debug)]
pub struct FinishedFile {
    /// All of it.
    pub bytes: Bytes,
    /// Its CRC-32C.
    pub crc32c: u32,
    /// How many rows it has.
    pub rows: u64,
    /// How many of them have an error.
    pub errors: u64,
    /// The hour, day or month of its rows. Whether the manifest says it, [`TableWriter::finish`] tells.
    pub value: Option<i32>,
    /// The least timestamp of its records.
    pub min_timestamp: Timestamp,
    /// The greatest.
    pub max_timestamp: Timestamp,
    /// What there is to say of its columns.
    pub stats: FileStats,
}

/// What one pass wrote.
#[derive(Clone, Debug)]
pub struct Pass {
    /// How the manifest divides its files: as was asked for, or not at all if there were too many values.
    pub by: PartitionBy,
    /// The files that were not [taken](TableWriter::take) before.
    pub files: Vec<FinishedFile>,
}

/// Writes the files of one pass.
pub struct TableWriter {
    columns: Columns,
    by: PartitionBy,
    options: WriterOptions,
    open: BTreeMap<Slot, OpenFile>,
    /// The hours, days or months that have files of their own.
    values: BTreeSet<Option<i32>>,
    /// Whether there are others.
    has_rest: bool,
    finished: Vec<FinishedFile>,
    last: Option<(PartitionIndex, Offset)>,
    /// How many bytes were pushed since memory was counted.
    uncounted: usize,
}

/// Which file a record goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    Value(Option<i32>),
    Rest,
}

struct OpenFile {
    encoder: RowEncoder,
    writer: FileWriter,
    /// That of the rows of the row group.
    partition: PartitionIndex,
    min_timestamp: Timestamp,
    max_timestamp: Timestamp,
}

/// After how many pushed bytes memory is counted again.
const COUNT_EVERY: usize = 1 << 20;

impl TableWriter {
    /// A writer of files with `columns`, divided by `by`.
    pub fn new(columns: Columns, by: PartitionBy, options: WriterOptions) -> TableWriter {
        TableWriter {
            columns,
            by,
            options,
            open: BTreeMap::new(),
            values: BTreeSet::new(),
            has_rest: false,
            finished: Vec::new(),
            last: None,
            uncounted: 0,
        }
    }

    /// Adds a record. It must follow the one before in the order of partition and offset. After an error the pass is to
    /// be given up.
    pub fn push(&mut self, row: &Row<'_>) -> Result<(), FileError> {
        let here = (row.partition, row.offset);
        if let Some((last_partition, last)) = self.last
            && (last_partition, last) >= here
        {
            return Err(FileError::Order {
                partition: row.partition,
                offset: row.offset,
                last_partition,
                last,
            });
        }
        self.last = Some(here);
        let slot = self.slot(row.timestamp);
        let file = match self.open.entry(slot) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(vacant) => vacant.insert(OpenFile::new(&self.columns, row)?),
        };
        if file.push(row)? && file.writer.bytes() >= self.options.file_bytes {
            self.finish_file(slot)?;
        }
        self.uncounted += row.bytes();
        if self.uncounted >= COUNT_EVERY {
            self.uncounted = 0;
            self.keep_to_memory()?;
        }
        Ok(())
    }

    /// The files that are finished already.
    pub fn take(&mut self) -> Vec<FinishedFile> {
        std::mem::take(&mut self.finished)
    }

    /// How many bytes the files take that are not finished.
    pub fn memory(&self) -> usize {
        self.open.values().map(OpenFile::memory).sum()
    }

    /// Finishes all files.
    pub fn finish(mut self) -> Result<Pass, FileError> {
        let slots: Vec<Slot> = self.open.keys().copied().collect();
        for slot in slots {
            self.finish_file(slot)?;
        }
        Ok(Pass {
            by: if self.has_rest {
                PartitionBy::None
            } else {
                self.by
            },
            files: self.finished,
        })
    }

    fn slot(&mut self, timestamp: Timestamp) -> Slot {
        let value = partition_value(self.by, timestamp);
        if !self.values.contains(&value) {
            if self.values.len() >= self.options.max_values {
                self.has_rest = true;
                return Slot::Rest;
            }
            self.values.insert(value);
        }
        Slot::Value(value)
    }

    /// Finishes the largest files until the others take no more memory than they may.
    fn keep_to_memory(&mut self) -> Result<(), FileError> {
        let mut sizes: Vec<(usize, Slot)> = self
            .open
            .iter()
            .map(|(slot, file)| (file.memory(), *slot))
            .collect();
        sizes.sort_unstable();
        let mut all: usize = sizes.iter().map(|(size, _)| size).sum();
        while all > self.options.memory
            && let Some((size, slot)) = sizes.pop()
        {
            self.finish_file(slot)?;
            all -= size;
        }
        Ok(())
    }

    fn finish_file(&mut self, slot: Slot) -> Result<(), FileError> {
        let Some(mut file) = self.open.remove(&slot) else {
            return Ok(());
        };
        file.write()?;
        let (bytes, rows, stats) = file.writer.finish()?;
        self.finished.push(FinishedFile {
            crc32c: crc32c::crc32c(&bytes),
            bytes,
            rows,
            errors: file.encoder.errors(),
            value: match slot {
                Slot::Value(value) => value,
                Slot::Rest => None,
            },
            min_timestamp: file.min_timestamp,
            max_timestamp: file.max_timestamp,
            stats,
        });
        Ok(())
    }
}

impl OpenFile {
    fn new(columns: &Columns, first: &Row<'_>) -> Result<OpenFile, FileError> {
        Ok(OpenFile {
            encoder: RowEncoder::new(columns),
            writer: FileWriter::new(columns)?,
            partition: first.partition,
            min_timestamp: first.timestamp,
            max_timestamp: first.timestamp,
        })
    }

    /// Adds a row, and says whether a batch of rows was written.
    fn push(&mut self, row: &Row<'_>) -> Result<bool, FileError> {
        if row.partition != self.partition {
            self.write()?;
            self.writer.end_row_group()?;
            self.partition = row.partition;
        }
        self.encoder.push(row)?;
        self.min_timestamp = self.min_timestamp.min(row.timestamp);
        self.max_timestamp = self.max_timestamp.max(row.timestamp);
        let is_full = self.encoder.is_full();
        if is_full {
            self.write()?;
        }
        Ok(is_full)
    }

    /// Writes the rows that wait.
    fn write(&mut self) -> Result<(), FileError> {
        if self.encoder.rows() > 0 {
            let bytes = self.encoder.bytes();
            let batch = self.encoder.finish()?;
            self.writer.write(&batch, bytes)?;
        }
        Ok(())
    }

    fn memory(&self) -> usize {
        self.encoder.bytes() + self.writer.memory()
    }
}
