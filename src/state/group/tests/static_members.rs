//! Static members (KIP-345, KIP-814).

use super::*;

fn static_newcomer(name: &str, instance: &str) -> Join {
    Join {
        instance: Some(instance.into()),
        ..newcomer(name)
    }
}

fn static_rejoiner(name: &str, instance: &str) -> Join {
    Join {
        known: true,
        ..static_newcomer(name, instance)
    }
}

/// A stable group of a leader `i1-1` and a follower `i2-1`.
fn stable() -> Scene {
    let mut scene = scene();
    scene.joined(static_newcomer("i1-1", "i1"));
    scene.awaits(static_newcomer("i2-1", "i2"));
    scene.joined(static_rejoiner("i1-1", "i1"));
    scene.stabilize();
    scene
}

#[test]
fn a_static_member_that_restarts_keeps_its_place_without_a_rebalance() {
    let mut scene = stable();
    let generation = scene.group.generation();
    let joined = scene.joined(static_newcomer("i2-2", "i2"));
    assert_eq!((joined.generation, scene.phase()), (generation, "Stable"));
    assert_eq!(joined.leader, id("i1-1"));
    assert_eq!(scene.members(), ["i1-1", "i2-2"]);
    let Ok(GroupReply::Synced(synced)) = scene.sync(syncer("i2-2", generation.0)) else {
        panic!()
    };
    assert_eq!(synced.assignment, opaque("a-i2-1"));
}

#[test]
fn the_old_id_of_a_static_member_is_fenced_everywhere() {
    let mut scene = stable();
    let generation = scene.group.generation();
    scene.joined(static_newcomer("i2-2", "i2"));
    let fenced = GroupError::FencedInstance {
        instance: "i2".into(),
        member: id("i2-1"),
        current: id("i2-2"),
    };
    let instance = Some("i2".to_owned());
    assert_eq!(
        scene.join(static_rejoiner("i2-1", "i2")),
        Err(fenced.clone())
    );
    let sync = Sync {
        instance: instance.clone(),
        ..syncer("i2-1", generation.0)
    };
    assert_eq!(scene.sync(sync), Err(fenced.clone()));
    let commit = CommitOffsets {
        instance: instance.clone(),
        ..commit(Some("i2-1"), generation.0, &[(partition(1, 0), 1)])
    };
    assert_eq!(
        scene.act(GroupAction::CommitOffsets(commit)),
        Err(fenced.clone())
    );
    let adopt = GroupAction::Adopt {
        member: id("i2-1"),
        instance,
        generation,
        node: NODE,
    };
    assert_eq!(scene.act(adopt), Err(fenced.clone()));
    assert_eq!(scene.leave(Some("i2-1"), Some("i2")), Err(fenced));
    assert_eq!(
        scene.sync(syncer("i2-1", generation.0)),
        Err(GroupError::UnknownMember(id("i2-1")))
    );
}

#[test]
fn a_static_leader_that_restarts_is_told_to_skip_the_assignment_or_that_it_does_not_lead() {
    let mut scene = stable();
    let able = Join {
        supports_skip_assignment: true,
        ..static_newcomer("i1-2", "i1")
    };
    let joined = scene.joined(able);
    assert!(joined.skip_assignment);
    assert_eq!((joined.leader, joined.members.len()), (id("i1-2"), 2));
    let joined = scene.joined(static_newcomer("i1-3", "i1"));
    assert!(!joined.skip_assignment);
    assert_eq!((joined.leader, joined.members.len()), (id("i1-2"), 0));
    assert_eq!(scene.group.leader(), Some(&id("i1-3")));
}

#[test]
fn a_static_member_that_restarts_while_the_assignment_is_made_starts_a_rebalance() {
    let mut scene = stable();
    scene.awaits(static_rejoiner("i1-1", "i1"));
    scene.joined(Join {
        protocols: protocols(&["range", "x"]),
        ..static_rejoiner("i2-1", "i2")
    });
    assert_eq!(scene.phase(), "CompletingRebalance");
    scene.awaits(static_newcomer("i2-2", "i2"));
    assert_eq!(scene.phase(), "PreparingRebalance");
}

#[test]
fn a_static_member_that_changes_the_choice_of_protocol_starts_a_rebalance() {
    let mut scene = scene();
    let both = |join| Join {
        protocols: protocols(&["range", "sticky"]),
        ..join
    };
    scene.joined(both(static_newcomer("i1-1", "i1")));
    scene.stabilize();
    let sticky = Join {
        protocols: protocols(&["sticky"]),
        ..static_newcomer("i1-2", "i1")
    };
    let joined = scene.joined(sticky);
    assert_eq!(
        (joined.generation, joined.protocol.as_str()),
        (Generation(2), "sticky")
    );
}

#[test]
fn a_static_member_that_does_not_rejoin_keeps_its_place_until_its_session_ends() {
    let mut scene = stable();
    scene.awaits(static_rejoiner("i1-1", "i1"));
    scene.later(REBALANCE).do_due();
    assert_eq!(
        (scene.phase(), scene.members()),
        ("CompletingRebalance", vec!["i1-1", "i2-1"])
    );
    let expire = GroupAction::ExpireMember {
        member: id("i2-1"),
        node: Some(NODE),
    };
    scene.act(expire).unwrap();
    assert_eq!(scene.members(), ["i1-1"]);
}

#[test]
fn a_rebalance_that_no_static_member_joins_is_prolonged() {
    let mut scene = stable();
    scene.awaits(newcomer("a"));
    assert_eq!(scene.leave(Some("a"), None), Ok(()));
    let generation = scene.group.generation();
    scene.later(REBALANCE).do_due();
    assert_eq!(
        (scene.phase(), scene.group.generation()),
        ("PreparingRebalance", generation)
    );
    scene.awaits(static_rejoiner("i2-1", "i2"));
    scene.later(REBALANCE).do_due();
    assert_eq!(scene.group.leader(), Some(&id("i2-1")), "the leader slept");
}

#[test]
fn an_administrator_removes_a_static_member_by_its_instance() {
    let mut scene = stable();
    assert_eq!(scene.leave(None, Some("i2")), Ok(()));
    assert_eq!(scene.members(), ["i1-1"]);
    assert_eq!(
        scene.leave(None, Some("i2")),
        Err(GroupError::UnknownMember(id("")))
    );
    assert_eq!(
        scene.leave(None, None),
        Err(GroupError::UnknownMember(id("")))
    );
}

#[test]
fn an_unknown_instance_is_an_unknown_member() {
    let mut scene = stable();
    let join = static_rejoiner("i1-1", "i9");
    assert_eq!(scene.join(join), Err(GroupError::UnknownMember(id("i1-1"))));
}

#[test]
fn a_static_member_needs_no_id_first() {
    let mut scene = scene();
    scene.joined(Join {
        require_known_member: true,
        ..static_newcomer("i1-1", "i1")
    });
}

#[test]
fn a_static_member_may_restart_in_a_full_group() {
    let mut scene = stable();
    scene.joined(Join {
        max_size: 2,
        ..static_newcomer("i2-2", "i2")
    });
}
