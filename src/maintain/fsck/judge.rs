//! What must be there, against what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::finding::About;
use super::{Finding, Fold, Inventory, Kind};
use crate::invariants::at_rest::{
    Reference, name_of, offsets_are_dense, referenced_objects_exist, references,
};
use crate::invariants::{Invariant, Violation};
use crate::state::{ObjectRef, State};
use crate::store::ObjectPath;
use crate::types::{SegmentId, Seq, Timestamp, TopicPartition};

/// How old a segment that nothing refers to must be before it is taken for one that never will be; also what a
/// check of the store may take.
pub(in crate::maintain) const YOUNG: Duration = Duration::from_secs(60 * 60);

/// What one look at the bucket says: listing against state.
#[derive(Debug)]
pub(super) struct Judgement {
    no_cluster: bool,
    gaps: Vec<RangeInclusive<u64>>,
    missing: BTreeMap<ObjectRef, Violation>,
    missing_snapshots: BTreeSet<Seq>,
    /// Snapshots of seqs that the log does not reach.
    beyond: BTreeSet<Seq>,
    spare_snapshots: BTreeSet<Seq>,
    /// Up to where the log is truncated without a boundary that says so.
    unbounded: Option<Seq>,
    undense: BTreeMap<TopicPartition, Violation>,
    orphans: BTreeSet<SegmentId>,
    uploading: BTreeSet<SegmentId>,
    not_judged: bool,
    /// Commits that were truncated and are still there.
    spare_commits: BTreeSet<Seq>,
    checks: BTreeSet<String>,
    foreign: BTreeSet<String>,
    refers: BTreeMap<ObjectRef, Vec<Reference>>,
    exists: Exists,
    state: State,
}

/// What of the bucket matters for whether a finding still stands.
#[derive(Debug)]
struct Exists {
    commits: BTreeSet<Seq>,
    snapshots: BTreeSet<Seq>,
    boundaries: BTreeSet<Seq>,
    segments: BTreeSet<SegmentId>,
}

impl Judgement {
    pub(super) fn of(inventory: &Inventory, fold: &Fold, now: Timestamp) -> Judgement {
        let state = fold.state.clone().unwrap_or_default();
        let refers = references(&state);
        let missing = referenced_objects_exist(&state, &refers, |object| match object {
            ObjectRef::Commit(seq) => inventory.commits.contains_key(&seq),
            ObjectRef::Segment(id) => inventory.segments.contains_key(&id),
        });
        let unreferenced = || {
            let segments = inventory.segments.keys().copied();
            segments.filter(|id| {
                let object = ObjectRef::Segment(*id);
                let waits = state.death_of(object).is_some_and(|dead| !dead.deleted);
                !waits && !refers.contains_key(&object)
            })
        };
        let is_young = |id: &SegmentId| now.since(id.minted()) < YOUNG;
        let not_judged = !fold.is_complete || fold.differs || fold.state.is_none();
        let (mut orphans, mut uploading) = (BTreeSet::new(), BTreeSet::new());
        if !not_judged {
            orphans.extend(unreferenced().filter(|id| !is_young(id)));
            uploading.extend(unreferenced().filter(is_young));
        }
        let announced: BTreeSet<Seq> = state.snapshots().map(|snapshot| snapshot.seq).collect();
        let end = inventory.log_end().max(state.log_boundary());
        let newest = announced.last().copied().unwrap_or(Seq::ZERO);
        let snapshots = || inventory.snapshots.keys().copied();
        let checks = inventory.checks.iter();
        Judgement {
            no_cluster: inventory.cluster.is_none(),
            gaps: inventory.gaps(state.log_boundary()),
            missing: missing.into_iter().collect(),
            missing_snapshots: announced
                .iter()
                .copied()
                .filter(|seq| !inventory.snapshots.contains_key(seq))
                .filter(|seq| !inventory.copied_snapshots.contains(seq))
                .collect(),
            beyond: snapshots().filter(|seq| *seq > end).collect(),
            // One that is newer than the last announced is being announced.
            spare_snapshots: snapshots()
                .chain(inventory.chunks.keys().map(|(seq, _)| *seq))
                .filter(|seq| *seq < newest && !announced.contains(seq))
                .collect(),
            unbounded: unbounded(&state, inventory),
            undense: undense(&state),
            spare_commits: spare_commits(&state, inventory),
            not_judged: not_judged && unreferenced().next().is_some(),
            orphans,
            uploading,
            checks: checks
                .filter(|(_, _, written)| now.since(*written) >= YOUNG)
                .map(|(name, _, _)| name.clone())
                .collect(),
            foreign: inventory
                .foreign
                .iter()
                .map(|(name, _)| name.clone())
                .collect(),
            exists: Exists {
                commits: inventory.commits.keys().copied().collect(),
                snapshots: snapshots().collect(),
                boundaries: inventory.boundaries.keys().copied().collect(),
                segments: inventory.segments.keys().copied().collect(),
            },
            refers,
            state,
        }
    }

    /// Whether there is nothing to say.
    pub(super) fn is_clear(&self) -> bool {
        !self.no_cluster
            && !self.not_judged
            && self.gaps.is_empty()
            && self.missing.is_empty()
            && self.missing_snapshots.is_empty()
            && self.beyond.is_empty()
            && self.spare_snapshots.is_empty()
            && self.unbounded.is_none()
            && self.undense.is_empty()
            && self.orphans.is_empty()
            && self.uploading.is_empty()
            && self.spare_commits.is_empty()
            && self.checks.is_empty()
            && self.foreign.is_empty()
    }

    /// What both say: what only one of two looks saw was under way.
    pub(super) fn confirmed_by(self, again: Judgement) -> Judgement {
        let mut both = again;
        both.no_cluster &= self.no_cluster;
        both.not_judged &= self.not_judged;
        both.gaps = overlap(&self.gaps, &both.gaps);
        both.missing
            .retain(|object, _| self.missing.contains_key(object));
        both.missing_snapshots
            .retain(|seq| self.missing_snapshots.contains(seq));
        both.beyond.retain(|seq| self.beyond.contains(seq));
        both.spare_snapshots
            .retain(|seq| self.spare_snapshots.contains(seq));
        both.unbounded = both.unbounded.filter(|_| self.unbounded.is_some());
        both.undense.retain(|id, _| self.undense.contains_key(id));
        both.orphans.retain(|id| self.orphans.contains(id));
        both.uploading.retain(|id| self.uploading.contains(id));
        both.spare_commits
            .retain(|seq| self.spare_commits.contains(seq));
        both.checks.retain(|name| self.checks.contains(name));
        both.foreign.retain(|name| self.foreign.contains(name));
        both
    }

    /// Whether what a finding is about is still there, and still matters.
    pub(super) fn concerns(&self, about: &About) -> bool {
        match about {
            About::Cluster => !self.no_cluster,
            About::Snapshot(seq) => self.exists.snapshots.contains(seq),
            About::Chunks(seq) => {
                let is_listed = self.state.snapshots().any(|known| known.seq == *seq);
                is_listed && self.exists.snapshots.contains(seq)
            }
            About::Boundary(seq) => self.exists.boundaries.contains(seq),
            About::Commit(seq) => {
                let needed = *seq > self.state.log_boundary()
                    || self.refers.contains_key(&ObjectRef::Commit(*seq));
                needed && self.exists.commits.contains(seq)
            }
            About::Segment(id) => {
                self.refers.contains_key(&ObjectRef::Segment(*id))
                    && self.exists.segments.contains(id)
            }
            About::Slice(reference) => {
                let slices = self.refers.get(&reference.slice.object);
                slices.is_some_and(|slices| {
                    slices.iter().any(|slice| {
                        (slice.partition, slice.base, slice.slice.start)
                            == (reference.partition, reference.base, reference.slice.start)
                    })
                })
            }
        }
    }

    pub(super) fn into_findings(self, inventory: &Inventory, fold: &Fold) -> Vec<Finding> {
        let mut found = Vec::new();
        if self.no_cluster {
            let detail = match inventory.objects {
                0 => "there is nothing under this URL".to_owned(),
                objects => format!("it does not exist, but {objects} other objects do"),
            };
            let cluster = ObjectPath::cluster();
            found.push(Finding::new(Kind::NoCluster, cluster.as_str(), detail));
        }
        found.extend(self.gaps.iter().map(|gap| gap_finding(gap, inventory)));
        found.extend(ahead(inventory));
        for (object, violation) in self.missing {
            let path = path_of(object);
            found.push(Finding::of(Kind::MissingObject, path.as_str(), violation));
        }
        for seq in self.missing_snapshots {
            let path = ObjectPath::snapshot(seq);
            let detail = "it was announced, but does not exist".to_owned();
            found.push(
                Finding::new(Kind::MissingSnapshot, path.as_str(), detail)
                    .breaking(Invariant::NothingReferencedIsDeleted),
            );
        }
        for seq in self.beyond {
            let path = ObjectPath::snapshot(seq);
            let detail = format!(
                "it is of commit {seq}, and the last commit there is {}",
                inventory.log_end()
            );
            found.push(Finding::new(Kind::LogCutOff, path.as_str(), detail).inspect(path.as_str()));
        }
        for seq in self.spare_snapshots {
            let path = match inventory.snapshots.contains_key(&seq) {
                true => ObjectPath::snapshot(seq),
                false => ObjectPath::chunk(seq, 0),
            };
            let detail = "the state does not list it".to_owned();
            found.push(
                Finding::new(Kind::SpareSnapshot, path.as_str(), detail).inspect(path.as_str()),
            );
        }
        if let Some(truncated) = self.unbounded {
            let newest = inventory.boundaries.last_key_value();
            let detail = match newest {
                Some((newest, _)) => {
                    format!(
                        "the log is truncated to {truncated}, but the newest boundary is {newest}"
                    )
                }
                None => format!("the log is truncated to {truncated}, but there is no boundary"),
            };
            let path = ObjectPath::boundary(truncated);
            found.push(Finding::new(Kind::MissingBoundary, path.as_str(), detail));
        }
        for (id, violation) in self.undense {
            let name = name_of(&self.state, id);
            found.push(Finding::of(Kind::BadOffsets, &name, violation));
        }
        for (kind, segments) in [
            (Kind::Orphan, self.orphans),
            (Kind::Uploading, self.uploading),
        ] {
            found.extend(segments.into_iter().map(|id| segment(kind, id, inventory)));
        }
        for seq in self.spare_commits {
            let path = ObjectPath::commit(seq);
            let detail = format!("the log is truncated up to {}", self.state.log_truncated());
            found.push(
                Finding::new(Kind::SpareCommit, path.as_str(), detail).inspect(seq.to_string()),
            );
        }
        if self.not_judged {
            let reached = fold.state.as_ref().map_or(Seq::ZERO, State::seq);
            let detail = format!(
                "the log ends at {}, but could be folded to {reached} only",
                inventory.log_end()
            );
            found.push(Finding::new(Kind::NotJudged, "segments/", detail));
        }
        for name in self.checks {
            found.push(Finding::new(
                Kind::CheckLeftover,
                &name,
                "older than an hour",
            ));
        }
        found.extend(foreign(self.foreign, inventory));
        for (kind, counted) in [
            (Kind::OtherLogs, &inventory.other_logs),
            (Kind::Copies, &inventory.copies),
        ] {
            found.extend(counted.first.as_ref().map(|first| {
                let detail = format!("{} objects, {} bytes", counted.objects, counted.bytes);
                Finding::new(kind, first, detail)
            }));
        }
        found
    }
}

/// Up to where commits are deleted, if no boundary says that they may be.
fn unbounded(state: &State, inventory: &Inventory) -> Option<Seq> {
    let truncated = state.log_truncated();
    let bounded = inventory.boundaries.range(truncated..).next().is_some();
    (truncated > Seq::ZERO && !bounded).then_some(truncated)
}

/// Commits of which the state says that they are deleted.
fn spare_commits(state: &State, inventory: &Inventory) -> BTreeSet<Seq> {
    let truncated = inventory.commits.range(..=state.log_truncated());
    truncated
        .map(|(seq, _)| *seq)
        .filter(|seq| {
            let object = ObjectRef::Commit(*seq);
            !state.is_live(object) && state.death_of(object).is_none()
        })
        .collect()
}

fn undense(state: &State) -> BTreeMap<TopicPartition, Violation> {
    let partitions = state.topics().flat_map(|topic| topic.partitions());
    partitions
        .filter_map(|(id, partition)| {
            let violation = offsets_are_dense(&name_of(state, id), partition)?;
            Some((id, violation))
        })
        .collect()
}

fn gap_finding(gap: &RangeInclusive<u64>, inventory: &Inventory) -> Finding {
    let first = Seq(*gap.start());
    let missing = if gap.start() == gap.end() {
        format!("commit {first} is missing")
    } else {
        format!("commits {first} to {} are missing", gap.end())
    };
    let newest = inventory.snapshots.last_key_value().map(|(seq, _)| *seq);
    let covered = match newest {
        Some(newest) if newest.0 >= *gap.end() => {
            format!("; a snapshot of {newest} covers them for nodes that start")
        }
        _ => "; no snapshot covers them".to_owned(),
    };
    let detail = format!(
        "{missing}, and the log goes on to {}{covered}",
        inventory.log_end()
    );
    let finding = Finding::new(
        Kind::MissingCommit,
        ObjectPath::commit(first).as_str(),
        detail,
    )
    .breaking(Invariant::NothingReferencedIsDeleted);
    match first.0.checked_sub(1).filter(|before| *before > 0) {
        Some(before) => finding.inspect(before.to_string()),
        None => finding,
    }
}

fn ahead(inventory: &Inventory) -> Option<Finding> {
    let (first, _) = inventory.ahead.first_key_value()?;
    let (end, count) = (inventory.log_end(), inventory.ahead.len());
    let detail =
        format!("the log ends with {end}, and {count} commits stand behind the next place");
    let finding = Finding::new(Kind::Ahead, ObjectPath::commit(*first).as_str(), detail);
    Some(finding.inspect(first.to_string()))
}

fn segment(kind: Kind, id: SegmentId, inventory: &Inventory) -> Finding {
    let size = inventory.segments.get(&id).copied().unwrap_or(0);
    let detail = format!("{size} bytes that nothing refers to");
    Finding::new(kind, ObjectPath::segment(id).as_str(), detail).inspect(id.to_string())
}

fn foreign(names: BTreeSet<String>, inventory: &Inventory) -> Vec<Finding> {
    let kept = inventory.foreign.len() as u64;
    let mut found: Vec<Finding> = inventory
        .foreign
        .iter()
        .filter(|(name, _)| names.contains(name))
        .map(|(name, size)| Finding::new(Kind::Foreign, name, format!("{size} bytes")))
        .collect();
    if let (Some(last), true) = (found.last_mut(), inventory.foreign_objects > kept) {
        last.detail = format!(
            "{}, and {} more such objects",
            last.detail,
            inventory.foreign_objects - kept
        );
    }
    found
}

pub(super) fn path_of(object: ObjectRef) -> ObjectPath {
    match object {
        ObjectRef::Commit(seq) => ObjectPath::commit(seq),
        ObjectRef::Segment(id) => ObjectPath::segment(id),
    }
}

/// The numbers that lie in both lists of ranges, each sorted and without overlaps.
fn overlap(a: &[RangeInclusive<u64>], b: &[RangeInclusive<u64>]) -> Vec<RangeInclusive<u64>> {
    let (mut i, mut j) = (0, 0);
    let mut both = Vec::new();
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        let (start, end) = (*x.start().max(y.start()), *x.end().min(y.end()));
        if start <= end {
            both.push(start..=end);
        }
        if x.end() < y.end() {
            i += 1;
        } else {
            j += 1;
        }
    }
    both
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overlap_of_gaps_is_what_both_looks_saw() {
        assert_eq!(overlap(&[1..=5, 8..=9], &[3..=8]), [3..=5, 8..=8]);
        assert_eq!(overlap(&[1..=5], &[1..=2, 4..=9]), [1..=2, 4..=5]);
        assert!(overlap(&[1..=5], &[6..=9]).is_empty());
        assert!(overlap(&[], &[6..=9]).is_empty());
    }
}
