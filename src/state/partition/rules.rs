//! How records come to partitions, are replaced by compacted ones, and go.

use super::{Append, AppendRejected, AppendSource, Appended, ReplaceSlices};
use crate::rules::{Rule, holds};
use crate::state::op::{Applied, Outcome, Rejected};
use crate::state::{Feature, ObjectRef, State};
use crate::types::{ByteCount, Offset, Seq, TopicPartition};

impl State {
    /// Appends batches to a partition; `data_start` is where inline ones begin in the object of the commit.
    pub(in crate::state) fn append(&mut self, append: &Append, data_start: u64) -> Outcome {
        Ok(Applied::Appended(self.append_each(append, data_start)))
    }

    fn append_each(
        &mut self,
        append: &Append,
        data_start: u64,
    ) -> Vec<Result<Appended, AppendRejected>> {
        let now = self.time;
        let this = append.partition;
        let (object, base) = match append.source {
            AppendSource::Inline => (ObjectRef::Commit(self.seq), data_start),
            AppendSource::Segment(segment) if !self.objects.admits(segment) => {
                return vec![Err(AppendRejected::StaleSegment(segment)); append.entries.len()];
            }
            AppendSource::Segment(segment) => (ObjectRef::Segment(segment), 0),
        };
        let Some(topic) = self.topics.get_mut(&this.topic) else {
            return vec![Err(AppendRejected::UnknownTopic(this.topic)); append.entries.len()];
        };
        let Some(partition) = topic.make_mut().partition_mut(this.partition) else {
            return vec![Err(AppendRejected::UnknownPartition(this)); append.entries.len()];
        };
        let had_producers = partition.entered().is_some();
        let (objects, totals) = (&mut self.objects, &mut self.totals);
        let judge = |entry| {
            let appended = partition.append(this, object, base, entry, now, objects)?;
            if !appended.duplicate {
                totals.appended += ByteCount(entry.len.into());
            }
            Ok(appended)
        };
        let outcomes = append.entries.iter().map(judge).collect();
        if !had_producers && partition.entered().is_some() {
            partition.set_entered(self.producers_by_age.enter(this, now));
        }
        outcomes
    }

    /// Raises the log start because a client asks for it.
    pub(in crate::state) fn delete_records(
        &mut self,
        this: TopicPartition,
        before: Option<Offset>,
    ) -> Outcome {
        let unknown = Rejected::UnknownPartition(this);
        let topic = self.topics.get_mut(&this.topic).ok_or(unknown.clone())?;
        let partition = topic
            .make_mut()
            .partition_mut(this.partition)
            .ok_or(unknown)?;
        let high_watermark = partition.high_watermark();
        let before = before.unwrap_or(high_watermark);
        if before < Offset::ZERO || before > high_watermark {
            return Err(Rejected::OffsetOutOfRange {
                partition: this,
                offset: before,
                log_start: partition.log_start(),
                high_watermark,
            });
        }
        partition.delete_before(before, &mut self.objects);
        Ok(Applied::RecordsDeleted(partition.log_start()))
    }

    /// Raises the log start because the settings of `as_of` say so.
    pub(in crate::state) fn expire_records(
        &mut self,
        this: TopicPartition,
        before: Offset,
        as_of: Seq,
    ) -> Outcome {
        self.check_configs(this, as_of)?;
        self.check_archived(this, before)?;
        self.delete_records(this, Some(before))
    }

    /// Puts compacted slices in the place of others.
    pub(in crate::state) fn replace_slices(&mut self, replace: &ReplaceSlices) -> Outcome {
        let this = replace.partition;
        if let Some(cleaned) = replace.cleaned {
            self.check_configs(this, cleaned.as_of)?;
            self.check_archived(this, replace.end)?;
        }
        let trims =
            self.has(Feature::ReplacementsAreTrimmed) && holds(Rule::ReplacementsAreTrimmed);
        let unknown = Rejected::UnknownPartition(this);
        let topic = self.topics.get_mut(&this.topic).ok_or(unknown.clone())?;
        let partition = topic
            .make_mut()
            .partition_mut(this.partition)
            .ok_or(unknown)?;
        partition.replace(replace, &mut self.objects)?;
        if trims {
            partition.trim(&mut self.objects);
        }
        let bytes = replace.outputs.iter().map(|output| output.len);
        self.totals.compacted += ByteCount(bytes.fold(0, u64::saturating_add));
        Ok(Applied::Done)
    }
}
