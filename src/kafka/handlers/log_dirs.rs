//! DescribeLogDirs (KIP-113, KIP-827): how much space topics take. There is one directory, the store.

use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName};

use crate::broker::{SizesError, TopicSizes, WantedSizes};

use super::super::context::{Answer, Context};
use super::super::errors;
use super::text;

pub(super) async fn describe(
    context: &Context,
    request: DescribeLogDirsRequest,
) -> Answer<DescribeLogDirsResponse> {
    // Null stands for all.
    let wanted = request.topics.map(|topics| {
        let mut wanted = WantedSizes::new();
        for asked in topics {
            let partitions = wanted.entry(asked.topic.to_string()).or_default();
            partitions.extend(asked.partitions);
        }
        wanted
    });
    context.reserve(size(context, wanted.as_ref())).await;
    let sizes = context
        .broker()
        .partition_sizes(&context.session, context.client.listener(), wanted.as_ref())
        .await;
    let directory = DescribeLogDirsResult::default()
        .with_log_dir(text(context.broker().store_name()))
        // Nobody knows how large a bucket is or can become.
        .with_total_bytes(-1)
        .with_usable_bytes(-1);
    if let Err(error @ SizesError::Denied(_)) = &sizes {
        let (code, _) = context.fault(&errors::log_dirs(error));
        let response = DescribeLogDirsResponse::default();
        // Before version 3 there is no place for it, and no directory is what the client is told.
        return Ok(match context.version {
            3.. => response.with_error_code(code),
            _ => response,
        });
    }
    let directory = match sizes {
        Ok(sizes) => directory.with_topics(sizes.into_iter().map(topic).collect()),
        Err(why) => directory.with_error_code(context.fault(&errors::log_dirs(&why)).0),
    };
    Ok(DescribeLogDirsResponse::default().with_results(vec![directory]))
}

/// About how many bytes the answer takes while it is made.
fn size(context: &Context, wanted: Option<&WantedSizes>) -> usize {
    const TOPIC: u64 = 128;
    const PARTITION: u64 = 64;
    let (topics, partitions) = match wanted {
        None => {
            let known = context.broker().known_size(None);
            (known.topics, known.partitions)
        }
        Some(wanted) => {
            let partitions: usize = wanted.values().map(std::collections::BTreeSet::len).sum();
            (wanted.len() as u64, partitions as u64)
        }
    };
    let bytes = (topics * TOPIC).saturating_add(partitions * PARTITION);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn topic(sizes: TopicSizes) -> DescribeLogDirsTopic {
    let partitions = sizes.partitions.into_iter().map(|(index, bytes)| {
        DescribeLogDirsPartition::default()
            .with_partition_index(index.0)
            .with_partition_size(i64::try_from(bytes.0).unwrap_or(i64::MAX))
            // There is no replica that could be behind.
            .with_offset_lag(0)
            .with_is_future_key(false)
    });
    DescribeLogDirsTopic::default()
        .with_name(TopicName(text(sizes.topic.as_str())))
        .with_partitions(partitions.collect())
}
