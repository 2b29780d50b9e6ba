//! ListOffsets, OffsetForLeaderEpoch (KIP-101) and DeleteRecords (KIP-107).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse, ListOffsetsRequest, ListOffsetsResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};

use crate::broker::{FoundOffset, OffsetSpec, TopicRef};
use crate::types::{Offset, PartitionIndex, Timestamp};

use super::super::context::{Answer, Context};
use super::super::errors::{self, Fault};
use super::items::{occurs_twice, repeated};
use super::{epoch, millis};

pub(super) async fn list_offsets(
    context: &Context,
    request: ListOffsetsRequest,
) -> Answer<ListOffsetsResponse> {
    let named = request.topics.iter().flat_map(|topic| {
        let indexes = topic.partitions.iter();
        indexes.map(|partition| (topic.name.clone(), partition.partition_index))
    });
    let twice = repeated(named);
    let mut places = Vec::new();
    let mut wanted = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut answers = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let index = partition.partition_index;
            let answer = ListOffsetsPartitionResponse::default()
                .with_partition_index(index)
                .with_timestamp(-1)
                .with_offset(-1);
            let spec = if twice.contains(&(topic.name.clone(), index)) {
                Err(occurs_twice("the partition"))
            } else {
                specified(partition.timestamp, context.version)
            };
            match spec {
                Ok(Some(spec)) => {
                    places.push((topics.len(), answers.len()));
                    wanted.push((
                        TopicRef::Name(topic.name.to_string()),
                        PartitionIndex(index),
                        epoch(partition.current_leader_epoch),
                        spec,
                    ));
                    answers.push(answer);
                }
                Ok(None) => answers.push(answer),
                Err(fault) => answers.push(answer.with_error_code(context.fault(&fault).0)),
            }
        }
        topics.push(
            ListOffsetsTopicResponse::default()
                .with_name(topic.name)
                .with_partitions(answers),
        );
    }
    let read_committed = request.isolation_level == 1;
    let found = context
        .broker()
        .list_offsets(&context.session, &wanted, read_committed)
        .await;
    for ((topic, partition), outcome) in places.into_iter().zip(found) {
        let place = &mut topics[topic].partitions[partition];
        match outcome {
            Ok(FoundOffset { offset, timestamp }) => {
                if let Some(offset) = offset {
                    place.offset = offset.0;
                    place.leader_epoch = if context.version >= 4 { 0 } else { -1 };
                }
                place.timestamp = timestamp.map_or(-1, |time| time.0);
            }
            Err(error) => place.error_code = context.fault(&errors::list_offsets(&error)).0,
        }
    }
    Ok(ListOffsetsResponse::default().with_topics(topics))
}

/// What a timestamp stands for; `None` for what is known to be nowhere. Special ones are refused before the version
/// that brought them, and other negative ones always, as in Kafka: a client that asks for what this broker does not
/// know must not take the answer for an offset.
fn specified(timestamp: i64, version: i16) -> Result<Option<OffsetSpec>, Fault> {
    let (spec, since) = match timestamp {
        -1 => (Some(OffsetSpec::Latest), 0),
        -2 => (Some(OffsetSpec::Earliest), 0),
        -3 => (Some(OffsetSpec::MaxTimestamp), 7),
        -4 => (Some(OffsetSpec::Earliest), 8),
        // The last offset in tiered storage: there is no other tier.
        -5 => (None, 9),
        time if time >= 0 => (Some(OffsetSpec::At(Timestamp(time))), 0),
        unknown => {
            let what = format!("timestamp {unknown} has no meaning in version {version}");
            return Err(Fault::new(ResponseError::UnsupportedVersion, what));
        }
    };
    if version < since {
        let what = format!("timestamp {timestamp} has a meaning since version {since}");
        return Err(Fault::new(ResponseError::UnsupportedVersion, what));
    }
    Ok(spec)
}

pub(super) async fn offset_for_leader_epoch(
    context: &Context,
    request: OffsetForLeaderEpochRequest,
) -> Answer<OffsetForLeaderEpochResponse> {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let reference = TopicRef::Name(topic.topic.to_string());
        let mut answers = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let answer = EpochEndOffset::default()
                .with_partition(partition.partition)
                .with_leader_epoch(-1)
                .with_end_offset(-1);
            // There is one epoch, for ever.
            if partition.current_leader_epoch > 0 {
                let code = context.code(ResponseError::UnknownLeaderEpoch);
                answers.push(answer.with_error_code(code));
                continue;
            }
            let index = PartitionIndex(partition.partition);
            let end = context
                .broker()
                .end_of_epoch(&context.session, &reference, index, partition.leader_epoch)
                .await;
            answers.push(match end {
                Ok(Some(end)) => answer
                    .with_leader_epoch(partition.leader_epoch)
                    .with_end_offset(end.0),
                Ok(None) => answer,
                Err(error) => {
                    answer.with_error_code(context.fault(&errors::list_offsets(&error)).0)
                }
            });
        }
        topics.push(
            OffsetForLeaderTopicResult::default()
                .with_topic(topic.topic)
                .with_partitions(answers),
        );
    }
    Ok(OffsetForLeaderEpochResponse::default().with_topics(topics))
}

pub(super) async fn delete_records(
    context: &Context,
    request: DeleteRecordsRequest,
) -> Answer<DeleteRecordsResponse> {
    let wanted: Vec<_> = request
        .topics
        .iter()
        .flat_map(|topic| {
            topic.partitions.iter().map(|partition| {
                // -1 stands for the high watermark.
                let upto = (partition.offset != -1).then_some(Offset(partition.offset));
                let index = PartitionIndex(partition.partition_index);
                (TopicRef::Name(topic.name.to_string()), index, upto)
            })
        })
        .collect();
    let session = context.session.within(millis(request.timeout_ms));
    let deleted = context.broker().delete_records(&session, &wanted).await;
    let mut deleted = deleted.into_iter();
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().zip(deleted.by_ref());
        let answers = partitions.map(|(partition, outcome)| {
            let answer = DeleteRecordsPartitionResult::default()
                .with_partition_index(partition.partition_index);
            match outcome {
                Ok(log_start) => answer.with_low_watermark(log_start.0),
                Err(error) => answer
                    .with_low_watermark(-1)
                    .with_error_code(context.fault(&errors::delete_records(&error)).0),
            }
        });
        DeleteRecordsTopicResult::default()
            .with_name(topic.name)
            .with_partitions(answers.collect())
    });
    Ok(DeleteRecordsResponse::default().with_topics(topics.collect()))
}
