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
pub(in crate::maintain) async fn keep_in_step(m: &Maintenance) -> Result<bool, JobError> {
    let state = m.state();
    if !state.has(Feature::Tables) {
        return Ok(false);
    }
    let missing = state.topics().filter(|topic| is_missing(&state, topic));
    let mut ops: Vec<Op> = missing
        .filter_map(|topic| create(m, &state, topic))
        .collect();
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
            (_, Err(error @ Rejected::InvalidTable { .. })) => {
                tracing::warn!(%error, "a table was not brought in step with the settings of its topic");
            }
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

/// The name of a topic's table: that of the topic; if another table has it, or had it and is not deleted yet, some of
/// the topic's id is added, and if that has been done before, all of it. A topic of that name may have the last one,
/// too.
fn free_name(state: &State, topic: &Topic) -> Option<TableName> {
    let digits = [8, 32];
    let apart = digits.map(|digits| TableName::of_topic_apart(topic.name(), topic.id(), digits));
    let mut names = std::iter::once(TableName::of_topic(topic.name())).chain(apart);
    names.find(|name| state.table_by_name(name.as_str()).is_none())
}

/// Creates the table of a topic, if there is a name for it.
fn create(m: &Maintenance, state: &State, topic: &Topic) -> Option<Op> {
    let settings = ArchiveConfig::effective(topic.configs(), state.configs());
    let Some(name) = free_name(state, topic) else {
        tracing::warn!(
            topic = %topic.name(),
            "the topic is not archived: other tables have all the names that its own could have. Drop one of them"
        );
        return None;
    };
    Some(Op::CreateTable(CreateTable {
        id: m.inner.manifest.mint_table(),
        topic: topic.id(),
        name,
        schema: base_schema(),
        by: partition_by(&settings),
    }))
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
