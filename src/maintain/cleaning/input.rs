//! The batches of slices, read past the cache: they are read once, and must not push out what readers want.

use std::borrow::Cow;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use super::super::deletion::path_of;
use super::super::error::JobError;
use super::super::maintenance::Maintenance;
use crate::rules::{Rule, holds};
use crate::segment::{
    BATCH_HEADER_LEN, BatchError, BatchHeader, Batches, ChunkIndex, SegmentError,
};
use crate::state::{Slice, SliceIndex};
use crate::store::{ObjectPath, RequestKind, StoreError};
use crate::types::{Offset, TopicPartition};

/// How many bytes one request reads.
const PIECE: u64 = 2 << 20;

/// How many requests are under way at once: slices may be many and small.
const AT_ONCE: usize = 8;

/// A whole batch and the offset of its first record.
pub(in crate::maintain) struct Batch {
    /// The offset of its first record.
    pub(in crate::maintain) base: Offset,
    /// Its bytes, whose checksum is right.
    pub(in crate::maintain) bytes: Bytes,
}

/// Reads slices from the first to the last.
pub(in crate::maintain) struct Input<'a> {
    m: &'a Maintenance,
    partition: TopicPartition,
    slices: Cow<'a, [(Offset, Slice)]>,
    /// The bytes of all slices, in order; no piece is of two.
    pieces: BoxStream<'a, Result<Bytes, StoreError>>,
    /// The slice that is being read, and how many of its bytes came.
    slice: usize,
    loaded: u64,
    /// What of it is not handed out: the beginning of a batch.
    rest: BytesMut,
    /// The least offset of the next batch.
    next: Offset,
    /// The index of the slice, if it is a compacted one and has begun, and the number of the next chunk. The checksum
    /// of a chunk covers what that of a batch does not: where it stands.
    index: Option<(ChunkIndex, usize)>,
}

impl<'a> Input<'a> {
    /// Of these slices of a partition, by their base offsets.
    pub(super) fn new(
        m: &'a Maintenance,
        partition: TopicPartition,
        slices: &'a [(Offset, Slice)],
    ) -> Input<'a> {
        Input::reading(m, partition, Cow::Borrowed(slices))
    }

    /// Of one slice.
    pub(in crate::maintain) fn of_one(
        m: &'a Maintenance,
        partition: TopicPartition,
        slice: (Offset, Slice),
    ) -> Input<'a> {
        Input::reading(m, partition, Cow::Owned(vec![slice]))
    }

    fn reading(
        m: &'a Maintenance,
        partition: TopicPartition,
        slices: Cow<'a, [(Offset, Slice)]>,
    ) -> Input<'a> {
        let ranges = slices.iter().flat_map(|(_, slice)| {
            let end = slice.start + slice.len;
            (slice.start..end)
                .step_by(PIECE as usize)
                .map(move |start| (slice.object, start..end.min(start + PIECE)))
        });
        let ranges: Vec<_> = ranges.collect();
        let pieces = stream::iter(ranges).map(move |(object, range)| async move {
            m.give_way().await;
            m.pace(range.end - range.start).await;
            load(m, &path_of(object), range).await
        });
        Input {
            m,
            partition,
            next: slices.first().map_or(Offset::ZERO, |(base, _)| *base),
            slices,
            pieces: pieces.buffered(AT_ONCE).boxed(),
            slice: 0,
            loaded: 0,
            rest: BytesMut::new(),
            index: None,
        }
    }

    /// The next batches of the slice that is being read: as many as a request or two bring. `None` at its end; after
    /// that comes the next slice.
    pub(in crate::maintain) async fn next(&mut self) -> Result<Option<Vec<Batch>>, JobError> {
        let Some((base, slice)) = self.slices.get(self.slice).copied() else {
            return Ok(None);
        };
        let mut batches = Vec::new();
        while batches.is_empty() {
            if self.loaded == slice.len {
                if !self.rest.is_empty() {
                    return Err(self.truncated());
                }
                self.slice += 1;
                self.loaded = 0;
                self.index = None;
                self.next = slice.end;
                return Ok(None);
            }
            if let (Some(place), None) = (slice.index, &self.index) {
                let read = load_index(self.m, self.partition, base, &slice, place).await;
                let index = read.map_err(|error| match error {
                    IndexError::Store(error) => self.failed(error),
                    IndexError::Damaged(error) => self.unreadable(error.to_string()),
                })?;
                self.index = Some((index, 0));
            }
            let piece = match self.pieces.next().await {
                Some(Ok(piece)) => piece,
                Some(Err(error)) => return Err(self.failed(error)),
                None => return Err(self.truncated()),
            };
            if piece.len() as u64 != PIECE.min(slice.len - self.loaded) {
                return Err(self.truncated());
            }
            self.loaded += piece.len() as u64;
            self.rest.extend_from_slice(&piece);
            match slice.index {
                Some(_) => self.take_chunks(&slice, &mut batches)?,
                None => {
                    while let Some(batch) = self.take(&slice)? {
                        batches.push(batch);
                    }
                }
            }
        }
        Ok(Some(batches))
    }

    /// The batches of the chunks of a compacted slice that are there as a whole.
    fn take_chunks(&mut self, slice: &Slice, batches: &mut Vec<Batch>) -> Result<(), JobError> {
        let object = path_of(slice.object).to_string();
        while let Some((index, number)) = &mut self.index {
            let range = index.range_of(*number);
            let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
            if len == 0 || self.rest.len() < len {
                break;
            }
            let chunk = self.rest.split_to(len).freeze();
            let checked = index.check_chunk(&object, *number, &chunk);
            *number += 1;
            if holds(Rule::CompactedOffsetsAreVerified) {
                checked.map_err(|error| self.unreadable(error.to_string()))?;
            }
            for batch in Batches::new(&chunk) {
                let batch = batch.map_err(|error| self.corrupt(error))?;
                let base = batch.header.base_offset;
                let allowed = self.next..slice.end;
                batch
                    .header
                    .check_offsets(&allowed)
                    .map_err(|error| self.corrupt(error))?;
                self.next = batch.header.next_offset();
                let bytes = batch.slice(&chunk);
                batches.push(Batch { base, bytes });
            }
        }
        Ok(())
    }

    /// The next batch of a slice as it was appended, if it is there as a whole.
    fn take(&mut self, slice: &Slice) -> Result<Option<Batch>, JobError> {
        if self.rest.len() < BATCH_HEADER_LEN {
            return Ok(None);
        }
        let header = BatchHeader::parse(&self.rest).map_err(|e| self.corrupt(e))?;
        if header.size > self.rest.len() {
            let left = slice.len - self.loaded;
            return if header.size as u64 > self.rest.len() as u64 + left {
                Err(self.truncated())
            } else {
                Ok(None)
            };
        }
        header.check_crc(&self.rest).map_err(|e| self.corrupt(e))?;
        // The batches of a slice as it was appended follow one another.
        let base = self.next;
        let placed = BatchHeader {
            base_offset: base,
            ..header
        };
        placed
            .check_offsets(&(base..slice.end))
            .map_err(|error| self.corrupt(error))?;
        self.next = placed.next_offset();
        let bytes = self.rest.split_to(header.size).freeze();
        Ok(Some(Batch { base, bytes }))
    }

    fn failed(&self, error: StoreError) -> JobError {
        if error.is_not_found() {
            return self.unreadable("it is not in the store".to_owned());
        }
        error.into()
    }

    fn truncated(&self) -> JobError {
        let len = self.slices.get(self.slice).map_or(0, |(_, s)| s.len);
        let whole = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
        self.corrupt(BatchError::Truncated {
            needed: whole(len),
            found: whole(self.loaded),
        })
    }

    fn corrupt(&self, source: BatchError) -> JobError {
        self.unreadable(source.to_string())
    }

    fn unreadable(&self, reason: String) -> JobError {
        unreadable(self.partition, &self.slices, self.next, reason)
    }
}

/// Why the index of a slice cannot be had.
#[derive(Debug, thiserror::Error)]
enum IndexError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Damaged(#[from] SegmentError),
}

/// The index of the compacted slice that begins at `base`.
async fn load_index(
    m: &Maintenance,
    partition: TopicPartition,
    base: Offset,
    slice: &Slice,
    place: SliceIndex,
) -> Result<ChunkIndex, IndexError> {
    let path = path_of(slice.object);
    let range = place.start..place.start + u64::from(place.len);
    let bytes = load(m, &path, range).await?;
    let object = path.to_string();
    let index = ChunkIndex::decode(&object, &bytes)?;
    let range = slice.start..slice.start + slice.len;
    index.expect(&object, partition, &(base..slice.end), &range)?;
    Ok(index)
}

async fn load(m: &Maintenance, path: &ObjectPath, range: Range<u64>) -> Result<Bytes, StoreError> {
    let kind = RequestKind::CompactedGet;
    let read = m.inner.store.get_range(path, range, kind).await;
    read.map(|(bytes, _)| bytes)
}

/// What is wrong with the batch at `offset` of a partition with these slices.
pub(super) fn unreadable(
    partition: TopicPartition,
    slices: &[(Offset, Slice)],
    offset: Offset,
    reason: String,
) -> JobError {
    let at = slices.partition_point(|(_, slice)| slice.end <= offset);
    match slices.get(at) {
        Some((_, slice)) => JobError::Unreadable {
            partition,
            offset,
            object: slice.object,
            reason,
        },
        None => JobError::InputsChanged,
    }
}
