//! Files written again.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, RecordBatch};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::rows::any_record;
use super::{record, rewrite};
use crate::state::table::{PartitionBy, Schema};
use crate::table::read::all_batches;
use crate::table::typing::{Evolution, Typing};
use crate::table::{
    ArchivedRecord, Columns, FinishedFile, Pass, TableWriter, WriterOptions, base_schema,
    partition_value, records_of_file,
};
use crate::types::{Offset, PartitionIndex, Timestamp};

const DAY: i64 = 86_400_000;

fn write(schema: &Schema, typing: &Typing, records: &[ArchivedRecord]) -> Vec<FinishedFile> {
    let columns = Columns::new(schema.clone()).unwrap();
    let last = schema.last_column_id().unwrap();
    let (by, options) = (PartitionBy::Day, WriterOptions::default());
    let mut writer = TableWriter::typed(columns, typing, last, by, options);
    for record in records {
        writer.push(&record.row()).unwrap();
    }
    writer.finish().unwrap().files
}

fn merged(schema: &Schema, options: WriterOptions, files: &[FinishedFile]) -> Pass {
    let columns = Columns::new(schema.clone()).unwrap();
    let mut writer = TableWriter::new(columns, PartitionBy::Day, options);
    let files = files.iter().map(|file| file.bytes.clone()).collect();
    rewrite(&mut writer, files).unwrap();
    writer.finish().unwrap()
}

fn batches(file: &FinishedFile) -> Vec<RecordBatch> {
    let batches = all_batches(file.bytes.clone(), 1 << 20).unwrap();
    batches.map(|batch| batch.unwrap()).collect()
}

fn with_value(offset: i64, value: &str) -> ArchivedRecord {
    ArchivedRecord {
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        timestamp: Timestamp(0),
        ..record(0, offset)
    }
}

#[test]
fn typed_columns_are_copied_and_widened_and_what_was_not_there_is_null() {
    let of = |schema: &str| Typing::new("bytes", "", "json", schema).unwrap();
    let grow = |typing: &Typing, schema: &Schema| {
        let last = schema.last_column_id().unwrap();
        Evolution::new(typing, schema, last).schema().unwrap()
    };
    let narrow = of(
        r#"{"properties": {"n": {"type": "integer", "format": "int32"},
        "l": {"type": "array", "items": {"properties": {"x": {"type": "number", "format": "float"}}}}}}"#,
    );
    let first = grow(&narrow, &base_schema());
    let old = write(
        &first,
        &narrow,
        &[
            with_value(0, r#"{"n": 1, "m": 2, "l": [{"x": 0.5}, null]}"#),
            with_value(1, "{"),
        ],
    );
    let wide = of(
        r#"{"properties": {"n": {"type": "integer"}, "m": {"type": "integer"},
        "l": {"type": "array", "items": {"properties": {"x": {"type": "number"}, "y": {"type": "string"}}}}}}"#,
    );
    let second = grow(&wide, &first);
    let new = write(
        &second,
        &wide,
        &[with_value(
            2,
            r#"{"n": 5000000000, "m": 3, "l": [{"y": "t"}]}"#,
        )],
    );
    let pass = merged(&second, WriterOptions::default(), &[old, new].concat());
    let [file] = &pass.files[..] else {
        panic!("{} files", pass.files.len());
    };
    assert_eq!((file.rows, file.errors, file.value), (3, 1, Some(0)));
    let [batch] = &batches(file)[..] else {
        panic!("more than one batch");
    };
    let longs = |name| -> Vec<Option<i64>> {
        batch
            .column_by_name(name)
            .unwrap()
            .as_primitive::<Int64Type>()
            .iter()
            .collect()
    };
    assert_eq!(longs("n"), [Some(1), None, Some(5_000_000_000)]);
    assert_eq!(
        longs("m"),
        [None, None, Some(3)],
        "what was written is not read anew"
    );
    let lists = batch.column_by_name("l").unwrap().as_list::<i32>();
    assert_eq!(
        (lists.value(0).len(), lists.is_null(1), lists.value(2).len()),
        (2, true, 1)
    );
    let read = records_of_file(file.bytes.clone()).unwrap();
    assert!(read[1].error.as_ref().unwrap().contains("not JSON"));
}

#[test]
fn a_damaged_file_is_an_error_and_the_same_row_twice_is_another() {
    let file = &write(&base_schema(), &Typing::default(), &[with_value(0, "x")])[0];
    let columns = Columns::base();
    let options = WriterOptions::default();
    let mut writer = TableWriter::new(columns.clone(), PartitionBy::Day, options);
    let cut = file.bytes.slice(..file.bytes.len() - 1);
    assert!(rewrite(&mut writer, vec![cut]).is_err());
    let mut writer = TableWriter::new(columns, PartitionBy::Day, options);
    let twice = vec![file.bytes.clone(), file.bytes.clone()];
    let refused = rewrite(&mut writer, twice).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("order of partition and offset"),
        "{refused}"
    );
}

#[test]
fn large_values_are_read_a_few_at_a_time() {
    let records: Vec<ArchivedRecord> = (0..40)
        .map(|offset| ArchivedRecord {
            value: Some(Bytes::from(vec![b'x'; 1 << 19])),
            // Once in the dictionary.
            key: Some(Bytes::from(vec![b'k'; 1 << 19])),
            timestamp: Timestamp(0),
            ..record(0, offset)
        })
        .collect();
    let files = write(&base_schema(), &Typing::default(), &records);
    let rows: Vec<usize> = batches(&files[0])
        .iter()
        .map(RecordBatch::num_rows)
        .collect();
    assert!(rows.iter().all(|rows| *rows <= 2), "{rows:?}");
    let pass = merged(&base_schema(), WriterOptions::default(), &files);
    assert_eq!(
        records_of_file(pass.files[0].bytes.clone()).unwrap(),
        records
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// However the rows were divided among files, they are all there, in order, and in the file of their day.
    #[test]
    fn no_row_is_lost_and_none_is_doubled(
        records in vec((any_record(), 0..3usize, 0..4i64), 0..60),
        max_values in 1..6usize,
    ) {
        let mut parts = vec![BTreeMap::new(); 3];
        let mut all = BTreeMap::new();
        for (mut record, part, day) in records {
            if record.timestamp.0 % 2 == 0 {
                record.timestamp = Timestamp(day * DAY);
            }
            let key: (PartitionIndex, Offset) = (record.partition, record.offset);
            if all.insert(key, record.clone()).is_none() {
                parts[part].insert(key, record);
            } else {
                all.insert(key, parts.iter().find_map(|part| part.get(&key)).unwrap().clone());
            }
        }
        let files: Vec<FinishedFile> = parts
            .into_iter()
            .flat_map(|part| {
                let records: Vec<ArchivedRecord> = part.into_values().collect();
                write(&base_schema(), &Typing::default(), &records)
            })
            .collect();
        let options = WriterOptions { max_values, ..WriterOptions::default() };
        let pass = merged(&base_schema(), options, &files);
        let mut seen = BTreeMap::new();
        for file in &pass.files {
            let read = records_of_file(file.bytes.clone()).unwrap();
            prop_assert_eq!(read.len() as u64, file.rows);
            let errors = read.iter().filter(|record| record.error.is_some()).count();
            prop_assert_eq!(errors as u64, file.errors);
            prop_assert!(read.is_sorted_by_key(|record| (record.partition, record.offset)));
            for mut record in read {
                prop_assert!((file.min_timestamp..=file.max_timestamp).contains(&record.timestamp));
                if pass.by == PartitionBy::Day {
                    prop_assert_eq!(partition_value(pass.by, record.timestamp), file.value);
                }
                record.error = None;
                prop_assert!(seen.insert((record.partition, record.offset), record).is_none());
            }
        }
        prop_assert_eq!(seen, all);
    }
}
