//! The sizes at which it is checked, and what breaks without each rule.

use super::steps::says;
use super::{Leasing, Rule};
use crate::check::{Needed, Rules, assert_each_is_needed, assert_holds};

/// Nodes that stop, are taken for dead and come anew.
fn nodes(rules: Rules) -> Leasing {
    Leasing {
        rules,
        most_time: 1,
        most_log: 3,
        skew: 2,
        members: false,
        nodes: true,
    }
}

/// Two nodes and their members.
fn members(rules: Rules) -> Leasing {
    Leasing {
        most_time: 2,
        most_log: 4,
        members: true,
        nodes: false,
        ..nodes(rules)
    }
}

/// Members that move to a node which has the id of another that is gone.
fn same_id(rules: Rules) -> Leasing {
    Leasing {
        most_time: 0,
        most_log: 4,
        members: true,
        ..nodes(rules)
    }
}

#[test]
fn no_rule_of_leases_can_be_left_out() {
    use Rule::*;
    let needed = |without, at, breaks| Needed {
        without,
        at,
        breaks,
    };
    let each: [Needed<Leasing, Rule>; 8] = [
        needed(&[JudgedByFold], nodes, says::LEASE_HOLDS),
        needed(&[AnyCommitRenews], nodes, says::LEASE_HOLDS),
        needed(&[NamesTheRun], nodes, says::ONLY_THE_RUN),
        needed(&[TimeIsHighest], members, says::LEASE_HOLDS),
        needed(&[Vouched], members, says::MEMBER_KEPT),
        needed(&[VouchedByTheRun], same_id, says::MEMBER_KEPT),
        needed(&[SessionAfterNode], members, says::WHOLE_SESSION),
        needed(&[GenerationChecked], members, says::OWNER),
    ];
    assert_each_is_needed(Rule::ALL, &each);
}

#[test]
fn no_clock_that_is_ahead_ends_a_lease_that_holds() {
    assert_holds(nodes(Rules::ALL), 650_000);
}

#[test]
fn members_outlive_their_node_for_a_session_and_the_stale_are_fenced() {
    assert_holds(members(Rules::ALL), 1_400_000);
}

#[test]
fn a_run_that_comes_late_does_not_speak_for_the_one_that_has_its_id() {
    assert_holds(same_id(Rules::ALL), 3_000_000);
}

#[test]
#[ignore = "takes minutes: make model"]
fn nodes_come_and_go_for_longer() {
    let longer = Leasing {
        most_time: 2,
        ..nodes(Rules::ALL)
    };
    assert_holds(longer, 4_700_000);
}
