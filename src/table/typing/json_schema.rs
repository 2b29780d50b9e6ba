//! The columns that a JSON Schema asks for.
//!
//! Of JSON Schema the types are used: `type`, `properties`, `items`, `format`, and `anyOf` or `oneOf` of null and one other.
//! What says nothing of types is left out of account. What has no one type is a column with JSON.

use serde_json::{Map, Value};

use crate::state::table::{ColumnType, MAX_COLUMNS};

use super::node::{Node, any_element, element};

/// How deeply a schema may be nested.
const MAX_SCHEMA_DEPTH: usize = 8;
/// How many columns a schema may ask for: room is left for others.
const MAX_GIVEN_COLUMNS: usize = MAX_COLUMNS / 4;

/// Why formats and schemas are not what a topic may have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TypingError {
    /// No such format.
    #[error("archive.{side}.format: there is no format `{format}`; it is bytes, string or json")]
    Format {
        /// Key or value.
        side: &'static str,
        /// What was given.
        format: String,
    },
    /// A schema for what has none.
    #[error(
        "archive.{side}.schema: only the format json has a schema; set archive.{side}.format=json, or no schema"
    )]
    NoSchema {
        /// Key or value.
        side: &'static str,
    },
    /// A schema that cannot be read.
    #[error("archive.{side}.schema, at `{path}`: {reason}")]
    Schema {
        /// Key or value.
        side: &'static str,
        /// Where in it.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

/// The columns of the object that `schema` describes.
pub(super) fn columns(side: &'static str, schema: &str) -> Result<Vec<Node>, TypingError> {
    let fault = |(path, reason): (String, String)| TypingError::Schema { side, path, reason };
    let parsed: Value = serde_json::from_str(schema)
        .map_err(|error| fault(("/".to_owned(), format!("it is not JSON: {error}"))))?;
    let root = of(&parsed, "/", 1).map_err(fault)?;
    if root.column_type != ColumnType::Struct {
        let reason = "it is the schema of a record, so its type is object, with properties";
        return Err(fault(("/".to_owned(), reason.to_owned())));
    }
    if root.count() > MAX_GIVEN_COLUMNS {
        let reason = format!("it has more than {MAX_GIVEN_COLUMNS} fields");
        return Err(fault(("/".to_owned(), reason)));
    }
    let rooted = root.inside.into_iter().map(|mut node| {
        node.source.insert_str(0, side);
        node
    });
    Ok(rooted.collect())
}

type Fault = (String, String);

/// The type of what a schema describes, as a column whose source is that of an element of a list.
fn of(schema: &Value, path: &str, depth: usize) -> Result<Node, Fault> {
    let fault = |reason: &str| (path.to_owned(), reason.to_owned());
    let schema = match schema {
        Value::Object(schema) => schema,
        // Anything.
        Value::Bool(true) => return Ok(any_element()),
        _ => return Err(fault("a schema is an object")),
    };
    if depth > MAX_SCHEMA_DEPTH {
        return Err(fault("it is nested too deeply"));
    }
    for unknown in ["$ref", "$dynamicRef", "allOf", "patternProperties", "if"] {
        if schema.contains_key(unknown) {
            let reason = format!("`{unknown}` is not supported; say there what the type is");
            return Err((path.to_owned(), reason));
        }
    }
    for choice in ["anyOf", "oneOf"] {
        if let Some(choices) = schema.get(choice) {
            let choices = choices
                .as_array()
                .ok_or_else(|| fault("its choices are no array"))?;
            let is_null =
                |choice: &&Value| choice.get("type").and_then(Value::as_str) == Some("null");
            let others: Vec<&Value> = choices.iter().filter(|choice| !is_null(choice)).collect();
            return match others[..] {
                [one] => of(one, path, depth + 1),
                _ => Ok(any_element()),
            };
        }
    }
    let types: Vec<&str> = match schema.get("type") {
        None if schema.contains_key("properties") => vec!["object"],
        None => return Ok(any_element()),
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => {
            let types: Option<Vec<&str>> = several.iter().map(Value::as_str).collect();
            let mut types = types.ok_or_else(|| fault("its type is no name"))?;
            types.retain(|name| *name != "null");
            types
        }
        Some(_) => return Err(fault("its type is no name")),
    };
    let [one] = types[..] else {
        return Ok(any_element());
    };
    let format = schema.get("format").and_then(Value::as_str);
    let scalar = |column_type| Ok(element(column_type, Vec::new()));
    match one {
        "null" => Ok(any_element()),
        "boolean" => scalar(ColumnType::Boolean),
        "integer" if format == Some("int32") => scalar(ColumnType::Int),
        "integer" => scalar(ColumnType::Long),
        "number" if format == Some("float") => scalar(ColumnType::Float),
        "number" => scalar(ColumnType::Double),
        "string" => match format {
            Some("date-time") => scalar(ColumnType::Timestamptz),
            Some("date") => scalar(ColumnType::Date),
            _ if schema.get("contentEncoding").and_then(Value::as_str) == Some("base64") => {
                scalar(ColumnType::Binary)
            }
            _ => scalar(ColumnType::String),
        },
        "array" => match schema.get("items") {
            Some(items) => {
                let inside = of(items, &format!("{path}items/"), depth + 1)?;
                Ok(element(ColumnType::List, vec![inside]))
            }
            None => Ok(element(ColumnType::List, vec![any_element()])),
        },
        "object" => {
            let none = Map::new();
            let properties = match schema.get("properties") {
                Some(Value::Object(properties)) => properties,
                Some(_) => return Err(fault("its properties are no object")),
                None => &none,
            };
            if properties.is_empty() {
                return Ok(any_element());
            }
            let mut inside = Vec::new();
            for (field, schema) in properties {
                let mut node = of(schema, &format!("{path}{field}/"), depth + 1)?;
                node.source = match node.source.as_str() {
                    "~" => format!("~/{field}"),
                    _ => format!("/{field}"),
                };
                inside.push(node);
            }
            Ok(element(ColumnType::Struct, inside))
        }
        other => {
            let reason = format!("there is no type `{other}` in JSON Schema");
            Err((path.to_owned(), reason))
        }
    }
}
