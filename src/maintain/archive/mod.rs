//! The archive: the records of topics as Parquet files and Iceberg tables.
//!
//! What a table consists of is state (`state/table`); here is who writes its files. One node does what there is to do
//! for a table, under a claim, in this order:
//!
//! 1. **Keeping in step** (`tables.rs`). A topic with `archive.enable` gets a table; a table is told what the
//!    settings of its topic say now; and one without a topic, of which nothing is left, is dropped.
//! 2. **Archiving** (`pass.rs`). Due when `TARGET` bytes wait or the oldest record has waited for `archive.lag`. A
//!    pass reads the slices from where each partition is archived to, writes data files and the manifest that lists
//!    them, and then commits one op. It is a pass of its own, and not part of compaction: see docs/decisions/0048.
//! 3. **Publishing** (`publish.rs`). Iceberg's metadata and manifest lists are derived from the state and stored under
//!    names that contain the version; then the hint names the newest. What engines read goes only once they can read
//!    what took its place.
//! 4. **Merging** (`merge.rs`). Neighbouring small manifests become one with few files.
//! 5. **Letting go** (`keep.rs`). Snapshots expire a day after the next one took their place, or when there are more
//!    than a hundred; files by the settings of the topic; and what no snapshot names any more is deleted after the
//!    grace period.
//!
//! A step that fails keeps the others from nothing. Partitions that cannot be read, and files that cannot be merged,
//! are left alone for an hour.
//!
//! # What always holds
//!
//! * Each offset is archived once (I11): the op names the offset at which it begins, and the fold refuses it if that
//!   is archived already, or if something between was neither archived nor deleted. A claim saves work, and nothing
//!   depends on it.
//! * An op names only objects that are stored.
//! * Nothing that a snapshot names is deleted, nor anything that one named until the grace period ago.
//!
//! # What a crash leaves
//!
//! | after | there is | and next |
//! |---|---|---|
//! | a data file or a manifest | orphans | the sweep deletes them, for no op that names them is accepted after its boundary |
//! | an op whose outcome is not known | files that are in the table or orphans | the same: nothing is deleted here |
//! | an op that was refused | nothing: its files are deleted at once | it is found again |
//! | the op | a version without metadata | the node that finds it publishes it |
//! | some of the metadata | objects with the right bytes | they are created again, and exist |
//! | the metadata, before the hint | a hint that names an older version | the next version is published with its hint |
//! | some deletes of a batch | removed manifests on the books | they are deleted again, which is no error, and struck off |
//!
//! # Memory
//!
//! A pass holds two windows of what is read (32 MiB), or a few pieces of a long slice; one batch, unpacked, which is at
//! most what a producer may send (256 MiB, and by far less unless somebody means it); the files that are being written,
//! `WRITER.memory`, typed columns included; and the file that was just finished, which is stored before another row is
//! pushed. A merge holds the files that it reads, `merged` bytes, and writes in the same way. Whatever producers send,
//! a row has no more than [`MAX_HEADERS`](crate::segment::MAX_HEADERS) headers, and opens no more than 4 MiB of a key
//! or value. Rows are pushed and rewritten on a thread for blocking work, some mebibytes at a time, so that a pass
//! whose claim is lost ends soon. Requests and bandwidth are those of compaction.

mod input;
mod job;
mod keep;
mod merge;
mod pass;
mod policy;
mod publish;
pub(in crate::maintain) mod tables;
mod write;

pub use job::run;

pub(super) use job::Archiving;
pub(super) use policy::{Lag, backlog};

use crate::table::WriterOptions;

/// So many bytes of records are archived without waiting, and no more are read by one pass.
pub(super) const TARGET: u64 = 256 << 20;

/// How files are written.
pub(super) const WRITER: WriterOptions = WriterOptions {
    file_bytes: 64 << 20,
    memory: 96 << 20,
    max_values: 64,
};
