//! Committed offsets: who may commit, who may delete, when they expire.

use super::*;

fn put(scene: &mut Scene, commit: CommitOffsets) -> Result<GroupReply, GroupError> {
    scene.act(GroupAction::CommitOffsets(commit))
}

fn offset(scene: &Scene, partition: TopicPartition) -> Option<i64> {
    scene
        .group
        .offset(partition)
        .map(|committed| committed.offset.0)
}

fn subscribed(name: &str, topic: &str) -> Join {
    let mut bytes = vec![0, 0, 0, 0, 0, 1, 0, u8::try_from(topic.len()).unwrap()];
    bytes.extend(topic.as_bytes());
    let metadata = Opaque::from(Bytes::from(bytes));
    Join {
        protocols: vec![Protocol {
            name: "range".into(),
            metadata,
        }],
        ..newcomer(name)
    }
}

fn delete(scene: &mut Scene, topic: &str) -> Result<Result<(), GroupError>, GroupError> {
    let topic = TopicName::new(topic).unwrap();
    let offsets = vec![OffsetToDelete {
        partition: partition(1, 0),
        topic,
    }];
    match scene.act(GroupAction::DeleteOffsets { offsets })? {
        GroupReply::OffsetsDeleted(mut outcomes) => Ok(outcomes.remove(0)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_member_commits_in_its_generation_and_in_no_other() {
    let mut scene = Scene::stable(&["a"]);
    let here = partition(1, 0);
    assert_eq!(
        put(&mut scene, commit(Some("a"), 1, &[(here, 7)])),
        Ok(GroupReply::Done)
    );
    for generation in [0, 2, -1] {
        let (found, current) = (Generation(generation), Generation(1));
        let stale = put(&mut scene, commit(Some("a"), generation, &[(here, 1)]));
        assert_eq!(stale, Err(GroupError::IllegalGeneration { found, current }));
    }
    let stranger = put(&mut scene, commit(Some("x"), 1, &[(here, 1)]));
    assert_eq!(stranger, Err(GroupError::UnknownMember(id("x"))));
    assert_eq!(offset(&scene, here), Some(7));
}

#[test]
fn a_member_may_commit_until_the_next_generation_begins() {
    let mut scene = Scene::stable(&["a", "b"]);
    let here = partition(1, 0);
    let generation = scene.group.generation().0;
    scene.awaits(newcomer("c"));
    put(&mut scene, commit(Some("a"), generation, &[(here, 1)])).unwrap();
    scene.awaits(rejoiner("a"));
    scene.joined(rejoiner("b"));
    let (found, current) = (Generation(generation), Generation(generation + 1));
    let late = put(&mut scene, commit(Some("b"), generation, &[(here, 2)]));
    assert_eq!(late, Err(GroupError::IllegalGeneration { found, current }));
    let early = put(&mut scene, commit(Some("a"), generation + 1, &[(here, 3)]));
    assert_eq!(early, Err(GroupError::RebalanceInProgress));
    assert_eq!(offset(&scene, here), Some(1));
}

#[test]
fn a_client_outside_of_group_management_commits_while_the_group_is_empty() {
    let mut scene = scene();
    let here = partition(1, 0);
    put(&mut scene, commit(None, -1, &[(here, 7)])).unwrap();
    assert_eq!(scene.group.offset(here).unwrap().committed_at, scene.now);
    assert_eq!(scene.phase(), "Empty");
    scene.joined(newcomer("a"));
    scene.stabilize();
    let refused = put(&mut scene, commit(None, -1, &[(here, 8)]));
    assert_eq!(refused, Err(GroupError::UnknownMember(id(""))));
}

#[test]
fn a_commit_of_a_generation_of_a_forgotten_group_is_refused() {
    let mut scene = scene();
    let (found, current) = (Generation(3), Generation(0));
    let stale = put(&mut scene, commit(Some("a"), 3, &[(partition(1, 0), 1)]));
    assert_eq!(stale, Err(GroupError::IllegalGeneration { found, current }));
}

#[test]
fn metadata_beyond_the_bound_refuses_the_whole_commit() {
    let mut scene = scene();
    let mut action = commit(None, -1, &[(partition(1, 0), 1), (partition(1, 1), 1)]);
    action.offsets[1].metadata = Some("x".repeat(MAX_OFFSET_METADATA_BYTES + 1));
    assert!(matches!(
        put(&mut scene, action),
        Err(GroupError::TooLarge { .. })
    ));
    assert!(scene.group.is_vacant());
}

#[test]
fn offsets_of_a_topic_to_which_a_member_subscribes_are_not_deleted() {
    let mut scene = scene();
    scene.joined(subscribed("a", "orders"));
    scene.stabilize();
    put(&mut scene, commit(Some("a"), 1, &[(partition(1, 0), 7)])).unwrap();
    let orders = TopicName::new("orders").unwrap();
    assert_eq!(
        delete(&mut scene, "orders"),
        Ok(Err(GroupError::SubscribedToTopic(orders)))
    );
    assert_eq!(offset(&scene, partition(1, 0)), Some(7));
    assert_eq!(delete(&mut scene, "bills"), Ok(Ok(())));
    assert_eq!(offset(&scene, partition(1, 0)), None);
}

#[test]
fn offsets_of_an_empty_group_are_deleted_and_those_of_other_groups_with_members_are_not() {
    let mut scene = scene();
    assert_eq!(delete(&mut scene, "orders"), Err(GroupError::NotFound));
    put(&mut scene, commit(None, -1, &[(partition(1, 0), 7)])).unwrap();
    assert_eq!(delete(&mut scene, "orders"), Ok(Ok(())));
    assert!(scene.group.is_vacant());
    scene.joined(Join {
        protocol_type: "connect".into(),
        ..newcomer("a")
    });
    assert_eq!(delete(&mut scene, "orders"), Err(GroupError::NonEmpty));
}

#[test]
fn a_group_is_deleted_when_nobody_is_in_it() {
    let mut scene = scene();
    assert_eq!(scene.act(GroupAction::Delete), Err(GroupError::NotFound));
    scene.joined(newcomer("a"));
    scene.stabilize();
    put(&mut scene, commit(Some("a"), 1, &[(partition(1, 0), 7)])).unwrap();
    assert_eq!(scene.act(GroupAction::Delete), Err(GroupError::NonEmpty));
    scene.leave(Some("a"), None).unwrap();
    assert_eq!(scene.act(GroupAction::Delete), Ok(GroupReply::Done));
    assert!(scene.group.is_vacant());
}

#[test]
fn a_deleted_topic_takes_its_offsets_along() {
    let mut scene = scene();
    put(
        &mut scene,
        commit(None, -1, &[(partition(1, 0), 1), (partition(2, 0), 2)]),
    )
    .unwrap();
    scene.group.topic_deleted(partition(1, 0).topic);
    assert_eq!(
        scene.group.offsets().map(|(at, _)| at).collect::<Vec<_>>(),
        [partition(2, 0)]
    );
}

#[test]
fn offsets_expire_when_the_group_has_been_empty_for_long_enough() {
    let mut scene = Scene::stable(&["a"]);
    put(&mut scene, commit(Some("a"), 1, &[(partition(1, 0), 1)])).unwrap();
    scene.later(1_000);
    let before = scene.now;
    assert!(
        !scene.group.has_expired_offsets(before),
        "a group with members uses its offsets"
    );
    scene.act(GroupAction::ExpireOffsets { before }).unwrap();
    scene.leave(Some("a"), None).unwrap();
    assert!(
        !scene.group.has_expired_offsets(before),
        "it was in use until now"
    );
    scene.act(GroupAction::ExpireOffsets { before }).unwrap();
    assert_eq!(offset(&scene, partition(1, 0)), Some(1));
    scene.later(1_000);
    put(&mut scene, commit(None, -1, &[(partition(1, 1), 2)])).unwrap();
    let before = scene.now;
    assert!(scene.group.has_expired_offsets(before));
    scene.act(GroupAction::ExpireOffsets { before }).unwrap();
    assert_eq!(offset(&scene, partition(1, 0)), None);
    assert_eq!(offset(&scene, partition(1, 1)), Some(2), "committed since");
}
