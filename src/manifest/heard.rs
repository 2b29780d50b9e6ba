//! When this node last heard of each incarnation of a node, by its own boot-time clock.
//!
//! A lease is held and judged without any wall clock. Its holder counts from the moment at which it *made* the last
//! commit of its own that is in the log; everybody else from the moment at which they *folded* that commit, which is
//! later. So, as far as boot-time clocks incarnation alike, a holder stops relying on its lease before anybody else
//! takes it for lapsed, however far apart their wall clocks are. A node that has just started has heard of nobody and
//! counts from its start.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::state::State;
use crate::types::{CommitId, Incarnation};

/// Who was heard of when.
#[derive(Debug)]
pub(super) struct Heard {
    own: Incarnation,
    /// When this node began to listen.
    began: Duration,
    last: BTreeMap<Incarnation, Duration>,
    /// The commits that this node has made and not folded yet: their counts, and when they were made.
    made: VecDeque<(u64, Duration)>,
}

impl Heard {
    pub(super) fn new(own: Incarnation, began: Duration) -> Heard {
        Heard {
            own,
            began,
            last: BTreeMap::new(),
            made: VecDeque::new(),
        }
    }

    /// This node makes a commit.
    pub(super) fn made(&mut self, counter: u64, now: Duration) {
        self.made.push_back((counter, now));
    }

    /// A commit that took effect was folded.
    pub(super) fn folded(&mut self, id: CommitId, now: Duration, state: &State) {
        if id.incarnation == self.own {
            while let Some((counter, at)) = self.made.front().copied()
                && counter <= id.counter
            {
                self.made.pop_front();
                self.last.insert(self.own, at);
            }
            return;
        }
        // Clients without a node commit, too.
        if state.node_of(id.incarnation).is_none() {
            return;
        }
        self.last.insert(id.incarnation, now);
        if self.last.len() > state.nodes().count() * 2 + 2 {
            self.last.retain(|incarnation, _| {
                *incarnation == self.own || state.node_of(*incarnation).is_some()
            });
        }
    }

    /// For how long nothing has been heard of that incarnation.
    pub(super) fn silence(&self, incarnation: Incarnation, now: Duration) -> Duration {
        let last = self.last.get(&incarnation).copied().unwrap_or(self.began);
        now.saturating_sub(last)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_node_counts_from_when_it_made_a_commit_and_others_from_when_they_folded_it() {
        let seconds = Duration::from_secs;
        let (own, other) = (
            Incarnation(Uuid::from_u128(1)),
            Incarnation(Uuid::from_u128(2)),
        );
        let mut heard = Heard::new(own, seconds(100));
        assert_eq!(
            heard.silence(other, seconds(107)),
            seconds(7),
            "from the start"
        );
        for counter in 1..=3 {
            heard.made(counter, seconds(110 + counter));
        }
        let folded = |incarnation, counter| CommitId {
            incarnation,
            counter,
        };
        heard.folded(folded(own, 2), seconds(130), &State::new());
        assert_eq!(heard.silence(own, seconds(131)), seconds(19));
        heard.folded(folded(own, 3), seconds(131), &State::new());
        assert_eq!(heard.silence(own, seconds(131)), seconds(18));
    }
}
