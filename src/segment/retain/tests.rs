use super::super::{
    BatchBuilder, Batches, Codec, Record, RecordHeader, decode_records, recompress,
    set_log_append_time,
};
use super::*;
use crate::types::{ProducerEpoch, ProducerId};
use bytes::BytesMut;
use proptest::prelude::*;

const LIMITS: Limits = Limits {
    max_uncompressed: 1 << 20,
};

/// Key, value, milliseconds.
type Draft = (Option<Vec<u8>>, Option<Vec<u8>>, i64);

fn batch(codec: Codec, records: &[Draft]) -> Bytes {
    let mut builder = BatchBuilder::new(codec).producer(ProducerId(7), ProducerEpoch(2), 40);
    for (key, value, time) in records {
        let header = RecordHeader {
            key: Bytes::from_static(b"trace"),
            value: value.clone().map(Bytes::from),
        };
        builder
            .push(
                Timestamp(*time),
                key.as_deref(),
                value.as_deref(),
                &[header],
            )
            .unwrap();
    }
    builder.finish().unwrap()
}

fn opened(batch: &Bytes) -> (BatchHeader, Vec<Record>) {
    let header = BatchHeader::parse(batch).unwrap();
    header.check_crc(batch).unwrap();
    assert_eq!(header.size, batch.len());
    let records = decode_records(batch, LIMITS).unwrap();
    (header, records.map(Result::unwrap).collect())
}

fn rewritten(retained: Retained) -> Bytes {
    match retained {
        Retained::Rewritten(bytes) => bytes,
        other => panic!("not rewritten: {other:?}"),
    }
}

fn text(key: &str, value: Option<&str>, time: i64) -> Draft {
    let bytes = |text: &str| text.as_bytes().to_vec();
    (Some(bytes(key)), value.map(bytes), time)
}

fn drafts() -> impl Strategy<Value = Vec<Draft>> {
    let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
    proptest::collection::vec((bytes(), bytes(), -1..2_000_000_000_000_i64), 1..30)
}

fn codec() -> impl Strategy<Value = Codec> {
    proptest::sample::select(Codec::ALL.to_vec())
}

proptest! {
    #[test]
    fn what_stays_is_unchanged_and_stands_where_it_stood(
        drafts in drafts(),
        codec in codec(),
        mask in any::<u32>(),
        horizon in proptest::option::of(0..4_000_000_000_000_i64),
        log_append in any::<bool>(),
    ) {
        let mut original = BytesMut::from(&batch(codec, &drafts)[..]);
        if log_append {
            set_log_append_time(&mut original, Timestamp(1_900_000_000_000)).unwrap();
        }
        let original = original.freeze();
        let (before, all) = opened(&original);
        let keep = |delta: i32| mask & (1 << delta) != 0;
        let horizon = horizon.map(Timestamp);
        let retained = retain_records(&original, horizon, LIMITS, |record| keep(record.offset_delta)).unwrap();
        let expected: Vec<Record> = all.iter().filter(|r| keep(r.offset_delta)).cloned().collect();
        let tombstones = expected.iter().any(|record| record.value.is_none());
        let after = match retained {
            Retained::Nothing => {
                prop_assert!(expected.is_empty());
                return Ok(());
            }
            Retained::Whole => {
                prop_assert_eq!(expected.len(), all.len());
                prop_assert!(horizon.is_none() || !tombstones);
                return Ok(());
            }
            Retained::Rewritten(bytes) => bytes,
        };
        let (header, records) = opened(&after);
        prop_assert_eq!(&records, &expected);
        prop_assert_eq!(header.delete_horizon(), horizon.filter(|_| tombstones));
        let latest = expected.iter().map(|record| record.timestamp).max();
        prop_assert_eq!(Some(header.max_timestamp), latest);
        let same = BatchHeader {
            size: header.size,
            crc: header.crc,
            base_timestamp: header.base_timestamp,
            attributes: header.attributes,
            max_timestamp: header.max_timestamp,
            record_count: header.record_count,
            ..before
        };
        prop_assert_eq!(header, same);
        let horizon_bit = Attributes::DELETE_HORIZON;
        prop_assert_eq!(header.attributes.0 & !horizon_bit, before.attributes.0);
        prop_assert_eq!(header.record_count as usize, expected.len());
        prop_assert_eq!(header.next_offset(), before.next_offset());
        prop_assert_eq!(header.last_sequence(), before.last_sequence());
    }

    #[test]
    fn damaged_batches_are_errors_and_nothing_worse(
        drafts in drafts(),
        codec in codec(),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u8,
    ) {
        let mut damaged = batch(codec, &drafts).to_vec();
        let at = at.index(damaged.len());
        damaged[at] ^= 1 << bit;
        let damaged = Bytes::from(damaged);
        let mut turn = false;
        let _ = retain_records(&damaged, Some(Timestamp(5)), LIMITS, |_| { turn = !turn; turn });
        let _ = for_each_key(&damaged, LIMITS, |_| true);
    }

    #[test]
    fn another_codec_changes_nothing_but_the_bytes(
        drafts in drafts(),
        from in codec(),
        to in codec(),
        level in proptest::option::of(-5..25),
    ) {
        let original = batch(from, &drafts);
        let (before, expected) = opened(&original);
        let (header, records) = opened(&recompress(&original, to, level, 1 << 20).unwrap());
        prop_assert_eq!(records, expected);
        prop_assert_eq!(header.attributes.codec(), Ok(to));
        let same = BatchHeader { size: header.size, crc: header.crc, attributes: header.attributes, ..before };
        prop_assert_eq!(header, same);
    }
}

#[test]
fn a_batch_that_grows_too_long_in_another_codec_is_too_large() {
    let zeros = (Some(b"k".to_vec()), Some(vec![0; 100_000]), 5);
    let original = batch(Codec::Zstd, &[zeros]);
    assert!(original.len() < 1000);
    let error = recompress(&original, Codec::None, None, 1000).unwrap_err();
    assert!(matches!(error, BatchError::TooLarge { limit: 1000, .. }));
}

#[test]
fn a_delete_horizon_is_set_once_and_stays() {
    let original = batch(
        Codec::Zstd,
        &[text("a", None, 1000), text("b", Some("1"), 2000)],
    );
    let first = retain_records(&original, Some(Timestamp(90_000)), LIMITS, |_| true).unwrap();
    let first = rewritten(first);
    let (header, records) = opened(&first);
    assert_eq!(header.delete_horizon(), Some(Timestamp(90_000)));
    assert_eq!(records, opened(&original).1);

    let again = retain_records(&first, Some(Timestamp(200_000)), LIMITS, |_| true).unwrap();
    assert_eq!(again, Retained::Whole);
    // The horizon stays also when the tombstone has gone: it is the base of the others' time stamps.
    let later = retain_records(&first, Some(Timestamp(200_000)), LIMITS, |r| {
        !r.is_tombstone
    });
    let (header, records) = opened(&rewritten(later.unwrap()));
    assert_eq!(header.delete_horizon(), Some(Timestamp(90_000)));
    assert_eq!(records[0].timestamp, Timestamp(2000));
    assert_eq!(header.max_timestamp, Timestamp(2000));
}

#[test]
fn a_batch_without_tombstones_gets_no_horizon() {
    let original = batch(Codec::None, &[text("a", Some("1"), 1000)]);
    let retained = retain_records(&original, Some(Timestamp(90_000)), LIMITS, |_| true).unwrap();
    assert_eq!(retained, Retained::Whole);
}

#[test]
fn a_horizon_out_of_reach_leaves_the_batch_as_it_is() {
    let far = (Some(b"k".to_vec()), None, i64::MIN + 5);
    let original = batch(Codec::None, &[far]);
    let retained = retain_records(&original, Some(Timestamp(90_000)), LIMITS, |_| true).unwrap();
    assert_eq!(retained, Retained::Whole);
}

#[test]
fn a_bomb_is_not_opened() {
    let zeros = (Some(b"k".to_vec()), Some(vec![0; 2 << 20]), 5);
    let original = batch(Codec::Gzip, &[zeros]);
    let error = retain_records(&original, None, LIMITS, |_| true).unwrap_err();
    assert!(matches!(error, BatchError::Bomb { .. }));
}

#[test]
fn keys_are_shown_until_it_is_enough() {
    let drafts = [
        text("a", Some("1"), 1),
        (None, Some(vec![1]), 2),
        text("c", None, 3),
    ];
    for codec in Codec::ALL {
        let original = batch(codec, &drafts);
        let mut seen = Vec::new();
        for_each_key(&original, LIMITS, |record| {
            seen.push((
                record.offset_delta,
                record.key.map(<[u8]>::to_vec),
                record.is_tombstone,
            ));
            record.offset_delta < 2
        })
        .unwrap();
        let expected = vec![
            (0, Some(b"a".to_vec()), false),
            (1, None, false),
            (2, Some(b"c".to_vec()), true),
        ];
        assert_eq!(seen, expected);
        let mut count = 0;
        for_each_key(&original, LIMITS, |_| {
            count += 1;
            count < 2
        })
        .unwrap();
        assert_eq!(count, 2);
        assert_eq!(Batches::new(&original).count(), 1);
    }
}
