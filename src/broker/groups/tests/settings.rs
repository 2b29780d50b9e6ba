//! The settings of groups are the cluster's: set through any node, in force on all.

use super::*;

#[tokio::test(start_paused = true)]
async fn settings_of_groups_are_in_force_on_all_nodes_once_they_are_set() {
    let store = Store::memory();
    let (a, b) = (node(&store, 1).await, node(&store, 2).await);
    let mut client = Client::of(&b, "c");
    let short = Duration::from_secs(2);
    let request = JoinRequest {
        session_timeout: short,
        ..client.request()
    };
    let refused = client
        .broker
        .join_group(&client.session, request.clone())
        .await;
    assert!(matches!(
        refused,
        Err(GroupOpError::InvalidSessionTimeout { .. })
    ));
    let settings = [
        ("group.min.session.timeout.ms", "1000"),
        ("group.max.session.timeout.ms", "20000"),
        ("group.max.size", "1"),
        ("offset.metadata.max.bytes", "3"),
    ];
    set(&a, &settings).await.unwrap();
    b.broker.manifest().fresh().await.unwrap();
    let admitted = client.broker.join_group(&client.session, request).await;
    assert!(matches!(admitted, Err(GroupOpError::MemberIdRequired(_))));
    client.rejoin(1).await;
    let mut second = Client::of(&a, "d");
    assert_eq!(
        second.join().await,
        Err(GroupOpError::GroupMaxSizeReached(1))
    );
    let partition = topic(&a).await;
    let commit = |text: &str| CommitOffset {
        partition,
        offset: Offset(1),
        leader_epoch: None,
        metadata: Some(text.to_owned()),
    };
    let both = vec![commit("abc"), commit("abcd")];
    let outcomes = b
        .broker
        .commit_offsets(&client.session, &client.identity(), both)
        .await;
    let too_large = GroupOpError::OffsetMetadataTooLarge { found: 4, limit: 3 };
    assert_eq!(outcomes, Ok(vec![Ok(()), Err(too_large)]));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_settings_of_its_own_goes_by_them() {
    let store = Store::memory();
    let (a, b) = (node(&store, 1).await, node(&store, 2).await);
    let of_b = || ConfigResource::Node(b.broker.node_id().unwrap().0);
    let bounds = [("group.max.session.timeout.ms", "6000")];
    set_for(of_b(), &a, &bounds).await.unwrap();
    b.broker.manifest().fresh().await.unwrap();
    let (mut here, mut there) = (Client::of(&a, "a"), Client::of(&b, "b"));
    assert!(matches!(
        there.join().await,
        Err(GroupOpError::InvalidSessionTimeout { max: 6000, .. })
    ));
    here.rejoin(1).await;
    // The bounds of one node fit together, wherever each was set.
    for (name, value) in [
        ("group.min.session.timeout.ms", "6001"),
        ("offsets.retention.minutes", "60"),
    ] {
        let refused = set_for(of_b(), &a, &[(name, value)]).await;
        assert!(
            matches!(refused, Err(TopicError::InvalidConfig(_))),
            "{name}: {refused:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn settings_of_groups_are_checked() {
    let store = Store::memory();
    let a = node(&store, 1).await;
    for (name, value) in [
        ("group.min.session.timeout.ms", "0"),
        ("group.min.session.timeout.ms", "1800001"),
        ("group.max.session.timeout.ms", "5999"),
        ("group.max.size", "0"),
        ("group.initial.rebalance.delay.ms", "-1"),
        ("offset.metadata.max.bytes", "-1"),
        ("offsets.retention.minutes", "0"),
        ("offsets.retention.minutes", "long"),
    ] {
        let refused = set(&a, &[(name, value)]).await;
        assert!(
            matches!(refused, Err(TopicError::InvalidConfig(_))),
            "{name}={value}"
        );
    }
}

/// The limit counts UTF-16 units, as Java's `String.length` does; whatever is set, the state keeps to its own bound.
#[tokio::test(start_paused = true)]
async fn metadata_of_offsets_is_measured_in_characters() {
    let store = Store::memory();
    let a = node(&store, 1).await;
    let partition = topic(&a).await;
    let client = Client::of(&a, "c");
    let commit = async |text: String| {
        let commit = CommitOffset {
            partition,
            offset: Offset(1),
            leader_epoch: None,
            metadata: Some(text),
        };
        let identity = client.identity();
        let outcomes = a
            .broker
            .commit_offsets(&client.session, &identity, vec![commit]);
        outcomes.await.unwrap().remove(0)
    };
    assert_eq!(commit("\u{fc}".repeat(4096)).await, Ok(()));
    assert_eq!(commit("\u{1d11e}".repeat(2048)).await, Ok(()));
    for text in ["\u{fc}".repeat(4097), "\u{1d11e}".repeat(2049)] {
        let refused = commit(text).await;
        assert!(matches!(
            refused,
            Err(GroupOpError::OffsetMetadataTooLarge { .. })
        ));
    }
    set(&a, &[("offset.metadata.max.bytes", "100000")])
        .await
        .unwrap();
    assert_eq!(commit("x".repeat(32_767)).await, Ok(()));
    let refused = commit("\u{fc}".repeat(16_384)).await;
    assert!(matches!(
        refused,
        Err(GroupOpError::OffsetMetadataTooLarge { .. })
    ));
}
