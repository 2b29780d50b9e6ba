//! Typed columns: how they come, grow and are filled.

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef};
use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::record;
use crate::state::table::{ColumnType, FieldId, PartitionBy, Schema};
use crate::table::typing::{
    Evolution, Formats, MAX_INFERRED_COLUMNS, MAX_OPENED_BYTES, Typing, TypingError,
};
use crate::table::{
    ArchivedRecord, Columns, ERROR, RowEncoder, TableWriter, VALUE, WriterOptions, base_schema,
    records_of, records_of_file,
};
use crate::types::{Offset, Timestamp};

fn typing(value_format: &str, value_schema: &str) -> Typing {
    Typing::new("bytes", "", value_format, value_schema).unwrap()
}

fn inferred() -> Typing {
    typing("json", "")
}

fn with_value(offset: i64, value: impl AsRef<[u8]>) -> ArchivedRecord {
    ArchivedRecord {
        value: Some(Bytes::copy_from_slice(value.as_ref())),
        ..record(0, offset)
    }
}

fn last(schema: &Schema) -> FieldId {
    schema.last_column_id().unwrap()
}

/// The schema that follows `schema` when records with these values are seen.
fn grown(typing: &Typing, schema: &Schema, values: &[Value]) -> Option<Schema> {
    let mut evolution = Evolution::new(typing, schema, last(schema));
    for (offset, value) in values.iter().enumerate() {
        evolution.see(&with_value(offset as i64, value.to_string()).row());
    }
    let next = evolution.schema()?;
    Columns::new(next.clone()).unwrap();
    assert_eq!(next.fault(), None);
    assert_eq!(next.conflict(schema, last(schema)), None);
    assert_eq!(next.id, schema.id + 1);
    Some(next)
}

/// The typed columns of a schema, in words, those inside with their depth.
fn told(schema: &Schema) -> Vec<String> {
    fn add(schema: &Schema, parent: Option<FieldId>, depth: usize, told: &mut Vec<String>) {
        for column in schema.children(parent).filter(|column| column.id.0 >= 100) {
            let (name, of, source) = (&column.name, column.column_type, &column.source);
            told.push(format!("{}{name} {of:?} {source}", "  ".repeat(depth)));
            add(schema, Some(column.id), depth + 1, told);
        }
    }
    let mut all = Vec::new();
    add(schema, None, 0, &mut all);
    all
}

fn encoded(schema: &Schema, formats: Formats, records: &[ArchivedRecord]) -> RecordBatch {
    let columns = Columns::new(schema.clone()).unwrap();
    let mut encoder = RowEncoder::typed(&columns, formats);
    for record in records {
        encoder.push(&record.row()).unwrap();
    }
    let batch = encoder.finish().unwrap();
    // Whatever the columns make of it, the records are there.
    let read = records_of(&batch).unwrap();
    assert_eq!(read.len(), records.len());
    for (read, record) in read.iter().zip(records) {
        assert_eq!((read.offset, &read.value), (record.offset, &record.value));
    }
    batch
}

fn errors(batch: &RecordBatch) -> Vec<Option<String>> {
    let errors = batch.column_by_name(ERROR).unwrap().as_string::<i32>();
    errors
        .iter()
        .map(|error| error.map(str::to_owned))
        .collect()
}

fn longs(batch: &RecordBatch, name: &str) -> Vec<Option<i64>> {
    batch
        .column_by_name(name)
        .unwrap()
        .as_primitive::<Int64Type>()
        .iter()
        .collect()
}

fn texts(column: &ArrayRef) -> Vec<Option<String>> {
    let texts = column.as_string::<i32>();
    texts.iter().map(|text| text.map(str::to_owned)).collect()
}

#[test]
fn fields_become_columns_with_names_that_engines_take() {
    let schema = grown(
        &inferred(),
        &base_schema(),
        &[
            json!({"userId": 1, "_id": "x", "offset": true, "timestamp_day": 1, "ratio": 1}),
            json!({"ratio": 1.5, "nothing": null, "empty": {}, "none": [], "tags": ["a", null]}),
            json!({"nested": {"a.b": 1, "A b": 2, "deeper": {"x": [{"y": 1}, {"z": "t"}]}}}),
            json!({"mixed": [1, "a", {"b": 1}], "numbers": [1, 2.5]}),
        ],
    )
    .unwrap();
    assert_eq!(
        told(&schema),
        [
            "id String value/_id",
            "value_offset Boolean value/offset",
            "ratio Double value/ratio",
            "value_timestamp_day Long value/timestamp_day",
            "userid Long value/userId",
            "tags List value/tags",
            "  element String ",
            "nested Struct value/nested",
            "  a_b Long /A b",
            "  a_b_2 Long /a.b",
            "  deeper Struct /deeper",
            "    x List /x",
            "      element Struct ",
            "        y Long /y",
            "        z String /z",
            "mixed List value/mixed",
            "  element String ~",
            "numbers List value/numbers",
            "  element Double ",
        ]
    );
    let names: Vec<&str> = schema
        .children(None)
        .map(|column| column.name.as_str())
        .collect();
    assert_eq!(names.last(), Some(&ERROR), "error is the last");
}

#[test]
fn a_conflicting_type_becomes_a_column_beside_the_old_one() {
    let first = grown(
        &inferred(),
        &base_schema(),
        &[json!({"a": 1, "s": {"x": 1}, "l": [1]})],
    );
    let first = first.unwrap();
    assert_eq!(
        grown(&inferred(), &first, &[json!({"a": 2, "s": {"x": null}})]),
        None
    );
    let conflicting = [
        json!({"a": "text", "s": {"x": "text", "y": 1}, "l": ["text"]}),
        json!({"a": 1.5, "s": 7, "l": [[1]]}),
    ];
    let second = grown(&inferred(), &first, &conflicting).unwrap();
    assert_eq!(
        told(&second),
        [
            "a Long value/a",
            "l List value/l",
            "  element Long ",
            "s Struct value/s",
            "  x Long /x",
            "  x_string String /x",
            "  y Long /y",
            "a_string String value/a",
            "l_list List value/l",
            // Nothing was written of it when the second kind came.
            "  element String ~",
            "a_double Double value/a",
            "s_long Long value/s",
        ]
    );
    // Old columns have their numbers, new ones have new numbers.
    for column in &first.columns {
        assert_eq!(
            second.column(column.id).map(|column| &column.name),
            Some(&column.name)
        );
    }
    let json = Formats {
        value: inferred().formats().value,
        ..Formats::default()
    };
    let records: Vec<ArchivedRecord> = [json!({"a": 1}), json!({"a": "x"}), json!({"a": true})]
        .iter()
        .enumerate()
        .map(|(offset, value)| with_value(offset as i64, value.to_string()))
        .collect();
    let batch = encoded(&second, json, &records);
    assert_eq!(longs(&batch, "a"), [Some(1), None, None]);
    let strings = texts(batch.column_by_name("a_string").unwrap());
    assert_eq!(strings, [None, Some("x".to_owned()), None]);
    let says = "value: a is a boolean, and not an integer of 64 bits or a string or a number";
    assert_eq!(errors(&batch), [None, None, Some(says.to_owned())]);
}

#[test]
fn a_record_that_does_not_fit_is_kept_and_says_why() {
    let schema = json!({
        "type": "object",
        "required": ["id"],
        "properties": {
            "id": {"type": "integer"},
            "small": {"type": ["integer", "null"], "format": "int32"},
            "at": {"type": "string", "format": "date-time"},
            "day": {"type": "string", "format": "date"},
            "blob": {"type": "string", "contentEncoding": "base64"},
            "what": {"anyOf": [{"type": "null"}, {"type": "number"}]},
            "free": {},
            "list": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer"}}}}
        }
    });
    let typing = typing("json", &schema.to_string());
    let schema = grown(&typing, &base_schema(), &[json!({"unknown": 1})]).unwrap();
    assert_eq!(
        told(&schema),
        [
            "at Timestamptz value/at",
            "blob Binary value/blob",
            "day Date value/day",
            "free String value~/free",
            "id Long value/id",
            "list List value/list",
            "  element Struct ",
            "    n Long /n",
            "small Int value/small",
            "what Double value/what",
        ]
    );
    let good = json!({
        "id": 1.0, "small": 5, "at": "2026-01-01T05:30:00+05:30", "day": "1970-01-02", "blob": "AAE=",
        "what": 7, "free": {"any": [1]}, "list": [{"n": 1}, null, {"n": 9_223_372_036_854_775_807i64}]
    });
    let records = [
        with_value(0, good.to_string()),
        with_value(
            1,
            r#"{"id": "1", "small": 2147483648, "at": "2026", "list": [{"n": 0.5}], "what": 2}"#,
        ),
        with_value(2, "{broken"),
        with_value(3, "[1]"),
        with_value(4, ""),
        ArchivedRecord {
            value: None,
            ..record(0, 5)
        },
        with_value(6, "null"),
        with_value(7, [&[0, 0, 0, 1, 0][..], br#"{"id": 7}"#].concat()),
        with_value(8, r#"{"id": 18446744073709551615}"#),
        with_value(9, r#"{"id": 1e300, "at": "9999-12-31T23:59:59.999999Z"}"#),
        with_value(10, b"\xff"),
        with_value(
            11,
            [br#"{"id": 1}"#.to_vec(), vec![b' '; MAX_OPENED_BYTES]].concat(),
        ),
    ];
    let batch = encoded(&schema, typing.formats(), &records);
    let mut ids = [None; 12];
    (ids[0], ids[7]) = (Some(1), Some(7));
    assert_eq!(longs(&batch, "id"), ids);
    let at = batch
        .column_by_name("at")
        .unwrap()
        .as_primitive::<TimestampMicrosecondType>();
    assert_eq!(at.value(0), 1_767_225_600_000_000);
    assert_eq!(at.value(9), 253_402_300_799_999_999);
    let free = texts(batch.column_by_name("free").unwrap());
    assert_eq!(free[0].as_deref(), Some(r#"{"any":[1]}"#));
    let lists = batch.column_by_name("list").unwrap().as_list::<i32>();
    assert_eq!(lists.value(0).len(), 3);
    let what = batch
        .column_by_name("what")
        .unwrap()
        .as_primitive::<Float64Type>();
    assert_eq!((what.value(0), what.value(1)), (7.0, 2.0));
    let errors = errors(&batch);
    let told: Vec<&str> = errors
        .iter()
        .map(|error| error.as_deref().unwrap_or(""))
        .collect();
    assert_eq!(
        told,
        [
            "",
            "value: at is a string, and not a date and time with a zone; value: id is a string, and not an integer of \
             64 bits; value: list.n is a number with a fraction or out of range, and not an integer of 64 bits; value: \
             small is an integer, and not an integer of 32 bits",
            "value: it is not JSON: key must be a string at line 1 column 2",
            "value: it is an array, not an object",
            "value: it is not JSON: EOF while parsing a value at line 1 column 0",
            "",
            "",
            "",
            "value: id is an integer, and not an integer of 64 bits",
            "value: id is a number with a fraction or out of range, and not an integer of 64 bits",
            "value: it is not JSON: expected value at line 1 column 1",
            "value: it is longer than 4 MiB, and not opened",
        ]
    );
}

#[test]
fn a_schema_that_is_widened_keeps_its_columns_and_old_schemas_their_types() {
    let of = |what: &str| format!(r#"{{"properties": {{"n": {what}}}}}"#);
    let narrow = typing("json", &of(r#"{"type": "integer", "format": "int32"}"#));
    let first = grown(&narrow, &base_schema(), &[]).unwrap();
    let wide = typing("json", &of(r#"{"type": "integer"}"#));
    let second = grown(&wide, &first, &[]).unwrap();
    assert_eq!(told(&first), ["n Int value/n"]);
    assert_eq!(told(&second), ["n Long value/n"]);
    assert_eq!(last(&first), last(&second));
    let other = typing("json", &of(r#"{"type": "string"}"#));
    let third = grown(&other, &second, &[]).unwrap();
    assert_eq!(told(&third), ["n Long value/n", "n_string String value/n"]);
    // What is narrower fits already.
    assert_eq!(grown(&narrow, &third, &[]), None);
}

#[test]
fn confluents_wire_format_is_recognised_and_text_is_text() {
    let typing = Typing::new("string", "", "json", "").unwrap();
    let mut framed = with_value(0, [&[0, 0, 0, 4, 210][..], br#"{"a": 1}"#].concat());
    framed.key = Some(Bytes::from_static("schlüssel".as_bytes()));
    let mut bad = with_value(1, r#"{"a": 2}"#);
    bad.key = Some(Bytes::from_static(b"\xff"));
    let mut evolution = Evolution::new(&typing, &base_schema(), FieldId(11));
    evolution.see(&framed.row());
    let schema = evolution.schema().unwrap();
    assert_eq!(
        told(&schema),
        [
            "key_text String key",
            "value_schema_id Int value#id",
            "a Long value/a"
        ]
    );
    let batch = encoded(&schema, typing.formats(), &[framed, bad]);
    let ids = batch
        .column_by_name("value_schema_id")
        .unwrap()
        .as_primitive::<Int32Type>();
    assert_eq!(ids.iter().collect::<Vec<_>>(), [Some(1234), None]);
    assert_eq!(longs(&batch, "a"), [Some(1), Some(2)]);
    let keys = texts(batch.column_by_name("key_text").unwrap());
    assert_eq!(keys, [Some("schlüssel".to_owned()), None]);
    assert_eq!(
        errors(&batch),
        [None, Some("key: it is not UTF-8".to_owned())]
    );
    // Where the format is bytes again the columns stay, and are null.
    let again = encoded(&schema, Formats::default(), &[with_value(0, "{nonsense")]);
    assert_eq!(
        (longs(&again, "a"), errors(&again)),
        (vec![None], vec![None])
    );
}

#[test]
fn there_are_never_too_many_columns_nor_too_deep_ones() {
    let many: Vec<Value> = (0..2_000)
        .map(|n| json!({format!("field {n}"): n}))
        .collect();
    let schema = grown(&inferred(), &base_schema(), &many).unwrap();
    assert_eq!(told(&schema).len(), MAX_INFERRED_COLUMNS);
    let mut deep = json!(1);
    for _ in 0..50 {
        deep = json!({"d": [deep]});
    }
    let schema = grown(&inferred(), &base_schema(), &[deep.clone()]).unwrap();
    assert!(told(&schema).len() < 10, "{:?}", told(&schema));
    let batch = encoded(
        &schema,
        inferred().formats(),
        &[with_value(0, deep.to_string())],
    );
    assert_eq!(errors(&batch), [None]);
    // A name that is too long has no column.
    assert_eq!(
        grown(
            &inferred(),
            &base_schema(),
            &[json!({"n".repeat(1_000): 1})]
        ),
        None
    );
}

#[test]
fn what_typed_columns_hold_counts_as_memory_however_short_the_records_are() {
    const DAYS: i64 = 65;
    let many: Vec<Value> = (0..MAX_INFERRED_COLUMNS)
        .map(|n| json!({format!("field {n}"): n}))
        .collect();
    let schema = grown(&inferred(), &base_schema(), &many).unwrap();
    let columns = || Columns::new(schema.clone()).unwrap();
    let options = WriterOptions {
        memory: 24 << 20,
        ..WriterOptions::default()
    };
    let typed = |options| {
        let (last, by) = (last(&schema), PartitionBy::Day);
        TableWriter::typed(columns(), &inferred(), last, by, options)
    };
    // All of them are longs, of eight bytes.
    let row = MAX_INFERRED_COLUMNS * 8;
    let mut writer = typed(WriterOptions::default());
    let short = with_value(0, "{}");
    let mut pushed = 0;
    let push = |writer: &mut TableWriter, offset: i64| {
        let day = 86_400_000 * (offset % DAYS);
        let record = ArchivedRecord {
            offset: Offset(offset),
            timestamp: Timestamp(day),
            ..short.clone()
        };
        writer.push(&record.row()).unwrap();
    };
    for offset in 0..DAYS * 48 {
        push(&mut writer, offset);
        pushed += 1;
    }
    let least = pushed * row;
    assert!(writer.memory() >= least, "{} < {least}", writer.memory());
    // So files are finished when they take too much together.
    let mut writer = typed(options);
    for offset in 0..DAYS * 100 {
        push(&mut writer, offset);
        if offset % 97 == 0 {
            let memory = writer.memory();
            assert!(memory <= options.memory + (8 << 20), "{memory} at {offset}");
        }
    }
    assert!(writer.finished() > 0);
    // Elements of lists count, too.
    let schema = grown(&inferred(), &base_schema(), &[json!({"a": [1]})]).unwrap();
    let columns = Columns::new(schema).unwrap();
    let mut encoder = RowEncoder::typed(&columns, inferred().formats());
    let zeros = format!("{{\"a\":[{}0]}}", "0,".repeat(100_000));
    encoder.push(&with_value(0, zeros).row()).unwrap();
    assert!(encoder.bytes() >= 100_000 * 8, "{}", encoder.bytes());
}

#[test]
fn what_settings_say_is_refused_with_a_reason() {
    let refused = |format: &str, schema: &str| {
        Typing::new("bytes", "", format, schema)
            .unwrap_err()
            .to_string()
    };
    assert!(matches!(
        Typing::new("avro", "", "bytes", ""),
        Err(TypingError::Format { side: "key", .. })
    ));
    for (format, schema, says) in [
        (
            "xml",
            "",
            "archive.value.format: there is no format `xml`; it is bytes, string or json",
        ),
        (
            "bytes",
            "{}",
            "archive.value.schema: only the format json has a schema",
        ),
        (
            "json",
            "{",
            "archive.value.schema, at `/`: it is not JSON: EOF",
        ),
        (
            "json",
            r#"{"type": "array"}"#,
            "archive.value.schema, at `/`: it is the schema of a record",
        ),
        (
            "json",
            r##"{"properties": {"a": {"properties": {"b": {"$ref": "#/x"}}}}}"##,
            "archive.value.schema, at `/a/b/`: `$ref` is not supported",
        ),
        (
            "json",
            r#"{"properties": {"a": {"type": "int"}}}"#,
            "archive.value.schema, at `/a/`: there is no type `int`",
        ),
    ] {
        let said = refused(format, schema);
        assert!(said.starts_with(says), "{said}");
    }
}

#[test]
fn a_pass_says_which_columns_the_next_is_to_have() {
    let typing = inferred();
    let columns = Columns::base();
    let (by, options) = (PartitionBy::Day, WriterOptions::default());
    let mut writer = TableWriter::typed(columns, &typing, FieldId(11), by, options);
    let records = [
        with_value(0, r#"{"a": 1}"#),
        with_value(1, r#"{"a": "b"}"#),
        with_value(2, "{"),
    ];
    for record in &records {
        writer.push(&record.row()).unwrap();
    }
    let pass = writer.finish().unwrap();
    let wanted = pass.wanted.unwrap();
    assert_eq!(told(&wanted), ["a Long value/a", "a_string String value/a"]);
    assert_eq!(pass.files[0].errors, 1);
    let columns = Columns::new(wanted).unwrap();
    let mut writer = TableWriter::typed(columns, &typing, FieldId(101), by, options);
    for record in &records {
        writer.push(&record.row()).unwrap();
    }
    let pass = writer.finish().unwrap();
    assert_eq!((pass.wanted, pass.files.len()), (None, 1));
    let stats = &pass.files[0].stats.columns[&FieldId(100)];
    assert_eq!(stats.values, Some((3, 2)));
    assert_eq!(stats.lower.as_deref(), Some(&1i64.to_le_bytes()[..]));
    let mut read = records_of_file(pass.files[0].bytes.clone()).unwrap();
    assert!(
        read[2]
            .error
            .take()
            .unwrap()
            .starts_with("value: it is not JSON")
    );
    assert_eq!(read, records);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-5..5i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ab_]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(7, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map("[abA_ ]{0,2}", inner, 0..4)
                .prop_map(|fields| { Value::Object(fields.into_iter().collect()) }),
        ]
    })
}

/// Whether there is a list or an object in `value` that says nothing of its type: it is a misfit where a column has
/// one.
fn is_hollow_somewhere(value: &Value) -> bool {
    let inside: Vec<&Value> = match value {
        Value::Array(values) => values.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        _ => return false,
    };
    inside.iter().all(|value| value.is_null()) || inside.into_iter().any(is_hollow_somewhere)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever comes: the schema is one that may follow, all that was seen fits it but what may not, and no record
    /// is lost.
    #[test]
    fn any_json_has_columns(first in vec(any_json(), 0..6), second in vec(any_json(), 0..6)) {
        let typing = inferred();
        let base = base_schema();
        let schema = grown(&typing, &base, &first).unwrap_or(base);
        let schema = grown(&typing, &schema, &second).unwrap_or(schema);
        // Seeing the same again changes nothing.
        prop_assert_eq!(grown(&typing, &schema, &second), None);
        let records: Vec<ArchivedRecord> = first
            .iter()
            .chain(&second)
            .enumerate()
            .map(|(offset, value)| with_value(offset as i64, value.to_string()))
            .collect();
        let batch = encoded(&schema, typing.formats(), &records);
        for (error, record) in errors(&batch).iter().zip(&records) {
            let value: Value = serde_json::from_slice(record.value.as_ref().unwrap()).unwrap();
            if !(value.is_object() || value.is_null()) {
                prop_assert!(error.is_some(), "{}", value);
            } else if !is_hollow_somewhere(&value) {
                prop_assert_eq!(error, &None, "{}", value);
            }
        }
        prop_assert_eq!(batch.column_by_name(VALUE).unwrap().len(), records.len());
    }
}

#[test]
fn a_projection_without_typed_columns_opens_nothing() {
    let schema = grown(&inferred(), &base_schema(), &[json!({"a": 1})]).unwrap();
    let columns = Columns::new(schema).unwrap();
    let place = |name| columns.arrow().index_of(name).unwrap();
    let formats = inferred().formats();
    let record = with_value(3, r#"{"a": "no"}"#);
    let mut encoder = RowEncoder::typed_projected(&columns, formats, &[place(VALUE)]);
    encoder.push(&record.row()).unwrap();
    assert_eq!(encoder.errors(), 0);
    assert_eq!(encoder.finish().unwrap().num_columns(), 1);
    // `error` is the same whatever else is asked for.
    let mut encoder = RowEncoder::typed_projected(&columns, formats, &[place(ERROR)]);
    encoder.push(&record.row()).unwrap();
    let says = "value: a is a string, and not an integer of 64 bits";
    assert_eq!(errors(&encoder.finish().unwrap()), [Some(says.to_owned())]);
    assert_eq!(record.offset, Offset(3));
    assert_eq!(
        columns
            .schema()
            .children(None)
            .filter(|c| c.column_type == ColumnType::Long)
            .count(),
        2
    );
}
