//! Offsets of partitions: find them by time, and raise the log start.

use super::access::{Action, Denied, Permit};
use super::error::{Origin, unread};
use super::{
    Broker, Home, PartitionNotFound, Session, TopicNotFound, TopicRef, Unavailable, offsets_topic,
};
use crate::fetch::ReadError;
use crate::manifest::Proof;
use crate::state::State;
use crate::state::op::{Applied, Op, Rejected};
use crate::types::{Offset, PartitionIndex, Timestamp};

/// Which offset is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first there is. (Also Kafka's earliest-local, KIP-405: all data is in the one store.)
    Earliest,
    /// The one after the last record; with `read_committed` the last stable offset.
    Latest,
    /// The record with the largest timestamp (KIP-734), the first of several.
    MaxTimestamp,
    /// The first record, in offset order, whose timestamp is not before this.
    At(Timestamp),
}

/// An offset that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    /// The offset; `None` if no record answers (`At` later than all, `MaxTimestamp` of an empty log).
    pub offset: Option<Offset>,
    /// The record's timestamp, for `At` and `MaxTimestamp`.
    pub timestamp: Option<Timestamp>,
}

/// Why no offset could be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListOffsetsError {
    /// No such topic.
    #[error(transparent)]
    TopicNotFound(#[from] TopicNotFound),
    /// No such partition.
    #[error(transparent)]
    PartitionNotFound(#[from] PartitionNotFound),
    /// The client knows a newer leader epoch than there is.
    #[error("leader epoch {0} is unknown; it is always 0")]
    UnknownLeaderEpoch(i32),
    /// The stored bytes fail their checksum.
    #[error(transparent)]
    Corrupt(Origin<ReadError>),
    /// The client may not do that.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Try again.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why records could not be deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteRecordsError {
    /// No such topic.
    #[error(transparent)]
    TopicNotFound(#[from] TopicNotFound),
    /// No such partition.
    #[error(transparent)]
    PartitionNotFound(#[from] PartitionNotFound),
    /// The topic is one of Kafka's own, whose records clients cannot delete.
    #[error("{0} is an internal topic; clients cannot delete its records")]
    InternalTopic(TopicRef),
    /// The offset is beyond the high watermark, or negative.
    #[error("offset {offset} is not between {log_start} and {high_watermark}")]
    OffsetOutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// The first offset there is.
        log_start: Offset,
        /// The offset after the last record.
        high_watermark: Offset,
    },
    /// The client may not do that.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Try again.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Broker {
    /// Finds offsets; up to date. Exact also by time: the batch is opened.
    pub async fn list_offsets(
        &self,
        session: &Session,
        partitions: &[(TopicRef, PartitionIndex, Option<i32>, OffsetSpec)],
        read_committed: bool,
    ) -> Vec<Result<FoundOffset, ListOffsetsError>> {
        // Without transactions the last stable offset is the high watermark.
        let _ = read_committed;
        let proof = Proof::begun_now(&self.inner.env);
        let state = match self.fresh(Home::Partitions).await {
            Ok(state) => state,
            Err(error) => return vec![Err(error.into()); partitions.len()],
        };
        let mut answer = Vec::with_capacity(partitions.len());
        for (topic, index, epoch, spec) in partitions {
            let permit = self.authorize_topic(session, Action::Describe, topic, &state);
            let permit = match permit {
                Ok(permit) => permit,
                Err(error) => {
                    answer.push(Err(error));
                    continue;
                }
            };
            let found = self.find_offset(permit, &state, topic, *index, *epoch, *spec);
            let found = tokio::time::timeout(self.inner.settings.request_timeout, found).await;
            // What was read by a state that has grown old may not be what the state meant.
            let found = found.ok().filter(|_| proof.holds(&self.inner.env));
            answer.push(found.unwrap_or(Err(Unavailable::TimedOut.into())));
        }
        answer
    }

    async fn find_offset(
        &self,
        permit: Permit,
        state: &State,
        topic: &TopicRef,
        index: PartitionIndex,
        epoch: Option<i32>,
        spec: OffsetSpec,
    ) -> Result<FoundOffset, ListOffsetsError> {
        if let Some(shown) = offsets_topic::find_offset(permit, state, topic, index, epoch, spec) {
            return shown;
        }
        let (_, id, partition) = topic.partition::<ListOffsetsError>(permit, state, index)?;
        if let Some(epoch) = epoch.filter(|epoch| *epoch > 0) {
            return Err(ListOffsetsError::UnknownLeaderEpoch(epoch));
        }
        let plain = |offset| FoundOffset {
            offset: Some(offset),
            timestamp: None,
        };
        let found = match spec {
            OffsetSpec::Earliest => return Ok(plain(partition.log_start())),
            OffsetSpec::Latest => return Ok(plain(partition.high_watermark())),
            OffsetSpec::At(time) => {
                let reader = &self.inner.reader;
                reader.find_by_time(state, id, partition, time).await
            }
            OffsetSpec::MaxTimestamp => self.inner.reader.find_newest(state, id, partition).await,
        };
        match found {
            Ok(found) => Ok(FoundOffset {
                offset: found.map(|(offset, _)| offset),
                timestamp: found.map(|(_, timestamp)| timestamp),
            }),
            Err(error) => Err(unread(error, ListOffsetsError::Corrupt)),
        }
    }

    /// The end offset of a leader epoch (KIP-101). There is one epoch, 0, for ever: answers with the high
    /// watermark, and with `None` for any other epoch.
    pub async fn end_of_epoch(
        &self,
        session: &Session,
        topic: &TopicRef,
        partition: PartitionIndex,
        epoch: i32,
    ) -> Result<Option<Offset>, ListOffsetsError> {
        let state = self.fresh(Home::Partitions).await?;
        let permit =
            self.authorize_topic::<ListOffsetsError>(session, Action::Describe, topic, &state)?;
        if let Some(end) = offsets_topic::end(&state, topic, partition) {
            return Ok((epoch == 0).then_some(end));
        }
        let (_, _, partition) = topic.partition::<ListOffsetsError>(permit, &state, partition)?;
        Ok((epoch == 0).then(|| partition.high_watermark()))
    }

    /// Raises log start offsets: `None` means to the high watermark. Answers the log start afterwards.
    pub async fn delete_records(
        &self,
        session: &Session,
        partitions: &[(TopicRef, PartitionIndex, Option<Offset>)],
    ) -> Vec<Result<Offset, DeleteRecordsError>> {
        self.try_delete_records(session, partitions)
            .await
            .unwrap_or_else(|error| vec![Err(error.into()); partitions.len()])
    }

    /// Up to the high watermark means up to where it is now: what is written later stays, however late this takes
    /// effect. An offset is an offset.
    async fn try_delete_records(
        &self,
        session: &Session,
        partitions: &[(TopicRef, PartitionIndex, Option<Offset>)],
    ) -> Result<Vec<Result<Offset, DeleteRecordsError>>, Unavailable> {
        let arrival = session.arrival.unwrap_or_else(|| self.arrival());
        self.inner.groups.check_not_resumed()?;
        let needs_end = partitions.iter().any(|(_, _, before)| before.is_none());
        let state = match needs_end {
            true => self.fresh(Home::Partitions).await?,
            false => {
                let named = partitions.iter().map(|(topic, index, _)| (topic, *index));
                self.state_with(named).await?
            }
        };
        let mut asking = self.asks_in(session, Home::Partitions, arrival, state);
        if needs_end && !asking.surely_waits() {
            // What was written meanwhile is not what the client wanted gone.
            return Err(Unavailable::TimedOut);
        }
        let (found, outcomes) = loop {
            let mut ops = Vec::new();
            let mut found = Vec::new();
            for (topic, index, before) in partitions {
                let state = asking.state();
                let permit = self.authorize_topic(session, Action::Delete, topic, state);
                let permit = match permit {
                    Ok(permit) => permit,
                    Err(error) => {
                        found.push(Err(error));
                        continue;
                    }
                };
                let internal = topic.find(state).filter(|found| found.name().is_internal());
                let is_shown = || offsets_topic::end(state, topic, *index).is_some();
                let partition = topic.partition::<DeleteRecordsError>(permit, state, *index);
                found.push(match (internal, partition) {
                    (Some(_), _) => Err(DeleteRecordsError::InternalTopic(topic.clone())),
                    (None, Err(_)) if is_shown() => {
                        Err(DeleteRecordsError::InternalTopic(topic.clone()))
                    }
                    (None, Err(error)) => Err(error),
                    (None, Ok((_, partition, known))) => {
                        ops.push(Op::DeleteRecords {
                            partition,
                            before: before.or(Some(known.high_watermark())),
                        });
                        Ok(())
                    }
                });
            }
            if ops.is_empty() {
                break (found, Vec::new());
            }
            if let Some(committed) = asking.commit(ops).await? {
                break (found, committed.outcomes);
            }
        };
        let mut outcomes = outcomes.into_iter();
        let answer = partitions
            .iter()
            .zip(found)
            .map(|((topic, index, _), found)| {
                found?;
                match outcomes.next() {
                    Some(Ok(Applied::RecordsDeleted(log_start))) => Ok(log_start),
                    Some(Err(Rejected::OffsetOutOfRange {
                        offset,
                        log_start,
                        high_watermark,
                        ..
                    })) => Err(DeleteRecordsError::OffsetOutOfRange {
                        offset,
                        log_start,
                        high_watermark,
                    }),
                    // It was deleted meanwhile.
                    _ => Err(PartitionNotFound {
                        topic: topic.clone(),
                        partition: *index,
                    }
                    .into()),
                }
            });
        Ok(answer.collect())
    }
}
