//! One file per API or family of APIs: from the request's fields to the broker's operation, and from its
//! outcome to the response's fields. Errors become codes in [`errors`](super::errors).
//!
//! A handler is an `async fn(&Context, Request) -> Answer<Response>`, and the line of its API in the table of
//! [`apis`](super::apis) names it; `dispatch` finds it there. What is here beside the files is what several of them
//! need.

mod acls;
pub(crate) mod api_versions;
mod cluster;
mod committed_offsets;
mod configs;
pub(crate) mod dispatch;
mod fetch;
mod group_admin;
mod groups;
mod items;
mod log_dirs;
mod metadata;
mod partition_offsets;
mod passwords;
mod produce;
mod producers;
pub(crate) mod sasl;
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

/// The topic of records that are produced or fetched, which has been named by its id since version 13 of both
/// (KIP-516).
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
/// `AclOperation`.
mod allowed {
    use crate::broker::{Action, Resource};
    use crate::kafka::context::Context;

    /// The client did not ask.
    pub(super) const NOT_ASKED: i32 = i32::MIN;

    /// The operations that there are on a topic.
    const ON_TOPIC: [Action; 8] = [
        Action::Read,
        Action::Write,
        Action::Create,
        Action::Delete,
        Action::Alter,
        Action::Describe,
        Action::DescribeConfigs,
        Action::AlterConfigs,
    ];
    const ON_GROUP: [Action; 3] = [Action::Read, Action::Delete, Action::Describe];
    const ON_CLUSTER: [Action; 7] = [
        Action::Create,
        Action::Alter,
        Action::Describe,
        Action::ClusterAction,
        Action::DescribeConfigs,
        Action::AlterConfigs,
        Action::IdempotentWrite,
    ];
    const ON_TRANSACTIONAL_ID: [Action; 2] = [Action::Describe, Action::Write];

    /// What the client may do on `resource`.
    pub(super) fn on(context: &Context, resource: &Resource<'_>) -> i32 {
        let actions = match resource {
            Resource::Topic(_) => &ON_TOPIC[..],
            Resource::Group(_) => &ON_GROUP[..],
            Resource::Cluster => &ON_CLUSTER[..],
            Resource::TransactionalId(_) => &ON_TRANSACTIONAL_ID[..],
        };
        let broker = context.broker();
        let permitted = broker.permitted(&context.session, actions, resource);
        let bits = permitted.fold(0, |bits, action| bits | 1 << code(action));
        match resource {
            // Who may not know of the cluster is told nothing.
            Resource::Cluster if bits & 1 << code(Action::Describe) == 0 => 0,
            _ => bits,
        }
    }

    fn code(action: Action) -> i32 {
        match action {
            Action::Read => 3,
            Action::Write => 4,
            Action::Create => 5,
            Action::Delete => 6,
            Action::Alter => 7,
            Action::Describe => 8,
            Action::ClusterAction => 9,
            Action::DescribeConfigs => 10,
            Action::AlterConfigs => 11,
            Action::IdempotentWrite => 12,
        }
    }
}
