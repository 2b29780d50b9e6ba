//! From an offset to record batches.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::ahead::Soon;
use super::blocks::Blocks;
use super::compacted::Compacted;
use super::error::ReadError;
use super::extents::{BLOCK, Extent, STRETCH, Window};
use super::walk::Walk;
use crate::segment::{Limits, first_record_at_or_after, largest_timestamp};
use crate::state::{Partition, Slice, State};
use crate::store::Store;
use crate::types::{LogId, Offset, Timestamp, TopicPartition};

/// How long ago a slice of the tail was appended at most.
const RECENT: Duration = Duration::from_secs(60);

/// How many extents one read asks for ahead of their turn.
const MAX_PREFETCH: usize = 32;

/// How many compacted slices are read ahead in, which may be small at the end of a partition.
const MAX_COMPACTED: usize = 8;

/// The most bytes that one batch may decompress to when it is opened.
const MAX_UNCOMPRESSED: usize = 256 << 20;

/// How much to read.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimits {
    /// The most bytes.
    pub max_bytes: usize,
    /// Whether the first batch is returned even if it is larger than `max_bytes` (KIP-74).
    pub at_least_one: bool,
}

/// What a fetch wants of one partition.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The partition's name.
    pub id: TopicPartition,
    /// The partition.
    pub partition: &'a Partition,
    /// From which offset on.
    pub offset: Offset,
    /// How many bytes.
    pub bytes: usize,
}

/// What was found: whole batches, as pieces that follow one another.
#[derive(Debug, Default)]
pub(super) struct Found {
    pieces: Vec<Bytes>,
    bytes: usize,
    /// Batches that had to be copied, the last piece so far.
    copied: BytesMut,
    records: u64,
}

impl Found {
    /// Whether a batch of that size is too much, after `more` bytes that are about to be added.
    pub(super) fn is_full_for(&self, size: usize, more: usize, limits: ReadLimits) -> bool {
        let before = self.bytes + more;
        before + size > limits.max_bytes && !(before == 0 && limits.at_least_one)
    }

    /// How much may be added.
    pub(super) fn space(&self, limits: ReadLimits) -> u64 {
        limits.max_bytes.saturating_sub(self.bytes) as u64
    }

    /// Adds batches that lie in a cache.
    pub(super) fn push(&mut self, piece: Bytes, records: u64) {
        self.count(piece.len(), records);
        self.share(piece);
    }

    /// Where to copy what is not handed out as it lies in a cache. It is to be counted.
    pub(super) fn copied(&mut self) -> &mut BytesMut {
        &mut self.copied
    }

    /// Adds a part of a cache, which is to be counted.
    pub(super) fn share(&mut self, piece: Bytes) {
        self.seal();
        self.pieces.push(piece);
    }

    pub(super) fn count(&mut self, bytes: usize, records: u64) {
        self.bytes += bytes;
        self.records += records;
    }

    fn seal(&mut self) {
        if !self.copied.is_empty() {
            self.pieces.push(std::mem::take(&mut self.copied).freeze());
        }
    }
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

    pub(super) fn store(&self) -> &Store {
        self.blocks.store()
    }

    /// Whole batches of `partition`, from the one that holds `offset` on or the first after it, with their real
    /// offsets, as pieces that follow one another. Empty at the high watermark.
    pub async fn read(
        &self,
        state: &State,
        id: TopicPartition,
        partition: &Partition,
        offset: Offset,
        limits: ReadLimits,
    ) -> Result<Vec<Bytes>, ReadError> {
        // Objects may be many and small: the next are loaded while one is read.
        let log = self.blocks.log();
        let mut ahead = wanted_blocks(log, state, partition, offset, limits.max_bytes);
        let first = ahead.by_ref().take(MAX_PREFETCH);
        self.blocks.prefetch(first, Soon::Next, STRETCH);
        let mut found = Found::default();
        'slices: for (base, slice) in partition.slices_from(offset) {
            self.blocks.prefetch(ahead.next(), Soon::Next, STRETCH);
            let recent = is_recent(state, slice);
            if let Some(compacted) = Compacted::of(&self.blocks, id, base, slice, recent) {
                if compacted.read(offset, limits, &mut found).await? {
                    break 'slices;
                }
                continue;
            }
            let mut walk = Walk::new(&self.blocks, id, base, slice, recent);
            while let Some(batch) = walk.next().await? {
                if batch.end <= offset {
                    continue;
                }
                if found.is_full_for(batch.header.size, 0, limits) {
                    break 'slices;
                }
                walk.hand_out(&batch, &mut found).await?;
            }
        }
        found.seal();
        self.blocks.note_read(found.records, found.bytes);
        Ok(found.pieces)
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
            let recent = is_recent(state, slice);
            if let Some(compacted) = Compacted::of(&self.blocks, id, base, slice, recent) {
                let found = compacted.find_by_time(log_start, target).await?;
                if found.is_some() {
                    return Ok(found);
                }
                continue;
            }
            let mut walk = Walk::new(&self.blocks, id, base, slice, recent);
            while let Some(batch) = walk.next().await? {
                if batch.end <= log_start || batch.header.max_timestamp < target {
                    continue;
                }
                let mut bytes = BytesMut::new();
                walk.copy(&batch, &mut bytes).await?;
                let found = record_by_time(&bytes, batch.base, log_start, target);
                if let Some(found) = found.map_err(|e| walk.corrupt(batch.base, e))? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// The record with the largest timestamp, the first of several, and its timestamp.
    pub async fn find_newest(
        &self,
        state: &State,
        id: TopicPartition,
        partition: &Partition,
    ) -> Result<Option<(Offset, Timestamp)>, ReadError> {
        let log_start = partition.log_start();
        let mut slices = partition.slices_from(log_start).peekable();
        // Of the slice in which the log starts, what the state says is of deleted records as well.
        let cut = slices.next_if(|(base, _)| *base < log_start);
        let mut newest = slices.map(|(_, slice)| slice.max_timestamp).max();
        if let Some((base, slice)) = cut.filter(|(_, slice)| newest < Some(slice.max_timestamp)) {
            newest = newest.max(self.newest_in(state, id, base, slice, log_start).await?);
        }
        match newest {
            Some(newest) => self.find_by_time(state, id, partition, newest).await,
            None => Ok(None),
        }
    }

    /// The largest timestamp of a slice's records from `log_start` on.
    async fn newest_in(
        &self,
        state: &State,
        id: TopicPartition,
        base: Offset,
        slice: &Slice,
        log_start: Offset,
    ) -> Result<Option<Timestamp>, ReadError> {
        let recent = is_recent(state, slice);
        if let Some(compacted) = Compacted::of(&self.blocks, id, base, slice, recent) {
            return compacted.newest_from(log_start).await;
        }
        let mut newest = None;
        let mut walk = Walk::new(&self.blocks, id, base, slice, recent);
        while let Some(batch) = walk.next().await? {
            if batch.end <= log_start {
                continue;
            }
            let mut of_batch = Some(batch.header.max_timestamp);
            if batch.base < log_start {
                let mut bytes = BytesMut::new();
                walk.copy(&batch, &mut bytes).await?;
                of_batch = newest_from(&bytes, batch.base, log_start)
                    .map_err(|e| walk.corrupt(batch.base, e))?;
            }
            newest = newest.max(of_batch);
        }
        Ok(newest)
    }

    /// Asks for what a fetch will want, so that it is loaded side by side, and what lies side by side is by one
    /// request, whichever partitions it is of. If `further`, for what the fetches after it will want too. A reader at
    /// the tail finds all of it cached.
    pub fn read_ahead(&self, state: &State, wanted: &[Wanted<'_>], further: bool) {
        let bytes = wanted.iter().map(|wanted| wanted.bytes as u64).sum();
        let log = self.blocks.log();
        let window = further.then(|| self.blocks.window(wanted.len(), bytes));
        let blocks = |times: usize, more: u64, most| {
            wanted.iter().flat_map(move |wanted| {
                let bytes = wanted
                    .bytes
                    .saturating_mul(times)
                    .saturating_add(more as usize);
                wanted_blocks(log, state, wanted.partition, wanted.offset, bytes).take(most)
            })
        };
        match window {
            None => {
                let now = blocks(1, 0, MAX_PREFETCH);
                self.blocks.prefetch(now, Soon::Next, STRETCH);
            }
            Some(Window { stretch, far }) => {
                let next = blocks(2, 0, MAX_PREFETCH);
                self.blocks.prefetch(next, Soon::Next, stretch);
                let later = blocks(2, far, 2 * MAX_PREFETCH);
                self.blocks.prefetch(later, Soon::Later, stretch);
            }
        }
        for wanted in wanted {
            self.read_ahead_compacted(state, wanted, window);
        }
    }

    /// Where the offset is in a compacted slice is in its index, which may have to be loaded.
    fn read_ahead_compacted(&self, state: &State, wanted: &Wanted<'_>, window: Option<Window>) {
        let Wanted {
            id,
            partition,
            offset,
            bytes,
        } = *wanted;
        let slices = partition.slices_from(offset).take(MAX_COMPACTED);
        let slices: Vec<_> = slices
            .take_while(|(_, slice)| slice.index.is_some())
            .map(|(base, slice)| (base, *slice, is_recent(state, slice)))
            .collect();
        if slices.is_empty() {
            return;
        }
        let blocks = self.blocks.clone();
        self.blocks.spawn(async move {
            let times = if window.is_some() { 2 } else { 1 };
            let mut bytes = (bytes as u64).saturating_mul(times);
            let mut window = window;
            for (base, slice, recent) in slices {
                let Some(compacted) = Compacted::of(&blocks, id, base, &slice, recent) else {
                    continue;
                };
                let left = compacted.read_ahead(offset, bytes, window).await;
                if let Some(window) = &mut window {
                    window.far = window.far.saturating_sub(left.saturating_sub(bytes));
                }
                bytes = bytes.saturating_sub(left);
                if bytes == 0 && window.is_none_or(|window| window.far == 0) {
                    break;
                }
            }
        });
    }
}

/// The first record of a batch that begins at `base`, from `log_start` on, whose timestamp is not before `target`.
pub(super) fn record_by_time(
    batch: &[u8],
    base: Offset,
    log_start: Offset,
    target: Timestamp,
) -> Result<Option<(Offset, Timestamp)>, crate::segment::BatchError> {
    let from = i32::try_from(log_start.since(base)).unwrap_or(i32::MAX);
    let limits = Limits {
        max_uncompressed: MAX_UNCOMPRESSED,
    };
    let found = first_record_at_or_after(batch, target, from, limits)?;
    Ok(found.map(|(delta, timestamp)| {
        let delta = u64::try_from(delta).unwrap_or(0);
        (base.advance(delta), timestamp)
    }))
}

/// The largest timestamp of a batch that begins at `base`, of its records from `log_start` on.
pub(super) fn newest_from(
    batch: &[u8],
    base: Offset,
    log_start: Offset,
) -> Result<Option<Timestamp>, crate::segment::BatchError> {
    let from = i32::try_from(log_start.since(base)).unwrap_or(i32::MAX);
    let limits = Limits {
        max_uncompressed: MAX_UNCOMPRESSED,
    };
    largest_timestamp(batch, from, limits)
}

/// The blocks that a read of `bytes` from `offset` wants, in order. Each is named once for all the slices in a row that
/// lie in it. Compacted slices have chunks instead, which their index tells.
fn wanted_blocks(
    log: LogId,
    state: &State,
    partition: &Partition,
    offset: Offset,
    bytes: usize,
) -> impl Iterator<Item = Extent> {
    let mut before = 0;
    let mut last = None;
    partition
        .slices_from(offset)
        .take_while(move |(_, slice)| {
            let wanted = before <= bytes as u64;
            before += slice.len;
            wanted
        })
        .filter(|(_, slice)| slice.index.is_none())
        .flat_map(move |(_, slice)| {
            let recent = is_recent(state, slice);
            let end = (slice.start + slice.len).div_ceil(BLOCK);
            (slice.start / BLOCK..end)
                .map(move |index| Extent::block(log, slice.object, index, recent))
        })
        .filter(move |extent| last.replace(extent.key()) != Some(extent.key()))
}

/// Whether a slice is of the tail: then its loads must not wait for those of readers who catch up.
fn is_recent(state: &State, slice: &Slice) -> bool {
    slice.appended_at.after(RECENT) >= state.time()
}
