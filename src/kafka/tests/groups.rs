//! Groups: membership, offsets, administration.

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, GroupId, HeartbeatRequest, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, SyncGroupRequest,
};

use super::*;

fn group(id: &str) -> GroupId {
    GroupId(words(id))
}

fn join_request(version: i16, of: &str, member: &str) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(words("range"))
        .with_metadata(Bytes::from_static(b"metadata"));
    let request = JoinGroupRequest::default()
        .with_group_id(group(of))
        .with_session_timeout_ms(10_000)
        .with_member_id(words(member))
        .with_protocol_type(words("consumer"))
        .with_protocols(vec![protocol]);
    match version {
        0 => request,
        _ => request.with_rebalance_timeout_ms(20_000),
    }
}

/// Joins as the only member, as a client does: again with the id that it is given (KIP-394).
async fn join(client: &mut Client, version: i16, of: &str) -> JoinGroupResponse {
    let first = client.call(version, join_request(version, of, "")).await;
    if version < 4 {
        return first;
    }
    assert_eq!(first.error_code, 79);
    assert_eq!(first.generation_id, -1);
    let request = join_request(version, of, &first.member_id);
    client.call(version, request).await
}

#[tokio::test(start_paused = true)]
async fn a_member_joins_syncs_beats_and_leaves_in_every_version() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    for version in 0..=9 {
        let of = format!("g{version}");
        let joined = join(&mut client, version, &of).await;
        assert_eq!(
            (joined.error_code, joined.generation_id),
            (0, 1),
            "{joined:?}"
        );
        assert_eq!(joined.leader, joined.member_id);
        assert_eq!(joined.protocol_name.as_deref(), Some("range"));
        assert_eq!(joined.members.len(), 1);
        assert_eq!(joined.members[0].metadata, "metadata");
        let member = joined.member_id;

        let version_of_sync = version.min(5);
        let assignment = SyncGroupRequestAssignment::default()
            .with_member_id(member.clone())
            .with_assignment(Bytes::from_static(b"assignment"));
        let mut sync = SyncGroupRequest::default()
            .with_group_id(group(&of))
            .with_generation_id(1)
            .with_member_id(member.clone())
            .with_assignments(vec![assignment]);
        if version_of_sync >= 5 {
            let nameless = sync.clone();
            assert_eq!(client.call(5, nameless).await.error_code, 23);
            sync = sync
                .with_protocol_type(Some(words("consumer")))
                .with_protocol_name(Some(words("range")));
        }
        let synced = client.call(version_of_sync, sync).await;
        assert_eq!(
            (synced.error_code, &synced.assignment[..]),
            (0, &b"assignment"[..])
        );

        for (member, generation, code) in
            [(&member, 1, 0), (&member, 7, 22), (&words("who"), 1, 25)]
        {
            let beat = HeartbeatRequest::default()
                .with_group_id(group(&of))
                .with_generation_id(generation)
                .with_member_id(member.clone());
            assert_eq!(client.call(version.min(4), beat).await.error_code, code);
        }

        let leave = LeaveGroupRequest::default().with_group_id(group(&of));
        let version_of_leave = version.min(5);
        if version_of_leave >= 3 {
            let members = [member.clone(), words("who")]
                .map(|member| MemberIdentity::default().with_member_id(member));
            let left = client
                .call(version_of_leave, leave.with_members(members.to_vec()))
                .await;
            let codes: Vec<_> = left.members.iter().map(|one| one.error_code).collect();
            assert_eq!((left.error_code, codes), (0, vec![0, 25]));
        } else {
            let leave = leave.with_member_id(member);
            assert_eq!(
                client
                    .call(version_of_leave, leave.clone())
                    .await
                    .error_code,
                0
            );
            assert_eq!(client.call(version_of_leave, leave).await.error_code, 25);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_bad_join_has_its_code() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    for version in 0..=9 {
        let good = |of| join_request(version, of, "");
        let cases = [
            ("an empty group id", good(""), 24),
            (
                "an unknown member",
                good("g").with_member_id(words("who")),
                25,
            ),
            (
                "too short a timeout",
                good("g").with_session_timeout_ms(1),
                26,
            ),
            (
                "a negative timeout",
                good("g").with_session_timeout_ms(-1),
                26,
            ),
            (
                "too long a timeout",
                good("g").with_session_timeout_ms(i32::MAX),
                26,
            ),
            ("no protocols", good("g").with_protocols(Vec::new()), 23),
        ];
        for (what, request, code) in cases {
            let answer = client.call(version, request).await;
            assert_eq!(answer.error_code, code, "{what} in version {version}");
            assert_eq!(answer.protocol_name.is_none(), version >= 7);
        }
    }
}

fn commit_request(of: &str, topic: &str, partition: i32, offset: i64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(partition)
        .with_committed_offset(offset)
        .with_committed_metadata(Some(words("note")));
    let topic = OffsetCommitRequestTopic::default()
        .with_name(name(topic))
        .with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(group(of))
        .with_topics(vec![topic])
}

async fn commit(client: &mut Client, version: i16, request: OffsetCommitRequest) -> i16 {
    client.call(version, request).await.topics[0].partitions[0].error_code
}

/// Offset, metadata and error of a partition.
async fn committed(
    client: &mut Client,
    version: i16,
    of: &str,
    topic: &str,
    partition: i32,
) -> (i64, String, i16) {
    let request = OffsetFetchRequest::default();
    if version >= 8 {
        let topic = OffsetFetchRequestTopics::default()
            .with_name(name(topic))
            .with_partition_indexes(vec![partition]);
        let of = OffsetFetchRequestGroup::default()
            .with_group_id(group(of))
            .with_topics(Some(vec![topic]));
        let answer = client.call(version, request.with_groups(vec![of])).await;
        let of = &answer.groups[0];
        let one = &of.topics[0].partitions[0];
        let metadata = one.metadata.as_ref().unwrap().to_string();
        return (
            one.committed_offset,
            metadata,
            of.error_code + one.error_code,
        );
    }
    let topic = OffsetFetchRequestTopic::default()
        .with_name(name(topic))
        .with_partition_indexes(vec![partition]);
    let request = request
        .with_group_id(group(of))
        .with_topics(Some(vec![topic]));
    let answer = client.call(version, request).await;
    let one = &answer.topics[0].partitions[0];
    let metadata = one.metadata.as_ref().unwrap().to_string();
    (
        one.committed_offset,
        metadata,
        answer.error_code + one.error_code,
    )
}

#[tokio::test(start_paused = true)]
async fn offsets_are_committed_and_fetched_in_every_version() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    create(&mut client, "t", 2).await;
    for version in 2..=9 {
        let offset = i64::from(version) * 10;
        let good = commit_request("g", "t", 1, offset);
        assert_eq!(commit(&mut client, version, good.clone()).await, 0);
        for version in 1..=9 {
            let found = committed(&mut client, version, "g", "t", 1).await;
            assert_eq!(found, (offset, "note".to_owned(), 0), "version {version}");
            let nothing = (-1, String::new(), 0);
            for (of, topic, partition) in
                [("g", "t", 0), ("g", "t", 9), ("g", "no", 0), ("h", "t", 1)]
            {
                let found = committed(&mut client, version, of, topic, partition).await;
                assert_eq!(
                    found, nothing,
                    "{of} {topic} {partition} in version {version}"
                );
            }
        }
        let unknown = commit_request("g", "nowhere", 0, 1);
        assert_eq!(commit(&mut client, version, unknown).await, 3);
        assert_eq!(
            commit(&mut client, version, commit_request("g", "t", 2, 1)).await,
            3
        );
        let stale = good
            .with_generation_id_or_member_epoch(3)
            .with_member_id(words("who"));
        assert_eq!(commit(&mut client, version, stale).await, 25);
    }
    let mut long = commit_request("g", "t", 0, 1);
    long.topics[0].partitions[0].committed_metadata = Some(words(&"x".repeat(5000)));
    assert_eq!(commit(&mut client, 8, long).await, 12);

    // All of a group.
    for version in 2..=7 {
        let request = OffsetFetchRequest::default()
            .with_group_id(group("g"))
            .with_topics(None);
        let answer = client.call(version, request).await;
        assert_eq!(answer.topics.len(), 1);
        assert_eq!(answer.topics[0].partitions[0].committed_offset, 90);
    }
    for version in 8..=9 {
        let groups = ["g", "h"].map(|of| {
            OffsetFetchRequestGroup::default()
                .with_group_id(group(of))
                .with_topics(None)
        });
        let request = OffsetFetchRequest::default().with_groups(groups.to_vec());
        let answer = client.call(version, request).await;
        assert_eq!(
            answer.groups[0].topics[0].partitions[0].committed_offset,
            90
        );
        assert!(answer.groups[1].topics.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn offsets_of_a_topic_that_was_deleted_are_gone() {
    use kafka_protocol::messages::DeleteTopicsRequest;
    let rig = Rig::new().await;
    let mut client = rig.connect();
    create(&mut client, "t", 1).await;
    assert_eq!(
        commit(&mut client, 8, commit_request("g", "t", 0, 5)).await,
        0
    );
    let request = DeleteTopicsRequest::default().with_topic_names(vec![name("t")]);
    assert_eq!(client.call(5, request).await.responses[0].error_code, 0);
    create(&mut client, "t", 1).await;
    assert_eq!(committed(&mut client, 7, "g", "t", 0).await.0, -1);
}

#[tokio::test(start_paused = true)]
async fn groups_are_listed_described_and_deleted() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    create(&mut client, "t", 1).await;
    assert_eq!(
        commit(&mut client, 8, commit_request("idle", "t", 0, 5)).await,
        0
    );
    let joined = join(&mut client, 9, "busy").await;
    assert_eq!(joined.error_code, 0);
    let listed = async |client: &mut Client, version, states: &[&str], types: &[&str]| {
        let words = |filter: &[&str]| filter.iter().map(|one| words(one)).collect();
        let mut request = ListGroupsRequest::default();
        if version >= 4 {
            request = request.with_states_filter(words(states));
        }
        if version >= 5 {
            request = request.with_types_filter(words(types));
        }
        let answer = client.call(version, request).await;
        assert_eq!(answer.error_code, 0);
        let mut names: Vec<_> = answer
            .groups
            .iter()
            .map(|one| one.group_id.to_string())
            .collect();
        names.sort_unstable();
        names
    };
    for version in 0..=5 {
        assert_eq!(
            listed(&mut client, version, &[], &[]).await,
            ["busy", "idle"]
        );
    }
    assert_eq!(listed(&mut client, 4, &["empty"], &[]).await, ["idle"]);
    assert_eq!(listed(&mut client, 5, &[], &["Classic"]).await.len(), 2);
    assert!(listed(&mut client, 5, &[], &["consumer"]).await.is_empty());

    for version in 0..=6 {
        let groups = ["busy", "idle", "nowhere"].map(group).to_vec();
        let mut request = DescribeGroupsRequest::default().with_groups(groups);
        if version >= 3 {
            request = request.with_include_authorized_operations(true);
        }
        let answer = client.call(version, request).await;
        let [busy, idle, nowhere] = &answer.groups[..] else {
            panic!("{answer:?}");
        };
        assert_eq!((busy.error_code, busy.members.len()), (0, 1));
        assert_eq!(busy.members[0].client_id.as_str(), "test");
        assert_eq!((idle.error_code, idle.group_state.as_str()), (0, "Empty"));
        assert_eq!(nowhere.group_state.as_str(), "Dead");
        assert_eq!(nowhere.error_code, if version >= 6 { 69 } else { 0 });
        if version >= 3 {
            assert_eq!(idle.authorized_operations, 328);
        }
    }
    for version in 0..=2 {
        let names = ["busy", "nowhere", ""].map(group).to_vec();
        let request = DeleteGroupsRequest::default().with_groups_names(names);
        let answer = client.call(version, request).await;
        let code = |one: &DeletableGroupResult| one.error_code;
        let codes: Vec<_> = answer.results.iter().map(code).collect();
        assert_eq!(codes, [68, 69, 69]);
    }
    let request = DeleteGroupsRequest::default().with_groups_names(vec![group("idle")]);
    assert_eq!(client.call(2, request).await.results[0].error_code, 0);
    assert_eq!(listed(&mut client, 5, &[], &[]).await, ["busy"]);
}

#[tokio::test(start_paused = true)]
async fn committed_offsets_are_forgotten_on_demand() {
    let rig = Rig::new().await;
    let mut client = rig.connect();
    create(&mut client, "t", 2).await;
    assert_eq!(
        commit(&mut client, 8, commit_request("g", "t", 0, 5)).await,
        0
    );
    let request = |of: &str| {
        let partition = |index| OffsetDeleteRequestPartition::default().with_partition_index(index);
        let topic = OffsetDeleteRequestTopic::default()
            .with_name(name("t"))
            .with_partitions(vec![partition(0), partition(9)]);
        OffsetDeleteRequest::default()
            .with_group_id(group(of))
            .with_topics(vec![topic])
    };
    let answer = client.call(0, request("nowhere")).await;
    assert_eq!((answer.error_code, answer.topics.len()), (69, 0));
    let answer = client.call(0, request("g")).await;
    let codes: Vec<_> = answer.topics[0]
        .partitions
        .iter()
        .map(|one| one.error_code)
        .collect();
    assert_eq!((answer.error_code, codes), (0, vec![0, 3]));
    assert_eq!(committed(&mut client, 7, "g", "t", 0).await.0, -1);
}
