//! Manifests, lists and metadata.
//!
//! A table is written as the archive writes it. With `WEIR_TABLE_DIR` set to a folder, it is left there with its
//! metadata, for engines to read.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::json;
use uuid::Uuid;

use super::{header, record, rewrite};
use crate::state::op::{
    AlterTable, Append, AppendEntry, AppendSource, Archive, Commit, CreateTable, CreateTopic, Op,
    RewriteFiles,
};
use crate::state::table::{DataFile, Manifest, OffsetRange, PartitionBy, Table};
use crate::state::{Folded, Level, State};
use crate::table::iceberg::{Location, ManifestFile, manifest, manifest_list, table_metadata};
use crate::table::typing::{Evolution, Typing};
use crate::table::{ArchivedRecord, Columns, Pass, TableWriter, WriterOptions, base_schema};
use crate::types::{
    CommitId, FileId, Incarnation, LogId, Offset, PartitionIndex, TableId, TableName, Timestamp,
    TopicId, TopicName, TopicPartition,
};

const TOPIC: TopicId = TopicId(Uuid::from_u128(7));
const TABLE: TableId = TableId(Uuid::from_u128(70));
const DAY: i64 = 86_400_000;

/// A log with a table, and the objects that its ops name.
pub(super) struct Archiving {
    state: State,
    location: Location,
    pub(super) objects: BTreeMap<String, Bytes>,
    ids: u128,
    typing: Typing,
}

impl Archiving {
    fn new(location: &str, by: PartitionBy) -> Archiving {
        let mut archiving = Archiving {
            state: State::new(),
            location: Location::new(location),
            objects: BTreeMap::new(),
            ids: 0,
            typing: Typing::default(),
        };
        archiving.apply(Op::RaiseLevel { to: Level::NEWEST });
        archiving.apply(Op::CreateTopic(CreateTopic {
            id: TOPIC,
            name: TopicName::new("orders.eu-1").unwrap(),
            partitions: 3,
            configs: BTreeMap::new(),
            replicas: None,
        }));
        for partition in 0..3 {
            archiving.apply(Op::Append(Append {
                partition: TopicPartition {
                    topic: TOPIC,
                    partition: PartitionIndex(partition),
                },
                source: AppendSource::Inline,
                entries: vec![AppendEntry {
                    start: 0,
                    len: 100,
                    records: 1_000_000,
                    max_timestamp: Timestamp(5),
                    producer: None,
                }],
            }));
        }
        archiving.apply(Op::CreateTable(CreateTable {
            id: TABLE,
            topic: TOPIC,
            name: TableName::new("orders_eu_1").unwrap(),
            schema: base_schema(),
            by,
        }));
        archiving
    }

    fn apply(&mut self, op: Op) {
        let seq = self.state.seq().next();
        let commit = Commit {
            id: CommitId {
                incarnation: Incarnation(Uuid::from_u128(1)),
                counter: seq.0,
            },
            time: Timestamp(1_767_225_600_000 + seq.0 as i64),
            ops: vec![op],
            follows: None,
            forwarded: Vec::new(),
            wall: None,
            log: LogId::ZERO,
        };
        match self.state.apply(seq, &commit, 64) {
            Folded::Outcomes(outcomes) => {
                assert!(matches!(outcomes[..], [Ok(_)]), "{outcomes:?}");
            }
            folded => panic!("{folded:?}"),
        }
    }

    fn table(&self) -> &Table {
        self.state.table(TABLE).unwrap()
    }

    fn id(&mut self) -> FileId {
        self.ids += 1;
        // A UUID v7 of a time after every boundary.
        FileId(
            uuid::Builder::from_unix_timestamp_millis(
                1_767_225_600_000,
                &(self.ids as u64).to_be_bytes().repeat(2)[..10]
                    .try_into()
                    .unwrap(),
            )
            .into_uuid(),
        )
    }

    /// The manifest of these records, whose objects are stored.
    fn write(&mut self, records: &[ArchivedRecord], ranges: Vec<OffsetRange>) -> Manifest {
        let columns = Columns::new(self.table().schema().clone()).unwrap();
        let (by, last) = (self.table().spec().by, self.table().last_column());
        let options = WriterOptions::default();
        let mut writer = TableWriter::typed(columns, &self.typing, last, by, options);
        for record in records {
            writer.push(&record.row()).unwrap();
        }
        let pass = writer.finish().unwrap();
        self.store(pass, ranges)
    }

    /// The manifest of what a pass wrote, whose objects are stored.
    fn store(&mut self, pass: Pass, ranges: Vec<OffsetRange>) -> Manifest {
        let spec = *self
            .table()
            .specs()
            .iter()
            .find(|spec| spec.by == pass.by)
            .unwrap();
        let mut files = Vec::new();
        let (mut errors, mut min, mut max) = (0, Timestamp(i64::MAX), Timestamp(i64::MIN));
        for finished in pass.files {
            errors += finished.errors;
            min = min.min(finished.min_timestamp);
            max = max.max(finished.max_timestamp);
            let file = DataFile {
                id: self.id(),
                bytes: finished.bytes.len() as u64,
                crc32c: finished.crc32c,
                rows: finished.rows,
                partition: finished.value.filter(|_| spec.by != PartitionBy::None),
            };
            self.objects
                .insert(self.location.data_file(file.id), finished.bytes);
            files.push(ManifestFile {
                file,
                stats: finished.stats,
            });
        }
        let schema = self.table().schema();
        let bytes = manifest(&self.location, schema, spec, &files).unwrap();
        let made = Manifest {
            bytes: bytes.len() as u64,
            crc32c: crc32c::crc32c(&bytes),
            schema: schema.id,
            spec: spec.id,
            files: files.iter().map(|file| file.file).collect(),
            ranges,
            errors,
            min_timestamp: min,
            max_timestamp: max,
            id: self.id(),
        };
        self.objects
            .insert(self.location.manifest(made.id), bytes.into());
        made
    }

    /// Archives these records, all there are of `ranges`.
    pub(super) fn archive(
        &mut self,
        records: &[ArchivedRecord],
        ranges: Vec<OffsetRange>,
    ) -> FileId {
        let manifest = self.write(records, ranges);
        let id = manifest.id;
        self.apply(Op::Archive(Archive {
            table: TABLE,
            manifest,
        }));
        id
    }

    /// From now on values have this schema.
    fn give_schema(&mut self, schema: &str) {
        self.typing = Typing::new("bytes", "", "json", schema).unwrap();
        let table = self.table();
        let evolution = Evolution::new(&self.typing, table.schema(), table.last_column());
        self.apply(Op::AlterTable(AlterTable {
            table: TABLE,
            schema: evolution.schema(),
            by: None,
            enabled: None,
        }));
    }

    /// Puts one manifest in the place of all of these, with the same rows.
    fn merge(&mut self, removes: Vec<FileId>, ranges: Vec<OffsetRange>) {
        let table = self.table();
        let live: Vec<&Manifest> = table.manifests().map(|live| &live.manifest).collect();
        let merged = live
            .iter()
            .filter(|manifest| removes.contains(&manifest.id));
        let files = merged
            .flat_map(|manifest| &manifest.files)
            .map(|file| self.objects[&self.location.data_file(file.id)].clone());
        let columns = Columns::new(table.schema().clone()).unwrap();
        let mut writer = TableWriter::new(columns, table.spec().by, WriterOptions::default());
        rewrite(&mut writer, files.collect()).unwrap();
        let manifest = self.store(writer.finish().unwrap(), ranges);
        self.apply(Op::RewriteFiles(RewriteFiles {
            table: TABLE,
            removes,
            manifest,
        }));
    }

    /// Stores what is derived, as any node would.
    pub(super) fn publish(&mut self) -> String {
        let derived = derived(&self.state, &self.location);
        let path = derived.keys().find(|path| path.ends_with(".metadata.json"));
        let path = path.unwrap().clone();
        self.objects.extend(derived);
        path
    }
}

/// What a node derives of the table, by path.
fn derived(state: &State, location: &Location) -> BTreeMap<String, Bytes> {
    let table = state.table(TABLE).unwrap();
    let mut objects = BTreeMap::new();
    for snapshot in table.snapshots() {
        let list = manifest_list(table, snapshot, location);
        objects.insert(location.manifest_list(snapshot.seq), list.into());
    }
    let metadata = table_metadata(table, location).unwrap();
    let path = format!(
        "{}/metadata/v{}.metadata.json",
        location.as_str(),
        table.version()
    );
    objects.insert(path, metadata.into());
    objects
}

pub(super) fn range(partition: i32, base: i64, end: i64) -> OffsetRange {
    OffsetRange {
        partition: PartitionIndex(partition),
        base: Offset(base),
        end: Offset(end),
    }
}

/// Everything that readers stumble over.
fn odd_records() -> Vec<ArchivedRecord> {
    let mut records = Vec::new();
    let mut add = |change: &dyn Fn(&mut ArchivedRecord)| {
        let mut record = record(0, records.len() as i64);
        change(&mut record);
        records.push(record);
    };
    let timestamps = [
        -1,
        0,
        253_402_300_799_999,
        -62_135_596_800_000,
        i64::MAX,
        i64::MIN,
        // A quarter to midnight in UTC: another day in Kolkata.
        1_767_225_600_000 - 900_000,
    ];
    for timestamp in timestamps {
        add(&|record| record.timestamp = Timestamp(timestamp));
    }
    add(&|record| record.key = Some(Bytes::new()));
    add(&|record| record.key = Some(Bytes::from_static(b"key")));
    add(&|record| record.key = Some(Bytes::from_static(b"\xff\x00\xfe")));
    add(&|record| record.value = None);
    add(&|record| record.value = Some(Bytes::new()));
    add(&|record| record.value = Some(Bytes::from(vec![0xab; 1 << 20])));
    add(&|record| {
        record.headers = vec![
            header(b"h", Some(b"1")),
            header(b"h", Some(b"2")),
            header(b"h", None),
            header(b"", Some(b"")),
        ];
    });
    add(&|record| record.headers = vec![header(b"\xff", Some(b"v"))]);
    records
}

fn plain(partition: i32, offsets: std::ops::Range<i64>, days: i64) -> Vec<ArchivedRecord> {
    offsets
        .map(|offset| ArchivedRecord {
            key: Some(Bytes::from(format!("key {}", offset % 100))),
            timestamp: Timestamp(1_767_225_600_000 + offset % days * DAY),
            ..record(partition, offset)
        })
        .collect()
}

pub(super) fn archived(location: &str) -> Archiving {
    let mut archiving = Archiving::new(location, PartitionBy::Day);
    let odd = odd_records();
    let mut records = odd.clone();
    records.extend(plain(1, 0..1_000, 2));
    let count = odd.len() as i64;
    archiving.archive(&records, vec![range(0, 0, count), range(1, 0, 1_000)]);
    archiving.publish();
    let (second, third) = (plain(1, 1_000..1_500, 3), plain(1, 1_500..2_500, 100));
    let removes = vec![
        archiving.archive(&second, vec![range(1, 1_000, 1_500)]),
        // More days than are divided.
        archiving.archive(&third, vec![range(1, 1_500, 2_500)]),
    ];
    archiving.archive(&plain(2, 0..10, 1), vec![range(2, 0, 10)]);
    archiving.publish();
    archiving.merge(removes, vec![range(1, 1_000, 2_500)]);
    archiving
}

/// A table whose schema grew and widened, partly merged.
pub(super) fn typed(location: &str) -> Archiving {
    let value = |offset: i64, value: serde_json::Value| ArchivedRecord {
        value: Some(value.to_string().into()),
        ..record(0, offset)
    };
    let mut archiving = Archiving::new(location, PartitionBy::Month);
    archiving.give_schema(
        r#"{"properties": {"n": {"type": "integer", "format": "int32"}, "f": {"type": "number", "format": "float"},
            "o": {"properties": {"a": {"type": "string"}}}, "l": {"type": "array", "items": {"type": "integer"}},
            "at": {"type": "string", "format": "date-time"}, "day": {"type": "string", "format": "date"},
            "ok": {"type": "boolean"}, "blob": {"type": "string", "contentEncoding": "base64"}}}"#,
    );
    let first: Vec<ArchivedRecord> = (0..100)
        .map(|n| {
            value(n, json!({
                "n": n, "f": n as f64 / 2.0, "o": {"a": format!("text {n}")}, "l": [n, null], "ok": n % 2 == 0,
                "at": "2026-01-01T12:00:00+05:30", "day": "1969-12-31", "blob": "AAE="
            }))
        })
        .collect();
    let mut removes = vec![archiving.archive(&first, vec![range(0, 0, 100)])];
    archiving.give_schema(
        r#"{"properties": {"n": {"type": "integer"}, "f": {"type": "number"},
            "o": {"properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}}}"#,
    );
    let second: Vec<ArchivedRecord> = (100..200)
        .map(|n| {
            value(
                n,
                json!({"n": n + 5_000_000_000i64, "f": 0.25, "o": {"b": n}}),
            )
        })
        .collect();
    removes.push(archiving.archive(&second, vec![range(0, 100, 200)]));
    archiving.publish();
    let third = [
        value(200, json!({"n": "no number", "f": f64::MAX})),
        value(201, json!([])),
    ];
    archiving.archive(&third, vec![range(0, 200, 202)]);
    if location.ends_with("merged") {
        archiving.merge(removes, vec![range(0, 0, 200)]);
    }
    archiving
}

#[test]
fn schemas_of_before_keep_their_types() {
    let mut archiving = typed("s3://bucket/archive/orders_eu_1");
    let path = archiving.publish();
    let metadata: serde_json::Value = serde_json::from_slice(&archiving.objects[&path]).unwrap();
    let of = |schema: usize| -> Vec<String> {
        let fields = metadata["schemas"][schema]["fields"].as_array().unwrap();
        let named = fields
            .iter()
            .filter(|field| ["n", "f"].contains(&field["name"].as_str().unwrap()));
        named
            .map(|field| format!("{} {} {}", field["id"], field["type"], field["doc"]))
            .collect()
    };
    assert_eq!(metadata["current-schema-id"], 2);
    assert_eq!(of(0), [""; 0]);
    let (f, n) = ("103 \"float\" \"value/f\"", "106 \"int\" \"value/n\"");
    assert_eq!(of(1), [f, n]);
    assert_eq!(
        of(2),
        [f.replace("float", "double"), n.replace("int", "long")]
    );
    let schemas: Vec<u32> = archiving
        .table()
        .manifests()
        .map(|live| live.manifest.schema)
        .collect();
    assert_eq!(schemas, [1, 2, 2]);
}

#[test]
fn every_node_derives_the_same_bytes() {
    let archiving = archived("s3://bucket/archive/orders_eu_1/");
    let here = derived(&archiving.state, &archiving.location);
    let there = State::from_bytes(&archiving.state.to_bytes()).unwrap();
    assert_eq!(here, derived(&there, &archiving.location));
    assert_eq!(here.len(), 6);
    // They are stored by nodes of all versions, so they are the same in every version.
    let crcs: Vec<String> = here
        .iter()
        .map(|(path, bytes)| format!("{path} {} {:08x}", bytes.len(), crc32c::crc32c(bytes)))
        .collect();
    let table = archiving.table();
    let listed = table
        .snapshots()
        .iter()
        .map(|snapshot| table.manifests_of(snapshot.seq).len());
    assert_eq!(listed.collect::<Vec<_>>(), [1, 2, 3, 4, 3], "{crcs:#?}");
}

#[test]
fn metadata_says_what_the_table_is() {
    let mut archiving = archived("s3://bucket/archive/orders_eu_1");
    let path = archiving.publish();
    let metadata: serde_json::Value = serde_json::from_slice(&archiving.objects[&path]).unwrap();
    assert_eq!(metadata["format-version"], 2);
    assert_eq!(metadata["location"], "s3://bucket/archive/orders_eu_1");
    assert_eq!(
        metadata["partition-specs"][0]["fields"],
        serde_json::json!([])
    );
    assert_eq!(
        metadata["partition-specs"][1]["fields"],
        serde_json::json!([
            {"source-id": 3, "field-id": 1000, "name": "timestamp_day", "transform": "day"}
        ])
    );
    let newest = archiving.table().snapshot().unwrap();
    assert_eq!(metadata["current-snapshot-id"], newest.seq.0);
    let last = &metadata["snapshots"][4];
    assert_eq!(last["summary"]["operation"], "replace");
    let rows = odd_records().len() + 2_500 + 10;
    assert_eq!(last["summary"]["total-records"], rows.to_string());
    assert_eq!(last["summary"]["rows-with-errors"], "3");
    let fields = metadata["schemas"][0]["fields"].as_array().unwrap();
    assert_eq!(fields[6]["type"]["element"]["fields"][1]["type"], "binary");
    // What every list names is there.
    let stored = |id| {
        archiving
            .objects
            .contains_key(&archiving.location.manifest(id))
    };
    assert!(
        archiving
            .table()
            .manifests()
            .all(|live| stored(live.manifest.id))
    );

    let none = Archiving::new("file:///t", PartitionBy::None);
    let metadata = table_metadata(none.table(), &none.location).unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&metadata).unwrap();
    assert_eq!(metadata["current-snapshot-id"], -1);
    assert_eq!(metadata["partition-specs"].as_array().unwrap().len(), 1);
}

#[test]
fn tables_are_written_for_engines() {
    let Ok(folder) = std::env::var("WEIR_TABLE_DIR") else {
        return;
    };
    let folder = std::path::absolute(folder).unwrap();
    let location = |name: &str| format!("file://{}/{name}", folder.display());
    store(archived(&location("base")));
    store(typed(&location("typed")));
    store(typed(&location("merged")));
}

/// Writes a table to files.
fn store(mut archiving: Archiving) {
    archiving.publish();
    for (path, bytes) in &archiving.objects {
        let path = std::path::Path::new(path.strip_prefix("file://").unwrap());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let version = archiving.table().version();
    let folder = archiving.location.as_str().strip_prefix("file://").unwrap();
    let hint = format!("{folder}/metadata/version-hint.text");
    std::fs::write(hint, version.to_string()).unwrap();
}
