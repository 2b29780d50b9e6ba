//! Extents: the ranges of objects that are loaded and cached as one.

use crate::segment::ChunkIndex;
use crate::state::{ObjectRef, Slice};
use crate::types::LogId;

/// The length of a block in bytes; the last of an object may be shorter.
pub const BLOCK: u64 = 1 << 20;

/// Extents of one object next to each other are loaded by one request if they begin in the same stretch, which has at
/// most this length: a request to a distant store takes tens of milliseconds, however little it asks for, and one that
/// is near spends as much on a request as on a mebibyte.
pub(super) const STRETCH: u64 = 8 << 20;

/// How far ahead of a sequential reader old data is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// How much comes with one request: a power of two.
    pub(super) stretch: u64,
    /// How far beyond the next fetch.
    pub(super) far: u64,
}

impl Window {
    /// For fetches of `bytes` from so many partitions, where `capacity` bytes may be loaded and not read yet. A
    /// partition then has what the next fetch wants of it, on average half of a stretch that is begun, and what is left
    /// of its part of the capacity beyond that: a few requests' worth at most.
    pub(super) fn of(capacity: u64, partitions: usize, bytes: u64) -> Window {
        let next = bytes.saturating_mul(2).min(capacity / 2);
        let share = (capacity - next) / (partitions.max(1) as u64);
        let most = (2 * share).clamp(BLOCK, STRETCH);
        let stretch = 1 << most.ilog2();
        Window {
            stretch,
            far: share.saturating_sub(stretch / 2).min(2 * STRETCH),
        }
    }
}

/// A range of an object that is loaded and cached as one: a block of an object of many partitions, or a chunk of a
/// compacted slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// The log of which the object is: commits of several logs have the same numbers.
    pub(super) log: LogId,
    pub(super) object: ObjectRef,
    pub(super) start: u64,
    pub(super) len: u64,
    /// The checksum of the bytes, of a chunk. The batches of a block have their own.
    pub(super) crc: Option<u32>,
    /// Whether it is of the tail, and goes to the cache and the pool of what is recent.
    pub(super) recent: bool,
}

/// The key of an extent in the caches.
pub(super) type Key = (LogId, ObjectRef, u64);

impl Extent {
    /// The block with this index.
    pub(super) fn block(log: LogId, object: ObjectRef, index: u64, recent: bool) -> Extent {
        Extent {
            log,
            object,
            start: index * BLOCK,
            len: BLOCK,
            crc: None,
            recent,
        }
    }

    /// A chunk of a compacted slice, if there is such a one.
    pub(super) fn chunk(
        log: LogId,
        slice: &Slice,
        index: &ChunkIndex,
        number: usize,
        recent: bool,
    ) -> Option<Extent> {
        let chunk = index.chunks().get(number)?;
        let range = index.range_of(number);
        Some(Extent {
            log,
            object: slice.object,
            start: range.start,
            len: range.end - range.start,
            crc: Some(chunk.crc),
            recent,
        })
    }

    pub(super) fn key(&self) -> Key {
        (self.log, self.object, self.start)
    }

    /// Whether `next` lies right behind this extent.
    pub(super) fn precedes(&self, next: &Extent) -> bool {
        let end = (self.log, self.object, self.start + self.len);
        end == next.key() && self.recent == next.recent
    }

    /// Whether `next` lies right behind this extent and comes with the same request, in stretches of that length.
    pub(super) fn comes_with(&self, next: &Extent, stretch: u64) -> bool {
        self.precedes(next) && self.start / stretch == next.start / stretch
    }
}

/// The chunks of a compacted slice from the one with this number on that begin within `bytes`. The first is among
/// them, if there is one.
pub(super) fn chunks_within(
    log: LogId,
    slice: &Slice,
    index: &ChunkIndex,
    first: usize,
    bytes: u64,
    recent: bool,
) -> Vec<Extent> {
    let from = index.range_of(first).start;
    let chunks = (first..).map_while(|number| Extent::chunk(log, slice, index, number, recent));
    chunks
        .take_while(|extent| extent.start - from <= bytes)
        .collect()
}

/// The same, and those that come with the last of them in stretches of that length.
pub(super) fn stretches_within(
    log: LogId,
    slice: &Slice,
    index: &ChunkIndex,
    first: usize,
    bytes: u64,
    stretch: u64,
    recent: bool,
) -> Vec<Extent> {
    let mut extents = chunks_within(log, slice, index, first, bytes, recent);
    while let Some(last) = extents.last() {
        match Extent::chunk(log, slice, index, first + extents.len(), recent) {
            Some(next) if last.comes_with(&next, stretch) => extents.push(next),
            _ => break,
        }
    }
    extents
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_fewer_partitions_share_the_capacity_the_longer_are_the_requests() {
        let window = |partitions: u64| {
            let window = Window::of(81 * MIB, partitions as usize, partitions * MIB);
            (window.stretch / MIB, window.far / MIB)
        };
        assert_eq!(window(1), (8, 16));
        assert_eq!(window(8), (8, 4));
        assert_eq!(window(16), (4, 1));
        assert_eq!(window(100), (1, 0));
    }

    #[test]
    fn what_partitions_have_ahead_on_average_fits_in_the_capacity_if_anything_does() {
        for (capacity, partitions, bytes) in [
            (8 * MIB, 1, 64 * MIB),
            (63 * MIB, 3, 3 * MIB),
            (63 * MIB, 20, 55 * MIB),
            (63 * MIB, 63, 0),
        ] {
            let Window { stretch, far } = Window::of(capacity, partitions, bytes);
            assert!(stretch.is_power_of_two() && (BLOCK..=STRETCH).contains(&stretch));
            let next = (2 * bytes).min(capacity / 2);
            let ahead = next + partitions as u64 * (stretch / 2 + far);
            assert!(ahead <= capacity, "{ahead} of {capacity} for {partitions}");
        }
        let none = Window::of(0, 0, 0);
        assert_eq!((none.stretch, none.far), (BLOCK, 0));
    }
}
