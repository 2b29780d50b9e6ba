//! The fold, of hostile commits and from hostile snapshots on.

use std::sync::LazyLock;

use bytes::Bytes;

use crate::format::Object;
use crate::invariants::at_rest::{archive_equals_log, offsets_are_dense};
use crate::state::group::{GroupAction, Join, Leaver, Protocol, Sync};
use crate::state::op::{
    AlterTable, Append, AppendEntry, AppendSource, Archive, Asked, Cleaned, Commit, CompactedSlice,
    CreateTable, Op, ProducerBatch, RegisterNode, ReplaceSlices, RewriteFiles,
};
use crate::state::table::{
    Column, ColumnType, DataFile, FieldId, Manifest, OffsetRange, PartitionBy, Schema,
};
use crate::state::{Folded, Job, Partition, SliceIndex, State};
use crate::types::{
    CommitId, FileId, Generation, GroupId, Incarnation, LogId, MemberId, NodeId, Offset,
    PartitionIndex, ProducerEpoch, ProducerId, SegmentId, Seq, TableId, TableName, Timestamp,
    TopicId, TopicPartition,
};

/// How many of a kind are looked at one by one: an input may hold thousands.
const SOME: usize = 4;

/// Numbers at which arithmetic goes wrong.
const EDGES: [i64; 7] = [
    i64::MIN,
    -1,
    0,
    1,
    1_700_000_000_000,
    i64::MAX - 1,
    i64::MAX,
];

/// A state in which something of everything is: that of the fixture.
static FULL: LazyLock<State> = LazyLock::new(|| {
    let object = Bytes::from_static(include_bytes!(
        "../../tests/fixtures/formats/snapshot.2.every-op"
    ));
    let object = Object::decode("fixture", &object).expect("the fixture is an object");
    State::from_bytes(&object.data).expect("the fixture is a state")
});

/// Folds `commit` twice on an empty state and twice on a full one, and asks everything of what comes out.
pub(super) fn fold(commit: &Commit) {
    for mut state in [State::new(), FULL.clone()] {
        for counter in [10, 11] {
            let mut commit = commit.clone();
            commit.id.counter = counter;
            apply(&mut state, &commit);
        }
        exercise(&state);
        go_on(&mut state);
        exercise(&state);
    }
}

/// The next commits of a cluster that has come to `state`: ops of every kind, for what there is in it.
pub(super) fn go_on(state: &mut State) {
    let incarnation = Incarnation(uuid::Uuid::from_u128(77));
    for counter in 1..=3 {
        let mut ops = Vec::new();
        for group in state.groups().map(|(id, _)| id.clone()).take(SOME) {
            ops.extend(group_ops(state, &group));
        }
        let topics: Vec<TopicId> = state.topics().map(|topic| topic.id()).take(SOME).collect();
        for id in &topics {
            ops.extend((0..2).flat_map(|index| partition_ops(*id, index)));
            ops.extend((0..2).flat_map(|index| replacements(state, *id, index)));
        }
        ops.extend(table_ops(state, counter));
        ops.extend([
            Op::ExpireProducers {
                before: Timestamp(EDGES[counter as usize]),
            },
            Op::AllocateProducerIds { count: u32::MAX },
            Op::Asked(Asked {
                ops: counter as u32,
                as_of: state.seq(),
                until: Timestamp(EDGES[counter as usize]),
            }),
            Op::RaiseLogBoundary {
                to: state.log_boundary_limit(),
            },
            Op::LogTruncated { to: Seq(u64::MAX) },
            Op::ObjectsDeleted {
                objects: state
                    .dead_objects()
                    .map(|(object, _)| object)
                    .take(SOME)
                    .collect(),
            },
            Op::RaiseSweepBoundary {
                before: state.time(),
            },
            Op::ClaimJob {
                job: Job::Sweep,
                incarnation,
                lease_millis: u64::MAX,
            },
            Op::SnapshotTaken {
                seq: state.seq(),
                bytes: u64::MAX,
                digest: None,
            },
            Op::RegisterNode(RegisterNode {
                incarnation,
                endpoints: Default::default(),
                rack: None,
                version: crate::state::Level::NEWEST.label(""),
                lease_millis: u64::MAX,
                peer_key: None,
                properties: None,
            }),
        ]);
        let nodes = state.nodes().map(|(id, node)| (id, node.incarnation()));
        for (node, incarnation) in nodes.take(SOME) {
            ops.push(Op::RenewLease {
                node,
                incarnation,
                lease_millis: u64::MAX,
            });
            ops.push(Op::ExpireNode {
                node,
                incarnation,
                as_of: None,
            });
        }
        if counter == 3 {
            ops.extend(
                topics
                    .iter()
                    .take(1)
                    .map(|topic| Op::DeleteTopic { topic: *topic }),
            );
        }
        let id = CommitId {
            incarnation,
            counter,
        };
        let time = Timestamp(EDGES[(counter + 2) as usize]);
        apply(
            state,
            &Commit {
                id,
                time,
                ops,
                follows: None,
                forwarded: Vec::new(),
                wall: None,
                log: LogId::ZERO,
            },
        );
    }
}

fn apply(state: &mut State, commit: &Commit) {
    let seq = state.seq().next();
    match state.apply(seq, commit, 4096) {
        Folded::Outcomes(outcomes) => assert_eq!(outcomes.len(), commit.ops.len()),
        Folded::Duplicate | Folded::Void => {}
    }
    assert_eq!(state.seq(), seq);
}

/// What is done with tables, and with numbers at the edges.
fn table_ops(state: &State, counter: u64) -> Vec<Op> {
    let id = |n: u128| uuid::Uuid::from_u128(n + u128::from(counter) * 100);
    let column = Column {
        id: FieldId(u32::MAX),
        parent: None,
        name: "a".to_owned(),
        column_type: ColumnType::Int,
        required: true,
        source: "b".repeat(2000),
    };
    let mut ops = Vec::new();
    for topic in state.topics().take(SOME) {
        ops.push(Op::CreateTable(CreateTable {
            id: TableId(id(1)),
            topic: topic.id(),
            name: TableName::of_topic(topic.name()),
            schema: Schema {
                id: 0,
                columns: vec![column.clone()],
            },
            by: PartitionBy::Month,
        }));
    }
    for table in state.tables().take(SOME) {
        let file = |n: u128, rows| DataFile {
            id: FileId(id(n)),
            bytes: u64::MAX,
            crc32c: 0,
            rows,
            partition: Some(i32::MIN),
        };
        let manifest = |n: u128, base, end, rows| Manifest {
            id: FileId(id(n)),
            files: vec![file(n + 1, rows)],
            ranges: vec![OffsetRange {
                partition: PartitionIndex(0),
                base: Offset(base),
                end: Offset(end),
            }],
            errors: rows,
            min_timestamp: Timestamp(i64::MIN),
            max_timestamp: Timestamp(i64::MAX),
            ..Manifest::default()
        };
        let table_id = table.id();
        let archive = |manifest| {
            Op::Archive(Archive {
                table: table_id,
                manifest,
            })
        };
        ops.extend([
            Op::AlterTable(AlterTable {
                table: table_id,
                schema: Some(Schema {
                    id: table.schema().id.wrapping_add(1),
                    columns: vec![column.clone(); 3],
                }),
                by: Some(PartitionBy::Hour),
                enabled: Some(counter == 1),
            }),
            archive(manifest(10, i64::MIN, i64::MAX, u64::MAX)),
            archive(manifest(20, 0, i64::MAX, 0)),
        ]);
        let archived = table.archived(PartitionIndex(0)).0;
        let mut small = manifest(30, archived, archived.saturating_add(1), 1);
        small.files.clear();
        small.errors = 0;
        ops.push(archive(small));
        if let Some(first) = table.manifests().next() {
            let through = first.manifest.id;
            let rewrite = |manifest| {
                Op::RewriteFiles(RewriteFiles {
                    table: table_id,
                    removes: vec![through],
                    manifest,
                })
            };
            ops.extend([
                rewrite(manifest(40, i64::MIN, i64::MAX, u64::MAX)),
                rewrite(Manifest {
                    id: FileId(id(50)),
                    ..first.manifest.clone()
                }),
                Op::ExpireFiles {
                    table: table_id,
                    through,
                    as_of: Seq(u64::MAX),
                },
            ]);
        }
        let retired = table.retired().map(|retired| retired.manifest.id);
        ops.extend([
            Op::ExpireSnapshots {
                table: table_id,
                before: state.seq(),
            },
            Op::ManifestsDeleted {
                table: table_id,
                manifests: retired.take(SOME).collect(),
            },
        ]);
        if counter == 3 {
            ops.push(Op::DropTable { table: table_id });
        }
    }
    ops
}

fn partition_ops(topic: TopicId, index: i32) -> Vec<Op> {
    let partition = TopicPartition {
        topic,
        partition: PartitionIndex(index),
    };
    let entry = |start, len, records, time, base_sequence| AppendEntry {
        start,
        len,
        records,
        max_timestamp: Timestamp(time),
        producer: Some(ProducerBatch {
            id: ProducerId(4),
            epoch: ProducerEpoch(0),
            base_sequence,
            continues: base_sequence == i32::MAX - 1,
        }),
    };
    let anonymous = |start, len, records| AppendEntry {
        producer: None,
        ..entry(start, len, records, i64::MIN, 0)
    };
    let append = |source, entries| {
        Op::Append(Append {
            partition,
            source,
            entries,
        })
    };
    let mut ops = vec![
        append(
            AppendSource::Inline,
            vec![
                anonymous(0, 100, 3),
                anonymous(100, 50, 1),
                entry(150, 9, 5, i64::MAX, i32::MAX - 1),
            ],
        ),
        append(
            AppendSource::Segment(SegmentId(uuid::Uuid::from_u128(5))),
            vec![
                anonymous(u64::MAX, u32::MAX, u32::MAX),
                anonymous(u64::MAX - 1, 1, 1),
                anonymous(0, 0, 0),
                anonymous(7, 1, 0),
                entry(0, u32::MAX, u32::MAX, i64::MAX, i32::MIN),
                anonymous(u64::from(u32::MAX), u32::MAX, 1),
            ],
        ),
    ];
    let before = EDGES.map(|edge| Some(Offset(edge)));
    for before in before.into_iter().chain([None]) {
        ops.push(Op::DeleteRecords { partition, before });
    }
    ops
}

/// Compacted slices in the place of all there are: as a node would write them, and at the edges of what numbers can
/// say.
fn replacements(state: &State, topic: TopicId, index: i32) -> Vec<Op> {
    let id = TopicPartition {
        topic,
        partition: PartitionIndex(index),
    };
    let Some(partition) = state.partition(id) else {
        return Vec::new();
    };
    let slices: Vec<_> = partition.slices_from(Offset::ZERO).collect();
    let (Some((base, _)), Some((_, last))) = (slices.first(), slices.last()) else {
        return Vec::new();
    };
    let (base, end) = (*base, last.end);
    let replace = |base, end, start, len| {
        Op::ReplaceSlices(ReplaceSlices {
            partition: id,
            layout: partition.layout(),
            base,
            end,
            outputs: vec![CompactedSlice {
                end,
                segment: SegmentId(uuid::Uuid::from_u128(6)),
                start,
                len,
                max_timestamp: Timestamp(i64::MIN),
                index: SliceIndex {
                    start: 140,
                    len: u32::MAX,
                },
            }],
            cleaned: Some(Cleaned {
                to: Offset(i64::MAX),
                as_of: Seq(u64::MAX),
            }),
        })
    };
    vec![
        replace(end, base, 0, 1),
        replace(Offset(i64::MIN), end, 0, 1),
        replace(base, Offset(i64::MAX), 0, 1),
        replace(base, end, 1, u64::MAX),
        replace(base, end, 0, u64::MAX),
        replace(base, end, u64::MAX, 0),
    ]
}

fn group_ops(state: &State, id: &GroupId) -> Vec<Op> {
    let Some(group) = state.group(id) else {
        return Vec::new();
    };
    let generation = group.generation();
    let mut actions: Vec<GroupAction> = group.due(Timestamp(i64::MAX)).take(SOME).collect();
    actions.extend([
        GroupAction::CompleteJoin { generation },
        GroupAction::CompleteSync { generation },
        GroupAction::ExpireOffsets {
            before: Timestamp(i64::MAX),
        },
    ]);
    let members = group.members().map(|(member, _)| member.clone());
    let new = MemberId::from("new");
    for member in members.take(SOME).chain([new.clone()]) {
        actions.push(join(member.clone(), member != new));
        actions.push(sync(member.clone(), generation));
        actions.push(sync(
            member.clone(),
            Generation(generation.0.saturating_add(1)),
        ));
        actions.push(GroupAction::ExpireMember {
            member: member.clone(),
            node: None,
        });
        actions.push(GroupAction::Leave {
            members: vec![Leaver {
                member: Some(member),
                instance: None,
            }],
        });
    }
    actions.push(GroupAction::Delete);
    actions
        .into_iter()
        .map(|action| Op::Group {
            group: id.clone(),
            action,
        })
        .collect()
}

fn join(member: MemberId, known: bool) -> GroupAction {
    GroupAction::Join(Join {
        member,
        known,
        instance: None,
        node: NodeId(0),
        client_id: String::new(),
        client_host: String::new(),
        session_timeout_millis: u64::MAX,
        rebalance_timeout_millis: u64::MAX,
        protocol_type: "consumer".to_owned(),
        protocols: vec![Protocol {
            name: "range".to_owned(),
            metadata: Bytes::from_static(b"\0\0\x7f\xff\xff\xff").into(),
        }],
        require_known_member: false,
        supports_skip_assignment: true,
        max_size: u32::MAX,
        initial_delay_millis: u64::MAX,
    })
}

fn sync(member: MemberId, generation: Generation) -> GroupAction {
    GroupAction::Sync(Sync {
        member,
        instance: None,
        generation,
        node: NodeId(0),
        protocol_type: None,
        protocol: None,
        assignments: Vec::new(),
    })
}

/// Asks a state everything that it can be asked.
///
/// # Panics
///
/// If it does, or if it is not what the rest of Weir relies on: written and read again it is the same (I3); offsets
/// are dense (I2); where records are can be computed with.
pub fn exercise(state: &State) {
    let bytes = state.to_bytes();
    let again = State::from_bytes(&bytes).expect("a state that was written is read");
    assert_eq!(&again, state, "I3");
    assert_eq!(again.to_bytes(), bytes, "I3");
    for topic in state.topics() {
        assert_eq!(state.topic(topic.id()), Some(topic));
        let found = state.topic_by_name(topic.name().as_str());
        assert_eq!(found.map(|found| found.id()), Some(topic.id()));
        for (id, partition) in topic.partitions().take(100) {
            assert_eq!(state.partition(id), Some(partition));
            exercise_partition(partition);
        }
        assert!(topic.partition(PartitionIndex(-1)).is_none());
        assert!(topic.partition(PartitionIndex(i32::MAX)).is_none());
    }
    for (_, group) in state.groups() {
        let _ = (group.next_deadline(), group.phase().name());
        for edge in EDGES {
            let _ = (
                group.due(Timestamp(edge)).count(),
                group.has_expired_offsets(Timestamp(edge)),
            );
        }
        for (id, member) in group.members() {
            let _ = (group.joined(id), group.synced(id), member.session_timeout());
            let _ = group.check_generation(id, member.instance(), Generation(0));
        }
    }
    for (id, node) in state.nodes() {
        let _ = (id, node.lease(), node.lease_until());
        assert!(state.node_of(node.incarnation()).is_some());
    }
    assert!(
        state
            .dead_objects()
            .all(|(object, _)| !state.is_live(object)),
        "I10"
    );
    assert!(state.log_truncated() <= state.log_boundary());
    let _ = (
        state.sweep_boundary(),
        state.log_boundary_limit(),
        state.totals(),
        state.claims().count(),
    );
    for table in state.tables() {
        assert_eq!(state.table(table.id()), Some(table));
        let found = state.table_by_name(table.name().as_str());
        assert_eq!(found.map(|found| found.id()), Some(table.id()));
        assert_eq!(archive_equals_log(state, table), None);
        let _ = (table.objects().count(), table.schema().columns.len());
        for snapshot in table.snapshots().iter().take(SOME) {
            let _ = (table.manifests_of(snapshot.seq), snapshot.operation());
        }
    }
    if let Some(snapshot) = state.last_snapshot() {
        assert!(snapshot.seq <= state.seq());
    }
    let _ = (state.slice_count(), state.configs().len(), state.time());
}

fn exercise_partition(partition: &Partition) {
    assert_eq!(offsets_are_dense("", partition), None);
    let (start, end) = (partition.log_start(), partition.high_watermark());
    assert!(Offset::ZERO <= start && start <= end);
    assert_eq!(
        partition.slices_from(Offset::ZERO).count(),
        partition.slice_count()
    );
    for offset in EDGES.into_iter().map(Offset).chain([start, end]) {
        let mut next = None;
        for (base, slice) in partition.slices_from(offset).take(100) {
            assert!(next.is_none_or(|next| next == base), "I2");
            next = Some(slice.end);
            assert!(slice.start.checked_add(slice.len).is_some(), "{slice:?}");
        }
    }
    assert_eq!(partition.slices_from(end).count(), 0);
    for edge in EDGES {
        let _ = partition.has_producers_older_than(Timestamp(edge));
    }
    for (_, producer) in partition.producers() {
        let _ = (producer.epoch(), producer.last_write());
    }
}
