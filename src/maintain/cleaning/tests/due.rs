//! When a partition is due.

use super::*;
use crate::dynamic_config::TopicConfig;

/// What is due of the world's partition at this moment.
fn due_now(world: &World) -> Option<Due> {
    let state = world.state();
    let topic = state.topic(world.id().topic).unwrap();
    let settings = TopicConfig::effective(topic.configs(), state.configs());
    due(&world.partition(), &settings, world.now())
}

const PLAIN: &[(&str, &str)] = &[("cleanup.policy", "compact")];

#[tokio::test(start_paused = true)]
pub(super) async fn a_small_topic_is_cleaned_after_ten_minutes_up_to_its_last_minute() {
    let world = World::new(PLAIN).await;
    world.put(&[("a", Some("1")), ("a", Some("2"))]).await;
    wait(9 * MINUTE).await;
    world.put(&[("a", Some("3"))]).await;
    assert_eq!(due_now(&world), None);
    wait(MINUTE - SECOND).await;
    assert_eq!(due_now(&world), None);
    wait(2 * SECOND).await;
    let due = due_now(&world).unwrap();
    assert_eq!((due.dirty, due.end), (Offset(0), Offset(3)));
    world.put(&[("a", Some("4"))]).await;
    assert_eq!(due_now(&world).unwrap().end, Offset(3));
}

#[tokio::test(start_paused = true)]
pub(super) async fn a_topic_that_deletes_is_never_cleaned_and_one_that_does_both_is() {
    for (policy, cleaned) in [
        ("delete", false),
        ("", false),
        ("compact,delete", true),
        ("compact", true),
    ] {
        let world = World::new(&[("cleanup.policy", policy)]).await;
        world.put(&[("a", Some("1")), ("a", Some("2"))]).await;
        wait(11 * MINUTE).await;
        assert_eq!(due_now(&world).is_some(), cleaned, "{policy}");
        assert_eq!(world.clean().await.unwrap().is_some(), cleaned, "{policy}");
    }
}

#[tokio::test(start_paused = true)]
pub(super) async fn a_short_segment_ms_makes_it_sooner() {
    let world = World::new(&[("cleanup.policy", "compact"), ("segment.ms", "5000")]).await;
    world.put(&[("a", Some("1"))]).await;
    wait(4 * SECOND).await;
    assert_eq!(due_now(&world), None);
    wait(2 * SECOND).await;
    assert_eq!(due_now(&world).unwrap().end, Offset(1));
}

#[tokio::test(start_paused = true)]
pub(super) async fn as_much_as_segment_bytes_does_not_wait_for_segment_ms() {
    let world = World::new(&[("cleanup.policy", "compact"), ("segment.bytes", "1048576")]).await;
    let value = "v".repeat(600_000);
    world.put(&[("a", Some(&value))]).await;
    wait(2 * MINUTE).await;
    assert_eq!(due_now(&world), None);
    world.put(&[("a", Some(&value))]).await;
    assert_eq!(due_now(&world), None);
    wait(MINUTE + SECOND).await;
    assert_eq!(due_now(&world).unwrap().end, Offset(2));
}

#[tokio::test(start_paused = true)]
pub(super) async fn a_log_is_cleaned_again_when_enough_of_it_is_dirty() {
    let world = World::new(PLAIN).await;
    let value = "v".repeat(100);
    for key in ["a", "b", "c", "d"] {
        world.put(&[(key, Some(&value))]).await;
    }
    wait(11 * MINUTE).await;
    assert_eq!(world.clean().await.unwrap().unwrap().to, Offset(4));
    assert_eq!(due_now(&world), None);
    for key in ["a", "b", "c"] {
        world.put(&[(key, Some(&value))]).await;
    }
    wait(11 * MINUTE).await;
    assert_eq!(due_now(&world), None);
    world.set("min.cleanable.dirty.ratio", "0.4").await;
    let due = due_now(&world).unwrap();
    assert!((0.40..0.45).contains(&due.ratio), "{due:?}");
    assert!(!due.overdue);
}

#[tokio::test(start_paused = true)]
pub(super) async fn what_is_younger_than_the_least_lag_is_left_alone() {
    let world = World::new(EAGER).await;
    world.set("min.compaction.lag.ms", "3600000").await;
    world.put(&[("a", Some("1"))]).await;
    wait(30 * MINUTE).await;
    world.put(&[("a", Some("2"))]).await;
    wait(29 * MINUTE).await;
    assert_eq!(due_now(&world), None);
    wait(2 * MINUTE).await;
    assert_eq!(due_now(&world).unwrap().end, Offset(1));
    world.clean().await.unwrap().unwrap();
    assert_eq!(
        world.texts().await,
        texts(&[(0, "a", Some("1")), (1, "a", Some("2"))])
    );
}

#[tokio::test(start_paused = true)]
pub(super) async fn what_is_older_than_the_longest_lag_is_cleaned_however_little_it_is() {
    let world = World::new(PLAIN).await;
    let value = "v".repeat(1000);
    for key in ["a", "b", "c", "d"] {
        world.put(&[(key, Some(&value))]).await;
    }
    wait(11 * MINUTE).await;
    world.clean().await.unwrap().unwrap();
    world.set("max.compaction.lag.ms", "30000").await;
    world.put(&[("a", Some("1"))]).await;
    wait(29 * SECOND).await;
    assert_eq!(due_now(&world), None);
    wait(2 * SECOND).await;
    let due = due_now(&world).unwrap();
    assert!(due.overdue);
    assert_eq!(due.end, Offset(5));
    world.clean().await.unwrap().unwrap();
    assert_eq!(world.read().await.len(), 4);
    assert_eq!(due_now(&world), None);
}

#[tokio::test(start_paused = true)]
pub(super) async fn what_is_below_the_log_start_is_neither_dirty_nor_clean() {
    let world = World::new(PLAIN).await;
    for _ in 0..4 {
        world.put(&[("a", Some("1"))]).await;
    }
    wait(11 * MINUTE).await;
    let delete = crate::state::op::Op::DeleteRecords {
        partition: world.id(),
        before: None,
    };
    let deleted = world.node.manifest().commit_one(delete).await;
    deleted.unwrap().unwrap();
    assert_eq!(due_now(&world), None);
}
