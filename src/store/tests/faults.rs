//! What the client makes of a store that misbehaves.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use object_store::memory::InMemory;
use tokio::time::Instant;

use crate::env::Env;
use crate::store::{
    Created, ObjectPath, Outcome, PART_LEN, RequestKind, Store, StoreError, StoreMetrics,
    StoreOptions,
};
use crate::testing::{Fault, Faulty};
use crate::types::{Seq, Timestamp};

const PUT: RequestKind = RequestKind::CommitPut;
const GET: RequestKind = RequestKind::CommitGet;

fn commit() -> ObjectPath {
    ObjectPath::commit(Seq(1))
}

fn first(fault: Fault) -> impl Fn(usize) -> Fault {
    move |n| if n == 0 { fault } else { Fault::None }
}

#[tokio::test(start_paused = true)]
async fn a_create_whose_answer_is_lost_is_unknown_and_was_tried_once() {
    let (store, faulty) = Faulty::store(first(Fault::AnswerLost));
    let created = store
        .create(&commit(), Bytes::from_static(b"mine"), PUT)
        .await
        .unwrap();
    assert!(matches!(created, Created::Unknown(_)), "{created:?}");
    assert_eq!(faulty.requests(), 1);
    assert_eq!(store.metrics().count(PUT, Outcome::Unknown), 1);
    // It was applied: only reading can tell.
    assert_eq!(store.get(&commit(), GET).await.unwrap(), "mine");
}

#[tokio::test(start_paused = true)]
async fn a_create_that_fails_or_hangs_is_unknown_and_was_tried_once() {
    for fault in [Fault::Fails, Fault::Hangs] {
        let (store, faulty) = Faulty::store(first(fault));
        let created = store
            .create(&commit(), Bytes::from_static(b"mine"), PUT)
            .await
            .unwrap();
        assert!(matches!(created, Created::Unknown(_)), "{created:?}");
        assert_eq!(faulty.requests(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_about_the_log_that_got_lost_is_given_up_soon_and_an_upload_is_not() {
    let (store, _) = Faulty::store(|n| if n < 3 { Fault::Hangs } else { Fault::None });
    let path = commit();
    // A store that is slow, and not just silent, gets twice the time at the second attempt.
    for (kind, body, seconds) in [
        (PUT, 10, 5),
        (PUT, 3 << 20, 10 + 6),
        (RequestKind::SegmentPut, 10, 30),
    ] {
        let began = Instant::now();
        let created = store.create(&path, vec![0; body], kind).await.unwrap();
        assert!(matches!(created, Created::Unknown(_)), "{created:?}");
        assert_eq!(began.elapsed().as_secs(), seconds);
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_is_repeated_over_a_burst_of_errors_with_growing_pauses() {
    let (store, faulty) = Faulty::store(|n| {
        if (1..6).contains(&n) {
            Fault::Fails
        } else {
            Fault::None
        }
    });
    assert!(matches!(
        store.create(&commit(), vec![1], PUT).await,
        Ok(Created::Created)
    ));
    let began = Instant::now();
    assert_eq!(store.get(&commit(), GET).await.unwrap(), vec![1]);
    assert_eq!(faulty.requests(), 1 + 6);
    assert_eq!(store.metrics().count(GET, Outcome::Retry), 5);
    assert_eq!(store.metrics().count(GET, Outcome::Ok), 1);
    // 100 + 200 + 400 + 800 + 1600 ms, each between half and one and a half.
    let waited = began.elapsed();
    assert!(
        waited > Duration::from_millis(1550) && waited < Duration::from_millis(4650),
        "{waited:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_upload_is_repeated_after_a_lost_answer() {
    let (store, faulty) = Faulty::store(first(Fault::AnswerLost));
    store
        .put_unique(&commit(), vec![7; 10], RequestKind::SegmentPut)
        .await
        .unwrap();
    assert_eq!(faulty.requests(), 2);
    assert_eq!(store.metrics().sent(RequestKind::SegmentPut), 20);
}

/// Puts as those do for whom others wait; how long it took.
async fn put_hedged(store: &Store, bytes: usize) -> Duration {
    let (began, path) = (Instant::now(), commit());
    let put = store.put_hedged(&path, vec![7; bytes], RequestKind::SegmentPut);
    put.await.unwrap();
    began.elapsed()
}

/// A store that swallows so many of the first requests and answers the others soon.
fn swallowing(requests: usize) -> (Store, Arc<Faulty>) {
    Faulty::store(move |n| match n < requests {
        true => Fault::Hangs,
        false => Fault::Slow(Duration::from_millis(50)),
    })
}

#[tokio::test(start_paused = true)]
async fn a_put_that_is_swallowed_is_sent_once_more_beside_itself() {
    // One; and one whose hedge is swallowed as well.
    for swallowed in [1, 2] {
        let (store, faulty) = swallowing(swallowed);
        let took = put_hedged(&store, 8 << 20).await;
        let most = [0, 1_000, 3_000][swallowed];
        assert!(took < Duration::from_millis(most), "{took:?}");
        assert_eq!(faulty.requests(), swallowed + 1);
        let count = |outcome| store.metrics().count(RequestKind::SegmentPut, outcome);
        assert_eq!(
            (count(Outcome::Ok), count(Outcome::Cancelled)),
            (1, swallowed as u64)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_put_is_hedged_until_one_attempt_is_answered_and_few_of_them_are_under_way_at_once() {
    // From what was sent in vain, how many milliseconds it may take.
    for (swallowed, longest) in [
        (3, 2_000),
        (4, 3_000),
        (5, 4_000),
        (8, 10_000),
        (12, 29_000),
    ] {
        let (store, faulty) = swallowing(swallowed);
        let mut put = std::pin::pin!(put_hedged(&store, 10));
        let took = loop {
            let tick = Duration::from_millis(10);
            if let Ok(took) = tokio::time::timeout(tick, put.as_mut()).await {
                break took;
            }
            let count = |outcome| store.metrics().count(RequestKind::SegmentPut, outcome);
            let ended = count(Outcome::Ok) + count(Outcome::Cancelled);
            let under_way = faulty.requests() as u64 - ended;
            assert!((1..=3).contains(&under_way), "{under_way}");
        };
        assert!(
            took < Duration::from_millis(longest),
            "{swallowed}: {took:?}"
        );
        assert_eq!(faulty.requests(), swallowed + 1);
        assert_eq!(
            store
                .metrics()
                .count(RequestKind::SegmentPut, Outcome::Retry),
            0
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_attempt_and_the_first_hedge_are_not_given_up_for_later_hedges() {
    for slow in [0, 1] {
        let (store, faulty) = Faulty::store(move |n| match n == slow {
            true => Fault::Slow(Duration::from_secs(9)),
            false => Fault::Hangs,
        });
        let took = put_hedged(&store, 10).await;
        assert!(took < Duration::from_secs(10), "{slow}: {took:?}");
        assert!(faulty.requests() > 4);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hedge_for_which_there_was_no_place_is_sent_soon_after_there_is_one() {
    // For data there are 48 places. Reads have all others until then.
    const READS: usize = 47;
    let reads_end = Duration::from_secs(4);
    let (store, faulty) = Faulty::store(move |n| match n {
        0..READS => Fault::Slow(reads_end),
        READS => Fault::Hangs,
        _ => Fault::Slow(Duration::from_millis(50)),
    });
    let path = commit();
    let reads = (0..READS).map(|_| store.get(&path, RequestKind::SegmentGet));
    let reads = futures::future::join_all(reads);
    let (_, took) = tokio::join!(reads, put_hedged(&store, 10));
    let after = took.checked_sub(reads_end);
    assert!(
        after.is_some_and(|after| after < Duration::from_millis(500)),
        "{took:?}"
    );
    assert_eq!(faulty.requests(), READS + 2);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_does_not_replace_an_answer_that_comes_late() {
    // The first is answered in two seconds, the one beside it fails.
    let (store, faulty) = Faulty::store(|n| match n {
        0 => Fault::Slow(Duration::from_secs(2)),
        _ => Fault::Fails,
    });
    let took = put_hedged(&store, 10).await;
    assert!(
        took >= Duration::from_secs(2) && took < Duration::from_millis(2_100),
        "{took:?}"
    );
    assert!(faulty.requests() > 1);
}

#[tokio::test(start_paused = true)]
async fn to_a_store_that_is_slow_for_all_few_puts_are_sent_twice() {
    let (store, faulty) = Faulty::store(|_| Fault::Slow(Duration::from_secs(3)));
    for _ in 0..200 {
        let took = put_hedged(&store, 8 << 20).await;
        assert!(took <= Duration::from_secs(3));
    }
    // Some at first, until it is known to be slow.
    assert!(faulty.requests() < 220, "{}", faulty.requests());
    // One put in eight, one a second, and those saved up at first.
    let began = Instant::now();
    let (store, faulty) = Faulty::store(|n| match n % 3 {
        0 => Fault::Hangs,
        _ => Fault::Slow(Duration::from_millis(50)),
    });
    for _ in 0..80 {
        put_hedged(&store, 10).await;
    }
    let hedges = store
        .metrics()
        .count(RequestKind::SegmentPut, Outcome::Cancelled);
    let bound = 4 + 80 / 8 + began.elapsed().as_secs();
    assert!((8..=bound).contains(&hedges), "{hedges} of {bound}");
    assert!(faulty.requests() < 200);
}

#[tokio::test(start_paused = true)]
async fn over_a_narrow_link_puts_that_are_hedged_still_arrive() {
    const MIB: u32 = 1 << 20;
    // Without hedges a round takes so many seconds, of the 30 that an attempt has: at 2.4 MiB/s it is nearly all of
    // them, and what is hedged once may run out of time once.
    for (per_second, rounds, longest) in [
        (8 * MIB, 3, 3 * 11),
        (4 * MIB, 3, 3 * 21),
        (3 * MIB, 3, 3 * 28),
        (MIB / 10 * 24, 4, 4 * 27 + 40),
    ] {
        let (store, faulty) = Faulty::store(move |_| Fault::Narrow(per_second));
        let began = Instant::now();
        for _ in 0..rounds {
            let puts = (0..8).map(|_| put_hedged(&store, 8 << 20));
            futures::future::join_all(puts).await;
        }
        let took = began.elapsed();
        assert!(
            took < Duration::from_secs(longest),
            "{per_second}: {took:?}"
        );
        assert!(faulty.requests() > rounds * 8, "nothing was hedged");
    }
}

#[tokio::test(start_paused = true)]
async fn of_puts_that_are_swallowed_together_all_are_hedged_once_one_is_answered() {
    let (store, faulty) = swallowing(8);
    let began = Instant::now();
    futures::future::join_all((0..8).map(|_| put_hedged(&store, 10))).await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(6), "{took:?}");
    assert_eq!(faulty.requests(), 16);
}

#[tokio::test(start_paused = true)]
async fn a_put_that_fails_is_repeated_though_its_hedge_is_swallowed() {
    let (store, faulty) = Faulty::store(|n| match n {
        0 => Fault::SlowlyFails(Duration::from_millis(500)),
        1 => Fault::Hangs,
        _ => Fault::Slow(Duration::from_millis(50)),
    });
    // What others have left of the budget does not matter.
    let took = put_hedged(&store, 10).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(faulty.requests(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_away_is_given_up_at_the_deadline() {
    for fault in [Fault::Fails, Fault::Hangs] {
        let (store, _) = Faulty::store(move |_| fault);
        let began = Instant::now();
        let error = store.get(&commit(), GET).await.unwrap_err();
        assert!(error.is_retriable(), "{error:?}");
        let took = began.elapsed();
        assert!(
            took > Duration::from_secs(120) && took <= Duration::from_secs(180),
            "{took:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_made_once_and_its_failure_is_left_to_the_caller() {
    let (store, faulty) = Faulty::store(|_| Fault::Fails);
    let error = store
        .probe(&commit(), 10, RequestKind::CommitProbe)
        .await
        .unwrap_err();
    assert!(error.is_retriable());
    assert_eq!(faulty.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_at_once_and_not_repeated() {
    let (store, faulty) = Faulty::store(|_| Fault::Denied);
    let error = store.get(&commit(), GET).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
    assert!(error.to_string().contains("rights"), "{error}");
    let error = store.create(&commit(), vec![1], PUT).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
    assert_eq!(faulty.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_request_gives_its_place_back_and_counts_as_cancelled() {
    let (store, _) = Faulty::store(|n| if n < 100 { Fault::Hangs } else { Fault::None });
    for _ in 0..100 {
        let path = commit();
        let create = store.create(&path, vec![1], PUT);
        assert!(
            tokio::time::timeout(Duration::from_millis(1), create)
                .await
                .is_err()
        );
    }
    assert_eq!(store.metrics().count(PUT, Outcome::Cancelled), 100);
    assert!(matches!(
        store.create(&commit(), vec![1], PUT).await,
        Ok(Created::Created)
    ));
}

#[tokio::test(start_paused = true)]
async fn hanging_segment_reads_leave_places_for_commits() {
    let (store, _) = Faulty::store(|n| if n < 48 { Fault::Hangs } else { Fault::None });
    let path = ObjectPath::cluster();
    let reads = (0..200).map(|_| store.get(&path, RequestKind::SegmentGet).boxed_local());
    let mut reads = futures::future::join_all(reads);
    assert!(futures::poll!(&mut reads).is_pending());
    assert!(matches!(
        store.create(&commit(), vec![1], PUT).await,
        Ok(Created::Created)
    ));
}

const UPLOAD: RequestKind = RequestKind::CompactedPut;

/// Uploads two parts: requests 0 (begin), 1 and 2 (parts), 3 (end), if nothing goes wrong.
async fn upload(store: &Store) -> std::result::Result<(), StoreError> {
    let path = ObjectPath::cluster();
    let mut upload = store.upload(&path, 1, UPLOAD).await?;
    upload.part(1, Bytes::from(vec![2; 10])).await?;
    upload.part(0, Bytes::from(vec![1; PART_LEN])).await?;
    upload.finish().await
}

#[tokio::test(start_paused = true)]
async fn every_step_of_an_upload_is_repeated_whatever_goes_wrong_with_it() {
    for fault in [Fault::Fails, Fault::AnswerLost, Fault::Hangs] {
        for step in 0..4 {
            let (store, faulty) =
                Faulty::store(move |n| if n == step { fault } else { Fault::None });
            upload(&store).await.unwrap();
            let whole = store.get(&ObjectPath::cluster(), GET).await.unwrap();
            assert_eq!(whole.len(), PART_LEN + 10, "{fault:?} in step {step}");
            assert_eq!((whole[0], whole[PART_LEN]), (1, 2));
            // Only the upload whose beginning was never heard of stays, empty.
            let left = usize::from(step == 0 && fault == Fault::AnswerLost);
            assert_eq!(faulty.uploads(), left, "{fault:?} in step {step}");
            assert_eq!(store.metrics().count(UPLOAD, Outcome::Retry), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_whose_end_is_never_answered_has_succeeded_if_the_object_is_there() {
    // The request that ends it is applied and its answer lost; then everything but the last question fails.
    let (store, _) = Faulty::store(|n| match n {
        3 => Fault::AnswerLost,
        4..10 => Fault::Hangs,
        _ => Fault::None,
    });
    let began = Instant::now();
    upload(&store).await.unwrap();
    assert!(
        began.elapsed() >= Duration::from_secs(170),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_fails_or_is_dropped_leaves_no_parts() {
    // The second part is refused.
    let (store, faulty) = Faulty::store(|n| if n == 2 { Fault::Denied } else { Fault::None });
    let error = upload(&store).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(faulty.uploads(), 0);

    // A part hangs, and nobody waits any more.
    let (store, faulty) = Faulty::store(|n| if n == 2 { Fault::Hangs } else { Fault::None });
    let waited = tokio::time::timeout(Duration::from_secs(5), upload(&store)).await;
    assert!(waited.is_err());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(faulty.uploads(), 0);
    assert!(
        store
            .get(&ObjectPath::cluster(), GET)
            .await
            .unwrap_err()
            .is_not_found()
    );

    // The abort itself is repeated.
    let (store, faulty) = Faulty::store(|n| if n == 1 { Fault::Fails } else { Fault::None });
    let upload = store
        .upload(&ObjectPath::cluster(), 1, UPLOAD)
        .await
        .unwrap();
    upload.abort().await.unwrap();
    assert_eq!((faulty.uploads(), faulty.requests()), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn no_more_parts_are_on_their_way_than_was_said() {
    let (store, faulty) = Faulty::store(|n| if n == 0 { Fault::None } else { Fault::Hangs });
    let mut upload = store
        .upload(&ObjectPath::cluster(), 3, UPLOAD)
        .await
        .unwrap();
    let mut taken = 0;
    for number in 0..10 {
        let part = upload.part(number, Bytes::from(vec![0; PART_LEN]));
        if tokio::time::timeout(Duration::from_millis(10), part)
            .await
            .is_err()
        {
            break;
        }
        taken += 1;
    }
    assert_eq!((taken, faulty.requests()), (3, 1 + 3));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_takes_only_whole_objects_gets_an_upload_as_one() {
    let objects = Arc::new(InMemory::new());
    let options = StoreOptions::new(Env::simulated(7, Timestamp(1_700_000_000_000)));
    let store = Store::from_object_store(objects, options, StoreMetrics::default());
    upload(&store).await.unwrap();
    let whole = store.get(&ObjectPath::cluster(), GET).await.unwrap();
    assert_eq!(
        (whole.len(), whole[0], whole[PART_LEN]),
        (PART_LEN + 10, 1, 2)
    );
    assert_eq!(store.metrics().count(UPLOAD, Outcome::Ok), 1);
}
