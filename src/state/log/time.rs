//! How commits move time in the fold.
//!
//! Time never goes back. Every commit says two things of it: the time as its node *carried it on* from the last
//! commit that it had folded, by a clock that nobody sets; and what the wall clock of its node says. The first is
//! believed: it cannot be ahead of real time by more than time in the fold was already. The second may be anything, so
//! **a wall clock moves time as far as another registered node has vouched for, and [`MAX_LEAD`] beyond**, where a node
//! vouches for what *its* wall clock said at its last commit. What was said is remembered with the node, so one node
//! whose clock is wrong moves time once, by at most `MAX_LEAD` beyond the others' clocks, however often it commits.
//!
//! Where nobody else is registered there is nobody to disagree, and the wall clock is believed: so a cluster that was
//! stopped for a month goes on at once. Where all the others are dead, they are registered until somebody has ended
//! their leases; until then time goes on from where it was, at its usual pace, and then it jumps. Where two start that
//! agree, it jumps with the second.
//!
//! The argument, and what else was thought of, is in decision 0036; the model of leases has these rules.

use std::time::Duration;

use crate::rules::{Rule, holds};
use crate::state::{Feature, State};
use crate::types::{Incarnation, Timestamp};

/// How far a wall clock may move time beyond what another node vouches for: as far apart as the clocks of two nodes may
/// be that are each right enough. How much time has passed since the other vouched, the time that is carried on says.
pub(in crate::state) const MAX_LEAD: Duration = Duration::from_secs(10);

impl State {
    /// What time in the fold becomes by a commit of `incarnation` that carries it on to `carried` and whose wall clock
    /// says `wall`. Without `wall` (a commit from before the level of [`Feature::BoundedTime`]) `carried` is both.
    pub fn time_after(
        &self,
        carried: Timestamp,
        wall: Option<Timestamp>,
        incarnation: Incarnation,
    ) -> Timestamp {
        if !self.has(Feature::BoundedTime) || !holds(Rule::TimeIsBounded) {
            return self.time.max(carried).max(wall.unwrap_or(carried));
        }
        let (carried, wall) = wall.map_or((self.time, carried), |wall| (carried, wall));
        let others = self
            .nodes()
            .filter(|(_, node)| node.incarnation() != incarnation)
            .filter_map(|(_, node)| node.wall());
        let vouched = others.max().map(|wall| wall.after(MAX_LEAD));
        let believed = vouched.map_or(wall, |vouched| wall.min(vouched));
        self.time.max(carried).max(believed)
    }
}
