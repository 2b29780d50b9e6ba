//! Producers: with idempotence, and without.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::batches::{Stamp, batch};
use super::cluster::{Cluster, Connection, Lost};
use super::lanes::{BRIEF, LANES, place};
use super::world::{Finding, World};
use crate::broker::{Broker, ProduceError, ProducePartition, Produced, Session};
use crate::invariants::history::{Append, Outcome};
use crate::types::{Offset, ProducerEpoch, ProducerId};

/// The client's own timeout, and the time that it gives the node.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
const TIMEOUT: Duration = Duration::from_secs(10);

/// A batch on its way, and where it is in the history of its partition.
#[derive(Clone)]
struct Sent {
    partition: i32,
    index: usize,
    records: Bytes,
}

/// What became of one batch in one attempt.
enum Told {
    At(Offset),
    /// It may have been stored, or may yet be.
    Open,
    /// It is not stored: a batch before it is missing.
    OutOfOrder(String),
    Refused(String),
}

fn told(answer: Result<Produced, ProduceError>) -> Told {
    match answer {
        Ok(produced) => Told::At(produced.base_offset),
        Err(ProduceError::Unavailable(_)) => Told::Open,
        Err(error @ ProduceError::OutOfOrderSequence(_)) => Told::OutOfOrder(error.to_string()),
        Err(error) => Told::Refused(error.to_string()),
    }
}

/// Enters a new batch in the history.
fn enter(world: &World, name: &str, partition: i32, records: u64) -> (usize, Vec<u64>) {
    let values = world.values(records);
    let begun = world.moment();
    let mut history = world.history();
    let appends = &mut history.partitions.entry(partition).or_default().appends;
    appends.push(Append {
        name: format!("batch {} of {name}", appends.len()),
        values: values.clone(),
        begun,
        outcome: Outcome::Unknown,
        given: Vec::new(),
    });
    (appends.len() - 1, values)
}

fn with_append(world: &World, sent: &Sent, change: impl FnOnce(&mut Append)) {
    let mut history = world.history();
    let partition = history.partitions.get_mut(&sent.partition);
    if let Some(append) = partition.and_then(|partition| partition.appends.get_mut(sent.index)) {
        change(append);
    }
}

/// What a node does with the requests of one connection: takes them in their order, answers each when it is known,
/// and the world sees what it answers.
async fn serve(broker: Broker, world: World, requests: Vec<Sent>) -> Vec<Told> {
    let session = Session::internal("producer");
    let began = Instant::now();
    let mut taken = Vec::new();
    for sent in &requests {
        let (topic, partition) = place(sent.partition);
        let partition = ProducePartition::new(topic, partition, sent.records.clone());
        taken.push(
            broker
                .begin_produce(&session, vec![partition], TIMEOUT)
                .await,
        );
    }
    let mut answers = Vec::new();
    for (sent, producing) in requests.iter().zip(taken) {
        let answer = producing.answered().await.pop();
        world.waited(began, "a producer");
        let answer = answer.map_or(Told::Open, told);
        if let Told::At(offset) = answer {
            with_append(&world, sent, |append| append.given.push(offset));
        }
        answers.push(answer);
    }
    answers
}

/// Sends batches through one node, all at once and in order.
async fn send(
    connection: &mut Connection,
    world: &World,
    requests: Vec<Sent>,
) -> Result<Vec<Told>, Lost> {
    let world = world.clone();
    let work = |broker| serve(broker, world, requests);
    connection.call(CALL_TIMEOUT, work).await
}

/// A producer with idempotence: up to five batches in flight of each partition; what is not acknowledged it sends
/// again, the same bytes, through whichever node.
pub(super) async fn idempotent(cluster: Cluster, name: String, until: Instant) {
    let world = cluster.world.clone();
    let mut connection = Connection::new(&cluster, &name);
    let mut producer = None;
    while Instant::now() < until {
        // It is one that nobody knows, again and again: the beginning is where most can go wrong.
        let (id, epoch, sequences) = match &mut producer {
            Some(known) if !connection.dice.chance(0.3) => known,
            before => {
                let (id, epoch) = new_producer(&mut connection).await;
                world.note(format_args!("{name} is producer {id}"));
                before.insert((id, epoch, vec![0; LANES as usize]))
            }
        };
        let (id, epoch) = (*id, *epoch);
        let mut left = VecDeque::new();
        for _ in 0..connection.dice.number(1, 3) {
            let partition = connection.dice.number(0, LANES as u64) as i32;
            if left.iter().any(|sent: &Sent| sent.partition == partition) {
                continue;
            }
            for _ in 0..connection.dice.number(1, 6) {
                let sequence = &mut sequences[partition as usize];
                left.push_back(next(&mut connection, &world, &name, partition, |count| {
                    let stamp = Stamp {
                        id,
                        epoch,
                        sequence: *sequence,
                    };
                    *sequence += count;
                    Some(stamp)
                }));
            }
        }
        while !left.is_empty() {
            let answers = send(&mut connection, &world, left.iter().cloned().collect()).await;
            let answers = match answers {
                Ok(answers) => answers,
                Err(lost) => {
                    world.note(format_args!("{name}: {lost:?}"));
                    continue;
                }
            };
            let missing = judge(&world, &name, &mut left, answers);
            if missing {
                connection.leave();
                sleep(connection.dice.time(20, 500)).await;
            }
        }
        connection.rest(5, 3_000).await;
    }
}

/// Takes the answers to all of `left` in; what stays in it is to be sent again. Whether anything does.
fn judge(world: &World, name: &str, left: &mut VecDeque<Sent>, answers: Vec<Told>) -> bool {
    let batches = std::mem::take(left);
    for (sent, answer) in batches.into_iter().zip(answers) {
        let partition = sent.partition;
        match answer {
            Told::At(offset) => {
                let at = world.moment();
                world.note(format_args!(
                    "{name}: {} of partition {partition} is at {offset}",
                    sent.index
                ));
                with_append(world, &sent, |append| {
                    append.outcome = Outcome::Told(offset, at);
                });
            }
            Told::Open => left.push_back(sent),
            Told::OutOfOrder(why) => {
                // In order if a batch before it is open still; it waits for that one.
                if left.iter().all(|before| before.partition != partition) {
                    world.found(Finding::Wrong(format!("{name}: {why}")));
                }
                left.push_back(sent);
            }
            Told::Refused(why) => world.found(Finding::Wrong(format!("{name}: {why}"))),
        }
    }
    if world.is_broken() {
        left.clear();
    }
    !left.is_empty()
}

fn next(
    connection: &mut Connection,
    world: &World,
    name: &str,
    partition: i32,
    stamp: impl FnOnce(i32) -> Option<Stamp>,
) -> Sent {
    let count = connection.dice.number(1, 12);
    let padding = connection.dice.one_of(&[0, 10, 100, 1_500]);
    let (index, values) = enter(world, name, partition, count);
    world.note(format_args!(
        "{name} sends batch {index} of partition {partition}: {count} from {:#x}",
        values[0]
    ));
    if partition == BRIEF {
        world.history().made.insert(values[0], world.now());
    }
    Sent {
        partition,
        index,
        records: batch(&values, padding, stamp(count as i32), world.now()),
    }
}

pub(super) async fn new_producer(connection: &mut Connection) -> (ProducerId, ProducerEpoch) {
    loop {
        let work = |broker: Broker| async move {
            let session = Session::internal("producer");
            broker.new_producer(&session).await
        };
        if let Ok(Ok(producer)) = connection.call(CALL_TIMEOUT, work).await {
            return producer;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// A producer without idempotence. What became of a batch that was not acknowledged it never learns; it goes on with
/// another.
pub(super) async fn plain(cluster: Cluster, name: String, until: Instant) {
    let world = cluster.world.clone();
    let mut connection = Connection::new(&cluster, &name);
    while Instant::now() < until {
        let partition = connection.dice.number(0, LANES as u64) as i32;
        let count = connection.dice.number(1, 4);
        let batches: Vec<Sent> = (0..count)
            .map(|_| next(&mut connection, &world, &name, partition, |_| None))
            .collect();
        match send(&mut connection, &world, batches.clone()).await {
            Ok(answers) => {
                let open = judge(&world, &name, &mut batches.into(), answers);
                if open {
                    connection.leave();
                }
            }
            Err(lost) => world.note(format_args!("{name}: {lost:?}")),
        }
        connection.rest(5, 3_000).await;
    }
}
