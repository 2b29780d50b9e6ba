//! Manifests and lists of them.

use crate::state::table::{
    DataFile, LiveManifest, PartitionBy, PartitionSpec, Schema, Table, TableSnapshot,
};
use crate::table::{ColumnStats, FileStats};

use super::avro::{self, Encoder};
use super::schema::{partition_fields, schema_json};
use super::{Location, partition_field};

/// The sort order of every data file: by partition and offset.
pub(super) const SORT_ORDER: i32 = 1;

/// The status of each entry.
const ADDED: i32 = 1;
/// The content of each manifest and file: rows, and not what is deleted of them.
const DATA: i32 = 0;

/// A data file, with what a manifest says of its columns.
#[derive(Clone, Debug)]
pub struct ManifestFile {
    /// The file, as the state has it.
    pub file: DataFile,
    /// Its columns.
    pub stats: FileStats,
}

/// The manifest of `files`, which were written by `schema` and are divided by `spec`.
pub fn manifest(
    location: &Location,
    schema: &Schema,
    spec: PartitionSpec,
    files: &[ManifestFile],
) -> Result<Vec<u8>, serde_json::Error> {
    let metadata = [
        ("schema", schema_json(schema)?),
        ("schema-id", schema.id.to_string()),
        ("partition-spec", partition_fields(spec)?),
        ("partition-spec-id", spec.id.to_string()),
        ("format-version", "2".to_owned()),
        ("content", "data".to_owned()),
    ];
    let entries = files.iter().map(|file| entry(location, spec, file));
    Ok(avro::file(&entry_schema(spec.by), &metadata, entries))
}

/// The list of the manifests that `snapshot` of `table` consists of.
pub fn manifest_list(table: &Table, snapshot: &TableSnapshot, location: &Location) -> Vec<u8> {
    let mut metadata = vec![("snapshot-id", snapshot.seq.to_string())];
    if let Some(parent) = snapshot.parent {
        metadata.push(("parent-snapshot-id", parent.to_string()));
    }
    metadata.push(("sequence-number", snapshot.seq.to_string()));
    metadata.push(("format-version", "2".to_owned()));
    let manifests = table.manifests_of(snapshot.seq);
    let entries = manifests.iter().map(|live| {
        let spec = table.spec_of(live.manifest.spec).unwrap_or_default();
        listed(location, spec, live)
    });
    avro::file(LIST_SCHEMA, &metadata, entries)
}

fn entry(location: &Location, spec: PartitionSpec, file: &ManifestFile) -> Encoder {
    let ManifestFile { file, stats } = file;
    let mut to = Encoder::default();
    // Snapshot and sequence numbers are those that the list says.
    to.int(ADDED).null().null().null();
    to.int(DATA)
        .string(&location.data_file(file.id))
        .string("PARQUET");
    if spec.by != PartitionBy::None {
        match file.partition {
            Some(value) => to.some().int(value),
            None => to.null(),
        };
    }
    to.long(signed(file.rows)).long(signed(file.bytes));
    let columns = || stats.columns.iter();
    of_columns(&mut to, columns().map(|(id, of)| (id.0, of.bytes)), number);
    let values = columns().filter_map(|(id, of)| Some((id.0, of.values?.0)));
    of_columns(&mut to, values, number);
    let nulls = columns().filter_map(|(id, of)| Some((id.0, of.values?.1)));
    of_columns(&mut to, nulls, number);
    let nans = columns().filter_map(|(id, of)| Some((id.0, of.nans?)));
    of_columns(&mut to, nans, number);
    let bounds = |bound: fn(&ColumnStats) -> Option<&[u8]>| {
        columns().filter_map(move |(id, of)| Some((id.0, bound(of)?)))
    };
    let bytes = |to: &mut Encoder, value: &[u8]| {
        to.bytes(value);
    };
    of_columns(&mut to, bounds(|of| of.lower.as_deref()), bytes);
    of_columns(&mut to, bounds(|of| of.upper.as_deref()), bytes);
    // No key, and nothing that is for files of deletions.
    to.null();
    to.some().array(stats.split_offsets.iter(), |to, offset| {
        to.long(*offset);
    });
    to.null();
    to.some().int(SORT_ORDER);
    to
}

/// A map from field ids, which Avro has as an array of pairs.
fn of_columns<T>(
    to: &mut Encoder,
    of: impl Iterator<Item = (u32, T)>,
    encode: impl Fn(&mut Encoder, T),
) {
    let pairs: Vec<(u32, T)> = of.collect();
    to.some().array(pairs.into_iter(), |to, (id, value)| {
        to.long(id.into());
        encode(to, value);
    });
}

fn number(to: &mut Encoder, value: u64) {
    to.long(signed(value));
}

fn listed(location: &Location, spec: PartitionSpec, live: &LiveManifest) -> Encoder {
    let manifest = &live.manifest;
    let added = signed(live.added.0);
    let files = i32::try_from(manifest.files.len()).unwrap_or(i32::MAX);
    let mut to = Encoder::default();
    to.string(&location.manifest(manifest.id))
        .long(signed(manifest.bytes));
    to.long(spec.id.into()).int(DATA);
    // Sequence number, the least one in it, snapshot.
    to.long(added).long(added).long(added);
    to.int(files).int(0).int(0);
    to.long(signed(manifest.rows())).long(0).long(0);
    let values = manifest.files.iter().map(|file| file.partition);
    let values: Vec<Option<i32>> = values.filter(|_| spec.by != PartitionBy::None).collect();
    let summaries = usize::from(partition_field(spec.by).is_some());
    to.some()
        .array(std::iter::repeat_n((), summaries), |to, ()| {
            let known = || values.iter().flatten();
            to.boolean(values.contains(&None)).some().boolean(false);
            for bound in [known().min(), known().max()] {
                match bound {
                    Some(bound) => to.some().bytes(&bound.to_le_bytes()),
                    None => to.null(),
                };
            }
        });
    to.null();
    to
}

/// Avro has no numbers without a sign; none of these comes near to what that takes away.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The Avro schema of the entries of a manifest.
fn entry_schema(by: PartitionBy) -> String {
    let partition = partition_field(by).map_or(String::new(), |(name, id, _)| {
        let of = match by {
            PartitionBy::Day => r#"{"type":"int","logicalType":"date"}"#,
            _ => r#""int""#,
        };
        format!(r#"{{"name":"{name}","type":["null",{of}],"default":null,"field-id":{id}}}"#)
    });
    let map = |name: &str, id: i32, key: i32, value: i32, of: &str| {
        format!(
            r#"{{"name":"{name}","type":["null",{{"type":"array","items":{{"type":"record","name":"k{key}_v{value}","fields":[{{"name":"key","type":"int","field-id":{key}}},{{"name":"value","type":"{of}","field-id":{value}}}]}},"logicalType":"map"}}],"default":null,"field-id":{id}}}"#
        )
    };
    let maps = [
        map("column_sizes", 108, 117, 118, "long"),
        map("value_counts", 109, 119, 120, "long"),
        map("null_value_counts", 110, 121, 122, "long"),
        map("nan_value_counts", 137, 138, 139, "long"),
        map("lower_bounds", 125, 126, 127, "bytes"),
        map("upper_bounds", 128, 129, 130, "bytes"),
    ];
    let maps = maps.join(",");
    format!(
        concat!(
            r#"{{"type":"record","name":"manifest_entry","fields":["#,
            r#"{{"name":"status","type":"int","field-id":0}},"#,
            r#"{{"name":"snapshot_id","type":["null","long"],"default":null,"field-id":1}},"#,
            r#"{{"name":"sequence_number","type":["null","long"],"default":null,"field-id":3}},"#,
            r#"{{"name":"file_sequence_number","type":["null","long"],"default":null,"field-id":4}},"#,
            r#"{{"name":"data_file","type":{{"type":"record","name":"r2","fields":["#,
            r#"{{"name":"content","type":"int","field-id":134}},"#,
            r#"{{"name":"file_path","type":"string","field-id":100}},"#,
            r#"{{"name":"file_format","type":"string","field-id":101}},"#,
            r#"{{"name":"partition","type":{{"type":"record","name":"r102","fields":[{partition}]}},"field-id":102}},"#,
            r#"{{"name":"record_count","type":"long","field-id":103}},"#,
            r#"{{"name":"file_size_in_bytes","type":"long","field-id":104}},"#,
            r#"{maps},"#,
            r#"{{"name":"key_metadata","type":["null","bytes"],"default":null,"field-id":131}},"#,
            r#"{{"name":"split_offsets","type":["null",{{"type":"array","items":"long","element-id":133}}],"default":null,"field-id":132}},"#,
            r#"{{"name":"equality_ids","type":["null",{{"type":"array","items":"int","element-id":136}}],"default":null,"field-id":135}},"#,
            r#"{{"name":"sort_order_id","type":["null","int"],"default":null,"field-id":140}}"#,
            r#"]}},"field-id":2}}]}}"#,
        ),
        partition = partition,
        maps = maps,
    )
}

/// The Avro schema of the entries of a list of manifests.
const LIST_SCHEMA: &str = concat!(
    r#"{"type":"record","name":"manifest_file","fields":["#,
    r#"{"name":"manifest_path","type":"string","field-id":500},"#,
    r#"{"name":"manifest_length","type":"long","field-id":501},"#,
    r#"{"name":"partition_spec_id","type":"int","field-id":502},"#,
    r#"{"name":"content","type":"int","field-id":517},"#,
    r#"{"name":"sequence_number","type":"long","field-id":515},"#,
    r#"{"name":"min_sequence_number","type":"long","field-id":516},"#,
    r#"{"name":"added_snapshot_id","type":"long","field-id":503},"#,
    r#"{"name":"added_files_count","type":"int","field-id":504},"#,
    r#"{"name":"existing_files_count","type":"int","field-id":505},"#,
    r#"{"name":"deleted_files_count","type":"int","field-id":506},"#,
    r#"{"name":"added_rows_count","type":"long","field-id":512},"#,
    r#"{"name":"existing_rows_count","type":"long","field-id":513},"#,
    r#"{"name":"deleted_rows_count","type":"long","field-id":514},"#,
    r#"{"name":"partitions","type":["null",{"type":"array","items":{"type":"record","name":"r508","fields":["#,
    r#"{"name":"contains_null","type":"boolean","field-id":509},"#,
    r#"{"name":"contains_nan","type":["null","boolean"],"default":null,"field-id":518},"#,
    r#"{"name":"lower_bound","type":["null","bytes"],"default":null,"field-id":510},"#,
    r#"{"name":"upper_bound","type":["null","bytes"],"default":null,"field-id":511}"#,
    r#"]},"element-id":508}],"default":null,"field-id":507},"#,
    r#"{"name":"key_metadata","type":["null","bytes"],"default":null,"field-id":519}"#,
    r#"]}"#,
);
