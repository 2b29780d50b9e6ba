//! The protocol as a model, checked exhaustively at small sizes.
//!
//! So far: the truncation of the log with the deletion of dead commits. Three rules were not enough as they were first
//! written down; each has a test that shows how it breaks, and one that the repaired rule holds.

#[path = "model/check.rs"]
mod check;
#[path = "model/truncation.rs"]
mod truncation;

use check::{Rules, counterexample, exhaust};
use truncation::{Op, Role, Rule, Truncation};

fn without(rule: Rule) -> Rules {
    Rules::ALL.without(rule as u32)
}

/// A keeper whose clock is ahead, and a node that has not folded the log yet.
fn clock_ahead(rules: Rules) -> Truncation {
    Truncation {
        rules,
        roles: vec![Role::Keeper, Role::Follower],
        begin: &[Op::Plain, Op::SnapshotTaken(1)],
        behind: true,
        flying: None,
        keeper_ops: &[],
        most_commits: 4,
        most_time: 4,
        most_attempts: 0,
        most_authors: 2,
        crashes: 0,
        skew: 2,
    }
}

/// A commit in which the last slice goes was made long before it came into the log.
fn late_death(rules: Rules) -> Truncation {
    Truncation {
        rules,
        roles: vec![Role::Keeper, Role::Reader],
        begin: &[Op::Data, Op::SnapshotTaken(1)],
        behind: false,
        flying: Some(Op::Retire(1)),
        most_commits: 5,
        most_time: 5,
        skew: 0,
        ..clock_ahead(rules)
    }
}

/// A commit with bytes dies and is deleted; a late PUT fills its name with other bytes; a node still knows the first.
fn name_filled_again(rules: Rules) -> Truncation {
    Truncation {
        rules,
        begin: &[],
        flying: Some(Op::Data),
        keeper_ops: &[Op::Data, Op::Retire(1)],
        most_commits: 5,
        most_time: 3,
        ..late_death(rules)
    }
}

#[track_caller]
fn assert_needed(model: Truncation, property: &str) {
    let broken = counterexample(model).expect("a counterexample");
    assert_eq!(broken.property, property, "{}", broken.trace);
}

#[track_caller]
fn assert_enough(model: Truncation, states: usize) {
    let explored = exhaust(model);
    assert!(explored.states >= states, "{explored:?}");
}

#[test]
fn one_clock_that_is_ahead_does_not_shorten_the_age_of_a_snapshot() {
    let property = "a node that believes itself at the tail has all that was in the log at the instant of its proof";
    assert_needed(clock_ahead(without(Rule::AgeByOwnClock)), property);
    assert_enough(clock_ahead(Rules::ALL), 10_000);
}

#[test]
fn a_death_that_comes_late_into_the_log_does_not_shorten_its_grace() {
    let property = "I10: no commit is deleted that a running read needs";
    assert_needed(late_death(without(Rule::GraceByOwnClock)), property);
    assert_enough(late_death(Rules::ALL), 300_000);
}

#[test]
fn a_read_by_an_old_state_does_not_get_what_was_put_under_a_deleted_name() {
    let property = "I4: a read gets the bytes of the log or none";
    assert_needed(name_filled_again(without(Rule::ReadsNeedProof)), property);
    assert_enough(name_filled_again(Rules::ALL), 300_000);
}

/// A node whose PUTs and reads are slow and get lost, beside one that keeps house.
fn slow_writer(rules: Rules) -> Truncation {
    Truncation {
        rules,
        roles: vec![Role::Keeper, Role::Writer(&[Op::Data])],
        begin: &[],
        behind: false,
        keeper_ops: &[Op::Plain],
        most_commits: 4,
        most_time: 3,
        most_attempts: 2,
        skew: 0,
        ..clock_ahead(rules)
    }
}

#[test]
fn a_create_that_is_found_by_reading_proves_the_tail_of_its_first_attempt() {
    let property = "a node that believes itself at the tail has all that was in the log at the instant of its proof";
    assert_needed(slow_writer(without(Rule::ProofOfFirstAttempt)), property);
    let property = "nobody acknowledges a commit that is not of the log";
    assert_needed(slow_writer(without(Rule::CheckCreated)), property);
    assert_needed(
        slow_writer(without(Rule::TruncationAge).without(Rule::AgeByOwnClock as u32)),
        property,
    );
    assert_enough(slow_writer(Rules::ALL), 500_000);
}

#[test]
fn a_dead_commit_is_deleted_only_behind_a_boundary_object() {
    let model = |rules| Truncation {
        most_attempts: 1,
        keeper_ops: &[Op::Data, Op::Retire(1)],
        most_time: 4,
        ..slow_writer(rules)
    };
    let property = "nobody acknowledges a commit that is not of the log";
    assert_needed(model(without(Rule::DeadBehindTruncated)), property);
}
