use super::*;

#[tokio::test(start_paused = true)]
pub(super) async fn records_older_than_the_retention_go_and_no_younger_ones() {
    let a = worker(&Store::memory(), 1).await;
    a.topic("t", 1, &[("retention.ms", "3600000")]).await;
    a.produce("t", 0, 100).await;
    wait(30 * MINUTE).await;
    a.produce("t", 0, 100).await;
    wait(29 * MINUTE).await;
    assert!(!retention::run(&a.jobs).await.unwrap());
    wait(10 * MINUTE).await;
    assert!(retention::run(&a.jobs).await.unwrap());
    assert_eq!(a.log_start("t", 0), 2);
    wait(30 * MINUTE).await;
    assert!(retention::run(&a.jobs).await.unwrap());
    assert_eq!(a.log_start("t", 0), 4);
    assert_eq!(a.produce("t", 0, 100).await, Offset(4));
}

#[tokio::test(start_paused = true)]
pub(super) async fn a_young_record_keeps_what_comes_after_it() {
    let a = worker(&Store::memory(), 1).await;
    a.topic(
        "t",
        1,
        &[
            ("retention.ms", "3600000"),
            ("message.timestamp.after.max.ms", "86400000"),
        ],
    )
    .await;
    a.produce("t", 0, 100).await;
    let future = a.env.wall().after(10 * HOUR);
    a.produce_batch("t", 0, batch(future, 100)).await;
    a.produce("t", 0, 100).await;
    wait(2 * HOUR).await;
    assert!(retention::run(&a.jobs).await.unwrap());
    assert_eq!(a.log_start("t", 0), 2);
}

#[tokio::test(start_paused = true)]
pub(super) async fn a_record_without_a_timestamp_is_as_old_as_its_append() {
    let a = worker(&Store::memory(), 1).await;
    a.topic("t", 1, &[("retention.ms", "3600000")]).await;
    let stored = a.produce_segment("t", 0).await;
    let ObjectRef::Segment(segment) = stored else {
        panic!("{stored:?}");
    };
    let append = Op::Append(crate::state::op::Append {
        partition: a.partition("t", 0),
        source: crate::state::op::AppendSource::Segment(segment),
        entries: vec![crate::state::op::AppendEntry {
            start: 1_000_000,
            len: 100,
            records: 2,
            max_timestamp: Timestamp::NONE,
            producer: None,
        }],
    });
    wait(30 * MINUTE).await;
    a.commit(append).await.unwrap();
    wait(40 * MINUTE).await;
    assert!(retention::run(&a.jobs).await.unwrap());
    assert_eq!(a.log_start("t", 0), 2);
    wait(30 * MINUTE).await;
    assert!(retention::run(&a.jobs).await.unwrap());
    assert_eq!(a.log_start("t", 0), 4);
}

#[tokio::test(start_paused = true)]
pub(super) async fn a_partition_shrinks_to_its_size_and_never_below() {
    let a = worker(&Store::memory(), 1).await;
    a.topic(
        "t",
        1,
        &[("retention.bytes", "2500"), ("retention.ms", "-1")],
    )
    .await;
    let mut last = 0;
    for _ in 0..6 {
        a.produce("t", 0, 1000).await;
        retention::run(&a.jobs).await.unwrap();
        let id = a.partition("t", 0);
        let bytes = a.state().partition(id).unwrap().bytes().0;
        // At most one slice more than what is to be kept, and not one too few.
        assert!((last.min(2500)..2500 + 1200).contains(&bytes), "{bytes}");
        last = bytes;
    }
    assert_eq!(a.log_start("t", 0), 6);
}

#[tokio::test(start_paused = true)]
pub(super) async fn only_what_is_to_be_deleted_expires() {
    let a = worker(&Store::memory(), 1).await;
    a.topic("ever", 1, &[("retention.ms", "-1")]).await;
    a.topic(
        "keys",
        1,
        &[("cleanup.policy", "compact"), ("retention.ms", "1000")],
    )
    .await;
    a.topic(
        "both",
        1,
        &[
            ("cleanup.policy", "compact,delete"),
            ("retention.ms", "1000"),
        ],
    )
    .await;
    for topic in ["ever", "keys", "both"] {
        let batch = keyed(a.env.wall());
        a.produce_batch(topic, 0, batch).await;
    }
    wait(2 * HOUR).await;
    assert!(retention::run(&a.jobs).await.unwrap());
    let starts = ["ever", "keys", "both"].map(|topic| a.log_start(topic, 0));
    assert_eq!(starts, [0, 0, 1]);
}

fn keyed(time: Timestamp) -> Bytes {
    let mut batch = BatchBuilder::new(Codec::None);
    batch.push(time, Some(b"k"), Some(b"v"), &[]).unwrap();
    batch.finish().unwrap()
}

#[tokio::test(start_paused = true)]
pub(super) async fn a_node_that_has_not_heard_of_new_settings_expires_nothing_by_the_old_ones() {
    let store = Store::memory();
    let (a, b) = (worker(&store, 1).await, worker(&store, 2).await);
    a.topic("t", 1, &[("retention.ms", "60000")]).await;
    a.produce("t", 0, 100).await;
    b.node.manifest().fresh().await.unwrap();
    wait(HOUR).await;
    a.set("t", "retention.ms", "-1").await;
    // It finds something in its own state; the fold refuses.
    assert!(retention::run(&b.jobs).await.unwrap());
    assert_eq!(b.log_start("t", 0), 0);
    assert_eq!(a.read("t", 0).await, [(0, 2)]);
}

#[tokio::test(start_paused = true)]
pub(super) async fn a_producer_is_forgotten_a_day_after_its_last_batch() {
    let a = worker(&Store::memory(), 1).await;
    a.topic("t", 1, &[]).await;
    let mut batch = BatchBuilder::new(Codec::None).producer(
        crate::types::ProducerId(7),
        crate::types::ProducerEpoch(0),
        0,
    );
    batch.push(a.env.wall(), None, Some(b"v"), &[]).unwrap();
    a.produce_batch("t", 0, batch.finish().unwrap()).await;
    let known = || {
        let id = a.partition("t", 0);
        a.state().partition(id).unwrap().producers().count()
    };
    wait(DAY).await;
    assert!(!producers::run(&a.jobs).await.unwrap());
    assert_eq!(known(), 1);
    wait(3 * HOUR).await;
    assert!(producers::run(&a.jobs).await.unwrap());
    assert_eq!(known(), 0);
    assert!(!producers::run(&a.jobs).await.unwrap());
}
