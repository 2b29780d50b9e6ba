//! The loads that a node is put under.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::{Bytes, BytesMut};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::Instant;
use weir::env::Env;

use crate::stats::Samples;
use crate::wire::{Connection, Producer, batch, stamp};

/// The bytes of a message.
pub(crate) const MESSAGE: usize = 1024;

/// Messages in a batch of the saturating load: about a megabyte.
const BATCH: usize = 1000;

/// Requests that an idempotent producer has under way at most.
const IN_FLIGHT: i32 = 5;

/// How many different batches there are. Their contents do not matter, but they should not all be the same.
const DIFFERENT: usize = 8;

/// How much one producer writes in one burst at most.
const MOST_BYTES: u64 = 2 << 30;

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
    /// Messages sent so far: the next offset and sequence.
    sent: u64,
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
        })
    }

    /// Hands the client a message at each beat. It sends what it has at once, unless as many requests are
    /// under way as an idempotent producer may have; then what comes meanwhile goes into the next.
    pub(crate) async fn run(&mut self, every: Duration, time: Duration) -> Result<Latencies> {
        let first = self.sent;
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

/// Producers that send as much as the node takes, each to a partition of its own.
pub(crate) struct Flood {
    topic: &'static str,
    producers: Vec<(Connection, Producer, i32)>,
    batches: Vec<BytesMut>,
}

impl Flood {
    pub(crate) async fn start(
        topic: &'static str,
        address: SocketAddr,
        producers: usize,
    ) -> Result<Flood> {
        let mut first = Connection::open(address).await?;
        first.create_topic(topic, i32::try_from(producers)?).await?;
        let mut made = Vec::new();
        for _ in 0..producers {
            let mut connection = Connection::open(address).await?;
            let producer = connection.producer().await?;
            made.push((connection, producer, 0));
        }
        let batches =
            (0..DIFFERENT).map(|_| batch(&(0..BATCH).map(|_| noise(MESSAGE)).collect::<Vec<_>>()));
        Ok(Flood {
            topic,
            producers: made,
            batches: batches.collect::<Result<_>>()?,
        })
    }

    /// Sends for `time`; returns the bytes of messages acknowledged and how long that took.
    pub(crate) async fn run(&mut self, time: Duration) -> Result<(u64, Duration)> {
        let begun = Instant::now();
        let mut workers = JoinSet::new();
        for (partition, (connection, producer, sequence)) in self.producers.drain(..).enumerate() {
            let (topic, batches) = (self.topic, self.batches.clone());
            workers.spawn(async move {
                let mut worker = (connection, producer, sequence);
                let bytes = flood(&mut worker, topic, partition as i32, &batches, begun, time);
                let bytes = bytes.await?;
                Ok::<_, anyhow::Error>((partition, worker, bytes))
            });
        }
        let mut bytes = 0;
        let mut done = Vec::new();
        while let Some(worker) = workers.join_next().await {
            let (partition, worker, theirs) = worker??;
            bytes += theirs;
            done.push((partition, worker));
        }
        let took = begun.elapsed();
        done.sort_by_key(|(partition, _)| *partition);
        self.producers = done.into_iter().map(|(_, worker)| worker).collect();
        Ok((bytes, took))
    }

    /// Messages in each partition.
    pub(crate) fn sent(&self) -> Vec<i64> {
        let sent = self
            .producers
            .iter()
            .map(|(_, _, sequence)| i64::from(*sequence));
        sent.collect()
    }
}

async fn flood(
    (connection, producer, sequence): &mut (Connection, Producer, i32),
    topic: &str,
    partition: i32,
    batches: &[BytesMut],
    begun: Instant,
    time: Duration,
) -> Result<u64> {
    let first = *sequence;
    let mut acknowledged = i64::from(first);
    let batch_messages = i32::try_from(BATCH)?;
    let batch_bytes = (BATCH * MESSAGE) as u64;
    let mut different = batches.iter().cycle();
    let mut bytes = 0;
    loop {
        let more = begun.elapsed() < time && bytes < MOST_BYTES;
        if more && connection.in_flight() < IN_FLIGHT {
            let batch = different.next().context("there are no batches")?.clone();
            let batch = stamp(batch, *producer, *sequence);
            *sequence += batch_messages;
            bytes += batch_bytes;
            connection.produce(topic, partition, batch).await?;
        } else if connection.in_flight() > 0 {
            let (_, offset) = connection.acknowledged().await?;
            ensure!(
                offset == acknowledged,
                "a batch is at {offset} instead of {acknowledged}"
            );
            acknowledged += i64::from(batch_messages);
        } else {
            return Ok(bytes);
        }
    }
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
