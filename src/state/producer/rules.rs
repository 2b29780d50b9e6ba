//! How producer ids are minted, and producers forgotten.

use crate::state::op::{Applied, Outcome};
use crate::state::{State, Topic};
use crate::types::{ProducerId, Timestamp, TopicPartition};

impl State {
    /// Mints producer ids.
    pub(in crate::state) fn allocate_producer_ids(&mut self, count: u32) -> Outcome {
        let first = self.next_producer_id;
        self.next_producer_id = ProducerId(first.0.saturating_add(count.into()));
        Ok(Applied::ProducerIds(first))
    }

    /// Forgets producers that wrote nothing since `before`, in every partition.
    pub(in crate::state) fn expire_producers(&mut self, before: Timestamp) -> Outcome {
        let stale: Vec<TopicPartition> = self
            .topics()
            .flat_map(Topic::partitions)
            .filter(|(_, partition)| partition.has_producers_older_than(before))
            .map(|(id, _)| id)
            .collect();
        for id in stale {
            if let Ok(topic) = self.topic_mut(id.topic)
                && let Some(partition) = topic.partition_mut(id.partition)
            {
                partition.expire_producers(before);
            }
        }
        Ok(Applied::Done)
    }
}
