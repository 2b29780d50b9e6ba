//! Typed columns: what is inside keys and values, as columns of their own.
//!
//! * [`Typing`]: the formats of a topic's keys and values, and the schemas that were given for them.
//! * [`Evolution`]: the columns of a table, growing: by the schema that was given, or by what is found in records.
//! * [`RowEncoder`](super::RowEncoder) fills them.
//!
//! A record that does not fit is kept: what does not fit is null, and `error` says what it is and where. Key and value
//! themselves are always in their base columns, byte for byte.
//!
//! Whence a column takes its values is durable, as the column's *source*, because names are cleaned and may clash:
//!
//! | source | of a column of the table |
//! |---|---|
//! | `value` | the value as text |
//! | `value#id` | the id of its schema, where it has Confluent's wire format |
//! | `value/F` | the field `F` of the JSON object, if it has the type of the column |
//! | `value~/F` | the field `F`, whatever it is, as JSON |
//!
//! The same with `key`. Within a struct it is `/F` or `~/F`; of an element of a list it is empty, or `~`.

mod cells;
mod json_schema;
mod node;
mod time;

use serde_json::Value;

use super::Row;
pub(super) use cells::TypedCells;
pub use json_schema::TypingError;
use node::Node;
pub use node::{Evolution, MAX_INFERRED_COLUMNS};

/// A key or value that is longer is not opened: what JSON says in three bytes takes many times as much memory.
pub const MAX_OPENED_BYTES: usize = 4 << 20;

/// What a key or a value is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Nothing that Weir looks into.
    #[default]
    Bytes,
    /// Text in UTF-8.
    String,
    /// A JSON object, with Confluent's wire format around it or without.
    Json,
}

impl Format {
    /// The format of that name.
    pub fn parse(name: &str) -> Option<Format> {
        match name {
            "bytes" => Some(Format::Bytes),
            "string" => Some(Format::String),
            "json" => Some(Format::Json),
            _ => None,
        }
    }
}

/// The formats of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Formats {
    /// Of keys.
    pub key: Format,
    /// Of values.
    pub value: Format,
}

/// The formats of a topic, and the columns that the schemas given for them ask for.
#[derive(Clone, Debug, Default)]
pub struct Typing {
    formats: Formats,
    key: Option<Vec<Node>>,
    value: Option<Vec<Node>>,
}

impl Typing {
    /// What the settings of a topic say: formats, and schemas, which may be empty. A schema is JSON Schema, of which the
    /// types are used.
    pub fn new(
        key_format: &str,
        key_schema: &str,
        value_format: &str,
        value_schema: &str,
    ) -> Result<Typing, TypingError> {
        let side = |name: &'static str, format: &str, schema: &str| {
            let format = Format::parse(format).ok_or_else(|| TypingError::Format {
                side: name,
                format: format.to_owned(),
            })?;
            let schema = schema.trim();
            let nodes = match (format, schema.is_empty()) {
                (_, true) => None,
                (Format::Json, false) => Some(json_schema::columns(name, schema)?),
                (Format::Bytes | Format::String, false) => {
                    return Err(TypingError::NoSchema { side: name });
                }
            };
            Ok((format, nodes))
        };
        let (key_format, key) = side(Side::Key.name(), key_format, key_schema)?;
        let (value_format, value) = side(Side::Value.name(), value_format, value_schema)?;
        Ok(Typing {
            formats: Formats {
                key: key_format,
                value: value_format,
            },
            key,
            value,
        })
    }

    /// The formats.
    pub fn formats(&self) -> Formats {
        self.formats
    }

    fn given(&self, side: Side) -> Option<&[Node]> {
        match side {
            Side::Key => self.key.as_deref(),
            Side::Value => self.value.as_deref(),
        }
    }
}

/// The two things of a record that have a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Key,
    Value,
}

impl Side {
    const BOTH: [Side; 2] = [Side::Key, Side::Value];

    fn name(self) -> &'static str {
        match self {
            Side::Key => "key",
            Side::Value => "value",
        }
    }

    fn format(self, formats: Formats) -> Format {
        match self {
            Side::Key => formats.key,
            Side::Value => formats.value,
        }
    }
}

/// A key or a value, opened.
#[derive(Default)]
pub(super) struct Opened<'a> {
    text: Option<&'a str>,
    schema_id: Option<i32>,
    json: Option<Value>,
    /// Why it is not what it should be.
    fault: Option<String>,
}

/// A record whose key and value are opened.
#[derive(Default)]
pub(super) struct OpenedRow<'a> {
    key: Opened<'a>,
    value: Opened<'a>,
}

impl<'a> OpenedRow<'a> {
    pub(super) fn of(row: &Row<'a>, formats: Formats) -> OpenedRow<'a> {
        OpenedRow {
            key: Opened::of(Side::Key, row.key, formats.key),
            value: Opened::of(Side::Value, row.value, formats.value),
        }
    }

    fn side(&self, side: Side) -> &Opened<'a> {
        match side {
            Side::Key => &self.key,
            Side::Value => &self.value,
        }
    }

    /// Why key or value are not what they should be.
    pub(super) fn faults(&self) -> impl Iterator<Item = &str> {
        let both = [&self.key, &self.value];
        both.into_iter()
            .filter_map(|opened| opened.fault.as_deref())
    }
}

impl<'a> Opened<'a> {
    fn of(side: Side, bytes: Option<&'a [u8]>, format: Format) -> Opened<'a> {
        let mut opened = Opened::default();
        let Some(bytes) = bytes else {
            return opened;
        };
        let name = side.name();
        if format != Format::Bytes && bytes.len() > MAX_OPENED_BYTES {
            let most = MAX_OPENED_BYTES >> 20;
            opened.fault = Some(format!("{name}: it is longer than {most} MiB, and not opened"));
            return opened;
        }
        match format {
            Format::Bytes => {}
            Format::String => match std::str::from_utf8(bytes) {
                Ok(text) => opened.text = Some(text),
                Err(_) => opened.fault = Some(format!("{name}: it is not UTF-8")),
            },
            Format::Json => {
                // No JSON begins with a zero.
                let (id, json) = match bytes {
                    [0, a, b, c, d, json @ ..] => {
                        (Some(i32::from_be_bytes([*a, *b, *c, *d])), json)
                    }
                    json => (None, json),
                };
                opened.schema_id = id;
                match serde_json::from_slice(json) {
                    Ok(value @ Value::Object(_)) => opened.json = Some(value),
                    Ok(Value::Null) => {}
                    Ok(other) => {
                        opened.fault =
                            Some(format!("{name}: it is {}, not an object", kind(&other)));
                    }
                    Err(error) => opened.fault = Some(format!("{name}: it is not JSON: {error}")),
                }
            }
        }
        opened
    }
}

/// What a JSON value is, in words.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a number with a fraction or out of range",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
