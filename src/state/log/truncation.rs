//! How far the log may be deleted, and how far it is.
//!
//! The fold judges when commits are old enough. A node that slept must be able to tell that the log has gone on
//! without it, and a node that starts must find every commit after the snapshot that it began with. Both trust what
//! they saw for [`TAIL_PROOF_LIFE`]; and no commit is deleted before the snapshot that makes it superfluous has been
//! known for [`TRUNCATION_AGE`], which is longer.

use std::time::Duration;

use minicbor::{Decode, Encode};
use serde::Serialize;

use crate::rules::{Rule, holds};
use crate::state::State;
use crate::state::op::{Applied, Outcome, Rejected};
use crate::types::{Seq, Timestamp};

/// How long a node may rely on having seen the end of the log: that nothing stood at the next seq, or which snapshot
/// was the newest. After that it must ask whether the log was truncated before it believes anything about the next seq.
pub const TAIL_PROOF_LIFE: Duration = Duration::from_secs(5 * 60);

/// How long a snapshot must have been in the log before the commits that it makes superfluous may be deleted. Longer
/// than [`TAIL_PROOF_LIFE`] by what the clocks of nodes may differ, and much more.
pub const TRUNCATION_AGE: Duration = Duration::from_secs(10 * 60);

/// How far apart the marks are that are remembered of snapshots.
const MARK_SPACING: Duration = Duration::from_secs(60);

/// The truncation of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub(in crate::state) struct Truncation {
    /// Commits up to here may be deleted, unless a slice lies in them.
    #[n(0)]
    pub(in crate::state) boundary: Seq,
    /// Commits up to here are deleted, unless a slice lies in them or lay in them until a moment ago.
    #[n(1)]
    pub(in crate::state) truncated: Seq,
    /// Which snapshots were known when, oldest first: enough to tell the newest that is of age.
    #[n(2)]
    marks: Vec<Mark>,
}

/// A snapshot, and since when it has been known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
struct Mark {
    #[n(0)]
    snapshot: Seq,
    #[n(1)]
    since: Timestamp,
}

impl Truncation {
    /// Notes that a snapshot became known.
    pub(in crate::state) fn note_snapshot(&mut self, snapshot: Seq, now: Timestamp) {
        let last = self.marks.last();
        if last.is_none_or(|last| last.since.after(MARK_SPACING) <= now) {
            self.marks.push(Mark {
                snapshot,
                since: now,
            });
        }
        let of_age = self.marks.iter().filter(|mark| mark.is_of_age(now)).count();
        self.marks.drain(..of_age.saturating_sub(1));
    }

    /// The highest seq that the boundary may be raised to.
    pub(in crate::state) fn limit(&self, now: Timestamp) -> Seq {
        let of_age = self.marks.iter().filter(|mark| mark.is_of_age(now));
        let newest = of_age.map(|mark| mark.snapshot).max();
        newest.unwrap_or(Seq::ZERO).max(self.boundary)
    }
}

impl Mark {
    fn is_of_age(&self, now: Timestamp) -> bool {
        self.since.after(TRUNCATION_AGE) <= now || !holds(Rule::TruncationNeedsAgedSnapshot)
    }
}

impl State {
    /// Commits up to here may be deleted, but for those in which a slice lies.
    pub fn log_boundary(&self) -> Seq {
        self.truncation.boundary
    }

    /// Commits up to here are deleted, but for those in which a slice lies and those that are dead.
    pub fn log_truncated(&self) -> Seq {
        self.truncation.truncated
    }

    /// How far the log boundary may be raised.
    pub fn log_boundary_limit(&self) -> Seq {
        self.truncation.limit(self.time)
    }

    /// Allows the log up to `to` to be deleted.
    pub(in crate::state) fn raise_log_boundary(&mut self, to: Seq) -> Outcome {
        let limit = self.log_boundary_limit();
        if to > limit {
            return Err(Rejected::TooYoung { to, limit });
        }
        self.truncation.boundary = self.truncation.boundary.max(to);
        Ok(Applied::Done)
    }

    /// Notes how far the log is deleted: no further than it may be.
    pub(in crate::state) fn note_log_truncated(&mut self, to: Seq) -> Outcome {
        let to = to.min(self.truncation.boundary);
        self.truncation.truncated = self.truncation.truncated.max(to);
        Ok(Applied::Done)
    }
}
