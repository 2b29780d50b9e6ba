//! Who has a job, and for how long.

use std::time::Duration;

use crate::state::tests::*;

#[test]
fn a_job_has_one_holder_until_its_claim_lapses() {
    let mut log = Log::new();
    let (a, b) = (
        Incarnation(Uuid::from_u128(1)),
        Incarnation(Uuid::from_u128(2)),
    );
    let job = Job::Compaction(partition(0));
    let claim = |incarnation| Op::ClaimJob {
        job,
        incarnation,
        lease_millis: 5000,
    };
    log.apply(claim(a)).unwrap();
    assert!(matches!(log.apply(claim(b)), Err(Rejected::JobHeld { .. })));
    log.wait(Duration::from_secs(4));
    log.apply(claim(a)).unwrap();
    log.wait(Duration::from_secs(4));
    assert!(matches!(log.apply(claim(b)), Err(Rejected::JobHeld { .. })));
    log.wait(Duration::from_secs(2));
    log.apply(claim(b)).unwrap();
    log.apply(Op::ReleaseJob {
        job,
        incarnation: a,
    })
    .unwrap();
    assert_eq!(log.state.claim(job).unwrap().incarnation, b);
    log.apply(Op::ReleaseJob {
        job,
        incarnation: b,
    })
    .unwrap();
    assert_eq!(log.state.claim(job), None);
}

#[test]
fn the_jobs_of_a_node_that_is_gone_are_open_to_others() {
    let mut log = Log::new();
    let [a, b] = [1, 2].map(|run| Incarnation(Uuid::from_u128(run)));
    let register = |run| Op::RegisterNode(registration(run, 10_000));
    let Ok(Applied::NodeRegistered(node)) = log.apply(register(1)) else {
        panic!()
    };
    log.apply(register(2)).unwrap();
    let claim = |job, incarnation| Op::ClaimJob {
        job,
        incarnation,
        lease_millis: 5000,
    };
    for job in [Job::Deletion, Job::Sweep] {
        log.apply(claim(job, a)).unwrap();
    }
    log.apply(claim(Job::Truncation, b)).unwrap();
    // As a node that has read a snapshot meanwhile.
    log.state = State::from_bytes(&log.state.to_bytes()).unwrap();
    let retired = Op::RetireNode {
        node,
        incarnation: a,
    };
    log.apply(retired).unwrap();
    let held: Vec<Job> = log.state.claims().map(|(job, _)| job).collect();
    assert_eq!(held, [Job::Truncation]);
    log.apply(claim(Job::Sweep, b)).unwrap();
    assert_eq!(State::from_bytes(&log.state.to_bytes()).unwrap(), log.state);
}

#[test]
fn claims_that_lapsed_are_forgotten_with_the_next() {
    let mut log = Log::new();
    let [a, b] = [1, 2].map(|run| Incarnation(Uuid::from_u128(run)));
    let claim = |job, incarnation| Op::ClaimJob {
        job,
        incarnation,
        lease_millis: 5000,
    };
    for index in 0..3 {
        let job = Job::Compaction(partition(index));
        log.apply(claim(job, a)).unwrap();
        log.wait(Duration::from_secs(2));
    }
    log.apply(claim(Job::Sweep, b)).unwrap();
    let held: Vec<Job> = log.state.claims().map(|(job, _)| job).collect();
    let left = [1, 2].map(|index| Job::Compaction(partition(index)));
    assert_eq!(held, [left[0], left[1], Job::Sweep]);
    assert_eq!(State::from_bytes(&log.state.to_bytes()).unwrap(), log.state);
}

#[test]
fn claims_that_are_ignored_are_found() {
    let test = a_job_has_one_holder_until_its_claim_lapses;
    assert_needed(&[(Rule::JobsHaveOneHolder, test)]);
}
