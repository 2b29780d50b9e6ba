//! Jobs that end anywhere, and are begun again by another node.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::BoxFuture;

use super::*;
use crate::testing::{Fault, Faulty};

/// A bucket with something to do for every job.
async fn with_work(store: &Store) -> Worker {
    let a = worker(store, 1).await;
    a.topic("t", 2, &[("retention.ms", "600000")]).await;
    a.topic("u", 1, &[("retention.ms", "-1")]).await;
    // Older than what may wait for its compaction.
    a.produce("u", 0, 100).await;
    wait(30 * MINUTE).await;
    for _ in 0..5 {
        a.produce_segment("t", 0).await;
        a.produce("t", 1, 100).await;
        a.produce("u", 0, 100).await;
        wait(Duration::from_secs(30)).await;
    }
    a.delete_records("t", 0, 4).await;
    wait(20 * MINUTE).await;
    a.produce("u", 0, 100).await;
    a
}

type Run = for<'a> fn(&'a Maintenance) -> BoxFuture<'a, Result<bool, JobError>>;

const JOBS: [Run; 5] = [
    |m| Box::pin(compaction::run(m)),
    |m| Box::pin(retention::run(m)),
    |m| Box::pin(deletion::run(m)),
    |m| Box::pin(truncation::run(m)),
    |m| Box::pin(sweep::run(m)),
];

#[tokio::test(start_paused = true)]
async fn a_node_that_is_cut_off_anywhere_in_its_work_leaves_nothing_worse_than_work_to_repeat() {
    let mut served = 0;
    loop {
        // So many requests of the jobs are answered. The next ones hang, and are answered when the node is gone: a
        // commit among them may come late.
        let last = Arc::new(AtomicUsize::new(usize::MAX));
        let until = last.clone();
        let (store, requests) = Faulty::store(move |n| {
            if n < until.load(Ordering::SeqCst) {
                Fault::None
            } else {
                Fault::Hangs
            }
        });
        let a = with_work(&store).await;
        last.store(requests.requests() + served, Ordering::SeqCst);
        let mut ended = true;
        for run in JOBS {
            let done = tokio::time::timeout(Duration::from_secs(10), run(&a.jobs)).await;
            ended &= done.is_ok();
        }
        last.store(usize::MAX, Ordering::SeqCst);
        assert_nothing_is_missing(&store, &a.state()).await;
        let now = a.env.wall();
        drop(a);
        let b = worker_in(&store, Env::simulated(2, now), |_| {}).await;
        // The other's claims lapse.
        wait(2 * MINUTE).await;
        assert_nothing_is_missing(&store, &b.state()).await;
        for _ in 0..3 {
            for run in JOBS {
                run(&b.jobs).await.unwrap();
            }
            wait(2 * HOUR).await;
            b.produce("u", 0, 100).await;
        }
        // What is behind the log's new end was dead already.
        for run in JOBS.iter().chain(&JOBS) {
            run(&b.jobs).await.unwrap();
        }
        let state = b.state();
        assert_nothing_is_missing(&store, &state).await;
        let left = leftovers(&b, &store).await;
        assert!(left.is_empty(), "after {served} requests: {left:?}");
        assert_eq!(state.log_truncated(), state.log_boundary());
        assert_eq!(b.read("u", 0).await.len(), 10);
        assert_eq!(b.read("t", 0).await, []);
        if ended {
            break;
        }
        served += 1;
    }
    // Each of the requests was the first that was not answered.
    assert!(served > 20, "{served}");
}
