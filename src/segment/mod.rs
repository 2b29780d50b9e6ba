//! Record batches and the segment objects that hold them: bytes in, bytes out.
//!
//! * [`BatchHeader`], [`Batches`]: the header of a Kafka v2 record batch (magic 2, KIP-98), and a
//!   walk over consecutive batches.
//! * [`validate()`]: everything a broker must know of a produced record set before it takes it.
//! * [`decode_records`], [`first_record_at_or_after`], [`BatchBuilder`]: the records inside.
//! * [`patch`], [`set_log_append_time`], [`set_max_timestamp`]: what a broker writes into a batch.
//! * [`retain_records`]: a batch without some of its records, as compaction of the log leaves it; [`recompress()`]: one
//!   in another codec.
//! * [`SegmentBuilder`], [`SegmentIndex`]: the segment object, batches of many partitions.
//! * [`CompactedBuilder`], [`ChunkIndex`], [`CompactedDirectory`]: the compacted segment, old batches of few partitions
//!   with their real offsets, written as a stream and found through a sparse index.
//!
//! What it never does: I/O, async, clocks, randomness; and it never re-encodes a batch (what the producer compressed is
//! stored and served as it came) but where a topic asks for that: `compression.type`, `cleanup.policy=compact`.
//!
//! Invariants:
//!
//! * No input makes it panic or allocate by a number that the input merely claims: a slice is bounded
//!   by the input, decompressed bytes by the caller's [`Limits`].
//! * A batch that [`validate()`] accepted holds exactly `record_count` records with the offset deltas
//!   `0..record_count`, so that offsets stay dense (I2).
//! * In a compacted segment the CRC of a chunk covers the base offsets too, which that of a batch does not; only
//!   batches whose own CRC holds get in, and their offsets ascend within those that the slice stands for.
//! * The range that [`SegmentBuilder::push`] returns is the slice's place in the finished object, and
//!   its batches carry their own CRC32C (I4): whoever reads a slice needs neither header nor index.
//!
//! Everything here is a pure function of its input: there is nothing to do after a crash or when a
//! future is cancelled.

mod batch;
mod build;
mod chunks;
mod codec;
mod compacted;
mod error;
mod object;
mod recompress;
mod records;
mod retain;
mod sparse;
#[cfg(test)]
mod tests;
mod validate;
mod walk;

pub use batch::{
    Attributes, BATCH_HEADER_LEN, BatchHeader, BatchRef, Batches, TimestampType, patch,
    set_log_append_time, set_max_timestamp,
};
pub use build::{BatchBuilder, BuildError};
pub use chunks::{Chunk, ChunkIndex};
pub use codec::Codec;
pub use compacted::{
    CHUNK_LEN, CompactedBuilder, CompactedDirectory, CompactedSlice, Finished, LEADER_EPOCH, Part,
    check_batches,
};
pub use error::{BatchError, Fault, RecordFault};
pub use object::{SegmentBuilder, SegmentError, SegmentIndex, Slice, check_slice};
pub use recompress::recompress;
pub use records::{
    MAX_HEADERS, Record, RecordHeader, Records, decode_records, first_record_at_or_after,
    largest_timestamp, refused_records,
};
pub use retain::{KeyedRecord, Retained, for_each_key, retain_records};
pub use sparse::{SparseRecord, sparse_batch};
pub use validate::{ProduceRules, RecordFacts, ValidBatch, validate};
pub use walk::Limits;
