//! The records inside a batch.

use std::io::Read;

use bytes::Bytes;

use crate::types::Timestamp;

use super::codec::Decompressor;
use super::walk::{SliceSource, Source, read_record, records_of, walk};
use super::{BatchError, BatchHeader, Limits, RecordFault, TimestampType};

/// The most headers of a record that [`decode_records`] keeps. Kafka bounds their number by nothing but the bytes of
/// the record, each takes two bytes at least, and a batch of some kilobytes may decompress to a hundred million of
/// them: in memory each takes as much as thirty in the batch.
pub const MAX_HEADERS: usize = 64 << 10;

/// A header of a record (KIP-82).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordHeader {
    /// The key: UTF-8 by Kafka's definition, but no broker checks that.
    pub key: Bytes,
    /// The value; null is not empty.
    pub value: Option<Bytes>,
}

/// A record of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The record's offset, less the base offset of its batch.
    pub offset_delta: i32,
    /// The record's time: what the producer gave it, or when the broker appended its batch.
    pub timestamp: Timestamp,
    /// The key; null is not empty.
    pub key: Option<Bytes>,
    /// The value; null is not empty.
    pub value: Option<Bytes>,
    /// The headers, in order; keys may repeat. None if the record has more than [`MAX_HEADERS`].
    pub headers: Vec<RecordHeader>,
    /// How many headers it has.
    pub header_count: u32,
}

impl Record {
    /// How many headers it has, if they are too many to be in `headers`.
    pub fn too_many_headers(&self) -> Option<u32> {
        let is_whole = self.header_count as usize == self.headers.len();
        (!is_whole).then_some(self.header_count)
    }
}

/// The records of a batch, in order. After an error it ends.
#[derive(Debug, Clone)]
pub struct Records {
    header: BatchHeader,
    /// The records, decompressed. Keys and values are slices of it.
    bytes: Bytes,
    at: usize,
    index: i32,
    last_delta: Option<i32>,
}

/// Opens the records of `batch`, the bytes of one batch. Uncompressed records are slices of `batch`;
/// compressed ones are decompressed at once, into at most `limits.max_uncompressed` bytes.
///
/// Neither the checksum is checked (see [`BatchHeader::check_crc`]) nor what only a produced batch
/// must keep to: a batch from which compaction took records is fine.
pub fn decode_records(batch: &Bytes, limits: Limits) -> Result<Records, BatchError> {
    let header = BatchHeader::parse(batch)?;
    let bytes = decompressed(batch, &header, limits)?;
    Ok(Records {
        header,
        bytes,
        at: 0,
        index: 0,
        last_delta: None,
    })
}

/// The records of `batch`, whose header is `header`, as they are before compression.
pub(super) fn decompressed(
    batch: &Bytes,
    header: &BatchHeader,
    limits: Limits,
) -> Result<Bytes, BatchError> {
    let codec = header.attributes.codec()?;
    let compressed = records_of(batch, header)?;
    let Some(reader) = Decompressor::new(codec, compressed)? else {
        return Ok(batch.slice_ref(compressed));
    };
    let limit = limits.max_uncompressed;
    let mut records = Vec::new();
    // One byte more than allowed is enough to tell a bomb.
    reader
        .take((limit as u64).saturating_add(1))
        .read_to_end(&mut records)
        .map_err(|e| BatchError::Decompress {
            codec,
            reason: e.to_string(),
        })?;
    if records.len() > limit {
        return Err(BatchError::Bomb { codec, limit });
    }
    Ok(Bytes::from(records))
}

impl Records {
    /// The header of the batch.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// How many bytes its records take, decompressed.
    #[expect(clippy::len_without_is_empty, reason = "a batch has records")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    fn read(&mut self) -> Result<Record, BatchError> {
        let mut source = SliceSource::new(&self.bytes, self.at);
        let (mut headers, mut header_count) = (Vec::new(), 0u32);
        let raw = read_record(&mut source, |key, value| {
            header_count = header_count.saturating_add(1);
            if header_count as usize > MAX_HEADERS {
                headers = Vec::new();
                return;
            }
            headers.push(RecordHeader {
                key: self.bytes.slice_ref(key),
                value: value.map(|value| self.bytes.slice_ref(value)),
            });
        })
        .map_err(|e| e.at(self.index))?;
        let fault = |fault| BatchError::Record {
            index: self.index,
            fault,
        };
        let ascends = self.last_delta.is_none_or(|last| raw.offset_delta > last);
        if !ascends || raw.offset_delta < 0 || raw.offset_delta > self.header.last_offset_delta {
            return Err(fault(RecordFault::BadOffsetDelta {
                found: raw.offset_delta,
            }));
        }
        let record = Record {
            offset_delta: raw.offset_delta,
            timestamp: timestamp(&self.header, raw.timestamp_delta).map_err(fault)?,
            key: raw.key.map(|key| self.bytes.slice_ref(key)),
            value: raw.value.map(|value| self.bytes.slice_ref(value)),
            headers,
            header_count,
        };
        // A slice source is never further than its slice is long, and that is a usize.
        self.at = usize::try_from(source.position()).unwrap_or(usize::MAX);
        self.last_delta = Some(record.offset_delta);
        self.index += 1;
        Ok(record)
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index < self.header.record_count {
            let record = self.read();
            if record.is_err() {
                self.end();
            }
            return Some(record);
        }
        let left_over = self.at < self.bytes.len();
        self.end();
        left_over.then(|| {
            Err(BatchError::LeftOver {
                record_count: self.header.record_count,
            })
        })
    }
}

impl Records {
    /// Makes the iterator return nothing more.
    fn end(&mut self) {
        self.index = self.header.record_count;
        self.at = self.bytes.len();
    }
}

impl std::iter::FusedIterator for Records {}

/// The first record of `batch` at or after `from_delta` whose time stamp is `at` or later, in offset
/// order: its offset delta and time stamp. This is what Kafka's ListOffsets by time answers;
/// `from_delta` is for a log start offset in the middle of a batch.
pub fn first_record_at_or_after(
    batch: &[u8],
    at: Timestamp,
    from_delta: i32,
    limits: Limits,
) -> Result<Option<(i32, Timestamp)>, BatchError> {
    let header = BatchHeader::parse(batch)?;
    let mut found = None;
    walk(batch, &header, limits, |seen| {
        let timestamp =
            timestamp(&header, seen.timestamp_delta).map_err(|fault| BatchError::Record {
                index: seen.index,
                fault,
            })?;
        if seen.offset_delta >= from_delta && timestamp >= at {
            found = Some((seen.offset_delta, timestamp));
        }
        Ok(found.is_none())
    })?;
    Ok(found)
}

/// The largest time stamp of the records of `batch` from `from_delta` on.
pub fn largest_timestamp(
    batch: &[u8],
    from_delta: i32,
    limits: Limits,
) -> Result<Option<Timestamp>, BatchError> {
    let header = BatchHeader::parse(batch)?;
    let mut largest = None;
    walk(batch, &header, limits, |seen| {
        let timestamp =
            timestamp(&header, seen.timestamp_delta).map_err(|fault| BatchError::Record {
                index: seen.index,
                fault,
            })?;
        if seen.offset_delta >= from_delta {
            largest = largest.max(Some(timestamp));
        }
        Ok(true)
    })?;
    Ok(largest)
}

/// The indexes of the records of `batch` against which `judge` says something, with what it says; at most `most` of
/// them. It is told whether the record has a key, and the time stamp that its producer gave it.
pub fn refused_records<T>(
    batch: &[u8],
    most: usize,
    limits: Limits,
    judge: impl Fn(bool, Timestamp) -> Option<T>,
) -> Result<Vec<(i32, T)>, BatchError> {
    let header = BatchHeader::parse(batch)?;
    let mut found = Vec::new();
    walk(batch, &header, limits, |seen| {
        let index = seen.index;
        let timestamp = create_time(&header, seen.timestamp_delta)
            .map_err(|fault| BatchError::Record { index, fault })?;
        if let Some(refusal) = judge(seen.has_key, timestamp) {
            found.push((index, refusal));
        }
        Ok(found.len() < most)
    })?;
    Ok(found)
}

/// The time stamp of a record.
pub(super) fn timestamp(header: &BatchHeader, delta: i64) -> Result<Timestamp, RecordFault> {
    match header.attributes.timestamp_type() {
        TimestampType::LogAppend => Ok(header.max_timestamp),
        TimestampType::Create => create_time(header, delta),
    }
}

/// The time stamp that its producer gave a record, whatever the batch says of it.
pub(super) fn create_time(header: &BatchHeader, delta: i64) -> Result<Timestamp, RecordFault> {
    let time = header.base_timestamp.0.checked_add(delta);
    time.map(Timestamp).ok_or(RecordFault::TimestampOverflow)
}
