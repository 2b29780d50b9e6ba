//! Those who change topics and delete records.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep};

use super::batches::batch;
use super::cluster::{Cluster, Connection};
use super::lanes::{CHURNED, MAIN, PARTITIONS};
use super::readers::{begin, lane_name, latest};
use super::world::World;
use crate::broker::{
    Broker, NewTopic, OffsetSpec, ProducePartition, Session, TopicError, TopicRef, Unavailable,
};
use crate::invariants::history::{Access, Deleted, Deletion, Moment, TopicHistory};
use crate::state::{Feature, Level};
use crate::types::{Offset, PartitionIndex};

const TIMEOUT: Duration = Duration::from_secs(15);

fn session() -> Session {
    Session::internal("admin")
}

/// Creates a topic; whether it is there now, if that is known.
pub(super) async fn create(
    broker: Broker,
    name: String,
    partitions: i32,
    configs: BTreeMap<String, Option<String>>,
) -> Result<Result<(), TopicError>, Unavailable> {
    let topic = NewTopic {
        name,
        partitions: Some(partitions),
        configs,
        ..NewTopic::default()
    };
    let mut created = broker.create_topics(&session(), vec![topic], false).await?;
    Ok(created.remove(0).map(|_| ()))
}

pub(super) async fn delete(
    broker: Broker,
    name: String,
) -> Result<Result<(), TopicError>, Unavailable> {
    let topic = [TopicRef::Name(name)];
    let mut deleted = broker.delete_topics(&session(), &topic).await?;
    Ok(deleted.remove(0).map(|_| ()))
}

async fn look(broker: Broker, name: String) -> Option<bool> {
    let topic = [TopicRef::Name(name)];
    let described = broker.describe_topics(&session(), &topic, false).await;
    match described.ok()?.pop()? {
        Ok(_) => Some(true),
        Err(TopicError::NotFound(_)) => Some(false),
        Err(_) => None,
    }
}

/// Creates topics and deletes some of them; everybody looks.
pub(super) async fn topics(cluster: Cluster, name: String, until: Instant) {
    let world = cluster.world.clone();
    let mut connection = Connection::new(&cluster, &name);
    while Instant::now() < until {
        connection.leave();
        let known = world.history().topics.len();
        let index = connection.dice.index(known + 1);
        if index == known {
            change(&world, &mut connection, known, true).await;
        } else if connection.dice.chance(0.2) && world.history().topics[index].deleted.is_none() {
            change(&world, &mut connection, index, false).await;
        } else {
            let topic = topic_name(index);
            let begun = world.moment();
            let seen = connection.call(TIMEOUT, |broker| look(broker, topic)).await;
            if let Ok(Some(there)) = seen {
                let ended = world.moment();
                world.note(format_args!(
                    "{name} looks for {}: {there}",
                    topic_name(index)
                ));
                world.history().topics[index].seen.push(Access {
                    name: name.clone(),
                    value: there,
                    begun,
                    ended,
                });
            }
        }
        connection.rest(20, 3_000).await;
    }
}

fn topic_name(index: usize) -> String {
    format!("topic-{index}")
}

/// Creates or deletes a topic, once.
async fn change(world: &World, connection: &mut Connection, index: usize, creates: bool) {
    let name = topic_name(index);
    let begun = world.moment();
    {
        let mut history = world.history();
        if creates {
            history.topics.push(TopicHistory {
                name: name.clone(),
                created: Some((begun, Moment::MAX)),
                ..TopicHistory::default()
            });
        } else {
            history.topics[index].deleted = Some((begun, Moment::MAX));
        }
    }
    let verb = if creates { "creates" } else { "deletes" };
    let mut given_up = false;
    // In a cluster of older software what is given up may come back.
    let mut is_fenced = false;
    loop {
        let called = name.clone();
        let done = match creates {
            true => {
                let none = BTreeMap::new();
                let work = |broker: Broker| {
                    is_fenced = broker.manifest().state().has(Feature::AskedOps);
                    create(broker, called, 1, none)
                };
                connection.call(TIMEOUT, work).await
            }
            false => connection.call(TIMEOUT, |b| delete(b, called)).await,
        };
        world.note(format_args!("the admin {verb} {name}: {done:?}"));
        match done {
            Ok(Ok(Ok(()))) => break,
            Ok(Ok(Err(TopicError::Exists(_)))) if given_up => break,
            // Elsewhere, once more.
            Ok(Err(_)) | Err(_) if creates && is_fenced && !given_up => {
                connection.leave();
                given_up = true;
            }
            _ => return,
        }
    }
    let ended = world.moment();
    {
        let topic = &mut world.history().topics[index];
        let span = if creates {
            &mut topic.created
        } else {
            &mut topic.deleted
        };
        *span = Some((begun, ended));
    }
    match creates {
        // What was given up must not bring it back.
        true if given_up => {
            world.count("creations given up", 1);
            Box::pin(change(world, connection, index, false)).await;
        }
        true => fill(world, connection, name).await,
        false => world.count("topics deleted", 1),
    }
}

/// Writes into a topic, so that there is something to delete with it.
async fn fill(world: &World, connection: &mut Connection, name: String) {
    for _ in 0..connection.dice.number(0, 3) {
        let count = connection.dice.number(1, 10);
        let padding = connection.dice.one_of(&[10, 1_500]);
        let records = batch(&world.values(count), padding, None, world.now());
        let topic = TopicRef::Name(name.clone());
        let work = |broker: Broker| async move {
            let wanted = ProducePartition::new(topic, PartitionIndex(0), records);
            broker.produce(&session(), vec![wanted], TIMEOUT).await
        };
        // Stored or not: nobody reads it.
        let told = connection.call(TIMEOUT, work).await;
        world.note(format_args!("the admin writes to {name}: {told:?}"));
        if connection.dice.chance(0.3) {
            let topic = TopicRef::Name(name.clone());
            let work = |broker: Broker| async move {
                let to_the_end = [(topic, PartitionIndex(0), None)];
                broker.delete_records(&session(), &to_the_end).await
            };
            let told = connection.call(TIMEOUT, work).await;
            world.note(format_args!("the admin empties {name}: {told:?}"));
            world.count("partitions emptied", 1);
        }
    }
}

/// Creates topics, writes to each while it is deleted, and to another at the same time, through one node and through
/// several: what is appended to a topic, goes with it, and is appended elsewhere lies in one object. Nobody reads any
/// of it.
pub(super) async fn churner(cluster: Cluster, name: String, until: Instant) {
    let world = cluster.world.clone();
    let mut connections = [1, 2].map(|n| Connection::new(&cluster, &format!("{name}-{n}")));
    let mut made = 0;
    while Instant::now() < until {
        connections[0].rest(2_000, 20_000).await;
        for _ in 0..connections[0].dice.number(1, 6) {
            made += 1;
            let topic = format!("churn-{made}");
            let called = topic.clone();
            let none = BTreeMap::new();
            let work = |broker: Broker| create(broker, called, 1, none);
            let created = connections[0].call(TIMEOUT, work).await;
            if matches!(created, Ok(Ok(Ok(())))) {
                let turmoils = connections
                    .iter_mut()
                    .map(|each| turmoil(&world, each, &topic));
                let deleted = join_all(turmoils).await.into_iter().any(|deleted| deleted);
                world.count("topics deleted while written", u64::from(deleted));
            }
        }
    }
}

/// Writes to a topic and deletes it through one node, and writes to another, a few milliseconds apart. Whether it was
/// this that deleted it.
async fn turmoil(world: &World, connection: &mut Connection, topic: &str) -> bool {
    let dice = &mut connection.dice;
    let times: [Duration; 6] = std::array::from_fn(|_| Duration::from_millis(dice.number(0, 30)));
    // The deletion looks for the newest state first.
    let deleted_at = Duration::from_millis(dice.number(0, 15));
    let write = |broker: Broker, topic: String, at: Duration| {
        let records = batch(&world.values(1), 10, None, world.now());
        async move {
            sleep(at).await;
            let wanted = ProducePartition::new(TopicRef::Name(topic), PartitionIndex(0), records);
            let _ = broker.produce(&session(), vec![wanted], TIMEOUT).await;
        }
    };
    let topic = topic.to_owned();
    let work = |broker: Broker| {
        let written = [topic.as_str(); 4].into_iter().chain([CHURNED; 2]);
        let writes: Vec<_> = written
            .zip(times)
            .map(|(topic, at)| write(broker.clone(), topic.to_owned(), at))
            .collect();
        async move {
            let deletion = async {
                sleep(deleted_at).await;
                delete(broker, topic).await
            };
            let (_, deleted) = futures::join!(join_all(writes), deletion);
            matches!(deleted, Ok(Ok(())))
        }
    };
    connection.call(TIMEOUT, work).await.unwrap_or(false)
}

/// Upgrades the nodes one by one, and the cluster when all are.
pub(super) async fn upgrader(cluster: Cluster, name: String, until: Instant) {
    let mut connection = Connection::new(&cluster, &name);
    if !cluster.settings.upgraded {
        return;
    }
    while Instant::now() < until {
        connection.rest(1_000, 10_000).await;
        if let Some(node) = cluster.behind() {
            if cluster.kill(node) {
                connection.rest(10, 2_000).await;
                cluster.start(node);
            }
            continue;
        }
        cluster.commit_to_upgrade();
        let work = |broker: Broker| async move { broker.raise_level(&session()).await };
        let done = connection.call(TIMEOUT, work).await;
        cluster
            .world
            .note(format_args!("{name} raises the level: {done:?}"));
        if let Ok(Ok((_, Level::NEWEST))) = done {
            return cluster.world.count("levels raised", 1);
        }
    }
}

/// Deletes the older records of partitions.
pub(super) async fn deleter(cluster: Cluster, name: String, until: Instant) {
    let world = cluster.world.clone();
    let mut connection = Connection::new(&cluster, &name);
    while Instant::now() < until {
        connection.rest(5_000, 60_000).await;
        let partition = connection.dice.number(0, PARTITIONS as u64) as i32;
        let end = connection
            .call(TIMEOUT, move |broker| {
                latest(broker, partition, OffsetSpec::Latest)
            })
            .await;
        let Ok(Some(end)) = end else { continue };
        let before = Offset(connection.dice.number(0, end.0.unsigned_abs() + 1) as i64);
        let begun = world.moment();
        world
            .history()
            .partitions
            .entry(partition)
            .or_default()
            .deletions
            .push(Deletion { begun, before });
        let done = connection
            .call(TIMEOUT, move |broker| async move {
                let topic = TopicRef::Name(MAIN.to_owned());
                let wanted = [(topic, PartitionIndex(partition), Some(before))];
                broker.delete_records(&session(), &wanted).await
            })
            .await;
        if matches!(&done, Ok(done) if done.iter().all(Result::is_ok)) {
            world.count("records deleted", 1);
            let (told, at) = begin(&world);
            let log = lane_name(partition);
            let deleted = Deleted { before, told, at };
            world.history().deleted(&log).deleted.push(deleted);
        }
        world.note(format_args!(
            "{name} deletes before {before} of partition {partition}: {done:?}"
        ));
    }
}
