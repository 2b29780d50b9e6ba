//! Tables of archived topics: what is in their files.
//!
//! * [`Columns`]: which columns a topic's table has, in the state's words and in Arrow's.
//! * [`RowEncoder`]: records to record batches. Files of the archive and what SQL reads of the tail are made by it, so
//!   the two are the same.
//! * [`TableWriter`]: the Parquet files of one pass over topics, divided by [`partition_value`]s, in bounded memory.
//! * [`iceberg`]: the manifests that list such files, and the metadata that engines read, derived from the state.
//! * [`typing`]: what is inside keys and values, as columns of their own.
//! * [`Rewriting`]: several files as fewer.
//! * [`records_of`]: record batches back to records.
//!
//! What it never does: I/O, async, clocks, randomness. Bytes in, bytes out.

mod columns;
mod error;
mod file;
pub mod iceberg;
mod merge;
mod partition;
mod read;
mod rows;
#[cfg(test)]
mod tests;
pub mod typing;
mod writer;

pub use columns::{
    Columns, ERROR, ERROR_ID, FIELD_ID_KEY, FIRST_TYPED_FIELD_ID, HEADERS, HEADERS_ID, KEY, KEY_ID,
    OFFSET, OFFSET_ID, PARTITION, PARTITION_ID, TIMESTAMP, TIMESTAMP_ID, TIMESTAMP_TYPE,
    TIMESTAMP_TYPE_ID, VALUE, VALUE_ID, base_columns, base_schema, column_name,
};
pub use error::{FileError, SchemaError};
pub use file::{ColumnStats, FileStats, ROW_GROUP_BYTES};
pub use merge::Rewriting;
pub use partition::partition_value;
pub use read::{ArchivedRecord, base_batches, records_of, records_of_file};
pub use rows::{
    BATCH_BYTES, BATCH_ROWS, MAX_BATCH_BYTES, MAX_TIMESTAMP, MIN_TIMESTAMP, Row, RowEncoder,
    micros, timestamp_type_name,
};
pub use writer::{FinishedFile, Pass, TableWriter, WriterOptions};
