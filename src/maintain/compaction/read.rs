//! Reading the inputs of a compaction, in order and ahead of their use.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, TryStreamExt, stream};

use super::super::deletion::path_of;
use super::super::error::JobError;
use super::super::maintenance::Maintenance;
use super::super::metrics::Task;
use crate::segment::{Batches, ChunkIndex};
use crate::state::{ObjectRef, Slice};
use crate::store::RequestKind;
use crate::types::{Offset, TopicPartition};

/// The most bytes that one request asks for: whoever comes behind it at a store that serves one after the other waits
/// no longer than for that.
const READ: u64 = 2 << 20;

/// How much is read at once of a partition that is read as a stream: twice as much is in memory.
pub(in crate::maintain) const WINDOW: u64 = 16 << 20;

/// The most slices of which as much is read at once.
const WINDOW_SLICES: usize = 1024;

/// Ranges of one object that are closer than that come with one request.
const GAP: u64 = 64 << 10;

/// A slice to be read.
#[derive(Clone, Copy, Debug)]
pub(in crate::maintain) struct Input {
    pub(in crate::maintain) partition: TopicPartition,
    pub(in crate::maintain) base: Offset,
    pub(in crate::maintain) slice: Slice,
}

impl Input {
    /// What is read: the slice, and the index behind it if it is a compacted one.
    fn range(&self) -> Range<u64> {
        let Slice { start, len, .. } = self.slice;
        let end = start.saturating_add(len);
        match self.slice.index {
            Some(index) => start..end.max(index.start.saturating_add(index.len.into())),
            None => start..end,
        }
    }

    pub(in crate::maintain) fn unreadable(&self, reason: String) -> JobError {
        JobError::Unreadable {
            partition: self.partition,
            offset: self.base,
            object: self.slice.object,
            reason,
        }
    }

    /// An error that arose from what was read for this input.
    pub(in crate::maintain) fn blame(&self, error: JobError) -> JobError {
        match error {
            JobError::Segment(error) => self.unreadable(error.to_string()),
            other => other,
        }
    }

    /// The batches in `bytes`, which were read for this input, each with its real offset.
    pub(in crate::maintain) fn batches(
        &self,
        bytes: &Bytes,
    ) -> Result<Vec<(Offset, Bytes)>, JobError> {
        let len = usize::try_from(self.slice.len).unwrap_or(usize::MAX);
        let run = bytes.slice(..len.min(bytes.len()));
        if self.slice.index.is_some() {
            self.check_chunks(bytes)?;
        }
        let mut next = self.base;
        let mut found = Vec::new();
        for batch in Batches::new(&run) {
            let batch = batch.map_err(|error| self.unreadable(error.to_string()))?;
            let mut header = batch.header;
            if self.slice.index.is_none() {
                // As the fold gave it: one batch after the other, whatever the producer wrote.
                header.base_offset = next;
            }
            found.push((header.base_offset, batch.slice(&run)));
            next = header.next_offset();
        }
        if next > self.slice.end || self.slice.index.is_none() && next != self.slice.end {
            let end = self.slice.end;
            return Err(self.unreadable(format!("its batches end at {next}, and not at {end}")));
        }
        Ok(found)
    }

    /// The checksum of a chunk covers what that of a batch does not: where it stands.
    fn check_chunks(&self, bytes: &Bytes) -> Result<(), JobError> {
        let Some(place) = self.slice.index else {
            return Ok(());
        };
        let object = path_of(self.slice.object).to_string();
        let start = self.slice.start;
        let cut = |range: Range<u64>| {
            let from = usize::try_from(range.start.saturating_sub(start)).ok()?;
            let to = usize::try_from(range.end.saturating_sub(start)).ok()?;
            bytes.get(from..to)
        };
        let check = || {
            let index = cut(place.start..place.start + u64::from(place.len)).unwrap_or_default();
            let index = ChunkIndex::decode(&object, index)?;
            let offsets = self.base..self.slice.end;
            index.expect(
                &object,
                self.partition,
                &offsets,
                &(start..start + self.slice.len),
            )?;
            for number in 0..index.chunks().len() {
                let chunk = cut(index.range_of(number)).unwrap_or_default();
                index.check_chunk(&object, number, chunk)?;
            }
            Ok::<(), crate::segment::SegmentError>(())
        };
        check().map_err(|error| self.unreadable(error.to_string()))
    }
}

/// The bytes of the inputs, in their order. With `at_once` all are read together, each object once; else a window after
/// the other, one ahead.
pub(in crate::maintain) fn read(
    m: &Maintenance,
    task: Task,
    inputs: Vec<Input>,
    at_once: bool,
) -> impl Stream<Item = Result<(Input, Bytes), JobError>> {
    let windows = if at_once {
        vec![inputs]
    } else {
        windows(inputs)
    };
    let ahead = windows.len().min(2);
    stream::iter(windows)
        .map(move |window| gather(m, task, window))
        .buffered(ahead.max(1))
        .map_ok(|read| stream::iter(read.into_iter().map(Ok)))
        .try_flatten()
}

fn windows(inputs: Vec<Input>) -> Vec<Vec<Input>> {
    let mut windows: Vec<Vec<Input>> = Vec::new();
    let mut bytes = 0;
    for input in inputs {
        let full =
            |window: &Vec<Input>| window.len() >= WINDOW_SLICES || bytes + input.slice.len > WINDOW;
        match windows.last_mut() {
            Some(window) if !full(window) => window.push(input),
            _ => {
                bytes = 0;
                windows.push(vec![input]);
            }
        }
        bytes += input.slice.len;
    }
    windows
}

/// Reads all of these, with as few requests as their objects allow.
async fn gather(
    m: &Maintenance,
    task: Task,
    inputs: Vec<Input>,
) -> Result<Vec<(Input, Bytes)>, JobError> {
    let bytes = inputs.iter().map(|input| input.slice.len).sum();
    let requests = m.options().compaction.requests.max(1);
    let mut read: Vec<(usize, Bytes)> = stream::iter(coalesced(&inputs))
        .map(|group| fetch_group(m, &inputs, group))
        .buffer_unordered(requests)
        .try_concat()
        .await?;
    m.inner.metrics.moved(task, bytes, 0);
    read.sort_unstable_by_key(|(place, _)| *place);
    Ok(inputs
        .into_iter()
        .zip(read.into_iter().map(|(_, bytes)| bytes))
        .collect())
}

/// Inputs, by their places, that lie close to each other in one object.
fn coalesced(inputs: &[Input]) -> Vec<Vec<usize>> {
    let mut places: Vec<usize> = (0..inputs.len()).collect();
    let key = |place: &usize| {
        let input = inputs.get(*place);
        input.map(|input| (input.slice.object, input.slice.start))
    };
    places.sort_unstable_by_key(key);
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut last: Option<(ObjectRef, Range<u64>)> = None;
    for place in places {
        let Some(input) = inputs.get(place) else {
            continue;
        };
        let range = input.range();
        match (&mut last, groups.last_mut()) {
            (Some((object, covered)), Some(group))
                if *object == input.slice.object
                    && range.start <= covered.end.saturating_add(GAP)
                    && range.end.saturating_sub(covered.start) <= READ =>
            {
                covered.end = covered.end.max(range.end);
                group.push(place);
            }
            _ => {
                last = Some((input.slice.object, range));
                groups.push(vec![place]);
            }
        }
    }
    groups
}

/// Reads inputs that lie close to each other. Returns their bytes with their places.
async fn fetch_group(
    m: &Maintenance,
    inputs: &[Input],
    group: Vec<usize>,
) -> Result<Vec<(usize, Bytes)>, JobError> {
    let members: Vec<(usize, Input)> = group
        .into_iter()
        .filter_map(|place| Some((place, *inputs.get(place)?)))
        .collect();
    let Some((_, first)) = members.first().copied() else {
        return Ok(Vec::new());
    };
    let start = first.range().start;
    let end = members.iter().map(|(_, input)| input.range().end).max();
    let bytes = fetch(m, &first, start..end.unwrap_or(start)).await?;
    let cut = |input: &Input| {
        let range = input.range();
        let from = usize::try_from(range.start - start).unwrap_or(usize::MAX);
        let to = usize::try_from(range.end - start).unwrap_or(usize::MAX);
        if from <= to && to <= bytes.len() {
            Ok(bytes.slice(from..to))
        } else {
            Err(input.unreadable(format!("its object ends before byte {}", range.end)))
        }
    };
    members
        .into_iter()
        .map(|(place, input)| Ok((place, cut(&input)?)))
        .collect()
}

/// Reads a range of an object, in pieces if it is long. What is behind the object's end is missing.
async fn fetch(m: &Maintenance, input: &Input, range: Range<u64>) -> Result<Bytes, JobError> {
    if range.is_empty() {
        return Ok(Bytes::new());
    }
    let path = path_of(input.slice.object);
    let read = |range: Range<u64>| {
        let path = path.clone();
        async move {
            let _turn = m.turn_to_read(range.end - range.start).await;
            let kind = RequestKind::CompactedGet;
            match m.inner.store.get_range(&path, range, kind).await {
                Ok((bytes, _)) => Ok(bytes),
                Err(error) if error.is_not_found() => Err(JobError::Missing {
                    partition: input.partition,
                    offset: input.base,
                    object: input.slice.object,
                }),
                Err(error) => Err(error.into()),
            }
        }
    };
    if range.end - range.start <= READ {
        return read(range).await;
    }
    let mut whole = BytesMut::new();
    let starts = (range.start..range.end).step_by(READ as usize);
    let pieces = stream::iter(starts.map(|start| read(start..(start + READ).min(range.end))));
    let mut pieces = pieces.buffered(2);
    while let Some(piece) = pieces.try_next().await? {
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}
