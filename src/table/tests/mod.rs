//! Tests of the room.

mod iceberg;
mod merge;
mod relocate;
mod rows;
mod typing;
mod writer;

use bytes::Bytes;

use super::{ArchivedRecord, FileError, Rewriting, TableWriter};
use crate::segment::{RecordHeader, TimestampType};
use crate::types::{Offset, PartitionIndex, Timestamp};

/// A record with a value and nothing else.
fn record(partition: i32, offset: i64) -> ArchivedRecord {
    ArchivedRecord {
        partition: PartitionIndex(partition),
        offset: Offset(offset),
        timestamp: Timestamp(1_767_225_600_000 + offset),
        timestamp_type: TimestampType::Create,
        key: None,
        value: Some(Bytes::from(format!("value {offset}"))),
        headers: Vec::new(),
        error: None,
    }
}

/// Writes the rows of all `files` again.
fn rewrite(writer: &mut TableWriter, files: Vec<Bytes>) -> Result<(), FileError> {
    let mut rewriting = Rewriting::new(writer, files)?;
    while rewriting.go_on(writer)? {}
    Ok(())
}

fn header(key: &'static [u8], value: Option<&'static [u8]>) -> RecordHeader {
    RecordHeader {
        key: Bytes::from_static(key),
        value: value.map(Bytes::from_static),
    }
}
