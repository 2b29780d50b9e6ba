//! What no commit may do, by a clock that is right: move time far though another node disagrees, or destroy what is not
//! old enough. Judged when a commit comes to stand in the log.

use std::time::Duration;

use super::cluster::Settings;
use crate::dynamic_config::{GroupConfig, TopicConfig};
use crate::state::State;
use crate::state::group::GroupAction;
use crate::state::op::{Commit, Op};
use crate::types::{Offset, Timestamp, TopicPartition};

/// How far from the right time a clock may be that counts as right, and more than that.
const RIGHT: Duration = Duration::from_secs(6);

/// How far a wall clock may move time beyond the others', with something for what is rounded.
const LEAD: Duration = Duration::from_secs(11);

/// After how long what is destroyed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ages {
    producers: Duration,
    orphans: Duration,
}

impl Ages {
    pub(super) fn of(settings: &Settings) -> Option<Ages> {
        let options = settings.maintenance.as_ref()?;
        Some(Ages {
            producers: options.producer_expiration,
            orphans: options.sweep_age,
        })
    }
}

/// When a commit comes to stand in the log, by a clock that is right.
pub(super) struct Times {
    /// The latest that any commit before may be carried on to: each commit's time and what has passed since. That may
    /// be later than the last one's: it may have been stamped long before it came to stand, and its node has gone on
    /// since.
    pub(super) carried_on: Timestamp,
    pub(super) now: Timestamp,
}

impl Times {
    /// What is wrong with the commit that leads from one state to the other.
    pub(super) fn judge(
        &self,
        ages: Option<&Ages>,
        before: &State,
        after: &State,
        commit: &Commit,
    ) -> Vec<String> {
        let mut wrong: Vec<String> = self
            .moved_too_far(before, after, commit)
            .into_iter()
            .collect();
        let forwarded = commit.forwarded.iter().flat_map(|forwarded| &forwarded.ops);
        for op in commit.ops.iter().chain(forwarded) {
            wrong.extend(self.destroyed_too_early(ages, before, after, op));
        }
        wrong
    }

    fn moved_too_far(&self, before: &State, after: &State, commit: &Commit) -> Option<String> {
        let limit = self.carried_on.max(self.now.after(RIGHT)).after(LEAD);
        // Of several commits in one object, one may vouch for the next.
        if after.time() <= limit || !commit.forwarded.is_empty() {
            return None;
        }
        let others = before
            .nodes()
            .filter(|(_, node)| node.incarnation() != commit.id.incarnation);
        let vouched = others.filter_map(|(_, node)| node.wall()).max()?;
        (vouched <= self.now.after(RIGHT)).then(|| {
            format!(
                "{} moves time to {}, and it is {}; another node vouches for {vouched}",
                commit.id,
                after.time(),
                self.now
            )
        })
    }

    fn destroyed_too_early(
        &self,
        ages: Option<&Ages>,
        before: &State,
        after: &State,
        op: &Op,
    ) -> Option<String> {
        match op {
            Op::ExpireRecords {
                partition,
                before: end,
                ..
            } => self.expired_too_early(before, after, (*partition, *end)),
            Op::ExpireProducers { before: limit } => {
                let young = limit.after(ages?.producers) > self.now.after(RIGHT);
                young.then(|| {
                    format!(
                        "producers are forgotten up to {limit}, and it is {}",
                        self.now
                    )
                })
            }
            Op::RaiseSweepBoundary { before: limit } => {
                let young = limit.after(ages?.orphans) > self.now.after(RIGHT);
                young.then(|| format!("orphans are swept up to {limit}, and it is {}", self.now))
            }
            Op::Group {
                group,
                action: GroupAction::ExpireOffsets { before: limit },
            } => {
                let kept = GroupConfig::effective(before.configs()).offsets_retention;
                let young = limit.after(kept) > self.now.after(RIGHT);
                young.then(|| {
                    format!(
                        "offsets of {group:?} are forgotten up to {limit}, and it is {}",
                        self.now
                    )
                })
            }
            _ => None,
        }
    }

    fn expired_too_early(
        &self,
        before: &State,
        after: &State,
        (this, end): (TopicPartition, Offset),
    ) -> Option<String> {
        let topic = before.topic(this.topic)?;
        let settings = TopicConfig::effective(topic.configs(), before.configs());
        let keep = settings
            .retention
            .filter(|_| settings.retention_bytes.is_none())?;
        let partition = before.partition(this)?;
        // What was refused has destroyed nothing.
        let end = after.partition(this)?.log_start().min(end);
        let gone = partition
            .slices_from(partition.log_start())
            .filter(|(_, slice)| slice.end <= end);
        let newest = gone.map(|(_, slice)| slice.max_timestamp).max()?;
        (newest.after(keep) > self.now.after(RIGHT)).then(|| {
            format!(
                "records of {newest} expire that stay for {keep:?}, and it is {}",
                self.now
            )
        })
    }
}
