//! The metadata of a table.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::state::table::{Counts, Table, TableSnapshot};
use crate::table::{OFFSET_ID, PARTITION_ID};

use super::manifest::SORT_ORDER;
use super::schema::{SchemaJson, SpecJson};
use super::{Location, partition_field};

/// The id before that of the first partition field.
const NO_PARTITION_FIELD: i32 = 999;
/// Iceberg's id of the snapshot of a table that has none.
const NO_SNAPSHOT: i64 = -1;

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct MetadataJson {
    format_version: u8,
    table_uuid: String,
    location: String,
    last_sequence_number: u64,
    last_updated_ms: i64,
    last_column_id: u32,
    current_schema_id: u32,
    schemas: Vec<SchemaJson>,
    default_spec_id: u32,
    partition_specs: Vec<SpecJson>,
    last_partition_id: i32,
    default_sort_order_id: i32,
    sort_orders: Vec<SortOrderJson>,
    properties: BTreeMap<&'static str, String>,
    current_snapshot_id: i64,
    refs: BTreeMap<&'static str, RefJson>,
    snapshots: Vec<SnapshotJson>,
    snapshot_log: Vec<LogJson>,
    metadata_log: [(); 0],
    statistics: [(); 0],
    partition_statistics: [(); 0],
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct SortOrderJson {
    order_id: i32,
    fields: Vec<SortFieldJson>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct SortFieldJson {
    transform: &'static str,
    source_id: u32,
    direction: &'static str,
    null_order: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct RefJson {
    snapshot_id: i64,
    r#type: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct SnapshotJson {
    sequence_number: u64,
    snapshot_id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_snapshot_id: Option<u64>,
    timestamp_ms: i64,
    summary: BTreeMap<&'static str, String>,
    manifest_list: String,
    schema_id: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct LogJson {
    timestamp_ms: i64,
    snapshot_id: u64,
}

/// The metadata of `table` in its present version, in JSON.
pub fn table_metadata(table: &Table, location: &Location) -> Result<Vec<u8>, serde_json::Error> {
    let snapshots = table.snapshots();
    let newest = table.snapshot().map(|snapshot| snapshot.seq.0);
    let current = newest.map_or(NO_SNAPSHOT, |seq| i64::try_from(seq).unwrap_or(i64::MAX));
    let partition_ids = table
        .specs()
        .iter()
        .filter_map(|spec| partition_field(spec.by));
    let main = RefJson {
        snapshot_id: current,
        r#type: "branch",
    };
    let metadata = MetadataJson {
        format_version: 2,
        table_uuid: table.id().to_string(),
        location: location.as_str().to_owned(),
        last_sequence_number: newest.unwrap_or(0),
        last_updated_ms: table.changed_at().0,
        last_column_id: table.last_column().0,
        current_schema_id: table.schema().id,
        schemas: table.schemas().map(SchemaJson::of).collect(),
        default_spec_id: table.spec().id,
        partition_specs: table
            .specs()
            .iter()
            .map(|spec| SpecJson::of(*spec))
            .collect(),
        last_partition_id: partition_ids
            .map(|(_, id, _)| id)
            .max()
            .unwrap_or(NO_PARTITION_FIELD),
        default_sort_order_id: SORT_ORDER,
        sort_orders: sort_orders(),
        properties: properties(location),
        current_snapshot_id: current,
        refs: newest.map(|_| ("main", main)).into_iter().collect(),
        snapshots: snapshots
            .iter()
            .map(|snapshot| snapshot_json(snapshot, location))
            .collect(),
        snapshot_log: snapshots
            .iter()
            .map(|snapshot| LogJson {
                timestamp_ms: snapshot.time.0,
                snapshot_id: snapshot.seq.0,
            })
            .collect(),
        metadata_log: [],
        statistics: [],
        partition_statistics: [],
    };
    serde_json::to_vec(&metadata)
}

fn sort_orders() -> Vec<SortOrderJson> {
    let by = |source_id| SortFieldJson {
        transform: "identity",
        source_id,
        direction: "asc",
        null_order: "nulls-first",
    };
    vec![
        SortOrderJson {
            order_id: 0,
            fields: Vec::new(),
        },
        SortOrderJson {
            order_id: SORT_ORDER,
            fields: vec![by(PARTITION_ID.0), by(OFFSET_ID.0)],
        },
    ]
}

fn properties(location: &Location) -> BTreeMap<&'static str, String> {
    let location = location.as_str();
    BTreeMap::from([
        // Files are deleted by Weir, and by no procedure of an engine.
        ("gc.enabled", "false".to_owned()),
        ("write.data.path", format!("{location}/data")),
        ("write.format.default", "parquet".to_owned()),
        ("write.metadata.path", format!("{location}/metadata")),
        ("write.parquet.compression-codec", "zstd".to_owned()),
    ])
}

fn snapshot_json(snapshot: &TableSnapshot, location: &Location) -> SnapshotJson {
    SnapshotJson {
        sequence_number: snapshot.seq.0,
        snapshot_id: snapshot.seq.0,
        parent_snapshot_id: snapshot.parent.map(|parent| parent.0),
        timestamp_ms: snapshot.time.0,
        summary: summary(snapshot),
        manifest_list: location.manifest_list(snapshot.seq),
        schema_id: snapshot.schema,
    }
}

fn summary(snapshot: &TableSnapshot) -> BTreeMap<&'static str, String> {
    let mut summary = BTreeMap::from([
        ("operation", snapshot.operation().name().to_owned()),
        ("total-delete-files", "0".to_owned()),
        ("total-equality-deletes", "0".to_owned()),
        ("total-position-deletes", "0".to_owned()),
        ("rows-with-errors", snapshot.total.errors.to_string()),
    ]);
    let mut add = |names: [&'static str; 3], counts: Counts| {
        let numbers = [counts.files, counts.rows, counts.bytes];
        for (name, number) in names.into_iter().zip(numbers) {
            summary.insert(name, number.to_string());
        }
    };
    add(
        ["total-data-files", "total-records", "total-files-size"],
        snapshot.total,
    );
    if snapshot.added.files > 0 {
        add(
            ["added-data-files", "added-records", "added-files-size"],
            snapshot.added,
        );
    }
    if snapshot.removed.files > 0 {
        add(
            [
                "deleted-data-files",
                "deleted-records",
                "removed-files-size",
            ],
            snapshot.removed,
        );
    }
    summary
}
