//! How commits move time in the fold, and what is judged by it.
//!
//! Time never goes back. Every commit says two things of it: the time as its author *carried it on* from the last commit that it
//! had folded, by a clock that nobody sets; and what its author's wall clock says. The first is believed: it cannot be ahead of
//! real time by more than time in the fold was already. The second may be anything, so **a wall clock moves time as far
//! as another registered node has vouched for, and [`MAX_LEAD`] beyond**, where a node vouches for what *its* wall clock said at
//! its last commit. What was said is remembered with the node, so one node whose clock is wrong moves time once, by at most
//! `MAX_LEAD` beyond the others' clocks, however often it commits.
//!
//! Where nobody else is registered there is nobody to disagree, and the wall clock is believed: so a cluster that was
//! stopped for a month goes on at once. Where all the others are dead, they are registered until somebody has ended
//! their leases; until then time goes on from where it was, at its usual pace, and then it jumps. Where two start that
//! agree, it jumps with the second.
//!
//! The argument, and what else was thought of, is in decision 0036; the model of leases has these rules.

use std::time::Duration;

use crate::mutants::{self, Mutant};
use crate::state::op::{Applied, Outcome, Rejected};
use crate::state::{Feature, State};
use crate::types::{Incarnation, NodeId, Seq, Timestamp};

/// How far a wall clock may move time beyond what another node vouches for: as far apart as the clocks of two nodes may be that
/// are each right enough. How much time has passed since the other vouched, the time that is carried on says.
pub(in crate::state) const MAX_LEAD: Duration = Duration::from_secs(10);

/// How far a sweep boundary must be behind the time before the commit that raises it: so much may what others took for
/// the time, when they named their segments, have been behind.
pub(in crate::state) const SWEEP_MARGIN: Duration = Duration::from_secs(20);

impl State {
    /// What time in the fold becomes by a commit of `author` that carries it on to `carried` and whose wall clock says `wall`.
    /// Without `wall` (a commit from before the level of [`Feature::BoundedTime`]) `carried` is both.
    pub fn time_after(
        &self,
        carried: Timestamp,
        wall: Option<Timestamp>,
        author: Incarnation,
    ) -> Timestamp {
        if !self.has(Feature::BoundedTime) || mutants::on(Mutant::UnboundedTime) {
            return self.time.max(carried).max(wall.unwrap_or(carried));
        }
        let (carried, wall) = wall.map_or((self.time, carried), |wall| (carried, wall));
        let others = self
            .nodes()
            .filter(|(_, node)| node.incarnation() != author)
            .filter_map(|(_, node)| node.wall());
        let vouched = others.max().map(|wall| wall.after(MAX_LEAD));
        let believed = vouched.map_or(wall, |vouched| wall.min(vouched));
        self.time.max(carried).max(believed)
    }

    /// The latest sweep boundary that a commit may raise that finds time at `before`.
    fn sweep_boundary_limit(&self, before: Timestamp) -> Timestamp {
        if !self.has(Feature::BoundedTime) || mutants::on(Mutant::SweepBoundaryAtHand) {
            return self.time;
        }
        let margin = i64::try_from(SWEEP_MARGIN.as_millis()).unwrap_or(i64::MAX);
        Timestamp(before.0.saturating_sub(margin))
    }

    /// Raises the sweep boundary, in a commit that found time at `now`.
    pub(in crate::state) fn raise_sweep_boundary(
        &mut self,
        before: Timestamp,
        now: Timestamp,
    ) -> Outcome {
        if before > self.sweep_boundary_limit(now) {
            return Err(Rejected::SweepBoundary { before, now });
        }
        self.objects.raise_sweep_boundary(before);
        Ok(Applied::Done)
    }

    /// Notes what the author's wall clock says, if it is a node.
    pub(in crate::state) fn note_wall(&mut self, author: Incarnation, wall: Option<Timestamp>) {
        if let Some(wall) = wall
            && let Some(id) = self.node_of(author)
            && let Some(node) = self.nodes.get_mut(&id)
        {
            node.make_mut().set_wall(wall);
        }
    }

    /// Ends the lease of a node that has lapsed, unless it has committed after the state by which that was found.
    pub(in crate::state) fn expire_node(
        &mut self,
        id: NodeId,
        incarnation: Incarnation,
        as_of: Option<Seq>,
    ) -> Outcome {
        let now = self.time;
        let until = self.registered_mut(id, incarnation)?.lease_until();
        let last = self.authors.seq_of(incarnation);
        // By its clock the node that proposes this has not heard of the other for long; the other may just have committed.
        let heard_since =
            as_of.is_some() && last > as_of && !mutants::on(Mutant::HeardSinceIgnored);
        if now <= until || heard_since {
            return Err(Rejected::LeaseHolds {
                node: id,
                until,
                now,
            });
        }
        self.remove_node(id);
        Ok(Applied::Done)
    }
}
