//! A walk over the batches of a slice that is not compacted: one after the other, for they have no index, with the
//! offsets that the fold gave them.

use bytes::{Bytes, BytesMut};

use super::block::Block;
use super::blocks::Blocks;
use super::error::ReadError;
use super::extents::{BLOCK, Extent};
use super::reader::Found;
use crate::rules::{Rule, holds};
use crate::segment::{BATCH_HEADER_LEN, BatchError, BatchHeader, LEADER_EPOCH, patch};
use crate::state::Slice;
use crate::types::{Offset, TopicPartition};

/// A part of a block that is at least so long is handed out as it lies in the cache, and a shorter one copied.
const SHARED: usize = BLOCK as usize / 2;

/// A walk over the batches of one slice.
pub(super) struct Walk<'a> {
    blocks: &'a Blocks,
    id: TopicPartition,
    slice: &'a Slice,
    recent: bool,
    /// The position in the object and the offset of the next batch.
    at: u64,
    next: Offset,
    /// The block last read, since most batches lie in the same as the one before.
    block: Option<(u64, Block)>,
}

/// A batch of a slice.
pub(super) struct FoundBatch {
    pub(super) header: BatchHeader,
    at: u64,
    pub(super) base: Offset,
    pub(super) end: Offset,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        blocks: &'a Blocks,
        id: TopicPartition,
        base: Offset,
        slice: &'a Slice,
        recent: bool,
    ) -> Walk<'a> {
        Walk {
            blocks,
            id,
            slice,
            recent,
            at: slice.start,
            next: base,
            block: None,
        }
    }

    /// The next batch's header, or `None` behind the last.
    pub(super) async fn next(&mut self) -> Result<Option<FoundBatch>, ReadError> {
        let left = self.slice.start + self.slice.len - self.at;
        if left == 0 {
            return Ok(None);
        }
        let (at, base) = (self.at, self.next);
        let mut head = BytesMut::with_capacity(BATCH_HEADER_LEN);
        self.append(at, (BATCH_HEADER_LEN as u64).min(left), &mut head)
            .await?;
        let header = BatchHeader::parse(&head).map_err(|e| self.corrupt(base, e))?;
        let size = header.size as u64;
        if size > left {
            let found = usize::try_from(left).unwrap_or(usize::MAX);
            let error = BatchError::Truncated {
                needed: header.size,
                found,
            };
            return Err(self.corrupt(base, error));
        }
        let end = base.advance(u64::try_from(header.last_offset_delta).unwrap_or(0) + 1);
        self.at += size;
        self.next = end;
        Ok(Some(FoundBatch {
            header,
            at,
            base,
            end,
        }))
    }

    /// Adds the batch to what was found, checked and with its real offset. Of a large one only the header is copied,
    /// which gets the offset, and what is short: so nobody who is slow to take an answer holds much more than it in
    /// memory.
    pub(super) async fn hand_out(
        &mut self,
        batch: &FoundBatch,
        found: &mut Found,
    ) -> Result<(), ReadError> {
        let (size, records) = (batch.header.size, batch.end.since(batch.base));
        if size < BATCH_HEADER_LEN + SHARED {
            self.copy(batch, found.copied()).await?;
            found.count(size, records);
            return Ok(());
        }
        let mut head = BytesMut::with_capacity(BATCH_HEADER_LEN);
        self.append(batch.at, BATCH_HEADER_LEN as u64, &mut head)
            .await?;
        let mut parts = Vec::new();
        let (mut at, end) = (
            batch.at + BATCH_HEADER_LEN as u64,
            batch.at + batch.header.size as u64,
        );
        while at < end {
            let part = self.part(at, end).await?;
            at += part.len() as u64;
            parts.push(part);
        }
        batch
            .header
            .check_crc_of_pieces(&head, parts.iter().map(|part| &part[..]))
            .and_then(|()| set_base(&mut head, batch.base))
            .map_err(|error| self.corrupt(batch.base, error))?;
        found.copied().extend_from_slice(&head);
        for part in parts {
            if part.len() >= SHARED {
                found.share(part);
            } else {
                found.copied().extend_from_slice(&part);
            }
        }
        found.count(size, records);
        Ok(())
    }

    /// Appends the batch to `records`, checked and with its real offset.
    pub(super) async fn copy(
        &mut self,
        batch: &FoundBatch,
        records: &mut BytesMut,
    ) -> Result<(), ReadError> {
        let start = records.len();
        records.reserve(batch.header.size);
        self.append(batch.at, batch.header.size as u64, records)
            .await?;
        let copied = records.get_mut(start..).unwrap_or_default();
        batch
            .header
            .check_crc(copied)
            .and_then(|()| set_base(copied, batch.base))
            .map_err(|error| self.corrupt(batch.base, error))
    }

    /// Appends `len` bytes of the object from `at` to `bytes`.
    async fn append(&mut self, at: u64, len: u64, bytes: &mut BytesMut) -> Result<(), ReadError> {
        let end = at + len;
        let mut at = at;
        while at < end {
            let part = self.part(at, end).await?;
            bytes.extend_from_slice(&part);
            at += part.len() as u64;
        }
        Ok(())
    }

    /// What one piece of a block has of the object's bytes from `at` to `end`: one byte at least.
    async fn part(&mut self, at: u64, end: u64) -> Result<Bytes, ReadError> {
        let index = at / BLOCK;
        let block = match &self.block {
            Some((known, block)) if *known == index => block,
            _ => {
                let extent =
                    Extent::block(self.blocks.log(), self.slice.object, index, self.recent);
                let block = self.blocks.get(extent, &[]).await;
                let block = block.map_err(|e| e.reading(self.id, self.next))?;
                &self.block.insert((index, block)).1
            }
        };
        let from = (at % BLOCK) as usize;
        let to = (end - index * BLOCK).min(BLOCK) as usize;
        let part = block.part(from, to);
        if part.is_empty() {
            // The object ends before the slice does.
            let (needed, found) = (to, block.len());
            return Err(self.corrupt(self.next, BatchError::Truncated { needed, found }));
        }
        Ok(part)
    }

    pub(super) fn corrupt(&self, offset: Offset, source: BatchError) -> ReadError {
        ReadError::Corrupt {
            partition: self.id,
            offset,
            object: self.slice.object,
            source,
        }
    }
}

/// Writes its real offset in a batch.
fn set_base(batch: &mut [u8], base: Offset) -> Result<(), BatchError> {
    if !holds(Rule::RealOffsetsAreServed) {
        return Ok(());
    }
    patch(batch, base, LEADER_EPOCH)
}
