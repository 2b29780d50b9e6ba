//! Work on a bucket beside the traffic of clients: what expires, compacts, deletes and checks old data.
//!
//! Nothing here is needed to serve a client, and nothing here decides anything about data by itself: what must hold
//! is in [`crate::invariants`], what may go is in the state. A job finds its work in the state as the node knows it,
//! which asks the store nothing; it does the work; and its result is an op that the fold accepts only if it still fits.
//!
//! | job | what it does | its op |
//! |---|---|---|
//! | [`retention`] | lets go of records by time and size | `ExpireRecords` |
//! | [`producers`] | forgets producers that are gone | `ExpireProducers` |
//! | [`compaction`] | makes few large slices of many small ones | `ReplaceSlices` |
//! | [`deletion`] | deletes dead objects after their grace | `ObjectsDeleted` |
//! | [`truncation`] | deletes the log behind the snapshots | `RaiseLogBoundary`, `LogTruncated` |
//! | [`cleaning`] | compacts logs: the last record of each key stays | `ReplaceSlices` |
//! | [`archive`] | keeps the tables of archived topics | `CreateTable`, `Archive`, `RewriteFiles` and the like |
//! | [`sweep`] | deletes what nothing ever referred to | `RaiseSweepBoundary` |
//!
//! # Who does what
//!
//! Any node may do any job. All nodes compute from the state to whom it falls (rendezvous over the live nodes), and
//! that one claims it by an op with a lease; if it does nothing for a few intervals, another does it. Both keep nodes
//! from doing work twice, and nothing else depends on them: twice is as good as once.
//!
//! # What a crash leaves
//!
//! A job may be dropped at any await, and its node die at any instant.
//!
//! | after | there is | and next |
//! |---|---|---|
//! | a claim | a claim that lapses after a minute | the job is found again |
//! | a part of a compacted segment | an upload that no listing shows, and the store's own rules remove | it is found again |
//! | storing a compacted segment | an orphan | it is found again; the sweep deletes the orphan |
//! | some deletes of a batch | dead objects that are gone, and on the books | they are deleted again, which is no error, and struck off |
//! | raising the log's boundary | a boundary that nothing was deleted by | the node that finds it stores the boundary object and continues |
//! | storing the boundary object | a boundary object | it is created again, and exists |
//! | some deletes of the log | a log with holes behind its boundary, where no node reads | they are deleted again |
//! | raising the sweep's boundary | segments from before it that are refused, and stay | the next sweep deletes them |
//!
//! # What is never deleted
//!
//! An object in which a slice lies; a dead one before its grace is over, by the fold's time and by the clock here; a
//! commit before a boundary object says so (I10). Each job says in its file why what it deletes is not needed by
//! anybody who could still ask.

pub mod archive;
mod claims;
pub mod cleaning;
pub mod compaction;
pub mod deletion;
mod error;
pub mod fsck;
mod maintenance;
mod metrics;
mod options;
pub mod producers;
pub mod repair;
pub mod retention;
mod runner;
pub mod sweep;
#[cfg(test)]
mod tests;
pub mod truncation;
pub mod usage;

pub use error::JobError;
pub use maintenance::{Busy, Maintenance, MaintenanceParts};
pub use metrics::{Backlog, MaintenanceMetrics, Task};
pub use options::{ArchiveOptions, CompactionOptions, MaintenanceOptions};
