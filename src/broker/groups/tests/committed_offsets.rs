//! Offsets across nodes.

use tokio::time::Instant;

use super::*;
use crate::broker::{FetchLimits, FetchPartition, TopicRef};
use crate::state::{OFFSETS_TOPIC, offsets_partition_of};
use crate::types::TopicId;

async fn in_a_group(node: &TestNode) -> Client {
    let mut client = Client::of(node, "first");
    client.rejoin(4).await;
    client
}

#[tokio::test(start_paused = true)]
async fn an_offset_committed_at_one_node_is_read_at_another_at_once() {
    let store = Store::memory();
    let (a, b) = (node(&store, 1).await, node(&store, 2).await);
    let partition = topic(&a).await;
    let client = in_a_group(&a).await;
    for n in [5, 3, 9] {
        client.commit(partition, n).await.unwrap();
        assert_eq!(offset(&b, partition).await, Some(n));
    }
    let session = Session::internal("admin");
    let other = TopicPartition {
        partition: PartitionIndex(1),
        ..partition
    };
    let asked = b
        .broker
        .committed_offsets(&session, &group(), Some(&[other]))
        .await
        .unwrap();
    assert!(asked.is_empty(), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_commit_of_a_past_generation_is_fenced_on_every_node() {
    let store = Store::memory();
    let (a, b) = (node(&store, 1).await, node(&store, 2).await);
    let partition = topic(&a).await;
    let mut client = in_a_group(&a).await;
    client.commit(partition, 1).await.unwrap();
    client.rejoin(4).await;
    let (found, current) = (Generation(1), Generation(2));
    client.generation = found;
    for node in [&a, &b] {
        client.move_to(node);
        let stale = client.commit(partition, 7).await;
        assert_eq!(
            stale,
            Err(GroupOpError::IllegalGeneration { found, current })
        );
    }
    assert_eq!(offset(&b, partition).await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_commit_of_an_expired_member_is_fenced() {
    let store = Store::memory();
    let (a, b) = (node(&store, 1).await, node(&store, 2).await);
    let partition = topic(&a).await;
    let mut sleeper = in_a_group(&a).await;
    sleeper.commit(partition, 1).await.unwrap();
    sleep(SESSION * 2).await;
    let mut other = Client::of(&b, "other");
    assert_eq!(other.rejoin(4).await, [0, 1, 2, 3]);
    other.commit(partition, 5).await.unwrap();
    for node in [&a, &b] {
        sleeper.move_to(node);
        let stale = sleeper.commit(partition, 2).await;
        assert!(
            matches!(stale, Err(GroupOpError::UnknownMember(_))),
            "{stale:?}"
        );
    }
    assert_eq!(offset(&a, partition).await, Some(5));
}

#[tokio::test(start_paused = true)]
async fn a_member_that_only_commits_is_alive_also_at_another_node() {
    let store = Store::memory();
    let (a, b) = (node(&store, 1).await, node(&store, 2).await);
    let partition = topic(&a).await;
    let mut client = in_a_group(&a).await;
    for n in 0..20 {
        if n == 5 {
            client.move_to(&b);
        }
        sleep(SESSION / 2).await;
        client.commit(partition, n).await.unwrap();
    }
    assert_eq!(describe(&a).await.members.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_without_membership_commits_while_nobody_is_in_the_group() {
    let store = Store::memory();
    let (a, b) = (node(&store, 1).await, node(&store, 2).await);
    let partition = topic(&a).await;
    let simple = Client::of(&b, "simple");
    simple.commit(partition, 4).await.unwrap();
    assert_eq!(offset(&a, partition).await, Some(4));
    let _member = in_a_group(&a).await;
    assert!(matches!(
        simple.commit(partition, 5).await,
        Err(GroupOpError::UnknownMember(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn bad_offsets_are_refused_one_by_one() {
    let store = Store::memory();
    let a = node(&store, 1).await;
    let partition = topic(&a).await;
    let client = Client::of(&a, "simple");
    let offset = |partition, metadata: Option<String>| CommitOffset {
        partition,
        offset: Offset(1),
        leader_epoch: Some(0),
        metadata,
    };
    let absent = TopicPartition {
        topic: TopicId::default(),
        ..partition
    };
    let beyond = TopicPartition {
        partition: PartitionIndex(4),
        ..partition
    };
    let offsets = vec![
        offset(absent, None),
        offset(beyond, None),
        offset(partition, Some("x".repeat(4097))),
        offset(partition, Some("x".repeat(4096))),
    ];
    let outcomes = a
        .broker
        .commit_offsets(&client.session, &client.identity(), offsets)
        .await
        .unwrap();
    assert_eq!(
        outcomes,
        [
            Err(GroupOpError::UnknownPartition),
            Err(GroupOpError::UnknownPartition),
            Err(GroupOpError::OffsetMetadataTooLarge {
                found: 4097,
                limit: 4096,
            }),
            Ok(()),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn offsets_are_deleted_unless_somebody_subscribes() {
    let store = Store::memory();
    let (a, b) = (node(&store, 1).await, node(&store, 2).await);
    let partition = topic(&a).await;
    let session = Session::internal("admin");
    let absent = TopicPartition {
        topic: TopicId::default(),
        ..partition
    };
    let delete = |node: &TestNode| {
        let broker = node.broker.clone();
        let session = session.clone();
        async move {
            broker
                .delete_offsets(&session, &group(), &[absent, partition])
                .await
        }
    };
    assert_eq!(delete(&b).await, Err(GroupOpError::GroupIdNotFound));
    let mut client = in_a_group(&a).await;
    client.commit(partition, 1).await.unwrap();
    // Metadata that is no subscription might be one to anything.
    let outcomes = delete(&b).await.unwrap();
    assert_eq!(
        outcomes,
        [
            Err(GroupOpError::UnknownPartition),
            Err(GroupOpError::GroupSubscribedToTopic)
        ]
    );
    client.leave().await.unwrap();
    let outcomes = delete(&b).await.unwrap();
    assert_eq!(outcomes, [Err(GroupOpError::UnknownPartition), Ok(())]);
    assert_eq!(offset(&a, partition).await, None);
    client.member = None;
}

#[tokio::test(start_paused = true)]
async fn a_group_is_deleted_when_its_members_are_gone() {
    let store = Store::memory();
    let (a, b) = (node(&store, 1).await, node(&store, 2).await);
    let partition = topic(&a).await;
    let session = Session::internal("admin");
    let client = in_a_group(&a).await;
    client.commit(partition, 1).await.unwrap();
    let delete = b.broker.delete_group(&session, &group()).await;
    assert_eq!(delete, Err(GroupOpError::NonEmptyGroup));
    client.leave().await.unwrap();
    let listed = b.broker.list_groups(&session).await.unwrap();
    assert_eq!(
        listed,
        [GroupListing {
            group: group(),
            protocol_type: "consumer".into(),
            state: "Empty",
        }]
    );
    assert_eq!(b.broker.delete_group(&session, &group()).await, Ok(()));
    let again = b.broker.delete_group(&session, &group()).await;
    assert_eq!(again, Err(GroupOpError::GroupIdNotFound));
    assert_eq!(a.broker.list_groups(&session).await, Ok(Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn offsets_of_a_group_out_of_use_are_forgotten_in_time() {
    let store = Store::memory();
    let retention = Duration::from_secs(3600);
    let (a, b) = (node(&store, 1).await, node(&store, 2).await);
    set(&b, &[("offsets.retention.minutes", "60")])
        .await
        .unwrap();
    let partition = topic(&a).await;
    Client::of(&a, "simple").commit(partition, 4).await.unwrap();
    sleep(retention - Duration::from_secs(60)).await;
    assert_eq!(offset(&b, partition).await, Some(4));
    sleep(Duration::from_secs(1200)).await;
    assert_eq!(offset(&b, partition).await, None);
}

/// The topic has no segments and no deletions, and is followed and confirmed as any other.
#[tokio::test(start_paused = true)]
async fn a_reader_that_waits_at_the_end_of_the_offsets_topic_hears_of_a_commit_through_another_node()
 {
    let store = Store::memory();
    let (a, b) = (node(&store, 1).await, node(&store, 2).await);
    let partition = topic(&a).await;
    let commit = async |offset| {
        let client = Client::of(&a, "simple");
        client.commit(partition, offset).await.unwrap();
    };
    commit(4).await;
    let wanted = |offset| FetchPartition {
        topic: TopicRef::Name(OFFSETS_TOPIC.to_owned()),
        partition: offsets_partition_of(&group()),
        offset,
        max_bytes: 1_000_000,
        current_leader_epoch: None,
    };
    let limits = FetchLimits {
        max_bytes: 1_000_000,
        min_bytes: 1,
        max_wait: Duration::from_secs(30),
        read_committed: false,
    };
    let session = Session::internal("exporter");
    let read = async |offset| {
        let wanted = [wanted(offset)];
        let mut answer = b.broker.fetch(&session, &wanted, limits).await;
        answer.pop().unwrap().unwrap()
    };
    let found = read(Offset::ZERO).await;
    assert!(!found.is_empty());
    let began = Instant::now();
    let later = async {
        sleep(Duration::from_secs(2)).await;
        commit(5).await;
    };
    let (more, ()) = tokio::join!(read(found.high_watermark), later);
    assert!(!more.is_empty() && more.high_watermark > found.high_watermark);
    assert!(began.elapsed() < Duration::from_secs(4));
}
