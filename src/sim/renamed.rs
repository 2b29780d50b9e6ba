//! A name that is given to one topic after the other, and those who read by it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::admins::{create, delete};
use super::batches::{batch, records};
use super::cluster::{Cluster, Connection};
use super::world::{Finding, World};
use crate::broker::{
    Broker, FetchError, FetchLimits, FetchPartition, ProducePartition, Session, TopicError,
    TopicRef,
};
use crate::invariants::history::{Deleted, Sight, Value};
use crate::types::{Offset, PartitionIndex};

const TIMEOUT: Duration = Duration::from_secs(15);

/// The name.
pub(super) const NAME: &str = "again";

/// Which topics had the name, one after the other: each record that was acknowledged is of one of them. In the history
/// they are offsets.
#[derive(Default)]
struct Topics {
    deleted: i64,
    of: BTreeMap<Value, i64>,
}

/// Somebody who reads by the name.
struct Reader {
    name: String,
    connection: Connection,
    /// Where the last answer on this connection ended.
    next: Option<Offset>,
}

/// Deletes the topic and makes it again, and reads it through whichever node.
pub(super) async fn renamer(cluster: Cluster, name: String, until: Instant) {
    let world = cluster.world.clone();
    let mut admin = Connection::new(&cluster, &name);
    let mut topics = Topics::default();
    let mut readers: Vec<Reader> = ["one", "two", "three"]
        .map(|who| format!("{name}-reader-{who}"))
        .map(|name| Reader {
            connection: Connection::new(&cluster, &name),
            name,
            next: None,
        })
        .into();
    while Instant::now() < until {
        admin.rest(5, 1_500).await;
        if admin.dice.chance(0.15) {
            admin.leave();
            make_anew(&world, &mut admin, &mut topics).await;
        }
        let turns = admin.dice.number(1, 6);
        for _ in 0..turns {
            let reader = admin.dice.index(readers.len());
            readers[reader].read(&world, &topics).await;
        }
    }
}

async fn make_anew(world: &World, admin: &mut Connection, topics: &mut Topics) {
    let gone = admin
        .call(TIMEOUT, |broker| delete(broker, NAME.to_owned()))
        .await;
    world.note(format_args!("{NAME} is deleted: {gone:?}"));
    let (told, at) = (world.moment(), world.origin().elapsed());
    if matches!(gone, Ok(Ok(Ok(()) | Err(TopicError::NotFound(_))))) {
        topics.deleted += 1;
        let before = Offset(topics.deleted);
        let deleted = Deleted { before, told, at };
        world.history().deleted(NAME).deleted.push(deleted);
    }
    let none = BTreeMap::new();
    let made = admin
        .call(TIMEOUT, |broker| create(broker, NAME.to_owned(), 1, none))
        .await;
    world.note(format_args!("{NAME} is made again: {made:?}"));
    if matches!(made, Ok(Ok(Ok(())))) {
        world.count("names given anew", 1);
    }
    for _ in 0..admin.dice.number(1, 5) {
        let values = world.values(admin.dice.number(1, 4));
        let written = batch(&values, 10, None, world.now());
        let work = |broker: Broker| async move {
            let topic = TopicRef::Name(NAME.to_owned());
            let wanted = ProducePartition::new(topic, PartitionIndex(0), written);
            let session = Session::internal("renamer");
            broker.produce(&session, vec![wanted], TIMEOUT).await
        };
        let told = admin.call(TIMEOUT, work).await;
        // Of what nobody acknowledged nobody can say which topic it is in.
        if matches!(&told, Ok(told) if told.iter().all(Result::is_ok)) {
            let topic = topics.deleted;
            topics
                .of
                .extend(values.into_iter().map(|value| (value, topic)));
        }
    }
}

impl Reader {
    async fn read(&mut self, world: &World, topics: &Topics) {
        if self.connection.dice.chance(0.3) {
            self.connection.leave();
            self.next = None;
        }
        let offset = match self.next {
            Some(next) if self.connection.dice.chance(0.7) => next,
            _ => Offset(0),
        };
        let max_bytes = self.connection.dice.one_of(&[1, 5_000]);
        let begins = self.next != Some(offset);
        let (begun, at) = (world.moment(), world.origin().elapsed());
        let session = self.connection.session();
        let answer = self
            .connection
            .call(TIMEOUT, move |broker| async move {
                let wanted = FetchPartition {
                    topic: TopicRef::Name(NAME.to_owned()),
                    partition: PartitionIndex(0),
                    offset,
                    max_bytes,
                    current_leader_epoch: None,
                };
                let limits = FetchLimits {
                    min_bytes: 1,
                    max_bytes,
                    max_wait: Duration::ZERO,
                    read_committed: false,
                };
                broker.fetch(&session, &[wanted], limits).await.pop()
            })
            .await;
        self.next = None;
        let found = match answer {
            Ok(Some(Ok(fetched))) => records(&fetched.records, offset),
            Ok(Some(Err(FetchError::Corrupt(why)))) => Err(why.to_string()),
            _ => return,
        };
        let found = match found {
            Ok(found) => found,
            Err(why) => {
                let what = format!("{} at {offset} of {NAME}: {why}", self.name);
                return world.found(Finding::Wrong(what));
            }
        };
        self.next = Some(found.last().map_or(offset, |(last, _)| last.advance(1)));
        let of = found.iter().filter_map(|(_, value)| topics.of.get(value));
        let Some(first) = of.min() else { return };
        world.note(format_args!(
            "{} reads {} records of topic {first} at {offset}, begins: {begins}",
            self.name,
            found.len()
        ));
        world.history().deleted(NAME).sights.push(Sight {
            name: self.name.clone(),
            begun,
            at,
            begins,
            first: Offset(*first),
        });
    }
}
