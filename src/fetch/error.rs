//! Why records could not be read.

use std::sync::Arc;

use crate::segment::{BatchError, SegmentError};
use crate::state::ObjectRef;
use crate::store::StoreError;
use crate::types::{Offset, TopicPartition};

/// Why records could not be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The store failed. Not found means that the reader's state is old: refresh it and ask again.
    #[error(transparent)]
    Store(#[from] Arc<StoreError>),
    /// The task that loaded the bytes panicked.
    #[error("a read from the store was aborted; this is a bug in Weir, please report it")]
    Panicked,
    /// The bytes are not what the state says.
    #[error("{partition} at offset {offset}, in {object:?}: {source}")]
    Corrupt {
        /// The partition.
        partition: TopicPartition,
        /// The offset at which reading failed.
        offset: Offset,
        /// The object.
        object: ObjectRef,
        /// What is wrong.
        source: BatchError,
    },
    /// The index or a chunk of a compacted slice is not what was written.
    #[error("{partition} at offset {offset}: {source}")]
    Damaged {
        /// The partition.
        partition: TopicPartition,
        /// The offset at which reading failed.
        offset: Offset,
        /// What is wrong, and in which object.
        source: SegmentError,
    },
}

impl ReadError {
    /// Whether an object was not there: the state is to be refreshed.
    pub fn is_missing_object(&self) -> bool {
        matches!(self, ReadError::Store(error) if error.is_not_found())
    }

    /// Whether the stored bytes are damaged: asking again will not help.
    pub fn is_corrupt(&self) -> bool {
        matches!(self, ReadError::Corrupt { .. } | ReadError::Damaged { .. })
    }
}

/// Why an extent could not be loaded.
#[derive(Clone, Debug)]
pub(super) enum LoadError {
    Store(Arc<StoreError>),
    Damaged(SegmentError),
    Panicked,
}

impl From<StoreError> for LoadError {
    fn from(error: StoreError) -> LoadError {
        LoadError::Store(Arc::new(error))
    }
}

impl LoadError {
    /// The error of who read this partition from this offset on.
    pub(super) fn reading(self, partition: TopicPartition, offset: Offset) -> ReadError {
        match self {
            LoadError::Store(error) => ReadError::Store(error),
            LoadError::Panicked => ReadError::Panicked,
            LoadError::Damaged(source) => ReadError::Damaged {
                partition,
                offset,
                source,
            },
        }
    }
}
