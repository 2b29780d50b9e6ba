//! What can be wrong with a batch.

use crate::types::{Offset, ProducerEpoch, ProducerId};

use super::Codec;

/// What a client is told about a bad batch. A front end maps each to one wire code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The bytes are not what somebody wrote: a checksum, a length, a truncation. Kafka's
    /// `CORRUPT_MESSAGE`.
    Corrupt,
    /// A sound batch that breaks a rule. Kafka's `INVALID_RECORD`.
    Invalid,
    /// A message format before v2, or after it. Kafka answers `INVALID_RECORD` to it in the versions
    /// of Produce that are still served (3 and later).
    UnsupportedFormat,
    /// A compression codec that is unknown. Kafka's `UNSUPPORTED_COMPRESSION_TYPE`.
    UnsupportedCodec,
    /// More bytes than allowed, on the wire or decompressed. Kafka's `MESSAGE_TOO_LARGE`.
    TooLarge,
}

/// Why bytes are not a record batch, or not one that a producer may send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// There is no batch at all.
    #[error("no record batch: a produce request must have exactly one per partition")]
    NoBatch,
    /// The bytes go on after the first batch.
    #[error(
        "{extra} bytes after the first record batch: a produce request must have exactly one batch \
         per partition"
    )]
    SeveralBatches {
        /// How many bytes follow the first batch.
        extra: usize,
    },
    /// The bytes end within the batch.
    #[error("truncated record batch: {found} of {needed} bytes")]
    Truncated {
        /// How many bytes the batch needs.
        needed: usize,
        /// How many there are.
        found: usize,
    },
    /// The length field cannot be that of a batch.
    #[error("batch length {length}: a batch has at least 49 bytes after its length")]
    BadLength {
        /// The length field.
        length: i32,
    },
    /// Another message format than v2.
    #[error("message format {magic}: only record batches of magic 2 are supported")]
    UnsupportedMagic {
        /// The magic byte.
        magic: i8,
    },
    /// The batch is longer than the topic allows.
    #[error("the batch has {size} bytes; the limit is {limit}")]
    TooLarge {
        /// The length of the batch, in bytes.
        size: usize,
        /// The most that is allowed.
        limit: usize,
    },
    /// The bytes are not what the producer sent.
    #[error("corrupt record batch: checksum {computed:08x}, expected {stored:08x}")]
    Checksum {
        /// The CRC32C in the batch.
        stored: u32,
        /// The CRC32C of its bytes.
        computed: u32,
    },
    /// The codec in the attributes is none of Kafka's.
    #[error("unknown compression codec {id}")]
    UnknownCodec {
        /// The codec's number.
        id: u8,
    },
    /// A produced batch must start at offset 0; the broker assigns the real one.
    #[error("base offset {found}: a produced batch must have base offset 0")]
    BaseOffset {
        /// The base offset in the batch.
        found: Offset,
    },
    /// A stored batch with a real offset that is not in its place.
    #[error("a batch with offsets {found} to {end}, expected offsets from {least} to {most}")]
    Misplaced {
        /// The base offset in the batch.
        found: Offset,
        /// The offset after its last record.
        end: Offset,
        /// The least that its base offset may be.
        least: Offset,
        /// The most that its end may be.
        most: Offset,
    },
    /// The record count is not positive, or not what the offsets say.
    #[error("{record_count} records with a last offset delta of {last_offset_delta}")]
    BadCount {
        /// The record count.
        record_count: i32,
        /// The last offset delta.
        last_offset_delta: i32,
    },
    /// Control batches are the broker's own.
    #[error("clients are not allowed to write control records")]
    ControlBatch,
    /// A transactional batch where none is allowed.
    #[error("transactional records are not accepted here")]
    Transactional,
    /// The delete horizon is set by compaction.
    #[error("producers must not set a delete horizon")]
    DeleteHorizon,
    /// Producer id, epoch and sequence do not belong together.
    #[error(
        "producer id {producer_id} with epoch {producer_epoch} and base sequence {base_sequence}"
    )]
    BadProducer {
        /// The producer id.
        producer_id: ProducerId,
        /// The producer epoch.
        producer_epoch: ProducerEpoch,
        /// The base sequence.
        base_sequence: i32,
    },
    /// The records do not decompress.
    #[error("the records are not valid {codec}: {reason}")]
    Decompress {
        /// The codec.
        codec: Codec,
        /// What the decompressor says.
        reason: String,
    },
    /// The codec fails to compress the records.
    #[error("the records cannot be compressed with {codec}: {reason}")]
    Compress {
        /// The codec.
        codec: Codec,
        /// What the compressor says.
        reason: String,
    },
    /// The records decompress to more than is allowed.
    #[error("the {codec} records decompress to more than {limit} bytes")]
    Bomb {
        /// The codec.
        codec: Codec,
        /// The most bytes that are allowed.
        limit: usize,
    },
    /// A record is malformed.
    #[error("record {index} of the batch: {fault}")]
    Record {
        /// The record's index in the batch, from 0.
        index: i32,
        /// What is wrong with it.
        fault: RecordFault,
    },
    /// There are bytes after the last record.
    #[error("the batch has data after its {record_count} records")]
    LeftOver {
        /// How many records the batch declares.
        record_count: i32,
    },
}

/// What is wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// The records end within it.
    #[error("truncated")]
    Truncated,
    /// A variable-length integer has too many bits.
    #[error("a varint that is too long")]
    LongVarint,
    /// A length or count that cannot be.
    #[error("a {field} of {length}")]
    BadLength {
        /// Which length.
        field: &'static str,
        /// Its value.
        length: i32,
    },
    /// It has more headers than a reader takes.
    #[error(
        "{found} headers, of which no more than {limit} are read; seek to the offset behind it to skip it"
    )]
    TooManyHeaders {
        /// How many it has.
        found: u32,
        /// How many are read.
        limit: usize,
    },
    /// The fields do not fill the length that the record declares, or go beyond it.
    #[error("its length is {declared} but its fields take {taken} bytes or more")]
    LengthMismatch {
        /// The length that the record declares.
        declared: u64,
        /// The bytes that its fields take, as far as they were read.
        taken: u64,
    },
    /// Offsets do not ascend as they must.
    #[error("offset delta {found}")]
    BadOffsetDelta {
        /// The offset delta.
        found: i32,
    },
    /// The time stamp has more than 64 bits.
    #[error("its timestamp overflows")]
    TimestampOverflow,
}

impl BatchError {
    /// The class of the error, for the answer to the client.
    pub fn fault(&self) -> Fault {
        match self {
            BatchError::Truncated { .. }
            | BatchError::BadLength { .. }
            | BatchError::Checksum { .. }
            | BatchError::Misplaced { .. } => Fault::Corrupt,
            BatchError::UnsupportedMagic { .. } => Fault::UnsupportedFormat,
            BatchError::UnknownCodec { .. } => Fault::UnsupportedCodec,
            BatchError::TooLarge { .. } | BatchError::Bomb { .. } => Fault::TooLarge,
            BatchError::NoBatch
            | BatchError::SeveralBatches { .. }
            | BatchError::BaseOffset { .. }
            | BatchError::BadCount { .. }
            | BatchError::ControlBatch
            | BatchError::Transactional
            | BatchError::DeleteHorizon
            | BatchError::BadProducer { .. }
            | BatchError::Decompress { .. }
            | BatchError::Compress { .. }
            | BatchError::Record { .. }
            | BatchError::LeftOver { .. } => Fault::Invalid,
        }
    }
}
