//! A whole node: that it starts, serves and stops.

mod clocks;
mod emptied;
mod starting;

use std::task::{Context, Poll};

use tokio::task::AbortHandle;

use super::*;
use crate::broker::{NewTopic, Session};
use crate::env::{Env, Hold};
use crate::store::StoreUrl;
use crate::types::Timestamp;

/// Holds nothing back; every part of a node that can start a task has it.
struct Free;

impl Hold for Free {
    fn poll_run(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn started(&self, _: AbortHandle) {}
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_stopped_leaves_nothing_in_memory() {
    let hold: Arc<dyn Hold> = Arc::new(Free);
    let env = Env::simulated(1, Timestamp(1_700_000_000_000)).held(hold.clone());
    let mut options = NodeOptions::new(StoreUrl::memory(), env);
    options.maintenance = Some(crate::maintain::MaintenanceOptions::default());
    let node = Node::start(Store::memory(), options, &NodeMetrics::default())
        .await
        .unwrap();
    let topic = NewTopic {
        name: "t".to_owned(),
        partitions: Some(1),
        ..NewTopic::default()
    };
    let session = Session::internal("test");
    let created = node
        .broker()
        .create_topics(&session, vec![topic], false)
        .await;
    created.unwrap().pop().unwrap().unwrap();
    node.stop(Duration::from_secs(10)).await;
    // What was told to end gets to it.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(Arc::strong_count(&hold), 1);
}
