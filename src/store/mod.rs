//! The object store: the only durable part of Weir, and the only room that names `object_store`.
//!
//! It gives the rooms above create-if-absent, reads, listings and deletes on files, memory, S3, Google and
//! Azure, with every request bounded, timed, counted and, where that is safe, repeated. It knows the names
//! of all durable objects ([`ObjectPath`]) and nothing about what is in them. It never overwrites an object
//! that has been read, never caches, never lists on anybody's behalf but the caller's, and never shows a
//! credential.
//!
//! # Consistency
//! Everything above rests on three promises of the store: an object that was created can be read at once, by
//! everybody; of several creates of one name exactly one succeeds, and its body is the one that stands; a
//! listing shows everything that was created before it. [`check`] tests them, at every start.
//!
//! # Outcomes and retries
//! [`Store::create`] makes **one** attempt. [`Created::Exists`] is only said when the store answered *that*
//! attempt so; whatever else may have reached the store is [`Created::Unknown`], and the caller settles it by
//! reading. A second attempt could meet the object of the first and report a lost race that was won.
//! `object_store`'s own retries are off for the same reason, and so that each attempt is counted.
//! Reads, listings, deletes and [`Store::put_unique`] (names that nobody else can mint) may be repeated
//! whatever became of the attempts before, and are: jittered exponential backoff, until a deadline. A store
//! that is overloaded (503) or gone is [`StoreError::Unavailable`], never fatal. What only a person can
//! change (rights, a missing bucket, a wrong clock) is [`StoreError::Refused`] at once, with what to do.
//! A put that others wait for ([`Store::put_hedged`]) is sent again beside itself while nothing is heard of it; that is
//! bounded (`hedge.rs`).
//!
//! # Answers of others
//! Between a node and its store there may be gateways, portals and proxies that answer in its place. A status proves
//! nothing by itself: that an object does not exist, that it exists, that it was written, that a listing is empty is
//! believed only with the store's own words for it. `answers.rs` says which those are; everything else is temporary.
//!
//! # Large objects
//! [`Store::upload`] writes an object of a unique name in parts of [`PART_LEN`], a few at once. Each part is repeated
//! like a put; an answer to the end of an upload that was lost is settled by the object's length. What is abandoned is
//! aborted, so that no parts stay; only a crash leaves some, which the store's own rules remove.
//!
//! # Cancellation
//! Every future may be dropped at any time. A dropped create or put is an unknown outcome: over HTTP the
//! request may have been applied, and in the file store it goes on to its end in the background. Permits and
//! connections are given back; the attempt is counted as cancelled.
//!
//! # Crash consistency of the file store
//! An object is written beside the others, synced, then linked to its name (which fails if the name exists)
//! or renamed to it, and the directories are synced before the call returns. A name therefore leads to a
//! complete object or to nothing, after a power loss as well, and several processes can share a directory.
//! See `file.rs` for what `object_store`'s own file system leaves open and how readers avoid seeing what is
//! not yet durable.
//!
//! # Bounds
//! At most [`StoreOptions::max_requests`] requests are under way, a quarter of the places being kept for the
//! manifest so that segment traffic cannot hold up a commit; a node that starts has more
//! ([`Store::more_places`]). No object above [`StoreOptions::max_object`] is
//! read as a whole.

mod answers;
mod attempt;
mod aws;
mod backend;
mod body;
pub mod check;
mod client;
mod clock;
mod error;
mod failure;
mod file;
mod hedge;
mod listing;
mod metrics;
mod options;
mod paths;
mod read;
mod read_only;
mod upload;
mod url;
mod watch;
mod wire;

pub use attempt::MorePlaces;
pub use aws::TemporaryAccess;
pub use client::{Created, PutBody, Store};
pub use clock::ClockDifference;
pub use error::{Cause, StoreError};
pub use listing::{Listed, ObjectMeta};
pub use metrics::{Outcome, RequestKind, StoreMetrics};
pub use options::{RetryPolicy, StoreOptions};
pub use paths::{
    ArchiveObject, ObjectKind, ObjectPath, ObjectPrefix, UnknownObject, is_of_another_log,
};
pub use upload::{PART_LEN, Upload};
pub use url::{InvalidStoreUrl, StoreUrl};
pub use watch::{ClockOff, MAX_CLOCK_DIFFERENCE};

#[cfg(test)]
pub(crate) mod tests;
