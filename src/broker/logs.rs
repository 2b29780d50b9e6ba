//! Which log a thing is in: the one place in the broker that knows.
//!
//! Whoever reads a state, asks for a fresh one, or submits ops says what it is about ([`Home`]) and is given the
//! manifest of the log where that is. A submission names one home, so its ops are in one log; a state and the proof
//! that it is the newest are of one log, too, and say nothing of another. Nothing else in this room can come by a
//! manifest: the field is private, and `tests/layers.rs` lets no other file name the type.
//!
//! # More logs
//!
//! There is one log today, and [`Logs::of`] has one answer. What changes with a second one:
//!
//! * [`Logs`] holds the manifests of the logs that this node serves, and looks in the cluster's state for the log that
//!   a group or a partition is placed in. A log that is not served here is an answer of its own.
//! * [`Home::Partitions`] and [`Home::Groups`] name each partition and group: requests about things of several logs are
//!   split by log, and each part is judged, confirmed and answered by the state of its own.
//! * An [`Arrival`](super::Arrival) notes where each log was, not one.
//! * Who finds a topic by its name in the cluster's state may find it missing in its log yet, or there still.
//! * Leases are in the cluster's log alone: how long a node has been silent is known from that one.

use super::Broker;
use crate::manifest::Manifest;
use crate::types::GroupId;

/// What a request is about, as far as that decides in which log it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home<'a> {
    /// What every node must know: topics and configs, nodes and their leases, producer ids, the level.
    Cluster,
    /// The records of the partitions that a request names.
    Partitions,
    /// A group: its members and its committed offsets.
    Group(&'a GroupId),
    /// All groups.
    Groups,
}

/// The logs that this node serves. Cheap to clone.
#[derive(Clone)]
pub struct Logs {
    only: Manifest,
}

impl Logs {
    /// One log, for everything.
    pub fn one(manifest: Manifest) -> Logs {
        Logs { only: manifest }
    }

    /// The log in which that is.
    pub fn of(&self, home: Home<'_>) -> &Manifest {
        match home {
            Home::Cluster | Home::Partitions | Home::Group(_) | Home::Groups => &self.only,
        }
    }
}

impl Broker {
    /// The manifest of the cluster's log, for who is not of this room: readiness, inspection, peers.
    pub fn manifest(&self) -> &Manifest {
        self.inner.logs.of(Home::Cluster)
    }
}
