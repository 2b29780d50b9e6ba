//! Typed columns, being filled.

use std::sync::Arc;

use arrow_array::builder::{
    ArrayBuilder, BinaryBuilder, BooleanBuilder, Date32Builder, Float32Builder, Float64Builder,
    Int32Builder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow_array::{ArrayRef, ListArray, StructArray, new_null_array};
use arrow_buffer::{NullBufferBuilder, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, Fields};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::state::table::{Column, ColumnType, FieldId, Schema};
use crate::table::FileError;
use crate::table::columns::{FIRST_TYPED_FIELD_ID, arrow_field};
use crate::table::rows::fault;

use super::node::{field_of, is_any};
use super::{OpenedRow, Side, kind, time};

/// The typed columns of a table, being filled.
pub(in crate::table) struct TypedCells {
    columns: Vec<(FieldId, From)>,
    /// What each of them holds.
    cells: Vec<Cells>,
    /// The columns of each field, of which the first that takes it gets it.
    fields: [Vec<FieldColumns>; 2],
}

/// What a column is filled from.
enum From {
    Text(Side),
    SchemaId(Side),
    Field,
    Nothing,
}

/// The columns that take their values from one field, by their places.
struct FieldColumns {
    field: String,
    places: Vec<usize>,
}

enum Cells {
    Boolean(BooleanBuilder),
    Int(Int32Builder),
    Long(Int64Builder),
    Float(Float32Builder),
    Double(Float64Builder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Text(StringBuilder),
    Json(StringBuilder),
    Binary(BinaryBuilder),
    List(Box<Lists>),
    Struct(Structs),
    /// Of a type that nothing fills.
    Null(DataType, usize),
}

struct Lists {
    element: Arc<Field>,
    ends: Vec<i32>,
    valid: NullBufferBuilder,
    inside: Cells,
    len: i32,
}

struct Structs {
    fields: Fields,
    valid: NullBufferBuilder,
    inside: Vec<Cells>,
    groups: Vec<FieldColumns>,
    len: usize,
}

impl TypedCells {
    /// For all typed columns of `schema`.
    pub(in crate::table) fn new(schema: &Schema) -> TypedCells {
        let mut typed = TypedCells {
            columns: Vec::new(),
            cells: Vec::new(),
            fields: [Vec::new(), Vec::new()],
        };
        let columns = schema.children(None);
        for column in columns.filter(|column| column.id >= FIRST_TYPED_FIELD_ID) {
            let from = Side::BOTH.into_iter().find_map(|side| {
                let rest = column.source.strip_prefix(side.name())?;
                Some(match rest {
                    "" => From::Text(side),
                    "#id" => From::SchemaId(side),
                    _ => {
                        let field = field_of(rest)?;
                        let place = typed.columns.len();
                        add_place(&mut typed.fields[side as usize], field, place);
                        From::Field
                    }
                })
            });
            typed
                .columns
                .push((column.id, from.unwrap_or(From::Nothing)));
            typed.cells.push(Cells::new(schema, column));
        }
        typed
    }

    /// Adds a row to each column; what does not fit is told in `faults`.
    pub(in crate::table) fn push(&mut self, row: &OpenedRow<'_>, faults: &mut String) {
        for ((_, from), cells) in self.columns.iter().zip(&mut self.cells) {
            match from {
                From::Text(side) => cells.push_text(row.side(*side).text),
                From::SchemaId(side) => cells.push_int(row.side(*side).schema_id),
                From::Nothing => cells.push_null(),
                From::Field => {}
            }
        }
        for side in Side::BOTH {
            let none = Map::new();
            let json = match &row.side(side).json {
                Some(Value::Object(json)) => json,
                _ => &none,
            };
            let (fields, mut path) = (&self.fields[side as usize], Path::new(side.name()));
            push_fields(fields, json, &mut self.cells, &mut path, faults);
        }
    }

    /// How many bytes they hold.
    pub(in crate::table) fn bytes(&self) -> usize {
        self.cells.iter().map(Cells::bytes).sum()
    }

    /// The arrays of the columns since the last time, with the ids of their columns.
    pub(in crate::table) fn finish(&mut self) -> Result<Vec<(FieldId, ArrayRef)>, FileError> {
        let columns = self.columns.iter().zip(&mut self.cells);
        columns
            .map(|((id, _), cells)| Ok((*id, cells.finish()?)))
            .collect()
    }
}

fn add_place(groups: &mut Vec<FieldColumns>, field: &str, place: usize) {
    match groups.iter_mut().find(|group| group.field == field) {
        Some(group) => group.places.push(place),
        None => groups.push(FieldColumns {
            field: field.to_owned(),
            places: vec![place],
        }),
    }
}

/// Where in a record a value is, for its fault.
struct Path(String);

impl Path {
    fn new(side: &str) -> Path {
        Path(format!("{side}: "))
    }

    /// Does something within a field.
    fn within(&mut self, field: &str, act: impl FnOnce(&mut Path)) {
        let len = self.0.len();
        if !self.0.ends_with(' ') {
            self.0.push('.');
        }
        self.0.push_str(field);
        act(self);
        self.0.truncate(len);
    }
}

/// Gives each field to the first of its columns that takes it, and null to the others.
fn push_fields(
    groups: &[FieldColumns],
    json: &Map<String, Value>,
    cells: &mut [Cells],
    path: &mut Path,
    faults: &mut String,
) {
    for group in groups {
        let value = json.get(&group.field).filter(|value| !value.is_null());
        let mut is_taken = false;
        for place in &group.places {
            let Some(cells) = cells.get_mut(*place) else {
                continue;
            };
            match value.filter(|value| !is_taken && cells.takes(value)) {
                Some(value) => {
                    is_taken = true;
                    path.within(&group.field, |path| cells.push(value, path, faults));
                }
                None => cells.push_null(),
            }
        }
        if let Some(value) = value.filter(|_| !is_taken) {
            let mut types = String::new();
            for cells in group.places.iter().filter_map(|place| cells.get(*place)) {
                if !types.is_empty() {
                    types.push_str(" or ");
                }
                types.push_str(cells.name());
            }
            path.within(&group.field, |path| {
                let told = format!("{} is {}, and not {types}", path.0, kind(value));
                fault(faults, &told);
            });
        }
    }
}

/// A whole number that fits.
fn integer(value: &Value) -> Option<i64> {
    let number = value.as_number()?;
    number.as_i64().or_else(|| {
        // JSON does not tell 1 from 1.0. Up to here every whole number has its own double.
        let double = number.as_f64()?;
        let is_whole = double.fract() == 0.0 && double.abs() <= 9_007_199_254_740_992.0;
        is_whole.then_some(double as i64)
    })
}

fn float(value: &Value) -> Option<f32> {
    let float = value.as_f64()? as f32;
    float.is_finite().then_some(float)
}

impl Cells {
    fn new(schema: &Schema, column: &Column) -> Cells {
        let field = arrow_field(schema, column);
        let mut inside = schema.children(Some(column.id));
        match (column.column_type, field.data_type()) {
            (ColumnType::Boolean, _) => Cells::Boolean(BooleanBuilder::with_capacity(0)),
            (ColumnType::Int, _) => Cells::Int(Int32Builder::with_capacity(0)),
            (ColumnType::Long, _) => Cells::Long(Int64Builder::with_capacity(0)),
            (ColumnType::Float, _) => Cells::Float(Float32Builder::with_capacity(0)),
            (ColumnType::Double, _) => Cells::Double(Float64Builder::with_capacity(0)),
            (ColumnType::Date, _) => Cells::Date(Date32Builder::with_capacity(0)),
            (ColumnType::Timestamptz, of) => {
                let times = TimestampMicrosecondBuilder::with_capacity(0);
                Cells::Timestamp(times.with_data_type(of.clone()))
            }
            (ColumnType::String, _) if is_any(&column.source) => {
                Cells::Json(StringBuilder::with_capacity(0, 0))
            }
            (ColumnType::String, _) => Cells::Text(StringBuilder::with_capacity(0, 0)),
            (ColumnType::Binary, _) => Cells::Binary(BinaryBuilder::with_capacity(0, 0)),
            (ColumnType::List, DataType::List(element)) => match inside.next() {
                Some(inner) => Cells::List(Box::new(Lists {
                    element: element.clone(),
                    ends: vec![0],
                    valid: NullBufferBuilder::new(0),
                    inside: Cells::new(schema, inner),
                    len: 0,
                })),
                None => Cells::Null(field.data_type().clone(), 0),
            },
            (ColumnType::Struct, DataType::Struct(fields)) => {
                let mut structs = Structs {
                    fields: fields.clone(),
                    valid: NullBufferBuilder::new(0),
                    inside: Vec::new(),
                    groups: Vec::new(),
                    len: 0,
                };
                for (place, inner) in inside.enumerate() {
                    let field = field_of(&inner.source).unwrap_or_default();
                    add_place(&mut structs.groups, field, place);
                    structs.inside.push(Cells::new(schema, inner));
                }
                Cells::Struct(structs)
            }
            (_, of) => Cells::Null(of.clone(), 0),
        }
    }

    /// What it takes, in words.
    fn name(&self) -> &'static str {
        match self {
            Cells::Boolean(_) => "a boolean",
            Cells::Int(_) => "an integer of 32 bits",
            Cells::Long(_) => "an integer of 64 bits",
            Cells::Float(_) | Cells::Double(_) => "a number",
            Cells::Date(_) => "a date",
            Cells::Timestamp(_) => "a date and time with a zone",
            Cells::Text(_) => "a string",
            Cells::Json(_) => "anything",
            Cells::Binary(_) => "base64",
            Cells::List(_) => "an array of what the column has",
            Cells::Struct(_) => "an object",
            Cells::Null(..) => "null",
        }
    }

    /// Whether `value`, which is not null, is of its type.
    fn takes(&self, value: &Value) -> bool {
        match self {
            Cells::Boolean(_) => value.is_boolean(),
            Cells::Int(_) => integer(value).is_some_and(|value| i32::try_from(value).is_ok()),
            Cells::Long(_) => integer(value).is_some(),
            Cells::Float(_) => float(value).is_some(),
            Cells::Double(_) => value.as_f64().is_some(),
            Cells::Date(_) => value.as_str().and_then(time::date).is_some(),
            Cells::Timestamp(_) => value.as_str().and_then(time::timestamp).is_some(),
            Cells::Text(_) => value.is_string(),
            Cells::Json(_) => true,
            Cells::Binary(_) => value
                .as_str()
                .is_some_and(|text| STANDARD.decode(text).is_ok()),
            Cells::List(lists) => value.as_array().is_some_and(|values| {
                let mut values = values.iter().filter(|value| !value.is_null());
                values.all(|value| lists.inside.takes(value))
            }),
            Cells::Struct(_) => value.is_object(),
            Cells::Null(..) => false,
        }
    }

    /// Adds a value that it takes.
    fn push(&mut self, value: &Value, path: &mut Path, faults: &mut String) {
        match self {
            Cells::Boolean(cells) => cells.append_option(value.as_bool()),
            Cells::Int(cells) => {
                let value = integer(value).and_then(|value| i32::try_from(value).ok());
                cells.append_option(value);
            }
            Cells::Long(cells) => cells.append_option(integer(value)),
            Cells::Float(cells) => cells.append_option(float(value)),
            Cells::Double(cells) => cells.append_option(value.as_f64()),
            Cells::Date(cells) => cells.append_option(value.as_str().and_then(time::date)),
            Cells::Timestamp(cells) => {
                cells.append_option(value.as_str().and_then(time::timestamp));
            }
            Cells::Text(cells) => cells.append_option(value.as_str()),
            Cells::Json(cells) => cells.append_value(value.to_string()),
            Cells::Binary(cells) => {
                let bytes = value.as_str().and_then(|text| STANDARD.decode(text).ok());
                cells.append_option(bytes);
            }
            Cells::List(lists) => {
                for value in value.as_array().into_iter().flatten() {
                    match value {
                        Value::Null => lists.inside.push_null(),
                        value => lists.inside.push(value, path, faults),
                    }
                    lists.len = lists.len.saturating_add(1);
                }
                lists.ends.push(lists.len);
                lists.valid.append_non_null();
            }
            Cells::Struct(structs) => {
                let none = Map::new();
                let Structs { inside, groups, .. } = structs;
                let fields = value.as_object().unwrap_or(&none);
                push_fields(groups, fields, inside, path, faults);
                structs.valid.append_non_null();
                structs.len += 1;
            }
            Cells::Null(_, len) => *len += 1,
        }
    }

    fn push_text(&mut self, text: Option<&str>) {
        match self {
            Cells::Text(cells) => cells.append_option(text),
            other => other.push_null(),
        }
    }

    fn push_int(&mut self, int: Option<i32>) {
        match self {
            Cells::Int(cells) => cells.append_option(int),
            other => other.push_null(),
        }
    }

    fn push_null(&mut self) {
        match self {
            Cells::Boolean(cells) => cells.append_null(),
            Cells::Int(cells) => cells.append_null(),
            Cells::Long(cells) => cells.append_null(),
            Cells::Float(cells) => cells.append_null(),
            Cells::Double(cells) => cells.append_null(),
            Cells::Date(cells) => cells.append_null(),
            Cells::Timestamp(cells) => cells.append_null(),
            Cells::Text(cells) | Cells::Json(cells) => cells.append_null(),
            Cells::Binary(cells) => cells.append_null(),
            Cells::List(lists) => {
                lists.ends.push(lists.len);
                lists.valid.append_null();
            }
            Cells::Struct(structs) => {
                structs.inside.iter_mut().for_each(Cells::push_null);
                structs.valid.append_null();
                structs.len += 1;
            }
            Cells::Null(_, len) => *len += 1,
        }
    }

    /// How many bytes it holds. Which of its values are null takes a bit of each.
    fn bytes(&self) -> usize {
        let wide = |len: usize, width: usize| len * width + len / 8;
        let text = |cells: &StringBuilder| wide(cells.len(), 4) + cells.values_slice().len();
        match self {
            Cells::Boolean(cells) => cells.len() / 4,
            Cells::Int(cells) => wide(cells.len(), 4),
            Cells::Float(cells) => wide(cells.len(), 4),
            Cells::Date(cells) => wide(cells.len(), 4),
            Cells::Long(cells) => wide(cells.len(), 8),
            Cells::Double(cells) => wide(cells.len(), 8),
            Cells::Timestamp(cells) => wide(cells.len(), 8),
            Cells::Text(cells) | Cells::Json(cells) => text(cells),
            Cells::Binary(cells) => wide(cells.len(), 4) + cells.values_slice().len(),
            Cells::List(lists) => wide(lists.ends.len(), 4) + lists.inside.bytes(),
            Cells::Struct(structs) => {
                let inside: usize = structs.inside.iter().map(Cells::bytes).sum();
                inside + structs.len / 8
            }
            // What is made of it has some bytes for each.
            Cells::Null(_, len) => wide(*len, 8),
        }
    }

    fn finish(&mut self) -> Result<ArrayRef, FileError> {
        Ok(match self {
            Cells::Boolean(cells) => ArrayBuilder::finish(cells),
            Cells::Int(cells) => ArrayBuilder::finish(cells),
            Cells::Long(cells) => ArrayBuilder::finish(cells),
            Cells::Float(cells) => ArrayBuilder::finish(cells),
            Cells::Double(cells) => ArrayBuilder::finish(cells),
            Cells::Date(cells) => ArrayBuilder::finish(cells),
            Cells::Timestamp(cells) => ArrayBuilder::finish(cells),
            Cells::Text(cells) | Cells::Json(cells) => ArrayBuilder::finish(cells),
            Cells::Binary(cells) => ArrayBuilder::finish(cells),
            Cells::List(lists) => {
                let inside = lists.inside.finish()?;
                let ends = std::mem::replace(&mut lists.ends, vec![0]);
                lists.len = 0;
                let ends = OffsetBuffer::new(ScalarBuffer::from(ends));
                let (element, valid) = (lists.element.clone(), lists.valid.finish());
                Arc::new(ListArray::try_new(element, ends, inside, valid)?)
            }
            Cells::Struct(structs) => {
                let inside = structs.inside.iter_mut().map(Cells::finish);
                let inside = inside.collect::<Result<Vec<ArrayRef>, _>>()?;
                let (fields, valid) = (structs.fields.clone(), structs.valid.finish());
                let len = std::mem::take(&mut structs.len);
                Arc::new(StructArray::try_new_with_length(
                    fields, inside, valid, len,
                )?)
            }
            Cells::Null(of, len) => new_null_array(of, std::mem::take(len)),
        })
    }
}
