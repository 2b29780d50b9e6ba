//! The batches of slices, read past the cache: they are read once, and must not push out what readers want.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use super::super::desk::Maintenance;
use super::super::error::JobError;
use crate::segment::{BATCH_HEADER_LEN, BatchError, BatchHeader};
use crate::state::{ObjectRef, Slice};
use crate::store::{ObjectPath, RequestKind, StoreError};
use crate::types::{Offset, TopicPartition};

/// How many bytes one request reads.
const PIECE: u64 = 2 << 20;

/// How many requests are under way at once: slices may be many and small.
const AT_ONCE: usize = 8;

/// A whole batch and the offset of its first record.
pub(super) struct Batch {
    /// The offset of its first record.
    pub(super) base: Offset,
    /// Its bytes, whose checksum is right.
    pub(super) bytes: Bytes,
}

/// Reads slices from the first to the last.
pub(super) struct Input<'a> {
    partition: TopicPartition,
    slices: &'a [(Offset, Slice)],
    /// The bytes of all slices, in order; no piece is of two.
    pieces: BoxStream<'a, Result<Bytes, StoreError>>,
    /// The slice that is being read, and how many of its bytes came.
    slice: usize,
    loaded: u64,
    /// What of it is not handed out: the beginning of a batch.
    rest: BytesMut,
    /// The least offset of the next batch.
    next: Offset,
}

impl<'a> Input<'a> {
    /// Of these slices of a partition, by their base offsets.
    pub(super) fn new(
        m: &'a Maintenance,
        partition: TopicPartition,
        slices: &'a [(Offset, Slice)],
    ) -> Input<'a> {
        let ranges = slices.iter().flat_map(|(_, slice)| {
            let end = slice.start + slice.len;
            (slice.start..end)
                .step_by(PIECE as usize)
                .map(move |start| (slice.object, start..end.min(start + PIECE)))
        });
        let load = move |(object, range): (ObjectRef, Range<u64>)| async move {
            m.give_way().await;
            m.pace(range.end - range.start).await;
            let path = match object {
                ObjectRef::Commit(seq) => ObjectPath::commit(seq),
                ObjectRef::Segment(id) => ObjectPath::segment(id),
            };
            let kind = RequestKind::CompactedGet;
            let read = m.inner.store.get_range(&path, range, kind).await;
            read.map(|(bytes, _)| bytes)
        };
        Input {
            partition,
            slices,
            pieces: stream::iter(ranges).map(load).buffered(AT_ONCE).boxed(),
            slice: 0,
            loaded: 0,
            rest: BytesMut::new(),
            next: slices.first().map_or(Offset::ZERO, |(base, _)| *base),
        }
    }

    /// The next batches of the slice that is being read: as many as a request or two bring. `None` at its end; after
    /// that comes the next slice.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Batch>>, JobError> {
        let Some((_, slice)) = self.slices.get(self.slice) else {
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
                self.next = slice.end;
                return Ok(None);
            }
            let piece = match self.pieces.next().await {
                Some(Ok(piece)) => piece,
                Some(Err(error)) if error.is_not_found() => {
                    return Err(self.unreadable("it is missing".to_owned()));
                }
                Some(Err(error)) => return Err(error.into()),
                None => return Err(self.truncated()),
            };
            if piece.len() as u64 != PIECE.min(slice.len - self.loaded) {
                return Err(self.truncated());
            }
            self.loaded += piece.len() as u64;
            self.rest.extend_from_slice(&piece);
            while let Some(batch) = self.take(slice)? {
                batches.push(batch);
            }
        }
        Ok(Some(batches))
    }

    /// The next batch, if it is there as a whole.
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
        // A compacted slice has gaps, and its batches say where they are; any other has none.
        let base = match slice.index {
            Some(_) => header.base_offset,
            None => self.next,
        };
        let placed = BatchHeader {
            base_offset: base,
            ..header
        };
        if base < self.next || placed.next_offset() > slice.end {
            let (end, most) = (placed.next_offset(), slice.end);
            return Err(self.corrupt(BatchError::Misplaced {
                found: base,
                end,
                least: self.next,
                most,
            }));
        }
        self.next = placed.next_offset();
        let bytes = self.rest.split_to(header.size).freeze();
        Ok(Some(Batch { base, bytes }))
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
        unreadable(self.partition, self.slices, self.next, reason)
    }
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
