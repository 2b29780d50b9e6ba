//! Requests that their clients gave up, and what was acknowledged to them elsewhere meanwhile (I12).

use std::collections::BTreeMap;
use std::sync::Mutex;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::*;
use crate::env::Clock;
use crate::types::{Generation, GroupId, MemberId, TopicId, TopicPartition};

/// How long the first node is cut off. Its requests are still under way when it is over.
const CUT: Duration = Duration::from_secs(8);

const TOPIC: &str = "t";

/// What a client may ask for.
#[derive(Clone, Copy, Debug)]
enum Ask {
    /// Of a group without members.
    Commit(i64),
    ForgetOffset,
    DeleteGroup,
    Retention(&'static str),
    ClusterRetention(&'static str),
    Create,
    Delete,
    Grow(i32),
    /// Delete records up to the high watermark.
    Trim,
    Produce,
}

/// What came first, and after it through another node.
const OVERTAKEN: &[(Ask, &[Ask])] = &[
    (Ask::Commit(100), &[Ask::Commit(200)]),
    (Ask::Commit(100), &[Ask::ForgetOffset]),
    (Ask::Commit(100), &[Ask::DeleteGroup]),
    (Ask::Commit(100), &[Ask::Delete, Ask::Create]),
    (Ask::ForgetOffset, &[Ask::Commit(200)]),
    (Ask::DeleteGroup, &[Ask::Commit(200)]),
    (Ask::Retention("1000000"), &[Ask::Retention("2000000")]),
    (Ask::Retention("1000000"), &[Ask::Delete, Ask::Create]),
    (
        Ask::ClusterRetention("1000000"),
        &[Ask::ClusterRetention("2000000")],
    ),
    (Ask::Create, &[Ask::Create, Ask::Delete]),
    (Ask::Delete, &[Ask::Delete, Ask::Create]),
    (Ask::Delete, &[Ask::Retention("2000000")]),
    (Ask::Grow(10), &[Ask::Grow(6)]),
    (Ask::Grow(10), &[Ask::Delete, Ask::Create]),
    (Ask::Trim, &[Ask::Produce]),
    (Ask::Trim, &[Ask::Delete, Ask::Create, Ask::Produce]),
];

fn group() -> GroupId {
    GroupId::new("g").unwrap()
}

fn partition(broker: &Broker) -> TopicPartition {
    let state = broker.manifest().state();
    let topic = state.topic_by_name(TOPIC).map(|topic| topic.id());
    TopicPartition {
        topic: topic.unwrap_or_else(|| TopicId(uuid::Uuid::nil())),
        partition: PartitionIndex(0),
    }
}

async fn ask(broker: &Broker, ask: Ask) -> Result<(), String> {
    let session = session();
    let topics = [TopicRef::Name(TOPIC.to_owned())];
    let retention = |value: &str| {
        let value = ConfigEdit::Set(value.to_owned());
        BTreeMap::from([("retention.ms".to_owned(), value)])
    };
    let text = |error: &dyn std::fmt::Display| error.to_string();
    match ask {
        Ask::Commit(offset) => {
            let identity = Identity {
                group: group(),
                member: MemberId::from(""),
                instance: None,
                generation: Generation::NONE,
            };
            let offset = CommitOffset {
                partition: partition(broker),
                offset: Offset(offset),
                leader_epoch: None,
                metadata: None,
            };
            let done = broker
                .commit_offsets(&session, &identity, vec![offset])
                .await;
            done.and_then(|mut done| done.remove(0))
                .map_err(|error| text(&error))
        }
        Ask::ForgetOffset => {
            let wanted = [partition(broker)];
            let done = broker.delete_offsets(&session, &group(), &wanted).await;
            done.and_then(|mut done| done.remove(0))
                .map_err(|error| text(&error))
        }
        Ask::DeleteGroup => {
            let done = broker.delete_group(&session, &group()).await;
            done.map_err(|error| text(&error))
        }
        Ask::Retention(value) => {
            let topic = ConfigResource::Topic(TOPIC.to_owned());
            let done = broker
                .alter_configs(&session, &topic, retention(value), false)
                .await;
            done.map_err(|error| text(&error))
        }
        Ask::ClusterRetention(value) => {
            let value = ConfigEdit::Set(value.to_owned());
            let edits = BTreeMap::from([("log.retention.ms".to_owned(), value)]);
            let cluster = ConfigResource::Cluster;
            let done = broker.alter_configs(&session, &cluster, edits, false).await;
            done.map_err(|error| text(&error))
        }
        Ask::Create => {
            let new = NewTopic {
                name: TOPIC.to_owned(),
                partitions: Some(2),
                ..NewTopic::default()
            };
            let done = broker.create_topics(&session, vec![new], false).await;
            let done = done.map_err(|error| text(&error))?.remove(0);
            done.map(|_| ()).map_err(|error| text(&error))
        }
        Ask::Delete => {
            let done = broker.delete_topics(&session, &topics).await;
            let done = done.map_err(|error| text(&error))?.remove(0);
            done.map(|_| ()).map_err(|error| text(&error))
        }
        Ask::Grow(total) => {
            let more = MorePartitions {
                topic: TOPIC.to_owned(),
                total,
                assignment: None,
            };
            let done = broker.create_partitions(&session, vec![more], false).await;
            done.map_err(|error| text(&error))?
                .remove(0)
                .map_err(|error| text(&error))
        }
        Ask::Trim => {
            let [topic] = topics;
            let wanted = [(topic, PartitionIndex(0), None)];
            let mut done = broker.delete_records(&session, &wanted).await;
            done.remove(0).map(|_| ()).map_err(|error| text(&error))
        }
        Ask::Produce => {
            let wanted = vec![to(TOPIC, 0, batch(&["x"], 1_700_000_000_000, None))];
            let mut done = broker.produce(&session, wanted, TIMEOUT).await;
            done.remove(0).map(|_| ()).map_err(|error| text(&error))
        }
    }
}

/// All that these requests change, but for records that were there before them: those may go late. The newest must be
/// there.
async fn shown(broker: &Broker) -> String {
    let state = broker.manifest().fresh().await.unwrap();
    let topic = state.topic_by_name(TOPIC).map(|topic| {
        let partition = topic.partition(PartitionIndex(0)).unwrap();
        let end = partition.high_watermark();
        let log = (end, partition.log_start() < end);
        (
            topic.id(),
            topic.configs().clone(),
            topic.partition_count(),
            log,
        )
    });
    let offsets = state.group(&group()).map(|group| {
        let offsets = group.offsets().map(|(at, offset)| (at, offset.offset));
        offsets.collect::<Vec<_>>()
    });
    format!("{topic:?} {:?} {offsets:?}", state.configs())
}

/// A machine that can be suspended: its clocks go on, and tokio's stands still.
#[derive(Clone)]
struct Machine {
    began: Instant,
    slept: Arc<Mutex<Duration>>,
}

impl Clock for Machine {
    fn wall(&self) -> Timestamp {
        START.after(self.boot())
    }

    fn boot(&self) -> Duration {
        self.began.elapsed() + *self.slept.lock().unwrap()
    }
}

/// How a client gives a request up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GivesUp {
    /// It hangs up.
    Noticed,
    /// The node does not notice.
    Silently,
    /// The node's machine is suspended for an hour, a moment after the request reached it.
    Suspended,
}

/// Asks one node, which is cut off meanwhile, gives that up, and asks another node. How it came out for whoever still
/// waits at the one node.
async fn overtake(
    fault: Fault,
    how: GivesUp,
    (late, newer): (Ask, &[Ask]),
) -> Option<Result<(), String>> {
    let (one, other, cut) = Faulty::switched_of_two(fault);
    let machine = Machine {
        began: Instant::now(),
        slept: Arc::default(),
    };
    let env = Env::new(Arc::new(machine.clone()), StdRng::seed_from_u64(1));
    let options = NodeOptions::new(StoreUrl::memory(), env);
    let one = Node::start(one, options, &NodeMetrics::default()).await;
    let (one, other) = (one.unwrap(), node(&other, 2, |_| {}).await);
    let (one, other) = (one.broker(), other.broker());
    let what = format!("{late:?} overtaken by {newer:?}, {fault:?}, {how:?}");
    let cut_for = match how {
        GivesUp::Suspended => CUT / 40,
        _ => CUT,
    };
    if !matches!(late, Ask::Create) {
        for first in [Ask::Create, Ask::Produce, Ask::Commit(50)] {
            ask(one, first).await.unwrap();
        }
    }
    // A new log is at the newest level from its first commit on.
    ask(one, Ask::ClusterRetention("3000000")).await.unwrap();
    other.manifest().fresh().await.unwrap();
    cut.set(true);
    let asked = tokio::spawn({
        let one = one.clone();
        async move { ask(&one, late).await }
    });
    tokio::time::sleep(cut_for / 2).await;
    assert!(!asked.is_finished(), "{what}");
    if how == GivesUp::Noticed {
        asked.abort();
    }
    for newer in newer {
        ask(other, *newer)
            .await
            .unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    let expected = shown(other).await;
    if how == GivesUp::Suspended {
        *machine.slept.lock().unwrap() += Duration::from_secs(3600);
    }
    tokio::time::sleep(cut_for / 2).await;
    cut.set(false);
    tokio::time::sleep(Duration::from_secs(60)).await;
    for node in [one, other] {
        assert_eq!(shown(node).await, expected, "{what}");
    }
    asked.await.ok()
}

#[tokio::test(start_paused = true)]
async fn what_a_client_gave_up_undoes_nothing_that_it_was_told_elsewhere() {
    for case in OVERTAKEN {
        for fault in [Fault::Fails, Fault::CreateFails, Fault::Hangs] {
            overtake(fault, GivesUp::Noticed, *case).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nor_does_it_when_the_node_does_not_know_that_it_was_given_up() {
    all_are_overtaken(GivesUp::Silently).await;
}

#[tokio::test(start_paused = true)]
async fn nor_does_it_when_the_machine_was_suspended_with_the_request_under_way() {
    all_are_overtaken(GivesUp::Suspended).await;
}

async fn all_are_overtaken(how: GivesUp) {
    for case in OVERTAKEN {
        for fault in [Fault::Fails, Fault::CreateFails, Fault::Hangs] {
            let told = overtake(fault, how, *case).await.unwrap();
            // What was committed for a topic goes with it, and an offset up to which records go is an offset.
            let is_harmless = matches!(
                case,
                (Ask::Commit(_), [Ask::Delete, ..]) | (Ask::Trim, [Ask::Produce])
            );
            assert!(told.is_err() || is_harmless, "{case:?}: {told:?}");
        }
    }
}

#[test]
fn the_time_of_a_suspension_counts() {
    assert_needed(&[(
        Rule::SuspensionsAgeRequests,
        nor_does_it_when_the_machine_was_suspended_with_the_request_under_way,
    )]);
}
