//! The header of a v2 record batch (KIP-98), and the fields in it that a broker writes.
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 8 | base offset |
//! | 8 | 4 | batch length: the bytes after this field |
//! | 12 | 4 | partition leader epoch |
//! | 16 | 1 | magic (2) |
//! | 17 | 4 | CRC32C of everything from 21 on |
//! | 21 | 2 | attributes |
//! | 23 | 4 | last offset delta |
//! | 27 | 8 | base time stamp |
//! | 35 | 8 | largest time stamp |
//! | 43 | 8 | producer id |
//! | 51 | 2 | producer epoch |
//! | 53 | 4 | base sequence |
//! | 57 | 4 | record count |
//! | 61 | | records, compressed as one |
//!
//! All big-endian. The CRC does not cover the base offset and the leader epoch: a broker assigns
//! those without touching anything else.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::format::join_crc;
use crate::types::{Offset, ProducerEpoch, ProducerId, Timestamp};

use super::{BatchError, Codec};

/// The length of a batch's header: where its records start.
pub const BATCH_HEADER_LEN: usize = 61;

/// The bytes before those that the batch length counts.
const LENGTH_OVERHEAD: usize = 12;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;
const MAGIC: i8 = 2;

/// What the time stamps of a batch mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// When the producer made the record: `CreateTime`.
    Create,
    /// When the broker appended the batch: `LogAppendTime`. All records have the batch's largest
    /// time stamp.
    LogAppend,
}

/// The attributes of a batch: the codec and flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes(pub i16);

impl Attributes {
    pub(super) const CODEC_MASK: i16 = 0b111;
    pub(super) const LOG_APPEND: i16 = 1 << 3;
    pub(super) const TRANSACTIONAL: i16 = 1 << 4;
    pub(super) const CONTROL: i16 = 1 << 5;
    pub(super) const DELETE_HORIZON: i16 = 1 << 6;

    /// The codec of the records.
    pub fn codec(self) -> Result<Codec, BatchError> {
        // Three bits always fit.
        let id = (self.0 & Attributes::CODEC_MASK) as u8;
        Codec::from_id(id).ok_or(BatchError::UnknownCodec { id })
    }

    /// What the time stamps mean.
    pub fn timestamp_type(self) -> TimestampType {
        if self.0 & Attributes::LOG_APPEND == 0 {
            TimestampType::Create
        } else {
            TimestampType::LogAppend
        }
    }

    /// Whether the batch is part of a transaction.
    pub fn is_transactional(self) -> bool {
        self.0 & Attributes::TRANSACTIONAL != 0
    }

    /// Whether the batch holds control records (transaction markers).
    pub fn is_control(self) -> bool {
        self.0 & Attributes::CONTROL != 0
    }

    /// Whether the base time stamp is a delete horizon (KIP-534).
    pub fn has_delete_horizon(self) -> bool {
        self.0 & Attributes::DELETE_HORIZON != 0
    }
}

/// The header of a record batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record, as far as a broker has assigned it.
    pub base_offset: Offset,
    /// The length of the whole batch, this header included, in bytes.
    pub size: usize,
    /// Kafka's partition leader epoch; -1 before a broker has set it.
    pub leader_epoch: i32,
    /// CRC32C of the bytes from the attributes to the end.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: Attributes,
    /// The offset of the last record, less the base offset. Compaction keeps it, also when it
    /// removes that record.
    pub last_offset_delta: i32,
    /// The time stamp that the records' deltas count from.
    pub base_timestamp: Timestamp,
    /// The largest time stamp of the records.
    pub max_timestamp: Timestamp,
    /// The producer id, or [`ProducerId::NONE`].
    pub producer_id: ProducerId,
    /// The producer's epoch, or -1.
    pub producer_epoch: ProducerEpoch,
    /// The sequence of the first record, or -1. Sequences wrap to 0 after `i32::MAX`.
    pub base_sequence: i32,
    /// How many records the batch says it has.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`, which need not hold the records. Checks the length
    /// field and the magic, and nothing else: not the checksum, not that counts are positive.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        // The magic decides how the rest is to be read, so an old message set is named as such even
        // when it is shorter than a v2 header.
        if let Some(magic) = bytes.get(MAGIC_AT)
            && *magic != MAGIC as u8
        {
            return Err(BatchError::UnsupportedMagic {
                magic: i8::from_be_bytes([*magic]),
            });
        }
        let Some(header) = bytes.first_chunk::<BATCH_HEADER_LEN>() else {
            return Err(BatchError::Truncated {
                needed: BATCH_HEADER_LEN,
                found: bytes.len(),
            });
        };
        let length = i32::from_be_bytes(field(header, 8));
        let size = usize::try_from(length)
            .ok()
            .and_then(|length| length.checked_add(LENGTH_OVERHEAD))
            .filter(|size| *size >= BATCH_HEADER_LEN)
            .ok_or(BatchError::BadLength { length })?;
        Ok(BatchHeader {
            base_offset: Offset(i64::from_be_bytes(field(header, 0))),
            size,
            leader_epoch: i32::from_be_bytes(field(header, 12)),
            crc: u32::from_be_bytes(field(header, CRC_AT)),
            attributes: Attributes(i16::from_be_bytes(field(header, ATTRIBUTES_AT))),
            last_offset_delta: i32::from_be_bytes(field(header, 23)),
            base_timestamp: Timestamp(i64::from_be_bytes(field(header, 27))),
            max_timestamp: Timestamp(i64::from_be_bytes(field(header, MAX_TIMESTAMP_AT))),
            producer_id: ProducerId(i64::from_be_bytes(field(header, 43))),
            producer_epoch: ProducerEpoch(i16::from_be_bytes(field(header, 51))),
            base_sequence: i32::from_be_bytes(field(header, 53)),
            record_count: i32::from_be_bytes(field(header, 57)),
        })
    }

    /// The header's bytes, CRC and all as the fields say.
    pub(super) fn encode(&self) -> Result<[u8; BATCH_HEADER_LEN], BatchError> {
        let length = i32::try_from(self.size.saturating_sub(LENGTH_OVERHEAD)).map_err(|_| {
            BatchError::TooLarge {
                size: self.size,
                limit: i32::MAX as usize,
            }
        })?;
        let mut header = [0; BATCH_HEADER_LEN];
        put(&mut header, 0, self.base_offset.0.to_be_bytes());
        put(&mut header, 8, length.to_be_bytes());
        put(&mut header, 12, self.leader_epoch.to_be_bytes());
        put(&mut header, MAGIC_AT, MAGIC.to_be_bytes());
        put(&mut header, CRC_AT, self.crc.to_be_bytes());
        put(&mut header, ATTRIBUTES_AT, self.attributes.0.to_be_bytes());
        put(&mut header, 23, self.last_offset_delta.to_be_bytes());
        put(&mut header, 27, self.base_timestamp.0.to_be_bytes());
        put(
            &mut header,
            MAX_TIMESTAMP_AT,
            self.max_timestamp.0.to_be_bytes(),
        );
        put(&mut header, 43, self.producer_id.0.to_be_bytes());
        put(&mut header, 51, self.producer_epoch.0.to_be_bytes());
        put(&mut header, 53, self.base_sequence.to_be_bytes());
        put(&mut header, 57, self.record_count.to_be_bytes());
        Ok(header)
    }

    /// The offset after the last one of the batch.
    pub fn next_offset(&self) -> Offset {
        self.base_offset
            .advance(u64::try_from(self.last_offset_delta).unwrap_or(0) + 1)
    }

    /// Checks that a batch which carries its real offset lies within `offsets`.
    pub fn check_offsets(&self, offsets: &Range<Offset>) -> Result<(), BatchError> {
        let (found, end) = (self.base_offset, self.next_offset());
        if found >= offsets.start && end <= offsets.end && self.last_offset_delta >= 0 {
            return Ok(());
        }
        let (least, most) = (offsets.start, offsets.end);
        Err(BatchError::Misplaced {
            found,
            end,
            least,
            most,
        })
    }

    /// The sequence of the last record, or -1 without a base sequence. Sequences wrap to 0 after
    /// `i32::MAX`.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        // The sum of two non-negative i32, taken modulo 2^31.
        self.base_sequence.wrapping_add(self.last_offset_delta) & i32::MAX
    }

    /// Whether the producer is idempotent: the batch carries a producer id.
    pub fn has_producer(&self) -> bool {
        self.producer_id.0 > ProducerId::NONE.0
    }

    /// The CRC32C of what comes before the batch, whose checksum is `crc`, and the batch itself, whose bytes `batch`
    /// is. Those that the batch's own checksum covers are not read again, if they are many.
    pub fn add_to_crc(&self, crc: u32, batch: &[u8]) -> u32 {
        /// Joining checksums takes about as long as summing so many bytes.
        const WORTH_IT: usize = 8 << 10;
        match batch.split_at_checked(ATTRIBUTES_AT) {
            Some((before, covered)) if covered.len() >= WORTH_IT => {
                let crc = crc32c::crc32c_append(crc, before);
                join_crc(crc, self.crc, covered.len() as u64)
            }
            _ => crc32c::crc32c_append(crc, batch),
        }
    }

    /// Checks the checksum of the batch, whose bytes `batch` starts with.
    pub fn check_crc(&self, batch: &[u8]) -> Result<(), BatchError> {
        let covered = batch
            .get(ATTRIBUTES_AT..self.size)
            .ok_or(BatchError::Truncated {
                needed: self.size,
                found: batch.len(),
            })?;
        self.expect_crc(crc32c::crc32c(covered))
    }

    /// The same for a batch that lies in pieces: its first bytes, the whole header among them, and the rest.
    pub fn check_crc_of_pieces<'a>(
        &self,
        head: &[u8],
        rest: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), BatchError> {
        let mut found = head.len();
        let mut computed = crc32c::crc32c(head.get(ATTRIBUTES_AT..).unwrap_or_default());
        for piece in rest {
            found += piece.len();
            computed = crc32c::crc32c_append(computed, piece);
        }
        if found != self.size {
            let needed = self.size;
            return Err(BatchError::Truncated { needed, found });
        }
        self.expect_crc(computed)
    }

    fn expect_crc(&self, computed: u32) -> Result<(), BatchError> {
        if computed == self.crc {
            Ok(())
        } else {
            Err(BatchError::Checksum {
                stored: self.crc,
                computed,
            })
        }
    }
}

/// A batch in a run of batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchRef {
    /// Its header.
    pub header: BatchHeader,
    /// Where it is in the run, in bytes.
    pub range: Range<usize>,
}

impl BatchRef {
    /// The batch's bytes out of `run`, the bytes that were walked.
    pub fn slice(&self, run: &Bytes) -> Bytes {
        run.slice(self.range.clone())
    }
}

/// Walks consecutive batches by their headers. Ends at the end of the bytes; whatever is not a whole
/// batch is an error, and the last item.
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    run: &'a [u8],
    at: usize,
}

impl<'a> Batches<'a> {
    /// Walks the batches in `run`.
    pub fn new(run: &'a [u8]) -> Batches<'a> {
        Batches { run, at: 0 }
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<BatchRef, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.run.get(self.at..).filter(|rest| !rest.is_empty())?;
        let start = self.at;
        let found = BatchHeader::parse(rest).and_then(|header| {
            if header.size > rest.len() {
                return Err(BatchError::Truncated {
                    needed: header.size,
                    found: rest.len(),
                });
            }
            Ok(BatchRef {
                header,
                range: start..start + header.size,
            })
        });
        self.at = found
            .as_ref()
            .map_or(self.run.len(), |batch| batch.range.end);
        Some(found)
    }
}

impl std::iter::FusedIterator for Batches<'_> {}

/// Writes the offset and leader epoch that the broker assigned into a batch. The checksum does not
/// cover them.
pub fn patch(batch: &mut [u8], base_offset: Offset, leader_epoch: i32) -> Result<(), BatchError> {
    let found = batch.len();
    let header = batch
        .first_chunk_mut::<BATCH_HEADER_LEN>()
        .ok_or(BatchError::Truncated {
            needed: BATCH_HEADER_LEN,
            found,
        })?;
    put(header, 0, base_offset.0.to_be_bytes());
    put(header, 12, leader_epoch.to_be_bytes());
    Ok(())
}

/// Makes `timestamp` the time of every record of the batch (`message.timestamp.type` =
/// `LogAppendTime`), as Kafka does: attribute, largest time stamp and checksum change, the records do
/// not.
pub fn set_log_append_time(batch: &mut BytesMut, timestamp: Timestamp) -> Result<(), BatchError> {
    restamp(batch, TimestampType::LogAppend, timestamp)
}

/// Corrects the largest time stamp of a batch of `CreateTime` to the one that [`validate`] found, as
/// Kafka does when a producer got it wrong.
///
/// [`validate`]: super::validate()
pub fn set_max_timestamp(batch: &mut BytesMut, timestamp: Timestamp) -> Result<(), BatchError> {
    restamp(batch, TimestampType::Create, timestamp)
}

fn restamp(
    batch: &mut BytesMut,
    timestamp_type: TimestampType,
    max_timestamp: Timestamp,
) -> Result<(), BatchError> {
    let found = batch.len();
    let size = BatchHeader::parse(batch)?.size;
    let Some(batch) = batch.get_mut(..size) else {
        return Err(BatchError::Truncated {
            needed: size,
            found,
        });
    };
    let needed = BATCH_HEADER_LEN;
    let header = batch
        .first_chunk_mut::<BATCH_HEADER_LEN>()
        .ok_or(BatchError::Truncated { needed, found })?;
    let old = i16::from_be_bytes(field(header, ATTRIBUTES_AT));
    let new = match timestamp_type {
        TimestampType::Create => old & !Attributes::LOG_APPEND,
        TimestampType::LogAppend => old | Attributes::LOG_APPEND,
    };
    put(header, ATTRIBUTES_AT, new.to_be_bytes());
    put(header, MAX_TIMESTAMP_AT, max_timestamp.0.to_be_bytes());
    let crc = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
    Ok(())
}

/// The CRC32C that belongs in the header of a batch that is `header` followed by `records`.
pub(super) fn crc_of(header: &[u8; BATCH_HEADER_LEN], records: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[ATTRIBUTES_AT..]), records)
}

fn field<const N: usize>(header: &[u8; BATCH_HEADER_LEN], at: usize) -> [u8; N] {
    std::array::from_fn(|i| header[at + i])
}

fn put<const N: usize>(header: &mut [u8; BATCH_HEADER_LEN], at: usize, bytes: [u8; N]) {
    header[at..at + N].copy_from_slice(&bytes);
}
