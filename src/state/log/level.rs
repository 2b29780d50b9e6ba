//! The level of a cluster: which rules its fold follows, and what may be written to its log.
//!
//! Nodes of two versions live side by side, and all of them fold one log. So a rule of the fold changes, and a new op
//! or field is written, only once every node knows of it. The cluster has a [`Level`], in the state; each [`Feature`]
//! is in force from a level on ([`State::has`](crate::state::State::has)).
//! [`Op::RaiseLevel`](crate::state::op::Op::RaiseLevel) raises it, once, for all nodes at one place in the log, and the
//! fold refuses it while a registered node does not know the level: a registration says so in the version of the node
//! ([`Level::label`]), which nodes of every version keep as it is.
//!
//! * Until then everybody folds by the old rules and writes what the oldest node can read; so an upgrade can be taken
//!   back.
//! * Afterwards a node that is too old cannot read the log any further: it stops, and deletes nothing. Its registration
//!   is refused, too.
//! * A new cluster begins at the newest level that its first node knows: that node's first commit says so.
//!
//! A feature is never taken out: logs that were written before are folded for ever.

use std::fmt;

use minicbor::{Decode, Encode};
use serde::Serialize;

use crate::rules::{Rule, holds};
use crate::state::State;
use crate::state::op::{Applied, Outcome, Rejected};

/// A level of the rules of the fold. The numbers are durable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct Level(#[n(0)] pub u16);

impl Level {
    /// The rules from before there were levels.
    pub const FIRST: Level = Level(1);

    /// The highest level that this software knows.
    pub const NEWEST: Level = Level(3);

    /// What a node that knows this level registers as its version: the version of its software, and this level as
    /// SemVer's build metadata.
    pub fn label(self, software: &str) -> String {
        format!("{software}+level.{self}")
    }

    /// The level that a registered version tells; the first, if it tells none.
    pub(in crate::state) fn of_label(version: &str) -> Level {
        let told = version.split_once("+level.");
        let told = told.and_then(|(_, level)| level.parse().ok());
        told.map_or(Level::FIRST, Level).max(Level::FIRST)
    }

    pub(in crate::state) fn is_first(&self) -> bool {
        *self == Level::FIRST
    }
}

impl Default for Level {
    fn default() -> Level {
        Level::FIRST
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Level({})", self.0)
    }
}

/// A rule of the fold, or something that may be written, that not every level has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// The object of the commit that is being folded is not dead when a slice is put into it, whatever was deleted from
    /// it before, in the same object.
    LiveObjectsAreNotDead,
    /// The last commits of more incarnations are remembered, and those of registered nodes in any case.
    ManyIncarnations,
    /// Time in the fold is moved by a wall clock only as far as another node vouches for (`log/time.rs`), a sweep
    /// boundary is behind the time before its commit, and who registers removes nobody. Commits say what the wall clock
    /// says.
    BoundedTime,
    /// A replacement of slices leaves none wholly below the log start.
    ReplacementsAreTrimmed,
    /// Who announces a snapshot says the digest of the state in it, and a snapshot may be in several objects.
    SnapshotDigests,
    /// A topic is not created whose name differs from another's only in dots and underscores.
    CollidingNamesAreRefused,
    /// A group of which nothing is left stays until its time is over, as Kafka's `Empty`.
    EmptyGroupsStay,
    /// The changes of groups are numbered, and served as `__consumer_offsets`.
    OffsetsTopic,
    /// A topic is stored with the replication factor that was asked for.
    ReplicationFactor,
    /// A node says of its own settings what they are when it registers, and settings are stored for single nodes.
    NodeSettings,
    /// What a client asks for stands behind an [`Asked`](crate::state::op::Asked), and what it is compared with is
    /// remembered.
    AskedOps,
    /// The first commit of a node, if it does nothing but register it, may be forwarded to another node: it follows
    /// [`Commit::NOTHING`](crate::state::op::Commit::NOTHING).
    ForwardedRegistrations,
    /// Topics are archived in tables.
    Tables,
}

impl State {
    /// Refuses a level that a registered node does not know.
    ///
    /// # Errors
    /// [`Rejected::LevelUnknown`], with the first such node.
    pub fn check_raise(&self, to: Level) -> Result<(), Rejected> {
        let behind = self.nodes().find(|(_, node)| node.level() < to);
        match behind.filter(|_| holds(Rule::LevelIsKnownToAll)) {
            Some((node, behind)) => Err(Rejected::LevelUnknown {
                to,
                node,
                known: behind.level(),
            }),
            None => Ok(()),
        }
    }

    /// Raises the level.
    pub(in crate::state) fn raise_level(&mut self, to: Level) -> Outcome {
        self.check_raise(to)?;
        if self.level < to {
            self.level = to;
            self.after_level_raised();
        }
        Ok(Applied::Done)
    }
}

impl Feature {
    /// The level from which on it is in force.
    pub const fn since(self) -> Level {
        match self {
            Feature::LiveObjectsAreNotDead
            | Feature::ManyIncarnations
            | Feature::BoundedTime
            | Feature::ReplacementsAreTrimmed
            | Feature::SnapshotDigests
            | Feature::CollidingNamesAreRefused
            | Feature::EmptyGroupsStay
            | Feature::OffsetsTopic
            | Feature::ReplicationFactor
            | Feature::NodeSettings
            | Feature::AskedOps
            | Feature::ForwardedRegistrations => Level(2),
            Feature::Tables => Level(3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_told_by_the_version_of_a_node() {
        let label = Level(7).label("1.2.3");
        assert_eq!(label, "1.2.3+level.7");
        assert_eq!(Level::of_label(&label), Level(7));
        for told in [
            "0.1.0",
            "",
            "0.1.0+level.",
            "0.1.0+level.x",
            "0.1.0+level.0",
        ] {
            assert_eq!(Level::of_label(told), Level::FIRST, "{told}");
        }
    }
}
