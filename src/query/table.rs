//! A topic as a table of the engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::union::UnionExec;

use super::archived;
use super::engine::Shared;
use super::error::{QueryError, QueryErrorKind};
use super::pruning::{Bounds, Filter, Pruned, deal, kept_manifests, prune};
use super::scan::{ScanParts, TopicScan};
use crate::broker::{OffsetSpec, Snapshot, TopicRef};
use crate::fetch::TableFile;
use crate::state::Topic;
use crate::table::{Columns, OFFSET, PARTITION, TIMESTAMP};
use crate::types::{Offset, PartitionIndex, Timestamp, TopicId, TopicName};

/// A topic as a table: what it had at one moment.
#[derive(Debug)]
pub(super) struct TopicTable {
    snapshot: Arc<Snapshot>,
    id: TopicId,
    name: TopicName,
    columns: Arc<Columns>,
    shared: Shared,
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
        let columns = snapshot.columns(id).map_err(|error| {
            let message = format!(
                "the columns of '{name}': {error}; this is a bug in Weir, please report it"
            );
            QueryError::new(QueryErrorKind::Failed, message)
        })?;
        Ok(TopicTable {
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

    /// From which record on a partition has such that are not before `since`.
    async fn since(
        &self,
        partitions: Vec<PartitionIndex>,
        since: Timestamp,
    ) -> Result<BTreeMap<PartitionIndex, Option<Offset>>, QueryError> {
        let asked: Vec<_> = partitions
            .iter()
            .map(|partition| {
                let spec = OffsetSpec::At(since);
                (TopicRef::Id(self.id), *partition, None, spec)
            })
            .collect();
        let (broker, session) = (
            self.snapshot.broker().clone(),
            self.snapshot.session().clone(),
        );
        let found = self
            .shared
            .on_node(async move { broker.list_offsets(&session, &asked, false).await })
            .await?;
        let mut starts = BTreeMap::new();
        for (partition, found) in partitions.into_iter().zip(found) {
            starts.insert(partition, found?.offset);
        }
        Ok(starts)
    }

    /// What is to be read of the topic, and the filter.
    async fn prune(
        &self,
        state: &dyn Session,
        filters: &[Expr],
    ) -> Result<(Pruned, Option<Filter>)> {
        let topic = self.topic()?;
        let archived = |partition| self.snapshot.archived(self.id, partition);
        let filter = match conjunction(filters.iter().cloned()) {
            Some(filter) => {
                let schema = DFSchema::try_from(self.columns.arrow().as_ref().clone())?;
                // What cannot be judged here leaves nothing out.
                let expr = state.create_physical_expr(filter, &schema).ok();
                expr.map(|expr| Filter {
                    expr,
                    schema: self.columns.arrow().clone(),
                })
            }
            None => None,
        };
        let bounds = Bounds::of(filters);
        let mut pruned = prune(topic, archived, filter.as_ref(), bounds)?;
        if let Some(since) = bounds.since {
            let starts = self.since(pruned.read_partitions(), since).await?;
            pruned.begin_at(&starts);
        }
        Ok((pruned, filter))
    }

    /// The files of the archive that may have rows for which the filter holds, and how many there are.
    fn files(&self, filter: Option<&Filter>) -> Result<(Vec<TableFile>, usize)> {
        let archive = self.snapshot.archive(self.topic()?);
        let Some(archive) = archive.map_err(QueryError::from)? else {
            return Ok((Vec::new(), 0));
        };
        let manifests: Vec<_> = archive.manifests().collect();
        let all = manifests.iter().map(|manifest| manifest.files.len()).sum();
        let kept = kept_manifests(manifests.iter().copied(), filter)?;
        let files = kept.into_iter().flat_map(|manifest| &manifest.files);
        Ok((files.map(|file| archive.file(file)).collect(), all))
    }
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
        let all = || (0..self.columns.arrow().fields().len()).collect();
        let projection: Vec<usize> = projection.cloned().unwrap_or_else(all);
        let (files, all_files) = self.files(filter.as_ref())?;
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
            filter.map(|filter| filter.expr),
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
            match used.iter().any(|column| known(&column.name)) {
                true => TableProviderFilterPushDown::Inexact,
                false => TableProviderFilterPushDown::Unsupported,
            }
        });
        Ok(judged.collect())
    }
}
