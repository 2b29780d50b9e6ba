//! Reading a compacted slice: its index says where to begin, and what lies there is handed out as it is.
//!
//! Each chunk was checked as a whole when it was loaded, offsets included, so nothing is patched and nothing is copied
//! that is large: what is handed out is a part of the chunk in the cache.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::ahead::Soon;
use super::blocks::Blocks;
use super::error::ReadError;
use super::extents::{Extent, STRETCH, Window, chunks_within, stretches_within};
use super::reader::{Found, ReadLimits, newest_from, record_by_time};
use crate::segment::{BatchError, BatchRef, Batches, ChunkIndex};
use crate::state::{Slice, SliceIndex};
use crate::types::{Offset, Timestamp, TopicPartition};

/// A compacted slice to read from.
pub(super) struct Compacted<'a> {
    blocks: &'a Blocks,
    id: TopicPartition,
    base: Offset,
    slice: &'a Slice,
    index: SliceIndex,
    recent: bool,
}

impl<'a> Compacted<'a> {
    /// The slice, if it is compacted.
    pub(super) fn of(
        blocks: &'a Blocks,
        id: TopicPartition,
        base: Offset,
        slice: &'a Slice,
        recent: bool,
    ) -> Option<Compacted<'a>> {
        let index = slice.index?;
        Some(Compacted {
            blocks,
            id,
            base,
            slice,
            index,
            recent,
        })
    }

    /// Adds what there is from `offset` on. Returns whether it was more than the limits allow.
    pub(super) async fn read(
        &self,
        offset: Offset,
        limits: ReadLimits,
        found: &mut Found,
    ) -> Result<bool, ReadError> {
        if self.slice.len == 0 {
            return Ok(false);
        }
        let index = self.index().await?;
        let first = index.chunk_at(offset);
        // All of the first may be before the offset.
        let skipped = index.range_of(first);
        let wanted = found.space(limits) + (skipped.end - skipped.start);
        let extents = chunks_within(
            self.blocks.log(),
            self.slice,
            &index,
            first,
            wanted,
            self.recent,
        );
        for (number, extent) in (first..).zip(&extents) {
            let chunk = self.chunk(&extents, extent).await?;
            let (mut piece, mut records, mut full): (Option<Range<usize>>, _, _) = (None, 0, false);
            for batch in self.batches(&index, number, &chunk) {
                let batch = batch?;
                if batch.header.next_offset() <= offset {
                    continue;
                }
                let before = piece.as_ref().map_or(0, Range::len);
                full = found.is_full_for(batch.range.len(), before, limits);
                if full {
                    break;
                }
                piece.get_or_insert(batch.range.start..0).end = batch.range.end;
                records += u64::try_from(batch.header.record_count).unwrap_or(0);
            }
            if let Some(piece) = piece {
                found.push(cut(&chunk, piece), records);
            }
            if full {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The first record from `log_start` on whose timestamp is not before `target`.
    pub(super) async fn find_by_time(
        &self,
        log_start: Offset,
        target: Timestamp,
    ) -> Result<Option<(Offset, Timestamp)>, ReadError> {
        if self.slice.len == 0 {
            return Ok(None);
        }
        let index = self.index().await?;
        let first = index.chunk_at(log_start);
        let later = index.chunks().iter().enumerate().skip(first);
        for (number, _) in later.filter(|(_, chunk)| chunk.max_timestamp >= target) {
            let Some(extent) =
                Extent::chunk(self.blocks.log(), self.slice, &index, number, self.recent)
            else {
                break;
            };
            let chunk = self.chunk(&[], &extent).await?;
            for batch in self.batches(&index, number, &chunk) {
                let batch = batch?;
                let (header, base) = (&batch.header, batch.header.base_offset);
                if header.next_offset() <= log_start || header.max_timestamp < target {
                    continue;
                }
                let bytes = batch.slice(&chunk);
                let record = record_by_time(&bytes, base, log_start, target);
                if let Some(record) = record.map_err(|e| self.corrupt(base, e))? {
                    return Ok(Some(record));
                }
            }
        }
        Ok(None)
    }

    /// The largest timestamp of the records from `log_start` on.
    pub(super) async fn newest_from(
        &self,
        log_start: Offset,
    ) -> Result<Option<Timestamp>, ReadError> {
        if self.slice.len == 0 {
            return Ok(None);
        }
        let index = self.index().await?;
        let first = index.chunk_at(log_start);
        let later = index.chunks().iter().skip(first + 1);
        let mut newest = later.map(|chunk| chunk.max_timestamp).max();
        let Some(extent) = Extent::chunk(self.blocks.log(), self.slice, &index, first, self.recent)
        else {
            return Ok(newest);
        };
        let chunk = self.chunk(&[], &extent).await?;
        for batch in self.batches(&index, first, &chunk) {
            let batch = batch?;
            let (header, base) = (&batch.header, batch.header.base_offset);
            if header.next_offset() <= log_start {
                continue;
            }
            let of_batch = match base < log_start {
                true => newest_from(&batch.slice(&chunk), base, log_start)
                    .map_err(|e| self.corrupt(base, e))?,
                false => Some(header.max_timestamp),
            };
            newest = newest.max(of_batch);
        }
        Ok(newest)
    }

    /// Asks for the chunks from `offset` on: for `bytes` soon, and with a window for the rest of their stretches and
    /// what is beyond. Returns how many bytes the slice has from there on.
    pub(super) async fn read_ahead(
        &self,
        offset: Offset,
        bytes: u64,
        window: Option<Window>,
    ) -> u64 {
        if self.slice.len == 0 {
            return 0;
        }
        // Who reads meets the error, if it lasts.
        let Ok(index) = self.index().await else {
            return u64::MAX;
        };
        let first = index.chunk_at(offset);
        let (log, slice, recent) = (self.blocks.log(), self.slice, self.recent);
        let Some(Window { stretch, far }) = window else {
            if bytes > 0 {
                // What is waited for alone: it is here sooner.
                let now = chunks_within(log, slice, &index, first, bytes, recent);
                self.blocks.prefetch(now, Soon::Next, STRETCH);
            }
            return index.range.end - index.range_of(first).start;
        };
        let extents = |bytes| match bytes {
            0 => Vec::new(),
            bytes => stretches_within(log, slice, &index, first, bytes, stretch, recent),
        };
        let (soon, later) = (extents(bytes), extents(bytes.saturating_add(far)));
        let later = later.into_iter().skip(soon.len());
        self.blocks.prefetch(soon, Soon::Next, stretch);
        self.blocks.prefetch(later, Soon::Later, stretch);
        index.range.end - index.range_of(first).start
    }

    async fn index(&self) -> Result<Arc<ChunkIndex>, ReadError> {
        let index = self
            .blocks
            .index(self.id, self.base, self.slice, self.index, self.recent);
        index
            .await
            .map_err(|error| error.reading(self.id, self.base))
    }

    /// The bytes of a chunk; those of `extents` that follow it will be wanted next.
    async fn chunk(&self, extents: &[Extent], extent: &Extent) -> Result<Bytes, ReadError> {
        let after = extents.partition_point(|other| other.start <= extent.start);
        let next = extents.get(after..).unwrap_or_default();
        let chunk = self.blocks.get(*extent, next).await;
        let chunk = chunk.map_err(|error| error.reading(self.id, self.base))?;
        Ok(chunk.into_bytes())
    }

    /// The batches of a chunk, each where it belongs: within the slice's offsets and after the one before.
    fn batches<'b>(
        &'b self,
        index: &ChunkIndex,
        number: usize,
        chunk: &'b Bytes,
    ) -> impl Iterator<Item = Result<BatchRef, ReadError>> + 'b {
        let begins = |number: usize| index.chunks().get(number).map(|chunk| chunk.offset);
        let mut least = begins(number).unwrap_or(self.base);
        let end = begins(number + 1).unwrap_or(self.slice.end);
        Batches::new(chunk).map(move |batch| {
            let placed = batch.and_then(|batch| {
                batch.header.check_offsets(&(least..end))?;
                Ok(batch)
            });
            let batch = placed.map_err(|error| self.corrupt(least, error))?;
            least = batch.header.next_offset();
            Ok(batch)
        })
    }

    fn corrupt(&self, offset: Offset, source: BatchError) -> ReadError {
        ReadError::Corrupt {
            partition: self.id,
            offset,
            object: self.slice.object,
            source,
        }
    }
}

/// A part of a chunk to hand out: the chunk's own memory if that is most of it, else a copy. So nobody who is slow to
/// take a small answer holds much more than it in memory.
fn cut(chunk: &Bytes, piece: Range<usize>) -> Bytes {
    if piece.len() >= chunk.len() / 2 {
        chunk.slice(piece)
    } else {
        Bytes::copy_from_slice(chunk.get(piece).unwrap_or_default())
    }
}
