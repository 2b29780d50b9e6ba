//! Whether the table of the main topic is its log, when all is over (I11).

use std::collections::BTreeMap;

use super::cluster::Cluster;
use super::lanes::{MAIN, PARTITIONS};
use super::world::Finding;
use crate::broker::Broker;
use crate::invariants::history::Value;
use crate::invariants::{Invariant, Violation};
use crate::state::table::Table;
use crate::store::{ArchiveObject, ObjectPath, RequestKind, Store};
use crate::table::records_of_file;
use crate::types::{Offset, PartitionIndex};

/// Compares the table, if there is one, with the logs that were shown.
pub(super) async fn compare(cluster: &Cluster, broker: &Broker) {
    let world = &cluster.world;
    let Ok(state) = broker.manifest().fresh().await else {
        return world.found(Finding::Stuck("the table was not looked at".to_owned()));
    };
    let topic = state.topic_by_name(MAIN);
    let Some(table) = topic.and_then(|topic| state.table_of(topic.id())) else {
        return;
    };
    let rows = match read(&cluster.store("archivist"), table).await {
        Ok(rows) => rows,
        Err(why) => return world.found(Finding::Wrong(format!("table {MAIN}: {why}"))),
    };
    world.count("rows archived", rows.len() as u64);
    for partition in 0..PARTITIONS {
        let expected = expected(cluster, table, partition);
        let found = rows
            .range((partition, Offset(i64::MIN))..(partition + 1, Offset(i64::MIN)))
            .map(|((_, offset), value)| (*offset, *value));
        let first = expected.keys().next().copied();
        // What went from the log is in the table all the same, and cannot be compared.
        let found: BTreeMap<Offset, Value> = found
            .filter(|(offset, _)| first.is_some_and(|first| first <= *offset))
            .collect();
        if found != expected {
            let differs = |offset: &&Offset| found.get(*offset) != expected.get(*offset);
            let at = found.keys().chain(expected.keys()).find(differs);
            world.found(Finding::Broken(Violation {
                invariant: Invariant::ArchiveEqualsLog,
                what: format!("the table has not what partition {partition} has at {at:?}"),
            }));
        }
    }
}

/// What of the log should be in the table.
fn expected(cluster: &Cluster, table: &Table, partition: i32) -> BTreeMap<Offset, Value> {
    let Some(archived) = table.partition(PartitionIndex(partition)) else {
        return BTreeMap::new();
    };
    let history = cluster.world.history();
    let log = history.partitions.get(&partition).map(|of| &of.log);
    let is_archived = |offset: Offset| {
        let skipped = archived.skipped().iter();
        archived.start() <= offset
            && offset < archived.end()
            && !skipped
                .clone()
                .any(|(from, to)| *from <= offset && offset < *to)
    };
    log.into_iter()
        .flatten()
        .filter(|(offset, _)| is_archived(*offset))
        .copied()
        .collect()
}

/// The rows of the newest version.
async fn read(store: &Store, table: &Table) -> Result<BTreeMap<(i32, Offset), Value>, String> {
    let mut rows = BTreeMap::new();
    for file in table.manifests().flat_map(|live| &live.manifest.files) {
        let path = ObjectPath::archive(table.name(), ArchiveObject::Data(file.id));
        let bytes = store.get(&path, RequestKind::ArchiveGet).await;
        let bytes = bytes.map_err(|error| error.to_string())?;
        for record in records_of_file(bytes).map_err(|error| error.to_string())? {
            let value = record.value.unwrap_or_default();
            let value = value.first_chunk().ok_or("a row without a value")?;
            let place = (record.partition.0, record.offset);
            if rows.insert(place, Value::from_be_bytes(*value)).is_some() {
                return Err(format!(
                    "offset {} of partition {} is in it twice",
                    place.1, place.0
                ));
            }
        }
    }
    Ok(rows)
}
