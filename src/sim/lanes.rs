//! The topics of a run, and their partitions as clients know them: in one row of lanes.

use std::collections::BTreeMap;
use std::time::Duration;

use super::admins;
use super::cluster::{Cluster, Connection};
use super::world::Finding;
use crate::broker::TopicRef;
use crate::types::PartitionIndex;

/// The topic that all write to and read from, and its partitions: the first lanes.
pub(super) const MAIN: &str = "main";
pub(super) const PARTITIONS: i32 = 3;

/// The lane of a topic whose records expire while it runs.
pub(super) const BRIEF: i32 = PARTITIONS;

/// How many lanes there are to which anybody writes.
pub(super) const LANES: i32 = BRIEF + 1;

/// The lane of a compacted topic, which `keyed` writes and reads.
pub(super) const KEYED: i32 = LANES;

/// The topic that is written to while others are deleted, and that nobody reads.
pub(super) const CHURNED: &str = "churned";

/// Where a lane is.
pub(super) fn place(lane: i32) -> (TopicRef, PartitionIndex) {
    let (topic, partition) = match lane {
        BRIEF => ("brief", 0),
        KEYED => ("keyed", 0),
        partition => (MAIN, partition),
    };
    (TopicRef::Name(topic.to_owned()), PartitionIndex(partition))
}

/// Makes the topics, before anything goes wrong.
pub(super) async fn create(cluster: &Cluster, limit: Duration) {
    let retention = cluster.settings.retention.as_millis().to_string();
    let settings = |pairs: &[(&str, &str)]| -> BTreeMap<String, Option<String>> {
        let owned = |(name, value): &(&str, &str)| (name.to_string(), Some(value.to_string()));
        pairs.iter().map(owned).collect()
    };
    let archived: &[(&str, &str)] = &[
        ("archive.enable", "true"),
        ("archive.lag", "3000"),
        ("archive.partition", "hour"),
    ];
    let main = if cluster.settings.archive {
        archived
    } else {
        &[]
    };
    let topics = [
        (MAIN, PARTITIONS, settings(main)),
        (CHURNED, 1, settings(&[])),
        ("brief", 1, settings(&[("retention.ms", &retention)])),
        (
            "keyed",
            1,
            settings(&[
                ("cleanup.policy", "compact"),
                ("segment.ms", "1000"),
                ("min.cleanable.dirty.ratio", "0.3"),
                // Longer than any pass over the topic that is looked at.
                ("delete.retention.ms", "600000"),
            ]),
        ),
    ];
    let mut connection = Connection::new(cluster, "creator");
    for (name, partitions, configs) in topics {
        let work = move |broker| admins::create(broker, name.to_owned(), partitions, configs);
        let created = connection.call(limit, work).await;
        if !matches!(created, Ok(Ok(Ok(())))) {
            let what = format!("a topic cannot be created though all is well: {created:?}");
            cluster.world.found(Finding::Wrong(what));
        }
    }
}
