//! Commits in the objects of others.

use super::*;

fn forwarded(id: CommitId, follows: u64, ops: Vec<Op>) -> ForwardedCommit {
    ForwardedCommit {
        id,
        time: Timestamp(1),
        ops,
        follows,
        start: 0,
        wall: None,
    }
}

/// Folds an object of incarnation 1 with these forwarded commits in it; returns what became of it and of each.
fn fold(f: &mut Folding, ops: Vec<Op>, forwarded: Vec<ForwardedCommit>) -> (Folded, Vec<Folded>) {
    let seq = f.state.seq().next();
    let object = Commit {
        forwarded,
        ..commit(seq.0, ops)
    };
    let mut each = Vec::new();
    let folded = f
        .state
        .apply_each(seq, &object, 64, |_, folded| each.push(folded));
    (folded, each)
}

/// Incarnation 2 has stored one commit by itself.
fn with_author_2() -> Folding {
    let mut f = Folding::new();
    let own = Commit {
        id: id(2, 1),
        ..commit(0, Vec::new())
    };
    f.state.apply(f.state.seq().next(), &own, 64);
    f
}

fn producer_id() -> Vec<Op> {
    vec![Op::AllocateProducerIds { count: 1 }]
}

fn given(id: i64) -> Folded {
    Folded::Outcomes(vec![Ok(Applied::ProducerIds(ProducerId(id)))])
}

#[test]
fn of_all_copies_of_a_commit_the_fold_takes_one() {
    let mut f = with_author_2();
    let copy = || forwarded(id(2, 2), 1, producer_id());
    let (own, each) = fold(&mut f, producer_id(), vec![copy(), copy()]);
    assert_eq!((own, each), (given(0), vec![given(1), Folded::Duplicate]));
    let (_, each) = fold(&mut f, Vec::new(), vec![copy()]);
    assert_eq!(each, [Folded::Duplicate]);
    // Its node stores it as well.
    let own = Commit {
        id: id(2, 2),
        follows: Some(1),
        ..commit(0, producer_id())
    };
    let seq = f.state.seq().next();
    assert_eq!(f.state.apply(seq, &own, 64), Folded::Duplicate);
    assert_eq!(
        f.state.last_commit_of(Incarnation(Uuid::from_u128(2))),
        Some(2)
    );
}

#[test]
fn a_copy_that_comes_after_its_author_was_forgotten_is_void() {
    let mut f = with_author_2();
    let copy = || forwarded(id(2, 2), 1, producer_id());
    let (_, each) = fold(&mut f, Vec::new(), vec![copy()]);
    assert_eq!(each, [given(0)]);
    for incarnation in 100..1_200 {
        let other = Commit {
            id: id(incarnation, 1),
            ..commit(0, Vec::new())
        };
        f.state.apply(f.state.seq().next(), &other, 64);
    }
    assert_eq!(
        f.state.last_commit_of(Incarnation(Uuid::from_u128(2))),
        None
    );
    let (_, each) = fold(&mut f, Vec::new(), vec![copy()]);
    assert_eq!(each, [Folded::Void]);
}

#[test]
fn a_forwarded_commit_is_judged_by_itself() {
    let mut f = with_author_2();
    // One that is out of order does not take effect, and one that comes behind it neither.
    let late = |counter| forwarded(id(2, counter), counter - 1, producer_id());
    let (own, each) = fold(&mut f, producer_id(), vec![late(3), late(4)]);
    assert_eq!((own, each), (given(0), vec![Folded::Void, Folded::Void]));
    let (_, each) = fold(&mut f, Vec::new(), vec![late(2), late(3), late(4)]);
    assert_eq!(each, [given(1), given(2), given(3)]);
    // The forwarded commits in the object of a void one count all the same.
    let seq = f.state.seq().next();
    let void = Commit {
        id: id(9, 5),
        follows: Some(4),
        forwarded: vec![late(5)],
        ..commit(0, producer_id())
    };
    let mut each = Vec::new();
    let own = f
        .state
        .apply_each(seq, &void, 64, |_, folded| each.push(folded));
    assert_eq!((own, each), (Folded::Void, vec![given(4)]));
}

#[test]
fn a_forwarded_append_lies_where_the_object_has_its_bytes() {
    let mut f = with_author_2();
    let append_at = |start| ForwardedCommit {
        start,
        ..forwarded(id(2, 2), 1, vec![append(vec![entry(0, 2, None)])])
    };
    let own = vec![append(vec![entry(0, 3, None)])];
    fold(&mut f, own, vec![append_at(1000)]);
    let seq = f.state.seq();
    let partition = f.state.partition(partition(0)).unwrap();
    let slices: Vec<_> = partition
        .slices_from(Offset::ZERO)
        .map(|(base, slice)| (base.0, slice.object, slice.start))
        .collect();
    let object = ObjectRef::Commit(seq);
    assert_eq!(slices, [(0, object, 64), (3, object, 1064)]);
    // One that lies nowhere is folded, and found out by who reads it.
    let nowhere = ForwardedCommit {
        start: u64::MAX,
        ..forwarded(id(2, 3), 2, vec![append(vec![entry(0, 2, None)])])
    };
    let (_, each) = fold(&mut f, Vec::new(), vec![nowhere]);
    assert!(matches!(&each[..], [Folded::Outcomes(_)]));
}

#[test]
fn who_stores_a_forwarded_commit_does_not_speak_for_its_author_nor_the_author_for_it() {
    let mut f = with_author_2();
    let register = |run: u128| {
        Op::RegisterNode(RegisterNode {
            peer_key: Some(PeerKey::new([run as u8; 32])),
            properties: None,
            ..registration(run, 100)
        })
    };
    let registered = forwarded(id(2, 2), 1, vec![register(2)]);
    let (_, each) = fold(&mut f, vec![register(1)], vec![registered]);
    let Folded::Outcomes(outcomes) = &each[0] else {
        panic!("{each:?}")
    };
    let Ok(Applied::NodeRegistered(node)) = outcomes[0] else {
        panic!("{outcomes:?}")
    };
    let expire = |node| Op::Group {
        group: GroupId::new("g").unwrap(),
        action: GroupAction::ExpireMember {
            member: MemberId::from("m"),
            node: Some(node),
        },
    };
    let (own, each) = fold(
        &mut f,
        vec![expire(node)],
        vec![forwarded(id(2, 3), 2, vec![expire(node)])],
    );
    let refused = |folded: &Folded| {
        matches!(folded, Folded::Outcomes(outcomes)
            if matches!(outcomes[0], Err(Rejected::UnknownNode { .. })))
    };
    assert!(refused(&own), "{own:?}");
    assert!(!refused(&each[0]), "{each:?}");
    // Each is heard of by its own commit.
    let until = |f: &Folding, node| f.state.node(node).unwrap().lease_until();
    let before = until(&f, node);
    let late = ForwardedCommit {
        time: Timestamp(9_000),
        ..forwarded(id(2, 4), 3, Vec::new())
    };
    fold(&mut f, Vec::new(), vec![late]);
    assert!(before < until(&f, node));
    let key = f.state.node(node).unwrap().peer_key();
    assert_eq!(key, Some(&PeerKey::new([2; 32])));
}

fn register(run: u128) -> Op {
    Op::RegisterNode(RegisterNode {
        version: Level::NEWEST.label("0"),
        ..registration(run, 100)
    })
}

#[test]
fn the_first_commit_of_a_node_is_taken_when_forwarded_if_it_registers_it_and_does_nothing_else() {
    let first = |ops| forwarded(id(2, 1), Commit::NOTHING, ops);
    let raised = || {
        let mut f = Folding::new();
        let to = Level::NEWEST;
        f.apply(Op::RaiseLevel { to }).unwrap();
        f
    };
    let wrong = [
        vec![],
        producer_id(),
        vec![register(2), producer_id().remove(0)],
        vec![register(2), register(2)],
        vec![register(3)],
    ];
    for ops in wrong {
        let (_, each) = fold(&mut raised(), Vec::new(), vec![first(ops)]);
        assert_eq!(each, [Folded::Void]);
    }
    let mut f = raised();
    let copy = || first(vec![register(2)]);
    let (_, each) = fold(&mut f, Vec::new(), vec![copy(), copy()]);
    assert!(
        matches!(each[..], [Folded::Outcomes(_), Folded::Duplicate]),
        "{each:?}"
    );
    let next = forwarded(id(2, 2), 1, producer_id());
    let late = forwarded(id(2, 3), Commit::NOTHING, vec![register(2)]);
    let (_, each) = fold(&mut f, Vec::new(), vec![next, late]);
    assert_eq!(each, [given(0), Folded::Void]);
    // By the rules from before it is void.
    let (_, each) = fold(&mut Folding::new(), Vec::new(), vec![copy()]);
    assert_eq!(each, [Folded::Void]);
}

/// A copy that comes after its incarnation was forgotten leaves no more than a node that registered and died.
#[test]
fn a_registration_that_is_forwarded_twice_registers_nobody_beyond_its_lease() {
    let copy = || forwarded(id(2, 1), Commit::NOTHING, vec![register(2)]);
    let mut f = Folding::new();
    f.apply(Op::RaiseLevel { to: Level::NEWEST }).unwrap();
    fold(&mut f, Vec::new(), vec![copy()]);
    let incarnation = Incarnation(Uuid::from_u128(2));
    let node = f.state.node_of(incarnation).unwrap();
    f.apply(Op::RetireNode { node, incarnation }).unwrap();
    for other in 10_000..30_000 {
        let other = Commit {
            id: id(other, 1),
            ..commit(0, Vec::new())
        };
        f.state.apply(f.state.seq().next(), &other, 64);
    }
    assert_eq!(f.state.last_commit_of(incarnation), None);
    fold(&mut f, Vec::new(), vec![copy()]);
    let node = f.state.node_of(incarnation).unwrap();
    let until = f.state.node(node).unwrap().lease_until();
    assert!(until.0 <= f.state.time().0 + 100, "{until:?}");
}
