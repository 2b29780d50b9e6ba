//! The batches of slices, read past the cache: they are read once, and must not push out what readers want.

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::{self, BoxStream};

use super::error::CleaningError;
use crate::segment::{BATCH_HEADER_LEN, BatchError, BatchHeader};
use crate::state::{ObjectRef, Slice};
use crate::store::{ObjectPath, RequestKind, Store, StoreError};
use crate::types::{Offset, TopicPartition};

/// How many bytes one request reads.
const PIECE: u64 = 2 << 20;

/// How many requests are under way at once: slices may be many and small.
const AT_ONCE: usize = 8;

/// A whole batch and the offset of its first record.
pub struct Batch {
    /// The offset of its first record.
    pub base: Offset,
    /// Its bytes, whose checksum is right.
    pub bytes: Bytes,
}

/// Reads slices from the first to the last.
pub struct Input<'a> {
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
    pub fn new(
        store: &'a Store,
        partition: TopicPartition,
        slices: &'a [(Offset, Slice)],
    ) -> Input<'a> {
        let ranges = slices.iter().flat_map(|(_, slice)| {
            let end = slice.start + slice.len;
            (slice.start..end)
                .step_by(PIECE as usize)
                .map(move |start| (slice.object, start..end.min(start + PIECE)))
        });
        let load = move |(object, range)| async move {
            let path = match object {
                ObjectRef::Commit(seq) => ObjectPath::commit(seq),
                ObjectRef::Segment(id) => ObjectPath::segment(id),
            };
            let kind = RequestKind::SegmentGet;
            store
                .get_range(&path, range, kind)
                .await
                .map(|(bytes, _)| bytes)
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
    pub async fn next(&mut self) -> Result<Option<Vec<Batch>>, CleaningError> {
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
                Some(piece) => piece?,
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
    fn take(&mut self, slice: &Slice) -> Result<Option<Batch>, CleaningError> {
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
            return Err(self.corrupt(BatchError::BaseOffset { found: base }));
        }
        self.next = placed.next_offset();
        let bytes = self.rest.split_to(header.size).freeze();
        Ok(Some(Batch { base, bytes }))
    }

    fn truncated(&self) -> CleaningError {
        let len = self.slices.get(self.slice).map_or(0, |(_, s)| s.len);
        let whole = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
        self.corrupt(BatchError::Truncated {
            needed: whole(len),
            found: whole(self.loaded),
        })
    }

    fn corrupt(&self, source: BatchError) -> CleaningError {
        CleaningError::Corrupt {
            partition: self.partition,
            offset: self.next,
            object: self.slices.get(self.slice).map(|(_, slice)| slice.object),
            source,
        }
    }
}
