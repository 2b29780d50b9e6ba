//! Partitions: where the records of each are, and what its idempotent producers wrote.
//!
//! * Offsets are dense and never reused (I2): the slices lie end to end from the log start to the high watermark, and
//!   only the fold gives offsets.
//! * Slices come at the end and go at the start; between, they change by a replacement alone, which is judged by
//!   [`Partition::layout`].
//! * Every slice is counted in [`Objects`], so that an object is dead when the last of its slices goes, and not before.
//!
//! Durable: each [`Partition`], in its topic. The bytes are in the objects that the slices name.

mod op;
mod rules;
mod slice;

#[cfg(test)]
mod tests;

use minicbor::{Decode, Encode};
use serde::Serialize;

pub use op::{
    Append, AppendEntry, AppendRejected, AppendSource, Appended, Cleaned, CompactedSlice,
    ReplaceSlices,
};
pub use slice::{Slice, SliceIndex};

use super::objects::{ObjectRef, Objects};
use super::op::Rejected;
use super::producer::{Entered, Producer};
use super::small::SmallMap;
use super::{State, Topic};
use crate::rules::{Rule, holds};
use crate::types::{ByteCount, Offset, ProducerId, Timestamp, TopicPartition};

/// One partition.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Partition {
    /// The first offset that may be read.
    #[n(0)]
    log_start: Offset,
    /// The offset after the last record; the next to be given.
    #[n(1)]
    high_watermark: Offset,
    /// The bytes of all slices.
    #[n(2)]
    bytes: ByteCount,
    /// By base offset; dense: each begins where the one before ends.
    #[n(3)]
    slices: SmallMap<Offset, Slice>,
    /// Idempotent producers by id.
    #[n(4)]
    producers: SmallMap<ProducerId, Producer>,
    /// Raised by each replacement of slices.
    #[n(5)]
    #[cbor(default)]
    layout: u64,
    /// Up to here, each key has at most one record.
    #[n(6)]
    #[cbor(default)]
    cleaned_to: Offset,
    /// Where it is found by the age of its producers, if it has any. Derived.
    #[cbor(skip)]
    #[serde(skip)]
    entered: Entered,
}

impl Partition {
    /// The first offset that may be read.
    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    /// The offset after the last record.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The bytes of all slices.
    pub fn bytes(&self) -> ByteCount {
        self.bytes
    }

    /// The version of what lies between the ends of the partition: raised by each replacement of slices, left
    /// alone by what comes at the end and goes at the start.
    pub fn layout(&self) -> u64 {
        self.layout
    }

    /// Up to here the log is compacted: each key has at most one record below.
    pub fn cleaned_to(&self) -> Offset {
        self.cleaned_to
    }

    /// How many slices there are.
    pub fn slice_count(&self) -> usize {
        self.slices.len()
    }

    /// The slices from the one that holds `offset` on, with their base offsets. Empty at or beyond the high
    /// watermark; begins with the first slice if `offset` is before it.
    pub fn slices_from(&self, offset: Offset) -> impl Iterator<Item = (Offset, &Slice)> {
        let first = match self.slices.get_prev(&offset) {
            Some((base, slice)) if offset < slice.end => *base,
            _ => offset,
        };
        self.slices
            .range(first..)
            .map(|(base, slice)| (*base, slice))
    }

    /// The producers, by id.
    pub fn producers(&self) -> impl Iterator<Item = (ProducerId, &Producer)> {
        self.producers.iter().map(|(id, producer)| (*id, producer))
    }

    /// Judges one batch and, if it is in order, gives it the next offsets.
    ///
    /// `object` and `base` say where the batch is: `entry.start` counts from `base` in `object`.
    pub(super) fn append(
        &mut self,
        this: TopicPartition,
        object: ObjectRef,
        base: u64,
        entry: &AppendEntry,
        now: Timestamp,
        objects: &mut Objects,
    ) -> Result<Appended, AppendRejected> {
        let log_start = self.log_start;
        let base_offset = self.high_watermark;
        let end = base_offset
            .checked_advance(entry.records.into())
            .ok_or(AppendRejected::OffsetsExhausted(this))?;
        // No node asks for it. Folded, the first would be two slices at one offset, the others one that no reader
        // can compute with.
        let start = base.checked_add(entry.start);
        let placed = start.filter(|start| start.checked_add(entry.len.into()).is_some());
        let (Some(start), 1.., 1..) = (placed, entry.records, entry.len) else {
            return Err(AppendRejected::Impossible(this));
        };
        if let Some(batch) = entry.producer {
            let known = self.producers.get(&batch.id);
            match Producer::judge(known, this, &batch, entry.records)? {
                Some(base_offset) => {
                    return Ok(Appended {
                        base_offset,
                        log_start,
                        duplicate: true,
                    });
                }
                None => {
                    let producer = self.producers.get_or_default(&batch.id);
                    producer.record(&batch, entry.records, base_offset, now);
                }
            }
        }
        self.high_watermark = match holds(Rule::OffsetsAreUnique) {
            true => end,
            false => Offset(end.0 - 1).max(base_offset.advance(1)),
        };
        self.bytes += ByteCount(entry.len.into());
        let last = self
            .slices
            .get_prev_mut(&base_offset)
            .map(|(_, slice)| slice);
        match last {
            Some(last) if last.continues_at(object, start, entry.len) => {
                last.end = end;
                last.len += u64::from(entry.len);
                last.max_timestamp = last.max_timestamp.max(entry.max_timestamp);
            }
            _ => {
                let slice = Slice {
                    end,
                    object,
                    start,
                    len: entry.len.into(),
                    max_timestamp: entry.max_timestamp,
                    appended_at: now,
                    index: None,
                };
                self.slices.insert(base_offset, slice);
                objects.acquire(object);
            }
        }
        Ok(Appended {
            base_offset,
            log_start,
            duplicate: false,
        })
    }

    /// Raises the log start to `before` and drops the slices wholly below it. A slice that reaches over it
    /// stays whole: the batch in which the log starts must be readable.
    pub(super) fn delete_before(&mut self, before: Offset, objects: &mut Objects) {
        self.log_start = self.log_start.max(before);
        self.trim(objects);
    }

    /// Drops the slices wholly below the log start.
    pub(super) fn trim(&mut self, objects: &mut Objects) {
        while let Some((base, slice)) = self.slices.get_min().map(|(base, slice)| (*base, *slice)) {
            if slice.end > self.log_start {
                break;
            }
            self.remove(base, &slice, objects);
        }
    }

    /// Whether there are slices wholly below the log start.
    pub(super) fn is_untrimmed(&self) -> bool {
        let first = self.slices.get_min();
        first.is_some_and(|(_, slice)| slice.end <= self.log_start)
    }

    /// Lets go of all slices: the partition is deleted.
    pub(super) fn release_all(&self, objects: &mut Objects) {
        for slice in self.slices.values() {
            objects.release(slice.object);
        }
    }

    /// Counts all slices in `objects`, which was derived from nothing yet.
    pub(super) fn acquire_all(&self, objects: &mut Objects) {
        for slice in self.slices.values() {
            objects.acquire(slice.object);
        }
    }

    /// Puts compacted slices in the place of others, if those are still what the node read. The first of several may
    /// end at or below the log start, which was in the middle of the first that they replace: [`Partition::trim`] takes
    /// it.
    pub(super) fn replace(
        &mut self,
        replace: &ReplaceSlices,
        objects: &mut Objects,
    ) -> Result<(), Rejected> {
        let ReplaceSlices {
            partition,
            base,
            end,
            ..
        } = *replace;
        let inputs: Vec<(Offset, Slice)> = self
            .slices
            .range(base..end)
            .map(|(base, slice)| (*base, *slice))
            .collect();
        let covers = self.layout == replace.layout
            && inputs.first().is_some_and(|(first, _)| *first == base)
            && inputs.last().is_some_and(|(_, last)| last.end == end);
        if !covers && holds(Rule::ReplacementsMatchLayout) {
            return Err(Rejected::SlicesChanged {
                partition,
                base,
                end,
            });
        }
        if !replace.outputs_fit() && holds(Rule::OutputsCoverInputs) {
            return Err(Rejected::InvalidReplacement {
                partition,
                base,
                end,
            });
        }
        if let Some(stale) = replace
            .outputs
            .iter()
            .map(|output| output.segment)
            .find(|segment| !objects.admits(*segment))
        {
            return Err(Rejected::StaleSegment(stale));
        }
        let appended_at = inputs.iter().map(|(_, slice)| slice.appended_at).max();
        // The new before the old: an object in both must not be taken for dead in between.
        for output in &replace.outputs {
            objects.acquire(ObjectRef::Segment(output.segment));
        }
        for (base, slice) in &inputs {
            self.remove(*base, slice, objects);
        }
        let mut next = base;
        for output in &replace.outputs {
            let slice = Slice {
                end: output.end,
                object: ObjectRef::Segment(output.segment),
                start: output.start,
                len: output.len,
                max_timestamp: output.max_timestamp,
                appended_at: appended_at.unwrap_or_default(),
                index: Some(output.index),
            };
            self.bytes += ByteCount(slice.len);
            self.slices.insert(next, slice);
            next = output.end;
        }
        self.layout = self.layout.saturating_add(1);
        if let Some(cleaned) = replace.cleaned {
            self.cleaned_to = self.cleaned_to.max(cleaned.to.min(self.high_watermark));
        }
        Ok(())
    }

    fn remove(&mut self, base: Offset, slice: &Slice, objects: &mut Objects) {
        self.slices.remove(&base);
        self.bytes = self.bytes - ByteCount(slice.len);
        objects.release(slice.object);
    }

    /// Forgets producers that wrote nothing since `before`.
    pub(super) fn expire_producers(&mut self, before: Timestamp) {
        let stale = self
            .producers
            .iter()
            .filter(|(_, producer)| producer.last_write() < before);
        for id in stale.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.producers.remove(&id);
        }
    }

    /// When the producer that is silent for longest wrote last; nothing, if there are none.
    pub(super) fn oldest_write(&self) -> Option<Timestamp> {
        self.producers.values().map(Producer::last_write).min()
    }

    /// Where it is found by the age of its producers, if it has any.
    pub(super) fn entered(&self) -> Option<Entered> {
        (self.producers.len() > 0).then_some(self.entered)
    }

    /// Notes where it is found.
    pub(super) fn set_entered(&mut self, entered: Entered) {
        self.entered = entered;
    }

    /// Whether `expire_producers` would forget any.
    pub fn has_producers_older_than(&self, before: Timestamp) -> bool {
        self.producers
            .values()
            .any(|producer| producer.last_write() < before)
    }

    /// The first place at which the slices do not lie end to end from the log start to the high watermark, in words
    /// (I2).
    pub fn gap_in_offsets(&self) -> Option<String> {
        let (log_start, end) = (self.log_start, self.high_watermark);
        if log_start < Offset::ZERO || log_start > end {
            return Some(format!(
                "the log starts at {log_start} and ends before {end}"
            ));
        }
        let mut due: Option<Offset> = None;
        for (base, slice) in self.slices.iter() {
            match due {
                None if *base > log_start => {
                    return Some(format!(
                        "the log starts at {log_start}, and the first slice at {base}"
                    ));
                }
                Some(due) if due != *base => {
                    return Some(format!(
                        "a slice begins at offset {base} where {due} is due"
                    ));
                }
                _ => {}
            }
            if slice.end <= *base {
                return Some(format!(
                    "a slice begins at offset {base} and ends before {}",
                    slice.end
                ));
            }
            due = Some(slice.end);
        }
        let reached = due.unwrap_or(log_start);
        (reached != end).then(|| {
            format!("the slices end before offset {reached}, and the high watermark is {end}")
        })
    }
}

impl State {
    /// A partition, if there is such.
    pub fn partition(&self, partition: TopicPartition) -> Option<&Partition> {
        self.topic(partition.topic)?.partition(partition.partition)
    }

    /// How many slices all partitions have: the measure of the state's size.
    pub fn slice_count(&self) -> usize {
        self.topics()
            .flat_map(Topic::partitions)
            .map(|(_, p)| p.slice_count())
            .sum()
    }

    /// Counts the slices of a snapshot in the objects that they lie in, which is derived from them.
    pub(super) fn index_slices(&mut self) {
        for (_, partition) in self.topics.values().flat_map(|topic| topic.partitions()) {
            partition.acquire_all(&mut self.objects);
        }
    }
}
