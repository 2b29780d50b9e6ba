//! Nodes: who is registered, under which integer id, and until when their lease lasts.
//!
//! * A registered incarnation has one id, and an id one incarnation. The id of a node that is gone is given to another.
//! * Every commit of a node prolongs its lease. A lease that has lapsed ends nothing by itself: somebody says so in an
//!   op, and the fold judges.
//! * What a node's wall clock said at its last commit is remembered: others' clocks are believed by it (`log/time.rs`).
//!
//! Durable: each [`Node`], by id. Derived: the ids by incarnation ([`State::index_nodes`]). What follows for groups and
//! jobs when a node is gone is in `effects.rs`.

mod op;
mod rules;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use minicbor::{Decode, Encode};
use serde::Serialize;

pub use op::RegisterNode;

use super::State;
use super::log::Level;
use crate::types::{Incarnation, NodeId, PeerKey, Timestamp};

/// A registered incarnation of a node.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Node {
    #[n(0)]
    incarnation: Incarnation,
    #[n(1)]
    endpoints: BTreeMap<String, String>,
    #[n(2)]
    rack: Option<String>,
    #[n(3)]
    version: String,
    #[n(4)]
    registered_at: Timestamp,
    #[n(5)]
    lease_millis: u64,
    #[n(6)]
    lease_until: Timestamp,
    #[n(7)]
    peer_key: Option<PeerKey>,
    /// What its wall clock said at its last commit, if that said so.
    #[n(8)]
    wall: Option<Timestamp>,
    #[n(9)]
    properties: Option<BTreeMap<String, String>>,
}

impl Node {
    pub(super) fn new(op: &RegisterNode, now: Timestamp) -> Node {
        Node {
            incarnation: op.incarnation,
            endpoints: op.endpoints.clone(),
            rack: op.rack.clone(),
            version: op.version.clone(),
            registered_at: now,
            lease_millis: op.lease_millis,
            lease_until: now.after(Duration::from_millis(op.lease_millis)),
            peer_key: op.peer_key.clone(),
            wall: None,
            properties: op.properties.clone(),
        }
    }

    /// With what others show it that they read the same bucket.
    pub fn peer_key(&self) -> Option<&PeerKey> {
        self.peer_key.as_ref()
    }

    /// What it says of its own settings, by Kafka's names of them; `None` if it says nothing.
    pub fn properties(&self) -> Option<&BTreeMap<String, String>> {
        self.properties.as_ref()
    }

    /// Its incarnation.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// What its clients connect to, by front end.
    pub fn endpoints(&self) -> &BTreeMap<String, String> {
        &self.endpoints
    }

    /// Kafka's `broker.rack`.
    pub fn rack(&self) -> Option<&str> {
        self.rack.as_deref()
    }

    /// The version of its software.
    pub fn version(&self) -> &str {
        let software = self.version.split_once('+');
        software.map_or(&self.version, |(software, _)| software)
    }

    /// The highest level that it knows.
    pub fn level(&self) -> Level {
        Level::of_label(&self.version)
    }

    /// When this incarnation was registered.
    pub fn registered_at(&self) -> Timestamp {
        self.registered_at
    }

    /// Until when its lease lasts.
    pub fn lease_until(&self) -> Timestamp {
        self.lease_until
    }

    /// How long its lease lasts after each of its commits.
    pub fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_millis)
    }

    /// Sets the lease, also to a shorter one: a node that begins to hold what must expire says so.
    pub(super) fn set_lease(&mut self, lease_millis: u64, now: Timestamp) {
        self.lease_millis = lease_millis;
        self.lease_until = now.after(Duration::from_millis(lease_millis));
    }

    /// What its wall clock said at its last commit, if it is known.
    pub fn wall(&self) -> Option<Timestamp> {
        self.wall
    }

    /// Notes what its wall clock says.
    pub(super) fn set_wall(&mut self, wall: Timestamp) {
        self.wall = Some(wall);
    }

    /// Any commit of a node shows that it lives.
    pub(super) fn heard_from(&mut self, now: Timestamp) {
        let until = now.after(Duration::from_millis(self.lease_millis));
        self.lease_until = self.lease_until.max(until);
    }
}

impl State {
    /// The registered nodes, by id, whether or not their lease has lapsed.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().map(|(id, node)| (*id, &**node))
    }

    /// The integer id under which an incarnation of a node is registered.
    pub fn node_of(&self, incarnation: Incarnation) -> Option<NodeId> {
        self.by_incarnation.get(&incarnation).copied()
    }

    /// A registered node.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id).map(|node| &**node)
    }

    /// Makes what is derived from the nodes of a snapshot.
    pub(super) fn index_nodes(&mut self) {
        let ids = self.nodes().map(|(id, node)| (node.incarnation(), id));
        self.by_incarnation = ids.collect();
    }
}
