//! Files written again: the rows of several, in the order of partition and offset, with all the columns that they have.
//!
//! Nothing is computed anew: typed columns are copied, because the format of a topic may have changed since, and what
//! an older schema had narrower is widened. A column that a file does not have is null in its rows. So what a query
//! finds does not depend on whether files were merged.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{
    Array, ArrayRef, Float64Array, Int64Array, ListArray, MapArray, RecordBatch,
    RecordBatchOptions, StructArray, new_null_array,
};
use arrow_schema::{DataType, Field, Fields};
use bytes::Bytes;

use crate::types::{Offset, PartitionIndex, Timestamp};

use super::columns::{ERROR, FIELD_ID_KEY, OFFSET, PARTITION, TIMESTAMP};
use super::read::{READ_BYTES, all_batches};
use super::rows::timestamp_in;
use super::{Columns, FileError, TableWriter};

/// How many bytes of rows are decoded at a time, of all files together.
const REWRITE_BYTES: i64 = 64 << 20;

/// Rows that are being written again.
pub struct Rewriting {
    sources: Vec<Source>,
}

impl Rewriting {
    /// Of all rows of these files, which are in memory; of each, a batch of rows is decoded at a time. Each is in the
    /// order of partition and offset, and no two have the same.
    pub fn new(writer: &TableWriter, files: Vec<Bytes>) -> Result<Rewriting, FileError> {
        let count = i64::try_from(files.len()).unwrap_or(i64::MAX).max(1);
        let bytes = (REWRITE_BYTES / count).min(READ_BYTES);
        let mut sources = Vec::new();
        for file in files {
            let batches: Batches = Box::new(all_batches(file, bytes)?);
            let mut source = Source {
                batches,
                batch: None,
            };
            source.load(writer.columns())?;
            sources.push(source);
        }
        Ok(Rewriting { sources })
    }

    /// Writes rows until a file is finished. Says whether there are more.
    pub fn go_on(&mut self, writer: &mut TableWriter) -> Result<bool, FileError> {
        loop {
            let next = |source: &Source| source.batch.as_ref().and_then(Loaded::next);
            let places = self.sources.iter().enumerate();
            let keys = places.filter_map(|(place, source)| Some((next(source)?, place)));
            let Some((_, place)) = keys.min() else {
                return Ok(false);
            };
            let Some(source) = self.sources.get_mut(place) else {
                return Ok(false);
            };
            if let Some(loaded) = &mut source.batch {
                writer.push_copy(place, &loaded.rows, loaded.at)?;
                loaded.at += 1;
                if loaded.at >= loaded.rows.batch.num_rows() {
                    // What is copied from here must be written before it goes.
                    writer.write_copies()?;
                    source.load(writer.columns())?;
                    if writer.finished() > 0 {
                        return Ok(true);
                    }
                }
            }
        }
    }
}

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, FileError>> + Send>;

/// A file that is read.
struct Source {
    batches: Batches,
    batch: Option<Loaded>,
}

struct Loaded {
    rows: Arc<Copied>,
    at: usize,
}

/// Rows to be copied.
pub(super) struct Copied {
    /// With the columns of the new file.
    pub(super) batch: RecordBatch,
    keys: Vec<(PartitionIndex, Offset)>,
    times: Vec<Timestamp>,
    /// Which of them have an error.
    errors: Vec<bool>,
}

/// What is to be known of one of them.
#[derive(Clone, Copy)]
pub(super) struct CopiedRow {
    pub(super) partition: PartitionIndex,
    pub(super) offset: Offset,
    pub(super) timestamp: Timestamp,
    pub(super) has_error: bool,
}

impl Source {
    fn load(&mut self, columns: &Columns) -> Result<(), FileError> {
        self.batch = None;
        for batch in self.batches.by_ref() {
            let batch = batch?;
            if batch.num_rows() > 0 {
                let rows = Arc::new(Copied::of(&batch, columns)?);
                self.batch = Some(Loaded { rows, at: 0 });
                break;
            }
        }
        Ok(())
    }
}

impl Loaded {
    fn next(&self) -> Option<(PartitionIndex, Offset)> {
        self.rows.keys.get(self.at).copied()
    }
}

impl Copied {
    fn of(batch: &RecordBatch, columns: &Columns) -> Result<Copied, FileError> {
        let missing = |name| FileError::Column { name };
        let schema = batch.schema();
        let adapted = adapt_fields(
            schema.fields(),
            batch.columns(),
            columns.arrow().fields(),
            batch.num_rows(),
        )?;
        let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let arrow = columns.arrow().clone();
        let batch = RecordBatch::try_new_with_options(arrow, adapted, &rows)?;
        let column = |name| batch.column_by_name(name).ok_or(missing(name));
        let partitions = column(PARTITION)?.as_primitive_opt::<Int32Type>();
        let partitions = partitions.ok_or(missing(PARTITION))?.values();
        let offsets = column(OFFSET)?.as_primitive_opt::<Int64Type>();
        let offsets = offsets.ok_or(missing(OFFSET))?.values();
        let times = column(TIMESTAMP)?.as_primitive_opt::<TimestampMicrosecondType>();
        let times = times.ok_or(missing(TIMESTAMP))?;
        let errors = column(ERROR)?.as_string_opt::<i32>();
        let errors = errors.ok_or(missing(ERROR))?;
        let time = |(index, micros): (usize, Option<i64>)| match micros {
            Some(micros) => Ok(Timestamp(micros.div_euclid(1_000))),
            None => {
                let told = errors.is_valid(index).then(|| errors.value(index));
                told.and_then(timestamp_in).ok_or(missing(TIMESTAMP))
            }
        };
        let keys = partitions.iter().zip(offsets);
        Ok(Copied {
            keys: keys
                .map(|(partition, offset)| (PartitionIndex(*partition), Offset(*offset)))
                .collect(),
            times: times
                .iter()
                .enumerate()
                .map(time)
                .collect::<Result<_, _>>()?,
            errors: errors.iter().map(|error| error.is_some()).collect(),
            batch,
        })
    }

    pub(super) fn row(&self, index: usize) -> Option<CopiedRow> {
        let (partition, offset) = *self.keys.get(index)?;
        Some(CopiedRow {
            partition,
            offset,
            timestamp: *self.times.get(index)?,
            has_error: *self.errors.get(index)?,
        })
    }
}

/// Columns as `to` has them, found by their field ids.
fn adapt_fields(
    from: &Fields,
    arrays: &[ArrayRef],
    to: &Fields,
    rows: usize,
) -> Result<Vec<ArrayRef>, FileError> {
    let same = |a: &Field, b: &Field| {
        let (a, b) = (
            a.metadata().get(FIELD_ID_KEY),
            b.metadata().get(FIELD_ID_KEY),
        );
        a.is_some() && a == b
    };
    to.iter()
        .map(|to| {
            let found = from.iter().zip(arrays).find(|(from, _)| same(from, to));
            match found {
                Some((_, array)) => adapt(array, to),
                None => Ok(new_null_array(to.data_type(), rows)),
            }
        })
        .collect()
}

/// A column as `to` has it: the same, or wider, or with more in it.
fn adapt(array: &ArrayRef, to: &Field) -> Result<ArrayRef, FileError> {
    let changed = || FileError::Changed {
        name: to.name().clone(),
    };
    Ok(match (array.data_type(), to.data_type()) {
        (from, to) if from == to => array.clone(),
        (DataType::Int32, DataType::Int64) => {
            let values = array.as_primitive::<Int32Type>();
            let wide: Int64Array = values.unary(i64::from);
            Arc::new(wide)
        }
        (DataType::Float32, DataType::Float64) => {
            let values = array.as_primitive::<Float32Type>();
            let wide: Float64Array = values.unary::<_, Float64Type>(f64::from);
            Arc::new(wide)
        }
        (DataType::Struct(from), DataType::Struct(to)) => {
            let structs = array.as_struct();
            let inside = adapt_fields(from, structs.columns(), to, structs.len())?;
            let nulls = structs.nulls().cloned();
            Arc::new(StructArray::try_new_with_length(
                to.clone(),
                inside,
                nulls,
                structs.len(),
            )?)
        }
        (DataType::List(_), DataType::List(element)) => {
            let lists = array.as_list::<i32>();
            let (offsets, nulls) = (lists.offsets().clone(), lists.nulls().cloned());
            let inside = adapt(lists.values(), element)?;
            Arc::new(ListArray::try_new(element.clone(), offsets, inside, nulls)?)
        }
        (DataType::Map(..), DataType::Map(entries, sorted)) => {
            let maps = array.as_map();
            let inside: ArrayRef = Arc::new(maps.entries().clone());
            let inside = adapt(&inside, entries)?;
            let (offsets, nulls) = (maps.offsets().clone(), maps.nulls().cloned());
            let inside = inside.as_struct().clone();
            Arc::new(MapArray::try_new(
                entries.clone(),
                offsets,
                inside,
                nulls,
                *sorted,
            )?)
        }
        _ => return Err(changed()),
    })
}
