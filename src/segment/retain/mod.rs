//! A batch without some of its records, as compaction of the log leaves it.
//!
//! What Kafka's cleaner does (`MemoryRecords.filterTo`), and what clients of a compacted topic rely on: offsets never
//! change. The batch keeps its base offset and its last offset delta, also when the records there are gone, so that it
//! stands for the same offsets and sequences as before; it keeps its codec, its producer and its flags. The records
//! that stay are copied as they are.
//!
//! A tombstone (a record with a key and no value) must stay for a while after the records that it deletes are gone, for
//! readers who have seen those. From when that while counts is noted in the batch at its first cleaning (KIP-534): the
//! *delete horizon* takes the place of the base time stamp, attribute bit 6 says so, and the deltas of the records'
//! time stamps count from it.

use bytes::Bytes;

use crate::types::Timestamp;

use super::batch::crc_of;
use super::build::put_varlong;
use super::records::{decompressed, timestamp};
use super::walk::{RawRecord, SliceSource, Source, read_record};
use super::{Attributes, BATCH_HEADER_LEN, BatchError, BatchHeader, Limits, RecordFault};

/// A record, as far as compaction of the log looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyedRecord<'a> {
    /// The record's offset, less the base offset of its batch.
    pub offset_delta: i32,
    /// Its key; null is not empty.
    pub key: Option<&'a [u8]>,
    /// Whether it has no value: it deletes its key.
    pub is_tombstone: bool,
}

/// What is left of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retained {
    /// All of it, byte for byte.
    Whole,
    /// Some of it: the new batch. The base offset and the leader epoch are those that the old one carried.
    Rewritten(Bytes),
    /// No record.
    Nothing,
}

impl BatchHeader {
    /// Until when the tombstones of the batch are to stay, if it was cleaned before.
    pub fn delete_horizon(&self) -> Option<Timestamp> {
        self.attributes
            .has_delete_horizon()
            .then_some(self.base_timestamp)
    }
}

/// Opens `batch`, the bytes of one batch, and shows each record to `each` until that returns false. Compressed records
/// are decompressed at once, into at most `limits.max_uncompressed` bytes.
pub fn for_each_key(
    batch: &Bytes,
    limits: Limits,
    mut each: impl FnMut(&KeyedRecord<'_>) -> bool,
) -> Result<(), BatchError> {
    let header = BatchHeader::parse(batch)?;
    let records = decompressed(batch, &header, limits)?;
    let mut walk = Walk::new(&header, &records);
    while let Some((_, raw)) = walk.next()? {
        if !each(&keyed(&raw)) {
            return Ok(());
        }
    }
    Ok(())
}

/// Leaves those records of `batch`, the bytes of one batch, for which `keep` returns true. Neither the checksum of the
/// batch is checked (see [`BatchHeader::check_crc`]) nor may it be a control batch: those have no keys.
///
/// If tombstones are left and the batch has no delete horizon yet, it gets this one, if there is one.
pub fn retain_records(
    batch: &Bytes,
    horizon: Option<Timestamp>,
    limits: Limits,
    mut keep: impl FnMut(&KeyedRecord<'_>) -> bool,
) -> Result<Retained, BatchError> {
    let header = BatchHeader::parse(batch)?;
    let records = decompressed(batch, &header, limits)?;
    // The records that stay, once one has gone.
    let mut kept: Option<Vec<u8>> = None;
    let mut count = 0;
    let mut max_timestamp = Timestamp::NONE;
    let mut tombstones = false;
    let mut walk = Walk::new(&header, &records);
    while let Some((at, raw)) = walk.next()? {
        let record = keyed(&raw);
        if keep(&record) {
            let fault = |fault| BatchError::Record {
                index: walk.index - 1,
                fault,
            };
            count += 1;
            tombstones |= record.is_tombstone;
            max_timestamp =
                max_timestamp.max(timestamp(&header, raw.timestamp_delta).map_err(fault)?);
            if let Some(kept) = &mut kept {
                kept.extend_from_slice(&records[at..walk.at()]);
            }
        } else if kept.is_none() {
            let mut prefix = Vec::with_capacity(records.len());
            prefix.extend_from_slice(&records[..at]);
            kept = Some(prefix);
        }
    }
    if count == 0 {
        return Ok(Retained::Nothing);
    }
    let left = BatchHeader {
        record_count: count,
        max_timestamp,
        ..header
    };
    let wanted = horizon.filter(|_| tombstones && !header.attributes.has_delete_horizon());
    let rebased = match wanted {
        None => None,
        Some(horizon) => rebase(&left, kept.as_deref().unwrap_or(&records), horizon)?,
    };
    let (left, body) = match (rebased, kept) {
        (None, None) => return Ok(Retained::Whole),
        (Some(rebased), _) => rebased,
        (None, Some(kept)) => (left, kept),
    };
    drop(records);
    encode(left, body).map(Retained::Rewritten)
}

/// Makes `horizon` the base of the records' time stamps. `None` if a time stamp is too far from it for 64 bits: then
/// the batch goes without, and its tombstones stay.
fn rebase(
    header: &BatchHeader,
    records: &[u8],
    horizon: Timestamp,
) -> Result<Option<(BatchHeader, Vec<u8>)>, BatchError> {
    let mut out = Vec::with_capacity(records.len() + records.len() / 8);
    let mut walk = Walk::new(header, records);
    while let Some((_, raw)) = walk.next()? {
        let fault = |fault| BatchError::Record {
            index: walk.index - 1,
            fault,
        };
        let time = timestamp(header, raw.timestamp_delta).map_err(fault)?;
        let Some(delta) = time.0.checked_sub(horizon.0) else {
            return Ok(None);
        };
        // Both places are within the records, which are in memory.
        let (body, rest) = (raw.body_at as usize, raw.rest_at as usize);
        let rest = &records[rest..walk.at()];
        let mut head = vec![records[body]];
        put_varlong(&mut head, delta);
        put_varlong(&mut out, (head.len() + rest.len()) as i64);
        out.extend_from_slice(&head);
        out.extend_from_slice(rest);
    }
    let rebased = BatchHeader {
        attributes: Attributes(header.attributes.0 | Attributes::DELETE_HORIZON),
        base_timestamp: horizon,
        ..*header
    };
    Ok(Some((rebased, out)))
}

/// The bytes of a batch with these records.
fn encode(mut header: BatchHeader, records: Vec<u8>) -> Result<Bytes, BatchError> {
    let codec = header.attributes.codec()?;
    let records = codec.compress(records).map_err(|e| BatchError::Compress {
        codec,
        reason: e.to_string(),
    })?;
    header.size = BATCH_HEADER_LEN + records.len();
    header.crc = crc_of(&header.encode()?, &records);
    let mut batch = Vec::with_capacity(header.size);
    batch.extend_from_slice(&header.encode()?);
    batch.extend_from_slice(&records);
    Ok(Bytes::from(batch))
}

fn keyed<'a>(raw: &RawRecord<&'a [u8]>) -> KeyedRecord<'a> {
    KeyedRecord {
        offset_delta: raw.offset_delta,
        key: raw.key,
        is_tombstone: raw.value.is_none(),
    }
}

/// A record and where it begins.
type Placed<'a> = (usize, RawRecord<&'a [u8]>);

/// The records of a batch in memory, one after the other.
struct Walk<'a> {
    header: &'a BatchHeader,
    source: SliceSource<'a>,
    index: i32,
    last_delta: Option<i32>,
}

impl<'a> Walk<'a> {
    fn new(header: &'a BatchHeader, records: &'a [u8]) -> Walk<'a> {
        Walk {
            header,
            source: SliceSource::new(records, 0),
            index: 0,
            last_delta: None,
        }
    }

    /// Where the next record begins.
    fn at(&self) -> usize {
        // A slice source is never further than its slice is long, and that is a usize.
        usize::try_from(self.source.position()).unwrap_or(usize::MAX)
    }

    /// The next record and where it begins; `None` behind the last.
    fn next(&mut self) -> Result<Option<Placed<'a>>, BatchError> {
        if self.index >= self.header.record_count {
            let record_count = self.header.record_count;
            return match self.source.byte()? {
                None => Ok(None),
                Some(_) => Err(BatchError::LeftOver { record_count }),
            };
        }
        let (at, index) = (self.at(), self.index);
        let raw = read_record(&mut self.source, |_, _| ()).map_err(|e| e.at(index))?;
        let found = raw.offset_delta;
        let ascends = self.last_delta.is_none_or(|last| found > last);
        if !ascends || found < 0 || found > self.header.last_offset_delta {
            let fault = RecordFault::BadOffsetDelta { found };
            return Err(BatchError::Record { index, fault });
        }
        self.last_delta = Some(found);
        self.index += 1;
        Ok(Some((at, raw)))
    }
}

#[cfg(test)]
mod tests;
