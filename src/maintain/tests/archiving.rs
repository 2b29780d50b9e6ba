//! Tables, from the records of a topic to what engines read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::invariants::at_rest::archive_equals_log;
use crate::maintain::fsck::{FsckOptions, fsck};
use crate::state::op::{AlterTable, CreateTable};
use crate::state::table::{MAX_SCHEMAS, PartitionBy, Schema, Table};
use crate::store::{ArchiveObject, RequestKind};
use crate::table::{base_schema, records_of_file};
use crate::testing::{Fault, Faulty};
use crate::types::{TableId, TableName};

const GRACE: Duration = Duration::from_secs(15 * 60);
const ARCHIVED: &[(&str, &str)] = &[("archive.enable", "true"), ("archive.lag", "5000")];

/// All that is in the newest version of a table: how often each offset of each partition is there.
async fn offsets(store: &Store, table: &Table) -> BTreeMap<(i32, i64), usize> {
    let mut found = BTreeMap::new();
    for file in table.manifests().flat_map(|live| &live.manifest.files) {
        let path = ObjectPath::archive(table.name(), ArchiveObject::Data(file.id));
        let bytes = store.get(&path, RequestKind::ArchiveGet).await.unwrap();
        let records = records_of_file(bytes).unwrap();
        assert_eq!(records.len() as u64, file.rows);
        for record in records {
            *found
                .entry((record.partition.0, record.offset.0))
                .or_default() += 1;
        }
    }
    found
}

fn table(w: &Worker, name: &str) -> Table {
    w.state().table_by_name(name).unwrap().clone()
}

/// Everything archived of `partitions` of a topic of so many records each is there once, and nothing else.
async fn assert_archived(store: &Store, w: &Worker, name: &str, expected: &[(i32, i64)]) {
    let table = table(w, name);
    assert_eq!(archive_equals_log(&w.state(), &table), None);
    let found = offsets(store, &table).await;
    let all: BTreeMap<(i32, i64), usize> = expected
        .iter()
        .flat_map(|(partition, records)| (0..*records).map(|offset| ((*partition, offset), 1)))
        .collect();
    assert_eq!(found, all);
}

async fn assert_sound(store: &Store, w: &Worker) {
    let options = FsckOptions {
        deep: true,
        now: w.env.wall(),
    };
    let report = fsck(store, options, &()).await.unwrap();
    assert!(report.is_sound(), "{:#?}", report.findings);
}

#[tokio::test(start_paused = true)]
pub(super) async fn a_topic_with_records_is_archived_from_its_beginning_and_kept_up() {
    let store = Store::memory();
    let a = worker(&store, 1).await;
    a.topic("orders.eu-1", 2, &[]).await;
    for partition in [0, 1, 1] {
        a.produce("orders.eu-1", partition, 100).await;
    }
    assert!(!archive::run(&a.jobs).await.unwrap());
    a.set("orders.eu-1", "archive.enable", "true").await;
    a.set("orders.eu-1", "archive.lag", "5000").await;
    wait(Duration::from_secs(6)).await;
    assert!(archive::run(&a.jobs).await.unwrap());
    assert_archived(&store, &a, "orders_eu_1", &[(0, 2), (1, 4)]).await;
    // What is younger than the lag waits.
    a.produce("orders.eu-1", 0, 100).await;
    let before = table(&a, "orders_eu_1").version();
    archive::run(&a.jobs).await.unwrap();
    assert_eq!(table(&a, "orders_eu_1").version(), before);
    wait(Duration::from_secs(6)).await;
    assert!(archive::run(&a.jobs).await.unwrap());
    assert_archived(&store, &a, "orders_eu_1", &[(0, 4), (1, 4)]).await;
    assert_sound(&store, &a).await;
}

#[tokio::test(start_paused = true)]
pub(super) async fn each_version_is_published_and_the_hint_names_the_newest() {
    let store = Store::memory();
    let a = worker(&store, 1).await;
    a.topic("t", 1, ARCHIVED).await;
    for _ in 0..3 {
        a.produce("t", 0, 100).await;
        wait(Duration::from_secs(6)).await;
        archive::run(&a.jobs).await.unwrap();
    }
    let table = table(&a, "t");
    let path = |object| ObjectPath::archive(table.name(), object);
    let get = async |object| {
        let bytes = store.get(&path(object), RequestKind::ArchiveGet).await;
        bytes.unwrap()
    };
    let version = table.version();
    assert_eq!(get(ArchiveObject::Hint).await, version.to_string());
    let metadata = get(ArchiveObject::Metadata(version)).await;
    let metadata: serde_json::Value = serde_json::from_slice(&metadata).unwrap();
    assert_eq!(metadata["format-version"], 2);
    assert_eq!(table.snapshots().len(), 3);
    for snapshot in table.snapshots() {
        get(ArchiveObject::List(snapshot.seq)).await;
    }
    // Another node that publishes finds what is there, and puts right what is not as it should be.
    let list = path(ArchiveObject::List(version));
    let damaged = vec![Bytes::from_static(b"damaged")];
    let kind = RequestKind::ArchivePut;
    store.put_unique(&list, damaged, kind).await.unwrap();
    let b = worker_in(&store, Env::simulated(2, a.env.wall()), |_| {}).await;
    archive::run(&b.jobs).await.unwrap();
    assert_sound(&store, &b).await;
}

#[tokio::test(start_paused = true)]
pub(super) async fn small_neighbours_are_merged_and_what_they_were_goes_after_the_grace_period() {
    let store = Store::memory();
    let merging = |options: &mut MaintenanceOptions| {
        options.archive.merge_at = 3;
        options.archive.merge_wait = 100 * DAY;
    };
    let a = worker_with(&store, 1, merging).await;
    a.topic("t", 1, ARCHIVED).await;
    for _ in 0..2 {
        a.produce("t", 0, 100).await;
        wait(Duration::from_secs(6)).await;
        archive::run(&a.jobs).await.unwrap();
    }
    let before = table(&a, "t");
    assert_eq!(before.manifest_count(), 2);
    a.produce("t", 0, 100).await;
    wait(Duration::from_secs(6)).await;
    archive::run(&a.jobs).await.unwrap();
    assert_eq!(table(&a, "t").manifest_count(), 1);
    assert_archived(&store, &a, "t", &[(0, 6)]).await;
    assert_eq!(table(&a, "t").retired().count(), 3);
    // While a snapshot names it, all of it can be read.
    wait(2 * GRACE).await;
    archive::run(&a.jobs).await.unwrap();
    assert_eq!(offsets(&store, &before).await.len(), 4);
    wait(DAY + HOUR + MINUTE).await;
    a.produce("t", 0, 100).await;
    archive::run(&a.jobs).await.unwrap();
    wait(GRACE - MINUTE).await;
    archive::run(&a.jobs).await.unwrap();
    assert_eq!(offsets(&store, &before).await.len(), 4);
    wait(2 * MINUTE).await;
    a.produce("t", 0, 100).await;
    archive::run(&a.jobs).await.unwrap();
    assert_eq!(table(&a, "t").retired().count(), 0);
    let files = names(&store, ObjectPrefix::Archive).await;
    let data = files
        .iter()
        .filter(|path| path.as_str().ends_with(".parquet"));
    let live: u64 = table(&a, "t").total().files;
    assert_eq!(data.count() as u64, live);
    assert_sound(&store, &a).await;
}

#[tokio::test(start_paused = true)]
pub(super) async fn records_expire_after_they_are_archived_and_the_table_by_its_own_settings() {
    let store = Store::memory();
    let a = worker(&store, 1).await;
    let expiring = [
        ("archive.enable", "true"),
        ("archive.lag", "86400000"),
        ("archive.retention.ms", "172800000"),
        ("retention.ms", "600000"),
    ];
    a.topic("t", 1, &expiring).await;
    a.produce("t", 0, 100).await;
    wait(2 * HOUR).await;
    // Not archived yet, so it stays; with a table, and without.
    assert!(!retention::run(&a.jobs).await.unwrap());
    archive::run(&a.jobs).await.unwrap();
    assert!(!retention::run(&a.jobs).await.unwrap());
    a.set("t", "archive.lag", "1000").await;
    archive::run(&a.jobs).await.unwrap();
    assert!(retention::run(&a.jobs).await.unwrap());
    assert_eq!(a.log_start("t", 0), 2);
    assert_archived(&store, &a, "t", &[(0, 2)]).await;
    wait(3 * DAY).await;
    a.topic("tick", 1, &[]).await;
    archive::run(&a.jobs).await.unwrap();
    assert_eq!(table(&a, "t").manifest_count(), 0);
    // Nor is there anything left of a topic that is deleted, in the end.
    a.commit(Op::DeleteTopic {
        topic: table(&a, "t").topic().unwrap(),
    })
    .await
    .unwrap();
    for _ in 0..4 {
        wait(2 * DAY).await;
        a.topic("other", 1, &[]).await;
        a.commit(Op::DeleteTopic {
            topic: a.partition("other", 0).topic,
        })
        .await
        .unwrap();
        archive::run(&a.jobs).await.unwrap();
    }
    assert!(a.state().table_by_name("t").is_none());
}

#[tokio::test(start_paused = true)]
pub(super) async fn the_sweep_takes_files_of_no_table_and_no_others() {
    let store = Store::memory();
    let a = worker(&store, 1).await;
    a.topic("t", 1, ARCHIVED).await;
    a.produce("t", 0, 100).await;
    wait(Duration::from_secs(6)).await;
    archive::run(&a.jobs).await.unwrap();
    let known = names(&store, ObjectPrefix::Archive).await;
    let orphan = async || {
        let id = a.node.manifest().mint_file();
        let path = ObjectPath::archive(table(&a, "t").name(), ArchiveObject::Data(id));
        let body = vec![Bytes::from_static(b"x")];
        let kind = RequestKind::ArchivePut;
        store.put_unique(&path, body, kind).await.unwrap();
        path
    };
    let old = orphan().await;
    wait(4 * HOUR).await;
    let young = orphan().await;
    a.produce("t", 0, 100).await;
    sweep::run(&a.jobs).await.unwrap();
    let left = names(&store, ObjectPrefix::Archive).await;
    assert!(!left.contains(&old) && left.contains(&young));
    assert!(known.is_subset(&left));
}

#[tokio::test(start_paused = true)]
pub(super) async fn a_file_whose_op_may_have_taken_effect_is_left_to_the_sweep() {
    let store = Store::memory();
    let a = worker(&store, 1).await;
    a.topic("t", 1, ARCHIVED).await;
    for _ in 0..2 {
        wait(Duration::from_secs(6)).await;
        archive::run(&a.jobs).await.unwrap();
        a.produce("t", 0, 100).await;
    }
    wait(Duration::from_secs(6)).await;
    let slow = |options: &mut MaintenanceOptions| {
        options.compaction.bandwidth = Some(ByteCount(10_000));
    };
    let env = Env::simulated(2, a.env.wall());
    let Worker { node, jobs, .. } = worker_in(&store, env, slow).await;
    node.manifest().fresh().await.unwrap();
    jobs.pace(100_000).await;
    let (done, ()) = tokio::join!(archive::run(&jobs), async {
        wait(Duration::from_secs(1)).await;
        node.stop(Duration::from_secs(1)).await;
    });
    assert!(matches!(done, Err(JobError::Stopped(_))), "{done:?}");
    let left = names(&store, ObjectPrefix::Archive).await;
    let data = left
        .iter()
        .filter(|path| path.as_str().ends_with(".parquet"));
    assert_eq!(data.count(), 2);
}

/// The requests of a node hang from some on, and are answered when it is gone: a commit among them may come late.
#[tokio::test(start_paused = true)]
pub(super) async fn a_node_that_is_cut_off_anywhere_while_it_archives_leaves_each_record_once() {
    let mut served = 0;
    loop {
        let last = Arc::new(AtomicUsize::new(usize::MAX));
        let until = last.clone();
        let (store, requests) = Faulty::store(move |n| {
            if n < until.load(Ordering::SeqCst) {
                Fault::None
            } else {
                Fault::Hangs
            }
        });
        let a = worker_with(&store, 1, |options| options.archive.merge_at = 2).await;
        a.topic("t", 2, ARCHIVED).await;
        a.produce("t", 0, 100).await;
        wait(Duration::from_secs(6)).await;
        archive::run(&a.jobs).await.unwrap();
        a.produce("t", 0, 100).await;
        a.produce("t", 1, 100).await;
        wait(Duration::from_secs(6)).await;
        last.store(requests.requests() + served, Ordering::SeqCst);
        let done = tokio::time::timeout(Duration::from_secs(10), archive::run(&a.jobs)).await;
        last.store(usize::MAX, Ordering::SeqCst);
        let now = a.env.wall();
        drop(a);
        let merging = |options: &mut MaintenanceOptions| options.archive.merge_at = 2;
        let b = worker_in(&store, Env::simulated(2, now), merging).await;
        wait(5 * MINUTE).await;
        b.produce("t", 1, 100).await;
        wait(Duration::from_secs(6)).await;
        archive::run(&b.jobs).await.unwrap();
        assert_archived(&store, &b, "t", &[(0, 4), (1, 4)]).await;
        assert_sound(&store, &b).await;
        if done.is_ok() {
            break;
        }
        served += 1;
    }
    assert!(served > 5, "{served} requests were cut off");
}

#[tokio::test(start_paused = true)]
pub(super) async fn fsck_finds_what_is_missing_damaged_or_not_what_is_derived_from_the_state() {
    let store = Store::memory();
    let a = worker(&store, 1).await;
    a.topic("t", 1, ARCHIVED).await;
    a.produce("t", 0, 100).await;
    wait(Duration::from_secs(6)).await;
    archive::run(&a.jobs).await.unwrap();
    let table = table(&a, "t");
    let manifest = &table.manifests().next().unwrap().manifest;
    let path = |object| ObjectPath::archive(table.name(), object);
    let data = path(ArchiveObject::Data(manifest.files[0].id));
    let metadata = path(ArchiveObject::Metadata(table.version()));
    let kind = RequestKind::ArchivePut;
    let found = async || {
        let options = FsckOptions {
            deep: true,
            now: a.env.wall(),
        };
        let report = fsck(&store, options, &()).await.unwrap();
        let found = report.findings.iter();
        let found = found.map(|finding| (finding.kind.id(), finding.object.clone()));
        found.collect::<BTreeSet<_>>()
    };
    assert_eq!(found().await, BTreeSet::new());
    let whole = store.get(&data, RequestKind::ArchiveGet).await.unwrap();
    let mut damaged = whole.to_vec();
    damaged[10] ^= 1;
    for (object, bytes, expected) in [
        (&data, Some(damaged), "corrupt"),
        (&data, Some(whole[1..].to_vec()), "wrong-length"),
        (&data, None, "missing-object"),
        (&metadata, Some(b"{}".to_vec()), "metadata-differs"),
    ] {
        let before = store.get(object, RequestKind::ArchiveGet).await.unwrap();
        match bytes {
            Some(bytes) => {
                let body = vec![Bytes::from(bytes)];
                store.put_unique(object, body, kind).await.unwrap();
            }
            None => store.delete(vec![object.clone()]).await.unwrap(),
        }
        let found = found().await;
        assert!(
            found.contains(&(expected, object.to_string())),
            "{expected}: {found:?}"
        );
        store.put_unique(object, vec![before], kind).await.unwrap();
    }
    assert_eq!(found().await, BTreeSet::new());
}

#[tokio::test(start_paused = true)]
pub(super) async fn a_compacted_slice_that_is_long_is_archived_part_by_part() {
    let store = Store::memory();
    let a = worker(&store, 1).await;
    a.topic("t", 2, &[]).await;
    for _ in 0..20 {
        a.produce("t", 0, 900_000).await;
    }
    a.produce("t", 1, 100).await;
    wait(Duration::from_secs(24 * 3600)).await;
    while compaction::run(&a.jobs).await.unwrap() {}
    let state = a.state();
    let partition = state.partition(a.partition("t", 0)).unwrap();
    let (_, slice) = partition.slices_from(Offset(0)).next().unwrap();
    assert!(slice.len > compaction::WINDOW && slice.index.is_some());
    // What came later is a slice by itself.
    a.produce("t", 0, 100).await;
    a.set("t", "archive.value.format", "json").await;
    a.set("t", "archive.enable", "true").await;
    wait(DAY).await;
    let reads = store.metrics().requests(RequestKind::CompactedGet);
    assert!(archive::run(&a.jobs).await.unwrap());
    let reads = store.metrics().requests(RequestKind::CompactedGet) - reads;
    assert!((9..40).contains(&reads), "{reads} requests");
    assert_archived(&store, &a, "t", &[(0, 42), (1, 2)]).await;
    assert_sound(&store, &a).await;
}

#[tokio::test(start_paused = true)]
pub(super) async fn while_nothing_can_be_published_nothing_that_engines_read_goes() {
    let cut = Arc::new(AtomicUsize::new(0));
    let is_cut = cut.clone();
    let (store, _) = Faulty::by_name(move |_, name| {
        let fails = is_cut.load(Ordering::SeqCst) > 0 && name.ends_with(".metadata.json");
        match fails {
            true => Fault::Denied,
            false => Fault::None,
        }
    });
    let merging = |options: &mut MaintenanceOptions| {
        options.archive.merge_at = 2;
        options.archive.merge_wait = 100 * DAY;
    };
    let a = worker_with(&store, 1, merging).await;
    a.topic("t", 1, ARCHIVED).await;
    a.produce("t", 0, 100).await;
    wait(Duration::from_secs(6)).await;
    archive::run(&a.jobs).await.unwrap();
    let read = table(&a, "t");
    cut.store(1, Ordering::SeqCst);
    a.produce("t", 0, 100).await;
    wait(Duration::from_secs(6)).await;
    archive::run(&a.jobs).await.unwrap_err();
    assert_eq!(table(&a, "t").manifest_count(), 1, "they were merged");
    for _ in 0..3 {
        wait(2 * DAY).await;
        archive::run(&a.jobs).await.unwrap_err();
    }
    // The newest version that engines can read.
    let snapshots: Vec<_> = table(&a, "t").snapshots().to_vec();
    assert!(snapshots.starts_with(read.snapshots()), "{snapshots:?}");
    assert_eq!(offsets(&store, &read).await.len(), 2);
    cut.store(0, Ordering::SeqCst);
    for _ in 0..2 {
        archive::run(&a.jobs).await.unwrap();
        wait(GRACE + MINUTE).await;
        a.produce("t", 0, 100).await;
    }
    archive::run(&a.jobs).await.unwrap();
    assert!(table(&a, "t").snapshots()[0].seq > read.version());
    assert_sound(&store, &a).await;
}

#[tokio::test(start_paused = true)]
pub(super) async fn a_table_has_another_name_if_both_of_its_own_are_taken_and_none_if_all_are() {
    let store = Store::memory();
    let a = worker(&store, 1).await;
    a.topic("t", 1, &[]).await;
    let id = a.partition("t", 0).topic;
    let digits = id.0.simple().to_string();
    let taken = ["t".to_owned(), format!("t_{}", &digits[..8])];
    let take = async |number: u128, name: &str| {
        let other = format!("other-{number}");
        a.topic(&other, 1, &[]).await;
        let create = Op::CreateTable(CreateTable {
            id: TableId(uuid::Uuid::from_u128(number)),
            topic: a.partition(&other, 0).topic,
            name: TableName::new(name).unwrap(),
            schema: base_schema(),
            by: PartitionBy::Day,
        });
        a.commit(create).await.unwrap();
        // It stays as it is.
        a.set(&other, "archive.enable", "true").await;
    };
    for (number, name) in (1..).zip(&taken) {
        take(number, name).await;
    }
    a.set("t", "archive.enable", "true").await;
    archive::run(&a.jobs).await.unwrap();
    let last = format!("t_{digits}");
    assert_eq!(table(&a, &last).topic(), Some(id));
    // The same for another topic, whose last name is taken, too: it has no table, nothing else is held up by it, and it
    // is no reason to ask the log again and again.
    a.topic("u", 1, &[]).await;
    let digits = a.partition("u", 0).topic.0.simple().to_string();
    let taken = [
        "u".to_owned(),
        format!("u_{}", &digits[..8]),
        format!("u_{digits}"),
    ];
    for (number, name) in (11..).zip(&taken) {
        take(number, name).await;
    }
    a.set("u", "archive.enable", "true").await;
    let tables = a.state().tables().count();
    archive::run(&a.jobs).await.unwrap();
    let state = a.state();
    assert!(state.table_of(a.partition("u", 0).topic).is_none());
    assert_eq!(state.tables().count(), tables);
    assert!(!archive::tables::keep_in_step(&a.jobs).await.unwrap());
    assert_eq!(a.state().seq(), state.seq());
}

#[tokio::test(start_paused = true)]
pub(super) async fn a_table_that_has_all_its_schemas_is_archived_with_the_last() {
    let store = Store::memory();
    let a = worker(&store, 1).await;
    a.topic("t", 1, ARCHIVED).await;
    a.set("t", "archive.value.format", "json").await;
    archive::run(&a.jobs).await.unwrap();
    let schemas = (1..MAX_SCHEMAS as u32).map(|number| {
        Op::AlterTable(AlterTable {
            table: table(&a, "t").id(),
            schema: Some(Schema {
                id: number,
                ..base_schema()
            }),
            by: None,
            enabled: None,
        })
    });
    let made = a.node.manifest().commit(schemas.collect()).await.unwrap();
    assert!(made.outcomes.iter().all(Result::is_ok));
    let mut batch = BatchBuilder::new(Codec::None);
    let value = br#"{"a": 1}"#;
    batch.push(a.env.wall(), None, Some(value), &[]).unwrap();
    a.produce_batch("t", 0, batch.finish().unwrap()).await;
    wait(Duration::from_secs(6)).await;
    archive::run(&a.jobs).await.unwrap();
    assert_archived(&store, &a, "t", &[(0, 1)]).await;
    assert_eq!(table(&a, "t").schemas().count(), MAX_SCHEMAS);
}
