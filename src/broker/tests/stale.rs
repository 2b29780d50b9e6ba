//! What was deleted through another node.

use super::*;

/// Two nodes, and a topic with two batches of which the second has heard.
async fn scene() -> (Store, Node, Node) {
    let store = Store::memory();
    let (a, b) = (node(&store, 1, |_| {}).await, node(&store, 2, |_| {}).await);
    topic(&a, "t", 1).await;
    for value in ["x", "y"] {
        produce(&a, "t", batch(&[value], 0, None)).await.unwrap();
    }
    b.manifest().fresh().await.unwrap();
    (store, a, b)
}

/// The first batch from `offset` on, as this client reads it.
async fn next(node: &Node, client: &Session, wanted: FetchPartition) -> Vec<(i64, String)> {
    let wanted = [FetchPartition {
        max_bytes: 1,
        ..wanted
    }];
    let mut answer = node.broker().fetch(client, &wanted, AT_ONCE).await;
    records(&answer.pop().unwrap().unwrap())
}

async fn delete_all_records(node: &Node) {
    let everything = (TopicRef::Name("t".to_owned()), PartitionIndex(0), None);
    let deleted = node
        .broker()
        .delete_records(&session(), &[everything])
        .await;
    assert!(deleted[0].is_ok(), "{deleted:?}");
}

fn by_id(node: &Node, offset: i64) -> FetchPartition {
    let state = node.manifest().state();
    FetchPartition {
        topic: TopicRef::Id(state.topic_by_name("t").unwrap().id()),
        ..from("t", offset)
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_that_was_given_to_a_new_topic_is_never_the_former_ones() {
    let (_store, a, b) = scene().await;
    let client = session();
    assert_eq!(next(&b, &client, from("t", 0)).await, numbered(0, &["x"]));
    let gone = [TopicRef::Name("t".to_owned())];
    a.broker().delete_topics(&session(), &gone).await.unwrap()[0]
        .as_ref()
        .unwrap();
    topic(&a, "t", 1).await;
    for value in ["new", "newer"] {
        produce(&a, "t", batch(&[value], 0, None)).await.unwrap();
    }
    // One who read the former topic begins anew, and one who comes.
    for client in [client, session()] {
        assert_eq!(next(&b, &client, from("t", 0)).await, numbered(0, &["new"]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_topic_made_again_is_something_else_though_its_offsets_are_the_same() {
    let (_store, a, b) = scene().await;
    let client = session();
    for (offset, value) in [(0, "x"), (1, "y")] {
        let read = next(&b, &client, from("t", offset)).await;
        assert_eq!(read, numbered(offset, &[value]));
    }
    // Waits at the end of the former topic, while a new one is made that is as long.
    let wanted = [from("t", 2), from("t", 0)];
    let limits = FetchLimits {
        min_bytes: 1_000,
        max_wait: Duration::from_secs(30),
        ..AT_ONCE
    };
    let session_of_b = session();
    let waiting = b.broker().fetch(&session_of_b, &wanted, limits);
    let remade = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let gone = [TopicRef::Name("t".to_owned())];
        a.broker().delete_topics(&session(), &gone).await.unwrap();
        topic(&a, "t", 1).await;
        for value in ["v", "w"] {
            produce(&a, "t", batch(&[value], 0, None)).await.unwrap();
        }
    };
    let (answer, ()) = futures::join!(waiting, remade);
    let read = records(answer[1].as_ref().unwrap());
    assert_eq!(read, numbered(0, &["v", "w"]));
}

#[tokio::test(start_paused = true)]
async fn records_deleted_through_another_node_are_gone_after_a_second() {
    for named in [true, false] {
        let (store, a, b) = scene().await;
        let client = session();
        let wanted = |offset| match named {
            true => from("t", offset),
            false => by_id(&b, offset),
        };
        assert_eq!(next(&b, &client, wanted(0)).await, numbered(0, &["x"]));
        delete_all_records(&a).await;
        let before = store.metrics().total();
        // Whoever reads on costs nothing.
        tokio::time::sleep(Duration::from_millis(900)).await;
        assert_eq!(next(&b, &client, wanted(1)).await, numbered(1, &["y"]));
        assert_eq!(store.metrics().total(), before);
        tokio::time::sleep(Duration::from_millis(101)).await;
        let answer = b.broker().fetch(&client, &[wanted(1)], AT_ONCE).await;
        assert!(
            matches!(answer[..], [Err(FetchError::OffsetOutOfRange { .. })]),
            "{answer:?}"
        );
    }
}

#[test]
fn a_fetch_by_a_state_of_whatever_age_is_found() {
    assert_needed(&[
        (
            Rule::FetchesConfirmTheirState,
            a_name_that_was_given_to_a_new_topic_is_never_the_former_ones,
        ),
        (
            Rule::FetchesConfirmTheirState,
            records_deleted_through_another_node_are_gone_after_a_second,
        ),
    ]);
}

#[tokio::test(start_paused = true)]
async fn all_who_read_what_is_old_ask_the_store_once_a_second() {
    let (store, _a, b) = scene().await;
    // Nodes look at their cluster.json as well, whoever reads.
    let asked = || store.metrics().total() - store.metrics().requests(RequestKind::Cluster);
    let before = asked();
    let readers = (0..50).map(|_| async {
        let client = session();
        for _ in 0..100 {
            assert_eq!(next(&b, &client, by_id(&b, 0)).await.len(), 1);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    futures::future::join_all(readers).await;
    let asked = asked() - before;
    assert!((9..=11).contains(&asked), "{asked} requests in 10 s");
}

#[tokio::test(start_paused = true)]
async fn records_that_nobody_can_confirm_are_not_handed_out() {
    let (store, away) = Faulty::switched(Fault::Fails);
    let a = node(&store, 1, |_| {}).await;
    topic(&a, "t", 1).await;
    for value in ["x", "y"] {
        produce(&a, "t", batch(&[value], 0, None)).await.unwrap();
    }
    let client = session();
    assert_eq!(next(&a, &client, from("t", 0)).await, numbered(0, &["x"]));
    away.set(true);
    // For a second it is known that they were there.
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_eq!(next(&a, &client, from("t", 1)).await, numbered(1, &["y"]));
    tokio::time::sleep(Duration::from_millis(200)).await;
    for (wait, least) in [(0, 1), (3, 3)] {
        let limits = FetchLimits {
            max_wait: Duration::from_secs(wait),
            ..AT_ONCE
        };
        let begun = tokio::time::Instant::now();
        let answer = a.broker().fetch(&client, &[from("t", 0)], limits).await;
        assert!(
            matches!(answer[..], [Err(FetchError::Unavailable(_))]),
            "{answer:?}"
        );
        let took = begun.elapsed();
        let least = Duration::from_secs(least);
        assert!(least <= took && took < least * 2, "{took:?}");
    }
    away.set(false);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(next(&a, &client, from("t", 0)).await, numbered(0, &["x"]));
}
