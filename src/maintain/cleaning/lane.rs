//! Which partition is cleaned next, and by which node.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::super::error::JobError;
use super::super::maintenance::Maintenance;
use super::super::metrics::Task;
use super::super::retention::archive_limit;
use super::super::runner::Backoff;
use super::job::clean;
use super::policy::{Due, dirty_bytes, due};
use crate::dynamic_config::TopicConfig;
use crate::state::{Job, State, Topic};
use crate::types::{Timestamp, TopicPartition};

/// What is remembered of a partition that is due.
struct Waiting {
    since: Instant,
    backoff: Backoff,
}

impl Maintenance {
    /// Compacts logs, one after the other, until the manifest ends.
    pub(in crate::maintain) async fn clean_logs(&self) {
        let mut waiting = BTreeMap::new();
        loop {
            tokio::time::sleep(self.inner.env.jittered(self.options().interval)).await;
            let due = due_partitions(&self.state(), self.passed());
            waiting.retain(|partition, _| due.iter().any(|(id, _)| id == partition));
            for (partition, _) in due {
                let waiting = waiting.entry(partition).or_insert_with(|| Waiting {
                    since: Instant::now(),
                    backoff: Backoff::default(),
                });
                let preferred = self.is_preferred(partition.key(), &self.state());
                if waiting.since.elapsed() < self.takeover_delay(preferred)
                    || waiting.backoff.holds()
                {
                    continue;
                }
                let done = self.clean_claimed(partition, preferred).await;
                let concluded = self.conclude(Task::Cleaning, &mut waiting.backoff, done);
                if concluded.is_err() {
                    return;
                }
            }
        }
    }

    /// Cleans a partition under its claim. Returns whether there was anything to do.
    async fn clean_claimed(
        &self,
        partition: TopicPartition,
        preferred: bool,
    ) -> Result<bool, JobError> {
        if !preferred {
            // Most likely the node to whom it falls has done it.
            self.inner.manifest.fresh().await?;
        }
        let state = self.state();
        let still_due = due_partition(&state, partition, self.passed()).is_some();
        let Some(_reserved) = self.reserve(partition).filter(|_| still_due) else {
            return Ok(false);
        };
        let job = Job::Compaction(partition);
        if self.claim(job).await?.is_none() {
            return Ok(false);
        }
        let cleaned = self.holding(&[job], clean(self, partition)).await;
        self.release(&[job]).await;
        Ok(cleaned?.is_some())
    }
}

/// The bytes of compacted topics that were not cleaned yet.
pub(in crate::maintain) fn dirty(state: &State) -> u64 {
    let compacted = state.topics().filter(|topic| {
        let settings = TopicConfig::effective(topic.configs(), state.configs());
        settings.cleanup.compact
    });
    let partitions = compacted.flat_map(Topic::partitions);
    partitions
        .map(|(_, partition)| dirty_bytes(partition))
        .sum()
}

/// All that is due, the most urgent first: what is overdue, then what is dirtiest.
fn due_partitions(state: &State, now: Timestamp) -> Vec<(TopicPartition, Due)> {
    let mut found = Vec::new();
    for topic in state.topics() {
        let settings = TopicConfig::effective(topic.configs(), state.configs());
        let partitions = topic.partitions();
        found.extend(partitions.filter_map(|(id, partition)| {
            let due = due(partition, &settings, now)?;
            let due = due.up_to(partition, archive_limit(state, id))?;
            Some((id, due))
        }));
    }
    found.sort_by(|(_, a), (_, b)| {
        let urgency = b.overdue.cmp(&a.overdue);
        urgency.then(b.ratio.total_cmp(&a.ratio))
    });
    found
}

fn due_partition(state: &State, id: TopicPartition, now: Timestamp) -> Option<Due> {
    let topic = state.topic(id.topic)?;
    let settings = TopicConfig::effective(topic.configs(), state.configs());
    let partition = topic.partition(id.partition)?;
    due(partition, &settings, now)?.up_to(partition, archive_limit(state, id))
}
