//! Producing, fetching, and the offsets of partitions.

use std::time::Duration;

use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    DeleteRecordsRequest, FetchRequest, InitProducerIdRequest, ListOffsetsRequest,
    OffsetForLeaderEpochRequest, ProduceRequest, TransactionalId,
};

use crate::segment::{Batches, Limits, decode_records};
use crate::testing::{Fault, Faulty};

use super::*;

fn produce_request(topic: TopicProduceData, acks: i16) -> ProduceRequest {
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(10_000)
        .with_topic_data(vec![topic])
}

fn to(records: Option<Bytes>) -> PartitionProduceData {
    PartitionProduceData::default().with_records(records)
}

pub(super) async fn produce(
    client: &mut Client,
    version: i16,
    topic: &str,
    records: Bytes,
) -> PartitionProduceResponse {
    let topic = TopicProduceData::default()
        .with_name(name(topic))
        .with_partition_data(vec![to(Some(records))]);
    let answer = client.call(version, produce_request(topic, -1)).await;
    answer.responses[0].partition_responses[0].clone()
}

fn fetch_request(topic: FetchTopic, offset: i64) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20);
    FetchRequest::default()
        .with_max_wait_ms(500)
        .with_min_bytes(1)
        .with_topics(vec![topic.with_partitions(vec![partition])])
}

pub(super) async fn fetch(
    client: &mut Client,
    version: i16,
    topic: &str,
    offset: i64,
) -> PartitionData {
    let topic = FetchTopic::default().with_topic(name(topic));
    let answer = client.call(version, fetch_request(topic, offset)).await;
    assert_eq!((answer.error_code, answer.session_id), (0, 0));
    answer.responses[0].partitions[0].clone()
}

fn values(fetched: &PartitionData) -> Vec<(i64, String)> {
    let mut found = Vec::new();
    let run = fetched.records.clone().unwrap();
    for batch in Batches::new(&run) {
        let batch = batch.unwrap();
        let limits = Limits {
            max_uncompressed: 1 << 20,
        };
        for record in decode_records(&batch.slice(&run), limits).unwrap() {
            let record = record.unwrap();
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            let offset = batch.header.base_offset.0 + i64::from(record.offset_delta);
            found.push((offset, value));
        }
    }
    found
}

pub(super) async fn list(
    client: &mut Client,
    version: i16,
    topic: &str,
    timestamp: i64,
) -> ListOffsetsPartitionResponse {
    let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default()
        .with_name(name(topic))
        .with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_topics(vec![topic]);
    let answer = client.call(version, request).await;
    answer.topics[0].partitions[0].clone()
}

pub(super) async fn end_offset(client: &mut Client, topic: &str) -> i64 {
    list(client, 5, topic, -1).await.offset
}

#[tokio::test(start_paused = true)]
async fn what_is_produced_in_any_version_is_fetched_in_any_version() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    let id = create(&mut client, "t", 1).await;
    let mut expected = Vec::new();
    for version in 3..=13 {
        let value = format!("of version {version}");
        let topic =
            TopicProduceData::default().with_partition_data(vec![to(Some(batch(&[&value])))]);
        let topic = match version {
            13.. => topic.with_topic_id(id),
            _ => topic.with_name(name("t")),
        };
        let answer = client.call(version, produce_request(topic, 1)).await;
        let answer = &answer.responses[0].partition_responses[0];
        assert_eq!((answer.error_code, answer.log_append_time_ms), (0, -1));
        assert_eq!(answer.base_offset, expected.len() as i64);
        expected.push((answer.base_offset, value));
    }
    for version in 4..=18 {
        let topic = match version {
            13.. => FetchTopic::default().with_topic_id(id),
            _ => FetchTopic::default().with_topic(name("t")),
        };
        let answer = client.call(version, fetch_request(topic, 3)).await;
        let fetched = &answer.responses[0].partitions[0];
        assert_eq!(fetched.error_code, 0);
        assert_eq!(
            (fetched.high_watermark, fetched.last_stable_offset),
            (11, 11)
        );
        assert_eq!(values(fetched), expected[3..], "version {version}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_bad_produce_has_its_code() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    create(&mut client, "t", 1).await;
    let good = batch(&["a"]);
    let mut corrupt = good.to_vec();
    let last = corrupt.len() - 1;
    corrupt[last] ^= 1;
    let mut old = good.to_vec();
    old[16] = 1;
    let cases: Vec<(&str, &str, Option<Bytes>, i16, i16)> = vec![
        ("an unknown topic", "nowhere", Some(good.clone()), 1, 3),
        ("a name that is no topic's", "a b", Some(good.clone()), 1, 3),
        ("acks of 2", "t", Some(good.clone()), 2, 21),
        ("null", "t", None, 1, 87),
        ("nothing", "t", Some(Bytes::new()), 1, 87),
        ("a checksum that fails", "t", Some(corrupt.into()), 1, 2),
        ("magic 1", "t", Some(old.into()), 1, 87),
        (
            "half a batch",
            "t",
            Some(good.slice(..good.len() / 2)),
            1,
            2,
        ),
        (
            "two batches",
            "t",
            Some([&good[..], &good].concat().into()),
            1,
            87,
        ),
    ];
    for (what, topic, records, acks, code) in cases {
        let topic = TopicProduceData::default()
            .with_name(name(topic))
            .with_partition_data(vec![to(records)]);
        let answer = client.call(9, produce_request(topic, acks)).await;
        let answer = &answer.responses[0].partition_responses[0];
        assert_eq!(
            answer.error_code, code,
            "{what}: {:?}",
            answer.error_message
        );
        assert!(answer.error_message.is_some(), "{what}");
        assert_eq!(answer.base_offset, -1, "{what}");
    }
    assert_eq!(end_offset(&mut client, "t").await, 0);
    let transactional = ProduceRequest::default()
        .with_transactional_id(Some(TransactionalId(words("tx"))))
        .with_acks(-1)
        .with_topic_data(vec![
            TopicProduceData::default()
                .with_name(name("t"))
                .with_partition_data(vec![to(Some(good))]),
        ]);
    let answer = client.call(9, transactional).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 42);
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_gives_no_time_for_replicas_is_answered_when_its_records_are_stored() {
    let (store, _) = Faulty::store(|_| Fault::Slow(Duration::from_millis(1500)));
    let rig = Rig::on(store, KafkaOptions::default()).await;
    let mut client = rig.connect();
    create(&mut client, "t", 1).await;
    for (offset, timeout) in [(0, 0), (1, 1), (2, -1), (3, i32::MIN)] {
        let topic = TopicProduceData::default()
            .with_name(name("t"))
            .with_partition_data(vec![to(Some(batch(&["a"])))]);
        let request = produce_request(topic, -1).with_timeout_ms(timeout);
        let answer = client.call(9, request).await;
        let answer = &answer.responses[0].partition_responses[0];
        assert_eq!(
            (answer.error_code, answer.base_offset),
            (0, offset),
            "{timeout}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_occurs_twice_is_refused_and_the_others_are_stored() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    create(&mut client, "t", 3).await;
    let partition = |index| to(Some(batch(&["a"]))).with_index(index);
    let topic = TopicProduceData::default()
        .with_name(name("t"))
        .with_partition_data(vec![partition(1), partition(0), partition(1), partition(7)]);
    let answer = client.call(12, produce_request(topic, -1)).await;
    let answers = &answer.responses[0].partition_responses;
    let told: Vec<_> = answers
        .iter()
        .map(|one| (one.index, one.error_code, one.base_offset))
        .collect();
    assert_eq!(told, [(1, 42, -1), (0, 0, 0), (1, 42, -1), (7, 3, -1)]);
}

#[tokio::test(start_paused = true)]
async fn a_retried_batch_gets_its_original_offset() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    create(&mut client, "t", 1).await;
    let mut ids = Vec::new();
    for version in 0..=5 {
        let request = InitProducerIdRequest::default().with_transactional_id(None);
        let answer = client.call(version, request).await;
        assert_eq!((answer.error_code, answer.producer_epoch), (0, 0));
        ids.push(answer.producer_id.0);
    }
    ids.dedup();
    assert_eq!(ids.len(), 6);
    let records = batch_of(&["a", "b"], Some((ids[0], 0, 0)));
    let next = batch_of(&["c"], Some((ids[0], 0, 2)));
    for (records, offset) in [(&records, 0), (&records, 0), (&next, 2), (&records, 0)] {
        let answer = produce(&mut client, 12, "t", records.clone()).await;
        assert_eq!((answer.error_code, answer.base_offset), (0, offset));
    }
    assert_eq!(end_offset(&mut client, "t").await, 3);
    let gap = batch_of(&["e"], Some((ids[0], 0, 9)));
    assert_eq!(produce(&mut client, 12, "t", gap).await.error_code, 45);
    let newer = batch_of(&["d"], Some((ids[0], 1, 0)));
    assert_eq!(produce(&mut client, 12, "t", newer).await.error_code, 0);
    assert_eq!(produce(&mut client, 12, "t", next).await.error_code, 47);
}

#[tokio::test(start_paused = true)]
async fn transactional_producers_are_refused_for_good() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    for version in 0..=5 {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId(words("tx"))));
        let answer = client.call(version, request).await;
        assert_eq!((answer.error_code, answer.producer_id.0), (35, -1));
        // Neither with an id nor without.
        let empty = InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId::default()));
        assert_eq!(client.call(version, empty).await.error_code, 42);
    }
}

#[tokio::test(start_paused = true)]
async fn without_acknowledgement_there_is_no_answer_and_an_error_closes() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    create(&mut client, "t", 1).await;
    let topic = |topic| {
        TopicProduceData::default()
            .with_name(name(topic))
            .with_partition_data(vec![to(Some(batch(&["a"])))])
    };
    for _ in 0..40 {
        client.send(9, &produce_request(topic("t"), 0)).await;
    }
    // The next answer is that of the next request.
    assert_eq!(end_offset(&mut client, "t").await, 40);
    client.send(9, &produce_request(topic("nowhere"), 0)).await;
    client.expect_close().await;

    let mut leaver = rig.connect();
    leaver.send(9, &produce_request(topic("t"), 0)).await;
    drop(leaver.stream);
    leaver.ended.await.unwrap();
    let mut client = rig.connect();
    assert_eq!(end_offset(&mut client, "t").await, 41);
}

#[tokio::test(start_paused = true)]
async fn pipelined_batches_are_appended_in_order() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    create(&mut client, "t", 1).await;
    let mut received = Vec::new();
    for round in 0..10 {
        for n in 0..30 {
            let records = batch(&[&format!("{}", round * 30 + n)]);
            let topic = TopicProduceData::default()
                .with_name(name("t"))
                .with_partition_data(vec![to(Some(records))]);
            client.send(9, &produce_request(topic, -1)).await;
        }
        for _ in 0..30 {
            let mut frame = client.frame().await.unwrap();
            received.push(frame.get_i32());
        }
    }
    // Answers in the order of requests (the first was CreateTopics).
    assert_eq!(received, (2..=301).collect::<Vec<_>>());
    let fetched = fetch(&mut client, 11, "t", 0).await;
    let expected: Vec<_> = (0..300).map(|n| (n, n.to_string())).collect();
    assert_eq!(values(&fetched), expected);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_waits_for_records_up_to_its_time() {
    let rig = Rig::new().await;
    let (mut reader, mut writer) = (rig.connect(), rig.connect());
    create(&mut writer, "t", 1).await;
    let before = tokio::time::Instant::now();
    let empty = fetch(&mut reader, 12, "t", 0).await;
    assert_eq!((empty.error_code, empty.records), (0, Some(Bytes::new())));
    let waited = before.elapsed();
    assert!(waited >= Duration::from_millis(500), "{waited:?}");
    assert!(waited < Duration::from_millis(600), "{waited:?}");

    let responses = &rig.shared.responses;
    assert_eq!(responses.available(), responses.capacity());
    let before = tokio::time::Instant::now();
    let waiting = async {
        let got = fetch(&mut reader, 12, "t", 0).await;
        (got, before.elapsed())
    };
    let writing = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        // Who waits holds nothing.
        assert_eq!(responses.available(), responses.capacity());
        produce(&mut writer, 9, "t", batch(&["a"])).await;
    };
    let ((got, waited), ()) = tokio::join!(waiting, writing);
    assert_eq!(values(&got), [(0, "a".to_owned())]);
    assert!(waited < Duration::from_millis(300), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_on_a_connection_does_not_keep_appends_behind_it_from_starting() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    create(&mut client, "t", 1).await;
    let topic = FetchTopic::default().with_topic(name("t"));
    let wait = fetch_request(topic, 0).with_max_wait_ms(60_000);
    let before = tokio::time::Instant::now();
    client.send(12, &wait).await;
    // Its own append wakes it.
    let topic = TopicProduceData::default()
        .with_name(name("t"))
        .with_partition_data(vec![to(Some(batch(&["a"])))]);
    client.send(9, &produce_request(topic, -1)).await;
    let mut first = client.frame().await.unwrap();
    assert_eq!(first.get_i32(), 2);
    client.receive::<ProduceRequest>(9).await;
    assert!(before.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_bad_fetch_has_its_code() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    let id = create(&mut client, "t", 1).await;
    produce(&mut client, 9, "t", batch(&["a", "b"])).await;
    for (topic, offset, code) in [("nowhere", 0, 3), ("t", 3, 1), ("t", -1, 1), ("t", 2, 0)] {
        let fetched = fetch(&mut client, 12, topic, offset).await;
        assert_eq!(fetched.error_code, code, "{topic} {offset}");
        assert_eq!(fetched.records, Some(Bytes::new()));
        if code != 0 {
            assert_eq!((fetched.high_watermark, fetched.log_start_offset), (-1, -1));
        }
    }
    let unknown = FetchTopic::default().with_topic_id(uuid::Uuid::from_u128(5));
    let answer = client.call(16, fetch_request(unknown, 0)).await;
    assert_eq!(answer.responses[0].partitions[0].error_code, 100);
    let mut newer = fetch_request(FetchTopic::default().with_topic_id(id), 0);
    newer.topics[0].partitions[0].current_leader_epoch = 3;
    let answer = client.call(16, newer).await;
    assert_eq!(answer.responses[0].partitions[0].error_code, 75);
    for (session, epoch, code) in [(9, 4, 70), (0, 4, 70), (9, -1, 0), (0, 0, 0)] {
        let topic = FetchTopic::default().with_topic_id(id);
        let request = fetch_request(topic, 0)
            .with_session_id(session)
            .with_session_epoch(epoch);
        let answer = client.call(16, request).await;
        assert_eq!((answer.error_code, answer.session_id), (code, 0));
        assert_eq!(answer.responses.is_empty(), code != 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fetch_is_bounded_by_the_node_but_makes_progress() {
    let options = KafkaOptions {
        max_fetch_size: crate::types::ByteCount::kib(16),
        response_memory: crate::types::ByteCount::kib(64),
        ..KafkaOptions::default()
    };
    let rig = Rig::with(options).await;
    let mut client = rig.connect();
    create(&mut client, "t", 1).await;
    for _ in 0..10 {
        produce(&mut client, 9, "t", batch(&[&"x".repeat(5000)])).await;
    }
    produce(&mut client, 9, "t", batch(&[&"y".repeat(200_000)])).await;
    let mut offset = 0;
    let mut answers = 0;
    while offset < 11 {
        let fetched = fetch(&mut client, 12, "t", offset).await;
        let records = values(&fetched);
        if offset < 10 {
            assert!(fetched.records.unwrap().len() <= 16 << 10);
        }
        offset = records.last().unwrap().0 + 1;
        answers += 1;
    }
    assert!(answers >= 5, "{answers}");
    let responses = &rig.shared.responses;
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert_eq!(responses.available(), responses.capacity());
}

#[tokio::test(start_paused = true)]
async fn offsets_are_found_by_time_and_by_the_special_times() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    create(&mut client, "t", 1).await;
    produce(&mut client, 9, "t", batch(&["a", "b", "c"])).await;
    produce(&mut client, 9, "t", batch(&["d"])).await;
    for version in 1..=10 {
        let epoch = if version >= 4 { 0 } else { -1 };
        // Asked for, error, offset, timestamp, leader epoch.
        let mut cases = vec![
            (-1, 0, 4, -1, epoch),
            (-2, 0, 0, -1, epoch),
            (START, 0, 0, START, epoch),
            (START + 1, 0, 1, START + 1000, epoch),
            (START + 2000, 0, 2, START + 2000, epoch),
            (START + 2001, 0, -1, -1, -1),
        ];
        cases.push(match version {
            7.. => (-3, 0, 2, START + 2000, epoch),
            _ => (-3, 35, -1, -1, -1),
        });
        cases.push(match version {
            8.. => (-4, 0, 0, -1, epoch),
            _ => (-4, 35, -1, -1, -1),
        });
        cases.push(match version {
            9.. => (-5, 0, -1, -1, -1),
            _ => (-5, 35, -1, -1, -1),
        });
        // None of these has a meaning: a client must not take an answer for an offset.
        for unknown in [-6, -7, -1000, -1001, -(1 << 62), i64::MIN] {
            cases.push((unknown, 35, -1, -1, -1));
        }
        for (asked, error, offset, time, epoch) in cases {
            let got = list(&mut client, version, "t", asked).await;
            let got = (got.error_code, got.offset, got.timestamp, got.leader_epoch);
            assert_eq!(
                got,
                (error, offset, time, epoch),
                "{asked} in version {version}"
            );
        }
    }
    assert_eq!(list(&mut client, 5, "nowhere", -1).await.error_code, 3);
    let twice = ListOffsetsTopic::default()
        .with_name(name("t"))
        .with_partitions(vec![Default::default(), Default::default()]);
    let request = ListOffsetsRequest::default().with_topics(vec![twice]);
    let answer = client.call(5, request).await;
    let codes: Vec<_> = answer.topics[0]
        .partitions
        .iter()
        .map(|one| one.error_code)
        .collect();
    assert_eq!(codes, [42, 42]);
}

/// Deletes the records of partition 0 before an offset, and answers where it begins then.
pub(super) async fn delete_records(client: &mut Client, topic: &str, before: i64) -> i64 {
    let partition = DeleteRecordsPartition::default().with_offset(before);
    let topic = DeleteRecordsTopic::default()
        .with_name(name(topic))
        .with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_topics(vec![topic]);
    let answer = client.call(2, request).await;
    answer.topics[0].partitions[0].low_watermark
}

#[tokio::test(start_paused = true)]
async fn records_are_deleted_up_to_an_offset() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    create(&mut client, "t", 1).await;
    produce(&mut client, 9, "t", batch(&["a", "b", "c"])).await;
    for (version, offset, code, low) in [(0, 1, 0, 1), (1, 9, 1, -1), (2, -1, 0, 3)] {
        let partition = DeleteRecordsPartition::default().with_offset(offset);
        let topic = DeleteRecordsTopic::default()
            .with_name(name("t"))
            .with_partitions(vec![partition]);
        let request = DeleteRecordsRequest::default().with_topics(vec![topic]);
        let answer = client.call(version, request).await;
        let answer = &answer.topics[0].partitions[0];
        assert_eq!((answer.error_code, answer.low_watermark), (code, low));
    }
    assert_eq!(list(&mut client, 5, "t", -2).await.offset, 3);
    assert_eq!(fetch(&mut client, 12, "t", 0).await.error_code, 1);
}

#[tokio::test(start_paused = true)]
async fn there_is_one_leader_epoch_and_it_ends_at_the_high_watermark() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    create(&mut client, "t", 1).await;
    produce(&mut client, 9, "t", batch(&["a", "b", "c"])).await;
    for version in 2..=4 {
        for (current, asked, expected) in [
            (-1, 0, (0, 0, 3)),
            (0, 0, (0, 0, 3)),
            (0, 5, (0, -1, -1)),
            (5, 0, (75, -1, -1)),
        ] {
            let partition = OffsetForLeaderPartition::default()
                .with_current_leader_epoch(current)
                .with_leader_epoch(asked);
            let topic = OffsetForLeaderTopic::default()
                .with_topic(name("t"))
                .with_partitions(vec![partition]);
            let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
            let answer = client.call(version, request).await;
            let got = &answer.topics[0].partitions[0];
            let got = (got.error_code, got.leader_epoch, got.end_offset);
            assert_eq!(got, expected, "{current} {asked} in version {version}");
        }
    }
}
