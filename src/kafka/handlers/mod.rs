//! One file per API or family of APIs: from the request's fields to the broker's operation, and from its
//! outcome to the response's fields. Errors become codes in [`errors`](super::errors).
//!
//! A handler is an `async fn(&Context, Request) -> Answer<Response>`, and the line of its API in the table of
//! [`apis`](super::apis) names it; `dispatch` finds it there. What is here beside the files is what several of them
//! need.

pub(crate) mod api_versions;
mod cluster;
mod configs;
pub(crate) mod dispatch;
mod fetch;
mod group_admin;
mod groups;
mod items;
mod log_dirs;
mod metadata;
mod offsets;
mod partition_offsets;
mod produce;
mod producers;
mod topics;

use std::time::Duration;

use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::StrBytes;

use crate::broker::TopicRef;
use crate::types::TopicId;

/// A length of time on the wire. Negative ones are none.
fn millis(millis: i32) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or_default())
}

/// A text for the wire.
fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

/// A topic id on the wire, unless it is the zero that stands for none (KIP-516).
fn topic_id(id: uuid::Uuid) -> Option<TopicId> {
    (!id.is_nil()).then_some(TopicId(id))
}

/// The topic of records that are produced or fetched, which has been named by its id since version 13 of both (KIP-516).
fn topic_of_records(version: i16, name: &TopicName, id: uuid::Uuid) -> TopicRef {
    if version >= 13 {
        TopicRef::Id(TopicId(id))
    } else {
        TopicRef::Name(name.to_string())
    }
}

/// A leader epoch on the wire, unless it is the -1 that stands for none.
fn epoch(epoch: i32) -> Option<i32> {
    (epoch >= 0).then_some(epoch)
}

/// Kafka's bit field of the operations that a client is allowed on something (KIP-430): the bits are codes of
/// `AclOperation`. Everybody may do everything until there are access rules.
mod allowed {
    /// The client did not ask.
    pub(super) const NOT_ASKED: i32 = i32::MIN;
    /// Read, write, create, delete, alter, describe, describe and alter configs.
    pub(super) const ON_TOPIC: i32 =
        1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;
    /// Read, delete, describe.
    pub(super) const ON_GROUP: i32 = 1 << 3 | 1 << 6 | 1 << 8;
    /// Create, alter, describe, cluster action, describe and alter configs, idempotent write.
    pub(super) const ON_CLUSTER: i32 =
        1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;
}
