//! What a table consists of: manifests with their data files, and the snapshots that name them.

use minicbor::{Decode, Encode};
use serde::Serialize;

use crate::types::{FileId, Offset, PartitionIndex, Seq, Timestamp};

/// The most data files in a manifest.
pub const MAX_FILES: usize = 1024;

/// The most rows, and the most bytes, of all files of a manifest.
const MAX_TOTAL: u64 = 1 << 44;

/// A manifest: the unit in which data files come to a table and go. The object is an Iceberg manifest file that lists
/// these data files, all of them as added, with a sequence number and snapshot id that it takes from the manifest list
/// that names it; so its bytes are the same wherever in the log its op stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Manifest {
    /// Its name.
    #[n(0)]
    pub id: FileId,
    /// Its length in bytes.
    #[n(1)]
    pub bytes: u64,
    /// Its CRC-32C.
    #[n(2)]
    pub crc32c: u32,
    /// The schema by which its files are written.
    #[n(3)]
    pub schema: u32,
    /// How its files are divided.
    #[n(4)]
    pub spec: u32,
    /// Its data files.
    #[n(5)]
    pub files: Vec<DataFile>,
    /// Which offsets were read for it, in the order of partitions and offsets. Each record that was there is in exactly
    /// one of the files.
    #[n(6)]
    pub ranges: Vec<OffsetRange>,
    /// How many of its rows have an error: what was read did not fit the typed columns.
    #[n(7)]
    pub errors: u64,
    /// The least timestamp of its records.
    #[n(8)]
    pub min_timestamp: Timestamp,
    /// The greatest timestamp of its records.
    #[n(9)]
    pub max_timestamp: Timestamp,
}

/// A Parquet file of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct DataFile {
    /// Its name.
    #[n(0)]
    pub id: FileId,
    /// Its length in bytes.
    #[n(1)]
    pub bytes: u64,
    /// Its CRC-32C.
    #[n(2)]
    pub crc32c: u32,
    /// How many rows it has.
    #[n(3)]
    pub rows: u64,
    /// The hour, day or month since the epoch of all of its rows, as the spec of its manifest says. None if that does
    /// not divide files, and for rows without a timestamp.
    #[n(4)]
    pub partition: Option<i32>,
}

/// Offsets of a partition.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize,
)]
#[cbor(array)]
pub struct OffsetRange {
    /// The partition of the topic.
    #[n(0)]
    pub partition: PartitionIndex,
    /// The first offset.
    #[n(1)]
    pub base: Offset,
    /// The offset after the last.
    #[n(2)]
    pub end: Offset,
}

/// A manifest that is part of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct LiveManifest {
    /// The manifest.
    #[n(0)]
    pub manifest: Manifest,
    /// The snapshot that added it, which is also its sequence number in Iceberg's sense.
    #[n(1)]
    pub added: Seq,
}

/// A manifest that is no part of the newest version of the table any more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct RetiredManifest {
    /// The manifest.
    #[n(0)]
    pub manifest: Manifest,
    /// The snapshot that added it.
    #[n(1)]
    pub added: Seq,
    /// The first snapshot without it.
    #[n(2)]
    pub removed: Seq,
    /// Those of its data files that no other manifest took over: they go with it.
    #[n(3)]
    pub files: Vec<FileId>,
    /// Since when no snapshot names it; none while one does. Whoever opened the table before may still read it, so its
    /// objects are deleted a while after.
    #[n(4)]
    pub unnamed: Option<Unnamed>,
}

/// Since when no snapshot names a manifest that was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Unnamed {
    /// The fold's time.
    #[n(0)]
    pub since: Timestamp,
    /// The commit.
    #[n(1)]
    pub seq: Seq,
}

/// What a table was from one commit on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Snapshot {
    /// The commit that made it: its id and its sequence number in Iceberg's sense.
    #[n(0)]
    pub seq: Seq,
    /// The snapshot before it, if there was one.
    #[n(1)]
    pub parent: Option<Seq>,
    /// The fold's time of that commit.
    #[n(2)]
    pub time: Timestamp,
    /// The schema at that time.
    #[n(3)]
    pub schema: u32,
    /// What that commit added.
    #[n(4)]
    pub added: Counts,
    /// What it took away.
    #[n(5)]
    pub removed: Counts,
    /// What the table had then.
    #[n(6)]
    pub total: Counts,
}

/// How much there is of a table, or of a change to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Counts {
    /// Data files.
    #[n(0)]
    pub files: u64,
    /// Their rows.
    #[n(1)]
    pub rows: u64,
    /// Their bytes.
    #[n(2)]
    pub bytes: u64,
    /// Rows with an error.
    #[n(3)]
    pub errors: u64,
}

/// Iceberg's word for what a snapshot did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Files were added, none was removed.
    Append,
    /// The same rows are in other files.
    Replace,
    /// Files were removed, none was added.
    Delete,
    /// Several of these at once.
    Overwrite,
}

impl Manifest {
    /// How much is in it.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts {
            errors: self.errors,
            ..Counts::default()
        };
        for file in &self.files {
            counts.files += 1;
            counts.rows = counts.rows.saturating_add(file.rows);
            counts.bytes = counts.bytes.saturating_add(file.bytes);
        }
        counts
    }

    /// How many rows its files have.
    pub fn rows(&self) -> u64 {
        self.counts().rows
    }

    /// Whether it can be computed with.
    pub(super) fn is_sound(&self) -> bool {
        let Counts {
            rows,
            bytes,
            errors,
            ..
        } = self.counts();
        self.files.len() <= MAX_FILES && rows <= MAX_TOTAL && bytes <= MAX_TOTAL && errors <= rows
    }

    /// All objects of it: itself and its files.
    pub fn objects(&self) -> impl Iterator<Item = FileId> {
        std::iter::once(self.id).chain(self.files.iter().map(|file| file.id))
    }
}

impl OffsetRange {
    /// The same offsets in as few ranges as there can be, in the order of partitions and offsets.
    pub fn joined<'a>(ranges: impl Iterator<Item = &'a OffsetRange>) -> Vec<OffsetRange> {
        let mut ranges: Vec<OffsetRange> = ranges.copied().collect();
        ranges.sort();
        let mut joined: Vec<OffsetRange> = Vec::new();
        for range in ranges {
            match joined.last_mut() {
                Some(last) if last.partition == range.partition && last.end == range.base => {
                    last.end = range.end;
                }
                _ => joined.push(range),
            }
        }
        joined
    }
}

impl Counts {
    pub(super) fn plus(self, other: Counts) -> Counts {
        Counts {
            files: self.files.saturating_add(other.files),
            rows: self.rows.saturating_add(other.rows),
            bytes: self.bytes.saturating_add(other.bytes),
            errors: self.errors.saturating_add(other.errors),
        }
    }

    pub(super) fn minus(self, other: Counts) -> Counts {
        Counts {
            files: self.files.saturating_sub(other.files),
            rows: self.rows.saturating_sub(other.rows),
            bytes: self.bytes.saturating_sub(other.bytes),
            errors: self.errors.saturating_sub(other.errors),
        }
    }
}

impl Snapshot {
    /// Iceberg's word for what it did.
    pub fn operation(&self) -> Operation {
        match (self.added.files, self.removed.files) {
            (_, 0) => Operation::Append,
            (0, _) => Operation::Delete,
            _ if self.added.rows == self.removed.rows => Operation::Replace,
            _ => Operation::Overwrite,
        }
    }
}

impl Operation {
    /// As it stands in the summary of a snapshot.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Append => "append",
            Operation::Replace => "replace",
            Operation::Delete => "delete",
            Operation::Overwrite => "overwrite",
        }
    }
}

/// By what a file is the same as another: all that is said of it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileKey(FileId, u64, u32, u64, Option<i32>);

impl From<&DataFile> for FileKey {
    fn from(file: &DataFile) -> FileKey {
        let DataFile {
            id,
            bytes,
            crc32c,
            rows,
            partition,
        } = *file;
        FileKey(id, bytes, crc32c, rows, partition)
    }
}
