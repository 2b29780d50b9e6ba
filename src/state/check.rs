//! What a state must be to be gone on with. Whatever the fold comes to is such; a snapshot is read from a bucket, to
//! which others may write, and one that is not such would make a node panic, or delete what is needed, much later.

use super::{Feature, Level, Node, ObjectRef, Partition, State};
use crate::types::{NodeId, Offset, Seq};

/// Further than any log goes: at a million commits a second it takes 146,000 years. What is added to a seq below it
/// does not overflow.
const LAST_SEQ: Seq = Seq(1 << 62);

impl State {
    /// Why this is no state that the fold can come to; nothing if it may be one.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.seq > LAST_SEQ {
            return Err(format!("no log is as long as its seq, {}", self.seq));
        }
        let snapshots = self.snapshots.iter().map(|snapshot| snapshot.seq);
        if !snapshots.clone().is_sorted_by(|a, b| a < b) || snapshots.max() > Some(self.seq) {
            return Err("its snapshots are not in order".to_owned());
        }
        if self.truncation.truncated > self.truncation.boundary {
            return Err("its log is truncated beyond the boundary".to_owned());
        }
        // Before that rule the fold came to commits that are both, and `RaiseLevel` mends them.
        let may_be_both = |object| {
            !self.has(Feature::LiveObjectsAreNotDead) && matches!(object, ObjectRef::Commit(_))
        };
        if let Some((object, _)) = self
            .dead_objects()
            .find(|(object, _)| self.is_live(*object) && !may_be_both(*object))
        {
            return Err(format!("{object:?} is alive and dead"));
        }
        if self.level > Level::NEWEST {
            let (level, newest) = (self.level, Level::NEWEST);
            return Err(format!(
                "the cluster is at level {level}, and this software knows levels up to {newest}: upgrade it"
            ));
        }
        let is_found = |(id, node): (NodeId, &Node)| self.node_of(node.incarnation()) == Some(id);
        if self.by_incarnation.len() != self.nodes.len() || !self.nodes().all(is_found) {
            return Err("nodes are not found by their incarnations: two have the same".to_owned());
        }
        if self.names.len() != self.topics.len() {
            return Err("two topics have one name".to_owned());
        }
        for (id, topic) in &self.topics {
            if *id != topic.id() {
                return Err(format!("topic {id} says that it is {}", topic.id()));
            }
            for (id, partition) in topic.partitions() {
                // Before that rule the fold came to such, and `RaiseLevel` mends them.
                let may_be_untrimmed = !self.has(Feature::ReplacementsAreTrimmed);
                if !partition.is_sound(may_be_untrimmed) {
                    return Err(format!("the slices of partition {id} are not in order"));
                }
            }
        }
        for table in self.tables() {
            if let Some(fault) = table.fault(self.seq) {
                return Err(format!("table {}: {fault}", table.id()));
            }
            if table
                .topic()
                .is_some_and(|topic| self.topic(topic).is_none())
            {
                return Err(format!("the topic of table {} is missing", table.id()));
            }
        }
        if !self.tables.are_found() {
            return Err("two tables have one name or one topic".to_owned());
        }
        Ok(())
    }
}

impl Partition {
    /// Whether readers and the fold can compute with it: offsets are not negative and dense (I2), no slice is wholly
    /// below the log start unless it `may_be_untrimmed`, each lies somewhere, and their bytes are as many as are
    /// counted, from which the fold subtracts.
    fn is_sound(&self, may_be_untrimmed: bool) -> bool {
        let in_order =
            Offset::ZERO <= self.log_start() && self.log_start() <= self.high_watermark();
        let first = self.slices_from(Offset(i64::MIN)).next();
        let begins = first.is_none_or(|(base, slice)| {
            Offset::ZERO <= base
                && base <= self.log_start()
                && (self.log_start() < slice.end || may_be_untrimmed)
        });
        let lens = self.slices_from(Offset::ZERO).map(|(_, slice)| slice.len);
        let bytes = lens.fold(0u64, u64::saturating_add);
        in_order
            && begins
            && bytes == self.bytes().0
            && self.gap_in_offsets().is_none()
            && self.slices_from(Offset::ZERO).all(|(_, slice)| {
                let index_ends = slice
                    .index
                    .map(|index| index.start.checked_add(index.len.into()));
                let lies = slice.start.checked_add(slice.len).is_some() && index_ends != Some(None);
                lies && slice.object != ObjectRef::Commit(Seq::ZERO)
            })
    }
}
