//! Tables as Apache Iceberg has them, version 2: manifests, manifest lists and table metadata.
//!
//! * [`manifest()`]: the object that lists the data files of one pass. It is stored before its op, and does not
//!   depend on where in the log that ends up: its entries take their snapshot and sequence number from the list that
//!   names it.
//! * [`manifest_list`] and [`table_metadata`]: derived from the state, and from nothing else. Every node makes the
//!   same bytes of the same table, so whoever is first stores them. Hence no map whose order is by chance, no codec
//!   whose output may change with a library, and no random marker.
//!
//! A schema stands in metadata and manifests as it was when it was made: a column that was widened later keeps its old
//! type in the old one, by which engines read old files.

mod avro;
mod manifest;
mod metadata;
mod relocate;
mod schema;

pub use manifest::{ManifestFile, manifest, manifest_list};
pub use metadata::table_metadata;
pub use relocate::{Relocation, Unreadable};
pub use schema::{partition_fields, schema_json};

use crate::state::table::PartitionBy;
use crate::types::{FileId, Seq};

/// Where a table is: the URL of its folder, by which engines find its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location(String);

impl Location {
    /// The folder at `url`.
    pub fn new(url: &str) -> Location {
        Location(url.trim_end_matches('/').to_owned())
    }

    /// The URL, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The URL of a data file.
    pub fn data_file(&self, id: FileId) -> String {
        format!("{}/data/{id}.parquet", self.0)
    }

    /// The URL of a manifest.
    pub fn manifest(&self, id: FileId) -> String {
        format!("{}/metadata/{id}.avro", self.0)
    }

    /// The URL of the list of manifests of a snapshot.
    pub fn manifest_list(&self, snapshot: Seq) -> String {
        format!("{}/metadata/snap-{snapshot}.avro", self.0)
    }
}

/// Whether a partition field has that name, so that no column may.
pub(super) fn is_partition_name(name: &str) -> bool {
    let all = [PartitionBy::Day, PartitionBy::Hour, PartitionBy::Month];
    let mut fields = all.into_iter().filter_map(partition_field);
    fields.any(|(taken, ..)| taken == name)
}

/// How partitioning is written: the name of the partition field, its id, and Iceberg's name of the transform.
fn partition_field(by: PartitionBy) -> Option<(&'static str, i32, &'static str)> {
    match by {
        PartitionBy::None => None,
        PartitionBy::Day => Some(("timestamp_day", 1000, "day")),
        PartitionBy::Hour => Some(("timestamp_hour", 1001, "hour")),
        PartitionBy::Month => Some(("timestamp_month", 1002, "month")),
    }
}
