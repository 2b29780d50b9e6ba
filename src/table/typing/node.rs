//! Columns as a tree that grows.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::state::table::{Column, ColumnType, FieldId, Schema};
use crate::table::columns::{ERROR_ID, FIRST_TYPED_FIELD_ID, base_columns, column_name};
use crate::table::{Row, iceberg};

use super::{Format, OpenedRow, Side, Typing};

/// How many columns are made of what is found in records, those within lists and structs included. Fields that come
/// later have no column; they are in the value.
pub const MAX_INFERRED_COLUMNS: usize = 300;

/// What is nested deeper is one column with JSON.
pub(super) const MAX_INFERRED_DEPTH: usize = 5;

/// The longest name of a field that gets a column, in bytes.
const MAX_FIELD_LEN: usize = 256;

/// A column that is there, or that is wanted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    /// None if it is new.
    id: Option<FieldId>,
    name: String,
    pub(super) source: String,
    pub(super) column_type: ColumnType,
    required: bool,
    pub(super) inside: Vec<Node>,
}

impl Node {
    /// A new column, whose name it gets when it is added.
    pub(super) fn new(source: String, column_type: ColumnType, inside: Vec<Node>) -> Node {
        Node {
            id: None,
            name: String::new(),
            source,
            column_type,
            required: false,
            inside,
        }
    }

    /// How many columns it is, with those in it.
    pub(super) fn count(&self) -> usize {
        1 + self.inside.iter().map(Node::count).sum::<usize>()
    }

    fn read(schema: &Schema, column: &Column) -> Node {
        let inside = schema.children(Some(column.id));
        Node {
            id: Some(column.id),
            name: column.name.clone(),
            source: column.source.clone(),
            column_type: column.column_type,
            required: column.required,
            inside: inside.map(|column| Node::read(schema, column)).collect(),
        }
    }

    fn write(&self, parent: Option<FieldId>, last: &mut FieldId, columns: &mut Vec<Column>) {
        let id = self.id.unwrap_or_else(|| {
            *last = FieldId(last.0.saturating_add(1));
            *last
        });
        columns.push(Column {
            id,
            parent,
            name: self.name.clone(),
            column_type: self.column_type,
            required: self.required,
            source: self.source.clone(),
        });
        for inside in &self.inside {
            inside.write(Some(id), last, columns);
        }
    }

    /// Whether it takes whatever it finds, as JSON.
    fn is_json(&self) -> bool {
        self.column_type == ColumnType::String && is_any(&self.source)
    }

    /// Whether it takes all of `value`.
    fn covers(&self, value: &Value) -> bool {
        if self.is_json() {
            return true;
        }
        match (self.column_type, value) {
            (_, Value::Null) => true,
            (ColumnType::Struct, Value::Object(fields)) => fields
                .iter()
                .all(|(field, value)| covered(&self.inside, field, value)),
            (ColumnType::List, Value::Array(values)) => {
                let element = self.inside.first();
                element.is_some_and(|element| values.iter().all(|value| element.covers(value)))
            }
            (ColumnType::Double, Value::Number(_))
            | (ColumnType::Boolean, Value::Bool(_))
            | (ColumnType::String, Value::String(_)) => true,
            (ColumnType::Long, Value::Number(number)) => number.is_i64(),
            _ => false,
        }
    }

    /// Makes this column, which is there, one that also takes what `wanted` takes. Says whether that can be.
    fn combine(&mut self, wanted: &Node) -> bool {
        use ColumnType::{Double, Float, Int, List, Long, Struct};
        if self.is_json() {
            return true;
        }
        if wanted.is_json() {
            return false;
        }
        match (self.column_type, wanted.column_type) {
            (Struct, Struct) => {
                for inside in &wanted.inside {
                    merge(&mut self.inside, inside, Names::Struct);
                }
                true
            }
            (List, List) => {
                let (Some(mine), Some(theirs)) = (self.inside.first_mut(), wanted.inside.first())
                else {
                    return false;
                };
                if mine.combine(theirs) {
                    return true;
                }
                // Nothing is written yet of what is new.
                if self.id.is_none() {
                    *mine = any_element();
                }
                self.id.is_none()
            }
            (Long, Double) if self.id.is_none() => {
                self.column_type = Double;
                true
            }
            (Int, Long) | (Float, Double) => {
                self.column_type = wanted.column_type;
                true
            }
            (Long, Int) | (Double, Float | Int | Long) => true,
            (mine, theirs) => mine == theirs,
        }
    }
}

/// Whether one of the columns takes all of a field.
fn covered(siblings: &[Node], field: &str, value: &Value) -> bool {
    let mut same = siblings
        .iter()
        .filter(|node| field_of(&node.source) == Some(field));
    value.is_null() || same.any(|node| node.covers(value))
}

/// Whether a source takes whatever it finds.
pub(super) fn is_any(source: &str) -> bool {
    let rest = ["key", "value"]
        .into_iter()
        .find_map(|side| source.strip_prefix(side));
    let rest = rest.unwrap_or(source);
    rest == "~" || rest.starts_with("~/")
}

/// The field that a source names.
pub(super) fn field_of(source: &str) -> Option<&str> {
    source.split_once('/').map(|(_, field)| field)
}

/// The element of a list.
pub(super) fn element(column_type: ColumnType, inside: Vec<Node>) -> Node {
    Node {
        name: "element".to_owned(),
        ..Node::new(String::new(), column_type, inside)
    }
}

/// How new columns are named.
#[derive(Clone, Copy)]
enum Names {
    /// As columns of the table.
    Table(Side),
    /// As fields of a struct.
    Struct,
}

impl Names {
    /// The name of a new column beside `siblings`.
    fn name(self, siblings: &[Node], wanted: &Node, is_variant: bool) -> String {
        let mut name = match (self, wanted.source.as_str()) {
            (Names::Table(side), source) if source == side.name() => format!("{source}_text"),
            (Names::Table(side), source)
                if source.ends_with("#id") && field_of(source).is_none() =>
            {
                format!("{}_schema_id", side.name())
            }
            (Names::Table(Side::Key), source) => {
                format!("key_{}", column_name(field_of(source).unwrap_or_default()))
            }
            (_, source) => column_name(field_of(source).unwrap_or_default()),
        };
        if let Names::Table(side) = self
            && is_reserved(&name)
        {
            name.insert_str(0, &format!("{}_", side.name()));
        }
        if is_variant {
            name.push('_');
            name.push_str(type_name(wanted));
        }
        let taken: BTreeSet<String> = siblings
            .iter()
            .map(|node| node.name.to_lowercase())
            .collect();
        let is_free = |name: &str| {
            !taken.contains(name) && !(matches!(self, Names::Table(_)) && is_reserved(name))
        };
        if is_free(&name) {
            return name;
        }
        let numbers = 2..;
        let mut numbered = numbers.map(|number: u64| format!("{name}_{number}"));
        numbered.find(|name| is_free(name)).unwrap_or(name)
    }
}

/// Whether no typed column may have that name.
fn is_reserved(name: &str) -> bool {
    let base = base_columns();
    let mut base = base.iter().filter(|column| column.parent.is_none());
    base.any(|column| column.name == name) || iceberg::is_partition_name(name)
}

fn type_name(node: &Node) -> &'static str {
    match node.column_type {
        _ if node.is_json() => "json",
        ColumnType::Boolean => "boolean",
        ColumnType::Int => "int",
        ColumnType::Long => "long",
        ColumnType::Float => "float",
        ColumnType::Double => "double",
        ColumnType::Decimal { .. } => "decimal",
        ColumnType::Date => "date",
        ColumnType::Time => "time",
        ColumnType::Timestamp | ColumnType::Timestamptz => "timestamp",
        ColumnType::String => "string",
        ColumnType::Uuid => "uuid",
        ColumnType::Fixed(_) | ColumnType::Binary => "binary",
        ColumnType::Struct => "struct",
        ColumnType::List => "list",
        ColumnType::Map => "map",
    }
}

/// Adds `wanted` to the columns that are there, unless one of them takes what it takes.
fn merge(siblings: &mut Vec<Node>, wanted: &Node, names: Names) {
    let same = |node: &Node| match (field_of(&node.source), field_of(&wanted.source)) {
        (Some(mine), Some(theirs)) => {
            let prefix = |source: &str| source.split(['/', '~']).next().map(str::to_owned);
            mine == theirs && prefix(&node.source) == prefix(&wanted.source)
        }
        (None, None) => node.source == wanted.source,
        _ => false,
    };
    let mut is_variant = false;
    for node in siblings.iter_mut().filter(|node| same(node)) {
        if node.combine(wanted) {
            return;
        }
        is_variant = true;
    }
    let name = names.name(siblings, wanted, is_variant);
    siblings.push(named(wanted, name));
}

/// A new column and all that is in it, with names.
fn named(wanted: &Node, name: String) -> Node {
    let mut new = Node {
        name,
        inside: Vec::new(),
        ..wanted.clone()
    };
    for inside in &wanted.inside {
        if wanted.column_type == ColumnType::List {
            new.inside.push(named(inside, "element".to_owned()));
        } else {
            merge(&mut new.inside, inside, Names::Struct);
        }
    }
    new
}

/// The columns of a table, growing.
///
/// At the beginning of a pass it sees a sample of the records, and the schema that it comes to is that of the pass; what
/// comes later in the pass is for the next one.
#[derive(Clone, Debug)]
pub struct Evolution {
    current: Schema,
    last: FieldId,
    typing: Typing,
    typed: Vec<Node>,
    /// Whether there are as many columns as there may be.
    is_full: bool,
}

impl Evolution {
    /// From the schema that a table has now, and the greatest number that a column of it ever had.
    pub fn new(typing: &Typing, current: &Schema, last: FieldId) -> Evolution {
        let typed = current
            .children(None)
            .filter(|column| column.id >= FIRST_TYPED_FIELD_ID)
            .map(|column| Node::read(current, column));
        let mut evolution = Evolution {
            current: current.clone(),
            last,
            typing: typing.clone(),
            typed: typed.collect(),
            is_full: false,
        };
        for side in Side::BOTH {
            if side.format(typing.formats()) == Format::String {
                let text = Node::new(side.name().to_owned(), ColumnType::String, Vec::new());
                merge(&mut evolution.typed, &text, Names::Table(side));
            }
            for given in typing.given(side).into_iter().flatten() {
                merge(&mut evolution.typed, given, Names::Table(side));
            }
        }
        evolution
    }

    /// Adds columns for what `row` has and no column takes.
    pub fn see(&mut self, row: &Row<'_>) {
        self.see_opened(&OpenedRow::of(row, self.typing.formats()));
    }

    pub(in crate::table) fn see_opened(&mut self, row: &OpenedRow<'_>) {
        for side in Side::BOTH {
            let opened = row.side(side);
            if opened.schema_id.is_some() && !self.has_schema_id(side) {
                let id = Node::new(format!("{}#id", side.name()), ColumnType::Int, Vec::new());
                self.add(&id, side);
            }
            let (Some(Value::Object(fields)), None) = (&opened.json, self.typing.given(side))
            else {
                continue;
            };
            for (field, value) in fields {
                if self.is_full || covered_at(&self.typed, side, field, value) {
                    continue;
                }
                let source = |any: &str| format!("{}{any}/{field}", side.name());
                if let Some(wanted) = wanted(field, value, 1, source) {
                    self.add(&wanted, side);
                }
            }
        }
    }

    fn has_schema_id(&self, side: Side) -> bool {
        let mut sources = self
            .typed
            .iter()
            .map(|node| node.source.strip_prefix(side.name()));
        sources.any(|rest| rest == Some("#id"))
    }

    fn add(&mut self, wanted: &Node, side: Side) {
        let count = self.typed.iter().map(Node::count).sum::<usize>();
        self.is_full = count >= MAX_INFERRED_COLUMNS;
        if count.saturating_add(wanted.count()) <= MAX_INFERRED_COLUMNS {
            merge(&mut self.typed, wanted, Names::Table(side));
        }
    }

    /// The schema that follows the current one; none if there is nothing to change.
    pub fn schema(&self) -> Option<Schema> {
        let is_typed = |id: FieldId| id >= FIRST_TYPED_FIELD_ID;
        let base = self
            .current
            .columns
            .iter()
            .filter(|column| !is_typed(column.id));
        let (errors, mut columns): (Vec<Column>, Vec<Column>) =
            base.cloned().partition(|column| column.id == ERROR_ID);
        let mut last = FieldId(self.last.0.max(FIRST_TYPED_FIELD_ID.0 - 1));
        for node in &self.typed {
            node.write(None, &mut last, &mut columns);
        }
        columns.extend(errors);
        let schema = Schema {
            id: self.current.id.saturating_add(1),
            columns,
        };
        let is_new = schema.columns != self.current.columns;
        (is_new && schema.fault().is_none()).then_some(schema)
    }
}

/// Whether one of the columns of a table takes all of a field of its keys, or of its values.
fn covered_at(typed: &[Node], side: Side, field: &str, value: &Value) -> bool {
    let of_side = typed
        .iter()
        .filter(|node| node.source.starts_with(side.name()));
    let mut same = of_side.filter(|node| field_of(&node.source) == Some(field));
    value.is_null() || same.any(|node| node.covers(value))
}

/// The column that `value` wants, if it says what that is.
fn wanted(
    field: &str,
    value: &Value,
    depth: usize,
    source: impl Fn(&str) -> String,
) -> Option<Node> {
    if field.len() > MAX_FIELD_LEN {
        return None;
    }
    if depth > MAX_INFERRED_DEPTH && (value.is_array() || value.is_object()) {
        return Some(Node::new(source("~"), ColumnType::String, Vec::new()));
    }
    let (column_type, inside) = shape(value, depth)?;
    Some(Node::new(source(""), column_type, inside))
}

/// The type that holds `value`; none where it does not say what it is, as what is empty or null.
fn shape(value: &Value, depth: usize) -> Option<(ColumnType, Vec<Node>)> {
    let scalar = |column_type| Some((column_type, Vec::new()));
    match value {
        Value::Null => None,
        Value::Bool(_) => scalar(ColumnType::Boolean),
        Value::Number(number) if number.is_i64() => scalar(ColumnType::Long),
        Value::Number(_) => scalar(ColumnType::Double),
        Value::String(_) => scalar(ColumnType::String),
        Value::Array(values) => {
            let mut of: Option<Node> = None;
            for value in values {
                let is_deep =
                    depth >= MAX_INFERRED_DEPTH && (value.is_array() || value.is_object());
                let next = match is_deep {
                    true => Some(any_element()),
                    false => shape(value, depth + 1).map(|(of, inside)| element(of, inside)),
                };
                let Some(next) = next else {
                    continue;
                };
                match &mut of {
                    None => of = Some(next),
                    Some(of) => {
                        if !of.combine(&next) {
                            *of = any_element();
                        }
                    }
                }
            }
            Some((ColumnType::List, vec![of?]))
        }
        Value::Object(fields) => {
            let inside: Vec<Node> = fields
                .iter()
                .filter_map(|(field, value)| {
                    wanted(field, value, depth + 1, |any| format!("{any}/{field}"))
                })
                .collect();
            (!inside.is_empty()).then_some((ColumnType::Struct, inside))
        }
    }
}

/// The element of a list that has anything, as JSON.
pub(super) fn any_element() -> Node {
    Node {
        source: "~".to_owned(),
        ..element(ColumnType::String, Vec::new())
    }
}
