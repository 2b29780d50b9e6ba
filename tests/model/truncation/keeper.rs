//! Housekeeping: what may be committed and deleted, by the state of the node that does it.

use super::log::{Folded, Op, Seq};
use super::world::{Node, Slot, World};
use super::{Instant, Rule, Truncation};

impl Truncation {
    /// What the keeper may commit.
    pub(super) fn proposals(&self, world: &World, node: u8, state: &Folded) -> Vec<Op> {
        let this = &world.nodes[node as usize];
        let mut ops = Vec::new();
        if (this.applied as usize) < self.begin.len() + self.keeper_ops.len() {
            let is_due = |op: &&Op| !matches!(op, Op::Retire(seq) if !state.live.contains(seq));
            ops.extend(self.keeper_ops.iter().filter(is_due));
        }
        if this.wrote > state.newest_snapshot() {
            ops.push(Op::SnapshotTaken(this.wrote));
        }
        let now = self.wall(world, node).max(state.time);
        let mut limit = self.limit(state, this.applied, now);
        if self.on(Rule::AgeByOwnClock) {
            limit = limit.min(self.known_for_long(world.now, this));
        }
        ops.extend((state.boundary + 1..=limit).map(Op::RaiseLogBoundary));
        if state.truncated < state.boundary
            && this.made >= state.boundary
            && (is_cleared(world, state, state.boundary) || !self.on(Rule::TruncatedAfterDeleting))
        {
            ops.push(Op::LogTruncated(state.boundary));
        }
        ops
    }

    /// The newest snapshot that the node has known for TRUNCATION_AGE.
    fn known_for_long(&self, now: Instant, node: &Node) -> Seq {
        let known = node.known.iter();
        let of_age = known.filter(|(_, since)| since + self.age <= now);
        of_age.map(|(seq, _)| *seq).max().unwrap_or(0)
    }

    /// Whether the node may delete the commit.
    pub(super) fn deletes(&self, world: &World, node: u8, state: &Folded, seq: Seq) -> bool {
        let this = &world.nodes[node as usize];
        let has_boundary = this.made >= state.boundary || !self.on(Rule::BoundaryBeforeDeleting);
        // Behind what is truncated, only garbage is left of what the state does not know: the sweep deletes that.
        let truncating = seq <= state.truncated || (seq <= state.boundary && has_boundary);
        if state.live.contains(&seq) {
            return truncating && !self.on(Rule::KeepLive);
        }
        let Some((_, since)) = state.dead.iter().find(|(dead, _)| *dead == seq) else {
            return truncating;
        };
        let waited = if !self.on(Rule::Grace) {
            true
        } else if self.on(Rule::GraceByOwnClock) {
            let mut mourned = this.mourned.iter();
            mourned.any(|(dead, since)| *dead == seq && since + self.grace <= world.now)
        } else {
            since + self.grace <= self.wall(world, node).max(state.time)
        };
        let behind = if self.on(Rule::DeadBehindTruncated) {
            state.truncated
        } else {
            state.boundary
        };
        (waited && seq <= behind) || (truncating && !self.on(Rule::DeadWait))
    }
}

/// Whether of the commits up to `to` only those stand that are live, dead, or not of the log.
pub(super) fn is_cleared(world: &World, state: &Folded, to: Seq) -> bool {
    let is_known =
        |seq: Seq| state.live.contains(&seq) || state.dead.iter().any(|(dead, _)| *dead == seq);
    (1..=to).all(|seq| world.slots[seq as usize - 1] != Slot::Original || is_known(seq))
}
