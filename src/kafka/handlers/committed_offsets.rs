//! Committed offsets: OffsetCommit, OffsetFetch, OffsetDelete (KIP-496).
//!
//! The wire names topics, the broker keeps offsets by topic id: a topic that is deleted and created
//! again has none.

use std::collections::BTreeMap;

use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse,
    OffsetFetchRequest, OffsetFetchResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use crate::broker::{
    Action, CommitOffset, CommittedOffset, Denied, GroupOpError, Identity, TopicError, TopicRef,
    TopicView,
};
use crate::types::{Generation, MemberId, Offset, PartitionIndex, TopicId, TopicPartition};

use super::super::context::{Answer, Context};
use super::super::errors::{self, Fault};
use super::groups::{code, group_id};
use super::items::once;
use super::{epoch, text};

/// Topics that a request names, as far as they exist.
struct Topics {
    known: BTreeMap<String, TopicView>,
    /// Those with which the client may not do what it asks for.
    denied: BTreeMap<String, Denied>,
    /// Why nothing could be found out.
    failed: Option<GroupOpError>,
}

impl Topics {
    async fn find<'a>(
        context: &Context,
        action: Action,
        names: impl Iterator<Item = &'a TopicName>,
    ) -> Topics {
        let mut names: Vec<String> = names.map(|name| name.to_string()).collect();
        names.sort_unstable();
        names.dedup();
        let wanted: Vec<TopicRef> = names.iter().cloned().map(TopicRef::Name).collect();
        let mut topics = Topics {
            known: BTreeMap::new(),
            denied: BTreeMap::new(),
            failed: None,
        };
        let described = context
            .broker()
            .find_topics(&context.session, action, &wanted)
            .await;
        match described {
            Err(why) => topics.failed = Some(why.into()),
            Ok(described) => {
                for (name, outcome) in names.into_iter().zip(described) {
                    match outcome {
                        Ok(view) => {
                            topics.known.insert(name, view);
                        }
                        Err(TopicError::Denied(why)) => {
                            topics.denied.insert(name, why);
                        }
                        Err(TopicError::Unavailable(why)) => topics.failed = Some(why.into()),
                        Err(_) => {}
                    }
                }
            }
        }
        topics
    }

    fn partition(&self, name: &str, index: i32) -> Result<TopicPartition, GroupOpError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if let Some(why) = self.denied.get(name) {
            return Err(why.clone().into());
        }
        let view = self.known.get(name);
        view.filter(|view| (0..view.partitions).contains(&index))
            .map(|view| TopicPartition {
                topic: view.id,
                partition: PartitionIndex(index),
            })
            .ok_or(GroupOpError::UnknownPartition)
    }
}

/// Puts the outcomes of those partitions that could be passed on back among all.
fn merge(
    places: Vec<Result<(), GroupOpError>>,
    outcomes: Result<Vec<Result<(), GroupOpError>>, GroupOpError>,
) -> impl Iterator<Item = Result<(), GroupOpError>> {
    let mut outcomes = outcomes.map(Vec::into_iter);
    places
        .into_iter()
        .map(move |place| match (place, &mut outcomes) {
            (Err(refused), Ok(_)) => Err(refused),
            (Ok(()), Ok(outcomes)) => outcomes
                .next()
                .unwrap_or(Err(GroupOpError::UnknownPartition)),
            // What is wrong with the group concerns all.
            (_, Err(error)) => Err(error.clone()),
        })
}

pub(super) async fn commit(
    context: &Context,
    request: OffsetCommitRequest,
) -> Answer<OffsetCommitResponse> {
    let names = request.topics.iter().map(|topic| &topic.name);
    let topics = Topics::find(context, Action::Read, names).await;
    let mut places = Vec::new();
    let mut wanted = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let found = topics.partition(&topic.name, partition.partition_index);
            places.push(found.map(|at| {
                let metadata = partition.committed_metadata.as_ref();
                wanted.push(CommitOffset {
                    partition: at,
                    offset: Offset(partition.committed_offset),
                    leader_epoch: epoch(partition.committed_leader_epoch),
                    metadata: metadata.map(StrBytes::to_string),
                });
            }));
        }
    }
    let outcomes = match group_id(&request.group_id, true) {
        // Also with nothing to commit: the group still has its say.
        Ok(group) => {
            let identity = Identity {
                group,
                member: MemberId::from(request.member_id.as_str()),
                instance: request.group_instance_id.map(|id| id.to_string()),
                generation: Generation(request.generation_id_or_member_epoch),
            };
            let broker = context.broker();
            broker
                .commit_offsets(&context.session, &identity, wanted)
                .await
        }
        Err(error) => Err(error),
    };
    let mut outcomes = merge(places, outcomes);
    let answers = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().zip(outcomes.by_ref());
        let partitions = partitions.map(|(partition, outcome)| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code(context, outcome))
        });
        OffsetCommitResponseTopic::default()
            .with_partitions(partitions.collect())
            .with_name(topic.name)
    });
    Ok(OffsetCommitResponse::default().with_topics(answers.collect()))
}

/// What one group has committed of a topic.
struct Committed {
    topic: TopicName,
    /// The code of each of the partitions.
    error: i16,
    /// By partition; `None` where nothing is committed.
    partitions: Vec<(i32, Option<CommittedOffset>)>,
}

pub(super) async fn fetch(
    context: &Context,
    request: OffsetFetchRequest,
) -> Answer<OffsetFetchResponse> {
    let response = OffsetFetchResponse::default();
    if context.version >= 8 {
        let mut groups = Vec::with_capacity(request.groups.len());
        for group in once(request.groups, |group| group.group_id.clone()) {
            let topics = group.topics.map(|topics| {
                let topics = topics.into_iter();
                topics
                    .map(|topic| (topic.name, topic.partition_indexes))
                    .collect()
            });
            let outcome = committed(context, &group.group_id, topics).await;
            let answer = OffsetFetchResponseGroup::default().with_group_id(group.group_id);
            groups.push(match outcome {
                Ok(committed) => answer.with_topics(committed.into_iter().map(newer).collect()),
                Err((fault, _)) => answer.with_error_code(context.fault(&fault).0),
            });
        }
        return Ok(response.with_groups(groups));
    }
    let topics = request.topics.map(|topics| {
        let topics = topics.into_iter();
        topics
            .map(|topic| (topic.name, topic.partition_indexes))
            .collect()
    });
    Ok(match committed(context, &request.group_id, topics).await {
        Ok(committed) => {
            let topics = committed.into_iter().map(older);
            response.with_topics(topics.collect())
        }
        Err((fault, asked)) => {
            let (code, _) = context.fault(&fault);
            if context.version >= 2 {
                return Ok(response.with_error_code(code));
            }
            // Version 1 says it of each partition.
            let topics = asked.into_iter().map(|topic| {
                let error = code;
                older(Committed { error, ..topic })
            });
            response.with_topics(topics.collect())
        }
    })
}

/// The offsets of a group: of the partitions asked for, or all. An error comes with what was asked for.
async fn committed(
    context: &Context,
    group: &str,
    asked: Option<Vec<(TopicName, Vec<i32>)>>,
) -> Result<Vec<Committed>, (Fault, Vec<Committed>)> {
    let nothing = |asked: &Option<Vec<(TopicName, Vec<i32>)>>| -> Vec<Committed> {
        let asked = asked.iter().flatten();
        asked
            .map(|(topic, indexes)| Committed {
                topic: topic.clone(),
                error: 0,
                partitions: indexes.iter().map(|index| (*index, None)).collect(),
            })
            .collect()
    };
    let fail = |error: &GroupOpError| (errors::group(error), nothing(&asked));
    let group = group_id(group, true).map_err(|error| fail(&error))?;
    let Some(wanted) = &asked else {
        return everything(context, &group)
            .await
            .map_err(|error| fail(&error));
    };
    let names = wanted.iter().map(|(name, _)| name);
    let topics = Topics::find(context, Action::Describe, names).await;
    if let Some(error) = &topics.failed {
        return Err(fail(error));
    }
    let find = |name: &TopicName, index| topics.partition(name, index).ok();
    let partitions: Vec<TopicPartition> = wanted
        .iter()
        .flat_map(|(name, indexes)| indexes.iter().filter_map(move |index| find(name, *index)))
        .collect();
    let found = context
        .broker()
        .committed_offsets(&context.session, &group, Some(&partitions))
        .await;
    let found = match found {
        Ok(found) => found,
        // Of a group that does not exist nothing is committed.
        Err(GroupOpError::GroupIdNotFound) => BTreeMap::new(),
        Err(error) => return Err(fail(&error)),
    };
    let mut committed = nothing(&asked);
    for of_topic in &mut committed {
        let Committed { topic, .. } = of_topic;
        for (index, offset) in &mut of_topic.partitions {
            *offset = find(topic, *index).and_then(|at| found.get(&at).cloned());
        }
        if let Some(why) = topics.denied.get(topic.as_str()) {
            (of_topic.error, _) = context.fault(&errors::denied(why));
        }
    }
    Ok(committed)
}

/// All offsets of a group.
async fn everything(
    context: &Context,
    group: &crate::types::GroupId,
) -> Result<Vec<Committed>, GroupOpError> {
    let found = context
        .broker()
        .committed_offsets(&context.session, group, None)
        .await;
    let found = match found {
        Ok(found) => found,
        Err(GroupOpError::GroupIdNotFound) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut by_topic: BTreeMap<TopicId, Vec<_>> = BTreeMap::new();
    for (at, offset) in found {
        let partitions = by_topic.entry(at.topic).or_default();
        partitions.push((at.partition.0, Some(offset)));
    }
    let wanted: Vec<TopicRef> = by_topic.keys().copied().map(TopicRef::Id).collect();
    let described = context
        .broker()
        .find_topics(&context.session, Action::Describe, &wanted)
        .await?;
    let mut committed = Vec::with_capacity(by_topic.len());
    for ((_, partitions), view) in by_topic.into_iter().zip(described) {
        match view {
            Ok(view) => committed.push(Committed {
                topic: TopicName(text(view.name.as_str())),
                error: 0,
                partitions,
            }),
            Err(TopicError::Unavailable(why)) => return Err(why.into()),
            // Deleted in the meantime.
            Err(_) => {}
        }
    }
    Ok(committed)
}

/// What is said of a partition: offset, leader epoch, metadata.
fn stated(committed: Option<CommittedOffset>) -> (i64, i32, Option<StrBytes>) {
    match committed {
        Some(committed) => (
            committed.offset.0,
            committed.leader_epoch.unwrap_or(-1),
            Some(text(committed.metadata.unwrap_or_default())),
        ),
        None => (-1, -1, Some(StrBytes::default())),
    }
}

fn newer(of_topic: Committed) -> OffsetFetchResponseTopics {
    let partitions = of_topic.partitions.into_iter().map(|(index, committed)| {
        let (offset, epoch, metadata) = stated(committed);
        OffsetFetchResponsePartitions::default()
            .with_partition_index(index)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(epoch)
            .with_metadata(metadata)
            .with_error_code(of_topic.error)
    });
    OffsetFetchResponseTopics::default()
        .with_name(of_topic.topic)
        .with_partitions(partitions.collect())
}

fn older(of_topic: Committed) -> OffsetFetchResponseTopic {
    let partitions = of_topic.partitions.into_iter().map(|(index, committed)| {
        let (offset, epoch, metadata) = stated(committed);
        OffsetFetchResponsePartition::default()
            .with_partition_index(index)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(epoch)
            .with_metadata(metadata)
            .with_error_code(of_topic.error)
    });
    OffsetFetchResponseTopic::default()
        .with_name(of_topic.topic)
        .with_partitions(partitions.collect())
}

pub(super) async fn delete(
    context: &Context,
    request: OffsetDeleteRequest,
) -> Answer<OffsetDeleteResponse> {
    let names = request.topics.iter().map(|topic| &topic.name);
    let topics = Topics::find(context, Action::Read, names).await;
    let mut places = Vec::new();
    let mut wanted = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let found = topics.partition(&topic.name, partition.partition_index);
            places.push(found.map(|at| wanted.push(at)));
        }
    }
    let outcomes = match group_id(&request.group_id, false) {
        Ok(group) => {
            let broker = context.broker();
            broker
                .delete_offsets(&context.session, &group, &wanted)
                .await
        }
        Err(error) => Err(error),
    };
    if let Err(error) = &outcomes {
        let (code, _) = context.fault(&errors::group(error));
        return Ok(OffsetDeleteResponse::default().with_error_code(code));
    }
    let mut outcomes = merge(places, outcomes);
    let answers = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().zip(outcomes.by_ref());
        let partitions = partitions.map(|(partition, outcome)| {
            OffsetDeleteResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code(context, outcome))
        });
        OffsetDeleteResponseTopic::default()
            .with_partitions(partitions.collect())
            .with_name(topic.name)
    });
    Ok(OffsetDeleteResponse::default().with_topics(answers.collect()))
}
