//! Why a node did not start.

use crate::manifest::OpenError;
use crate::store::StoreError;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store does not keep what correctness needs, or the clock is off.
    #[error("{0}")]
    Check(String),
    /// The manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] OpenError),
}
