//! As much of a Kafka client as measuring a node takes: one connection, requests pipelined, answers in order.
//!
//! It costs the machine little, so that what is measured is the node. It checks what it is told: every error
//! code, and that offsets follow each other without a gap.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    CreateTopicsRequest, FetchRequest, InitProducerIdRequest, ProduceRequest, RequestHeader,
    ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use kafka_protocol::records::{
    Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::time::Instant;
use weir::segment::Batches;

const PRODUCE: i16 = 9;
const FETCH: i16 = 12;
const CREATE_TOPICS: i16 = 7;
const INIT_PRODUCER_ID: i16 = 4;

/// The fields of a batch that a producer fills in when it sends it.
const PRODUCER_ID_AT: usize = 43;
const CRC_AT: usize = 17;
const COVERED_FROM: usize = 21;

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
            .with_client_id(Some(StrBytes::from_static_str("weir-bench")));
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
        Ok(())
    }

    pub(crate) async fn producer(&mut self) -> Result<Producer> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        self.send(INIT_PRODUCER_ID, &request).await?;
        let (_, answer) = self
            .receive::<InitProducerIdRequest>(INIT_PRODUCER_ID)
            .await?;
        ensure!(
            answer.error_code == 0,
            "InitProducerId: error {}",
            answer.error_code
        );
        Ok(Producer {
            id: answer.producer_id.0,
            epoch: answer.producer_epoch,
        })
    }

    /// Sends a batch, of which nothing is awaited yet.
    pub(crate) async fn produce(&mut self, name: &str, partition: i32, batch: Bytes) -> Result<()> {
        let data = PartitionProduceData::default()
            .with_index(partition)
            .with_records(Some(batch));
        let topic = TopicProduceData::default()
            .with_name(TopicName(topic(name).0))
            .with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_transactional_id(None)
            .with_acks(-1)
            .with_timeout_ms(60_000)
            .with_topic_data(vec![topic]);
        self.send(PRODUCE, &request).await
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
        let partition = |(index, offset): (usize, &i64)| {
            FetchPartition::default()
                .with_partition(index as i32)
                .with_fetch_offset(*offset)
                .with_partition_max_bytes(1 << 20)
        };
        let topic = FetchTopic::default()
            .with_topic(TopicName(topic(name).0))
            .with_partitions(offsets.iter().enumerate().map(partition).collect());
        let request = FetchRequest::default()
            .with_max_wait_ms(500)
            .with_min_bytes(1)
            .with_max_bytes(50 << 20)
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
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
                let header = batch?.header;
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

fn topic(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// One batch of messages, without a producer yet.
pub(crate) fn batch(values: &[Bytes]) -> Result<BytesMut> {
    let now = weir::env::Env::system().now().0;
    let records = values.iter().zip(0..).map(|(value, at)| Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset: at,
        sequence: at as i32,
        timestamp: now,
        key: None,
        value: Some(value.clone()),
        headers: Default::default(),
    });
    let records: Vec<_> = records.collect();
    let options = RecordEncodeOptions {
        version: 2,
        compression: Compression::None,
    };
    let mut batch = BytesMut::new();
    RecordBatchEncoder::encode(&mut batch, &records, &options)?;
    Ok(batch)
}

/// The batch as this producer sends it, beginning at `sequence`.
pub(crate) fn stamp(mut batch: BytesMut, producer: Producer, sequence: i32) -> Bytes {
    let mut fields = &mut batch[PRODUCER_ID_AT..];
    fields.put_i64(producer.id);
    fields.put_i16(producer.epoch);
    fields.put_i32(sequence);
    let crc = crc32c::crc32c(&batch[COVERED_FROM..]);
    batch[CRC_AT..COVERED_FROM].copy_from_slice(&crc.to_be_bytes());
    batch.freeze()
}
