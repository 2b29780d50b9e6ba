//! What is asked of a group is answered by its members' timeouts, and not by when a node last looked.

use super::*;

/// A static member joins, and is never heard of again.
async fn silent(node: &TestNode) -> Client {
    let mut client = Client::of_instance(node, "one");
    client.rejoin(1).await;
    client
}

#[tokio::test(start_paused = true)]
async fn a_group_is_empty_at_the_moment_in_which_its_last_session_ends() {
    let store = Store::memory();
    let a = node(&store, 1).await;
    let partition = topic(&a).await;
    let admin = Session::internal("admin");
    let moment = Duration::from_millis(1);
    for how in ["describe", "list", "delete", "commit"] {
        let _client = silent(&a).await;
        sleep(SESSION - moment).await;
        assert_eq!(describe(&a).await.state, "Stable", "{how}");
        let early = a.broker.delete_group(&admin, &group()).await;
        assert_eq!(early, Err(GroupOpError::NonEmptyGroup), "{how}");
        // The nodes' own tasks do not get to run in between.
        sleep(moment).await;
        match how {
            "describe" => assert_ne!(describe(&a).await.state, "Stable"),
            "list" => {
                let listed = a.broker.list_groups(&admin).await.unwrap();
                assert!(
                    listed.iter().all(|group| group.state != "Stable"),
                    "{listed:?}"
                );
            }
            "delete" => {
                let deleted = a.broker.delete_group(&admin, &group()).await;
                // At the first level it is gone by itself.
                let gone = matches!(deleted, Ok(()) | Err(GroupOpError::GroupIdNotFound));
                assert!(gone, "{deleted:?}");
            }
            _ => assert_eq!(Client::of(&a, "simple").commit(partition, 1).await, Ok(())),
        }
        sleep(SESSION).await;
        let _ = a.broker.delete_group(&admin, &group()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn another_node_sees_the_end_of_a_session_at_once() {
    let store = Store::memory();
    let (a, b) = (node(&store, 1).await, node(&store, 2).await);
    let _client = silent(&a).await;
    let admin = Session::internal("admin");
    sleep(SESSION + Duration::from_millis(100)).await;
    let deleted = b.broker.delete_group(&admin, &group()).await;
    // With nothing left of it it may be gone already.
    assert!(
        matches!(deleted, Ok(()) | Err(GroupOpError::GroupIdNotFound)),
        "{deleted:?}"
    );
}
