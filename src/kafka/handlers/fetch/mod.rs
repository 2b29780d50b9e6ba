//! Fetch.
//!
//! # Sessions (KIP-227)
//!
//! Every answer has session id 0, which tells the client that no session was made: it goes on sending
//! whole requests. That is legal, and it is what lets any node answer any Fetch.
//!
//! # Memory and waiting
//!
//! A client asks for up to `max_bytes`, of which mostly little is there. What it asks for is reserved of
//! the response budget right before the broker reads, and given back down to what was found, so that clients that
//! wait hold next to nothing. What was found is held until it is sent. When the budget is nearly used up, answers
//! are smaller, so that a few slow clients do not keep all others waiting.

use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::FetchTopic;

use crate::broker::{FetchError, FetchLimits, FetchPartition, FetchedPartition, ReadBudget};
use crate::net::{BytePermit, MemoryBudget};
use crate::types::{Offset, PartitionIndex};

use super::super::context::{Answer, Context};
use super::super::errors;
use super::{epoch, millis, topic_of_records};

mod encoding;

use encoding::{FetchAnswer, PartitionAnswer, TopicAnswer};

/// The longest wait that is believed.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// Whoever asks for much gets less when little is free, but at least this.
const MIN_RESERVED: usize = 512 << 10;

/// A part of the response budget.
struct Reserved<'a> {
    budget: &'a MemoryBudget,
    permit: BytePermit,
}

impl ReadBudget for Reserved<'_> {
    async fn reserve(&mut self, bytes: usize) -> usize {
        // First what is held goes back: nobody waits for memory while holding some.
        self.permit = BytePermit::none();
        self.permit = self.budget.acquire_some(bytes, MIN_RESERVED).await;
        self.permit.bytes()
    }

    fn keep(&mut self, bytes: usize) {
        self.permit.shrink_to(bytes);
    }
}

pub(super) async fn fetch(context: &Context, request: FetchRequest) -> Answer<FetchAnswer> {
    if context.version >= 7
        && let Err(error) = session(request.session_epoch)
    {
        return Ok(FetchAnswer {
            error: context.code(error),
            topics: Vec::new(),
            permit: BytePermit::none(),
        });
    }
    let partitions = partitions(context.version, &request.topics);
    let limits = limits(context, &request, &partitions);
    let mut reserved = Reserved {
        budget: &context.shared.responses,
        permit: BytePermit::none(),
    };
    let fetched = context
        .broker()
        .fetch_within(&context.session, &partitions, limits, &mut reserved)
        .await;
    let mut fetched = fetched.into_iter();
    let topics = request.topics.into_iter().map(|topic| TopicAnswer {
        partitions: topic
            .partitions
            .iter()
            .zip(fetched.by_ref())
            .map(|(partition, outcome)| answer(context, partition.partition, outcome))
            .collect(),
        name: topic.topic,
        id: topic.topic_id,
    });
    Ok(FetchAnswer {
        error: 0,
        topics: topics.collect(),
        permit: reserved.permit,
    })
}

/// Whether a request can be answered on its own: epoch 0 asks for a session, -1 for none.
fn session(epoch: i32) -> Result<(), ResponseError> {
    match epoch {
        0 | -1 => Ok(()),
        _ => Err(ResponseError::FetchSessionIdNotFound),
    }
}

fn partitions(version: i16, topics: &[FetchTopic]) -> Vec<FetchPartition> {
    let of_topic = |topic: &FetchTopic| {
        let topic_ref = topic_of_records(version, &topic.topic, topic.topic_id);
        let partitions = topic.partitions.iter();
        let partitions = partitions.map(move |partition| FetchPartition {
            topic: topic_ref.clone(),
            partition: PartitionIndex(partition.partition),
            offset: Offset(partition.fetch_offset),
            max_bytes: size(partition.partition_max_bytes),
            current_leader_epoch: epoch(partition.current_leader_epoch),
        });
        partitions.collect::<Vec<_>>()
    };
    topics.iter().flat_map(of_topic).collect()
}

/// A size on the wire; negative ones are none.
fn size(bytes: i32) -> usize {
    usize::try_from(bytes).unwrap_or(0)
}

fn limits(context: &Context, request: &FetchRequest, partitions: &[FetchPartition]) -> FetchLimits {
    let of_partitions = partitions
        .iter()
        .fold(0usize, |sum, one| sum.saturating_add(one.max_bytes));
    let of_node = context.shared.options.max_fetch_size.as_usize();
    let max_bytes = size(request.max_bytes).min(of_partitions).min(of_node);
    FetchLimits {
        min_bytes: size(request.min_bytes).min(max_bytes),
        max_bytes,
        max_wait: millis(request.max_wait_ms).min(MAX_WAIT),
        read_committed: request.isolation_level == 1,
    }
}

fn answer(
    context: &Context,
    index: i32,
    outcome: Result<FetchedPartition, FetchError>,
) -> PartitionAnswer {
    match outcome {
        Ok(fetched) => PartitionAnswer {
            index,
            error: 0,
            high_watermark: fetched.high_watermark.0,
            last_stable: fetched.last_stable.0,
            log_start: fetched.log_start.0,
            records: fetched.records,
        },
        Err(error) => PartitionAnswer {
            index,
            error: context.fault(&errors::fetch(&error, context.version)).0,
            high_watermark: -1,
            last_stable: -1,
            log_start: -1,
            records: Vec::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_requests_are_answered_and_others_told_that_there_is_no_session() {
        for epoch in [-1, 0] {
            assert_eq!(session(epoch), Ok(()), "{epoch}");
        }
        assert_eq!(session(1), Err(ResponseError::FetchSessionIdNotFound));
    }
}
