//! The job: from what is worth compacting to the op that does it.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use tokio::time::Instant;

use super::super::error::JobError;
use super::super::maintenance::{Maintenance, Reserved};
use super::super::metrics::{Backlog, Task};
use super::super::runner::Backoff;
use super::policy::{self, Plan, Terms};
use super::read::{Input, read};
use super::write::Writer;
use crate::dynamic_config::TopicConfig;
use crate::manifest::Stopped;
use crate::rules::{Rule, holds};
use crate::state::op::{CompactedSlice, Op, Rejected, ReplaceSlices};
use crate::state::{Job, State, Topic};
use crate::store::ObjectPath;
use crate::types::{SegmentId, TopicPartition};

/// The most partitions of one job.
const MAX_PARTITIONS: usize = 1000;

/// So many neighbours in a topic fall to the same node: what they need lies side by side.
const NEIGHBOURS: i32 = 128;

/// How long a partition with records that cannot be read is left alone.
const SHUNNED: Duration = Duration::from_secs(3600);

/// After so many slices others get their turn.
const YIELD: usize = 10_000;

/// What is worth rewriting of a partition, and by which terms.
#[derive(Clone, Debug)]
struct Candidate {
    plan: Plan,
    terms: Terms,
}

/// Compacts what is worth it most, whichever node it falls to. Returns whether there was anything.
///
/// # Errors
///
/// Those of the store; [`JobError::Unreadable`]; [`JobError::Stopped`]: the op may have taken effect.
pub async fn run(m: &Maintenance) -> Result<bool, JobError> {
    let (candidates, _) = survey(m, &m.state()).await;
    compact(m, candidates).await
}

/// What is worth rewriting, in the order of partitions, and all that is not compacted.
async fn survey(m: &Maintenance, state: &State) -> (Vec<Candidate>, Backlog) {
    let crowded = is_crowded(m, state);
    let now = m.time();
    let (mut candidates, mut backlog, mut looked_at) = (Vec::new(), Backlog::default(), 0);
    for topic in state.topics() {
        let terms = terms(m, state, topic, crowded);
        for (id, partition) in topic.partitions() {
            looked_at += partition.slice_count();
            if looked_at >= YIELD {
                looked_at = 0;
                tokio::task::yield_now().await;
            }
            let found = policy::backlog(partition);
            backlog.slices += found.slices;
            backlog.bytes += found.bytes;
            backlog.oldest = backlog.oldest.into_iter().chain(found.oldest).min();
            let plan = policy::plan(id, partition, &terms, now);
            let terms = terms.clone();
            candidates.extend(plan.map(|plan| Candidate { plan, terms }));
        }
    }
    candidates.sort_by_key(|candidate| candidate.plan.partition);
    (candidates, backlog)
}

fn is_crowded(m: &Maintenance, state: &State) -> bool {
    state.slice_count() > m.options().compaction.state_slices
}

fn terms(m: &Maintenance, state: &State, topic: &Topic, crowded: bool) -> Terms {
    let settings = TopicConfig::effective(topic.configs(), state.configs());
    Terms::new(&m.options().compaction, &settings, crowded)
}

/// What is worth rewriting of one partition.
fn look_again(m: &Maintenance, state: &State, id: TopicPartition) -> Option<Plan> {
    let topic = state.topic(id.topic)?;
    let terms = terms(m, state, topic, is_crowded(m, state));
    policy::plan(id, topic.partition(id.partition)?, &terms, m.time())
}

/// The candidate that makes the state smallest, with neighbours that fit in memory with it.
fn chosen(m: &Maintenance, candidates: &[Candidate]) -> Vec<TopicPartition> {
    let memory = m.options().compaction.memory.0;
    let weight =
        |(_, candidate): &(usize, &Candidate)| (candidate.plan.inputs(), candidate.plan.bytes());
    let Some((at, best)) = candidates.iter().enumerate().max_by_key(weight) else {
        return Vec::new();
    };
    let mut chosen = vec![best.plan.partition];
    let mut bytes = best.plan.bytes();
    let after = candidates.iter().skip(at + 1);
    let before = candidates.iter().take(at).rev();
    for candidate in after.chain(before) {
        let more = candidate.plan.bytes();
        // What goes at another time should not lie in the same object.
        if candidate.terms == best.terms
            && bytes.saturating_add(more) <= memory
            && chosen.len() < MAX_PARTITIONS
        {
            bytes += more;
            chosen.push(candidate.plan.partition);
        }
    }
    chosen
}

async fn compact(m: &Maintenance, candidates: Vec<Candidate>) -> Result<bool, JobError> {
    // A claim keeps other nodes away, but not the compaction of logs of this one.
    let reserved: Vec<(TopicPartition, Reserved)> = chosen(m, &candidates)
        .into_iter()
        .filter_map(|id| Some((id, m.reserve(id)?)))
        .collect();
    let jobs: Vec<Job> = reserved
        .iter()
        .map(|(id, _)| Job::Compaction(*id))
        .collect();
    let (state, granted) = m.claim_all(&jobs).await?;
    if granted.is_empty() {
        return Ok(false);
    }
    let memory = m.options().compaction.memory.0;
    let (mut plans, mut bytes) = (Vec::new(), 0);
    for plan in granted.iter().filter_map(|job| match job {
        Job::Compaction(id) => look_again(m, &state, *id),
        _ => None,
    }) {
        let more = plan.bytes();
        if plans.is_empty() || bytes + more <= memory {
            bytes += more;
            plans.push(plan);
        }
    }
    plans.sort_by_key(|plan| plan.partition);
    if plans.is_empty() {
        m.release(&granted).await;
        return Ok(false);
    }
    let done = m.holding(&granted, rewrite(m, &plans, &granted)).await;
    match done {
        Ok(did) => Ok(did),
        Err(JobError::Stopped(stopped)) => Err(stopped.into()),
        Err(error) => {
            m.release(&granted).await;
            Err(error)
        }
    }
}

/// Carries out plans: together in one segment if they fit in memory, else each output in its own.
async fn rewrite(m: &Maintenance, plans: &[Plan], granted: &[Job]) -> Result<bool, JobError> {
    let began = Instant::now();
    let mut stored = Vec::new();
    let outputs = match write(m, plans, &mut stored).await {
        Ok(outputs) => outputs,
        Err(error) => {
            // No op speaks of them yet.
            discard(m, stored).await;
            return Err(explained(m, plans, error).await);
        }
    };
    let mut ops: Vec<Op> = plans
        .iter()
        .zip(outputs)
        .map(|(plan, outputs)| {
            Op::ReplaceSlices(ReplaceSlices {
                partition: plan.partition,
                layout: plan.layout,
                base: plan.base(),
                end: plan.end(),
                outputs,
                cleaned: None,
            })
        })
        .collect();
    ops.extend(m.releasing(granted));
    let committed = match m.commit(ops).await {
        Err(error) if !holds(Rule::UnsettledOutputsAreKept) => {
            discard(m, stored).await;
            return Err(error);
        }
        committed => committed?,
    };
    let (mut slices, mut into, mut bytes, mut partitions) = (0, 0, 0, 0);
    for (plan, outcome) in plans.iter().zip(&committed.outcomes) {
        match outcome {
            Ok(_) => {
                partitions += 1;
                slices += plan.inputs();
                into += plan.outputs.len();
                bytes += plan.bytes();
            }
            Err(error @ Rejected::InvalidReplacement { .. }) => {
                tracing::error!(%error, "the fold refused a compaction; this is a bug in Weir, please report it");
            }
            Err(error) => tracing::debug!(%error, "a compaction came too late"),
        }
    }
    if partitions == 0 {
        discard(m, stored).await;
        return Err(JobError::InputsChanged);
    }
    let only = (plans.len() == 1)
        .then(|| named(&committed.state, plans))
        .flatten();
    tracing::info!(
        partition = only,
        partitions,
        slices,
        into,
        bytes,
        segments = stored.len(),
        millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        "compacted"
    );
    Ok(true)
}

fn named(state: &State, plans: &[Plan]) -> Option<String> {
    let id = plans.first()?.partition;
    Some(format!(
        "{}/{}",
        state.topic(id.topic)?.name(),
        id.partition
    ))
}

/// Reads the inputs and stores the segments, which are noted in `stored` as they are begun. Returns the slices of each
/// plan.
async fn write(
    m: &Maintenance,
    plans: &[Plan],
    stored: &mut Vec<SegmentId>,
) -> Result<Vec<Vec<CompactedSlice>>, JobError> {
    let bytes: u64 = plans.iter().map(Plan::bytes).sum();
    let together = bytes <= m.options().compaction.memory.0;
    let inputs = plans.iter().flat_map(|plan| {
        let inputs = plan.outputs.iter().flat_map(|output| &output.inputs);
        inputs.map(|(base, slice)| Input {
            partition: plan.partition,
            base: *base,
            slice: *slice,
        })
    });
    let mut read = pin!(read(m, Task::Compaction, inputs.collect(), together));
    let mut all = Vec::with_capacity(plans.len());
    let mut writer: Option<Writer<'_>> = None;
    for plan in plans {
        let mut slices = Vec::with_capacity(plan.outputs.len());
        for output in &plan.outputs {
            let mut open = writer.take().unwrap_or_else(|| {
                let writer = Writer::new(m);
                stored.push(writer.id());
                writer
            });
            open.begin(plan.partition, output.base())?;
            for _ in &output.inputs {
                let Some((input, bytes)) = read.try_next().await? else {
                    // There are as many as were asked for.
                    return Err(JobError::InputsChanged);
                };
                for (offset, batch) in input.batches(&bytes)? {
                    let pushed = open.push(offset, &batch).await;
                    if pushed.is_err() && !holds(Rule::DamageIsReported) {
                        continue;
                    }
                    pushed.map_err(|error| input.blame(error))?;
                }
            }
            slices.push(open.end(output.end())?);
            if together {
                writer = Some(open);
            } else {
                open.finish().await?;
            }
        }
        all.push(slices);
    }
    if let Some(last) = writer {
        last.finish().await?;
    }
    Ok(all)
}

/// Deletes segments that nothing refers to nor ever will. If that fails, the sweep finds them.
async fn discard(m: &Maintenance, segments: Vec<SegmentId>) {
    let paths = segments.into_iter().map(ObjectPath::segment).collect();
    if let Err(error) = m.delete("orphan", paths).await {
        tracing::debug!(%error, "orphans were not deleted; the sweep will find them");
    }
}

/// An input that is missing was replaced or has expired since; if it was not, it is lost.
async fn explained(m: &Maintenance, plans: &[Plan], error: JobError) -> JobError {
    let JobError::Missing {
        partition,
        offset,
        object,
    } = error
    else {
        return error;
    };
    let fresh = match m.inner.manifest.fresh().await {
        Ok(state) => state,
        Err(stopped) => return stopped.into(),
    };
    let now = fresh
        .partition(partition)
        .and_then(|found| found.slices_from(offset).next())
        .filter(|(base, slice)| *base == offset && slice.object == object);
    if (now.is_none() || plans.is_empty()) && holds(Rule::ReplacedInputsAreNoDamage) {
        return JobError::InputsChanged;
    }
    let reason = "the object is not in the store".to_owned();
    JobError::Unreadable {
        partition,
        offset,
        object,
        reason,
    }
}

/// What a node remembers between looks for something to compact.
#[derive(Default)]
pub(in crate::maintain) struct Compacting {
    /// Since when there is something to do.
    since: HashMap<TopicPartition, Instant>,
    /// Until when partitions with records that cannot be read are left alone.
    shunned: HashMap<TopicPartition, Instant>,
    backoff: Backoff,
}

impl Compacting {
    /// Compacts what falls to this node, until nothing does. An error is the end of the manifest.
    pub(in crate::maintain) async fn tend(&mut self, m: &Maintenance) -> Result<(), Stopped> {
        while !self.backoff.holds() {
            let state = m.state();
            let (candidates, backlog) = survey(m, &state).await;
            m.inner.metrics.set_backlog(backlog, m.time());
            let own = self.own(m, &state, candidates);
            if own.is_empty() {
                return Ok(());
            }
            let done = match compact(m, own).await {
                Err(error @ JobError::Unreadable { partition, .. }) => {
                    tracing::error!(%error, "stored records cannot be read; this partition is not compacted for an hour");
                    m.inner.metrics.unreadable();
                    m.inner.metrics.failed(Task::Compaction);
                    self.shunned.insert(partition, Instant::now() + SHUNNED);
                    continue;
                }
                done => done,
            };
            let came_to_nothing = !matches!(done, Ok(true));
            m.conclude(Task::Compaction, &mut self.backoff, done)?;
            if came_to_nothing {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Those that fall to this node, or to one that has not done them for a while; and that nobody has claimed.
    fn own(
        &mut self,
        m: &Maintenance,
        state: &Arc<State>,
        candidates: Vec<Candidate>,
    ) -> Vec<Candidate> {
        let now = Instant::now();
        self.shunned.retain(|_, until| now < *until);
        let mut since = HashMap::with_capacity(candidates.len());
        for Candidate { plan, .. } in &candidates {
            let known = self.since.get(&plan.partition).copied();
            since.insert(plan.partition, known.unwrap_or(now));
        }
        self.since = since;
        let falls_to_us = |candidate: &Candidate| {
            let id = candidate.plan.partition;
            let mut neighbours = id;
            neighbours.partition.0 /= NEIGHBOURS;
            let delay = m.takeover_delay(m.is_preferred(neighbours.key(), state));
            let waited = self
                .since
                .get(&id)
                .map_or(Duration::ZERO, |at| at.elapsed());
            waited >= delay
                && !self.shunned.contains_key(&id)
                && m.is_open(Job::Compaction(id), state)
        };
        candidates.into_iter().filter(falls_to_us).collect()
    }
}
