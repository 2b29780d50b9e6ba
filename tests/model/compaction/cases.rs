//! The sizes at which it is checked, and what breaks without each rule.

use super::steps::says;
use super::{Compacting, Instant, Rule};
use crate::check::{Needed, Rules, assert_each_is_needed, assert_holds};

/// Two compactors of one partition, without claims, beside retention.
fn two_compactors(rules: Rules) -> Compacting {
    Compacting {
        rules,
        compactors: &[false, true],
        claims: false,
        retention: true,
        reads: false,
        most_time: 0,
        most_log: 4,
    }
}

/// One of them, with a reader and a node that deletes.
fn readers(rules: Rules) -> Compacting {
    Compacting {
        compactors: &[false],
        retention: false,
        reads: true,
        most_time: 5,
        most_log: 1,
        ..two_compactors(rules)
    }
}

#[test]
fn no_rule_of_replacing_slices_can_be_left_out() {
    use Rule::*;
    let needed = |without, at, breaks| Needed {
        without,
        at,
        breaks,
    };
    let each: [Needed<Compacting, Rule>; 7] = [
        needed(&[LayoutChecked], two_compactors, says::GONE_FOR_EVER),
        needed(&[BoundsChecked], two_compactors, says::DENSE),
        needed(&[OutputFirst], two_compactors, says::STORED),
        needed(&[SettingsChecked], two_compactors, says::BY_SETTINGS),
        needed(&[Grace], readers, says::NO_READ_CUT_SHORT),
        needed(&[GraceByOwnClock], readers, says::NO_READ_CUT_SHORT),
        needed(&[MissingMeansRefresh], readers, says::NOT_SAID_LOST),
    ];
    assert_each_is_needed(Rule::ALL, &each);
}

#[test]
fn two_compactors_of_a_partition_need_no_claims() {
    assert_holds(two_compactors(Rules::ALL), 90_000);
}

#[test]
fn claims_change_nothing_but_who_works() {
    let claimed = Compacting {
        claims: true,
        retention: false,
        most_time: 2,
        ..two_compactors(Rules::ALL)
    };
    assert_holds(claimed, 30_000);
}

#[test]
fn no_read_by_a_state_that_is_not_old_is_cut_short() {
    assert_holds(readers(Rules::ALL), 20_000);
}

fn readers_of_both(most_time: Instant) -> Compacting {
    Compacting {
        compactors: &[false, true],
        most_time,
        most_log: 2,
        ..readers(Rules::ALL)
    }
}

#[test]
fn readers_see_two_compactors_at_work() {
    assert_holds(readers_of_both(3), 2_000_000);
}

#[test]
#[ignore = "takes minutes: make model"]
fn readers_see_two_compactors_at_work_for_longer() {
    assert_holds(readers_of_both(4), 4_800_000);
}
