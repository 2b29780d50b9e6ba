//! The compacted segment: a large object with old batches of few partitions, as they are handed out.
//!
//! The data section is slices, each followed by its [`ChunkIndex`]; the tail is the directory of the slices. Batches
//! carry their real base offsets and leader epoch 0, so a reader sends them as they lie there.
//!
//! [`CompactedBuilder`] writes one as a stream: parts of equal length come out as they become full. The header, which
//! has the lengths and checksums of all that follows, is at the front; so the *first* part is held back and comes out
//! last. Every store takes the parts of an upload in any order, and nobody sees the object before it is complete.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use minicbor::{Decode, Encode};

use crate::format::{HEADER_LEN, Object, ObjectBuilder, ObjectHeader, ObjectKind};
use crate::types::{Offset, SegmentId, Timestamp, TopicPartition};

use super::chunks::{Chunk, ChunkIndex};
use super::object::{bad_index, decode_whole};
use super::{BATCH_HEADER_LEN, BatchError, BatchHeader, Batches, SegmentError, patch};

/// The leader epoch of every batch that is handed out: leaders do not change, for there are none.
pub const LEADER_EPOCH: i32 = 0;

/// How long a chunk may be, unless a single batch is longer.
pub const CHUNK_LEN: usize = 512 << 10;

/// A slice of a compacted segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactedSlice {
    /// Whose batches these are.
    pub partition: TopicPartition,
    /// The offsets it stands for; its batches lie within.
    pub offsets: Range<Offset>,
    /// Where the batches are: a byte range of the whole object, empty if there are none.
    pub range: Range<u64>,
    /// Where its index is: a byte range of the whole object.
    pub index: Range<u64>,
    /// How many batches.
    pub batches: u64,
    /// How many records, as the batches' headers say.
    pub records: u64,
    /// The largest of the batches' largest time stamps.
    pub max_timestamp: Timestamp,
}

/// A slice in the directory, as it is stored.
#[derive(Encode, Decode)]
#[cbor(array)]
struct Entry {
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
    index_end: u64,
    #[n(6)]
    batches: u64,
    #[n(7)]
    records: u64,
    #[n(8)]
    max_timestamp: Timestamp,
}

/// The directory, as it is stored.
#[derive(Encode, Decode)]
#[cbor(array)]
struct Directory {
    #[n(0)]
    id: SegmentId,
    #[n(1)]
    slices: Vec<Entry>,
}

/// A part of the object, to be uploaded under its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its place among the parts, from 0. Part 0 comes last.
    pub number: u32,
    /// Its bytes: as many as the builder was told, and fewer only in the last place.
    pub bytes: Bytes,
}

/// What is left to upload when all is pushed, and what the object is.
#[derive(Debug)]
pub struct Finished {
    /// The slices, in the order of their ranges.
    pub slices: Vec<CompactedSlice>,
    /// The length of the object in bytes.
    pub len: u64,
    /// The parts that did not come out yet: those that are full, the one in the last place, and part 0.
    pub parts: Vec<Part>,
}

/// Writes a compacted segment. It holds two parts, and those that nobody took yet.
#[derive(Debug)]
pub struct CompactedBuilder {
    id: SegmentId,
    part_len: usize,
    chunk_len: usize,
    object: ObjectBuilder,
    /// The length of the object so far.
    at: u64,
    /// Part 0, once it is full.
    first: Option<BytesMut>,
    /// The part that is being filled, and its number.
    current: BytesMut,
    number: u32,
    ready: VecDeque<Part>,
    open: Option<OpenSlice>,
    slices: Vec<CompactedSlice>,
}

/// A slice that is being written.
#[derive(Debug)]
struct OpenSlice {
    slice: CompactedSlice,
    /// The least offset that the next batch may have.
    next: Offset,
    chunks: Vec<Chunk>,
    /// The length of the last chunk.
    chunk_len: usize,
}

impl CompactedBuilder {
    /// An empty segment that comes out in parts of `part_len` bytes.
    pub fn new(id: SegmentId, part_len: usize) -> CompactedBuilder {
        CompactedBuilder::with_chunks(id, part_len, CHUNK_LEN)
    }

    /// The same with chunks of another length than [`CHUNK_LEN`].
    pub fn with_chunks(id: SegmentId, part_len: usize, chunk_len: usize) -> CompactedBuilder {
        // The header must be in part 0.
        let part_len = part_len.max(HEADER_LEN as usize);
        let mut builder = CompactedBuilder {
            id,
            part_len,
            chunk_len,
            object: ObjectBuilder::new(ObjectKind::Compacted),
            at: 0,
            first: None,
            current: BytesMut::new(),
            number: 0,
            ready: VecDeque::new(),
            open: None,
            slices: Vec::new(),
        };
        builder.write(&[0; HEADER_LEN as usize]);
        builder
    }

    /// Begins a slice that stands for the offsets from `base` on.
    pub fn begin_slice(
        &mut self,
        partition: TopicPartition,
        base: Offset,
    ) -> Result<(), SegmentError> {
        if self.open.is_some() || base.0 < 0 {
            let reason =
                format!("a slice of {partition} from offset {base} on, where none can begin");
            return Err(self.misplaced(reason));
        }
        self.open = Some(OpenSlice {
            slice: CompactedSlice {
                partition,
                offsets: base..base,
                range: self.at..self.at,
                index: self.at..self.at,
                batches: 0,
                records: 0,
                max_timestamp: Timestamp::NONE,
            },
            next: base,
            chunks: Vec::new(),
            chunk_len: 0,
        });
        Ok(())
    }

    /// Appends one batch to the slice that was begun, with its real offset. Its checksum is checked: what was damaged
    /// where it comes from must not get a new checksum here. On an error the segment is as before.
    pub fn push(&mut self, base_offset: Offset, batch: &[u8]) -> Result<(), SegmentError> {
        let segment = self.id;
        let Some(open) = &mut self.open else {
            let reason = format!("a batch at offset {base_offset} outside of any slice");
            return Err(self.misplaced(reason));
        };
        let partition = open.slice.partition;
        let not_batch = |source| SegmentError::NotBatches {
            segment,
            partition,
            source,
        };
        let header = BatchHeader::parse(batch).map_err(not_batch)?;
        header.check_crc(batch).map_err(not_batch)?;
        if header.size != batch.len() {
            let extra = batch.len() - header.size;
            return Err(not_batch(BatchError::SeveralBatches { extra }));
        }
        if base_offset < open.next || header.last_offset_delta < 0 || header.record_count < 0 {
            let reason = format!(
                "a batch of {partition}, {} records at offset {base_offset}, last delta {}, where {} is the least",
                header.record_count, header.last_offset_delta, open.next
            );
            return Err(self.misplaced(reason));
        }
        let mut head = [0; BATCH_HEADER_LEN];
        let (old, records) = batch.split_at(BATCH_HEADER_LEN);
        head.copy_from_slice(old);
        patch(&mut head, base_offset, LEADER_EPOCH).map_err(not_batch)?;

        let slice = &mut open.slice;
        let fits = open.chunk_len + batch.len() <= self.chunk_len;
        let (chunk, before) = match open.chunks.last_mut() {
            Some(chunk) if fits => (chunk, open.chunk_len),
            last => {
                if let Some(full) = last {
                    self.object.note(full.crc, open.chunk_len);
                }
                open.chunks.push(Chunk {
                    offset: base_offset,
                    start: self.at,
                    max_timestamp: Timestamp::NONE,
                    crc: 0,
                });
                let pushed = open.chunks.last_mut().expect("it was pushed just now");
                (pushed, 0)
            }
        };
        open.chunk_len = before + batch.len();
        chunk.crc = crc32c::crc32c_append(crc32c::crc32c_append(chunk.crc, &head), records);
        chunk.max_timestamp = chunk.max_timestamp.max(header.max_timestamp);
        slice.range.end += batch.len() as u64;
        slice.batches += 1;
        slice.records += u64::try_from(header.record_count).unwrap_or(0);
        slice.max_timestamp = slice.max_timestamp.max(header.max_timestamp);
        open.next = BatchHeader {
            base_offset,
            ..header
        }
        .next_offset();
        self.write(&head);
        self.write(records);
        Ok(())
    }

    /// Ends the slice: it stands for the offsets up to `end`, exclusive. Its places are final.
    pub fn end_slice(&mut self, end: Offset) -> Result<CompactedSlice, SegmentError> {
        let Some(open) = self
            .open
            .take_if(|open| open.next <= end && open.slice.offsets.start < end)
        else {
            let next = self.open.as_ref().map(|open| open.next);
            return Err(self.misplaced(format!("a slice that ends at {end}, after {next:?}")));
        };
        if let Some(last) = open.chunks.last() {
            self.object.note(last.crc, open.chunk_len);
        }
        let mut slice = open.slice;
        slice.offsets.end = end;
        let index = ChunkIndex::new(
            slice.partition,
            slice.offsets.clone(),
            slice.range.clone(),
            open.chunks,
        );
        let index = index.encode();
        slice.index = self.at..self.at + index.len() as u64;
        self.object.note(crc32c::crc32c(&index), index.len());
        self.write(&index);
        self.slices.push(slice.clone());
        Ok(slice)
    }

    /// The next part that is full. Part 0 is not among them.
    pub fn next_part(&mut self) -> Option<Part> {
        self.ready.pop_front()
    }

    /// The segment's id.
    pub fn id(&self) -> SegmentId {
        self.id
    }

    /// The length of the object so far.
    pub fn written(&self) -> u64 {
        self.at
    }

    /// Ends the object. Every slice must be ended.
    pub fn finish(mut self) -> Result<Finished, SegmentError> {
        if self.open.is_some() {
            return Err(self.misplaced("the last slice is not ended".to_owned()));
        }
        let entry = |slice: &CompactedSlice| Entry {
            partition: slice.partition,
            base: slice.offsets.start,
            end: slice.offsets.end,
            range_start: slice.range.start,
            range_end: slice.range.end,
            index_end: slice.index.end,
            batches: slice.batches,
            records: slice.records,
            max_timestamp: slice.max_timestamp,
        };
        let tail = minicbor::to_vec(Directory {
            id: self.id,
            slices: self.slices.iter().map(entry).collect(),
        })
        .expect("writing to a Vec does not fail, and no part of a directory refuses to be encoded");
        let header = self.object.frame(&tail)?;
        self.write(&tail);
        let current = std::mem::take(&mut self.current);
        let mut parts: Vec<Part> = self.ready.into();
        let mut first = match self.first {
            None => current,
            Some(first) => {
                if !current.is_empty() {
                    parts.push(Part {
                        number: self.number,
                        bytes: current.freeze(),
                    });
                }
                first
            }
        };
        first[..header.len()].copy_from_slice(&header);
        parts.push(Part {
            number: 0,
            bytes: first.freeze(),
        });
        Ok(Finished {
            slices: self.slices,
            len: self.at,
            parts,
        })
    }

    fn write(&mut self, mut bytes: &[u8]) {
        self.at += bytes.len() as u64;
        while !bytes.is_empty() {
            // A part is allocated whole: it will be filled, or is the last.
            let space = self.part_len - self.current.len();
            self.current.reserve(space);
            let (now, later) = bytes.split_at(bytes.len().min(space));
            self.current.extend_from_slice(now);
            bytes = later;
            if self.current.len() == self.part_len {
                self.seal();
            }
        }
    }

    fn seal(&mut self) {
        let full = std::mem::take(&mut self.current);
        if self.number == 0 {
            self.first = Some(full);
        } else {
            self.ready.push_back(Part {
                number: self.number,
                bytes: full.freeze(),
            });
        }
        self.number += 1;
    }

    fn misplaced(&self, reason: String) -> SegmentError {
        SegmentError::Misplaced {
            segment: self.id,
            reason,
        }
    }
}

/// What is where in a compacted segment: for `inspect`, `fsck` and the sweep. Readers need only the index of their
/// slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactedDirectory {
    /// The segment's own id.
    pub id: SegmentId,
    /// The slices, in the order of their ranges. The index of each follows it, and the next follows that.
    pub slices: Vec<CompactedSlice>,
}

impl CompactedDirectory {
    /// Reads the directory from the object's header and tail (see [`ObjectHeader::tail_range`]). `object` is the name
    /// that errors carry.
    pub fn decode_tail(
        object: &str,
        header: &ObjectHeader,
        tail: &[u8],
    ) -> Result<CompactedDirectory, SegmentError> {
        header.expect_kind(object, ObjectKind::Compacted)?;
        header.check_tail(object, tail)?;
        let bad = |reason| bad_index(object, reason);
        let directory: Directory = decode_whole(tail).map_err(bad)?;
        let data = header.data_range();
        let mut at = data.start;
        let mut slices = Vec::new();
        for entry in directory.slices {
            let (start, end, index_end) = (entry.range_start, entry.range_end, entry.index_end);
            if start != at
                || end < at
                || index_end <= end
                || index_end > data.end
                || entry.base >= entry.end
            {
                return Err(bad(format!(
                    "a slice at {start} to {end} with its index up to {index_end}, where one should start at {at} \
                     and the data ends at {}",
                    data.end
                )));
            }
            at = index_end;
            slices.push(CompactedSlice {
                partition: entry.partition,
                offsets: entry.base..entry.end,
                range: start..end,
                index: end..index_end,
                batches: entry.batches,
                records: entry.records,
                max_timestamp: entry.max_timestamp,
            });
        }
        if at != data.end {
            return Err(bad(format!("it ends at {at} and the data at {}", data.end)));
        }
        Ok(CompactedDirectory {
            id: directory.id,
            slices,
        })
    }

    /// Reads a whole compacted segment and checks everything: sections, indexes, chunks, batches and their offsets.
    /// Returns the directory and the bytes of each slice.
    pub fn decode(
        object: &str,
        bytes: &Bytes,
    ) -> Result<(CompactedDirectory, Vec<Bytes>), SegmentError> {
        let decoded = Object::decode_as(object, ObjectKind::Compacted, bytes)?;
        let directory = CompactedDirectory::decode_tail(object, &decoded.header, &decoded.tail)?;
        // The ranges lie within the data, which is in memory.
        let cut = |range: &Range<u64>| bytes.slice(range.start as usize..range.end as usize);
        let mut contents = Vec::with_capacity(directory.slices.len());
        for slice in &directory.slices {
            let index = ChunkIndex::decode(object, &cut(&slice.index))?;
            index.expect(object, slice.partition, &slice.offsets, &slice.range)?;
            let mut least = slice.offsets.start;
            for number in 0..index.chunks().len() {
                let chunk = cut(&index.range_of(number));
                index.check_chunk(object, number, &chunk)?;
                least = check_batches(object, slice, least, &chunk)?;
            }
            contents.push(cut(&slice.range));
        }
        Ok((directory, contents))
    }
}

/// Checks the batches of a chunk of `slice`, the first of which may not have an offset below `least`. Returns the
/// least offset of what follows.
pub fn check_batches(
    object: &str,
    slice: &CompactedSlice,
    least: Offset,
    chunk: &[u8],
) -> Result<Offset, SegmentError> {
    let bad = |source| SegmentError::BadBatch {
        object: object.to_owned(),
        partition: slice.partition,
        source,
    };
    let mut least = least;
    for batch in Batches::new(chunk) {
        let batch = batch.map_err(bad)?;
        let bytes = chunk.get(batch.range.clone()).unwrap_or_default();
        batch.header.check_crc(bytes).map_err(bad)?;
        batch
            .header
            .check_offsets(&(least..slice.offsets.end))
            .map_err(bad)?;
        least = batch.header.next_offset();
    }
    Ok(least)
}

#[cfg(test)]
mod tests;
