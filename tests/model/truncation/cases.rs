//! The sizes at which the truncation is checked, and what breaks without each rule.

use super::log::Op;
use super::steps::says;
use super::{GRACE, READ, Role, Rule, TAIL_PROOF_LIFE, TRUNCATION_AGE, Truncation};
use crate::check::{Needed, Rules, assert_each_is_needed, assert_holds, counterexample};

/// A keeper whose clock is ahead, and a node that has not folded the log yet.
fn clock_ahead(rules: Rules) -> Truncation {
    Truncation {
        rules,
        roles: &[Role::Keeper, Role::Follower],
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
        age: TRUNCATION_AGE,
        grace: GRACE,
    }
}

/// A commit in which the last slice goes was made long before it came into the log.
fn late_death(rules: Rules) -> Truncation {
    Truncation {
        roles: &[Role::Keeper, Role::Reader],
        begin: &[Op::Data, Op::SnapshotTaken(1)],
        behind: false,
        flying: Some(Op::Retire(1)),
        most_commits: 5,
        most_time: 4,
        skew: 0,
        ..clock_ahead(rules)
    }
}

/// A commit with bytes dies and is deleted; a late PUT fills its name with other bytes; a node still knows the first.
fn name_filled_again(rules: Rules) -> Truncation {
    Truncation {
        begin: &[],
        flying: Some(Op::Data),
        keeper_ops: &[Op::Data, Op::Retire(1)],
        most_commits: 5,
        most_time: 3,
        ..late_death(rules)
    }
}

/// A node whose PUTs and reads are slow and get lost, beside one that keeps house.
fn slow_writer(rules: Rules) -> Truncation {
    Truncation {
        roles: &[Role::Keeper, Role::Slow(Some(Op::Data))],
        begin: &[],
        behind: false,
        keeper_ops: &[Op::Plain],
        most_commits: 4,
        most_time: 3,
        most_attempts: 2,
        most_authors: 1,
        skew: 0,
        ..clock_ahead(rules)
    }
}

/// A commit with bytes that dies, beside a slow writer.
fn dead_commit(rules: Rules) -> Truncation {
    Truncation {
        most_attempts: 1,
        keeper_ops: &[Op::Data, Op::Retire(1)],
        most_time: 4,
        ..slow_writer(rules)
    }
}

/// A node that only asks for the next seq, slowly, and may crash once; the keeper too.
fn slow_asker(rules: Rules) -> Truncation {
    Truncation {
        roles: &[Role::Keeper, Role::Slow(None)],
        most_commits: 3,
        crashes: 1,
        ..slow_writer(rules)
    }
}

/// Two that sleep: one leaves a commit under a deleted name, the other finds it.
fn two_sleepers(rules: Rules) -> Truncation {
    Truncation {
        begin: &[],
        behind: false,
        flying: Some(Op::Data),
        keeper_ops: &[Op::Plain],
        ..clock_ahead(rules)
    }
}

const fn needed(
    without: &'static [Rule],
    at: fn(Rules) -> Truncation,
    breaks: &'static str,
) -> Needed<Truncation, Rule> {
    Needed {
        without,
        at,
        breaks,
    }
}

#[test]
fn no_rule_of_truncation_can_be_left_out() {
    use Rule::*;
    let each = [
        needed(&[BoundaryBeforeDeleting], clock_ahead, says::AT_THE_TAIL),
        needed(
            &[SnapshotBehindBoundary, AgeByOwnClock],
            late_death,
            says::WHOLE_AFTER_SNAPSHOT,
        ),
        needed(
            &[TruncationAge, AgeByOwnClock],
            clock_ahead,
            says::AT_THE_TAIL,
        ),
        needed(&[AgeByOwnClock], clock_ahead, says::AT_THE_TAIL),
        needed(&[CheckCreated], slow_writer, says::ACKNOWLEDGED_IN_THE_LOG),
        needed(&[CheckFound], two_sleepers, says::ONLY_THE_LOG),
        needed(&[CheckAbsent], clock_ahead, says::AT_THE_TAIL),
        needed(
            &[ListAfterAnswer],
            slow_writer,
            says::ACKNOWLEDGED_IN_THE_LOG,
        ),
        needed(&[ProofWhenSent], slow_asker, says::AT_THE_TAIL),
        needed(&[ProofOfFirstAttempt], slow_writer, says::AT_THE_TAIL),
        needed(&[OpeningProofBeforeListing], slow_asker, says::AT_THE_TAIL),
        needed(&[OpeningIsNoTail], slow_asker, says::AT_THE_TAIL),
        needed(&[UnknownAfterStartingOver], slow_writer, says::ONCE),
        needed(&[KeepLive], late_death, says::NO_LIVE_DELETED),
        needed(&[DeadWait], late_death, says::NO_READ_CUT_SHORT),
        needed(&[Grace], late_death, says::NO_READ_CUT_SHORT),
        needed(&[GraceByOwnClock], late_death, says::NO_READ_CUT_SHORT),
        needed(
            &[DeadBehindTruncated],
            dead_commit,
            says::ACKNOWLEDGED_IN_THE_LOG,
        ),
        needed(&[ReadsNeedProof], name_filled_again, says::RIGHT_BYTES),
        needed(&[TruncatedAfterDeleting], clock_ahead, says::TRUNCATED),
    ];
    assert_each_is_needed(Rule::ALL, &each);
}

/// What a node knows by its own clock implies both: they stand against a node that does not keep to it.
#[test]
fn the_folds_own_checks_of_a_boundary_are_a_second_line() {
    for rule in [Rule::SnapshotBehindBoundary, Rule::TruncationAge] {
        assert_holds(clock_ahead(Rules::without(&[rule])), 21_000);
        assert_holds(two_sleepers(Rules::without(&[rule])), 150_000);
    }
}

#[test]
fn the_waits_cannot_be_shorter() {
    let hasty = Truncation {
        age: TAIL_PROOF_LIFE,
        ..clock_ahead(Rules::ALL)
    };
    let broken = counterexample(hasty).expect("a counterexample");
    assert_eq!(broken.property, says::AT_THE_TAIL, "{}", broken.trace);
    let hasty = Truncation {
        grace: TAIL_PROOF_LIFE + READ,
        ..late_death(Rules::ALL)
    };
    let broken = counterexample(hasty).expect("a counterexample");
    assert_eq!(broken.property, says::NO_READ_CUT_SHORT, "{}", broken.trace);
}

#[test]
fn one_clock_that_is_ahead_does_not_shorten_the_age_of_a_snapshot() {
    assert_holds(clock_ahead(Rules::ALL), 21_000);
}

#[test]
fn a_death_that_comes_late_into_the_log_does_not_shorten_its_grace() {
    assert_holds(late_death(Rules::ALL), 640_000);
}

#[test]
fn a_read_by_an_old_state_does_not_get_what_was_put_under_a_deleted_name() {
    assert_holds(name_filled_again(Rules::ALL), 1_800_000);
}

#[test]
fn a_slow_writer_neither_believes_garbage_nor_commits_twice() {
    assert_holds(slow_writer(Rules::ALL), 1_100_000);
}

#[test]
fn a_dead_commit_is_deleted_only_behind_a_boundary_object() {
    assert_holds(dead_commit(Rules::ALL), 1_100_000);
}

#[test]
fn a_node_that_opens_slowly_does_not_take_a_free_name_for_the_end_of_the_log() {
    assert_holds(slow_asker(Rules::ALL), 600_000);
}

#[test]
fn what_one_sleeper_left_is_not_folded_by_another() {
    assert_holds(two_sleepers(Rules::ALL), 150_000);
}

#[test]
#[ignore = "takes minutes: make model"]
fn a_late_death_and_a_slow_opening_for_longer() {
    let longer = Truncation {
        most_time: 5,
        ..late_death(Rules::ALL)
    };
    assert_holds(longer, 1_300_000);
    let longer = Truncation {
        most_commits: 4,
        ..slow_asker(Rules::ALL)
    };
    assert_holds(longer, 4_400_000);
}

#[test]
#[ignore = "takes minutes: make model"]
fn two_keepers_do_not_undo_what_the_other_relies_on() {
    let two = Truncation {
        roles: &[Role::Keeper, Role::Keeper, Role::Follower],
        most_time: 2,
        skew: 1,
        ..two_sleepers(Rules::ALL)
    };
    assert_holds(two, 1);
}
