//! Members on several nodes: rebalances, moves, silence, death.

use super::*;

/// Two clients on two nodes in one stable generation, with their assignments of four partitions.
async fn two_in_a_group(a: &TestNode, b: &TestNode) -> (Client, Client) {
    let (mut first, mut second) = (Client::of(a, "first"), Client::of(b, "second"));
    let (of_first, of_second) = tokio::join!(first.rejoin(4), second.rejoin(4));
    assert_eq!(first.generation, second.generation);
    let mut all = [of_first, of_second].concat();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3]);
    (first, second)
}

#[tokio::test(start_paused = true)]
async fn members_on_different_nodes_share_one_rebalance() {
    let store = Store::memory();
    let (a, b) = (node(&store, 1).await, node(&store, 2).await);
    let (first, _second) = two_in_a_group(&a, &b).await;
    assert_eq!(
        first.generation,
        Generation(1),
        "the initial delay gathered both"
    );
    let description = describe(&b).await;
    assert_eq!(
        (description.state, description.protocol.as_str()),
        ("Stable", "range")
    );
    assert_eq!(description.members.len(), 2);
    assert!(
        description
            .members
            .iter()
            .all(|m| m.assignment.len() == 2 && m.metadata == "m")
    );
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_on_another_node_gets_its_share() {
    let store = Store::memory();
    let (a, b) = (node(&store, 1).await, node(&store, 2).await);
    let mut first = Client::of(&a, "first");
    assert_eq!(first.rejoin(4).await, [0, 1, 2, 3]);
    let mut second = Client::of(&b, "second");
    let (of_first, of_second) = tokio::join!(
        async {
            let told = first.live(REBALANCE).await;
            assert_eq!(told, Err(GroupOpError::RebalanceInProgress));
            first.rejoin(4).await
        },
        second.rejoin(4),
    );
    assert_eq!((of_first.len(), of_second.len()), (2, 2));
    assert_eq!(second.generation, Generation(2));
}

#[tokio::test(start_paused = true)]
async fn heartbeats_are_not_committed() {
    let store = Store::memory();
    let (a, b) = (node(&store, 1).await, node(&store, 2).await);
    let (first, second) = two_in_a_group(&a, &b).await;
    let before = a.broker.manifest().fresh().await.unwrap();
    let (x, y) = tokio::join!(first.live(SESSION * 6), second.live(SESSION * 6));
    assert_eq!((x, y), (Ok(()), Ok(())));
    let after = a.broker.manifest().fresh().await.unwrap();
    let group_before = before.group(&group()).unwrap();
    assert_eq!(
        after.group(&group()),
        Some(group_before),
        "nothing happened to the group"
    );
    // Two leases of 10 s, renewed for a minute, and nothing else.
    assert!(
        after.seq().0 - before.seq().0 < 60,
        "{} commits",
        after.seq().0 - before.seq().0
    );
}

#[tokio::test(start_paused = true)]
async fn a_member_that_moves_to_another_node_goes_on_without_a_rebalance() {
    let store = Store::memory();
    let (a, b) = (node(&store, 1).await, node(&store, 2).await);
    let (mut first, second) = two_in_a_group(&a, &b).await;
    first.move_to(&b);
    let (x, y) = tokio::join!(first.live(SESSION * 4), second.live(SESSION * 4));
    assert_eq!((x, y), (Ok(()), Ok(())));
    assert_eq!(describe(&a).await.members.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_silent_member_is_expired_by_its_node() {
    let store = Store::memory();
    let (a, b) = (node(&store, 1).await, node(&store, 2).await);
    let (mut first, second) = two_in_a_group(&a, &b).await;
    let told = first.live(SESSION * 2).await;
    assert_eq!(told, Err(GroupOpError::RebalanceInProgress));
    assert_eq!(first.rejoin(4).await, [0, 1, 2, 3]);
    assert!(matches!(
        second.heartbeat().await,
        Err(GroupOpError::UnknownMember(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn members_of_a_killed_node_go_on_at_another_without_a_rebalance() {
    let store = Store::memory();
    let (a, b) = (node(&store, 1).await, node(&store, 2).await);
    let (mut first, second) = two_in_a_group(&a, &b).await;
    a.kill();
    assert!(
        first.commit(topic(&b).await, 1).await.is_err(),
        "the node is dead"
    );
    first.move_to(&b);
    let (x, y) = tokio::join!(first.live(SESSION * 6), second.live(SESSION * 6));
    assert_eq!((x, y), (Ok(()), Ok(())));
    assert_eq!(describe(&b).await.members.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn members_who_die_with_their_node_are_expired() {
    let store = Store::memory();
    let (a, b) = (node(&store, 1).await, node(&store, 2).await);
    let (_first, mut second) = two_in_a_group(&a, &b).await;
    a.kill();
    let start = tokio::time::Instant::now();
    assert_eq!(
        second.live(REBALANCE).await,
        Err(GroupOpError::RebalanceInProgress)
    );
    // The lease of the node, then the session of the member, and a margin.
    assert!(
        start.elapsed() < Duration::from_secs(10 + 10 + 8),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(second.rejoin(4).await, [0, 1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_node_cut_off_from_the_log_stops_saying_that_all_is_well() {
    let store = Store::memory();
    let a = node(&store, 1).await;
    let mut first = Client::of(&a, "first");
    first.rejoin(4).await;
    assert_eq!(first.live(SESSION * 2).await, Ok(()));
    // Only the task that talks to the store dies.
    a.tasks[0].abort();
    let start = tokio::time::Instant::now();
    let told = first.live(SESSION * 4).await;
    assert!(
        matches!(told, Err(GroupOpError::Unavailable(_))),
        "{told:?}"
    );
    assert!(
        start.elapsed() < Duration::from_secs(14),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_join_whose_client_went_away_is_expired() {
    let store = Store::memory();
    let a = node(&store, 1).await;
    let mut first = Client::of(&a, "first");
    first.rejoin(4).await;
    let mut gone = Client::of(&a, "gone");
    // It waits for the first member to rejoin, and its client hangs up.
    assert!(
        tokio::time::timeout(Duration::from_secs(5), gone.join())
            .await
            .is_err()
    );
    assert_eq!(describe(&a).await.members.len(), 2);
    let joined = first.join().await.unwrap();
    assert_eq!(joined.members.len(), 2);
    first.sync(&joined, 4).await.unwrap();
    let told = first.live(SESSION * 2).await;
    assert_eq!(told, Err(GroupOpError::RebalanceInProgress));
    assert_eq!(first.rejoin(4).await, [0, 1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn members_who_do_not_rejoin_do_not_hold_the_rebalance_up_for_ever() {
    let store = Store::memory();
    let (a, b) = (node(&store, 1).await, node(&store, 2).await);
    let (first, _second) = two_in_a_group(&a, &b).await;
    let mut third = Client::of(&b, "third");
    let stubborn = async {
        // Heartbeats, but never rejoins.
        loop {
            sleep(Duration::from_secs(3)).await;
            match first.heartbeat().await {
                Ok(()) | Err(GroupOpError::RebalanceInProgress) => {}
                Err(error) => return error,
            }
        }
    };
    let (of_third, told) = tokio::join!(third.rejoin(4), stubborn);
    assert_eq!(of_third, [0, 1, 2, 3]);
    assert!(matches!(told, GroupOpError::UnknownMember(_)), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_static_member_restarts_on_another_node_without_a_rebalance() {
    let store = Store::memory();
    let (a, b) = (node(&store, 1).await, node(&store, 2).await);
    let mut first = Client::of_instance(&a, "i1");
    let mut second = Client::of_instance(&b, "i2");
    let (of_first, of_second) = tokio::join!(first.rejoin(4), second.rejoin(4));
    let mut restarted = Client::of_instance(&b, "i1");
    let joined = restarted.join().await.unwrap();
    assert_eq!(
        (joined.generation, joined.skip_assignment),
        (second.generation, joined.leader == joined.member,)
    );
    assert_eq!(restarted.sync(&joined, 4).await.unwrap(), of_first);
    assert_eq!(of_first.len() + of_second.len(), 4);
    // The old node answers from memory until it has followed the log, which it does all the time.
    sleep(Duration::from_secs(1)).await;
    assert_eq!(
        first.heartbeat().await,
        Err(GroupOpError::FencedInstance("i1".into()))
    );
    assert_eq!(second.heartbeat().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_static_member_that_waits_is_told_when_another_takes_its_place() {
    let store = Store::memory();
    let (a, b) = (node(&store, 1).await, node(&store, 2).await);
    let mut first = Client::of(&a, "first");
    first.rejoin(4).await;
    let mut waiting = Client::of_instance(&a, "i1");
    let mut usurper = Client::of_instance(&b, "i1");
    let (waited, ()) = tokio::join!(waiting.join(), async {
        sleep(Duration::from_secs(1)).await;
        let usurped = tokio::time::timeout(Duration::from_secs(1), usurper.join()).await;
        assert!(usurped.is_err(), "it waits for the first member");
    });
    assert_eq!(
        waited.unwrap_err(),
        GroupOpError::FencedInstance("i1".into())
    );
}

#[tokio::test(start_paused = true)]
async fn a_member_that_leaves_makes_room_at_once() {
    let store = Store::memory();
    let (a, b) = (node(&store, 1).await, node(&store, 2).await);
    let (mut first, second) = two_in_a_group(&a, &b).await;
    assert_eq!(second.leave().await, Ok(()));
    assert!(matches!(
        second.leave().await,
        Err(GroupOpError::UnknownMember(_))
    ));
    assert_eq!(first.rejoin(4).await, [0, 1, 2, 3]);
    assert_eq!(first.leave().await, Ok(()));
    assert_eq!(
        describe(&b).await.state,
        "Empty",
        "it stays when nothing of it is left"
    );
    sleep(Duration::from_secs(590)).await;
    assert_eq!(describe(&a).await.state, "Empty");
    // A look for old offsets, every ten minutes, is its end.
    sleep(Duration::from_secs(2_000)).await;
    assert_eq!(describe(&b).await.state, "Dead");
}

#[tokio::test(start_paused = true)]
async fn a_lone_first_member_waits_no_longer_than_the_initial_delay() {
    let store = Store::memory();
    let a = node(&store, 1).await;
    let mut first = Client::of(&a, "first");
    let start = tokio::time::Instant::now();
    first.join().await.unwrap();
    let waited = start.elapsed();
    assert!(
        waited >= Duration::from_millis(500) && waited < Duration::from_millis(700),
        "{waited:?}"
    );
}
