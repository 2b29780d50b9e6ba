//! CreateTopics, DeleteTopics, CreatePartitions.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, TopicName,
};
use uuid::Uuid;

use crate::broker::{MorePartitions, NewTopic, TopicError, TopicRef, TopicView};

use super::super::context::{Answer, Context};
use super::super::errors::{self, Fault};
use super::configs::source;
use super::items::{each, occurs_twice, repeated};
use super::{millis, text, topic_id};

pub(super) async fn create(
    context: &Context,
    request: CreateTopicsRequest,
) -> Answer<CreateTopicsResponse> {
    let names: Vec<TopicName> = request
        .topics
        .iter()
        .map(|topic| topic.name.clone())
        .collect();
    let doubled = repeated(names.iter().cloned());
    let wanted = request.topics.into_iter().map(|topic| {
        if doubled.contains(&topic.name) {
            return Err(occurs_twice("the topic"));
        }
        new_topic(topic)
    });
    let wanted: Vec<Result<NewTopic, Fault>> = wanted.collect();
    let validate_only = request.validate_only;
    let created = each(
        wanted.clone(),
        async |topics| {
            let session = context.session.within(millis(request.timeout_ms));
            let created = context
                .broker()
                .create_topics(&session, topics, validate_only);
            created.await.map_err(|why| errors::admin(&why))
        },
        errors::topic,
    )
    .await;
    let mut results = Vec::with_capacity(names.len());
    for ((name, wanted), outcome) in names.into_iter().zip(wanted).zip(created) {
        let result = CreatableTopicResult::default()
            .with_name(name)
            .with_error_message(None);
        results.push(match wanted.and_then(|new| Ok((new, outcome?))) {
            Ok((new, view)) => described(context, result, &new, &view, validate_only),
            Err(fault) => {
                let (code, message) = context.fault(&fault);
                result
                    .with_error_code(code)
                    .with_error_message(message)
                    .with_num_partitions(-1)
                    .with_replication_factor(-1)
                    .with_configs(None)
            }
        });
    }
    Ok(CreateTopicsResponse::default().with_topics(results))
}

fn new_topic(topic: CreatableTopic) -> Result<NewTopic, Fault> {
    let invalid = |what: &str| Fault::new(ResponseError::InvalidRequest, what);
    let mut assignment = BTreeMap::new();
    for partition in topic.assignments {
        let nodes = partition.broker_ids.iter().map(|id| id.0).collect();
        if assignment
            .insert(partition.partition_index, nodes)
            .is_some()
        {
            let what = "a partition occurs more than once in the assignment";
            return Err(Fault::new(ResponseError::InvalidReplicaAssignment, what));
        }
    }
    let assignment = (!assignment.is_empty()).then_some(assignment);
    if assignment.is_some() && (topic.num_partitions != -1 || topic.replication_factor != -1) {
        let what = "give the partitions either by number or by an assignment, not both";
        return Err(invalid(what));
    }
    let mut configs = BTreeMap::new();
    for config in topic.configs {
        let value = config.value.map(|value| value.to_string());
        if configs.insert(config.name.to_string(), value).is_some() {
            return Err(occurs_twice("a setting"));
        }
    }
    Ok(NewTopic {
        name: topic.name.to_string(),
        partitions: (topic.num_partitions != -1).then_some(topic.num_partitions),
        replication_factor: (topic.replication_factor != -1).then_some(topic.replication_factor),
        assignment,
        configs,
    })
}

/// A topic that was created, or only could be, with its settings (KIP-525). Java's client wants them of both.
fn described(
    context: &Context,
    result: CreatableTopicResult,
    new: &NewTopic,
    view: &TopicView,
    validate_only: bool,
) -> CreatableTopicResult {
    let id = if validate_only {
        Uuid::nil()
    } else {
        view.id.0
    };
    let mut configs = None;
    if context.version >= 5 {
        let broker = context.broker();
        let entries = broker.configs_of_new(&context.session, new);
        if let Err(TopicError::Denied(why)) = &entries {
            let (code, _) = context.fault(&errors::denied(why));
            return result
                .with_topic_id(id)
                .with_topic_config_error_code(code)
                .with_num_partitions(-1)
                .with_replication_factor(-1)
                .with_configs(Some(Vec::new()));
        }
        let shown = entries.ok().map(|entries| {
            let entries = entries.into_iter().map(|entry| {
                CreatableTopicConfigs::default()
                    .with_name(text(entry.name))
                    .with_value(entry.value.map(text))
                    .with_read_only(entry.read_only)
                    .with_config_source(source(entry.source))
                    .with_is_sensitive(entry.sensitive)
            });
            entries.collect()
        });
        configs = shown;
    }
    result
        .with_topic_id(id)
        .with_num_partitions(view.partitions)
        .with_replication_factor(view.replicas)
        .with_configs(configs)
}

pub(super) async fn delete(
    context: &Context,
    request: DeleteTopicsRequest,
) -> Answer<DeleteTopicsResponse> {
    let named: Vec<(Option<TopicName>, Uuid)> = if context.version >= 6 {
        let topics = request.topics.into_iter();
        topics.map(|topic| (topic.name, topic.topic_id)).collect()
    } else {
        let names = request.topic_names.into_iter();
        names.map(|name| (Some(name), Uuid::nil())).collect()
    };
    let doubled = repeated(named.iter().cloned());
    let wanted = named.iter().map(|topic| {
        if doubled.contains(topic) {
            return Err(occurs_twice("the topic"));
        }
        match (&topic.0, topic_id(topic.1)) {
            (Some(name), None) => Ok(TopicRef::Name(name.to_string())),
            (None, Some(id)) => Ok(TopicRef::Id(id)),
            _ => {
                let what = "name a topic either by its name or by its id, not both";
                Err(Fault::new(ResponseError::InvalidRequest, what))
            }
        }
    });
    let deleted = each(
        wanted.collect(),
        async |topics| {
            let session = context.session.within(millis(request.timeout_ms));
            let deleted = context.broker().delete_topics(&session, &topics);
            deleted.await.map_err(|why| errors::admin(&why))
        },
        errors::topic,
    )
    .await;
    let results = named.into_iter().zip(deleted).map(|((name, id), outcome)| {
        let result = DeletableTopicResult::default();
        match outcome {
            Ok(view) => result
                .with_name(Some(TopicName(text(view.name.as_str()))))
                .with_topic_id(view.id.0),
            Err(fault) => {
                let (code, message) = context.fault(&fault);
                result
                    .with_name(name)
                    .with_topic_id(id)
                    .with_error_code(code)
                    .with_error_message(message)
            }
        }
    });
    Ok(DeleteTopicsResponse::default().with_responses(results.collect()))
}

pub(super) async fn create_partitions(
    context: &Context,
    request: CreatePartitionsRequest,
) -> Answer<CreatePartitionsResponse> {
    let names: Vec<TopicName> = request
        .topics
        .iter()
        .map(|topic| topic.name.clone())
        .collect();
    let doubled = repeated(names.iter().cloned());
    let wanted = request.topics.into_iter().map(|topic| {
        if doubled.contains(&topic.name) {
            return Err(occurs_twice("the topic"));
        }
        let assignments = topic.assignments.map(|assignments| {
            let nodes = |nodes: Vec<kafka_protocol::messages::BrokerId>| {
                nodes.iter().map(|id| id.0).collect()
            };
            let assignments = assignments.into_iter();
            assignments.map(|new| nodes(new.broker_ids)).collect()
        });
        Ok(MorePartitions {
            topic: topic.name.to_string(),
            total: topic.count,
            assignment: assignments,
        })
    });
    let grown = each(
        wanted.collect(),
        async |topics| {
            let session = context.session.within(millis(request.timeout_ms));
            let grown = context
                .broker()
                .create_partitions(&session, topics, request.validate_only);
            grown.await.map_err(|why| errors::admin(&why))
        },
        errors::topic,
    )
    .await;
    let results = names.into_iter().zip(grown).map(|(name, outcome)| {
        let result = CreatePartitionsTopicResult::default().with_name(name);
        match outcome {
            Ok(()) => result,
            Err(fault) => {
                let (code, message) = context.fault(&fault);
                result.with_error_code(code).with_error_message(message)
            }
        }
    });
    Ok(CreatePartitionsResponse::default().with_results(results.collect()))
}
