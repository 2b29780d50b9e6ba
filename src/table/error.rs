//! What can be wrong with a table.

use crate::types::{Offset, PartitionIndex};

use super::columns::FIRST_TYPED_FIELD_ID;
use super::rows::MAX_BATCH_BYTES;

/// Why a schema is none that a table may have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// No table can have it.
    #[error("{0}")]
    Fault(String),
    /// A base column is missing or changed.
    #[error(
        "column {name} is missing or changed: it is one of the base columns, which every table has as they are"
    )]
    Base {
        /// The column.
        name: String,
    },
    /// A field id that belongs to the base columns.
    #[error("column {name} has the field id {id}: those below {} belong to the base columns", FIRST_TYPED_FIELD_ID.0)]
    FieldId {
        /// The id.
        id: u32,
        /// The column.
        name: String,
    },
    /// A typed column that is required.
    #[error(
        "column {name} is required: a typed column is optional, because a record that does not fit has null in it"
    )]
    Required {
        /// The column.
        name: String,
    },
}

/// Why rows cannot be written to a file, or read from one.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The Parquet library says no.
    #[error("Parquet: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
    /// The Arrow library says no.
    #[error("Arrow: {0}")]
    Arrow(#[from] arrow_schema::ArrowError),
    /// Rows that do not follow those before.
    #[error(
        "offset {offset} of partition {partition} comes after offset {last} of partition {last_partition}: rows are \
         written in the order of partition and offset"
    )]
    Order {
        /// The partition of the row.
        partition: PartitionIndex,
        /// Its offset.
        offset: Offset,
        /// The partition of the row before it.
        last_partition: PartitionIndex,
        /// The offset of the row before it.
        last: Offset,
    },
    /// A record that no batch has room for.
    #[error(
        "offset {offset} of partition {partition} has {bytes} bytes: with the rows before it, that is more than the \
         {MAX_BATCH_BYTES} that a batch of rows may have"
    )]
    TooLarge {
        /// The partition.
        partition: PartitionIndex,
        /// The offset.
        offset: Offset,
        /// How many bytes the record may take.
        bytes: usize,
    },
    /// A column that is not there, or not of its type.
    #[error(
        "column {name} is missing, has another type than it should, or null where that cannot be"
    )]
    Column {
        /// The column.
        name: &'static str,
    },
    /// A column whose type in a file is not one that the schema may have widened.
    #[error(
        "column {name}: its type in the file is not the one that the schema has, nor a narrower one"
    )]
    Changed {
        /// The column.
        name: String,
    },
}
