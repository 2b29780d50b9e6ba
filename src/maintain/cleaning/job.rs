//! The job: two passes over a partition.

use std::sync::Arc;

use super::error::CleaningError;
use super::input::{Batch, Input};
use super::offset_map::OffsetMap;
use super::output::Output;
use super::policy::{Due, due};
use super::rules::{Rules, note_keys};
use crate::env::Env;
use crate::manifest::Manifest;
use crate::segment::{BatchError, Retained};
use crate::settings::TopicSettings;
use crate::state::op::{Cleaned, Op, ReplaceSlices};
use crate::state::{Slice, State};
use crate::store::Store;
use crate::types::{ByteCount, Offset, SegmentId, Seq, TopicPartition};

/// What the job works with.
#[derive(Clone)]
pub struct CleaningParts {
    /// The bucket.
    pub store: Store,
    /// The log.
    pub manifest: Manifest,
    /// The clock, and ids of segments.
    pub env: Env,
    /// How it behaves.
    pub options: CleaningOptions,
}

/// How logs are compacted.
#[derive(Clone, Copy, Debug)]
pub struct CleaningOptions {
    /// The memory for the last offset of each key.
    pub dedupe_buffer: ByteCount,
    /// The length of a compacted slice, if there is enough for one.
    pub target: ByteCount,
}

impl Default for CleaningOptions {
    fn default() -> CleaningOptions {
        CleaningOptions {
            dedupe_buffer: ByteCount::mib(128),
            target: ByteCount::mib(256),
        }
    }
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
}

/// Cleans a partition, if that is due; returns what it did.
///
/// # Errors
///
/// [`CleaningError::Rejected`]: the partition or its settings changed meanwhile, and if the job is still due it is to be
/// begun again. [`CleaningError::Stopped`]: the last op may have taken effect.
pub async fn clean(
    parts: &CleaningParts,
    partition: TopicPartition,
) -> Result<Option<Cleaning>, CleaningError> {
    let state = parts.manifest.state();
    let Some(plan) = Plan::new(parts, &state, partition) else {
        return Ok(None);
    };
    let rules = plan.learn().await?;
    plan.rewrite(rules).await.map(Some)
}

/// One cleaning of one partition.
struct Plan<'a> {
    parts: &'a CleaningParts,
    partition: TopicPartition,
    settings: TopicSettings,
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
    fn new(parts: &'a CleaningParts, state: &State, id: TopicPartition) -> Option<Plan<'a>> {
        let topic = state.topic(id.topic)?;
        let partition = topic.partition(id.partition)?;
        let settings = TopicSettings::effective(topic.configs(), state.configs());
        let due = due(partition, &settings, parts.env.now())?;
        let slices = partition
            .slices_from(partition.log_start())
            .take_while(|(_, slice)| slice.end <= due.end)
            .map(|(base, slice)| (base, *slice))
            .collect();
        Some(Plan {
            parts,
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

    /// The first pass: the last offset of each key in the part that was not cleaned yet, as far as there is room.
    async fn learn(&self) -> Result<Rules, CleaningError> {
        let from = self.due.dirty;
        let memory = self.parts.options.dedupe_buffer;
        let mut map = OffsetMap::new(memory, self.due.end.since(from));
        let first = self.slices.partition_point(|(_, slice)| slice.end <= from);
        let dirty = self.slices.get(first..).unwrap_or_default();
        let mut input = Input::new(&self.parts.store, self.partition, dirty);
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
        let now = self.parts.env.now();
        Ok(Rules {
            map,
            to,
            log_start: self.log_start,
            now,
            horizon: now.after(self.settings.delete_retention),
        })
    }

    /// The second pass: the records that stay, from the first slice to the one in which the map ends.
    async fn rewrite(&self, rules: Rules) -> Result<Cleaning, CleaningError> {
        let to = rules.to;
        let rules = Arc::new(rules);
        let last = self.slices.partition_point(|(base, _)| *base < to);
        let slices = self.slices.get(..last).unwrap_or_default();
        let target = self.parts.options.target.min(self.settings.segment_bytes).0;
        let mut input = Input::new(&self.parts.store, self.partition, slices);
        let mut done = Cleaning {
            to,
            ..Cleaning::default()
        };
        let mut output: Option<Output> = None;
        for (base, slice) in slices {
            if let Some(full) = output.take_if(|output| output.bytes + slice.len > target) {
                self.commit(full, self.cleaned_to, &mut done).await?;
            }
            let output = match &mut output {
                Some(output) => output,
                none => {
                    let id = SegmentId(self.parts.env.time_uuid());
                    let begun = Output::begin(&self.parts.store, id, self.partition, *base);
                    none.insert(begun.await?)
                }
            };
            while let Some(batches) = input.next().await? {
                let rules = Arc::clone(&rules);
                let cleaned = self.blocking(move || clean_all(&rules, batches));
                output.push(cleaned.await?).await?;
            }
            output.end = slice.end;
            done.bytes_in += slice.len;
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
    ) -> Result<(), CleaningError> {
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
        let outcome = self.parts.manifest.commit_one(Op::ReplaceSlices(replace));
        outcome.await??;
        done.segments += 1;
        done.bytes_out += bytes;
        Ok(())
    }

    /// Opens batches on a thread where that holds nobody up.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, (Offset, BatchError)> + Send + 'static,
    ) -> Result<T, CleaningError> {
        let done = tokio::task::spawn_blocking(work).await;
        let done = done.map_err(|_| CleaningError::Panicked(self.partition))?;
        done.map_err(|(offset, source)| CleaningError::Corrupt {
            partition: self.partition,
            offset,
            object: None,
            source,
        })
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
