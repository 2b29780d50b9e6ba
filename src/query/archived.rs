//! Files of the archive, for the engine's Parquet reader.
//!
//! The engine asks for a file by its name and gets a reader that goes by the store room; it never sees a store itself.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::Result;
use datafusion::config::TableParquetOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::datasource::physical_plan::parquet::ParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::object_store::ObjectStore;
use datafusion::object_store::memory::InMemory;
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::metadata::{
    PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use tokio::sync::OnceCell;
use url::Url;

use super::engine::Shared;
use super::error::{QueryError, QueryErrorKind};
use crate::fetch::{FileReadError, TableFile};
use crate::table::Columns;

/// Where the engine believes that files are.
const URL: &str = "weir://archive";

/// The one store that the engine knows, which is empty: what it reads goes by [`Files`].
#[derive(Debug)]
pub(super) struct NoStores {
    empty: Arc<dyn ObjectStore>,
}

impl Default for NoStores {
    fn default() -> NoStores {
        NoStores {
            empty: Arc::new(InMemory::new()),
        }
    }
}

impl ObjectStoreRegistry for NoStores {
    fn register_store(&self, _: &Url, _: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        match url.scheme() {
            "weir" => Ok(self.empty.clone()),
            _ => Err(QueryError::refused("reading files or other hosts").into()),
        }
    }
}

/// A plan that reads these columns of these files; the engine gives it the filter. With `is_pruned` what the statistics
/// of a file say of the filter decides what is read of it.
pub(super) fn scan(
    files: Vec<TableFile>,
    columns: &Columns,
    projection: Vec<usize>,
    is_pruned: bool,
    (limit, readers): (Option<usize>, usize),
    shared: Shared,
) -> Result<Arc<dyn ExecutionPlan>> {
    let bytes: u64 = files.iter().map(TableFile::size).sum();
    shared.reading().expect_bytes(bytes);
    let parts: Vec<PartitionedFile> = files
        .iter()
        .map(|file| PartitionedFile::new(file.path().as_str(), file.size()))
        .collect();
    let named = files.into_iter().map(|file| {
        (
            file.path().as_str().to_owned(),
            (file, OnceCell::new().into()),
        )
    });
    let factory = Files {
        files: named.collect(),
        shared,
    };
    let mut options = TableParquetOptions::default();
    options.global.pruning = is_pruned;
    options.global.enable_page_index = is_pruned;
    options.global.bloom_filter_on_read = is_pruned;
    options.global.pushdown_filters = true;
    let source = ParquetSource::new(columns.arrow().clone())
        .with_table_parquet_options(options)
        .with_parquet_file_reader_factory(Arc::new(factory));
    let groups = FileGroup::new(parts).split_files(readers.max(1));
    let config = FileScanConfigBuilder::new(ObjectStoreUrl::parse(URL)?, Arc::new(source))
        .with_file_groups(groups)
        .with_projection_indices(Some(projection))?
        .with_limit(limit)
        .build();
    Ok(DataSourceExec::from_data_source(config))
}

/// What a file says of itself, read once for all parts of it that are read side by side.
type Metadata = Arc<OnceCell<Arc<ParquetMetaData>>>;

/// The files of one scan, by name.
struct Files {
    files: BTreeMap<String, (TableFile, Metadata)>,
    shared: Shared,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Files({})", self.files.len())
    }
}

impl ParquetFileReaderFactory for Files {
    fn create_reader(
        &self,
        partition_index: usize,
        file: PartitionedFile,
        _: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let name = file.object_meta.location.as_ref();
        let (file, metadata) = self.files.get(name).ok_or_else(|| {
            DataFusionError::Internal(format!("{name} is not one of the files of this query"))
        })?;
        let held = if file.is_read_whole() { file.size() } else { 0 };
        let memory = self.shared.memory("reading a file of the archive");
        memory.try_resize(held.try_into().unwrap_or(usize::MAX))?;
        Ok(Box::new(FileReader {
            file: file.afresh(),
            metadata: metadata.clone(),
            memory,
            held: held.try_into().unwrap_or(usize::MAX),
            shared: self.shared.clone(),
            bytes: MetricBuilder::new(metrics).counter("bytes_read", partition_index),
        }))
    }
}

struct FileReader {
    file: TableFile,
    metadata: Metadata,
    /// For what was read last, which the engine decodes, and for the file, if it is read whole.
    memory: MemoryReservation,
    held: usize,
    shared: Shared,
    bytes: Count,
}

impl FileReader {
    async fn read(&self, range: Range<u64>) -> Result<Bytes, ParquetError> {
        let file = self.file.clone();
        let read = self
            .shared
            .on_node(async move { file.read(range).await })
            .await;
        let read = read.and_then(|read| read.map_err(|error| unread(&self.file, error)));
        let bytes = read.map_err(|error| ParquetError::External(Box::new(error)))?;
        self.bytes.add(bytes.len());
        self.shared.reading().bytes(bytes.len() as u64);
        Ok(bytes)
    }
}

fn unread(file: &TableFile, error: FileReadError) -> QueryError {
    let kind = match &error {
        FileReadError::Store(error) if error.is_not_found() => QueryErrorKind::Deleted,
        FileReadError::Store(error) if error.is_retriable() => QueryErrorKind::Unavailable,
        FileReadError::Store(_) | FileReadError::Damaged { .. } => QueryErrorKind::Failed,
    };
    QueryError::new(kind, format!("reading {}: {error}", file.path()))
}

/// Ranges that lie closer together are read by one request, up to so many bytes.
const GAP: u64 = 1 << 20;
const MAX_JOINED: u64 = 16 << 20;

/// How many requests for one file are under way.
const AT_ONCE: usize = 8;

/// The ranges by which `ranges` are read, in order.
fn joined(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable_by_key(|range| (range.start, range.end));
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match joined.last_mut() {
            Some(last)
                if range.start <= last.end.saturating_add(GAP)
                    && range.end.max(last.end) - last.start <= MAX_JOINED =>
            {
                last.end = last.end.max(range.end);
            }
            _ => joined.push(range),
        }
    }
    joined
}

impl FileReader {
    async fn read_all(&self, ranges: Vec<Range<u64>>) -> Result<Vec<Bytes>, ParquetError> {
        let wanted: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        let failed = |error: DataFusionError| ParquetError::External(Box::new(error));
        let all = self.held.saturating_add(wanted);
        self.memory.try_resize(all).map_err(failed)?;
        let joined = joined(&ranges);
        let reads: Vec<_> = joined
            .iter()
            .cloned()
            .map(|range| self.read(range))
            .collect();
        let read: Vec<Bytes> = stream::iter(reads).buffered(AT_ONCE).try_collect().await?;
        let piece = |range: Range<u64>| {
            let of = joined.iter().zip(&read).find_map(|(whole, bytes)| {
                let is_in = whole.start <= range.start && range.end <= whole.end;
                let place = |at: u64| usize::try_from(at - whole.start).ok();
                is_in.then(|| {
                    bytes
                        .get(place(range.start)?..place(range.end)?)
                        .map(|of| bytes.slice_ref(of))
                })
            });
            of.flatten().ok_or_else(|| {
                ParquetError::EOF(format!("{} has no bytes {range:?}", self.file.path()))
            })
        };
        ranges.into_iter().map(piece).collect()
    }
}

impl AsyncFileReader for FileReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        self.read(range).boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        self.read_all(ranges).boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move {
            let len = self.file.size();
            let options = options.map(|options| options.metadata_options().clone());
            let reader = ParquetMetaDataReader::new()
                .with_page_index_policy(PageIndexPolicy::Optional)
                .with_metadata_options(options);
            let known = self.metadata.clone();
            let read = async { Ok(Arc::new(reader.load_and_finish(self, len).await?)) };
            known.get_or_try_init(|| read).await.cloned()
        }
        .boxed()
    }
}
