//! Folding the log that lies in the bucket, and comparing the snapshots with it.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;

use super::commit::{self, ReadCommit};
use super::finding::{About, Candidate};
use super::read::{Looked, kind_of_object, look};
use super::{Finding, Inventory, Kind, Walk};
use crate::invariants::at_rest::{Reference, slice_lies_within, slice_resolves, states_are_equal};
use crate::manifest::{ObjectError, SnapshotParts};
use crate::state::op::{AppendSource, Op};
use crate::state::{ObjectRef, State};
use crate::store::{ObjectPath, RequestKind, StoreError};
use crate::types::{Offset, Seq, TopicPartition};

/// How many commits are read at once.
const COMMITS_AT_ONCE: usize = 16;

/// The fold of the log, as far as it goes.
#[derive(Debug, Default)]
pub(in crate::maintain) struct Fold {
    /// The state at the last commit that could be folded; none if there is neither a first commit nor a snapshot.
    pub(in crate::maintain) state: Option<State>,
    /// Whether the state is that of the last commit listed.
    pub(in crate::maintain) is_complete: bool,
    /// Whether some snapshot is another state than the fold.
    pub(super) differs: bool,
    /// The snapshots that were read.
    looked: BTreeSet<Seq>,
    /// Which commits were read and folded.
    pub(super) runs: Vec<RangeInclusive<u64>>,
    /// How many commits were read.
    pub(super) commits: u64,
    /// How many snapshots were compared with the fold.
    pub(super) compared: u64,
    /// How many bytes were read.
    pub(super) bytes: u64,
}

/// How a run of commits ended.
enum Ended {
    /// With the last one listed.
    AtTheEnd,
    /// Before one that is not there or cannot be read.
    Before(Seq),
}

impl Fold {
    /// Whether the commit was read and folded.
    pub(super) fn has(&self, seq: Seq) -> bool {
        self.runs.iter().any(|run| run.contains(&seq.0))
    }

    /// Folds on, up to the end of the log as listed. What is there no more is taken out of the inventory.
    pub(super) async fn advance(
        &mut self,
        walk: &Walk<'_>,
        inventory: &mut Inventory,
        found: &mut Vec<Candidate>,
    ) -> Result<(), StoreError> {
        let end = inventory.log_end();
        if self.state.is_none() {
            self.begin(walk, inventory, found).await?;
        }
        self.is_complete = false;
        while self.state.is_some() {
            match self.run(walk, end, inventory, found).await? {
                Ended::AtTheEnd => {
                    self.is_complete = true;
                    break;
                }
                Ended::Before(seq) => {
                    if !self.restart(walk, seq, inventory, found).await? {
                        break;
                    }
                }
            }
        }
        if self.is_complete {
            // A snapshot of a seq that the log does not reach is what nodes start from.
            self.restart(walk, end.next(), inventory, found).await?;
        }
        let listed: Vec<Seq> = inventory.snapshots.keys().copied().collect();
        for seq in listed {
            if !self.looked.contains(&seq) {
                self.snapshot(walk, seq, inventory, found).await?;
            }
        }
        Ok(())
    }

    /// Takes the state to begin with: that before the first commit, if the log was never truncated and its beginning is
    /// there. Else that of a snapshot, and not of one within what may be truncated: what stands there may be what a
    /// node that slept left at a free name.
    async fn begin(
        &mut self,
        walk: &Walk<'_>,
        inventory: &mut Inventory,
        found: &mut Vec<Candidate>,
    ) -> Result<(), StoreError> {
        let first = Seq::ZERO.next();
        let boundary = inventory.boundaries.last_key_value().map(|(seq, _)| *seq);
        if let Some(boundary) = boundary
            && self.restart(walk, boundary, inventory, found).await?
        {
            return Ok(());
        }
        let is_new = inventory.commits.is_empty() && inventory.snapshots.is_empty();
        if is_new || inventory.commits.contains_key(&first) {
            self.state = Some(State::new());
        } else {
            self.restart(walk, first, inventory, found).await?;
        }
        Ok(())
    }

    /// Starts over from the newest snapshot alone, as a node does, and folds the log after it.
    pub(in crate::maintain) async fn as_a_node(
        &mut self,
        walk: &Walk<'_>,
        inventory: &mut Inventory,
    ) -> Result<(), StoreError> {
        let newest = inventory.snapshots.pop_last();
        inventory.snapshots = newest.into_iter().collect();
        let mut found = Vec::new();
        if let Some((newest, _)) = newest {
            self.restart(walk, newest, inventory, &mut found).await?;
        }
        self.advance(walk, inventory, &mut found).await
    }

    /// Takes the state of the first snapshot from `from` on that can be read. False if there is none.
    async fn restart(
        &mut self,
        walk: &Walk<'_>,
        from: Seq,
        inventory: &mut Inventory,
        found: &mut Vec<Candidate>,
    ) -> Result<bool, StoreError> {
        let listed: Vec<Seq> = inventory.snapshots.range(from..).map(|(s, _)| *s).collect();
        for seq in listed {
            if let Some((state, _)) = self.snapshot(walk, seq, inventory, found).await? {
                self.state = Some(state);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The state in a snapshot, and whether it was written in the present version of the format: of an older one it
    /// cannot be said that the fold must give the same, since the state has learnt to note more.
    async fn snapshot(
        &mut self,
        walk: &Walk<'_>,
        seq: Seq,
        inventory: &mut Inventory,
        found: &mut Vec<Candidate>,
    ) -> Result<Option<(State, bool)>, StoreError> {
        self.looked.insert(seq);
        let path = ObjectPath::snapshot(seq);
        let mut about = About::Snapshot(seq);
        let (kind, detail) = match look(walk.store.get(&path, RequestKind::SnapshotGet).await)? {
            Looked::Gone => {
                inventory.snapshots.remove(&seq);
                return Ok(None);
            }
            Looked::Bad(kind, detail) => (kind, detail),
            Looked::At(bytes) => {
                self.bytes += bytes.len() as u64;
                match self.state_of(walk, seq, &bytes).await? {
                    Looked::At(read) => return Ok(Some(read)),
                    Looked::Bad(kind, detail) => (kind, detail),
                    // Its head was deleted before it.
                    Looked::Gone if self.is_gone(walk, &path).await? => {
                        inventory.snapshots.remove(&seq);
                        return Ok(None);
                    }
                    Looked::Gone => {
                        about = About::Chunks(seq);
                        (Kind::Corrupt, "one of its chunks is missing".to_owned())
                    }
                }
            }
        };
        let finding = Finding::new(kind, path.as_str(), detail).inspect(path.as_str());
        found.push(Candidate { about, finding });
        Ok(None)
    }

    /// The same of `bytes`, the snapshot object, with its chunks if it has any. `Gone` if one of them is not there.
    async fn state_of(
        &mut self,
        walk: &Walk<'_>,
        seq: Seq,
        bytes: &Bytes,
    ) -> Result<Looked<(State, bool)>, StoreError> {
        let path = ObjectPath::snapshot(seq);
        let bad = |error: &ObjectError| Looked::Bad(kind_of_object(error), error.to_string());
        let parts = match SnapshotParts::decode(path.as_str(), bytes) {
            Ok(parts) => parts,
            Err(error) => return Ok(bad(&error)),
        };
        let mut chunks = Vec::new();
        for (index, len) in (0..).zip(parts.chunks()) {
            let chunk = ObjectPath::chunk(seq, index);
            let bytes = match look(walk.store.get(&chunk, RequestKind::SnapshotGet).await)? {
                Looked::At(bytes) => bytes,
                Looked::Gone => return Ok(Looked::Gone),
                Looked::Bad(kind, detail) => return Ok(Looked::Bad(kind, detail)),
            };
            self.bytes += bytes.len() as u64;
            match SnapshotParts::chunk(chunk.as_str(), *len, &bytes) {
                Ok(data) => chunks.push(data),
                Err(error) => return Ok(bad(&error)),
            }
        }
        Ok(match parts.state(path.as_str(), seq, &chunks) {
            Ok(state) => {
                let is_present = parts.is_present(state.level());
                Looked::At((state, is_present))
            }
            Err(error) => bad(&error),
        })
    }

    async fn is_gone(&self, walk: &Walk<'_>, path: &ObjectPath) -> Result<bool, StoreError> {
        let head = look(walk.store.head(path, RequestKind::SnapshotGet).await)?;
        Ok(matches!(head, Looked::Gone))
    }

    /// Folds commit after commit from the state on, and compares the snapshots on the way.
    async fn run(
        &mut self,
        walk: &Walk<'_>,
        end: Seq,
        inventory: &mut Inventory,
        found: &mut Vec<Candidate>,
    ) -> Result<Ended, StoreError> {
        let from = self.state.as_ref().map_or(Seq::ZERO, State::seq).next();
        // Those that are known to be there, and no others: in a gap nothing is asked for.
        let known = contiguous(inventory, from, end);
        let due: BTreeSet<Seq> = inventory.snapshots.keys().copied().collect();
        let mut commits = stream::iter(from.0..=known)
            .map(|seq| async move { (Seq(seq), commit::read(walk, Seq(seq)).await) })
            .buffered(COMMITS_AT_ONCE);
        let mut begun = false;
        while let Some((seq, read)) = commits.next().await {
            let read = match read? {
                Looked::At(read) => read,
                Looked::Gone => {
                    inventory.commits.remove(&seq);
                    return Ok(Ended::Before(seq));
                }
                Looked::Bad(kind, detail) => {
                    found.push(of_commit(seq, kind, detail));
                    return Ok(Ended::Before(seq));
                }
            };
            match self.runs.last_mut() {
                Some(run) if begun => *run = *run.start()..=seq.0,
                _ => self.runs.push(seq.0..=seq.0),
            }
            begun = true;
            self.commits += 1;
            self.bytes += read.bytes;
            walk.watch.advance(1);
            self.fold(seq, &read, found);
            if due.contains(&seq)
                && let Some((snapshot, true)) = self.snapshot(walk, seq, inventory, found).await?
            {
                self.compare(seq, &snapshot, found);
            }
        }
        drop(commits);
        if known == end.0 || from > end {
            Ok(Ended::AtTheEnd)
        } else {
            Ok(Ended::Before(Seq(known).next()))
        }
    }

    fn fold(&mut self, seq: Seq, read: &ReadCommit, found: &mut Vec<Candidate>) {
        let Some(state) = &mut self.state else {
            return;
        };
        let before = state.clone();
        state.apply(seq, &read.logged.commit, read.logged.data_start);
        let commit = &read.logged.commit;
        let forwarded = commit.forwarded.iter().flat_map(|forwarded| &forwarded.ops);
        let slices = new_slices(&before, state, seq, commit.ops.iter().chain(forwarded));
        found.extend(check_data(seq, read, state, &slices));
    }

    /// I3.
    fn compare(&mut self, seq: Seq, snapshot: &State, found: &mut Vec<Candidate>) {
        let Some(state) = &self.state else {
            return;
        };
        self.compared += 1;
        let path = ObjectPath::snapshot(seq);
        if let Some(violation) = states_are_equal(state, path.as_str(), snapshot) {
            self.differs = true;
            found.push(Candidate {
                about: About::Snapshot(seq),
                finding: Finding::of(Kind::SnapshotDiffers, path.as_str(), violation)
                    .inspect(path.as_str()),
            });
        }
    }
}

/// The last seq of the commits that follow one another from `from` on; the one before it if there is none.
fn contiguous(inventory: &Inventory, from: Seq, end: Seq) -> u64 {
    let gap = inventory.gaps(Seq(from.0.saturating_sub(1)));
    let first = gap.first().map(|gap| gap.start().saturating_sub(1));
    first.unwrap_or(end.0.max(from.0.saturating_sub(1)))
}

pub(super) fn of_commit(seq: Seq, kind: Kind, detail: String) -> Candidate {
    let finding = Finding::new(kind, ObjectPath::commit(seq).as_str(), detail);
    Candidate {
        about: About::Commit(seq),
        finding: finding.inspect(seq.to_string()),
    }
}

/// The slices that folding this commit made of the data in it.
fn new_slices<'a>(
    before: &State,
    after: &State,
    seq: Seq,
    ops: impl Iterator<Item = &'a Op>,
) -> Vec<Reference> {
    let appended: BTreeSet<TopicPartition> = ops
        .filter_map(|op| match op {
            Op::Append(append) if append.source == AppendSource::Inline => Some(append.partition),
            _ => None,
        })
        .collect();
    let slices = appended.into_iter().flat_map(|id| {
        let from = before
            .partition(id)
            .map_or(Offset::ZERO, |p| p.high_watermark());
        let slices = after.partition(id).into_iter();
        slices
            .flat_map(move |partition| partition.slices_from(from))
            .map(move |(base, slice)| Reference {
                partition: id,
                base,
                slice: *slice,
            })
    });
    slices
        .filter(|reference| reference.slice.object == ObjectRef::Commit(seq))
        .collect()
}

/// I4 of the slices in a commit, and whether its data is sound where no slice is.
pub(super) fn check_data(
    seq: Seq,
    read: &ReadCommit,
    state: &State,
    slices: &[Reference],
) -> Vec<Candidate> {
    let path = ObjectPath::commit(seq);
    let mut found = Vec::new();
    for reference in slices {
        let violation = slice_lies_within(state, reference, &read.data).or_else(|| {
            let whole = read.whole.as_ref()?;
            let range = reference.range();
            let bytes =
                whole.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)?;
            slice_resolves(state, *reference, bytes)
        });
        found.extend(violation.map(|violation| Candidate {
            about: About::Slice(*reference),
            finding: Finding::of(Kind::BadSlice, path.as_str(), violation).inspect(seq.to_string()),
        }));
    }
    if let Some((kind, detail)) = read.damage.clone() {
        let is_of_data = kind == Kind::Corrupt;
        match (is_of_data, found.is_empty()) {
            // The slices tell it better.
            (true, false) => {}
            (true, true) if read.whole.is_some() => {
                found.push(of_commit(seq, Kind::DamagedUnused, detail));
            }
            _ => found.push(of_commit(seq, kind, detail)),
        }
    }
    found
}
