//! The job: two passes over a partition.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::error::JobError;
use super::super::maintenance::Maintenance;
use super::super::metrics::Task;
use super::super::retention::archive_limit;
use super::input::{Batch, Input, unreadable};
use super::offset_map::OffsetMap;
use super::output::Output;
use super::policy::{Due, due};
use super::rules::{Rules, note_keys};
use crate::dynamic_config::{ClusterConfig, Layers, TopicConfig};
use crate::manifest::Stopped;
use crate::segment::{BatchError, Retained};
use crate::state::op::{Cleaned, Op, ReplaceSlices};
use crate::state::{Slice, State};
use crate::types::{ByteCount, Offset, Seq, TopicName, TopicPartition};

/// How a log is compacted.
#[derive(Clone, Copy, Debug)]
pub(super) struct CleaningOptions {
    /// The memory for the last offset of each key.
    pub(super) dedupe_buffer: ByteCount,
    /// The length of a compacted slice, if there is enough for one.
    pub(super) target: ByteCount,
}

/// What the job did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaning {
    /// Up to where the log is compacted now.
    pub to: Offset,
    /// The bytes of batches that were read to be rewritten.
    pub bytes_in: u64,
    /// The bytes of batches that were written.
    pub bytes_out: u64,
    /// How many segments were written.
    pub segments: u64,
    /// How many keys there were in the part that had not been cleaned.
    pub keys: u64,
}

/// Cleans a partition, if that is due; returns what it did. Whoever calls it has the claim.
///
/// # Errors
///
/// [`JobError::Rejected`], [`JobError::InputsChanged`]: the partition or its settings changed meanwhile, and if the job
/// is still due it is to be begun again. [`JobError::Stopped`]: the last op may have taken effect.
pub async fn clean(
    m: &Maintenance,
    partition: TopicPartition,
) -> Result<Option<Cleaning>, JobError> {
    let state = m.state();
    let set = Layers {
        node: state.configs_of(m.incarnation()),
        cluster: state.configs(),
    };
    let cluster = ClusterConfig::effective(&set.in_force());
    let options = CleaningOptions {
        dedupe_buffer: cluster.dedupe_buffer,
        target: m.options().compaction.target,
    };
    clean_with(m, partition, options).await
}

pub(super) async fn clean_with(
    m: &Maintenance,
    partition: TopicPartition,
    options: CleaningOptions,
) -> Result<Option<Cleaning>, JobError> {
    let Some(plan) = Plan::new(m, &m.state(), partition, options) else {
        return Ok(None);
    };
    let began = Instant::now();
    let done = async { plan.rewrite(plan.learn().await?).await }.await;
    let done = match done {
        // The object may be gone because its slices are, which this node did not know.
        Err(JobError::Unreadable { object, .. })
            if !m.inner.manifest.fresh().await?.is_live(object) =>
        {
            return Err(JobError::InputsChanged);
        }
        Err(error @ JobError::Unreadable { .. }) => {
            m.inner.metrics.unreadable();
            return Err(error);
        }
        done => done?,
    };
    tracing::info!(
        topic = %plan.topic,
        partition = %partition.partition,
        from = %plan.due.dirty,
        to = %done.to,
        keys = done.keys,
        bytes_in = done.bytes_in,
        bytes_out = done.bytes_out,
        segments = done.segments,
        took = ?began.elapsed(),
        "compacted a log"
    );
    Ok(Some(done))
}

/// One cleaning of one partition.
pub(super) struct Plan<'a> {
    m: &'a Maintenance,
    options: CleaningOptions,
    topic: TopicName,
    partition: TopicPartition,
    settings: TopicConfig,
    /// The state by which it goes.
    as_of: Seq,
    layout: u64,
    log_start: Offset,
    /// Where the log was cleaned to before.
    cleaned_to: Offset,
    due: Due,
    /// From the first to the last that may be cleaned.
    slices: Vec<(Offset, Slice)>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(
        m: &'a Maintenance,
        state: &State,
        id: TopicPartition,
        options: CleaningOptions,
    ) -> Option<Plan<'a>> {
        let topic = state.topic(id.topic)?;
        let partition = topic.partition(id.partition)?;
        let settings = TopicConfig::effective(topic.configs(), state.configs());
        let due = due(partition, &settings, m.passed())?;
        let due = due.up_to(partition, archive_limit(state, id))?;
        let slices = partition
            .slices_from(partition.log_start())
            .take_while(|(_, slice)| slice.end <= due.end)
            .map(|(base, slice)| (base, *slice))
            .collect();
        Some(Plan {
            m,
            options,
            topic: topic.name().clone(),
            partition: id,
            settings,
            as_of: state.seq(),
            layout: partition.layout(),
            log_start: partition.log_start(),
            cleaned_to: partition.cleaned_to(),
            due,
            slices,
        })
    }

    /// The first pass: the last offset of each key in the part that was not cleaned yet, as far as there is space.
    pub(super) async fn learn(&self) -> Result<Rules, JobError> {
        let from = self.due.dirty;
        let memory = self.options.dedupe_buffer;
        let mut map = OffsetMap::new(memory, self.due.end.since(from));
        let first = self.slices.partition_point(|(_, slice)| slice.end <= from);
        let dirty = self.slices.get(first..).unwrap_or_default();
        let mut input = Input::new(self.m, self.partition, dirty);
        let mut to = self.due.end;
        'slices: for _ in dirty {
            while let Some(batches) = input.next().await? {
                let noted = self.blocking(move || {
                    let mut full = None;
                    for batch in &batches {
                        full = note_keys(&mut map, from, batch.base, &batch.bytes)
                            .map_err(|e| (batch.base, e))?;
                        if full.is_some() {
                            break;
                        }
                    }
                    Ok((map, full))
                });
                let full;
                (map, full) = noted.await?;
                if let Some(full) = full {
                    tracing::debug!(partition = %self.partition, to = %full, "more keys than fit in log.cleaner.dedupe.buffer.size");
                    to = full;
                    break 'slices;
                }
            }
        }
        let now = self.m.passed();
        Ok(Rules {
            map,
            to,
            log_start: self.log_start,
            now,
            horizon: self.m.time().after(self.settings.delete_retention),
        })
    }

    /// The second pass: the records that stay, from the first slice to the one in which the map ends.
    pub(super) async fn rewrite(&self, rules: Rules) -> Result<Cleaning, JobError> {
        let to = rules.to;
        let rules = Arc::new(rules);
        let last = self.slices.partition_point(|(base, _)| *base < to);
        let slices = self.slices.get(..last).unwrap_or_default();
        let bounds = Bounds::new(self.options.target, &self.settings);
        let mut input = Input::new(self.m, self.partition, slices);
        let mut done = Cleaning {
            to,
            keys: rules.map.len() as u64,
            ..Cleaning::default()
        };
        let mut output: Option<Output> = None;
        for (base, slice) in slices {
            if let Some(full) = output.take_if(|output| !bounds.admit(output, slice)) {
                self.commit(full, self.cleaned_to, &mut done).await?;
            }
            let output = match &mut output {
                Some(output) => output,
                none => {
                    let id = self.m.inner.manifest.mint_segment();
                    let begun = Output::begin(&self.m.inner.store, id, self.partition, *base);
                    none.insert(begun.await?)
                }
            };
            while let Some(batches) = input.next().await? {
                let rules = Arc::clone(&rules);
                let cleaned = self.blocking(move || clean_all(&rules, batches));
                output.push(cleaned.await?).await?;
            }
            output.cover(slice);
            done.bytes_in += slice.len;
            self.m.inner.metrics.moved(Task::Cleaning, slice.len, 0);
        }
        if let Some(output) = output {
            self.commit(output, to, &mut done).await?;
        }
        Ok(done)
    }

    /// Puts a segment in the place of the slices from which it was made.
    async fn commit(
        &self,
        output: Output,
        to: Offset,
        done: &mut Cleaning,
    ) -> Result<(), JobError> {
        let (base, end, bytes) = (output.base, output.end, output.bytes);
        let slice = output.finish().await?;
        let replace = ReplaceSlices {
            partition: self.partition,
            // Each replacement raises it by one.
            layout: self.layout + done.segments,
            base,
            end,
            outputs: vec![slice],
            cleaned: Some(Cleaned {
                to,
                as_of: self.as_of,
            }),
        };
        let manifest = &self.m.inner.manifest;
        manifest.commit_one(Op::ReplaceSlices(replace)).await??;
        done.segments += 1;
        done.bytes_out += bytes;
        self.m.inner.metrics.moved(Task::Cleaning, 0, bytes);
        Ok(())
    }

    /// Opens batches on a thread where that holds nobody up.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, (Offset, BatchError)> + Send + 'static,
    ) -> Result<T, JobError> {
        let done = self.m.inner.env.compute(work).await;
        let done = match done {
            Ok(done) => done,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return Err(Stopped::Stopping.into()),
        };
        done.map_err(|(offset, error)| {
            unreadable(self.partition, &self.slices, offset, error.to_string())
        })
    }
}

/// How long a segment becomes, and how much time it covers.
struct Bounds {
    len: u64,
    /// For topics whose records expire, too: a slice goes when its newest record has expired.
    time: Option<Duration>,
}

/// The part of a topic's retention that one segment may cover, in time and in size.
const RETENTION_PARTS: u32 = 16;

impl Bounds {
    fn new(target: ByteCount, settings: &TopicConfig) -> Bounds {
        let mut len = target.min(settings.segment_bytes).0;
        let mut time = None;
        if settings.cleanup.delete {
            let size = settings.retention_bytes;
            len = size.map_or(len, |size| len.min(size.0 / u64::from(RETENTION_PARTS)));
            time = settings.retention.map(|keep| keep / RETENTION_PARTS);
        }
        Bounds { len, time }
    }

    /// Whether the slice may be cleaned into this segment, too.
    fn admit(&self, output: &Output, slice: &Slice) -> bool {
        let covered = output.time_covered_with(slice);
        output.bytes + slice.len <= self.len && self.time.is_none_or(|most| covered <= most)
    }
}

/// What is left of batches.
fn clean_all(rules: &Rules, batches: Vec<Batch>) -> Result<Vec<Batch>, (Offset, BatchError)> {
    let mut left = Vec::with_capacity(batches.len());
    for batch in batches {
        let base = batch.base;
        let bytes = match rules.clean(base, &batch.bytes).map_err(|e| (base, e))? {
            Retained::Whole => batch.bytes,
            Retained::Rewritten(bytes) => bytes,
            Retained::Nothing => continue,
        };
        left.push(Batch { base, bytes });
    }
    Ok(left)
}
