//! Where the records of a partition lie.

use minicbor::{Decode, Encode};
use serde::Serialize;

use crate::state::ObjectRef;
use crate::types::{Offset, Timestamp};

/// A slice grows by later batches of the same object up to this length, so that one read of a slice stays
/// bounded.
const MAX_SLICE_LEN: u64 = 8 << 20;

/// A byte range of an object that holds consecutive batches of one partition. In the state it is keyed by
/// the offset of its first record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Slice {
    /// The offset after its last record.
    #[n(0)]
    pub end: Offset,
    /// The object.
    #[n(1)]
    pub object: ObjectRef,
    /// The position of its first byte in the object.
    #[n(2)]
    pub start: u64,
    /// Its length in bytes.
    #[n(3)]
    pub len: u64,
    /// The largest timestamp of its records.
    #[n(4)]
    pub max_timestamp: Timestamp,
    /// The time in the fold when its first batch was appended.
    #[n(5)]
    pub appended_at: Timestamp,
    /// Of a compacted slice: where its index is. The batches of a compacted slice carry their real offsets, which
    /// may have gaps; those of any other follow one another without a gap and carry whatever the producer wrote.
    /// A compacted slice may be empty (`len` 0): all its records were superseded.
    #[n(6)]
    pub index: Option<SliceIndex>,
}

/// Where the index of a compacted slice is, in the same object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct SliceIndex {
    /// The position of its first byte.
    #[n(0)]
    pub start: u64,
    /// Its length in bytes.
    #[n(1)]
    pub len: u32,
}

impl Slice {
    /// Whether a batch of `len` bytes at `start` of `object` lies right behind this slice.
    pub(super) fn continues_at(&self, object: ObjectRef, start: u64, len: u32) -> bool {
        self.index.is_none()
            && self.object == object
            && self.start.checked_add(self.len) == Some(start)
            && self.len + u64::from(len) <= MAX_SLICE_LEN
    }
}
