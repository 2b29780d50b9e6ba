//! How producer ids are minted, and producers forgotten.

use crate::state::op::{Applied, Outcome};
use crate::state::{Partition, Shared, State, Topic};
use crate::types::{ProducerId, Timestamp, TopicPartition};

impl State {
    /// Mints producer ids.
    pub(in crate::state) fn allocate_producer_ids(&mut self, count: u32) -> Outcome {
        let first = self.next_producer_id;
        self.next_producer_id = ProducerId(first.0.saturating_add(count.into()));
        Ok(Applied::ProducerIds(first))
    }

    /// Forgets producers that wrote nothing since `before`, in every partition that may have such.
    pub(in crate::state) fn expire_producers(&mut self, before: Timestamp) -> Outcome {
        let now = self.time;
        let mut left = Vec::new();
        while let Some(id) = self.producers_by_age.take_older(before) {
            let topic = self.topics.get_mut(&id.topic).map(Shared::make_mut);
            if let Some(partition) = topic.and_then(|topic| topic.partition_mut(id.partition)) {
                partition.expire_producers(before);
                left.push(id);
            }
        }
        // Behind the loop, for what is entered at a time before `before` would be taken again.
        for id in left {
            self.enter_producers(id, now);
        }
        Ok(Applied::Done)
    }

    /// Whether a producer wrote nothing since `before`.
    pub fn has_producers_older_than(&self, before: Timestamp) -> bool {
        let partitions = self.producers_by_age.older(before);
        let mut partitions = partitions.filter_map(|id| self.partition(id));
        partitions.any(|partition| partition.has_producers_older_than(before))
    }

    /// Enters the partitions of a snapshot in the index.
    pub(in crate::state) fn index_producers(&mut self) {
        let now = self.time;
        let with_producers = |(_, partition): &(_, &Partition)| partition.oldest_write().is_some();
        let partitions = self
            .topics()
            .flat_map(Topic::partitions)
            .filter(with_producers);
        let partitions: Vec<TopicPartition> = partitions.map(|(id, _)| id).collect();
        for id in partitions {
            self.enter_producers(id, now);
        }
    }

    /// Enters a partition in the index, if it has producers. They may have written until `now`, and not later, whatever
    /// a snapshot says.
    fn enter_producers(&mut self, id: TopicPartition, now: Timestamp) {
        let topic = self.topics.get_mut(&id.topic).map(Shared::make_mut);
        if let Some(partition) = topic.and_then(|topic| topic.partition_mut(id.partition))
            && let Some(oldest) = partition.oldest_write()
        {
            let entered = self.producers_by_age.enter(id, oldest.min(now));
            partition.set_entered(entered);
        }
    }
}
