//! Tables come and are kept in step with what the settings of their topics say.

use super::super::error::JobError;
use super::super::maintenance::Maintenance;
use super::policy;
use crate::dynamic_config::ArchiveConfig;
use crate::state::op::{AlterTable, CreateTable, Op, Rejected};
use crate::state::table::{PartitionBy, Table};
use crate::state::{Feature, State, Topic};
use crate::table::base_schema;
use crate::types::TableName;

/// Creates the tables that are missing, and alters those that are out of step. The fold refuses what another node has
/// done already. Returns whether there was anything to do.
pub(super) async fn keep_in_step(m: &Maintenance) -> Result<bool, JobError> {
    let state = m.state();
    if !state.has(Feature::Tables) {
        return Ok(false);
    }
    let missing = state.topics().filter(|topic| is_missing(&state, topic));
    let mut ops: Vec<Op> = missing.map(|topic| create(m, &state, topic)).collect();
    ops.extend(state.tables().filter_map(|table| altered(&state, table)));
    if ops.is_empty() {
        return Ok(false);
    }
    let committed = m.commit(ops.clone()).await?;
    let mut did = false;
    for (op, outcome) in ops.iter().zip(committed.outcomes) {
        match (op, outcome) {
            (Op::CreateTable(create), Ok(_)) => {
                did = true;
                tracing::info!(table = %create.name, "created a table");
            }
            (_, Ok(_)) => did = true,
            (_, Err(error @ Rejected::InvalidTable { .. })) => return Err(error.into()),
            (_, Err(error)) => tracing::debug!(%error, "another node was faster"),
        }
    }
    Ok(did)
}

/// Whether a topic is to be archived and has no table.
pub(super) fn is_missing(state: &State, topic: &Topic) -> bool {
    let settings = ArchiveConfig::effective(topic.configs(), state.configs());
    settings.enable && state.table_of(topic.id()).is_none()
}

/// Creates the table of a topic. Its name is that of the topic; if another table has it, or had it and is not deleted
/// yet, some of the topic's id is added.
fn create(m: &Maintenance, state: &State, topic: &Topic) -> Op {
    let settings = ArchiveConfig::effective(topic.configs(), state.configs());
    let plain = TableName::of_topic(topic.name());
    let name = match state.table_by_name(plain.as_str()) {
        None => plain,
        Some(_) => TableName::of_topic_apart(topic.name(), topic.id()),
    };
    Op::CreateTable(CreateTable {
        id: m.inner.manifest.mint_table(),
        topic: topic.id(),
        name,
        schema: base_schema(),
        by: partition_by(&settings),
    })
}

/// What brings a table in step, if it is not.
pub(super) fn altered(state: &State, table: &Table) -> Option<Op> {
    if table.is_dropped() {
        return None;
    }
    if table.topic().is_none() {
        let is_empty = table.manifest_count() == 0;
        return is_empty.then(|| Op::DropTable { table: table.id() });
    }
    let settings = policy::settings(state, table);
    let by = partition_by(&settings);
    let by = (table.spec().by != by).then_some(by);
    let enabled = (table.is_enabled() != settings.enable).then_some(settings.enable);
    (by.is_some() || enabled.is_some()).then(|| {
        Op::AlterTable(AlterTable {
            table: table.id(),
            schema: None,
            by,
            enabled,
        })
    })
}

fn partition_by(settings: &ArchiveConfig) -> PartitionBy {
    match settings.partition.as_str() {
        "none" => PartitionBy::None,
        "hour" => PartitionBy::Hour,
        "month" => PartitionBy::Month,
        _ => PartitionBy::Day,
    }
}
