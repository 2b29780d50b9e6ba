//! The columns of an archived topic: which there are, their names and types, and what they are in Arrow.
//!
//! The base columns are the same for every topic, today and later: their names, types and field ids are part of the
//! format. Field ids below [`FIRST_TYPED_FIELD_ID`] belong to them. Columns that a topic's format adds stand between
//! `headers` and `error`, and have ids from there on. A field id is never used twice in the life of a table.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, SchemaRef, TimeUnit};

use crate::state::table::{Column, ColumnType, FieldId, Schema};

use super::SchemaError;

/// The column with the partition's index.
pub const PARTITION: &str = "partition";
/// The column with the offset.
pub const OFFSET: &str = "offset";
/// The column with the time of the record; null if it is none of the years 1 to 9999.
pub const TIMESTAMP: &str = "timestamp";
/// The column that says whose time it is, in Kafka's words.
pub const TIMESTAMP_TYPE: &str = "timestamp_type";
/// The column with the key as the producer sent it.
pub const KEY: &str = "key";
/// The column with the value as the producer sent it.
pub const VALUE: &str = "value";
/// The column with the headers.
pub const HEADERS: &str = "headers";
/// The column that says what of the record did not fit the other columns.
pub const ERROR: &str = "error";

/// The field id of [`PARTITION`].
pub const PARTITION_ID: FieldId = FieldId(1);
/// The field id of [`OFFSET`].
pub const OFFSET_ID: FieldId = FieldId(2);
/// The field id of [`TIMESTAMP`].
pub const TIMESTAMP_ID: FieldId = FieldId(3);
/// The field id of [`TIMESTAMP_TYPE`].
pub const TIMESTAMP_TYPE_ID: FieldId = FieldId(4);
/// The field id of [`KEY`].
pub const KEY_ID: FieldId = FieldId(5);
/// The field id of [`VALUE`].
pub const VALUE_ID: FieldId = FieldId(6);
/// The field id of [`HEADERS`]; 8, 9 and 10 are those of its elements, their keys and their values.
pub const HEADERS_ID: FieldId = FieldId(7);
/// The field id of [`ERROR`].
pub const ERROR_ID: FieldId = FieldId(11);

/// The longest name that [`column_name`] makes, in bytes: room is left for a number behind it.
const MAX_COLUMN_NAME_LEN: usize = 128;

/// The first field id of a column that is not one of the base columns.
pub const FIRST_TYPED_FIELD_ID: FieldId = FieldId(100);

/// The key of a field's metadata under which Parquet and Iceberg look for its id.
pub const FIELD_ID_KEY: &str = "PARQUET:field_id";

/// The columns that every table has, with `error` last, each followed by those in it.
pub fn base_columns() -> Vec<Column> {
    use ColumnType::{Binary, Int, List, Long, String, Struct, Timestamptz};
    let (element, header_key, header_value) = (FieldId(8), FieldId(9), FieldId(10));
    let required = |id, parent, name, kind| column(id, parent, name, kind, true);
    let optional = |id, parent, name, kind| column(id, parent, name, kind, false);
    vec![
        required(PARTITION_ID, None, PARTITION, Int),
        required(OFFSET_ID, None, OFFSET, Long),
        optional(TIMESTAMP_ID, None, TIMESTAMP, Timestamptz),
        required(TIMESTAMP_TYPE_ID, None, TIMESTAMP_TYPE, String),
        optional(KEY_ID, None, KEY, Binary),
        optional(VALUE_ID, None, VALUE, Binary),
        required(HEADERS_ID, None, HEADERS, List),
        required(element, Some(HEADERS_ID), "element", Struct),
        required(header_key, Some(element), "key", String),
        optional(header_value, Some(element), "value", Binary),
        optional(ERROR_ID, None, ERROR, String),
    ]
}

fn column(
    id: FieldId,
    parent: Option<FieldId>,
    name: &str,
    column_type: ColumnType,
    required: bool,
) -> Column {
    Column {
        id,
        parent,
        name: name.to_owned(),
        column_type,
        required,
        source: String::new(),
    }
}

/// The schema of a topic without typed columns.
pub fn base_schema() -> Schema {
    Schema {
        id: 0,
        columns: base_columns(),
    }
}

/// The columns of one schema, with what they are in Arrow.
#[derive(Clone, Debug)]
pub struct Columns {
    schema: Arc<Schema>,
    arrow: SchemaRef,
}

impl Columns {
    /// The columns of `schema`, if it is one that a table may have.
    pub fn new(schema: Schema) -> Result<Columns, SchemaError> {
        check(&schema)?;
        Ok(Columns::unchecked(schema))
    }

    /// The base columns and no others.
    pub fn base() -> Columns {
        Columns::unchecked(base_schema())
    }

    fn unchecked(schema: Schema) -> Columns {
        let fields: Vec<Field> = schema
            .children(None)
            .map(|column| arrow_field(&schema, column))
            .collect();
        Columns {
            arrow: Arc::new(arrow_schema::Schema::new(fields)),
            schema: Arc::new(schema),
        }
    }

    /// The schema.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The same in Arrow; each field has its id in its metadata, under [`FIELD_ID_KEY`].
    pub fn arrow(&self) -> &SchemaRef {
        &self.arrow
    }
}

/// A column as Arrow has it.
pub(super) fn arrow_field(schema: &Schema, column: &Column) -> Field {
    let id = HashMap::from([(FIELD_ID_KEY.to_owned(), column.id.0.to_string())]);
    Field::new(&column.name, arrow_type(schema, column), !column.required).with_metadata(id)
}

/// The type of a column in Arrow. A schema that was checked nests a bounded number of times.
fn arrow_type(schema: &Schema, column: &Column) -> DataType {
    let fields = || {
        let inside = schema.children(Some(column.id));
        Fields::from_iter(inside.map(|inner| arrow_field(schema, inner)))
    };
    match column.column_type {
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Int => DataType::Int32,
        ColumnType::Long => DataType::Int64,
        ColumnType::Float => DataType::Float32,
        ColumnType::Double => DataType::Float64,
        ColumnType::Decimal { precision, scale } => {
            // Neither is over 38 in a schema that was checked.
            DataType::Decimal128(precision, i8::try_from(scale).unwrap_or(i8::MAX))
        }
        ColumnType::Date => DataType::Date32,
        ColumnType::Time => DataType::Time64(TimeUnit::Microsecond),
        ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        ColumnType::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        ColumnType::String => DataType::Utf8,
        ColumnType::Binary => DataType::Binary,
        ColumnType::Uuid => DataType::FixedSizeBinary(16),
        ColumnType::Fixed(len) => DataType::FixedSizeBinary(i32::try_from(len).unwrap_or(i32::MAX)),
        ColumnType::Struct => DataType::Struct(fields()),
        ColumnType::List => match fields().first() {
            Some(element) => DataType::List(element.clone()),
            None => DataType::Null,
        },
        ColumnType::Map => {
            let entries = Field::new("key_value", DataType::Struct(fields()), false);
            DataType::Map(Arc::new(entries), false)
        }
    }
}

/// The name of a column for what a producer calls `source`: letters, digits and underscores, a letter first, and lower
/// case, since engines differ in whether case matters. Never empty.
pub fn column_name(source: &str) -> String {
    let mut name = String::new();
    for letter in source.chars().flat_map(char::to_lowercase) {
        let clean = if letter.is_alphanumeric() {
            letter
        } else {
            '_'
        };
        if clean == '_' && name.is_empty() {
            continue;
        }
        if name.is_empty() && !clean.is_alphabetic() {
            name.push_str("column_");
        }
        if name.len() + clean.len_utf8() > MAX_COLUMN_NAME_LEN {
            break;
        }
        name.push(clean);
    }
    if name.is_empty() {
        name.push_str("column");
    }
    name
}

fn check(schema: &Schema) -> Result<(), SchemaError> {
    if let Some(fault) = schema.fault() {
        return Err(SchemaError::Fault(fault));
    }
    let base = base_columns();
    if let Some(missing) = base.iter().find(|column| !schema.columns.contains(column)) {
        return Err(SchemaError::Base {
            name: missing.name.clone(),
        });
    }
    let typed = schema
        .columns
        .iter()
        .filter(|column| !base.contains(column));
    for column in typed {
        let name = || column.name.clone();
        let is_inside = column.parent.is_some();
        if column.id < FIRST_TYPED_FIELD_ID
            || column
                .parent
                .is_some_and(|parent| parent < FIRST_TYPED_FIELD_ID)
        {
            return Err(SchemaError::FieldId {
                id: column.id.0,
                name: name(),
            });
        }
        if column.required && !is_inside {
            return Err(SchemaError::Required { name: name() });
        }
    }
    Ok(())
}
