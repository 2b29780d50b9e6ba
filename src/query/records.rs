//! Record batches of the log, as rows.

use bytes::Bytes;

use super::error::{QueryError, QueryErrorKind};
use crate::segment::{
    BatchError, BatchHeader, Batches, Limits, Record, Records, TimestampType, decode_records,
};
use crate::table::{Row, RowEncoder};
use crate::types::{Offset, PartitionIndex, Timestamp};

/// The most bytes that one batch may decompress to: as consumers of this program have it.
const MAX_UNCOMPRESSED: usize = 256 << 20;

/// The batches that one read brought of a partition, cut to the offsets that are wanted.
pub(super) struct Run {
    partition: PartitionIndex,
    start: Offset,
    end: Offset,
    pieces: std::vec::IntoIter<(Bytes, BatchHeader)>,
    open: Option<Open>,
}

/// A batch of which rows are being made.
struct Open {
    base: Offset,
    kind: TimestampType,
    records: Source,
    bytes: usize,
}

enum Source {
    /// The records, decoded.
    Decoded(Records),
    /// Only how many there are: neither key nor value, headers or timestamp are wanted.
    Counted(std::ops::Range<i32>),
}

impl Run {
    /// What of `read` is between `start` and `end`.
    pub(super) fn new(
        partition: PartitionIndex,
        (start, end): (Offset, Offset),
        read: &[Bytes],
    ) -> Result<Run, QueryError> {
        let mut pieces = Vec::new();
        for piece in read {
            for batch in Batches::new(piece) {
                let batch = batch.map_err(|error| damaged(partition, start, &error))?;
                let header = batch.header;
                let wanted = header.next_offset() > start && header.base_offset < end;
                // What a transaction's end is told by are no records.
                if wanted && !header.attributes.is_control() {
                    pieces.push((batch.slice(piece), header));
                }
            }
        }
        Ok(Run {
            partition,
            start,
            end,
            pieces: pieces.into_iter(),
            open: None,
        })
    }

    /// How many bytes the batch takes, decompressed, of which rows are being made.
    pub(super) fn held(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.bytes)
    }

    /// Adds rows to `encoder` until it has `rows` or as many bytes as are worth a batch, or there are no more. Says
    /// whether there may be more. With `counted` nothing but where records are is needed.
    pub(super) fn fill(
        &mut self,
        encoder: &mut RowEncoder,
        rows: usize,
        counted: bool,
    ) -> Result<bool, QueryError> {
        while encoder.rows() < rows && !encoder.is_full() {
            let Some(open) = &mut self.open else {
                match self.pieces.next() {
                    Some((batch, header)) => self.open = Some(self.open(batch, header, counted)?),
                    None => return Ok(false),
                }
                continue;
            };
            let partition = self.partition;
            let next = match &mut open.records {
                Source::Decoded(records) => records.next(),
                Source::Counted(deltas) => deltas.next().map(|delta| Ok(nothing(delta))),
            };
            let Some(record) = next else {
                self.open = None;
                continue;
            };
            let record = record.map_err(|error| damaged(partition, open.base, &error))?;
            let row = Row::of(partition, open.base, open.kind, &record);
            if row.offset >= self.start && row.offset < self.end {
                encoder
                    .push(&row)
                    .map_err(|error| QueryError::new(QueryErrorKind::Memory, error.to_string()))?;
            }
        }
        Ok(true)
    }

    fn open(&self, batch: Bytes, header: BatchHeader, counted: bool) -> Result<Open, QueryError> {
        let (base, kind) = (header.base_offset, header.attributes.timestamp_type());
        // As many records as offsets: each has one.
        let dense = i64::from(header.record_count) == i64::from(header.last_offset_delta) + 1;
        let (records, bytes) = match counted && dense {
            true => (Source::Counted(0..header.record_count), 0),
            false => {
                let limits = Limits {
                    max_uncompressed: MAX_UNCOMPRESSED,
                };
                let records = decode_records(&batch, limits)
                    .map_err(|error| damaged(self.partition, base, &error))?;
                let bytes = records.len();
                (Source::Decoded(records), bytes)
            }
        };
        Ok(Open {
            base,
            kind,
            records,
            bytes,
        })
    }
}

/// A record of which only the place is known.
fn nothing(offset_delta: i32) -> Record {
    Record {
        offset_delta,
        timestamp: Timestamp(0),
        key: None,
        value: None,
        headers: Vec::new(),
    }
}

fn damaged(partition: PartitionIndex, base: Offset, error: &BatchError) -> QueryError {
    QueryError::new(
        QueryErrorKind::Failed,
        format!("partition {partition}, the batch at offset {base}: {error}"),
    )
}
