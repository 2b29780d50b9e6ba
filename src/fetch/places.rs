//! What of an object is loaded and cached as one.

use crate::segment::ChunkIndex;
use crate::state::{ObjectRef, Slice};

/// The length of a block in bytes; the last of an object may be shorter.
pub const BLOCK: u64 = 1 << 20;

/// Places of one object next to each other are loaded by one request if they begin in the same stretch of this length:
/// a request to a distant store takes tens of milliseconds, however little it asks for, and one that is near spends more on
/// a request than on a mebibyte.
const STRETCH: u64 = 4 << 20;

/// A range of an object that is loaded and cached as one: a block of an object of many partitions, or a chunk of a
/// compacted slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) object: ObjectRef,
    pub(super) start: u64,
    pub(super) len: u64,
    /// The checksum of the bytes, of a chunk. The batches of a block have their own.
    pub(super) crc: Option<u32>,
    /// Whether it is of the tail, and goes to the cache and the pool of what is recent.
    pub(super) recent: bool,
}

/// By what a place is known in the caches.
pub(super) type Key = (ObjectRef, u64);

impl Place {
    /// The block with this index.
    pub(super) fn block(object: ObjectRef, index: u64, recent: bool) -> Place {
        Place {
            object,
            start: index * BLOCK,
            len: BLOCK,
            crc: None,
            recent,
        }
    }

    /// A chunk of a compacted slice, if there is such a one.
    pub(super) fn chunk(
        slice: &Slice,
        index: &ChunkIndex,
        number: usize,
        recent: bool,
    ) -> Option<Place> {
        let chunk = index.chunks().get(number)?;
        let range = index.range_of(number);
        Some(Place {
            object: slice.object,
            start: range.start,
            len: range.end - range.start,
            crc: Some(chunk.crc),
            recent,
        })
    }

    pub(super) fn key(&self) -> Key {
        (self.object, self.start)
    }

    /// Whether `next` lies right behind this place.
    pub(super) fn precedes(&self, next: &Place) -> bool {
        (self.object, self.start + self.len, self.recent) == (next.object, next.start, next.recent)
    }

    /// Whether `next` lies right behind this place and comes with the same request.
    pub(super) fn comes_with(&self, next: &Place) -> bool {
        self.precedes(next) && self.start / STRETCH == next.start / STRETCH
    }
}

/// The chunks of a compacted slice from the one with this number on that begin within `bytes`. The first is among
/// them, if there is one.
pub(super) fn chunks_within(
    slice: &Slice,
    index: &ChunkIndex,
    first: usize,
    bytes: u64,
    recent: bool,
) -> Vec<Place> {
    let from = index.range_of(first).start;
    let chunks = (first..).map_while(|number| Place::chunk(slice, index, number, recent));
    chunks
        .take_while(|place| place.start - from <= bytes)
        .collect()
}

/// The same, and those that come with the last of them.
pub(super) fn stretches_within(
    slice: &Slice,
    index: &ChunkIndex,
    first: usize,
    bytes: u64,
    recent: bool,
) -> Vec<Place> {
    let mut places = chunks_within(slice, index, first, bytes, recent);
    while let Some(last) = places.last() {
        match Place::chunk(slice, index, first + places.len(), recent) {
            Some(next) if last.comes_with(&next) => places.push(next),
            _ => break,
        }
    }
    places
}
