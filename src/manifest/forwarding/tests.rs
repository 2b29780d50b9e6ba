use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Duration;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::forwarder::{Overdue, Verdict};
use super::receiver::MAX_FORWARDED;
use super::*;
use crate::manifest::freshness::Moment;
use crate::manifest::object::EncodedCommit;
use crate::manifest::peers::Declined;
use crate::manifest::prepared::{Prepared, Sent};
use crate::manifest::tail::LogEnd;
use crate::manifest::{Caller, ManifestMetrics, ManifestOptions, Submission, open};
use crate::state::op::{Commit, Op, RegisterNode};
use crate::state::{Folded, Level};
use crate::store::Store;
use crate::types::{CommitId, LogId, PeerKey, Timestamp};

/// This node, two others that are registered, and one that is not.
const OWN: u128 = 1;
const OTHER: u128 = 2;
const THIRD: u128 = 3;
const STRANGER: u128 = 4;

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// The way to nodes that never answer.
#[derive(Debug)]
struct Nobody;

#[async_trait]
impl Peers for Nobody {
    async fn forward(&self, _: &Peer, _: Bytes) -> Result<Seq, PeerError> {
        std::future::pending().await
    }

    async fn log_after(&self, _: &Peer, _: LogId, _: Seq) -> Result<Vec<(Seq, Bytes)>, PeerError> {
        std::future::pending().await
    }
}

fn run(number: u128) -> Incarnation {
    Incarnation(Uuid::from_u128(number))
}

fn id(incarnation: u128, counter: u64) -> CommitId {
    CommitId {
        incarnation: run(incarnation),
        counter,
    }
}

fn register(incarnation: u128) -> Op {
    Op::RegisterNode(RegisterNode {
        incarnation: run(incarnation),
        endpoints: BTreeMap::from([(PEER_ENDPOINT.to_owned(), format!("n{incarnation}"))]),
        rack: None,
        version: Level::NEWEST.label("0"),
        lease_millis: 600_000,
        peer_key: Some(PeerKey::new([incarnation as u8; 32])),
        properties: None,
    })
}

fn commit(id: CommitId, ops: Vec<Op>, follows: Option<u64>) -> Commit {
    Commit {
        id,
        time: Timestamp(1_000),
        ops,
        follows,
        forwarded: Vec::new(),
        wall: None,
        log: LogId::ZERO,
    }
}

fn something() -> Vec<Op> {
    vec![Op::AllocateProducerIds { count: 1 }]
}

/// A log in which each of these nodes has registered itself with its first commit.
fn log_of(nodes: &[u128]) -> State {
    let mut state = State::new();
    let raise = Op::RaiseLevel { to: Level::NEWEST };
    let raised = commit(id(99, 1), vec![raise], None);
    state.apply(state.seq().next(), &raised, 0);
    for node in nodes {
        let registered = commit(id(*node, 1), vec![register(*node)], None);
        state.apply(state.seq().next(), &registered, 0);
    }
    state
}

fn prepared(commit: Commit) -> Prepared {
    Prepared {
        encoded: EncodedCommit::new(&commit, Bytes::new()).unwrap(),
        commit,
        batch: Vec::new(),
        own_data: 0,
        received: Vec::new(),
        sent: None,
        forwarded: None,
        begun: Instant::now(),
        lost: 0,
    }
}

fn moment() -> Moment {
    Moment {
        at: Instant::now(),
        boot: Duration::ZERO,
    }
}

/// A commit of this node on its way to the store, of which nothing is heard.
fn on_its_way(counter: u64) -> Sent {
    Sent {
        prepared: prepared(commit(id(OWN, counter), something(), None)),
        seq: Seq(100),
        sent: moment(),
        answer: AbortOnDropHandle::new(tokio::spawn(std::future::pending())),
    }
}

fn forwarding() -> Forwarding {
    let mut forwarding = Forwarding::new(run(OWN), 4);
    forwarding.set_peers(Arc::new(Nobody));
    forwarding
}

fn with_effect() -> Folded {
    Folded::Outcomes(vec![Ok(crate::state::op::Applied::Done)])
}

/// To whom the next commit goes; `None` if to the store.
fn receiver(forwarding: &Forwarding, now: Instant, state: &State) -> Option<String> {
    let in_flight = VecDeque::new();
    let log = LogView {
        state,
        in_flight: &in_flight,
    };
    match forwarding.route(now, log, None) {
        Route::Store => None,
        Route::Forward(contact) => Some(contact.peer.address),
    }
}

fn to(number: u128) -> Option<String> {
    Some(format!("n{number}"))
}

/// A commit that the other node forwards, and what it is told.
fn received(counter: u64, follows: u64) -> (Received, oneshot::Receiver<Result<Seq, Declined>>) {
    let commit = commit(id(OTHER, counter), something(), Some(follows));
    let object = EncodedCommit::new(&commit, Bytes::new()).unwrap().object;
    let (reply, told) = oneshot::channel();
    let share = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    (Received::read(&object, reply, share).unwrap(), told)
}

#[tokio::test(start_paused = true)]
async fn commits_go_to_the_newest_author_until_a_second_after_another_node_wrote_last() {
    let (state, now) = (log_of(&[OWN, OTHER]), Instant::now());
    let mut forwarding = forwarding();
    forwarding.note_writers(now, run(OTHER), &with_effect(), &[]);
    assert_eq!(receiver(&forwarding, now, &state), None, "no race was lost");
    forwarding.note_lost_race(now);
    assert_eq!(receiver(&forwarding, now, &state), to(OTHER));
    let late = now + SECOND - MILLISECOND;
    assert_eq!(receiver(&forwarding, late, &state), to(OTHER));
    assert_eq!(receiver(&forwarding, now + SECOND, &state), None);

    // What another node writes keeps it up; what has no ops does not, nor what this node writes.
    forwarding.note_writers(late, run(OTHER), &with_effect(), &[]);
    let later = late + SECOND - MILLISECOND;
    assert_eq!(receiver(&forwarding, later, &state), to(OTHER));
    forwarding.note_writers(later, run(OTHER), &Folded::Outcomes(Vec::new()), &[]);
    forwarding.note_writers(later, run(OWN), &with_effect(), &[]);
    forwarding.note_writers(later, run(OTHER), &Folded::Outcomes(Vec::new()), &[]);
    assert_eq!(receiver(&forwarding, later, &state), to(OTHER));
    assert_eq!(receiver(&forwarding, late + SECOND, &state), None);
    // Once it is over, only another lost race begins it again.
    forwarding.note_writers(late + SECOND, run(OTHER), &with_effect(), &[]);
    assert_eq!(receiver(&forwarding, late + SECOND, &state), None);
}

#[tokio::test(start_paused = true)]
async fn a_forwarded_commit_of_another_node_counts_as_written_by_it() {
    let (state, now) = (log_of(&[OWN, OTHER]), Instant::now());
    let mut forwarding = forwarding();
    forwarding.note_writers(now, run(OTHER), &with_effect(), &[]);
    forwarding.note_lost_race(now);
    let late = now + SECOND - MILLISECOND;
    let third = (id(THIRD, 2), with_effect());
    forwarding.note_writers(late, run(OWN), &with_effect(), &[third]);
    forwarding.note_writers(late, run(OTHER), &Folded::Outcomes(Vec::new()), &[]);
    assert_eq!(receiver(&forwarding, now + SECOND, &state), to(OTHER));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_wins_or_cannot_be_spoken_to_is_no_receiver() {
    let (state, now) = (log_of(&[OWN, OTHER]), Instant::now());
    let mut forwarding = forwarding();
    forwarding.note_lost_race(now);
    forwarding.note_writers(now, run(OTHER), &with_effect(), &[]);
    // Sent by somebody who did not know yet that the race was lost.
    forwarding.note_writers(now, run(THIRD), &Folded::Void, &[]);
    assert_eq!(receiver(&forwarding, now, &state), to(OTHER));
    forwarding.note_writers(now, run(STRANGER), &with_effect(), &[]);
    assert_eq!(receiver(&forwarding, now, &state), None);
    forwarding.note_writers(now, run(OWN), &with_effect(), &[]);
    assert_eq!(receiver(&forwarding, now, &state), None);
    let mut silent = Forwarding::new(run(OWN), 4);
    silent.note_lost_race(now);
    silent.note_writers(now, run(OTHER), &with_effect(), &[]);
    assert_eq!(receiver(&silent, now, &state), None, "it has no peers");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_forwarded_while_a_commit_is_on_its_way_to_the_store() {
    let (state, now) = (log_of(&[OWN, OTHER]), Instant::now());
    let mut forwarding = forwarding();
    forwarding.note_writers(now, run(OTHER), &with_effect(), &[]);
    forwarding.note_lost_race(now);
    let in_flight = VecDeque::from([on_its_way(2)]);
    let log = LogView {
        state: &state,
        in_flight: &in_flight,
    };
    let route = forwarding.route(now, log, None);
    assert!(matches!(route, Route::Store), "{route:?}");
}

#[tokio::test(start_paused = true)]
async fn the_first_commit_of_a_node_is_forwarded_only_if_it_registers_it_and_lost_a_race() {
    let (state, now) = (log_of(&[OTHER]), Instant::now());
    let mut forwarding = forwarding();
    forwarding.note_writers(now, run(OTHER), &with_effect(), &[]);
    forwarding.note_lost_race(now);
    let in_flight = VecDeque::new();
    let log = LogView {
        state: &state,
        in_flight: &in_flight,
    };
    let is_forwarded = |ops: Vec<Op>| {
        let again = prepared(commit(id(OWN, 1), ops, None));
        let route = forwarding.route(now, log, Some(&again));
        matches!(route, Route::Forward(_))
    };
    assert!(is_forwarded(vec![register(OWN)]));
    assert!(!is_forwarded(something()));
    assert!(!is_forwarded(vec![register(OTHER)]));
    assert_eq!(receiver(&forwarding, now, &state), None, "it is new");
    assert_eq!(forwarding.last_before(&state), Commit::NOTHING);
}

/// Forwards the commit with that count to the other node.
fn forward(forwarding: &mut Forwarding, state: &State, counter: u64) {
    let in_flight = VecDeque::new();
    let log = LogView {
        state,
        in_flight: &in_flight,
    };
    let Route::Forward(contact) = forwarding.route(Instant::now(), log, None) else {
        panic!("it is not to be forwarded");
    };
    let before = Some(forwarding.last_before(state));
    let commit = prepared(commit(id(OWN, counter), something(), before));
    let env = Env::simulated(1, Timestamp(0));
    forwarding.forward(&env, commit, &contact, moment(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_did_not_store_a_commit_is_avoided_unless_another_node_is_ahead_now() {
    let (state, now) = (log_of(&[OWN, OTHER, THIRD]), Instant::now());
    let mut forwarding = forwarding();
    forwarding.note_writers(now, run(OTHER), &with_effect(), &[]);
    forwarding.note_lost_race(now);
    forward(&mut forwarding, &state, 2);
    forward(&mut forwarding, &state, 3);
    let verdict =
        |forwarding: &mut Forwarding, error| forwarding.note_answer(now, state.seq(), &Err(error));
    let declined = verdict(&mut forwarding, PeerError::Declined(Declined::NotWinning));
    let from = Verdict::RecallFrom {
        receiver: Some(run(OTHER)),
        is_declined: true,
    };
    assert_eq!(declined, from);
    let recalled = forwarding.recall();
    let ids: Vec<_> = recalled.iter().map(|prepared| prepared.commit.id).collect();
    assert_eq!(ids, [id(OWN, 2), id(OWN, 3)]);
    assert!(recalled.iter().all(|prepared| prepared.forwarded.is_some()));
    assert!(!forwarding.has_forwarded());

    // Another node is ahead: it is not the one that declined.
    forwarding.note_writers(now, run(THIRD), &with_effect(), &[]);
    forwarding.avoid(Some(run(OTHER)), now);
    assert_eq!(receiver(&forwarding, now, &state), to(THIRD));
    forward(&mut forwarding, &state, 2);
    let lost = verdict(&mut forwarding, PeerError::unreachable(&"it is gone"));
    let from = Verdict::RecallFrom {
        receiver: Some(run(THIRD)),
        is_declined: false,
    };
    assert_eq!(lost, from);
    forwarding.recall();
    forwarding.avoid(Some(run(THIRD)), now);
    assert_eq!(receiver(&forwarding, now, &state), None);
    let soon = now + Duration::from_millis(100);
    assert_eq!(receiver(&forwarding, soon, &state), to(THIRD));
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_is_believed_only_as_far_as_the_log_shows() {
    let (state, now) = (log_of(&[OWN, OTHER]), Instant::now());
    let mut forwarding = forwarding();
    forwarding.note_writers(now, run(OTHER), &with_effect(), &[]);
    forwarding.note_lost_race(now);
    forward(&mut forwarding, &state, 2);
    // Nothing is said: its time is the receiver's usual time and half a second more.
    let overdue = |is_acknowledged| Overdue {
        id: id(OWN, 2),
        is_acknowledged,
    };
    let until = now + SECOND + Duration::from_millis(500);
    assert_eq!(forwarding.deadline(), Some(until));
    assert_eq!(forwarding.overdue(until - MILLISECOND), None);
    assert_eq!(forwarding.overdue(until), Some(overdue(false)));
    // It is said to stand where this node has not read yet.
    let stored = Ok(state.seq().next());
    let verdict = forwarding.note_answer(now, state.seq(), &stored);
    assert_eq!(verdict, Verdict::Wait);
    let until = now + Duration::from_millis(100);
    assert_eq!(forwarding.overdue(until), Some(overdue(true)));
    assert!(forwarding.is_forwarded(id(OWN, 2)));
    // It stands where this node has read, and it was not found to have had an effect.
    let verdict = forwarding.note_answer(now, state.seq().next(), &stored);
    assert_eq!(verdict, Verdict::Recall);
}

#[tokio::test(start_paused = true)]
async fn forwarded_commits_are_spread_over_the_time_of_a_put_and_bounded() {
    let (state, now) = (log_of(&[OWN, OTHER]), Instant::now());
    let mut forwarding = forwarding();
    forwarding.note_writers(now, run(OTHER), &with_effect(), &[]);
    forwarding.note_lost_race(now);
    let put = Duration::from_millis(80);
    assert_eq!(forwarding.slot(Some(now), put), None, "none is under way");
    for counter in 2..=5 {
        assert!(forwarding.may_forward());
        assert_eq!(forwarding.last_before(&state), counter - 1);
        forward(&mut forwarding, &state, counter);
    }
    assert!(!forwarding.may_forward());
    assert_eq!(forwarding.slot(Some(now), put), Some(now + put / 4));
    // One that was seen in the log makes space, whichever it is.
    assert!(forwarding.take_forwarded(id(OWN, 3)).is_some());
    assert!(forwarding.take_forwarded(id(OWN, 3)).is_none());
    assert!(forwarding.may_forward() && forwarding.is_oldest(id(OWN, 2)));
}

#[tokio::test(start_paused = true)]
async fn received_commits_of_one_author_go_in_order_and_an_early_one_waits_while_anything_is_sent()
{
    let state = log_of(&[OWN, OTHER]);
    let (idle, busy) = (VecDeque::new(), VecDeque::from([on_its_way(2)]));
    let log = |in_flight| LogView {
        state: &state,
        in_flight,
    };
    let mut forwarding = forwarding();
    let (third, _third) = received(3, 2);
    forwarding.admit(third, Level::NEWEST, &Route::Store);
    assert!(!forwarding.has_received(log(&busy)));
    assert!(forwarding.take_received(0, log(&busy)).is_empty());
    // Nothing would wake it, so it goes: void, if the one before it never comes.
    assert!(forwarding.has_received(log(&idle)));
    let (second, _second) = received(2, 1);
    forwarding.admit(second, Level::NEWEST, &Route::Store);
    assert!(forwarding.has_received(log(&busy)));
    let taken = forwarding.take_received(0, log(&busy));
    let counts = |taken: &[Received]| -> Vec<u64> {
        taken.iter().map(|taken| taken.commit.id.counter).collect()
    };
    assert_eq!(counts(&taken), [2, 3]);
    // Detached from an object that lost its race, they are the next to go.
    let (fourth, _fourth) = received(4, 3);
    forwarding.admit(fourth, Level::NEWEST, &Route::Store);
    forwarding.return_received(taken);
    let taken = forwarding.take_received(0, log(&busy));
    assert_eq!(counts(&taken), [2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_recalled_commit_is_dropped_and_one_that_cannot_be_admitted_is_declined() {
    let (state, now) = (log_of(&[OWN, OTHER]), Instant::now());
    let in_flight = VecDeque::new();
    let log = LogView {
        state: &state,
        in_flight: &in_flight,
    };
    let mut forwarding = forwarding();
    let (recalled, told) = received(2, 1);
    forwarding.admit(recalled, Level::NEWEST, &Route::Store);
    drop(told);
    assert!(!forwarding.has_received(log));

    forwarding.note_writers(now, run(OTHER), &with_effect(), &[]);
    forwarding.note_lost_race(now);
    let route = forwarding.route(now, log, None);
    let (commit, told) = received(2, 1);
    forwarding.admit(commit, Level::NEWEST, &route);
    assert_eq!(told.await.unwrap(), Err(Declined::NotWinning));

    let mut forwarder = Forwarding::new(run(OTHER), 4);
    let (own, told) = received(2, 1);
    forwarder.admit(own, Level::NEWEST, &Route::Store);
    assert_eq!(told.await.unwrap(), Err(Declined::Unfit));

    let (waiting, told) = received(2, 1);
    forwarding.admit(waiting, Level::NEWEST, &Route::Store);
    forwarding.decline_received(Declined::Stopping);
    assert_eq!(told.await.unwrap(), Err(Declined::Stopping));
}

#[tokio::test(start_paused = true)]
async fn a_commit_too_large_to_forward_waits_until_the_end_of_the_log_was_seen() {
    let env = Env::simulated(1, Timestamp(1_000_000));
    // A log that begins raises its level first.
    let options = ManifestOptions {
        level: Level::FIRST,
        ..ManifestOptions::default()
    };
    let opening = open(
        Store::memory(),
        env,
        options,
        ManifestMetrics::default(),
        Arc::new(|_, _| {}),
        run(OWN),
    );
    let (_manifest, mut tail, _) = opening.await.unwrap();
    let peer = Peer {
        incarnation: run(OTHER),
        address: "n2".to_owned(),
        key: PeerKey::new([OTHER as u8; 32]),
    };
    let peers = Arc::new(Nobody);
    let to = Contact { peer, peers };
    tail.waiting.push_back(Submission {
        ops: something(),
        data: Bytes::from(vec![0; MAX_FORWARDED + 1]),
        caller: Caller::insists(),
        done: Box::new(|_| {}),
    });
    tail.end = LogEnd::Unseen { failures: 0 };
    for _ in 0..2 {
        assert!(!tail.forward_next(&to, Instant::now()));
        assert_eq!((tail.in_flight.len(), tail.resend.len()), (0, 1));
    }
    tail.end = LogEnd::Seen;
    assert!(tail.forward_next(&to, Instant::now()));
    assert_eq!((tail.in_flight.len(), tail.resend.len()), (1, 0));
}
