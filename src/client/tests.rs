use std::time::Duration;

use super::*;
use crate::types::{Offset, PartitionIndex};

#[tokio::test]
async fn what_is_produced_is_consumed_in_order_with_keys_headers_and_times() {
    let weir = Client::open("memory://").await.unwrap();
    eprintln!("opened");
    weir.create_topic("orders", 3).await.unwrap();
    eprintln!("created");
    let mut producer = weir.producer();
    let sent = tokio::time::timeout(
        Duration::from_secs(5),
        producer.send("orders", Record::new("customer-1", "2 apples")),
    )
    .await
    .unwrap()
    .unwrap();
    eprintln!("sent {sent:?}");
    let mut consumer = tokio::time::timeout(
        Duration::from_secs(5),
        weir.consumer()
            .topics(["orders"])
            .group("billing")
            .until_end(true)
            .start(),
    )
    .await
    .unwrap()
    .unwrap();
    eprintln!("joined");
    while let Some(record) = tokio::time::timeout(Duration::from_secs(5), consumer.next())
        .await
        .unwrap()
        .unwrap()
    {
        eprintln!("{record:?}");
    }
    consumer.commit().await.unwrap();
    eprintln!("committed");
    consumer.close().await.unwrap();
    eprintln!("left");
    weir.close().await;
}
