use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;
use crate::broker::{ConfigEdit, ConfigResource, ProduceError};
use crate::segment::Codec;
use crate::types::{ByteCount, Offset, PartitionIndex, Timestamp};

/// Nothing here takes this long; a test that hangs should say where.
const LONG: Duration = Duration::from_secs(30);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future)
        .await
        .expect("it should not take so long")
}

async fn cluster(topic: &str, partitions: i32) -> Client {
    let weir = soon(Client::open("memory://")).await.unwrap();
    soon(weir.create_topic(topic, partitions)).await.unwrap();
    weir
}

async fn send_numbers(weir: &Client, topic: &str, numbers: std::ops::Range<u32>) -> Vec<Sent> {
    let records = numbers.map(|n| Record::of_value(n.to_string())).collect();
    soon(weir.producer().send_all(topic, records))
        .await
        .unwrap()
}

async fn read_all(consumer: &mut Consumer) -> Vec<ConsumedRecord> {
    let mut all = Vec::new();
    while let Some(record) = soon(consumer.next()).await.unwrap() {
        all.push(record);
    }
    all
}

fn values(records: &[ConsumedRecord]) -> Vec<u32> {
    let text = |r: &ConsumedRecord| String::from_utf8(r.value.clone().unwrap().to_vec()).unwrap();
    records.iter().map(|r| text(r).parse().unwrap()).collect()
}

#[tokio::test]
async fn a_record_comes_out_as_it_went_in() {
    let weir = cluster("orders", 3).await;
    let record = Record::new("customer-1", "2 apples")
        .header("trace", "abc")
        .header("trace", b"\xff".as_slice())
        .timestamp(Timestamp(1_700_000_000_000));
    let mut tombstone = Record::new("customer-1", "");
    tombstone.value = None;
    let mut producer = weir.producer();
    let first = soon(producer.send("orders", record.clone())).await.unwrap();
    let second = soon(producer.send("orders", tombstone)).await.unwrap();
    assert_eq!(first.partition, partition_of_key(b"customer-1", 3));
    assert_eq!((first.offset, second.offset), (Offset(0), Offset(1)));
    assert_eq!(second.partition, first.partition);
    let mut consumer = weir
        .consumer()
        .topics(["orders"])
        .until_end(true)
        .start()
        .await
        .unwrap();
    let found = read_all(&mut consumer).await;
    assert_eq!(found.len(), 2);
    assert_eq!(
        (found[0].key.clone(), found[0].value.clone()),
        (record.key, record.value)
    );
    assert_eq!(found[0].headers, record.headers);
    assert_eq!(found[0].timestamp, Timestamp(1_700_000_000_000));
    assert_eq!((found[1].value.clone(), found[1].offset), (None, Offset(1)));
    weir.close().await;
}

#[tokio::test]
async fn records_of_a_partition_keep_their_order_through_many_batches_in_every_codec() {
    let weir = cluster("numbers", 2).await;
    let mut sent = 0;
    for compression in Codec::ALL {
        let options = ProducerOptions {
            compression,
            batch_size: ByteCount(600),
            ..ProducerOptions::default()
        };
        let records: Vec<Record> = (sent..sent + 300)
            .map(|n: u32| Record::of_value(n.to_string()).partition(PartitionIndex(1)))
            .collect();
        let answers = soon(weir.producer_with(options).send_all("numbers", records))
            .await
            .unwrap();
        let offsets: Vec<i64> = answers.iter().map(|s| s.offset.0).collect();
        assert_eq!(
            offsets,
            (i64::from(sent)..i64::from(sent) + 300).collect::<Vec<_>>()
        );
        sent += 300;
    }
    let mut consumer = weir
        .consumer()
        .topics(["numbers"])
        .partitions([PartitionIndex(1)])
        .until_end(true)
        .start()
        .await
        .unwrap();
    assert_eq!(
        values(&read_all(&mut consumer).await),
        (0..sent).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn batches_stay_below_what_the_topic_takes_and_a_record_that_does_not_fit_is_refused() {
    let weir = cluster("small", 1).await;
    let edits = BTreeMap::from([(
        "max.message.bytes".to_owned(),
        ConfigEdit::Set("4000".to_owned()),
    )]);
    let resource = ConfigResource::Topic("small".to_owned());
    weir.broker()
        .alter_configs(weir.session(), &resource, edits, false)
        .await
        .unwrap();
    let mut producer = weir.producer();
    let records = vec![Record::of_value(vec![7; 500]); 100];
    assert_eq!(
        soon(producer.send_all("small", records))
            .await
            .unwrap()
            .len(),
        100
    );
    let refused = soon(producer.send("small", Record::of_value(vec![7; 5000]))).await;
    assert!(
        matches!(
            refused,
            Err(ClientError::Produce {
                source: ProduceError::Batch { .. },
                ..
            })
        ),
        "{refused:?}"
    );
    // What failed does not stand in the way of what comes after it.
    let sent = soon(producer.send("small", Record::of_value("x")))
        .await
        .unwrap();
    assert_eq!(sent.offset, Offset(100));
}

#[tokio::test]
async fn a_send_that_nobody_waited_for_does_not_swallow_the_next_one() {
    let weir = cluster("orders", 1).await;
    let mut producer = weir.producer();
    soon(producer.send("orders", Record::of_value("0")))
        .await
        .unwrap();
    {
        let mut abandoned = Box::pin(producer.send("orders", Record::of_value("1")));
        let _ = futures::poll!(&mut abandoned);
    }
    let sent = soon(producer.send("orders", Record::of_value("2")))
        .await
        .unwrap();
    let mut consumer = weir
        .consumer()
        .topics(["orders"])
        .until_end(true)
        .start()
        .await
        .unwrap();
    let found = read_all(&mut consumer).await;
    let at = usize::try_from(sent.offset.0).unwrap();
    assert_eq!(values(&found)[at], 2);
}

#[tokio::test]
async fn a_partition_that_the_topic_does_not_have_is_refused_by_name() {
    let weir = cluster("orders", 2).await;
    let record = Record::of_value("x").partition(PartitionIndex(2));
    let error = soon(weir.producer().send("orders", record))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "topic orders has no partition 2; its partitions are 0 to 1"
    );
    let only = [PartitionIndex(5)];
    let consumer = weir
        .consumer()
        .topics(["orders"])
        .partitions(only)
        .start()
        .await;
    assert!(matches!(consumer, Err(ClientError::NoPartition { .. })));
    let absent = weir.consumer().topics(["absent"]).start().await;
    assert!(matches!(
        absent,
        Err(ClientError::Topic(TopicError::NotFound(_)))
    ));
}

#[tokio::test]
async fn a_consumer_begins_at_an_offset_a_time_or_the_end() {
    let weir = cluster("times", 1).await;
    let records = (0..10u32)
        .map(|n| Record::of_value(n.to_string()).timestamp(Timestamp(1_000_000 + i64::from(n))))
        .collect();
    soon(weir.producer().send_all("times", records))
        .await
        .unwrap();
    for (start, expected) in [
        (StartAt::Earliest, 0..10),
        // In the middle of the batch.
        (StartAt::Offset(Offset(7)), 7..10),
        (StartAt::Time(Timestamp(1_000_004)), 4..10),
        (StartAt::Time(Timestamp(2_000_000)), 0..0),
        (StartAt::Latest, 0..0),
    ] {
        let consumer = weir
            .consumer()
            .topics(["times"])
            .start_at(start)
            .until_end(true);
        let found = read_all(&mut consumer.start().await.unwrap()).await;
        assert_eq!(values(&found), expected.collect::<Vec<_>>(), "{start:?}");
    }
}

#[tokio::test]
async fn a_consumer_at_the_end_is_woken_by_what_is_produced() {
    let weir = cluster("live", 1).await;
    let consumer = weir.consumer().topics(["live"]).start_at(StartAt::Latest);
    let mut consumer = consumer.start().await.unwrap();
    let (found, _) = tokio::join!(soon(consumer.next()), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        send_numbers(&weir, "live", 7..8).await
    });
    assert_eq!(values(&[found.unwrap().unwrap()]), [7]);
}

#[tokio::test]
async fn a_group_goes_on_where_it_committed() {
    let weir = cluster("orders", 1).await;
    send_numbers(&weir, "orders", 0..10).await;
    let member = || {
        weir.consumer()
            .topics(["orders"])
            .group("billing")
            .until_end(true)
            .start()
    };
    let mut consumer = soon(member()).await.unwrap();
    for expected in 0..4 {
        assert_eq!(
            values(&[soon(consumer.next()).await.unwrap().unwrap()]),
            [expected]
        );
    }
    soon(consumer.commit()).await.unwrap();
    soon(consumer.next()).await.unwrap();
    soon(consumer.close()).await.unwrap();
    // The fifth was handed out and not committed, so it comes again.
    let mut consumer = soon(member()).await.unwrap();
    assert_eq!(
        values(&read_all(&mut consumer).await),
        (4..10).collect::<Vec<_>>()
    );
    soon(consumer.close()).await.unwrap();
}

#[tokio::test]
async fn an_automatic_commit_at_the_end_covers_the_last_record() {
    let weir = cluster("orders", 1).await;
    send_numbers(&weir, "orders", 0..5).await;
    let member = || {
        let consumer = weir
            .consumer()
            .topics(["orders"])
            .group("g")
            .until_end(true);
        consumer.auto_commit(Duration::from_secs(60)).start()
    };
    let mut consumer = soon(member()).await.unwrap();
    assert_eq!(read_all(&mut consumer).await.len(), 5);
    soon(consumer.close()).await.unwrap();
    assert_eq!(read_all(&mut soon(member()).await.unwrap()).await.len(), 0);
}

#[tokio::test]
async fn members_of_a_group_share_the_partitions_and_take_over_from_one_that_leaves() {
    let weir = cluster("shared", 4).await;
    let member = || {
        let consumer = weir.consumer().topics(["shared"]).group("workers");
        consumer.session_timeout(Duration::from_secs(6)).start()
    };
    let partitions = |consumer: &Consumer| -> BTreeSet<i32> {
        consumer
            .assignment()
            .iter()
            .map(|(_, partition)| partition.0)
            .collect()
    };
    let mut first = soon(member()).await.unwrap();
    assert_eq!(partitions(&first), BTreeSet::from([0, 1, 2, 3]));
    // The second can only come in once the first has joined again, which it does while it waits.
    let second = weir.clone();
    let second = tokio::spawn(async move {
        let consumer = second.consumer().topics(["shared"]).group("workers");
        soon(consumer.start()).await.unwrap()
    });
    let mut waited = 0;
    while !second.is_finished() {
        let _ = tokio::time::timeout(Duration::from_millis(100), first.next()).await;
        waited += 1;
        assert!(waited < 200, "the second member did not come in");
    }
    let second = second.await.unwrap();
    let (ours, theirs) = (partitions(&first), partitions(&second));
    assert_eq!((ours.len(), theirs.len()), (2, 2));
    assert!(ours.is_disjoint(&theirs));
    soon(second.close()).await.unwrap();
    let records: Vec<Record> = (0..4u32)
        .map(|n| Record::of_value(n.to_string()).partition(PartitionIndex(n as i32)))
        .collect();
    soon(weir.producer().send_all("shared", records))
        .await
        .unwrap();
    let mut found = Vec::new();
    while found.len() < 4 {
        found.push(soon(first.next()).await.unwrap().unwrap());
    }
    let mut seen = values(&found);
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3]);
    assert_eq!(partitions(&first), BTreeSet::from([0, 1, 2, 3]));
    soon(first.close()).await.unwrap();
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let weir = cluster("t", 1).await;
    let none: [&str; 0] = [];
    assert!(matches!(
        weir.consumer().topics(none).start().await,
        Err(ClientError::Consumer(_))
    ));
    let both = weir
        .consumer()
        .topics(["t"])
        .group("g")
        .partitions([PartitionIndex(0)]);
    assert!(matches!(both.start().await, Err(ClientError::Consumer(_))));
    let mut alone = weir.consumer().topics(["t"]).start().await.unwrap();
    assert!(matches!(
        alone.commit().await,
        Err(ClientError::Consumer(_))
    ));
    assert!(matches!(
        Client::open("ftp://x").await,
        Err(ClientError::Url(_))
    ));
}

#[tokio::test]
async fn settings_are_stored_shown_with_their_source_and_returned_to_the_default() {
    use crate::broker::{ConfigEdit::*, ConfigSource, DynamicConfigError};
    let weir = cluster("t", 1).await;
    let (broker, session) = (weir.broker(), weir.session());
    let topic = ConfigResource::Topic("t".to_owned());
    let name = "retention.ms".to_owned();
    let names = [name.clone()];
    let shown = async || {
        let found = broker
            .describe_configs(session, &topic, Some(&names))
            .await
            .unwrap();
        assert_eq!(found.len(), 1);
        (found[0].value.clone().unwrap(), found[0].source)
    };
    let default = ("604800000".to_owned(), ConfigSource::Default);
    assert_eq!(shown().await, default);

    let edit = |edit| BTreeMap::from([(name.clone(), edit)]);
    let five = || edit(Set("5".to_owned()));
    broker
        .alter_configs(session, &topic, five(), true)
        .await
        .unwrap();
    assert_eq!(shown().await, default);
    broker
        .alter_configs(session, &topic, five(), false)
        .await
        .unwrap();
    assert_eq!(shown().await, ("5".to_owned(), ConfigSource::Topic));
    broker
        .replace_configs(session, &topic, BTreeMap::new(), false)
        .await
        .unwrap();
    assert_eq!(shown().await, default);

    let hours = BTreeMap::from([("log.retention.hours".to_owned(), Set("1".to_owned()))]);
    let cluster = ConfigResource::Cluster;
    broker
        .alter_configs(session, &cluster, hours, false)
        .await
        .unwrap();
    assert_eq!(shown().await, ("3600000".to_owned(), ConfigSource::Cluster));
    let set = broker
        .describe_configs(session, &cluster, None)
        .await
        .unwrap();
    assert_eq!(set.len(), 1);

    let bad = broker
        .alter_configs(session, &topic, edit(Set("-2".to_owned())), false)
        .await;
    assert!(matches!(
        bad,
        Err(TopicError::InvalidConfig(
            DynamicConfigError::Invalid { .. }
        ))
    ));
    let absent = ConfigResource::Topic("absent".to_owned());
    let bad = broker.alter_configs(session, &absent, five(), false).await;
    assert!(matches!(bad, Err(TopicError::NotFound(_))));
    let node = ConfigResource::Node(7);
    let bad = broker.alter_configs(session, &node, five(), false).await;
    assert!(matches!(bad, Err(TopicError::InvalidRequest(_))));
}
