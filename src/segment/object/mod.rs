//! The segment object: record batches of many partitions, and where each is.
//!
//! The data section is the concatenated slices; a slice is consecutive batches of one partition. The
//! head is empty, so that the data starts at a fixed place and a slice's range in the object is known
//! when it is pushed; the index is the tail. Whoever follows a slice from the cluster's state reads
//! just its range and checks its CRC; the index is for `inspect`, `fsck` and the sweep.

use std::ops::Range;

use bytes::Bytes;
use minicbor::{Decode, Encode};

use crate::format::{FormatError, HEADER_LEN, Object, ObjectBuilder, ObjectHeader, ObjectKind};
use crate::types::{SegmentId, Timestamp, TopicPartition};

use super::{BatchError, Batches};

/// Why a segment cannot be written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// The object's framing is wrong.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A slice has at least one batch.
    #[error("segment {segment}: an empty slice of partition {partition}")]
    EmptySlice {
        /// The segment.
        segment: SegmentId,
        /// The slice's partition.
        partition: TopicPartition,
    },
    /// What was to be a slice is not whole batches.
    #[error("segment {segment}, partition {partition}: {source}")]
    NotBatches {
        /// The segment.
        segment: SegmentId,
        /// The slice's partition.
        partition: TopicPartition,
        /// What is wrong.
        source: BatchError,
    },
    /// What is pushed does not belong there.
    #[error("segment {segment}: {reason}")]
    Misplaced {
        /// The segment.
        segment: SegmentId,
        /// What is wrong.
        reason: String,
    },
    /// A batch of a compacted segment is damaged, or not where the slice says.
    #[error("{object}, partition {partition}: {source}")]
    BadBatch {
        /// The object.
        object: String,
        /// The slice's partition.
        partition: TopicPartition,
        /// What is wrong.
        source: BatchError,
    },
    /// The index cannot be read or does not describe the data.
    #[error("{object}: bad segment index: {reason}")]
    BadIndex {
        /// The object.
        object: String,
        /// What is wrong.
        reason: String,
    },
    /// The bytes of a slice are not those that were written.
    #[error(
        "{object}: bytes {} to {} are corrupt: checksum {found:08x}, expected {expected:08x}",
        range.start, range.end
    )]
    CorruptSlice {
        /// The object.
        object: String,
        /// The slice's range in it.
        range: Range<u64>,
        /// The CRC32C that was recorded.
        expected: u32,
        /// The CRC32C of the bytes.
        found: u32,
    },
    /// The bytes of a slice are not as many as its range.
    #[error("{object}: {found} bytes read of the range {} to {}", range.start, range.end)]
    WrongLength {
        /// The object.
        object: String,
        /// The slice's range in it.
        range: Range<u64>,
        /// How many bytes were read.
        found: usize,
    },
}

/// A run of consecutive batches of one partition in an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// Whose batches these are.
    pub partition: TopicPartition,
    /// Where they are: a byte range of the whole object.
    pub range: Range<u64>,
    /// How many batches.
    pub batches: u32,
    /// How many records, as the batches' headers say.
    pub records: u64,
    /// The largest of the batches' largest time stamps.
    pub max_timestamp: Timestamp,
    /// CRC32C of the bytes.
    pub crc: u32,
}

/// A slice in the index, as it is stored.
#[derive(Encode, Decode)]
#[cbor(array)]
struct Entry {
    #[n(0)]
    partition: TopicPartition,
    #[n(1)]
    start: u64,
    #[n(2)]
    end: u64,
    #[n(3)]
    batches: u32,
    #[n(4)]
    records: u64,
    #[n(5)]
    max_timestamp: Timestamp,
    #[n(6)]
    crc: u32,
}

/// The index, as it is stored.
#[derive(Encode, Decode)]
#[cbor(array)]
struct Index {
    #[n(0)]
    id: SegmentId,
    #[n(1)]
    slices: Vec<Entry>,
}

/// Builds a segment object without copying the batches.
#[derive(Debug)]
pub struct SegmentBuilder {
    id: SegmentId,
    object: ObjectBuilder,
    slices: Vec<Slice>,
}

impl SegmentBuilder {
    /// An empty segment.
    pub fn new(id: SegmentId) -> SegmentBuilder {
        let object = ObjectBuilder::new(ObjectKind::Segment);
        SegmentBuilder {
            id,
            object,
            slices: Vec::new(),
        }
    }

    /// Appends a slice: `parts` are batches of `partition`, each part one or more whole ones. Returns
    /// the slice; its range is final. On an error the segment is as before.
    ///
    /// Only the batches' headers are looked at: they are validated where they come in, and the checksums that they
    /// carry are believed. So a byte that changed since then is found by whoever reads the segment.
    pub fn push(
        &mut self,
        partition: TopicPartition,
        parts: Vec<Bytes>,
    ) -> Result<Slice, SegmentError> {
        let segment = self.id;
        let start = HEADER_LEN + self.object.data_len();
        let mut slice = Slice {
            partition,
            range: start..start,
            batches: 0,
            records: 0,
            max_timestamp: Timestamp::NONE,
            crc: 0,
        };
        for part in &parts {
            for batch in Batches::new(part) {
                let batch = batch.map_err(|source| SegmentError::NotBatches {
                    segment,
                    partition,
                    source,
                })?;
                let header = batch.header;
                slice.crc = header.add_to_crc(slice.crc, &part[batch.range]);
                slice.range.end += header.size as u64;
                slice.batches += 1;
                slice.records += u64::try_from(header.record_count).unwrap_or(0);
                slice.max_timestamp = slice.max_timestamp.max(header.max_timestamp);
            }
        }
        if slice.batches == 0 {
            return Err(SegmentError::EmptySlice { segment, partition });
        }
        self.object.push_summed(parts, slice.crc);
        self.slices.push(slice.clone());
        Ok(slice)
    }

    /// The segment's id.
    pub fn id(&self) -> SegmentId {
        self.id
    }

    /// The bytes of batches so far.
    pub fn data_len(&self) -> u64 {
        self.object.data_len()
    }

    /// Whether there is no slice yet.
    pub fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }

    /// The object as parts that follow one another; the batches are the parts that were pushed.
    pub fn finish(self) -> Result<Vec<Bytes>, SegmentError> {
        let entry = |slice: Slice| Entry {
            partition: slice.partition,
            start: slice.range.start,
            end: slice.range.end,
            batches: slice.batches,
            records: slice.records,
            max_timestamp: slice.max_timestamp,
            crc: slice.crc,
        };
        let slices = self.slices.into_iter().map(entry).collect();
        let index = minicbor::to_vec(Index {
            id: self.id,
            slices,
        })
        .expect("writing to a Vec does not fail, and no part of an index refuses to be encoded");
        Ok(self.object.finish(&[], &index)?)
    }
}

/// What is where in a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentIndex {
    /// The segment's own id: the one in its name, unless it was put in the wrong place.
    pub id: SegmentId,
    /// The slices, in the order of their ranges, without gaps.
    pub slices: Vec<Slice>,
}

/// What is wrong with the index or directory of an object.
pub(super) fn bad_index(object: &str, reason: String) -> SegmentError {
    SegmentError::BadIndex {
        object: object.to_owned(),
        reason,
    }
}

/// Decodes what the whole of `tail` is to be; else says why it is not.
pub(super) fn decode_whole<'b, T: Decode<'b, ()>>(tail: &'b [u8]) -> Result<T, String> {
    let mut decoder = minicbor::Decoder::new(tail);
    let decoded = decoder.decode().map_err(|e| e.to_string())?;
    match decoder.position() {
        end if end == tail.len() => Ok(decoded),
        end => Err(format!("it goes on after {end} bytes")),
    }
}

impl SegmentIndex {
    /// Reads the index from the object's header and tail (see [`ObjectHeader::tail_range`]).
    /// `object` is the name that errors carry.
    pub fn decode_tail(
        object: &str,
        header: &ObjectHeader,
        tail: &[u8],
    ) -> Result<SegmentIndex, SegmentError> {
        header.expect_kind(object, ObjectKind::Segment)?;
        header.check_tail(object, tail)?;
        let bad = |reason| bad_index(object, reason);
        let index: Index = decode_whole(tail).map_err(bad)?;
        let data = header.data_range();
        let mut at = data.start;
        let mut slices = Vec::new();
        for entry in index.slices {
            if entry.start != at || entry.end <= at || entry.end > data.end || entry.batches == 0 {
                let (start, end, batches) = (entry.start, entry.end, entry.batches);
                return Err(bad(format!(
                    "a slice of {batches} batches at {start} to {end}, where one should start at \
                     {at} and the data ends at {}",
                    data.end
                )));
            }
            at = entry.end;
            slices.push(Slice {
                partition: entry.partition,
                range: entry.start..entry.end,
                batches: entry.batches,
                records: entry.records,
                max_timestamp: entry.max_timestamp,
                crc: entry.crc,
            });
        }
        if at != data.end {
            return Err(bad(format!("it ends at {at} and the data at {}", data.end)));
        }
        Ok(SegmentIndex {
            id: index.id,
            slices,
        })
    }

    /// Reads a whole segment: all checksums are checked, also those of the slices. Returns the index
    /// and the bytes of each slice.
    pub fn decode(object: &str, bytes: &Bytes) -> Result<(SegmentIndex, Vec<Bytes>), SegmentError> {
        let decoded = Object::decode_as(object, ObjectKind::Segment, bytes)?;
        let index = SegmentIndex::decode_tail(object, &decoded.header, &decoded.tail)?;
        let mut rest = decoded.data;
        let mut contents = Vec::with_capacity(index.slices.len());
        for slice in &index.slices {
            // The ranges fill the data, which is in memory, without gaps.
            let len = usize::try_from(slice.range.end - slice.range.start).unwrap_or(usize::MAX);
            let content = rest.split_to(len.min(rest.len()));
            check_slice(object, &slice.range, slice.crc, &content)?;
            contents.push(content);
        }
        Ok((index, contents))
    }
}

/// Checks the bytes of a slice, read from `range` of `object`, against its CRC.
pub fn check_slice(
    object: &str,
    range: &Range<u64>,
    expected: u32,
    bytes: &[u8],
) -> Result<(), SegmentError> {
    let object = || object.to_owned();
    if range.end.checked_sub(range.start) != Some(bytes.len() as u64) {
        let (range, found) = (range.clone(), bytes.len());
        return Err(SegmentError::WrongLength {
            object: object(),
            range,
            found,
        });
    }
    let found = crc32c::crc32c(bytes);
    if found != expected {
        let range = range.clone();
        return Err(SegmentError::CorruptSlice {
            object: object(),
            range,
            expected,
            found,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
