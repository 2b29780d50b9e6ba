//! What clients ask for, and what was acknowledged since: a request does not undo what is newer than it (I12).
//!
//! A node judges a request against a state, and the commit with its ops may come into the log much later: the store was
//! away, the process was paused, a copy was handed over. Its client gave up long ago, asked another node for something
//! else, and was told that it is done. So the ops of a request stand behind an [`Asked`], which says against which
//! state they were judged ([`Asked::as_of`]) and until when, in the fold's time, they may take effect
//! ([`Asked::until`]). The fold refuses all of them
//!
//! * if anything that they overwrite, or would bring back, was changed or deleted after that state
//!   ([`State::changed`]);
//! * if their time is over. Deleting a topic, or members, overwrites what cannot be compared: records come all the
//!   time.
//!
//! Whoever still waits judges again, by the newer state; the request is then concurrent with what overtook it.
//!
//! What is remembered for it: a seq in each committed offset, in each member (since when its node vouches for it), in
//! each topic (of its settings and of its partitions), and [`Deletions`] of what is not there any more.

mod deletions;

#[cfg(test)]
mod tests;

use minicbor::{Decode, Encode};
use serde::Serialize;

pub(super) use deletions::Deletions;

use super::State;
use super::op::{Applied, CreateTopic, Op, Outcome, Rejected};
use super::table::Table;
use crate::rules::{Rule, holds};
use crate::types::{Seq, Timestamp};

/// Says of the ops behind it that a client asked for them, against which state they were judged, and until when they
/// may take effect. The fold refuses all of them, with the same outcome as this, if what they overwrite was changed
/// since, or if it is too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Asked {
    /// How many ops.
    #[n(0)]
    pub ops: u32,
    /// The seq of a state that the node had when the request reached it, or of a newer one if it judged the request
    /// again by that while the client waited.
    #[n(1)]
    pub as_of: Seq,
    /// Until then, in the fold's time.
    #[n(2)]
    pub until: Timestamp,
}

impl State {
    /// Judges whether the ops that a client asked for may still take effect.
    pub(super) fn judge_asked(&self, asked: &Asked, ops: &[Op]) -> Outcome {
        if !holds(Rule::LateOpsAreRefused) {
            return Ok(Applied::Done);
        }
        let (now, until) = (self.time, asked.until);
        if now > until {
            return Err(Rejected::Late { until, now });
        }
        let changed = ops.iter().map(|op| self.changed(op)).max();
        let changed = changed.unwrap_or_default();
        if changed > asked.as_of {
            let as_of = asked.as_of;
            return Err(Rejected::Overtaken { as_of, changed });
        }
        Ok(Applied::Done)
    }

    /// When what this op overwrites, or would bring back, was changed or deleted last. What is missing here adds and
    /// overwrites nothing, or says itself what it goes by (`docs/architecture.md` has the table).
    fn changed(&self, op: &Op) -> Seq {
        match op {
            Op::CreateTopic(CreateTopic { name, .. }) => self.deletions.last_of_topic(name),
            Op::DeleteTopic { topic }
            | Op::AlterConfigs {
                topic: Some(topic), ..
            } => self.sized(*topic).max(self.altered(*topic)),
            // What was asked for by name may have been meant for the topic before.
            Op::CreatePartitions { topic, .. } => self.sized(*topic),
            Op::DeleteRecords { partition, .. } => self.sized(partition.topic),
            Op::AlterConfigs { topic: None, .. } => self.configs_altered,
            Op::Access { .. } => self.access.altered(),
            Op::DropTable { table } => self.table(*table).map(Table::version).unwrap_or_default(),
            Op::Group { group, action } => self.changed_of_group(group, action),
            _ => Seq::ZERO,
        }
    }
}
