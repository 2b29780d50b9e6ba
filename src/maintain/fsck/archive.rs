//! The archive: what the state says of tables, against what lies in the bucket.
//!
//! Whether offsets are archived once is judged by the state alone (I11). Each file and manifest of a table must be there,
//! with its length, and with `deep` with its checksum. What is derived from the state is derived again and compared: an
//! engine that is handed something else reads another table.

use std::collections::{BTreeMap, BTreeSet};

use super::read::{Looked, look};
use super::{Checked, Finding, Fold, Inventory, Kind, Walk, YOUNG};
use crate::invariants::Invariant;
use crate::invariants::at_rest::archive_equals_log;
use crate::state::State;
use crate::state::table::{Manifest, Table};
use crate::store::{ArchiveObject, ObjectPath, RequestKind, StoreError};
use crate::table::iceberg::{self, Location};
use crate::types::{FileId, TableName, Timestamp};

/// What is found of tables, by the names of objects. What only one of two looks saw was under way.
pub(super) type Found = BTreeMap<String, Finding>;

/// Judges listing against state.
pub(super) fn judge(inventory: &Inventory, fold: &Fold, now: Timestamp) -> Found {
    let mut found = Found::new();
    let Some(state) = &fold.state else {
        return found;
    };
    let mut known: BTreeSet<(TableName, ArchiveObject)> = BTreeSet::new();
    for table in state.tables() {
        if let Some(violation) = archive_equals_log(state, table) {
            let name = ObjectPath::folder_of(table.name());
            found.insert(
                name.clone(),
                Finding::of(Kind::BadArchive, &name, violation),
            );
        }
        let named = table.manifests().map(|live| (&live.manifest, true));
        let named = named.chain(table.retired().map(|retired| {
            let is_named = retired.unnamed.is_none();
            (&retired.manifest, is_named)
        }));
        for (manifest, is_named) in named {
            for (object, bytes) in objects(manifest) {
                known.insert((table.name().clone(), object));
                if is_named {
                    exists(inventory, table.name(), object, bytes, &mut found);
                }
            }
        }
        metadata_exists(inventory, table, now, &mut found);
    }
    if fold.is_complete && !fold.differs {
        orphans(inventory, state, &known, now, &mut found);
    }
    found
}

/// The objects of a manifest, with their lengths.
fn objects(manifest: &Manifest) -> impl Iterator<Item = (ArchiveObject, u64)> {
    let files = manifest.files.iter();
    let files = files.map(|file| (ArchiveObject::Data(file.id), file.bytes));
    std::iter::once((ArchiveObject::Manifest(manifest.id), manifest.bytes)).chain(files)
}

fn exists(
    inventory: &Inventory,
    table: &TableName,
    object: ArchiveObject,
    bytes: u64,
    found: &mut Found,
) {
    let path = ObjectPath::archive(table, object);
    let listed = inventory.archive.get(&(table.clone(), object));
    let (kind, detail) = match listed {
        None => (
            Kind::MissingObject,
            format!("table {table} has it, but it does not exist"),
        ),
        Some((found, _)) if *found != bytes => (
            Kind::WrongLength,
            format!("it has {found} bytes, and table {table} has it with {bytes}"),
        ),
        Some(_) => return,
    };
    let finding = Finding::new(kind, path.as_str(), detail);
    let finding = finding.breaking(Invariant::NothingReferencedIsDeleted);
    found.insert(path.to_string(), finding);
}

/// Engines find a table by its metadata, which is published soon after each change.
fn metadata_exists(inventory: &Inventory, table: &Table, now: Timestamp, found: &mut Found) {
    let metadata = ArchiveObject::Metadata(table.version());
    let is_there = |object| {
        inventory
            .archive
            .contains_key(&(table.name().clone(), object))
    };
    let is_fresh = now.since(table.changed_at()) < YOUNG;
    if table.is_dropped() || is_fresh || is_there(metadata) {
        return;
    }
    let path = ObjectPath::archive(table.name(), metadata);
    let detail = format!("version {} of table {}", table.version(), table.name());
    let finding = Finding::new(Kind::Unpublished, path.as_str(), detail);
    found.insert(path.to_string(), finding);
}

/// Files and manifests that no table has. Those of a moment ago may be about to be added.
fn orphans(
    inventory: &Inventory,
    state: &State,
    known: &BTreeSet<(TableName, ArchiveObject)>,
    now: Timestamp,
    found: &mut Found,
) {
    for (key, (bytes, written)) in &inventory.archive {
        let (table, object) = key;
        let is_orphan = match object {
            ArchiveObject::Data(_) | ArchiveObject::Manifest(_) => !known.contains(key),
            ArchiveObject::List(_) | ArchiveObject::Metadata(_) | ArchiveObject::Hint => {
                state.table_by_name(table.as_str()).is_none()
            }
        };
        if is_orphan {
            let path = ObjectPath::archive(table, *object);
            let kind = match now.since(*written) < YOUNG {
                true => Kind::Uploading,
                false => Kind::Orphan,
            };
            let detail = format!("{bytes} bytes that no table has");
            found.insert(path.to_string(), Finding::new(kind, path.as_str(), detail));
        }
    }
}

/// Looks into the objects of tables: what is derived from the state; and with `deep` all files.
pub(super) async fn look_into(
    walk: &Walk<'_>,
    inventory: &Inventory,
    fold: &Fold,
    checked: &mut Checked,
) -> Result<Found, StoreError> {
    let mut found = Found::new();
    let Some(state) = &fold.state else {
        return Ok(found);
    };
    for table in state.tables().filter(|table| !table.is_dropped()) {
        derived(walk, inventory, table, checked, &mut found).await?;
        if !walk.deep {
            continue;
        }
        for live in table.manifests() {
            let manifest = &live.manifest;
            let files = manifest.files.iter();
            let files = files.map(|file| (ArchiveObject::Data(file.id), file.crc32c));
            let own = (ArchiveObject::Manifest(manifest.id), manifest.crc32c);
            for (object, crc32c) in files.chain([own]) {
                let path = ObjectPath::archive(table.name(), object);
                let Some(bytes) = read(walk, &path, checked, &mut found).await? else {
                    continue;
                };
                if crc32c::crc32c(&bytes) != crc32c {
                    let detail =
                        format!("its CRC-32C is not that which table {} has", table.name());
                    let finding = Finding::new(Kind::Corrupt, path.as_str(), detail);
                    let finding = finding.breaking(Invariant::ArchiveEqualsLog);
                    found.insert(path.to_string(), finding);
                }
            }
        }
    }
    Ok(found)
}

/// What is published of the newest version, if anything is, must be what is derived from it.
async fn derived(
    walk: &Walk<'_>,
    inventory: &Inventory,
    table: &Table,
    checked: &mut Checked,
    found: &mut Found,
) -> Result<(), StoreError> {
    let url = walk.store.url_of(&ObjectPath::folder_of(table.name()));
    let location = Location::new(&url);
    let metadata = ArchiveObject::Metadata(table.version());
    let is_listed = |object| {
        inventory
            .archive
            .contains_key(&(table.name().clone(), object))
    };
    let mut expected: Vec<(ArchiveObject, Vec<u8>)> = Vec::new();
    if let Ok(bytes) = iceberg::table_metadata(table, &location) {
        expected.push((metadata, bytes));
    }
    if let Some(newest) = table.snapshot() {
        let list = iceberg::manifest_list(table, newest, &location);
        expected.push((ArchiveObject::List(newest.seq), list));
    }
    for (object, expected) in expected {
        if !is_listed(object) {
            continue;
        }
        let path = ObjectPath::archive(table.name(), object);
        let Some(bytes) = read(walk, &path, checked, found).await? else {
            continue;
        };
        if bytes != expected {
            let detail = format!(
                "it is not what is derived from table {} at {url}",
                table.name()
            );
            let finding = Finding::new(Kind::MetadataDiffers, path.as_str(), detail);
            found.insert(path.to_string(), finding);
        }
    }
    Ok(())
}

/// The bytes of an object. What cannot be read is found; what is not there any more is no matter of this look.
async fn read(
    walk: &Walk<'_>,
    path: &ObjectPath,
    checked: &mut Checked,
    found: &mut Found,
) -> Result<Option<bytes::Bytes>, StoreError> {
    match look(walk.store.get(path, RequestKind::ArchiveGet).await)? {
        Looked::At(bytes) => {
            checked.bytes_read += bytes.len() as u64;
            Ok(Some(bytes))
        }
        Looked::Gone => Ok(None),
        Looked::Bad(kind, detail) => {
            found.insert(path.to_string(), Finding::new(kind, path.as_str(), detail));
            Ok(None)
        }
    }
}

/// Whether what was found by looking into an object still matters: a table has it, as it is.
pub(super) fn concerns(state: &State, object: &str) -> bool {
    let Ok(path) = object.parse::<ObjectPath>() else {
        return false;
    };
    let crate::store::ObjectKind::Archive(name, object) = path.kind() else {
        return false;
    };
    let has = |table: &Table, id: FileId| table.objects().any(|known| known == id);
    state
        .table_by_name(name.as_str())
        .is_some_and(|table| match object {
            ArchiveObject::Data(id) | ArchiveObject::Manifest(id) => has(table, id),
            ArchiveObject::Metadata(version) => table.version() == version,
            ArchiveObject::List(seq) => table.snapshot().is_some_and(|newest| newest.seq == seq),
            ArchiveObject::Hint => false,
        })
}
