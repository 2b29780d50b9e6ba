//! Files: what is written is read, divided and bounded.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use parquet::basic::{Compression, Encoding};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::properties::ReaderProperties;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::{ReadOptionsBuilder, SerializedFileReader};
use proptest::collection::vec;
use proptest::prelude::*;

use super::record;
use super::rows::any_record;
use crate::state::table::{FieldId, PartitionBy};
use crate::table::{
    ArchivedRecord, Columns, FileError, FinishedFile, KEY_ID, OFFSET_ID, PARTITION_ID, Pass,
    ROW_GROUP_BYTES, TIMESTAMP_ID, TableWriter, VALUE_ID, WriterOptions, partition_value,
    records_of_file,
};
use crate::types::{Offset, PartitionIndex, Timestamp};

const DAY: i64 = 86_400_000;

fn write(records: &[ArchivedRecord], by: PartitionBy, options: WriterOptions) -> Pass {
    let mut writer = TableWriter::new(Columns::base(), by, options);
    let mut taken = Vec::new();
    for record in records {
        writer.push(&record.row()).unwrap();
        taken.extend(writer.take());
    }
    let mut pass = writer.finish().unwrap();
    taken.append(&mut pass.files);
    Pass {
        files: taken,
        ..pass
    }
}

fn metadata(file: &FinishedFile) -> ParquetMetaData {
    let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Required);
    reader.parse_and_finish(&file.bytes).unwrap()
}

fn told(of: &FinishedFile, column: FieldId) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let stats = &of.stats.columns[&column];
    (stats.lower.clone(), stats.upper.clone())
}

#[test]
fn days_hours_and_months_are_counted_from_1970_and_backwards_too() {
    use PartitionBy::{Day, Hour, Month, None};
    for (by, millis, value) in [
        (Day, 0, 0),
        (Day, DAY - 1, 0),
        (Day, -1, -1),
        (Day, -DAY, -1),
        (Day, -DAY - 1, -2),
        (Hour, -1, -1),
        (Hour, 3_600_000, 1),
        (Month, 0, 0),
        (Month, -1, -1),
        (Month, 31 * DAY - 1, 0),
        (Month, 31 * DAY, 1),
        // 2000-02-29, 2000-03-01 and 2024-02-29.
        (Month, 951_782_400_000, 361),
        (Month, 951_868_800_000, 362),
        (Month, 1_709_164_800_000, 649),
        // The last of 9999, and the first of the year 1.
        (Day, 253_402_300_799_999, 2_932_896),
        (Month, 253_402_300_799_999, 8029 * 12 + 11),
        (Month, -62_135_596_800_000, -1969 * 12),
    ] {
        let found = partition_value(by, Timestamp(millis));
        assert_eq!(found, Some(value), "{by:?} {millis}");
    }
    for none in [
        partition_value(None, Timestamp(0)),
        partition_value(Day, Timestamp(i64::MAX)),
        partition_value(Month, Timestamp(i64::MIN)),
    ] {
        assert_eq!(none, Option::None);
    }
    // Every month begins on the first of its days, for 800 years.
    let mut month = partition_value(Month, Timestamp(-400 * 365 * DAY)).unwrap();
    let mut lengths = Vec::new();
    let mut length = 0;
    for day in -400 * 365..400 * 365i64 {
        let next = partition_value(Month, Timestamp(day * DAY)).unwrap();
        assert!(next == month || next == month + 1);
        if next != month {
            lengths.push(length);
            length = 0;
        }
        (month, length) = (next, length + 1);
    }
    assert!(lengths[1..].iter().all(|days| (28..=31).contains(days)));
}

#[test]
fn a_file_is_as_the_design_says() {
    let mut records: Vec<ArchivedRecord> = (0..30_000).map(|offset| record(0, offset)).collect();
    records.extend((5..10_000).map(|offset| ArchivedRecord {
        key: Some(Bytes::from(format!("key {offset}"))),
        value: (offset % 2 == 0).then(|| Bytes::from(vec![b'x'; 1_000])),
        timestamp: Timestamp(-1),
        ..record(3, offset)
    }));
    let pass = write(&records, PartitionBy::None, WriterOptions::default());
    let [file] = &pass.files[..] else {
        panic!("{} files", pass.files.len());
    };
    assert_eq!(file.rows, records.len() as u64);
    assert_eq!(file.crc32c, crc32c::crc32c(&file.bytes));
    assert_eq!(file.min_timestamp, Timestamp(-1));
    assert_eq!(records_of_file(file.bytes.clone()).unwrap(), records);

    let metadata = metadata(file);
    let groups = metadata.row_groups();
    let rows: Vec<i64> = groups.iter().map(|group| group.num_rows()).collect();
    assert_eq!(
        rows,
        [30_000, 9_995],
        "a row group ends where a partition does"
    );
    let ids: Vec<i32> = metadata
        .file_metadata()
        .schema_descr()
        .root_schema()
        .get_fields()
        .iter()
        .map(|field| field.get_basic_info().id())
        .collect();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6, 7, 11]);
    for group in groups {
        for chunk in group.columns() {
            let name = chunk.column_path().string();
            assert!(matches!(chunk.compression(), Compression::ZSTD(_)));
            for encoding in chunk.encodings() {
                let is_old = matches!(
                    encoding,
                    Encoding::PLAIN
                        | Encoding::RLE
                        | Encoding::RLE_DICTIONARY
                        | Encoding::PLAIN_DICTIONARY
                );
                assert!(is_old, "{name} {encoding}");
            }
            let has_stats = name != "value" && name != "headers.list.element.value";
            assert_eq!(chunk.statistics().is_some(), has_stats, "{name}");
            assert_eq!(
                chunk.bloom_filter_offset().is_some(),
                name == "key",
                "{name}"
            );
        }
        assert!(group.sorting_columns().is_some());
    }
    let pages = metadata.offset_index().unwrap();
    assert!(
        pages[0][1].page_locations().len() >= 2,
        "pages of 20,000 rows"
    );
    assert!(pages[1][5].page_locations().len() > 3, "pages of 1 MiB");

    let int = |value: i32| Some(value.to_le_bytes().to_vec());
    let long = |value: i64| Some(value.to_le_bytes().to_vec());
    assert_eq!(told(file, PARTITION_ID), (int(0), int(3)));
    assert_eq!(told(file, OFFSET_ID), (long(0), long(29_999)));
    let last = (1_767_225_600_000 + 29_999) * 1_000;
    assert_eq!(told(file, TIMESTAMP_ID), (long(-1_000), long(last)));
    assert_eq!(told(file, VALUE_ID), (None, None));
    let key = (b"key 10".to_vec(), b"key 9999".to_vec());
    assert_eq!(told(file, KEY_ID), (Some(key.0), Some(key.1)));
    let rows = records.len() as u64;
    assert_eq!(file.stats.columns[&KEY_ID].values, Some((rows, 30_000)));
    assert_eq!(file.stats.columns[&VALUE_ID].values, Some((rows, 4_998)));
    assert_eq!(file.stats.split_offsets.len(), 2);
    assert_eq!(file.stats.split_offsets[0], 4);
}

#[test]
fn bounds_are_short_and_hold_all_values() {
    let of_keys = |keys: &[&[u8]]| {
        let records: Vec<ArchivedRecord> = keys
            .iter()
            .enumerate()
            .map(|(offset, key)| ArchivedRecord {
                key: Some(Bytes::copy_from_slice(key)),
                ..record(0, offset as i64)
            })
            .collect();
        let pass = write(&records, PartitionBy::None, WriterOptions::default());
        told(&pass.files[0], KEY_ID)
    };
    let (lower, upper) = of_keys(&[&[b'a'; 1_000], &[b'b'; 1_000]]);
    assert_eq!(lower.unwrap(), [b'a'; 64]);
    let upper = upper.unwrap();
    assert!(upper.len() == 64 && upper[..] > [b'b'; 1_000][..]);
    // Nothing short is greater.
    assert_eq!(
        of_keys(&[b"a", &[0xff; 1_000]]),
        (Some(b"a".to_vec()), None)
    );
}

#[test]
fn a_key_is_found_by_its_bloom_filter() {
    let records: Vec<ArchivedRecord> = (0..1_000)
        .map(|offset| ArchivedRecord {
            key: Some(Bytes::from(format!("key {offset}"))),
            ..record(0, offset)
        })
        .collect();
    let pass = write(&records, PartitionBy::None, WriterOptions::default());
    let properties = ReaderProperties::builder()
        .set_read_bloom_filter(true)
        .build();
    let options = ReadOptionsBuilder::new()
        .with_reader_properties(properties)
        .build();
    let reader =
        SerializedFileReader::new_with_options(pass.files[0].bytes.clone(), options).unwrap();
    let group = reader.get_row_group(0).unwrap();
    let filter = group.get_column_bloom_filter(4).unwrap();
    assert!((0..1_000).all(|key| filter.check(format!("key {key}").as_bytes())));
    let wrong = (1_000..11_000).filter(|key| filter.check(format!("key {key}").as_bytes()));
    assert!(wrong.count() < 500);
}

#[test]
fn records_are_divided_by_day_and_too_many_days_are_not_divided() {
    let of_day = |offset: i64, day: i64| ArchivedRecord {
        timestamp: Timestamp(day * DAY + offset),
        ..record(0, offset)
    };
    let mut records: Vec<ArchivedRecord> = (0..30)
        .map(|offset| of_day(offset, offset % 3 - 1))
        .collect();
    records.push(ArchivedRecord {
        timestamp: Timestamp(i64::MAX),
        ..record(1, 0)
    });
    let pass = write(&records, PartitionBy::Day, WriterOptions::default());
    assert_eq!(pass.by, PartitionBy::Day);
    let values: Vec<Option<i32>> = pass.files.iter().map(|file| file.value).collect();
    assert_eq!(values, [None, Some(-1), Some(0), Some(1)]);
    assert_eq!((pass.files[0].rows, pass.files[0].errors), (1, 1));

    let many: Vec<ArchivedRecord> = (0..300)
        .map(|offset| of_day(offset, offset % 100))
        .collect();
    let pass = write(&many, PartitionBy::Day, WriterOptions::default());
    assert_eq!(pass.by, PartitionBy::None, "its files hold any days");
    assert_eq!(pass.files.len(), 65);
    assert_eq!(pass.files[64].rows, 36 * 3);
    // One fewer day needs no such file.
    let fewer: Vec<ArchivedRecord> = (0..300).map(|offset| of_day(offset, offset % 64)).collect();
    let pass = write(&fewer, PartitionBy::Day, WriterOptions::default());
    assert_eq!((pass.by, pass.files.len()), (PartitionBy::Day, 64));
}

#[test]
fn what_is_out_of_order_is_refused() {
    let mut writer = TableWriter::new(Columns::base(), PartitionBy::Day, WriterOptions::default());
    writer.push(&record(1, 5).row()).unwrap();
    for (partition, offset) in [(1, 5), (1, 4), (0, 9)] {
        let refused = writer.push(&record(partition, offset).row()).unwrap_err();
        assert!(matches!(refused, FileError::Order { .. }), "{refused}");
    }
    writer.push(&record(2, 0).row()).unwrap();
}

/// Bytes that no codec makes smaller.
fn noise(seed: &mut u64, len: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        bytes.extend_from_slice(&seed.to_le_bytes());
    }
    bytes.truncate(len);
    Bytes::from(bytes)
}

#[test]
fn memory_row_groups_and_files_are_bounded() {
    let options = WriterOptions {
        file_bytes: 80 << 20,
        memory: 70 << 20,
        max_values: 4,
    };
    let mut seed = 1;
    let mut writer = TableWriter::new(Columns::base(), PartitionBy::Day, options);
    let mut files = Vec::new();
    for offset in 0..150 {
        let large = ArchivedRecord {
            value: Some(noise(&mut seed, 1 << 20)),
            timestamp: Timestamp((offset % 2) * DAY),
            ..record(0, offset)
        };
        writer.push(&large.row()).unwrap();
        let open: usize = writer.memory();
        assert!(open <= options.memory + (1 << 20), "{open}");
        files.extend(writer.take());
    }
    files.extend(writer.finish().unwrap().files);
    assert!(files.len() >= 3, "{}", files.len());
    assert_eq!(files.iter().map(|file| file.rows).sum::<u64>(), 150);

    // One day: only its length ends a file.
    let mut writer = TableWriter::new(
        Columns::base(),
        PartitionBy::Day,
        WriterOptions {
            memory: usize::MAX,
            ..options
        },
    );
    for offset in 0..100 {
        let large = ArchivedRecord {
            value: Some(noise(&mut seed, 1 << 20)),
            timestamp: Timestamp(0),
            ..record(0, offset)
        };
        writer.push(&large.row()).unwrap();
    }
    let files = writer.finish().unwrap().files;
    assert_eq!(files.len(), 2);
    for file in &files {
        assert!(file.bytes.len() < 92 << 20);
        for group in metadata(file).row_groups() {
            assert!(group.compressed_size() as usize <= ROW_GROUP_BYTES + (1 << 20));
        }
    }
    let pages = metadata(&files[0]);
    let pages = pages.offset_index().unwrap()[0][5].page_locations();
    let largest = pages.iter().map(|page| page.compressed_page_size).max();
    assert!(largest < Some(3 << 20), "{largest:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn every_record_is_in_one_file_and_in_that_of_its_day(
        records in vec(any_record(), 0..60),
        max_values in 1..5usize,
    ) {
        let records: BTreeMap<(PartitionIndex, Offset), ArchivedRecord> = records
            .into_iter()
            .map(|record| ((record.partition, record.offset), record))
            .collect();
        let records: Vec<ArchivedRecord> = records.into_values().collect();
        let options = WriterOptions { max_values, ..WriterOptions::default() };
        let pass = write(&records, PartitionBy::Month, options);
        let mut seen = BTreeSet::new();
        for file in &pass.files {
            let mut last = None;
            let read = records_of_file(file.bytes.clone()).unwrap();
            prop_assert_eq!(read.len() as u64, file.rows);
            for record in read {
                let here = (record.partition, record.offset);
                prop_assert!(last < Some(here));
                prop_assert!(seen.insert(here));
                last = Some(here);
                prop_assert!((file.min_timestamp..=file.max_timestamp).contains(&record.timestamp));
                if pass.by == PartitionBy::Month {
                    prop_assert_eq!(partition_value(pass.by, record.timestamp), file.value);
                }
            }
        }
        prop_assert_eq!(seen.len(), records.len());
    }
}
