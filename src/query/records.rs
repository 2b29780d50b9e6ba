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
    /// Of all batches.
    bytes: usize,
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
        read: &Bytes,
    ) -> Result<Run, QueryError> {
        let mut pieces = Vec::new();
        for batch in Batches::new(read) {
            let batch = batch.map_err(|error| damaged(partition, start, &error))?;
            let header = batch.header;
            let wanted = header.next_offset() > start && header.base_offset < end;
            // What a transaction's end is told by are no records.
            if wanted && !header.attributes.is_control() {
                pieces.push((batch.slice(read), header));
            }
        }
        Ok(Run {
            partition,
            start,
            end,
            bytes: read.len(),
            pieces: pieces.into_iter(),
            open: None,
        })
    }

    /// How many bytes of memory it takes: the batches, and the one, decompressed, of which rows are being made.
    pub(super) fn held(&self) -> usize {
        self.bytes + self.open.as_ref().map_or(0, |open| open.bytes)
    }

    /// Adds rows to `encoder` until it has `rows` or as many bytes as are worth a batch, or there are no more. Says
    /// whether there may be more. With `counted` nothing but where records are is needed. `reserve` is asked for so
    /// many bytes of memory, all in all, before a batch is decompressed.
    pub(super) fn fill(
        &mut self,
        encoder: &mut RowEncoder,
        rows: usize,
        counted: bool,
        reserve: impl Fn(usize) -> Result<(), QueryError>,
    ) -> Result<bool, QueryError> {
        while encoder.rows() < rows && !encoder.is_full() {
            let Some(open) = &mut self.open else {
                match self.pieces.next() {
                    Some((batch, header)) => {
                        let held = self.bytes + encoder.bytes();
                        let reserve = |more| reserve(held + more);
                        self.open = Some(self.open(batch, header, counted, reserve)?);
                    }
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

    fn open(
        &self,
        batch: Bytes,
        header: BatchHeader,
        counted: bool,
        reserve: impl Fn(usize) -> Result<(), QueryError>,
    ) -> Result<Open, QueryError> {
        let (base, kind) = (header.base_offset, header.attributes.timestamp_type());
        // As many records as offsets: each has one.
        let dense = i64::from(header.record_count) == i64::from(header.last_offset_delta) + 1;
        let (records, bytes) = match counted && dense {
            true => (Source::Counted(0..header.record_count), 0),
            false => {
                let records = self.decode(&batch, base, reserve)?;
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

impl Run {
    /// Decompresses a batch into memory that was reserved: as much as most batches need, and more if it is not enough.
    fn decode(
        &self,
        batch: &Bytes,
        base: Offset,
        reserve: impl Fn(usize) -> Result<(), QueryError>,
    ) -> Result<Records, QueryError> {
        let mut limit = (batch.len() * TIMES_LARGER).clamp(MIN_RESERVED, MAX_UNCOMPRESSED);
        loop {
            reserve(limit)?;
            let limits = Limits {
                max_uncompressed: limit,
            };
            match decode_records(batch, limits) {
                Err(BatchError::Bomb { .. }) if limit < MAX_UNCOMPRESSED => {
                    limit = (limit * TIMES_LARGER).min(MAX_UNCOMPRESSED);
                }
                decoded => return decoded.map_err(|error| damaged(self.partition, base, &error)),
            }
        }
    }
}

/// How many times larger a batch is taken to be when it is decompressed; and that is no less than this.
const TIMES_LARGER: usize = 8;
const MIN_RESERVED: usize = 1 << 20;

/// A record of which only the place is known.
fn nothing(offset_delta: i32) -> Record {
    Record {
        offset_delta,
        timestamp: Timestamp(0),
        key: None,
        value: None,
        headers: Vec::new(),
        header_count: 0,
    }
}

fn damaged(partition: PartitionIndex, base: Offset, error: &BatchError) -> QueryError {
    QueryError::new(
        QueryErrorKind::Failed,
        format!("partition {partition}, the batch at offset {base}: {error}"),
    )
}
