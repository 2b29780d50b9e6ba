//! What an op says of a new topic.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use serde::Serialize;

use crate::types::{TopicId, TopicName};

/// Create a topic.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct CreateTopic {
    /// Its id, minted by the node.
    #[n(0)]
    pub id: TopicId,
    /// Its name.
    #[n(1)]
    pub name: TopicName,
    /// How many partitions it begins with.
    #[n(2)]
    pub partitions: i32,
    /// The settings that differ from the defaults.
    #[n(3)]
    pub configs: BTreeMap<String, String>,
    /// How many replicas it is said to have, if more than one. Since
    /// [`Feature::ReplicationFactor`](crate::state::Feature::ReplicationFactor).
    #[n(4)]
    pub replicas: Option<i16>,
}
