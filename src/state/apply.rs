//! The fold of a commit: the guards that it must pass, then its ops in order, then the commits that it carries.
//!
//! What an op does is a rule of its domain; here is only which rule that is, one line for each op.

use super::group::REFRESHED_PER_COMMIT;
use super::objects::Now;
use super::op::{Applied, Commit, Op, Outcome};
use super::{Feature, Folded, State};
use crate::rules::{Rule, holds};
use crate::types::{CommitId, Incarnation, Seq, Timestamp};

/// How many incarnations are remembered. A commit that follows one of a forgotten incarnation is void, so there are
/// more than ever write by turns.
const MAX_INCARNATIONS: usize = 16 << 10;

/// How many were at the first level.
const FIRST_MAX_INCARNATIONS: usize = 1024;

/// One of the commits in an object, as the fold takes it.
struct Part<'a> {
    id: CommitId,
    time: Timestamp,
    wall: Option<Timestamp>,
    ops: &'a [Op],
    follows: Option<u64>,
    /// Where in the object the bytes of its inline appends begin.
    data_start: u64,
    /// Time before it.
    found: Timestamp,
}

impl State {
    /// Folds `commit`, which stands at `seq`, and the forwarded commits in its object; the object's data begin at
    /// `data_start`. Returns what became of itself.
    ///
    /// # Panics
    ///
    /// If `seq` is not the one after the last: folding out of order would be silent divergence, and only a
    /// bug of the caller can ask for it.
    pub fn apply(&mut self, seq: Seq, commit: &Commit, data_start: u64) -> Folded {
        self.apply_each(seq, commit, data_start, |_, _| {})
    }

    /// The same, telling `of_forwarded` what became of each forwarded commit in its object.
    ///
    /// # Panics
    ///
    /// As [`State::apply`].
    pub fn apply_each(
        &mut self,
        seq: Seq,
        commit: &Commit,
        data_start: u64,
        mut of_forwarded: impl FnMut(CommitId, Folded),
    ) -> Folded {
        assert_eq!(seq, self.seq.next(), "the manifest is folded in order");
        self.seq = seq;
        self.objects.at(self.now());
        let folded = self.apply_one(Part {
            id: commit.id,
            time: commit.time,
            wall: commit.wall,
            ops: &commit.ops,
            follows: commit.follows,
            data_start,
            found: self.time,
        });
        for forwarded in &commit.forwarded {
            let folded = self.apply_one(Part {
                id: forwarded.id,
                time: forwarded.time,
                wall: forwarded.wall,
                ops: &forwarded.ops,
                follows: Some(forwarded.follows),
                // What begins nowhere in the object is found out by whoever reads it.
                data_start: data_start.saturating_add(forwarded.start),
                found: self.time,
            });
            of_forwarded(forwarded.id, folded);
        }
        self.refresh_some(REFRESHED_PER_COMMIT);
        folded
    }

    /// Folds one of the commits in the object at the present seq.
    fn apply_one(&mut self, part: Part<'_>) -> Folded {
        if self.is_known(part.id) {
            return Folded::Duplicate;
        }
        if !self.is_in_order(&part) {
            return Folded::Void;
        }
        self.note_commit(part.id);
        let incarnation = part.id.incarnation;
        self.time = self.time_after(part.time, part.wall, incarnation);
        self.objects.at(self.now());
        self.hear_from(incarnation);
        self.begin_changes();
        let outcomes = self.apply_ops(&part);
        self.note_wall(incarnation, part.wall);
        Folded::Outcomes(outcomes)
    }

    fn apply_ops(&mut self, part: &Part<'_>) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(part.ops.len());
        let mut left = part.ops;
        while let [op, behind @ ..] = left {
            left = behind;
            let outcome = match op {
                Op::Asked(asked) => {
                    let count = usize::try_from(asked.ops).unwrap_or(usize::MAX);
                    let (asked_for, others) = behind.split_at(count.min(behind.len()));
                    let judged = self.judge_asked(asked, asked_for);
                    if judged.is_err() {
                        outcomes.extend(asked_for.iter().map(|_| judged.clone()));
                        left = others;
                    }
                    judged
                }
                op => self.apply_op(op, part),
            };
            outcomes.push(outcome);
        }
        outcomes
    }

    /// The duplicate guard: whether the commit, or a later one of its incarnation, was folded before.
    fn is_known(&self, id: CommitId) -> bool {
        let known = self.last_commit_of(id.incarnation);
        known.is_some_and(|known| known >= id.counter) && holds(Rule::CommitsFoldOnce)
    }

    /// The count of the last commit of an incarnation that was folded; `None` if there is none, or if so many others
    /// have come since that the fold has forgotten it.
    pub fn last_commit_of(&self, incarnation: Incarnation) -> Option<u64> {
        self.last_commits.last_of(incarnation)
    }

    /// Whether the last commit of its incarnation is the one that it says it follows.
    fn is_in_order(&self, part: &Part<'_>) -> bool {
        let Some(before) = part.follows else {
            return true;
        };
        let incarnation = part.id.incarnation;
        match self.last_commit_of(incarnation) {
            None if before == Commit::NOTHING && self.has(Feature::ForwardedRegistrations) => {
                Commit::only_registers(part.ops, incarnation)
            }
            last => last == Some(before) || !holds(Rule::CommitsFoldInChain),
        }
    }

    /// Notes the commit as the last of its incarnation, for the two above.
    fn note_commit(&mut self, id: CommitId) {
        if self.has(Feature::ManyIncarnations) && holds(Rule::NodesAreRememberedAsAuthors) {
            let nodes = &self.by_incarnation;
            let is_node = |incarnation| nodes.contains_key(&incarnation);
            self.last_commits
                .note(id, self.seq, MAX_INCARNATIONS, is_node);
        } else {
            self.last_commits
                .note(id, self.seq, FIRST_MAX_INCARNATIONS, |_| false);
        }
    }

    /// Which rule an op goes by.
    fn apply_op(&mut self, op: &Op, part: &Part<'_>) -> Outcome {
        match op {
            Op::Append(append) => self.append(append, part.data_start),
            Op::CreateTopic(create) => self.create_topic(create),
            Op::DeleteTopic { topic } => self.delete_topic(*topic),
            Op::CreatePartitions { topic, total } => self.create_partitions(*topic, *total),
            Op::AlterConfigs { topic, edits, node } => self.alter_configs(*topic, *node, edits),
            Op::DeleteRecords { partition, before } => self.delete_records(*partition, *before),
            Op::AllocateProducerIds { count } => self.allocate_producer_ids(*count),
            Op::ExpireProducers { before } => self.expire_producers(*before),
            Op::RegisterNode(register) => self.register_node(register),
            Op::RenewLease {
                node,
                incarnation,
                lease_millis,
            } => self.renew_lease(*node, *incarnation, *lease_millis),
            Op::RetireNode { node, incarnation } => self.retire_node(*node, *incarnation),
            Op::ExpireNode {
                node,
                incarnation,
                as_of,
            } => self.expire_node(*node, *incarnation, *as_of),
            Op::Group { group, action } => self.change_group(group, action, part.id.incarnation),
            Op::SnapshotTaken { seq, bytes, .. } => self.snapshot_taken(*seq, *bytes),
            Op::ReplaceSlices(replace) => self.replace_slices(replace),
            Op::ExpireRecords {
                partition,
                before,
                as_of,
            } => self.expire_records(*partition, *before, *as_of),
            Op::RaiseLogBoundary { to } => self.raise_log_boundary(*to),
            Op::LogTruncated { to } => self.note_log_truncated(*to),
            Op::RaiseSweepBoundary { before } => self.raise_sweep_boundary(*before, part.found),
            Op::ObjectsDeleted { objects } => self.note_objects_deleted(objects),
            Op::ClaimJob {
                job,
                incarnation,
                lease_millis,
            } => self.claim_job(*job, *incarnation, *lease_millis),
            Op::ReleaseJob { job, incarnation } => self.release_job(*job, *incarnation),
            Op::RaiseLevel { to } => self.raise_level(*to),
            Op::CreateTable(create) => self.create_table(create),
            Op::AlterTable(alter) => self.alter_table(alter),
            Op::DropTable { table } => self.drop_table(*table),
            Op::Archive(archive) => self.archive(archive),
            Op::RewriteFiles(rewrite) => self.rewrite_files(rewrite),
            Op::ExpireSnapshots { table, before } => self.expire_snapshots(*table, *before),
            Op::ExpireFiles {
                table,
                through,
                as_of,
            } => self.expire_files(*table, *through, *as_of),
            Op::ManifestsDeleted { table, manifests } => {
                self.note_manifests_deleted(*table, manifests)
            }
            // Judged with those that it is about.
            Op::Asked(_) => Ok(Applied::Done),
        }
    }

    /// Where the fold is.
    pub(super) fn now(&self) -> Now {
        Now {
            seq: self.seq,
            time: self.time,
            level: self.level,
        }
    }
}
