//! What holds of any log, of valid ops and others, by themselves and in the objects of others; and that the generators
//! make all of it.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::super::access::tests::any_action as any_access_action;
use super::super::group::tests::{aim, any_action};
use super::super::table::tests as tables;
use super::super::table::{ColumnType, Manifest, PartitionBy};
use super::*;
use crate::rules::assert_needed;

fn topic() -> impl Strategy<Value = TopicId> {
    prop_oneof![3 => Just(1u128), 1 => 2..4u128].prop_map(|n| TopicId(Uuid::from_u128(n)))
}

fn place() -> impl Strategy<Value = TopicPartition> {
    let index = prop_oneof![6 => Just(0), 1 => -1..3i32];
    (topic(), index).prop_map(|(topic, index)| TopicPartition {
        topic,
        partition: PartitionIndex(index),
    })
}

fn object() -> impl Strategy<Value = ObjectRef> {
    prop_oneof![
        (0..40u64).prop_map(|n| ObjectRef::Commit(Seq(n))),
        (1..9u128).prop_map(|n| ObjectRef::Segment(SegmentId(Uuid::from_u128(n)))),
    ]
}

fn job() -> impl Strategy<Value = Job> {
    prop_oneof![
        (0..3i32).prop_map(|n| Job::Compaction(partition(n))),
        Just(Job::Deletion),
        Just(Job::Truncation),
        Just(Job::Sweep),
    ]
}

fn table() -> impl Strategy<Value = TableId> {
    prop_oneof![3 => Just(1u128), 1 => 2..4u128].prop_map(|n| TableId(Uuid::from_u128(n)))
}

fn file() -> impl Strategy<Value = FileId> {
    (1..9u128).prop_map(|n| FileId(Uuid::from_u128(n)))
}

fn any_manifest() -> impl Strategy<Value = Manifest> {
    let range = (-1..3i32, 0..4i64, 0..6i64)
        .prop_map(|(partition, base, end)| tables::range(partition, base, end));
    (file(), file(), 0..4u64, vec(range, 0..3))
        .prop_map(|(id, file, rows, ranges)| tables::manifest(id, file, rows, ranges))
}

/// Any op of tables, valid or not.
fn any_table_op() -> impl Strategy<Value = Op> {
    let columns = vec((1..6u32, "[a-c]"), 1..3).prop_map(|columns| {
        let columns = columns.into_iter();
        columns
            .map(|(id, name)| tables::column(id, &name, ColumnType::Int))
            .collect()
    });
    let schema = (0..3u32, columns).prop_map(|(id, columns)| tables::schema(id, columns));
    let by = prop_oneof![Just(PartitionBy::None), Just(PartitionBy::Hour)];
    prop_oneof![
        2 => (table(), topic(), "[t-v]").prop_map(|(id, topic, name)| {
            tables::create_table(id, topic, &name)
        }),
        3 => (
            table(),
            proptest::option::of(schema),
            proptest::option::of(by),
            proptest::option::of(any::<bool>()),
        )
            .prop_map(|(table, schema, by, enabled)| Op::AlterTable(AlterTable {
                table, schema, by, enabled,
            })),
        1 => table().prop_map(|table| Op::DropTable { table }),
        5 => (table(), any_manifest()).prop_map(|(table, manifest)| Op::Archive(Archive {
            table, manifest,
        })),
        3 => (table(), vec(file(), 0..3), any_manifest()).prop_map(|(table, removes, manifest)| {
            Op::RewriteFiles(RewriteFiles { table, removes, manifest })
        }),
        1 => (table(), 0..60u64).prop_map(|(table, before)| Op::ExpireSnapshots {
            table, before: Seq(before),
        }),
        2 => (table(), file(), 0..50u64).prop_map(|(table, through, as_of)| Op::ExpireFiles {
            table, through, as_of: Seq(as_of),
        }),
        2 => (table(), vec(file(), 0..3)).prop_map(|(table, manifests)| Op::ManifestsDeleted {
            table, manifests,
        }),
    ]
}

fn node() -> impl Strategy<Value = (NodeId, Incarnation)> {
    (0..3i32, 1..4u128).prop_map(|(id, run)| (NodeId(id), Incarnation(Uuid::from_u128(run))))
}

fn any_entry() -> impl Strategy<Value = AppendEntry> {
    let producer = proptest::option::of((0..3i64, 0..3i16, 0..6i32));
    (0..1000u64, 0..5u32, producer, any::<bool>()).prop_map(
        |(start, records, producer, continues)| {
            let mut entry = entry(start, records.max(1), producer);
            if let Some(producer) = &mut entry.producer {
                producer.continues = continues;
            }
            entry
        },
    )
}

fn registration_of_any_level() -> impl Strategy<Value = RegisterNode> {
    let level = prop_oneof![6 => Just(Some(Level::NEWEST)), 1 => Just(None)];
    (1..4u128, 0..50u64, level).prop_map(|(run, lease_millis, level)| RegisterNode {
        version: level.map_or_else(String::new, |level| level.label("0")),
        properties: (run % 2 == 0).then(|| BTreeMap::from([("p".to_owned(), run.to_string())])),
        ..registration(run, lease_millis)
    })
}

/// What most ops of a log are about. So many kinds of them in every log would leave too few of each to meet one
/// another.
#[derive(Clone, Copy, Debug)]
enum About {
    Records,
    Tables,
    Access,
}

/// Any op, valid or not.
fn any_op(about: About) -> impl Strategy<Value = Op> {
    let (tables, access) = match about {
        About::Records => (1, 1),
        About::Tables => (20, 1),
        About::Access => (1, 20),
    };
    prop_oneof![
        50 => any_other_op(),
        tables => any_table_op(),
        access => any_access_action().prop_map(|action| Op::Access { action }),
    ]
}

/// Any op but those of tables and of access.
fn any_other_op() -> impl Strategy<Value = Op> {
    let source = prop_oneof![
        3 => Just(AppendSource::Inline),
        1 => (1..3u128).prop_map(|n| AppendSource::Segment(SegmentId(Uuid::from_u128(n)))),
    ];
    let before = prop_oneof![2 => Just(None), 1 => (-1..9i64).prop_map(Some)];
    let outputs = vec((0..9i64, 1..9u128), 0..3);
    prop_oneof![
        9 => (place(), source, vec(any_entry(), 0..4)).prop_map(
            |(partition, source, entries)| Op::Append(Append { partition, source, entries })
        ),
        4 => (topic(), -1..4i32, "[a-c]", proptest::option::of(1..4i16)).prop_map(
            |(id, n, name, replicas)| match create(&name, id, n) {
                Op::CreateTopic(create) => Op::CreateTopic(CreateTopic { replicas, ..create }),
                op => op,
            }
        ),
        1 => topic().prop_map(|topic| Op::DeleteTopic { topic }),
        1 => (topic(), -1..6i32).prop_map(|(topic, total)| Op::CreatePartitions { topic, total }),
        1 => (proptest::option::of(topic()), "[a-b]", proptest::option::of("[x-y]")).prop_map(
            |(topic, name, value)| Op::AlterConfigs {
                node: None, topic, edits: BTreeMap::from([(name, value)]),
            }
        ),
        1 => (0..3i32, "[a-b]", proptest::option::of("[x-y]")).prop_map(
            |(node, name, value)| Op::AlterConfigs {
                node: Some(NodeId(node)), topic: None, edits: BTreeMap::from([(name, value)]),
            }
        ),
        3 => (place(), before).prop_map(|(partition, before)| {
            Op::DeleteRecords { partition, before: before.map(Offset) }
        }),
        1 => any::<u32>().prop_map(|count| Op::AllocateProducerIds { count }),
        1 => (0..2000i64).prop_map(|t| Op::ExpireProducers { before: Timestamp(t) }),
        2 => registration_of_any_level().prop_map(Op::RegisterNode),
        1 => (node(), any::<u64>()).prop_map(|((node, incarnation), lease_millis)| Op::RenewLease {
            node, incarnation, lease_millis,
        }),
        1 => node().prop_map(|(node, incarnation)| Op::RetireNode { node, incarnation }),
        2 => (node(), proptest::option::of(0..60u64)).prop_map(|((node, incarnation), as_of)| Op::ExpireNode {
            node, incarnation, as_of: as_of.map(Seq),
        }),
        10 => ("[g-i]", any_action()).prop_map(|(group, action)| Op::Group {
            group: GroupId::new(&group).unwrap(), action,
        }),
        1 => (0..60u64, any::<u64>(), any::<bool>()).prop_map(|(seq, bytes, said)| {
            let digest = said.then(|| StateDigest::of(&bytes.to_le_bytes()));
            Op::SnapshotTaken { seq: Seq(seq), bytes, digest }
        }),
        4 => (place(), 0..2u64, 0..3i64, 0..6i64, outputs)
            .prop_map(|(partition, layout, base, end, outputs)| Op::ReplaceSlices(ReplaceSlices {
                partition, layout, base: Offset(base), end: Offset(end),
                outputs: outputs.into_iter().map(|(end, n)| output(end, n)).collect(),
                cleaned: (layout == 1).then_some(Cleaned { to: Offset(end), as_of: Seq(99) }),
            })),
        1 => (place(), -1..9i64, 0..50u64).prop_map(|(partition, before, as_of)| Op::ExpireRecords {
            partition, before: Offset(before), as_of: Seq(as_of),
        }),
        1 => (0..40u64).prop_map(|to| Op::RaiseLogBoundary { to: Seq(to) }),
        1 => (0..40u64).prop_map(|to| Op::LogTruncated { to: Seq(to) }),
        1 => (-40_000..2000i64).prop_map(|t| Op::RaiseSweepBoundary { before: Timestamp(t) }),
        1 => vec(object(), 0..5).prop_map(|objects| Op::ObjectsDeleted { objects }),
        1 => (job(), 0..3u128, 0..99u64).prop_map(|(job, n, lease_millis)| Op::ClaimJob {
            job, incarnation: Incarnation(Uuid::from_u128(n)), lease_millis,
        }),
        1 => (job(), 0..3u128).prop_map(|(job, n)| Op::ReleaseJob {
            job, incarnation: Incarnation(Uuid::from_u128(n)),
        }),
        1 => (0..5u16).prop_map(|level| Op::RaiseLevel { to: Level(level) }),
        1 => (0..4u32, 20..90u64, 1_900..9_000i64).prop_map(|(ops, as_of, until)| Op::Asked(Asked {
            ops, as_of: Seq(as_of), until: Timestamp(until),
        })),
    ]
}

/// Any commit of one of three incarnations, with any commits in its object; mostly in order.
fn any_commit(about: About) -> impl Strategy<Value = Commit> {
    let one = || {
        let follows = prop_oneof![2 => Just(None), 1 => (0..20u64).prop_map(Some)];
        let time = (0..2000i64, proptest::option::of(0..2000i64));
        (1..4u128, 1..60u64, time, vec(any_op(about), 0..5), follows)
    };
    let parts = (one(), vec(one(), 0..3));
    parts.prop_map(|((incarnation, counter, time, ops, follows), others)| {
        let forwarded =
            others.into_iter().map(
                |(incarnation, counter, time, ops, follows)| ForwardedCommit {
                    id: id(incarnation, counter),
                    time: Timestamp(time.0),
                    wall: time.1.map(Timestamp),
                    ops,
                    follows: follows.unwrap_or(counter - 1),
                    start: 0,
                },
            );
        Commit {
            forwarded: forwarded.collect(),
            id: id(incarnation, counter),
            time: Timestamp(time.0),
            wall: time.1.map(Timestamp),
            ops,
            follows,
            log: LogId::ZERO,
        }
    })
}

/// What the first commit of an incarnation does when it is forwarded.
fn first_registration(incarnation: Incarnation) -> Op {
    Op::RegisterNode(RegisterNode {
        incarnation,
        version: Level::NEWEST.label("0.1.0"),
        ..registration(0, 40)
    })
}

/// Any log, of either level. The ids of most commits follow those of their incarnations, so that most take effect.
pub(in crate::state) fn any_log(commits: usize) -> impl Strategy<Value = Vec<Commit>> {
    let about = |about| {
        vec(
            (any_commit(about), proptest::bool::weighted(0.9)),
            1..commits,
        )
    };
    let log = prop_oneof![
        2 => about(About::Records),
        1 => about(About::Tables),
        1 => about(About::Access),
    ];
    (proptest::bool::weighted(0.8), log).prop_map(|(raised, log)| {
        let to = if raised { Level::NEWEST } else { Level::FIRST };
        let topic = create("a", TopicId(Uuid::from_u128(1)), 3);
        let archived = tables::create_table(
            TableId(Uuid::from_u128(1)),
            TopicId(Uuid::from_u128(1)),
            "t",
        );
        let first = Commit {
            id: id(4, 1),
            ..commit(0, vec![Op::RaiseLevel { to }, topic, archived])
        };
        let mut counters = BTreeMap::new();
        let mut next = |id: &mut CommitId| {
            let last: &mut u64 = counters.entry(id.incarnation).or_default();
            let before = *last;
            *last += 1;
            id.counter = *last;
            before
        };
        let in_order = |(mut commit, ordered): (Commit, bool)| {
            if ordered {
                next(&mut commit.id);
                commit.follows = None;
                for forwarded in &mut commit.forwarded {
                    forwarded.follows = next(&mut forwarded.id);
                    let incarnation = forwarded.id.incarnation;
                    if forwarded.follows == Commit::NOTHING && forwarded.time.0 % 2 == 0 {
                        forwarded.ops = vec![first_registration(incarnation)];
                    }
                }
            }
            commit
        };
        std::iter::once(first)
            .chain(log.into_iter().map(in_order))
            .collect()
    })
}

/// The commit, in half of all cases with what it asks of groups and of slices aimed at what is there just now: few
/// members are known, and few slices met, by chance.
pub(in crate::state) fn aimed(state: &State, commit: &Commit) -> Commit {
    let mut commit = commit.clone();
    if commit.time.0 % 2 == 0 {
        return commit;
    }
    let forwarded = commit
        .forwarded
        .iter_mut()
        .flat_map(|forwarded| &mut forwarded.ops);
    let n = commit.id.incarnation.0.as_u128() * 1_000_000 + u128::from(commit.id.counter) * 1000;
    for (index, op) in (0u128..).zip(commit.ops.iter_mut().chain(forwarded)) {
        tables::aim(op, state, n + index);
        match op {
            Op::Group { group, action } => {
                if let Some(group) = state.group(group) {
                    *action = aim(action, &group);
                }
            }
            Op::ReplaceSlices(replace) => {
                if let Some(partition) = state.partition(replace.partition)
                    && let Some((base, slice)) = partition.slices_from(Offset::ZERO).next()
                {
                    replace.layout = partition.layout();
                    (replace.base, replace.end) = (base, slice.end);
                    // One, or one for the first record and one for the others.
                    let ends = [base.0 + 1, slice.end.0];
                    let first =
                        usize::from(ends[0] == ends[1] || commit.id.counter.is_multiple_of(2));
                    let ends = ends.into_iter().skip(first);
                    let outputs = ends.map(|end| output(end, commit.id.counter.into()));
                    replace.outputs = outputs.collect();
                }
            }
            _ => {}
        }
    }
    commit
}

/// A broken rule that shows in a state that is none: it is found if any of many logs comes to such.
fn some_log_comes_to_what_no_state_is() {
    let mut runner = TestRunner::deterministic();
    let logs = any_log(40);
    for _ in 0..600 {
        let log = logs.new_tree(&mut runner).unwrap().current();
        let mut state = State::new();
        for commit in &log {
            let commit = aimed(&state, commit);
            state.apply(state.seq().next(), &commit, 64);
            state.check().unwrap();
        }
    }
}

#[test]
fn every_state_of_any_log_is_one_and_broken_rules_that_make_others_are_found() {
    some_log_comes_to_what_no_state_is();
    for rule in [
        Rule::AppendsReviveCommits,
        Rule::ReplacementsAreTrimmed,
        Rule::GoneNodesAreNotFound,
        Rule::ArchivesContinue,
    ] {
        assert_needed(&[(rule, some_log_comes_to_what_no_state_is)]);
    }
}

proptest! {
    /// I3 and I2, whatever the log holds: a node that folded it from the start, one that started from a snapshot
    /// on the way, and one that read the commits back from their bytes agree on every byte.
    #[test]
    fn every_way_to_the_same_seq_gives_the_same_bytes(log in any_log(40), cut in any::<Index>()) {
        let cut = cut.index(log.len());
        let mut whole = State::new();
        let mut resumed = None;
        for (index, commit) in log.iter().enumerate() {
            if index == cut {
                resumed = Some(State::from_bytes(&whole.to_bytes()).unwrap());
            }
            let commit = aimed(&whole, commit);
            let stored = minicbor::to_vec(&commit).unwrap();
            let read: Commit = minicbor::decode(&stored).unwrap();
            prop_assert_eq!(&read, &commit);
            let before = whole.clone();
            let frozen = before.to_bytes();
            let seq = whole.seq().next();
            let mut each = Vec::new();
            let folded = whole.apply_each(seq, &read, 64, |_, folded| each.push(folded));
            // A published state does not change under its readers.
            prop_assert_eq!(before.to_bytes(), frozen);
            if let Some(resumed) = &mut resumed {
                let mut again = Vec::new();
                let resumed = resumed.apply_each(seq, &commit, 64, |_, folded| again.push(folded));
                prop_assert_eq!(resumed, folded);
                prop_assert_eq!(again, each);
            }
            prop_assert_eq!(whole.check(), Ok(()));
        }
        prop_assert_eq!(resumed.unwrap().to_bytes(), whole.to_bytes());
        for (_, partition) in whole.topics().flat_map(Topic::partitions) {
            prop_assert_eq!(partition.gap_in_offsets(), None);
        }
        // What was counted on the way is what is there.
        let counted = State::from_bytes(&whole.to_bytes()).unwrap();
        prop_assert!(whole.live_objects().eq(counted.live_objects()));
        prop_assert!(whole.log_truncated() <= whole.log_boundary());
    }

    /// An op that is refused leaves everything as it was but the seq, the time and the incarnation's last commit.
    #[test]
    fn a_refused_op_changes_nothing(log in any_log(30), op in any_op(About::Tables)) {
        let mut state = State::new();
        for commit in &log {
            let commit = aimed(&state, commit);
            state.apply(state.seq().next(), &commit, 64);
        }
        let apply = |ops| {
            let mut after = state.clone();
            let commit = Commit { id: id(99, 1), time: Timestamp(0), ops, follows: None, forwarded: Vec::new(), wall: None, log: LogId::ZERO, };
            let folded = after.apply(state.seq().next(), &commit, 64);
            (after.to_bytes(), folded)
        };
        let (with, folded) = apply(vec![op]);
        let Folded::Outcomes(outcomes) = folded else { panic!("the incarnation is new") };
        if outcomes[0].is_err() {
            prop_assert_eq!(with, apply(vec![]).0);
        }
    }
}

/// The op and what it leaves open, as a word: `DeleteRecords to the end`.
fn kind(op: &Op) -> String {
    let name = op.name();
    match op {
        Op::Append(append) => match append.source {
            AppendSource::Inline => format!("{name} inline"),
            AppendSource::Segment(_) => format!("{name} of a segment"),
        },
        Op::DeleteRecords { before: None, .. } => format!("{name} to the end"),
        Op::ExpireNode { as_of: Some(_), .. } => format!("{name} as of a state"),
        Op::AlterConfigs { node: Some(_), .. } => format!("{name} of a node"),
        Op::AlterTable(AlterTable {
            schema: Some(_), ..
        }) => format!("{name} to a schema"),
        Op::CreateTopic(create) if create.replicas.is_some() => format!("{name} with replicas"),
        Op::RegisterNode(node) if node.properties.is_some() => format!("{name} with properties"),
        Op::AlterConfigs { topic: None, .. } => format!("{name} of the cluster"),
        Op::ReplaceSlices(replace) if replace.cleaned.is_some() => format!("{name} cleaned"),
        Op::Group { action, .. } => format!("{name} {}", action.name()),
        Op::Access { action } => format!("{name} {}", action.name()),
        _ => name.to_owned(),
    }
}

/// What the fold never refuses.
const NEVER_REFUSED: &[&str] = &[
    "AllocateProducerIds",
    "AlterConfigs of the cluster",
    "Append inline",
    "Append of a segment",
    "ExpireProducers",
    "Group ExpireOffsets",
    "Group Leave",
    "LogTruncated",
    "ObjectsDeleted",
    "ReleaseJob",
    "SnapshotTaken",
];

/// A generator that never makes something tests nothing of it. So each op, with each of its options, must have been
/// seen to take effect and to be refused, both in a commit of its own and in a forwarded one.
#[test]
fn the_generators_make_every_op_with_every_option_accepted_and_refused_alone_and_forwarded() {
    let mut seen: BTreeMap<String, [[u64; 2]; 2]> = BTreeMap::new();
    let mut count = |ops: &[Op], folded: &Folded, forwarded: bool| {
        let Folded::Outcomes(outcomes) = folded else {
            return;
        };
        for (op, outcome) in ops.iter().zip(outcomes) {
            let with_others = matches!(
                outcome,
                Err(Rejected::Overtaken { .. } | Rejected::Late { .. })
            );
            if with_others && !matches!(op, Op::Asked(_)) {
                continue;
            }
            let counts = seen.entry(kind(op)).or_default();
            counts[usize::from(forwarded)][usize::from(outcome.is_err())] += 1;
        }
    };
    let mut runner = TestRunner::deterministic();
    let logs = any_log(40);
    let mut first = 0;
    for _ in 0..4000 {
        let log = logs.new_tree(&mut runner).unwrap().current();
        let mut state = State::new();
        for commit in &log {
            let mut each = Vec::new();
            let seq = state.seq().next();
            let commit = aimed(&state, commit);
            let folded = state.apply_each(seq, &commit, 64, |_, folded| each.push(folded));
            count(&commit.ops, &folded, false);
            for (forwarded, folded) in commit.forwarded.iter().zip(&each) {
                count(&forwarded.ops, folded, true);
                let is_first = forwarded.follows == Commit::NOTHING;
                first += u64::from(is_first && matches!(folded, Folded::Outcomes(_)));
            }
        }
    }
    assert!(first > 100, "{first} first commits were forwarded");
    let names: Vec<&str> = seen
        .keys()
        .filter_map(|kind| kind.split(' ').next())
        .collect();
    for name in Op::NAMES {
        assert!(names.contains(name), "no {name} was made");
    }
    let mut wrong = Vec::new();
    for (kind, [own, forwarded]) in &seen {
        for (how, [accepted, refused]) in [("of its own", own), ("forwarded", forwarded)] {
            let refusable = !NEVER_REFUSED.contains(&kind.as_str());
            if *accepted == 0 || (*refused > 0) != refusable {
                wrong.push(format!(
                    "{kind}, {how}: accepted {accepted} times, refused {refused} times"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

impl Op {
    /// The name of every op.
    const NAMES: &'static [&'static str] = &[
        "Append",
        "CreateTopic",
        "DeleteTopic",
        "CreatePartitions",
        "AlterConfigs",
        "DeleteRecords",
        "AllocateProducerIds",
        "ExpireProducers",
        "RegisterNode",
        "RenewLease",
        "RetireNode",
        "ExpireNode",
        "Group",
        "SnapshotTaken",
        "ReplaceSlices",
        "ExpireRecords",
        "RaiseLogBoundary",
        "LogTruncated",
        "RaiseSweepBoundary",
        "ObjectsDeleted",
        "ClaimJob",
        "ReleaseJob",
        "RaiseLevel",
        "Asked",
        "CreateTable",
        "AlterTable",
        "DropTable",
        "Archive",
        "RewriteFiles",
        "ExpireSnapshots",
        "ExpireFiles",
        "ManifestsDeleted",
        "Access",
    ];

    /// What kind of op it is.
    fn name(&self) -> &'static str {
        match self {
            Op::Append(_) => "Append",
            Op::CreateTopic(_) => "CreateTopic",
            Op::DeleteTopic { .. } => "DeleteTopic",
            Op::CreatePartitions { .. } => "CreatePartitions",
            Op::AlterConfigs { .. } => "AlterConfigs",
            Op::DeleteRecords { .. } => "DeleteRecords",
            Op::AllocateProducerIds { .. } => "AllocateProducerIds",
            Op::ExpireProducers { .. } => "ExpireProducers",
            Op::RegisterNode(_) => "RegisterNode",
            Op::RenewLease { .. } => "RenewLease",
            Op::RetireNode { .. } => "RetireNode",
            Op::ExpireNode { .. } => "ExpireNode",
            Op::Group { .. } => "Group",
            Op::SnapshotTaken { .. } => "SnapshotTaken",
            Op::ReplaceSlices(_) => "ReplaceSlices",
            Op::ExpireRecords { .. } => "ExpireRecords",
            Op::RaiseLogBoundary { .. } => "RaiseLogBoundary",
            Op::LogTruncated { .. } => "LogTruncated",
            Op::RaiseSweepBoundary { .. } => "RaiseSweepBoundary",
            Op::ObjectsDeleted { .. } => "ObjectsDeleted",
            Op::ClaimJob { .. } => "ClaimJob",
            Op::ReleaseJob { .. } => "ReleaseJob",
            Op::RaiseLevel { .. } => "RaiseLevel",
            Op::Asked(_) => "Asked",
            Op::CreateTable(_) => "CreateTable",
            Op::AlterTable(_) => "AlterTable",
            Op::DropTable { .. } => "DropTable",
            Op::Archive(_) => "Archive",
            Op::RewriteFiles(_) => "RewriteFiles",
            Op::ExpireSnapshots { .. } => "ExpireSnapshots",
            Op::ExpireFiles { .. } => "ExpireFiles",
            Op::ManifestsDeleted { .. } => "ManifestsDeleted",
            Op::Access { .. } => "Access",
        }
    }
}

impl GroupAction {
    /// What kind of action it is.
    fn name(&self) -> &'static str {
        match self {
            GroupAction::Join(_) => "Join",
            GroupAction::Sync(_) => "Sync",
            GroupAction::Leave { .. } => "Leave",
            GroupAction::CommitOffsets(_) => "CommitOffsets",
            GroupAction::DeleteOffsets { .. } => "DeleteOffsets",
            GroupAction::Delete => "Delete",
            GroupAction::Adopt { .. } => "Adopt",
            GroupAction::ExpireMember { .. } => "ExpireMember",
            GroupAction::CompleteJoin { .. } => "CompleteJoin",
            GroupAction::CompleteSync { .. } => "CompleteSync",
            GroupAction::ExpireOffsets { .. } => "ExpireOffsets",
        }
    }
}
