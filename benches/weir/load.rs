//! The loads that a node is put under.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::Instant;
use weir::env::Env;

use crate::stats::Samples;
use crate::wire::{Batch, Connection, Producer, batch, stamp};

pub(crate) use crate::flood::Flood;

/// The bytes of a message.
pub(crate) const MESSAGE: usize = 1024;

/// Requests that an idempotent producer has under way at most.
pub(crate) const IN_FLIGHT: i32 = 5;

/// Messages in a batch of the paced load.
const SMALL_BATCH: usize = 64;

/// Bytes that nothing can compress.
pub(crate) fn noise(len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    let (seed, _) = Env::system().random_uuid().as_u64_pair();
    StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes.into()
}

/// One producer and one consumer of a topic with one partition.
pub(crate) struct Steady {
    topic: String,
    /// Where the consumer connects.
    consumer: SocketAddr,
    connection: Connection,
    producer: Producer,
    /// Messages sent so far: the next sequence.
    sent: u64,
    /// The offset of the next message.
    next: u64,
}

/// How long messages took.
#[derive(Default)]
pub(crate) struct Latencies {
    /// From handing a message to the client to its acknowledgement.
    pub(crate) ack: Samples,
    /// From there to the consumer.
    pub(crate) end_to_end: Samples,
}

impl Steady {
    /// Makes the topic. Producer and consumer may be at different nodes.
    pub(crate) async fn start(
        topic: &str,
        producer: SocketAddr,
        consumer: SocketAddr,
    ) -> Result<Steady> {
        let mut connection = Connection::open(producer).await?;
        connection.create_topic(topic, 1).await?;
        let producer = connection.producer().await?;
        Ok(Steady {
            topic: topic.to_owned(),
            consumer,
            connection,
            producer,
            sent: 0,
            next: 0,
        })
    }

    /// Others have produced to the partition, up to this offset.
    pub(crate) fn skip_to(&mut self, offset: u64) {
        self.next = offset;
    }

    /// The offset of the next message.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Hands the client a message at each beat. It sends what it has at once, unless as many requests are
    /// under way as an idempotent producer may have; then what comes meanwhile goes into the next.
    pub(crate) async fn run(&mut self, every: Duration, time: Duration) -> Result<Latencies> {
        let first = self.next;
        let handed: Arc<Mutex<Vec<Instant>>> = Arc::default();
        let count = (time.as_secs_f64() / every.as_secs_f64()) as u64;
        let topic = self.topic.clone();
        let consumer = consume(self.consumer, topic, first, count, handed.clone());
        let consumer = tokio::spawn(consumer);
        // The consumer is to be waiting when the first message comes.
        tokio::time::sleep(Duration::from_millis(50)).await;

        let mut latencies = Latencies::default();
        let mut beat = tokio::time::interval(every);
        let mut waiting: Vec<(Instant, Bytes)> = Vec::new();
        let mut under_way: VecDeque<Vec<Instant>> = VecDeque::new();
        let mut left = count;
        while left > 0 || !waiting.is_empty() || !under_way.is_empty() {
            if !waiting.is_empty() && self.connection.in_flight() < IN_FLIGHT {
                let (times, values): (Vec<_>, Vec<_>) = waiting.drain(..).unzip();
                let sequence = i32::try_from(self.sent)?;
                self.sent += times.len() as u64;
                self.next += times.len() as u64;
                let batch = stamp(batch(&values)?, self.producer, sequence);
                self.connection.produce(&self.topic, 0, batch).await?;
                under_way.push_back(times);
            }
            tokio::select! {
                _ = beat.tick(), if left > 0 => {
                    let now = Instant::now();
                    handed.lock().unwrap_or_else(PoisonError::into_inner).push(now);
                    waiting.push((now, noise(MESSAGE)));
                    left -= 1;
                }
                acknowledged = self.connection.acknowledged(), if !under_way.is_empty() => {
                    let (came, _) = acknowledged?;
                    for handed in under_way.pop_front().unwrap_or_default() {
                        latencies.ack.push(came.duration_since(handed));
                    }
                }
            }
        }
        latencies.end_to_end = consumer.await??;
        Ok(latencies)
    }
}

async fn consume(
    address: SocketAddr,
    topic: String,
    first: u64,
    count: u64,
    handed: Arc<Mutex<Vec<Instant>>>,
) -> Result<Samples> {
    let mut connection = Connection::open(address).await?;
    let mut times = Samples::default();
    let mut next = first;
    while next < first + count {
        let (came, fetched) = connection.fetch(&topic, &[i64::try_from(next)?]).await?;
        let upto = u64::try_from(fetched.first().context("no partition")?.next)?;
        let handed = handed.lock().unwrap_or_else(PoisonError::into_inner);
        for offset in next..upto {
            let at = usize::try_from(offset - first)?;
            let handed = handed.get(at).context("an offset before its message")?;
            times.push(came.duration_since(*handed));
        }
        next = upto;
    }
    Ok(times)
}

/// Producers that each send a message when the one before is acknowledged, all to a partition of their own.
pub(crate) async fn closed_loop(
    address: SocketAddr,
    producers: usize,
    time: Duration,
) -> Result<Samples> {
    let mut first = Connection::open(address).await?;
    let topic = format!("loop-{}", Env::system().random_uuid());
    first
        .create_topic(&topic, i32::try_from(producers)?)
        .await?;
    let mut workers = JoinSet::new();
    for partition in 0..i32::try_from(producers)? {
        let topic = topic.clone();
        workers.spawn(async move {
            let mut connection = Connection::open(address).await?;
            let producer = connection.producer().await?;
            let begun = Instant::now();
            let mut times = Samples::default();
            for sequence in 0.. {
                if begun.elapsed() >= time {
                    break;
                }
                let batch = stamp(batch(&[noise(MESSAGE)])?, producer, sequence);
                let sent = Instant::now();
                connection.produce(&topic, partition, batch).await?;
                let (came, _) = connection.acknowledged().await?;
                times.push(came.duration_since(sent));
            }
            Ok::<_, anyhow::Error>(times)
        });
    }
    let mut all = Samples::default();
    while let Some(worker) = workers.join_next().await {
        all.extend(worker??);
    }
    Ok(all)
}

/// A producer of batches at a beat, one after the other, to the partitions of a topic in turn.
pub(crate) struct Paced {
    topic: &'static str,
    partitions: i32,
    connection: Connection,
    producer: Producer,
    batch: Batch,
    /// The next sequence in each partition.
    sequences: Vec<i32>,
}

impl Paced {
    pub(crate) async fn start(
        topic: &'static str,
        address: SocketAddr,
        partitions: i32,
    ) -> Result<Paced> {
        let mut connection = Connection::open(address).await?;
        connection.create_topic(topic, partitions).await?;
        let producer = connection.producer().await?;
        let messages: Vec<Bytes> = (0..SMALL_BATCH).map(|_| noise(MESSAGE)).collect();
        Ok(Paced {
            topic,
            partitions,
            connection,
            producer,
            batch: batch(&messages)?,
            sequences: vec![0; usize::try_from(partitions)?],
        })
    }

    /// So many bytes of messages a second, for `time`. Returns how many were acknowledged.
    pub(crate) async fn run(&mut self, bytes_per_second: u64, time: Duration) -> Result<u64> {
        let bytes = (SMALL_BATCH * MESSAGE) as u64;
        let every = Duration::from_secs_f64(bytes as f64 / bytes_per_second as f64);
        let mut beat = tokio::time::interval(every);
        let begun = Instant::now();
        let (mut turn, mut acknowledged) = (0, 0);
        while begun.elapsed() < time {
            beat.tick().await;
            let partition = turn % self.sequences.len();
            turn += 1;
            self.send(partition).await?;
            if self.connection.in_flight() >= IN_FLIGHT {
                self.connection.acknowledged().await?;
                acknowledged += bytes;
            }
        }
        while self.connection.in_flight() > 0 {
            self.connection.acknowledged().await?;
            acknowledged += bytes;
        }
        Ok(acknowledged)
    }

    async fn send(&mut self, partition: usize) -> Result<()> {
        let sequence = &mut self.sequences[partition];
        let batch = stamp(self.batch.clone(), self.producer, *sequence);
        *sequence += i32::try_from(SMALL_BATCH)?;
        let partition = i32::try_from(partition)?;
        ensure!(partition < self.partitions, "no such partition");
        self.connection.produce(self.topic, partition, batch).await
    }
}

/// Produces messages of so many bytes one by one, each when the one before is acknowledged, to the partitions of a
/// topic in turn: so each is a commit. Returns how many there are in each partition.
pub(crate) async fn singles(
    topic: &str,
    address: SocketAddr,
    partitions: usize,
    messages: usize,
    bytes: usize,
) -> Result<Vec<i64>> {
    let mut connection = Connection::open(address).await?;
    connection
        .create_topic(topic, i32::try_from(partitions)?)
        .await?;
    let producer = connection.producer().await?;
    let mut sent = vec![0; partitions];
    let message = batch(&[noise(bytes)])?;
    for number in 0..messages {
        let partition = number % partitions;
        let batch = stamp(message.clone(), producer, sent[partition]);
        let index = i32::try_from(partition)?;
        connection.produce(topic, index, batch).await?;
        connection.acknowledged().await?;
        sent[partition] += 1;
    }
    Ok(sent.into_iter().map(i64::from).collect())
}

/// Reads a topic from the start, one fetch after the other as a consumer does, for `time` or to the end;
/// returns the bytes of batches read and how long that took.
pub(crate) async fn catch_up(
    address: SocketAddr,
    topic: &str,
    ends: &[i64],
    time: Duration,
) -> Result<(u64, Duration)> {
    let mut connection = Connection::open(address).await?;
    let mut offsets = vec![0; ends.len()];
    let mut bytes = 0;
    let begun = Instant::now();
    while begun.elapsed() < time && offsets != ends {
        let (_, fetched) = connection.fetch(topic, &offsets).await?;
        for ((offset, fetched), end) in offsets.iter_mut().zip(fetched).zip(ends) {
            ensure!(
                fetched.end == *end,
                "the partition ends at {}, not at {end}",
                fetched.end
            );
            *offset = fetched.next;
            bytes += fetched.bytes;
        }
        // The first partitions are not to be served for ever before the last ones.
    }
    Ok((bytes, begun.elapsed()))
}
