//! The cluster as clients see it: its nodes, and which of them a client should use for what.

use crate::types::{NodeId, TopicPartition};

use super::{Broker, Session, Unavailable};

/// A live node, as one front end's clients may connect to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// Its integer id.
    pub id: NodeId,
    /// Host to connect to.
    pub host: String,
    /// Port to connect to.
    pub port: u16,
    /// Kafka's `broker.rack`.
    pub rack: Option<String>,
}

/// The live nodes at one moment. Nodes that advertise the same address (a load balancer's) are one.
/// Never empty: the node that answers is in it.
#[derive(Clone, Debug)]
pub struct ClusterView {
    /// The cluster's id, a base64 UUID as Kafka's.
    pub cluster_id: String,
    /// The nodes, by id.
    pub nodes: Vec<NodeView>,
    /// The node that answers.
    pub this: NodeId,
}

impl ClusterView {
    /// The node that clients should use for `partition`: any node would do, this spreads them evenly,
    /// and all nodes agree.
    pub fn leader(&self, partition: TopicPartition) -> &NodeView {
        let _ = partition;
        todo!()
    }

    /// The node that clients should use for the group (or other coordinated thing) named `key`.
    pub fn coordinator(&self, key: &str) -> &NodeView {
        let _ = key;
        todo!()
    }
}

impl Broker {
    /// The live nodes that offer the front end `protocol` (`kafka`), up to date.
    pub async fn cluster(
        &self,
        session: &Session,
        protocol: &str,
    ) -> Result<ClusterView, Unavailable> {
        let _ = (session, protocol);
        todo!()
    }
}
