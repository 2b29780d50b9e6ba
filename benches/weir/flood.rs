//! Producers that send as much as the node takes.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::load::{IN_FLIGHT, MESSAGE, noise};
use crate::wire::{Batch, Connection, Producer, batch, stamp};

/// Messages in a batch of the saturating load: about a megabyte.
const BATCH: usize = 1000;

/// How many different batches there are. Their contents do not matter, but they should not all be the same.
const DIFFERENT: usize = 8;

/// How much one producer writes in one burst at most.
const MAX_BYTES: u64 = 2 << 30;

/// What each producer sends.
#[derive(Clone)]
pub(crate) struct Load {
    /// Sent one after the other, and again.
    pub(crate) batches: Vec<Batch>,
    /// Messages in each of them.
    pub(crate) messages: i32,
    /// The bytes of those messages before they were compressed.
    pub(crate) bytes: u64,
    /// Requests under way at most.
    pub(crate) in_flight: i32,
}

impl Load {
    /// So many messages in a batch, which nothing can compress.
    pub(crate) fn noise(messages: usize, in_flight: i32) -> Result<Load> {
        let batches = (0..DIFFERENT).map(|_| {
            let values: Vec<Bytes> = (0..messages).map(|_| noise(MESSAGE)).collect();
            batch(&values)
        });
        Ok(Load {
            batches: batches.collect::<Result<_>>()?,
            messages: i32::try_from(messages)?,
            bytes: (messages * MESSAGE) as u64,
            in_flight,
        })
    }
}

/// Producers that send as much as the node takes.
pub(crate) struct Flood {
    topic: &'static str,
    producers: Vec<Worker>,
    load: Load,
}

/// One producer, with a connection of its own.
struct Worker {
    connection: Connection,
    producer: Producer,
    partition: i32,
    /// Whether nobody else produces to the partition.
    alone: bool,
    /// The next sequence.
    sequence: i32,
    /// The offset that the next acknowledgement names, or the least that it may.
    acknowledged: i64,
}

impl Flood {
    /// Each with a partition of its own, and batches of about a megabyte.
    pub(crate) async fn start(
        topic: &'static str,
        address: SocketAddr,
        producers: usize,
    ) -> Result<Flood> {
        let load = Load::noise(BATCH, IN_FLIGHT)?;
        Flood::start_with(topic, address, producers, producers, load).await
    }

    /// The same with another load, and partitions that several may share.
    pub(crate) async fn start_with(
        topic: &'static str,
        address: SocketAddr,
        partitions: usize,
        producers: usize,
        load: Load,
    ) -> Result<Flood> {
        let mut first = Connection::open(address).await?;
        first
            .create_topic(topic, i32::try_from(partitions)?)
            .await?;
        let mut flood = Flood {
            topic,
            producers: Vec::new(),
            load,
        };
        for number in 0..producers {
            let partition = i32::try_from(number % partitions)?;
            let mut connection = Connection::open(address).await?;
            let producer = connection.producer().await?;
            flood.producers.push(Worker {
                connection,
                producer,
                partition,
                alone: producers <= partitions,
                sequence: 0,
                acknowledged: 0,
            });
        }
        Ok(flood)
    }

    /// Sends for `time`; returns the bytes of messages acknowledged and how long that took.
    pub(crate) async fn run(&mut self, time: Duration) -> Result<(u64, Duration)> {
        self.run_to(time, MAX_BYTES).await
    }

    /// The same, but each producer no more than so many bytes.
    pub(crate) async fn run_to(&mut self, time: Duration, most: u64) -> Result<(u64, Duration)> {
        let begun = Instant::now();
        let mut workers = JoinSet::new();
        for (number, mut worker) in self.producers.drain(..).enumerate() {
            let (topic, load) = (self.topic, self.load.clone());
            workers.spawn(async move {
                let bytes = worker.run(topic, &load, begun, time, most).await?;
                Ok::<_, anyhow::Error>((number, worker, bytes))
            });
        }
        let mut bytes = 0;
        let mut done = Vec::new();
        while let Some(worker) = workers.join_next().await {
            let (number, worker, theirs) = worker??;
            bytes += theirs;
            done.push((number, worker));
        }
        let took = begun.elapsed();
        done.sort_by_key(|(number, _)| *number);
        self.producers = done.into_iter().map(|(_, worker)| worker).collect();
        Ok((bytes, took))
    }

    /// What each producer has sent: messages in each partition, if no two share one.
    pub(crate) fn sent(&self) -> Vec<i64> {
        let sent = self.producers.iter();
        sent.map(|worker| i64::from(worker.sequence)).collect()
    }
}

impl Worker {
    async fn run(
        &mut self,
        topic: &str,
        load: &Load,
        begun: Instant,
        time: Duration,
        most: u64,
    ) -> Result<u64> {
        let mut different = load.batches.iter().cycle();
        let mut bytes = 0;
        loop {
            let more = begun.elapsed() < time && bytes < most;
            if more && self.connection.in_flight() < load.in_flight {
                let batch = different.next().context("there are no batches")?.clone();
                let batch = stamp(batch, self.producer, self.sequence);
                self.sequence += load.messages;
                bytes += load.bytes;
                let (connection, partition) = (&mut self.connection, self.partition);
                connection.produce(topic, partition, batch).await?;
            } else if self.connection.in_flight() > 0 {
                let (_, offset) = self.connection.acknowledged().await?;
                let next = self.acknowledged;
                ensure!(
                    offset == next || !self.alone && offset > next,
                    "a batch is at {offset} instead of {next}"
                );
                self.acknowledged = offset + i64::from(load.messages);
            } else {
                return Ok(bytes);
            }
        }
    }
}
