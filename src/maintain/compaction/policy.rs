//! What is worth compacting: a pure function of a partition, its settings and the time.
//!
//! A **raw** slice is one that producers made. A run of them is rewritten once it makes a whole output, or is long, or
//! old: each byte once, so that a partition which fills outputs before its slices get old writes every byte twice in
//! all. What was rewritten early, because it was old, makes short compacted slices. Those are **merged** only where
//! each ends up in one at least [`GROWTH`] times as long: so a byte is rewritten a logarithmic number of times at most.
//!
//! Left alone is what is young, for consumers have it cached, and what will expire before it would have to be
//! rewritten.

use std::time::Duration;

use super::super::metrics::Backlog;
use super::super::options::CompactionOptions;
use super::super::retention::time_of;
use crate::dynamic_config::TopicConfig;
use crate::state::{Partition, Slice};
use crate::types::{Offset, Timestamp, TopicPartition};

/// How much longer than each of its slices a merge must be.
pub(in crate::maintain) const GROWTH: u64 = 16;

/// In a merge a slice counts as so long at least: an entry in the state costs something, however short it is.
const MIN_WEIGHT: u64 = 64 << 10;

/// How many raw slices in a row are worth a rewrite while the state is too large.
const CROWD: usize = 16;

/// The part of a topic's retention that one output may cover, in time and in size: what is in it goes together.
const RETENTION_PARTS: u32 = 16;

/// By so much less than a whole output is whole, too.
const NEARLY: u64 = 8;

/// What is to be rewritten of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The partition.
    pub partition: TopicPartition,
    /// Its layout: the slices are those of this version.
    pub layout: u64,
    /// The compacted slices to be, in order and without gaps between them.
    pub outputs: Vec<Output>,
}

/// A compacted slice to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its inputs with their base offsets, in order and without gaps. Never empty.
    pub inputs: Vec<(Offset, Slice)>,
}

impl Plan {
    /// The first offset that is rewritten.
    pub fn base(&self) -> Offset {
        self.outputs.first().map_or(Offset::ZERO, Output::base)
    }

    /// The offset after the last.
    pub fn end(&self) -> Offset {
        self.outputs.last().map_or(Offset::ZERO, Output::end)
    }

    /// The bytes of all inputs.
    pub fn bytes(&self) -> u64 {
        self.outputs.iter().map(Output::bytes).sum()
    }

    /// How many slices go in.
    pub fn inputs(&self) -> usize {
        self.outputs.iter().map(|output| output.inputs.len()).sum()
    }
}

impl Output {
    /// Its first offset.
    pub fn base(&self) -> Offset {
        self.inputs.first().map_or(Offset::ZERO, |(base, _)| *base)
    }

    /// The offset after its last.
    pub fn end(&self) -> Offset {
        self.inputs
            .last()
            .map_or(Offset::ZERO, |(_, slice)| slice.end)
    }

    /// The bytes of its inputs.
    pub fn bytes(&self) -> u64 {
        self.inputs.iter().map(|(_, slice)| slice.len).sum()
    }
}

/// By what a partition's slices are judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// How long an output is.
    target: u64,
    /// How much one job reads.
    most: u64,
    /// The longest time that one output covers.
    span: Option<Duration>,
    /// How long records are kept.
    keep: Option<Duration>,
    min_age: Duration,
    max_wait: Duration,
    max_slices: usize,
    /// The state is too large.
    crowded: bool,
}

impl Terms {
    /// What holds for a topic with these settings.
    pub fn new(options: &CompactionOptions, settings: &TopicConfig, crowded: bool) -> Terms {
        let keep = settings.retention.filter(|_| settings.cleanup.delete);
        let size = settings.retention_bytes.filter(|_| settings.cleanup.delete);
        let mut target = options.target.0.min(settings.segment_bytes.0);
        if let Some(size) = size {
            target = target.min(size.0 / u64::from(RETENTION_PARTS));
        }
        Terms {
            target: target.max(MIN_WEIGHT),
            most: options.job.0,
            span: keep.map(|keep| (keep / RETENTION_PARTS).min(settings.segment_time)),
            keep,
            min_age: options.min_age,
            max_wait: options.max_wait,
            max_slices: options.max_slices,
            crowded,
        }
    }

    /// Whether a slice is about to go anyway.
    fn expires(&self, slice: &Slice, now: Timestamp) -> bool {
        // While the state is too large, what stays for a while is worth less than the space it takes.
        let worth = self.max_wait / if self.crowded { 10 } else { 1 };
        self.keep
            .is_some_and(|keep| time_of(slice).after(keep) <= now.after(worth))
    }

    /// Whether so many raw slices in a row, the oldest of that time, are rewritten though they make no whole output.
    fn is_due(&self, slices: usize, oldest: Timestamp, now: Timestamp) -> bool {
        slices >= self.max_slices
            || oldest.after(self.max_wait) <= now
            || self.crowded && slices >= CROWD
    }
}

/// What is not compacted of a partition.
pub(super) fn backlog(partition: &Partition) -> Backlog {
    let mut backlog = Backlog::default();
    for (_, slice) in partition.slices_from(partition.log_start()) {
        if slice.index.is_none() {
            backlog.slices += 1;
            backlog.bytes += slice.len;
            backlog.oldest.get_or_insert(slice.appended_at);
        }
    }
    backlog
}

/// What is to be rewritten of a partition, if anything.
pub fn plan(
    id: TopicPartition,
    partition: &Partition,
    terms: &Terms,
    now: Timestamp,
) -> Option<Plan> {
    let mut raw = Run::default();
    let mut short = Vec::new();
    let mut best: Option<Run> = None;
    let mut merge: Option<(Offset, Offset)> = None;
    let slices = partition
        .slices_from(partition.log_start())
        .skip_while(|(_, slice)| terms.expires(slice, now));
    let mut end_run = |raw: &mut Run| {
        let run = std::mem::take(raw);
        let due = run.bytes >= terms.target || terms.is_due(run.slices, run.oldest, now);
        if run.slices > best.as_ref().map_or(0, |best| best.slices) && due {
            best = Some(run);
        }
    };
    for (base, slice) in slices {
        if slice.index.is_some() {
            end_run(&mut raw);
            if weight(slice) > terms.target / GROWTH {
                merge = merge.or_else(|| mergeable(&short, terms));
                short.clear();
            } else {
                short.push((base, *slice));
            }
        } else {
            merge = merge.or_else(|| mergeable(&short, terms));
            short.clear();
            if slice.appended_at.after(terms.min_age) > now {
                break;
            }
            raw.push(base, slice);
        }
    }
    end_run(&mut raw);
    merge = merge.or_else(|| mergeable(&short, terms));
    let outputs = match (best, merge) {
        (Some(run), _) => cut(partition, run.base..run.end, terms, now),
        (None, Some((base, end))) => vec![Output {
            inputs: inputs(partition, base..end).collect(),
        }],
        (None, None) => return None,
    };
    (!outputs.is_empty()).then_some(Plan {
        partition: id,
        layout: partition.layout(),
        outputs,
    })
}

/// Raw slices in a row.
#[derive(Default)]
struct Run {
    base: Offset,
    end: Offset,
    slices: usize,
    bytes: u64,
    oldest: Timestamp,
}

impl Run {
    fn push(&mut self, base: Offset, slice: &Slice) {
        if self.slices == 0 {
            self.base = base;
            self.oldest = slice.appended_at;
        }
        self.end = slice.end;
        self.slices += 1;
        self.bytes += slice.len;
    }
}

fn inputs(
    partition: &Partition,
    offsets: std::ops::Range<Offset>,
) -> impl Iterator<Item = (Offset, Slice)> {
    partition
        .slices_from(offsets.start)
        .take_while(move |(base, _)| *base < offsets.end)
        .map(|(base, slice)| (base, *slice))
}

/// Cuts a run into outputs: those that are whole, and the rest if it is due by itself.
fn cut(
    partition: &Partition,
    offsets: std::ops::Range<Offset>,
    terms: &Terms,
    now: Timestamp,
) -> Vec<Output> {
    let mut outputs = Vec::new();
    let mut current = Growing::default();
    let mut bytes = 0;
    for (base, slice) in inputs(partition, offsets) {
        if !current.takes(&slice, terms) {
            bytes += current.bytes;
            outputs.push(std::mem::take(&mut current).output);
            if bytes >= terms.most {
                return outputs;
            }
        }
        current.push(base, slice);
    }
    let oldest = current.output.inputs.first();
    let due = oldest.is_some_and(|(_, slice)| {
        terms.is_due(current.output.inputs.len(), slice.appended_at, now)
    });
    if due || current.bytes >= terms.target - terms.target / NEARLY {
        outputs.push(current.output);
    }
    outputs
}

/// An output that more may be put in.
struct Growing {
    output: Output,
    bytes: u64,
    earliest: Timestamp,
    latest: Timestamp,
}

impl Default for Growing {
    fn default() -> Growing {
        Growing {
            output: Output { inputs: Vec::new() },
            bytes: 0,
            earliest: Timestamp(i64::MAX),
            latest: Timestamp(i64::MIN),
        }
    }
}

impl Growing {
    fn takes(&self, slice: &Slice, terms: &Terms) -> bool {
        let time = time_of(slice);
        let covered = self.latest.max(time).since(self.earliest.min(time));
        self.output.inputs.is_empty()
            || self.bytes + slice.len <= terms.target
                && terms.span.is_none_or(|span| covered <= span)
    }

    fn push(&mut self, base: Offset, slice: Slice) {
        let time = time_of(&slice);
        self.earliest = self.earliest.min(time);
        self.latest = self.latest.max(time);
        self.bytes += slice.len;
        self.output.inputs.push((base, slice));
    }
}

fn weight(slice: &Slice) -> u64 {
    slice.len.max(MIN_WEIGHT)
}

/// The longest run of these short compacted slices, up to their end, that is worth merging.
fn mergeable(short: &[(Offset, Slice)], terms: &Terms) -> Option<(Offset, Offset)> {
    let end = short.last()?.1.end;
    let mut found = None;
    let mut grown = Growing::default();
    let (mut total, mut largest) = (0, 0);
    for (base, slice) in short.iter().rev() {
        if !grown.takes(slice, terms) {
            break;
        }
        grown.push(*base, *slice);
        total += weight(slice);
        largest = largest.max(weight(slice));
        if total >= largest * GROWTH {
            found = Some((*base, end));
        }
    }
    found
}
