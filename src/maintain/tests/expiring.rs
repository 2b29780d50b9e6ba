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
pub(super) async fn records_of_long_ago_stay_while_they_are_written_and_read() {
    let a = worker(&Store::memory(), 1).await;
    // Some seconds after the beginning of 1970.
    let old = || batch(Timestamp(1111), 100);
    a.topic("default", 1, &[]).await;
    a.topic("brief", 1, &[("retention.ms", "3600000")]).await;
    let rolled = [("segment.ms", "1000")];
    a.topic("rolled", 1, &rolled).await;
    for _ in 0..10 {
        for topic in ["default", "brief", "rolled"] {
            a.produce_batch(topic, 0, old()).await;
        }
        wait(Duration::from_secs(1)).await;
        assert!(!retention::run(&a.jobs).await.unwrap());
    }
    let starts = || ["default", "brief", "rolled"].map(|topic| a.log_start(topic, 0));
    wait(4 * MINUTE).await;
    assert!(!retention::run(&a.jobs).await.unwrap());
    wait(2 * MINUTE).await;
    assert!(retention::run(&a.jobs).await.unwrap());
    assert_eq!(starts(), [0, 0, 20]);
    wait(HOUR).await;
    assert!(retention::run(&a.jobs).await.unwrap());
    assert_eq!(starts(), [0, 20, 20]);
    wait(7 * DAY - 2 * HOUR).await;
    assert!(!retention::run(&a.jobs).await.unwrap());
    wait(2 * HOUR).await;
    assert!(retention::run(&a.jobs).await.unwrap());
    assert_eq!(starts(), [20, 20, 20]);
}

#[tokio::test(start_paused = true)]
async fn of_much_that_is_restored_the_last_segment_stays_and_the_rest_goes_by_its_own_time() {
    let a = worker(&Store::memory(), 1).await;
    a.topic("t", 1, &[("segment.bytes", "1048576")]).await;
    for _ in 0..30 {
        a.produce_batch("t", 0, batch(Timestamp(1111), 100_000))
            .await;
    }
    wait(4 * MINUTE).await;
    assert!(!retention::run(&a.jobs).await.unwrap());
    wait(2 * MINUTE).await;
    assert!(retention::run(&a.jobs).await.unwrap());
    let id = a.partition("t", 0);
    let left = a.state().partition(id).unwrap().bytes().0;
    assert!((900_000..=1_048_576).contains(&left), "{left}");
    assert!(!retention::run(&a.jobs).await.unwrap());
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
