//! What is to be repaired. Reads only.

use std::collections::BTreeSet;

use serde::Serialize;
use uuid::Uuid;

use super::lost::Lost;
use super::{MAX_VOIDS, RepairError, void};
use crate::maintain::fsck::{Inventory, Kind, Looked, Step, Walk, Watch, read_commit};
use crate::manifest::{OpenError, SnapshotError, find_cluster, read_snapshot};
use crate::state::State;
use crate::state::op::Commit;
use crate::store::{ObjectPath, RequestKind, Store};
use crate::types::{CommitId, Incarnation, NodeId, Seq, Timestamp};

/// What a repair goes by.
#[derive(Clone, Debug, Default)]
pub struct PlanOptions {
    /// The present time, for telling which leases last.
    pub now: Timestamp,
    /// The id of this run of the repair, which nobody else has.
    pub run: Uuid,
    /// Commits to be replaced though they can be read: such that nodes cannot fold.
    pub void: BTreeSet<Seq>,
}

/// What a repair would change, and what that means.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The store's URL.
    pub store: String,
    /// The id of the run.
    pub run: Uuid,
    /// The state from which nodes start: that of a snapshot, or 0 for the beginning of the log.
    pub start: Seq,
    /// The last commit.
    pub log_end: Seq,
    /// Commits behind the end of the log, which a node had under way: nobody was told that they are stored.
    pub ahead: usize,
    /// Snapshots that cannot be read, and are to be removed.
    pub snapshots: Vec<DamagedSnapshot>,
    /// Commits that nodes must fold and cannot, and are to be replaced.
    pub commits: Vec<DamagedCommit>,
    /// What later commits ask for and the fold refuses when that is done. Some of it may have been refused before.
    pub refused: Lost,
    /// Nodes whose lease lasts.
    pub live: Vec<LiveNode>,
    /// The voids, in the order of their seqs.
    #[serde(skip)]
    pub(super) voids: Vec<(Seq, Commit)>,
    /// The last void of each repair, this one and those before it, that a seal is to follow.
    #[serde(skip)]
    pub(super) unsealed: Vec<CommitId>,
}

/// A snapshot that cannot be read.
#[derive(Clone, Debug, Serialize)]
pub struct DamagedSnapshot {
    /// The seq of the state in it.
    pub seq: Seq,
    /// Why it cannot be read.
    pub reason: String,
    /// Those of its chunks that are there. They are swept up some time after their head was removed.
    pub chunks: Vec<u32>,
}

/// A commit that cannot be folded.
#[derive(Clone, Debug, Serialize)]
pub struct DamagedCommit {
    /// Its seq.
    pub seq: Seq,
    /// Why it cannot be folded.
    pub reason: String,
    /// Whether there is an object at its place.
    pub exists: bool,
    /// What was in it, if that can be read in spite of the damage.
    pub lost: Option<Lost>,
}

/// A node that may be running.
#[derive(Clone, Debug, Serialize)]
pub struct LiveNode {
    /// Its id.
    pub node: NodeId,
    /// Until when its lease lasts.
    pub lease_until: Timestamp,
}

impl Plan {
    /// Whether there is nothing to repair.
    pub fn is_empty(&self) -> bool {
        self.snapshots.is_empty() && self.commits.is_empty() && self.unsealed.is_empty()
    }
}

/// Finds out what keeps nodes from starting, and what a repair would do about it. Changes nothing.
///
/// # Errors
///
/// See [`RepairError`].
pub async fn plan(
    store: &Store,
    options: &PlanOptions,
    watch: &dyn Watch,
) -> Result<Plan, RepairError> {
    let walk = Walk {
        store,
        deep: false,
        watch,
    };
    watch.begin(Step::Listing, None);
    let inventory = Inventory::of(&walk).await?;
    match find_cluster(store).await {
        Ok(Some(_)) => {}
        Ok(None) => return Err(RepairError::NoCluster(store.name().to_owned())),
        Err(OpenError::Store(error)) => return Err(error.into()),
        Err(error) => return Err(RepairError::BadCluster(error.to_string())),
    }
    let (state, snapshots) = start(store, &inventory).await?;
    let mut plan = Plan {
        store: store.name().to_owned(),
        run: options.run,
        start: state.seq(),
        log_end: inventory.log_end(),
        ahead: inventory.ahead.len(),
        snapshots,
        commits: Vec::new(),
        refused: Lost::default(),
        live: Vec::new(),
        voids: Vec::new(),
        unsealed: Vec::new(),
    };
    let due = plan.log_end.0.saturating_sub(plan.start.0);
    watch.begin(Step::Log, Some(due));
    let state = plan.fold(&walk, state, options).await?;
    let mut stray = options.void.iter();
    let stray = stray.find(|seq| !plan.voids.iter().any(|(voided, _)| voided == *seq));
    if let Some(seq) = stray {
        return Err(RepairError::NotFolded(*seq, plan.start, plan.log_end));
    }
    let live = state
        .nodes()
        .filter(|(_, node)| options.now <= node.lease_until());
    plan.live = live
        .map(|(node, registered)| LiveNode {
            node,
            lease_until: registered.lease_until(),
        })
        .collect();
    Ok(plan)
}

/// The state that nodes start from, and the snapshots that cannot be read.
async fn start(
    store: &Store,
    inventory: &Inventory,
) -> Result<(State, Vec<DamagedSnapshot>), RepairError> {
    let boundary = inventory.boundaries.keys().next_back().copied();
    let boundary = boundary.unwrap_or(Seq::ZERO);
    let mut start = None;
    let mut damaged = Vec::new();
    for seq in inventory.snapshots.keys().rev().copied() {
        match read_snapshot(store, seq).await {
            Ok(state) if start.is_none() && boundary <= seq => start = Some(state),
            Ok(_) | Err(SnapshotError::Gone(_)) => {}
            Err(SnapshotError::Store(error)) => return Err(error.into()),
            Err(SnapshotError::Newer(error)) => return Err(RepairError::Newer(error.to_string())),
            Err(SnapshotError::Damaged(reason)) => {
                let chunks = inventory.chunks.range((seq, 0)..=(seq, u32::MAX));
                let chunks = chunks.map(|((_, index), _)| *index).collect();
                damaged.push(DamagedSnapshot {
                    seq,
                    reason,
                    chunks,
                });
            }
        }
    }
    match start {
        Some(state) => Ok((state, damaged)),
        None if boundary == Seq::ZERO => Ok((State::new(), damaged)),
        None => Err(RepairError::NoStart(boundary)),
    }
}

impl Plan {
    /// Folds the log to its end, with a void for each commit that cannot be folded.
    async fn fold(
        &mut self,
        walk: &Walk<'_>,
        mut state: State,
        options: &PlanOptions,
    ) -> Result<State, RepairError> {
        let incarnation = Incarnation::of_repair(options.run);
        while state.seq() < self.log_end {
            let seq = state.seq().next();
            let (reason, exists) = match read_commit(walk, seq).await? {
                Looked::At(_) if options.void.contains(&seq) => {
                    ("it is to be replaced, as asked for".to_owned(), true)
                }
                Looked::At(read) if halts_nodes(&read.logged.commit, &state) => {
                    let why = "an earlier repair put it there, and what it follows is not there any more: every node \
                               would halt at it";
                    (why.to_owned(), true)
                }
                Looked::At(read) => {
                    self.take(&mut state, &read.logged.commit, read.logged.data_start);
                    walk.watch.advance(1);
                    continue;
                }
                Looked::Gone => ("it does not exist".to_owned(), false),
                Looked::Bad(Kind::Newer, reason) if !options.void.contains(&seq) => {
                    return Err(RepairError::Newer(reason));
                }
                Looked::Bad(Kind::Unreadable, reason) => return Err(RepairError::Withheld(reason)),
                Looked::Bad(_, reason) => (reason, true),
            };
            let lost = match exists {
                true => what_was_in(walk.store, seq, &state).await,
                false => None,
            };
            self.commits.push(DamagedCommit {
                seq,
                reason,
                exists,
                lost,
            });
            if self.commits.len() > MAX_VOIDS {
                let missing = self.log_end.0 - seq.0;
                let all = self.commits.len() + usize::try_from(missing).unwrap_or(usize::MAX);
                return Err(RepairError::TooMuch(all));
            }
            let mut void = void(incarnation, self.commits.len() as u64, state.time());
            // None, too, if it has been forgotten who wrote the void before.
            void.follows = state.last_commit_of(incarnation);
            state.apply(seq, &void, 0);
            self.note_repair(&void);
            self.voids.push((seq, void));
            walk.watch.advance(1);
        }
        let is_last =
            |void: &CommitId| state.last_commit_of(void.incarnation) == Some(void.counter);
        self.unsealed.retain(is_last);
        Ok(state)
    }

    /// Folds a commit that can be read, and notes what of it is refused because of a void before it.
    fn take(&mut self, state: &mut State, commit: &Commit, data_start: u64) {
        let mut forwarded = Vec::new();
        let seq = state.seq().next();
        let folded = state.apply_each(seq, commit, data_start, |_, folded| forwarded.push(folded));
        self.note_repair(commit);
        if self.voids.is_empty() {
            return;
        }
        self.refused.note_refused(&commit.ops, &folded, state);
        for (forwarded, folded) in commit.forwarded.iter().zip(&forwarded) {
            self.refused.note_refused(&forwarded.ops, folded, state);
        }
    }

    /// Notes a void or seal of a repair before this one.
    fn note_repair(&mut self, commit: &Commit) {
        if !commit.id.incarnation.is_of_repair() {
            return;
        }
        self.unsealed
            .retain(|void| void.incarnation != commit.id.incarnation);
        let is_seal = commit.ops.is_empty();
        if !is_seal {
            self.unsealed.push(commit.id);
        }
    }
}

/// Whether this is a void or a seal that is void to whoever folds it now.
fn halts_nodes(commit: &Commit, state: &State) -> bool {
    let incarnation = commit.id.incarnation;
    incarnation.is_of_repair()
        && commit.follows.is_some()
        && commit.follows != state.last_commit_of(incarnation)
}

async fn what_was_in(store: &Store, seq: Seq, state: &State) -> Option<Lost> {
    let path = ObjectPath::commit(seq);
    let bytes = store.get(&path, RequestKind::CommitGet).await.ok()?;
    Lost::of_damaged(path.as_str(), &bytes, state)
}
