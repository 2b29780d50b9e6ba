//! A topic as a table of the engine, and what is left in the archive of a topic that is deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::{DataType, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Cast, Expr, TableProviderFilterPushDown, TableType, TryCast};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::union::UnionExec;
use futures::{StreamExt, TryStreamExt, stream};

use super::archived;
use super::engine::Shared;
use super::error::{QueryError, QueryErrorKind};
use super::pruning::{Bounds, Filter, Pruned, deal, kept_manifests, prune};
use super::scan::{ScanParts, TopicScan};
use crate::broker::{OffsetSpec, Snapshot, TopicArchive, TopicRef};
use crate::fetch::TableFile;
use crate::state::Topic;
use crate::table::{Columns, OFFSET, PARTITION, SchemaError, TIMESTAMP};
use crate::types::{Offset, PartitionIndex, TableId, TableName, Timestamp, TopicId, TopicName};

/// For how many partitions it is looked up side by side where a time is.
const LOOKUPS: usize = 16;

/// A topic as a table: what it had at one moment.
#[derive(Debug)]
pub(super) struct TopicTable {
    snapshot: Arc<Snapshot>,
    id: TopicId,
    name: TopicName,
    columns: Arc<Columns>,
    is_archived: bool,
    shared: Shared,
}

/// From which record on a partition has such that are not before a time; `None` if it has none.
type Starts = BTreeMap<PartitionIndex, Option<Offset>>;

fn unfit(name: &str, error: &SchemaError) -> QueryError {
    let message =
        format!("the columns of '{name}': {error}; this is a bug in Weir, please report it");
    QueryError::new(QueryErrorKind::Failed, message)
}

impl TopicTable {
    /// The table of a topic that the client may know of.
    pub(super) fn new(
        snapshot: Arc<Snapshot>,
        id: TopicId,
        shared: Shared,
    ) -> Result<TopicTable, QueryError> {
        let found = snapshot.topic(id);
        let name = found.map(|topic| topic.name().clone());
        let name = name.ok_or_else(|| {
            QueryError::new(QueryErrorKind::UnknownTable, "the topic does not exist")
        })?;
        let columns = snapshot.columns(id);
        let columns = columns.map_err(|error| unfit(name.as_str(), &error))?;
        Ok(TopicTable {
            is_archived: snapshot.is_archived(id),
            snapshot,
            id,
            name,
            columns: Arc::new(columns),
            shared,
        })
    }

    /// The topic, if the client may read it.
    fn topic(&self) -> Result<&Topic, QueryError> {
        let found = self.snapshot.topic(self.id);
        let gone = || QueryError::new(QueryErrorKind::UnknownTable, "the topic does not exist");
        let topic = found.ok_or_else(gone)?;
        self.snapshot.to_read(topic)?;
        Ok(topic)
    }

    /// From which record on partitions have such that are not before `since`. Of a partition that has lost records
    /// meanwhile nothing is said: reading it tells.
    async fn since(&self, pruned: &Pruned, since: Timestamp) -> Result<Starts, QueryError> {
        let lookups = pruned.first_offsets().map(|(partition, first)| {
            let asked = [OffsetSpec::At(since), OffsetSpec::Earliest];
            let asked = asked.map(|spec| (TopicRef::Id(self.id), partition, None, spec));
            let (broker, session) = (
                self.snapshot.broker().clone(),
                self.snapshot.session().clone(),
            );
            let found = self
                .shared
                .spawn_on_node(async move { broker.list_offsets(&session, &asked, false).await });
            async move {
                let mut found = found.await.unwrap_or_default().into_iter();
                let (Some(at), Some(earliest)) = (found.next(), found.next()) else {
                    return Ok(None);
                };
                let (at, earliest) = (at?.offset, earliest?.offset);
                let is_whole = earliest.is_some_and(|earliest| earliest <= first);
                Ok::<_, QueryError>(is_whole.then_some((partition, at)))
            }
        });
        let lookups: Vec<_> = lookups.collect();
        let found = stream::iter(lookups).buffer_unordered(LOOKUPS);
        let found: Vec<_> = found.try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// What is to be read of the topic, and the filter, if what records are can be told from it.
    async fn prune(
        &self,
        state: &dyn Session,
        filters: &[Expr],
    ) -> Result<(Pruned, Option<Filter>)> {
        let topic = self.topic()?;
        let archived = |partition| self.snapshot.archived(self.id, partition);
        let filter = filter_of(state, &self.columns, filters)?;
        let bounds = Bounds::of(filters);
        let mut pruned = prune(topic, archived, filter.as_ref(), bounds)?;
        if let Some(since) = bounds.since {
            let starts = self.since(&pruned, since).await?;
            pruned.begin_at(&starts);
        }
        Ok((pruned, filter))
    }
}

/// What must hold of rows, for judging what is read at all. None if that cannot be judged.
fn filter_of(state: &dyn Session, columns: &Columns, filters: &[Expr]) -> Result<Option<Filter>> {
    let Some(filter) = conjunction(filters.iter().cloned()) else {
        return Ok(None);
    };
    if !keeps_order(&filter)? {
        return Ok(None);
    }
    let schema = DFSchema::try_from(columns.arrow().as_ref().clone())?;
    // What cannot be judged here leaves nothing out.
    let expr = state.create_physical_expr(filter, &schema).ok();
    Ok(expr.map(|expr| Filter {
        expr,
        schema: columns.arrow().clone(),
    }))
}

/// Whether what is cast in the filter is cast to what has the same order. The engine believes that of every cast when
/// it judges by the least and the greatest value; but the time of the day, say, does not grow with the time.
fn keeps_order(filter: &Expr) -> Result<bool> {
    let mut kept = true;
    filter.apply(|expr| {
        let to = match expr {
            Expr::Cast(Cast { field, .. }) | Expr::TryCast(TryCast { field, .. }) => {
                field.data_type()
            }
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        kept &= match to {
            DataType::Timestamp(_, zone) => {
                let zone = zone.as_deref().unwrap_or("UTC");
                ["UTC", "+00:00", "Z"].contains(&zone)
            }
            kind => {
                kind.is_integer()
                    || kind.is_floating()
                    || kind.is_decimal()
                    || kind.is_string()
                    || kind.is_binary()
                    || matches!(kind, DataType::Date32 | DataType::Date64)
            }
        };
        Ok(match kept {
            true => TreeNodeRecursion::Continue,
            false => TreeNodeRecursion::Stop,
        })
    })?;
    Ok(kept)
}

/// The files of an archive that may have rows for which the filter holds, and how many there are.
fn files(
    archive: Option<TopicArchive<'_>>,
    filter: Option<&Filter>,
) -> Result<(Vec<TableFile>, usize)> {
    let Some(archive) = archive else {
        return Ok((Vec::new(), 0));
    };
    let live = archive.manifests();
    let manifests: Vec<_> = live.map(|live| &live.manifest).collect();
    let all = manifests.iter().map(|manifest| manifest.files.len()).sum();
    let kept = kept_manifests(manifests.iter().copied(), filter)?;
    let files = kept.into_iter().flat_map(|manifest| &manifest.files);
    Ok((files.map(|file| archive.file(file)).collect(), all))
}

fn all_or(projection: Option<&Vec<usize>>, columns: &Columns) -> Vec<usize> {
    let all = || (0..columns.arrow().fields().len()).collect();
    projection.cloned().unwrap_or_else(all)
}

#[async_trait]
impl TableProvider for TopicTable {
    fn schema(&self) -> SchemaRef {
        self.columns.arrow().clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (pruned, filter) = self.prune(state, filters).await?;
        let readers = state.config().target_partitions();
        let projection = all_or(projection, &self.columns);
        let archive = self.snapshot.archive(self.topic()?);
        let archive = archive.map_err(QueryError::from)?;
        let (files, all_files) = files(archive, filter.as_ref())?;
        let tail: Arc<dyn ExecutionPlan> = Arc::new(TopicScan::new(ScanParts {
            topic: self.id,
            name: self.name.clone(),
            columns: self.columns.clone(),
            formats: self.snapshot.formats(self.topic()?),
            projection: projection.clone(),
            readers: deal(&pruned.runs, readers),
            pruned,
            limit,
            batch_rows: state.config().batch_size(),
            snapshot: self.snapshot.clone(),
            shared: self.shared.clone(),
            files: (files.len(), all_files),
        }));
        if files.is_empty() {
            return Ok(tail);
        }
        let archive = archived::scan(
            files,
            &self.columns,
            projection,
            filter.is_some() || filters.is_empty(),
            (limit, readers),
            self.shared.clone(),
        )?;
        UnionExec::try_new(vec![archive, tail])
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        let judged = filters.iter().map(|filter| {
            let used = filter.column_refs();
            let known = |name: &str| [PARTITION, OFFSET, TIMESTAMP].contains(&name);
            // Files of the archive know of all of their columns what is in them.
            match self.is_archived || used.iter().any(|column| known(&column.name)) {
                true => TableProviderFilterPushDown::Inexact,
                false => TableProviderFilterPushDown::Unsupported,
            }
        });
        Ok(judged.collect())
    }
}

/// The table of a topic that is deleted.
#[derive(Debug)]
pub(super) struct OrphanTable {
    snapshot: Arc<Snapshot>,
    id: TableId,
    name: TableName,
    columns: Arc<Columns>,
    shared: Shared,
}

impl OrphanTable {
    /// One that the client may know of.
    pub(super) fn new(
        snapshot: Arc<Snapshot>,
        id: TableId,
        shared: Shared,
    ) -> Result<OrphanTable, QueryError> {
        let found = snapshot.orphan(id).map(|archive| {
            let columns = archive.columns();
            (archive.name().clone(), columns)
        });
        let (name, columns) = found.ok_or_else(|| {
            QueryError::new(QueryErrorKind::UnknownTable, "the table does not exist")
        })?;
        let columns = columns.map_err(|error| unfit(name.as_str(), &error))?;
        Ok(OrphanTable {
            snapshot,
            id,
            name,
            columns: Arc::new(columns),
            shared,
        })
    }
}

#[async_trait]
impl TableProvider for OrphanTable {
    fn schema(&self) -> SchemaRef {
        self.columns.arrow().clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let filter = filter_of(state, &self.columns, filters)?;
        let projection = all_or(projection, &self.columns);
        let archive = self.snapshot.orphan(self.id).ok_or_else(|| {
            let message = format!("the table '{}' does not exist", self.name);
            QueryError::new(QueryErrorKind::UnknownTable, message)
        })?;
        let (files, _) = files(Some(archive), filter.as_ref())?;
        if files.is_empty() {
            let schema = self.columns.arrow().project(&projection)?;
            return Ok(Arc::new(EmptyExec::new(Arc::new(schema))));
        }
        archived::scan(
            files,
            &self.columns,
            projection,
            filter.is_some() || filters.is_empty(),
            (limit, state.config().target_partitions()),
            self.shared.clone(),
        )
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }
}

#[cfg(test)]
mod tests {
    use arrow_schema::TimeUnit;
    use datafusion::logical_expr::{cast, col, lit};

    use super::*;

    #[test]
    fn a_cast_that_does_not_keep_the_order_judges_nothing() {
        let of = |kind| keeps_order(&cast(col(TIMESTAMP), kind).gt(lit(1))).unwrap();
        assert!(of(DataType::Date32) && of(DataType::Int64) && of(DataType::Utf8));
        assert!(of(DataType::Timestamp(
            TimeUnit::Nanosecond,
            Some("UTC".into())
        )));
        assert!(!of(DataType::Time64(TimeUnit::Nanosecond)) && !of(DataType::Boolean));
        let zone = DataType::Timestamp(TimeUnit::Second, Some("Europe/Berlin".into()));
        assert!(!of(zone));
    }
}
