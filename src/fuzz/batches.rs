//! Record batches.

use bytes::{Bytes, BytesMut};

use crate::segment::{
    BATCH_HEADER_LEN, BatchHeader, Batches, Codec, KeyedRecord, Limits, ProduceRules, Retained,
    decode_records, first_record_at_or_after, for_each_key, patch, recompress, retain_records,
    set_log_append_time, set_max_timestamp, validate,
};
use crate::types::{Offset, Timestamp};

/// Small, so that a bomb is told from a batch within the bound on memory.
const LIMITS: Limits = Limits {
    max_uncompressed: 1 << 20,
};

const RULES: ProduceRules = ProduceRules {
    max_batch_bytes: 2 << 20,
    limits: LIMITS,
    allow_transactional: true,
};

/// The least that a record takes: its length, attributes, two deltas, two lengths, the number of headers.
const MIN_RECORD: usize = 7;

/// What reading a batch may take: the records of the largest batch, in a vector that doubled; the blocks of an LZ4
/// frame, of which one alone has 4 MiB; and of Snappy's, which has no smaller unit than a block.
pub(super) fn memory(len: usize) -> usize {
    (24 << 20) + 64 * len
}

/// Bytes as a batch, as they are and with length, magic and checksum made right.
pub(super) fn batch(input: &[u8]) -> bool {
    let raw = read(input);
    let mut repaired = BytesMut::from(input);
    repair(&mut repaired);
    read(&repaired) | raw
}

/// The records of a batch. The first byte says how they are compressed, by the fuzzer or (with its highest bit) here;
/// the next says how many there are, unless it is 255: then the four after it do.
pub(super) fn records(input: &[u8]) -> bool {
    let Some(([codec, few], rest)) = input.split_first_chunk::<2>() else {
        return false;
    };
    let (count, records) = match (few, rest.split_first_chunk::<4>()) {
        (255, Some((many, records))) => (i32::from_be_bytes(*many), records),
        _ => (i32::from(*few), rest),
    };
    let kind = Codec::from_id(codec & 7).unwrap_or_default();
    let records = if codec & 0x80 == 0 {
        records.to_vec()
    } else {
        kind.compress(records.to_vec()).unwrap_or_default()
    };
    let mut batch = BytesMut::zeroed(BATCH_HEADER_LEN);
    batch.extend_from_slice(&records);
    batch[22] = kind.id();
    batch[23..27].copy_from_slice(&count.wrapping_sub(1).to_be_bytes());
    batch[27..35].copy_from_slice(&1_700_000_000_000i64.to_be_bytes());
    batch[43..53].fill(0xff);
    batch[53..57].fill(0xff);
    batch[57..61].copy_from_slice(&count.to_be_bytes());
    repair(&mut batch);
    read(&batch)
}

/// Makes right what a fuzzer cannot: the length, the magic and the checksum.
fn repair(batch: &mut [u8]) {
    if batch.len() < BATCH_HEADER_LEN {
        return;
    }
    let length = i32::try_from(batch.len() - 12).unwrap_or(i32::MAX);
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[16] = 2;
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// Takes every other record out, as compaction of the log does; what is left must be a batch.
fn clean(batch: &Bytes) {
    let mut seen = 0;
    let _ = for_each_key(batch, LIMITS, |_| {
        seen += 1;
        seen < 100
    });
    for horizon in [None, Some(Timestamp(i64::MIN)), Some(Timestamp(5))] {
        let every_other = |record: &KeyedRecord<'_>| record.offset_delta % 2 == 0;
        let retained = retain_records(batch, horizon, LIMITS, every_other);
        if let Ok(Retained::Rewritten(left)) = retained {
            let header = BatchHeader::parse(&left).expect("what is left is a batch");
            assert_eq!(header.check_crc(&left), Ok(()));
            let records = decode_records(&left, LIMITS).expect("what is left is read");
            let deltas = records.map(|record| record.expect("each is read").offset_delta);
            assert!(deltas.eq(deltas_of(batch).filter(|delta| delta % 2 == 0)));
        }
    }
}

fn deltas_of(batch: &Bytes) -> impl Iterator<Item = i32> {
    let records = decode_records(batch, LIMITS).into_iter().flatten();
    records.filter_map(|record| Some(record.ok()?.offset_delta))
}

/// Reads bytes in every way that there is. True if they are a batch that a producer may send.
fn read(bytes: &[u8]) -> bool {
    let run = Bytes::copy_from_slice(bytes);
    let mut end = 0;
    for batch in Batches::new(bytes) {
        let Ok(batch) = batch else { break };
        assert_eq!(batch.range.start, end);
        end = batch.range.end;
        assert_eq!(batch.slice(&run).len(), batch.header.size);
        let _ = (batch.header.next_offset(), batch.header.last_sequence());
    }
    let valid = validate(bytes, RULES);
    let records = decode_records(&run, LIMITS).map(|records| {
        let mut read = 0;
        let mut whole = true;
        for record in records {
            read += 1;
            whole &= record.is_ok();
        }
        (read, whole)
    });
    if let Ok((read, _)) = records {
        let most = (LIMITS.max_uncompressed.max(bytes.len())) / MIN_RECORD;
        assert!(read <= most + 1, "{read} records");
    }
    clean(&run);
    let _ = first_record_at_or_after(bytes, Timestamp(1_700_000_000_005), 1, LIMITS);
    if let Ok(valid) = &valid {
        let count = usize::try_from(valid.header.record_count).unwrap_or(0);
        assert_eq!(
            records,
            Ok((count, true)),
            "what is valid is read to its end"
        );
        for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
            if let Ok(other) = recompress(bytes, codec, Some(i32::MAX), RULES.max_batch_bytes) {
                let again = validate(&other, RULES).map(|again| again.facts);
                assert_eq!(again, Ok(valid.facts), "{codec}");
            }
        }
    }
    let mut changed = BytesMut::from(bytes);
    let _ = set_log_append_time(&mut changed, Timestamp(i64::MIN));
    let _ = set_max_timestamp(&mut changed, Timestamp(i64::MAX));
    if patch(&mut changed, Offset(i64::MAX), i32::MIN).is_ok()
        && let Ok(header) = BatchHeader::parse(&changed)
    {
        assert_eq!(header.base_offset, Offset(i64::MAX));
        if changed.len() >= header.size {
            assert_eq!(header.check_crc(&changed), Ok(()));
        }
    }
    valid.is_ok()
}
