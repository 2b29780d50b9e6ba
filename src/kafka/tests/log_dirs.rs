//! DescribeLogDirs.

use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};

use super::data::{delete_records, produce};
use super::*;

fn wanted(topics: &[(&str, &[i32])]) -> DescribeLogDirsRequest {
    let topics = topics.iter().map(|(topic, partitions)| {
        DescribableLogDirTopic::default()
            .with_topic(name(topic))
            .with_partitions(partitions.to_vec())
    });
    DescribeLogDirsRequest::default().with_topics(Some(topics.collect()))
}

fn told(answer: &DescribeLogDirsResponse) -> Vec<(String, Vec<(i32, i64)>)> {
    let [directory] = &answer.results[..] else {
        panic!("there is one store: {answer:?}");
    };
    assert_eq!((answer.error_code, directory.error_code), (0, 0));
    assert!(!directory.log_dir.is_empty());
    assert_eq!((directory.total_bytes, directory.usable_bytes), (-1, -1));
    let topics = directory.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            assert_eq!((partition.offset_lag, partition.is_future_key), (0, false));
            (partition.partition_index, partition.partition_size)
        });
        (topic.name.to_string(), partitions.collect())
    });
    topics.collect()
}

#[tokio::test(start_paused = true)]
async fn topics_are_as_large_as_the_batches_that_they_keep() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    create(&mut client, "a", 2).await;
    create(&mut client, "b", 1).await;
    let records = batch(&["one", "two"]);
    for _ in 0..3 {
        assert_eq!(
            produce(&mut client, 9, "a", records.clone())
                .await
                .error_code,
            0
        );
    }
    let size = i64::try_from(records.len()).unwrap();
    let a = |partitions: &[(i32, i64)]| ("a".to_owned(), partitions.to_vec());
    let b = ("b".to_owned(), vec![(0, 0)]);
    for version in 1..=4 {
        let all = DescribeLogDirsRequest::default().with_topics(None);
        let answer = client.call(version, all).await;
        assert_eq!(told(&answer), [a(&[(0, 3 * size), (1, 0)]), b.clone()]);
        let some = wanted(&[
            ("b", &[0, 7]),
            ("nowhere", &[0]),
            ("a b", &[0]),
            ("a", &[1]),
        ]);
        let answer = client.call(version, some).await;
        assert_eq!(told(&answer), [a(&[(1, 0)]), b.clone()]);
        assert_eq!(told(&client.call(version, wanted(&[])).await), []);
    }
    assert_eq!(delete_records(&mut client, "a", 4).await, 4);
    let answer = client.call(4, wanted(&[("a", &[0])])).await;
    assert_eq!(told(&answer), [a(&[(0, size)])]);
}
