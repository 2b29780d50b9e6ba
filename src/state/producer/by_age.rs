//! Which partitions have producers that wrote nothing for long.
//!
//! One entry for each partition that has producers, at a time that is not after the last batch of any of them. It is
//! entered with the first producer, and then left where it is while they write: so appending costs nothing, and the
//! entry says how old the oldest may be, not how old it is. Whoever forgets producers takes the entries before some
//! time, looks at those partitions alone, and enters each again at what its oldest is now. So a partition whose
//! producers go on writing is looked at once in the time for which they are remembered.
//!
//! Derived from the partitions, which know where they are entered. Two states are equal wherever their entries are.

use imbl::OrdSet;

use crate::types::{Timestamp, TopicPartition};

/// The partitions that have producers.
#[derive(Clone, Debug, Default)]
pub(in crate::state) struct ByAge {
    partitions: OrdSet<(Timestamp, TopicPartition)>,
}

/// Where a partition is entered, if it has producers.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::state) struct Entered(Timestamp);

impl ByAge {
    /// Enters a partition of which no producer wrote its last batch before `oldest`, and none will.
    pub(in crate::state) fn enter(&mut self, id: TopicPartition, oldest: Timestamp) -> Entered {
        self.partitions.insert((oldest, id));
        Entered(oldest)
    }

    /// Takes out a partition that is gone.
    pub(in crate::state) fn remove(&mut self, id: TopicPartition, entered: Entered) {
        self.partitions.remove(&(entered.0, id));
    }

    /// Takes out the first of the partitions that may have producers which wrote nothing since `before`.
    pub(super) fn take_older(&mut self, before: Timestamp) -> Option<TopicPartition> {
        let first = self.older(before).next()?;
        self.partitions.remove_min();
        Some(first)
    }

    /// The partitions that may have producers which wrote nothing since `before`.
    pub(in crate::state) fn older(
        &self,
        before: Timestamp,
    ) -> impl Iterator<Item = TopicPartition> {
        let older = self.partitions.iter();
        let older = older.take_while(move |(oldest, _)| *oldest < before);
        older.map(|(_, id)| *id)
    }
}

impl PartialEq for ByAge {
    fn eq(&self, _: &ByAge) -> bool {
        true
    }
}

impl PartialEq for Entered {
    fn eq(&self, _: &Entered) -> bool {
        true
    }
}
