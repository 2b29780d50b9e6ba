//! What clients ask for: refused when what it overwrites was changed since, and when it is late (I12).

use crate::state::group::{
    CommitOffsets, GroupReply, Join, OffsetToCommit, OffsetToDelete, Protocol,
};
use crate::state::table::PartitionBy;
use crate::state::table::tests as tables;
use crate::state::tests::*;
use crate::types::{Generation, GroupId, MemberId};

const NEVER: Timestamp = Timestamp(i64::MAX);

/// A state of the level that has the rules.
fn begin() -> Folding {
    let mut f = Folding {
        state: State::new(),
    };
    let to = Feature::AskedOps.since();
    f.apply(Op::RaiseLevel { to }).unwrap();
    f.apply(create("t", TOPIC, 2)).unwrap();
    f
}

impl Folding {
    fn apply_all(&mut self, ops: Vec<Op>) -> Vec<Outcome> {
        let seq = self.state.seq().next();
        match self.state.apply(seq, &commit(seq.0, ops), 64) {
            Folded::Outcomes(outcomes) => outcomes,
            folded => panic!("a new commit was not folded: {folded:?}"),
        }
    }

    /// Asks as of a seq; the first outcome is that of the question whether it may be.
    fn ask(&mut self, as_of: Seq, op: Op) -> Outcome {
        let ops = 1;
        let asked = Op::Asked(Asked {
            ops,
            as_of,
            until: NEVER,
        });
        let mut outcomes = self.apply_all(vec![asked, op]);
        let own = outcomes.pop().unwrap();
        let judged = outcomes.pop().unwrap();
        assert!(outcomes.is_empty());
        if judged.is_err() {
            assert_eq!(judged, own);
        }
        own
    }

    fn is_overtaken(&mut self, as_of: Seq, op: Op) -> bool {
        matches!(self.ask(as_of, op), Err(Rejected::Overtaken { .. }))
    }
}

fn in_group(action: GroupAction) -> Op {
    Op::Group {
        group: GroupId::new("g").unwrap(),
        action,
    }
}

fn offset_of(index: i32, offset: i64, member: Option<&str>, generation: i32) -> Op {
    in_group(GroupAction::CommitOffsets(CommitOffsets {
        member: member.map(MemberId::from),
        instance: None,
        generation: Generation(generation),
        offsets: vec![OffsetToCommit {
            partition: partition(index),
            offset: Offset(offset),
            leader_epoch: None,
            metadata: None,
        }],
    }))
}

fn offset(index: i32, offset: i64) -> Op {
    offset_of(index, offset, None, -1)
}

fn forget(index: i32) -> Op {
    in_group(GroupAction::DeleteOffsets {
        offsets: vec![OffsetToDelete {
            partition: partition(index),
            topic: TopicName::new("t").unwrap(),
        }],
    })
}

fn alter(topic: Option<TopicId>) -> Op {
    Op::AlterConfigs {
        topic,
        node: None,
        edits: BTreeMap::from([("a".to_owned(), Some("1".to_owned()))]),
    }
}

fn grow(total: i32) -> Op {
    Op::CreatePartitions {
        topic: TOPIC,
        total,
    }
}

#[test]
fn what_overwrites_is_refused_if_that_was_changed_since() {
    let delete = || Op::DeleteTopic { topic: TOPIC };
    let trim = |topic| Op::DeleteRecords {
        partition: TopicPartition {
            topic,
            partition: PartitionIndex(0),
        },
        before: Some(Offset(0)),
    };
    let other = TopicId(Uuid::from_u128(8));
    let drop_group = || in_group(GroupAction::Delete);
    // What was there before, what changes it, and what overwrites that.
    let cases: Vec<(Vec<Op>, Vec<Op>, Op)> = vec![
        (vec![], vec![offset(0, 2)], offset(0, 1)),
        (vec![offset(0, 0)], vec![forget(0)], offset(0, 1)),
        (vec![offset(0, 0)], vec![drop_group()], offset(0, 1)),
        (vec![offset(0, 0)], vec![offset(0, 1)], forget(0)),
        (vec![offset(0, 0)], vec![offset(1, 1)], drop_group()),
        (vec![], vec![alter(None)], alter(None)),
        (vec![], vec![alter(Some(TOPIC))], alter(Some(TOPIC))),
        (vec![], vec![alter(Some(TOPIC))], delete()),
        (vec![], vec![grow(3)], delete()),
        (vec![], vec![grow(3)], grow(4)),
        (vec![], vec![delete()], create("t", other, 1)),
        (
            vec![],
            vec![create("u", other, 1)],
            Op::DeleteTopic { topic: other },
        ),
        (vec![], vec![create("u", other, 1)], trim(other)),
        (vec![], vec![create("u", other, 1)], alter(Some(other))),
    ];
    for (before, changes, op) in cases {
        let mut f = begin();
        before.into_iter().for_each(|op| drop(f.apply(op).unwrap()));
        let as_of = f.state.seq();
        let refused = changes.clone();
        for change in changes {
            f.apply(change).unwrap();
        }
        let shown = format!("{op:?} after {refused:?}");
        assert!(f.is_overtaken(as_of, op.clone()), "{shown}");
        // A snapshot between them changes nothing.
        f.state = State::from_bytes(&f.state.to_bytes()).unwrap();
        assert!(f.is_overtaken(as_of, op.clone()), "{shown}");
        let now = f.state.seq();
        assert!(!f.is_overtaken(now, op), "{shown}");
    }
}

#[test]
fn members_that_commit_different_partitions_do_not_overtake_each_other() {
    let mut f = begin();
    let as_of = f.state.seq();
    f.apply(offset(0, 5)).unwrap();
    f.ask(as_of, offset(1, 5)).unwrap();
    f.ask(f.state.seq(), offset(0, 6)).unwrap();
}

#[test]
fn nothing_of_what_was_asked_for_together_takes_effect_if_any_of_it_is_refused() {
    let mut f = begin();
    let as_of = f.state.seq();
    f.apply(offset(0, 5)).unwrap();
    let asked = Op::Asked(Asked {
        ops: 2,
        as_of,
        until: NEVER,
    });
    let ops = vec![asked, offset(1, 7), offset(0, 1), alter(None)];
    let outcomes = f.apply_all(ops);
    let refused: Vec<bool> = outcomes.iter().map(Result::is_err).collect();
    assert_eq!(refused, [true, true, true, false]);
    let group = f.state.group(&GroupId::new("g").unwrap()).unwrap();
    assert_eq!(group.offset(partition(0)).unwrap().offset, Offset(5));
    assert_eq!(group.offset(partition(1)), None);
    // Of more ops than there are.
    let asked = Op::Asked(Asked {
        ops: u32::MAX,
        as_of,
        until: NEVER,
    });
    assert_eq!(f.apply_all(vec![asked, offset(0, 1)]).len(), 2);
}

#[test]
fn what_is_late_is_refused() {
    let mut f = begin();
    let now = f.state.time();
    let asked = |until| {
        Op::Asked(Asked {
            ops: 1,
            as_of: Seq(u64::MAX),
            until,
        })
    };
    let delete = || Op::DeleteTopic { topic: TOPIC };
    // Each commit is a millisecond later.
    let outcomes = f.apply_all(vec![asked(now), delete()]);
    let late = Err(Rejected::Late {
        until: now,
        now: Timestamp(now.0 + 1),
    });
    assert_eq!(outcomes, [late.clone(), late]);
    let done = Ok(Applied::Done);
    let until = Timestamp(now.0 + 2);
    let outcomes = f.apply_all(vec![asked(until), delete()]);
    assert_eq!(outcomes, [done.clone(), done]);
}

fn member() -> MemberId {
    MemberId::from("m")
}

/// The member joins at a node.
fn join(known: bool, node: i32) -> Op {
    in_group(GroupAction::Join(Join {
        member: member(),
        known,
        instance: None,
        node: NodeId(node),
        client_id: String::new(),
        client_host: String::new(),
        session_timeout_millis: 1000,
        rebalance_timeout_millis: 1000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![Protocol {
            name: "range".to_owned(),
            metadata: Bytes::new().into(),
        }],
        require_known_member: false,
        supports_skip_assignment: false,
        max_size: 9,
        initial_delay_millis: 0,
    }))
}

fn adopt(node: i32) -> Op {
    in_group(GroupAction::Adopt {
        member: member(),
        instance: None,
        generation: Generation(1),
        node: NodeId(node),
    })
}

#[test]
fn what_a_member_asked_of_a_node_that_vouches_for_it_no_more_is_refused() {
    let mut f = begin();
    // All commits here but those of the other node are of incarnation 1.
    for run in [1, 2] {
        let register = RegisterNode {
            version: Level::NEWEST.label("0.1.0"),
            ..registration(run, 1_000_000)
        };
        f.apply(Op::RegisterNode(register)).unwrap();
    }
    let of_other = |f: &mut Folding, counter, op| {
        let other = Commit {
            id: id(2, counter),
            ..commit(0, vec![op])
        };
        let seq = f.state.seq().next();
        f.state.apply(seq, &other, 64)
    };
    let done = Folded::Outcomes(vec![Ok(Applied::Group(GroupReply::Done))]);
    f.apply(join(false, 0)).unwrap();
    f.apply(in_group(GroupAction::CompleteJoin {
        generation: Generation(0),
    }))
    .unwrap_or(Applied::Done);
    let as_of = f.state.seq();
    assert_eq!(of_other(&mut f, 1, adopt(1)), done);
    let commit = || offset_of(0, 1, Some("m"), 1);
    for late in [adopt(0), join(true, 0), commit()] {
        assert!(f.is_overtaken(as_of, late.clone()), "{late:?}");
    }
    // Whoever vouches for it goes by a newer state; and to vouch for it again changes nothing.
    let as_of = f.state.seq();
    assert_eq!(of_other(&mut f, 2, adopt(1)), done);
    assert!(!f.is_overtaken(as_of, commit()));
}

#[test]
fn deletions_that_are_forgotten_count_as_deletions_of_everything() {
    let mut f = begin();
    let as_of = f.state.seq();
    let id = |n: u128| TopicId(Uuid::from_u128(1000 + n));
    for n in 0..3_000 {
        f.apply(create(&format!("t{n}"), id(n), 1)).unwrap();
        f.apply(Op::DeleteTopic { topic: id(n) }).unwrap();
    }
    let size = f.state.to_bytes().len();
    assert!(size < 64 << 10, "{size}");
    let new = |name: &str| create(name, TopicId(Uuid::from_u128(9)), 1);
    assert!(f.is_overtaken(as_of, new("t2999")));
    assert!(f.is_overtaken(as_of, new("t0")));
    assert!(f.is_overtaken(as_of, new("never-there")));
    assert!(!f.is_overtaken(f.state.seq(), new("t0")));
}

#[test]
fn before_the_level_nothing_is_remembered() {
    let mut f = Folding::new();
    assert_eq!(f.state.level(), Level::FIRST);
    f.apply(offset(0, 1)).unwrap();
    f.apply(forget(0)).unwrap();
    f.apply(offset(0, 1)).unwrap();
    f.apply(grow(3)).unwrap();
    f.apply(create("u", TopicId(Uuid::from_u128(8)), 1))
        .unwrap();
    let delete = Op::DeleteTopic {
        topic: TopicId(Uuid::from_u128(8)),
    };
    f.apply(delete).unwrap();
    assert!(f.state.deletions.is_empty());
    let group = f.state.group(&GroupId::new("g").unwrap()).unwrap();
    assert_eq!(group.offset(partition(0)).unwrap().changed, Seq::ZERO);
    assert_eq!(f.state.topic(TOPIC).unwrap().sized, Seq::ZERO);
}

#[test]
fn late_ops_that_are_accepted_are_found() {
    assert_needed(&[
        (
            Rule::LateOpsAreRefused,
            what_overwrites_is_refused_if_that_was_changed_since,
        ),
        (Rule::LateOpsAreRefused, what_is_late_is_refused),
    ]);
}

#[test]
fn a_table_is_not_dropped_for_who_asked_before_something_was_added_to_it() {
    let mut f = begin();
    f.apply(Op::RaiseLevel { to: Level::NEWEST }).unwrap();
    let table = TableId(Uuid::from_u128(70));
    f.apply(tables::create_table(table, TOPIC, "t")).unwrap();
    let alter = |by, enabled| {
        Op::AlterTable(AlterTable {
            table,
            schema: None,
            by,
            enabled,
        })
    };
    f.apply(alter(None, Some(false))).unwrap();
    let before = f.state.seq();
    f.apply(alter(Some(PartitionBy::Hour), None)).unwrap();
    let drop = Op::DropTable { table };
    assert!(f.is_overtaken(before, drop.clone()));
    let now = f.state.seq();
    f.ask(now, drop).unwrap();
}
