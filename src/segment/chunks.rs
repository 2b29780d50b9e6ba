//! The sparse index of a slice of a compacted segment.
//!
//! A slice is cut into **chunks**: whole batches, together no longer than half a mebibyte unless one batch is. The
//! index has each chunk's first offset, place, largest time stamp and CRC32C. So a reader finds an offset or
//! a time with one small read, loads the chunks it wants with ranged reads, and checks each as a whole: the CRC
//! covers the base offsets too, which the CRC of a batch does not.

use std::ops::Range;

use minicbor::{Decode, Encode};

use crate::types::{Offset, Timestamp, TopicPartition};

use super::SegmentError;
use super::object::{bad_index, check_slice};

/// The bytes behind the CBOR of an index: its CRC32C.
const CRC_LEN: usize = 4;

/// Consecutive batches of a compacted slice that are loaded and checked as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Chunk {
    /// The base offset of its first batch.
    #[n(0)]
    pub offset: Offset,
    /// The position of its first byte in the object. It ends where the next begins, or where the slice ends.
    #[n(1)]
    pub start: u64,
    /// The largest of its batches' largest time stamps.
    #[n(2)]
    pub max_timestamp: Timestamp,
    /// CRC32C of its bytes.
    #[n(3)]
    pub crc: u32,
}

/// The index of one slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkIndex {
    /// Whose batches they are.
    pub partition: TopicPartition,
    /// The offsets that the slice stands for: batches lie within, with gaps where records were superseded.
    pub offsets: Range<Offset>,
    /// The bytes of the slice: a range of the whole object; empty if all of its records were superseded.
    pub range: Range<u64>,
    /// The chunks, in order, without gaps.
    chunks: Vec<Chunk>,
}

/// An index, as it is stored.
#[derive(Encode, Decode)]
#[cbor(array)]
struct Stored {
    #[n(0)]
    partition: TopicPartition,
    #[n(1)]
    base: Offset,
    #[n(2)]
    end: Offset,
    #[n(3)]
    range_start: u64,
    #[n(4)]
    range_end: u64,
    #[n(5)]
    chunks: Vec<Chunk>,
}

impl ChunkIndex {
    pub(super) fn new(
        partition: TopicPartition,
        offsets: Range<Offset>,
        range: Range<u64>,
        chunks: Vec<Chunk>,
    ) -> ChunkIndex {
        ChunkIndex {
            partition,
            offsets,
            range,
            chunks,
        }
    }

    /// Its bytes: CBOR and a CRC32C of it.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = minicbor::to_vec(Stored {
            partition: self.partition,
            base: self.offsets.start,
            end: self.offsets.end,
            range_start: self.range.start,
            range_end: self.range.end,
            chunks: self.chunks.clone(),
        })
        .expect("writing to a Vec does not fail, and no part of an index refuses to be encoded");
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads an index. `object` is the name that errors carry.
    pub fn decode(object: &str, bytes: &[u8]) -> Result<ChunkIndex, SegmentError> {
        let bad = |reason| bad_index(object, reason);
        let Some((cbor, crc)) = bytes.split_last_chunk::<CRC_LEN>() else {
            return Err(bad(format!(
                "the index of a slice in {} bytes",
                bytes.len()
            )));
        };
        let (expected, found) = (u32::from_le_bytes(*crc), crc32c::crc32c(cbor));
        if expected != found {
            return Err(bad(format!(
                "the index of a slice is corrupt: checksum {found:08x}, expected {expected:08x}"
            )));
        }
        let mut decoder = minicbor::Decoder::new(cbor);
        let stored: Stored = decoder.decode().map_err(|e| bad(e.to_string()))?;
        if decoder.position() != cbor.len() {
            return Err(bad(format!(
                "the index of a slice goes on after {} bytes",
                decoder.position()
            )));
        }
        let index = ChunkIndex {
            partition: stored.partition,
            offsets: stored.base..stored.end,
            range: stored.range_start..stored.range_end,
            chunks: stored.chunks,
        };
        match index.fault() {
            None => Ok(index),
            Some(reason) => Err(bad(reason)),
        }
    }

    /// Why the index cannot be that of a slice.
    fn fault(&self) -> Option<String> {
        let (offsets, range) = (&self.offsets, &self.range);
        if offsets.start.0 < 0 || offsets.start >= offsets.end || range.start > range.end {
            return Some(format!(
                "a slice with the offsets {} to {} at {} to {}",
                offsets.start, offsets.end, range.start, range.end
            ));
        }
        let first = self.chunks.first().map(|chunk| chunk.start);
        if first.unwrap_or(range.end) != range.start {
            return Some(format!(
                "the chunks do not begin where the slice does, at {}",
                range.start
            ));
        }
        let ascend = self
            .chunks
            .is_sorted_by(|a, b| a.start < b.start && a.offset < b.offset);
        let within =
            |chunk: &Chunk| range.contains(&chunk.start) && offsets.contains(&chunk.offset);
        let all_within =
            self.chunks.first().is_none_or(within) && self.chunks.last().is_none_or(within);
        (!ascend || !all_within).then(|| {
            format!(
                "the chunks do not ascend within the offsets {} to {} and the bytes {} to {}",
                offsets.start, offsets.end, range.start, range.end
            )
        })
    }

    /// Fails unless this is the index of that slice.
    pub fn expect(
        &self,
        object: &str,
        partition: TopicPartition,
        offsets: &Range<Offset>,
        range: &Range<u64>,
    ) -> Result<(), SegmentError> {
        if (self.partition, &self.offsets, &self.range) == (partition, offsets, range) {
            return Ok(());
        }
        Err(SegmentError::BadIndex {
            object: object.to_owned(),
            reason: format!(
                "it is that of partition {}, offsets {} to {}, bytes {} to {}; and that of partition {partition}, \
                 offsets {} to {}, bytes {} to {} was expected",
                self.partition,
                self.offsets.start,
                self.offsets.end,
                self.range.start,
                self.range.end,
                offsets.start,
                offsets.end,
                range.start,
                range.end
            ),
        })
    }

    /// The chunks, in order.
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// The number of the chunk in which reading from `offset` begins: the one that holds it if any does. It may
    /// turn out that all of its batches are before `offset`, when that is in a gap.
    pub fn chunk_at(&self, offset: Offset) -> usize {
        let after = self.chunks.partition_point(|chunk| chunk.offset <= offset);
        after.saturating_sub(1)
    }

    /// The byte range of a chunk in the object; empty, at the slice's end, if there is no such chunk.
    pub fn range_of(&self, chunk: usize) -> Range<u64> {
        let start = |chunk: usize| self.chunks.get(chunk).map_or(self.range.end, |c| c.start);
        start(chunk)..start(chunk.saturating_add(1))
    }

    /// Checks the bytes of a chunk against its CRC.
    pub fn check_chunk(
        &self,
        object: &str,
        chunk: usize,
        bytes: &[u8],
    ) -> Result<(), SegmentError> {
        let expected = self.chunks.get(chunk).map_or(0, |chunk| chunk.crc);
        check_slice(object, &self.range_of(chunk), expected, bytes)
    }

    /// How many bytes of memory it takes, about.
    pub fn memory(&self) -> usize {
        size_of::<ChunkIndex>() + self.chunks.capacity() * size_of::<Chunk>()
    }
}
