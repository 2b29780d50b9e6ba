//! What one pass over topics writes: records in, the files of a manifest out.
//!
//! Records come in the order of partition and offset, and are divided among files by the partition spec. Memory is
//! bounded, whatever the records are: when all open files together take more than [`WriterOptions::memory`], the
//! largest is finished. Producers choose timestamps, so a pass may see any number of days: when there are more than
//! [`WriterOptions::max_values`], the rest goes to one more file, and the manifest of the pass is of the spec that does
//! not divide files. That is right for every reader: in it a file may have any days. The files of the days that came
//! first are listed in it as well; engines still skip by the bounds of the column.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_select::interleave::interleave_record_batch;
use bytes::Bytes;

use crate::state::table::{FieldId, PartitionBy, Schema};
use crate::types::{Offset, PartitionIndex, Timestamp};

use super::file::FileWriter;
use super::merge::Copied;
use super::partition::partition_value;
use super::typing::{Evolution, Formats, OpenedRow, Typing};
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
    /// The schema that the table is to have before the next pass, if that is another: there were fields without a
    /// column.
    pub wanted: Option<Schema>,
}

/// Writes the files of one pass.
pub struct TableWriter {
    columns: Columns,
    formats: Formats,
    /// The columns that the next pass is to have.
    evolution: Option<Evolution>,
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
    copies: Copies,
    writer: FileWriter,
    /// That of the rows of the row group.
    partition: PartitionIndex,
    min_timestamp: Timestamp,
    max_timestamp: Timestamp,
}

/// Rows of other files that are to be written, each as the number of a batch and the place in it.
#[derive(Default)]
struct Copies {
    batches: Vec<(usize, Arc<Copied>)>,
    rows: Vec<(usize, usize)>,
    errors: u64,
}

/// After how many pushed bytes memory is counted again.
const COUNT_EVERY: usize = 1 << 20;

impl TableWriter {
    /// A writer of files with `columns`, divided by `by`; typed columns are null.
    pub fn new(columns: Columns, by: PartitionBy, options: WriterOptions) -> TableWriter {
        TableWriter {
            columns,
            formats: Formats::default(),
            evolution: None,
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

    /// The same with typed columns. `last` is the greatest number that a column of the table ever had.
    pub fn typed(
        columns: Columns,
        typing: &Typing,
        last: FieldId,
        by: PartitionBy,
        options: WriterOptions,
    ) -> TableWriter {
        TableWriter {
            formats: typing.formats(),
            evolution: Some(Evolution::new(typing, columns.schema(), last)),
            ..TableWriter::new(columns, by, options)
        }
    }

    /// The columns of the files.
    pub(super) fn columns(&self) -> &Columns {
        &self.columns
    }

    /// Adds a record. It must follow the one before in the order of partition and offset. After an error the pass is to
    /// be given up.
    pub fn push(&mut self, row: &Row<'_>) -> Result<(), FileError> {
        let slot = self.next(row.partition, row.offset, row.timestamp)?;
        let opened = OpenedRow::of(row, self.formats);
        if let Some(evolution) = &mut self.evolution {
            evolution.see_opened(&opened);
        }
        let file = self.open_file(slot, row.partition, row.timestamp)?;
        let before = file.encoder.bytes();
        let is_written = file.push(row, &opened)?;
        let grown = file.encoder.bytes().saturating_sub(before);
        let is_long = is_written && file.writer.bytes() >= self.options.file_bytes;
        if is_long {
            self.finish_file(slot)?;
        }
        self.uncounted += row.bytes().max(grown);
        if self.uncounted >= COUNT_EVERY {
            self.uncounted = 0;
            self.keep_to_memory()?;
        }
        Ok(())
    }

    /// Adds row `index` of a batch of the file of number `from`, as [`push`](TableWriter::push) adds a record.
    pub(super) fn push_copy(
        &mut self,
        from: usize,
        rows: &Arc<Copied>,
        index: usize,
    ) -> Result<(), FileError> {
        let Some(row) = rows.row(index) else {
            return Ok(());
        };
        let slot = self.next(row.partition, row.offset, row.timestamp)?;
        let file = self.open_file(slot, row.partition, row.timestamp)?;
        file.begin_row(row.partition, row.timestamp)?;
        file.copies.add(from, rows, index, row.has_error);
        Ok(())
    }

    /// Writes all rows that [`push_copy`](TableWriter::push_copy) added.
    pub(super) fn write_copies(&mut self) -> Result<(), FileError> {
        let mut long = Vec::new();
        for (slot, file) in &mut self.open {
            file.write()?;
            if file.writer.bytes() >= self.options.file_bytes {
                long.push(*slot);
            }
        }
        for slot in long {
            self.finish_file(slot)?;
        }
        self.keep_to_memory()
    }

    /// Notes the next row, and says which file it goes to.
    fn next(
        &mut self,
        partition: PartitionIndex,
        offset: Offset,
        timestamp: Timestamp,
    ) -> Result<Slot, FileError> {
        if let Some((last_partition, last)) = self.last
            && (last_partition, last) >= (partition, offset)
        {
            return Err(FileError::Order {
                partition,
                offset,
                last_partition,
                last,
            });
        }
        self.last = Some((partition, offset));
        Ok(self.slot(timestamp))
    }

    fn open_file(
        &mut self,
        slot: Slot,
        partition: PartitionIndex,
        timestamp: Timestamp,
    ) -> Result<&mut OpenFile, FileError> {
        Ok(match self.open.entry(slot) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(vacant) => vacant.insert(OpenFile {
                encoder: RowEncoder::typed(&self.columns, self.formats),
                copies: Copies::default(),
                writer: FileWriter::new(&self.columns)?,
                partition,
                min_timestamp: timestamp,
                max_timestamp: timestamp,
            }),
        })
    }

    /// The files that are finished already.
    pub fn take(&mut self) -> Vec<FinishedFile> {
        std::mem::take(&mut self.finished)
    }

    /// How many files are finished and not taken yet.
    pub fn finished(&self) -> usize {
        self.finished.len()
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
            wanted: self.evolution.and_then(|evolution| evolution.schema()),
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
            errors: file.encoder.errors() + file.copies.errors,
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
    /// Notes that the next row has these.
    fn begin_row(
        &mut self,
        partition: PartitionIndex,
        timestamp: Timestamp,
    ) -> Result<(), FileError> {
        if partition != self.partition {
            self.write()?;
            self.writer.end_row_group()?;
            self.partition = partition;
        }
        self.min_timestamp = self.min_timestamp.min(timestamp);
        self.max_timestamp = self.max_timestamp.max(timestamp);
        Ok(())
    }

    /// Adds a row, and says whether a batch of rows was written.
    fn push(&mut self, row: &Row<'_>, opened: &OpenedRow<'_>) -> Result<bool, FileError> {
        self.begin_row(row.partition, row.timestamp)?;
        self.encoder.push_opened(row, opened)?;
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
        if let Some(batch) = self.copies.take()? {
            self.writer.write(&batch, batch.get_array_memory_size())?;
        }
        Ok(())
    }

    /// How many bytes it takes: what is being filled doubles when it is full.
    fn memory(&self) -> usize {
        self.encoder.bytes() * 2 + self.writer.memory()
    }
}

impl Copies {
    fn add(&mut self, from: usize, rows: &Arc<Copied>, index: usize, has_error: bool) {
        let known = self.batches.iter().position(|(file, _)| *file == from);
        let place = known.unwrap_or_else(|| {
            self.batches.push((from, rows.clone()));
            self.batches.len() - 1
        });
        self.rows.push((place, index));
        self.errors += u64::from(has_error);
    }

    /// The rows since the last time, as one batch.
    fn take(&mut self) -> Result<Option<RecordBatch>, FileError> {
        if self.rows.is_empty() {
            return Ok(None);
        }
        let batches: Vec<&RecordBatch> = self.batches.iter().map(|(_, rows)| &rows.batch).collect();
        let batch = interleave_record_batch(&batches, &self.rows)?;
        self.batches.clear();
        self.rows.clear();
        Ok(Some(batch))
    }
}
