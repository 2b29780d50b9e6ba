//! The cluster as clients see it: its nodes, and which of them a client should use for what.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use super::access::{Action, Denied, Permit, Resource};
use super::{Broker, Home, Session, Unavailable};
use crate::state::Node;
use crate::types::{NodeId, TopicPartition, bid};

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
    /// The node that answers, under the id that stands for the address it advertises.
    pub this: NodeId,
}

impl ClusterView {
    /// The node that clients should use for `partition`: any node would do, this spreads them evenly,
    /// and all nodes agree. When a node comes or goes, only its own partitions move.
    pub fn leader(&self, partition: TopicPartition) -> &NodeView {
        self.choose(partition.key())
    }

    /// The nodes that are said to have the `count` replicas of `partition`: its leader, and those that would be after
    /// it. Where there are fewer nodes than that, they are named again, in the same order: what the store keeps for all
    /// of them is reached through these.
    pub fn replicas(&self, partition: TopicPartition, count: i16) -> Vec<NodeId> {
        let count = usize::from(count.max(1).unsigned_abs());
        if count == 1 {
            return vec![self.leader(partition).id];
        }
        let key = partition.key();
        let bids = self.nodes.iter().map(|node| self::offer(key, node));
        let mut bids: Vec<_> = bids.collect();
        if count < bids.len() {
            bids.select_nth_unstable_by(count, |one, other| other.cmp(one));
            bids.truncate(count);
        }
        bids.sort_unstable_by(|one, other| other.cmp(one));
        bids.iter().map(|(_, id)| *id).cycle().take(count).collect()
    }

    /// The node that clients should use for the group (or other coordinated thing) named `key`.
    pub fn coordinator(&self, key: &str) -> &NodeView {
        self.choose(crc32c::crc32c(key.as_bytes()).into())
    }

    /// Rendezvous hashing: every node bids, the highest bid has it.
    fn choose(&self, key: u64) -> &NodeView {
        self.nodes
            .iter()
            .max_by_key(|node| offer(key, node))
            .expect("the node that answers is among them")
    }
}

/// What a node bids for something.
fn offer(key: u64, node: &NodeView) -> (u64, NodeId) {
    (bid(key, node.id.0.unsigned_abs().into()), node.id)
}

impl Broker {
    /// The live nodes that have a listener of this name (`kafka`), up to date. Kafka tells them to whoever is
    /// connected.
    pub async fn cluster(
        &self,
        session: &Session,
        listener: &str,
    ) -> Result<ClusterView, Unavailable> {
        let permit = self.open_to_all(session);
        self.view(permit, listener).await
    }

    /// The node that clients should use for each of these groups, up to date.
    pub async fn coordinators(
        &self,
        session: &Session,
        listener: &str,
        groups: &[&str],
    ) -> Result<Vec<Result<NodeView, Denied>>, Unavailable> {
        let may_know = |group: &&str| {
            let group = Resource::group(group);
            self.authorize(session, Action::Describe, group)
        };
        let permits: Vec<Result<Permit, Denied>> = groups.iter().map(may_know).collect();
        let Some(permit) = permits.iter().flatten().next().copied() else {
            let denied = permits.into_iter().filter_map(Result::err);
            return Ok(denied.map(Err).collect());
        };
        let view = self.view(permit, listener).await?;
        let answers = groups.iter().zip(permits);
        Ok(answers
            .map(|(group, permit)| permit.map(|_| view.coordinator(group).clone()))
            .collect())
    }

    pub(super) async fn view(&self, _: Permit, listener: &str) -> Result<ClusterView, Unavailable> {
        let (id, state) = self.registered_in(self.fresh(Home::Cluster).await?).await?;
        let own = state.node(id);
        let own_address = own.and_then(|node| node.endpoints().get(listener));
        let own_address = own_address.cloned().unwrap_or_default();
        let mut registered: BTreeMap<&str, Vec<(NodeId, &Node)>> = BTreeMap::new();
        for (id, node) in state.nodes() {
            if let Some(address) = node.endpoints().get(listener) {
                registered.entry(address).or_default().push((id, node));
            }
        }
        let now = self.inner.logs.of(Home::Cluster).time();
        let is_there =
            |node: &Node| !self.has_lapsed(node, now) && !self.is_gone(node.incarnation());
        let there = registered
            .into_iter()
            .filter(|(_, nodes)| nodes.iter().any(|(_, node)| is_there(node)));
        let views = there.filter_map(|(address, nodes)| {
            let (id, node) = stands_for(&nodes)?;
            Some((address.to_owned(), view(id, address, node.rack())?))
        });
        let mut by_address: BTreeMap<String, NodeView> = views.collect();
        let this = match by_address.get(&own_address) {
            Some(node) => node.id,
            None => {
                // Its lease has lapsed, and it answers all the same.
                let unnamed = || Unavailable::NoEndpoint {
                    listener: listener.to_owned(),
                };
                let rack = own.and_then(Node::rack);
                let node = view(id, &own_address, rack).ok_or_else(unnamed)?;
                by_address.insert(own_address, node);
                id
            }
        };
        let mut nodes: Vec<_> = by_address.into_values().collect();
        nodes.sort_by_key(|node| node.id);
        Ok(ClusterView {
            cluster_id: self.cluster_id(),
            nodes,
            this,
        })
    }

    /// The cluster's id, a base64 UUID as Kafka's.
    pub fn cluster_id(&self) -> String {
        encode_id(self.inner.cluster_id)
    }
}

/// Which of the nodes that advertise one address (a load balancer's, or one that was killed and started again before
/// its lease lapsed) gives it its id. All nodes must say the same, else clients take the one address for two brokers
/// and break off what they asked the first: so it is chosen from what all read in the log, whoever could be reached
/// from here. It is the lowest, so that it stays when others join; of those that have all their addresses in common it
/// is the latest, which has taken the place of the others.
fn stands_for<'a>(nodes: &[(NodeId, &'a Node)]) -> Option<(NodeId, &'a Node)> {
    let age = |id: NodeId, node: &Node| (node.registered_at(), id);
    let replaced = |(id, node): &(NodeId, &Node)| {
        nodes.iter().any(|(other, by)| {
            by.endpoints() == node.endpoints() && age(*other, by) > age(*id, node)
        })
    };
    nodes.iter().find(|node| !replaced(node)).copied()
}

fn encode_id(id: Uuid) -> String {
    URL_SAFE_NO_PAD.encode(id.as_bytes())
}

fn view(id: NodeId, address: &str, rack: Option<&str>) -> Option<NodeView> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    Some(NodeView {
        id,
        host,
        port: port.parse().ok()?,
        rack: rack.map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{PartitionIndex, TopicId};

    fn cluster(ids: &[i32]) -> ClusterView {
        let node = |id: &i32| view(NodeId(*id), &format!("h{id}:9092"), None).unwrap();
        ClusterView {
            cluster_id: String::new(),
            this: NodeId(ids[0]),
            nodes: ids.iter().map(node).collect(),
        }
    }

    fn leaders(cluster: &ClusterView) -> Vec<i32> {
        let topic = TopicId(Uuid::from_u128(0x1234_5678_9abc_def0_1122_3344_5566_7788));
        let partition = |p| TopicPartition {
            topic,
            partition: PartitionIndex(p),
        };
        (0..3000)
            .map(|p| cluster.leader(partition(p)).id.0)
            .collect()
    }

    #[test]
    fn partitions_are_spread_evenly_and_whoever_is_asked_says_the_same() {
        let one = leaders(&cluster(&[0, 1, 2]));
        assert_eq!(one, leaders(&cluster(&[2, 0, 1])));
        for id in 0..3 {
            let share = one.iter().filter(|leader| **leader == id).count();
            assert!(
                (850..1150).contains(&share),
                "node {id} has {share} of 3000"
            );
        }
    }

    #[test]
    fn replicas_are_on_as_many_nodes_as_there_are_and_the_leader_is_the_first() {
        let topic = TopicId(Uuid::from_u128(7));
        for (nodes, distinct) in [(1, 1), (2, 2), (3, 3), (9, 3)] {
            let ids: Vec<i32> = (0..nodes).collect();
            let cluster = cluster(&ids);
            for index in 0..100 {
                let partition = TopicPartition {
                    topic,
                    partition: PartitionIndex(index),
                };
                let replicas = cluster.replicas(partition, 3);
                assert_eq!(replicas.len(), 3);
                assert_eq!(replicas[0], cluster.leader(partition).id);
                let mut unique = replicas.clone();
                unique.sort();
                unique.dedup();
                assert_eq!(unique.len(), distinct, "{nodes} nodes: {replicas:?}");
                assert_eq!(cluster.replicas(partition, 1), replicas[..1]);
            }
        }
    }

    #[test]
    fn when_a_node_goes_only_its_partitions_move() {
        let (before, after) = (leaders(&cluster(&[0, 1, 2])), leaders(&cluster(&[0, 2])));
        let moved = before.iter().zip(&after).filter(|(b, a)| b != a);
        assert!(moved.clone().all(|(before, _)| *before == 1));
        assert!(moved.count() > 0);
    }
}
