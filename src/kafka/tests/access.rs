//! What each API answers about what the client may not do, as Apache Kafka does, and that the rest of the request is
//! done.

use std::sync::{Arc, Mutex};

use kafka_protocol::messages::alter_configs_request::{self, AlterConfigsResource};
use kafka_protocol::messages::alter_user_scram_credentials_request::ScramCredentialDeletion;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_topic_partitions_request::TopicRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::incremental_alter_configs_request as incremental;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterUserScramCredentialsRequest, CreateAclsRequest,
    CreatePartitionsRequest, CreateTopicsRequest, DeleteAclsRequest, DeleteGroupsRequest,
    DeleteRecordsRequest, DeleteTopicsRequest, DescribeAclsRequest, DescribeClusterRequest,
    DescribeConfigsRequest, DescribeGroupsRequest, DescribeLogDirsRequest,
    DescribeTopicPartitionsRequest, DescribeUserScramCredentialsRequest, FetchRequest,
    FindCoordinatorRequest, GroupId, HeartbeatRequest, IncrementalAlterConfigsRequest,
    InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest,
    ListOffsetsRequest, MetadataRequest, OffsetCommitRequest, OffsetDeleteRequest,
    OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest, SyncGroupRequest,
};
use uuid::Uuid;

use crate::broker::{Action, Policy, RaiseLevelError, Resource, Session};

use crate::state::State;

use super::data::end_offset;
use super::*;

const TOPIC: i16 = 29;
const GROUP: i16 = 30;
const CLUSTER: i16 = 31;

/// Allows everything but what it is told to deny.
#[derive(Clone, Debug, Default)]
struct Denying(Arc<Mutex<Denied>>);

#[derive(Debug, Default)]
struct Denied {
    all: bool,
    some: Vec<(Action, Resource<'static>)>,
}

impl Policy for Denying {
    fn allows(&self, _: &State, _: &Session, action: Action, resource: &Resource<'_>) -> bool {
        let denied = self.0.lock().unwrap();
        let mut some = denied.some.iter();
        let is_it = |(what, on): &(Action, Resource<'static>)| *what == action && on == resource;
        !denied.all && !some.any(is_it)
    }
}

impl Denying {
    /// Denies this, and nothing else.
    fn only(&self, what: &[(Action, Resource<'static>)]) {
        self.0.lock().unwrap().some = what.to_vec();
    }

    fn everything(&self) {
        self.0.lock().unwrap().all = true;
    }
}

/// A node with the topics `open` and `closed`, of one partition each, and the groups `open` and `closed`, which have
/// committed offset 7 in both.
async fn rig() -> (Rig, Denying, Client, [Uuid; 2]) {
    let denying = Denying::default();
    let policy = Arc::new(denying.clone());
    let rig = Rig::under(Store::memory(), KafkaOptions::default(), policy).await;
    let mut client = rig.connect();
    let open = create(&mut client, "open", 1).await;
    let closed = create(&mut client, "closed", 1).await;
    for group in ["open", "closed"] {
        assert_eq!(commit(&mut client, group).await, [0, 0]);
    }
    (rig, denying, client, [open, closed])
}

const CLOSED_TOPIC: Resource<'static> = Resource::Topic(std::borrow::Cow::Borrowed("closed"));
const CLOSED_GROUP: Resource<'static> = Resource::Group(std::borrow::Cow::Borrowed("closed"));

fn group(id: &str) -> GroupId {
    GroupId(words(id))
}

/// Commits offset 7 of both topics; the codes.
async fn commit(client: &mut Client, of: &str) -> Vec<i16> {
    let topics = ["open", "closed"].map(|topic| {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(7);
        OffsetCommitRequestTopic::default()
            .with_name(name(topic))
            .with_partitions(vec![partition])
    });
    let request = OffsetCommitRequest::default()
        .with_group_id(group(of))
        .with_topics(topics.to_vec());
    let answer = client.call(8, request).await;
    let topics = answer.topics.iter();
    topics.map(|topic| topic.partitions[0].error_code).collect()
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_written_is_refused_and_the_rest_is_stored() {
    let (_rig, denying, mut client, ids) = rig().await;
    let nowhere = Resource::topic("nowhere");
    denying.only(&[(Action::Write, CLOSED_TOPIC), (Action::Write, nowhere)]);
    let data = || vec![PartitionProduceData::default().with_records(Some(batch(&["v"])))];
    for (round, version) in (1..).zip([3, 8, 9, 12, 13]) {
        let topics = match version {
            13 => ids
                .map(|id| TopicProduceData::default().with_topic_id(id))
                .to_vec(),
            // Whether it is there is not said.
            _ => ["open", "closed", "nowhere"]
                .map(|topic| TopicProduceData::default().with_name(name(topic)))
                .to_vec(),
        };
        let topics = topics
            .into_iter()
            .map(|one| one.with_partition_data(data()));
        let request = ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(10_000)
            .with_topic_data(topics.collect());
        let answer = client.call(version, request).await;
        let outcomes = answer
            .responses
            .iter()
            .map(|one| &one.partition_responses[0]);
        let codes: Vec<_> = outcomes.clone().map(|one| one.error_code).collect();
        assert_eq!(codes, [0, TOPIC, TOPIC][..codes.len()], "version {version}");
        for refused in outcomes.skip(1) {
            assert_eq!(refused.base_offset, -1);
            // A name that belongs to an id is not told.
            let said = refused.error_message.as_deref().unwrap_or_default();
            assert!(!said.contains("closed"), "{said}");
        }
        assert_eq!(end_offset(&mut client, "open").await, round);
        assert_eq!(end_offset(&mut client, "closed").await, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_read_is_refused_and_the_rest_is_read() {
    let (_rig, denying, mut client, ids) = rig().await;
    for topic in ["open", "closed"] {
        let stored = super::data::produce(&mut client, 9, topic, batch(&["v"])).await;
        assert_eq!(stored.error_code, 0);
    }
    denying.only(&[(Action::Read, CLOSED_TOPIC)]);
    for version in [4, 11, 12, 13, 17] {
        let names = ["open", "closed"];
        let topics = names.iter().zip(ids).map(|(topic, id)| {
            let partition = FetchPartition::default().with_partition_max_bytes(1 << 20);
            let asked = FetchTopic::default().with_partitions(vec![partition]);
            match version {
                13.. => asked.with_topic_id(id),
                _ => asked.with_topic(name(topic)),
            }
        });
        let request = FetchRequest::default()
            .with_max_wait_ms(500)
            .with_min_bytes(1)
            .with_topics(topics.collect());
        let answer = client.call(version, request).await;
        let of = |topic: usize| {
            let one = &answer.responses[topic].partitions[0];
            let records = one.records.as_ref().map_or(0, Bytes::len);
            (one.error_code, records > 0)
        };
        assert_eq!((of(0), of(1)), ((0, true), (TOPIC, false)), "{version}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_topic_that_one_may_not_know_of_no_offset_is_told() {
    let (_rig, denying, mut client, _) = rig().await;
    denying.only(&[(Action::Describe, CLOSED_TOPIC)]);
    let topics = ["open", "closed"].map(|topic| {
        let partition = ListOffsetsPartition::default().with_timestamp(-1);
        ListOffsetsTopic::default()
            .with_name(name(topic))
            .with_partitions(vec![partition])
    });
    let request = ListOffsetsRequest::default().with_topics(topics.to_vec());
    let answer = client.call(6, request).await;
    let of = |topic: usize| &answer.topics[topic].partitions[0];
    assert_eq!((of(0).error_code, of(0).offset), (0, 0));
    assert_eq!((of(1).error_code, of(1).offset), (TOPIC, -1));

    let topics = ["open", "closed"].map(|topic| {
        let partition = OffsetForLeaderPartition::default().with_leader_epoch(0);
        OffsetForLeaderTopic::default()
            .with_topic(name(topic))
            .with_partitions(vec![partition])
    });
    let request = OffsetForLeaderEpochRequest::default().with_topics(topics.to_vec());
    let answer = client.call(4, request).await;
    let of = |topic: usize| &answer.topics[topic].partitions[0];
    assert_eq!((of(0).error_code, of(0).end_offset), (0, 0));
    assert_eq!((of(1).error_code, of(1).end_offset), (TOPIC, -1));
}

#[tokio::test(start_paused = true)]
async fn metadata_leaves_out_what_one_may_not_know_of_unless_it_is_asked_for() {
    let (_rig, denying, mut client, [open, closed]) = rig().await;
    denying.only(&[
        (Action::Describe, CLOSED_TOPIC),
        (Action::Describe, Resource::topic("__consumer_offsets")),
    ]);
    let all = MetadataRequest::default().with_topics(None);
    let answer = client.call(12, all).await;
    let told = answer
        .topics
        .iter()
        .map(|one| one.name.as_ref().unwrap().to_string());
    assert_eq!(told.collect::<Vec<_>>(), ["open"]);

    let by_name = |topic: &str| MetadataRequestTopic::default().with_name(Some(name(topic)));
    let topics = ["open", "closed", "__consumer_offsets"]
        .map(by_name)
        .to_vec();
    let request = MetadataRequest::default().with_topics(Some(topics));
    for version in [1, 5, 12] {
        let answer = client.call(version, request.clone()).await;
        let [found, denied, internal] = &answer.topics[..] else {
            panic!("{answer:?}");
        };
        assert_eq!((found.error_code, found.partitions.len()), (0, 1));
        for denied in [denied, internal] {
            assert_eq!((denied.error_code, denied.partitions.len()), (TOPIC, 0));
            assert_eq!((denied.topic_id, denied.is_internal), (Uuid::nil(), false));
        }
    }
    let by_id = |id| {
        MetadataRequestTopic::default()
            .with_name(None)
            .with_topic_id(id)
    };
    let request = MetadataRequest::default().with_topics(Some([open, closed].map(by_id).to_vec()));
    let answer = client.call(12, request).await;
    assert_eq!(answer.topics[0].error_code, 0);
    let denied = &answer.topics[1];
    assert_eq!((denied.error_code, denied.topic_id), (TOPIC, closed));
    assert_eq!(denied.name, None);

    let all = DescribeTopicPartitionsRequest::default().with_response_partition_limit(10);
    let answer = client.call(0, all.clone()).await;
    let told = answer
        .topics
        .iter()
        .map(|one| one.name.as_ref().unwrap().to_string());
    assert_eq!(told.collect::<Vec<_>>(), ["open"]);
    let topics = ["closed", "open"].map(|topic| TopicRequest::default().with_name(name(topic)));
    let answer = client.call(0, all.with_topics(topics.to_vec())).await;
    let told = answer
        .topics
        .iter()
        .map(|one| (one.error_code, one.partitions.len()));
    assert_eq!(told.collect::<Vec<_>>(), [(TOPIC, 0), (0, 1)]);
}

#[tokio::test(start_paused = true)]
async fn topics_are_created_by_who_may_create_any_or_this_one() {
    let (_rig, denying, mut client, _) = rig().await;
    let topics = || {
        ["mine", "other"].map(|topic| {
            CreatableTopic::default()
                .with_name(name(topic))
                .with_num_partitions(1)
                .with_replication_factor(-1)
        })
    };
    let request = |validate_only| {
        CreateTopicsRequest::default()
            .with_topics(topics().to_vec())
            .with_timeout_ms(10_000)
            .with_validate_only(validate_only)
    };
    let other = (Action::Create, Resource::topic("other"));
    // Who may create any topic need not be allowed this one.
    denying.only(std::slice::from_ref(&other));
    let answer = client.call(7, request(true)).await;
    assert!(answer.topics.iter().all(|one| one.error_code == 0));
    denying.only(&[(Action::Create, Resource::Cluster), other]);
    // A topic that is only asked for is created with the same right.
    let asked = |topic: &str| MetadataRequestTopic::default().with_name(Some(name(topic)));
    let metadata =
        MetadataRequest::default().with_topics(Some(["auto", "other"].map(asked).to_vec()));
    let answer = client.call(12, metadata).await;
    let codes: Vec<_> = answer.topics.iter().map(|one| one.error_code).collect();
    assert_eq!(codes, [0, TOPIC]);
    let answer = client.call(7, request(false)).await;
    let codes: Vec<_> = answer.topics.iter().map(|one| one.error_code).collect();
    assert_eq!(codes, [0, TOPIC]);
    assert!(answer.topics[1].topic_id.is_nil());

    // The settings of what one has created are told to who may see them.
    denying.only(&[(Action::DescribeConfigs, Resource::topic("third"))]);
    let third = topics()[0].clone().with_name(name("third"));
    let answer = client
        .call(7, request(false).with_topics(vec![third]))
        .await;
    let third = &answer.topics[0];
    assert_eq!(
        (third.error_code, third.topic_config_error_code),
        (0, TOPIC)
    );
    assert_eq!((third.num_partitions, third.replication_factor), (-1, -1));
    assert!(third.configs.as_ref().is_some_and(Vec::is_empty));
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_changed_stays_as_it_is() {
    let (_rig, denying, mut client, [open, closed]) = rig().await;
    denying.only(&[(Action::Alter, CLOSED_TOPIC)]);
    let topics = ["open", "closed"].map(|topic| {
        CreatePartitionsTopic::default()
            .with_name(name(topic))
            .with_count(3)
            .with_assignments(None)
    });
    let request = CreatePartitionsRequest::default()
        .with_topics(topics.to_vec())
        .with_timeout_ms(10_000);
    let answer = client.call(3, request).await;
    let codes: Vec<_> = answer.results.iter().map(|one| one.error_code).collect();
    assert_eq!(codes, [0, TOPIC]);

    denying.only(&[(Action::Delete, CLOSED_TOPIC)]);
    let topics = ["open", "closed"].map(|topic| {
        let partition = DeleteRecordsPartition::default().with_offset(0);
        DeleteRecordsTopic::default()
            .with_name(name(topic))
            .with_partitions(vec![partition])
    });
    let request = DeleteRecordsRequest::default()
        .with_topics(topics.to_vec())
        .with_timeout_ms(10_000);
    let answer = client.call(2, request).await;
    let of = |topic: usize| &answer.topics[topic].partitions[0];
    assert_eq!((of(0).error_code, of(0).low_watermark), (0, 0));
    assert_eq!((of(1).error_code, of(1).low_watermark), (TOPIC, -1));

    let by_id = |id| {
        DeleteTopicState::default()
            .with_name(None)
            .with_topic_id(id)
    };
    let by_name = |topic| DeleteTopicState::default().with_name(Some(name(topic)));
    let of_cluster = (Action::Delete, Resource::Cluster);
    let delete = (Action::Delete, CLOSED_TOPIC);
    denying.only(&[of_cluster.clone(), delete.clone()]);
    let topics = vec![by_name("closed"), by_id(closed), by_id(open)];
    let request = DeleteTopicsRequest::default()
        .with_topics(topics)
        .with_timeout_ms(10_000);
    let answer = client.call(6, request).await;
    let codes: Vec<_> = answer.responses.iter().map(|one| one.error_code).collect();
    assert_eq!(codes, [TOPIC, TOPIC, 0]);
    assert_eq!(answer.responses[1].name, None);
    assert_eq!(end_offset(&mut client, "closed").await, 0);

    // Whether there is a topic that one may not describe is not told; else it is, also if one may not delete it.
    let hidden = (Action::Describe, Resource::topic("hidden"));
    denying.only(&[of_cluster, delete.clone(), hidden]);
    let mut deleted = async |topics: Vec<DeleteTopicState>| {
        let request = DeleteTopicsRequest::default()
            .with_topics(topics)
            .with_timeout_ms(10_000);
        let answer = client.call(6, request).await;
        answer
            .responses
            .iter()
            .map(|one| one.error_code)
            .collect::<Vec<_>>()
    };
    let codes = deleted(vec![
        by_name("hidden"),
        by_name("nowhere"),
        by_name("closed"),
    ])
    .await;
    assert_eq!(codes, [TOPIC, 3, TOPIC]);
    // Who may delete in the cluster may delete all that is in it.
    denying.only(&[delete]);
    assert_eq!(deleted(vec![by_name("closed")]).await, [0]);
}

/// Users and rules are shown to who may describe the cluster, and changed by who may alter it.
#[tokio::test(start_paused = true)]
async fn users_and_rules_are_told_to_who_may_know_of_the_cluster() {
    let (_rig, denying, mut client, _) = rig().await;
    denying.only(&[
        (Action::Describe, Resource::Cluster),
        (Action::Alter, Resource::Cluster),
    ]);
    let any = DescribeAclsRequest::default()
        .with_resource_type_filter(1)
        .with_pattern_type_filter(1)
        .with_operation(1)
        .with_permission_type(1);
    let answer = client.call(3, any).await;
    assert_eq!((answer.error_code, answer.resources.len()), (CLUSTER, 0));
    let rule = AclCreation::default()
        .with_resource_type(2)
        .with_resource_name(words("t"))
        .with_resource_pattern_type(3)
        .with_principal(words("User:a"))
        .with_host(words("*"))
        .with_operation(3)
        .with_permission_type(3);
    let answer = client
        .call(3, CreateAclsRequest::default().with_creations(vec![rule]))
        .await;
    assert_eq!(answer.results[0].error_code, CLUSTER);
    let filter = DeleteAclsFilter::default()
        .with_resource_type_filter(1)
        .with_pattern_type_filter(1)
        .with_operation(1)
        .with_permission_type(1);
    let answer = client
        .call(3, DeleteAclsRequest::default().with_filters(vec![filter]))
        .await;
    let told = &answer.filter_results[0];
    assert_eq!((told.error_code, told.matching_acls.len()), (CLUSTER, 0));
    let asked = DescribeUserScramCredentialsRequest::default().with_users(None);
    let answer = client.call(0, asked).await;
    assert_eq!((answer.error_code, answer.results.len()), (CLUSTER, 0));
    let deletion = ScramCredentialDeletion::default()
        .with_name(words("a"))
        .with_mechanism(1);
    let request = AlterUserScramCredentialsRequest::default().with_deletions(vec![deletion]);
    let answer = client.call(0, request).await;
    assert_eq!(answer.results[0].error_code, CLUSTER);
}

#[tokio::test(start_paused = true)]
async fn settings_are_shown_and_altered_by_who_may() {
    let (rig, denying, mut client, _) = rig().await;
    // The topics, and the cluster with its nodes.
    let node = rig.node.broker().node_id().unwrap().to_string();
    let resources = [(2, "open"), (2, "closed"), (4, ""), (4, &node)];
    for (cluster, expected) in [
        (false, [0, TOPIC, 0, 0]),
        (true, [0, TOPIC, CLUSTER, CLUSTER]),
    ] {
        let denied = |action| {
            let on_cluster = cluster.then_some((action, Resource::Cluster));
            let on_topic = [(action, CLOSED_TOPIC)].into_iter();
            on_topic.chain(on_cluster).collect::<Vec<_>>()
        };
        denying.only(&denied(Action::DescribeConfigs));
        let asked = resources.map(|(kind, of)| {
            DescribeConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(words(of))
                .with_configuration_keys(None)
        });
        let request = DescribeConfigsRequest::default().with_resources(asked.to_vec());
        let answer = client.call(4, request).await;
        let codes: Vec<_> = answer.results.iter().map(|one| one.error_code).collect();
        assert_eq!(codes, expected);

        denying.only(&denied(Action::AlterConfigs));
        let altered = resources.map(|(kind, of)| {
            incremental::AlterConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(words(of))
        });
        let request = IncrementalAlterConfigsRequest::default().with_resources(altered.to_vec());
        let answer = client.call(1, request).await;
        let codes: Vec<_> = answer.responses.iter().map(|one| one.error_code).collect();
        assert_eq!(codes[1], TOPIC);
        assert_eq!(codes.contains(&CLUSTER), cluster, "{codes:?}");
        let altered = [(2, "open"), (2, "closed")].map(|(kind, of)| {
            let config = alter_configs_request::AlterableConfig::default()
                .with_name(words("retention.ms"))
                .with_value(Some(words("1000")));
            AlterConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(words(of))
                .with_configs(vec![config])
        });
        let request = AlterConfigsRequest::default().with_resources(altered.to_vec());
        let answer = client.call(2, request).await;
        let codes: Vec<_> = answer.responses.iter().map(|one| one.error_code).collect();
        assert_eq!(codes, [0, TOPIC]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_everybody_may_do_is_set_by_who_may_make_rules() {
    let (_rig, denying, mut client, _) = rig().await;
    denying.only(&[(Action::Alter, Resource::Cluster)]);
    for (name, code) in [
        ("auto.create.topics.enable", 0),
        ("allow.everyone.if.no.acl.found", CLUSTER),
    ] {
        let config = incremental::AlterableConfig::default()
            .with_name(words(name))
            .with_value(Some(words("true")));
        let resource = incremental::AlterConfigsResource::default()
            .with_resource_type(4)
            .with_resource_name(words(""))
            .with_configs(vec![config]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let answer = client.call(1, request).await;
        assert_eq!(answer.responses[0].error_code, code, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_may_not_read_a_group_is_no_member_and_commits_nothing() {
    let (_rig, denying, mut client, _) = rig().await;
    denying.only(&[(Action::Read, CLOSED_GROUP)]);
    let join = JoinGroupRequest::default()
        .with_group_id(group("closed"))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(10_000)
        .with_protocol_type(words("consumer"));
    assert_eq!(client.call(9, join).await.error_code, GROUP);
    let sync = SyncGroupRequest::default().with_group_id(group("closed"));
    assert_eq!(client.call(3, sync).await.error_code, GROUP);
    let beat = HeartbeatRequest::default().with_group_id(group("closed"));
    assert_eq!(client.call(4, beat).await.error_code, GROUP);
    let leave = LeaveGroupRequest::default().with_group_id(group("closed"));
    let members = vec![MemberIdentity::default().with_member_id(words("who"))];
    let answer = client.call(5, leave.with_members(members)).await;
    assert_eq!((answer.error_code, answer.members.len()), (GROUP, 0));
    assert_eq!(commit(&mut client, "closed").await, [GROUP, GROUP]);
    assert_eq!(commit(&mut client, "open").await, [0, 0]);
    denying.only(&[(Action::Read, CLOSED_TOPIC)]);
    assert_eq!(commit(&mut client, "open").await, [0, TOPIC]);
    // Only what is asked for matters.
    denying.only(&[
        (Action::Describe, CLOSED_TOPIC),
        (Action::Write, CLOSED_TOPIC),
    ]);
    assert_eq!(commit(&mut client, "open").await, [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn committed_offsets_are_told_to_who_may_know_of_the_group_and_the_topic() {
    let (_rig, denying, mut client, _) = rig().await;
    denying.only(&[(Action::Describe, CLOSED_GROUP)]);
    let request = |groups: &[&str], topics: Option<&[&str]>| {
        let groups = groups.iter().map(|of| {
            let topics = topics.map(|topics| {
                let topics = topics.iter().map(|topic| {
                    OffsetFetchRequestTopics::default()
                        .with_name(name(topic))
                        .with_partition_indexes(vec![0])
                });
                topics.collect()
            });
            OffsetFetchRequestGroup::default()
                .with_group_id(group(of))
                .with_topics(topics)
        });
        OffsetFetchRequest::default().with_groups(groups.collect())
    };
    let both: &[&str] = &["open", "closed"];
    let answer = client.call(8, request(both, Some(&["open"]))).await;
    let [open, closed] = &answer.groups[..] else {
        panic!("{answer:?}");
    };
    assert_eq!(open.topics[0].partitions[0].committed_offset, 7);
    assert_eq!((closed.error_code, closed.topics.len()), (GROUP, 0));

    denying.only(&[(Action::Describe, CLOSED_TOPIC)]);
    let answer = client.call(8, request(&["open"], Some(both))).await;
    let told = answer.groups[0].topics.iter().map(|one| {
        let one = &one.partitions[0];
        (one.error_code, one.committed_offset)
    });
    assert_eq!(told.collect::<Vec<_>>(), [(0, 7), (TOPIC, -1)]);
    let answer = client.call(8, request(&["open"], None)).await;
    let told = answer.groups[0]
        .topics
        .iter()
        .map(|one| one.name.to_string());
    assert_eq!(told.collect::<Vec<_>>(), ["open"]);
    // So before there were several groups in a request.
    let topics = both.iter().map(|topic| {
        OffsetFetchRequestTopic::default()
            .with_name(name(topic))
            .with_partition_indexes(vec![0])
    });
    let older = OffsetFetchRequest::default()
        .with_group_id(group("open"))
        .with_topics(Some(topics.collect()));
    let answer = client.call(5, older).await;
    let told = answer.topics.iter().map(|one| one.partitions[0].error_code);
    assert_eq!(told.collect::<Vec<_>>(), [0, TOPIC]);
}

#[tokio::test(start_paused = true)]
async fn groups_are_administered_by_who_may() {
    let (_rig, denying, mut client, _) = rig().await;
    let group_alone = (Action::Describe, CLOSED_GROUP);
    denying.only(std::slice::from_ref(&group_alone));
    let describe =
        DescribeGroupsRequest::default().with_groups(["open", "closed"].map(group).to_vec());
    for version in [0, 5, 6] {
        let answer = client.call(version, describe.clone()).await;
        let codes: Vec<_> = answer.groups.iter().map(|one| one.error_code).collect();
        assert_eq!(codes, [0, GROUP]);
    }
    let find = FindCoordinatorRequest::default();
    let keys = vec![words("open"), words("closed")];
    let answer = client
        .call(4, find.clone().with_coordinator_keys(keys))
        .await;
    let told = answer
        .coordinators
        .iter()
        .map(|one| (one.error_code, one.port));
    assert_eq!(told.collect::<Vec<_>>(), [(0, 9092), (GROUP, -1)]);
    let answer = client.call(3, find.with_key(words("closed"))).await;
    assert_eq!((answer.error_code, answer.port), (GROUP, -1));

    let listed = async |client: &mut Client| {
        let answer = client.call(4, ListGroupsRequest::default()).await;
        assert_eq!(answer.error_code, 0);
        let mut ids: Vec<_> = answer
            .groups
            .iter()
            .map(|one| one.group_id.to_string())
            .collect();
        ids.sort_unstable();
        ids
    };
    // Who may know of the cluster may know of all its groups.
    assert_eq!(listed(&mut client).await, ["closed", "open"]);
    denying.only(&[group_alone, (Action::Describe, Resource::Cluster)]);
    assert_eq!(listed(&mut client).await, ["open"]);

    let forget = |of: &str| {
        let topics = ["open", "closed"].map(|topic| {
            OffsetDeleteRequestTopic::default()
                .with_name(name(topic))
                .with_partitions(vec![OffsetDeleteRequestPartition::default()])
        });
        OffsetDeleteRequest::default()
            .with_group_id(group(of))
            .with_topics(topics.to_vec())
    };
    denying.only(&[(Action::Delete, CLOSED_GROUP), (Action::Read, CLOSED_TOPIC)]);
    let answer = client.call(0, forget("closed")).await;
    assert_eq!((answer.error_code, answer.topics.len()), (GROUP, 0));
    let answer = client.call(0, forget("open")).await;
    let codes = answer.topics.iter().map(|one| one.partitions[0].error_code);
    assert_eq!(
        (answer.error_code, codes.collect::<Vec<_>>()),
        (0, vec![0, TOPIC])
    );
    let delete =
        DeleteGroupsRequest::default().with_groups_names(["closed", "open"].map(group).to_vec());
    let answer = client.call(2, delete).await;
    let codes: Vec<_> = answer.results.iter().map(|one| one.error_code).collect();
    assert_eq!(codes, [GROUP, 0]);
    denying.only(&[]);
    assert_eq!(listed(&mut client).await, ["closed"]);
}

#[tokio::test(start_paused = true)]
async fn of_the_cluster_only_its_nodes_are_told_to_everybody() {
    let (rig, denying, mut client, _) = rig().await;
    denying.only(&[
        (Action::IdempotentWrite, Resource::Cluster),
        (Action::Describe, Resource::Cluster),
        (Action::Alter, Resource::Cluster),
    ]);
    let answer = client
        .call(
            4,
            InitProducerIdRequest::default().with_transactional_id(None),
        )
        .await;
    assert_eq!((answer.error_code, answer.producer_id.0), (CLUSTER, -1));
    for version in 1..=4 {
        let request = DescribeLogDirsRequest::default().with_topics(None);
        let answer = client.call(version, request).await;
        let code = if version >= 3 { CLUSTER } else { 0 };
        assert_eq!((answer.error_code, answer.results.len()), (code, 0));
    }
    let request =
        DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
    let answer = client.call(1, request).await;
    assert_eq!((answer.error_code, answer.brokers.len()), (0, 1));
    assert_eq!(answer.cluster_authorized_operations, 0);
    let raised = rig
        .node
        .broker()
        .raise_level(&Session::internal("test"))
        .await;
    assert!(
        matches!(raised, Err(RaiseLevelError::Denied(_))),
        "{raised:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_one_may_do_is_told_when_asked_for() {
    let (_rig, denying, mut client, _) = rig().await;
    denying.only(&[
        (Action::Write, CLOSED_TOPIC),
        (Action::Delete, CLOSED_GROUP),
        (Action::Alter, Resource::Cluster),
    ]);
    let topic = MetadataRequestTopic::default().with_name(Some(name("closed")));
    let request = MetadataRequest::default()
        .with_topics(Some(vec![topic]))
        .with_include_topic_authorized_operations(true)
        .with_include_cluster_authorized_operations(true);
    let answer = client.call(10, request).await;
    assert_eq!(
        answer.topics[0].topic_authorized_operations,
        3576 & !(1 << 4)
    );
    assert_eq!(answer.cluster_authorized_operations, 8096 & !(1 << 7));
    let request = DescribeGroupsRequest::default()
        .with_groups(vec![group("closed")])
        .with_include_authorized_operations(true);
    let answer = client.call(5, request).await;
    assert_eq!(answer.groups[0].authorized_operations, 328 & !(1 << 6));
}

/// However a request is made, its denial is an answer that the codec reads.
#[tokio::test(start_paused = true)]
async fn who_may_do_nothing_is_answered_by_every_api_in_every_version() {
    let (rig, denying, mut client, _) = rig().await;
    denying.everything();
    super::everything::every_request_is_answered(&rig, &mut client).await;
}
