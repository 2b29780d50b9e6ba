//! Making batches.

use std::io;

use bytes::Bytes;

use crate::types::{Offset, ProducerEpoch, ProducerId, Timestamp};

use super::batch::crc_of;
use super::{Attributes, BATCH_HEADER_LEN, BatchError, BatchHeader, Codec, RecordHeader};

/// Why a batch cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A batch has at least one record.
    #[error("a batch needs at least one record")]
    Empty,
    /// More records, or longer ones, than the format has bits for.
    #[error("the batch is larger than the format allows (2^31 records or bytes)")]
    TooLong,
    /// The time stamp is too far from that of the first record.
    #[error("timestamp {timestamp} is too far from the first one of the batch, {base}")]
    Timestamp {
        /// The record's time stamp.
        timestamp: Timestamp,
        /// The first record's.
        base: Timestamp,
    },
    /// The codec failed.
    #[error("compressing the records with {codec}: {source}")]
    Compress {
        /// The codec.
        codec: Codec,
        /// Why.
        source: io::Error,
    },
}

/// Makes a batch out of records, as a producer sends it: base offset 0, leader epoch -1.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    codec: Codec,
    records: Vec<u8>,
    count: i32,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    base_sequence: i32,
    transactional: bool,
    /// The record in the making; kept for its allocation.
    scratch: Vec<u8>,
}

impl BatchBuilder {
    /// An empty batch of a producer without idempotence.
    pub fn new(codec: Codec) -> BatchBuilder {
        BatchBuilder {
            codec,
            records: Vec::new(),
            count: 0,
            base_timestamp: Timestamp::NONE,
            max_timestamp: Timestamp::NONE,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch(-1),
            base_sequence: -1,
            transactional: false,
            scratch: Vec::new(),
        }
    }

    /// Makes it a batch of an idempotent producer; `base_sequence` is the sequence of its first
    /// record.
    pub fn producer(mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: i32) -> Self {
        (self.producer_id, self.producer_epoch) = (id, epoch);
        self.base_sequence = base_sequence;
        self
    }

    /// Makes it part of a transaction, or not.
    pub fn transactional(mut self, transactional: bool) -> Self {
        self.transactional = transactional;
        self
    }

    /// Appends a record. On an error the batch is as before.
    pub fn push(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[RecordHeader],
    ) -> Result<(), BuildError> {
        let next = self.count.checked_add(1).ok_or(BuildError::TooLong)?;
        let base = if self.count == 0 {
            timestamp
        } else {
            self.base_timestamp
        };
        let delta = timestamp
            .0
            .checked_sub(base.0)
            .ok_or(BuildError::Timestamp { timestamp, base })?;
        let body = &mut self.scratch;
        body.clear();
        body.push(0); // attributes: none are defined
        put_varlong(body, delta);
        put_varlong(body, self.count.into());
        put_bytes(body, key)?;
        put_bytes(body, value)?;
        put_varlong(body, length(headers.len())?.into());
        for header in headers {
            put_bytes(body, Some(&header.key))?;
            put_bytes(body, header.value.as_deref())?;
        }
        let record = length(body.len())?;
        // The longest varint has five bytes.
        length(BATCH_HEADER_LEN + self.records.len() + body.len() + 5)?;
        put_varlong(&mut self.records, record.into());
        self.records.extend_from_slice(&self.scratch);
        self.count = next;
        self.base_timestamp = base;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        Ok(())
    }

    /// How many records the batch has.
    pub fn record_count(&self) -> i32 {
        self.count
    }

    /// Whether the batch has no records.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The length of the batch so far, in bytes, before compression.
    pub fn uncompressed_len(&self) -> usize {
        BATCH_HEADER_LEN + self.records.len()
    }

    /// The batch's bytes.
    pub fn finish(self) -> Result<Bytes, BuildError> {
        if self.count == 0 {
            return Err(BuildError::Empty);
        }
        let codec = self.codec;
        let records = codec
            .compress(self.records)
            .map_err(|source| BuildError::Compress { codec, source })?;
        let transactional = if self.transactional {
            Attributes::TRANSACTIONAL
        } else {
            0
        };
        let mut header = BatchHeader {
            base_offset: Offset(0),
            size: BATCH_HEADER_LEN + records.len(),
            leader_epoch: -1,
            crc: 0,
            attributes: Attributes(i16::from(codec.id()) | transactional),
            last_offset_delta: self.count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            record_count: self.count,
        };
        let too_long = |_: BatchError| BuildError::TooLong;
        header.crc = crc_of(&header.encode().map_err(too_long)?, &records);
        let mut batch = Vec::with_capacity(header.size);
        batch.extend_from_slice(&header.encode().map_err(too_long)?);
        batch.extend_from_slice(&records);
        Ok(Bytes::from(batch))
    }
}

fn length(length: usize) -> Result<i32, BuildError> {
    i32::try_from(length).map_err(|_| BuildError::TooLong)
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) -> Result<(), BuildError> {
    match bytes {
        None => put_varlong(out, -1),
        Some(bytes) => {
            put_varlong(out, length(bytes.len())?.into());
            out.extend_from_slice(bytes);
        }
    }
    Ok(())
}

/// Writes a zigzag varint. One of 32 bits and one of 64 bits look the same.
pub(super) fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut rest = (value << 1).cast_unsigned() ^ (value >> 63).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
