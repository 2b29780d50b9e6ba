//! Objects of each format version, kept for ever: what was written once must be read always, and the same
//! content must be written as the same bytes.
//!
//! A test that fails here has found a change of the format. If it is meant, it is a new version: add fixtures
//! of it, and keep these. `WEIR_WRITE_FIXTURES=1 cargo test fixtures` writes those that do not exist.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use uuid::Uuid;

use crate::manifest::object::{EncodedCommit, LoggedCommit};
use crate::manifest::parts::{EncodedSnapshot, MAX_CHUNK, SnapshotParts, decode_snapshot};
use crate::state::group::{
    Assignment, CommitOffsets, GroupAction, Join, Leaver, OffsetToCommit, OffsetToDelete, Protocol,
    Sync,
};
use crate::state::op::*;
use crate::state::table::{
    Column, ColumnType, DataFile, FieldId, Manifest, OffsetRange, PartitionBy, Schema,
};
use crate::state::{Folded, Job, Level, Node, ObjectRef, SliceIndex, State};
use crate::types::{
    CommitId, FileId, Generation, GroupId, Incarnation, LogId, MemberId, NodeId, Offset,
    PartitionIndex, PeerKey, ProducerEpoch, ProducerId, SegmentId, Seq, StateDigest, TableId,
    TableName, Timestamp, TopicId, TopicName, TopicPartition,
};

const DATA: &[u8] = b"the bytes of the inline appends";

fn uuid(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

/// Every action of a group, with every field set.
fn actions() -> Vec<GroupAction> {
    let (member, instance) = (MemberId::from("m-1"), Some("i-1".to_owned()));
    let opaque = || Bytes::from_static(b"opaque").into();
    let partition = TopicPartition {
        topic: TopicId(uuid(1)),
        partition: PartitionIndex(0),
    };
    let (generation, node) = (Generation(1), NodeId(0));
    vec![
        GroupAction::Join(Join {
            member: member.clone(),
            known: false,
            instance: instance.clone(),
            node,
            client_id: "client".to_owned(),
            client_host: "127.0.0.1".to_owned(),
            session_timeout_millis: 10_000,
            rebalance_timeout_millis: 60_000,
            protocol_type: "consumer".to_owned(),
            protocols: vec![Protocol {
                name: "range".to_owned(),
                metadata: opaque(),
            }],
            require_known_member: false,
            supports_skip_assignment: true,
            max_size: 100,
            initial_delay_millis: 0,
        }),
        GroupAction::Sync(Sync {
            member: member.clone(),
            instance: instance.clone(),
            generation,
            node,
            protocol_type: Some("consumer".to_owned()),
            protocol: Some("range".to_owned()),
            assignments: vec![Assignment {
                member: member.clone(),
                assignment: opaque(),
            }],
        }),
        GroupAction::CommitOffsets(CommitOffsets {
            member: Some(member.clone()),
            instance: instance.clone(),
            generation,
            offsets: vec![OffsetToCommit {
                partition,
                offset: Offset(2),
                leader_epoch: Some(0),
                metadata: Some("note".to_owned()),
            }],
        }),
        GroupAction::DeleteOffsets {
            offsets: vec![OffsetToDelete {
                partition,
                topic: TopicName::new("orders").unwrap(),
            }],
        },
        GroupAction::Adopt {
            member: member.clone(),
            instance: instance.clone(),
            generation,
            node,
        },
        GroupAction::ExpireMember {
            member: member.clone(),
            node: Some(NodeId(7)),
        },
        GroupAction::CompleteJoin { generation },
        GroupAction::CompleteSync { generation },
        GroupAction::ExpireOffsets {
            before: Timestamp(5),
        },
        GroupAction::Leave {
            members: vec![Leaver {
                member: Some(MemberId::from("m-2")),
                instance: None,
            }],
        },
        GroupAction::Delete,
    ]
}

/// Every op, with every field set, in an order in which most of them take effect.
fn ops() -> Vec<Op> {
    let topic = TopicId(uuid(1));
    let partition = TopicPartition {
        topic,
        partition: PartitionIndex(0),
    };
    let incarnation = Incarnation(uuid(3));
    let configs = BTreeMap::from([("retention.ms".to_owned(), "1000".to_owned())]);
    let entry = |start, base_sequence| AppendEntry {
        start,
        len: 15,
        records: 2,
        max_timestamp: Timestamp(1_700_000_000_123),
        producer: Some(ProducerBatch {
            id: ProducerId(4),
            epoch: ProducerEpoch(0),
            base_sequence,
            continues: false,
        }),
    };
    let append = |source, entries| {
        Op::Append(Append {
            partition,
            source,
            entries,
        })
    };
    let mut ops = vec![
        Op::CreateTopic(CreateTopic {
            id: topic,
            name: TopicName::new("orders").unwrap(),
            partitions: 2,
            configs,
            replicas: None,
        }),
        Op::CreatePartitions { topic, total: 3 },
        Op::AlterConfigs {
            node: None,
            topic: None,
            edits: BTreeMap::from([
                ("num.partitions".to_owned(), Some("3".to_owned())),
                ("log.retention.ms".to_owned(), None),
            ]),
        },
        append(AppendSource::Inline, vec![entry(0, 0), entry(15, 2)]),
        append(
            AppendSource::Segment(SegmentId(uuid(9))),
            vec![entry(40, 4)],
        ),
        Op::DeleteRecords {
            partition,
            before: Some(Offset(1)),
        },
        Op::AllocateProducerIds { count: 1000 },
        Op::ExpireProducers {
            before: Timestamp(1),
        },
        Op::RegisterNode(RegisterNode {
            incarnation,
            endpoints: BTreeMap::from([("kafka".to_owned(), "localhost:9092".to_owned())]),
            rack: Some("a".to_owned()),
            version: "0.1.0".to_owned(),
            lease_millis: 5000,
            peer_key: None,
            properties: None,
        }),
        Op::RenewLease {
            node: NodeId(0),
            incarnation,
            lease_millis: 300_000,
        },
        Op::ExpireNode {
            as_of: None,
            node: NodeId(1),
            incarnation,
        },
        Op::SnapshotTaken {
            seq: Seq(0),
            bytes: 1,
            digest: None,
        },
    ];
    let group = |(n, action): (usize, GroupAction)| {
        // The last two would undo what the first ones did.
        let group = GroupId::new(if n < 9 { "billing" } else { "other" }).unwrap();
        Op::Group { group, action }
    };
    ops.extend(actions().into_iter().enumerate().map(group));
    ops.push(Op::RetireNode {
        node: NodeId(1),
        incarnation,
    });
    ops.push(Op::DeleteTopic {
        topic: TopicId(uuid(2)),
    });
    ops
}

/// The ops of background jobs, with every field set.
fn background_ops() -> Vec<Op> {
    let partition = TopicPartition {
        topic: TopicId(uuid(1)),
        partition: PartitionIndex(0),
    };
    let incarnation = Incarnation(uuid(3));
    let job = |job| Op::ClaimJob {
        job,
        incarnation,
        lease_millis: 60_000,
    };
    let output = CompactedSlice {
        end: Offset(4),
        segment: SegmentId(uuid(10)),
        start: 40,
        len: 30,
        max_timestamp: Timestamp(1_700_000_000_123),
        index: SliceIndex { start: 70, len: 12 },
    };
    vec![
        Op::ReplaceSlices(ReplaceSlices {
            partition,
            layout: 0,
            base: Offset(0),
            end: Offset(4),
            outputs: vec![output],
            cleaned: Some(Cleaned {
                to: Offset(4),
                as_of: Seq(2),
            }),
        }),
        Op::ExpireRecords {
            partition,
            before: Offset(5),
            as_of: Seq(2),
        },
        Op::RaiseLogBoundary { to: Seq(0) },
        Op::LogTruncated { to: Seq(0) },
        Op::RaiseSweepBoundary {
            before: Timestamp(1_000_000),
        },
        Op::ObjectsDeleted {
            objects: vec![
                ObjectRef::Commit(Seq(1)),
                ObjectRef::Segment(SegmentId(uuid(11))),
            ],
        },
        job(Job::Compaction(partition)),
        job(Job::Deletion),
        job(Job::Truncation),
        job(Job::Sweep),
        Op::ReleaseJob {
            job: Job::Sweep,
            incarnation,
        },
        Op::SnapshotTaken {
            seq: Seq(1),
            bytes: 2,
            digest: None,
        },
    ]
}

/// A batch that comes behind another of its producer.
fn continued_ops() -> Vec<Op> {
    let mut ops = ops();
    ops.retain(|op| matches!(op, Op::Append(_)));
    for op in &mut ops {
        let Op::Append(append) = op else { continue };
        let last = append.entries.last_mut().unwrap();
        last.producer.as_mut().unwrap().continues = true;
    }
    ops
}

fn commit(counter: u64, ops: Vec<Op>) -> Commit {
    Commit {
        id: CommitId {
            incarnation: Incarnation(uuid(3)),
            counter,
        },
        time: Timestamp(1_700_000_000_000),
        ops,
        follows: None,
        forwarded: Vec::new(),
        wall: None,
        log: LogId::ZERO,
    }
}

/// The state after the commits.
fn folded(commits: &[Commit]) -> State {
    let mut state = State::new();
    for commit in commits {
        let folded = state.apply(state.seq().next(), commit, 100);
        assert!(matches!(folded, Folded::Outcomes(_)));
    }
    state
}

/// The fixture, written first if it does not exist and that is asked for.
fn fixture(name: &str, present: &Bytes) -> Bytes {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/formats")
        .join(name);
    if !path.exists() && std::env::var_os("WEIR_WRITE_FIXTURES").is_some() {
        std::fs::write(&path, present).unwrap();
    }
    std::fs::read(path).unwrap().into()
}

/// The commit in the fixture, whose data is checked, and the same as it is written now.
fn commit_fixture(name: &str, commit: &Commit) -> (Bytes, Bytes) {
    let present = EncodedCommit::new(commit, Bytes::from_static(DATA))
        .unwrap()
        .object;
    let stored = fixture(name, &present);
    let read = LoggedCommit::decode(name, Seq(1), &stored, stored.len() as u64).unwrap();
    assert_eq!(read.commit, *commit);
    let start = usize::try_from(read.data_start).unwrap();
    assert_eq!(&stored[start..start + DATA.len()], DATA);
    (stored, present)
}

/// In version 1 no commit followed another.
#[test]
fn a_commit_of_version_1_is_read_for_ever() {
    commit_fixture("commit.1.every-op", &commit(1, ops()));
    commit_fixture("commit.1.background-ops", &commit(2, background_ops()));
}

/// In version 2 there were no forwarded commits.
#[test]
fn a_commit_of_version_2_is_read_for_ever() {
    commit_fixture("commit.2.every-op", &commit(1, ops()));
    commit_fixture("commit.2.background-ops", &following());
    commit_fixture("commit.2.continued", &commit(3, continued_ops()));
}

fn following() -> Commit {
    Commit {
        follows: Some(1),
        ..commit(2, background_ops())
    }
}

/// One with a forwarded commit in its object, of a node that can be spoken to.
fn with_forwarded() -> Commit {
    let mut register = ops();
    register.retain(|op| matches!(op, Op::RegisterNode(_)));
    for op in &mut register {
        let Op::RegisterNode(register) = op else {
            continue;
        };
        register.peer_key = Some(PeerKey::new([7; 32]));
    }
    let forwarded = ForwardedCommit {
        id: CommitId {
            incarnation: Incarnation(uuid(4)),
            counter: 9,
        },
        time: Timestamp(1_700_000_000_001),
        ops: background_ops(),
        follows: 8,
        start: 5,
        wall: None,
    };
    Commit {
        forwarded: vec![forwarded],
        ..commit(4, register)
    }
}

#[test]
fn a_commit_of_version_3_is_read_and_written_for_ever() {
    for (name, commit) in [
        ("commit.3.every-op", commit(1, ops())),
        ("commit.3.background-ops", following()),
        ("commit.3.continued", commit(3, continued_ops())),
        ("commit.3.carrying", with_forwarded()),
    ] {
        let (stored, present) = commit_fixture(name, &commit);
        assert_eq!(stored, present);
    }
}

/// Version 1 knew nothing of compaction and deletion.
#[test]
fn a_snapshot_of_version_1_is_read_for_ever() {
    let stored = fixture("snapshot.1.every-op", &Bytes::new());
    let read = decode_snapshot("fixture", Seq(1), &stored).unwrap();
    let present = folded(&[commit(1, ops())]);
    assert!(read.topics().eq(present.topics()));
    assert!(read.groups().eq(present.groups()));
    assert!(read.nodes().eq(present.nodes()));
    assert!(read.live_objects().eq(present.live_objects()));
    assert_eq!(read.last_snapshot(), present.last_snapshot());
}

#[test]
fn a_snapshot_of_version_2_is_read_and_written_for_ever() {
    let state = folded(&[commit(1, ops()), commit(2, background_ops())]);
    let present = EncodedSnapshot::new(&state, MAX_CHUNK).unwrap().object;
    let stored = fixture("snapshot.2.every-op", &present);
    assert_eq!(decode_snapshot("fixture", Seq(2), &stored).unwrap(), state);
    assert_eq!(stored, present);
}

/// The ops of a cluster that begins at the second level, with nodes that know it.
fn ops_of_level_2() -> Vec<Op> {
    let to = Level(2);
    let asked = Op::Asked(Asked {
        ops: 1,
        as_of: Seq(0),
        until: Timestamp(1_700_000_030_000),
    });
    let mut all = vec![Op::RaiseLevel { to }, asked];
    all.extend(ops());
    for op in &mut all {
        match op {
            Op::RegisterNode(register) => {
                register.version = to.label(&register.version);
                register.properties = Some(BTreeMap::from([("a".to_owned(), "b".to_owned())]));
            }
            Op::CreateTopic(create) => create.replicas = Some(3),
            Op::ExpireNode { as_of, .. } => *as_of = Some(Seq(0)),
            Op::SnapshotTaken { digest, .. } => *digest = Some(StateDigest::of(DATA)),
            _ => {}
        }
    }
    all
}

/// The ops of a cluster that begins at the third level: those of the second, and all of tables, with every field set.
fn ops_of_level_3() -> Vec<Op> {
    let mut all = ops_of_level_2();
    for op in &mut all {
        match op {
            Op::RaiseLevel { to } => *to = Level(3),
            Op::RegisterNode(register) => {
                register.version = Level(3).label("0.1.0");
            }
            _ => {}
        }
    }
    let (topic, table) = (TopicId(uuid(40)), TableId(uuid(41)));
    let partition = TopicPartition {
        topic,
        partition: PartitionIndex(0),
    };
    let column = |id, parent: Option<u32>, name: &str, column_type| Column {
        id: FieldId(id),
        parent: parent.map(FieldId),
        name: name.to_owned(),
        column_type,
        required: parent.is_none() && id == 1,
        source: if id > 5 {
            format!("/{name}")
        } else {
            String::new()
        },
    };
    let columns = vec![
        column(1, None, "offset", ColumnType::Int),
        column(2, None, "headers", ColumnType::List),
        column(3, Some(2), "element", ColumnType::Struct),
        column(4, Some(3), "key", ColumnType::String),
        column(5, None, "timestamp", ColumnType::Timestamptz),
    ];
    let mut wider = columns.clone();
    wider[0].column_type = ColumnType::Long;
    let (precision, scale) = (10, 2);
    wider.extend([
        column(6, None, "amount", ColumnType::Decimal { precision, scale }),
        column(7, None, "digest", ColumnType::Fixed(16)),
    ]);
    // UUIDs of version 7, minted at that time.
    let file = |n: u128| FileId(uuid(0x018b_cfe5_6800_7000_8000_0000_0000_0000 | n));
    let manifest = |n: u128, base, end, partition| Manifest {
        id: file(n),
        bytes: 4000,
        crc32c: 0xdead_beef,
        schema: 1,
        spec: 1,
        files: vec![DataFile {
            id: file(n + 1),
            bytes: 123_456,
            crc32c: 0xc0ff_ee00,
            rows: 1,
            partition,
        }],
        ranges: vec![OffsetRange {
            partition: PartitionIndex(0),
            base: Offset(base),
            end: Offset(end),
        }],
        errors: 1,
        min_timestamp: Timestamp(-1),
        max_timestamp: Timestamp(1_700_000_000_000),
    };
    let archive = |manifest| Op::Archive(Archive { table, manifest });
    let append = Op::Append(Append {
        partition,
        source: AppendSource::Inline,
        entries: (0..4)
            .map(|start| AppendEntry {
                start,
                len: 1,
                records: 1,
                max_timestamp: Timestamp(1_700_000_000_000),
                producer: None,
            })
            .collect(),
    });
    all.extend([
        Op::CreateTopic(CreateTopic {
            id: topic,
            name: TopicName::new("archived").unwrap(),
            partitions: 1,
            configs: BTreeMap::from([("archive.enable".to_owned(), "true".to_owned())]),
            replicas: None,
        }),
        append,
        Op::CreateTable(CreateTable {
            id: table,
            topic,
            name: TableName::new("archived").unwrap(),
            schema: Schema { id: 0, columns },
            by: PartitionBy::Day,
        }),
        Op::AlterTable(AlterTable {
            table,
            schema: Some(Schema {
                id: 1,
                columns: wider,
            }),
            by: Some(PartitionBy::Month),
            enabled: Some(true),
        }),
        archive(manifest(1, 0, 1, Some(647))),
        archive(manifest(3, 1, 2, None)),
        Op::RewriteFiles(RewriteFiles {
            table,
            removes: vec![file(1)],
            manifest: manifest(5, 0, 1, Some(-1)),
        }),
        Op::ManifestsDeleted {
            table,
            manifests: vec![file(1)],
        },
        Op::ExpireFiles {
            table,
            through: file(5),
            as_of: Seq(1),
        },
        Op::DeleteRecords {
            partition,
            before: Some(Offset(3)),
        },
        archive(manifest(7, 3, 4, Some(0))),
        Op::ExpireSnapshots {
            table,
            before: Seq(1),
        },
        Op::DropTable {
            table: TableId(uuid(42)),
        },
        Op::ClaimJob {
            job: Job::Archive(table),
            incarnation: Incarnation(uuid(100)),
            lease_millis: 60_000,
        },
    ]);
    all
}

#[test]
fn a_commit_of_version_5_is_read_and_written_for_ever() {
    let commit = of_level_2(commit(1, ops_of_level_3()));
    let (stored, present) = commit_fixture("commit.5.every-op", &commit);
    assert_eq!(stored, present);
}

#[test]
fn a_snapshot_of_version_4_is_read_and_written_for_ever() {
    let commits = [commit(1, ops_of_level_3()), commit(2, background_ops())];
    let state = folded(&commits.map(of_level_2));
    let table = state.table_by_name("archived").unwrap();
    let archived = table.partition(PartitionIndex(0)).unwrap();
    assert_eq!(archived.skipped(), [(Offset(2), Offset(3))]);
    let (live, removed) = (table.manifest_count(), table.retired().count());
    assert_eq!((live, removed, table.snapshots().len()), (2, 1, 1));
    let present = EncodedSnapshot::new(&state, MAX_CHUNK).unwrap().object;
    let stored = fixture("snapshot.4.every-op", &present);
    assert_eq!(decode_snapshot("fixture", Seq(2), &stored).unwrap(), state);
    assert_eq!(stored, present);
}

/// A commit of such a node, which says what its wall clock says.
fn of_level_2(commit: Commit) -> Commit {
    let wall = Some(Timestamp(1_700_000_000_002));
    let forwarded = commit.forwarded.into_iter();
    let forwarded = forwarded.map(|forwarded| ForwardedCommit { wall, ..forwarded });
    Commit {
        wall,
        forwarded: forwarded.collect(),
        ..commit
    }
}

#[test]
fn a_commit_of_version_4_is_read_and_written_for_ever() {
    for (name, commit) in [
        ("commit.4.every-op", commit(1, ops_of_level_2())),
        ("commit.4.carrying", with_forwarded()),
    ] {
        let (stored, present) = commit_fixture(name, &of_level_2(commit));
        assert_eq!(stored, present);
    }
}

#[test]
fn a_snapshot_of_version_3_is_read_and_written_for_ever() {
    let commits = [commit(1, ops_of_level_2()), commit(2, background_ops())];
    let state = folded(&commits.map(of_level_2));
    assert_eq!(state.level(), Level(2));
    let mut walls = state.nodes().filter_map(|(_, node)| Node::wall(node));
    assert!(walls.next().is_some());
    let present = EncodedSnapshot::new(&state, MAX_CHUNK).unwrap().object;
    let stored = fixture("snapshot.3.every-op", &present);
    assert_eq!(decode_snapshot("fixture", Seq(2), &stored).unwrap(), state);
    assert_eq!(stored, present);
}

/// The state of the fixture above, in objects of 100 bytes of it at most.
#[test]
fn a_snapshot_of_version_3_in_chunks_is_read_and_written_for_ever() {
    let state = folded(&[commit(1, ops_of_level_2()), commit(2, background_ops())]);
    let present = EncodedSnapshot::new(&state, 100).unwrap();
    let stored = fixture("snapshot.3.in-chunks", &present.object);
    assert_eq!(stored, present.object);
    let parts = SnapshotParts::decode("fixture", &stored).unwrap();
    assert_eq!(parts.chunks().len(), state.to_bytes().len().div_ceil(100));
    let chunk = fixture("chunk.1", &present.chunk(0).unwrap());
    assert_eq!(chunk, present.chunk(0).unwrap());
    let chunks: Vec<Bytes> = (0..)
        .zip(parts.chunks())
        .map(|(index, len)| {
            let object = present.chunk(index).unwrap();
            SnapshotParts::chunk("fixture", *len, &object).unwrap()
        })
        .collect();
    assert_eq!(parts.state("fixture", Seq(2), &chunks).unwrap(), state);
    // Each part counts, and so does their order.
    let mut swapped = chunks.clone();
    swapped.swap(0, 1);
    for wrong in [&swapped[..], &chunks[1..], &[]] {
        let error = parts.state("fixture", Seq(2), wrong).unwrap_err();
        assert!(error.to_string().contains("digest"), "{error}");
    }
    assert!(SnapshotParts::chunk("fixture", 99, &chunk).is_err());
}

/// Nodes of the first level read it.
#[test]
fn a_state_of_the_first_level_is_in_one_object_however_large_it_is() {
    let state = folded(&[commit(1, ops()), commit(2, background_ops())]);
    let encoded = EncodedSnapshot::new(&state, 10).unwrap();
    assert_eq!((encoded.chunk_count(), &encoded.digest), (0, &None));
    assert_eq!(
        decode_snapshot("fixture", Seq(2), &encoded.object).unwrap(),
        state
    );
}

#[test]
fn a_variant_of_a_newer_version_says_to_upgrade() {
    let mut head = Vec::new();
    let mut e = minicbor::Encoder::new(&mut head);
    // A commit with one op of the unknown variant 999.
    e.array(3)
        .unwrap()
        .array(2)
        .unwrap()
        .bytes(&[0; 16])
        .unwrap()
        .u64(1)
        .unwrap();
    e.i64(0)
        .unwrap()
        .array(1)
        .unwrap()
        .array(2)
        .unwrap()
        .u32(999)
        .unwrap();
    e.array(0).unwrap();
    let builder = crate::format::ObjectBuilder::new(crate::format::ObjectKind::Commit);
    let object: Bytes = builder.finish(&head, &[]).unwrap().concat().into();
    let error = LoggedCommit::decode("log/7", Seq(7), &object, object.len() as u64).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("log/7") && text.contains("upgrade"), "{text}");
}

/// The first log is not named, so its commits are the bytes that they always were (the fixtures say which).
#[test]
fn a_commit_of_another_log_is_refused_by_name() {
    let object = |log| {
        let commit = Commit {
            log,
            ..commit(1, ops())
        };
        let encoded = EncodedCommit::new(&commit, Bytes::from_static(DATA));
        encoded.unwrap().object
    };
    let read = |object: &Bytes| LoggedCommit::decode("log/1", Seq(1), object, object.len() as u64);
    assert_eq!(read(&object(LogId::ZERO)).unwrap().commit.log, LogId::ZERO);
    let error = read(&object(LogId(3))).unwrap_err();
    assert!(!error.is_of_newer_software());
    assert_eq!(
        error.to_string(),
        "log/1 holds a commit of log 3, expected log 0"
    );
}
