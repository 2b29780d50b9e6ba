//! How long this node has known what is in the log, by its own clock.
//!
//! Waiting for a time before something is deleted has to hold for the node that deletes, too. The time in the fold may
//! be ahead of it, if the clock of one node is; or far behind, if a commit was assembled long before it entered the
//! log, and what it did then seems to be old as soon as it is done. So who deletes asks as well what it has *itself*
//! known for that long: by the boot-time clock, which nobody sets and which counts suspension. A node that has just
//! started, or started over, has known nothing for long.

use std::collections::VecDeque;
use std::time::Duration;

use crate::state::State;
use crate::types::Seq;

/// What a node knew at some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The last commit that it had folded.
    pub seq: Seq,
    /// The newest snapshot that it knew of.
    pub snapshot: Seq,
}

/// What was known when, oldest first. Sparse: that something was not known yet is the error that does no harm.
#[derive(Debug, Default)]
pub(super) struct Marks(VecDeque<(Duration, Known)>);

/// How far apart marks are at least.
const SPACING: Duration = Duration::from_secs(1);

/// How many there are at most. The older they are, the further apart.
const MAX_MARKS: usize = 256;

impl Marks {
    /// Notes that `state` is known now.
    pub(super) fn note(&mut self, now: Duration, state: &State) {
        if self
            .0
            .back()
            .is_some_and(|(_, known)| known.seq == state.seq())
        {
            return;
        }
        // The last mark is always of the last state; it moves while it is close to the one before.
        let before = self
            .0
            .len()
            .checked_sub(2)
            .and_then(|index| self.0.get(index));
        if before.is_some_and(|(at, _)| now < *at + SPACING) {
            self.0.pop_back();
        }
        let known = Known {
            seq: state.seq(),
            snapshot: state.last_snapshot().map_or(Seq::ZERO, |last| last.seq),
        };
        self.0.push_back((now, known));
        if self.0.len() > MAX_MARKS
            && let Some(index) = self.least_missed(now)
        {
            self.0.remove(index);
        }
    }

    /// The mark whose neighbours are closest together, measured by its age: so that what is said of an age is wrong by
    /// a small part of it at most, however long ago.
    fn least_missed(&self, now: Duration) -> Option<usize> {
        let at = |index: usize| self.0.get(index).map_or(Duration::ZERO, |(at, _)| *at);
        let loss = |index: usize| {
            let gap = at(index + 1).saturating_sub(at(index - 1));
            gap.as_secs_f64() / (now.saturating_sub(at(index)) + SPACING).as_secs_f64()
        };
        (1..self.0.len() - 1).min_by(|a, b| loss(*a).total_cmp(&loss(*b)))
    }

    /// What has been known for `age`.
    pub(super) fn for_at_least(&self, age: Duration, now: Duration) -> Known {
        let known = self.0.iter().rev().find(|(at, _)| *at + age <= now);
        known.map(|(_, known)| *known).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::op::Commit;
    use crate::types::{CommitId, Incarnation, LogId, Timestamp};

    fn next(state: &mut State) {
        let seq = state.seq().next();
        let id = CommitId {
            incarnation: Incarnation::default(),
            counter: seq.0,
        };
        let (time, ops) = (Timestamp(0), Vec::new());
        state.apply(
            seq,
            &Commit {
                id,
                time,
                ops,
                follows: None,
                forwarded: Vec::new(),
                wall: None,
                log: LogId::ZERO,
            },
            0,
        );
    }

    #[test]
    fn what_is_said_to_be_known_for_long_was_known_then_and_a_little_less_at_most() {
        let (mut marks, mut state) = (Marks::default(), State::new());
        let mut history = Vec::new();
        for tick in 0..50_000u64 {
            let now = Duration::from_millis(tick * 700);
            next(&mut state);
            marks.note(now, &state);
            history.push((now, state.seq()));
        }
        assert!(marks.0.len() <= MAX_MARKS);
        let now = history.last().unwrap().0;
        for age in [0, 1, 10, 600, 900, 3600, 30_000].map(Duration::from_secs) {
            let seq = marks.for_at_least(age, now).seq;
            let since = history.iter().find(|(_, known)| *known == seq).unwrap().0;
            let late = now - since - age;
            assert!(late <= age / 4 + 2 * SPACING, "{age:?}: {late:?}");
        }
        let beyond = now + Duration::from_secs(1);
        assert_eq!(marks.for_at_least(beyond, now), Known::default());
    }
}
