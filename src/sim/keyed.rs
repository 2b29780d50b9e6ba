//! A compacted topic: one who writes its keys, and one who reads it from its beginning.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::batches::{Stamp, keyed_batch, keyed_records};
use super::cluster::{Cluster, Connection};
use super::lanes::{KEYED, place};
use super::producers::new_producer;
use super::readers::{fetch, latest};
use super::world::{Finding, World};
use crate::broker::{Broker, FetchError, OffsetSpec, ProduceError, ProducePartition, Session};
use crate::invariants::history::{KeyedRecord, KeyedWrite, Moment, Pass};
use crate::types::Offset;

const CALL_TIMEOUT: Duration = Duration::from_secs(15);
const TIMEOUT: Duration = Duration::from_secs(10);

/// A pass that takes longer proves nothing: a tombstone may have been removed in front of it.
const MAX_PASS: Duration = Duration::from_secs(300);

const KEYS: u64 = 8;

/// Writes the keys: one batch after the other, each until it is acknowledged.
pub(super) async fn writer(cluster: Cluster, name: String, until: Instant) {
    let world = cluster.world.clone();
    let mut connection = Connection::new(&cluster, &name);
    let (id, epoch) = new_producer(&mut connection).await;
    let mut sequence = 0;
    while Instant::now() < until {
        let count = connection.dice.number(1, 6);
        let versions = world.values(count);
        let begun = world.moment();
        let writes: Vec<KeyedWrite> = versions
            .into_iter()
            .map(|version| KeyedWrite {
                key: connection.dice.number(0, KEYS) as u8,
                version,
                tombstone: connection.dice.chance(0.15),
                begun,
                ended: Moment::MAX,
            })
            .collect();
        let padding = connection.dice.one_of(&[0, 50, 1_500]);
        let stamp = Stamp {
            id,
            epoch,
            sequence,
        };
        let records = keyed_batch(&writes, padding, stamp, world.now());
        sequence += count as i32;
        let first = {
            let mut history = world.history();
            history.keyed.writes.extend(writes);
            history.keyed.writes.len() - count as usize
        };
        let offset = loop {
            if world.is_broken() {
                return;
            }
            let records = records.clone();
            let work = |broker: Broker| async move {
                let (topic, partition) = place(KEYED);
                let wanted = ProducePartition::new(topic, partition, records);
                let session = Session::internal("keys");
                broker.produce(&session, vec![wanted], TIMEOUT).await.pop()
            };
            match connection.call(CALL_TIMEOUT, work).await {
                Ok(Some(Ok(produced))) => break produced.base_offset,
                Ok(Some(Err(ProduceError::Unavailable(_)))) | Ok(None) | Err(_) => {}
                Ok(Some(Err(error))) => {
                    return world.found(Finding::Wrong(format!("{name}: {error}")));
                }
            }
            connection.leave();
            sleep(connection.dice.time(20, 500)).await;
        };
        let ended = world.moment();
        world.note(format_args!("{name}: {count} keys from {offset}"));
        for write in &mut world.history().keyed.writes[first..] {
            write.ended = ended;
        }
        connection.rest(20, 2_000).await;
    }
}

/// Reads the topic from its beginning to its end, again and again.
pub(super) async fn reader(cluster: Cluster, name: String, until: Instant) {
    let world = cluster.world.clone();
    let mut connection = Connection::new(&cluster, &name);
    while Instant::now() < until {
        connection.rest(500, 20_000).await;
        let started = Instant::now();
        let begun = world.moment();
        let mut next = Offset(0);
        let mut found = Vec::new();
        loop {
            let step = connection
                .call(CALL_TIMEOUT, move |broker| read(broker, next))
                .await;
            match step {
                Ok(Ok(Some((records, on)))) => {
                    found.extend(records);
                    next = on;
                }
                Ok(Ok(None)) => {
                    enter(&world, &name, begun, found);
                    break;
                }
                Ok(Err(error)) => return world.found(Finding::Wrong(format!("{name}: {error}"))),
                Err(_) => {}
            }
            if started.elapsed() > MAX_PASS || Instant::now() > until + CALL_TIMEOUT {
                break;
            }
        }
    }
}

fn enter(world: &World, name: &str, begun: Moment, records: Vec<KeyedRecord>) {
    let ended = world.moment();
    world.note(format_args!("{name}: {} records with keys", records.len()));
    let passes = &mut world.history().keyed.passes;
    let name = format!("pass {} of {name}", passes.len());
    passes.push(Pass {
        name,
        begun,
        ended,
        records,
    });
}

/// Reads on from an offset; `None` at the end.
async fn read(broker: Broker, from: Offset) -> Result<Option<(Vec<KeyedRecord>, Offset)>, String> {
    // First, so that nothing is missed that was there when the pass began.
    let Some(end) = latest(broker.clone(), KEYED, OffsetSpec::Latest).await else {
        return Ok(Some((Vec::new(), from)));
    };
    if from >= end {
        return Ok(None);
    }
    let fetched = {
        let session = Session::internal("key-reader");
        fetch(broker, session, vec![(KEYED, from)], 5_000, Duration::ZERO).await
    };
    match fetched.into_iter().next() {
        Some(Ok(fetched)) => {
            let (records, next) = keyed_records(&fetched.records, from)?;
            // All that was between here and the end may have been compacted away.
            let at_end = next == from && fetched.high_watermark >= end;
            Ok((!at_end).then_some((records, next)))
        }
        Some(Err(FetchError::Unavailable(_))) | None => Ok(Some((Vec::new(), from))),
        Some(Err(error)) => Err(error.to_string()),
    }
}

/// Reads the topic through one node, when all is over.
pub(super) async fn last_pass(world: &World, broker: Broker, node: usize) -> Result<(), String> {
    let begun = world.moment();
    let (mut next, mut found, mut steps) = (Offset(0), Vec::new(), 0);
    while let Some((records, on)) = read(broker.clone(), next).await? {
        if records.is_empty() && on == next {
            steps += 1;
            if steps > 10 {
                return Err(format!("nothing at {next}"));
            }
            sleep(Duration::from_secs(1)).await;
        }
        found.extend(records);
        next = on;
    }
    enter(world, &format!("n{node} in the end"), begun, found);
    Ok(())
}
