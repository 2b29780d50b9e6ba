//! What an op says of a node that registers.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use serde::Serialize;

use crate::types::{Incarnation, PeerKey};

/// Register a node.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct RegisterNode {
    /// Its incarnation.
    #[n(0)]
    pub incarnation: Incarnation,
    /// What clients connect to, by front end: `kafka` -> `host:port`.
    #[n(1)]
    pub endpoints: BTreeMap<String, String>,
    /// Kafka's `broker.rack`.
    #[n(2)]
    pub rack: Option<String>,
    /// The version of its software, for people.
    #[n(3)]
    pub version: String,
    /// The length of its first lease in milliseconds.
    #[n(4)]
    pub lease_millis: u64,
    /// With what other nodes show that they read the same bucket, when they speak to this one.
    #[n(5)]
    pub peer_key: Option<PeerKey>,
    /// What it says of its own settings, by Kafka's names of them. Since
    /// [`Feature::NodeSettings`](crate::state::Feature::NodeSettings).
    #[n(6)]
    pub properties: Option<BTreeMap<String, String>>,
}
