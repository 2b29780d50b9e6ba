//! Produce: validate, admit, hand to the write path, answer when durable and folded.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::access::{Action, Denied, Permit};
use super::record_rules::{self, Named, RefusedRecord};
use super::{
    Broker, Compression, Home, PartitionNotFound, Session, TopicNotFound, TopicRef, Unavailable,
};
use crate::ingest::{Append, AppendError, Batch};
use crate::manifest::Stopped;
use crate::segment::{
    BatchError, Codec, Limits, ProduceRules, TimestampType, recompress, set_log_append_time,
    set_max_timestamp, validate,
};
use crate::state::State;
use crate::state::op::{AppendRejected, ProducerBatch};
use crate::types::{Offset, PartitionIndex, Timestamp, TopicName};

/// The records for one partition.
#[derive(Clone, Debug)]
pub struct ProducePartition {
    /// The topic. A name that does not exist is an error: clients ask for the topic's metadata first,
    /// which may create it.
    pub topic: TopicRef,
    /// The partition.
    pub partition: PartitionIndex,
    /// One record batch (Kafka's v2 format).
    pub records: Bytes,
    /// How much memory is kept at most as long as the records are: that of the whole request they came in.
    pub memory: usize,
}

impl ProducePartition {
    /// Records in memory of their own.
    pub fn new(topic: TopicRef, partition: PartitionIndex, records: Bytes) -> ProducePartition {
        ProducePartition {
            topic,
            partition,
            memory: records.len(),
            records,
        }
    }
}

/// Where the records stand, durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    /// The offset of the first record.
    pub base_offset: Offset,
    /// The time given to the records, where the topic's `message.timestamp.type` is `LogAppendTime`.
    pub log_append_time: Option<Timestamp>,
    /// The partition's log start offset.
    pub log_start: Offset,
}

/// Why records were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    /// No such topic.
    #[error(transparent)]
    TopicNotFound(#[from] TopicNotFound),
    /// No such partition.
    #[error(transparent)]
    PartitionNotFound(#[from] PartitionNotFound),
    /// The topic is one of Kafka's own, which clients cannot write.
    #[error("{0} is an internal topic; clients cannot write to it")]
    InternalTopic(TopicRef),
    /// The batch is none, or not one that the topic takes: too large, damaged, of another format, in an unknown codec,
    /// or against a rule (several batches, a control batch, counts that differ ...). [`BatchError::fault`] says which.
    #[error("topic {topic}: {source}")]
    Batch {
        /// The topic.
        topic: TopicName,
        /// What is wrong.
        source: BatchError,
    },
    /// The topic rejects records of the batch, and so the batch.
    #[error("topic {topic} rejects records of the batch: {}", Named(refused))]
    Records {
        /// The topic.
        topic: String,
        /// Which, and why; the first of them, if they are very many.
        refused: Vec<RefusedRecord>,
    },
    /// The producer was fenced by a newer epoch.
    #[error(transparent)]
    FencedProducer(AppendRejected),
    /// A sequence is missing.
    #[error(transparent)]
    OutOfOrderSequence(AppendRejected),
    /// The fold refuses the batch for good: there are no offsets left, or it can lie nowhere.
    #[error(transparent)]
    Rejected(AppendRejected),
    /// The client may not do that.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Try again. The records may or may not have been stored.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// How much a produced batch may decompress to: many times what a broker accepts, far less than a bomb.
const MAX_UNCOMPRESSED: usize = 256 << 20;

impl Broker {
    /// Appends each partition's batch and answers in the same order, once all are durable and folded or
    /// refused, or `timeout` is over.
    pub async fn produce(
        &self,
        session: &Session,
        partitions: Vec<ProducePartition>,
        timeout: Duration,
    ) -> Vec<Result<Produced, ProduceError>> {
        self.begin_produce(session, partitions, timeout)
            .await
            .answered()
            .await
    }

    /// Validates the batches and brings those that are sound into the bounded ingest buffer; waits for space
    /// there, for at most `timeout`. What is returned resolves to the outcome of each.
    ///
    /// Batches are appended in the order in which they were admitted. So a front end that has several
    /// requests of one client under way awaits the admission of one before it begins the next, and reads nothing
    /// from the client in the meantime: that is how a full buffer reaches the socket.
    pub async fn begin_produce(
        &self,
        session: &Session,
        partitions: Vec<ProducePartition>,
        timeout: Duration,
    ) -> Producing {
        let count = partitions.len();
        let deadline = Instant::now() + timeout;
        let admitted =
            match tokio::time::timeout_at(deadline, self.admit(session, partitions)).await {
                Ok(Ok(admitted)) => admitted,
                Ok(Err(unavailable)) => refuse_all(unavailable, count),
                Err(_) => refuse_all(Unavailable::TimedOut, count),
            };
        Producing { admitted, deadline }
    }

    /// Validates the batches and brings those that are sound into the ingest buffer.
    async fn admit(
        &self,
        session: &Session,
        partitions: Vec<ProducePartition>,
    ) -> Result<Vec<Result<Admitted, ProduceError>>, Unavailable> {
        let names = partitions.iter().map(|p| (&p.topic, p.partition));
        let state = self.state_with(names).await?;
        let now = self.inner.logs.of(Home::Partitions).time();
        let mut results = Vec::with_capacity(partitions.len());
        let mut batches = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let permit = self.authorize_topic(session, Action::Write, &partition.topic, &state);
            let checked = permit.and_then(|permit| self.check(permit, &state, now, partition));
            let stored = match checked {
                Ok(checked) => self.compressed(checked).await,
                Err(error) => Err(error),
            };
            results.push(stored.map(|checked| {
                batches.push(checked.batch);
                checked.log_append_time
            }));
        }
        let appends = self.inner.ingest.append(batches).await;
        let mut appends = appends.map_err(unavailable)?.into_iter();
        let admitted = results.into_iter().map(|result| {
            let log_append_time = result?;
            let append = appends
                .next()
                .ok_or(Unavailable::Stopped(Stopped::Stopping))?;
            Ok(Admitted {
                append,
                log_append_time,
            })
        });
        Ok(admitted.collect())
    }

    /// Checks one partition's batch, and makes it what is to be stored. By the cluster's time: a wall clock that was
    /// set back would refuse records of now, for good, and stamp others with times of long ago.
    fn check(
        &self,
        permit: Permit,
        state: &State,
        now: Timestamp,
        wanted: ProducePartition,
    ) -> Result<Checked, ProduceError> {
        let ProducePartition {
            topic: name,
            partition: index,
            records,
            memory,
        } = wanted;
        let is_internal = match &name {
            TopicRef::Name(name) => TopicName::is_internal_name(name),
            TopicRef::Id(_) => name.find(state).is_some_and(|t| t.name().is_internal()),
        };
        if is_internal {
            return Err(ProduceError::InternalTopic(name));
        }
        let (topic, id, _) = name.partition::<ProduceError>(permit, state, index)?;
        let settings = self.topic_configs(state, topic);
        let rules = ProduceRules {
            max_batch_bytes: settings.max_message_bytes.as_usize(),
            limits: Limits {
                max_uncompressed: MAX_UNCOMPRESSED,
            },
            allow_transactional: false,
        };
        let valid = validate(&records, rules).map_err(|error| refusal(topic.name(), error))?;
        let refused = record_rules::refused(&records, &valid, &settings, now, rules.limits)
            .map_err(|error| refusal(topic.name(), error))?;
        if !refused.is_empty() {
            let topic = topic.name().to_string();
            return Err(ProduceError::Records { topic, refused });
        }
        let (records, max_timestamp, log_append_time) = if settings.log_append_time {
            (
                restamped(&records, |batch| set_log_append_time(batch, now)),
                now,
                Some(now),
            )
        } else {
            let max = valid.facts.max_timestamp;
            let created = valid.header.attributes.timestamp_type() == TimestampType::Create;
            let records = if created && max == valid.header.max_timestamp {
                records
            } else {
                restamped(&records, |batch| set_max_timestamp(batch, max))
            };
            (records, max, None)
        };
        let header = valid.header;
        let batch = Batch {
            partition: id,
            bytes: records,
            memory,
            // The validation has seen that there are as many as the header says, and at least one.
            records: header.record_count.unsigned_abs(),
            max_timestamp,
            producer: header.has_producer().then_some(ProducerBatch {
                id: header.producer_id,
                epoch: header.producer_epoch,
                base_sequence: header.base_sequence,
                // The write path knows.
                continues: false,
            }),
        };
        let compression = codec_of(settings.compression)
            // Kafka leaves a batch that is in the right codec as it is, whatever its level.
            .filter(|(codec, _)| header.attributes.codec() != Ok(*codec));
        Ok(Checked {
            batch,
            log_append_time,
            topic: topic.name().clone(),
            compression,
            max_batch_bytes: rules.max_batch_bytes,
        })
    }

    /// Puts the records of a batch in the codec of its topic, on a thread where that holds nobody up.
    async fn compressed(&self, mut checked: Checked) -> Result<Checked, ProduceError> {
        let Some((codec, level)) = checked.compression else {
            return Ok(checked);
        };
        let (bytes, most) = (checked.batch.bytes.clone(), checked.max_batch_bytes);
        let work = move || recompress(&bytes, codec, level, most);
        let done = self.inner.env.compute(work).await;
        // It fails only when the node stops.
        let done = done.map_err(|_| Unavailable::Stopped(Stopped::Stopping))?;
        let bytes = done.map_err(|error| refusal(&checked.topic, error))?;
        (checked.batch.memory, checked.batch.bytes) = (bytes.len(), bytes);
        Ok(checked)
    }
}

/// A batch that is to be stored.
struct Checked {
    batch: Batch,
    log_append_time: Option<Timestamp>,
    topic: TopicName,
    /// The codec and its level that it is to be put in first.
    compression: Option<(Codec, Option<i32>)>,
    max_batch_bytes: usize,
}

/// The codec and its level that `compression.type` asks for, if it is not the producer's choice.
fn codec_of(compression: Compression) -> Option<(Codec, Option<i32>)> {
    Some(match compression {
        Compression::Producer => return None,
        Compression::None => (Codec::None, None),
        Compression::Gzip(level) => (Codec::Gzip, level.and_then(|n| i32::try_from(n).ok())),
        Compression::Snappy => (Codec::Snappy, None),
        Compression::Lz4(level) => (Codec::Lz4, Some(level)),
        Compression::Zstd(level) => (Codec::Zstd, Some(level)),
    })
}

/// Batches on their way into the log, or refused. See [`Broker::begin_produce`].
pub struct Producing {
    admitted: Vec<Result<Admitted, ProduceError>>,
    deadline: Instant,
}

impl Producing {
    /// Waits until every batch is durable and folded, or refused, or the time is over. Dropping the future
    /// abandons the answers only.
    pub async fn answered(self) -> Vec<Result<Produced, ProduceError>> {
        let mut results = Vec::with_capacity(self.admitted.len());
        for batch in self.admitted {
            results.push(match batch {
                Ok(batch) => batch.answered(self.deadline).await,
                Err(error) => Err(error),
            });
        }
        results
    }
}

/// A batch on its way into the log.
#[derive(Debug)]
struct Admitted {
    append: Append,
    log_append_time: Option<Timestamp>,
}

impl Admitted {
    /// Waits for its outcome.
    async fn answered(self, deadline: Instant) -> Result<Produced, ProduceError> {
        match tokio::time::timeout_at(deadline, self.append).await {
            Err(_) => Err(Unavailable::TimedOut.into()),
            Ok(Err(_)) => Err(Unavailable::Stopped(Stopped::Stopping).into()),
            Ok(Ok(Err(error))) => Err(append_error(error)),
            Ok(Ok(Ok(appended))) => Ok(Produced {
                base_offset: appended.base_offset,
                log_append_time: self.log_append_time,
                log_start: appended.log_start,
            }),
        }
    }
}

fn refuse_all(why: Unavailable, count: usize) -> Vec<Result<Admitted, ProduceError>> {
    (0..count).map(|_| Err(why.clone().into())).collect()
}

/// A copy of a batch with another time in its header.
fn restamped(
    records: &Bytes,
    stamp: impl FnOnce(&mut BytesMut) -> Result<(), BatchError>,
) -> Bytes {
    let mut copy = BytesMut::from(&records[..]);
    stamp(&mut copy).expect("the batch was validated, so it has a whole header");
    copy.freeze()
}

fn refusal(topic: &TopicName, error: BatchError) -> ProduceError {
    ProduceError::Batch {
        topic: topic.clone(),
        source: error,
    }
}

fn append_error(error: AppendError) -> ProduceError {
    match error {
        AppendError::Rejected(rejected) => match rejected {
            AppendRejected::UnknownTopic(id) => TopicNotFound(TopicRef::Id(id)).into(),
            AppendRejected::UnknownPartition(id) => PartitionNotFound {
                topic: TopicRef::Id(id.topic),
                partition: id.partition,
            }
            .into(),
            AppendRejected::FencedProducer { .. } => ProduceError::FencedProducer(rejected),
            AppendRejected::OutOfOrderSequence { .. } => ProduceError::OutOfOrderSequence(rejected),
            AppendRejected::StaleSegment(_) | AppendRejected::NotBegun { .. } => {
                Unavailable::Retry(rejected).into()
            }
            AppendRejected::OffsetsExhausted(_) | AppendRejected::Impossible(_) => {
                ProduceError::Rejected(rejected)
            }
        },
        error => unavailable(error).into(),
    }
}

fn unavailable(error: AppendError) -> Unavailable {
    match error {
        AppendError::Stopped(stopped) => stopped.into(),
        AppendError::Upload(error) => Unavailable::Store(error.into()),
        AppendError::Build(_) => Unavailable::Internal("a segment could not be made"),
        AppendError::Rejected(rejected) => Unavailable::Retry(rejected),
    }
}
