//! Topics that come, go, and collide.

use crate::state::tests::*;

fn raise(f: &mut Folding) {
    f.apply(Op::RaiseLevel { to: Level(2) }).unwrap();
}

#[test]
fn a_topic_created_again_is_another_topic() {
    let mut f = Folding::new();
    f.append(entry(0, 1, None)).unwrap();
    f.apply(Op::DeleteTopic { topic: TOPIC }).unwrap();
    assert_eq!(
        f.append(entry(0, 1, None)),
        Err(AppendRejected::UnknownTopic(TOPIC))
    );
    let other = TopicId(Uuid::from_u128(8));
    f.apply(create("t", other, 1)).unwrap();
    assert_eq!(f.state.topic_by_name("t").unwrap().id(), other);
}

/// Two nodes that each saw no topic of such a name: the log decides, and the second is refused.
#[test]
fn of_two_names_that_collide_the_first_in_the_log_is_created() {
    fn test() {
        let mut f = Folding::new();
        let id = |n| TopicId(Uuid::from_u128(n));
        // As it was before there were levels; such topics stay.
        f.apply(create("old.a", id(1), 1)).unwrap();
        f.apply(create("old_a", id(2), 1)).unwrap();
        raise(&mut f);
        f.apply(create("new.a", id(3), 1)).unwrap();
        let name = |text| TopicName::new(text).unwrap();
        let refused = |asked, existing| {
            Err(Rejected::TopicCollides {
                name: name(asked),
                existing: name(existing),
            })
        };
        // Also by a state that was read from a snapshot.
        f.state = State::from_bytes(&f.state.to_bytes()).unwrap();
        assert_eq!(
            f.apply(create("new_a", id(4), 1)),
            refused("new_a", "new.a")
        );
        assert_eq!(f.state.collision(&name("old.a")), Some(&name("old_a")));
        f.apply(Op::DeleteTopic { topic: id(1) }).unwrap();
        assert_eq!(
            f.apply(create("old.a", id(5), 1)),
            refused("old.a", "old_a")
        );
        f.apply(Op::DeleteTopic { topic: id(2) }).unwrap();
        assert_eq!(f.apply(create("old.a", id(6), 1)), Ok(Applied::Done));
        assert_eq!(f.apply(create("new-a", id(8), 1)), Ok(Applied::Done));
    }
    test();
    assert_needed(&[(Rule::TopicNamesDoNotCollide, test)]);
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
