//! Levels: when they are raised, and which rules hold before and after.

use crate::state::tests::*;

fn raise(f: &mut Folding) -> Outcome {
    f.apply(Op::RaiseLevel { to: Level(2) })
}

fn register(f: &mut Folding, run: u128, version: &str) -> Outcome {
    f.apply(Op::RegisterNode(RegisterNode {
        version: version.to_owned(),
        ..registration(run, 10_000)
    }))
}

#[test]
fn the_level_is_raised_when_every_registered_node_knows_it() {
    fn test() {
        let mut f = Folding::new();
        assert_eq!(f.state.level(), Level::FIRST);
        register(&mut f, 1, "0.1.0").unwrap();
        register(&mut f, 2, "0.2.0+level.2").unwrap();
        let refused = Rejected::LevelUnknown {
            to: Level(2),
            node: NodeId(0),
            known: Level(1),
        };
        assert_eq!(raise(&mut f), Err(refused));
        assert_eq!(f.state.level(), Level(1));
        // The old node is upgraded: another incarnation takes its place.
        f.apply(Op::RetireNode {
            node: NodeId(0),
            incarnation: Incarnation(Uuid::from_u128(1)),
        })
        .unwrap();
        register(&mut f, 3, "0.2.0+level.3").unwrap();
        assert_eq!(raise(&mut f), Ok(Applied::Done));
        assert_eq!(f.state.level(), Level(2));
    }
    test();
    assert_needed(&[(Rule::LevelIsKnownToAll, test)]);
}

#[test]
fn a_level_is_never_lowered_and_a_node_below_it_is_not_registered() {
    let mut f = Folding::new();
    raise(&mut f).unwrap();
    for lower in [0, 1, 2] {
        let to = Level(lower);
        assert_eq!(f.apply(Op::RaiseLevel { to }), Ok(Applied::Done));
        assert_eq!(f.state.level(), Level(2));
    }
    let refused = Rejected::LevelTooLow {
        level: Level(2),
        known: Level(1),
    };
    assert_eq!(register(&mut f, 1, "0.1.0"), Err(refused));
    assert!(register(&mut f, 1, "0.1.0+level.2").is_ok());
}

#[test]
fn a_state_of_the_first_level_has_the_bytes_that_it_had_before_there_were_levels() {
    let f = Folding::new();
    let bytes = f.state.to_bytes();
    let fields = minicbor::Decoder::new(&bytes).array().unwrap();
    assert_eq!(fields, Some(14));
    assert_eq!(State::from_bytes(&bytes).unwrap(), f.state);
}

#[test]
fn a_level_outlives_a_snapshot_and_one_of_a_newer_level_is_refused() {
    let mut f = Folding::new();
    raise(&mut f).unwrap();
    let read = State::from_bytes(&f.state.to_bytes()).unwrap();
    assert_eq!(read, f.state);
    assert_eq!(read.level(), Level(2));
    f.state.level = Level(99);
    let error = State::from_bytes(&f.state.to_bytes()).unwrap_err();
    assert!(error.to_string().contains("upgrade"), "{error}");
}

/// Appends, deletes all of it and appends again, in one object at one seq.
fn delete_and_append_in_one_object(f: &mut Folding, delete: Op) -> ObjectRef {
    let seq = f.state.seq().next();
    let one = |start| append(vec![entry(start, 1, None)]);
    let ops = vec![one(0), delete, one(100)];
    f.state.apply(seq, &commit(seq.0, ops), 64);
    ObjectRef::Commit(seq)
}

fn to_the_end() -> Op {
    Op::DeleteRecords {
        partition: partition(0),
        before: None,
    }
}

#[test]
fn an_object_that_is_appended_to_again_while_it_is_folded_is_alive_and_not_dead() {
    fn test() {
        let mut f = Folding::new();
        raise(&mut f).unwrap();
        let object = delete_and_append_in_one_object(&mut f, to_the_end());
        assert!(f.state.is_live(object));
        assert_eq!(f.state.death_of(object), None);
        assert_eq!(State::from_bytes(&f.state.to_bytes()).unwrap(), f.state);
        // It dies when the last of it goes.
        f.apply(to_the_end()).unwrap();
        assert!(!f.state.is_live(object));
        assert_eq!(f.state.death_of(object).unwrap().seq, f.state.seq());
    }
    test();
    assert_needed(&[(Rule::AppendsReviveCommits, test)]);
}

#[test]
fn what_the_first_level_made_alive_and_dead_can_be_read_and_raising_the_level_mends_it() {
    let mut f = Folding::new();
    let object = delete_and_append_in_one_object(&mut f, to_the_end());
    assert!(f.state.is_live(object) && f.state.death_of(object).is_some());
    let mut read = State::from_bytes(&f.state.to_bytes()).unwrap();
    assert_eq!(read, f.state);
    raise(&mut f).unwrap();
    let seq = read.seq().next();
    read.apply(
        seq,
        &commit(seq.0, vec![Op::RaiseLevel { to: Level(2) }]),
        64,
    );
    for state in [&f.state, &read] {
        assert!(state.is_live(object));
        assert_eq!(state.death_of(object), None);
    }
    assert_eq!(read.to_bytes(), f.state.to_bytes());
}

/// How many of the second commits of so many incarnations, which take turns, are void.
fn void_of(incarnations: u128, level: Level) -> usize {
    let mut f = Folding::new();
    f.apply(Op::RaiseLevel { to: level }).unwrap();
    let mut state = f.state;
    let mut void = 0;
    for counter in 1..=2 {
        for incarnation in 1..=incarnations {
            let commit = Commit {
                id: id(incarnation + 1000, counter),
                follows: (counter > 1).then(|| counter - 1),
                ..commit(0, Vec::new())
            };
            void += usize::from(state.apply(state.seq().next(), &commit, 0) == Folded::Void);
        }
    }
    void
}

#[test]
fn fifteen_hundred_authors_that_take_turns_are_all_remembered_from_the_second_level_on() {
    fn test() {
        assert_eq!(void_of(1500, Level(2)), 0);
    }
    test();
    assert_needed(&[(Rule::NodesAreRememberedAsAuthors, test)]);
    assert_eq!(void_of(1500, Level::FIRST), 1500 - 1024);
    assert_eq!(void_of(1000, Level::FIRST), 0);
}
