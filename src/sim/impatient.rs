//! Clients that give up and go elsewhere. Each overwrites something: the committed offset of a group without members,
//! or a setting. Their nodes notice that they are gone, or go on; what they gave up must not come back (I12).

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::cluster::{Cluster, Connection};
use super::lanes::MAIN;
use super::world::World;
use crate::broker::{
    Broker, CommitOffset, ConfigEdit, ConfigResource, GroupOpError, Identity, Session, TopicError,
};
use crate::invariants::history::{Access, RegisterHistory, Value, Write, Written};
use crate::state::Feature;
use crate::types::{
    Generation, GroupId, MemberId, Offset, PartitionIndex, TopicId, TopicPartition,
};

/// A setting with which nothing is done.
const SETTING: &str = "flush.messages";

/// What such a client overwrites.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    /// The offset of its own group.
    Offset(TopicId),
    /// A setting of the topic that all use.
    Setting,
}

/// The shortest and the longest time for which it waits, in milliseconds. What a node does for a request although it
/// was overtaken it does within two seconds of its arrival, and a node that was paused for more than two notices it.
const TIMEOUT: (u64, u64) = (5_500, 12_000);

struct Impatient {
    world: World,
    name: String,
    connection: Connection,
    what: What,
    register: usize,
}

pub(super) async fn client(cluster: Cluster, name: String, what: What, until: Instant) {
    let world = cluster.world.clone();
    let register = {
        let mut history = world.history();
        history.registers.push(RegisterHistory {
            name: format!("what {name} overwrites"),
            ..RegisterHistory::default()
        });
        history.registers.len() - 1
    };
    let mut client = Impatient {
        connection: Connection::new(&cluster, &name),
        world,
        name,
        what,
        register,
    };
    while Instant::now() < until {
        client.connection.rest(20, 2_000).await;
        if client.connection.dice.chance(0.2) {
            client.connection.leave();
        }
        match client.connection.dice.chance(0.5) {
            true => client.write().await,
            false => client.look().await,
        }
    }
}

impl Impatient {
    async fn write(&mut self) {
        let value = self.world.values(1)[0];
        let begun = self.world.moment();
        let write = Write {
            client: self.name.clone(),
            value,
            begun,
            outcome: Written::Asked,
        };
        let index = {
            let register = &mut self.world.history().registers[self.register];
            register.writes.push(write);
            register.writes.len() - 1
        };
        let (name, what) = (self.name.clone(), self.what);
        let limit = self.connection.dice.time(TIMEOUT.0, TIMEOUT.1);
        let called = self.connection.call(limit, move |broker| async move {
            overwrite(&broker, &name, what, value).await
        });
        let done = called.await;
        let at = self.world.moment();
        let outcome = match done {
            Ok(Some(true)) => Written::Done(at),
            Ok(Some(false)) => Written::Refused,
            Ok(None) | Err(_) => {
                self.connection.leave();
                self.world.count("requests given up", 1);
                Written::GivenUp(at)
            }
        };
        self.world
            .note(format_args!("{} writes {value}: {outcome:?}", self.name));
        self.world.history().registers[self.register].writes[index].outcome = outcome;
    }

    async fn look(&mut self) {
        let begun = self.world.moment();
        let (name, what) = (self.name.clone(), self.what);
        let limit = self.connection.dice.time(TIMEOUT.0, TIMEOUT.1);
        let called = self.connection.call(limit, move |broker| async move {
            found(&broker, &name, what).await
        });
        let Ok(Some(value)) = called.await else {
            return self.connection.leave();
        };
        let ended = self.world.moment();
        self.world
            .note(format_args!("{} finds {value:?}", self.name));
        let name = self.name.clone();
        self.world.history().registers[self.register]
            .reads
            .push(Access {
                name,
                value,
                begun,
                ended,
            });
    }
}

fn group(name: &str) -> GroupId {
    GroupId::new(name).unwrap()
}

fn partition(topic: TopicId) -> TopicPartition {
    TopicPartition {
        topic,
        partition: PartitionIndex(0),
    }
}

fn topic() -> ConfigResource {
    ConfigResource::Topic(MAIN.to_owned())
}

/// Whether it is done, if that can be said.
async fn overwrite(broker: &Broker, name: &str, what: What, value: Value) -> Option<bool> {
    if !broker.manifest().state().has(Feature::AskedOps) {
        // In a cluster of older software what is given up may come back, so nothing is asked for.
        return Some(false);
    }
    let session = Session::internal(name);
    match what {
        What::Offset(topic) => {
            let identity = Identity {
                group: group(name),
                member: MemberId::from(""),
                instance: None,
                generation: Generation::NONE,
            };
            let offset = CommitOffset {
                partition: partition(topic),
                offset: Offset(value as i64),
                leader_epoch: None,
                metadata: None,
            };
            let done = broker
                .commit_offsets(&session, &identity, vec![offset])
                .await;
            match done.and_then(|mut done| done.remove(0)) {
                Ok(()) => Some(true),
                Err(GroupOpError::Unavailable(_)) => None,
                Err(_) => Some(false),
            }
        }
        What::Setting => {
            let edit = ConfigEdit::Set(value.to_string());
            let edits = BTreeMap::from([(SETTING.to_owned(), edit)]);
            match broker.alter_configs(&session, &topic(), edits, false).await {
                Ok(()) => Some(true),
                Err(TopicError::Unavailable(_)) => None,
                Err(_) => Some(false),
            }
        }
    }
}

/// What is there, if that can be said.
async fn found(broker: &Broker, name: &str, what: What) -> Option<Option<Value>> {
    let session = Session::internal(name);
    match what {
        What::Offset(topic) => {
            let (group, wanted) = (group(name), partition(topic));
            let found = broker
                .committed_offsets(&session, &group, Some(&[wanted]))
                .await;
            let found = found.ok()?.remove(&wanted);
            Some(found.map(|found| found.offset.0.unsigned_abs()))
        }
        What::Setting => {
            let names = [SETTING.to_owned()];
            let found = broker
                .describe_configs(&session, &topic(), Some(&names))
                .await;
            let found = found.ok()?.into_iter().next()?;
            let value: Value = found.value?.parse().ok()?;
            // The default is the largest number there is.
            Some((value != i64::MAX as u64).then_some(value))
        }
    }
}
