//! Fetch: read from offsets, wait for more when there is too little.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::access::{Action, Denied, Permit};
use super::error::{Origin, unread};
use super::{
    Broker, Home, PartitionNotFound, Session, TopicNotFound, TopicRef, Unavailable, offsets_topic,
};
use crate::fetch::{ReadError, ReadLimits, Wanted};
use crate::manifest::{Proof, Stopped};
use crate::rules::{Rule, holds};
use crate::segment::BuildError;
use crate::state::{OFFSETS_TOPIC_ID, Partition, State};
use crate::types::{Offset, PartitionIndex, TopicId, TopicPartition};

/// Where to read.
#[derive(Clone, Debug)]
pub struct FetchPartition {
    /// The topic.
    pub topic: TopicRef,
    /// The partition.
    pub partition: PartitionIndex,
    /// The first offset wanted. In the middle of a batch, that batch is returned.
    pub offset: Offset,
    /// The most bytes to return for this partition; the first batch of the whole answer is returned even if
    /// it is larger (KIP-74).
    pub max_bytes: usize,
    /// The leader epoch the client believes in, if it says so (KIP-320).
    pub current_leader_epoch: Option<i32>,
}

/// How much and how long.
#[derive(Clone, Copy, Debug)]
pub struct FetchLimits {
    /// Answer as soon as this many bytes are there.
    pub min_bytes: usize,
    /// The most bytes of the whole answer.
    pub max_bytes: usize,
    /// Answer after this time with whatever is there.
    pub max_wait: Duration,
    /// Only records of decided transactions (`isolation_level` 1).
    pub read_committed: bool,
}

/// What was read of one partition.
#[derive(Clone, Debug)]
pub struct FetchedPartition {
    /// The topic, whatever name it was asked for by.
    pub topic: TopicId,
    /// Whole record batches with their real offsets, as consecutive pieces; empty if there is nothing.
    pub records: Vec<Bytes>,
    /// The offset after the last record.
    pub high_watermark: Offset,
    /// The last stable offset (KIP-98).
    pub last_stable: Offset,
    /// The first offset there is.
    pub log_start: Offset,
}

impl FetchedPartition {
    /// The record batches in one piece, for who goes through them: a large batch comes in several.
    pub fn joined(&self) -> Bytes {
        match self.records.as_slice() {
            [] => Bytes::new(),
            [whole] => whole.clone(),
            pieces => pieces.concat().into(),
        }
    }
}

/// Why a partition could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// No such topic.
    #[error(transparent)]
    TopicNotFound(#[from] TopicNotFound),
    /// No such partition.
    #[error(transparent)]
    PartitionNotFound(#[from] PartitionNotFound),
    /// The offset is not in the log.
    #[error("offset {offset} is not between {log_start} and {high_watermark}")]
    OffsetOutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// The first offset there is.
        log_start: Offset,
        /// The offset after the last record.
        high_watermark: Offset,
    },
    /// The client knows a newer leader epoch than there is.
    #[error("leader epoch {0} is unknown; it is always 0")]
    UnknownLeaderEpoch(i32),
    /// The stored bytes fail their checksum. Never handed out.
    #[error(transparent)]
    Corrupt(Origin<ReadError>),
    /// The records of a topic that shows the state cannot be put in a batch.
    #[error("{0}; this is a bug in Weir, please report it")]
    Unshown(#[source] Origin<BuildError>),
    /// The client may not do that.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Try again.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Memory for what a fetch reads. The caller grants it, and so bounds what all its fetches together hold.
pub trait ReadBudget: Send {
    /// Waits until `bytes` may be read, or fewer, and says how many. What was reserved before is given back: the
    /// bytes that were read into it are gone.
    fn reserve(&mut self, bytes: usize) -> impl Future<Output = usize> + Send;
    /// Says that only `bytes` were found and are held.
    fn keep(&mut self, bytes: usize);
}

/// As much memory as is wanted, for callers that fetch one at a time.
pub struct Unbounded;

impl ReadBudget for Unbounded {
    async fn reserve(&mut self, bytes: usize) -> usize {
        bytes
    }
    fn keep(&mut self, _: usize) {}
}

/// What came of waiting for more.
enum Waited {
    /// What was read is what there is, as far as this node knows, and it is enough or the time is over.
    Over,
    /// There may be something else.
    More,
    /// Nobody can tell.
    Failed(Unavailable),
}

/// Which partition it is, and from where to where its log goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogBounds {
    pub(super) topic: TopicId,
    pub(super) log_start: Offset,
    high_watermark: Offset,
}

impl From<&FetchedPartition> for LogBounds {
    fn from(read: &FetchedPartition) -> LogBounds {
        LogBounds {
            topic: read.topic,
            log_start: read.log_start,
            high_watermark: read.high_watermark,
        }
    }
}

impl FetchPartition {
    /// The partition as it is in `state`, if there is such.
    pub(super) fn find(&self, state: &State) -> Option<LogBounds> {
        if let Some(high_watermark) = offsets_topic::end(state, &self.topic, self.partition) {
            return Some(LogBounds {
                topic: OFFSETS_TOPIC_ID,
                log_start: Offset::ZERO,
                high_watermark,
            });
        }
        let topic = self.topic.find(state)?;
        let partition = topic.partition(self.partition)?;
        Some(LogBounds {
            topic: topic.id(),
            log_start: partition.log_start(),
            high_watermark: partition.high_watermark(),
        })
    }
}

/// How often a read is repeated with a newer state when an object is gone.
const MISSING_RETRIES: usize = 3;

impl Broker {
    /// Reads the partitions, in order, within the limits; answers when `min_bytes` are there, a
    /// partition has an error, or `max_wait` is over. A record acknowledged anywhere before the call is seen,
    /// by this call or, where there are earlier records to return first, by a later one; one that was deleted is not
    /// seen for longer than `confirm.rs` says.
    pub async fn fetch(
        &self,
        session: &Session,
        partitions: &[FetchPartition],
        limits: FetchLimits,
    ) -> Vec<Result<FetchedPartition, FetchError>> {
        self.fetch_within(session, partitions, limits, &mut Unbounded)
            .await
    }

    /// The same, with memory of `budget` reserved before anything is read. While it waits for more it holds only what
    /// it has found.
    pub async fn fetch_within(
        &self,
        session: &Session,
        partitions: &[FetchPartition],
        limits: FetchLimits,
        budget: &mut impl ReadBudget,
    ) -> Vec<Result<FetchedPartition, FetchError>> {
        let deadline = Instant::now() + limits.max_wait;
        let needed = self.needed_for(session, partitions);
        let mut states = self.inner.logs.of(Home::Partitions).subscribe();
        let mut proof = self.inner.logs.of(Home::Partitions).proof();
        let mut state = states.see();
        let mut is_fresh = !holds(Rule::EmptyFetchesProbe);
        let mut following = None;
        loop {
            let granted = budget.reserve(limits.max_bytes).await;
            let limits = FetchLimits {
                max_bytes: limits.max_bytes.min(granted),
                min_bytes: limits.min_bytes.min(granted),
                ..limits
            };
            let answer = self
                .read_all(session, &state, proof, partitions, limits)
                .await;
            let bytes: usize = answer.iter().flatten().map(FetchedPartition::len).sum();
            budget.keep(bytes);
            let failed = answer.iter().any(Result::is_err);
            // An answer without records, or with an error, must be so in an up-to-date state.
            let certain = bytes > 0 && !failed
                || is_fresh
                || failed && !holds(Rule::MissingObjectsAreLookedUpAgain);
            if partitions.is_empty() {
                return answer;
            }
            let enough = failed || bytes >= limits.min_bytes;
            let waited = if certain && enough {
                Waited::Over
            } else {
                following.get_or_insert_with(|| self.inner.logs.of(Home::Partitions).follow());
                // What is missing may have been written through another node. Who need not wait is answered as soon
                // as that is ruled out; who waits for more needs to know when the time is over.
                let due = if enough { Instant::now() } else { deadline };
                let mut fresh = pin!(self.fresh_by(Home::Partitions, due));
                loop {
                    // In this order, and not in one drawn by lot: a simulation repeats itself.
                    tokio::select! {
                        biased;
                        changed = states.changed() => {
                            if changed.is_err() {
                                break Waited::Failed(Stopped::Stopping.into());
                            }
                            if self.has_more(&states.see(), partitions, &answer) {
                                break Waited::More;
                            }
                        }
                        proven = &mut fresh, if !is_fresh => {
                            let state = match proven {
                                Ok(state) => state,
                                Err(error) => break Waited::Failed(error),
                            };
                            is_fresh = true;
                            if self.has_more(&state, partitions, &answer) {
                                break Waited::More;
                            }
                            if enough {
                                break Waited::Over;
                            }
                        }
                        () = tokio::time::sleep_until(deadline), if is_fresh => break Waited::Over,
                    }
                }
            };
            let confirmed = match waited {
                Waited::Over if bytes == 0 => Ok(true),
                Waited::Over => {
                    let read = (partitions, &answer[..], proof);
                    self.confirm(read, needed, deadline).await
                }
                Waited::More => Ok(false),
                Waited::Failed(error) => Err(error),
            };
            match confirmed {
                Ok(true) => {
                    session.readings.note(partitions, &answer);
                    return answer;
                }
                Ok(false) => {
                    proof = self.inner.logs.of(Home::Partitions).proof();
                    state = states.see();
                }
                // What was found, what was not, and what is out of range, may be so in an old state only.
                Err(error) => {
                    let is_known = self.suffices(proof, needed);
                    let known = |read: &FetchedPartition| is_known && !read.is_empty();
                    let told = |read: Result<FetchedPartition, FetchError>| {
                        read.ok().filter(known).ok_or_else(|| error.clone().into())
                    };
                    return answer.into_iter().map(told).collect();
                }
            }
        }
    }

    /// Whether reading again can give something else.
    fn has_more(
        &self,
        state: &State,
        partitions: &[FetchPartition],
        answer: &[Result<FetchedPartition, FetchError>],
    ) -> bool {
        partitions
            .iter()
            .zip(answer)
            .any(|(wanted, answer)| match (wanted.find(state), answer) {
                (Some(now), Ok(answer)) => now != LogBounds::from(answer),
                (now, answer) => now.is_some() || answer.is_ok(),
            })
    }

    async fn read_all(
        &self,
        session: &Session,
        state: &Arc<State>,
        proof: Proof,
        partitions: &[FetchPartition],
        limits: FetchLimits,
    ) -> Vec<Result<FetchedPartition, FetchError>> {
        self.read_ahead(session, state, partitions, limits);
        let mut answer = Vec::with_capacity(partitions.len());
        let mut left = limits.max_bytes;
        let mut empty = true;
        for wanted in partitions {
            let limits = ReadLimits {
                max_bytes: wanted.max_bytes.min(left),
                at_least_one: empty,
            };
            let read = self.read_one(session, state.clone(), proof, wanted, limits);
            let read = match tokio::time::timeout(self.inner.settings.request_timeout, read).await {
                Ok(read) => read,
                Err(_) => Err(Unavailable::TimedOut.into()),
            };
            if let Ok(read) = &read {
                left = left.saturating_sub(read.len());
                empty &= read.is_empty();
            }
            answer.push(read);
        }
        answer
    }

    /// Asks for what the partitions will be read for, which is read one partition after the other; and then for
    /// what the next fetches will want.
    fn read_ahead(
        &self,
        session: &Session,
        state: &State,
        partitions: &[FetchPartition],
        limits: FetchLimits,
    ) {
        let mut left = limits.max_bytes;
        let mut ahead = Vec::with_capacity(partitions.len());
        for wanted in partitions {
            let bytes = wanted.max_bytes.min(left);
            left -= bytes;
            let permit = self.may_read(session, wanted, state);
            if let Ok((id, partition)) = permit.and_then(|permit| find(permit, state, wanted)) {
                ahead.push(Wanted {
                    id,
                    partition,
                    offset: wanted.offset,
                    bytes,
                });
            }
        }
        for further in [false, true] {
            self.inner.reader.read_ahead(state, &ahead, further);
        }
    }

    /// Whether the client may read the partition, by what `state` says of it.
    fn may_read(
        &self,
        session: &Session,
        wanted: &FetchPartition,
        state: &State,
    ) -> Result<Permit, FetchError> {
        self.authorize_topic(session, Action::Read, &wanted.topic, state)
    }

    async fn read_one(
        &self,
        session: &Session,
        mut state: Arc<State>,
        mut proof: Proof,
        wanted: &FetchPartition,
        limits: ReadLimits,
    ) -> Result<FetchedPartition, FetchError> {
        let mut attempts = 0;
        loop {
            let permit = self.may_read(session, wanted, &state)?;
            if let Some(shown) = offsets_topic::read(permit, &state, wanted, limits) {
                return shown;
            }
            let (id, partition) = find(permit, &state, wanted)?;
            let read = self
                .inner
                .reader
                .read(&state, id, partition, wanted.offset, limits);
            let read = read.await;
            // By an old state, whatever was read may have been deleted, and its name taken by something else.
            let outdated = !proof.holds(&self.inner.env) && holds(Rule::OutdatedReadsAreDiscarded);
            let last = attempts == MISSING_RETRIES;
            match read {
                Ok(records) if !outdated => {
                    return Ok(FetchedPartition {
                        topic: id.topic,
                        records,
                        high_watermark: partition.high_watermark(),
                        last_stable: partition.high_watermark(),
                        log_start: partition.log_start(),
                    });
                }
                Err(error)
                    if !outdated
                        && (last
                            || !error.is_missing_object()
                            || !holds(Rule::MissingObjectsAreLookedUpAgain)) =>
                {
                    return Err(unread(error, FetchError::Corrupt));
                }
                _ if last => return Err(Unavailable::TimedOut.into()),
                _ => {
                    attempts += 1;
                    proof = Proof::begun_now(&self.inner.env);
                    state = self.fresh(Home::Partitions).await?;
                }
            }
        }
    }
}

/// The partition, if the offset is in it.
fn find<'a>(
    permit: Permit,
    state: &'a State,
    wanted: &FetchPartition,
) -> Result<(TopicPartition, &'a Partition), FetchError> {
    let (_, id, partition) =
        wanted
            .topic
            .partition::<FetchError>(permit, state, wanted.partition)?;
    if let Some(epoch) = wanted.current_leader_epoch.filter(|epoch| *epoch > 0) {
        return Err(FetchError::UnknownLeaderEpoch(epoch));
    }
    let (log_start, high_watermark) = (partition.log_start(), partition.high_watermark());
    if wanted.offset < log_start || wanted.offset > high_watermark {
        return Err(FetchError::OffsetOutOfRange {
            offset: wanted.offset,
            log_start,
            high_watermark,
        });
    }
    Ok((id, partition))
}

impl FetchedPartition {
    /// The bytes of its records.
    pub fn len(&self) -> usize {
        self.records.iter().map(Bytes::len).sum()
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
