//! Which table is looked after next, and by which node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::error::JobError;
use super::super::maintenance::Maintenance;
use super::super::metrics::Task;
use super::super::runner::Backoff;
use super::publish::Published;
use super::{keep, merge, pass, policy, tables};
use crate::manifest::Stopped;
use crate::state::table::{LiveManifest, Table};
use crate::state::{Feature, Job, State};
use crate::types::{TableId, TopicPartition};

/// How much of one table is done before the others get their turn.
const MAX_STEPS: usize = 64;

/// So many passes may follow one another; then all else is done that is due, or a topic with much traffic would never
/// be published, merged or expired.
const MAX_PASSES: usize = 4;

/// For how long a partition whose records cannot be read, and files that cannot be merged, are left alone.
const LEFT_ALONE: Duration = Duration::from_secs(3600);

/// Does all there is to do for all tables, whichever node it falls to. Returns whether there was anything.
///
/// # Errors
///
/// Those of the store; [`JobError::Stopped`]: the last op may have taken effect.
pub async fn run(m: &Maintenance) -> Result<bool, JobError> {
    let mut archiving = Archiving::default();
    let mut did = tables::keep_in_step(m).await?;
    let ids: Vec<TableId> = m.state().tables().map(Table::id).collect();
    for id in ids {
        did |= archiving.look_after(m, id).await?;
    }
    Ok(did)
}

/// What a node remembers between looks at the tables.
#[derive(Default)]
pub(in crate::maintain) struct Archiving {
    published: Published,
    tables: BTreeMap<TableId, Waiting>,
    in_step: Waiting,
    /// Partitions with records that cannot be read, and since when that is known.
    unreadable: BTreeMap<TopicPartition, Instant>,
    /// Tables with files that cannot be merged.
    unmerged: BTreeMap<TableId, Instant>,
}

/// What is remembered of a table for which there is something to do.
#[derive(Default)]
struct Waiting {
    since: Option<Instant>,
    backoff: Backoff,
}

/// What is to be done next for a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Archive,
    Publish,
    Merge,
    Expire,
    Delete,
}

impl Archiving {
    /// Does what falls to this node. An error is the end of the manifest.
    pub(in crate::maintain) async fn tend(&mut self, m: &Maintenance) -> Result<(), Stopped> {
        let state = m.state();
        if !state.has(Feature::Tables) {
            return Ok(());
        }
        self.published.retain(&state);
        self.unreadable
            .retain(|_, since| since.elapsed() < LEFT_ALONE);
        self.unmerged
            .retain(|_, since| since.elapsed() < LEFT_ALONE);
        self.keep_in_step(m, &state).await?;
        let state = m.state();
        let due: Vec<TableId> = state
            .tables()
            .filter(|table| self.next(m, &state, table, &BTreeSet::new()).is_some())
            .map(Table::id)
            .collect();
        self.tables.retain(|id, _| due.contains(id));
        for id in due {
            let waiting = self.tables.entry(id).or_default();
            let since = *waiting.since.get_or_insert_with(Instant::now);
            let preferred = m.is_preferred(key(id), &m.state());
            if since.elapsed() < m.takeover_delay(preferred) || waiting.backoff.holds() {
                continue;
            }
            let done = self.look_after(m, id).await;
            let waiting = self.tables.entry(id).or_default();
            waiting.since = None;
            m.conclude(Task::Archive, &mut waiting.backoff, done)?;
        }
        m.note_archive(&m.state());
        Ok(())
    }

    async fn keep_in_step(&mut self, m: &Maintenance, state: &State) -> Result<(), Stopped> {
        let missing = state.topics().any(|topic| tables::is_missing(state, topic));
        let is_due = missing
            || state
                .tables()
                .any(|table| tables::altered(state, table).is_some());
        if !is_due {
            self.in_step.since = None;
            return Ok(());
        }
        let since = *self.in_step.since.get_or_insert_with(Instant::now);
        let preferred = m.is_preferred(Task::Archive as u64, state);
        if since.elapsed() < m.takeover_delay(preferred) || self.in_step.backoff.holds() {
            return Ok(());
        }
        let done = tables::keep_in_step(m).await;
        m.conclude(Task::Archive, &mut self.in_step.backoff, done)
    }

    /// What is to be done next for a table, but for what has failed.
    fn next(
        &self,
        m: &Maintenance,
        state: &State,
        table: &Table,
        failed: &BTreeSet<Step>,
    ) -> Option<Step> {
        let is_due = !failed.contains(&Step::Archive) && self.is_archiving_due(m, state, table);
        let archive = is_due.then_some(Step::Archive);
        archive.or_else(|| self.next_besides(m, state, table, failed))
    }

    /// What is to be done next beside archiving. What engines read comes first: what they have read must not go before
    /// they can read what took its place. While that cannot be published nothing expires, and nothing is deleted.
    fn next_besides(
        &self,
        m: &Maintenance,
        state: &State,
        table: &Table,
        failed: &BTreeSet<Step>,
    ) -> Option<Step> {
        let is_due = |step: &Step| match step {
            Step::Archive => false,
            Step::Publish => self.published.lacks(table),
            Step::Merge => self.mergeable(m, state, table).is_some(),
            Step::Expire => keep::expiry(m, state, table).is_some(),
            Step::Delete => keep::deletable(m, table).next().is_some(),
        };
        let steps = [Step::Publish, Step::Merge, Step::Expire, Step::Delete];
        let is_published = !failed.contains(&Step::Publish);
        let may_go = |step: &Step| is_published || !matches!(step, Step::Expire | Step::Delete);
        let steps = steps.into_iter().filter(may_go);
        let mut steps = steps.filter(|step| !failed.contains(step));
        steps.find(is_due)
    }

    /// The manifests of a table that are to become one.
    fn mergeable(
        &self,
        m: &Maintenance,
        state: &State,
        table: &Table,
    ) -> Option<Vec<LiveManifest>> {
        if table.is_dropped() || self.unmerged.contains_key(&table.id()) {
            return None;
        }
        let retention = policy::settings(state, table).retention;
        policy::merge(table, &m.options().archive, retention, m.time())
    }

    fn is_archiving_due(&self, m: &Maintenance, state: &State, table: &Table) -> bool {
        let topic = table.topic().and_then(|topic| state.topic(topic));
        let Some(topic) = topic.filter(|_| table.is_enabled()) else {
            return false;
        };
        let settings = policy::settings(state, table);
        let lag = policy::backlog_but(state, topic, |id| self.unreadable.contains_key(&id));
        settings.enable && policy::is_archiving_due(&lag, &settings, m.time())
    }

    /// Does what there is to do for a table, under its claim. Returns whether there was anything.
    async fn look_after(&mut self, m: &Maintenance, id: TableId) -> Result<bool, JobError> {
        let state = m.state();
        let is_due = |state: &State| {
            let table = state.table(id);
            table.is_some_and(|table| self.next(m, state, table, &BTreeSet::new()).is_some())
        };
        if !is_due(&state) {
            return Ok(false);
        }
        let job = Job::Archive(id);
        if m.claim(job).await?.is_none() {
            return Ok(false);
        }
        let done = m.holding(&[job], self.steps(m, id)).await;
        if !matches!(done, Err(JobError::Stopped(_))) {
            m.release(&[job]).await;
        }
        done
    }

    /// A step that fails does not keep the others from being done: a table of which a part cannot be read is published,
    /// and expires, as others are. The first error is returned at the end.
    async fn steps(&mut self, m: &Maintenance, id: TableId) -> Result<bool, JobError> {
        let (mut did, mut passes) = (false, 0);
        let (mut failed, mut first) = (BTreeSet::new(), None);
        for _ in 0..MAX_STEPS {
            let state: Arc<State> = m.state();
            let Some(table) = state.table(id) else {
                break;
            };
            if passes == MAX_PASSES && self.next_besides(m, &state, table, &failed).is_none() {
                passes = 0;
            }
            let step = match passes < MAX_PASSES {
                true => self.next(m, &state, table, &failed),
                false => self.next_besides(m, &state, table, &failed),
            };
            let Some(step) = step else {
                break;
            };
            if step == Step::Archive {
                passes += 1;
            }
            match self.step(m, &state, table, step).await {
                Ok(()) => did = true,
                Err(error @ (JobError::Stopped(_) | JobError::ClaimLost)) => return Err(error),
                Err(error) => {
                    failed.insert(step);
                    first.get_or_insert(error);
                }
            }
        }
        first.map_or(Ok(did), Err)
    }

    async fn step(
        &mut self,
        m: &Maintenance,
        state: &Arc<State>,
        table: &Table,
        step: Step,
    ) -> Result<(), JobError> {
        match step {
            Step::Archive => {
                let unreadable = &self.unreadable;
                let left_alone = |id| unreadable.contains_key(&id);
                let archived = pass::archive(m, state, table, left_alone).await;
                if let Err(JobError::Unreadable { partition, .. }) = &archived {
                    self.unreadable.insert(*partition, Instant::now());
                }
                archived
            }
            Step::Publish => self.published.publish(m, state, table).await,
            Step::Merge => {
                let run = self.mergeable(m, state, table).unwrap_or_default();
                let merged = merge::merge(m, table, &run).await;
                if let Err(JobError::Table { .. }) = &merged {
                    self.unmerged.insert(table.id(), Instant::now());
                }
                merged
            }
            Step::Expire => {
                if let Some(op) = keep::expiry(m, state, table) {
                    m.must_commit(vec![op]).await?;
                    tracing::info!(table = %table.name(), "expired files or snapshots of a table");
                }
                Ok(())
            }
            Step::Delete => keep::delete(m, table).await.map(drop),
        }
    }
}

/// By which a table falls to a node.
fn key(id: TableId) -> u64 {
    let (high, low) = id.0.as_u64_pair();
    high ^ low.rotate_left(32)
}
