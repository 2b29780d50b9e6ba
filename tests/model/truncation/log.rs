//! The log and its fold, as far as truncation goes.

use super::{Instant, Rule, Truncation};

/// The number of a commit, from 1.
pub(super) type Seq = u8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Op {
    /// Any op that brings no bytes.
    Plain,
    /// An append whose bytes are in the commit.
    Data,
    /// The last slice in the commit goes: deleted, expired or replaced.
    Retire(Seq),
    SnapshotTaken(Seq),
    RaiseLogBoundary(Seq),
    LogTruncated(Seq),
}

/// A run of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Author {
    pub(super) node: u8,
    pub(super) run: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Commit {
    pub(super) author: Author,
    pub(super) counter: u8,
    pub(super) time: Instant,
    pub(super) op: Op,
}

impl Commit {
    pub(super) fn is(&self, other: &Commit) -> bool {
        (self.author, self.counter) == (other.author, other.counter)
    }
}

impl std::fmt::Debug for Commit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Commit {
            author: Author { node, run },
            counter,
            time,
            op,
        } = self;
        write!(f, "{op:?} by {node}.{run}#{counter} at {time}")
    }
}

/// What the fold of a prefix of the log comes to.
#[derive(Clone, Debug, Default)]
pub(super) struct Folded {
    pub(super) time: Instant,
    /// By the seq of their last commit, oldest first.
    authors: Vec<(Author, u8)>,
    pub(super) snapshots: Vec<(Seq, Instant)>,
    pub(super) boundary: Seq,
    pub(super) truncated: Seq,
    pub(super) live: Vec<Seq>,
    /// Those that died, and when by the fold's time.
    pub(super) dead: Vec<(Seq, Instant)>,
    /// A commit was folded twice.
    pub(super) is_double: bool,
}

impl Folded {
    pub(super) fn newest_snapshot(&self) -> Seq {
        self.snapshots.last().map_or(0, |(seq, _)| *seq)
    }
}

impl Truncation {
    pub(super) fn fold(&self, log: &[Commit]) -> Folded {
        let mut state = Folded::default();
        for (at, commit) in log.iter().enumerate() {
            if !self.is_first_time(&mut state, commit) {
                continue;
            }
            state.is_double |= log[..at].iter().any(|earlier| earlier.is(commit));
            state.time = state.time.max(commit.time);
            self.apply(&mut state, at as Seq + 1, commit.op);
        }
        state
    }

    /// The duplicate guard.
    fn is_first_time(&self, state: &mut Folded, commit: &Commit) -> bool {
        let mut authors = state.authors.iter();
        if let Some(known) = authors.position(|(author, _)| *author == commit.author) {
            if state.authors[known].1 >= commit.counter {
                return false;
            }
            state.authors.remove(known);
        }
        state.authors.push((commit.author, commit.counter));
        if state.authors.len() > self.most_authors {
            state.authors.remove(0);
        }
        true
    }

    fn apply(&self, state: &mut Folded, seq: Seq, op: Op) {
        match op {
            Op::Plain => {}
            Op::Data => state.live.push(seq),
            Op::Retire(seq) => {
                if state.live.contains(&seq) {
                    state.live.retain(|live| *live != seq);
                    state.dead.push((seq, state.time));
                }
            }
            Op::SnapshotTaken(seq) => {
                if state.newest_snapshot() < seq {
                    state.snapshots.push((seq, state.time));
                }
            }
            Op::RaiseLogBoundary(to) => {
                if to <= self.limit(state, seq - 1, state.time) {
                    state.boundary = state.boundary.max(to);
                }
            }
            Op::LogTruncated(to) => {
                state.truncated = state.truncated.max(to.min(state.boundary));
            }
        }
    }

    /// The highest seq that the boundary may be raised to by the fold of the log up to `seq`.
    pub(super) fn limit(&self, state: &Folded, seq: Seq, now: Instant) -> Seq {
        if !self.on(Rule::SnapshotBehindBoundary) {
            return seq;
        }
        let of_age = |since: Instant| since + self.age <= now || !self.on(Rule::TruncationAge);
        let of_age = state.snapshots.iter().filter(|(_, since)| of_age(*since));
        let newest = of_age.map(|(seq, _)| *seq).max();
        newest.unwrap_or(0).max(state.boundary)
    }
}
