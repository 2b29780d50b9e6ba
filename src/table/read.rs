//! Rows back to records: what was written is read again to be verified, and to be merged.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::schema::types::SchemaDescriptor;

use crate::segment::{RecordHeader, TimestampType};
use crate::types::{Offset, PartitionIndex, Timestamp};

use super::FileError;
use super::columns::{
    ERROR, HEADERS, KEY, OFFSET, PARTITION, TIMESTAMP, TIMESTAMP_TYPE, VALUE, base_columns,
};
use super::rows::{BATCH_ROWS, Row, timestamp_in, timestamp_type_name};

/// A record as a file of the archive has it. A header's key that is no UTF-8 is as the file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedRecord {
    /// Its partition.
    pub partition: PartitionIndex,
    /// Its offset.
    pub offset: Offset,
    /// Its time.
    pub timestamp: Timestamp,
    /// Whose time that is.
    pub timestamp_type: TimestampType,
    /// The key.
    pub key: Option<Bytes>,
    /// The value.
    pub value: Option<Bytes>,
    /// The headers, in order.
    pub headers: Vec<RecordHeader>,
    /// What did not fit its columns.
    pub error: Option<String>,
}

impl ArchivedRecord {
    /// The same as what is to be encoded.
    pub fn row(&self) -> Row<'_> {
        Row {
            partition: self.partition,
            offset: self.offset,
            timestamp: self.timestamp,
            timestamp_type: self.timestamp_type,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: &self.headers,
            too_many_headers: None,
        }
    }
}

/// How many bytes before compression a batch that is read has, about.
pub(super) const READ_BYTES: i64 = 8 << 20;

/// What a value takes in memory at least, whatever it takes in a file.
const VALUE_BYTES: i64 = 8;

/// The record batches of a file, with its base columns, in the order of the file. The file is in memory; a batch is
/// decoded at a time, of some 8 MiB, or at most of a row group.
pub fn base_batches(
    file: Bytes,
) -> Result<impl Iterator<Item = Result<RecordBatch, FileError>>, FileError> {
    let names: Vec<String> = base_columns()
        .into_iter()
        .filter(|column| column.parent.is_none())
        .map(|column| column.name)
        .collect();
    batches(file, READ_BYTES, move |parquet| {
        ProjectionMask::columns(parquet, names.iter().map(String::as_str))
    })
}

/// The same with all columns that the file has, in batches of some `bytes`.
pub(super) fn all_batches(
    file: Bytes,
    bytes: i64,
) -> Result<impl Iterator<Item = Result<RecordBatch, FileError>>, FileError> {
    batches(file, bytes, |_| ProjectionMask::all())
}

fn batches(
    file: Bytes,
    bytes: i64,
    of: impl FnOnce(&SchemaDescriptor) -> ProjectionMask,
) -> Result<impl Iterator<Item = Result<RecordBatch, FileError>>, FileError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let groups = builder.metadata().row_groups().iter();
    let per_row = groups.map(|group| {
        // A dictionary says once what many rows have.
        let columns = group.columns().iter().map(|chunk| {
            let plain = chunk.unencoded_byte_array_data_bytes();
            // Nor do empty values take anything, of which a row may have many.
            let held = chunk.num_values().saturating_mul(VALUE_BYTES);
            chunk.uncompressed_size().max(plain.unwrap_or(0)).max(held)
        });
        columns.sum::<i64>() / group.num_rows().max(1)
    });
    let rows = bytes / per_row.max().unwrap_or(1).max(1);
    let rows = usize::try_from(rows).unwrap_or(1).clamp(1, BATCH_ROWS);
    let mask = of(builder.parquet_schema());
    let reader = builder
        .with_projection(mask)
        .with_batch_size(rows)
        .build()?;
    Ok(reader.map(|batch| batch.map_err(FileError::from)))
}

/// The records of a batch that has the base columns.
pub fn records_of(batch: &RecordBatch) -> Result<Vec<ArchivedRecord>, FileError> {
    let missing = |name| FileError::Column { name };
    let column = |name| batch.column_by_name(name).ok_or(missing(name));
    let partitions = column(PARTITION)?.as_primitive_opt::<Int32Type>();
    let partitions = partitions.ok_or(missing(PARTITION))?;
    let offsets = column(OFFSET)?.as_primitive_opt::<Int64Type>();
    let offsets = offsets.ok_or(missing(OFFSET))?;
    let times = column(TIMESTAMP)?.as_primitive_opt::<TimestampMicrosecondType>();
    let times = times.ok_or(missing(TIMESTAMP))?;
    let types = column(TIMESTAMP_TYPE)?.as_string_opt::<i32>();
    let types = types.ok_or(missing(TIMESTAMP_TYPE))?;
    let keys = column(KEY)?.as_binary_opt::<i32>().ok_or(missing(KEY))?;
    let values = column(VALUE)?.as_binary_opt::<i32>();
    let values = values.ok_or(missing(VALUE))?;
    let errors = column(ERROR)?.as_string_opt::<i32>();
    let errors = errors.ok_or(missing(ERROR))?;
    let lists = column(HEADERS)?.as_list_opt::<i32>();
    let lists = lists.ok_or(missing(HEADERS))?;
    let headers = lists.values().as_struct_opt().ok_or(missing(HEADERS))?;
    let header_keys = headers.column_by_name("key");
    let header_keys = header_keys.and_then(|keys| keys.as_string_opt::<i32>());
    let header_keys = header_keys.ok_or(missing(HEADERS))?;
    let header_values = headers.column_by_name("value");
    let header_values = header_values.and_then(|values| values.as_binary_opt::<i32>());
    let header_values = header_values.ok_or(missing(HEADERS))?;
    let places = lists.value_offsets();
    let place = |index: usize| {
        let place = places.get(index).copied();
        place.and_then(|place| usize::try_from(place).ok())
    };

    let mut records = Vec::with_capacity(batch.num_rows());
    for index in 0..batch.num_rows() {
        let error = errors
            .is_valid(index)
            .then(|| errors.value(index).to_owned());
        let timestamp = if times.is_valid(index) {
            // What was written is a whole number of milliseconds.
            Timestamp(times.value(index).div_euclid(1_000))
        } else {
            let told = error.as_deref().and_then(timestamp_in);
            told.ok_or(missing(TIMESTAMP))?
        };
        let of_name = |timestamp_type| types.value(index) == timestamp_type_name(timestamp_type);
        let mut known = [TimestampType::Create, TimestampType::LogAppend].into_iter();
        let (from, to) = place(index).zip(place(index + 1)).ok_or(missing(HEADERS))?;
        let bytes = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
        let headers = (from..to).map(|header| RecordHeader {
            key: bytes(header_keys.value(header).as_bytes()),
            value: header_values
                .is_valid(header)
                .then(|| bytes(header_values.value(header))),
        });
        records.push(ArchivedRecord {
            partition: PartitionIndex(partitions.value(index)),
            offset: Offset(offsets.value(index)),
            timestamp,
            timestamp_type: known
                .find(|known| of_name(*known))
                .ok_or(missing(TIMESTAMP_TYPE))?,
            key: keys.is_valid(index).then(|| bytes(keys.value(index))),
            value: values.is_valid(index).then(|| bytes(values.value(index))),
            headers: headers.collect(),
            error,
        });
    }
    Ok(records)
}

/// All records of a file. For tests and small files: it holds them all.
pub fn records_of_file(file: Bytes) -> Result<Vec<ArchivedRecord>, FileError> {
    let mut records = Vec::new();
    for batch in base_batches(file)? {
        records.extend(records_of(&batch?)?);
    }
    Ok(records)
}
