//! The sizes at which it is checked, and what breaks without each rule.

use super::steps::says;
use super::{Forwarding, Rule};
use crate::check::{Needed, Rules, assert_each_is_needed, assert_holds};

/// Copies that are stored late and often, and a forwarder that is forgotten.
fn copies(rules: Rules) -> Forwarding {
    Forwarding {
        rules,
        most_log: 7,
        forwards: 4,
        restarts: 0,
        strangers: 1,
        pairs: false,
    }
}

/// A forwarder that sends both side by side, too.
fn pairs(rules: Rules) -> Forwarding {
    Forwarding {
        pairs: true,
        ..copies(rules)
    }
}

/// A forwarder that starts over.
fn sleeper(rules: Rules) -> Forwarding {
    Forwarding {
        most_log: 6,
        restarts: 1,
        ..copies(rules)
    }
}

#[test]
fn no_rule_of_forwarding_can_be_left_out() {
    use Rule::*;
    let needed = |without, at, breaks| Needed {
        without,
        at,
        breaks,
    };
    let each: [Needed<Forwarding, Rule>; 8] = [
        needed(&[KeepsItsId], copies, says::ONCE),
        needed(&[DuplicateGuard, ChainedOrVoid], copies, says::ONCE),
        needed(&[SaysWhatItFollows], copies, says::ONCE),
        needed(&[ChainedOrVoid], copies, says::IN_ORDER),
        needed(&[BelievesTheLog], copies, says::DURABLE),
        needed(&[OneWayAtATime], copies, says::IN_ORDER),
        needed(&[ChainRenewed], pairs, says::IN_ORDER),
        needed(&[UnknownAfterStartingOver], sleeper, says::ONCE),
    ];
    assert_each_is_needed(Rule::ALL, &each);
}

#[test]
fn what_receivers_do_with_their_copies_changes_nothing() {
    assert_holds(copies(Rules::ALL), 23_600);
}

#[test]
fn what_is_sent_side_by_side_stays_in_order() {
    assert_holds(pairs(Rules::ALL), 29_000);
}

#[test]
fn a_forwarder_that_starts_over_stores_nothing_twice() {
    assert_holds(sleeper(Rules::ALL), 14_900);
}

#[test]
#[ignore = "takes minutes: make model"]
fn copies_are_stored_for_longer() {
    let longer = Forwarding {
        most_log: 9,
        strangers: 2,
        restarts: 1,
        ..copies(Rules::ALL)
    };
    assert_holds(longer, 776_000);
}
