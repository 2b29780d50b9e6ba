//! Why a manifest could not be opened.

use super::handle::Stopped;
use super::object::ObjectError;
use crate::state::Level;
use crate::store::StoreError;
use crate::types::Seq;

/// Why the manifest could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An object cannot be read.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// `cluster.json` is not what it should be.
    #[error("cluster.json cannot be parsed: {0}")]
    Cluster(String),
    /// There is a log, and no `cluster.json`.
    #[error(
        "{store} holds {object} of a cluster, but no cluster.json, which a cluster has from its beginning: it was \
         deleted, or the store was emptied while a node wrote to it. To keep what is there, put cluster.json back; to \
         begin a new cluster, delete what is left or use another place"
    )]
    NoCluster {
        /// The store's URL.
        store: String,
        /// An object that is there.
        object: String,
    },
    /// The bucket was written by newer software.
    #[error(
        "the bucket has layout version {found}, but this node supports versions up to {known}: upgrade this node"
    )]
    NewerLayout {
        /// The bucket's version.
        found: u32,
        /// The newest version known.
        known: u32,
    },
    /// The cluster was upgraded.
    #[error(
        "the cluster is at level {level}, but this node supports levels up to {known}: upgrade this node"
    )]
    NewerLevel {
        /// The cluster's level.
        level: Level,
        /// The highest level known.
        known: Level,
    },
    /// No state can be made: the beginning of the log is gone, and no snapshot beyond it can be read.
    #[error(
        "the log is truncated up to {boundary}, and no snapshot at or after it can be read ({unreadable}). The state \
         cannot be restored: run `weir fsck`, and restore a snapshot from a copy or an old version of the object"
    )]
    NoStart {
        /// Up to where the log may be gone.
        boundary: Seq,
        /// What was tried, and why it cannot be read.
        unreadable: String,
    },
    /// The log could not be folded to its end.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}
