//! From an offset to record batches.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::blocks::{BLOCK, Blocks};
use crate::mutants::{self, Mutant};
use crate::segment::{
    BATCH_HEADER_LEN, BatchError, BatchHeader, Limits, first_record_at_or_after, patch,
};
use crate::state::{ObjectRef, Partition, Slice, State};
use crate::store::StoreError;
use crate::types::{Offset, Timestamp, TopicPartition};

/// The leader epoch of every batch: leaders do not change, for there are none.
const LEADER_EPOCH: i32 = 0;

/// How long ago a slice of the tail was appended at most.
const RECENT: Duration = Duration::from_secs(60);

/// How many blocks one read asks for ahead of their turn.
const MAX_PREFETCH: usize = 32;

/// The most bytes that one batch may decompress to when it is opened.
const MAX_UNCOMPRESSED: usize = 256 << 20;

/// Why records could not be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The store failed. Not found means that the reader's state is old: refresh it and ask again.
    #[error(transparent)]
    Store(#[from] Arc<StoreError>),
    /// The bytes are not what the state says.
    #[error("{partition} at offset {offset}, in {object:?}: {source}")]
    Corrupt {
        /// The partition.
        partition: TopicPartition,
        /// The offset at which reading failed.
        offset: Offset,
        /// The object.
        object: ObjectRef,
        /// What is wrong.
        source: BatchError,
    },
}

impl ReadError {
    /// Whether an object was not there: the state is to be refreshed.
    pub fn is_missing_object(&self) -> bool {
        matches!(self, ReadError::Store(error) if error.is_not_found())
    }
}

/// How much to read.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimits {
    /// The most bytes.
    pub max_bytes: usize,
    /// Whether the first batch is returned even if it is larger than `max_bytes` (KIP-74).
    pub at_least_one: bool,
}

/// Reads record batches. Cheap to clone.
#[derive(Clone)]
pub struct Reader {
    blocks: Blocks,
}

impl Reader {
    /// A reader through `blocks`.
    pub fn new(blocks: Blocks) -> Reader {
        Reader { blocks }
    }

    /// Whole batches of `partition`, from the one that holds `offset` on, with their real offsets. Empty at the
    /// high watermark.
    pub async fn read(
        &self,
        state: &State,
        id: TopicPartition,
        partition: &Partition,
        offset: Offset,
        limits: ReadLimits,
    ) -> Result<Bytes, ReadError> {
        // Objects may be many and small: the next are loaded while one is read.
        let mut ahead = wanted_blocks(state, partition, offset, limits.max_bytes);
        for (object, index, recent) in ahead.by_ref().take(MAX_PREFETCH) {
            self.blocks.prefetch(object, index, recent);
        }
        let mut records = BytesMut::new();
        let mut count = 0;
        'slices: for (base, slice) in partition.slices_from(offset) {
            if let Some((object, index, recent)) = ahead.next() {
                self.blocks.prefetch(object, index, recent);
            }
            let mut walk = Walk::new(self, state, id, base, slice);
            while let Some(batch) = walk.next().await? {
                if batch.end <= offset {
                    continue;
                }
                let over = records.len() + batch.header.size > limits.max_bytes;
                if over && !(records.is_empty() && limits.at_least_one) {
                    break 'slices;
                }
                walk.copy(&batch, &mut records).await?;
                count += batch.end.since(batch.base);
            }
        }
        self.blocks.note_read(count, records.len());
        Ok(records.freeze())
    }

    /// The first record, in offset order, whose timestamp is not before `target`, and its timestamp.
    pub async fn find_by_time(
        &self,
        state: &State,
        id: TopicPartition,
        partition: &Partition,
        target: Timestamp,
    ) -> Result<Option<(Offset, Timestamp)>, ReadError> {
        let log_start = partition.log_start();
        let slices = partition.slices_from(log_start);
        for (base, slice) in slices.filter(|(_, slice)| slice.max_timestamp >= target) {
            let mut walk = Walk::new(self, state, id, base, slice);
            while let Some(batch) = walk.next().await? {
                if batch.end <= log_start || batch.header.max_timestamp < target {
                    continue;
                }
                let mut bytes = BytesMut::new();
                walk.copy(&batch, &mut bytes).await?;
                let from = i32::try_from(log_start.since(batch.base)).unwrap_or(i32::MAX);
                let limits = Limits {
                    max_uncompressed: MAX_UNCOMPRESSED,
                };
                let found = first_record_at_or_after(&bytes.freeze(), target, from, limits);
                if let Some((delta, timestamp)) = found.map_err(|e| walk.corrupt(batch.base, e))? {
                    let delta = u64::try_from(delta).unwrap_or(0);
                    return Ok(Some((batch.base.advance(delta), timestamp)));
                }
            }
        }
        Ok(None)
    }

    /// Asks for the blocks that a read of `bytes` from `offset` will want, so that they are loaded side by side.
    /// A reader at the tail finds all of them cached.
    pub fn read_ahead(&self, state: &State, partition: &Partition, offset: Offset, bytes: usize) {
        let blocks = wanted_blocks(state, partition, offset, bytes);
        for (object, index, recent) in blocks.take(MAX_PREFETCH) {
            self.blocks.prefetch(object, index, recent);
        }
    }
}

/// The blocks that a read of `bytes` from `offset` wants, in order, and whether they are recent. Each is named
/// once for all the slices in a row that lie in it.
fn wanted_blocks(
    state: &State,
    partition: &Partition,
    offset: Offset,
    bytes: usize,
) -> impl Iterator<Item = (ObjectRef, u64, bool)> {
    let mut before = 0;
    let mut last = None;
    partition
        .slices_from(offset)
        .take_while(move |(_, slice)| {
            let wanted = before <= bytes as u64;
            before += slice.len;
            wanted
        })
        .flat_map(move |(_, slice)| {
            let recent = is_recent(state, slice);
            let end = (slice.start + slice.len).div_ceil(BLOCK);
            (slice.start / BLOCK..end).map(move |index| (slice.object, index, recent))
        })
        .filter(move |(object, index, _)| {
            last.replace((*object, *index)) != Some((*object, *index))
        })
}

/// Whether a slice is of the tail: then its loads must not wait for those of readers who catch up.
fn is_recent(state: &State, slice: &Slice) -> bool {
    slice.appended_at.after(RECENT) >= state.time()
}

/// A walk over the batches of one slice.
struct Walk<'a> {
    reader: &'a Reader,
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
struct FoundBatch {
    header: BatchHeader,
    at: u64,
    base: Offset,
    end: Offset,
}

impl<'a> Walk<'a> {
    fn new(
        reader: &'a Reader,
        state: &State,
        id: TopicPartition,
        base: Offset,
        slice: &'a Slice,
    ) -> Walk<'a> {
        let recent = is_recent(state, slice);
        Walk {
            reader,
            id,
            slice,
            recent,
            at: slice.start,
            next: base,
            block: None,
        }
    }

    /// The next batch's header, or `None` behind the last.
    async fn next(&mut self) -> Result<Option<FoundBatch>, ReadError> {
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
    async fn copy(&mut self, batch: &FoundBatch, records: &mut BytesMut) -> Result<(), ReadError> {
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
                    let blocks = &self.reader.blocks;
                    let block = blocks.get(self.slice.object, index, self.recent).await?;
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

    fn corrupt(&self, offset: Offset, source: BatchError) -> ReadError {
        ReadError::Corrupt {
            partition: self.id,
            offset,
            object: self.slice.object,
            source,
        }
    }
}
