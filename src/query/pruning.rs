//! What a query reads at all, by what its filter says of `partition`, `offset` and `timestamp`.
//!
//! * A slice of a partition is left out if the filter holds for none of its records, by what the state says of it: its
//!   partition, its offsets, and its largest timestamp. Whatever form the filter has, the engine's own predicates
//!   judge.
//! * Where the filter bounds `offset` by plain comparisons, the ranges end exactly there.
//! * Where it bounds `timestamp` from below, each partition is read from the first record of that time on, which is
//!   looked up as ListOffsets does it.
//!
//! What is left out has no row for which the filter holds; what is read may have some, so the filter is applied again.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Int32Array, Int64Array, TimestampMicrosecondArray};
use arrow_schema::{DataType, SchemaRef};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;

use crate::state::Topic;
use crate::state::table::Manifest;
use crate::table::{Columns, OFFSET, PARTITION, TIMESTAMP, micros};
use crate::types::{Offset, PartitionIndex, Timestamp};

/// Offsets of a partition that are read, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OffsetRun {
    pub(super) partition: PartitionIndex,
    pub(super) start: Offset,
    pub(super) end: Offset,
    /// Of how many bytes of record batches, about.
    pub(super) bytes: u64,
}

/// What must hold of the rows that are wanted.
pub(super) struct Filter {
    pub(super) expr: Arc<dyn PhysicalExpr>,
    /// The columns that it is about.
    pub(super) schema: SchemaRef,
}

/// Records that lie together, as the engine's predicates want them.
#[derive(Default)]
struct Containers {
    /// The first and the last partition.
    partitions: (Vec<i32>, Vec<i32>),
    /// The first and the last offset.
    offsets: (Vec<i64>, Vec<i64>),
    /// The least and the greatest timestamp, where they are known.
    times: (Vec<Option<i64>>, Vec<Option<i64>>),
    bytes: Vec<u64>,
}

impl Containers {
    fn add(
        &mut self,
        partitions: (PartitionIndex, PartitionIndex),
        offsets: (Offset, Offset),
        times: (Option<Timestamp>, Option<Timestamp>),
        bytes: u64,
    ) {
        self.partitions.0.push(partitions.0.0);
        self.partitions.1.push(partitions.1.0);
        self.offsets.0.push(offsets.0.0);
        self.offsets.1.push(offsets.1.0 - 1);
        self.times.0.push(times.0.and_then(micros));
        self.times.1.push(times.1.and_then(micros));
        self.bytes.push(bytes);
    }

    /// The slices of a topic, without what `archived` says that the archive has.
    fn slices(topic: &Topic, archived: impl Fn(PartitionIndex) -> (Offset, Offset)) -> Containers {
        let mut slices = Containers::default();
        for (id, partition) in topic.partitions() {
            let (first, behind) = archived(id.partition);
            let (log_start, end) = (partition.log_start(), partition.high_watermark());
            // The archive may have let go of records that the topic has.
            let parts = [(log_start, first.min(end)), (log_start.max(behind), end)];
            for (start, end) in parts.into_iter().filter(|(start, end)| start < end) {
                for (base, slice) in partition.slices_from(start) {
                    let offsets = (base.max(start), slice.end.min(end));
                    if offsets.0 >= offsets.1 {
                        break;
                    }
                    let newest = Some(slice.max_timestamp);
                    let whole = slice.end.since(base);
                    let bytes = share(slice.len, offsets.1.since(offsets.0), whole);
                    slices.add((id.partition, id.partition), offsets, (None, newest), bytes);
                }
            }
        }
        slices
    }

    /// The manifests of a table.
    fn manifests<'a>(manifests: impl Iterator<Item = &'a Manifest>) -> Containers {
        let mut all = Containers::default();
        for manifest in manifests {
            let ranges = || manifest.ranges.iter();
            let (first, last) = (ranges().map(|range| range.partition), ranges());
            let partitions = (first.min(), last.map(|range| range.partition).max());
            let (first, last) = (ranges().map(|range| range.base), ranges());
            let offsets = (first.min(), last.map(|range| range.end).max());
            let times = (Some(manifest.min_timestamp), Some(manifest.max_timestamp));
            all.add(
                (
                    partitions.0.unwrap_or(PartitionIndex(0)),
                    partitions.1.unwrap_or(PartitionIndex(0)),
                ),
                (
                    offsets.0.unwrap_or(Offset::ZERO),
                    offsets.1.unwrap_or(Offset(1)),
                ),
                times,
                0,
            );
        }
        all
    }

    /// Which of them may have records for which the filter holds.
    fn kept(&self, filter: Option<&Filter>) -> Result<Vec<bool>, DataFusionError> {
        let all = self.bytes.len();
        let Some(filter) = filter.filter(|_| all > 0) else {
            return Ok(vec![true; all]);
        };
        // What is no predicate for it says nothing.
        match PruningPredicateBuilder::new()
            .with_file_schema(filter.schema.clone())
            .try_build(filter.expr.clone())
        {
            Ok(predicate) if !predicate.always_true() => {
                // What it cannot compute says nothing, either.
                Ok(predicate.prune(self).unwrap_or_else(|_| vec![true; all]))
            }
            _ => Ok(vec![true; all]),
        }
    }
}

impl PruningStatistics for Containers {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        values(column, &self.partitions.0, &self.offsets.0, &self.times.0)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        values(column, &self.partitions.1, &self.offsets.1, &self.times.1)
    }

    fn num_containers(&self) -> usize {
        self.bytes.len()
    }

    fn null_counts(&self, _: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        None
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

fn values(
    column: &Column,
    partitions: &[i32],
    offsets: &[i64],
    times: &[Option<i64>],
) -> Option<ArrayRef> {
    match column.name.as_str() {
        PARTITION => Some(Arc::new(Int32Array::from(partitions.to_vec()))),
        OFFSET => Some(Arc::new(Int64Array::from(offsets.to_vec()))),
        TIMESTAMP => {
            let times = TimestampMicrosecondArray::from(times.to_vec());
            let DataType::Timestamp(_, zone) = Columns::base()
                .arrow()
                .field_with_name(TIMESTAMP)
                .ok()?
                .data_type()
                .clone()
            else {
                return None;
            };
            Some(Arc::new(times.with_timezone_opt(zone)))
        }
        _ => None,
    }
}

/// Those of the manifests of a table whose files may have records for which the filter holds.
pub(super) fn kept_manifests<'a>(
    manifests: impl Iterator<Item = &'a Manifest> + Clone,
    filter: Option<&Filter>,
) -> Result<Vec<&'a Manifest>, DataFusionError> {
    let kept = Containers::manifests(manifests.clone()).kept(filter)?;
    let kept = manifests.zip(kept).filter(|(_, kept)| *kept);
    Ok(kept.map(|(manifest, _)| manifest).collect())
}

/// The bounds that plain comparisons of a filter give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Offsets from here on.
    pub(super) from: Option<i64>,
    /// Offsets before this one.
    pub(super) until: Option<i64>,
    /// Timestamps from this one on, in milliseconds.
    pub(super) since: Option<Timestamp>,
}

impl Bounds {
    /// The bounds that all of `filters` give together.
    pub(super) fn of(filters: &[Expr]) -> Bounds {
        let mut bounds = Bounds::default();
        for filter in filters.iter().flat_map(split_conjunction) {
            match filter {
                Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                    match (&**left, &**right) {
                        (Expr::Column(column), Expr::Literal(value, _)) => {
                            bounds.add(&column.name, *op, value);
                        }
                        (Expr::Literal(value, _), Expr::Column(column)) => {
                            if let Some(op) = op.swap() {
                                bounds.add(&column.name, op, value);
                            }
                        }
                        _ => {}
                    };
                }
                Expr::Between(between) if !between.negated => {
                    let ends = (&*between.expr, &*between.low, &*between.high);
                    if let (Expr::Column(column), Expr::Literal(low, _), Expr::Literal(high, _)) =
                        ends
                    {
                        bounds.add(&column.name, Operator::GtEq, low);
                        bounds.add(&column.name, Operator::LtEq, high);
                    }
                }
                _ => {}
            }
        }
        bounds
    }

    fn add(&mut self, column: &str, op: Operator, value: &ScalarValue) {
        match (column, value) {
            (OFFSET, ScalarValue::Int64(Some(offset))) => {
                let next = offset.saturating_add(1);
                let (from, until) = match op {
                    Operator::Eq => (Some(*offset), Some(next)),
                    Operator::Gt => (Some(next), None),
                    Operator::GtEq => (Some(*offset), None),
                    Operator::Lt => (None, Some(*offset)),
                    Operator::LtEq => (None, Some(next)),
                    _ => (None, None),
                };
                self.from = self.from.max(from);
                self.until = match (self.until, until) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            }
            (TIMESTAMP, ScalarValue::TimestampMicrosecond(Some(time), _)) => {
                if matches!(op, Operator::Eq | Operator::Gt | Operator::GtEq) {
                    let since = Timestamp(time.div_euclid(1_000));
                    self.since = self.since.max(Some(since));
                }
            }
            _ => {}
        }
    }
}

/// What is left of a topic to be read.
#[derive(Clone, Debug)]
pub(super) struct Pruned {
    pub(super) runs: Vec<OffsetRun>,
    /// How many partitions the topic has.
    pub(super) partitions: usize,
    /// How many slices it has, and of how many something is read.
    pub(super) slices: (usize, usize),
}

/// What of `topic` is to be read for `filter`, but for what `archived` says that the archive has of a partition: from
/// which offset on, and which is the one behind it. `bounds` are those of the same filter.
pub(super) fn prune(
    topic: &Topic,
    archived: impl Fn(PartitionIndex) -> (Offset, Offset),
    filter: Option<&Filter>,
    bounds: Bounds,
) -> Result<Pruned, DataFusionError> {
    let slices = Containers::slices(topic, archived);
    let all = slices.bytes.len();
    let kept = slices.kept(filter)?;
    let mut runs: Vec<OffsetRun> = Vec::new();
    let mut read = 0;
    for place in (0..all).filter(|place| kept[*place]) {
        let whole = (
            slices.offsets.0[place],
            slices.offsets.1[place].saturating_add(1),
        );
        let start = whole.0.max(bounds.from.unwrap_or(i64::MIN));
        let end = whole.1.min(bounds.until.unwrap_or(i64::MAX));
        if start >= end {
            continue;
        }
        read += 1;
        let (part, whole) = (end.abs_diff(start), whole.1.abs_diff(whole.0));
        let run = OffsetRun {
            partition: PartitionIndex(slices.partitions.0[place]),
            start: Offset(start),
            end: Offset(end),
            bytes: share(slices.bytes[place], part, whole),
        };
        match runs.last_mut() {
            Some(last) if last.partition == run.partition && last.end == run.start => {
                last.end = run.end;
                last.bytes += run.bytes;
            }
            _ => runs.push(run),
        }
    }
    Ok(Pruned {
        runs,
        partitions: topic.partitions().count(),
        slices: (all, read),
    })
}

/// The share of `bytes` that so many of all offsets have, about.
fn share(bytes: u64, part: u64, whole: u64) -> u64 {
    let share = u128::from(bytes) * u128::from(part) / u128::from(whole.max(1));
    u64::try_from(share).unwrap_or(bytes)
}

impl Pruned {
    /// The partitions of which something is read.
    pub(super) fn read_partitions(&self) -> Vec<PartitionIndex> {
        let mut read: Vec<PartitionIndex> = self.runs.iter().map(|run| run.partition).collect();
        read.dedup();
        read
    }

    /// The first offset that is read of each partition.
    pub(super) fn first_offsets(&self) -> impl Iterator<Item = (PartitionIndex, Offset)> + '_ {
        let mut last = None;
        let runs = self.runs.iter();
        runs.filter_map(move |run| {
            let is_first = last.replace(run.partition) != Some(run.partition);
            is_first.then_some((run.partition, run.start))
        })
    }

    /// Leaves out what is before `starts`, by partition; `None` is all of it.
    pub(super) fn begin_at(&mut self, starts: &BTreeMap<PartitionIndex, Option<Offset>>) {
        self.runs.retain_mut(|run| {
            let start = match starts.get(&run.partition) {
                None => run.start,
                Some(None) => run.end,
                Some(Some(start)) => run.start.max(*start),
            };
            if start >= run.end {
                return false;
            }
            let (left, whole) = (run.end.since(start), run.end.since(run.start));
            (run.start, run.bytes) = (start, share(run.bytes, left, whole));
            true
        });
    }

    /// About as many bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.bytes).sum()
    }
}

/// Deals runs out to at most `readers`, in order, so that each reads about as many bytes; a long run is cut.
pub(super) fn deal(runs: &[OffsetRun], readers: usize) -> Vec<Vec<OffsetRun>> {
    let total: u64 = runs.iter().map(|run| run.bytes).sum();
    // What is read by one request is not worth two readers.
    let worth = usize::try_from(total / MIN_READER_BYTES).unwrap_or(usize::MAX);
    let readers = readers.min(worth).max(1);
    let each = total.div_ceil(readers as u64).max(1);
    let mut dealt: Vec<Vec<OffsetRun>> = vec![Vec::new()];
    let mut space = each;
    for run in runs {
        let mut rest = *run;
        loop {
            let is_last = dealt.len() == readers;
            if rest.bytes <= space || is_last {
                space = space.saturating_sub(rest.bytes);
                push(&mut dealt, rest);
                break;
            }
            let offsets = rest.end.since(rest.start);
            let cut = u128::from(offsets) * u128::from(space) / u128::from(rest.bytes.max(1));
            let cut = u64::try_from(cut).unwrap_or(offsets);
            if cut > 0 && cut < offsets {
                let middle = rest.start.advance(cut);
                push(
                    &mut dealt,
                    OffsetRun {
                        end: middle,
                        bytes: space,
                        ..rest
                    },
                );
                rest = OffsetRun {
                    start: middle,
                    bytes: rest.bytes - space,
                    ..rest
                };
            }
            dealt.push(Vec::new());
            space = each;
        }
    }
    dealt.retain(|runs| !runs.is_empty());
    dealt
}

/// The least that is worth a reader of its own.
const MIN_READER_BYTES: u64 = 1 << 20;

fn push(dealt: &mut [Vec<OffsetRun>], run: OffsetRun) {
    if let Some(last) = dealt.last_mut() {
        last.push(run);
    }
}
