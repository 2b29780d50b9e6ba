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
fn claims_that_are_ignored_are_found() {
    let test = a_job_has_one_holder_until_its_claim_lapses;
    assert_found(&[(Mutant::ClaimsIgnored, test)]);
}
