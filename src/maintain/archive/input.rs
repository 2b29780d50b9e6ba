//! What a pass reads: the batches of slices, a bounded part of them at a time.
//!
//! Short slices come as compaction reads them, in windows, each object once. A long one, as compaction makes them, is
//! read as cleaning reads it, some pieces of 2 MiB at a time: it may have as many bytes as a node has memory.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};

use super::super::cleaning;
use super::super::compaction::{Input, WINDOW, read};
use super::super::error::JobError;
use super::super::maintenance::Maintenance;
use super::super::metrics::Task;
use crate::types::Offset;

/// Batches of one slice that follow one another.
pub(super) struct Part {
    /// The slice.
    pub(super) input: Input,
    /// Each with its offset.
    pub(super) batches: Vec<(Offset, Bytes)>,
    /// Whether the slice ends with them.
    pub(super) is_last: bool,
}

/// Reads slices, part by part, in their order.
pub(super) struct Parts<'a> {
    m: &'a Maintenance,
    groups: VecDeque<Vec<Input>>,
    reading: Option<Reading<'a>>,
}

enum Reading<'a> {
    Short(BoxStream<'a, Result<(Input, Bytes), JobError>>),
    Long(Input, Box<cleaning::Input<'a>>),
}

fn is_long(input: &Input) -> bool {
    input.slice.len > WINDOW
}

impl<'a> Parts<'a> {
    pub(super) fn new(m: &'a Maintenance, inputs: Vec<Input>) -> Parts<'a> {
        let mut groups: VecDeque<Vec<Input>> = VecDeque::new();
        for input in inputs {
            match groups.back_mut() {
                Some(group) if !is_long(&input) && !group.iter().any(is_long) => group.push(input),
                _ => groups.push_back(vec![input]),
            }
        }
        Parts {
            m,
            groups,
            reading: None,
        }
    }

    /// The next part; `None` behind the last.
    pub(super) async fn next(&mut self) -> Result<Option<Part>, JobError> {
        loop {
            match &mut self.reading {
                None => {
                    let Some(group) = self.groups.pop_front() else {
                        return Ok(None);
                    };
                    self.reading = Some(self.read(group));
                }
                Some(Reading::Short(read)) => match read.try_next().await? {
                    Some((input, bytes)) => {
                        let batches = input.batches(&bytes)?;
                        let is_last = true;
                        return Ok(Some(Part {
                            input,
                            batches,
                            is_last,
                        }));
                    }
                    None => self.reading = None,
                },
                Some(Reading::Long(input, pieces)) => {
                    let (input, read) = (*input, pieces.next().await?);
                    let is_last = read.is_none();
                    if is_last {
                        self.reading = None;
                    }
                    let batches = read.into_iter().flatten();
                    return Ok(Some(Part {
                        input,
                        batches: batches.map(|batch| (batch.base, batch.bytes)).collect(),
                        is_last,
                    }));
                }
            }
        }
    }

    fn read(&self, group: Vec<Input>) -> Reading<'a> {
        match group.as_slice() {
            [long] if is_long(long) => {
                let m = self.m;
                m.inner.metrics.moved(Task::Archive, long.slice.len, 0);
                let pieces = cleaning::Input::of_one(m, long.partition, (long.base, long.slice));
                Reading::Long(*long, Box::new(pieces))
            }
            _ => Reading::Short(read(self.m, Task::Archive, group, false).boxed()),
        }
    }
}
