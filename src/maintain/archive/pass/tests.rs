use super::*;
use crate::segment::{BatchBuilder, Codec};
use crate::state::table::PartitionBy;
use crate::table::{Columns, WriterOptions, records_of_file};
use crate::types::Timestamp;

/// Noise that does not compress, another for each seed.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(next)
        .take(len / 8)
        .flatten()
        .collect();
    bytes.truncate(len);
    bytes
}

/// Batches that follow one another, each of so many records of noise.
fn batches(count: usize, records: usize, len: usize) -> Vec<(Offset, Bytes)> {
    let batch = |number: usize| {
        let mut builder = BatchBuilder::new(Codec::None);
        for record in 0..records {
            let value = noise((number * records + record) as u64, len);
            builder.push(Timestamp(1), None, Some(&value), &[]).unwrap();
        }
        let base = Offset((number * records) as i64);
        (base, builder.finish().unwrap())
    };
    (0..count).map(batch).collect()
}

fn pushing(batches: Vec<(Offset, Bytes)>, first: i64) -> Pushing {
    Pushing {
        partition: PartitionIndex(0),
        first: Offset(first),
        batches: batches.into_iter(),
        batch: None,
        bytes: 0,
        is_enough: false,
    }
}

fn writer(file_bytes: usize) -> TableWriter {
    let options = WriterOptions {
        file_bytes,
        memory: file_bytes * 4,
        max_values: 4,
    };
    TableWriter::new(Columns::base(), PartitionBy::None, options)
}

#[test]
fn of_the_files_of_a_slice_no_more_than_one_is_held() {
    // A batch of eight mebibytes makes eight files or so: it is not pushed as a whole either.
    let mut pushing = pushing(batches(3, 512, 16 << 10), 0);
    let mut writer = writer(1 << 20);
    let mut files = Vec::new();
    loop {
        let ended = pushing.push(&mut writer).unwrap().unwrap();
        assert!(writer.finished() <= 1, "{} at once", writer.finished());
        files.extend(writer.take());
        match ended {
            Ended::More => {}
            Ended::All => break,
            Ended::Before(offset) => panic!("it ended before {offset}"),
        }
    }
    files.extend(writer.finish().unwrap().files);
    assert!(files.len() > 2, "{}", files.len());
    let records = files
        .into_iter()
        .flat_map(|file| records_of_file(file.bytes).unwrap());
    let offsets: Vec<i64> = records.map(|record| record.offset.0).collect();
    assert_eq!(offsets, (0..3 * 512).collect::<Vec<i64>>());
}

#[test]
fn a_pass_ends_before_a_batch_and_not_before_its_first() {
    let mut pushing = pushing(batches(3, 4, 64), 2);
    let mut writer = writer(1 << 20);
    pushing.is_enough = true;
    let ended = pushing.push(&mut writer).unwrap().unwrap();
    assert!(matches!(ended, Ended::Before(Offset(4))));
    // What is before the first offset was archived before.
    let file = writer.finish().unwrap().files.remove(0);
    let records = records_of_file(file.bytes).unwrap();
    let offsets: Vec<i64> = records.iter().map(|record| record.offset.0).collect();
    assert_eq!(offsets, [2, 3]);
}

#[test]
fn rows_of_nothing_count_and_are_pushed_a_part_at_a_time() {
    let mut builder = BatchBuilder::new(Codec::Zstd);
    let count = PUSH_BYTES / ROW_BYTES + 10;
    for _ in 0..count {
        builder.push(Timestamp(1), None, None, &[]).unwrap();
    }
    let batch = vec![(Offset(0), builder.finish().unwrap())];
    let (mut pushing, mut writer) = (pushing(batch, 0), writer(64 << 20));
    let ended = pushing.push(&mut writer).unwrap().unwrap();
    assert!(matches!(ended, Ended::More));
    assert_eq!(pushing.bytes, PUSH_BYTES);
    let ended = pushing.push(&mut writer).unwrap().unwrap();
    assert!(matches!(ended, Ended::All));
    assert_eq!(pushing.bytes, count * ROW_BYTES);
}
