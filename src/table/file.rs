//! Parquet files: batches of rows in, bytes and statistics out.
//!
//! A file has rows in the order of partition and offset, and says so. A row group ends where a partition does, and has
//! at most [`ROW_GROUP_BYTES`]. Compression is zstd; pages are those of version 1, plain or with a dictionary, since
//! newer encodings fail in widespread readers. Statistics and the column index leave out the value, which nobody
//! filters by its order; a Bloom filter finds keys. There are no checksums of pages: whoever stores a file keeps its
//! length and CRC-32C.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use bytes::{Bytes, BytesMut};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::{ParquetMetaData, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;

use crate::state::table::{ColumnType, FieldId, Schema};

use super::columns::{HEADERS, KEY, OFFSET, VALUE};
use super::{Columns, FileError};

/// The most bytes of a row group, but for one whose only row is longer.
pub const ROW_GROUP_BYTES: usize = 64 << 20;
/// The most bytes of a row group before compression, about: readers may hold all of it.
const ROW_GROUP_RAW_BYTES: usize = 256 << 20;
/// The most rows of a row group.
const ROW_GROUP_ROWS: usize = 1 << 20;
/// The size of a page, before compression.
const PAGE_BYTES: usize = 1 << 20;
const PAGE_ROWS: usize = 20_000;
const ZSTD_LEVEL: i32 = 3;
/// For so many keys in a row group the Bloom filter is as good as it should be. It is made smaller where there are fewer.
const BLOOM_KEYS: u64 = 500_000;
const BLOOM_FALSE_POSITIVES: f64 = 0.01;

/// The longest bound that a manifest has. Parquet cuts what is longer to less than that, but for what cannot be cut: that
/// of keys of 0xff and nothing else.
const MAX_BOUND_LEN: usize = 128;

/// What a manifest says of the columns of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileStats {
    /// Of each column that is no list, struct or map.
    pub columns: BTreeMap<FieldId, ColumnStats>,
    /// Where each row group begins.
    pub split_offsets: Vec<i64>,
}

/// What a manifest says of a column of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnStats {
    /// How many bytes it takes.
    pub bytes: u64,
    /// How many values there are, nulls included, and how many nulls. Not known within lists and maps.
    pub values: Option<(u64, u64)>,
    /// How many values are not a number.
    pub nans: Option<u64>,
    /// No value is less, in Iceberg's binary form.
    pub lower: Option<Vec<u8>>,
    /// No value is greater.
    pub upper: Option<Vec<u8>>,
}

/// A file that is being written, to memory.
pub(super) struct FileWriter {
    schema: Arc<Schema>,
    writer: ArrowWriter<Sink>,
    rows: u64,
    /// How many bytes the row group has before compression.
    raw_bytes: usize,
    null_values: u64,
    nans: BTreeMap<usize, u64>,
}

/// Where the Parquet library writes to.
#[derive(Default)]
struct Sink(BytesMut);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl FileWriter {
    pub(super) fn new(columns: &Columns) -> Result<FileWriter, FileError> {
        let options = ArrowWriterOptions::new()
            .with_properties(properties()?)
            // The file's own schema says all that Arrow's would.
            .with_skip_arrow_metadata(true);
        Ok(FileWriter {
            schema: Arc::new(columns.schema().clone()),
            writer: ArrowWriter::try_new_with_options(
                Sink::default(),
                columns.arrow().clone(),
                options,
            )?,
            rows: 0,
            raw_bytes: 0,
            null_values: 0,
            nans: BTreeMap::new(),
        })
    }

    /// Writes the rows of `batch`, which have `bytes` at most before compression.
    pub(super) fn write(&mut self, batch: &RecordBatch, bytes: usize) -> Result<(), FileError> {
        let (encoded, raw) = (self.writer.in_progress_size(), self.raw_bytes);
        if encoded.saturating_add(bytes) > ROW_GROUP_BYTES
            || raw.saturating_add(bytes) > ROW_GROUP_RAW_BYTES
        {
            self.end_row_group()?;
        }
        self.raw_bytes += bytes;
        self.writer.write(batch)?;
        self.rows += batch.num_rows() as u64;
        for (place, column) in batch.columns().iter().enumerate() {
            let nans = match column.data_type() {
                DataType::Float32 => {
                    let values = column.as_primitive::<Float32Type>().iter().flatten();
                    values.filter(|value| value.is_nan()).count()
                }
                DataType::Float64 => {
                    let values = column.as_primitive::<Float64Type>().iter().flatten();
                    values.filter(|value| value.is_nan()).count()
                }
                _ => continue,
            };
            *self.nans.entry(place).or_default() += nans as u64;
        }
        if let Some(values) = batch.column_by_name(VALUE) {
            self.null_values += values.null_count() as u64;
        }
        Ok(())
    }

    /// What is written next begins a row group.
    pub(super) fn end_row_group(&mut self) -> Result<(), FileError> {
        self.raw_bytes = 0;
        Ok(self.writer.flush()?)
    }

    /// How many bytes of memory it takes.
    pub(super) fn memory(&self) -> usize {
        self.writer.memory_size() + self.writer.inner().0.len()
    }

    /// How long the file would be, about, if it ended here.
    pub(super) fn bytes(&self) -> usize {
        self.writer.in_progress_size() + self.writer.bytes_written()
    }

    /// The file, how many rows it has, and what there is to say of its columns.
    pub(super) fn finish(mut self) -> Result<(Bytes, u64, FileStats), FileError> {
        let metadata = self.writer.finish()?;
        let stats = self.stats(&metadata);
        let bytes = std::mem::take(&mut self.writer.inner_mut().0);
        Ok((bytes.freeze(), self.rows, stats))
    }

    fn stats(&self, metadata: &ParquetMetaData) -> FileStats {
        let mut stats = FileStats::default();
        let leaves = leaves(&self.schema);
        for group in metadata.row_groups() {
            let first = group.columns().first();
            let begins = first.map(|first| first.byte_range().0);
            stats
                .split_offsets
                .extend(begins.and_then(|begins| i64::try_from(begins).ok()));
        }
        for (place, leaf) in leaves.iter().enumerate() {
            let groups = metadata.row_groups().iter();
            let chunks = groups.filter_map(|group| group.columns().get(place));
            let mut column = ColumnStats::default();
            let mut nulls = Some(0);
            let (mut lower, mut upper) = (Bound::default(), Bound::default());
            for chunk in chunks {
                column.bytes += u64::try_from(chunk.compressed_size()).unwrap_or(0);
                let told = chunk.statistics();
                let chunk_nulls = told.and_then(|told| told.null_count_opt());
                nulls = nulls.zip(chunk_nulls).map(|(sum, more)| sum + more);
                // Where all is null there are no bounds, and they are not needed.
                let values = u64::try_from(chunk.num_values()).ok();
                if chunk_nulls.is_some() && chunk_nulls == values {
                    continue;
                }
                lower.least(leaf.column_type, told.and_then(|told| told.min_bytes_opt()));
                upper.greatest(leaf.column_type, told.and_then(|told| told.max_bytes_opt()));
            }
            if leaf.top == Some(VALUE) {
                nulls = Some(self.null_values);
            }
            if !leaf.repeated {
                column.values = nulls.map(|nulls| (self.rows, nulls));
                column.lower = lower.0.flatten();
                column.upper = upper.0.flatten();
                let place = leaf.place.filter(|_| leaf.top.is_some());
                column.nans = place.and_then(|place| self.nans.get(&place).copied());
            }
            stats.columns.insert(leaf.id, column);
        }
        stats
    }
}

/// A bound of the chunks so far: nothing before the first, and nothing for ever after one that has none.
#[derive(Default)]
struct Bound(Option<Option<Vec<u8>>>);

impl Bound {
    fn least(&mut self, of: ColumnType, next: Option<&[u8]>) {
        self.add(of, next, std::cmp::Ordering::Less);
    }

    fn greatest(&mut self, of: ColumnType, next: Option<&[u8]>) {
        self.add(of, next, std::cmp::Ordering::Greater);
    }

    fn add(&mut self, of: ColumnType, next: Option<&[u8]>, wins: std::cmp::Ordering) {
        let next = next.filter(|next| has_bounds(of) && next.len() <= MAX_BOUND_LEN);
        let Some(next) = next else {
            self.0 = Some(None);
            return;
        };
        match &mut self.0 {
            Some(None) => {}
            Some(Some(best)) => match compare(of, next, best) {
                Some(found) if found == wins => *best = next.to_vec(),
                Some(_) => {}
                None => self.0 = Some(None),
            },
            None => self.0 = Some(Some(next.to_vec())),
        }
    }
}

/// Whether Parquet's statistics of such a column have the form of Iceberg's bounds.
fn has_bounds(of: ColumnType) -> bool {
    !matches!(
        of,
        ColumnType::Decimal { .. } | ColumnType::Struct | ColumnType::List | ColumnType::Map
    )
}

/// The order of two values in their binary form; nothing if they have none.
fn compare(of: ColumnType, a: &[u8], b: &[u8]) -> Option<std::cmp::Ordering> {
    let ints = || {
        Some((
            i32::from_le_bytes(a.try_into().ok()?),
            i32::from_le_bytes(b.try_into().ok()?),
        ))
    };
    let longs = || {
        Some((
            i64::from_le_bytes(a.try_into().ok()?),
            i64::from_le_bytes(b.try_into().ok()?),
        ))
    };
    match of {
        ColumnType::Int | ColumnType::Date => ints().map(|(a, b)| a.cmp(&b)),
        ColumnType::Long | ColumnType::Time | ColumnType::Timestamp | ColumnType::Timestamptz => {
            longs().map(|(a, b)| a.cmp(&b))
        }
        ColumnType::Float => {
            let float = |bytes: &[u8]| Some(f32::from_le_bytes(bytes.try_into().ok()?));
            float(a)?.partial_cmp(&float(b)?)
        }
        ColumnType::Double => {
            let double = |bytes: &[u8]| Some(f64::from_le_bytes(bytes.try_into().ok()?));
            double(a)?.partial_cmp(&double(b)?)
        }
        _ => Some(a.cmp(b)),
    }
}

/// A column that has values itself, in the order in which Parquet has them.
struct Leaf<'a> {
    id: FieldId,
    column_type: ColumnType,
    /// Whether it is in a list or map.
    repeated: bool,
    /// Its name, if it is in no other column.
    top: Option<&'a str>,
    /// The place of the column of the table in which it is, or that it is.
    place: Option<usize>,
}

fn leaves(schema: &Schema) -> Vec<Leaf<'_>> {
    fn add<'a>(
        schema: &'a Schema,
        parent: Option<FieldId>,
        repeated: bool,
        place: Option<usize>,
        leaves: &mut Vec<Leaf<'a>>,
    ) {
        for (index, column) in schema.children(parent).enumerate() {
            let place = place.or(Some(index));
            let inside = Some(column.id);
            match column.column_type {
                ColumnType::Struct => add(schema, inside, repeated, place, leaves),
                ColumnType::List | ColumnType::Map => add(schema, inside, true, place, leaves),
                column_type => leaves.push(Leaf {
                    id: column.id,
                    column_type,
                    repeated,
                    top: parent.is_none().then_some(column.name.as_str()),
                    place,
                }),
            }
        }
    }
    let mut leaves = Vec::new();
    add(schema, None, false, None, &mut leaves);
    leaves
}

fn properties() -> Result<WriterProperties, FileError> {
    let column = |name: &str| ColumnPath::from(name);
    let header_value = ["list", "element", "value"];
    let header_value = std::iter::once(HEADERS)
        .chain(header_value)
        .map(str::to_owned);
    let header_value = ColumnPath::new(header_value.collect());
    let sorted = |column_idx| SortingColumn {
        column_idx,
        descending: false,
        nulls_first: false,
    };
    Ok(WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_size_limit(PAGE_BYTES)
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_column_statistics_enabled(column(VALUE), EnabledStatistics::None)
        .set_column_statistics_enabled(header_value, EnabledStatistics::None)
        // Each is there once.
        .set_column_dictionary_enabled(column(OFFSET), false)
        .set_column_dictionary_enabled(column(VALUE), false)
        .set_column_bloom_filter_enabled(column(KEY), true)
        .set_column_bloom_filter_fpp(column(KEY), BLOOM_FALSE_POSITIVES)
        .set_column_bloom_filter_max_ndv(column(KEY), BLOOM_KEYS)
        // Partition and offset are the first two.
        .set_sorting_columns(Some(vec![sorted(0), sorted(1)]))
        .build())
}
