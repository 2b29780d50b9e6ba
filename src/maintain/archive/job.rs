//! Which table is looked after next, and by which node.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::super::error::JobError;
use super::super::maintenance::Maintenance;
use super::super::metrics::Task;
use super::super::runner::Backoff;
use super::publish::Published;
use super::{keep, merge, pass, policy, tables};
use crate::manifest::Stopped;
use crate::state::table::Table;
use crate::state::{Feature, Job, State};
use crate::types::TableId;

/// How much of one table is done before the others get their turn.
const MAX_STEPS: usize = 64;

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
}

/// What is remembered of a table for which there is something to do.
#[derive(Default)]
struct Waiting {
    since: Option<Instant>,
    backoff: Backoff,
}

/// What is to be done next for a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Archive,
    Merge,
    Expire,
    Delete,
    Publish,
}

impl Archiving {
    /// Does what falls to this node. An error is the end of the manifest.
    pub(in crate::maintain) async fn tend(&mut self, m: &Maintenance) -> Result<(), Stopped> {
        let state = m.state();
        if !state.has(Feature::Tables) {
            return Ok(());
        }
        self.published.retain(&state);
        self.keep_in_step(m, &state).await?;
        let state = m.state();
        let due: Vec<TableId> = state
            .tables()
            .filter(|table| self.next(m, &state, table).is_some())
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

    /// What is to be done next for a table.
    fn next(&self, m: &Maintenance, state: &State, table: &Table) -> Option<Step> {
        let topic = table.topic().and_then(|topic| state.topic(topic));
        if let Some(topic) = topic.filter(|_| table.is_enabled()) {
            let lag = policy::backlog(state, topic);
            let settings = policy::settings(state, table);
            if settings.enable && policy::is_archiving_due(&lag, &settings, m.time()) {
                return Some(Step::Archive);
            }
        }
        let is_dropped = table.is_dropped();
        if !is_dropped && policy::merge(table, &m.options().archive, m.time()).is_some() {
            return Some(Step::Merge);
        }
        if keep::expiry(m, state, table).is_some() {
            return Some(Step::Expire);
        }
        if self.published.lacks(table) {
            return Some(Step::Publish);
        }
        keep::deletable(m, table).next().map(|_| Step::Delete)
    }

    /// Does what there is to do for a table, under its claim. Returns whether there was anything.
    async fn look_after(&mut self, m: &Maintenance, id: TableId) -> Result<bool, JobError> {
        let state = m.state();
        let is_due = |state: &State| {
            let table = state.table(id);
            table.is_some_and(|table| self.next(m, state, table).is_some())
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

    async fn steps(&mut self, m: &Maintenance, id: TableId) -> Result<bool, JobError> {
        let mut did = false;
        for _ in 0..MAX_STEPS {
            let state: Arc<State> = m.state();
            let Some(table) = state.table(id) else {
                break;
            };
            let Some(step) = self.next(m, &state, table) else {
                break;
            };
            match step {
                Step::Archive => {
                    pass::archive(m, &state, table).await?;
                }
                Step::Merge => {
                    let run = policy::merge(table, &m.options().archive, m.time());
                    merge::merge(m, table, &run.unwrap_or_default()).await?;
                }
                Step::Expire => {
                    if let Some(op) = keep::expiry(m, &state, table) {
                        m.must_commit(vec![op]).await?;
                        tracing::info!(table = %table.name(), "expired files or snapshots of a table");
                    }
                }
                Step::Publish => self.published.publish(m, &state, table).await?,
                Step::Delete => {
                    keep::delete(m, table).await?;
                }
            }
            did = true;
        }
        Ok(did)
    }
}

/// By which a table falls to a node.
fn key(id: TableId) -> u64 {
    let (high, low) = id.0.as_u64_pair();
    high ^ low.rotate_left(32)
}
