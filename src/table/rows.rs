//! Records as rows: the one encoder, for files of the archive and for what SQL reads of the tail.
//!
//! Every record becomes exactly one row, whatever is in it: what does not fit a column is null there, and `error` says
//! why. So:
//!
//! * A timestamp that is none of the years 1 to 9999 is null, since engines and languages fail at such; `error` has its
//!   number, and [`read`](super::read) takes it from there, so nothing is lost. Kafka's −1, "no timestamp", is a
//!   millisecond before 1970, as its clients show it.
//! * The key of a header that is not UTF-8 has U+FFFD for what is wrong, as Kafka's clients show it; `error` has its
//!   bytes, unless there are very many.
//! * A record with more than [`MAX_HEADERS`] headers has none in its row, and `error` says how many it has: its row
//!   would be hundreds of times as long as its batch, for whoever writes it and for whoever reads it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use arrow_array::builder::{
    ArrayBuilder, BinaryBuilder, Int32Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, ListArray, RecordBatch, RecordBatchOptions, StructArray};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, Fields, SchemaRef};

use crate::segment::{MAX_HEADERS, Record, RecordHeader, TimestampType};
use crate::state::table::{FieldId, Schema};
use crate::types::{Offset, PartitionIndex, Timestamp};

use super::columns::{
    ERROR_ID, FIRST_TYPED_FIELD_ID, HEADERS_ID, KEY_ID, OFFSET_ID, PARTITION_ID, TIMESTAMP_ID,
    TIMESTAMP_TYPE_ID, VALUE_ID,
};
use super::typing::{Formats, OpenedRow, TypedCells};
use super::{Columns, FileError};

/// The first millisecond of the year 1.
pub const MIN_TIMESTAMP: Timestamp = Timestamp(-62_135_596_800_000);
/// The last millisecond of the year 9999.
pub const MAX_TIMESTAMP: Timestamp = Timestamp(253_402_300_799_999);

/// How many rows are worth a batch.
pub const BATCH_ROWS: usize = 8_192;
/// How many bytes are worth a batch.
pub const BATCH_BYTES: usize = 8 << 20;
/// The most bytes of a batch, so that all places in it fit 31 bits. No record has so many.
pub const MAX_BATCH_BYTES: usize = i32::MAX as usize;

/// What an empty header counts for: it is not nothing.
const HEADER_BYTES: usize = 8;

/// What a row takes beside its key, value, headers and typed columns.
const ROW_BYTES: usize = 48;

/// After so many rows, or so many bytes, it is looked again how much the typed columns hold.
const MEASURED_ROWS: usize = 16;
const MEASURED_BYTES: usize = 64 << 10;

/// The longest `error`, in bytes.
const MAX_ERROR_LEN: usize = 1_000;
/// Of a header's key that is not UTF-8, so many bytes are in `error`.
const MAX_KEY_SHOWN: usize = 64;

/// How the sentence about a timestamp begins. It is part of the format: the timestamp is read from it.
const TIMESTAMP_ERROR: &str = "timestamp: ";
const TIMESTAMP_ERROR_END: &str = " ms is not in the years 1 to 9999";

/// A record, with where it is.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Its partition.
    pub partition: PartitionIndex,
    /// Its offset.
    pub offset: Offset,
    /// Its time.
    pub timestamp: Timestamp,
    /// Whose time that is.
    pub timestamp_type: TimestampType,
    /// The key; null is not empty.
    pub key: Option<&'a [u8]>,
    /// The value; null is not empty.
    pub value: Option<&'a [u8]>,
    /// The headers, in order.
    pub headers: &'a [RecordHeader],
    /// How many headers the record has, if they are too many to be there.
    pub too_many_headers: Option<u32>,
}

impl<'a> Row<'a> {
    /// A record of a batch whose first offset would be `base`.
    pub fn of(
        partition: PartitionIndex,
        base: Offset,
        timestamp_type: TimestampType,
        record: &'a Record,
    ) -> Row<'a> {
        Row {
            partition,
            offset: base.advance(u64::from(record.offset_delta.unsigned_abs())),
            timestamp: record.timestamp,
            timestamp_type,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &record.headers,
            too_many_headers: record.too_many_headers(),
        }
    }

    /// How many bytes its key, value and headers take, at most.
    pub fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|header| {
            let value = header.value.as_ref().map_or(0, |value| value.len());
            // What is not UTF-8 may grow threefold.
            let key = match std::str::from_utf8(&header.key) {
                Ok(key) => key.len(),
                Err(_) => header.key.len().saturating_mul(3),
            };
            key.saturating_add(value).saturating_add(HEADER_BYTES)
        });
        let (key, value) = (
            self.key.map_or(0, <[u8]>::len),
            self.value.map_or(0, <[u8]>::len),
        );
        headers.fold(key.saturating_add(value), usize::saturating_add)
    }

    /// Its timestamp in microseconds, if it is one that a table can have.
    fn micros(&self) -> Option<i64> {
        micros(self.timestamp)
    }
}

/// A timestamp in microseconds, if it is one that a table can have.
pub fn micros(timestamp: Timestamp) -> Option<i64> {
    let fits = (MIN_TIMESTAMP..=MAX_TIMESTAMP).contains(&timestamp);
    fits.then(|| timestamp.0.saturating_mul(1_000))
}

/// Kafka's word for a type of timestamps.
pub fn timestamp_type_name(timestamp_type: TimestampType) -> &'static str {
    match timestamp_type {
        TimestampType::Create => "CreateTime",
        TimestampType::LogAppend => "LogAppendTime",
    }
}

/// What is said of a timestamp that no table can have.
fn timestamp_error(timestamp: Timestamp) -> String {
    format!("{TIMESTAMP_ERROR}{timestamp}{TIMESTAMP_ERROR_END}")
}

/// The timestamp that an `error` says a record has.
pub(super) fn timestamp_in(error: &str) -> Option<Timestamp> {
    let rest = error.strip_prefix(TIMESTAMP_ERROR)?;
    let (number, _) = rest.split_once(TIMESTAMP_ERROR_END)?;
    number.parse().ok().map(Timestamp)
}

/// Makes record batches of rows.
///
/// Whoever pushes asks [`is_full`](RowEncoder::is_full) and then calls [`finish`](RowEncoder::finish), which leaves the
/// encoder empty, to be filled again.
pub struct RowEncoder {
    arrow: SchemaRef,
    cells: Vec<Cells>,
    formats: Formats,
    typed: TypedCells,
    /// What does not fit the row that is being pushed.
    faults: String,
    rows: usize,
    bytes: usize,
    /// How many bytes the typed columns held when that was looked at.
    typed_bytes: usize,
    /// What was pushed since, in rows and in bytes.
    unmeasured: (usize, usize),
    total_errors: u64,
}

/// A column that is being filled.
enum Cells {
    Partition(Int32Builder),
    Offset(Int64Builder),
    Timestamp(TimestampMicrosecondBuilder),
    TimestampType(StringBuilder),
    Key(BinaryBuilder),
    Value(BinaryBuilder),
    Headers(Headers),
    /// The column of this number, which is filled with the others of its kind.
    Typed(FieldId),
    Error(StringBuilder),
}

/// A list of headers for each row.
struct Headers {
    element: Arc<Field>,
    fields: Fields,
    ends: Vec<i32>,
    keys: StringBuilder,
    values: BinaryBuilder,
}

impl RowEncoder {
    /// For all of `columns`, with null in those that are typed.
    pub fn new(columns: &Columns) -> RowEncoder {
        RowEncoder::typed(columns, Formats::default())
    }

    /// For all of `columns`, those that are typed among them.
    pub fn typed(columns: &Columns, formats: Formats) -> RowEncoder {
        let all: Vec<usize> = (0..columns.arrow().fields().len()).collect();
        RowEncoder::typed_projected(columns, formats, &all)
    }

    /// For those of `columns` that are at `places`, in that order, with null in those that are typed. A place that
    /// there is not is left out.
    pub fn projected(columns: &Columns, places: &[usize]) -> RowEncoder {
        RowEncoder::typed_projected(columns, Formats::default(), places)
    }

    /// The same with typed columns. Keys and values are opened only for columns that need it, of which `error` is one.
    pub fn typed_projected(columns: &Columns, formats: Formats, places: &[usize]) -> RowEncoder {
        let fields = columns.arrow().fields();
        let known: Vec<(FieldId, Arc<Field>)> = columns
            .schema()
            .children(None)
            .map(|column| column.id)
            .zip(fields.iter().cloned())
            .collect();
        let chosen = places.iter().filter_map(|place| known.get(*place));
        let (cells, fields): (Vec<Cells>, Vec<Arc<Field>>) = chosen
            .filter_map(|(id, field)| Some((Cells::new(*id, field)?, field.clone())))
            .unzip();
        let opens = |cells: &Cells| matches!(cells, Cells::Typed(_) | Cells::Error(_));
        let is_opened = cells.iter().any(opens);
        let none = Schema::default();
        let typed = if is_opened { columns.schema() } else { &none };
        RowEncoder {
            arrow: Arc::new(arrow_schema::Schema::new(fields)),
            cells,
            formats: if is_opened {
                formats
            } else {
                Formats::default()
            },
            typed: TypedCells::new(typed),
            faults: String::new(),
            rows: 0,
            bytes: 0,
            typed_bytes: 0,
            unmeasured: (0, 0),
            total_errors: 0,
        }
    }

    /// The schema of its batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.arrow
    }

    /// How many rows it holds.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many bytes it holds, about: builders that grow may take twice as many.
    pub fn bytes(&self) -> usize {
        self.bytes + self.rows * ROW_BYTES + self.typed_bytes
    }

    /// How many rows with an error it was ever given.
    pub fn errors(&self) -> u64 {
        self.total_errors
    }

    /// Whether it holds as much as is worth a batch.
    pub fn is_full(&self) -> bool {
        self.rows >= BATCH_ROWS || self.bytes() >= BATCH_BYTES
    }

    /// Adds a row. Fails only if the batch would be larger than [`MAX_BATCH_BYTES`], and is as it was then.
    pub fn push(&mut self, row: &Row<'_>) -> Result<(), FileError> {
        self.push_opened(row, &OpenedRow::of(row, self.formats))
    }

    /// The same for a row whose key and value are opened.
    pub(super) fn push_opened(
        &mut self,
        row: &Row<'_>,
        opened: &OpenedRow<'_>,
    ) -> Result<(), FileError> {
        let bytes = row.bytes();
        if self.bytes.saturating_add(bytes) > MAX_BATCH_BYTES {
            return Err(FileError::TooLarge {
                partition: row.partition,
                offset: row.offset,
                bytes,
            });
        }
        self.faults.clear();
        if row.micros().is_none() {
            fault(&mut self.faults, &timestamp_error(row.timestamp));
        }
        if let Some(found) = row.too_many_headers {
            let told = format!("headers: {found}, and a row has no more than {MAX_HEADERS}");
            fault(&mut self.faults, &told);
        }
        for (index, header) in row.headers.iter().enumerate() {
            if std::str::from_utf8(&header.key).is_err() {
                fault(&mut self.faults, &key_error(index, &header.key));
            }
        }
        for told in opened.faults() {
            fault(&mut self.faults, told);
        }
        self.typed.push(opened, &mut self.faults);
        for cells in &mut self.cells {
            cells.push(row, &self.faults);
        }
        self.total_errors += u64::from(!self.faults.is_empty());
        self.rows += 1;
        self.bytes += bytes;
        self.measure(bytes);
        Ok(())
    }

    /// Looks how much the typed columns hold, if enough was pushed since that was done.
    fn measure(&mut self, pushed: usize) {
        let (rows, bytes) = self.unmeasured;
        self.unmeasured = (rows + 1, bytes.saturating_add(pushed));
        let (rows, bytes) = self.unmeasured;
        if rows >= MEASURED_ROWS || bytes >= MEASURED_BYTES {
            self.typed_bytes = self.typed.bytes();
            self.unmeasured = (0, 0);
        }
    }

    /// The rows since the last time.
    pub fn finish(&mut self) -> Result<RecordBatch, FileError> {
        let typed: BTreeMap<FieldId, ArrayRef> = self.typed.finish()?.into_iter().collect();
        let arrays = self.cells.iter_mut().map(|cells| cells.finish(&typed));
        let arrays = arrays.collect::<Result<Vec<ArrayRef>, _>>()?;
        // Says how many rows there are also where no column was asked for.
        let rows = RecordBatchOptions::new().with_row_count(Some(self.rows));
        (self.rows, self.bytes, self.typed_bytes) = (0, 0, 0);
        let schema = self.arrow.clone();
        Ok(RecordBatch::try_new_with_options(schema, arrays, &rows)?)
    }
}

/// Adds a sentence to an `error`; what would make it too long is left out.
pub(super) fn fault(faults: &mut String, sentence: &str) {
    let room = MAX_ERROR_LEN.saturating_sub(faults.len());
    if !faults.is_empty() && room > 2 {
        faults.push_str("; ");
    }
    let room = MAX_ERROR_LEN.saturating_sub(faults.len());
    faults.push_str(&sentence[..sentence.floor_char_boundary(room)]);
}

fn key_error(index: usize, key: &[u8]) -> String {
    let mut sentence = format!("header {index}: its key is not UTF-8, in hexadecimal: ");
    for byte in key.iter().take(MAX_KEY_SHOWN) {
        // Writing to a string does not fail.
        let _ = write!(sentence, "{byte:02x}");
    }
    if key.len() > MAX_KEY_SHOWN {
        sentence.push('…');
    }
    sentence
}

impl Cells {
    fn new(id: FieldId, field: &Field) -> Option<Cells> {
        let cells = match id {
            PARTITION_ID => Cells::Partition(Int32Builder::with_capacity(0)),
            OFFSET_ID => Cells::Offset(Int64Builder::with_capacity(0)),
            TIMESTAMP_ID => Cells::Timestamp(
                TimestampMicrosecondBuilder::with_capacity(0)
                    .with_data_type(field.data_type().clone()),
            ),
            TIMESTAMP_TYPE_ID => Cells::TimestampType(StringBuilder::with_capacity(0, 0)),
            KEY_ID => Cells::Key(BinaryBuilder::with_capacity(0, 0)),
            VALUE_ID => Cells::Value(BinaryBuilder::with_capacity(0, 0)),
            HEADERS_ID => Cells::Headers(Headers::new(field)?),
            ERROR_ID => Cells::Error(StringBuilder::with_capacity(0, 0)),
            id if id >= FIRST_TYPED_FIELD_ID => Cells::Typed(id),
            _ => return None,
        };
        Some(cells)
    }

    fn push(&mut self, row: &Row<'_>, faults: &str) {
        match self {
            Cells::Partition(cells) => cells.append_value(row.partition.0),
            Cells::Offset(cells) => cells.append_value(row.offset.0),
            Cells::Timestamp(cells) => cells.append_option(row.micros()),
            Cells::TimestampType(cells) => {
                cells.append_value(timestamp_type_name(row.timestamp_type));
            }
            Cells::Key(cells) => cells.append_option(row.key),
            Cells::Value(cells) => cells.append_option(row.value),
            Cells::Headers(cells) => cells.push(row.headers),
            Cells::Typed(_) => {}
            Cells::Error(cells) => {
                cells.append_option(Some(faults).filter(|faults| !faults.is_empty()));
            }
        }
    }

    fn finish(&mut self, typed: &BTreeMap<FieldId, ArrayRef>) -> Result<ArrayRef, FileError> {
        Ok(match self {
            Cells::Typed(id) => {
                let column = typed.get(id).cloned();
                column.ok_or(FileError::Column { name: "(typed)" })?
            }
            Cells::Partition(cells) => ArrayBuilder::finish(cells),
            Cells::Offset(cells) => ArrayBuilder::finish(cells),
            Cells::Timestamp(cells) => ArrayBuilder::finish(cells),
            Cells::TimestampType(cells) | Cells::Error(cells) => ArrayBuilder::finish(cells),
            Cells::Key(cells) | Cells::Value(cells) => ArrayBuilder::finish(cells),
            Cells::Headers(cells) => cells.finish()?,
        })
    }
}

impl Headers {
    fn new(field: &Field) -> Option<Headers> {
        let DataType::List(element) = field.data_type() else {
            return None;
        };
        let DataType::Struct(fields) = element.data_type() else {
            return None;
        };
        Some(Headers {
            element: element.clone(),
            fields: fields.clone(),
            ends: vec![0],
            keys: StringBuilder::with_capacity(0, 0),
            values: BinaryBuilder::with_capacity(0, 0),
        })
    }

    fn push(&mut self, headers: &[RecordHeader]) {
        for header in headers {
            self.keys.append_value(String::from_utf8_lossy(&header.key));
            self.values.append_option(header.value.as_deref());
        }
        // A batch is too small for more.
        let end = i32::try_from(self.keys.len()).unwrap_or(i32::MAX);
        self.ends.push(end);
    }

    fn finish(&mut self) -> Result<ArrayRef, FileError> {
        let keys: ArrayRef = Arc::new(self.keys.finish());
        let values: ArrayRef = Arc::new(self.values.finish());
        let ends = std::mem::replace(&mut self.ends, vec![0]);
        let ends = OffsetBuffer::new(ScalarBuffer::from(ends));
        let headers = StructArray::try_new(self.fields.clone(), vec![keys, values], None)?;
        let lists = ListArray::try_new(self.element.clone(), ends, Arc::new(headers), None)?;
        Ok(Arc::new(lists))
    }
}
