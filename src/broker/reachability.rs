//! Which other nodes are not there, long before their lease says so: a hint for what clients are told, and nothing
//! else.
//!
//! An address may be meant for clients elsewhere and lead nowhere from here (a port that a container publishes). So
//! that nobody listens there tells something only of an address that could be reached before, or of a node whose
//! address for other nodes refuses too. A hint that is wrong sends clients to fewer nodes than there are, each of which
//! serves everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{MutexGuard, PoisonError};

use super::{Broker, Home};
use crate::manifest::PEER_ENDPOINT;
use crate::types::Incarnation;

/// How many looks in a row without an answer mean that a node is gone: one may be the network's doing.
const SILENT_LOOKS: u32 = 4;

/// How many addresses that were reached are remembered beside those of the nodes there are.
const REMEMBERED: usize = 1_000;

/// Another node, and where to look for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// `host:port` that its clients connect to.
    pub address: String,
    /// `host:port` that other nodes reach it at, if it speaks to any.
    pub peer_address: Option<String>,
}

/// What came of connecting to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Somebody listens there.
    Reached,
    /// The connection was refused: nobody does.
    Refused,
    /// It was refused there, and at the address for other nodes too.
    Deserted,
    /// No answer, which may be the network's doing.
    Silent,
}

/// What is known of the addresses of others.
#[derive(Debug, Default)]
pub(super) struct Reachability {
    reached: BTreeSet<String>,
    gone: BTreeSet<Incarnation>,
    /// How often in a row there was no answer.
    silent: BTreeMap<Incarnation, u32>,
}

impl Reachability {
    /// Takes in what came of looking at the addresses of all the other nodes.
    fn note(&mut self, looks: &[(Neighbour, Look)]) {
        let there = |incarnation: &Incarnation| {
            looks
                .iter()
                .any(|(node, _)| node.incarnation == *incarnation)
        };
        self.gone.retain(there);
        self.silent.retain(|incarnation, _| there(incarnation));
        for (node, look) in looks {
            let incarnation = node.incarnation;
            let known = self.reached.contains(&node.address);
            let before = self.silent.remove(&incarnation).unwrap_or(0);
            match look {
                Look::Reached => {
                    self.gone.remove(&incarnation);
                    self.reached.insert(node.address.clone());
                }
                Look::Refused if known => {
                    self.gone.insert(incarnation);
                }
                Look::Refused => {}
                Look::Deserted => {
                    self.gone.insert(incarnation);
                }
                Look::Silent => {
                    let looks = before.saturating_add(1);
                    self.silent.insert(incarnation, looks);
                    if known && looks >= SILENT_LOOKS {
                        self.gone.insert(incarnation);
                    }
                }
            }
        }
        if self.reached.len() > REMEMBERED + looks.len() {
            let named = |address: &String| looks.iter().any(|(node, _)| node.address == *address);
            self.reached.retain(named);
        }
    }
}

impl Broker {
    /// The other nodes with an address for clients of `listener` that is not this node's own.
    pub fn neighbours(&self, listener: &str) -> Vec<Neighbour> {
        let own = self.own_endpoint(listener);
        let state = self.inner.logs.of(Home::Cluster).state();
        let others = state.nodes().filter_map(|(_, node)| {
            let address = node.endpoints().get(listener)?;
            (Some(address) != own.as_ref()).then(|| Neighbour {
                incarnation: node.incarnation(),
                address: address.clone(),
                peer_address: node.endpoints().get(PEER_ENDPOINT).cloned(),
            })
        });
        others.collect()
    }

    /// Notes what came of looking at each of the [`neighbours`](Broker::neighbours).
    pub fn note_looks(&self, looks: &[(Neighbour, Look)]) {
        self.reachability().note(looks);
    }

    /// Whether a node was seen to be gone.
    pub(super) fn is_gone(&self, incarnation: Incarnation) -> bool {
        self.reachability().gone.contains(&incarnation)
    }

    fn reachability(&self) -> MutexGuard<'_, Reachability> {
        let reachability = &self.inner.presence.reachability;
        reachability.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Look::{Deserted, Reached, Refused, Silent};
    use uuid::Uuid;

    fn node(incarnation: u128, address: &str) -> Neighbour {
        Neighbour {
            incarnation: Incarnation(Uuid::from_u128(incarnation)),
            address: address.to_owned(),
            peer_address: None,
        }
    }

    /// Whether a node is gone after these looks at it.
    fn gone_after(looks: &[Look]) -> bool {
        let (mut reachability, node) = (Reachability::default(), node(1, "h:1"));
        for look in looks {
            reachability.note(&[(node.clone(), *look)]);
        }
        reachability.gone.contains(&node.incarnation)
    }

    #[test]
    fn a_node_is_gone_that_refuses_where_it_could_be_reached_before() {
        assert!(!gone_after(&[Refused, Refused]));
        assert!(gone_after(&[Reached, Refused]));
        assert!(gone_after(&[Reached, Refused, Silent]));
        assert!(!gone_after(&[Reached, Refused, Reached]));
    }

    #[test]
    fn a_node_is_gone_that_refuses_clients_and_other_nodes() {
        assert!(gone_after(&[Deserted]));
        assert!(!gone_after(&[Deserted, Reached]));
    }

    #[test]
    fn a_node_is_gone_that_is_silent_for_some_looks_where_it_could_be_reached_before() {
        let silent = [Silent; SILENT_LOOKS as usize];
        let few = &silent[1..];
        assert!(!gone_after(&silent));
        assert!(gone_after(&[&[Reached], &silent[..]].concat()));
        assert!(!gone_after(&[&[Reached], few].concat()));
        assert!(!gone_after(&[&[Reached], few, &[Reached], few].concat()));
    }

    #[test]
    fn a_run_that_was_never_seen_is_gone_when_it_refuses_where_another_was_reached() {
        let (mut reachability, first, second) =
            (Reachability::default(), node(1, "h:1"), node(2, "h:1"));
        reachability.note(&[(first.clone(), Reached)]);
        reachability.note(&[(first, Refused)]);
        reachability.note(&[]);
        assert!(reachability.gone.is_empty());
        reachability.note(&[(second.clone(), Refused)]);
        assert!(reachability.gone.contains(&second.incarnation));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut reachability = Reachability::default();
        for port in 0..3_000 {
            reachability.note(&[(node(port, &format!("h:{port}")), Reached)]);
            assert!(reachability.reached.len() <= REMEMBERED + 1);
            assert!(reachability.silent.is_empty() && reachability.gone.is_empty());
        }
    }
}
