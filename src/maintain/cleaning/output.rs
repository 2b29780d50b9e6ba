//! A compacted segment of one partition, written as a stream.

use std::time::Duration;

use super::super::error::JobError;
use super::super::retention::time_of;
use super::input::Batch;
use crate::segment::CompactedBuilder;

use crate::state::op::CompactedSlice;
use crate::state::{Slice, SliceIndex};
use crate::store::{ObjectPath, RequestKind, Store, Upload};
use crate::types::{Offset, SegmentId, Timestamp, TopicPartition};

/// How many parts are sent at once.
const AT_ONCE: usize = 2;

/// A segment that is being written.
pub(super) struct Output {
    builder: CompactedBuilder,
    upload: Upload,
    /// The first offset that it stands for.
    pub(super) base: Offset,
    /// The offset after the last that it stands for, so far.
    pub(super) end: Offset,
    /// The ages of the first and the last slice that were cleaned into it, if there are any.
    times: Option<(Timestamp, Timestamp)>,
    /// The bytes of batches in it.
    pub(super) bytes: u64,
}

impl Output {
    /// A segment for the records of `partition` from `base` on.
    pub(super) async fn begin(
        store: &Store,
        id: SegmentId,
        partition: TopicPartition,
        base: Offset,
    ) -> Result<Output, JobError> {
        let mut builder = CompactedBuilder::new(id, store.options().part_len);
        builder.begin_slice(partition, base)?;
        let path = ObjectPath::segment(id);
        let upload = store
            .upload(&path, AT_ONCE, RequestKind::CompactedPut)
            .await?;
        Ok(Output {
            builder,
            upload,
            base,
            end: base,
            times: None,
            bytes: 0,
        })
    }

    /// Appends batches.
    pub(super) async fn push(&mut self, batches: Vec<Batch>) -> Result<(), JobError> {
        for batch in batches {
            self.builder.push(batch.base, &batch.bytes)?;
            self.bytes += batch.bytes.len() as u64;
            while let Some(part) = self.builder.next_part() {
                self.upload.part(part.number, part.bytes).await?;
            }
        }
        Ok(())
    }

    /// Notes that all that is left of a slice was appended.
    pub(super) fn cover(&mut self, slice: &Slice) {
        self.end = slice.end;
        self.times = Some(self.times_with(slice));
    }

    /// How much time lies between the records, also when those of a slice are added, as far as slices tell.
    pub(super) fn time_covered_with(&self, slice: &Slice) -> Duration {
        let (earliest, latest) = self.times_with(slice);
        latest.since(earliest)
    }

    fn times_with(&self, slice: &Slice) -> (Timestamp, Timestamp) {
        let time = time_of(slice);
        let (earliest, latest) = self.times.unwrap_or((time, time));
        (earliest.min(time), latest.max(time))
    }

    /// Stores the segment; returns its slice.
    pub(super) async fn finish(mut self) -> Result<CompactedSlice, JobError> {
        let segment = self.builder.id();
        let slice = self.builder.end_slice(self.end)?;
        for part in self.builder.finish()?.parts {
            self.upload.part(part.number, part.bytes).await?;
        }
        self.upload.finish().await?;
        Ok(CompactedSlice {
            end: slice.offsets.end,
            segment,
            start: slice.range.start,
            len: slice.range.end - slice.range.start,
            max_timestamp: slice.max_timestamp,
            index: SliceIndex {
                start: slice.index.start,
                // No index of a slice is that long: the format bounds it.
                len: u32::try_from(slice.index.end - slice.index.start).unwrap_or(u32::MAX),
            },
        })
    }
}
