//! Consumers without a group: they read the log from the front, or look at it anywhere.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::batches::records;
use super::cluster::{Cluster, Connection};
use super::lanes::{LANES, place};
use super::world::{Finding, World};
use crate::broker::{
    Broker, FetchError, FetchLimits, FetchPartition, FetchedPartition, OffsetSpec, Session,
};
use crate::invariants::history::{Moment, Read, Sight};
use crate::types::Offset;

const TIMEOUT: Duration = Duration::from_secs(15);

type Fetched = Vec<Result<FetchedPartition, FetchError>>;

/// Reads some partitions from these offsets.
pub(super) async fn fetch(
    broker: Broker,
    session: Session,
    wanted: Vec<(i32, Offset)>,
    max_bytes: usize,
    max_wait: Duration,
) -> Fetched {
    let partitions: Vec<FetchPartition> = wanted
        .iter()
        .map(|(lane, offset)| {
            let (topic, partition) = place(*lane);
            FetchPartition {
                topic,
                partition,
                offset: *offset,
                max_bytes,
                current_leader_epoch: None,
            }
        })
        .collect();
    let limits = FetchLimits {
        min_bytes: 1,
        max_bytes,
        max_wait,
        read_committed: false,
    };
    broker.fetch(&session, &partitions, limits).await
}

/// Follows all partitions from the front, and now and then begins anew somewhere.
pub(super) async fn follower(cluster: Cluster, name: String, until: Instant) {
    let world = cluster.world.clone();
    let mut connection = Connection::new(&cluster, &name);
    let mut next: BTreeMap<i32, Offset> = (0..LANES).map(|p| (p, Offset(0))).collect();
    while Instant::now() < until {
        let mut wanted: Vec<(i32, Offset)> = next.iter().map(|(p, o)| (*p, *o)).collect();
        if connection.dice.chance(0.5) {
            wanted = vec![connection.dice.one_of(&wanted)];
        }
        if connection.dice.chance(0.02) {
            let (partition, offset) = wanted[0];
            let back = connection.dice.number(0, offset.0.unsigned_abs() + 1);
            wanted[0] = (partition, Offset(back as i64));
        }
        let max_bytes = connection.dice.one_of(&[1, 5_000, 1_000_000]);
        let max_wait = Duration::from_millis(connection.dice.one_of(&[0, 100, 2_000]));
        let begun = begin(&world);
        let asked = wanted.clone();
        let session = connection.session();
        let answer = connection
            .call(TIMEOUT, |broker| {
                fetch(broker, session, asked, max_bytes, max_wait)
            })
            .await;
        match answer {
            Ok(fetched) => {
                for (partition, offset) in take(&world, &name, begun, &wanted, fetched) {
                    next.insert(partition, offset);
                }
            }
            Err(lost) => world.note(format_args!("{name}: {lost:?}")),
        }
        connection.rest(1, 1_500).await;
    }
}

/// Now: its place among all events, and by the clock.
pub(super) fn begin(world: &World) -> (Moment, Duration) {
    (world.moment(), world.origin().elapsed())
}

/// The lane, for people.
pub(super) fn lane_name(lane: i32) -> String {
    format!("lane {lane}")
}

/// Enters what was read in the history; where each partition is to be read on.
fn take(
    world: &World,
    name: &str,
    (begun, at): (Moment, Duration),
    wanted: &[(i32, Offset)],
    fetched: Fetched,
) -> Vec<(i32, Offset)> {
    let ended = world.moment();
    // If anything was returned, an empty partition is empty as far as the node knew.
    let nothing = fetched.iter().flatten().all(|fetched| fetched.is_empty());
    let mut next = Vec::new();
    for ((partition, offset), answer) in wanted.iter().zip(fetched) {
        let (found, end) = match answer {
            Ok(fetched) => match records(&fetched.records, *offset) {
                Ok(found) => {
                    let end = (found.is_empty() && nothing).then_some(fetched.high_watermark);
                    (found, end)
                }
                Err(why) => {
                    let what = format!("{name} at {offset} of {partition}: {why}");
                    world.found(Finding::Wrong(what));
                    continue;
                }
            },
            Err(FetchError::OffsetOutOfRange {
                log_start,
                high_watermark,
                ..
            }) => {
                if *offset < log_start {
                    next.push((*partition, log_start));
                }
                (Vec::new(), Some(high_watermark))
            }
            Err(FetchError::Unavailable(_)) => continue,
            Err(error) => {
                let what = format!("{name} at {offset} of {partition}: {error}");
                world.found(Finding::Wrong(what));
                continue;
            }
        };
        world.note(format_args!(
            "{name} reads partition {partition} from {offset}: {} records, end {end:?}",
            found.len()
        ));
        if let Some((first, _)) = found.first()
            && first != offset
        {
            let what = format!("{name} asked for {offset} of {partition} and got {first}");
            world.found(Finding::Wrong(what));
        }
        if let Some((last, _)) = found.last() {
            next.push((*partition, last.advance(1)));
            let log = lane_name(*partition);
            world.history().deleted(&log).sights.push(Sight {
                name: name.to_owned(),
                begun,
                at,
                begins: false,
                first: *offset,
            });
        }
        enter(world, name, *partition, (begun, ended), found, end);
    }
    next
}

/// Reads old records, and waits for them however long a node may sleep.
pub(super) async fn archivist(cluster: Cluster, name: String, until: Instant) {
    let world = cluster.world.clone();
    let mut connection = Connection::new(&cluster, &name);
    while Instant::now() < until {
        connection.leave();
        let lane = connection.dice.number(0, LANES as u64) as i32;
        let end = connection
            .call(TIMEOUT, move |broker| {
                latest(broker, lane, OffsetSpec::Latest)
            })
            .await;
        let Ok(Some(end)) = end else { continue };
        // Not so old that it is compacted.
        let back = connection.dice.number(0, 40).min(end.0.unsigned_abs());
        let wanted = vec![(lane, Offset(end.0 - back as i64))];
        connection.leave();
        let begun = begin(&world);
        let asked = wanted.clone();
        let session = connection.session();
        let answer = connection
            .call(until - Instant::now(), |broker| {
                fetch(broker, session, asked, 5_000, Duration::ZERO)
            })
            .await;
        if let Ok(fetched) = answer {
            take(&world, &name, begun, &wanted, fetched);
        }
        connection.rest(10, 200).await;
    }
}

fn enter(
    world: &World,
    name: &str,
    partition: i32,
    (begun, ended): (u64, u64),
    records: Vec<(Offset, u64)>,
    end: Option<Offset>,
) {
    let mut history = world.history();
    let reads = &mut history.partitions.entry(partition).or_default().reads;
    reads.push(Read {
        name: format!("read {} of {name}", reads.len()),
        begun,
        ended,
        records,
        end,
    });
}

/// Asks for the ends of partitions.
pub(super) async fn asker(cluster: Cluster, name: String, until: Instant) {
    let world = cluster.world.clone();
    let mut connection = Connection::new(&cluster, &name);
    while Instant::now() < until {
        let partition = connection.dice.number(0, LANES as u64) as i32;
        // Whoever looks through different nodes sees what one of them has not heard of.
        connection.leave();
        let begun = world.moment();
        let found = connection
            .call(TIMEOUT, move |broker| {
                latest(broker, partition, OffsetSpec::Latest)
            })
            .await;
        let ended = world.moment();
        if let Ok(Some(end)) = found {
            world.note(format_args!(
                "{name} finds the end of partition {partition} at {end}"
            ));
            let span = (begun, ended);
            enter(&world, &name, partition, span, Vec::new(), Some(end));
        }
        connection.rest(5, 1_000).await;
    }
}

/// The first or last offset of a partition, if the node can tell.
pub(super) async fn latest(broker: Broker, lane: i32, spec: OffsetSpec) -> Option<Offset> {
    let (topic, partition) = place(lane);
    let wanted = [(topic, partition, None, spec)];
    let session = Session::internal("asker");
    let found = broker.list_offsets(&session, &wanted, false).await.pop()?;
    found.ok()?.offset
}
