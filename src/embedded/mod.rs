//! The library: a program with access to the bucket produces and consumes with no broker at all.
//!
//! [`Client::open`] makes the program a short-lived node of the cluster: it folds the log, commits, and reads
//! the objects, and no client is sent to it. Everything it does is what a node does for its clients, so
//! programs, nodes and clients of nodes share topics and consumer groups.
//!
//! ```
//! use weir::embedded::{Client, ClientError, Record};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), ClientError> {
//! // file://./path, s3://bucket/prefix, gs://..., az://...; a memory store ends with the process.
//! let weir = Client::open("memory://").await?;
//! weir.create_topic("orders", 3).await?;
//!
//! let mut producer = weir.producer();
//! let sent = producer.send("orders", Record::new("customer-1", "2 apples")).await?;
//! assert_eq!(sent.offset.0, 0);
//!
//! let mut consumer = weir
//!     .consumer()
//!     .topics(["orders"])
//!     .group("billing")
//!     .until_end(true)
//!     .start()
//!     .await?;
//! while let Some(record) = consumer.next().await? {
//!     assert_eq!(record.value.as_deref(), Some(b"2 apples".as_slice()));
//! }
//! consumer.commit().await?;
//! consumer.close().await?;
//! weir.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! * [`Producer`] partitions as Kafka's producers do (murmur2 of the key, sticky without one), is
//!   idempotent, and answers when records are durable.
//! * [`Consumer`] reads partitions, alone or as a member of a group with the `range` assignor in the format of
//!   Kafka's consumers.
//!
//! What it never does: listen, or know a wire protocol beyond what members of a group tell each other.
//!
//! Every future may be dropped. A dropped send leaves open whether its records were stored, as a lost
//! answer does; a dropped `next` loses nothing. A program that dies leaves what was acknowledged, and its
//! group misses it when its session is over.

mod assignment;
mod consumer;
mod error;
#[cfg(any(test, doc, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod membership;
mod partitioner;
mod producer;
mod reading;
mod record;
#[cfg(test)]
mod tests;

pub use assignment::NotOfConsumers;
pub use consumer::{Consumer, ConsumerBuilder, StartAt};
pub use error::ClientError;
pub use partitioner::partition_of_key;
pub use producer::{Producer, ProducerOptions};
pub use record::{ConsumedRecord, Record, Sent};

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;

use crate::broker::{
    Broker, Endpoints, NewTopic, Presence, Session, TopicError, TopicNotFound, TopicRef, TopicView,
};
use crate::config::{ClientConfig, StoreConfig};
use crate::env::Env;
use crate::node::{Node, NodeMetrics, NodeOptions};

/// How long a client that is closed waits for what it had begun.
const GRACE: Duration = Duration::from_secs(10);

/// The partitions, by topic, of an assignment that a member of a consumer group was given.
pub fn assigned_partitions(
    assignment: &[u8],
) -> Result<BTreeMap<String, Vec<i32>>, NotOfConsumers> {
    assignment::read_assignment(assignment)
}

/// A program's way into a cluster. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    broker: Broker,
    session: Session,
    env: Env,
    /// The node, if it is this client's own.
    node: Mutex<Option<Node>>,
    /// Taken when this client first becomes a member of a group: the node vouches for it with its lease.
    presence: OnceCell<Presence>,
}

impl Client {
    /// Opens the bucket at `store` (`file://./path`, `s3://bucket/prefix` ...) with the default settings. An
    /// empty bucket becomes a new cluster.
    pub async fn open(store: &str) -> Result<Client, ClientError> {
        let config = ClientConfig {
            store: StoreConfig {
                store: store.to_owned(),
                ..StoreConfig::default()
            },
            ..ClientConfig::default()
        };
        Client::open_with(&config, Env::system(), "weir-client").await
    }

    /// Opens the bucket of these settings, with these clocks and this randomness, calling itself `name`
    /// (Kafka's `client.id`).
    pub async fn open_with(
        config: &ClientConfig,
        env: Env,
        name: &str,
    ) -> Result<Client, ClientError> {
        let options = NodeOptions::from_config(&config.store, &config.node, env.clone())?;
        let node = Node::open(options, &NodeMetrics::default()).await?;
        let broker = node.broker().clone();
        Ok(Client::assembled(broker, env, name, Some(node)))
    }

    /// A client of a broker that runs in this process anyway.
    pub fn of(broker: Broker, env: Env, name: &str) -> Client {
        Client::assembled(broker, env, name, None)
    }

    fn assembled(broker: Broker, env: Env, name: &str, node: Option<Node>) -> Client {
        Client {
            inner: Arc::new(Inner {
                broker,
                session: Session::internal(name),
                env,
                node: Mutex::new(node),
                presence: OnceCell::new(),
            }),
        }
    }

    /// Ends it: commits what was begun and takes it out of the cluster. Close its consumers first. Clones
    /// of it, and what was made of them, answer with errors from then on.
    pub async fn close(self) {
        let node = self
            .inner
            .node
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(node) = node {
            node.stop(GRACE).await;
        }
    }

    /// Takes a place among the nodes, so that this one can have members of groups. Clients are not sent here.
    async fn vouch(&self) -> Result<(), ClientError> {
        let present = || async {
            if self.broker().node_id().is_none() {
                self.broker().register(Endpoints::new(), None).await?;
            }
            Ok::<_, ClientError>(self.broker().client_arrived())
        };
        self.inner.presence.get_or_try_init(present).await?;
        Ok(())
    }

    /// The broker's operations, for what this library has no shorter way to say.
    pub fn broker(&self) -> &Broker {
        &self.inner.broker
    }

    /// As whom the broker's operations are called.
    pub fn session(&self) -> &Session {
        &self.inner.session
    }

    fn env(&self) -> &Env {
        &self.inner.env
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// [`TopicError::Exists`] and the other ways in which a topic can be refused.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: i32,
    ) -> Result<TopicView, ClientError> {
        let topic = NewTopic {
            name: name.to_owned(),
            partitions: Some(partitions),
            ..NewTopic::default()
        };
        let created = self
            .broker()
            .create_topics(self.session(), vec![topic], false)
            .await?;
        Ok(one(created, name)?)
    }

    /// A topic that exists.
    pub async fn topic(&self, name: &str) -> Result<TopicView, ClientError> {
        self.describe(name, false).await
    }

    /// A topic, created if it does not exist and the cluster allows it (`auto.create.topics.enable`).
    async fn topic_or_create(&self, name: &str) -> Result<TopicView, ClientError> {
        self.describe(name, true).await
    }

    async fn describe(&self, name: &str, create: bool) -> Result<TopicView, ClientError> {
        let asked = [TopicRef::Name(name.to_owned())];
        let described = self
            .broker()
            .describe_topics(self.session(), &asked, create)
            .await?;
        Ok(one(described, name)?)
    }

    /// Those of the topics that exist.
    async fn existing_topics(&self, names: &[String]) -> Result<Vec<TopicView>, ClientError> {
        let asked: Vec<TopicRef> = names.iter().cloned().map(TopicRef::Name).collect();
        let described = self
            .broker()
            .describe_topics(self.session(), &asked, false)
            .await?;
        let mut existing = Vec::new();
        for topic in described {
            match topic {
                Ok(view) => existing.push(view),
                Err(error) if reading::is_unknown(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(existing)
    }

    /// A producer with the default options.
    pub fn producer(&self) -> Producer {
        self.producer_with(ProducerOptions::default())
    }

    /// A producer.
    pub fn producer_with(&self, options: ProducerOptions) -> Producer {
        Producer::new(self.clone(), options)
    }

    /// A consumer to be: say what it shall read, then [`ConsumerBuilder::start`] it.
    pub fn consumer(&self) -> ConsumerBuilder {
        ConsumerBuilder::new(self.clone())
    }
}

/// The answer for the only topic that was asked for.
fn one(
    mut answers: Vec<Result<TopicView, TopicError>>,
    name: &str,
) -> Result<TopicView, TopicError> {
    answers
        .pop()
        .unwrap_or_else(|| Err(TopicNotFound(TopicRef::Name(name.to_owned())).into()))
}
