//! Commits on their way at successive seqs.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::*;
use crate::manifest::object::EncodedCommit;
use crate::rules::{Rule, assert_needed};
use crate::state::Level;
use crate::state::op::Commit;
use crate::store::Created;
use crate::types::{CommitId, LogId, ProducerId};

const PUT: Duration = Duration::from_millis(30);

pub(super) fn in_flight(commits: usize) -> ManifestOptions {
    ManifestOptions {
        commits_in_flight: commits,
        ..ManifestOptions::default()
    }
}

/// Asks for a producer id; they are given in the order of the log.
pub(super) async fn next_id(manifest: &Manifest) -> i64 {
    let op = Op::AllocateProducerIds { count: 1 };
    match manifest.commit_one(op).await.unwrap() {
        Ok(Applied::ProducerIds(id)) => id.0,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_every_now_and_then_waits_for_its_own_put_and_no_other() {
    let (store, _) = Faulty::store(|_| Fault::Slow(PUT));
    let mut took = Vec::new();
    for most in [1, 4] {
        let node = start_with(&store, most as u64, in_flight(most)).await;
        for _ in 0..8 {
            next_id(&node.manifest).await;
        }
        let before = store.metrics().requests(RequestKind::CommitPut);
        let mut waiting = Vec::new();
        for _ in 0..50 {
            let manifest = node.manifest.clone();
            waiting.push(tokio::spawn(async move {
                let begun = Instant::now();
                (next_id(&manifest).await, begun.elapsed())
            }));
            tokio::time::sleep(PUT / 3).await;
        }
        let mut told = Vec::new();
        for wait in waiting {
            told.push(wait.await.unwrap());
        }
        assert!(
            told.windows(2).all(|pair| pair[0].0 < pair[1].0),
            "{told:?}"
        );
        let puts = store.metrics().requests(RequestKind::CommitPut) - before;
        took.push((
            told.iter().map(|(_, took)| *took).sum::<Duration>() / 50,
            puts,
        ));
    }
    let [(alone, few), (together, many)] = took[..] else {
        panic!()
    };
    assert!(alone > PUT * 5 / 4 && few < 25, "{alone:?}, {few}");
    assert!(
        together < PUT * 11 / 10 && many == 50,
        "{together:?}, {many}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_behind_a_commit_that_lost_its_race_comes_after_it() {
    for seed in 0..30 {
        // PUTs overtake each other, fail, and lose their answers.
        let chaos = unreliable(seed);
        let (store, _) = Faulty::store(move |request| match chaos(request) {
            Fault::None => Fault::Slow(Duration::from_millis(request as u64 * 7919 % 40)),
            fault => fault,
        });
        let mut nodes = Vec::new();
        for node in 0..2 {
            let manifest = start_with(&store, seed * 10 + node, in_flight(4)).await;
            nodes.push((manifest, ManifestMetrics::default()));
        }
        let mut waiting = Vec::new();
        for n in 0..60u64 {
            // One alone, then both.
            let node = if n < 30 { 0 } else { (n % 2) as usize };
            let manifest = nodes[node].0.manifest.clone();
            let task = tokio::spawn(async move { next_id(&manifest).await });
            waiting.push((node, task));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut told = [Vec::new(), Vec::new()];
        for (node, task) in waiting {
            told[node].push(task.await.unwrap());
        }
        for ids in &told {
            assert!(ids.is_sorted(), "seed {seed}: {ids:?}");
        }
        let mut all = told.concat();
        all.sort_unstable();
        assert_eq!(all, (0..60).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_acknowledged_while_a_commit_before_it_is_not_in_the_log() {
    // The PUT of the first of two commits on their way takes a minute, that of the second nothing.
    let (puts, slow) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(usize::MAX)),
    );
    let (counter, which) = (Arc::clone(&puts), Arc::clone(&slow));
    let (store, _) = Faulty::store(move |_| {
        let is_it = counter.fetch_add(1, Ordering::Relaxed) == which.load(Ordering::Relaxed);
        Fault::Slow(if is_it { Duration::from_secs(2) } else { PUT })
    });
    let node = start_with(&store, 1, in_flight(4)).await;
    for _ in 0..4 {
        next_id(&node.manifest).await;
    }
    let seq = node.manifest.state().seq();
    slow.store(puts.load(Ordering::Relaxed), Ordering::Relaxed);
    let first = tokio::spawn({
        let manifest = node.manifest.clone();
        async move { next_id(&manifest).await }
    });
    tokio::time::sleep(PUT).await;
    let second = tokio::spawn({
        let manifest = node.manifest.clone();
        async move { next_id(&manifest).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    // The second stands in the log behind a place where nothing stands, and nobody is told of it.
    let behind = ObjectPath::commit(seq.next().next());
    store.get(&behind, RequestKind::CommitGet).await.unwrap();
    assert!(!first.is_finished() && !second.is_finished());
    let other = start(&store, 2).await;
    assert_eq!(other.manifest.state().seq(), seq);
    // Whoever commits now fills the place; what stands behind it is void there.
    let third = next_id(&other.manifest).await;
    assert_eq!(
        (third, first.await.unwrap(), second.await.unwrap()),
        (4, 5, 6)
    );
    let (one, two) = (
        node.manifest.fresh().await.unwrap(),
        other.manifest.fresh().await.unwrap(),
    );
    assert_eq!(one.to_bytes(), two.to_bytes());
}

/// A commit of somebody who has no ops.
async fn stranger_at(store: &Store, seq: Seq) {
    let commit = Commit {
        id: CommitId {
            incarnation: Incarnation(Uuid::from_u128(seq.0.into())),
            counter: 1,
        },
        time: Timestamp(0),
        ops: Vec::new(),
        follows: None,
        forwarded: Vec::new(),
        wall: None,
        log: LogId::ZERO,
    };
    let object = EncodedCommit::new(&commit, Bytes::new()).unwrap().object;
    let path = ObjectPath::commit(seq);
    let created = store.create(&path, object, RequestKind::CommitPut).await;
    assert!(matches!(created, Ok(Created::Created)), "{created:?}");
}

/// A node with one commit on its way and `behind` more that are sent behind it, all of which lose their races to more
/// incarnations than the fold remembers. Then, when the first of those has gone again, a stranger takes the next place,
/// if `overtaken`. What they were told, in order.
async fn forgotten(behind: usize, overtaken: bool) -> Vec<Result<Applied, Stopped>> {
    let quick = Arc::new(AtomicUsize::new(0));
    let takes = Arc::clone(&quick);
    let (store, _) = Faulty::store(move |_| {
        let is_quick = takes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            left.checked_sub(1)
        });
        match is_quick {
            Ok(_) => Fault::None,
            Err(_) => Fault::Slow(PUT),
        }
    });
    // At the second level many more are remembered.
    let options = ManifestOptions {
        level: Level::FIRST,
        ..in_flight(4)
    };
    let node = start_with(&store, 1, options).await;
    for _ in 0..4 {
        next_id(&node.manifest).await;
    }
    let ask = || {
        let manifest = node.manifest.clone();
        tokio::spawn(async move {
            let op = Op::AllocateProducerIds { count: 1 };
            let mut committed = manifest.commit(vec![op]).await?;
            Ok(committed.outcomes.pop().unwrap().unwrap())
        })
    };
    let first = ask();
    tokio::time::sleep(PUT / 4).await;
    let seq = node.manifest.state().seq().0;
    for place in 2..1_100 {
        let store = store.clone();
        tokio::spawn(async move { stranger_at(&store, Seq(seq + place)).await });
    }
    let mut waiting = vec![first];
    for _ in 0..behind {
        waiting.push(ask());
        // Each in a commit of its own.
        tokio::time::sleep(PUT / 4).await;
    }
    let mut told = Vec::new();
    for (number, asked) in waiting.into_iter().enumerate() {
        told.push(asked.await.unwrap());
        if number == 1 && overtaken {
            // Those after it have just been sent.
            quick.store(1, Ordering::Relaxed);
            stranger_at(&store, node.manifest.state().seq().next()).await;
        }
    }
    assert!(node.manifest.state().seq().0 > seq + 1_099);
    told
}

fn ids(from: i64, count: usize) -> Vec<Result<Applied, Stopped>> {
    let id = |n| Ok(Applied::ProducerIds(ProducerId(n)));
    (from..).take(count).map(id).collect()
}

#[tokio::test(start_paused = true)]
async fn a_commit_whose_author_the_fold_forgot_meanwhile_goes_again_as_another() {
    assert_eq!(forgotten(1, false).await, ids(4, 2));
}

/// The node sends the third and the fourth side by side, and the third loses its race.
fn commits_that_go_again_as_others_stay_in_order() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        assert_eq!(forgotten(3, true).await, ids(4, 4));
    });
}

#[test]
fn what_goes_again_as_others_is_not_overtaken_by_what_was_sent_behind_it() {
    commits_that_go_again_as_others_stay_in_order();
    assert_needed(&[(
        Rule::RenewedCommitsStayChained,
        commits_that_go_again_as_others_stay_in_order,
    )]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_takes_no_commits_is_still_read() {
    let (store, switch) = Faulty::switched(Fault::CreateFails);
    let node = start(&store, 1).await;
    let first = node.manifest.commit(vec![create_topic("first", 1)]).await;
    let first = first.unwrap().seq;
    switch.set(true);
    let manifest = node.manifest.clone();
    let second = async move { manifest.commit(vec![create_topic("second", 2)]).await };
    let second = tokio::spawn(second);
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let asked = Instant::now();
        let fresh = node.manifest.fresh().await.unwrap();
        let took = asked.elapsed();
        assert!(took < Duration::from_millis(50), "{took:?}");
        assert_eq!(fresh.seq(), first);
    }
    assert!(!second.is_finished());
    switch.set(false);
    assert_eq!(second.await.unwrap().unwrap().seq, first.next());
}
