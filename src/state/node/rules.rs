//! How nodes register, show that they live, and go.

use super::{Node, RegisterNode};
use crate::rules::{Rule, holds};
use crate::state::op::{Applied, Outcome, Rejected};
use crate::state::{Feature, Level, Shared, State};
use crate::types::{Incarnation, NodeId, Seq, Timestamp};

impl State {
    /// Registers an incarnation of a node under the id that it has, or under the lowest that is free.
    pub(in crate::state) fn register_node(&mut self, register: &RegisterNode) -> Outcome {
        let (level, known) = (self.level, Level::of_label(&register.version));
        if known < level {
            return Err(Rejected::LevelTooLow { level, known });
        }
        // It was once enough that a lease seemed to have lapsed. Since, others are ended by nodes that have looked for
        // long enough, so that an id is not given away while the node lives that has it.
        let removes = !self.has(Feature::BoundedTime) || !holds(Rule::RegistrationRemovesNobody);
        let lapsed: Vec<NodeId> = self
            .nodes()
            .filter(|(_, n)| removes && n.lease_until() < self.time)
            .map(|(id, _)| id)
            .collect();
        let id = self.node_of(register.incarnation);
        for node in lapsed.into_iter().filter(|node| Some(*node) != id) {
            self.remove_node(node);
        }
        let lowest_free = || (0..).map(NodeId).find(|id| !self.nodes.contains_key(id));
        let id = id.or_else(lowest_free).unwrap_or_default();
        let node = Shared::new(Node::new(register, self.time));
        self.nodes.insert(id, node);
        self.by_incarnation.insert(register.incarnation, id);
        Ok(Applied::NodeRegistered(id))
    }

    /// Sets the length of a lease, and begins it anew.
    pub(in crate::state) fn renew_lease(
        &mut self,
        id: NodeId,
        incarnation: Incarnation,
        lease_millis: u64,
    ) -> Outcome {
        let now = self.time;
        let node = self.registered_mut(id, incarnation)?;
        node.set_lease(lease_millis, now);
        Ok(Applied::Done)
    }

    /// Removes a node that says that it stops.
    pub(in crate::state) fn retire_node(
        &mut self,
        id: NodeId,
        incarnation: Incarnation,
    ) -> Outcome {
        self.registered_mut(id, incarnation)?;
        self.remove_node(id);
        Ok(Applied::Done)
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
        let last = self.last_commits.seq_of(incarnation);
        // By its clock the node that proposes this has not heard of the other for long; the other may just have
        // committed.
        let heard_since = as_of.is_some() && last > as_of && holds(Rule::CommitsRenewLeases);
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

    fn remove_node(&mut self, id: NodeId) {
        let Some(node) = self.nodes.remove(&id) else {
            return;
        };
        if holds(Rule::GoneNodesAreNotFound) {
            self.by_incarnation.remove(&node.incarnation());
        }
        self.after_node_removed(id, node.incarnation());
    }

    fn registered_mut(
        &mut self,
        id: NodeId,
        incarnation: Incarnation,
    ) -> Result<&mut Node, Rejected> {
        self.nodes
            .get_mut(&id)
            .filter(|node| node.incarnation() == incarnation)
            .map(Shared::make_mut)
            .ok_or(Rejected::UnknownNode {
                node: id,
                incarnation,
            })
    }

    /// Prolongs the lease of the incarnation that made a commit, if it is a node: it lives.
    pub(in crate::state) fn hear_from(&mut self, incarnation: Incarnation) {
        let now = self.time;
        if let Some(id) = self.node_of(incarnation)
            && let Some(node) = self.nodes.get_mut(&id)
        {
            node.make_mut().heard_from(now);
        }
    }

    /// Notes what its wall clock says, if it is a node.
    pub(in crate::state) fn note_wall(
        &mut self,
        incarnation: Incarnation,
        wall: Option<Timestamp>,
    ) {
        if let Some(wall) = wall
            && let Some(id) = self.node_of(incarnation)
            && let Some(node) = self.nodes.get_mut(&id)
        {
            node.make_mut().set_wall(wall);
        }
    }
}
