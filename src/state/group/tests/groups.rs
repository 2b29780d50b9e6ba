//! What happens to many groups at once happens to each of them as if it had been visited, and does not stall the fold.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use crate::state::group::{CommitOffsets, Leaver, OffsetToCommit, OffsetToDelete, Sync, Voucher};
use crate::state::tests::*;
use crate::types::Generation;

pub(super) fn group_id(n: usize) -> GroupId {
    GroupId::new(&format!("g{n}")).unwrap()
}

pub(super) fn member_id(n: usize) -> MemberId {
    MemberId::from(format!("m{n}").as_str())
}

pub(super) fn topic_id(n: usize) -> TopicId {
    TopicId(Uuid::from_u128(100 + n as u128))
}

pub(super) fn join(member: MemberId, node: NodeId) -> Join {
    Join {
        member,
        known: false,
        instance: None,
        node,
        client_id: "c".to_owned(),
        client_host: "/h".to_owned(),
        session_timeout_millis: 10_000,
        rebalance_timeout_millis: 20_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![Protocol {
            name: "range".to_owned(),
            metadata: Bytes::from_static(b"sub").into(),
        }],
        require_known_member: false,
        supports_skip_assignment: false,
        max_size: 10,
        initial_delay_millis: 0,
    }
}

pub(super) fn commit_offset(topic: usize, partition: i32, offset: i64) -> GroupAction {
    GroupAction::CommitOffsets(CommitOffsets {
        member: None,
        instance: None,
        generation: Generation::NONE,
        offsets: vec![OffsetToCommit {
            partition: TopicPartition {
                topic: topic_id(topic),
                partition: PartitionIndex(partition),
            },
            offset: Offset(offset),
            leader_epoch: None,
            metadata: None,
        }],
    })
}

pub(super) fn delete_offset(topic: usize, partition: i32) -> GroupAction {
    GroupAction::DeleteOffsets {
        offsets: vec![OffsetToDelete {
            partition: TopicPartition {
                topic: topic_id(topic),
                partition: PartitionIndex(partition),
            },
            topic: TopicName::new("t").unwrap(),
        }],
    }
}

/// Groups that are folded by visiting each of them, as it was done before there were indexes.
struct Visited {
    groups: BTreeMap<GroupId, Group>,
    stay: bool,
}

impl Visited {
    fn each(&mut self, change: impl Fn(&mut Group)) {
        self.groups.values_mut().for_each(change);
        let stay = self.stay;
        self.groups.retain(|_, group| stay || !group.is_vacant());
    }

    fn change(&mut self, state: &State, id: &GroupId, action: &GroupAction) {
        let now = state.time();
        let known = self.groups.get(id);
        let exists = known.is_some_and(|group| self.stay || !group.is_vacant());
        let was = known.is_some();
        let mut group = known.cloned().unwrap_or_default();
        if group.apply_to(action, now, exists).is_err() {
            return;
        }
        for topic in action
            .topics()
            .filter(|topic| state.topic(*topic).is_none())
        {
            group.topic_deleted(topic);
        }
        if let Some(node) = action.voucher().filter(|node| state.node(*node).is_none()) {
            group.node_gone(node, now);
        }
        if group.is_vacant() && !(self.stay && was && !group.ends_with(action)) {
            self.groups.remove(id);
        } else {
            self.groups.insert(id.clone(), group);
        }
    }
}

/// What a step does, and to which of a few groups, members, nodes and topics.
#[derive(Clone, Copy, Debug)]
enum Do {
    Register,
    Retire,
    CreateTopic,
    DeleteTopic,
    Join,
    JoinStatic,
    Sync,
    Adopt,
    Leave,
    LeaveStatic,
    Expire,
    ExpireOrphan,
    CompleteJoin,
    CompleteSync,
    Commit,
    DeleteOffsets,
    Delete,
    ExpireOffsets,
}

const STEPS: [Do; 18] = [
    Do::Register,
    Do::Retire,
    Do::CreateTopic,
    Do::DeleteTopic,
    Do::Join,
    Do::JoinStatic,
    Do::Sync,
    Do::Adopt,
    Do::Leave,
    Do::LeaveStatic,
    Do::Expire,
    Do::ExpireOrphan,
    Do::CompleteJoin,
    Do::CompleteSync,
    Do::Commit,
    Do::DeleteOffsets,
    Do::Delete,
    Do::ExpireOffsets,
];

#[derive(Clone, Copy, Debug)]
struct Step {
    what: Do,
    group: usize,
    member: usize,
    node: u128,
    topic: usize,
    after: i64,
}

fn step() -> impl Strategy<Value = Step> {
    let weights = prop_oneof![
        3 => proptest::sample::select(vec![Do::Register, Do::CreateTopic, Do::Join, Do::Commit]),
        2 => proptest::sample::select(STEPS.to_vec()),
    ];
    let who = (0..4usize, 0..4usize, 0..3u128, 0..3usize);
    (
        weights,
        who,
        prop_oneof![4 => 1..500i64, 1 => 9_000..30_000i64],
    )
        .prop_map(|(what, (group, member, node, topic), after)| Step {
            what,
            group,
            member,
            node,
            topic,
            after,
        })
}

fn action(step: Step, state: &State, me: NodeId) -> Option<GroupAction> {
    let group = state.group(&group_id(step.group));
    let generation = group
        .as_ref()
        .map_or(Generation(0), |group| group.generation());
    let member = member_id(step.member);
    let instance = Some(format!("i{}", step.member));
    Some(match step.what {
        Do::Register | Do::Retire | Do::CreateTopic | Do::DeleteTopic => return None,
        Do::Join => {
            let known = group.is_some_and(|group| group.member(&member).is_some());
            GroupAction::Join(Join {
                known,
                ..join(member, me)
            })
        }
        // Under a new id each time, so that it takes over the place of the old one.
        Do::JoinStatic => GroupAction::Join(Join {
            instance,
            ..join(MemberId::from(format!("s{}", state.seq()).as_str()), me)
        }),
        Do::Sync => GroupAction::Sync(Sync {
            member,
            instance: None,
            generation,
            node: me,
            protocol_type: None,
            protocol: None,
            assignments: Vec::new(),
        }),
        Do::Adopt => GroupAction::Adopt {
            member,
            instance: None,
            generation,
            node: me,
        },
        Do::Leave => GroupAction::Leave {
            members: vec![Leaver {
                member: Some(member),
                instance: None,
            }],
        },
        Do::LeaveStatic => GroupAction::Leave {
            members: vec![Leaver {
                member: None,
                instance,
            }],
        },
        Do::Expire => GroupAction::ExpireMember {
            member,
            node: Some(me),
        },
        Do::ExpireOrphan => group?.due(state.time()).next()?,
        Do::CompleteJoin => GroupAction::CompleteJoin { generation },
        Do::CompleteSync => GroupAction::CompleteSync { generation },
        Do::Commit => commit_offset(step.topic, 0, 7),
        Do::DeleteOffsets => delete_offset(step.topic, 0),
        Do::Delete => GroupAction::Delete,
        Do::ExpireOffsets => GroupAction::ExpireOffsets {
            before: Timestamp(state.time().0 - 20_000),
        },
    })
}

/// Folds the steps, one commit each, next to groups that are visited one by one.
fn are_as_if_visited(steps: &[Step], level: Level) {
    let mut state = State {
        level,
        ..State::default()
    };
    let stay = state.has(Feature::EmptyGroupsStay);
    let groups = BTreeMap::new();
    let mut visited = Visited { groups, stay };
    let mut time = 100_000;
    for (counter, step) in (1..).zip(steps) {
        time += step.after;
        let run = Incarnation(Uuid::from_u128(step.node));
        let me = state.node_of(run).unwrap_or(NodeId(40));
        let id = group_id(step.group);
        let topic = topic_id(step.topic);
        let action = action(*step, &state, me);
        let op = match (step.what, &action) {
            (_, Some(action)) => Op::Group {
                group: id.clone(),
                action: action.clone(),
            },
            (Do::Register, None) => {
                let version = level.label("1");
                let node = registration(step.node, 1 << 40);
                Op::RegisterNode(RegisterNode { version, ..node })
            }
            (Do::Retire, None) => Op::RetireNode {
                node: me,
                incarnation: run,
            },
            (Do::DeleteTopic, None) => Op::DeleteTopic { topic },
            _ => create(&format!("t{}", step.topic), topic, 1),
        };
        let commit = Commit {
            id: id_of(step.node, counter),
            time: Timestamp(time),
            ..commit(0, vec![op])
        };
        let before = state.clone();
        state.apply(state.seq().next(), &commit, 64);
        match (step.what, &action) {
            (_, Some(action)) => visited.change(&state, &id, action),
            (Do::Retire, None) if before.node(me).is_some() => {
                visited.each(|group| group.node_gone(me, Timestamp(time)));
            }
            (Do::DeleteTopic, None) => visited.each(|group| group.topic_deleted(topic)),
            _ => {}
        }
        let shown: Vec<_> = state
            .groups()
            .map(|(id, group)| (id.clone(), plain(&group)))
            .collect();
        let wanted: Vec<_> = visited
            .groups
            .iter()
            .map(|(id, group)| (id.clone(), plain(group)))
            .collect();
        assert_eq!(shown, wanted, "after {step:?}");
        let read = State::from_bytes(&state.to_bytes()).unwrap();
        assert_eq!(read, state);
        let mut refreshed = state.groups.clone();
        refreshed.refresh_some(u32::MAX, &mut |_, _| {});
        assert_eq!(refreshed.outdated(), 0);
        assert!(
            refreshed.indexes() == refreshed.indexed_anew().indexes(),
            "after {step:?}"
        );
        let mine = |group: &Group| {
            group
                .members()
                .any(|(_, m)| m.voucher() == Voucher::Node(me))
        };
        let found: Vec<_> = state
            .groups_vouched_by(me)
            .map(|(id, _)| id.clone())
            .collect();
        let all = state.groups().filter(|(_, group)| mine(group));
        assert_eq!(found, all.map(|(id, _)| id.clone()).collect::<Vec<_>>());
    }
}

/// The group without its numbers and seqs, of which the plain groups know nothing.
fn plain(group: &Group) -> String {
    let mut shown = serde_json::to_value(group).unwrap();
    let fields = shown.as_object_mut().unwrap();
    fields.remove("numbered");
    for offset in fields["offsets"].as_array_mut().unwrap() {
        let offset = offset.as_object_mut().unwrap();
        offset.remove("number");
        offset.remove("changed");
    }
    for member in fields["members"].as_object_mut().unwrap().values_mut() {
        member.as_object_mut().unwrap().remove("vouched");
    }
    shown.to_string()
}

fn id_of(node: u128, counter: u64) -> CommitId {
    id(node, counter)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn groups_are_as_if_each_had_been_visited(
        steps in proptest::collection::vec(step(), 1..80),
        newest in any::<bool>(),
    ) {
        are_as_if_visited(&steps, if newest { Level::NEWEST } else { Level::FIRST });
    }
}

/// A node dies and another gets its number, to which a member of it joins again, before what became of its group was
/// carried out.
fn a_node_dies_and_another_gets_its_number() {
    let (mut state, node) = crowd(2_000);
    let incarnation = Incarnation(Uuid::from_u128(1));
    let ops = vec![
        Op::RetireNode { node, incarnation },
        Op::RegisterNode(registration(2, 1 << 40)),
    ];
    let by = |counter, ops| Commit {
        id: id_of(2, counter),
        ..commit(0, ops)
    };
    state.apply(state.seq().next(), &by(1, ops), 64);
    assert_eq!(
        state.node(node).unwrap().incarnation(),
        Incarnation(Uuid::from_u128(2))
    );
    assert!(state.groups.outdated() > 100);
    let mut carried_out = state.clone();
    carried_out.refresh_some(u32::MAX);
    let (id, group) = state.groups().last().unwrap();
    let action = GroupAction::Adopt {
        member: member_id(0),
        instance: None,
        generation: group.generation(),
        node,
    };
    let group = id.clone();
    let change = by(2, vec![Op::Group { group, action }]);
    let id = id.clone();
    for state in [&mut state, &mut carried_out] {
        let folded = state.apply(state.seq().next(), &change, 64);
        assert!(matches!(folded, Folded::Outcomes(outcomes) if outcomes[0].is_ok()));
    }
    assert_eq!(state.group(&id), carried_out.group(&id));
}

#[test]
fn a_group_is_refreshed_before_it_is_changed() {
    a_node_dies_and_another_gets_its_number();
    assert_needed(&[(
        Rule::GroupsCatchUpBeforeChange,
        a_node_dies_and_another_gets_its_number,
    )]);
}

/// A state with `members` members in groups of three, all at one node, with an offset of one topic each.
fn crowd(members: usize) -> (State, NodeId) {
    let mut state = State::new();
    let mut counter = 0;
    let mut fold = |state: &mut State, ops| {
        counter += 1;
        let seq = state.seq().next();
        match state.apply(seq, &commit(counter, ops), 64) {
            Folded::Outcomes(outcomes) => outcomes,
            other => panic!("{other:?}"),
        }
    };
    let setup = vec![
        create("t", topic_id(0), 1),
        Op::RegisterNode(registration(1, 1 << 40)),
    ];
    let Ok(Applied::NodeRegistered(node)) = fold(&mut state, setup)[1] else {
        panic!("not registered");
    };
    for n in 0..members.div_ceil(3) {
        let act = |action| Op::Group {
            group: group_id(n),
            action,
        };
        let mut ops = vec![act(commit_offset(0, 0, 1))];
        ops.extend((0..3).map(|m| act(GroupAction::Join(join(member_id(m), node)))));
        fold(&mut state, ops);
    }
    (state, node)
}

#[test]
#[expect(
    clippy::print_stdout,
    reason = "the figures are for whoever asks for them"
)]
fn neither_a_node_nor_a_topic_of_a_hundred_thousand_members_stalls_the_fold() {
    let (crowded, node) = crowd(100_000);
    let groups = 33_334;
    let incarnation = Incarnation(Uuid::from_u128(1));
    for (what, op) in [
        ("the death of a node", Op::RetireNode { node, incarnation }),
        ("the end of a topic", Op::DeleteTopic { topic: topic_id(0) }),
    ] {
        // Somebody else holds the state before, as a published state is held.
        let mut state = crowded.clone();
        let commit = commit(1 << 40, vec![op]);
        let begun = Instant::now();
        state.apply(state.seq().next(), &commit, 64);
        let folded = begun.elapsed();
        let outdated = state.groups.outdated();
        assert!(
            outdated >= groups - 1,
            "{what} visits {} groups",
            groups - outdated
        );
        let begun = Instant::now();
        state.groups.refresh_some(500, &mut |_, _| {});
        let refreshed = begun.elapsed();
        assert!(outdated - state.groups.outdated() <= 500);
        println!(
            "{what}: folded in {folded:?}, and each later commit refreshes some in {refreshed:?}"
        );
        // A stall of what it was, 100 ms and more, is seen on the slowest machine.
        assert!(
            folded < Duration::from_millis(20) || cfg!(debug_assertions),
            "{folded:?}"
        );
    }
}
