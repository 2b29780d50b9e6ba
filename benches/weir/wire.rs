//! As much of a Kafka client as measuring a node takes: one connection, requests pipelined, answers in order.
//!
//! It costs the machine little, so that what is measured is the node: the messages of a batch are summed once and never
//! copied, whoever sends them and however often. It checks what it is told: every error code, and that offsets follow
//! each other without a gap.

use std::net::SocketAddr;

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    CreateTopicsRequest, FetchRequest, InitProducerIdRequest, MetadataRequest, ProduceRequest,
    RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::time::Instant;
use weir::segment::{BatchBuilder, BatchError, Batches, Codec};

const PRODUCE: i16 = 9;
/// Without tagged fields, in which not every server keeps to the protocol.
const FETCH: i16 = 11;
const CREATE_TOPICS: i16 = 7;
const INIT_PRODUCER_ID: i16 = 4;
const METADATA: i16 = 9;

/// The bytes of a batch before its records.
const HEAD: usize = 61;

/// The fields of a batch that a producer fills in when it sends it.
const PRODUCER_ID_AT: usize = 43;
const CRC_AT: usize = 17;
const COVERED_FROM: usize = 21;

/// How long a server may take until what was just made is there.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How this client calls itself.
const CLIENT: &str = "weir-bench";

/// A connection to a node.
pub(crate) struct Connection {
    writer: OwnedWriteHalf,
    /// Answers, with the moment in which their last byte came.
    answers: mpsc::Receiver<(Instant, Bytes)>,
    next: i32,
    awaited: i32,
}

/// Who produces: idempotent from the start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Producer {
    id: i64,
    epoch: i16,
}

/// What a fetch brought.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fetched {
    /// The offset after the last record.
    pub(crate) next: i64,
    /// Bytes of batches.
    pub(crate) bytes: u64,
    /// The offset after the last record there is.
    pub(crate) end: i64,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Connection> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (mut reader, writer) = stream.into_split();
        let (sender, answers) = mpsc::channel(16);
        tokio::spawn(async move {
            loop {
                let Ok(size) = reader.read_u32().await else {
                    return;
                };
                let mut frame = BytesMut::with_capacity(size as usize).limit(size as usize);
                while frame.has_remaining_mut() {
                    match reader.read_buf(&mut frame).await {
                        Ok(1..) => {}
                        _ => return,
                    }
                }
                let frame = frame.into_inner().freeze();
                if sender.send((Instant::now(), frame)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Connection {
            writer,
            answers,
            next: 0,
            awaited: 0,
        })
    }

    async fn send<R: Request>(&mut self, version: i16, request: &R) -> Result<()> {
        let mut frame = BytesMut::new();
        frame.put_u32(0);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.next)
            .with_client_id(Some(StrBytes::from_static_str(CLIENT)));
        header.encode(&mut frame, R::header_version(version))?;
        request.encode(&mut frame, version)?;
        let size = u32::try_from(frame.len() - 4)?;
        frame[..4].copy_from_slice(&size.to_be_bytes());
        self.next += 1;
        self.writer.write_all(&frame).await?;
        Ok(())
    }

    async fn receive<R: Request>(&mut self, version: i16) -> Result<(Instant, R::Response)> {
        let next = self.answers.recv().await;
        let (came, mut frame) = next.context("the node closed the connection")?;
        let header = ResponseHeader::decode(&mut frame, R::Response::header_version(version))?;
        ensure!(
            header.correlation_id == self.awaited,
            "answers are out of order"
        );
        self.awaited += 1;
        Ok((came, R::Response::decode(&mut frame, version)?))
    }

    /// How many requests are not answered yet.
    pub(crate) fn in_flight(&self) -> i32 {
        self.next - self.awaited
    }

    /// Makes a topic, and waits until every partition has a leader: a cluster may take its time.
    pub(crate) async fn create_topic(&mut self, name: &str, partitions: i32) -> Result<()> {
        let topic = CreatableTopic::default()
            .with_name(topic(name))
            .with_num_partitions(partitions)
            .with_replication_factor(1);
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(60_000);
        self.send(CREATE_TOPICS, &request).await?;
        let (_, answer) = self.receive::<CreateTopicsRequest>(CREATE_TOPICS).await?;
        for topic in answer.topics {
            ensure!(
                topic.error_code == 0,
                "creating a topic: error {}",
                topic.error_code
            );
        }
        let begun = Instant::now();
        while !self.is_served(name, partitions).await? {
            ensure!(begun.elapsed() < TIMEOUT, "topic {name} has no leaders");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Whether every partition has a leader, and the leader knows of it.
    async fn is_served(&mut self, name: &str, partitions: i32) -> Result<bool> {
        let wanted = MetadataRequestTopic::default().with_name(Some(topic(name)));
        let request = MetadataRequest::default()
            .with_topics(Some(vec![wanted]))
            .with_allow_auto_topic_creation(false);
        self.send(METADATA, &request).await?;
        let (_, answer) = self.receive::<MetadataRequest>(METADATA).await?;
        let all = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let led = all.filter(|partition| partition.error_code == 0 && partition.leader_id.0 >= 0);
        let partitions = usize::try_from(partitions)?;
        if led.count() != partitions {
            return Ok(false);
        }
        let request = fetch(name, &vec![0; partitions], 0);
        self.send(FETCH, &request).await?;
        let (_, answer) = self.receive::<FetchRequest>(FETCH).await?;
        let mut all = answer.responses.iter().flat_map(|topic| &topic.partitions);
        Ok(all.all(|partition| partition.error_code == 0))
    }

    /// A producer id. A server that just started may not have any yet.
    pub(crate) async fn producer(&mut self) -> Result<Producer> {
        /// Coordinator load in progress, coordinator not available, not coordinator.
        const LATER: [i16; 3] = [14, 15, 16];
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        let begun = Instant::now();
        loop {
            self.send(INIT_PRODUCER_ID, &request).await?;
            let (_, answer) = self
                .receive::<InitProducerIdRequest>(INIT_PRODUCER_ID)
                .await?;
            let code = answer.error_code;
            if LATER.contains(&code) && begun.elapsed() < TIMEOUT {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
            ensure!(code == 0, "InitProducerId: error {code}");
            return Ok(Producer {
                id: answer.producer_id.0,
                epoch: answer.producer_epoch,
            });
        }
    }

    /// Sends a batch, of which nothing is awaited yet. The frame is written by hand: the codec would copy the records.
    pub(crate) async fn produce(
        &mut self,
        name: &str,
        partition: i32,
        batch: Stamped,
    ) -> Result<()> {
        let Stamped { head, records } = batch;
        let mut frame = BytesMut::with_capacity(256 + HEAD);
        frame.put_u32(0);
        frame.put_i16(ProduceRequest::KEY);
        frame.put_i16(PRODUCE);
        frame.put_i32(self.next);
        frame.put_i16(i16::try_from(CLIENT.len())?);
        frame.put_slice(CLIENT.as_bytes());
        frame.put_u8(0); // no tagged fields
        frame.put_u8(0); // no transactional id
        frame.put_i16(-1); // acks
        frame.put_i32(60_000);
        frame.put_u8(2); // one topic
        put_varint(&mut frame, name.len() + 1);
        frame.put_slice(name.as_bytes());
        frame.put_u8(2); // one partition
        frame.put_i32(partition);
        put_varint(&mut frame, HEAD + records.len() + 1);
        frame.put_slice(&head);
        // Behind the records: no tagged fields of partition, topic and request.
        let end = [0; 3];
        let size = u32::try_from(frame.len() - 4 + records.len() + end.len())?;
        frame[..4].copy_from_slice(&size.to_be_bytes());
        self.next += 1;
        let mut all = frame.chain(records).chain(&end[..]);
        self.writer.write_all_buf(&mut all).await?;
        Ok(())
    }

    /// The acknowledgement of the oldest batch that has none: when it came, and the batch's offset. May be
    /// dropped: nothing is lost.
    pub(crate) async fn acknowledged(&mut self) -> Result<(Instant, i64)> {
        let (came, answer) = self.receive::<ProduceRequest>(PRODUCE).await?;
        for topic in &answer.responses {
            if let Some(answer) = topic.partition_responses.first() {
                ensure!(
                    answer.error_code == 0,
                    "Produce: error {} {:?}",
                    answer.error_code,
                    answer.error_message
                );
                return Ok((came, answer.base_offset));
            }
        }
        bail!("an answer to Produce says nothing")
    }

    /// Fetches from one offset in each partition, within the limits that Java's consumer sets by default.
    /// Waits for at most half a second for something to come.
    pub(crate) async fn fetch(
        &mut self,
        name: &str,
        offsets: &[i64],
    ) -> Result<(Instant, Vec<Fetched>)> {
        let request = fetch(name, offsets, 500);
        self.send(FETCH, &request).await?;
        let (came, answer) = self.receive::<FetchRequest>(FETCH).await?;
        ensure!(answer.error_code == 0, "Fetch: error {}", answer.error_code);
        let mut fetched: Vec<Fetched> = offsets
            .iter()
            .map(|offset| Fetched {
                next: *offset,
                ..Fetched::default()
            })
            .collect();
        for partition in answer.responses.iter().flat_map(|topic| &topic.partitions) {
            ensure!(
                partition.error_code == 0,
                "Fetch: error {}",
                partition.error_code
            );
            let index = usize::try_from(partition.partition_index)?;
            let fetched = fetched
                .get_mut(index)
                .context("a partition not asked for")?;
            fetched.end = partition.high_watermark;
            let records = partition.records.as_deref().unwrap_or_default();
            for batch in Batches::new(records) {
                let header = match batch {
                    Ok(batch) => batch.header,
                    // Kafka may cut the last one off.
                    Err(BatchError::Truncated { .. }) => break,
                    Err(error) => return Err(error.into()),
                };
                ensure!(
                    header.base_offset.0 <= fetched.next && header.next_offset().0 > fetched.next,
                    "there is a gap at offset {}",
                    fetched.next
                );
                fetched.next = header.next_offset().0;
                fetched.bytes += header.size as u64;
            }
        }
        Ok((came, fetched))
    }
}

/// A request for one offset in each partition, within the limits that Java's consumer sets by default.
fn fetch(name: &str, offsets: &[i64], max_wait_ms: i32) -> FetchRequest {
    let partition = |(index, offset): (usize, &i64)| {
        FetchPartition::default()
            .with_partition(index as i32)
            .with_fetch_offset(*offset)
            .with_partition_max_bytes(1 << 20)
    };
    let topic = FetchTopic::default()
        .with_topic(TopicName(topic(name).0))
        .with_partitions(offsets.iter().enumerate().map(partition).collect());
    FetchRequest::default()
        .with_max_wait_ms(max_wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(50 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

fn topic(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn put_varint(frame: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        frame.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    frame.put_u8(value as u8);
}

/// One batch of messages, without a producer yet. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Batch {
    head: [u8; HEAD],
    records: Bytes,
    records_crc: u32,
}

/// A batch as a producer sends it.
pub(crate) struct Stamped {
    head: [u8; HEAD],
    records: Bytes,
}

impl Batch {
    /// The bytes that are stored of it.
    pub(crate) fn stored(&self) -> usize {
        HEAD + self.records.len()
    }
}

pub(crate) fn batch(values: &[Bytes]) -> Result<Batch> {
    batch_in(Codec::None, values)
}

/// The same, compressed.
pub(crate) fn batch_in(codec: Codec, values: &[Bytes]) -> Result<Batch> {
    let now = weir::env::Env::system().wall();
    let mut builder = BatchBuilder::new(codec);
    for value in values {
        builder.push(now, None, Some(value), &[])?;
    }
    let mut bytes = builder.finish()?;
    let records = bytes.split_off(HEAD);
    Ok(Batch {
        head: bytes[..].try_into()?,
        records_crc: crc32c::crc32c(&records),
        records,
    })
}

/// The batch as this producer sends it, beginning at `sequence`.
pub(crate) fn stamp(batch: Batch, producer: Producer, sequence: i32) -> Stamped {
    let Batch {
        mut head,
        records,
        records_crc,
    } = batch;
    let mut fields = &mut head[PRODUCER_ID_AT..];
    fields.put_i64(producer.id);
    fields.put_i16(producer.epoch);
    fields.put_i32(sequence);
    let crc = crc32c::crc32c(&head[COVERED_FROM..]);
    let crc = crc32c::crc32c_combine(crc, records_crc, records.len());
    head[CRC_AT..COVERED_FROM].copy_from_slice(&crc.to_be_bytes());
    Stamped { head, records }
}
