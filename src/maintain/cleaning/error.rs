//! Why a log was not compacted.

use crate::manifest::Stopped;
use crate::segment::{BatchError, SegmentError};
use crate::state::ObjectRef;
use crate::state::op::Rejected;
use crate::store::StoreError;
use crate::types::{Offset, TopicPartition};

/// Why a log was not compacted, or not all of it. What was done stands; the rest is found again.
#[derive(Debug, thiserror::Error)]
pub enum CleaningError {
    /// The store failed. Not found means that the slices are not those any more that the state had.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What became of the op is not known.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The fold refused: the partition or its settings changed meanwhile.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// Stored records are not what the state says.
    #[error("{partition} at offset {offset}, in {object:?}: {source}")]
    Corrupt {
        /// The partition.
        partition: TopicPartition,
        /// Where it was read.
        offset: Offset,
        /// The object.
        object: Option<ObjectRef>,
        /// What is wrong.
        source: BatchError,
    },
    /// The compacted segment could not be made.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// A thread that cleaned batches panicked.
    #[error("cleaning {0} panicked")]
    Panicked(TopicPartition),
}
