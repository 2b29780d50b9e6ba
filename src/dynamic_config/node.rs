//! What a node says of itself in Kafka's words.

use std::collections::BTreeMap;

use crate::config::{HostPort, ServeConfig};
use crate::types::NodeId;

/// The values of a node's read-only settings, by Kafka's name of them. Those that it has when it is asked for are in
/// [`NodeProperties::of`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeProperties(BTreeMap<String, String>);

/// One front end that listens.
#[derive(Clone, Debug)]
pub struct ListenerAddresses {
    /// Its protocol in Kafka's words: `PLAINTEXT`, `HTTP`.
    pub name: &'static str,
    /// Where it is bound.
    pub bound: HostPort,
    /// What clients are told.
    pub advertised: HostPort,
}

impl From<BTreeMap<String, String>> for NodeProperties {
    fn from(values: BTreeMap<String, String>) -> NodeProperties {
        NodeProperties(values)
    }
}

impl NodeProperties {
    /// What a node with these settings and listeners says of itself. No secret is among it: it is kept in the log, so
    /// that every node can tell it of every other.
    pub fn new(config: &ServeConfig, listeners: &[ListenerAddresses]) -> NodeProperties {
        let join = |address: fn(&ListenerAddresses) -> &HostPort| {
            let all: Vec<String> = listeners
                .iter()
                .map(|listener| format!("{}://{}", listener.name, address(listener)))
                .collect();
            all.join(",")
        };
        let listen = &config.listen;
        let mut values = BTreeMap::from([
            (
                "advertised.listeners",
                join(|listener| &listener.advertised),
            ),
            (
                "connections.max.idle.ms",
                listen.idle_timeout.as_millis().to_string(),
            ),
            ("fetch.max.bytes", config.node.fetch_max_bytes.0.to_string()),
            ("listeners", join(|listener| &listener.bound)),
            ("log.dirs", config.store.store.clone()),
            ("max.connections", listen.max_connections.to_string()),
            (
                "max.connections.per.ip",
                listen.max_connections_per_ip.to_string(),
            ),
            (
                "socket.request.max.bytes",
                listen.max_request_size.0.to_string(),
            ),
        ]);
        if let Some(rack) = &config.node.rack {
            values.insert("broker.rack", rack.clone());
        }
        let values = values.into_iter();
        NodeProperties(
            values
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        )
    }

    /// The same, of the node that goes by this id.
    pub fn of(mut self, id: NodeId) -> NodeProperties {
        for name in ["broker.id", "node.id"] {
            self.0.insert(name.to_owned(), id.to_string());
        }
        self
    }

    /// All of them, by name: what is stored.
    pub fn values(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// The value of the setting that Kafka calls `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}
