//! One file per API or family of APIs: from the request's fields to the broker's operation, and from its
//! outcome to the response's fields. Errors become codes in [`errors`](super::errors).

pub(crate) mod api_versions;
mod cluster;
mod configs;
mod fetch;
mod group_admin;
mod groups;
mod log_dirs;
mod metadata;
mod offsets;
mod partition_offsets;
mod produce;
mod producers;
mod topics;

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::StrBytes;

use crate::net::BytePermit;
use crate::types::TopicId;

use super::codec::{self, Header, Malformed};
use super::connection::{Call, Overlap};
use super::service::{Context, answer};

/// Decodes a body that the guard has passed, and makes a call of it.
pub(crate) fn call(
    context: Context,
    header: &Header,
    body: Bytes,
    permit: BytePermit,
) -> Result<Call, Malformed> {
    macro_rules! table {
        ($($api:ident => $handler:path, $overlap:ident;)*) => {
            match header.offered.api {
                $(ApiKey::$api => {
                    let request = codec::decode(header, body)?;
                    let name = stringify!($api);
                    let overlap = Overlap::$overlap;
                    let run = async move {
                        answer(&context, overlap, name, permit, $handler(&context, request)).await
                    };
                    Ok(Call { overlap, run: run.boxed() })
                })*
                other => Err(Malformed::UnknownApi(other as i16)),
            }
        };
    }
    table! {
        Produce => produce::produce, Append;
        Fetch => fetch::fetch, LongRead;
        ListOffsets => partition_offsets::list_offsets, Alone;
        Metadata => metadata::metadata, Look;
        OffsetCommit => offsets::commit, Alone;
        OffsetFetch => offsets::fetch, Alone;
        FindCoordinator => cluster::find_coordinator, Look;
        JoinGroup => groups::join, LongWait;
        Heartbeat => groups::heartbeat, Alone;
        LeaveGroup => groups::leave, Alone;
        SyncGroup => groups::sync, LongWait;
        DescribeGroups => group_admin::describe, Alone;
        ListGroups => group_admin::list, Alone;
        ApiVersions => api_versions::api_versions, Alone;
        CreateTopics => topics::create, Alone;
        DeleteTopics => topics::delete, Alone;
        DeleteRecords => partition_offsets::delete_records, Alone;
        InitProducerId => producers::init_producer_id, Alone;
        OffsetForLeaderEpoch => partition_offsets::offset_for_leader_epoch, Alone;
        DescribeConfigs => configs::describe, Alone;
        AlterConfigs => configs::alter, Alone;
        DescribeLogDirs => log_dirs::describe, Alone;
        CreatePartitions => topics::create_partitions, Alone;
        DeleteGroups => group_admin::delete, Alone;
        IncrementalAlterConfigs => configs::incremental_alter, Alone;
        OffsetDelete => offsets::delete, Alone;
        DescribeCluster => cluster::describe, Alone;
        DescribeTopicPartitions => metadata::describe_topic_partitions, Alone;
    }
}

/// For how long the client of a request waits.
fn limit(timeout_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or_default())
}

/// A text for the wire.
fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

/// A topic id on the wire, unless it is the zero that stands for none (KIP-516).
fn topic_id(id: uuid::Uuid) -> Option<TopicId> {
    (!id.is_nil()).then_some(TopicId(id))
}

/// The items without those whose name came before: a request cannot make its answer large by asking again and
/// again for the same.
fn once<T, N: Ord>(mut items: Vec<T>, name: impl Fn(&T) -> N) -> Vec<T> {
    let mut seen = std::collections::BTreeSet::new();
    items.retain(|item| seen.insert(name(item)));
    items
}

/// Those of `names` that occur more than once. Kafka refuses what a request names twice.
fn repeated<T: Ord>(names: impl IntoIterator<Item = T>) -> std::collections::BTreeSet<T> {
    let mut seen = std::collections::BTreeSet::new();
    let mut twice = std::collections::BTreeSet::new();
    for name in names {
        if let Some(name) = seen.replace(name) {
            twice.insert(name);
        }
    }
    twice
}

/// Kafka's bit field of the operations that a client is allowed on something (KIP-430): the bits are codes of
/// `AclOperation`.
mod allowed {
    use super::Context;
    use crate::broker::{Action, Resource};

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
