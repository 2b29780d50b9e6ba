//! What is set for single nodes, and what was decided by settings that are others now.

use std::collections::BTreeMap;

use crate::state::tests::*;

fn raise(f: &mut Folding) {
    f.apply(Op::RaiseLevel { to: Level(2) }).unwrap();
}

fn set(node: i32, value: Option<&str>) -> Op {
    Op::AlterConfigs {
        topic: None,
        edits: [("num.partitions".to_owned(), value.map(str::to_owned))].into(),
        node: Some(NodeId(node)),
    }
}

#[test]
fn what_is_set_for_a_node_stays_with_its_id() {
    let mut f = Folding::new();
    let known = |version: &str, run| {
        Op::RegisterNode(RegisterNode {
            version: version.to_owned(),
            properties: Some([("broker.rack".to_owned(), "a".to_owned())].into()),
            ..registration(run, 10_000)
        })
    };
    f.apply(known("0.1.0+level.2", 1)).unwrap();
    // Not before every node can read it.
    assert_eq!(
        f.apply(set(0, Some("7"))),
        Err(Rejected::NoSuchNode(NodeId(0)))
    );
    raise(&mut f);
    assert_eq!(
        f.apply(set(4, Some("7"))),
        Err(Rejected::NoSuchNode(NodeId(4)))
    );
    f.apply(set(0, Some("7"))).unwrap();
    let run = |run| Incarnation(Uuid::from_u128(run));
    let set_for = |f: &Folding, of| f.state.configs_of(run(of)).get("num.partitions").cloned();
    assert_eq!(set_for(&f, 1).as_deref(), Some("7"));
    assert!(f.state.configs().is_empty());
    let said = f.state.node(NodeId(0)).unwrap().properties().unwrap();
    assert_eq!(said["broker.rack"], "a");

    let retired = Op::RetireNode {
        node: NodeId(0),
        incarnation: run(1),
    };
    f.apply(retired).unwrap();
    assert_eq!(set_for(&f, 1), None);
    let read = State::from_bytes(&f.state.to_bytes()).unwrap();
    assert_eq!(read, f.state);
    f.apply(known("0.1.0+level.2", 2)).unwrap();
    assert_eq!(set_for(&f, 2).as_deref(), Some("7"));
    f.apply(set(0, None)).unwrap();
    assert_eq!(set_for(&f, 2), None);
}

#[test]
fn what_was_decided_by_settings_that_changed_is_refused() {
    let mut log = Log::new();
    log.inline_many(2);
    let expire = |as_of| Op::ExpireRecords {
        partition: partition(0),
        before: Offset(2),
        as_of,
    };
    let read_at = log.state.seq();
    for topic in [Some(TOPIC), None] {
        log.apply(Op::AlterConfigs {
            node: None,
            topic,
            edits: BTreeMap::from([("retention.ms".to_owned(), Some("-1".to_owned()))]),
        })
        .unwrap();
        let refused = log.apply(expire(read_at));
        assert!(matches!(refused, Err(Rejected::ConfigsAltered { .. })));
        let cleaned = log.apply(Op::ReplaceSlices(ReplaceSlices {
            partition: partition(0),
            layout: 0,
            base: Offset(0),
            end: Offset(2),
            outputs: vec![output(2, 1)],
            cleaned: Some(Cleaned {
                to: Offset(2),
                as_of: read_at,
            }),
        }));
        assert!(matches!(cleaned, Err(Rejected::ConfigsAltered { .. })));
    }
    let fresh = log.state.seq();
    assert_eq!(
        log.apply(expire(fresh)),
        Ok(Applied::RecordsDeleted(Offset(2)))
    );
}

#[test]
fn settings_that_are_not_compared_are_found() {
    let test = what_was_decided_by_settings_that_changed_is_refused;
    assert_needed(&[(Rule::DecisionsMatchSettings, test)]);
}
