//! The compaction of segments: many slices of mixed objects become few of large, compacted segments.
//!
//! 1. [`plan`] says what is worth rewriting of a partition; nothing of it asks the store.
//! 2. Partitions are rewritten **together** where there is little of each: a commit holds records of many partitions,
//!    side by side in their order, so what neighbours need of it comes with one request. As much as fits in memory
//!    makes one job, and its output is one segment. A partition with more is a job of its own, read and written as a
//!    stream.
//! 3. The partitions are claimed, and planned again with the state that has the claims.
//! 4. The inputs are read from the store in order (not through the cache of consumers), every batch is checked, and
//!    goes with its real offset into the segment, which is uploaded as it grows.
//! 5. One op for each partition puts the new slices in the place of the old. The fold accepts it only if those are
//!    still there. If it refuses all, the segment is nobody's and is deleted at once; if what it said is not known, the
//!    segment is left to the sweep.
//!
//! Records that are damaged or missing are never dropped: the job fails, an error names partition, offset and object,
//! and that partition is left alone for an hour while the others go on.
//!
//! Compaction is low in rank: it is bounded in memory, in requests and in bytes per second, and steps back while
//! producers fill the buffer.

mod job;
pub(super) mod policy;
mod read;
mod write;

#[cfg(test)]
mod tests;

pub use job::run;
pub use policy::{Output, Plan, Terms, plan};

pub(super) use job::Compacting;
pub(super) use read::{Input, WINDOW, read};
