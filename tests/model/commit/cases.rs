//! The sizes at which it is checked, and what breaks without each rule.

use super::steps::says;
use super::{Committing, Rule};
use crate::check::{Needed, Rules, assert_each_is_needed, assert_holds};

/// Two nodes that commit at once, and questions.
fn two_nodes(rules: Rules) -> Committing {
    Committing {
        rules,
        nodes: 2,
        clients: &[false, false],
        most_attempts: 2,
        crashes: 0,
        questions: 1,
        hedges: false,
        overlaps: false,
    }
}

/// A producer whose second value is on its way behind the first, and another node.
fn overlapping(rules: Rules) -> Committing {
    Committing {
        clients: &[false, false, false],
        most_attempts: 4,
        questions: 0,
        overlaps: true,
        ..two_nodes(rules)
    }
}

/// The same with a question to each, and fewer attempts.
fn overlapping_and_asked(rules: Rules) -> Committing {
    Committing {
        most_attempts: 3,
        questions: 1,
        ..overlapping(rules)
    }
}

/// The same with a crash.
fn overlapping_and_crashing(rules: Rules) -> Committing {
    Committing {
        most_attempts: 3,
        crashes: 1,
        ..overlapping(rules)
    }
}

/// One node, everything twice.
fn hedged(rules: Rules) -> Committing {
    Committing {
        most_attempts: 3,
        crashes: 1,
        questions: 0,
        hedges: true,
        ..two_nodes(rules)
    }
}

/// A client that tries another node when it knows nothing, beside one that does not.
fn retried(rules: Rules) -> Committing {
    Committing {
        clients: &[true, false],
        crashes: 1,
        questions: 0,
        ..two_nodes(rules)
    }
}

#[test]
fn no_rule_of_committing_can_be_left_out() {
    use Rule::*;
    let needed = |without, at, breaks| Needed {
        without,
        at,
        breaks,
    };
    let each: [Needed<Committing, Rule>; 13] = [
        needed(&[CreateIfAbsent], two_nodes, says::IMMUTABLE),
        needed(&[SettleBeforeNext], two_nodes, says::DENSE),
        needed(&[OursById, DuplicateGuard], two_nodes, says::ONCE),
        needed(&[AgainIfAbsent], two_nodes, says::FAILED),
        needed(&[SameId], hedged, says::ONCE),
        needed(&[DurableFirst], two_nodes, says::STORED),
        needed(&[OutcomeByFold], two_nodes, says::OFFSET),
        needed(&[DuplicateGuard, OursById], two_nodes, says::ONCE),
        needed(&[ProducerSequence], retried, says::ONCE),
        needed(&[ProofAfterQuestion], two_nodes, says::FRESH),
        needed(&[ChainedOrVoid], overlapping, says::ORDER),
        needed(&[SettledInOrder], overlapping, says::STORED),
        needed(&[ProofOfFirstAttempt], two_nodes, says::FRESH),
    ];
    assert_each_is_needed(Rule::ALL, &each);
}

/// Each stands in for the other, but for one thing: without the first, a client may hear "unknown" of what is stored.
#[test]
fn the_duplicate_guard_is_a_second_line() {
    assert_holds(hedged(Rules::without(&[Rule::DuplicateGuard])), 170_000);
    assert_holds(two_nodes(Rules::without(&[Rule::OursById])), 200_000);
}

#[test]
fn two_nodes_agree_on_what_is_stored_and_where() {
    assert_holds(two_nodes(Rules::ALL), 110_000);
}

#[test]
fn what_is_sent_twice_is_stored_once() {
    assert_holds(hedged(Rules::ALL), 170_000);
}

#[test]
fn a_client_that_tries_another_node_stores_its_batch_once() {
    assert_holds(retried(Rules::ALL), 290_000);
}

#[test]
fn commits_that_overlap_keep_the_order_of_a_producer() {
    assert_holds(overlapping(Rules::ALL), 190_000);
    assert_holds(overlapping_and_asked(Rules::ALL), 2_700_000);
    assert_holds(overlapping_and_crashing(Rules::ALL), 560_000);
}

#[test]
#[ignore = "takes minutes: make model"]
fn three_clients_of_two_nodes() {
    let three = Committing {
        clients: &[true, false, false],
        ..retried(Rules::ALL)
    };
    assert_holds(three, 4_700_000);
}
