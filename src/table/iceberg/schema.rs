//! Schemas and partition specs in Iceberg's JSON.

use serde::Serialize;

use crate::state::table::{Column, ColumnType, FieldId, PartitionSpec, Schema};
use crate::table::TIMESTAMP_ID;

use super::partition_field;

/// A schema, as it stands in metadata.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct SchemaJson {
    r#type: &'static str,
    schema_id: u32,
    fields: Vec<FieldJson>,
}

#[derive(Serialize)]
struct FieldJson {
    id: u32,
    name: String,
    required: bool,
    r#type: TypeJson,
    #[serde(skip_serializing_if = "String::is_empty")]
    doc: String,
}

#[derive(Serialize)]
#[serde(untagged)]
enum TypeJson {
    Primitive(String),
    Struct {
        r#type: &'static str,
        fields: Vec<FieldJson>,
    },
    #[serde(rename_all = "kebab-case")]
    List {
        r#type: &'static str,
        element_id: u32,
        element: Box<TypeJson>,
        element_required: bool,
    },
    #[serde(rename_all = "kebab-case")]
    Map {
        r#type: &'static str,
        key_id: u32,
        key: Box<TypeJson>,
        value_id: u32,
        value: Box<TypeJson>,
        value_required: bool,
    },
}

/// A partition spec, as it stands in metadata.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct SpecJson {
    spec_id: u32,
    fields: Vec<SpecFieldJson>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct SpecFieldJson {
    source_id: u32,
    field_id: i32,
    name: &'static str,
    transform: &'static str,
}

impl SchemaJson {
    pub(super) fn of(schema: &Schema) -> SchemaJson {
        SchemaJson {
            r#type: "struct",
            schema_id: schema.id,
            fields: fields(schema, None),
        }
    }
}

impl SpecJson {
    pub(super) fn of(spec: PartitionSpec) -> SpecJson {
        SpecJson {
            spec_id: spec.id,
            fields: spec_fields(spec),
        }
    }
}

/// A schema in Iceberg's JSON.
pub fn schema_json(schema: &Schema) -> Result<String, serde_json::Error> {
    serde_json::to_string(&SchemaJson::of(schema))
}

/// The fields of a partition spec in Iceberg's JSON.
pub fn partition_fields(spec: PartitionSpec) -> Result<String, serde_json::Error> {
    serde_json::to_string(&spec_fields(spec))
}

fn spec_fields(spec: PartitionSpec) -> Vec<SpecFieldJson> {
    let field = partition_field(spec.by).map(|(name, field_id, transform)| SpecFieldJson {
        source_id: TIMESTAMP_ID.0,
        field_id,
        name,
        transform,
    });
    field.into_iter().collect()
}

fn fields(schema: &Schema, parent: Option<FieldId>) -> Vec<FieldJson> {
    schema
        .children(parent)
        .map(|column| FieldJson {
            id: column.id.0,
            name: column.name.clone(),
            required: column.required,
            r#type: type_json(schema, column),
            doc: column.source.clone(),
        })
        .collect()
}

fn type_json(schema: &Schema, column: &Column) -> TypeJson {
    let mut inside = schema.children(Some(column.id));
    let primitive = |name: &str| TypeJson::Primitive(name.to_owned());
    match column.column_type {
        ColumnType::Boolean => primitive("boolean"),
        ColumnType::Int => primitive("int"),
        ColumnType::Long => primitive("long"),
        ColumnType::Float => primitive("float"),
        ColumnType::Double => primitive("double"),
        ColumnType::Decimal { precision, scale } => {
            TypeJson::Primitive(format!("decimal({precision}, {scale})"))
        }
        ColumnType::Date => primitive("date"),
        ColumnType::Time => primitive("time"),
        ColumnType::Timestamp => primitive("timestamp"),
        ColumnType::Timestamptz => primitive("timestamptz"),
        ColumnType::String => primitive("string"),
        ColumnType::Uuid => primitive("uuid"),
        ColumnType::Fixed(len) => TypeJson::Primitive(format!("fixed[{len}]")),
        ColumnType::Binary => primitive("binary"),
        ColumnType::Struct => TypeJson::Struct {
            r#type: "struct",
            fields: fields(schema, Some(column.id)),
        },
        // A schema of which these lack what is in them is refused when it comes.
        ColumnType::List => match inside.next() {
            Some(element) => TypeJson::List {
                r#type: "list",
                element_id: element.id.0,
                element: Box::new(type_json(schema, element)),
                element_required: element.required,
            },
            None => primitive("binary"),
        },
        ColumnType::Map => match (inside.next(), inside.next()) {
            (Some(key), Some(value)) => TypeJson::Map {
                r#type: "map",
                key_id: key.id.0,
                key: Box::new(type_json(schema, key)),
                value_id: value.id.0,
                value: Box::new(type_json(schema, value)),
                value_required: value.required,
            },
            _ => primitive("binary"),
        },
    }
}
