//! What is set for single nodes, what they say of themselves, and how many replicas a topic is said to have.

use super::*;

fn raise(f: &mut Folding) {
    f.apply(Op::RaiseLevel { to: Level(2) }).unwrap();
}

fn replicated() -> Op {
    let Op::CreateTopic(create) = create("other", TopicId(Uuid::from_u128(77)), 1) else {
        unreachable!("a topic is created by an op of its own")
    };
    Op::CreateTopic(CreateTopic {
        replicas: Some(3),
        ..create
    })
}

fn set(node: i32, value: Option<&str>) -> Op {
    Op::AlterConfigs {
        topic: None,
        edits: [("num.partitions".to_owned(), value.map(str::to_owned))].into(),
        node: Some(NodeId(node)),
    }
}

#[test]
fn a_topic_keeps_the_replication_factor_that_was_asked_for_once_all_nodes_know_of_it() {
    let replicas = |state: &State| state.topic_by_name("other").unwrap().replicas();
    let mut f = Folding::new();
    f.apply(replicated()).unwrap();
    assert_eq!(replicas(&f.state), 1);
    let mut f = Folding::new();
    raise(&mut f);
    f.apply(replicated()).unwrap();
    let read = State::from_bytes(&f.state.to_bytes()).unwrap();
    assert_eq!(replicas(&read), 3);
    assert_eq!(read, f.state);
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
