//! What ops say of tables.

use minicbor::{Decode, Encode};
use serde::Serialize;

use super::{Manifest, PartitionBy, Schema};
use crate::types::{FileId, TableId, TableName, TopicId};

/// Create the table of a topic.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct CreateTable {
    /// Its id, minted by the node.
    #[n(0)]
    pub id: TableId,
    /// The topic.
    #[n(1)]
    pub topic: TopicId,
    /// Its name.
    #[n(2)]
    pub name: TableName,
    /// Its first schema, with the number 0.
    #[n(3)]
    pub schema: Schema,
    /// How its files are divided.
    #[n(4)]
    pub by: PartitionBy,
}

/// Change how a table is written from now on.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct AlterTable {
    /// The table.
    #[n(0)]
    pub table: TableId,
    /// A new schema, whose number is one more than that of the newest.
    #[n(1)]
    pub schema: Option<Schema>,
    /// How its files are divided.
    #[n(2)]
    pub by: Option<PartitionBy>,
    /// Whether records are kept in the topic until they are archived.
    #[n(3)]
    pub enabled: Option<bool>,
}

/// Add records to a table: exactly once, as each range begins where its partition is archived to.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Archive {
    /// The table.
    #[n(0)]
    pub table: TableId,
    /// What is added: its objects are in the bucket.
    #[n(1)]
    pub manifest: Manifest,
}

/// Put one manifest in the place of neighbours. It has the same rows, in other files or the same.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct RewriteFiles {
    /// The table.
    #[n(0)]
    pub table: TableId,
    /// The manifests that go, in the order of the table, with no other between them.
    #[n(1)]
    pub removes: Vec<FileId>,
    /// What comes in their place.
    #[n(2)]
    pub manifest: Manifest,
}
