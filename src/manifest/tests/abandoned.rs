//! Ops for which nobody waits any more.

use super::pipeline::next_id;
use super::*;
use crate::rules::{Rule, assert_needed};

fn id() -> Vec<Op> {
    vec![Op::AllocateProducerIds { count: 1 }]
}

/// Hands in ops, and gives them up after a while.
async fn give_up(manifest: &Manifest, after: Duration) {
    let gave_up = tokio::time::timeout(after, manifest.commit(id())).await;
    assert!(gave_up.is_err(), "the store is away");
}

#[tokio::test(start_paused = true)]
async fn what_was_given_up_is_not_sent_when_the_store_is_back() {
    for fault in [Fault::Fails, Fault::Hangs] {
        let (one, other, cut) = Faulty::switched_of_two(fault);
        let (one, other) = (start(&one, 1).await, start(&other, 2).await);
        let (one, other) = (&one.manifest, &other.manifest);
        cut.set(true);
        let second = Duration::from_secs(1);
        // The first is under way; the others wait for it, and one of them insists.
        let waits = tokio::spawn({
            let one = one.clone();
            async move { one.commit(id()).await.unwrap().outcomes }
        });
        tokio::join!(give_up(one, second), give_up(one, second * 2));
        assert_eq!(next_id(other).await, 0, "{fault:?}");
        cut.set(false);
        let outcomes = waits.await.unwrap();
        assert_eq!(outcomes, [Ok(Applied::ProducerIds(ProducerId(1)))]);
        assert_eq!(next_id(one).await, 2, "{fault:?}");
        assert_eq!(next_id(other).await, 3, "{fault:?}");
    }
}

#[test]
fn a_commit_loop_that_sends_what_nobody_waits_for_is_found() {
    let test = what_was_given_up_is_not_sent_when_the_store_is_back;
    assert_needed(&[(Rule::AbandonedOpsAreDropped, test)]);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_may_be_in_the_log_is_settled_whoever_waits() {
    let (store, lost) = Faulty::switched(Fault::AnswerLost);
    let node = start(&store, 1).await;
    lost.set(true);
    give_up(&node.manifest, Duration::from_secs(1)).await;
    lost.set(false);
    assert_eq!(next_id(&node.manifest).await, 1);
}
