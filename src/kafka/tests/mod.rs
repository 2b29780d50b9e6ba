//! The front end in front of a real broker on a memory store: frames in, frames out, on simulated time.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

use crate::broker::{ByRules, Endpoints, Policy};
use crate::env::Env;
use crate::node::{Node, NodeMetrics, NodeOptions};
use crate::segment::{BatchBuilder, Codec};
use crate::store::{Store, StoreUrl};
use crate::types::{ProducerEpoch, ProducerId, Timestamp};

use super::*;

mod access;
mod data;
mod everything;
pub(crate) mod examples;
mod groups;
mod hostile;
mod limits;
mod log_dirs;
mod names;
mod policies;
mod sasl;
mod topics;

/// The wall time at which tests begin.
const START: i64 = 1_700_000_000_000;

/// A node with its front end.
struct Rig {
    node: Node,
    shared: Arc<Shared>,
    stop: CancellationToken,
    registry: Registry,
}

impl Rig {
    async fn new() -> Rig {
        Rig::with(KafkaOptions::default()).await
    }

    async fn with(options: KafkaOptions) -> Rig {
        Rig::on(Store::memory(), options).await
    }

    async fn on(store: Store, options: KafkaOptions) -> Rig {
        Rig::under(store, options, Arc::new(ByRules)).await
    }

    async fn under(store: Store, options: KafkaOptions, policy: Arc<dyn Policy>) -> Rig {
        let env = Env::simulated(7, Timestamp(START));
        let mut node = NodeOptions::new(StoreUrl::memory(), env);
        // There is no other node to follow, and simulated hours pass in some tests.
        node.manifest.follow_interval = std::time::Duration::from_secs(1);
        node.broker.policy = policy;
        let metrics = NodeMetrics::default();
        let node = Node::start(store, node, &metrics).await.unwrap();
        let endpoints = Endpoints::from([
            ("kafka".to_owned(), "here.example:9092".to_owned()),
            ("kafka-sasl".to_owned(), "here.example:9093".to_owned()),
        ]);
        node.broker().register(endpoints, None).await.unwrap();
        let mut registry = Registry::default();
        let metrics = KafkaMetrics::register(&mut registry);
        let shared = Arc::new(Shared::new(node.broker().clone(), options, metrics));
        Rig {
            node,
            shared,
            stop: CancellationToken::new(),
            registry,
        }
    }

    fn connect(&self) -> Client {
        self.connect_to("kafka")
    }

    /// A client that comes through the listener of this name.
    fn connect_to(&self, listener: &str) -> Client {
        let (stream, ours) = duplex(1 << 16);
        let (reader, writer) = tokio::io::split(ours);
        let shared = Arc::clone(&self.shared);
        let client = client::Client::new(&listener.into(), listener.contains("sasl"), None);
        let ended = tokio::spawn(converse(reader, writer, client, shared, self.stop.clone()));
        Client {
            stream,
            correlation: 0,
            ended,
        }
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

/// The other end of a connection.
struct Client {
    stream: DuplexStream,
    correlation: i32,
    ended: JoinHandle<()>,
}

impl Client {
    /// Sends a request and awaits its answer.
    async fn call<R: Request>(&mut self, version: i16, request: R) -> R::Response {
        self.send(version, &request).await;
        self.receive::<R>(version).await
    }

    async fn send<R: Request>(&mut self, version: i16, request: &R) {
        let mut body = BytesMut::new();
        request.encode(&mut body, version).unwrap();
        self.send_body(R::KEY, version, &body).await;
    }

    async fn send_body(&mut self, key: i16, version: i16, body: &[u8]) {
        self.correlation += 1;
        let header = RequestHeader::default()
            .with_request_api_key(key)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_static_str("test")));
        let api = ApiKey::try_from(key).unwrap();
        let mut frame = BytesMut::new();
        header
            .encode(&mut frame, api.request_header_version(version))
            .unwrap();
        frame.extend_from_slice(body);
        self.send_frame(&frame).await;
    }

    async fn send_frame(&mut self, frame: &[u8]) {
        let mut bytes = BytesMut::new();
        bytes.put_i32(i32::try_from(frame.len()).unwrap());
        bytes.extend_from_slice(frame);
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// The next frame; `None` at the end of the connection.
    async fn frame(&mut self) -> Option<Bytes> {
        let length = self.stream.read_i32().await.ok()?;
        let mut frame = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut frame).await.ok()?;
        Some(frame.into())
    }

    async fn receive<R: Request>(&mut self, version: i16) -> R::Response {
        let mut frame = self.frame().await.expect("the connection goes on");
        let header_version = R::Response::header_version(version);
        let header = ResponseHeader::decode(&mut frame, header_version).unwrap();
        assert_eq!(header.correlation_id, self.correlation);
        let response = R::Response::decode(&mut frame, version).unwrap();
        assert!(!frame.has_remaining(), "bytes are left over");
        response
    }

    async fn expect_close(mut self) {
        assert!(self.frame().await.is_none());
        self.ended.await.unwrap();
    }
}

fn name(text: &str) -> TopicName {
    TopicName(StrBytes::from_string(text.to_owned()))
}

fn words(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A batch of records with these values, a second apart.
fn batch(values: &[&str]) -> Bytes {
    batch_of(values, None)
}

fn batch_of(values: &[&str], producer: Option<(i64, i16, i32)>) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    if let Some((id, epoch, sequence)) = producer {
        builder = builder.producer(ProducerId(id), ProducerEpoch(epoch), sequence);
    }
    for (n, value) in (0..).zip(values) {
        let time = Timestamp(START + n * 1000);
        builder
            .push(time, None, Some(value.as_bytes()), &[])
            .unwrap();
    }
    builder.finish().unwrap()
}

async fn create(client: &mut Client, topic: &str, partitions: i32) -> uuid::Uuid {
    use kafka_protocol::messages::CreateTopicsRequest;
    use kafka_protocol::messages::create_topics_request::CreatableTopic;
    let topic = CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(partitions)
        .with_replication_factor(-1);
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(10_000);
    let created = client.call(7, request).await;
    assert_eq!(created.topics[0].error_code, 0, "{created:?}");
    created.topics[0].topic_id
}
