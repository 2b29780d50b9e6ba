//! What a topic's settings make of a batch.

use kafka_protocol::messages::CreateTopicsRequest;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};

use crate::segment::{Batches, Limits, decode_records};

use super::data::{end_offset, fetch, produce};
use super::*;

async fn create_with(client: &mut Client, topic: &str, configs: &[(&str, &str)]) {
    let configs = configs
        .iter()
        .map(|(name, value)| {
            CreatableTopicConfig::default()
                .with_name(words(name))
                .with_value(Some(words(value)))
        })
        .collect();
    let topic = CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(1)
        .with_replication_factor(-1)
        .with_configs(configs);
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(10_000);
    let created = client.call(7, request).await;
    assert_eq!(created.topics[0].error_code, 0, "{created:?}");
}

fn keyed(codec: Codec, keys: &[Option<&str>], value: &str) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    for key in keys {
        let (key, value) = (key.map(str::as_bytes), Some(value.as_bytes()));
        builder.push(Timestamp(START), key, value, &[]).unwrap();
    }
    builder.finish().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_compacted_topic_refuses_records_without_a_key_and_names_them() {
    const INVALID_RECORD: i16 = 87;
    let rig = Rig::new().await;
    let mut client = rig.connect();
    create_with(&mut client, "plain", &[]).await;
    for policy in ["compact", "compact,delete"] {
        create_with(
            &mut client,
            policy_topic(policy),
            &[("cleanup.policy", policy)],
        )
        .await;
    }
    let keys = [None, Some("a"), None, Some(""), Some("b")];
    for codec in Codec::ALL {
        for topic in ["compact", "both"] {
            for version in 3..=12 {
                let refused = produce(&mut client, version, topic, keyed(codec, &keys, "v")).await;
                assert_eq!(refused.error_code, INVALID_RECORD, "{codec}");
                let named: Vec<i32> = refused
                    .record_errors
                    .iter()
                    .map(|error| error.batch_index)
                    .collect();
                let expected: &[i32] = if version >= 8 { &[0, 2] } else { &[] };
                assert_eq!(named, expected, "{codec}, version {version}");
            }
            let refused = produce(&mut client, 9, topic, keyed(codec, &keys, "v")).await;
            let why = refused.record_errors[0].batch_index_error_message.clone();
            assert!(why.unwrap().contains("no key"));
            let message = refused.error_message.unwrap();
            assert!(message.contains("record 0: it has no key"), "{message}");
            assert!(message.contains("record 2: it has no key"), "{message}");
            assert_eq!(end_offset(&mut client, topic).await, 0);
        }
        let taken = produce(&mut client, 9, "plain", keyed(codec, &keys, "v")).await;
        assert_eq!(taken.error_code, 0);
    }
    // The empty key is a key.
    let taken = produce(&mut client, 9, "both", keyed(Codec::Zstd, &keys[3..], "v")).await;
    assert_eq!((taken.error_code, taken.base_offset), (0, 0));
}

fn policy_topic(policy: &str) -> &str {
    if policy == "compact" { policy } else { "both" }
}

/// Records at these times, in milliseconds from now, with a key where they are wanted to have one.
fn timed(codec: Codec, records: &[(i64, bool)]) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    for (time, keyed) in records {
        let key = keyed.then_some(&b"k"[..]);
        builder
            .push(Timestamp(START + time), key, Some(b"v"), &[])
            .unwrap();
    }
    builder.finish().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_record_whose_time_is_out_of_bounds_is_named() {
    const INVALID_TIMESTAMP: i16 = 32;
    let rig = Rig::new().await;
    let mut client = rig.connect();
    let bounds = [
        ("message.timestamp.before.max.ms", "60000"),
        ("message.timestamp.after.max.ms", "60000"),
        ("cleanup.policy", "compact"),
    ];
    create_with(&mut client, "t", &bounds).await;
    // A record without a key is refused for that; one whose time is wrong as well gives the batch its code.
    let records = [
        (0, true),
        (-70_000, true),
        (0, false),
        (80_000, true),
        (30_000, true),
    ];
    for codec in Codec::ALL {
        for version in 3..=12 {
            let refused = produce(&mut client, version, "t", timed(codec, &records)).await;
            assert_eq!(refused.error_code, INVALID_TIMESTAMP, "{codec}");
            let named = refused.record_errors.iter().map(|error| {
                let why = error.batch_index_error_message.as_deref().unwrap_or("-");
                (error.batch_index, why.to_owned())
            });
            let named: Vec<_> = named.collect();
            let indexes: Vec<i32> = named.iter().map(|(index, _)| *index).collect();
            let expected: &[i32] = if version >= 8 { &[1, 2, 3] } else { &[] };
            assert_eq!(indexes, expected, "{codec}, version {version}");
            for ((_, why), says) in named
                .iter()
                .zip(["further behind", "no key", "further ahead"])
            {
                assert!(why.contains(says), "{why}");
            }
        }
    }
    let taken = produce(&mut client, 9, "t", timed(Codec::None, &[(-50_000, true)])).await;
    assert_eq!((taken.error_code, taken.base_offset), (0, 0));
}

/// The batch with the bit that says that a broker gave its records their time, and another largest time stamp.
fn stamped(records: &[(i64, bool)], max: i64) -> Bytes {
    let mut batch = BytesMut::from(&timed(Codec::Gzip, records)[..]);
    crate::segment::set_log_append_time(&mut batch, Timestamp(max)).unwrap();
    batch.freeze()
}

/// As Kafka has it: such a batch comes from another broker by way of a tool that copies whole batches.
#[tokio::test(start_paused = true)]
async fn a_batch_that_says_log_append_time_is_taken_where_records_have_create_time() {
    const INVALID_TIMESTAMP: i16 = 32;
    let rig = Rig::new().await;
    let mut client = rig.connect();
    create_with(&mut client, "created", &[]).await;
    create_with(
        &mut client,
        "appended",
        &[("message.timestamp.type", "LogAppendTime")],
    )
    .await;
    let records = [(-2000, true), (-1000, true)];
    let batch = stamped(&records, START + 5);
    let taken = produce(&mut client, 9, "created", batch.clone()).await;
    assert_eq!((taken.error_code, taken.log_append_time_ms), (0, -1));
    let run = fetch(&mut client, 12, "created", 0).await.records.unwrap();
    let header = crate::segment::BatchHeader::parse(&run).unwrap();
    header.check_crc(&run).unwrap();
    assert_eq!(
        header.attributes.timestamp_type(),
        crate::segment::TimestampType::Create
    );
    assert_eq!(header.max_timestamp, Timestamp(START - 1000));
    let limits = Limits {
        max_uncompressed: 1 << 20,
    };
    let times = decode_records(&run, limits).unwrap();
    let times: Vec<_> = times
        .map(|record| record.unwrap().timestamp.0 - START)
        .collect();
    assert_eq!(times, [-2000, -1000]);

    let ahead = 2 * 3_600_000;
    for (topic, batch) in [
        ("appended", batch),
        ("created", stamped(&records, START + ahead)),
        ("created", stamped(&records, -1)),
        ("created", stamped(&[(ahead, true), (ahead, true)], START)),
    ] {
        let refused = produce(&mut client, 9, topic, batch).await;
        assert_eq!(refused.error_code, INVALID_TIMESTAMP);
        let named = refused.record_errors.iter().map(|error| error.batch_index);
        assert_eq!(named.collect::<Vec<_>>(), [0, 1]);
    }
    assert_eq!(end_offset(&mut client, "appended").await, 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_names_a_thousand_keyless_records_and_no_more() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    create_with(&mut client, "t", &[("cleanup.policy", "compact")]).await;
    let keys = vec![None; 1500];
    let refused = produce(&mut client, 9, "t", keyed(Codec::None, &keys, "v")).await;
    assert_eq!(refused.record_errors.len(), 1000);
}

#[tokio::test(start_paused = true)]
async fn a_topic_with_a_codec_stores_every_batch_in_it() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    let codecs = [
        ("uncompressed", Codec::None),
        ("gzip", Codec::Gzip),
        ("snappy", Codec::Snappy),
        ("lz4", Codec::Lz4),
        ("zstd", Codec::Zstd),
    ];
    for (setting, stored) in codecs {
        let configs = [
            ("compression.type", setting),
            ("compression.gzip.level", "9"),
            ("compression.zstd.level", "19"),
            ("message.timestamp.type", "LogAppendTime"),
        ];
        create_with(&mut client, setting, &configs).await;
        for sent in Codec::ALL {
            let batch = keyed(sent, &[Some("a"), Some("b")], "value");
            assert_eq!(produce(&mut client, 9, setting, batch).await.error_code, 0);
        }
        let fetched = fetch(&mut client, 12, setting, 0).await;
        let run = fetched.records.unwrap();
        let mut records = 0;
        for batch in Batches::new(&run) {
            let batch = batch.unwrap();
            let bytes = batch.slice(&run);
            batch.header.check_crc(&bytes).unwrap();
            assert_eq!(batch.header.attributes.codec(), Ok(stored));
            let limits = Limits {
                max_uncompressed: 1 << 20,
            };
            for record in decode_records(&bytes, limits).unwrap() {
                let record = record.unwrap();
                assert_eq!(record.value.as_deref(), Some(&b"value"[..]));
                assert_eq!(record.timestamp, batch.header.max_timestamp);
                records += 1;
            }
        }
        assert_eq!(records, 2 * Codec::ALL.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_too_large_in_its_topics_codec_is_refused() {
    const MESSAGE_TOO_LARGE: i16 = 10;
    let rig = Rig::new().await;
    let mut client = rig.connect();
    let configs = [
        ("compression.type", "uncompressed"),
        ("max.message.bytes", "10000"),
    ];
    create_with(&mut client, "t", &configs).await;
    let batch = keyed(Codec::Zstd, &[Some("a")], &"v".repeat(20_000));
    assert!(batch.len() < 1000);
    let refused = produce(&mut client, 9, "t", batch).await;
    assert_eq!(refused.error_code, MESSAGE_TOO_LARGE);
    assert_eq!(end_offset(&mut client, "t").await, 0);
}
