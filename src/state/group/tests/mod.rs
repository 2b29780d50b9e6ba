//! The rules of the classic protocol, one by one. `properties` has those that must hold whatever happens.

mod changes;
mod committed_offsets;
mod groups;
mod properties;
mod static_members;

pub(in crate::state) use properties::{aim, any_action};

use bytes::Bytes;
use uuid::Uuid;

use super::*;
use crate::types::{Offset, PartitionIndex, TopicName};

const NODE: NodeId = NodeId(1);
const OTHER_NODE: NodeId = NodeId(2);
const SESSION: u64 = 10_000;
const REBALANCE: u64 = 60_000;

/// A group and its time.
struct Scene {
    group: Group,
    now: Timestamp,
}

fn scene() -> Scene {
    Scene {
        group: Group::new(),
        now: Timestamp(1_000_000),
    }
}

fn id(name: &str) -> MemberId {
    MemberId::from(name)
}

fn opaque(text: &str) -> Opaque {
    Opaque::from(Bytes::copy_from_slice(text.as_bytes()))
}

fn protocols(names: &[&str]) -> Vec<Protocol> {
    let metadata = opaque("m");
    names
        .iter()
        .map(|name| Protocol {
            name: (*name).into(),
            metadata: metadata.clone(),
        })
        .collect()
}

/// A new client that needs no id first.
fn newcomer(name: &str) -> Join {
    Join {
        member: id(name),
        known: false,
        instance: None,
        node: NODE,
        client_id: name.into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_millis: SESSION,
        rebalance_timeout_millis: REBALANCE,
        protocol_type: "consumer".into(),
        protocols: protocols(&["range"]),
        require_known_member: false,
        supports_skip_assignment: false,
        max_size: u32::MAX,
        initial_delay_millis: 0,
    }
}

/// A member that joins again.
fn rejoiner(name: &str) -> Join {
    Join {
        known: true,
        ..newcomer(name)
    }
}

fn syncer(name: &str, generation: i32) -> Sync {
    Sync {
        member: id(name),
        instance: None,
        generation: Generation(generation),
        node: NODE,
        protocol_type: None,
        protocol: None,
        assignments: Vec::new(),
    }
}

fn partition(topic: u128, index: i32) -> TopicPartition {
    TopicPartition {
        topic: TopicId(Uuid::from_u128(topic)),
        partition: PartitionIndex(index),
    }
}

fn commit(member: Option<&str>, generation: i32, at: &[(TopicPartition, i64)]) -> CommitOffsets {
    let offset = |(partition, offset): &(TopicPartition, i64)| OffsetToCommit {
        partition: *partition,
        offset: Offset(*offset),
        leader_epoch: None,
        metadata: None,
    };
    CommitOffsets {
        member: member.map(id),
        instance: None,
        generation: Generation(generation),
        offsets: at.iter().map(offset).collect(),
    }
}

impl Scene {
    fn act(&mut self, action: GroupAction) -> Result<GroupReply, GroupError> {
        self.group.apply(&action, self.now)
    }

    fn join(&mut self, join: Join) -> Result<GroupReply, GroupError> {
        self.act(GroupAction::Join(join))
    }

    fn joined(&mut self, join: Join) -> JoinedGroup {
        match self.join(join) {
            Ok(GroupReply::Joined(joined)) => joined,
            other => panic!("not joined: {other:?}"),
        }
    }

    fn awaits(&mut self, join: Join) {
        let reply = self.join(join);
        assert!(
            matches!(reply, Ok(GroupReply::AwaitJoin { .. })),
            "{reply:?}"
        );
    }

    fn sync(&mut self, sync: Sync) -> Result<GroupReply, GroupError> {
        self.act(GroupAction::Sync(sync))
    }

    fn leave(&mut self, member: Option<&str>, instance: Option<&str>) -> Result<(), GroupError> {
        let leaver = Leaver {
            member: member.map(id),
            instance: instance.map(Into::into),
        };
        match self.act(GroupAction::Leave {
            members: vec![leaver],
        }) {
            Ok(GroupReply::Left(mut outcomes)) => outcomes.remove(0),
            other => panic!("{other:?}"),
        }
    }

    fn later(&mut self, millis: u64) -> &mut Scene {
        self.now = self.now.after(std::time::Duration::from_millis(millis));
        self
    }

    /// Does what is due now; how many things that was.
    fn do_due(&mut self) -> usize {
        let mut done = 0;
        while let Some((at, action)) = self.group.next_deadline()
            && at <= self.now
        {
            self.act(action.clone())
                .unwrap_or_else(|error| panic!("{action:?}: {error}"));
            done += 1;
            assert!(done < 100, "it never ends");
        }
        done
    }

    fn phase(&self) -> &'static str {
        self.group.phase().name()
    }

    fn members(&self) -> Vec<&str> {
        self.group.members().map(|(id, _)| id.as_str()).collect()
    }

    /// A stable group in which the first name leads and has `a-first` etc. for assignment.
    fn stable(names: &[&str]) -> Scene {
        let mut scene = scene();
        for name in names {
            let _ = scene.join(newcomer(name)).unwrap();
        }
        for name in &names[..names.len() - 1] {
            let _ = scene.join(rejoiner(name)).unwrap();
        }
        scene.stabilize();
        scene
    }

    /// Lets the leader assign and everybody sync.
    fn stabilize(&mut self) {
        assert_eq!(self.phase(), "CompletingRebalance");
        let generation = self.group.generation().0;
        let leader = self.group.leader().unwrap().clone();
        let names: Vec<MemberId> = self.group.members().map(|(id, _)| id.clone()).collect();
        let assignments = names.iter().map(|member| Assignment {
            member: member.clone(),
            assignment: opaque(&format!("a-{member}")),
        });
        let assignments = assignments.collect();
        self.sync(Sync {
            assignments,
            ..syncer(leader.as_str(), generation)
        })
        .unwrap();
        for name in names.iter().filter(|name| **name != leader) {
            self.sync(syncer(name.as_str(), generation)).unwrap();
        }
        assert_eq!(self.group.phase(), Phase::Stable { deadline: None });
    }
}

#[test]
fn the_first_member_leads_the_first_generation() {
    let mut scene = scene();
    let joined = scene.joined(newcomer("a"));
    assert_eq!((joined.generation, joined.leader), (Generation(1), id("a")));
    assert_eq!(
        (joined.protocol_type.as_str(), joined.protocol.as_str()),
        ("consumer", "range")
    );
    assert_eq!(joined.members.len(), 1);
    assert_eq!(scene.phase(), "CompletingRebalance");
}

#[test]
fn a_newcomer_waits_until_all_others_have_rejoined() {
    let mut scene = Scene::stable(&["a"]);
    scene.awaits(newcomer("b"));
    assert_eq!(scene.phase(), "PreparingRebalance");
    let joined = scene.joined(rejoiner("a"));
    assert_eq!(joined.generation, Generation(2));
    let members: Vec<_> = joined.members.iter().map(|m| m.member.as_str()).collect();
    assert_eq!(members, ["a", "b"]);
    let of_b = scene.group.joined(&id("b")).unwrap();
    assert_eq!((of_b.leader, of_b.members.len()), (id("a"), 0));
}

#[test]
fn members_who_do_not_rejoin_in_time_are_out() {
    let mut scene = Scene::stable(&["a", "b"]);
    scene.awaits(newcomer("c"));
    scene.awaits(rejoiner("b"));
    let generation = scene.group.generation();
    scene.later(REBALANCE - 1);
    let early = scene.act(GroupAction::CompleteJoin { generation });
    assert_eq!(early, Err(GroupError::NotDue));
    assert_eq!(scene.later(1).do_due(), 1);
    assert_eq!(scene.members(), ["b", "c"]);
    assert_eq!(scene.phase(), "CompletingRebalance");
    assert_eq!(
        scene.group.leader(),
        Some(&id("b")),
        "the leader is gone; a member that joined leads"
    );
    let twice = scene.act(GroupAction::CompleteJoin { generation });
    assert_eq!(
        twice,
        Err(GroupError::NotDue),
        "another node's proposal of the same does nothing"
    );
}

#[test]
fn an_empty_group_waits_a_little_for_more_members() {
    let mut scene = scene();
    let delayed = |name| Join {
        initial_delay_millis: 3_000,
        ..newcomer(name)
    };
    scene.awaits(delayed("a"));
    assert_eq!(scene.later(2_000).do_due(), 0);
    scene.awaits(delayed("b"));
    scene.later(1_000).do_due();
    assert_eq!(scene.phase(), "PreparingRebalance", "b prolonged the wait");
    assert_eq!(scene.later(2_999).do_due(), 0);
    scene.later(1).do_due();
    assert_eq!(
        (scene.phase(), scene.group.generation()),
        ("CompletingRebalance", Generation(1))
    );
    assert_eq!(scene.members(), ["a", "b"]);
}

#[test]
fn the_wait_for_more_members_ends_with_the_rebalance_timeout() {
    let mut scene = scene();
    let start = scene.now;
    let delayed = |name: &str| Join {
        initial_delay_millis: 40_000,
        ..newcomer(name)
    };
    scene.awaits(delayed("a"));
    for name in ["b", "c", "d", "e"] {
        if scene.phase() == "PreparingRebalance" {
            scene.awaits(delayed(name));
            let (at, _) = scene.group.next_deadline().unwrap();
            scene.now = at;
            scene.do_due();
        }
    }
    assert_eq!(scene.phase(), "CompletingRebalance");
    assert_eq!(scene.now.since(start).as_millis(), u128::from(REBALANCE));
    assert_eq!(scene.members(), ["a", "b", "c"]);
}

#[test]
fn a_client_without_an_id_gets_one_and_the_rebalance_waits_for_it() {
    let mut scene = Scene::stable(&["a"]);
    let asking = Join {
        require_known_member: true,
        ..newcomer("b")
    };
    assert_eq!(scene.join(asking), Ok(GroupReply::MemberIdRequired));
    assert_eq!(scene.phase(), "Stable", "a reserved id is no member");
    scene.awaits(rejoiner("a"));
    assert_eq!(scene.phase(), "PreparingRebalance", "b is awaited");
    scene.joined(rejoiner("b"));
    assert_eq!(scene.members(), ["a", "b"]);
}

#[test]
fn a_reserved_id_that_is_not_used_lapses() {
    let mut scene = scene();
    let asking = Join {
        require_known_member: true,
        ..newcomer("a")
    };
    scene.join(asking).unwrap();
    assert!(!scene.group.is_vacant());
    assert_eq!(scene.later(SESSION).do_due(), 1);
    assert!(scene.group.is_vacant());
    assert_eq!(
        scene.join(rejoiner("a")),
        Err(GroupError::UnknownMember(id("a")))
    );
}

#[test]
fn a_rebalance_goes_on_when_the_last_one_it_waits_for_leaves() {
    let mut scene = Scene::stable(&["a", "b"]);
    scene.awaits(newcomer("c"));
    scene.awaits(rejoiner("b"));
    assert_eq!(scene.leave(Some("a"), None), Ok(()));
    assert_eq!(
        (scene.phase(), scene.members()),
        ("CompletingRebalance", vec!["b", "c"])
    );
}

#[test]
fn an_unknown_member_cannot_join() {
    let mut scene = Scene::stable(&["a"]);
    assert_eq!(
        scene.join(rejoiner("x")),
        Err(GroupError::UnknownMember(id("x")))
    );
    assert_eq!(
        self::scene().join(rejoiner("x")),
        Err(GroupError::UnknownMember(id("x")))
    );
}

#[test]
fn an_id_in_use_is_not_minted_again() {
    let mut scene = Scene::stable(&["a"]);
    assert_eq!(
        scene.join(newcomer("a")),
        Err(GroupError::UnknownMember(id("a")))
    );
}

#[test]
fn a_follower_that_rejoins_unchanged_a_stable_group_gets_its_generation() {
    let mut scene = Scene::stable(&["a", "b"]);
    let joined = scene.joined(rejoiner("b"));
    assert_eq!(
        (joined.generation, scene.phase()),
        (scene.group.generation(), "Stable")
    );
}

#[test]
fn a_leader_that_rejoins_a_stable_group_starts_a_rebalance() {
    let mut scene = Scene::stable(&["a", "b"]);
    scene.awaits(rejoiner("a"));
    assert_eq!(scene.phase(), "PreparingRebalance");
}

#[test]
fn a_member_with_new_metadata_starts_a_rebalance() {
    for completing in [false, true] {
        let mut scene = Scene::stable(&["a", "b"]);
        if completing {
            scene.awaits(rejoiner("a"));
            scene.joined(Join {
                protocols: protocols(&["range", "x"]),
                ..rejoiner("b")
            });
        }
        let mut changed = rejoiner("b");
        changed.protocols[0].metadata = opaque("other topics");
        scene.awaits(changed);
        assert_eq!(scene.phase(), "PreparingRebalance");
    }
}

#[test]
fn a_member_that_missed_the_answer_gets_it_again() {
    let mut scene = scene();
    let first = scene.joined(newcomer("a"));
    assert_eq!(scene.joined(rejoiner("a")), first);
}

#[test]
fn protocols_must_have_one_in_common() {
    let mut scene = Scene::stable(&["a"]);
    let strange = Join {
        protocols: protocols(&["sticky"]),
        ..newcomer("b")
    };
    assert_eq!(scene.join(strange), Err(GroupError::InconsistentProtocol));
    let foreign = Join {
        protocol_type: "connect".into(),
        ..newcomer("b")
    };
    assert_eq!(scene.join(foreign), Err(GroupError::InconsistentProtocol));
    let none = Join {
        protocols: Vec::new(),
        ..newcomer("a")
    };
    assert_eq!(
        self::scene().join(none),
        Err(GroupError::InconsistentProtocol)
    );
    let untyped = Join {
        protocol_type: String::new(),
        ..newcomer("a")
    };
    assert_eq!(
        self::scene().join(untyped),
        Err(GroupError::InconsistentProtocol)
    );
}

#[test]
fn the_protocol_with_the_most_votes_among_the_common_ones_is_chosen() {
    let mut scene = scene();
    let delayed = |name: &str, wants: &[&str]| Join {
        protocols: protocols(wants),
        initial_delay_millis: 1_000,
        ..newcomer(name)
    };
    scene.awaits(delayed("a", &["only-a", "range", "sticky"]));
    scene.awaits(delayed("b", &["sticky", "range"]));
    scene.awaits(delayed("c", &["sticky", "range"]));
    scene.later(1_000).do_due();
    scene.later(1_000).do_due();
    assert_eq!(scene.group.protocol(), Some("sticky"));
}

#[test]
fn of_protocols_with_equal_votes_the_leaders_is_chosen() {
    let mut scene = Scene::stable(&["z"]);
    scene.awaits(Join {
        protocols: protocols(&["b", "c", "range"]),
        ..newcomer("a")
    });
    scene.joined(Join {
        protocols: protocols(&["c", "b", "range"]),
        ..rejoiner("z")
    });
    assert_eq!(scene.group.leader(), Some(&id("z")));
    assert_eq!(scene.group.protocol(), Some("c"));
}

#[test]
fn a_full_group_takes_no_more() {
    let mut scene = Scene::stable(&["a", "b"]);
    let one_too_many = Join {
        max_size: 2,
        ..newcomer("c")
    };
    assert_eq!(scene.join(one_too_many), Err(GroupError::MaxSizeReached(2)));
    scene.awaits(Join {
        max_size: 2,
        ..rejoiner("a")
    });
    // The limit was lowered: who comes last is shed.
    assert_eq!(
        scene.join(Join {
            max_size: 1,
            ..rejoiner("b")
        }),
        Err(GroupError::MaxSizeReached(1))
    );
}

#[test]
fn what_a_member_brings_is_bounded() {
    let mut join = newcomer("a");
    join.protocols[0].metadata = Opaque::from(Bytes::from(vec![0; MAX_MEMBER_BYTES]));
    assert!(matches!(
        scene().join(join),
        Err(GroupError::TooLarge { .. })
    ));
    let mut scene = scene();
    scene.joined(newcomer("a"));
    let assignment = Opaque::from(Bytes::from(vec![0; MAX_ASSIGNMENT_BYTES + 1]));
    let assignments = vec![Assignment {
        member: id("a"),
        assignment,
    }];
    let sync = Sync {
        assignments,
        ..syncer("a", 1)
    };
    assert!(matches!(scene.sync(sync), Err(GroupError::TooLarge { .. })));
}

#[test]
fn followers_wait_for_the_leader_and_get_what_it_gave_them() {
    let mut scene = Scene::stable(&["a"]);
    scene.awaits(newcomer("b"));
    scene.joined(rejoiner("a"));
    assert_eq!(scene.sync(syncer("b", 2)), Ok(GroupReply::AwaitSync));
    assert_eq!(scene.group.synced(&id("b")), None);
    let given = Assignment {
        member: id("b"),
        assignment: opaque("b's"),
    };
    let stranger = Assignment {
        member: id("nobody"),
        assignment: opaque("?"),
    };
    let sync = Sync {
        assignments: vec![given, stranger],
        ..syncer("a", 2)
    };
    let Ok(GroupReply::Synced(of_leader)) = scene.sync(sync) else {
        panic!()
    };
    assert_eq!(
        of_leader.assignment,
        Opaque::default(),
        "the leader forgot itself"
    );
    assert_eq!(
        scene.group.synced(&id("b")).unwrap().assignment,
        opaque("b's")
    );
    assert_eq!(scene.members(), ["a", "b"]);
    // Asked again, the group says the same; a second assignment by the leader comes too late.
    let late = Assignment {
        member: id("b"),
        assignment: opaque("other"),
    };
    scene
        .sync(Sync {
            assignments: vec![late],
            ..syncer("a", 2)
        })
        .unwrap();
    let Ok(GroupReply::Synced(again)) = scene.sync(syncer("b", 2)) else {
        panic!()
    };
    assert_eq!(again.assignment, opaque("b's"));
}

#[test]
fn a_generation_has_one_assignment_even_before_all_have_asked_for_theirs() {
    let mut scene = Scene::stable(&["a"]);
    scene.awaits(newcomer("b"));
    scene.joined(rejoiner("a"));
    for text in ["first", "second"] {
        let given = Assignment {
            member: id("b"),
            assignment: opaque(text),
        };
        scene
            .sync(Sync {
                assignments: vec![given],
                ..syncer("a", 2)
            })
            .unwrap();
    }
    let Ok(GroupReply::Synced(of_b)) = scene.sync(syncer("b", 2)) else {
        panic!()
    };
    assert_eq!(of_b.assignment, opaque("first"));
}

#[test]
fn a_sync_must_name_the_generation_and_the_protocol() {
    let mut scene = Scene::stable(&["a"]);
    let current = scene.group.generation();
    let found = Generation(0);
    assert_eq!(
        scene.sync(syncer("a", 0)),
        Err(GroupError::IllegalGeneration { found, current })
    );
    assert_eq!(
        scene.sync(syncer("x", 1)),
        Err(GroupError::UnknownMember(id("x")))
    );
    let wrong = Sync {
        protocol: Some("sticky".into()),
        ..syncer("a", 1)
    };
    assert_eq!(scene.sync(wrong), Err(GroupError::InconsistentProtocol));
    let wrong = Sync {
        protocol_type: Some("connect".into()),
        ..syncer("a", 1)
    };
    assert_eq!(scene.sync(wrong), Err(GroupError::InconsistentProtocol));
    let right = Sync {
        protocol: Some("range".into()),
        protocol_type: Some("consumer".into()),
        ..syncer("a", 1)
    };
    assert!(matches!(scene.sync(right), Ok(GroupReply::Synced(_))));
    scene.awaits(newcomer("b"));
    assert_eq!(
        scene.sync(syncer("a", 1)),
        Err(GroupError::RebalanceInProgress)
    );
}

#[test]
fn members_who_do_not_sync_in_time_are_out() {
    for leader_syncs in [false, true] {
        let mut scene = Scene::stable(&["a"]);
        scene.awaits(newcomer("b"));
        scene.joined(rejoiner("a"));
        let (synced, out) = if leader_syncs { ("a", "b") } else { ("b", "a") };
        scene.sync(syncer(synced, 2)).unwrap();
        assert_eq!(scene.later(REBALANCE).do_due(), 1);
        assert_eq!(scene.members(), [synced], "{out} is out");
        assert_eq!(scene.phase(), "PreparingRebalance");
        scene.joined(rejoiner(synced));
        assert_eq!(scene.group.leader(), Some(&id(synced)));
    }
}

#[test]
fn the_last_to_leave_empties_the_group() {
    let mut scene = Scene::stable(&["a"]);
    scene
        .act(GroupAction::CommitOffsets(commit(
            Some("a"),
            1,
            &[(partition(1, 0), 5)],
        )))
        .unwrap();
    assert_eq!(scene.leave(Some("a"), None), Ok(()));
    assert_eq!(
        (scene.phase(), scene.group.generation()),
        ("Empty", Generation(2))
    );
    assert_eq!(scene.group.leader(), None);
    assert!(!scene.group.is_vacant(), "it has offsets");
    assert_eq!(scene.group.protocol_type(), Some("consumer"));
    assert_eq!(
        scene.leave(Some("a"), None),
        Err(GroupError::UnknownMember(id("a")))
    );
}

#[test]
fn a_reserved_id_can_leave_without_a_rebalance() {
    let mut scene = Scene::stable(&["a"]);
    scene
        .join(Join {
            require_known_member: true,
            ..newcomer("b")
        })
        .unwrap();
    assert_eq!(scene.leave(Some("b"), None), Ok(()));
    assert_eq!(scene.phase(), "Stable");
    assert_eq!(
        scene.join(rejoiner("b")),
        Err(GroupError::UnknownMember(id("b")))
    );
}

#[test]
fn only_the_node_that_vouches_can_give_a_member_up() {
    let mut scene = Scene::stable(&["a", "b"]);
    let expire = |node| GroupAction::ExpireMember {
        member: id("b"),
        node,
    };
    let vouched = Err(GroupError::Vouched(id("b")));
    assert_eq!(scene.act(expire(Some(OTHER_NODE))), vouched);
    assert_eq!(scene.act(expire(None)), vouched);
    let generation = scene.group.generation();
    let adopt = GroupAction::Adopt {
        member: id("b"),
        instance: None,
        generation,
        node: OTHER_NODE,
    };
    assert_eq!(scene.act(adopt), Ok(GroupReply::Done));
    assert_eq!(scene.act(expire(Some(NODE))), vouched, "it has moved");
    assert_eq!(scene.act(expire(Some(OTHER_NODE))), Ok(GroupReply::Done));
    assert_eq!(
        (scene.members(), scene.phase()),
        (vec!["a"], "PreparingRebalance")
    );
}

#[test]
fn members_of_a_dead_node_have_their_session_timeout_to_show_up_elsewhere() {
    let mut scene = Scene::stable(&["a", "b"]);
    let generation = scene.group.generation();
    scene.group.node_gone(OTHER_NODE, scene.now);
    assert_eq!(scene.group.next_deadline(), None, "that was not their node");
    scene.group.node_gone(NODE, scene.now);
    let adopt = GroupAction::Adopt {
        member: id("a"),
        instance: None,
        generation,
        node: OTHER_NODE,
    };
    scene.later(SESSION - 1).act(adopt).unwrap();
    assert_eq!(scene.do_due(), 0);
    assert_eq!(scene.later(1).do_due(), 1);
    assert_eq!(scene.members(), ["a"]);
}

#[test]
fn adoption_needs_the_present_generation() {
    let mut scene = Scene::stable(&["a"]);
    let adopt = |name, generation| GroupAction::Adopt {
        member: id(name),
        instance: None,
        generation: Generation(generation),
        node: OTHER_NODE,
    };
    let (found, current) = (Generation(0), scene.group.generation());
    assert_eq!(
        scene.act(adopt("a", 0)),
        Err(GroupError::IllegalGeneration { found, current })
    );
    assert_eq!(
        scene.act(adopt("x", 1)),
        Err(GroupError::UnknownMember(id("x")))
    );
}
