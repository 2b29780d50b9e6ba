//! `weir inspect`: an object of the bucket as JSON.

use std::str::FromStr;

use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};

use super::CliError;
use super::context::Context;
use super::text::shown;
use crate::format::{Object, ObjectHeader};
use crate::manifest::{LoggedCommit, SnapshotParts};
use crate::segment::{Batches, CompactedDirectory, SegmentIndex};
use crate::store::{ArchiveObject, ObjectKind, ObjectPath, RequestKind, Store};
use crate::types::{LogId, SegmentId, Seq, TableName};

/// Show an object of the bucket as JSON: a commit of the manifest, a snapshot, a segment.
///
/// Its checksums are verified; what is damaged is an error. Needs no node and changes nothing.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir inspect 12                                       the 12th commit
  weir inspect manifest/log/00000000000000000012.commit the same
  weir inspect 0198e6c2-7d5e-7cc3-b1f4-06d9bb0c2a51     a segment
  weir inspect cluster.json")]
pub(super) struct Inspect {
    /// The object: its name in the bucket, the number of a commit, or the id of a segment.
    object: String,
}

pub(super) async fn run(command: &Inspect, context: &mut Context) -> Result<(), CliError> {
    let path = path_of(&command.object)?;
    let store = context.look_at_store().await?;
    let value = inspect(&store, &path).await?;
    context.output.json(&value)?;
    context.output.flush()
}

/// The log of all objects that have a path of their own: the names of others are reserved.
const LOG: LogId = LogId::ZERO;

fn path_of(object: &str) -> Result<ObjectPath, CliError> {
    if let Ok(seq) = object.parse() {
        return Ok(ObjectPath::commit(Seq(seq)));
    }
    if let Ok(id) = uuid::Uuid::try_parse(object) {
        return Ok(ObjectPath::segment(SegmentId(id)));
    }
    ObjectPath::from_str(object).map_err(|error| {
        CliError::usage(error.to_string())
            .hint("give a name in the bucket, the number of a commit, or the id of a segment")
    })
}

async fn inspect(store: &Store, path: &ObjectPath) -> Result<Value, CliError> {
    let kind = path.kind();
    let request = match &kind {
        ObjectKind::Cluster | ObjectKind::CatalogKey => RequestKind::Cluster,
        ObjectKind::Commit(_) => RequestKind::CommitGet,
        ObjectKind::Snapshot(_) | ObjectKind::Chunk(..) => RequestKind::SnapshotGet,
        ObjectKind::Boundary(_) => RequestKind::BoundaryGet,
        ObjectKind::Segment(_) => RequestKind::SegmentGet,
        ObjectKind::Archive(..) => RequestKind::ArchiveGet,
        ObjectKind::Check { .. } => RequestKind::Check,
        ObjectKind::Copy { .. } => RequestKind::Repair,
    };
    let bytes = store.get(path, request).await?;
    let name = path.as_str();
    let content = match kind {
        ObjectKind::Commit(seq) => commit(name, seq, &bytes),
        ObjectKind::Snapshot(seq) => snapshot(name, seq, &bytes),
        ObjectKind::Chunk(seq, index) => Object::decode(name, &bytes)
            .map(|object| json!({ "log": LOG, "chunk_of": seq, "index": index, "bytes": object.data.len() }))
            .map_err(|error| error.to_string()),
        ObjectKind::Segment(_) => segment(name, &bytes),
        ObjectKind::Boundary(seq) => Object::decode(name, &bytes)
            .map(|_| json!({ "log": LOG, "seq": seq }))
            .map_err(|error| error.to_string()),
        ObjectKind::Cluster => {
            serde_json::from_slice(&bytes).map_err(|error| format!("{name}: {error}"))
        }
        ObjectKind::Archive(table, object) => archived(name, &table, object, &bytes),
        ObjectKind::Check { .. } => Ok(json!({ "leftover_of_check": true })),
        ObjectKind::CatalogKey => Ok(json!({ "key": "(hidden)" })),
        ObjectKind::Copy { of, .. } => Ok(json!({ "copy_of": of.as_str() })),
    };
    let content = content.map_err(CliError::failed)?;
    Ok(json!({ "object": name, "bytes": bytes.len(), "content": content }))
}

/// An object of a table: what is JSON or text as it is; of others what the state has of them, for comparison.
fn archived(
    name: &str,
    table: &TableName,
    object: ArchiveObject,
    bytes: &Bytes,
) -> Result<Value, String> {
    let content = match object {
        ArchiveObject::Metadata(_) => {
            serde_json::from_slice(bytes).map_err(|error| format!("{name}: {error}"))?
        }
        ArchiveObject::Hint => json!(String::from_utf8_lossy(bytes)),
        ArchiveObject::Data(_) | ArchiveObject::Manifest(_) | ArchiveObject::List(_) => Value::Null,
    };
    let format = match object {
        ArchiveObject::Data(_) => "Parquet",
        ArchiveObject::Manifest(_) => "Iceberg manifest (Avro)",
        ArchiveObject::List(_) => "Iceberg manifest list (Avro)",
        ArchiveObject::Metadata(_) => "Iceberg table metadata (JSON)",
        ArchiveObject::Hint => "text",
    };
    let crc32c = format!("{:08x}", crc32c::crc32c(bytes));
    Ok(json!({ "table": table, "format": format, "crc32c": crc32c, "content": content }))
}

fn commit(name: &str, seq: Seq, bytes: &Bytes) -> Result<Value, String> {
    let logged = LoggedCommit::decode(name, seq, bytes, bytes.len() as u64)
        .map_err(|error| error.to_string())?;
    let commit = &logged.commit;
    let inline_bytes = bytes.len() as u64 - logged.data_start.min(bytes.len() as u64);
    Ok(json!({
        "log": commit.log,
        "seq": seq,
        "id": commit.id,
        "time": shown(commit.time),
        "follows": commit.follows,
        "ops": serde_json::to_value(&commit.ops).map_err(|error| error.to_string())?,
        "forwarded": serde_json::to_value(&commit.forwarded).map_err(|error| error.to_string())?,
        "data_start": logged.data_start,
        "inline_bytes": inline_bytes,
    }))
}

fn snapshot(name: &str, seq: Seq, bytes: &Bytes) -> Result<Value, String> {
    let parts = SnapshotParts::decode(name, bytes).map_err(|error| error.to_string())?;
    if !parts.chunks().is_empty() {
        let chunks = (0..).zip(parts.chunks());
        let chunks = chunks.map(
            |(index, len)| json!({ "object": ObjectPath::chunk(seq, index).as_str(), "bytes": len }),
        );
        let chunks: Vec<Value> = chunks.collect();
        return Ok(json!({ "log": LOG, "seq": seq, "digest": parts.digest(), "chunks": chunks }));
    }
    let state = parts.state(name, seq, &[]);
    let state = state.map_err(|error| error.to_string())?;
    let mut content = serde_json::to_value(&state).map_err(|error| error.to_string())?;
    content["log"] = json!(LOG);
    Ok(content)
}

fn segment(name: &str, bytes: &Bytes) -> Result<Value, String> {
    let header = ObjectHeader::parse(name, bytes).map_err(|error| error.to_string())?;
    if header.kind() == crate::format::ObjectKind::Compacted {
        return compacted(name, bytes);
    }
    let (index, parts) = SegmentIndex::decode(name, bytes).map_err(|error| error.to_string())?;
    let mut slices = Vec::new();
    for (slice, part) in index.slices.iter().zip(&parts) {
        let mut batches = Vec::new();
        for batch in Batches::new(part) {
            let header = batch.map_err(|error| error.to_string())?.header;
            batches.push(json!({
                "bytes": header.size,
                "records": header.record_count,
                "codec": header.attributes.codec().map(|codec| codec.name()).unwrap_or("unknown"),
                "max_timestamp": shown(header.max_timestamp),
                "producer": header.producer_id,
                "epoch": header.producer_epoch,
                "base_sequence": header.base_sequence,
            }));
        }
        slices.push(json!({
            "topic": slice.partition.topic,
            "partition": slice.partition.partition,
            "start": slice.range.start,
            "end": slice.range.end,
            "records": slice.records,
            "max_timestamp": shown(slice.max_timestamp),
            "crc32c": format!("{:08x}", slice.crc),
            "batches": batches,
        }));
    }
    Ok(json!({ "id": index.id, "slices": slices }))
}

/// Of a compacted segment each slice, without its batches: there are too many.
fn compacted(name: &str, bytes: &Bytes) -> Result<Value, String> {
    let (directory, _) =
        CompactedDirectory::decode(name, bytes).map_err(|error| error.to_string())?;
    let slices = directory.slices.iter().map(|slice| {
        json!({
            "topic": slice.partition.topic,
            "partition": slice.partition.partition,
            "first_offset": slice.offsets.start,
            "end_offset": slice.offsets.end,
            "start": slice.range.start,
            "end": slice.range.end,
            "index_start": slice.index.start,
            "index_end": slice.index.end,
            "batches": slice.batches,
            "records": slice.records,
            "max_timestamp": shown(slice.max_timestamp),
        })
    });
    Ok(json!({ "id": directory.id, "compacted": true, "slices": slices.collect::<Vec<_>>() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_named_by_number_id_or_name() {
        let commit = "manifest/log/00000000000000000012.commit";
        assert_eq!(path_of("12").unwrap().as_str(), commit);
        assert_eq!(path_of(commit).unwrap().as_str(), commit);
        let id = "0198e6c2-7d5e-7cc3-b1f4-06d9bb0c2a51";
        let segment = format!("segments/1/{id}.segment");
        assert_eq!(path_of(id).unwrap().as_str(), segment);
        for bad in ["", "../etc/passwd", "manifest/log/12.commit", "-1"] {
            assert!(path_of(bad).is_err(), "{bad}");
        }
    }
}
