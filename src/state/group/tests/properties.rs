//! What must hold whatever clients and nodes do, in whatever order.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// An action and how long it comes after the one before, in milliseconds. If it is aimed, its figures are made to
/// fit the group: most of what is drawn blindly is refused at the door and never reaches the rules behind it.
type Step = (u64, bool, GroupAction);

pub(in crate::state) fn aim(action: &GroupAction, group: &Group) -> GroupAction {
    let mut action = action.clone();
    match &mut action {
        GroupAction::Join(join) => {
            let known = group.member(&join.member).or_else(|| {
                let taken = group.member_of_instance(join.instance.as_deref()?)?;
                join.member = taken.clone();
                group.member(taken)
            });
            if let Some(member) = known {
                join.known = true;
                join.instance = member.instance().map(str::to_owned);
                join.protocols = member.protocols().to_vec();
            }
            if let Some(protocol_type) = group.protocol_type() {
                join.protocol_type = protocol_type.to_owned();
            }
            join.known |= group.reserved.contains_key(&join.member);
            join.max_size = 100;
        }
        GroupAction::Adopt {
            member,
            generation,
            instance,
            ..
        } => {
            if group.member(member).is_none()
                && let Some((known, _)) = group.members().next()
            {
                *member = known.clone();
            }
            *generation = group.generation();
            *instance = None;
        }
        GroupAction::Sync(Sync {
            generation,
            instance,
            ..
        })
        | GroupAction::CommitOffsets(CommitOffsets {
            generation,
            instance,
            ..
        }) => {
            *generation = group.generation();
            *instance = None;
        }
        GroupAction::CompleteJoin { generation } | GroupAction::CompleteSync { generation } => {
            *generation = group.generation();
        }
        _ => {}
    }
    action
}

fn name() -> impl Strategy<Value = MemberId> {
    (0..5u8).prop_map(|n| MemberId::from(format!("m{n}").as_str()))
}

/// Mostly none: static members share ids with dynamic ones here, as only mischief would have it.
fn instance() -> impl Strategy<Value = Option<String>> {
    prop_oneof![3 => Just(None), 1 => (0..2u8).prop_map(|n| Some(format!("i{n}")))]
}

fn node() -> impl Strategy<Value = NodeId> {
    (0..3i32).prop_map(NodeId)
}

fn generation() -> impl Strategy<Value = Generation> {
    prop_oneof![8 => 0..6i32, 1 => Just(-1), 1 => Just(i32::MAX)].prop_map(Generation)
}

fn join(timeouts: BoxedStrategy<u64>) -> impl Strategy<Value = Join> {
    let who = (name(), any::<bool>(), instance(), node());
    let how = (
        proptest::sample::subsequence(vec!["range", "sticky", "other"], 0..=3),
        0..2usize,
        proptest::sample::select(vec!["consumer", "consumer", "consumer", "connect", ""]),
    );
    let limits = (
        timeouts.clone(),
        timeouts.clone(),
        timeouts,
        proptest::sample::select(vec![0, 2, 100]),
        any::<bool>(),
        any::<bool>(),
    );
    (who, how, limits).prop_map(|((member, known, instance, node), how, limits)| {
        let (names, turn, protocol_type) = how;
        let (session, rebalance, delay, max_size, require_known_member, skip) = limits;
        let mut protocols = protocols(&names);
        let len = protocols.len().max(1);
        protocols.rotate_left(turn % len);
        Join {
            member,
            known,
            instance,
            node,
            session_timeout_millis: session,
            rebalance_timeout_millis: rebalance,
            protocol_type: protocol_type.into(),
            protocols,
            require_known_member,
            supports_skip_assignment: skip,
            max_size,
            initial_delay_millis: delay,
            ..newcomer("x")
        }
    })
}

fn sync() -> impl Strategy<Value = Sync> {
    let assignment = (name(), 0..100u8).prop_map(|(member, n)| Assignment {
        member,
        assignment: opaque(&n.to_string()),
    });
    (
        name(),
        instance(),
        generation(),
        node(),
        vec(assignment, 0..5),
    )
        .prop_map(|(member, instance, generation, node, assignments)| Sync {
            member,
            instance,
            generation,
            node,
            assignments,
            ..syncer("x", 0)
        })
}

fn action(timeouts: BoxedStrategy<u64>) -> impl Strategy<Value = GroupAction> {
    let leaver = (proptest::option::weighted(0.8, name()), instance());
    let leaver = leaver.prop_map(|(member, instance)| Leaver { member, instance });
    let commit = (
        proptest::option::of(name()),
        instance(),
        generation(),
        0..3u128,
        0..9i64,
    );
    let commit = commit.prop_map(|(member, instance, generation, topic, at)| CommitOffsets {
        member,
        instance,
        generation,
        ..super::commit(None, 0, &[(partition(topic, 0), at)])
    });
    let delete = (0..3u128).prop_map(|topic| OffsetToDelete {
        partition: partition(topic, 0),
        topic: TopicName::new("t").unwrap(),
    });
    let adopt = (name(), instance(), generation(), node()).prop_map(
        |(member, instance, generation, node)| GroupAction::Adopt {
            member,
            instance,
            generation,
            node,
        },
    );
    let expire = (name(), proptest::option::of(node()))
        .prop_map(|(member, node)| GroupAction::ExpireMember { member, node });
    prop_oneof![
        12 => join(timeouts).prop_map(GroupAction::Join),
        8 => sync().prop_map(GroupAction::Sync),
        2 => vec(leaver, 0..3).prop_map(|members| GroupAction::Leave { members }),
        4 => commit.prop_map(GroupAction::CommitOffsets),
        1 => vec(delete, 0..3).prop_map(|offsets| GroupAction::DeleteOffsets { offsets }),
        1 => Just(GroupAction::Delete),
        2 => adopt,
        6 => expire,
        5 => generation().prop_map(|generation| GroupAction::CompleteJoin { generation }),
        2 => generation().prop_map(|generation| GroupAction::CompleteSync { generation }),
        1 => (0..2_000_000i64).prop_map(|t| GroupAction::ExpireOffsets { before: Timestamp(t) }),
    ]
}

/// Any action, with sane timeouts.
pub(in crate::state) fn any_action() -> impl Strategy<Value = GroupAction> {
    action(proptest::sample::select(vec![0, 0, 1, 500]).boxed())
}

fn steps(timeouts: Vec<u64>) -> impl Strategy<Value = Vec<Step>> {
    let timeouts = proptest::sample::select(timeouts).boxed();
    let pause = prop_oneof![4 => Just(0u64), 2 => 0..1_000u64, 1 => 0..700_000u64];
    vec(
        (pause, proptest::bool::weighted(0.7), action(timeouts)),
        0..60,
    )
}

fn encoded(group: &Group) -> Vec<u8> {
    minicbor::to_vec(group).unwrap()
}

fn check_shape(group: &Group) {
    let size = group.size();
    if let Some(leader) = group.leader() {
        assert!(group.member(leader).is_some(), "the leader is a member");
    }
    assert_eq!(
        group.leader().is_some(),
        size > 0,
        "a group with members has a leader"
    );
    match group.phase() {
        Phase::Empty { .. } => assert_eq!(size, 0),
        Phase::PreparingRebalance { .. } => {}
        Phase::CompletingRebalance { .. } | Phase::Stable { .. } => {
            assert!(size > 0);
            let protocol = group.protocol().unwrap();
            for (_, member) in group.members() {
                assert!(!member.awaits_join());
                assert!(
                    member.metadata(protocol).is_some(),
                    "all know the chosen protocol"
                );
            }
        }
    }
    let mut instances: Vec<&str> = group.members().filter_map(|(_, m)| m.instance()).collect();
    let all = instances.len();
    instances.sort_unstable();
    instances.dedup();
    assert_eq!(instances.len(), all, "an instance id has one member");
    if let Phase::Stable { deadline } = group.phase() {
        assert_eq!(
            deadline.is_none(),
            group.members().all(|(_, member)| member.has_synced())
        );
    }
}

/// Who acts as a member of a generation does so in the present one only.
fn check_fence(before: &Group, action: &GroupAction) {
    let (member, instance, generation) = match action {
        GroupAction::Sync(sync) => (Some(&sync.member), &sync.instance, sync.generation),
        GroupAction::Adopt {
            member,
            instance,
            generation,
            ..
        } => (Some(member), instance, *generation),
        GroupAction::CommitOffsets(commit) if commit.generation >= Generation(0) => {
            (commit.member.as_ref(), &commit.instance, commit.generation)
        }
        _ => return,
    };
    assert_eq!(
        generation,
        before.generation(),
        "{action:?} in a stale generation"
    );
    let member = member.unwrap();
    assert!(before.member(member).is_some(), "{action:?} by a stranger");
    if let Some(instance) = instance {
        assert_eq!(
            before.member_of_instance(instance),
            Some(member),
            "{action:?} though fenced"
        );
    }
}

/// The assignments seen so far in the present generation. None may change.
#[derive(Default)]
struct Assigned {
    generation: Generation,
    by_member: BTreeMap<MemberId, Opaque>,
}

impl Assigned {
    fn check(&mut self, group: &Group) {
        if group.generation() != self.generation {
            *self = Assigned {
                generation: group.generation(),
                by_member: BTreeMap::new(),
            };
        }
        if let Phase::Stable { .. } = group.phase() {
            for (id, member) in group.members() {
                let seen = self
                    .by_member
                    .entry(id.clone())
                    .or_insert(member.assignment().clone());
                assert_eq!(seen, member.assignment(), "one generation, two assignments");
            }
        }
    }
}

fn run(steps: &[Step], deadlines_are_sane: bool) {
    let mut group = Group::new();
    let mut now = Timestamp(1_000_000);
    let mut assigned = Assigned::default();
    for (pause, aimed, action) in steps {
        let action = &if *aimed {
            aim(action, &group)
        } else {
            action.clone()
        };
        now = now.after(std::time::Duration::from_millis(*pause));
        let before = group.clone();
        let outcome = group.apply(action, now);
        if outcome.is_ok() {
            check_fence(&before, action);
        } else {
            assert_eq!(
                encoded(&group),
                encoded(&before),
                "{action:?} failed and changed something"
            );
        }
        if *action == GroupAction::Delete && outcome.is_ok() {
            assigned = Assigned::default();
        } else {
            assert!(group.generation() >= before.generation());
        }
        check_shape(&group);
        assigned.check(&group);
        let bytes = encoded(&group);
        let decoded: Group = minicbor::decode(&bytes).unwrap();
        assert_eq!(decoded, group);
        assert_eq!(encoded(&decoded), bytes);
        serde_json::to_string(&group).unwrap();
        if deadlines_are_sane {
            check_deadlines(group.clone(), now);
        }
    }
}

/// What is due is accepted, changes something, and comes to an end.
fn check_deadlines(mut group: Group, now: Timestamp) {
    let end = now.after(std::time::Duration::from_secs(7_200));
    let mut rounds = 0;
    while let Some((at, action)) = group.next_deadline()
        && at <= end
    {
        let before = encoded(&group);
        let outcome = group.apply(&action, at.max(now));
        assert!(outcome.is_ok(), "{action:?} at {at}: {outcome:?}");
        assert_ne!(encoded(&group), before, "{action:?} is due for ever");
        rounds += 1;
        assert!(rounds < 10_000, "the group does not come to rest");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_interleaving_keeps_the_invariants(steps in steps(vec![0, 1, 5_000, 60_000, 600_000])) {
        run(&steps, true);
    }

    #[test]
    fn no_action_panics_whatever_its_figures(steps in steps(vec![0, 7, 1 << 62, u64::MAX])) {
        run(&steps, false);
    }

    #[test]
    fn actions_survive_encoding(steps in steps(vec![0, 5_000, u64::MAX])) {
        for (_, _, action) in steps {
            let bytes = minicbor::to_vec(&action).unwrap();
            prop_assert_eq!(minicbor::decode::<GroupAction>(&bytes).unwrap(), action);
        }
    }
}
