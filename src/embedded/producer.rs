//! Producing: records to batches to the broker, and again if nobody knows what became of them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::partitioner::{Sticky, partition_of_key};
use super::{Client, ClientError, Record, Sent};
use crate::broker::{
    ConfigResource, ProduceError, ProducePartition, Produced, TopicRef, TopicView, Unavailable,
};
use crate::segment::{BatchBuilder, Codec, RecordHeader};
use crate::types::{
    ByteCount, Offset, PartitionIndex, ProducerEpoch, ProducerId, Timestamp, TopicId,
};

/// How a producer behaves.
#[derive(Clone, Copy, Debug)]
pub struct ProducerOptions {
    /// How batches are compressed. Default: not at all.
    pub compression: Codec,
    /// Whether a record that is sent again after an unclear answer is stored once (KIP-98). Default: yes.
    /// Without it nothing is sent again.
    pub idempotent: bool,
    /// How many bytes of records a batch gathers before the next is begun, before compression. Default
    /// 512 KiB.
    pub batch_size: ByteCount,
    /// How long records are sent again while the store or the node cannot answer. Default 2 min.
    pub delivery_timeout: Duration,
}

impl Default for ProducerOptions {
    fn default() -> ProducerOptions {
        ProducerOptions {
            compression: Codec::None,
            idempotent: true,
            batch_size: ByteCount::kib(512),
            delivery_timeout: Duration::from_secs(120),
        }
    }
}

/// How many batches of one partition are sent in one call: as many as the state remembers of a producer,
/// so that a repeated one always gets its original offset.
const BATCHES: usize = 5;

/// How many bytes of records are sent in one call.
const CALL_BYTES: usize = 16 << 20;

/// How many topics a producer remembers, and for how long.
const TOPICS: usize = 1024;
const TOPIC_AGE: Duration = Duration::from_secs(60);

/// Sends records. One call at a time; what it answers is durable.
///
/// A future of it that is dropped leaves open whether its records were stored; records sent after that
/// are not affected.
pub struct Producer {
    client: Client,
    options: ProducerOptions,
    identity: Option<Sequences>,
    topics: HashMap<String, Known>,
    sticky: HashMap<TopicId, Sticky>,
}

/// A producer id, and the next sequence of each partition.
struct Sequences {
    id: ProducerId,
    epoch: ProducerEpoch,
    next: HashMap<(TopicId, PartitionIndex), i32>,
}

#[derive(Clone)]
struct Known {
    view: TopicView,
    /// The most bytes of a batch before compression.
    batch_size: usize,
    since: Instant,
}

/// A batch on its way.
struct Planned {
    partition: PartitionIndex,
    bytes: Bytes,
    /// Which records are in it, as they were given.
    records: Vec<usize>,
}

impl Producer {
    pub(super) fn new(client: Client, options: ProducerOptions) -> Producer {
        Producer {
            client,
            options,
            identity: None,
            topics: HashMap::new(),
            sticky: HashMap::new(),
        }
    }

    /// Sends one record and answers where it stands, durably. For many records
    /// [`Producer::send_all`] takes far fewer requests to the store.
    pub async fn send(&mut self, topic: &str, record: Record) -> Result<Sent, ClientError> {
        let sent = self.send_all(topic, vec![record]).await?;
        sent.first()
            .copied()
            .ok_or(ClientError::Unavailable(Unavailable::TimedOut))
    }

    /// Sends records, in batches, and answers where each stands, durably and in their order. Records of
    /// one partition are stored in their order.
    ///
    /// # Errors
    /// The first that was met. Records of other partitions, and earlier ones, may have been stored.
    pub async fn send_all(
        &mut self,
        topic: &str,
        records: Vec<Record>,
    ) -> Result<Vec<Sent>, ClientError> {
        let known = self.known(topic).await?;
        let mut sent = vec![None; records.len()];
        let mut waiting = self.partitioned(&known.view, records)?;
        while !waiting.is_empty() {
            // Taken, so that a dropped future or an error cannot leave sequences behind that are half true.
            let mut identity = match (self.options.idempotent, self.identity.take()) {
                (false, _) => None,
                (true, Some(identity)) => Some(identity),
                (true, None) => Some(self.new_identity().await?),
            };
            let planned = plan(&mut waiting, &known, self.options, &mut identity)?;
            let results = self.deliver(&known, &planned).await;
            for (batch, result) in planned.iter().zip(results) {
                let produced = result.map_err(|source| self.refused(topic, batch, source))?;
                for (at, index) in (0u64..).zip(&batch.records) {
                    if let Some(sent) = sent.get_mut(*index) {
                        *sent = Some(Sent {
                            partition: batch.partition,
                            offset: Offset(produced.base_offset.0).advance(at),
                        });
                    }
                }
            }
            self.identity = identity;
        }
        // Every record was in a batch, and every batch was stored.
        Ok(sent.into_iter().flatten().collect())
    }

    fn refused(&mut self, topic: &str, batch: &Planned, source: ProduceError) -> ClientError {
        // What this producer knows of the topic may be old.
        self.topics.remove(topic);
        ClientError::Produce {
            topic: topic.to_owned(),
            partition: batch.partition,
            source,
        }
    }

    async fn new_identity(&self) -> Result<Sequences, ClientError> {
        let (id, epoch) = self
            .client
            .broker()
            .new_producer(self.client.session())
            .await?;
        Ok(Sequences {
            id,
            epoch,
            next: HashMap::new(),
        })
    }

    async fn known(&mut self, topic: &str) -> Result<Known, ClientError> {
        if let Some(known) = self.topics.get(topic)
            && known.since.elapsed() < TOPIC_AGE
        {
            return Ok(known.clone());
        }
        let view = self.client.topic_or_create(topic).await?;
        let known = Known {
            batch_size: self.batch_size(topic).await?,
            view,
            since: Instant::now(),
        };
        if self.topics.len() >= TOPICS {
            self.topics.clear();
            self.sticky.clear();
        }
        self.topics.insert(topic.to_owned(), known.clone());
        Ok(known)
    }

    /// The most bytes of a batch of that topic before compression, which may make it a little longer.
    async fn batch_size(&self, topic: &str) -> Result<usize, ClientError> {
        let resource = ConfigResource::Topic(topic.to_owned());
        let names = ["max.message.bytes".to_owned()];
        let described = self
            .client
            .broker()
            .describe_configs(self.client.session(), &resource, Some(&names))
            .await?;
        let limit: usize = described
            .first()
            .and_then(|entry| entry.value.as_ref()?.parse().ok())
            .unwrap_or(usize::MAX);
        let spare = limit / 64 + 1024;
        Ok(self
            .options
            .batch_size
            .as_usize()
            .min(limit.saturating_sub(spare)))
    }

    /// The records by partition, each with its position among those given.
    fn partitioned(
        &mut self,
        topic: &TopicView,
        records: Vec<Record>,
    ) -> Result<BTreeMap<PartitionIndex, VecDeque<(usize, Record)>>, ClientError> {
        let sticky = self.sticky.entry(topic.id).or_default();
        let stick = self.options.batch_size.as_usize();
        let mut waiting: BTreeMap<_, VecDeque<_>> = BTreeMap::new();
        for (index, record) in records.into_iter().enumerate() {
            let partition = match (record.partition, &record.key) {
                (Some(partition), _) => partition,
                (None, Some(key)) => partition_of_key(key, topic.partitions),
                (None, None) => {
                    let size = record_size(&record);
                    sticky.choose(self.client.env(), topic.partitions, size, stick)
                }
            };
            if !(0..topic.partitions).contains(&partition.0) {
                return Err(ClientError::NoPartition {
                    topic: topic.name.to_string(),
                    partition,
                    last: topic.partitions - 1,
                });
            }
            let now = self.client.env().wall();
            let record = Record {
                timestamp: record.timestamp.or(Some(now)),
                ..record
            };
            waiting
                .entry(partition)
                .or_default()
                .push_back((index, record));
        }
        Ok(waiting)
    }

    /// Sends batches until each is stored or refused, or the time is over. With idempotence those of
    /// unclear outcome are sent again, with those of their partition that were refused for following them.
    async fn deliver(
        &self,
        topic: &Known,
        planned: &[Planned],
    ) -> Vec<Result<Produced, ProduceError>> {
        let end = Instant::now() + self.options.delivery_timeout;
        let mut results: Vec<Option<Result<Produced, ProduceError>>> = vec![None; planned.len()];
        let mut pause = Duration::from_millis(100);
        loop {
            let open: Vec<usize> = (0..planned.len())
                .filter(|i| results.get(*i).is_some_and(Option::is_none))
                .collect();
            if open.is_empty() {
                break;
            }
            let partitions = open
                .iter()
                .filter_map(|i| planned.get(*i))
                .map(|batch| {
                    ProducePartition::new(
                        TopicRef::Id(topic.view.id),
                        batch.partition,
                        batch.bytes.clone(),
                    )
                })
                .collect();
            let left = end.saturating_duration_since(Instant::now());
            let timeout = left.clamp(Duration::from_secs(1), Duration::from_secs(30));
            let session = self.client.session();
            let answers = self
                .client
                .broker()
                .produce(session, partitions, timeout)
                .await;
            let again = self.options.idempotent && Instant::now() < end;
            let mut unclear = Vec::new();
            for (i, answer) in open.into_iter().zip(answers) {
                let (Some(result), Some(batch)) = (results.get_mut(i), planned.get(i)) else {
                    continue;
                };
                let follows = unclear.contains(&batch.partition);
                let repeat = match &answer {
                    Err(ProduceError::Unavailable(why)) => !why.is_final(),
                    Err(ProduceError::OutOfOrderSequence(_)) => follows,
                    _ => false,
                };
                if repeat && again {
                    unclear.push(batch.partition);
                } else {
                    *result = Some(answer);
                }
            }
            if !unclear.is_empty() {
                tokio::time::sleep(self.client.env().jittered(pause)).await;
                pause = (pause * 2).min(Duration::from_secs(2));
            }
        }
        results.into_iter().flatten().collect()
    }
}

/// Takes the records of the next call out of `waiting` and makes them batches.
fn plan(
    waiting: &mut BTreeMap<PartitionIndex, VecDeque<(usize, Record)>>,
    topic: &Known,
    options: ProducerOptions,
    identity: &mut Option<Sequences>,
) -> Result<Vec<Planned>, ClientError> {
    let mut planned = Vec::new();
    let mut bytes = 0;
    for (partition, records) in waiting.iter_mut() {
        for _ in 0..BATCHES {
            if records.is_empty() || bytes >= CALL_BYTES {
                break;
            }
            let mut batch = BatchBuilder::new(options.compression);
            let key = (topic.view.id, *partition);
            if let Some(sequences) = identity.as_ref() {
                let base = sequences.next.get(&key).copied().unwrap_or(0);
                batch = batch.producer(sequences.id, sequences.epoch, base);
            }
            let mut indexes = Vec::new();
            while let Some((index, record)) = records.front() {
                let size = batch.uncompressed_len() + record_size(record);
                if !batch.is_empty() && size > topic.batch_size {
                    break;
                }
                push(&mut batch, record)?;
                indexes.push(*index);
                records.pop_front();
            }
            if let Some(sequences) = identity.as_mut() {
                let next = sequences.next.entry(key).or_insert(0);
                *next = next.wrapping_add(batch.record_count()) & i32::MAX;
            }
            bytes += batch.uncompressed_len();
            planned.push(Planned {
                partition: *partition,
                bytes: batch.finish()?,
                records: indexes,
            });
        }
    }
    waiting.retain(|_, records| !records.is_empty());
    Ok(planned)
}

fn push(batch: &mut BatchBuilder, record: &Record) -> Result<(), ClientError> {
    let headers: Vec<RecordHeader> = record
        .headers
        .iter()
        .map(|(name, value)| RecordHeader {
            key: Bytes::copy_from_slice(name.as_bytes()),
            value: value.clone(),
        })
        .collect();
    let timestamp = record.timestamp.unwrap_or(Timestamp::NONE);
    let (key, value) = (record.key.as_deref(), record.value.as_deref());
    Ok(batch.push(timestamp, key, value, &headers)?)
}

/// About how many bytes a record takes, uncompressed; never less than it does.
fn record_size(record: &Record) -> usize {
    let of = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers = record
        .headers
        .iter()
        .map(|(name, value)| name.len() + of(value) + 10);
    of(&record.key) + of(&record.value) + headers.sum::<usize>() + 40
}
