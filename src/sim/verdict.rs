//! What there is when all is over, and whether the history fits it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::sleep;

use super::archived;
use super::batches::records;
use super::cluster::{Cluster, Connection};
use super::keyed;
use super::lanes::{BRIEF, KEYED, LANES};
use super::readers::{fetch, latest};
use super::world::{Finding, History, World};
use crate::broker::{Broker, FetchError, MAX_STALENESS, OffsetSpec, Session};
use crate::invariants::history::{Append, Deletion, Outcome, Value, states_are_equal};
use crate::invariants::{Invariant, Violation};
use crate::maintain::fsck::{FsckOptions, Severity, fsck};
use crate::types::{Offset, Timestamp};

const BYTES: usize = 1 << 20;

/// How far clocks may be apart.
const CLOCKS: Duration = Duration::from_secs(10);

/// A partition as one node shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Shown {
    log_start: Offset,
    high_watermark: Offset,
    log: Vec<(Offset, Value)>,
}

impl Shown {
    /// Drops what is before an offset.
    fn start_at(&mut self, start: Offset) {
        self.log_start = self.log_start.max(start);
        self.log.retain(|(offset, _)| *offset >= start);
    }
}

/// Reads everything through every node, and judges.
pub(super) async fn judge(cluster: &Cluster) {
    let world = &cluster.world;
    let mut shown: BTreeMap<i32, Shown> = BTreeMap::new();
    for node in 0..cluster.settings.nodes {
        let Some(broker) = cluster.broker(node) else {
            world.found(Finding::Stuck(format!("n{node} is not up")));
            continue;
        };
        if let Ok(state) = broker.manifest().fresh().await {
            world.compare_every(1);
            world.see(&format!("n{node} in the end"), &state);
        }
        if let Err(why) = keyed::last_pass(world, broker.clone(), node).await {
            world.found(Finding::Wrong(format!(
                "n{node} cannot show lane {KEYED}: {why}"
            )));
        }
        for partition in 0..LANES {
            let mut found = match show_whole(broker.clone(), partition).await {
                Ok(found) => found,
                Err(why) => {
                    let what = format!("n{node} cannot show partition {partition}: {why}");
                    world.found(Finding::Wrong(what));
                    continue;
                }
            };
            let first = shown.entry(partition).or_insert_with(|| found.clone());
            if partition == BRIEF {
                // Records expire while this looks.
                first.start_at(found.log_start);
                found.start_at(first.log_start);
            }
            if *first != found {
                let what = format!("n{node} shows another partition {partition} than others");
                world.found(Finding::Wrong(what));
            }
        }
    }
    for (partition, shown) in shown {
        let mut history = world.history();
        let partition_history = history.partitions.entry(partition).or_default();
        partition_history.name = format!("lane {partition}");
        partition_history.log_start = shown.log_start;
        partition_history.high_watermark = shown.high_watermark;
        partition_history.log = shown.log;
    }
    if let Some(broker) = cluster.broker(0) {
        archived::compare(cluster, &broker).await;
    }
    let kept = cluster.settings.retention;
    let too_early = expire(&mut world.history(), world.now(), kept);
    too_early.into_iter().for_each(|found| world.found(found));
    audit(cluster).await;
    hold(world);
}

/// Takes it that records which were old enough have expired by right; says which were not.
fn expire(history: &mut History, now: Timestamp, kept: Duration) -> Vec<Finding> {
    let History {
        partitions, made, ..
    } = history;
    let Some(brief) = partitions.get_mut(&BRIEF) else {
        return Vec::new();
    };
    let start = brief.log_start;
    brief.deletions.push(Deletion {
        begun: 0,
        before: start,
    });
    let young = |append: &&Append| match append.outcome {
        Outcome::Told(base, _) if base < start => {
            let made = append.values.first().and_then(|first| made.get(first));
            made.is_some_and(|made| made.after(kept) > now.after(CLOCKS))
        }
        _ => false,
    };
    let what = |append: &Append| Violation {
        invariant: Invariant::AcknowledgedStays,
        what: format!(
            "{} has expired before its time: the log starts at {start}",
            append.name
        ),
    };
    let young = brief.appends.iter().filter(young);
    young.map(|append| Finding::Broken(what(append))).collect()
}

/// Has the bucket checked as a person would have it checked, every byte.
async fn audit(cluster: &Cluster) {
    let world = &cluster.world;
    let store = cluster.store("auditor");
    let now = store.options().env.wall();
    let report = match fsck(&store, FsckOptions { deep: true, now }, &()).await {
        Ok(report) => report,
        Err(error) => return world.found(Finding::Stuck(format!("fsck: {error}"))),
    };
    world.note(format_args!("{:?}", report.checked));
    for finding in report.findings {
        match finding.severity {
            Severity::Error => world.found(Finding::Wrong(format!("fsck: {finding:?}"))),
            _ => world.note(format_args!("fsck: {finding:?}")),
        }
    }
}

/// Holds the history against the invariants.
fn hold(world: &World) {
    let history: History = std::mem::take(&mut world.history());
    let mut broken = Vec::new();
    for partition in history.partitions.values() {
        broken.extend(partition.violations());
    }
    broken.extend(history.keyed.violations());
    broken.extend(history.group.violations());
    for topic in &history.topics {
        broken.extend(topic.violations());
    }
    for register in &history.registers {
        broken.extend(register.violations());
    }
    for deleted in history.deleted.values() {
        broken.extend(deleted.violations(MAX_STALENESS));
    }
    broken.extend(states_are_equal(&history.states));
    let counts = Counts::of(&history);
    world.history().findings = history.findings;
    for violation in broken {
        world.found(Finding::Broken(violation));
    }
    world.note(format_args!("{counts:?}"));
}

/// How much happened, so that nobody takes a run in which nothing did for a proof.
#[derive(Debug, Default)]
struct Counts {
    #[expect(dead_code, reason = "shown in the trace")]
    appends: usize,
    #[expect(dead_code, reason = "shown in the trace")]
    acknowledged: usize,
    #[expect(dead_code, reason = "shown in the trace")]
    reads: usize,
    #[expect(dead_code, reason = "shown in the trace")]
    generations: usize,
    #[expect(dead_code, reason = "shown in the trace")]
    commits_of_offsets: usize,
    #[expect(dead_code, reason = "shown in the trace")]
    topics: usize,
    #[expect(dead_code, reason = "shown in the trace")]
    states: usize,
}

impl Counts {
    fn of(history: &History) -> Counts {
        let partitions = history.partitions.values();
        let appends: Vec<&Append> = partitions.clone().flat_map(|p| &p.appends).collect();
        Counts {
            appends: appends.len(),
            acknowledged: appends.iter().filter(|a| !a.given.is_empty()).count(),
            reads: partitions.map(|p| p.reads.len()).sum(),
            generations: history.group.owned.len(),
            commits_of_offsets: history.group.commits.len(),
            topics: history.topics.len(),
            states: history.states.len(),
        }
    }
}

/// Reads a partition from its start to its end; once more from its new start where records expire while this reads.
async fn show_whole(broker: Broker, partition: i32) -> Result<Shown, String> {
    loop {
        match show(broker.clone(), partition).await {
            Err(NotShown::Expired) if partition == BRIEF => {}
            Err(NotShown::Expired) => return Err("its log start moved".to_owned()),
            Err(NotShown::Failed(why)) => return Err(why),
            Ok(shown) => return Ok(shown),
        }
    }
}

/// Why a partition was not read to its end.
enum NotShown {
    /// The next record is not there any more.
    Expired,
    Failed(String),
}

impl From<String> for NotShown {
    fn from(why: String) -> NotShown {
        NotShown::Failed(why)
    }
}

impl From<&str> for NotShown {
    fn from(why: &str) -> NotShown {
        NotShown::Failed(why.to_owned())
    }
}

async fn show(broker: Broker, partition: i32) -> Result<Shown, NotShown> {
    let ask = |spec| latest(broker.clone(), partition, spec);
    let log_start = ask(OffsetSpec::Earliest).await.ok_or("no log start")?;
    let high_watermark = ask(OffsetSpec::Latest).await.ok_or("no end")?;
    let mut log: Vec<(Offset, Value)> = Vec::new();
    let mut next = log_start;
    let mut failures = 0;
    while next < high_watermark {
        let wanted = vec![(partition, next)];
        let session = Session::internal("judge");
        let answer = fetch(broker.clone(), session, wanted, BYTES, Duration::ZERO).await;
        let found = match answer.into_iter().next() {
            Some(Ok(fetched)) => records(&fetched.records, next)?,
            Some(Err(FetchError::OffsetOutOfRange { log_start, .. })) if next < log_start => {
                return Err(NotShown::Expired);
            }
            Some(Err(error)) if failures > 5 => return Err(error.to_string().into()),
            _ => Vec::new(),
        };
        match found.last() {
            Some((last, _)) => next = last.advance(1),
            None if failures > 5 => return Err(format!("nothing at {next}").into()),
            None => {
                failures += 1;
                sleep(Duration::from_secs(1)).await;
            }
        }
        log.extend(found);
    }
    Ok(Shown {
        log_start,
        high_watermark,
        log,
    })
}

/// Waits until every node answers.
pub(super) async fn all_up(cluster: &Cluster) {
    for node in 0..cluster.settings.nodes {
        let mut connection = Connection::new(cluster, &format!("hello n{node}"));
        while cluster.broker(node).is_none() {
            sleep(connection.dice.time(50, 500)).await;
        }
    }
}
