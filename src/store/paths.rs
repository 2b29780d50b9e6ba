//! Every object that Weir keeps in a bucket, and its name. No other file spells a path.
//!
//! | kind | name | written |
//! |---|---|---|
//! | cluster | `cluster.json` | once, create-if-absent |
//! | key of the catalog | `catalog-key.json` | once, create-if-absent; people may delete it to have another made |
//! | commit | `manifest/log/{seq:020}.commit` | once, create-if-absent; dense |
//! | snapshot | `manifest/snapshot/{seq:020}.snapshot` | by any node, always the same bytes |
//! | chunk of a snapshot | `manifest/chunk/{seq:020}.{index:05}.chunk` | by any node, always the same bytes |
//! | boundary | `manifest/boundary/{seq:020}` | once, create-if-absent |
//! | segment, compacted or not | `segments/{nibble}/{uuid v7}.segment` | once, under a name nobody else can mint |
//! | data file of a table | `archive/{table}/data/{uuid v7}.parquet` | once, under a name nobody else can mint |
//! | manifest of a table | `archive/{table}/metadata/{uuid v7}.avro` | once, under a name nobody else can mint |
//! | list of manifests | `archive/{table}/metadata/snap-{seq}.avro` | by any node, always the same bytes |
//! | metadata of a table | `archive/{table}/metadata/v{seq}.metadata.json` | by any node, always the same bytes |
//! | hint | `archive/{table}/metadata/version-hint.text` | over and over: the one object that is; Weir never reads it |
//! | check | `check/{run}/{name}` | by the conformance check, which deletes it |
//! | copy | `repair/{run}/{name of the object}` | once, by `weir store repair`, of what it replaces or removes; only people delete it |
//!
//! These are the objects of log 0, the only one there is. `logs/{id}/` is reserved for those of other logs, their
//! commits and snapshots as well as their segments: no name of this version lies there, so nothing reads or deletes
//! what does.
//!
//! Names are relative to the prefix of the store's URL. Numbers are padded to twenty digits so that
//! the order of names is the order of numbers.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::types::{FileId, SegmentId, Seq, TableName};

/// Below here are the objects of other logs than the one that this version knows.
const OTHER_LOGS: &str = "logs";

const CLUSTER: &str = "cluster.json";
const CATALOG_KEY: &str = "catalog-key.json";
const LOG: &str = "manifest/log";
const SNAPSHOTS: &str = "manifest/snapshot";
const CHUNKS: &str = "manifest/chunk";
const BOUNDARIES: &str = "manifest/boundary";
const SEGMENTS: &str = "segments";
const ARCHIVE: &str = "archive";
const CHECKS: &str = "check";
const REPAIRS: &str = "repair";

/// The digits of a padded number: as many as `u64::MAX` has.
const DIGITS: usize = 20;

/// The digits of the index of a chunk.
const INDEX_DIGITS: usize = 5;

/// The name of one object, relative to the prefix of the store's URL. It can only name objects of the
/// kinds in [`ObjectKind`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectPath(String);

/// What an object is, read back from its name: for `inspect` and `fsck`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// Cluster id and format version, made when the cluster is.
    Cluster,
    /// With what nodes sign what the catalog hands out.
    CatalogKey,
    /// One commit of the manifest.
    Commit(Seq),
    /// The state after the commit of that number.
    Snapshot(Seq),
    /// A part of the state after the commit of that number, and which.
    Chunk(Seq, u32),
    /// The log was truncated up to that number.
    Boundary(Seq),
    /// Record batches of many partitions.
    Segment(SegmentId),
    /// An object of a table of the archive.
    Archive(TableName, ArchiveObject),
    /// A trace of a conformance check: its run and the rest of the name.
    Check {
        /// Which run of the check wrote it.
        run: Uuid,
        /// The object's name within the run.
        name: String,
    },
    /// The copy of an object that a repair replaced or removed.
    Copy {
        /// Which run of the repair.
        run: Uuid,
        /// What was copied.
        of: Box<ObjectPath>,
    },
}

/// An object of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ArchiveObject {
    /// A Parquet file.
    Data(FileId),
    /// An Iceberg manifest.
    Manifest(FileId),
    /// The Iceberg manifest list of the snapshot that this commit made.
    List(Seq),
    /// The Iceberg metadata of the table after this commit.
    Metadata(Seq),
    /// Which metadata is the newest, for engines that open a table by its path.
    Hint,
}

impl ArchiveObject {
    /// The id in its name, if there is one: that of a data file or a manifest.
    pub fn id(self) -> Option<FileId> {
        match self {
            ArchiveObject::Data(id) | ArchiveObject::Manifest(id) => Some(id),
            ArchiveObject::List(_) | ArchiveObject::Metadata(_) | ArchiveObject::Hint => None,
        }
    }
}

/// A string is not the name of an object of Weir.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not the name of an object of Weir")]
pub struct UnknownObject {
    /// The name as it was found.
    pub name: String,
}

/// Whether a name is reserved for objects of logs that this version does not know. They are not its to judge.
pub fn is_of_another_log(name: &str) -> bool {
    name.strip_prefix(OTHER_LOGS)
        .is_some_and(|rest| rest.starts_with('/'))
}

impl ObjectPath {
    /// `cluster.json`.
    pub fn cluster() -> ObjectPath {
        ObjectPath(CLUSTER.to_owned())
    }

    /// `catalog-key.json`.
    pub fn catalog_key() -> ObjectPath {
        ObjectPath(CATALOG_KEY.to_owned())
    }

    /// The commit with that number.
    pub fn commit(seq: Seq) -> ObjectPath {
        ObjectPath(format!("{LOG}/{:020}.commit", seq.0))
    }

    /// The snapshot of the state after that commit.
    pub fn snapshot(seq: Seq) -> ObjectPath {
        ObjectPath(format!("{SNAPSHOTS}/{:020}.snapshot", seq.0))
    }

    /// A part of the state after that commit.
    pub fn chunk(seq: Seq, index: u32) -> ObjectPath {
        ObjectPath(format!("{CHUNKS}/{:020}.{index:05}.chunk", seq.0))
    }

    /// The boundary that says: the log up to here may be gone.
    pub fn boundary(seq: Seq) -> ObjectPath {
        ObjectPath(format!("{BOUNDARIES}/{:020}", seq.0))
    }

    /// A segment. The prefix is a digit of the random tail of its id, so that no prefix is hot; the
    /// head of a UUID v7 is the time and would be the same for all segments of a day.
    pub fn segment(id: SegmentId) -> ObjectPath {
        let nibble = id.0.as_bytes()[15] & 0x0f;
        ObjectPath(format!(
            "{SEGMENTS}/{nibble:x}/{}.segment",
            id.0.hyphenated()
        ))
    }

    /// An object of a table.
    pub fn archive(table: &TableName, object: ArchiveObject) -> ObjectPath {
        let name = match object {
            ArchiveObject::Data(id) => format!("data/{}.parquet", id.0.hyphenated()),
            ArchiveObject::Manifest(id) => format!("metadata/{}.avro", id.0.hyphenated()),
            ArchiveObject::List(seq) => format!("metadata/snap-{seq}.avro"),
            ArchiveObject::Metadata(seq) => format!("metadata/v{seq}.metadata.json"),
            ArchiveObject::Hint => "metadata/version-hint.text".to_owned(),
        };
        ObjectPath(format!("{ARCHIVE}/{table}/{name}"))
    }

    /// The folder of a table, relative to the prefix of the store's URL.
    pub fn folder_of(table: &TableName) -> String {
        format!("{ARCHIVE}/{table}")
    }

    /// An object of one run of the conformance check. The name's characters other than ASCII letters,
    /// digits, `-` and `_` become `-`.
    pub fn check(run: Uuid, name: &str) -> ObjectPath {
        let name: String = name
            .chars()
            .map(|c| if is_plain(c) { c } else { '-' })
            .collect();
        let name = if name.is_empty() {
            "-".to_owned()
        } else {
            name
        };
        ObjectPath(format!("{CHECKS}/{}/{name}", run.hyphenated()))
    }

    /// The copy that one run of `weir store repair` keeps of an object.
    pub fn copy(run: Uuid, of: &ObjectPath) -> ObjectPath {
        ObjectPath(format!("{REPAIRS}/{}/{of}", run.hyphenated()))
    }

    /// What the object is.
    pub fn kind(&self) -> ObjectKind {
        parse(&self.0).expect("an ObjectPath is only made by the constructors and by a parse")
    }

    /// The name, relative to the prefix of the store's URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ObjectPath {
    type Err = UnknownObject;

    fn from_str(name: &str) -> Result<ObjectPath, UnknownObject> {
        match parse(name) {
            Some(_) => Ok(ObjectPath(name.to_owned())),
            None => Err(UnknownObject {
                name: name.to_owned(),
            }),
        }
    }
}

impl fmt::Display for ObjectPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A folder of the bucket, for listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectPrefix {
    /// Everything under the URL's prefix.
    All,
    /// All commits.
    Log,
    /// All snapshots.
    Snapshots,
    /// All chunks of snapshots.
    Chunks,
    /// All boundaries.
    Boundaries,
    /// All segments.
    Segments,
    /// All tables of the archive.
    Archive,
    /// What conformance checks left.
    Checks,
    /// What one run of the conformance check left.
    Check(Uuid),
    /// What repairs replaced or removed.
    Repairs,
}

impl ObjectPrefix {
    /// The folder's name without a trailing slash; empty for everything.
    pub fn name(&self) -> String {
        match self {
            ObjectPrefix::All => String::new(),
            ObjectPrefix::Log => LOG.to_owned(),
            ObjectPrefix::Snapshots => SNAPSHOTS.to_owned(),
            ObjectPrefix::Chunks => CHUNKS.to_owned(),
            ObjectPrefix::Boundaries => BOUNDARIES.to_owned(),
            ObjectPrefix::Segments => SEGMENTS.to_owned(),
            ObjectPrefix::Archive => ARCHIVE.to_owned(),
            ObjectPrefix::Checks => CHECKS.to_owned(),
            ObjectPrefix::Check(run) => format!("{CHECKS}/{}", run.hyphenated()),
            ObjectPrefix::Repairs => REPAIRS.to_owned(),
        }
    }
}

fn parse(name: &str) -> Option<ObjectKind> {
    if name == CLUSTER {
        return Some(ObjectKind::Cluster);
    }
    if name == CATALOG_KEY {
        return Some(ObjectKind::CatalogKey);
    }
    if let Some(seq) = within(name, LOG).and_then(|n| n.strip_suffix(".commit")) {
        return padded(seq).map(ObjectKind::Commit);
    }
    if let Some(seq) = within(name, SNAPSHOTS).and_then(|n| n.strip_suffix(".snapshot")) {
        return padded(seq).map(ObjectKind::Snapshot);
    }
    if let Some(chunk) = within(name, CHUNKS).and_then(|n| n.strip_suffix(".chunk")) {
        let (seq, index) = chunk.split_once('.')?;
        let is_index = index.len() == INDEX_DIGITS && index.bytes().all(|b| b.is_ascii_digit());
        let index = is_index.then(|| index.parse().ok()).flatten()?;
        return Some(ObjectKind::Chunk(padded(seq)?, index));
    }
    if let Some(seq) = within(name, BOUNDARIES) {
        return padded(seq).map(ObjectKind::Boundary);
    }
    if let Some(rest) = within(name, SEGMENTS) {
        let (_, file) = rest.split_once('/')?;
        let id = SegmentId(hyphenated(file.strip_suffix(".segment")?)?);
        // The digit must be the one that the id asks for, or the segment could never be found.
        return (ObjectPath::segment(id).0 == name).then_some(ObjectKind::Segment(id));
    }
    if let Some(rest) = within(name, ARCHIVE) {
        let (table, file) = rest.split_once('/')?;
        let table = TableName::new(table).ok()?;
        return Some(ObjectKind::Archive(table, archived(file)?));
    }
    if let Some(rest) = within(name, CHECKS) {
        let (run, name) = rest.split_once('/')?;
        if name.is_empty() || !name.chars().all(is_plain) {
            return None;
        }
        return Some(ObjectKind::Check {
            run: hyphenated(run)?,
            name: name.to_owned(),
        });
    }
    if let Some(rest) = within(name, REPAIRS) {
        let (run, of) = rest.split_once('/')?;
        // A copy of a copy is never made.
        let of = match within(of, REPAIRS) {
            None => of.parse().ok()?,
            Some(_) => return None,
        };
        return Some(ObjectKind::Copy {
            run: hyphenated(run)?,
            of: Box::new(of),
        });
    }
    None
}

fn archived(file: &str) -> Option<ArchiveObject> {
    if let Some(file) = within(file, "data") {
        let id = hyphenated(file.strip_suffix(".parquet")?)?;
        return Some(ArchiveObject::Data(FileId(id)));
    }
    let file = within(file, "metadata")?;
    if file == "version-hint.text" {
        return Some(ArchiveObject::Hint);
    }
    if let Some(seq) = file
        .strip_prefix('v')
        .and_then(|v| v.strip_suffix(".metadata.json"))
    {
        return plain_number(seq).map(ArchiveObject::Metadata);
    }
    let name = file.strip_suffix(".avro")?;
    match name.strip_prefix("snap-") {
        Some(seq) => plain_number(seq).map(ArchiveObject::List),
        None => hyphenated(name).map(FileId).map(ArchiveObject::Manifest),
    }
}

/// A number as engines spell it: without zeros before it.
fn plain_number(digits: &str) -> Option<Seq> {
    let number: u64 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(Seq(number))
}

fn within<'a>(name: &'a str, folder: &str) -> Option<&'a str> {
    name.strip_prefix(folder)?.strip_prefix('/')
}

fn padded(digits: &str) -> Option<Seq> {
    let decimal = digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
    decimal.then(|| digits.parse().ok().map(Seq)).flatten()
}

/// A UUID in the one spelling that Weir writes: lower case, with hyphens.
fn hyphenated(text: &str) -> Option<Uuid> {
    let id = Uuid::try_parse(text).ok()?;
    (id.hyphenated().to_string() == text).then_some(id)
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<(ObjectPath, ObjectKind, &'static str)> {
        let id = Uuid::parse_str("01936f2e-5b1c-7cc3-98c4-dc0c0c07398b").unwrap();
        let table = TableName::new("orders_eu").unwrap();
        vec![
            (ObjectPath::cluster(), ObjectKind::Cluster, "cluster.json"),
            (
                ObjectPath::catalog_key(),
                ObjectKind::CatalogKey,
                "catalog-key.json",
            ),
            (
                ObjectPath::commit(Seq(42)),
                ObjectKind::Commit(Seq(42)),
                "manifest/log/00000000000000000042.commit",
            ),
            (
                ObjectPath::snapshot(Seq(u64::MAX)),
                ObjectKind::Snapshot(Seq(u64::MAX)),
                "manifest/snapshot/18446744073709551615.snapshot",
            ),
            (
                ObjectPath::chunk(Seq(7), 12),
                ObjectKind::Chunk(Seq(7), 12),
                "manifest/chunk/00000000000000000007.00012.chunk",
            ),
            (
                ObjectPath::boundary(Seq(7)),
                ObjectKind::Boundary(Seq(7)),
                "manifest/boundary/00000000000000000007",
            ),
            (
                ObjectPath::segment(SegmentId(id)),
                ObjectKind::Segment(SegmentId(id)),
                "segments/b/01936f2e-5b1c-7cc3-98c4-dc0c0c07398b.segment",
            ),
            (
                ObjectPath::archive(&table, ArchiveObject::Data(FileId(id))),
                ObjectKind::Archive(table.clone(), ArchiveObject::Data(FileId(id))),
                "archive/orders_eu/data/01936f2e-5b1c-7cc3-98c4-dc0c0c07398b.parquet",
            ),
            (
                ObjectPath::archive(&table, ArchiveObject::Manifest(FileId(id))),
                ObjectKind::Archive(table.clone(), ArchiveObject::Manifest(FileId(id))),
                "archive/orders_eu/metadata/01936f2e-5b1c-7cc3-98c4-dc0c0c07398b.avro",
            ),
            (
                ObjectPath::archive(&table, ArchiveObject::List(Seq(42))),
                ObjectKind::Archive(table.clone(), ArchiveObject::List(Seq(42))),
                "archive/orders_eu/metadata/snap-42.avro",
            ),
            (
                ObjectPath::archive(&table, ArchiveObject::Metadata(Seq(42))),
                ObjectKind::Archive(table.clone(), ArchiveObject::Metadata(Seq(42))),
                "archive/orders_eu/metadata/v42.metadata.json",
            ),
            (
                ObjectPath::archive(&table, ArchiveObject::Hint),
                ObjectKind::Archive(table.clone(), ArchiveObject::Hint),
                "archive/orders_eu/metadata/version-hint.text",
            ),
            (
                ObjectPath::check(id, "race 1"),
                ObjectKind::Check {
                    run: id,
                    name: "race-1".to_owned(),
                },
                "check/01936f2e-5b1c-7cc3-98c4-dc0c0c07398b/race-1",
            ),
            (
                ObjectPath::copy(id, &ObjectPath::commit(Seq(42))),
                ObjectKind::Copy {
                    run: id,
                    of: Box::new(ObjectPath::commit(Seq(42))),
                },
                "repair/01936f2e-5b1c-7cc3-98c4-dc0c0c07398b/manifest/log/00000000000000000042.commit",
            ),
        ]
    }

    #[test]
    fn every_kind_of_object_has_its_documented_name_and_is_read_back_from_it() {
        for (path, kind, name) in samples() {
            assert_eq!(path.as_str(), name);
            assert_eq!(path.kind(), kind);
            assert_eq!(name.parse::<ObjectPath>(), Ok(path));
        }
    }

    #[test]
    fn a_name_that_weir_would_not_write_is_not_an_object_of_weir() {
        for name in [
            "",
            "cluster.json/",
            "manifest/log/42.commit",
            "manifest/log/+0000000000000000042.commit",
            "manifest/log/99999999999999999999.commit",
            "manifest/log/00000000000000000042.snapshot",
            "manifest/chunk/00000000000000000007.chunk",
            "manifest/chunk/00000000000000000007.1.chunk",
            "manifest/boundary/0000000000000000000x",
            "segments/a/01936f2e-5b1c-7cc3-98c4-dc0c0c07398b.segment",
            "segments/b/01936F2E-5B1C-7CC3-98C4-DC0C0C07398B.segment",
            "check/01936f2e-5b1c-7cc3-98c4-dc0c0c07398b/",
            "check/01936f2e-5b1c-7cc3-98c4-dc0c0c07398b/../../cluster.json",
            "repair/01936f2e-5b1c-7cc3-98c4-dc0c0c07398b/archive/x",
            "repair/x/cluster.json",
            "archive/x",
            "archive/X/metadata/v1.metadata.json",
            "archive/x/metadata/v01.metadata.json",
            "archive/x/metadata/snap-.avro",
            "archive/x/data/1.parquet",
            "archive/x/data/y/01936f2e-5b1c-7cc3-98c4-dc0c0c07398b.parquet",
        ] {
            assert!(name.parse::<ObjectPath>().is_err(), "{name}");
        }
    }

    #[test]
    fn what_is_reserved_for_other_logs_is_named_and_listed_by_nobody() {
        for (path, _, name) in samples() {
            assert!(!is_of_another_log(path.as_str()));
            let of_another = format!("logs/1/{name}");
            assert!(is_of_another_log(&of_another));
            assert!(of_another.parse::<ObjectPath>().is_err());
        }
        assert!(!is_of_another_log("logs") && !is_of_another_log("logs.txt"));
        let prefixes = [
            ObjectPrefix::Log,
            ObjectPrefix::Snapshots,
            ObjectPrefix::Chunks,
            ObjectPrefix::Boundaries,
            ObjectPrefix::Segments,
            ObjectPrefix::Archive,
            ObjectPrefix::Checks,
            ObjectPrefix::Repairs,
        ];
        for prefix in prefixes {
            assert_ne!(prefix.name().split('/').next(), Some("logs"));
        }
    }

    #[test]
    fn the_order_of_names_is_the_order_of_numbers() {
        let names: Vec<_> = [0, 9, 10, 99_999, u64::MAX]
            .map(|n| ObjectPath::commit(Seq(n)))
            .into();
        assert!(names.is_sorted());
    }
}
