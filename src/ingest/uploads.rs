//! Uploads: which are under way, and what of those that have ended may be committed.
//!
//! Segments are uploaded side by side and end in any order. What must keep its order is each partition by itself: so of
//! an upload that has ended, those partitions go into a commit that are in no earlier upload of which they are not
//! committed yet; the others wait for that one. One upload that takes long holds up its own partitions and no others.
//!
//! The appends of one segment may thus come into the log in several commits. Each stands for itself: it refers to its
//! own bytes of the segment, which was stored before the first of them. Between two of them everything that the first
//! one refers to may be deleted; the segment is dead then, and the fold refuses the second (`StaleSegment`), as it
//! refuses one that comes too late: the producer is told to send the batch again.
//!
//! The order of an idempotent producer's batches is that of each partition, too: sequences and pipelines are counted
//! per partition (`pipelines.rs`), so nothing is lost by partitions that overtake one another.

use std::collections::{HashSet, VecDeque};

use super::ops::Ops;
use crate::rules::{Rule, holds};
use crate::types::TopicPartition;

/// The uploads of which not everything is committed, in the order in which they were cut.
#[derive(Default)]
pub(super) struct Uploads {
    queue: VecDeque<Upload>,
    next: u64,
}

struct Upload {
    number: u64,
    /// Those of which it holds batches that are not committed.
    partitions: HashSet<TopicPartition>,
    stage: Stage,
}

enum Stage {
    UnderWay,
    /// It takes so long that nobody counts on it.
    Overdue,
    /// What is to be committed of it.
    Stored(Ops),
}

impl Uploads {
    /// One that holds batches of these partitions begins; returns its number.
    pub(super) fn begin(&mut self, partitions: HashSet<TopicPartition>) -> u64 {
        let number = self.next;
        self.next += 1;
        self.queue.push_back(Upload {
            number,
            partitions,
            stage: Stage::UnderWay,
        });
        number
    }

    fn at(&mut self, number: u64) -> Option<(usize, &mut Upload)> {
        let mut queue = self.queue.iter_mut().enumerate();
        queue.find(|(_, upload)| upload.number == number)
    }

    /// It takes long.
    pub(super) fn is_overdue(&mut self, number: u64) {
        if let Some((_, upload)) = self.at(number)
            && matches!(upload.stage, Stage::UnderWay)
        {
            upload.stage = Stage::Overdue;
        }
    }

    /// It has ended, and this is to be committed. Nothing, if it failed: who waits has been told.
    pub(super) fn end(&mut self, number: u64, stored: Option<Ops>) {
        let Some((at, upload)) = self.at(number) else {
            return;
        };
        match stored {
            Some(ops) => upload.stage = Stage::Stored(ops),
            None => drop(self.queue.remove(at)),
        }
    }

    /// How many have not ended.
    pub(super) fn under_way(&self) -> usize {
        let ended = |upload: &&Upload| !matches!(upload.stage, Stage::Stored(_));
        self.queue.iter().filter(ended).count()
    }

    /// How many of them take as long as uploads do.
    pub(super) fn in_time(&self) -> usize {
        let in_time = |upload: &&Upload| matches!(upload.stage, Stage::UnderWay);
        self.queue.iter().filter(in_time).count()
    }

    /// Whether one of them takes longer.
    pub(super) fn is_any_overdue(&self) -> bool {
        self.queue
            .iter()
            .any(|upload| matches!(upload.stage, Stage::Overdue))
    }

    /// Whether a batch of the partition must wait.
    pub(super) fn hold(&self, partition: &TopicPartition) -> bool {
        self.queue
            .iter()
            .any(|upload| upload.partitions.contains(partition))
    }

    /// Takes what may be committed now, in order.
    pub(super) fn take_ready(&mut self) -> Vec<Ops> {
        let mut ready = Vec::new();
        let mut waiting: VecDeque<Upload> = VecDeque::with_capacity(self.queue.len());
        for mut upload in self.queue.drain(..) {
            if let Stage::Stored(ops) = &mut upload.stage {
                let held = |partition: &TopicPartition| {
                    let shares = |earlier: &Upload| earlier.partitions.contains(partition);
                    waiting.iter().any(shares) && holds(Rule::UploadsCommitInOrder)
                };
                let taken = ops.take_unless(held);
                upload.partitions = ops.partitions().copied().collect();
                if !taken.is_empty() {
                    ready.push(taken);
                }
                if ops.is_empty() {
                    continue;
                }
            }
            waiting.push_back(upload);
        }
        self.queue = waiting;
        ready
    }

    /// Takes what has ended, whether it may be committed or not.
    pub(super) fn take_stored(&mut self) -> Vec<Ops> {
        let (stored, others) = self
            .queue
            .drain(..)
            .partition::<VecDeque<_>, _>(|upload| matches!(upload.stage, Stage::Stored(_)));
        self.queue = others;
        let ops = |upload: Upload| match upload.stage {
            Stage::Stored(ops) => Some(ops),
            Stage::UnderWay | Stage::Overdue => None,
        };
        stored.into_iter().filter_map(ops).collect()
    }
}
