//! Names of topics: which are internal, which collide, and what is said of those that no topic can have.

use kafka_protocol::messages::alter_configs_request as replacing;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_topic_partitions_request::TopicRequest;
use kafka_protocol::messages::incremental_alter_configs_request as incremental;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{
    AlterConfigsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest,
    DeleteTopicsRequest, DescribeConfigsRequest, DescribeTopicPartitionsRequest,
    IncrementalAlterConfigsRequest, MetadataRequest, OffsetForLeaderEpochRequest,
};

use super::data::{fetch, list, produce};
use super::*;

const INVALID_TOPIC: i16 = 17;
const UNKNOWN: i16 = 3;
const EXISTS: i16 = 36;

async fn created(client: &mut Client, topics: &[&str], validate_only: bool) -> Vec<i16> {
    let topics = topics.iter().map(|topic| {
        CreatableTopic::default()
            .with_name(name(topic))
            .with_num_partitions(1)
            .with_replication_factor(-1)
    });
    let request = CreateTopicsRequest::default()
        .with_topics(topics.collect())
        .with_timeout_ms(10_000)
        .with_validate_only(validate_only);
    let answer = client.call(7, request).await;
    answer.topics.iter().map(|topic| topic.error_code).collect()
}

async fn asked(client: &mut Client, topic: &str, create: bool) -> MetadataResponseTopic {
    let topic = MetadataRequestTopic::default().with_name(Some(name(topic)));
    let request = MetadataRequest::default()
        .with_topics(Some(vec![topic]))
        .with_allow_auto_topic_creation(create);
    client.call(12, request).await.topics.remove(0)
}

async fn listed(client: &mut Client) -> Vec<(String, bool)> {
    let request = MetadataRequest::default().with_topics(None);
    let topics = client.call(12, request).await.topics;
    let told = topics.into_iter().map(|topic| {
        let name = topic.name.as_ref().map(|name| name.to_string());
        (name.unwrap_or_default(), topic.is_internal)
    });
    told.collect()
}

async fn deleted(client: &mut Client, topic: &str) -> i16 {
    let request = DeleteTopicsRequest::default().with_topic_names(vec![name(topic)]);
    client.call(5, request).await.responses[0].error_code
}

#[tokio::test(start_paused = true)]
async fn two_underscores_do_not_make_a_topic_internal() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    let heartbeat = "__debezium-heartbeat.x";
    assert_eq!(created(&mut client, &[heartbeat], false).await, [0]);
    let automatic = asked(&mut client, "__by_itself", true).await;
    assert_eq!((automatic.error_code, automatic.is_internal), (0, false));
    assert_eq!(
        produce(&mut client, 9, heartbeat, batch(&["a"]))
            .await
            .error_code,
        0
    );
    let fetched = fetch(&mut client, 12, heartbeat, 0).await;
    assert_eq!((fetched.error_code, fetched.high_watermark), (0, 1));
    let ordinary = |name: &str| (name.to_owned(), false);
    let all = [ordinary("__by_itself"), ordinary(heartbeat)];
    assert_eq!(listed(&mut client).await, all);
    let request = DescribeTopicPartitionsRequest::default().with_response_partition_limit(9);
    let described = client.call(0, request).await;
    assert!(described.topics.iter().all(|topic| !topic.is_internal));
    assert_eq!(deleted(&mut client, heartbeat).await, 0);
}

#[tokio::test(start_paused = true)]
async fn clients_neither_create_nor_write_internal_topics() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    for internal in ["__transaction_state", "__share_group_state"] {
        for validate_only in [true, false] {
            assert_eq!(
                created(&mut client, &[internal], validate_only).await,
                [INVALID_TOPIC]
            );
        }
        assert_eq!(
            asked(&mut client, internal, true).await.error_code,
            INVALID_TOPIC
        );
        let unknown = asked(&mut client, internal, false).await;
        assert_eq!((unknown.error_code, unknown.is_internal), (UNKNOWN, true));
    }
    // Not marked as internal, but nobody's to create.
    assert_eq!(
        created(&mut client, &["__cluster_metadata"], false).await,
        [42]
    );
    let unknown = asked(&mut client, "__cluster_metadata", true).await;
    assert_eq!((unknown.error_code, unknown.is_internal), (UNKNOWN, false));
    for internal in [
        "__consumer_offsets",
        "__transaction_state",
        "__share_group_state",
    ] {
        for version in 3..=12 {
            let refused = produce(&mut client, version, internal, batch(&["a"])).await;
            assert_eq!(refused.error_code, INVALID_TOPIC, "{internal}");
        }
    }
    let stored = listed(&mut client).await;
    assert!(
        stored.iter().all(|(name, _)| name == "__consumer_offsets"),
        "{stored:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_name_that_differs_from_anothers_only_in_dots_and_underscores_is_refused() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    assert_eq!(created(&mut client, &["c07.a.X"], false).await, [0]);
    for colliding in ["c07_a.X", "c07_a_X", "c07.a_X"] {
        for validate_only in [true, false] {
            let codes = created(&mut client, &[colliding], validate_only).await;
            assert_eq!(codes, [INVALID_TOPIC], "{colliding}");
        }
        let automatic = asked(&mut client, colliding, true).await;
        assert_eq!(automatic.error_code, INVALID_TOPIC, "{colliding}");
        assert_eq!(
            asked(&mut client, colliding, false).await.error_code,
            UNKNOWN
        );
    }
    // The very name exists, and names without dots and underscores collide with nothing.
    let codes = created(&mut client, &["c07.a.X", "c07-a-X", "c07.a.x"], false).await;
    assert_eq!(codes, [EXISTS, 0, 0]);
    let codes = created(&mut client, &["twin.s", "twin_s"], false).await;
    assert_eq!(codes, [0, INVALID_TOPIC], "in one request");
    assert_eq!(deleted(&mut client, "c07.a.X").await, 0);
    assert_eq!(created(&mut client, &["c07_a.X"], false).await, [0]);
    assert_eq!(
        created(&mut client, &["c07.a.X"], false).await,
        [INVALID_TOPIC]
    );
}

/// What each API says of a name that no topic can have, as Apache Kafka does: where it only looks the topic up, that
/// there is none.
#[tokio::test(start_paused = true)]
async fn each_api_has_its_code_for_a_name_that_no_topic_can_have() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    let long = "x".repeat(250);
    for illegal in ["a b", "ä", "..", "a/b", &long] {
        assert_eq!(
            created(&mut client, &[illegal], false).await,
            [INVALID_TOPIC]
        );
        for create in [true, false] {
            assert_eq!(
                asked(&mut client, illegal, create).await.error_code,
                INVALID_TOPIC
            );
        }
        let one = TopicRequest::default().with_name(name(illegal));
        let request = DescribeTopicPartitionsRequest::default()
            .with_topics(vec![one])
            .with_response_partition_limit(10);
        assert_eq!(
            client.call(0, request).await.topics[0].error_code,
            INVALID_TOPIC
        );

        let resource = DescribeConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(words(illegal))
            .with_configuration_keys(None);
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        for version in 1..=4 {
            let answer = client.call(version, request.clone()).await;
            assert_eq!(answer.results[0].error_code, INVALID_TOPIC, "{illegal}");
        }
        let resource = incremental::AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(words(illegal));
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        assert_eq!(
            client.call(1, request).await.responses[0].error_code,
            INVALID_TOPIC
        );
        let resource = replacing::AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(words(illegal));
        let request = AlterConfigsRequest::default().with_resources(vec![resource]);
        assert_eq!(
            client.call(2, request).await.responses[0].error_code,
            INVALID_TOPIC
        );

        assert_eq!(deleted(&mut client, illegal).await, UNKNOWN);
        let more = CreatePartitionsTopic::default()
            .with_name(name(illegal))
            .with_count(2)
            .with_assignments(None);
        let request = CreatePartitionsRequest::default().with_topics(vec![more]);
        assert_eq!(client.call(3, request).await.results[0].error_code, UNKNOWN);
        let refused = produce(&mut client, 9, illegal, batch(&["a"])).await;
        assert_eq!(refused.error_code, UNKNOWN);
        assert_eq!(fetch(&mut client, 12, illegal, 0).await.error_code, UNKNOWN);
        assert_eq!(list(&mut client, 5, illegal, -1).await.error_code, UNKNOWN);
        let topic = DeleteRecordsTopic::default()
            .with_name(name(illegal))
            .with_partitions(vec![DeleteRecordsPartition::default()]);
        let request = DeleteRecordsRequest::default().with_topics(vec![topic]);
        let answer = client.call(2, request).await;
        assert_eq!(answer.topics[0].partitions[0].error_code, UNKNOWN);
        let partition = OffsetForLeaderPartition::default().with_current_leader_epoch(-1);
        let topic = OffsetForLeaderTopic::default()
            .with_topic(name(illegal))
            .with_partitions(vec![partition]);
        let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
        let answer = client.call(4, request).await;
        assert_eq!(answer.topics[0].partitions[0].error_code, UNKNOWN);
    }
}

#[tokio::test(start_paused = true)]
async fn settings_of_no_topic_can_be_described_by_nobody_and_set_by_nobody() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    let resource = DescribeConfigsResource::default().with_resource_type(2);
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let answer = client.call(4, request).await;
    assert_eq!(answer.results[0].error_code, INVALID_TOPIC);
    let resource = incremental::AlterConfigsResource::default().with_resource_type(2);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    assert_eq!(client.call(1, request).await.responses[0].error_code, 42);
}
