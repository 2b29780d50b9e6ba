//! Compaction of the log: of each key of a compacted topic, the last record stays.
//!
//! `cleanup.policy=compact`, as Kafka does it. [`due`] says which partitions are due and how far they may be cleaned.
//! [`clean`] then reads a partition twice: first what was never cleaned, to learn the last offset of each key there
//! (`OffsetMap`); then all of it from the start up to where the map reaches, to write those records that stay
//! (`Rules`) into new compacted segments, which the fold puts in the place of the old slices.
//!
//! It never changes an offset, an order or a record; it never touches what is above the end that the policy gave, and
//! removes nothing that has no later record of the same key, but tombstones whose time has come and records without a
//! key. It is not concerned with idempotent producers: what they wrote last is in the fold.
//!
//! Memory is bounded: by the settings for the map, by a few requests of 2 MiB, and by two parts of the segment that is
//! written. Batches are opened on the threads for blocking work, a request's worth at a time.
//!
//! One partition after the other is cleaned on a node, each under the same claim as the compaction of its segments, so
//! that the two never rewrite a partition at the same time.
//!
//! Every segment that is done is committed by itself, so a crash loses the work on one. A future dropped, or a refusal
//! because the partition or its settings changed, leaves at most a segment that nothing refers to, for the sweep.

mod input;
mod job;
mod lane;
mod offset_map;
mod output;
mod policy;
mod rules;
#[cfg(test)]
mod tests;

pub use job::{Cleaning, clean};
pub use policy::{Due, due};

pub(super) use input::Input;
pub(super) use lane::dirty;
