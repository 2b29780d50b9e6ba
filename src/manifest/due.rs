//! When a snapshot is due, and who takes it.
//!
//! Two things must be bounded, each by itself: what a start has to do, and what snapshots cost.
//!
//! A start reads the commits after the last snapshot and folds what is in them. So a snapshot is due after so many
//! commits, and after so many entries (ops, and batches of appends), whichever comes first: at 100,000 entries a second
//! a few hundred commits are a minute of folding. How many entries those are is counted by each node for itself from
//! what it folds; it is no part of the state, and nothing but the moment of a snapshot depends on it.
//!
//! A snapshot must pay: so many bytes of it per commit, or per entry, and no more, are written on top of the log.
//!
//! Which seq a snapshot is of: so many commits after the last one, or twice as many, and so on, which is the same on
//! all nodes that have the same options; so they have that state at hand when the snapshot is announced
//! (`divergence.rs`). Only one that is due by entries is of the state that its node has just then.
//!
//! Of several nodes that commit, one takes it: they all know to whom it falls, and the others wait for as long again,
//! in case that one is idle, dead or too slow. If two take one all the same, nothing is lost but the work.

use std::collections::VecDeque;

use super::options::ManifestOptions;
use crate::state::op::{Commit, Op};
use crate::state::{Snapshot, State};
use crate::types::{Incarnation, Seq, bid};

/// A snapshot is due no sooner than one commit after the last for every so many bytes of it.
const BYTES_PER_COMMIT: u64 = 32 << 10;

/// However large a snapshot is, it is due after so many commits: they are read one by one.
const MAX_COMMITS: u64 = 8 << 10;

/// A snapshot is due after so many entries: what a node folds in two to five seconds.
const MAX_ENTRIES: u64 = 1_000_000;

/// But no sooner than one entry after the last for every so many bytes of it.
const BYTES_PER_ENTRY: u64 = 128;

/// How many entries lie between two marks.
const SPACING: u64 = 10_000;

/// How many entries this node has folded since which seq.
#[derive(Debug)]
pub(super) struct Replay {
    /// Since this node began.
    entries: u64,
    /// How many entries had been folded at which seq, oldest first, sparse. The first is the one that the last snapshot
    /// is measured from, and may be a little older than it.
    marks: VecDeque<(Seq, u64)>,
}

impl Replay {
    /// Begins with the state at `seq`.
    pub(super) fn new(seq: Seq) -> Replay {
        Replay {
            entries: 0,
            marks: VecDeque::from([(seq, 0)]),
        }
    }

    /// Notes what was folded at `seq`; `snapshot` is the last that is known then.
    pub(super) fn note(&mut self, seq: Seq, commit: &Commit, snapshot: Option<Snapshot>) {
        let forwarded = commit.forwarded.iter().flat_map(|forwarded| &forwarded.ops);
        let entries = commit.ops.iter().chain(forwarded).map(entries);
        self.entries += entries.sum::<u64>();
        // The last mark is always of the last commit; it moves while it is close to the one before.
        let before = self.marks.len().checked_sub(2);
        let before = before.and_then(|index| self.marks.get(index));
        if before.is_some_and(|(_, entries)| self.entries < entries + SPACING) {
            self.marks.pop_back();
        }
        self.marks.push_back((seq, self.entries));
        let snapshot = snapshot.map_or(Seq::ZERO, |snapshot| snapshot.seq);
        while self.marks.get(1).is_some_and(|(seq, _)| *seq <= snapshot) {
            self.marks.pop_front();
        }
    }

    /// How many entries were folded since the last snapshot, or since this node began; a few more at most.
    pub(super) fn entries(&self) -> u64 {
        let first = self.marks.front().map_or(0, |(_, entries)| *entries);
        self.entries - first
    }
}

/// What folding an op costs, about.
fn entries(op: &Op) -> u64 {
    match op {
        Op::Append(append) => append.entries.len() as u64,
        _ => 1,
    }
}

/// Why a snapshot is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// By the commits that a start reads.
    Commits,
    /// By what it folds.
    Entries,
}

/// How many commits after the last snapshot the next is due.
fn commits_between(state: &State, options: &ManifestOptions) -> u64 {
    let bytes = state.last_snapshot().map_or(0, |last| last.bytes);
    let by_size = (bytes / BYTES_PER_COMMIT).min(MAX_COMMITS);
    by_size.max(options.snapshot_every).max(1)
}

/// Whether `state` is at a seq of which snapshots are taken.
pub(super) fn is_of_snapshots(state: &State, options: &ManifestOptions) -> bool {
    let last = state.last_snapshot().map_or(Seq::ZERO, |last| last.seq);
    let commits = state.seq().0.saturating_sub(last.0);
    commits > 0 && commits.is_multiple_of(commits_between(state, options))
}

/// Whether a snapshot is due, now that this node is at `state`. `tried` is the seq of the last that it has tried to
/// take.
pub(super) fn due(
    state: &State,
    entries: u64,
    tried: Seq,
    options: &ManifestOptions,
    node: Incarnation,
) -> Option<Due> {
    let last = state.last_snapshot();
    let bytes = last.map_or(0, |last| last.bytes);
    let last = last.map_or(Seq::ZERO, |last| last.seq);
    let mut max_commits = commits_between(state, options);
    let mut max_entries = (bytes / BYTES_PER_ENTRY).max(MAX_ENTRIES);
    if !falls_to(state, last, node) {
        max_commits = max_commits.saturating_mul(2);
        max_entries *= 2;
    }
    let commits = state.seq().0.saturating_sub(last.max(tried).0);
    // One that failed is tried again when as many commits have come again.
    let by_entries = tried <= last && max_entries <= entries;
    if max_commits <= commits {
        Some(Due::Commits)
    } else {
        by_entries.then_some(Due::Entries)
    }
}

/// Whether the snapshot after that of `last` falls to this node: to one of the live ones, or to everybody if there is
/// none.
fn falls_to(state: &State, last: Seq, node: Incarnation) -> bool {
    let bids = |of: Incarnation| bid(last.0, of.0.as_u64_pair().1);
    let live = state
        .nodes()
        .filter(|(_, known)| state.time() <= known.lease_until());
    let most = live
        .map(|(_, known)| known.incarnation())
        .max_by_key(|of| bids(*of));
    most.is_none_or(|most| most == node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::op::{Append, AppendEntry, AppendSource};
    use crate::types::{CommitId, LogId, PartitionIndex, Timestamp, TopicId, TopicPartition};

    fn commit(counter: u64, entries: usize) -> Commit {
        let entry = AppendEntry {
            start: 0,
            len: 1,
            records: 1,
            max_timestamp: Timestamp(0),
            producer: None,
        };
        let append = Append {
            partition: TopicPartition {
                topic: TopicId::default(),
                partition: PartitionIndex(0),
            },
            source: AppendSource::Inline,
            entries: vec![entry; entries],
        };
        Commit {
            id: CommitId {
                incarnation: Incarnation::default(),
                counter,
            },
            time: Timestamp(0),
            wall: None,
            ops: vec![Op::Append(append)],
            follows: None,
            forwarded: Vec::new(),
            log: LogId::ZERO,
        }
    }

    #[test]
    fn what_a_start_must_fold_is_bounded_however_much_is_in_a_commit() {
        let options = ManifestOptions::default();
        let (mut state, mut replay) = (State::new(), Replay::new(Seq::ZERO));
        let mut taken = Vec::new();
        for n in 1..=3_000u64 {
            let mut next = commit(n, 2_000);
            if taken.last() == Some(&n) {
                next.ops.push(Op::SnapshotTaken {
                    seq: Seq(n - 1),
                    bytes: 1000,
                    digest: None,
                });
            }
            state.apply(Seq(n), &next, 0);
            replay.note(Seq(n), &next, state.last_snapshot());
            let due = due(
                &state,
                replay.entries(),
                Seq::ZERO,
                &options,
                Incarnation::default(),
            );
            if due.is_some() {
                taken.push(n + 1);
            }
            assert!(
                replay.entries() <= MAX_ENTRIES + 2 * SPACING,
                "{}",
                replay.entries()
            );
            assert!(replay.marks.len() < 200);
        }
        // A commit has 2,000 entries: 256 commits come first.
        assert!((11..=12).contains(&taken.len()), "{taken:?}");
        let mut replay = Replay::new(Seq::ZERO);
        let mut state = State::new();
        for n in 1..=300 {
            let next = commit(n, 20_000);
            state.apply(Seq(n), &next, 0);
            replay.note(Seq(n), &next, None);
            let due = due(
                &state,
                replay.entries(),
                Seq::ZERO,
                &options,
                Incarnation::default(),
            );
            let expected = match n {
                0..50 => None,
                50..256 => Some(Due::Entries),
                _ => Some(Due::Commits),
            };
            assert_eq!(due, expected, "{n}");
        }
    }
}
