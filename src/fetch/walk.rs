//! A walk over the batches of a slice that is not compacted: one after the other, for they have no index, with the
//! offsets that the fold gave them.

use bytes::{Bytes, BytesMut};

use super::blocks::Blocks;
use super::error::ReadError;
use super::places::{BLOCK, Place};
use crate::mutants::{self, Mutant};
use crate::segment::{BATCH_HEADER_LEN, BatchError, BatchHeader, LEADER_EPOCH, patch};
use crate::state::Slice;
use crate::types::{Offset, TopicPartition};

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
    block: Option<(u64, Bytes)>,
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
            .and_then(|()| match mutants::on(Mutant::OffsetsNotPatched) {
                true => Ok(()),
                false => patch(copied, batch.base, LEADER_EPOCH),
            })
            .map_err(|error| self.corrupt(batch.base, error))
    }

    /// Appends `len` bytes of the object from `at` to `bytes`.
    async fn append(&mut self, at: u64, len: u64, bytes: &mut BytesMut) -> Result<(), ReadError> {
        let end = at + len;
        let mut at = at;
        while at < end {
            let index = at / BLOCK;
            let block = match &self.block {
                Some((known, block)) if *known == index => block,
                _ => {
                    let place = Place::block(self.slice.object, index, self.recent);
                    let block = self.blocks.get(place, &[]).await;
                    let block = block.map_err(|e| e.reading(self.id, self.next))?;
                    &self.block.insert((index, block)).1
                }
            };
            let from = (at % BLOCK) as usize;
            let to = (end - index * BLOCK).min(BLOCK) as usize;
            let Some(part) = block
                .get(from..to.min(block.len()))
                .filter(|part| !part.is_empty())
            else {
                // The object ends before the slice does.
                let (needed, found) = (to, block.len());
                return Err(self.corrupt(self.next, BatchError::Truncated { needed, found }));
            };
            bytes.extend_from_slice(part);
            at += part.len() as u64;
        }
        Ok(())
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
