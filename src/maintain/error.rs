//! Why a job did not do its work.

use crate::manifest::Stopped;
use crate::segment::SegmentError;
use crate::state::ObjectRef;
use crate::state::op::Rejected;
use crate::store::{Cause, StoreError};
use crate::types::{Offset, TableName, TopicPartition};

/// Why a job did not do its work, or not all of it. What it did stands; the rest is found again.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What became of an op is not known.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The fold refused.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// A create was not answered, nor what it made found.
    #[error("the outcome of creating {object} is unknown: {cause}")]
    Unsettled {
        /// The object.
        object: String,
        /// Why.
        cause: Cause,
    },
    /// No snapshot can be read of those that would make commits superfluous.
    #[error(
        "the log is not truncated, because no snapshot that would replace it can be read back: {reason}. Check the \
         bucket with `weir fsck`"
    )]
    Uncovered {
        /// Why the oldest of them cannot be read.
        reason: String,
    },
    /// Another node holds the claim by now: the work would be done twice.
    #[error("another node has taken over")]
    ClaimLost,
    /// The slices are not those any more that were to be compacted.
    #[error("what was to be compacted has changed in the meantime")]
    InputsChanged,
    /// An object was not there.
    #[error("{partition} at offset {offset}: {object:?} does not exist")]
    Missing {
        /// The partition.
        partition: TopicPartition,
        /// The first offset of the slice.
        offset: Offset,
        /// The object.
        object: ObjectRef,
    },
    /// Records that the state refers to are damaged or missing.
    #[error("{partition} at offset {offset}, in {object:?}: {reason}")]
    Unreadable {
        /// The partition.
        partition: TopicPartition,
        /// The first offset of the slice.
        offset: Offset,
        /// The object.
        object: ObjectRef,
        /// What is wrong.
        reason: String,
    },
    /// A table cannot be written, or not be read.
    #[error("table {table}: {reason}")]
    Table {
        /// Its name.
        table: TableName,
        /// Why not.
        reason: String,
    },
    /// The compacted segment could not be made.
    #[error(transparent)]
    Segment(#[from] SegmentError),
}

impl JobError {
    /// Whether it is in the nature of things: others work here too. Not a failure.
    pub(super) fn is_benign(&self) -> bool {
        matches!(
            self,
            JobError::ClaimLost | JobError::InputsChanged | JobError::Rejected(_)
        )
    }
}
