//! Answers as bytes: JSON, CSV, Parquet, Arrow, or a table for people.
//!
//! * JSON is one array of objects, an object a line; with lines, the same without the array. What is binary is text
//!   where it is UTF-8 and `{"base64": "…"}` where it is not, as `weir consume` writes keys and values. Null is `null`.
//! * In CSV and tables binary is text where it is UTF-8 and `\x…` in hexadecimal where it is not; lists and structs are
//!   JSON. Null is empty in CSV and `NULL` in a table.
//! * Parquet and Arrow have the columns as they are.
//!
//! An answer that was not finished lacks its end: the closing bracket, Parquet's footer, Arrow's end of the stream.
//! Only of CSV and of lines of JSON it cannot be told.

use std::collections::HashSet;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Schema, SchemaRef};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use datafusion::arrow::csv::{Writer as CsvWriter, WriterBuilder as CsvBuilder};
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::arrow::json::writer::{
    Encoder as JsonEncoder, EncoderFactory, EncoderOptions, LineDelimited, NullableEncoder,
    Writer as JsonWriter, WriterBuilder as JsonBuilder, make_encoder,
};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::WriterProperties;

use super::error::{QueryError, QueryErrorKind};

/// In which form an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Columns for people.
    Table,
    /// One array of objects.
    Json,
    /// An object a line.
    JsonLines,
    /// Comma-separated values under a heading.
    Csv,
    /// A Parquet file.
    Parquet,
    /// A stream of Arrow's IPC format.
    Arrow,
}

impl Form {
    /// The forms that a program may ask for over HTTP, with their media types; the first is the default.
    const MEDIA: &'static [(&'static str, Form)] = &[
        ("application/json", Form::Json),
        ("application/x-ndjson", Form::JsonLines),
        ("text/csv", Form::Csv),
        ("application/vnd.apache.parquet", Form::Parquet),
        ("application/vnd.apache.arrow.stream", Form::Arrow),
    ];

    /// The form that an `Accept` header prefers, of those that there are.
    pub fn accepted(accept: &str) -> Option<Form> {
        let mut best: Option<(f32, Form)> = None;
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
            let quality = quality.unwrap_or(1.0);
            let form = match media.as_str() {
                "" | "*/*" | "application/*" => Some(Form::Json),
                "text/*" => Some(Form::Csv),
                media => Form::MEDIA
                    .iter()
                    .find(|(name, _)| *name == media)
                    .map(|(_, form)| *form),
            };
            if let Some(form) = form
                && quality > 0.0
                && best.is_none_or(|(known, _)| quality > known)
            {
                best = Some((quality, form));
            }
        }
        best.map(|(_, form)| form)
    }

    /// The media types that there are.
    pub fn media_types() -> impl Iterator<Item = &'static str> {
        Form::MEDIA.iter().map(|(name, _)| *name)
    }

    /// The media type of what is written.
    pub fn media_type(self) -> &'static str {
        let media = Form::MEDIA.iter().find(|(_, form)| *form == self);
        media.map_or("text/plain; charset=utf-8", |(name, _)| name)
    }
}

/// How many rows the widths of a table's columns are taken from.
const SIZED_ROWS: usize = 1_000;

/// The columns of what EXPLAIN says.
const EXPLAINED: [&str; 2] = ["plan_type", "plan"];

/// The widest cell of a table, in characters; more is cut off.
const MAX_CELL: usize = 100;

/// How many bytes of a Parquet file are held before they are written as a row group.
const ROW_GROUP: usize = 32 << 20;

/// Bytes that were written and not taken yet.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn take(&self) -> Bytes {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Bytes::from(std::mem::take(&mut *written))
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes an answer.
pub struct Encoder {
    written: Written,
    writer: Writer,
}

enum Writer {
    Table(Table),
    Json {
        lines: JsonWriter<Written, LineDelimited>,
        buffer: Written,
        out: Written,
        begun: bool,
    },
    JsonLines(JsonWriter<Written, LineDelimited>),
    Csv(Box<CsvWriter<Written>>),
    Parquet(Option<Box<ArrowWriter<Written>>>),
    Arrow(StreamWriter<Written>),
}

impl Encoder {
    /// Writes rows of these columns.
    ///
    /// # Errors
    ///
    /// The form has no way to write such columns.
    pub fn new(form: Form, schema: &SchemaRef) -> Result<Encoder, QueryError> {
        if !matches!(form, Form::Table | Form::Csv) {
            check_names(schema)?;
        }
        let written = Written::default();
        let out = written.clone();
        let writer = match form {
            Form::Table => Writer::Table(Table::new(schema, out)),
            Form::Json => {
                let buffer = Written::default();
                Writer::Json {
                    lines: json_lines(buffer.clone()),
                    buffer,
                    out,
                    begun: false,
                }
            }
            Form::JsonLines => Writer::JsonLines(json_lines(out)),
            Form::Csv => {
                let mut csv = CsvBuilder::new().with_header(true).build(out);
                // The heading is there also where there are no rows.
                let none = RecordBatch::new_empty(schema.clone());
                csv.write(&as_text(&none).map_err(unwritten)?)
                    .map_err(unwritten)?;
                Writer::Csv(Box::new(csv))
            }
            Form::Parquet => {
                let compression = Compression::ZSTD(ZstdLevel::default());
                let properties = WriterProperties::builder()
                    .set_compression(compression)
                    .build();
                let writer = ArrowWriter::try_new(out, schema.clone(), Some(properties));
                let writer = writer.map_err(|error| unwritten(error.into()))?;
                Writer::Parquet(Some(Box::new(writer)))
            }
            Form::Arrow => Writer::Arrow(StreamWriter::try_new(out, schema).map_err(unwritten)?),
        };
        Ok(Encoder { written, writer })
    }

    /// Writes rows.
    ///
    /// # Errors
    ///
    /// A value cannot be written in this form.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<Bytes, QueryError> {
        let written = match &mut self.writer {
            Writer::Table(table) => table.write(batch),
            Writer::Json {
                lines,
                buffer,
                out,
                begun,
            } => lines
                .write(batch)
                .and_then(|()| join_lines(&buffer.take(), out, begun).map_err(ArrowError::from)),
            Writer::JsonLines(lines) => lines.write(batch),
            Writer::Csv(csv) => as_text(batch).and_then(|batch| csv.write(&batch)),
            Writer::Parquet(Some(writer)) => write_parquet(writer, batch),
            Writer::Parquet(None) => Ok(()),
            Writer::Arrow(writer) => writer.write(batch),
        };
        written.map_err(unwritten)?;
        Ok(self.written.take())
    }

    /// Writes the end.
    ///
    /// # Errors
    ///
    /// As [`Encoder::write`].
    pub fn finish(&mut self) -> Result<Bytes, QueryError> {
        let finished = match &mut self.writer {
            Writer::Table(table) => table.finish(),
            Writer::Json { out, begun, .. } => {
                let end: &[u8] = if *begun { b"\n]\n" } else { b"[]\n" };
                out.write_all(end).map_err(ArrowError::from)
            }
            Writer::JsonLines(lines) => lines.finish(),
            Writer::Csv(_) => Ok(()),
            Writer::Parquet(writer) => match writer.take() {
                Some(writer) => writer.close().map(drop).map_err(ArrowError::from),
                None => Ok(()),
            },
            Writer::Arrow(writer) => writer.finish(),
        };
        finished.map_err(unwritten)?;
        Ok(self.written.take())
    }
}

/// Refuses two columns of one name: in an object one of them would be lost.
fn check_names(schema: &SchemaRef) -> Result<(), QueryError> {
    let mut known = HashSet::new();
    for field in schema.fields() {
        if !known.insert(field.name()) {
            let name = field.name();
            return Err(QueryError::invalid(format!(
                "two columns of the answer are named '{name}': give them names of their own with AS"
            )));
        }
    }
    Ok(())
}

fn unwritten(error: ArrowError) -> QueryError {
    let message = format!("the answer cannot be written in this form: {error}");
    QueryError::new(QueryErrorKind::Invalid, message)
}

fn write_parquet(writer: &mut ArrowWriter<Written>, batch: &RecordBatch) -> Result<(), ArrowError> {
    writer.write(batch)?;
    if writer.in_progress_size() >= ROW_GROUP {
        writer.flush()?;
    }
    Ok(())
}

/// Lines of objects as elements of an array.
fn join_lines(lines: &[u8], out: &mut Written, begun: &mut bool) -> io::Result<()> {
    for line in lines
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let before: &[u8] = if *begun { b",\n" } else { b"[\n" };
        *begun = true;
        out.write_all(before)?;
        out.write_all(line)?;
    }
    Ok(())
}

fn json_lines(out: Written) -> JsonWriter<Written, LineDelimited> {
    JsonBuilder::new()
        .with_explicit_nulls(true)
        .with_encoder_factory(Arc::new(BinaryAsText))
        .build(out)
}

/// Writes binary as `weir consume` does.
#[derive(Debug)]
struct BinaryAsText;

impl EncoderFactory for BinaryAsText {
    fn make_default_encoder<'a>(
        &self,
        _: &'a FieldRef,
        array: &'a dyn Array,
        _: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        if !is_binary(array.data_type()) {
            return Ok(None);
        }
        let nulls = array.nulls().cloned();
        Ok(Some(NullableEncoder::new(
            Box::new(BinaryCells(array)),
            nulls,
        )))
    }
}

struct BinaryCells<'a>(&'a dyn Array);

impl JsonEncoder for BinaryCells<'_> {
    fn encode(&mut self, index: usize, out: &mut Vec<u8>) {
        let bytes = bytes_of(self.0, index);
        let written = match std::str::from_utf8(bytes) {
            Ok(text) => serde_json::to_writer(&mut *out, text),
            Err(_) => {
                let base64 = STANDARD.encode(bytes);
                serde_json::to_writer(&mut *out, &serde_json::json!({ "base64": base64 }))
            }
        };
        // Writing text to a Vec does not fail.
        debug_assert!(written.is_ok());
    }
}

fn is_binary(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_)
    )
}

fn bytes_of(array: &dyn Array, index: usize) -> &[u8] {
    match array.data_type() {
        DataType::Binary => array.as_binary::<i32>().value(index),
        DataType::LargeBinary => array.as_binary::<i64>().value(index),
        DataType::BinaryView => array.as_binary_view().value(index),
        DataType::FixedSizeBinary(_) => array.as_fixed_size_binary().value(index),
        _ => &[],
    }
}

/// The same rows, with what has no plain text form of its own as text.
fn as_text(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    let mut fields = Vec::with_capacity(schema.fields().len());
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        if !is_binary(field.data_type()) && !field.data_type().is_nested() {
            fields.push(field.clone());
            columns.push(column.clone());
            continue;
        }
        let cells = Cells::new(field, column.as_ref())?;
        let text: StringArray = (0..column.len()).map(|row| cells.get(row)).collect();
        fields.push(Arc::new(Field::new(field.name(), DataType::Utf8, true)));
        columns.push(Arc::new(text));
    }
    RecordBatch::try_new_with_options(
        Arc::new(Schema::new(fields)),
        columns,
        &arrow_array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows())),
    )
}

/// The cells of a column as text.
enum Cells<'a> {
    Binary(&'a dyn Array),
    Json(&'a FieldRef, &'a dyn Array),
    Plain(&'a dyn Array, ArrayFormatter<'a>),
}

impl<'a> Cells<'a> {
    fn new(field: &'a FieldRef, column: &'a dyn Array) -> Result<Cells<'a>, ArrowError> {
        if is_binary(field.data_type()) {
            return Ok(Cells::Binary(column));
        }
        if field.data_type().is_nested() {
            return Ok(Cells::Json(field, column));
        }
        static OPTIONS: FormatOptions<'static> = FormatOptions::new();
        let formatter = ArrayFormatter::try_new(column, &OPTIONS)?;
        Ok(Cells::Plain(column, formatter))
    }

    fn get(&self, row: usize) -> Option<String> {
        match self {
            Cells::Binary(column) => (!column.is_null(row)).then(|| {
                let bytes = bytes_of(*column, row);
                match std::str::from_utf8(bytes) {
                    Ok(text) => text.to_owned(),
                    Err(_) => {
                        let hex = bytes.iter().map(|byte| format!("{byte:02x}"));
                        format!("\\x{}", hex.collect::<String>())
                    }
                }
            }),
            Cells::Json(field, column) => {
                if column.is_null(row) {
                    return None;
                }
                let options = EncoderOptions::default()
                    .with_explicit_nulls(true)
                    .with_encoder_factory(Arc::new(BinaryAsText));
                let one = column.slice(row, 1);
                let mut out = Vec::new();
                let mut encoder = make_encoder(field, one.as_ref(), &options).ok()?;
                encoder.encode(0, &mut out);
                drop(encoder);
                String::from_utf8(out).ok()
            }
            Cells::Plain(column, formatter) => {
                (!column.is_null(row)).then(|| formatter.value(row).to_string())
            }
        }
    }
}

/// Columns for people: as wide as the first rows need.
struct Table {
    out: Written,
    names: Vec<String>,
    numeric: Vec<bool>,
    waiting: Vec<Vec<String>>,
    widths: Option<Vec<usize>>,
    rows: u64,
    /// Whether it is what EXPLAIN says: kinds of plans, and plans of many lines.
    explains: bool,
}

impl Table {
    fn new(schema: &SchemaRef, out: Written) -> Table {
        let fields = schema.fields();
        let is_named = |name: &&str, field: &FieldRef| field.name() == name;
        Table {
            explains: fields.len() == EXPLAINED.len()
                && EXPLAINED
                    .iter()
                    .zip(fields)
                    .all(|(name, field)| is_named(name, field)),
            out,
            names: fields.iter().map(|field| field.name().clone()).collect(),
            numeric: fields
                .iter()
                .map(|field| field.data_type().is_numeric())
                .collect(),
            waiting: Vec::new(),
            widths: None,
            rows: 0,
        }
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let schema = batch.schema();
        let columns = schema.fields().iter().zip(batch.columns());
        let columns = columns
            .map(|(field, column)| Cells::new(field, column.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            if self.explains {
                for column in &columns {
                    writeln!(
                        self.out,
                        "{}",
                        column.get(row).unwrap_or_default().trim_end()
                    )?;
                }
                continue;
            }
            let cells = columns.iter().map(|column| {
                let cell = column.get(row);
                cell.map_or_else(|| "NULL".to_owned(), |cell| shown(&cell))
            });
            self.rows += 1;
            self.waiting.push(cells.collect());
            if self.widths.is_some() || self.waiting.len() >= SIZED_ROWS {
                self.write_waiting()?;
            }
        }
        Ok(())
    }

    fn write_waiting(&mut self) -> io::Result<()> {
        let rows = std::mem::take(&mut self.waiting);
        if self.widths.is_none() {
            let mut widths: Vec<usize> = self.names.iter().map(|name| width(name)).collect();
            for row in &rows {
                for (widest, cell) in widths.iter_mut().zip(row) {
                    *widest = (*widest).max(width(cell));
                }
            }
            self.widths = Some(widths);
            let names = self.names.clone();
            self.write_line(&names)?;
        }
        for row in rows {
            self.write_line(&row)?;
        }
        Ok(())
    }

    fn write_line(&mut self, cells: &[String]) -> io::Result<()> {
        let widths = self.widths.as_deref().unwrap_or_default();
        let mut line = String::new();
        for ((cell, widest), numeric) in cells.iter().zip(widths).zip(&self.numeric) {
            let padding = " ".repeat(widest.saturating_sub(width(cell)));
            match numeric {
                true => line.extend([padding.as_str(), cell.as_str()]),
                false => line.extend([cell.as_str(), padding.as_str()]),
            }
            line.push_str("  ");
        }
        writeln!(self.out, "{}", line.trim_end())
    }

    fn finish(&mut self) -> Result<(), ArrowError> {
        if self.explains {
            return Ok(());
        }
        self.write_waiting()?;
        let rows = if self.rows == 1 { "row" } else { "rows" };
        writeln!(self.out, "({} {rows})", self.rows)?;
        Ok(())
    }
}

fn width(cell: &str) -> usize {
    cell.chars().count()
}

/// A cell on one line, without what a terminal would obey.
fn shown(cell: &str) -> String {
    let mut shown = String::new();
    for (place, letter) in cell.chars().enumerate() {
        if place == MAX_CELL {
            shown.push('…');
            break;
        }
        match letter {
            letter if letter.is_control() => shown.extend(letter.escape_default()),
            letter => shown.push(letter),
        }
    }
    shown
}
