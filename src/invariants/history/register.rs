//! Things that are overwritten: a committed offset, a setting. What was acknowledged is not undone by what was asked
//! for before it (I12).

use std::fmt::Debug;

use super::{Access, Moment, Value, Violation, register_is_linearizable};
use crate::invariants::Invariant;

/// What became of a write, as its client knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is under way.
    Asked,
    /// It was acknowledged then.
    Done(Moment),
    /// It was refused, and has changed nothing.
    Refused,
    /// The client gave it up then. It has taken effect, or does so yet; but not after something that the same client
    /// asks for later and that is acknowledged.
    GivenUp(Moment),
}

/// A write.
#[derive(Clone, Debug)]
pub struct Write {
    /// Which client wrote: each has one request under way.
    pub client: String,
    /// What it wrote: no two writes are of the same value.
    pub value: Value,
    /// When it was sent.
    pub begun: Moment,
    /// What became of it.
    pub outcome: Written,
}

/// All that happened to one register.
#[derive(Clone, Debug, Default)]
pub struct RegisterHistory {
    /// What it is, for people.
    pub name: String,
    /// What was written.
    pub writes: Vec<Write>,
    /// What was found there.
    pub reads: Vec<Access<Option<Value>>>,
}

impl RegisterHistory {
    /// I12, and that it is linearizable.
    pub fn violations(&self) -> Vec<Violation> {
        let mut found = self.acknowledged_is_not_undone();
        found.extend(self.is_linearizable());
        found
    }

    /// I12: once a write is acknowledged, nobody finds what the same client had given up before it asked for that.
    pub fn acknowledged_is_not_undone(&self) -> Vec<Violation> {
        let undone = self.reads.iter().filter_map(|read| {
            let old = self.writes.iter().find(|old| Some(old.value) == read.value)?;
            let Written::GivenUp(given_up) = old.outcome else {
                return None;
            };
            let newer = self.writes.iter().find(|newer| {
                let is_newer = newer.client == old.client && newer.begun > given_up;
                matches!(newer.outcome, Written::Done(done) if is_newer && done < read.begun)
            })?;
            let what = format!(
                "{}: {} found {}, which {} gave up at {given_up}; at {} it asked for {}, and was told that this is \
                 done",
                self.name, read.name, old.value, old.client, newer.begun, newer.value
            );
            Some(Violation {
                invariant: Invariant::AcknowledgedIsNotUndone,
                what,
            })
        });
        undone.collect()
    }

    /// Whoever was told that something is written finds that or something newer.
    pub fn is_linearizable(&self) -> Vec<Violation> {
        let writes = self.writes.iter().filter_map(|write| {
            let ended = match write.outcome {
                Written::Refused => return None,
                Written::Done(ended) => ended,
                Written::Asked | Written::GivenUp(_) => Moment::MAX,
            };
            Some(Access {
                name: write.client.clone(),
                value: Some(write.value),
                begun: write.begun,
                ended,
            })
        });
        let writes: Vec<_> = writes.collect();
        let why = register_is_linearizable(None, &writes, &self.reads).err();
        let violation = why.map(|why| Violation {
            invariant: Invariant::AcknowledgedStays,
            what: format!("{}: {why}", self.name),
        });
        violation.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(value: Value, begun: Moment, outcome: Written) -> Write {
        Write {
            client: "c".to_owned(),
            value,
            begun,
            outcome,
        }
    }

    fn read(value: Value, begun: Moment) -> Access<Option<Value>> {
        Access {
            name: "r".to_owned(),
            value: Some(value),
            begun,
            ended: begun + 1,
        }
    }

    fn ids(history: &RegisterHistory) -> Vec<&'static str> {
        let violations = history.violations();
        violations
            .iter()
            .map(|found| found.invariant.id())
            .collect()
    }

    #[test]
    fn what_was_given_up_may_be_found_until_something_newer_is_acknowledged() {
        let history = |outcome| RegisterHistory {
            name: "offset".to_owned(),
            writes: vec![write(100, 1, Written::GivenUp(5)), write(200, 6, outcome)],
            reads: vec![read(100, 10)],
        };
        assert_eq!(ids(&history(Written::Asked)), [""; 0]);
        assert_eq!(ids(&history(Written::GivenUp(9))), [""; 0]);
        assert_eq!(ids(&history(Written::Done(11))), [""; 0]);
        assert_eq!(ids(&history(Written::Done(8))), ["I12"]);
    }

    #[test]
    fn what_another_client_gave_up_may_come_later() {
        let mut history = RegisterHistory {
            writes: vec![
                write(100, 1, Written::GivenUp(5)),
                write(200, 6, Written::Done(8)),
            ],
            reads: vec![read(100, 10)],
            ..RegisterHistory::default()
        };
        history.writes[1].client = "d".to_owned();
        assert_eq!(ids(&history), [""; 0]);
    }

    #[test]
    fn what_was_acknowledged_is_found() {
        let history = RegisterHistory {
            writes: vec![write(1, 1, Written::Done(2)), write(2, 3, Written::Done(4))],
            reads: vec![read(1, 5)],
            ..RegisterHistory::default()
        };
        assert_eq!(ids(&history), ["I1"]);
    }
}
