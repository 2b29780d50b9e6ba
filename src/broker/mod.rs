//! The operations of a message broker, independent of any protocol. The front ends' only door down.
//!
//! One file per capability. Each takes the [`Session`] of the client and authorises the call; each
//! answers with its own error, which a front end turns into codes of its wire in one file.
//! This room knows neither Kafka's nor AMQP's requests; it knows record batches, which are the form in
//! which records are stored.
//!
//! # Futures that are dropped, nodes that die
//!
//! An operation that changes something hands ops to the commit loop and awaits their outcome. Dropping the
//! future abandons the answer, not the change: the ops may still be committed. That is the same case as
//! a response lost on the way to the client, and clients have the same means against it (idempotent
//! producers, generations, absolute offsets).

mod cluster;
mod configs;
mod fetch;
mod groups;
mod offsets;
mod produce;
mod producers;
mod session;
mod topics;

pub use cluster::{ClusterView, NodeView};
pub use configs::{ConfigEdit, ConfigEntry, ConfigError, ConfigResource, ConfigSource, ConfigType};
pub use fetch::{FetchError, FetchLimits, FetchPartition, FetchedPartition};
pub use groups::{
    CommitOffset, CommittedOffset, GroupDescription, GroupListing, GroupOpError, Identity,
    JoinRequest, Joined, JoinedMember, LeavingMember, MemberDescription, SyncRequest, Synced,
};
pub use offsets::{DeleteRecordsError, FoundOffset, ListOffsetsError, OffsetSpec};
pub use produce::{ProduceError, ProducePartition, Produced};
pub use session::{Session, Unavailable};
pub use topics::{NewTopic, TopicError, TopicRef, TopicView};

use std::sync::Arc;

/// A node's broker. Cheap to clone.
#[derive(Clone)]
pub struct Broker {
    #[expect(dead_code, reason = "being built")]
    inner: Arc<()>,
}
