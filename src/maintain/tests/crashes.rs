//! Jobs that are dropped at any await, and run again by another node.

use futures::future::BoxFuture;

use super::*;

/// A bucket with something to do for every job.
async fn with_work(store: &Store) -> Worker {
    let a = worker(store, 1).await;
    a.topic("t", 2, &[("retention.ms", "600000")]).await;
    a.topic("u", 1, &[("retention.ms", "-1")]).await;
    for _ in 0..6 {
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

const JOBS: [Run; 4] = [
    |m| Box::pin(retention::run(m)),
    |m| Box::pin(deletion::run(m)),
    |m| Box::pin(truncation::run(m)),
    |m| Box::pin(sweep::run(m)),
];

/// Polls the job so many times, then drops it. Returns whether it came to its end before.
async fn interrupt(job: BoxFuture<'_, Result<bool, JobError>>, polls: usize) -> bool {
    let mut job = job;
    for _ in 0..polls {
        if futures::poll!(&mut job).is_ready() {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_dropped_anywhere_leaves_nothing_worse_than_work_to_repeat() {
    let mut polls = 0;
    loop {
        let store = Store::memory();
        let a = with_work(&store).await;
        let mut ended = true;
        for run in JOBS {
            ended &= interrupt(run(&a.jobs), polls).await;
            assert_nothing_is_missing(&store, &a.state()).await;
        }
        // The node is gone, and so are its claims after a minute.
        drop(a);
        wait(2 * MINUTE).await;
        let b = worker(&store, 2).await;
        for _ in 0..2 {
            for run in JOBS {
                run(&b.jobs).await.unwrap();
            }
            wait(HOUR).await;
            b.produce("u", 0, 100).await;
        }
        wait(4 * HOUR).await;
        b.produce("u", 0, 100).await;
        // What is behind the log's new end was dead already.
        for run in JOBS.iter().chain(&JOBS) {
            run(&b.jobs).await.unwrap();
        }
        let state = b.state();
        assert_nothing_is_missing(&store, &state).await;
        assert_eq!(leftovers(&store, &state).await, [], "after {polls} polls");
        assert_eq!(state.log_truncated(), state.log_boundary());
        assert_eq!(b.read("u", 0).await.len(), 10);
        assert_eq!(b.read("t", 0).await, []);
        if ended {
            break;
        }
        polls += 1;
    }
    assert!(polls > 10, "{polls}");
}
