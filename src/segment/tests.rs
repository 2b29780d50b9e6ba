//! Batches and records, without the segment object (its tests are with it).

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records as reference;
use proptest::prelude::*;

use crate::types::{Offset, ProducerEpoch, ProducerId, Timestamp};

use super::*;

const LIMITS: Limits = Limits {
    max_uncompressed: 1 << 20,
};

const RULES: ProduceRules = ProduceRules {
    max_batch_bytes: 1 << 20,
    limits: LIMITS,
    allow_transactional: false,
};

/// A record without a place: what goes in and must come out.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Content {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Content {
    fn of(record: &Record) -> Content {
        let owned = |bytes: &Option<Bytes>| bytes.as_ref().map(|b| b.to_vec());
        let header =
            |h: &RecordHeader| (String::from_utf8(h.key.to_vec()).unwrap(), owned(&h.value));
        Content {
            timestamp: record.timestamp.0,
            key: owned(&record.key),
            value: owned(&record.value),
            headers: record.headers.iter().map(header).collect(),
        }
    }

    fn headers(&self) -> Vec<RecordHeader> {
        let header = |(key, value): &(String, Option<Vec<u8>>)| RecordHeader {
            key: Bytes::from(key.clone().into_bytes()),
            value: value.clone().map(Bytes::from),
        };
        self.headers.iter().map(header).collect()
    }
}

fn push(builder: &mut BatchBuilder, content: &Content) {
    let (key, value) = (content.key.as_deref(), content.value.as_deref());
    builder
        .push(Timestamp(content.timestamp), key, value, &content.headers())
        .unwrap();
}

fn batch(codec: Codec, contents: &[Content]) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    contents
        .iter()
        .for_each(|content| push(&mut builder, content));
    builder.finish().unwrap()
}

fn contents(batch: &Bytes) -> Result<Vec<Content>, BatchError> {
    decode_records(batch, LIMITS)?
        .map(|r| r.map(|r| Content::of(&r)))
        .collect()
}

fn simple(timestamps: &[i64]) -> Vec<Content> {
    let content = |&timestamp: &i64| Content {
        timestamp,
        key: Some(b"key".to_vec()),
        value: Some(b"value".to_vec()),
        headers: Vec::new(),
    };
    timestamps.iter().map(content).collect()
}

/// A batch with bytes replaced and the checksum made right again.
fn with_bytes(batch: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut batch = batch.to_vec();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

/// A batch of `count` records whose record bytes are `records`, sound on the outside.
fn handmade(codec: Codec, count: i32, records: &[u8]) -> Vec<u8> {
    let mut batch = batch(Codec::None, &simple(&[0])).to_vec();
    batch.truncate(BATCH_HEADER_LEN);
    batch.extend_from_slice(records);
    let length = i32::try_from(batch.len() - 12).unwrap();
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[22] = codec.id();
    batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    with_bytes(&batch, 57, &count.to_be_bytes())
}

fn content() -> impl Strategy<Value = Content> {
    let bytes = || {
        prop::option::of(prop_oneof![
            prop::collection::vec(any::<u8>(), 0..20),
            (any::<u8>(), 0..5000usize).prop_map(|(b, n)| vec![b; n]),
        ])
    };
    let header = (
        "[a-zа-я]{0,6}",
        prop::option::of(prop::collection::vec(any::<u8>(), 0..9)),
    );
    let timestamp = prop_oneof![Just(-1), 0..2_000_000_000_000i64];
    (
        timestamp,
        bytes(),
        bytes(),
        prop::collection::vec(header, 0..4),
    )
        .prop_map(|(timestamp, key, value, headers)| Content {
            timestamp,
            key,
            value,
            headers,
        })
}

fn batch_contents() -> impl Strategy<Value = Vec<Content>> {
    prop::collection::vec(content(), 1..12)
}

fn any_codec() -> impl Strategy<Value = Codec> {
    prop::sample::select(Codec::ALL.to_vec())
}

/// Runs everything that reads a batch; only that nothing panics matters.
fn read_every_way(bytes: &[u8]) {
    let limits = Limits {
        max_uncompressed: 64 << 10,
    };
    let rules = ProduceRules { limits, ..RULES };
    let owned = Bytes::copy_from_slice(bytes);
    let _ = validate(bytes, rules);
    let _ = first_record_at_or_after(bytes, Timestamp(5), 0, limits);
    if let Ok(records) = decode_records(&owned, limits) {
        assert!(records.count() <= limits.max_uncompressed.max(bytes.len()) + 2);
    }
    assert!(Batches::new(bytes).count() <= bytes.len() / BATCH_HEADER_LEN + 1);
    let mut mutable = BytesMut::from(bytes);
    let _ = set_log_append_time(&mut mutable, Timestamp(1));
    let _ = patch(&mut mutable, Offset(1), 1);
}

/// A batch whose record bytes are hostile, but whose checksum and counts are right: what gets past
/// every outer check.
fn reach_the_records(batch: &[u8]) {
    read_every_way(&with_bytes(batch, 0, &[]));
}

proptest! {
    #[test]
    fn records_survive_every_codec(codec in any_codec(), expected in batch_contents()) {
        let batch = batch(codec, &expected);
        prop_assert_eq!(&contents(&batch).unwrap(), &expected);
        let valid = validate(&batch, RULES).unwrap();
        let times = || expected.iter().map(|c| c.timestamp);
        prop_assert_eq!(valid.facts.max_timestamp.0, times().max().unwrap());
        prop_assert_eq!(valid.header.max_timestamp, valid.facts.max_timestamp);
        let earliest = times().filter(|t| *t != -1).min();
        prop_assert_eq!(valid.facts.earliest_timestamp.map(|t| t.0), earliest);
        let keyless = expected.iter().position(|c| c.key.is_none());
        prop_assert_eq!(valid.facts.first_without_key.map(|i| i as usize), keyless);
    }

    #[test]
    fn the_first_record_at_a_time_is_found_by_offset_order(
        codec in any_codec(), times in prop::collection::vec(0..50i64, 1..20), at in 0..60i64, from in 0..20usize,
    ) {
        let batch = batch(codec, &simple(&times));
        let expected = times.iter().enumerate().skip(from).find(|(_, t)| **t >= at);
        let found = first_record_at_or_after(&batch, Timestamp(at), from as i32, LIMITS).unwrap();
        prop_assert_eq!(found, expected.map(|(i, t)| (i as i32, Timestamp(*t))));
    }

    #[test]
    fn a_truncated_batch_is_refused_at_every_length(codec in any_codec(), expected in batch_contents()) {
        let batch = batch(codec, &expected);
        let step = (batch.len() / 200).max(1);
        for cut in (0..batch.len()).step_by(step) {
            let cut = batch.slice(..cut);
            prop_assert!(validate(&cut, RULES).is_err());
            prop_assert!(decode_records(&cut, LIMITS).is_err());
            prop_assert!(cut.is_empty() || Batches::new(&cut).any(|b| b.is_err()));
        }
    }

    #[test]
    fn records_cut_short_inside_a_sound_batch_are_refused(codec in any_codec(), expected in batch_contents()) {
        let whole = batch(codec, &expected);
        let count = expected.len() as i32;
        let records = &whole[BATCH_HEADER_LEN..];
        // The last bytes of gzip, LZ4 and zstd are trailers, without which the records are whole.
        let decisive = if codec == Codec::None || codec == Codec::Snappy { 1 } else { 12 };
        let step = (records.len() / 100).max(1);
        for cut in (0..records.len().saturating_sub(decisive - 1)).step_by(step) {
            let cut = handmade(codec, count, &records[..cut]);
            prop_assert!(validate(&cut, RULES).is_err());
            let decoded = contents(&cut.into());
            prop_assert!(decoded.is_err());
        }
    }

    #[test]
    fn a_flipped_bit_is_noticed_and_never_panics(
        codec in any_codec(), expected in batch_contents(), at in any::<prop::sample::Index>(), bit in 0..8u8,
    ) {
        let batch = batch(codec, &expected);
        let mut flipped = batch.to_vec();
        let at = at.index(flipped.len());
        flipped[at] ^= 1 << bit;
        // The checksum covers neither these nor itself; base offset and length have rules of their own.
        let unprotected = 12..16;
        prop_assert_eq!(validate(&flipped, RULES).is_ok(), unprotected.contains(&at));
        reach_the_records(&flipped);
    }

    #[test]
    fn hostile_records_never_panic(
        codec in any_codec(), count in prop_oneof![0..50i32, Just(i32::MAX), Just(i32::MIN + 1), Just(-1)],
        records in prop::collection::vec(prop_oneof![Just(0xff), Just(0), any::<u8>()], 0..300),
        framed in any::<bool>(),
    ) {
        let magic: &[u8] = match codec {
            Codec::None => &[],
            Codec::Gzip => b"\x1f\x8b\x08\0\0\0\0\0\0\x03",
            Codec::Snappy => b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01",
            Codec::Lz4 => b"\x04\x22\x4d\x18\x60\x40\x82",
            Codec::Zstd => b"\x28\xb5\x2f\xfd",
        };
        let records = if framed { [magic, &records].concat() } else { records };
        read_every_way(&handmade(codec, count, &records));
        read_every_way(&records);
    }

    #[test]
    fn the_peer_reads_our_batches(expected in batch_contents()) {
        let mut batch = batch(Codec::None, &expected);
        let found = reference::RecordBatchDecoder::decode(&mut batch).unwrap();
        prop_assert_eq!(found.records.len(), expected.len());
        for (i, (found, expected)) in found.records.iter().zip(&expected).enumerate() {
            prop_assert_eq!(found.offset, i as i64);
            prop_assert_eq!(found.timestamp, expected.timestamp);
            prop_assert_eq!(found.key.as_deref(), expected.key.as_deref());
            prop_assert_eq!(found.value.as_deref(), expected.value.as_deref());
            for (key, value) in &found.headers {
                // The reference keeps the last of several headers with one key.
                let last = expected.headers.iter().rev().find(|(k, _)| **k == **key).unwrap();
                prop_assert_eq!(value.as_deref(), last.1.as_deref());
            }
        }
    }

    #[test]
    fn we_read_the_peers_batches(expected in batch_contents()) {
        let mut expected = expected;
        for content in &mut expected {
            content.headers.sort();
            content.headers.dedup_by(|a, b| a.0 == b.0);
        }
        let theirs: Vec<_> = expected.iter().enumerate().map(|(i, c)| reference_record(i, c)).collect();
        let mut encoded = BytesMut::new();
        let options =
            reference::RecordEncodeOptions { version: 2, compression: reference::Compression::None };
        reference::RecordBatchEncoder::encode(&mut encoded, &theirs, &options).unwrap();
        let encoded = encoded.freeze();
        prop_assert_eq!(&contents(&encoded).unwrap(), &expected);
        let valid = validate(&encoded, RULES).unwrap();
        prop_assert_eq!(valid.header.producer_id, ProducerId(9));
        prop_assert_eq!(valid.header.producer_epoch, ProducerEpoch(2));
        prop_assert_eq!(valid.header.base_sequence, 5);
    }
}

fn reference_record(index: usize, content: &Content) -> reference::Record {
    let mut record = reference::Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 0,
        producer_id: 9,
        producer_epoch: 2,
        timestamp_type: reference::TimestampType::Creation,
        offset: index as i64,
        sequence: 5 + index as i32,
        timestamp: content.timestamp,
        key: content.key.clone().map(Bytes::from),
        value: content.value.clone().map(Bytes::from),
        headers: Default::default(),
    };
    for (key, value) in &content.headers {
        let key = StrBytes::from_string(key.clone());
        record.headers.insert(key, value.clone().map(Bytes::from));
    }
    record
}

macro_rules! client_batches {
    ($($client:literal $codec:literal),* $(,)?) => {
        [$(($client, $codec, include_bytes!(concat!(
            "../../tests/fixtures/batches/", $client, "-", $codec, ".batch"
        )).as_slice())),*]
    };
}

/// Batches as clients encoded them; `tests/fixtures/batches/make.py` made them.
const CLIENT_BATCHES: [(&str, &str, &[u8]); 15] = client_batches![
    "kafka-python" "none", "kafka-python" "gzip", "kafka-python" "snappy", "kafka-python" "lz4",
    "kafka-python" "zstd", "aiokafka" "none", "aiokafka" "gzip", "aiokafka" "snappy",
    "aiokafka" "lz4", "aiokafka" "zstd", "librdkafka" "none", "librdkafka" "gzip",
    "librdkafka" "snappy", "librdkafka" "lz4", "librdkafka" "zstd",
];

#[test]
fn batches_of_real_clients_are_valid_and_read_in_every_codec() {
    let header = |key: &str, value: Option<&[u8]>| (key.to_owned(), value.map(<[u8]>::to_vec));
    let first = 1_700_000_000_000;
    let expected = [
        Content {
            timestamp: first,
            key: Some(b"k0".to_vec()),
            value: Some(b"value 0, ".repeat(40)),
            headers: vec![],
        },
        Content {
            timestamp: first + 1000,
            key: None,
            value: Some(vec![]),
            headers: vec![],
        },
        Content {
            timestamp: first + 500,
            key: Some(vec![]),
            value: None,
            headers: vec![
                header("h", Some(b"1")),
                header("n", None),
                header("h", Some(b"")),
            ],
        },
        Content {
            timestamp: first + 700,
            key: Some("ключ".as_bytes().to_vec()),
            value: Some(b"The quick brown fox jumps over the lazy dog. ".repeat(70)),
            headers: vec![header("ключ", Some(b"\x00\xff"))],
        },
    ];
    for (client, codec, bytes) in CLIENT_BATCHES {
        let valid = validate(bytes, RULES).unwrap_or_else(|e| panic!("{client} {codec}: {e}"));
        assert_eq!(
            valid.header.attributes.codec().unwrap().name(),
            codec,
            "{client}"
        );
        assert_eq!(
            contents(&Bytes::from_static(bytes)).unwrap(),
            expected,
            "{client} {codec}"
        );
        assert_eq!(
            valid.facts.max_timestamp,
            Timestamp(first + 1000),
            "{client} {codec}"
        );
        assert_eq!(
            valid.header.max_timestamp,
            Timestamp(first + 1000),
            "{client} {codec}"
        );
        assert_eq!(valid.facts.max_timestamp_delta, 1);
        assert_eq!(valid.facts.first_without_key, Some(1));
        assert_eq!(
            valid.facts.uncompressed_bytes,
            3638 - 61,
            "{client} {codec}"
        );
        let at = Timestamp(first + 600);
        let found = first_record_at_or_after(bytes, at, 2, LIMITS).unwrap();
        assert_eq!(found, Some((3, Timestamp(first + 700))), "{client} {codec}");
    }
}

#[test]
fn every_rule_that_a_producer_breaks_has_its_own_error() {
    let sound = batch(Codec::None, &simple(&[10, 20]));
    let idempotent = {
        let mut builder =
            BatchBuilder::new(Codec::None).producer(ProducerId(1), ProducerEpoch(0), 0);
        push(&mut builder, &simple(&[1])[0]);
        builder.transactional(true).finish().unwrap()
    };
    let old_message_set = {
        let mut bytes = vec![0; 40];
        bytes[16] = 1;
        bytes
    };
    let mut corrupt = sound.to_vec();
    *corrupt.last_mut().unwrap() ^= 1;
    let small = ProduceRules {
        max_batch_bytes: sound.len() - 1,
        ..RULES
    };
    let table: Vec<(&str, Vec<u8>, ProduceRules, Fault)> = vec![
        ("no record batch", vec![], RULES, Fault::Invalid),
        (
            "bytes after the first",
            [&sound[..], &sound].concat(),
            RULES,
            Fault::Invalid,
        ),
        (
            "1 bytes after the first",
            [&sound[..], b"!"].concat(),
            RULES,
            Fault::Invalid,
        ),
        (
            "truncated record batch",
            sound[..60].to_vec(),
            RULES,
            Fault::Corrupt,
        ),
        (
            "truncated record batch",
            sound[..sound.len() - 1].to_vec(),
            RULES,
            Fault::Corrupt,
        ),
        (
            "batch length 48",
            with_bytes(&sound, 8, &48i32.to_be_bytes()),
            RULES,
            Fault::Corrupt,
        ),
        (
            "batch length -1",
            with_bytes(&sound, 8, &[255; 4]),
            RULES,
            Fault::Corrupt,
        ),
        (
            "message format 1",
            old_message_set,
            RULES,
            Fault::UnsupportedFormat,
        ),
        (
            "message format 3",
            with_bytes(&sound, 16, &[3]),
            RULES,
            Fault::UnsupportedFormat,
        ),
        ("the limit is 90", sound.to_vec(), small, Fault::TooLarge),
        ("checksum", corrupt, RULES, Fault::Corrupt),
        (
            "codec 5",
            with_bytes(&sound, 22, &[5]),
            RULES,
            Fault::UnsupportedCodec,
        ),
        (
            "base offset 1",
            with_bytes(&sound, 7, &[1]),
            RULES,
            Fault::Invalid,
        ),
        (
            "3 records with",
            with_bytes(&sound, 60, &[3]),
            RULES,
            Fault::Invalid,
        ),
        (
            "0 records with",
            with_bytes(&sound, 60, &[0]),
            RULES,
            Fault::Invalid,
        ),
        (
            "-1 records with",
            with_bytes(&sound, 57, &[255; 4]),
            RULES,
            Fault::Invalid,
        ),
        (
            "delta of 7",
            with_bytes(&sound, 26, &[7]),
            RULES,
            Fault::Invalid,
        ),
        (
            "control",
            with_bytes(&sound, 22, &[0x20]),
            RULES,
            Fault::Invalid,
        ),
        (
            "delete horizon",
            with_bytes(&sound, 22, &[0x40]),
            RULES,
            Fault::Invalid,
        ),
        ("transactional", idempotent.to_vec(), RULES, Fault::Invalid),
        (
            "producer id -1",
            with_bytes(&sound, 22, &[0x10]),
            RULES,
            Fault::Invalid,
        ),
        (
            "base sequence -1",
            with_bytes(&idempotent, 53, &[255; 4]),
            RULES,
            Fault::Invalid,
        ),
        (
            "epoch -1",
            with_bytes(&idempotent, 51, &[255; 2]),
            RULES,
            Fault::Invalid,
        ),
    ];
    for (says, bytes, rules, fault) in table {
        let error = validate(&bytes, rules).unwrap_err();
        assert!(
            error.to_string().contains(says),
            "{error}\nshould say: {says}"
        );
        assert_eq!(error.fault(), fault, "{error}");
    }
    let allowed = ProduceRules {
        allow_transactional: true,
        ..RULES
    };
    assert!(
        validate(&idempotent, allowed)
            .unwrap()
            .header
            .attributes
            .is_transactional()
    );
}

#[test]
fn every_fault_in_a_record_is_found_with_its_index() {
    // Length 11, attributes, time stamp delta 0, offset delta 0, key "k", value "v", one header: "h"
    // with a null value.
    let sound = vec![22, 0, 0, 0, 2, b'k', 2, b'v', 2, 2, b'h', 1];
    let with = |at: usize, byte: u8| {
        let mut record = sound.clone();
        record[at] = byte;
        record
    };
    let table: Vec<(&str, i32, Vec<u8>)> = vec![
        ("record 0 of the batch: truncated", 1, vec![]),
        ("record 1 of the batch: truncated", 2, sound.clone()),
        (
            "record 0 of the batch: a record length of -1",
            1,
            with(0, 1),
        ),
        ("its length is 10 but its fields take 11", 1, with(0, 20)),
        ("its length is 12 but its fields take 11", 1, with(0, 24)),
        ("record 0 of the batch: offset delta 1", 1, with(3, 2)),
        (
            "record 1 of the batch: offset delta 0",
            2,
            [&sound[..], &sound].concat(),
        ),
        ("a key length of -2", 1, with(4, 3)),
        ("its length is 11 but its fields take 36", 1, with(4, 64)),
        ("a value length of -3", 1, with(6, 5)),
        ("a header count of -1", 1, with(8, 1)),
        ("a header key length of -1", 1, with(9, 1)),
        ("a header value length of -2", 1, with(11, 3)),
        (
            "a varint that is too long",
            1,
            [[0xff; 10], [0xff; 10]].concat(),
        ),
        (
            "the batch has data after its 1 records",
            1,
            [&sound[..], &[0]].concat(),
        ),
    ];
    assert!(validate(&handmade(Codec::None, 1, &sound), RULES).is_ok());
    for codec in Codec::ALL {
        for (says, count, records) in &table {
            let records = codec.compress(records.clone()).unwrap();
            let batch = handmade(codec, *count, &records);
            let error = validate(&batch, RULES).unwrap_err().to_string();
            assert!(error.contains(says), "{codec}: {error}\nshould say: {says}");
            let error = contents(&batch.into()).unwrap_err().to_string();
            assert!(error.contains(says), "{codec}: {error}\nshould say: {says}");
        }
    }
}

#[test]
fn claimed_lengths_and_counts_are_not_believed() {
    let huge = [0xfe, 0xff, 0xff, 0xff, 0x0f]; // i32::MAX as a varint
    let length = |record: &[u8]| [&huge[..], record].concat();
    for records in [
        length(&[]),
        length(&[0, 0, 0]),
        length(&[&[0, 0, 0], &huge[..]].concat()),
        length(&[&[0, 0, 0, 1, 1], &huge[..]].concat()),
        length(&[&[0, 0, 0, 1, 1], &huge[..], &[2, b'h', 1]].concat()),
    ] {
        for codec in Codec::ALL {
            let records = codec.compress(records.clone()).unwrap();
            for count in [1, i32::MAX] {
                let batch = handmade(codec, count, &records);
                assert!(validate(&batch, RULES).is_err());
                assert!(contents(&batch.into()).is_err());
            }
        }
    }
    // A bare Snappy block of 4 GiB, and a framed one.
    let claim = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, b'x'];
    let framed = [&b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x07"[..], &claim].concat();
    for records in [claim.to_vec(), framed] {
        let batch = handmade(Codec::Snappy, 1, &records);
        let error = validate(&batch, RULES).unwrap_err().to_string();
        assert!(
            error.contains("claims more than Snappy can compress"),
            "{error}"
        );
    }
}

#[test]
fn a_decompression_bomb_is_refused_at_the_limit() {
    let expected = vec![Content {
        timestamp: 1,
        key: None,
        value: Some(vec![0; 20 << 20]),
        headers: vec![],
    }];
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let batch = batch(codec, &expected);
        let refused = BatchError::Bomb {
            codec,
            limit: LIMITS.max_uncompressed,
        };
        assert_eq!(validate(&batch, RULES).unwrap_err(), refused);
        assert_eq!(decode_records(&batch, LIMITS).unwrap_err(), refused);
        assert_eq!(refused.fault(), Fault::TooLarge);
        let error = first_record_at_or_after(&batch, Timestamp(0), 0, LIMITS).unwrap_err();
        assert_eq!(error, refused);
        let roomy = Limits {
            max_uncompressed: (20 << 20) + 100,
        };
        assert!(
            validate(
                &batch,
                ProduceRules {
                    limits: roomy,
                    ..RULES
                }
            )
            .is_ok()
        );
        let exact = validate(
            &batch,
            ProduceRules {
                limits: roomy,
                ..RULES
            },
        )
        .unwrap();
        let exact = Limits {
            max_uncompressed: exact.facts.uncompressed_bytes as usize,
        };
        assert!(
            validate(
                &batch,
                ProduceRules {
                    limits: exact,
                    ..RULES
                }
            )
            .is_ok()
        );
        assert_eq!(decode_records(&batch, exact).unwrap().count(), 1);
    }
}

#[test]
fn keys_and_values_are_slices_of_the_batch() {
    let batch = batch(Codec::None, &simple(&[1]));
    let record = decode_records(&batch, LIMITS)
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let range = batch.as_ptr_range();
    assert!(range.contains(&record.key.unwrap().as_ptr()));
    assert!(range.contains(&record.value.unwrap().as_ptr()));
}

/// A batch of one record with so many headers of nothing.
fn with_headers(count: usize) -> Bytes {
    let header = RecordHeader {
        key: Bytes::new(),
        value: Some(Bytes::new()),
    };
    let mut builder = BatchBuilder::new(Codec::Zstd);
    let headers = vec![header; count];
    builder
        .push(Timestamp(1), None, Some(b"v"), &headers)
        .unwrap();
    builder.finish().unwrap()
}

#[test]
fn of_a_record_with_very_many_headers_none_is_kept() {
    for (count, kept) in [
        (MAX_HEADERS, MAX_HEADERS),
        (MAX_HEADERS + 1, 0),
        (3_000_000, 0),
    ] {
        let batch = with_headers(count);
        let limits = Limits {
            max_uncompressed: 8 << 20,
        };
        // As many as fit are no reason for Kafka to refuse a record.
        validate(&batch, ProduceRules { limits, ..RULES }).unwrap();
        let record = decode_records(&batch, limits).unwrap().next().unwrap();
        let record = record.unwrap();
        assert_eq!(
            (record.headers.len(), record.header_count as usize),
            (kept, count)
        );
        assert!(record.headers.capacity() <= 2 * MAX_HEADERS);
        assert_eq!(record.too_many_headers().is_some(), kept == 0);
        assert_eq!(record.value.as_deref(), Some(&b"v"[..]));
    }
}

#[test]
fn patching_assigns_offsets_and_leaves_the_checksum_right() {
    let mut bytes = BytesMut::from(&batch(Codec::Lz4, &simple(&[1, 2, 3]))[..]);
    patch(&mut bytes, Offset(1 << 40), 7).unwrap();
    let header = BatchHeader::parse(&bytes).unwrap();
    assert_eq!(
        (header.base_offset, header.leader_epoch),
        (Offset(1 << 40), 7)
    );
    assert_eq!(header.next_offset(), Offset((1 << 40) + 3));
    header.check_crc(&bytes).unwrap();
    assert!(patch(&mut bytes[..60], Offset(0), 0).is_err());
}

#[test]
fn log_append_time_is_the_time_of_every_record() {
    for codec in Codec::ALL {
        let mut bytes = BytesMut::from(&batch(codec, &simple(&[1, 2, 3]))[..]);
        set_log_append_time(&mut bytes, Timestamp(99)).unwrap();
        let bytes = bytes.freeze();
        let header = BatchHeader::parse(&bytes).unwrap();
        header.check_crc(&bytes).unwrap();
        assert_eq!(header.attributes.timestamp_type(), TimestampType::LogAppend);
        assert_eq!(header.attributes.codec(), Ok(codec));
        assert!(contents(&bytes).unwrap().iter().all(|c| c.timestamp == 99));
        let found = first_record_at_or_after(&bytes, Timestamp(50), 1, LIMITS).unwrap();
        assert_eq!(found, Some((1, Timestamp(99))));
    }
}

#[test]
fn a_wrong_largest_time_stamp_is_found_and_corrected() {
    let wrong = with_bytes(
        &batch(Codec::Gzip, &simple(&[1, 5, 3])),
        35,
        &77i64.to_be_bytes(),
    );
    let valid = validate(&wrong, RULES).unwrap();
    assert_eq!(valid.header.max_timestamp, Timestamp(77));
    assert_eq!(valid.facts.max_timestamp, Timestamp(5));
    let mut bytes = BytesMut::from(&wrong[..]);
    set_max_timestamp(&mut bytes, valid.facts.max_timestamp).unwrap();
    assert_eq!(
        validate(&bytes, RULES).unwrap().header.max_timestamp,
        Timestamp(5)
    );
}

#[test]
fn batches_are_walked_one_after_the_other() {
    let parts = [
        batch(Codec::None, &simple(&[1])),
        batch(Codec::Zstd, &simple(&[2, 3])),
        batch(Codec::Snappy, &simple(&[4, 5, 6])),
    ];
    let run = Bytes::from(parts.concat());
    let found: Vec<_> = Batches::new(&run).map(Result::unwrap).collect();
    let slices: Vec<_> = found.iter().map(|batch| batch.slice(&run)).collect();
    assert_eq!(slices, parts);
    let counts: Vec<_> = found
        .iter()
        .map(|batch| batch.header.record_count)
        .collect();
    assert_eq!(counts, [1, 2, 3]);
    let torn = run.slice(..run.len() - 1);
    let found: Vec<_> = Batches::new(&torn).collect();
    assert_eq!(found.len(), 3);
    assert!(matches!(found[2], Err(BatchError::Truncated { .. })));
}

#[test]
fn a_compacted_batch_with_gaps_is_read_but_not_accepted_from_a_producer() {
    let three = batch(Codec::None, &simple(&[1, 2, 3]));
    let record = three.len() - BATCH_HEADER_LEN;
    let records = &three[BATCH_HEADER_LEN..];
    let third = record / 3;
    // Take the middle one out, and leave the last offset delta.
    let kept = [&records[..third], &records[2 * third..]].concat();
    let gapped = with_bytes(&handmade(Codec::None, 2, &kept), 23, &2i32.to_be_bytes());
    let gapped = Bytes::from(gapped);
    let deltas: Vec<_> = decode_records(&gapped, LIMITS)
        .unwrap()
        .map(|r| r.unwrap().offset_delta)
        .collect();
    assert_eq!(deltas, [0, 2]);
    assert!(matches!(
        validate(&gapped, RULES),
        Err(BatchError::BadCount { .. })
    ));
    let dense = handmade(Codec::None, 2, &kept);
    assert!(matches!(
        validate(&dense, RULES),
        Err(BatchError::Record { index: 1, .. })
    ));
}

#[test]
fn sequences_wrap_to_zero() {
    let mut builder =
        BatchBuilder::new(Codec::None).producer(ProducerId(1), ProducerEpoch(0), i32::MAX - 1);
    simple(&[1, 2, 3])
        .iter()
        .for_each(|content| push(&mut builder, content));
    let header = BatchHeader::parse(&builder.finish().unwrap()).unwrap();
    assert_eq!(header.last_sequence(), 0);
    assert!(header.has_producer());
}

#[test]
fn a_batch_that_cannot_be_made_says_why() {
    assert!(matches!(
        BatchBuilder::new(Codec::None).finish(),
        Err(BuildError::Empty)
    ));
    let mut builder = BatchBuilder::new(Codec::None);
    builder.push(Timestamp(i64::MIN), None, None, &[]).unwrap();
    let error = builder.push(Timestamp(1), None, None, &[]).unwrap_err();
    assert!(matches!(error, BuildError::Timestamp { .. }), "{error}");
    assert_eq!(builder.record_count(), 1);
}

#[test]
fn a_level_that_the_codec_does_not_have_is_its_default() {
    let contents: Vec<Content> = (0..200).flat_map(|n| simple(&[n, n * 7 % 13])).collect();
    let batch = batch(Codec::None, &contents);
    for codec in [Codec::Gzip, Codec::Zstd] {
        let at = |level| recompress(&batch, codec, level, 1 << 20).unwrap();
        for level in [i32::MIN, i32::MAX, 1000] {
            assert_eq!(at(Some(level)), at(None), "{codec} at {level}");
        }
        assert_ne!(at(Some(9)), at(Some(1)), "{codec} has levels");
    }
}
