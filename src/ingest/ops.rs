//! From batches to ops, and from outcomes to those who wait.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::buffer::{AppendError, Entry, Space};
use crate::manifest::{Caller, Committed, Stopped, Submission};
use crate::rules::{Rule, holds};
use crate::state::op::{self, AppendEntry, AppendSource, Appended, Applied, Op};
use crate::types::TopicPartition;

/// The batches with those of one partition together, each partition's in their order.
pub(super) fn in_partition_order(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by_key(|entry| entry.batch.partition);
    entries
}

/// Appends of several partitions from one object, with those who wait for them. Dropped, it leaves them without an
/// answer: they see that there will be none.
pub(super) struct Ops {
    source: AppendSource,
    /// One for each partition, in the order in which they were pushed.
    appends: Vec<(op::Append, Vec<Waiter>)>,
}

struct Waiter {
    reply: oneshot::Sender<Result<Appended, AppendError>>,
    /// Held until the batch is answered.
    _space: Arc<Space>,
}

impl Ops {
    pub(super) fn new(source: AppendSource) -> Ops {
        Ops {
            source,
            appends: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.appends.is_empty()
    }

    /// The partitions that it appends to.
    pub(super) fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.appends.iter().map(|(append, _)| &append.partition)
    }

    /// Adds a batch that begins at `start` of the source. Batches of one partition must follow each other.
    pub(super) fn push(&mut self, entry: Entry, start: u64) {
        let Entry {
            batch,
            reply,
            space,
        } = entry;
        let append_entry = AppendEntry {
            start,
            // A batch's own length field has 32 bits.
            len: u32::try_from(batch.bytes.len()).unwrap_or(u32::MAX),
            records: batch.records,
            max_timestamp: batch.max_timestamp,
            producer: batch.producer,
        };
        let waiter = Waiter {
            reply,
            _space: space,
        };
        match self.appends.last_mut() {
            Some((append, waiters)) if append.partition == batch.partition => {
                append.entries.push(append_entry);
                waiters.push(waiter);
            }
            _ => {
                let append = op::Append {
                    partition: batch.partition,
                    source: self.source,
                    entries: vec![append_entry],
                };
                self.appends.push((append, vec![waiter]));
            }
        }
    }

    /// Takes out the appends to the partitions that are not `held`.
    pub(super) fn take_unless(&mut self, held: impl Fn(&TopicPartition) -> bool) -> Ops {
        let all = std::mem::take(&mut self.appends);
        let (kept, taken) = all
            .into_iter()
            .partition(|(append, _)| held(&append.partition));
        self.appends = kept;
        Ops {
            source: self.source,
            appends: taken,
        }
    }

    /// Tells all who wait that nothing was appended, or that nobody knows.
    pub(super) fn refuse(self, why: &AppendError) {
        for waiter in self.appends.into_iter().flat_map(|(_, waiters)| waiters) {
            // The client may be gone.
            let _ = waiter.reply.send(Err(why.clone()));
        }
    }

    pub(super) fn into_submission(self, data: Bytes) -> Submission {
        let (appends, waiters): (Vec<_>, Vec<_>) = self.appends.into_iter().unzip();
        Submission {
            ops: appends.into_iter().map(Op::Append).collect(),
            data,
            // A producer may have sent its batches and left (`acks=0`).
            caller: Caller::insists(),
            done: Box::new(move |result| tell(waiters, result)),
        }
    }
}

/// Tells every waiter the outcome of its own batch.
fn tell(waiters: Vec<Vec<Waiter>>, result: Result<Committed, Stopped>) {
    let mut outcomes = match result {
        Ok(committed) => Ok(committed.outcomes.into_iter()),
        Err(stopped) => Err(stopped),
    };
    for mut waiters in waiters {
        if !holds(Rule::WaitersGetTheirOwnOutcomes) {
            waiters.reverse();
        }
        let mut entries = match &mut outcomes {
            Ok(outcomes) => match outcomes.next() {
                Some(Ok(Applied::Appended(entries))) => Ok(entries.into_iter()),
                _ => Err(Stopped::Stopping),
            },
            Err(stopped) => Err(stopped.clone()),
        };
        for waiter in waiters {
            let outcome = match &mut entries {
                Ok(entries) => match entries.next() {
                    Some(outcome) => outcome.map_err(AppendError::Rejected),
                    None => Err(AppendError::Stopped(Stopped::Stopping)),
                },
                Err(stopped) => Err(AppendError::Stopped(stopped.clone())),
            };
            // The client may be gone; its batch stands all the same.
            let _ = waiter.reply.send(outcome);
        }
    }
}
