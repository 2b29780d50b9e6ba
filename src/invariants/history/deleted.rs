//! Who reads what was deleted, and how long after that was acknowledged.

use std::time::Duration;

use super::{Invariant, Moment, Violation};
use crate::types::Offset;

/// A deletion of which somebody was told that it is done.
#[derive(Clone, Copy, Debug)]
pub struct Deleted {
    /// The first offset that stays.
    pub before: Offset,
    /// When that was told.
    pub told: Moment,
    /// The same by the clock.
    pub at: Duration,
}

/// A read that returned records.
#[derive(Clone, Debug)]
pub struct Sight {
    /// Who read, for people.
    pub name: String,
    /// When it began.
    pub begun: Moment,
    /// The same by the clock.
    pub at: Duration,
    /// Whether somebody began to read by name, who may know of everything that was acknowledged before.
    pub begins: bool,
    /// The first offset whose record was returned.
    pub first: Offset,
}

/// What was deleted of one log, and what was read of it. For a name that is given to one topic after the other, offsets
/// stand for the topics that had it.
#[derive(Clone, Debug, Default)]
pub struct DeletedHistory {
    /// The log, for people.
    pub name: String,
    /// What was deleted.
    pub deleted: Vec<Deleted>,
    /// What was read.
    pub sights: Vec<Sight>,
}

impl DeletedHistory {
    /// I13: a record whose deletion was acknowledged is not read any more by who begins, nor longer than `staleness` by
    /// anybody else.
    pub fn violations(&self, staleness: Duration) -> Vec<Violation> {
        let seen = self.sights.iter().filter_map(|sight| {
            let gone = self.deleted.iter().find(|deleted| {
                let is_known = match sight.begins {
                    true => deleted.told < sight.begun,
                    false => deleted.at + staleness < sight.at,
                };
                is_known && sight.first < deleted.before
            })?;
            let what = format!(
                "{}: {} began at {:?} and read {}, though it was told at {:?} that all before {} is deleted",
                self.name, sight.name, sight.at, sight.first, gone.at, gone.before
            );
            Some(Violation {
                invariant: Invariant::DeletedStaysDeleted,
                what,
            })
        });
        seen.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn history(begun: Moment, at: Duration, begins: bool, first: i64) -> Vec<Violation> {
        let history = DeletedHistory {
            name: "t".to_owned(),
            deleted: vec![Deleted {
                before: Offset(5),
                told: 10,
                at: SECOND * 20,
            }],
            sights: vec![Sight {
                name: "r".to_owned(),
                begun,
                at,
                begins,
                first: Offset(first),
            }],
        };
        history.violations(SECOND)
    }

    #[test]
    fn what_was_deleted_is_read_for_a_while_only_and_never_by_who_begins() {
        assert!(history(11, SECOND * 60, false, 5).is_empty());
        assert!(history(11, SECOND * 60, true, 5).is_empty());
        assert!(history(11, SECOND * 21, false, 4).is_empty());
        assert!(history(9, SECOND * 20, true, 4).is_empty());
        assert_eq!(history(11, SECOND * 22, false, 4).len(), 1);
        assert_eq!(history(11, SECOND * 20, true, 4).len(), 1);
    }
}
