//! Metadata, topics, settings, the cluster.

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResult;
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::incremental_alter_configs_request as incremental;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    AlterConfigsRequest, BrokerId, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest,
    DescribeTopicPartitionsRequest, FindCoordinatorRequest, IncrementalAlterConfigsRequest,
    MetadataRequest, MetadataResponse, alter_configs_request,
};
use tokio::time::{Duration, Instant};
use uuid::Uuid;

use super::*;
use crate::testing::{Fault, Faulty};

fn asked(topics: &[&str]) -> Option<Vec<MetadataRequestTopic>> {
    let topics = topics.iter();
    let topics = topics.map(|topic| MetadataRequestTopic::default().with_name(Some(name(topic))));
    Some(topics.collect())
}

fn told(answer: &MetadataResponse) -> Vec<(String, i16, usize)> {
    let topics = answer.topics.iter();
    topics
        .map(|topic| {
            let name = topic.name.as_ref().map(|name| name.to_string());
            (
                name.unwrap_or_default(),
                topic.error_code,
                topic.partitions.len(),
            )
        })
        .collect()
}

fn owned(expected: &[(&str, i16, usize)]) -> Vec<(String, i16, usize)> {
    let expected = expected.iter();
    expected
        .map(|(name, code, count)| ((*name).to_owned(), *code, *count))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn metadata_tells_all_topics_none_or_those_asked_for() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    let id = create(&mut client, "b", 3).await;
    create(&mut client, "a", 1).await;
    let all = owned(&[("a", 0, 1), ("b", 0, 3)]);
    for version in 0..=13 {
        let ask = |topics| {
            let request = MetadataRequest::default().with_topics(topics);
            match version {
                4.. => request.with_allow_auto_topic_creation(false),
                _ => request,
            }
        };
        if version >= 1 {
            let answer = client.call(version, ask(None)).await;
            assert_eq!(told(&answer), all, "null in version {version}");
        }
        let answer = client.call(version, ask(Some(Vec::new()))).await;
        let expected = if version == 0 { &all[..] } else { &[] };
        assert_eq!(told(&answer), expected, "empty in version {version}");
        if version < 4 {
            continue;
        }
        let answer = client.call(version, ask(asked(&["b", "c", "a b"]))).await;
        let expected = owned(&[("b", 0, 3), ("c", 3, 0), ("a b", 17, 0)]);
        assert_eq!(told(&answer), expected, "version {version}");
        let node = &answer.brokers[0];
        assert_eq!((node.host.as_str(), node.port), ("here.example", 9092));
        assert_eq!(answer.controller_id, node.node_id);
        let topic = &answer.topics[0];
        for (index, partition) in (0..).zip(&topic.partitions) {
            assert_eq!(partition.partition_index, index);
            assert_eq!(partition.leader_id, node.node_id);
            assert_eq!(partition.replica_nodes, [node.node_id]);
            assert_eq!(partition.isr_nodes, [node.node_id]);
        }
        if version >= 10 {
            assert_eq!(topic.topic_id, id);
            let by_id = |id| {
                Some(vec![
                    MetadataRequestTopic::default()
                        .with_topic_id(id)
                        .with_name(None),
                ])
            };
            let answer = client.call(version, ask(by_id(id))).await;
            assert_eq!(told(&answer), owned(&[("b", 0, 3)]));
            let answer = client.call(version, ask(by_id(Uuid::from_u128(1)))).await;
            assert_eq!(told(&answer), owned(&[("", 100, 0)]));
            assert_eq!(answer.topics[0].name.is_none(), version >= 12);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn metadata_creates_topics_where_the_client_and_the_setting_allow_it() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    let request = MetadataRequest::default().with_topics(asked(&["new"]));
    let refused = request.clone().with_allow_auto_topic_creation(false);
    assert_eq!(client.call(12, refused).await.topics[0].error_code, 3);
    let answer = client.call(12, request).await;
    assert_eq!(answer.topics[0].error_code, 0);
    assert!(!answer.topics[0].partitions.is_empty());
    let off = alter("", "auto.create.topics.enable", 0, Some("false")).with_resources(vec![
        incremental::AlterConfigsResource::default()
            .with_resource_type(4)
            .with_configs(vec![
                incremental::AlterableConfig::default()
                    .with_name(words("auto.create.topics.enable"))
                    .with_value(Some(words("false"))),
            ]),
    ]);
    assert_eq!(client.call(1, off).await.responses[0].error_code, 0);
    // Before version 4 the client has no say.
    let request = MetadataRequest::default().with_topics(asked(&["newer"]));
    assert_eq!(client.call(3, request).await.topics[0].error_code, 3);
}

#[tokio::test(start_paused = true)]
async fn operations_are_told_when_asked_for() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    create(&mut client, "t", 1).await;
    for version in 8..=13 {
        for asks in [false, true] {
            let mut request = MetadataRequest::default()
                .with_topics(asked(&["t"]))
                .with_include_topic_authorized_operations(asks);
            if version <= 10 {
                request = request.with_include_cluster_authorized_operations(asks);
            }
            let answer = client.call(version, request).await;
            let on_topic = answer.topics[0].topic_authorized_operations;
            assert_eq!(on_topic, if asks { 3576 } else { i32::MIN });
            if version <= 10 {
                let on_cluster = answer.cluster_authorized_operations;
                assert_eq!(on_cluster, if asks { 8096 } else { i32::MIN });
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_topic_of_a_create_has_its_own_outcome() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    create(&mut client, "old", 1).await;
    let topic = |topic: &str, partitions, replicas| {
        CreatableTopic::default()
            .with_name(name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(replicas)
    };
    let config = |topic: CreatableTopic, key, value: Option<&str>| {
        topic.with_configs(vec![
            CreatableTopicConfig::default()
                .with_name(words(key))
                .with_value(value.map(words)),
        ])
    };
    let assigned = |topic: CreatableTopic, partitions: &[i32]| {
        let partitions = partitions.iter().map(|index| {
            CreatableReplicaAssignment::default()
                .with_partition_index(*index)
                .with_broker_ids(vec![BrokerId(1)])
        });
        topic.with_assignments(partitions.collect())
    };
    let cases = vec![
        (topic("plain", 3, 1), 0),
        (topic("default", -1, -1), 0),
        (topic("old", 1, 1), 36),
        (topic("a b", 1, 1), 17),
        (topic("", 1, 1), 17),
        (topic("none", 0, 1), 37),
        (topic("negative", -2, 1), 37),
        (topic("no-replica", 1, 0), 38),
        (topic("twice", 1, 1), 42),
        (topic("twice", 1, 1), 42),
        (config(topic("set", 1, 1), "retention.ms", Some("1000")), 0),
        (
            config(topic("unknown", 1, 1), "no.such.thing", Some("1")),
            40,
        ),
        (config(topic("bad", 1, 1), "retention.ms", Some("soon")), 40),
        (config(topic("null", 1, 1), "retention.ms", None), 40),
        (assigned(topic("assigned", -1, -1), &[0, 1]), 0),
        (assigned(topic("both", 2, -1), &[0, 1]), 42),
        (assigned(topic("hole", -1, -1), &[0, 2]), 39),
        (assigned(topic("double", -1, -1), &[0, 0]), 39),
    ];
    for (version, validate_only) in [(7, true), (2, true), (7, false)] {
        let topics = cases.iter().map(|(topic, _)| topic.clone()).collect();
        let request = CreateTopicsRequest::default()
            .with_topics(topics)
            .with_timeout_ms(1000)
            .with_validate_only(validate_only);
        let answer = client.call(version, request).await;
        for ((topic, code), result) in cases.iter().zip(&answer.topics) {
            assert_eq!(result.name, topic.name);
            assert_eq!(result.error_code, *code, "{result:?}");
            assert_eq!(result.error_message.is_some(), *code != 0, "{result:?}");
            if *code != 0 || version < 5 {
                continue;
            }
            assert!(result.num_partitions > 0);
            // Java's client cannot do without them.
            assert!(result.configs.as_ref().is_some_and(|all| all.len() > 15));
            assert_eq!(result.topic_id.is_nil(), validate_only);
        }
        let set = &answer.topics[10];
        if version >= 5 {
            let configs = set.configs.as_ref().unwrap();
            let of = |key: &str| configs.iter().find(|one| one.name.as_str() == key).unwrap();
            let retention = of("retention.ms");
            assert_eq!(retention.value.as_deref(), Some("1000"));
            assert_eq!(retention.config_source, 1);
            assert_eq!(of("cleanup.policy").config_source, 5);
        }
    }
    let request = MetadataRequest::default().with_topics(asked(&["plain", "assigned"]));
    let answer = client.call(9, request).await;
    assert_eq!(told(&answer), owned(&[("plain", 0, 3), ("assigned", 0, 2)]));
}

#[tokio::test(start_paused = true)]
async fn topics_are_deleted_by_name_and_by_id() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    for version in 1..=5 {
        create(&mut client, "t", 1).await;
        let names = vec![name("t"), name("nowhere"), name("two"), name("two")];
        let request = DeleteTopicsRequest::default().with_topic_names(names);
        let answer = client.call(version, request).await;
        let codes: Vec<_> = answer.responses.iter().map(|one| one.error_code).collect();
        assert_eq!(codes, [0, 3, 42, 42], "version {version}");
    }
    let id = create(&mut client, "t", 1).await;
    let topic = |name: Option<&str>, id| {
        DeleteTopicState::default()
            .with_name(name.map(super::name))
            .with_topic_id(id)
    };
    let request = DeleteTopicsRequest::default().with_topics(vec![
        topic(None, id),
        topic(None, Uuid::from_u128(1)),
        topic(Some("nowhere"), Uuid::nil()),
        topic(Some("t"), Uuid::from_u128(2)),
        topic(None, Uuid::nil()),
    ]);
    let answer = client.call(6, request).await;
    let told: Vec<_> = answer
        .responses
        .iter()
        .map(|one| {
            (
                one.name.as_ref().map(|name| name.to_string()),
                one.error_code,
            )
        })
        .collect();
    let named = |name: &str| Some(name.to_owned());
    assert_eq!(
        told,
        [
            (named("t"), 0),
            (None, 100),
            (named("nowhere"), 3),
            (named("t"), 42),
            (None, 42)
        ]
    );
    assert_eq!(answer.responses[0].topic_id, id);
}

#[tokio::test(start_paused = true)]
async fn partitions_are_added() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    for version in 0..=3 {
        let topic = format!("t{version}");
        create(&mut client, &topic, 2).await;
        let grow = |topic: &str, count| {
            CreatePartitionsTopic::default()
                .with_name(name(topic))
                .with_count(count)
                .with_assignments(None)
        };
        for (topic, count, validate_only, code) in [
            (topic.as_str(), 4, true, 0),
            (topic.as_str(), 2, false, 37),
            (topic.as_str(), 1, false, 37),
            ("nowhere", 4, false, 3),
            (topic.as_str(), 4, false, 0),
        ] {
            let request = CreatePartitionsRequest::default()
                .with_topics(vec![grow(topic, count)])
                .with_validate_only(validate_only);
            let answer = client.call(version, request).await;
            assert_eq!(answer.results[0].error_code, code, "{topic} {count}");
        }
        let request = MetadataRequest::default().with_topics(asked(&[&topic]));
        assert_eq!(client.call(9, request).await.topics[0].partitions.len(), 4);
    }
}

#[tokio::test(start_paused = true)]
async fn partitions_are_described_page_by_page() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    for (topic, partitions) in [("a", 3), ("b", 4), ("c", 1)] {
        create(&mut client, topic, partitions).await;
    }
    let mut cursor = None;
    let mut pages = Vec::new();
    loop {
        let request = DescribeTopicPartitionsRequest::default()
            .with_response_partition_limit(3)
            .with_cursor(cursor.take());
        let answer = client.call(0, request).await;
        let page: Vec<_> = answer
            .topics
            .iter()
            .map(|topic| {
                let indexes = topic.partitions.iter().map(|one| one.partition_index);
                (
                    topic.name.as_ref().unwrap().to_string(),
                    indexes.collect::<Vec<_>>(),
                )
            })
            .collect();
        pages.push(page);
        let Some(next) = answer.next_cursor else {
            break;
        };
        cursor = Some(
            Cursor::default()
                .with_topic_name(next.topic_name)
                .with_partition_index(next.partition_index),
        );
    }
    let page = |page: &[(&str, &[i32])]| -> Vec<(String, Vec<i32>)> {
        let page = page.iter();
        page.map(|(name, indexes)| ((*name).to_owned(), indexes.to_vec()))
            .collect()
    };
    let expected = [
        page(&[("a", &[0, 1, 2])]),
        page(&[("b", &[0, 1, 2])]),
        page(&[("b", &[3]), ("c", &[0])]),
    ];
    assert_eq!(pages, expected);
    let topics = ["c", "nowhere"].map(|topic| TopicRequest::default().with_name(name(topic)));
    let request = DescribeTopicPartitionsRequest::default()
        .with_topics(topics.to_vec())
        .with_response_partition_limit(100);
    let answer = client.call(0, request).await;
    let codes: Vec<_> = answer.topics.iter().map(|topic| topic.error_code).collect();
    assert_eq!(codes, [0, 3]);
}

#[tokio::test(start_paused = true)]
async fn what_there_is_not_can_be_unset_beside_what_is_set() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    create(&mut client, "t", 1).await;
    let config = |key, operation, value: Option<&str>| {
        incremental::AlterableConfig::default()
            .with_name(words(key))
            .with_config_operation(operation)
            .with_value(value.map(words))
    };
    for (kind, of, known) in [(2, "t", "retention.ms"), (4, "", "log.retention.ms")] {
        let resource = incremental::AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(words(of))
            .with_configs(vec![
                config(known, 0, Some("7000")),
                config("no.such.thing", 1, None),
            ]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let answer = client.call(1, request).await;
        assert_eq!(answer.responses[0].error_code, 0, "{answer:?}");
        let found = describe(&mut client, 4, kind, of, Some(&[known])).await;
        assert_eq!(found.configs[0].value.as_deref(), Some("7000"));
    }
}

fn alter(
    topic: &str,
    key: &str,
    operation: i8,
    value: Option<&str>,
) -> IncrementalAlterConfigsRequest {
    let config = incremental::AlterableConfig::default()
        .with_name(words(key))
        .with_config_operation(operation)
        .with_value(value.map(words));
    let resource = incremental::AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(words(topic))
        .with_configs(vec![config]);
    IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
}

async fn describe(
    client: &mut Client,
    version: i16,
    kind: i8,
    of: &str,
    keys: Option<&[&str]>,
) -> DescribeConfigsResult {
    let keys = keys.map(|keys| keys.iter().map(|key| words(key)).collect());
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(words(of))
        .with_configuration_keys(keys);
    let mut request = DescribeConfigsRequest::default()
        .with_resources(vec![resource])
        .with_include_synonyms(true);
    if version >= 3 {
        request = request.with_include_documentation(true);
    }
    client.call(version, request).await.results.remove(0)
}

#[tokio::test(start_paused = true)]
async fn settings_are_changed_one_by_one_and_described() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    create(&mut client, "t", 1).await;
    for (key, operation, value, code) in [
        ("retention.ms", 0, Some("5000"), 0),
        ("cleanup.policy", 2, Some("compact"), 0),
        ("retention.ms", 0, None, 42),
        ("retention.ms", 9, Some("1"), 42),
        ("retention.ms", 0, Some("soon"), 40),
        ("no.such.thing", 0, Some("1"), 40),
        ("no.such.thing", 2, Some("1"), 40),
        ("no.such.thing", 3, Some("1"), 40),
        ("no.such.thing", 1, None, 0),
        ("no.such.thing", 1, Some("1"), 0),
    ] {
        for version in 0..=1 {
            let answer = client
                .call(version, alter("t", key, operation, value))
                .await;
            let answer = &answer.responses[0];
            assert_eq!(
                answer.error_code, code,
                "{key} {operation} {:?}",
                answer.error_message
            );
        }
    }
    assert_eq!(
        client
            .call(1, alter("nowhere", "retention.ms", 0, Some("1")))
            .await
            .responses[0]
            .error_code,
        3
    );
    for version in 1..=4 {
        let keys = ["retention.ms", "cleanup.policy"];
        let found = describe(&mut client, version, 2, "t", Some(&keys)).await;
        assert_eq!((found.error_code, &found.error_message), (0, &None));
        let mut values: Vec<_> = found
            .configs
            .iter()
            .map(|one| (one.name.as_str(), one.value.as_deref().unwrap_or("-")))
            .collect();
        values.sort_unstable();
        assert_eq!(
            values,
            [
                ("cleanup.policy", "delete,compact"),
                ("retention.ms", "5000")
            ]
        );
        let retention = found
            .configs
            .iter()
            .find(|one| one.name.as_str() == "retention.ms");
        let retention = retention.unwrap();
        assert_eq!((retention.config_source, retention.read_only), (1, false));
        assert!(!retention.synonyms.is_empty());
        if version >= 3 {
            assert_eq!(retention.config_type, 5);
            assert!(
                retention
                    .documentation
                    .as_ref()
                    .is_some_and(|text| !text.is_empty())
            );
        }
        let all = describe(&mut client, version, 2, "t", None).await;
        assert!(all.configs.len() > 15, "{}", all.configs.len());
        assert_eq!(
            describe(&mut client, version, 2, "nowhere", None)
                .await
                .error_code,
            3
        );
        assert_eq!(
            describe(&mut client, version, 99, "t", None)
                .await
                .error_code,
            42
        );
        assert_eq!(
            describe(&mut client, version, 4, "one", None)
                .await
                .error_code,
            42
        );
        assert_eq!(
            describe(&mut client, version, 4, "", None).await.error_code,
            0
        );
    }
    // The older way replaces everything, and does not know null.
    let null = alter_configs_request::AlterableConfig::default()
        .with_name(words("retention.ms"))
        .with_value(None);
    let resource = alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(words("t"))
        .with_configs(vec![null]);
    let request = AlterConfigsRequest::default().with_resources(vec![resource]);
    assert_eq!(client.call(2, request).await.responses[0].error_code, 42);
    for version in 0..=2 {
        let config = alter_configs_request::AlterableConfig::default()
            .with_name(words("max.message.bytes"))
            .with_value(Some(words("2000000")));
        let resource = alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(words("t"))
            .with_configs(vec![config]);
        let request = AlterConfigsRequest::default().with_resources(vec![resource]);
        assert_eq!(
            client.call(version, request).await.responses[0].error_code,
            0
        );
        let keys = ["retention.ms", "max.message.bytes"];
        let found = describe(&mut client, 4, 2, "t", Some(&keys)).await;
        let sources: std::collections::BTreeMap<_, _> = found
            .configs
            .iter()
            .map(|one| (one.name.to_string(), one.config_source))
            .collect();
        assert_eq!(sources["retention.ms"], 5);
        assert_eq!(sources["max.message.bytes"], 1);
    }
}

#[tokio::test(start_paused = true)]
async fn coordinators_are_told_of_groups_only() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    for version in 0..=6 {
        for (kind, code) in [(0, 0), (1, 42), (2, 42), (9, 42)] {
            if version == 0 && kind != 0 {
                continue;
            }
            let request = FindCoordinatorRequest::default();
            let request = match version {
                0 => request.with_key(words("g")),
                1..4 => request.with_key(words("g")).with_key_type(kind),
                _ => request
                    .with_key_type(kind)
                    .with_coordinator_keys(vec![words("g"), words("h")]),
            };
            let answer = client.call(version, request).await;
            let told: Vec<_> = match version {
                4.. => answer
                    .coordinators
                    .iter()
                    .map(|one| (one.error_code, one.host.to_string(), one.port))
                    .collect(),
                _ => vec![(answer.error_code, answer.host.to_string(), answer.port)],
            };
            let expected = match code {
                0 => (0, "here.example".to_owned(), 9092),
                code => (code, String::new(), -1),
            };
            assert!(told.iter().all(|one| *one == expected), "{told:?}");
            assert_eq!(told.len(), if version >= 4 { 2 } else { 1 });
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_cluster_is_described() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    for version in 0..=2 {
        let request = DescribeClusterRequest::default();
        let answer = client.call(version, request.clone()).await;
        assert_eq!(answer.error_code, 0);
        assert_eq!(answer.brokers[0].host.as_str(), "here.example");
        assert_eq!(answer.controller_id, answer.brokers[0].broker_id);
        assert_eq!(answer.cluster_id.len(), 22);
        if version >= 1 {
            for (endpoint, code) in [(2, 114), (7, 115)] {
                let request = request.clone().with_endpoint_type(endpoint);
                assert_eq!(client.call(version, request).await.error_code, code);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_client_asks_at_once_is_answered_in_order_by_few_requests_to_the_store() {
    const ASKED: usize = 30;
    let (store, faulty) = Faulty::store(|_| Fault::Slow(Duration::from_millis(100)));
    let rig = Rig::on(store, KafkaOptions::default()).await;
    let mut client = rig.connect();
    create(&mut client, "a", 3).await;
    let (before, begun) = (faulty.requests(), Instant::now());
    let first = client.correlation + 1;
    for number in 0..ASKED {
        if number % 3 == 2 {
            let request = FindCoordinatorRequest::default().with_key(words("group"));
            client.send(2, &request).await;
        } else {
            let request = MetadataRequest::default().with_topics(asked(&["a"]));
            client.send(12, &request).await;
        }
    }
    for correlation in (first..).take(ASKED) {
        let mut frame = client.frame().await.unwrap();
        assert_eq!(frame.get_i32(), correlation);
    }
    // The proof that the first asked for is too old for those that came while it was on its way.
    let (made, took) = (faulty.requests() - before, begun.elapsed());
    assert!(
        made <= 4 && took < Duration::from_millis(400),
        "{made} requests in {took:?}"
    );
}
