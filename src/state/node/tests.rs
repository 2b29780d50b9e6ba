//! Who may end a lease, and who speaks for a node.

use crate::state::tests::*;

#[test]
fn a_lease_that_holds_cannot_be_ended_by_others() {
    let mut f = Folding::new();
    let incarnation = Incarnation(Uuid::from_u128(77));
    let register = registration(77, 3);
    let Ok(Applied::NodeRegistered(node)) = f.apply(Op::RegisterNode(register)) else {
        panic!()
    };
    let expire = Op::ExpireNode {
        node,
        incarnation,
        as_of: None,
    };
    assert!(matches!(
        f.apply(expire.clone()),
        Err(Rejected::LeaseHolds { .. })
    ));
    // Every commit is a millisecond later than the one before.
    while f.apply(expire.clone()).is_err() {
        assert!(f.state.seq().0 < 20);
    }
    assert_eq!(f.state.nodes().count(), 0);
}

#[test]
fn a_run_that_slept_does_not_speak_for_the_one_that_has_its_id_now() {
    let mut f = Folding::new();
    let register = |run| Op::RegisterNode(registration(run, 3));
    let mut counter = 1000;
    let mut by = |f: &mut Folding, run: u128, op: Op| {
        counter += 1;
        let commit = Commit {
            id: id(run, counter),
            ..commit(counter, vec![op])
        };
        match f.state.apply(f.state.seq().next(), &commit, 64) {
            Folded::Outcomes(mut outcomes) => outcomes.pop().unwrap(),
            folded => panic!("{folded:?}"),
        }
    };
    let Ok(Applied::NodeRegistered(node)) = by(&mut f, 7, register(7)) else {
        panic!()
    };
    let incarnation = Incarnation(Uuid::from_u128(7));
    for _ in 0..9 {
        let _ = by(
            &mut f,
            8,
            Op::ExpireNode {
                node,
                incarnation,
                as_of: None,
            },
        );
    }
    assert_eq!(
        by(&mut f, 8, register(8)),
        Ok(Applied::NodeRegistered(node))
    );
    let act = |action| Op::Group {
        group: GroupId::new("g").unwrap(),
        action,
    };
    let member = MemberId::from("m");
    let join = GroupAction::Join(Join {
        member: member.clone(),
        known: false,
        instance: None,
        node,
        client_id: String::new(),
        client_host: String::new(),
        session_timeout_millis: 10_000,
        rebalance_timeout_millis: 10_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![Protocol {
            name: "range".to_owned(),
            metadata: Bytes::new().into(),
        }],
        require_known_member: false,
        supports_skip_assignment: false,
        max_size: 10,
        initial_delay_millis: 0,
    });
    let stale = Err(Rejected::UnknownNode { node, incarnation });
    assert_eq!(by(&mut f, 7, act(join.clone())), stale);
    assert!(matches!(by(&mut f, 8, act(join)), Ok(Applied::Group(_))));
    let expire = GroupAction::ExpireMember {
        member,
        node: Some(node),
    };
    assert_eq!(by(&mut f, 7, act(expire.clone())), stale);
    assert!(matches!(by(&mut f, 8, act(expire)), Ok(Applied::Group(_))));
}

#[test]
fn who_slept_and_speaks_is_found() {
    let test = a_run_that_slept_does_not_speak_for_the_one_that_has_its_id_now;
    assert_needed(&[(Rule::OnlyCurrentIncarnationVouches, test)]);
}
