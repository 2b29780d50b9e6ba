//! Reads the records of a topic for a query.

use std::fmt;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{SchemaRef, SortOptions};
use bytes::Bytes;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{
    EquivalenceProperties, Partitioning, PhysicalExpr, PhysicalSortExpr,
};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, StatisticsArgs,
};
use futures::stream;
use std::time::Duration;
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

use super::engine::Shared;
use super::error::{QueryError, QueryErrorKind};
use super::pruning::{OffsetRun, Pruned};
use super::records::Run;
use crate::broker::{
    FetchError, FetchLimits, FetchPartition, FetchedPartition, Snapshot, TopicRef,
};
use crate::segment::Batches;
use crate::table::typing::Formats;
use crate::table::{Columns, OFFSET, PARTITION, RowEncoder, TIMESTAMP_TYPE};
use crate::types::{Offset, PartitionIndex, TopicId, TopicName};

/// How many bytes of record batches one read asks for at first, and at most: who wants few rows reads little.
const FIRST_READ: usize = 256 << 10;
const MAX_READ: usize = 4 << 20;

/// How many runs EXPLAIN shows.
const MAX_SHOWN: usize = 8;

/// What a scan is made of.
pub(super) struct ScanParts {
    pub(super) topic: TopicId,
    pub(super) name: TopicName,
    pub(super) columns: Arc<Columns>,
    /// What keys and values are opened as, for columns that need it.
    pub(super) formats: Formats,
    /// The places of the columns that are wanted.
    pub(super) projection: Vec<usize>,
    /// What each of the readers reads, which run side by side.
    pub(super) readers: Vec<Vec<OffsetRun>>,
    pub(super) pruned: Pruned,
    /// How many rows are enough.
    pub(super) limit: Option<usize>,
    pub(super) batch_rows: usize,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) shared: Shared,
    /// How many files of the archive are read beside it, and how many there are.
    pub(super) files: (usize, usize),
}

/// Reads the records of a topic.
pub(super) struct TopicScan {
    parts: Arc<ScanParts>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl TopicScan {
    pub(super) fn new(parts: ScanParts) -> TopicScan {
        let schema = RowEncoder::typed_projected(&parts.columns, parts.formats, &parts.projection)
            .schema()
            .clone();
        let partitioning = Partitioning::UnknownPartitioning(parts.readers.len().max(1));
        let properties = PlanProperties::new(
            ordered(&schema),
            partitioning,
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        parts.shared.reading().expect_bytes(parts.pruned.bytes());
        TopicScan {
            parts: Arc::new(parts),
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

/// Each reader reads by partition and offset.
fn ordered(schema: &SchemaRef) -> EquivalenceProperties {
    let column = |name: &str| -> Option<PhysicalSortExpr> {
        let (place, _) = schema.column_with_name(name)?;
        let column = Arc::new(Column::new(name, place));
        Some(PhysicalSortExpr::new(
            column,
            SortOptions::new(false, false),
        ))
    };
    match (column(PARTITION), column(OFFSET)) {
        (Some(partition), Some(offset)) => {
            EquivalenceProperties::new_with_orderings(schema.clone(), [[partition, offset]])
        }
        (Some(partition), None) => {
            EquivalenceProperties::new_with_orderings(schema.clone(), [[partition]])
        }
        _ => EquivalenceProperties::new(schema.clone()),
    }
}

impl fmt::Debug for TopicScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicScan({})", self.parts.name)
    }
}

impl DisplayAs for TopicScan {
    fn fmt_as(&self, form: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ScanParts { name, pruned, .. } = &*self.parts;
        let (slices, read) = pruned.slices;
        let partitions = (pruned.read_partitions().len(), pruned.partitions);
        let columns: Vec<&str> = self
            .properties
            .eq_properties
            .schema()
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .collect();
        let mut runs: Vec<String> = pruned
            .runs
            .iter()
            .take(MAX_SHOWN)
            .map(|run| format!("{}: {}..{}", run.partition, run.start, run.end))
            .collect();
        if pruned.runs.len() > MAX_SHOWN {
            runs.push(format!("{} more", pruned.runs.len() - MAX_SHOWN));
        }
        let limit = self.parts.limit.map(|rows| format!(", limit={rows}"));
        let limit = limit.unwrap_or_default();
        let separator = match form {
            DisplayFormatType::TreeRender => "\n",
            _ => ", ",
        };
        if !matches!(form, DisplayFormatType::TreeRender) {
            f.write_str("TopicScan: ")?;
        }
        let lines = [
            format!("topic={name}"),
            format!("columns=[{}]", columns.join(", ")),
            format!("partitions={}/{}", partitions.0, partitions.1),
            format!("slices={read}/{slices}"),
            format!("offsets=[{}]", runs.join(", ")),
            format!("files={}/{}", self.parts.files.0, self.parts.files.1),
            format!("bytes={}{limit}", pruned.bytes()),
        ];
        f.write_str(&lines.join(separator))
    }
}

impl ExecutionPlan for TopicScan {
    fn name(&self) -> &'static str {
        "TopicScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let reader = Reader::new(self, partition, &context);
        let schema = self.schema();
        let batches = stream::try_unfold(reader, |mut reader| async move {
            let next = reader.next().await?;
            Ok::<_, DataFusionError>(next.map(|batch| (batch, reader)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(
        &self,
        _: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let schema = self.schema();
        let mut statistics = Statistics::new_unknown(&schema);
        let runs: Vec<&OffsetRun> = match args.partition() {
            None => self.parts.readers.iter().flatten().collect(),
            Some(place) => self
                .parts
                .readers
                .get(place)
                .into_iter()
                .flatten()
                .collect(),
        };
        // Compaction and transactions leave offsets without records.
        let rows: u64 = runs.iter().map(|run| run.end.since(run.start)).sum();
        let bytes: u64 = runs.iter().map(|run| run.bytes).sum();
        let inexact = |n: u64| Precision::Inexact(usize::try_from(n).unwrap_or(usize::MAX));
        statistics.num_rows = inexact(rows);
        statistics.total_byte_size = inexact(bytes);
        Ok(Arc::new(statistics))
    }

    fn supports_limit_pushdown(&self) -> bool {
        true
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        let ScanParts {
            topic,
            name,
            columns,
            formats,
            projection,
            readers,
            pruned,
            batch_rows,
            snapshot,
            shared,
            files,
            ..
        } = &*self.parts;
        let parts = ScanParts {
            topic: *topic,
            name: name.clone(),
            columns: columns.clone(),
            formats: *formats,
            projection: projection.clone(),
            readers: readers.clone(),
            pruned: pruned.clone(),
            limit: limit.into_iter().chain(self.parts.limit).min(),
            batch_rows: *batch_rows,
            snapshot: snapshot.clone(),
            shared: shared.clone(),
            files: *files,
        };
        Some(Arc::new(TopicScan {
            parts: Arc::new(parts),
            properties: self.properties.clone(),
            metrics: self.metrics.clone(),
        }))
    }

    fn fetch(&self) -> Option<usize> {
        self.parts.limit
    }
}

/// A read that is under way.
type Reading = AbortOnDropHandle<Result<FetchedPartition, FetchError>>;

/// What one read brought.
type Read = std::result::Result<Result<FetchedPartition, FetchError>, JoinError>;

/// One of the streams of a scan.
struct Reader {
    parts: Arc<ScanParts>,
    runs: std::vec::IntoIter<OffsetRun>,
    /// The run that is being read, and from where on it has not been asked for.
    current: Option<(OffsetRun, Offset)>,
    /// The read that is under way, and what it was to bring.
    next: Option<(OffsetRun, Offset, Reading)>,
    records: Option<Run>,
    read_bytes: usize,
    encoder: RowEncoder,
    /// Whether nothing is wanted that is inside the batches.
    counted: bool,
    left: usize,
    memory: MemoryReservation,
    baseline: BaselineMetrics,
    bytes: Count,
    reads: Count,
}

impl Reader {
    fn new(scan: &TopicScan, place: usize, context: &TaskContext) -> Reader {
        let parts = scan.parts.clone();
        let runs = parts.readers.get(place).cloned().unwrap_or_default();
        let encoder = RowEncoder::typed_projected(&parts.columns, parts.formats, &parts.projection);
        let outside = [PARTITION, OFFSET, TIMESTAMP_TYPE];
        let counted = encoder
            .schema()
            .fields()
            .iter()
            .all(|field| outside.contains(&field.name().as_str()));
        let consumer = MemoryConsumer::new(format!("reading {}", parts.name));
        let metric = |name| MetricBuilder::new(&scan.metrics).counter(name, place);
        Reader {
            runs: runs.into_iter(),
            current: None,
            next: None,
            records: None,
            read_bytes: FIRST_READ,
            encoder,
            counted,
            left: parts.limit.unwrap_or(usize::MAX),
            memory: consumer.register(context.memory_pool()),
            baseline: BaselineMetrics::new(&scan.metrics, place),
            bytes: metric("bytes_read"),
            reads: metric("reads"),
            parts,
        }
    }

    /// The next rows.
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        while self.left > 0 {
            if let Some(records) = &mut self.records {
                let timer = self.baseline.elapsed_compute().timer();
                let rows = self.parts.batch_rows.min(self.left);
                let memory = self.parts.shared.options().memory;
                let (held, next) = (&self.memory, self.read_bytes);
                let reserve = |bytes: usize| {
                    let reserved = held.try_resize(bytes.saturating_add(next));
                    reserved.map_err(|error| QueryError::of_engine(&error, memory))
                };
                let more = records.fill(&mut self.encoder, rows, self.counted, reserve)?;
                drop(timer);
                if !more {
                    self.records = None;
                }
                let held = self.records.as_ref().map_or(0, Run::held);
                self.memory
                    .try_resize(held + self.encoder.bytes() + self.read_bytes)?;
                if self.encoder.rows() >= rows || self.encoder.is_full() {
                    return self.batch().map(Some);
                }
                if more {
                    continue;
                }
            }
            if !self.read().await? {
                break;
            }
        }
        self.memory.free();
        self.next = None;
        match self.encoder.rows() {
            0 => Ok(None),
            _ => self.batch().map(Some),
        }
    }

    fn batch(&mut self) -> Result<RecordBatch> {
        let batch = self
            .encoder
            .finish()
            .map_err(|error| QueryError::new(QueryErrorKind::Failed, error.to_string()))?;
        self.left = self.left.saturating_sub(batch.num_rows());
        self.baseline.record_output(batch.num_rows());
        let rows = u64::try_from(batch.num_rows()).unwrap_or(u64::MAX);
        self.parts.shared.reading().records(rows);
        Ok(batch)
    }

    /// Reads the next record batches. False at the end.
    async fn read(&mut self) -> Result<bool, QueryError> {
        if self.next.is_none() {
            self.ask();
        }
        let Some((run, start, read)) = self.next.take() else {
            return Ok(false);
        };
        let read: Read = read.await;
        let read = read.map_err(|error| {
            QueryError::new(QueryErrorKind::Failed, format!("reading failed: {error}"))
        })?;
        let read = read.map_err(|error| self.explain(run.partition, start, error))?;
        let brought = read.len();
        self.bytes.add(brought);
        self.reads.add(1);
        self.parts.shared.reading().bytes(brought as u64);
        let read = read.joined();
        let end = after(&read).unwrap_or(run.end).max(start);
        if end < run.end && brought > 0 {
            self.current = Some((run, end));
        }
        self.read_bytes = (self.read_bytes * 4).min(MAX_READ);
        self.memory_for(brought)?;
        // The next read is under way while these rows are made.
        self.ask();
        self.records = Some(Run::new(run.partition, (start, run.end), &read)?);
        Ok(true)
    }

    fn memory_for(&self, brought: usize) -> Result<(), QueryError> {
        let wanted = brought + self.read_bytes + self.encoder.bytes();
        self.memory
            .try_resize(wanted)
            .map_err(|error| QueryError::of_engine(&error, self.parts.shared.options().memory))
    }

    /// Begins the next read, if there is something left.
    fn ask(&mut self) {
        if self.next.is_some() {
            return;
        }
        let next = self
            .current
            .take()
            .or_else(|| self.runs.next().map(|run| (run, run.start)));
        let Some((run, from)) = next else {
            return;
        };
        let wanted = FetchPartition {
            topic: TopicRef::Id(self.parts.topic),
            partition: run.partition,
            offset: from,
            max_bytes: self.read_bytes,
            current_leader_epoch: None,
        };
        let limits = FetchLimits {
            min_bytes: 1,
            max_bytes: self.read_bytes,
            max_wait: Duration::ZERO,
            read_committed: true,
        };
        let broker = self.parts.snapshot.broker().clone();
        let session = self.parts.snapshot.session().clone();
        let read = self.parts.shared.spawn_on_node(async move {
            let mut read = broker.fetch(&session, &[wanted], limits).await;
            match read.pop() {
                Some(read) => read,
                None => Err(crate::broker::Unavailable::TimedOut.into()),
            }
        });
        self.next = Some((run, from, read));
    }

    /// What it means to a query that a read failed.
    fn explain(&self, partition: PartitionIndex, offset: Offset, error: FetchError) -> QueryError {
        let name = &self.parts.name;
        match error {
            FetchError::TopicNotFound(_) | FetchError::PartitionNotFound(_) => QueryError::new(
                QueryErrorKind::Deleted,
                format!("the topic '{name}' was deleted while the query read it"),
            ),
            FetchError::OffsetOutOfRange { log_start, .. } => QueryError::new(
                QueryErrorKind::Deleted,
                format!(
                    "records of '{name}' were deleted before the query had read them: partition {partition} begins at \
                     offset {log_start} now, and {offset} was to be read; run the query again"
                ),
            ),
            error => {
                let error = QueryError::from(error);
                QueryError::new(
                    error.kind(),
                    format!(
                        "reading partition {partition} of '{name}' at offset {offset}: {error}"
                    ),
                )
            }
        }
    }
}

/// The offset behind all batches of `read`.
fn after(read: &Bytes) -> Option<Offset> {
    let batches = Batches::new(read).filter_map(std::result::Result::ok);
    batches.map(|batch| batch.header.next_offset()).max()
}
