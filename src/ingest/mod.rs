//! The write path: from validated batches to ops in a commit.
//!
//! Batches wait in a bounded buffer. When the commit loop can make a commit it takes what is there:
//!
//! * Little (up to `inline_limit`): the bytes travel in the commit itself. One PUT is the whole write path.
//! * Much: the bytes go to segment objects, several uploads side by side, and the commit refers to them.
//!   A segment is cut as soon as there is enough for a whole one; a smaller one only while few uploads are under way.
//!
//! So a lone batch is committed at once, and under load the commit under way is what makes the next one large.
//!
//! Invariants: batches of one partition are committed in the order in which they were admitted (a batch waits
//! while an earlier one of its partition is being uploaded, and no batch waits for an upload that has none of its
//! partition: `uploads.rs`). An idempotent producer's pipeline is begun with its first
//! batch or not at all (`pipelines.rs`). A waiter is told the outcome of its own batch,
//! by the fold, and nothing else: not of the buffer, not of the upload. The bytes admitted and not yet
//! answered never exceed the buffer's size (one larger request alone excepted); those who find it full wait,
//! and with them the sockets they read from.
//!
//! An upload of which nothing is heard is made again beside itself
//! ([`Store::put_hedged`](crate::store::Store::put_hedged)), and one that is overdue holds up its own partitions only.
//! A task that uploads and panics has failed: what it had is not appended, and what comes behind it goes on.
//!
//! If the process dies, a segment that was uploaded and not committed is an orphan, and no client was told of
//! it. A dropped [`Ingest::append`] future before admission leaves nothing behind; after it, the batch goes its
//! way and only the answer is lost.

mod buffer;
mod metrics;
mod ops;
mod pipelines;
mod upload;
mod uploads;

#[cfg(test)]
mod tests;

pub use buffer::{Append, AppendError, Batch, Ingest, IngestOptions, LONG_BATCH, SegmentSink};
pub use metrics::IngestMetrics;
