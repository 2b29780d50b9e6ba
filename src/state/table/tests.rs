//! What a table is after each op, and which ops are refused.

use std::time::Duration;

use super::*;
use crate::state::tests::*;

const TABLE: TableId = TableId(Uuid::from_u128(70));

/// A file minted at that wall time.
fn file_at(at: i64, n: u8) -> FileId {
    FileId(minted(at, n).0)
}

pub(in crate::state) fn column(id: u32, name: &str, column_type: ColumnType) -> Column {
    Column {
        id: FieldId(id),
        parent: None,
        name: name.to_owned(),
        column_type,
        required: false,
        source: String::new(),
    }
}

pub(in crate::state) fn schema(id: u32, columns: Vec<Column>) -> Schema {
    Schema { id, columns }
}

pub(in crate::state) fn create_table(id: TableId, topic: TopicId, name: &str) -> Op {
    Op::CreateTable(CreateTable {
        id,
        topic,
        name: TableName::new(name).unwrap(),
        schema: schema(0, vec![column(1, "offset", ColumnType::Int)]),
        by: PartitionBy::Day,
    })
}

pub(in crate::state) fn range(partition: i32, base: i64, end: i64) -> OffsetRange {
    OffsetRange {
        partition: PartitionIndex(partition),
        base: Offset(base),
        end: Offset(end),
    }
}

/// A manifest of one file with as many rows.
pub(in crate::state) fn manifest(
    id: FileId,
    file: FileId,
    rows: u64,
    ranges: Vec<OffsetRange>,
) -> Manifest {
    Manifest {
        id,
        bytes: 10,
        crc32c: 1,
        files: vec![DataFile {
            id: file,
            bytes: 100,
            crc32c: 2,
            rows,
            partition: Some(19_000),
        }],
        ranges,
        ..Manifest::default()
    }
}

/// A topic of one partition with a table; the log is at a level that has tables.
struct Scene {
    log: Log,
    next: u8,
}

impl Scene {
    fn new() -> Scene {
        let mut log = Log::new();
        log.apply(Op::RaiseLevel { to: Level::NEWEST }).unwrap();
        log.apply(create_table(TABLE, TOPIC, "t")).unwrap();
        Scene { log, next: 0 }
    }

    /// With that many records, two of them in a commit.
    fn with_records(records: i64) -> Scene {
        let mut scene = Scene::new();
        scene.log.inline_many(usize::try_from(records).unwrap() / 2);
        scene
    }

    fn table(&self) -> &Table {
        self.log.state.table(TABLE).unwrap()
    }

    fn file(&mut self) -> FileId {
        self.next += 1;
        file_at(self.log.now, self.next)
    }

    fn manifest(&mut self, base: i64, end: i64) -> Manifest {
        let rows = base.abs_diff(end);
        let (id, file) = (self.file(), self.file());
        manifest(id, file, rows, vec![range(0, base, end)])
    }

    fn apply(&mut self, op: Op) -> Outcome {
        let outcome = self.log.apply(op);
        assert_eq!(self.log.state.check(), Ok(()));
        let read = State::from_bytes(&self.log.state.to_bytes()).unwrap();
        assert!(read == self.log.state);
        outcome
    }

    /// Archives these offsets; returns the manifest.
    fn archive(&mut self, base: i64, end: i64) -> Result<FileId, Rejected> {
        let manifest = self.manifest(base, end);
        let id = manifest.id;
        let archive = Archive {
            table: TABLE,
            manifest,
        };
        self.apply(Op::Archive(archive)).map(|_| id)
    }

    fn rewrite(&mut self, removes: &[FileId], manifest: Manifest) -> Outcome {
        self.apply(Op::RewriteFiles(RewriteFiles {
            table: TABLE,
            removes: removes.to_vec(),
            manifest,
        }))
    }

    fn expire(&mut self, through: FileId) -> Outcome {
        let as_of = self.log.state.seq();
        self.apply(Op::ExpireFiles {
            table: TABLE,
            through,
            as_of,
        })
    }

    fn expire_snapshots(&mut self) {
        let before = self.table().snapshot().unwrap().seq;
        self.apply(Op::ExpireSnapshots {
            table: TABLE,
            before,
        })
        .unwrap();
    }

    fn deleted(&mut self, manifest: FileId) -> Outcome {
        self.apply(Op::ManifestsDeleted {
            table: TABLE,
            manifests: vec![manifest],
        })
    }

    fn delete_records(&mut self, before: i64) {
        self.apply(Op::DeleteRecords {
            partition: partition(0),
            before: Some(Offset(before)),
        })
        .unwrap();
    }

    fn set_enabled(&mut self, enabled: bool) {
        self.alter(AlterTable {
            enabled: Some(enabled),
            ..nothing_altered()
        })
        .unwrap();
    }

    fn alter(&mut self, alter: AlterTable) -> Outcome {
        self.apply(Op::AlterTable(alter))
    }

    fn ids(&self) -> Vec<FileId> {
        self.table()
            .manifests()
            .map(|live| live.manifest.id)
            .collect()
    }
}

fn nothing_altered() -> AlterTable {
    AlterTable {
        table: TABLE,
        schema: None,
        by: None,
        enabled: None,
    }
}

#[test]
fn each_offset_is_archived_once_however_often_it_is_asked_for() {
    fn test() {
        let mut scene = Scene::with_records(10);
        let first = scene.archive(0, 4).unwrap();
        for (base, end) in [(0, 4), (3, 6), (5, 6)] {
            let refused = scene.archive(base, end).unwrap_err();
            let archived = Offset(4);
            assert!(
                matches!(refused, Rejected::NotFromArchived { archived: at, .. } if at == archived)
            );
        }
        let second = scene.archive(4, 10).unwrap();
        assert!(matches!(
            scene.archive(10, 11),
            Err(Rejected::OffsetOutOfRange { .. })
        ));
        assert_eq!(scene.ids(), [first, second]);
        assert_eq!(scene.table().archived(PartitionIndex(0)), Offset(10));
        assert_eq!(scene.table().total().rows, 10);
    }
    test();
    assert_needed(&[(Rule::ArchivesContinue, test)]);
}

#[test]
fn an_archive_begins_where_the_log_starts_and_passes_over_what_was_deleted() {
    let mut scene = Scene::with_records(20);
    scene.delete_records(2);
    scene.archive(2, 6).unwrap();
    scene.delete_records(9);
    assert!(scene.archive(6, 9).is_err());
    scene.archive(9, 12).unwrap();
    let at = scene.table().partition(PartitionIndex(0)).unwrap().clone();
    assert_eq!((at.start(), at.end()), (Offset(2), Offset(12)));
    assert_eq!(at.skipped(), [(Offset(6), Offset(9))]);
    // What was passed over is not in the ranges of what takes the place of both.
    let ids = scene.ids();
    let joined = Manifest {
        ranges: vec![range(0, 2, 6), range(0, 9, 12)],
        ..scene.manifest(0, 7)
    };
    scene.rewrite(&ids, joined).unwrap();
    // What is passed over goes with what is before it.
    let last = scene.ids()[0];
    scene.archive(12, 14).unwrap();
    scene.expire(last).unwrap();
    let at = scene.table().partition(PartitionIndex(0)).unwrap();
    assert_eq!((at.start(), at.end()), (Offset(12), Offset(14)));
    assert!(at.skipped().is_empty());
}

#[test]
fn a_pass_counts_though_records_of_it_are_deleted_meanwhile_but_not_if_all_are() {
    let mut scene = Scene::with_records(10);
    scene.archive(0, 2).unwrap();
    // Read from 2 on, and deleted up to 4 before the op came.
    scene.delete_records(4);
    scene.archive(2, 6).unwrap();
    assert_eq!(scene.table().archived(PartitionIndex(0)), Offset(6));
    assert_eq!(scene.table().gap_in_archive(), None);
    let again = scene.archive(2, 6).unwrap_err();
    assert!(
        matches!(again, Rejected::NotFromArchived { .. }),
        "{again:?}"
    );
    scene.delete_records(8);
    let gone = scene.archive(6, 8).unwrap_err();
    assert!(
        matches!(gone, Rejected::OffsetOutOfRange { .. }),
        "{gone:?}"
    );
    scene.archive(7, 10).unwrap();
    assert_eq!(scene.table().gap_in_archive(), None);
}

#[test]
fn files_that_the_sweep_may_have_deleted_are_refused() {
    fn test() {
        let mut scene = Scene::with_records(4);
        let old = scene.manifest(0, 4);
        scene.log.wait(Duration::from_secs(60));
        let before = Timestamp(scene.log.now - 30_000);
        scene.log.inline();
        scene.apply(Op::RaiseSweepBoundary { before }).unwrap();
        let archive = Archive {
            table: TABLE,
            manifest: old,
        };
        assert!(matches!(
            scene.apply(Op::Archive(archive)),
            Err(Rejected::StaleFile(_))
        ));
        scene.archive(0, 4).unwrap();
    }
    test();
    assert_needed(&[(Rule::SweptFilesAreRefused, test)]);
}

#[test]
fn a_rewrite_has_the_records_of_what_it_replaces() {
    fn test() {
        let mut scene = Scene::with_records(10);
        let ids = [(0, 2), (2, 5), (5, 10)].map(|(base, end)| scene.archive(base, end).unwrap());
        for (base, end) in [(0, 2), (0, 4), (0, 6), (2, 5)] {
            let other = scene.manifest(base, end);
            assert!(matches!(
                scene.rewrite(&ids[..2], other),
                Err(Rejected::InvalidTable { .. })
            ));
        }
        let fewer = Manifest {
            ranges: vec![range(0, 0, 5)],
            ..scene.manifest(0, 4)
        };
        assert!(scene.rewrite(&ids[..2], fewer).is_err());
        let same = scene.manifest(0, 5);
        let id = same.id;
        scene.rewrite(&ids[..2], same).unwrap();
        assert_eq!(scene.ids(), [id, ids[2]]);
        assert_eq!(scene.table().total().rows, 10);
        let snapshot = scene.table().snapshot().unwrap();
        assert_eq!(snapshot.operation(), Operation::Replace);
    }
    test();
    assert_needed(&[(Rule::RewritesKeepRows, test)]);
}

#[test]
fn a_rewrite_replaces_neighbours_that_are_there() {
    fn test() {
        let mut scene = Scene::with_records(12);
        let ids = [(0, 4), (4, 8), (8, 12)].map(|(base, end)| scene.archive(base, end).unwrap());
        let stranger = scene.file();
        for removes in [
            vec![ids[0], ids[2]],
            vec![ids[1], ids[0]],
            vec![ids[0], stranger],
            vec![stranger],
            Vec::new(),
        ] {
            let whole = scene.manifest(0, 8);
            let refused = scene.rewrite(&removes, whole);
            assert_eq!(
                refused,
                Err(Rejected::ManifestsChanged(TABLE)),
                "{removes:?}"
            );
        }
    }
    test();
    assert_needed(&[(Rule::RewritesReplaceNeighbours, test)]);
}

#[test]
fn a_file_that_is_taken_over_outlives_the_manifest_that_named_it() {
    let mut scene = Scene::with_records(8);
    let ids = [(0, 4), (4, 8)].map(|(base, end)| scene.archive(base, end).unwrap());
    let files: Vec<DataFile> = scene
        .table()
        .manifests()
        .flat_map(|live| live.manifest.files.clone())
        .collect();
    let joined = Manifest {
        files: files.clone(),
        ..scene.manifest(0, 8)
    };
    // One that says something else of a file is another file of that name.
    let mut changed = joined.clone();
    changed.files[0].rows += 1;
    changed.files[1].rows -= 1;
    assert!(scene.rewrite(&ids, changed).is_err());
    scene.rewrite(&ids, joined).unwrap();
    assert!(
        scene
            .table()
            .retired()
            .all(|retired| retired.files.is_empty())
    );
    let whole = scene.manifest(0, 8);
    let id = scene.ids()[0];
    scene.rewrite(&[id], whole).unwrap();
    let gone: Vec<FileId> = scene
        .table()
        .retired()
        .flat_map(|retired| retired.files.clone())
        .collect();
    assert_eq!(gone, files.iter().map(|file| file.id).collect::<Vec<_>>());
}

#[test]
fn what_was_removed_stays_while_a_snapshot_names_it() {
    fn test() {
        let mut scene = Scene::with_records(8);
        let first = scene.archive(0, 4).unwrap();
        let named = scene.table().snapshot().unwrap().seq;
        scene.archive(4, 8).unwrap();
        scene.expire(first).unwrap();
        let names = |scene: &Scene, at| {
            let found = scene.table().manifests_of(at);
            found.iter().any(|live| live.manifest.id == first)
        };
        assert!(names(&scene, named));
        assert_eq!(scene.deleted(first), Err(Rejected::ManifestsChanged(TABLE)));
        scene.log.wait(Duration::from_secs(9));
        scene.expire_snapshots();
        let retired = scene.table().retired().next().unwrap();
        let unnamed = Unnamed {
            since: Timestamp(scene.log.now),
            seq: scene.log.state.seq(),
        };
        assert_eq!(retired.unnamed, Some(unnamed));
        assert!(!names(&scene, scene.table().version()));
        scene.deleted(first).unwrap();
        assert_eq!(scene.table().retired().count(), 0);
        assert!(scene.deleted(first).is_err());
    }
    test();
    assert_needed(&[(Rule::NamedManifestsAreKept, test)]);
}

#[test]
fn a_file_that_was_taken_over_goes_with_the_last_manifest_that_a_snapshot_names() {
    fn test() {
        let mut scene = Scene::with_records(8);
        let first = scene.archive(0, 4).unwrap();
        let second = scene.archive(4, 8).unwrap();
        let files: Vec<DataFile> = scene
            .table()
            .manifests()
            .flat_map(|live| live.manifest.files.clone())
            .collect();
        // One takes over all the files of both, and is removed by the same commit.
        let joined = Manifest {
            files: files.clone(),
            ..scene.manifest(0, 8)
        };
        let (taken, whole) = (joined.id, scene.manifest(0, 8));
        let table = TABLE;
        let rewrite = |removes, manifest| {
            Op::RewriteFiles(RewriteFiles {
                table,
                removes,
                manifest,
            })
        };
        let ops = vec![
            rewrite(vec![first, second], joined),
            rewrite(vec![taken], whole),
        ];
        let seq = scene.log.state.seq().next();
        scene.log.state.apply(seq, &commit(seq.0, ops), 64);
        assert_eq!(scene.log.state.check(), Ok(()));
        let before = scene.table().snapshots()[1].seq;
        assert_eq!(scene.table().manifests_of(before).len(), 2);
        let goes = |retired: &RetiredManifest| retired.unnamed.is_some();
        assert!(!scene.table().retired().any(goes));
        assert!(scene.deleted(taken).is_err());
        scene.expire_snapshots();
        for manifest in [first, second, taken] {
            scene.deleted(manifest).unwrap();
        }
        assert_eq!(scene.table().retired().count(), 0);
    }
    test();
    assert_needed(&[(Rule::TakenOverFilesAreKept, test)]);
}

#[test]
fn files_of_a_table_without_a_topic_expire_by_the_settings_that_count_now() {
    fn test() {
        let mut scene = Scene::with_records(4);
        let first = scene.archive(0, 4).unwrap();
        scene.apply(Op::DeleteTopic { topic: TOPIC }).unwrap();
        let as_of = scene.log.state.seq();
        let edits = [("archive.retention.ms".to_owned(), Some("-1".to_owned()))];
        let alter = Op::AlterConfigs {
            topic: None,
            node: None,
            edits: edits.into(),
        };
        scene.apply(alter).unwrap();
        let expire = |as_of| Op::ExpireFiles {
            table: TABLE,
            through: first,
            as_of,
        };
        let late = scene.apply(expire(as_of));
        assert!(
            matches!(late, Err(Rejected::InvalidTable { .. })),
            "{late:?}"
        );
        let as_of = scene.log.state.seq();
        scene.apply(expire(as_of)).unwrap();
    }
    test();
    assert_needed(&[(Rule::DecisionsMatchSettings, test)]);
}

#[test]
fn the_newest_snapshot_does_not_expire_and_there_are_never_too_many() {
    let mut scene = Scene::new();
    let expire = |before| Op::ExpireSnapshots {
        table: TABLE,
        before: Seq(before),
    };
    assert!(scene.apply(expire(1)).is_err());
    scene.log.inline();
    scene.archive(0, 1).unwrap();
    let newest = scene.table().snapshot().unwrap().seq;
    assert!(scene.apply(expire(newest.0 + 1)).is_err());
    scene.apply(expire(newest.0)).unwrap();
    assert_eq!(scene.table().snapshots().len(), 1);
    let (mut log, now) = (scene.log, Timestamp(5));
    let table = log.state.tables.get_mut(TABLE).unwrap();
    for seq in 0..2 * MAX_SNAPSHOTS as u64 {
        let seq = Seq(1000 + seq);
        table.snapshot_of(Counts::default(), Counts::default(), seq, now);
    }
    assert_eq!(table.snapshots().len(), MAX_SNAPSHOTS);
}

#[test]
fn records_stay_in_their_topic_until_they_are_archived() {
    fn test() {
        let mut scene = Scene::with_records(8);
        scene.archive(0, 4).unwrap();
        let expire = |scene: &mut Scene, before| {
            let as_of = scene.log.state.seq();
            scene.apply(Op::ExpireRecords {
                partition: partition(0),
                before: Offset(before),
                as_of,
            })
        };
        let clean = |scene: &mut Scene, end| {
            let as_of = scene.log.state.seq();
            let cleaned = Some(Cleaned {
                to: Offset(end),
                as_of,
            });
            let segment = minted(scene.log.now, 200);
            scene.apply(Op::ReplaceSlices(ReplaceSlices {
                partition: partition(0),
                layout: 0,
                base: Offset(4),
                end: Offset(end),
                outputs: vec![CompactedSlice {
                    segment,
                    ..output(end, 0)
                }],
                cleaned,
            }))
        };
        let refused = |outcome| matches!(outcome, Err(Rejected::NotArchived { .. }));
        assert!(refused(expire(&mut scene, 6)));
        assert!(refused(clean(&mut scene, 6)));
        expire(&mut scene, 4).unwrap();
        // A person may delete what is not archived; and once a topic is not archived any more, all goes as it did.
        scene.delete_records(6);
        assert!(refused(expire(&mut scene, 8)));
        scene.set_enabled(false);
        expire(&mut scene, 8).unwrap();
    }
    test();
    assert_needed(&[(Rule::RetentionWaitsForArchive, test)]);
}

#[test]
fn a_table_outlives_its_topic_and_is_forgotten_when_it_is_dropped_and_deleted() {
    let mut scene = Scene::with_records(4);
    let first = scene.archive(0, 4).unwrap();
    let edits = [("archive.retention.ms", "5"), ("retention.ms", "7")];
    let edits = edits.map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
    scene
        .apply(Op::AlterConfigs {
            topic: Some(TOPIC),
            node: None,
            edits: edits.into(),
        })
        .unwrap();
    let drop = Op::DropTable { table: TABLE };
    assert!(scene.apply(drop.clone()).is_err());
    scene.apply(Op::DeleteTopic { topic: TOPIC }).unwrap();
    let kept = BTreeMap::from([("archive.retention.ms".to_owned(), "5".to_owned())]);
    assert_eq!(scene.table().options(), &kept);
    assert_eq!(
        (scene.table().topic(), scene.table().is_enabled()),
        (None, false)
    );
    assert!(scene.archive(4, 5).is_err());
    // Another topic of that name has another table, of another name.
    let again = TopicId(Uuid::from_u128(8));
    scene.apply(create("t", again, 1)).unwrap();
    let other = TableId(Uuid::from_u128(71));
    assert!(matches!(
        scene.apply(create_table(other, again, "t")),
        Err(Rejected::TableExists(_))
    ));
    scene.apply(create_table(other, again, "t_8")).unwrap();
    assert!(scene.apply(create_table(TABLE, again, "u")).is_err());
    scene.apply(drop.clone()).unwrap();
    assert!(scene.table().is_dropped() && scene.apply(drop).is_err());
    scene.deleted(first).unwrap();
    assert!(scene.log.state.table(TABLE).is_none());
    assert!(scene.log.state.table_by_name("t").is_none());
}

#[test]
fn a_schema_only_adds_columns_and_widens_them() {
    fn test() {
        let mut scene = Scene::new();
        let with = |id, columns| AlterTable {
            schema: Some(schema(id, columns)),
            ..nothing_altered()
        };
        let offset = |of| column(1, "offset", of);
        let wide = vec![offset(ColumnType::Long), column(2, "b", ColumnType::String)];
        for refused in [
            with(1, vec![offset(ColumnType::Float)]),
            with(1, vec![column(1, "other", ColumnType::Int)]),
            with(
                1,
                vec![Column {
                    source: "other".to_owned(),
                    ..offset(ColumnType::Int)
                }],
            ),
            with(1, vec![column(2, "b", ColumnType::Int)]),
        ] {
            assert!(scene.alter(refused).is_err());
        }
        scene.alter(with(1, wide.clone())).unwrap();
        // The number of a column is never given again, and no column becomes narrower.
        let narrow = vec![offset(ColumnType::Int), column(2, "b", ColumnType::String)];
        assert!(scene.alter(with(2, narrow)).is_err());
        let first = scene.table().schema_of(0).unwrap();
        assert_eq!(first.columns, [offset(ColumnType::Int)]);
        assert_eq!(scene.table().schema().columns, wide);
        assert_eq!(scene.table().last_column(), FieldId(2));
    }
    test();
    assert_needed(&[(Rule::ColumnsKeepTheirMeaning, test)]);
    let mut scene = Scene::new();
    let misnumbered = AlterTable {
        schema: Some(schema(2, vec![column(1, "offset", ColumnType::Int)])),
        ..nothing_altered()
    };
    assert!(scene.alter(misnumbered).is_err());
}

#[test]
fn a_schema_that_no_engine_can_read_is_refused() {
    let nested = |id, parent: u32, name: &str, of| Column {
        parent: Some(FieldId(parent)),
        ..column(id, name, of)
    };
    let list = column(1, "l", ColumnType::List);
    let map = column(1, "m", ColumnType::Map);
    let deep = (1..30).map(|id| match id {
        1 => column(1, "s", ColumnType::Struct),
        id => nested(id, id - 1, "s", ColumnType::Struct),
    });
    for columns in [
        Vec::new(),
        vec![column(1, "_file", ColumnType::Int)],
        vec![
            column(1, "a", ColumnType::Int),
            column(1, "b", ColumnType::Int),
        ],
        vec![
            column(1, "a", ColumnType::Int),
            column(2, "A", ColumnType::Int),
        ],
        vec![column(1, "a", ColumnType::Fixed(0))],
        vec![list.clone()],
        vec![map.clone(), nested(2, 1, "key", ColumnType::Int)],
        vec![nested(2, 1, "element", ColumnType::Int), list.clone()],
        vec![
            list.clone(),
            nested(2, 1, "a", ColumnType::Int),
            nested(3, 1, "b", ColumnType::Int),
        ],
        vec![
            column(1, "a", ColumnType::Int),
            nested(2, 1, "b", ColumnType::Int),
        ],
        deep.collect(),
    ] {
        assert!(schema(0, columns.clone()).fault().is_some(), "{columns:?}");
    }
    let sound = vec![list, nested(2, 1, "element", ColumnType::Int)];
    assert_eq!(schema(0, sound).fault(), None);
}

#[test]
fn files_are_divided_in_another_way_from_then_on() {
    let mut scene = Scene::new();
    for (by, id) in [
        (PartitionBy::Hour, 2),
        (PartitionBy::Hour, 2),
        (PartitionBy::Day, 1),
        (PartitionBy::None, 0),
    ] {
        scene
            .alter(AlterTable {
                by: Some(by),
                ..nothing_altered()
            })
            .unwrap();
        assert_eq!(scene.table().spec(), PartitionSpec { id, by });
    }
    assert_eq!(scene.table().specs().len(), 3);
}

#[test]
fn several_ops_of_one_commit_make_one_snapshot() {
    let mut scene = Scene::with_records(4);
    let (first, second) = (scene.manifest(0, 2), scene.manifest(2, 4));
    let whole = scene.manifest(0, 4);
    let removes = vec![first.id, second.id];
    let table = TABLE;
    let archive = |manifest| Op::Archive(Archive { table, manifest });
    let ops = vec![
        archive(first),
        archive(second),
        Op::RewriteFiles(RewriteFiles {
            table,
            removes: removes.clone(),
            manifest: whole,
        }),
    ];
    let seq = scene.log.state.seq().next();
    scene.log.state.apply(seq, &commit(seq.0, ops), 64);
    assert_eq!(scene.log.state.check(), Ok(()));
    let table = scene.table();
    assert_eq!((table.snapshots().len(), table.version()), (1, seq));
    assert_eq!(table.manifests_of(seq).len(), 1);
    // No snapshot ever named what came and went in it.
    assert!(table.retired().all(|retired| retired.unnamed.is_some()));
    for manifest in removes {
        scene.deleted(manifest).unwrap();
    }
}

#[test]
fn a_cluster_of_an_older_level_has_no_tables() {
    let mut log = Log::new();
    assert!(log.apply(create_table(TABLE, TOPIC, "t")).is_err());
    assert_eq!(log.state.tables().count(), 0);
}

/// Aims an op at what is in the state, so that it is mostly accepted. `n` is used once.
pub(in crate::state) fn aim(op: &mut Op, state: &State, n: u128) {
    let Some(table) = state.tables().find(|table| !table.is_dropped()) else {
        return;
    };
    let id = table.id();
    let new = |part: u128| FileId(Uuid::from_u128(n * 4 + part + 1000));
    let first = || table.manifests().next();
    match op {
        Op::AlterTable(alter) => {
            alter.table = id;
            if let Some(schema) = &mut alter.schema {
                let newest = table.schema();
                schema.id = newest.id + 1;
                schema.columns.splice(..1, newest.columns.clone());
                for (index, column) in schema.columns.iter_mut().enumerate() {
                    let index = u32::try_from(index).unwrap();
                    if index as usize >= newest.columns.len() {
                        column.id = FieldId(table.last_column().0 + 1 + index);
                        column.name = format!("c{}", column.id.0);
                    }
                }
            }
        }
        Op::DropTable { table } => {
            let dropped = state.tables().find(|table| !table.is_enabled());
            *table = dropped.map_or(id, Table::id);
        }
        Op::Archive(archive) => {
            let Some(topic) = table.topic().and_then(|topic| state.topic(topic)) else {
                return;
            };
            let ranges = topic.partitions().filter_map(|(at, partition)| {
                let base = state.archive_position(at);
                let end = partition.high_watermark();
                (base < end).then(|| range(at.partition.0, base.0, end.0))
            });
            archive.table = id;
            archive.manifest = manifest(new(0), new(1), 1, ranges.collect());
        }
        Op::RewriteFiles(rewrite) => {
            rewrite.table = id;
            let some: Vec<&LiveManifest> = table.manifests().take(2).collect();
            rewrite.removes = some.iter().map(|live| live.manifest.id).collect();
            let rows = some.iter().map(|live| live.manifest.rows()).sum();
            let ranges = some.iter().flat_map(|live| &live.manifest.ranges);
            rewrite.manifest = manifest(new(2), new(3), rows, OffsetRange::joined(ranges));
            if n.is_multiple_of(2) {
                let files = some.iter().flat_map(|live| live.manifest.files.clone());
                rewrite.manifest.files = files.collect();
            }
        }
        Op::ExpireSnapshots { table: of, before } => {
            *of = id;
            *before = table.snapshot().map_or(*before, |newest| newest.seq);
        }
        Op::ExpireFiles {
            table,
            through,
            as_of,
        } => {
            *table = id;
            *through = first().map_or(*through, |live| live.manifest.id);
            *as_of = Seq(1000);
        }
        Op::ManifestsDeleted { table, manifests } => {
            let unnamed = state.tables().find_map(|table| {
                let mut retired = table.retired();
                let unnamed = retired.find(|retired| retired.unnamed.is_some())?;
                Some((table.id(), unnamed.manifest.id))
            });
            if let Some((of, manifest)) = unnamed {
                (*table, *manifests) = (of, vec![manifest]);
            }
        }
        _ => {}
    }
}
