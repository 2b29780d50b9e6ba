//! The library: a program with access to the bucket produces and consumes with no broker at all.
//!
//! [`Client::open`] makes the program a short-lived node of the cluster: it folds the log, commits, reads
//! the objects, and registers nowhere. Everything it does is what a node does for its clients, so programs,
//! nodes and clients of nodes share topics and consumer groups.
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
mod membership;
mod partitioner;
mod producer;
mod reading;
mod record;

pub use assignment::NotOfConsumers;
pub use consumer::{Consumer, ConsumerBuilder, StartAt};
pub use error::ClientError;
pub use partitioner::partition_of_key;
pub use producer::{Producer, ProducerOptions};
pub use record::{ConsumedRecord, Record, Sent};

use std::sync::Arc;

use crate::broker::{Broker, NewTopic, Session, TopicError, TopicRef, TopicView};
use crate::env::Env;

/// A program's way into a cluster. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    broker: Broker,
    session: Session,
    env: Env,
}

impl Client {
    /// A client of a broker that runs in this process, calling itself `name` (Kafka's `client.id`).
    pub fn of(broker: Broker, env: Env, name: &str) -> Client {
        let inner = Inner {
            broker,
            session: Session::internal(name),
            env,
        };
        Client {
            inner: Arc::new(inner),
        }
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
        .unwrap_or_else(|| Err(TopicError::UnknownName(name.to_owned())))
}
