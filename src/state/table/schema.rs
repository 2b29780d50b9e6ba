//! The columns of a table, and how its files are divided.
//!
//! A schema is never changed: a table has all the schemas that it ever had, and each data file the one by which it was
//! written, so that a column that was widened keeps its old type in old files.
//!
//! Columns are kept flat, parents before children, so that whatever a commit contains is read without recursion.

use std::collections::{BTreeMap, BTreeSet};

use minicbor::{Decode, Encode};
use serde::Serialize;

/// The most columns of a schema, nested ones among them.
pub const MAX_COLUMNS: usize = 2000;

/// How deep columns may be nested.
pub const MAX_DEPTH: u32 = 16;

/// The longest name of a column, in bytes.
pub const MAX_COLUMN_NAME: usize = 256;

/// The longest source of a column, in bytes.
const MAX_SOURCE: usize = 1024;

/// The number of a column, Iceberg's field id. It is never given to another column of the table.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode, Serialize,
)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct FieldId(#[n(0)] pub u32);

/// The columns of a table from some version of it on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Schema {
    /// Its number in the table: 0 for the first, and one more for each after it.
    #[n(0)]
    pub id: u32,
    /// The columns in their order, each before the columns in it.
    #[n(1)]
    pub columns: Vec<Column>,
}

/// A column, or a part of one that is nested.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Column {
    /// Its number.
    #[n(0)]
    pub id: FieldId,
    /// The struct, list or map in which it is; none for a column of the table.
    #[n(1)]
    pub parent: Option<FieldId>,
    /// Its name. In a list it is `element`; in a map `key` and `value`.
    #[n(2)]
    pub name: String,
    /// Its type.
    #[n(3)]
    pub column_type: ColumnType,
    /// Whether it is never null.
    #[n(4)]
    pub required: bool,
    /// The field of a record from which its values come, spelled as producers spell it; empty for a column that every
    /// table has.
    #[cbor(n(5), default, skip_if = "String::is_empty")]
    pub source: String,
}

/// The type of a column: those of Iceberg version 2. The numbers are durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// True or false.
    #[n(0)]
    Boolean,
    /// 32 bits with a sign.
    #[n(1)]
    Int,
    /// 64 bits with a sign.
    #[n(2)]
    Long,
    /// IEEE 754, 32 bits.
    #[n(3)]
    Float,
    /// IEEE 754, 64 bits.
    #[n(4)]
    Double,
    /// A decimal number.
    #[n(5)]
    Decimal {
        /// How many digits, at most 38.
        #[n(0)]
        precision: u8,
        /// How many of them are behind the point.
        #[n(1)]
        scale: u8,
    },
    /// A day.
    #[n(6)]
    Date,
    /// A time of day in microseconds.
    #[n(7)]
    Time,
    /// Microseconds without a time zone.
    #[n(8)]
    Timestamp,
    /// Microseconds since the epoch, UTC.
    #[n(9)]
    Timestamptz,
    /// UTF-8.
    #[n(10)]
    String,
    /// A UUID.
    #[n(11)]
    Uuid,
    /// So many bytes.
    #[n(12)]
    Fixed(#[n(0)] u32),
    /// Bytes.
    #[n(13)]
    Binary,
    /// The columns whose parent it is.
    #[n(14)]
    Struct,
    /// A list of the one column whose parent it is.
    #[n(15)]
    List,
    /// A map from the first of the two columns whose parent it is to the second.
    #[n(16)]
    Map,
}

/// By what of its records' timestamps the files of a table are divided, in UTC. The numbers are durable.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum PartitionBy {
    /// Not at all.
    #[default]
    #[n(0)]
    None,
    /// By hours since the epoch.
    #[n(1)]
    Hour,
    /// By days since the epoch.
    #[n(2)]
    Day,
    /// By months since the epoch.
    #[n(3)]
    Month,
}

/// How files are divided, with its number in the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct PartitionSpec {
    /// Its number: 0 for the first, and one more for each after it. There are no two of the same `by`.
    #[n(0)]
    pub id: u32,
    /// By what.
    #[n(1)]
    pub by: PartitionBy,
}

impl Schema {
    /// The columns in `parent`; those of the table, without one.
    pub fn children(&self, parent: Option<FieldId>) -> impl Iterator<Item = &Column> {
        self.columns
            .iter()
            .filter(move |column| column.parent == parent)
    }

    /// The column of this number.
    pub fn column(&self, id: FieldId) -> Option<&Column> {
        self.columns.iter().find(|column| column.id == id)
    }

    /// The greatest number of a column; nothing if it has none.
    pub fn last_column_id(&self) -> Option<FieldId> {
        self.columns.iter().map(|column| column.id).max()
    }

    /// Why no table can have this schema; nothing if one can.
    pub fn fault(&self) -> Option<String> {
        if self.columns.is_empty() {
            return Some("it has no columns".to_owned());
        }
        if self.columns.len() > MAX_COLUMNS {
            return Some(format!("it has more than {MAX_COLUMNS} columns"));
        }
        // The type, the depth, and how many columns were found in it.
        let mut seen: BTreeMap<FieldId, (ColumnType, u32, usize)> = BTreeMap::new();
        let mut names: BTreeSet<(Option<FieldId>, String)> = BTreeSet::new();
        for column in &self.columns {
            let name = &column.name;
            if name.is_empty() || name.len() > MAX_COLUMN_NAME || name.starts_with('_') {
                return Some(format!(
                    "the name of column {} is empty, longer than {MAX_COLUMN_NAME} bytes, or begins with '_'",
                    column.id.0
                ));
            }
            // Engines that fold case must find each.
            if !names.insert((column.parent, name.to_lowercase())) {
                return Some(format!("two columns are named '{name}'"));
            }
            let depth = match column.parent {
                None => 0,
                Some(parent) => {
                    let Some((parent_type, depth, inside)) = seen.get_mut(&parent) else {
                        return Some(format!("column '{name}' is in no column before it"));
                    };
                    *inside += 1;
                    let fits = match parent_type {
                        ColumnType::Struct => true,
                        ColumnType::List => *inside == 1,
                        ColumnType::Map => *inside <= 2,
                        _ => false,
                    };
                    if !fits {
                        return Some(format!("column '{name}' cannot be in column {}", parent.0));
                    }
                    *depth + 1
                }
            };
            if depth > MAX_DEPTH {
                return Some(format!(
                    "column '{name}' is nested more than {MAX_DEPTH} deep"
                ));
            }
            if column.source.len() > MAX_SOURCE {
                return Some(format!(
                    "the source of column '{name}' is longer than {MAX_SOURCE} bytes"
                ));
            }
            if !column.column_type.is_sound() {
                return Some(format!("column '{name}' has no possible type"));
            }
            if seen
                .insert(column.id, (column.column_type, depth, 0))
                .is_some()
            {
                return Some(format!("two columns have the number {}", column.id.0));
            }
        }
        let incomplete = seen.iter().find(|(_, (of, _, inside))| match of {
            ColumnType::Struct | ColumnType::List => *inside == 0,
            ColumnType::Map => *inside != 2,
            _ => false,
        });
        incomplete.map(|(id, _)| format!("column {} says nothing of what is in it", id.0))
    }

    /// Why this cannot follow `before` in a table that has given column numbers up to `last`: it may only add optional
    /// columns with new numbers, and widen types; nothing if it may.
    pub fn conflict(&self, before: &Schema, last: FieldId) -> Option<String> {
        for old in &before.columns {
            let Some(new) = self.column(old.id) else {
                return Some(format!("column '{}' is missing", old.name));
            };
            let stays =
                new.parent == old.parent && new.name == old.name && new.source == old.source;
            let widens = new.column_type.is_widening_of(old.column_type);
            let weakens = !new.required || old.required;
            if !stays || !widens || !weakens {
                return Some(format!(
                    "column '{}' is changed in another way than to a wider type",
                    old.name
                ));
            }
        }
        let added = self
            .columns
            .iter()
            .filter(|column| before.column(column.id).is_none());
        for new in added {
            if new.id <= last {
                return Some(format!(
                    "the number {} of column '{}' was given before",
                    new.id.0, new.name
                ));
            }
            let parent = new.parent.and_then(|parent| before.column(parent));
            let is_alone = parent.is_none_or(|parent| parent.column_type == ColumnType::Struct);
            // What is in a new column may be required: it is null as a whole where it is missing.
            let in_new = new.parent.is_some() && parent.is_none();
            if !is_alone || new.required && !in_new {
                return Some(format!("column '{}' is new and not optional", new.name));
            }
        }
        None
    }
}

impl ColumnType {
    /// Whether a column of type `old` may become one of this type: the same, or wider as Iceberg allows.
    pub fn is_widening_of(self, old: ColumnType) -> bool {
        use ColumnType::{Decimal, Double, Float, Int, Long};
        match (old, self) {
            (Int, Long) | (Float, Double) => true,
            (
                Decimal {
                    precision: from,
                    scale,
                },
                Decimal {
                    precision: to,
                    scale: same,
                },
            ) => from <= to && scale == same,
            (old, new) => old == new,
        }
    }

    fn is_sound(self) -> bool {
        match self {
            ColumnType::Decimal { precision, scale } => {
                (1..=38).contains(&precision) && scale <= precision
            }
            ColumnType::Fixed(len) => len > 0,
            _ => true,
        }
    }
}
