//! The sizes at which it is checked, and what breaks without each rule.

use super::steps::says;
use super::{Clocks, Rule};
use crate::check::{Needed, Rules, assert_each_is_needed, assert_holds};

/// A clock that is set while its node runs.
fn jumps(rules: Rules) -> Clocks {
    Clocks {
        rules,
        most_time: 1,
        most_log: 3,
        ahead: 0,
        leases: false,
    }
}

/// Time is far ahead from the beginning.
fn ahead(rules: Rules) -> Clocks {
    Clocks {
        most_log: 2,
        ahead: 20,
        ..jumps(rules)
    }
}

/// With leases that are ended.
fn leases(rules: Rules) -> Clocks {
    Clocks {
        most_log: 2,
        leases: true,
        ..jumps(rules)
    }
}

#[test]
fn no_rule_of_time_can_be_left_out() {
    use Rule::*;
    let needed = |without, at, breaks| Needed {
        without,
        at,
        breaks,
    };
    let each: [Needed<Clocks, Rule>; 6] = [
        needed(&[CarriedOn], ahead, says::GOES_ON),
        needed(&[BoundedByOthers], jumps, says::BOUNDED),
        needed(&[VouchedByWallClock], jumps, says::BOUNDED),
        needed(&[SilenceByBoot], leases, says::LEASE_HOLDS),
        needed(&[NothingHeardSince], leases, says::LEASE_HOLDS),
        needed(&[CountsFromMaking], leases, says::LEASE_HOLDS),
    ];
    assert_each_is_needed(Rule::ALL, &each);
}

#[test]
fn no_clock_that_jumps_moves_time_far() {
    assert_holds(jumps(Rules::ALL), 3_500_000);
}

#[test]
fn time_that_is_ahead_goes_on() {
    assert_holds(ahead(Rules::ALL), 1_000);
}

#[test]
fn no_clock_that_jumps_ends_a_lease_that_holds() {
    assert_holds(leases(Rules::ALL), 670_000);
}
