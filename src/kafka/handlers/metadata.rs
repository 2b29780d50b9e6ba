//! Metadata and DescribeTopicPartitions (KIP-966): topics, partitions, and where to find them.

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, MetadataRequest,
    MetadataResponse, TopicName,
};

use crate::broker::{ClusterView, Resource, TopicError, TopicRef, TopicView, Unavailable};
use crate::types::{PartitionIndex, TopicName as Name, TopicPartition};

use super::super::call::Violation;
use super::super::context::{Answer, Context};
use super::super::errors;
use super::items::once;
use super::{allowed, text, topic_id};

/// The most partitions in one answer to DescribeTopicPartitions (Kafka's
/// `max.request.partition.size.limit`).
const MAX_PARTITIONS: i32 = 2000;

pub(super) async fn metadata(
    context: &Context,
    request: MetadataRequest,
) -> Answer<MetadataResponse> {
    let asked_about_topics = request.include_topic_authorized_operations;
    // Before version 1 an empty list stands for all topics; since then null does.
    let wanted = match request.topics {
        Some(topics) if context.version >= 1 || !topics.is_empty() => Some(topics),
        _ => None,
    };
    let wanted = wanted.map(|topics| once(topics, |topic| (topic.name.clone(), topic.topic_id)));
    let (cluster, topics) = match wanted {
        None => {
            context.keep_turn().await;
            context.reserve(size(context, None)).await;
            let all = context.broker().list_topics(&context.session);
            let (cluster, all) = futures::join!(cluster(context), all);
            let (cluster, all) = (cluster?, all.map_err(unanswerable)?);
            let views = all.iter();
            let topics = views.map(|view| found(context, &cluster, view, asked_about_topics));
            let topics = topics.collect();
            (cluster, topics)
        }
        Some(wanted) => {
            let create = context.version < 4 || request.allow_auto_topic_creation;
            let described = described(context, &wanted, create);
            let ((), cluster, described) =
                futures::join!(context.keep_turn(), cluster(context), described);
            let cluster = cluster?;
            context.reserve(size(context, Some(&wanted))).await;
            let topics = named(context, &cluster, &wanted, described, asked_about_topics);
            (cluster, topics)
        }
    };
    let brokers = cluster.nodes.iter().map(|node| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(node.id.0))
            .with_host(text(&*node.host))
            .with_port(i32::from(node.port))
            .with_rack(node.rack.as_deref().map(text))
    });
    let operations = if request.include_cluster_authorized_operations {
        allowed::on(context, &Resource::Cluster)
    } else {
        allowed::NOT_ASKED
    };
    Ok(MetadataResponse::default()
        .with_brokers(brokers.collect())
        .with_cluster_id(Some(text(&*cluster.cluster_id)))
        .with_controller_id(BrokerId(controller(&cluster)))
        .with_topics(topics)
        .with_cluster_authorized_operations(operations))
}

/// About how many bytes the answer takes while it is made.
fn size(context: &Context, wanted: Option<&[MetadataRequestTopic]>) -> usize {
    const TOPIC: u64 = 256;
    const PARTITION: u64 = 256;
    // It is named among the replicas and among those in sync.
    const REPLICA: u64 = 8;
    let known = match wanted {
        None => context.broker().known_size(None),
        Some(topics) => {
            let topics: Vec<TopicRef> = topics.iter().map(reference).collect();
            context.broker().known_size(Some(&topics))
        }
    };
    let bytes = known.topics * TOPIC + known.partitions * PARTITION + known.replicas * REPLICA;
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// The cluster as Kafka clients see it.
pub(super) async fn cluster(context: &Context) -> Answer<ClusterView> {
    let cluster = context
        .broker()
        .cluster(&context.session, context.client.listener())
        .await;
    cluster.map_err(unanswerable)
}

/// An answer without brokers, or with no topics where there are some, would be believed. So there is none,
/// and the client asks another node, or this one again.
fn unanswerable(why: Unavailable) -> Violation {
    Violation::Unanswerable(why.to_string())
}

/// Any node does what Kafka's controller does. All nodes name the same one.
pub(super) fn controller(cluster: &ClusterView) -> i32 {
    let lowest = cluster.nodes.iter().map(|node| node.id.0).min();
    lowest.unwrap_or(cluster.this.0)
}

/// What there is of each topic; those that there are not are created, if asked.
async fn described(
    context: &Context,
    topics: &[MetadataRequestTopic],
    create: bool,
) -> Vec<Result<TopicView, TopicError>> {
    let wanted: Vec<TopicRef> = topics.iter().map(reference).collect();
    let described = context
        .broker()
        .describe_topics(&context.session, &wanted, create)
        .await;
    described.unwrap_or_else(|why| {
        let failed = |_| Err(TopicError::Unavailable(why.clone()));
        wanted.iter().map(failed).collect()
    })
}

fn named(
    context: &Context,
    cluster: &ClusterView,
    topics: &[MetadataRequestTopic],
    described: Vec<Result<TopicView, TopicError>>,
    asked: bool,
) -> Vec<MetadataResponseTopic> {
    let answers = topics.iter().zip(described);
    answers
        .map(|(topic, outcome)| match outcome {
            Ok(view) => found(context, cluster, &view, asked),
            Err(error) => {
                let (code, _) = context.fault(&errors::metadata(&error));
                // Null names exist since version 12.
                let name = match &topic.name {
                    None if context.version < 12 => Some(TopicName::default()),
                    name => name.clone(),
                };
                let is_denied = matches!(error, TopicError::Denied(_));
                let named = name.as_ref().map_or("", |name| name.as_str());
                MetadataResponseTopic::default()
                    .with_error_code(code)
                    .with_is_internal(Name::is_internal_name(named) && !is_denied)
                    .with_name(name)
                    .with_topic_id(topic.topic_id)
                    .with_topic_authorized_operations(allowed::NOT_ASKED)
            }
        })
        .collect()
}

fn reference(topic: &MetadataRequestTopic) -> TopicRef {
    match (&topic.name, topic_id(topic.topic_id)) {
        (_, Some(id)) => TopicRef::Id(id),
        (Some(name), None) => TopicRef::Name(name.to_string()),
        // Names nothing: an invalid topic.
        (None, None) => TopicRef::Name(String::new()),
    }
}

fn found(
    context: &Context,
    cluster: &ClusterView,
    view: &TopicView,
    asked: bool,
) -> MetadataResponseTopic {
    let partitions = view.indexes().map(|index| {
        let (leader, replicas) = replicas(cluster, view, index);
        MetadataResponsePartition::default()
            .with_partition_index(index.0)
            .with_leader_id(leader)
            .with_leader_epoch(0)
            .with_replica_nodes(replicas.clone())
            .with_isr_nodes(replicas)
    });
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(text(view.name.as_str()))))
        .with_topic_id(view.id.0)
        .with_is_internal(view.internal)
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(operations(context, view, asked))
}

fn operations(context: &Context, view: &TopicView, asked: bool) -> i32 {
    if asked {
        allowed::on(context, &Resource::topic(view.name.as_str()))
    } else {
        allowed::NOT_ASKED
    }
}

/// The leader of a partition, and all that are said to have a replica. All of them are in sync: any node serves what
/// the store has.
fn replicas(
    cluster: &ClusterView,
    view: &TopicView,
    partition: PartitionIndex,
) -> (BrokerId, Vec<BrokerId>) {
    let topic = view.id;
    let replicas = cluster.replicas(TopicPartition { topic, partition }, view.replicas);
    let replicas: Vec<BrokerId> = replicas.into_iter().map(|node| BrokerId(node.0)).collect();
    let leader = replicas.first().copied();
    (leader.unwrap_or(BrokerId(cluster.this.0)), replicas)
}

pub(super) async fn describe_topic_partitions(
    context: &Context,
    request: DescribeTopicPartitionsRequest,
) -> Answer<DescribeTopicPartitionsResponse> {
    let cluster = cluster(context).await?;
    let mut wanted = wanted_topics(context, &request).await?;
    let mut first_partition = 0;
    if let Some(cursor) = &request.cursor {
        wanted = wanted.split_off(cursor.topic_name.as_str());
        if wanted.contains_key(cursor.topic_name.as_str()) {
            first_partition = cursor.partition_index.max(0);
        }
    }
    let mut left = request.response_partition_limit.clamp(1, MAX_PARTITIONS);
    let mut topics = Vec::new();
    let mut next = None;
    for (name, outcome) in wanted {
        if left == 0 {
            next = Some((name, 0));
            break;
        }
        let from = std::mem::take(&mut first_partition);
        let topic = DescribeTopicPartitionsResponseTopic::default();
        topics.push(match outcome {
            Err(error) => {
                let (code, _) = context.fault(&errors::metadata(&error));
                topic
                    .with_error_code(code)
                    .with_name(Some(TopicName(text(name))))
                    .with_topic_authorized_operations(allowed::NOT_ASKED)
            }
            Ok(view) => {
                let to = view.partitions.min(from.saturating_add(left));
                left -= (to - from).max(0);
                if to < view.partitions {
                    next = Some((name.clone(), to));
                }
                let partitions = (from..to).map(|index| partition(&cluster, &view, index));
                topic
                    .with_name(Some(TopicName(text(name))))
                    .with_topic_id(view.id.0)
                    .with_is_internal(view.internal)
                    .with_partitions(partitions.collect())
                    .with_topic_authorized_operations(operations(context, &view, true))
            }
        });
        if next.is_some() {
            break;
        }
    }
    let next = next.map(|(name, index)| {
        Cursor::default()
            .with_topic_name(TopicName(text(name)))
            .with_partition_index(index)
    });
    Ok(DescribeTopicPartitionsResponse::default()
        .with_topics(topics)
        .with_next_cursor(next))
}

/// The topics asked for by name, or all, in the order of their names.
async fn wanted_topics(
    context: &Context,
    request: &DescribeTopicPartitionsRequest,
) -> Answer<BTreeMap<String, Result<TopicView, TopicError>>> {
    if request.topics.is_empty() {
        let all = context.broker().list_topics(&context.session).await;
        let all = all.map_err(unanswerable)?.into_iter();
        return Ok(all
            .map(|view| (view.name.as_str().to_owned(), Ok(view)))
            .collect());
    }
    let names = request.topics.iter().map(|topic| topic.name.to_string());
    let names: Vec<String> = names.collect();
    let wanted: Vec<TopicRef> = names.iter().cloned().map(TopicRef::Name).collect();
    let described = context
        .broker()
        .describe_topics(&context.session, &wanted, false)
        .await;
    Ok(names
        .into_iter()
        .zip(described.map_err(unanswerable)?)
        .collect())
}

fn partition(
    cluster: &ClusterView,
    view: &TopicView,
    index: i32,
) -> DescribeTopicPartitionsResponsePartition {
    let (leader, replicas) = replicas(cluster, view, PartitionIndex(index));
    DescribeTopicPartitionsResponsePartition::default()
        .with_partition_index(index)
        .with_leader_id(leader)
        .with_leader_epoch(0)
        .with_replica_nodes(replicas.clone())
        .with_isr_nodes(replicas)
        .with_eligible_leader_replicas(Some(Vec::new()))
        .with_last_known_elr(Some(Vec::new()))
}
