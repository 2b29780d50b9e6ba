//! The sizes at which it is checked, and what breaks without each rule.

use super::steps::says;
use super::{Rule, Sweeping};
use crate::check::{Needed, Rules, assert_each_is_needed, assert_holds};

/// Two segments and one sweeper.
fn two_segments(rules: Rules) -> Sweeping {
    Sweeping {
        rules,
        segments: 2,
        sweepers: 1,
        most_time: 2,
        most_log: 4,
        lag: 1,
        tries: 1,
        repeats: 1,
        retires: false,
    }
}

/// One segment, two sweepers.
fn two_sweepers(rules: Rules) -> Sweeping {
    Sweeping {
        segments: 1,
        sweepers: 2,
        most_time: 3,
        ..two_segments(rules)
    }
}

/// A segment that dies and is read, and that a second commit refers to.
fn dying(rules: Rules) -> Sweeping {
    Sweeping {
        sweepers: 1,
        most_log: 5,
        tries: 2,
        retires: true,
        ..two_sweepers(rules)
    }
}

#[test]
fn no_rule_of_the_sweep_can_be_left_out() {
    use Rule::*;
    let needed = |without, at, breaks| Needed {
        without,
        at,
        breaks,
    };
    let each: [Needed<Sweeping, Rule>; 8] = [
        needed(&[UploadFirst], two_segments, says::STORED),
        needed(&[RefuseOld], two_segments, says::STORED),
        needed(&[BoundaryFirst], two_segments, says::STORED),
        needed(&[StateWithBoundary], two_segments, says::STORED),
        needed(&[OnlyRaised], two_sweepers, says::STORED),
        needed(&[DeadAreNoOrphans], dying, says::NO_READ_CUT_SHORT),
        needed(&[OnlyOld], two_segments, says::STORED),
        needed(&[DeadForEver], dying, says::STORED),
    ];
    assert_each_is_needed(Rule::ALL, &each);
}

#[test]
fn a_segment_that_is_committed_late_is_refused_or_kept() {
    assert_holds(two_segments(Rules::ALL), 1_700_000);
}

#[test]
fn two_sweepers_do_not_undo_what_the_other_relies_on() {
    assert_holds(two_sweepers(Rules::ALL), 2_600_000);
}

#[test]
fn a_segment_that_died_is_neither_an_orphan_nor_comes_to_life() {
    assert_holds(dying(Rules::ALL), 1_600_000);
}

#[test]
#[ignore = "takes minutes: make model"]
fn two_sweepers_of_two_segments() {
    let both = Sweeping {
        sweepers: 2,
        most_log: 3,
        ..two_segments(Rules::ALL)
    };
    assert_holds(both, 8_000_000);
}
