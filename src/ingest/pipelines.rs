//! Where idempotent producers began.
//!
//! A producer that the fold does not know may begin at any sequence: that is how one goes on that was forgotten. But a
//! producer sends several batches at once, and when the first of them fails for good (its upload was given up, its
//! segment came too late, the buffer had no space for it in time), the ones behind it must not be taken for its first:
//! the retry of those that failed would be out of order for ever. So every batch that comes behind another one of its
//! producer says so to the fold, which refuses it as long as it knows nothing of the producer; the client sends all of
//! them again, in order.
//!
//! What is remembered is a hint, bounded in number and in time. Where it is lost (a crash, too many producers), the
//! pipeline is dead with its connection, or the fold does as Kafka does.

use std::collections::HashMap;
use std::time::Duration;

use crate::state::op::ProducerBatch;
use crate::types::{ProducerEpoch, ProducerId, TopicPartition};

/// The most that are remembered; half of them may be forgotten at once.
const LIMIT: usize = 100_000;

/// What this node has been handed of producers.
pub(super) struct Pipelines {
    /// How long one is remembered, at least half of it and at most the whole, after it last went on.
    life: Duration,
    limit: usize,
    young: HashMap<(TopicPartition, ProducerId), Pipeline>,
    old: HashMap<(TopicPartition, ProducerId), Pipeline>,
    /// When what was young became old.
    turned: Duration,
}

/// One producer in one partition.
struct Pipeline {
    epoch: ProducerEpoch,
    /// The sequence of the first batch handed in, and of the last one.
    first: i32,
    last: i32,
}

impl Pipelines {
    pub(super) fn new(life: Duration) -> Pipelines {
        Pipelines {
            life,
            limit: LIMIT,
            young: HashMap::new(),
            old: HashMap::new(),
            turned: Duration::ZERO,
        }
    }

    /// Takes note of a batch in the order in which producers hand them in, at `now` of the boot-time clock; whether it
    /// comes behind another.
    pub(super) fn continues(
        &mut self,
        partition: TopicPartition,
        batch: &ProducerBatch,
        now: Duration,
    ) -> bool {
        let since = now.saturating_sub(self.turned);
        if since >= self.life / 2 || self.young.len() >= self.limit / 2 {
            self.old = std::mem::take(&mut self.young);
            self.turned = now;
        }
        if since >= self.life {
            self.old.clear();
        }
        let key = (partition, batch.id);
        let sequence = batch.base_sequence;
        let known = self.young.get(&key).or_else(|| self.old.get(&key));
        let (pipeline, continues) = match known {
            // Late, and fenced; it says nothing of those after it.
            Some(known) if batch.epoch < known.epoch => return false,
            Some(known) if batch.epoch == known.epoch && is_after(sequence, known.first) => {
                if !is_after(sequence, known.last) {
                    // A retry: nobody lives for ever by retries, for the fold may have forgotten the producer.
                    return true;
                }
                (
                    Pipeline {
                        last: sequence,
                        ..*known
                    },
                    true,
                )
            }
            _ => {
                let pipeline = Pipeline {
                    epoch: batch.epoch,
                    first: sequence,
                    last: sequence,
                };
                (pipeline, false)
            }
        };
        self.old.remove(&key);
        self.young.insert(key, pipeline);
        continues
    }
}

/// Whether a sequence comes after another. They wrap from `i32::MAX` to 0, so half of them do.
fn is_after(sequence: i32, other: i32) -> bool {
    let ahead = (i64::from(sequence) - i64::from(other)).rem_euclid(1 << 31);
    (1..1 << 30).contains(&ahead)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::types::{PartitionIndex, TopicId};

    const LIFE: Duration = Duration::from_secs(100);

    fn place() -> TopicPartition {
        TopicPartition {
            topic: TopicId(Uuid::from_u128(1)),
            partition: PartitionIndex(0),
        }
    }

    struct Node(Pipelines);

    impl Node {
        fn new() -> Node {
            Node(Pipelines::new(LIFE))
        }

        fn takes(&mut self, id: i64, epoch: i16, sequence: i32, at: u64) -> bool {
            let batch = ProducerBatch {
                id: ProducerId(id),
                epoch: ProducerEpoch(epoch),
                base_sequence: sequence,
                continues: false,
            };
            self.0.continues(place(), &batch, Duration::from_secs(at))
        }
    }

    #[test]
    fn the_first_batch_that_a_node_sees_begins_and_its_retry_begins_again() {
        let mut node = Node::new();
        let seen = [7, 8, 9, 7, 8, 5, 6, 5].map(|sequence| node.takes(1, 0, sequence, 1));
        assert_eq!(seen, [false, true, true, false, true, false, true, false]);
        assert!(!node.takes(2, 0, 8, 1), "another producer");
    }

    #[test]
    fn an_epoch_begins_anew_and_a_late_batch_of_an_older_one_changes_nothing() {
        let mut node = Node::new();
        let seen = [(0, 5), (0, 6), (1, 0), (1, 1), (0, 7), (1, 2), (1, 0)]
            .map(|(epoch, sequence)| node.takes(1, epoch, sequence, 1));
        assert_eq!(seen, [false, true, false, true, false, true, false]);
    }

    #[test]
    fn sequences_that_wrap_still_come_after_each_other() {
        let mut node = Node::new();
        let seen = [i32::MAX - 1, i32::MAX, 0, 1, i32::MAX].map(|s| node.takes(1, 0, s, 1));
        assert_eq!(seen, [false, true, true, true, true]);
    }

    #[test]
    fn a_producer_that_goes_on_is_remembered_and_one_that_does_not_is_forgotten() {
        let mut node = Node::new();
        assert!(!node.takes(1, 0, 0, 0));
        for (n, at) in (1..).zip((40..1000).step_by(40)) {
            assert!(node.takes(1, 0, n, at), "at {at} s");
        }
        assert!(!node.takes(1, 0, 500, 1200));
        // Retries alone keep nobody alive.
        assert!(!node.takes(2, 0, 3, 1300));
        assert!(node.takes(2, 0, 4, 1301));
        let kept = (1302..1500)
            .step_by(10)
            .filter(|at| node.takes(2, 0, 4, *at));
        assert!(kept.count() < 12);
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut node = Node::new();
        node.0.limit = 100;
        for id in 0..1000 {
            node.takes(id, 0, 0, 1);
            assert!(node.0.young.len() + node.0.old.len() <= 100);
            // Of the last ones, all are there; this one goes on, and counts as well.
            assert!(id < 20 || node.takes(id - 20, 0, 1, 1), "{id}");
        }
    }
}
