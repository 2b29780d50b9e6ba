//! Produce.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
use kafka_protocol::protocol::StrBytes;

use crate::broker::{ProduceError, ProducePartition, Produced, RefusedRecord};
use crate::types::PartitionIndex;

use super::super::call::{Reply, Violation};
use super::super::context::{Answer, Context, Response};
use super::super::errors::{self, Fault};
use super::items::{occurs_twice, repeated};
use super::topic_of_records;

/// How long records may take that need no acknowledgement, or that of one node. Kafka has no timeout for them.
const WITHOUT_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest timeout that is believed.
const MAX_TIMEOUT: Duration = Duration::from_secs(300);

/// The shortest. In Kafka the timeout is that of the wait for other replicas, and begins when the records are stored.
/// Here nothing is waited for but the store, whose answer takes as long as it takes: a client that gives no time for
/// replicas is not to be told that its records failed which are stored a moment later.
const MIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A response, unless the client wants none (`acks=0`).
pub(crate) struct MaybeResponse(Option<ProduceResponse>);

impl Response for MaybeResponse {
    fn into_reply(self, context: &Context) -> Result<Option<Reply>, Violation> {
        match self.0 {
            Some(response) => response.into_reply(context),
            None => Ok(None),
        }
    }
}

/// Brings the records into the log, after those of the connection's earlier requests.
async fn append(
    context: &Context,
    wanted: Vec<ProducePartition>,
    timeout: Duration,
) -> Vec<Result<Produced, ProduceError>> {
    let turn = context.turn().await;
    let producing = context
        .broker()
        .begin_produce(&context.session, wanted, timeout)
        .await;
    drop(turn);
    producing.answered().await
}

/// Nothing is awaited before the turn is, so that the order of first polls is the order of appending.
pub(super) async fn produce(context: &Context, request: ProduceRequest) -> Answer<MaybeResponse> {
    let wants_answer = request.acks != 0;
    let refusal = refuse_whole(&request);
    let timeout = match u64::try_from(request.timeout_ms) {
        Ok(millis) if request.acks == -1 => {
            Duration::from_millis(millis).clamp(MIN_TIMEOUT, MAX_TIMEOUT)
        }
        _ => WITHOUT_TIMEOUT,
    };

    // Each partition's place in the answer, and what is to be said there.
    let mut response = ProduceResponse::default();
    let mut places = Vec::new();
    let mut wanted = Vec::new();
    let named = request.topic_data.iter().flat_map(|topic| {
        let partitions = topic.partition_data.iter();
        partitions.map(|partition| (topic.name.clone(), topic.topic_id, partition.index))
    });
    let doubled = repeated(named);
    for topic in request.topic_data {
        let mut answers = Vec::with_capacity(topic.partition_data.len());
        for partition in topic.partition_data {
            let key = (topic.name.clone(), topic.topic_id, partition.index);
            let twice = doubled.contains(&key);
            let reference = topic_of_records(context.version, &topic.name, topic.topic_id);
            let answer = PartitionProduceResponse::default().with_index(partition.index);
            match refusal
                .clone()
                .map_or_else(|| records(partition.records, twice), Err)
            {
                Ok(records) => {
                    places.push((response.responses.len(), answers.len()));
                    wanted.push(ProducePartition {
                        topic: reference,
                        partition: PartitionIndex(partition.index),
                        records,
                        memory: context.frame,
                    });
                    answers.push(answer);
                }
                Err(fault) => answers.push(failed(context, answer, &fault)),
            }
        }
        response.responses.push(
            TopicProduceResponse::default()
                .with_name(topic.name)
                .with_topic_id(topic.topic_id)
                .with_partition_responses(answers),
        );
    }

    if !wanted.is_empty() {
        let outcomes = append(context, wanted, timeout).await;
        for ((topic, partition), outcome) in places.into_iter().zip(outcomes) {
            let place = &mut response.responses[topic].partition_responses[partition];
            let answer = std::mem::take(place);
            *place = match outcome {
                Ok(produced) => stored(answer, produced),
                Err(error) => {
                    let fault = errors::produce(&error, context.version);
                    failed(context, answer, &fault)
                        .with_record_errors(record_errors(context, &error))
                }
            };
        }
    }
    if wants_answer {
        return Ok(MaybeResponse(Some(response)));
    }
    let mut answers = response
        .responses
        .iter()
        .flat_map(|topic| &topic.partition_responses);
    match answers.find(|answer| answer.error_code != 0) {
        Some(failed) => {
            let what = errors::name(failed.error_code);
            let why = failed.error_message.as_deref().unwrap_or_default();
            Err(Violation::Unacknowledged(format!("{what}: {why}")))
        }
        None => Ok(MaybeResponse(None)),
    }
}

/// What is wrong with the request as a whole.
fn refuse_whole(request: &ProduceRequest) -> Option<Fault> {
    if !(-1..=1).contains(&request.acks) {
        let what = format!("acks is {}; it must be -1, 0 or 1", request.acks);
        return Some(Fault::new(ResponseError::InvalidRequiredAcks, what));
    }
    if request.transactional_id.is_some() {
        let what = "transactions are not supported yet";
        return Some(Fault::new(ResponseError::InvalidRequest, what));
    }
    None
}

/// The records of a partition, if they can be passed on.
fn records(records: Option<Bytes>, twice: bool) -> Result<Bytes, Fault> {
    if twice {
        // Kafka keeps the last of them and says nothing of the others. Records are not to be lost in silence.
        return Err(occurs_twice("the partition"));
    }
    match records {
        Some(records) if !records.is_empty() => Ok(records),
        _ => {
            let what = "there must be exactly one record batch, but there is none";
            Err(Fault::new(ResponseError::InvalidRecord, what))
        }
    }
}

fn stored(answer: PartitionProduceResponse, produced: Produced) -> PartitionProduceResponse {
    answer
        .with_base_offset(produced.base_offset.0)
        .with_log_append_time_ms(produced.log_append_time.map_or(-1, |time| time.0))
        .with_log_start_offset(produced.log_start.0)
}

/// What is wrong with single records: clients fail those, and say of the others that they were in bad company.
fn record_errors(context: &Context, error: &ProduceError) -> Vec<BatchIndexAndErrorMessage> {
    /// The first version with a place for it (KIP-467).
    const SINCE: i16 = 8;
    let ProduceError::Records { refused, .. } = error else {
        return Vec::new();
    };
    if context.version < SINCE {
        return Vec::new();
    }
    let error = |record: &RefusedRecord| {
        BatchIndexAndErrorMessage::default()
            .with_batch_index(record.index)
            .with_batch_index_error_message(Some(StrBytes::from_string(record.why.to_string())))
    };
    refused.iter().map(error).collect()
}

fn failed(
    context: &Context,
    answer: PartitionProduceResponse,
    fault: &Fault,
) -> PartitionProduceResponse {
    let (code, message) = context.fault(fault);
    answer
        .with_error_code(code)
        .with_error_message(message)
        .with_base_offset(-1)
        .with_log_start_offset(-1)
}
