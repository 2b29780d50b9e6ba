//! Records to rows and back.

use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::{header, record};
use crate::segment::{Record, RecordHeader, TimestampType};
use crate::state::table::PartitionBy;
use crate::table::{
    ArchivedRecord, Columns, ERROR, FIELD_ID_KEY, FileError, HEADERS, MAX_BATCH_BYTES,
    MAX_TIMESTAMP, MIN_TIMESTAMP, OFFSET, Row, RowEncoder, TIMESTAMP, TableWriter, WriterOptions,
    base_batches, base_columns, base_schema, column_name, records_of,
};
use crate::types::{Offset, PartitionIndex, Timestamp};

fn there_and_back(records: &[ArchivedRecord]) -> Vec<ArchivedRecord> {
    let mut encoder = RowEncoder::new(&Columns::base());
    for record in records {
        encoder.push(&record.row()).unwrap();
    }
    let batch = encoder.finish().unwrap();
    assert_eq!((encoder.rows(), encoder.bytes()), (0, 0));
    records_of(&batch).unwrap()
}

#[test]
fn null_and_empty_are_told_apart_and_headers_repeat_in_order() {
    let records = [
        record(0, 0),
        ArchivedRecord {
            key: Some(Bytes::new()),
            value: None,
            timestamp_type: TimestampType::LogAppend,
            headers: vec![
                header(b"a", Some(b"1")),
                header(b"a", Some(b"")),
                header(b"", None),
            ],
            offset: Offset(i64::MAX),
            ..record(3, 0)
        },
        ArchivedRecord {
            key: Some(Bytes::from_static(b"\xff\x00")),
            value: Some(Bytes::new()),
            ..record(4, 0)
        },
    ];
    assert_eq!(there_and_back(&records), records);
    assert_eq!(there_and_back(&[]), []);
}

#[test]
fn a_timestamp_that_no_table_can_have_is_null_and_in_the_error() {
    for (millis, fits) in [
        (-1, true),
        (0, true),
        (MIN_TIMESTAMP.0, true),
        (MAX_TIMESTAMP.0, true),
        (MIN_TIMESTAMP.0 - 1, false),
        (MAX_TIMESTAMP.0 + 1, false),
        (i64::MIN, false),
        (i64::MAX, false),
    ] {
        let mut encoder = RowEncoder::new(&Columns::base());
        let record = ArchivedRecord {
            timestamp: Timestamp(millis),
            ..record(0, 7)
        };
        encoder.push(&record.row()).unwrap();
        assert_eq!(encoder.errors(), u64::from(!fits));
        let batch = encoder.finish().unwrap();
        let times = batch.column_by_name(TIMESTAMP).unwrap();
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let errors = batch.column_by_name(ERROR).unwrap().as_string::<i32>();
        assert_eq!(times.is_valid(0), fits, "{millis}");
        assert_eq!(errors.is_null(0), fits, "{millis}");
        if fits {
            assert_eq!(times.value(0), millis * 1_000);
        } else {
            let told = format!("timestamp: {millis} ms is not in the years 1 to 9999");
            assert_eq!(errors.value(0), told);
        }
        assert_eq!(records_of(&batch).unwrap()[0].timestamp, record.timestamp);
    }
}

#[test]
fn a_header_whose_key_is_no_text_keeps_its_record() {
    let odd = ArchivedRecord {
        headers: vec![header(b"fine", None), header(b"\xc3(", Some(b"v"))],
        timestamp: Timestamp(i64::MIN),
        ..record(0, 1)
    };
    let mut long = odd.clone();
    long.headers[1].key = Bytes::from(vec![0xff; 1 << 20]);
    let read = there_and_back(&[odd, long]);
    assert_eq!(read[0].headers[1].key, "\u{fffd}(");
    assert_eq!(read[0].headers[1].value.as_deref(), Some(&b"v"[..]));
    let says = "timestamp: -9223372036854775808 ms is not in the years 1 to 9999; header 1: its key is not UTF-8, in \
                hexadecimal: c328";
    assert_eq!(read[0].error.as_deref(), Some(says));
    assert_eq!(read[1].timestamp, Timestamp(i64::MIN));
    let error = read[1].error.as_ref().unwrap();
    assert!(error.ends_with("ffff…") && error.len() < 1_000, "{error}");
}

#[test]
fn an_error_is_never_long() {
    let headers = (0..1_000).map(|_| header(b"\xff", None)).collect();
    let read = there_and_back(&[ArchivedRecord {
        headers,
        ..record(0, 1)
    }]);
    assert!(read[0].error.as_ref().unwrap().len() <= 1_000);
    assert_eq!(read[0].headers.len(), 1_000);
}

#[test]
fn a_row_has_no_more_headers_than_a_record_may_have() {
    let columns = Columns::base();
    let mut encoder = RowEncoder::new(&columns);
    let record = Record {
        offset_delta: 3,
        timestamp: Timestamp(5),
        key: None,
        value: Some(Bytes::from("v")),
        headers: Vec::new(),
        header_count: 100_000_000,
    };
    let base = Offset(4);
    let row = Row::of(PartitionIndex(0), base, TimestampType::Create, &record);
    encoder.push(&row).unwrap();
    let read = records_of(&encoder.finish().unwrap()).unwrap();
    assert_eq!(read[0].offset, Offset(7));
    assert_eq!(read[0].value.as_deref(), Some(&b"v"[..]));
    assert_eq!(read[0].headers, []);
    let says = "headers: 100000000, and a row has no more than 65536";
    assert_eq!(read[0].error.as_deref(), Some(says));
}

#[test]
fn a_file_of_rows_with_many_empty_headers_is_read_a_few_rows_at_a_time() {
    let headers = vec![header(b"", None); 60_000];
    let mut writer = TableWriter::new(Columns::base(), PartitionBy::None, WriterOptions::default());
    for offset in 0..30 {
        let headers = headers.clone();
        let record = ArchivedRecord {
            headers,
            ..record(0, offset)
        };
        writer.push(&record.row()).unwrap();
    }
    let file = writer.finish().unwrap().files.remove(0);
    let mut rows = 0;
    for batch in base_batches(file.bytes).unwrap() {
        let batch = batch.unwrap();
        assert!(batch.num_rows() < 20, "{} rows at once", batch.num_rows());
        rows += batch.num_rows();
    }
    assert_eq!(rows, 30);
}

#[test]
fn what_is_projected_is_all_that_is_encoded() {
    let columns = Columns::base();
    let place = |name| columns.arrow().index_of(name).unwrap();
    let mut encoder = RowEncoder::projected(&columns, &[place(ERROR), place(OFFSET), 99]);
    encoder.push(&record(0, 5).row()).unwrap();
    let batch = encoder.finish().unwrap();
    assert_eq!(batch.num_columns(), 2);
    assert_eq!(batch.column(1).as_primitive::<Int64Type>().value(0), 5);
    // Counting needs no column.
    let mut encoder = RowEncoder::projected(&columns, &[]);
    encoder.push(&record(0, 5).row()).unwrap();
    encoder.push(&record(0, 6).row()).unwrap();
    let batch = encoder.finish().unwrap();
    assert_eq!((batch.num_rows(), batch.num_columns()), (2, 0));
}

#[test]
fn a_batch_has_a_limit_and_says_whom_it_has_no_room_for() {
    let mut encoder = RowEncoder::new(&Columns::base());
    encoder.push(&record(2, 8).row()).unwrap();
    // A long key is no more than it is, and one that is not UTF-8 may grow threefold.
    let with_key = |byte: u8, len: usize| ArchivedRecord {
        value: None,
        headers: vec![RecordHeader {
            key: Bytes::from(vec![byte; len]),
            value: None,
        }],
        ..record(2, 9)
    };
    assert_eq!(with_key(b'a', 100).row().bytes(), 108);
    assert_eq!(with_key(0xff, 100).row().bytes(), 308);
    let large = Bytes::from(vec![0; MAX_BATCH_BYTES / 4]);
    let large = ArchivedRecord {
        headers: vec![
            RecordHeader {
                key: large.clone(),
                value: Some(large)
            };
            2
        ],
        ..record(2, 9)
    };
    let refused = encoder.push(&large.row()).unwrap_err();
    assert!(matches!(refused, FileError::TooLarge { .. }), "{refused}");
    let said = refused.to_string();
    assert!(said.starts_with("offset 9 of partition 2 has "), "{said}");
    assert!(said.contains(&MAX_BATCH_BYTES.to_string()), "{said}");
    assert_eq!(encoder.finish().unwrap().num_rows(), 1);
    // Also what has no bytes is not nothing.
    let many = ArchivedRecord {
        headers: vec![header(b"", None); 1 << 20],
        ..record(2, 9)
    };
    assert!(!encoder.is_full());
    encoder.push(&many.row()).unwrap();
    assert!(encoder.is_full());
}

/// Readers find columns by these for ever.
#[test]
fn the_base_columns_are_what_they_were() {
    let told: Vec<String> = base_columns()
        .iter()
        .map(|column| {
            let optional = if column.required { "" } else { "?" };
            let (id, name, kind) = (column.id.0, &column.name, column.column_type);
            format!("{id} {name}{optional} {kind:?}")
        })
        .collect();
    assert_eq!(
        told,
        [
            "1 partition Int",
            "2 offset Long",
            "3 timestamp? Timestamptz",
            "4 timestamp_type String",
            "5 key? Binary",
            "6 value? Binary",
            "7 headers List",
            "8 element Struct",
            "9 key String",
            "10 value? Binary",
            "11 error? String",
        ]
    );
    Columns::new(base_schema()).unwrap();
    let columns = Columns::base();
    let headers = columns.arrow().field_with_name(HEADERS).unwrap();
    assert_eq!(headers.metadata()[FIELD_ID_KEY], "7");
}

#[test]
fn names_of_columns_suit_every_engine() {
    for (source, name) in [
        ("userId", "userid"),
        ("_id", "id"),
        ("__a.b-c d", "a_b_c_d"),
        ("1st", "column_1st"),
        ("Größe", "größe"),
        ("", "column"),
        ("___", "column"),
        ("İ", "i_"),
    ] {
        assert_eq!(column_name(source), name, "{source}");
    }
    assert_eq!(column_name(&"ä".repeat(1_000)).len(), 128);
}

fn any_bytes() -> impl Strategy<Value = Option<Bytes>> {
    option::of(vec(any::<u8>(), 0..20).prop_map(Bytes::from))
}

prop_compose! {
    pub(super) fn any_record()(
        partition in 0..4i32,
        offset in 0..i64::MAX,
        timestamp in prop_oneof![
            any::<i64>(),
            -2_000_000_000_000..4_000_000_000_000i64,
            (-3..3i64).prop_map(|near| MAX_TIMESTAMP.0 + near),
        ],
        append in any::<bool>(),
        key in any_bytes(),
        value in any_bytes(),
        headers in vec((".{0,5}", any_bytes()), 0..4),
    ) -> ArchivedRecord {
        let headers = headers.into_iter().map(|(key, value)| RecordHeader { key: key.into(), value });
        ArchivedRecord {
            partition: PartitionIndex(partition),
            offset: Offset(offset),
            timestamp: Timestamp(timestamp),
            timestamp_type: if append { TimestampType::LogAppend } else { TimestampType::Create },
            key,
            value,
            headers: headers.collect(),
            error: None,
        }
    }
}

proptest! {
    #[test]
    fn every_record_comes_back_as_it_was(records in vec(any_record(), 0..50)) {
        let mut read = there_and_back(&records);
        for record in &mut read {
            record.error = None;
        }
        prop_assert_eq!(read, records);
    }
}
