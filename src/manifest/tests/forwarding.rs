//! Commits that are forwarded, and what nodes tell each other of the log.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;

use super::pipeline::{in_flight, next_id};
use super::*;
use crate::manifest::handle::Message;
use crate::manifest::object::EncodedCommit;
use crate::state::Level;
use crate::state::op::{Commit, RegisterNode};
use crate::types::{CommitId, LogId, PeerKey};

const PUT: Duration = Duration::from_millis(30);
const HOP: Duration = Duration::from_millis(1);
const BEAT: Duration = Duration::from_millis(10);

/// How the nodes of a test speak to each other.
#[derive(Default)]
struct Network {
    nodes: Mutex<BTreeMap<String, Manifest>>,
    manners: Manners,
    /// What was forwarded, whether it arrived or not.
    forwarded: Mutex<Vec<(String, Bytes)>>,
    told: AtomicU64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Manners {
    #[default]
    Good,
    /// What is forwarded is stored, and nobody says so.
    Silent,
    /// What is forwarded never arrives.
    Deaf,
    /// Nobody tells of the log.
    Secretive,
    /// Nothing is answered.
    Gone,
    /// What is forwarded at about the same time arrives in another order.
    Jumbled,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Network")
    }
}

impl Network {
    fn at(&self, peer: &Peer) -> Result<Manifest, PeerError> {
        let nodes = self.nodes.lock().unwrap();
        let found = nodes.get(&peer.address).cloned();
        found.ok_or_else(|| PeerError::Unreachable("nobody is there".into()))
    }
}

#[async_trait]
impl Peers for Network {
    async fn forward(&self, peer: &Peer, commit: Bytes) -> Result<Seq, PeerError> {
        let number = {
            let mut forwarded = self.forwarded.lock().unwrap();
            forwarded.push((peer.address.clone(), commit.clone()));
            forwarded.len() as u32
        };
        tokio::time::sleep(HOP / 2).await;
        if self.manners == Manners::Jumbled {
            // Each second one is overtaken by the one behind it.
            tokio::time::sleep(BEAT / 2 * (number % 2) * 3).await;
        }
        let manifest = self.at(peer)?;
        if matches!(self.manners, Manners::Deaf | Manners::Gone) {
            std::future::pending::<()>().await;
        }
        let stored = tokio::spawn(async move { manifest.admit(commit).await });
        if self.manners == Manners::Silent {
            std::future::pending::<()>().await;
        }
        let seq = stored.await.unwrap().map_err(PeerError::Declined)?;
        tokio::time::sleep(HOP / 2).await;
        Ok(seq)
    }

    async fn log_after(
        &self,
        peer: &Peer,
        log: LogId,
        after: Seq,
    ) -> Result<Vec<(Seq, Bytes)>, PeerError> {
        if matches!(
            self.manners,
            Manners::Silent | Manners::Secretive | Manners::Gone
        ) {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(HOP / 2).await;
        let news = self
            .at(peer)?
            .log_after(log, after, Duration::from_secs(5))
            .await;
        let news = news.map_err(PeerError::Declined)?;
        tokio::time::sleep(HOP / 2).await;
        self.told.fetch_add(news.len() as u64, Ordering::Relaxed);
        Ok(news)
    }
}

struct Member {
    manifest: Manifest,
    metrics: ManifestMetrics,
    _stop: tokio_util::sync::DropGuard,
}

/// Starts nodes that know each other.
async fn company(store: &Store, count: u64, network: &Arc<Network>) -> Vec<Member> {
    let mut members = Vec::new();
    for number in 0..count {
        members.push(join(store, number, network).await);
    }
    members
}

/// Starts a node that registers itself.
async fn join(store: &Store, number: u64, network: &Arc<Network>) -> Member {
    let env = Env::simulated(number, Timestamp(1_000_000));
    let incarnation = Incarnation(env.random_uuid());
    let metrics = ManifestMetrics::default();
    let (manifest, tail, _) = open(
        store.clone(),
        env,
        in_flight(4),
        metrics.clone(),
        Arc::new(|_, _| {}),
        incarnation,
    )
    .await
    .unwrap();
    let peers: Arc<dyn Peers> = network.clone();
    let stop = CancellationToken::new();
    tokio::spawn(tail.with_peers(peers).run(stop.clone()));
    let address = format!("n{number}");
    let register = Op::RegisterNode(RegisterNode {
        incarnation,
        endpoints: BTreeMap::from([(PEER_ENDPOINT.to_owned(), address.clone())]),
        rack: None,
        version: Level::NEWEST.label("0"),
        lease_millis: 600_000,
        peer_key: Some(PeerKey::new([number as u8; 32])),
        properties: None,
    });
    manifest.commit_one(register).await.unwrap().unwrap();
    network
        .nodes
        .lock()
        .unwrap()
        .insert(address, manifest.clone());
    Member {
        manifest,
        metrics,
        _stop: stop.drop_guard(),
    }
}

/// Has every node commit at a steady beat. Returns the ids that each was given, and how long that took, sorted.
async fn write(members: &[Member], times: u32) -> (Vec<Vec<i64>>, Vec<Duration>) {
    let mut writers = Vec::new();
    for (number, member) in members.iter().enumerate() {
        let manifest = member.manifest.clone();
        writers.push(tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(3) * number as u32).await;
            let mut waiting = Vec::new();
            for _ in 0..times {
                let manifest = manifest.clone();
                waiting.push(tokio::spawn(async move {
                    let begun = Instant::now();
                    (next_id(&manifest).await, begun.elapsed())
                }));
                tokio::time::sleep(BEAT).await;
            }
            let mut told = Vec::new();
            for wait in waiting {
                told.push(wait.await.unwrap());
            }
            told
        }));
    }
    let (mut ids, mut took) = (Vec::new(), Vec::new());
    for writer in writers {
        let told = writer.await.unwrap();
        ids.push(told.iter().map(|(id, _)| *id).collect());
        took.extend(told.iter().map(|(_, took)| *took));
    }
    took.sort();
    (ids, took)
}

/// Each was given ids in the order in which it asked, and all together without a gap: every commit took effect, once.
fn assert_once_and_in_order(ids: &[Vec<i64>]) {
    for of_one in ids {
        assert!(of_one.is_sorted(), "{of_one:?}");
    }
    let mut all = ids.concat();
    all.sort_unstable();
    assert_eq!(all, (0..all.len() as i64).collect::<Vec<_>>());
}

async fn assert_agreed(members: &[Member]) {
    let mut states = Vec::new();
    for member in members {
        states.push(member.manifest.fresh().await.unwrap().to_bytes());
    }
    assert!(states.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test(start_paused = true)]
async fn nodes_that_write_at_once_wait_for_one_put_each_however_many_they_are() {
    for count in [2, 5, 10] {
        let (store, _) = Faulty::store(|_| Fault::Slow(PUT));
        let network = Arc::new(Network::default());
        let members = company(&store, count, &network).await;
        // Until they have found who wins.
        let (first, _) = write(&members, 50).await;
        let before = store.metrics().requests(RequestKind::CommitPut);
        let (then, took) = write(&members, 200).await;
        let ids: Vec<_> = first
            .into_iter()
            .zip(then)
            .map(|(a, b)| [a, b].concat())
            .collect();
        assert_once_and_in_order(&ids);
        let puts = store.metrics().requests(RequestKind::CommitPut) - before;
        let (p50, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
        // Two seconds at a PUT each 7.5 ms is what one node alone would make.
        assert!(puts < 400, "{count} nodes: {puts} PUTs");
        assert!(p50 < PUT * 3 / 2, "{count} nodes: {p50:?}");
        assert!(p99 < PUT * 2, "{count} nodes: {p99:?}");
        let received: u64 = members
            .iter()
            .map(|member| member.metrics.received.get())
            .sum();
        assert!(received > 100 * (count - 1), "{count} nodes: {received}");
        assert_agreed(&members).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_receiver_stored_and_did_not_acknowledge_takes_effect_once() {
    for manners in [Manners::Silent, Manners::Deaf, Manners::Secretive] {
        let (store, _) = Faulty::store(|_| Fault::Slow(PUT));
        let network = Arc::new(Network {
            manners,
            ..Network::default()
        });
        let members = company(&store, 3, &network).await;
        let (ids, _) = write(&members, 100).await;
        assert_once_and_in_order(&ids);
        assert!(!network.forwarded.lock().unwrap().is_empty(), "{manners:?}");
        let recalled: u64 = members
            .iter()
            .map(|member| member.metrics.recalled.get())
            .sum();
        assert!(recalled > 0 || manners == Manners::Secretive, "{manners:?}");
        assert_agreed(&members).await;
    }
}

#[tokio::test(start_paused = true)]
async fn commits_that_overtake_each_other_on_their_way_to_the_receiver_take_effect_all_the_same() {
    let (store, _) = Faulty::store(|_| Fault::Slow(PUT));
    let network = Arc::new(Network {
        manners: Manners::Jumbled,
        ..Network::default()
    });
    let members = company(&store, 3, &network).await;
    let (ids, _) = write(&members, 100).await;
    assert_once_and_in_order(&ids);
    let sum = |of: fn(&ManifestMetrics) -> u64| -> u64 {
        members.iter().map(|member| of(&member.metrics)).sum()
    };
    let (forwarded, recalled) = (
        sum(|metrics| metrics.forwarded.get()),
        sum(|metrics| metrics.recalled.get()),
    );
    assert!(forwarded > 100, "{forwarded}");
    assert!(recalled < forwarded / 20, "{recalled} of {forwarded}");
    assert_agreed(&members).await;
}

/// Waits until something is so.
async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_stands_since_it_was_sent_before_does_not_show_that_nothing_stands_behind_it()
{
    let (requests, slow) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicU64::new(u64::MAX)),
    );
    let (counter, which) = (requests.clone(), slow.clone());
    let (store, _) = Faulty::store(move |_| {
        let is_it = counter.fetch_add(1, Ordering::Relaxed) == which.load(Ordering::Relaxed);
        Fault::Slow(if is_it { Duration::from_secs(3) } else { PUT })
    });
    let network = Arc::new(Network {
        manners: Manners::Gone,
        ..Network::default()
    });
    let members = company(&store, 2, &network).await;
    let (node, other) = (&members[0], &members[1].manifest);
    let commit = |manifest: &Manifest| {
        let manifest = manifest.clone();
        tokio::spawn(async move { next_id(&manifest).await })
    };
    // The node loses a race, and forwards two commits to the other, where they do not arrive.
    let first = commit(&node.manifest);
    until(|| network.forwarded.lock().unwrap().len() == 1).await;
    let second = commit(&node.manifest);
    until(|| network.forwarded.lock().unwrap().len() == 2).await;
    let forwarded = network.forwarded.lock().unwrap()[1].1.clone();
    // It recalls them and sends them itself, the second one slowly, and a third one behind it.
    until(|| node.metrics.recalled.get() == 2).await;
    slow.store(requests.load(Ordering::Relaxed), Ordering::Relaxed);
    first.await.unwrap();
    let third = commit(&node.manifest);
    tokio::time::sleep(PUT * 4).await;
    // Only now does the other store the second, and then finds the third and goes on.
    other.fresh().await.unwrap();
    other.admit(forwarded).await.unwrap();
    let seq = other.fresh().await.unwrap().seq();
    next_id(other).await;
    assert_eq!(other.state().seq(), seq.next(), "behind the third one");
    let asked = node.manifest.fresh();
    assert_eq!(asked.await.unwrap().seq(), seq.next());
    assert!(second.await.unwrap() < third.await.unwrap());
    assert_eq!(
        node.metrics.recalled.get(),
        3,
        "the third was forwarded, and sent where it stood"
    );
    assert_agreed(&members).await;
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_a_receiver_stores_long_after_changes_nothing() {
    let (store, _) = Faulty::store(|_| Fault::Slow(PUT));
    let network = Arc::new(Network::default());
    let members = company(&store, 3, &network).await;
    let (ids, _) = write(&members, 50).await;
    assert_once_and_in_order(&ids);
    let forwarded = std::mem::take(&mut *network.forwarded.lock().unwrap());
    assert!(!forwarded.is_empty());
    tokio::time::sleep(Duration::from_secs(10)).await;
    for (at, commit) in forwarded.into_iter().take(40) {
        let late = if at == "n0" { 1 } else { 0 };
        // The forwarder declines it; anybody else stores it, in vain.
        let _ = members[late].manifest.admit(commit).await;
    }
    let next = next_id(&members[0].manifest).await;
    assert_eq!(next, 150);
    assert_agreed(&members).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_receiver_dies_goes_on_by_itself() {
    let (store, _) = Faulty::store(|_| Fault::Slow(PUT));
    let network = Arc::new(Network::default());
    let mut members = company(&store, 3, &network).await;
    let (ids, _) = write(&members, 50).await;
    assert_once_and_in_order(&ids);
    let received = |member: &Member| member.metrics.received.get();
    let winner = (0..3).max_by_key(|at| received(&members[*at])).unwrap();
    network.nodes.lock().unwrap().remove(&format!("n{winner}"));
    drop(members.remove(winner));
    let (ids, took) = write(&members, 100).await;
    for of_one in &ids {
        assert!(of_one.is_sorted());
    }
    let mut all = ids.concat();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 200);
    assert!(took[took.len() / 2] < PUT * 2, "{:?}", took[took.len() / 2]);
    assert_agreed(&members).await;
}

#[tokio::test(start_paused = true)]
async fn a_follower_hears_of_a_commit_one_hop_after_it_is_stored_and_asks_the_store_nothing() {
    let (store, _) = Faulty::store(|_| Fault::Slow(PUT));
    let network = Arc::new(Network::default());
    let members = company(&store, 2, &network).await;
    let _following = members[1].manifest.follow();
    // It has to have found a commit of the other by itself.
    next_id(&members[0].manifest).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut states = members[1].manifest.subscribe();
    let probes = store.metrics().requests(RequestKind::CommitProbe);
    let mut took = Vec::new();
    for _ in 0..50 {
        let begun = Instant::now();
        next_id(&members[0].manifest).await;
        let seq = members[0].manifest.state().seq();
        states.wait_for(|state| state.seq() >= seq).await.unwrap();
        took.push(begun.elapsed());
    }
    took.sort();
    // At first it may be waiting for a probe that it had begun.
    assert!(took[48] <= PUT + HOP * 2, "{took:?}");
    let heard = members[1].metrics.heard.get();
    assert!(heard >= 45, "{heard}");
    let probes = store.metrics().requests(RequestKind::CommitProbe) - probes;
    assert!(probes < 10, "{probes}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_forwarded_is_declined() {
    let store = Store::memory();
    let network = Arc::new(Network::default());
    let members = company(&store, 2, &network).await;
    let manifest = &members[0].manifest;
    let commit = |incarnation: u128, follows| Commit {
        id: CommitId {
            incarnation: Incarnation(Uuid::from_u128(incarnation)),
            counter: 2,
        },
        time: Timestamp(0),
        ops: vec![Op::AllocateProducerIds { count: 1 }],
        follows,
        forwarded: Vec::new(),
        wall: None,
        log: LogId::ZERO,
    };
    let encoded = |commit: &Commit| EncodedCommit::new(commit, Bytes::new()).unwrap().object;
    let sound = encoded(&commit(9, Some(1)));
    let mut damaged = sound.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    for unfit in [
        Bytes::from_static(b"nonsense"),
        sound.slice(..sound.len() - 1),
        damaged.into(),
        Bytes::from(vec![0; (6 << 20) + 1]),
        // It may come twice.
        encoded(&commit(9, None)),
    ] {
        assert_eq!(manifest.admit(unfit).await, Err(Declined::Unfit));
    }
    // Of another log, it says so.
    let other = encoded(&Commit {
        log: LogId(1),
        ..commit(9, Some(1))
    });
    assert_eq!(manifest.admit(other).await, Err(Declined::OtherLog));
    let other = manifest.log_after(LogId(1), Seq(0), Duration::ZERO).await;
    assert_eq!(other, Err(Declined::OtherLog));
    // Out of order it is stored, and void.
    manifest.fresh().await.unwrap();
    let seq = manifest.admit(sound).await.unwrap();
    assert_eq!(next_id(manifest).await, 0);
    assert_eq!(
        manifest
            .log_after(LogId::ZERO, Seq(seq.0 - 1), Duration::ZERO)
            .await
            .unwrap()[0]
            .0,
        seq
    );
    // What is not at hand is in the store.
    let forgotten = members[1]
        .manifest
        .log_after(LogId::ZERO, Seq(0), Duration::ZERO)
        .await;
    assert_eq!(forgotten, Err(Declined::Forgotten));
    let nothing = manifest
        .log_after(LogId::ZERO, manifest.state().seq(), Duration::from_secs(1))
        .await;
    assert_eq!(nothing, Ok(Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn large_commits_of_nodes_that_write_at_once_wait_for_none_either() {
    let (store, _) = Faulty::store(|_| Fault::Slow(PUT));
    let network = Arc::new(Network::default());
    let members = company(&store, 3, &network).await;
    write(&members, 20).await;
    let large = Bytes::from(vec![7; 4 << 20]);
    let mut writers = Vec::new();
    for member in &members {
        let (manifest, large) = (member.manifest.clone(), large.clone());
        writers.push(tokio::spawn(async move {
            let mut slowest = Duration::ZERO;
            for _ in 0..20 {
                let begun = Instant::now();
                let (told, done) = tokio::sync::oneshot::channel();
                let submission = Message::Commit(Submission {
                    ops: vec![Op::AllocateProducerIds { count: 1 }],
                    data: large.clone(),
                    caller: Caller::insists(),
                    done: Box::new(|committed| told.send(committed.is_ok()).unwrap()),
                });
                assert!(manifest.shared.mailbox.send(submission).await.is_ok());
                assert!(done.await.unwrap());
                slowest = slowest.max(begun.elapsed());
            }
            slowest
        }));
    }
    for writer in writers {
        let slowest = writer.await.unwrap();
        assert!(slowest < PUT * 6, "{slowest:?}");
    }
    assert_agreed(&members).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_far_from_the_store_registers_beside_two_that_write_without_pause() {
    let limits = [
        (Manners::Good, 20),
        (Manners::Jumbled, 20),
        // It waits in vain to hear that its registration was stored, and finds it in the log.
        (Manners::Silent, 45),
    ];
    for (manners, limit) in limits {
        // Thirty commits a second.
        let (near, bucket) = Faulty::store(|_| Fault::Slow(PUT * 4));
        let far = bucket.beside_with(|_| Fault::Slow(Duration::from_secs(2)));
        let network = Arc::new(Network {
            manners,
            ..Network::default()
        });
        let members = company(&near, 2, &network).await;
        let writing = async { write(&members, 4_000).await };
        let joining = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let begun = Instant::now();
            (join(&far, 2, &network).await, begun.elapsed())
        };
        let ((ids, _), (newcomer, took)) = tokio::join!(writing, joining);
        assert_once_and_in_order(&ids);
        // It opens the log, loses a race, reads by whom, and forwards its registration.
        assert!(took < Duration::from_secs(limit), "{manners:?}: {took:?}");
        let forwarded = newcomer.metrics.forwarded.get();
        assert!(forwarded > 0, "{manners:?}: nothing was forwarded");
        let of_it = newcomer.manifest.state().nodes().count();
        assert_eq!(of_it, 3, "{manners:?}");
    }
}
