//! Files of the archive, for the engine's Parquet reader.
//!
//! The engine asks for a file by its name and gets a reader that goes by the store room; it never sees a store itself.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::datasource::physical_plan::parquet::ParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::DataFusionError;
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::object_store::ObjectStore;
use datafusion::object_store::memory::InMemory;
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::metadata::{
    PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};
use futures::FutureExt;
use futures::future::BoxFuture;
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

/// A plan that reads these columns of these files.
pub(super) fn scan(
    files: Vec<TableFile>,
    columns: &Columns,
    projection: Vec<usize>,
    filter: Option<Arc<dyn PhysicalExpr>>,
    (limit, readers): (Option<usize>, usize),
    shared: Shared,
) -> Result<Arc<dyn ExecutionPlan>> {
    let bytes: u64 = files.iter().map(TableFile::len).sum();
    shared.reading().expect_bytes(bytes);
    let parts: Vec<PartitionedFile> = files
        .iter()
        .map(|file| PartitionedFile::new(file.path().as_str(), file.len()))
        .collect();
    let named = files
        .into_iter()
        .map(|file| (file.path().as_str().to_owned(), file));
    let factory = Files {
        files: named.collect(),
        shared,
    };
    let mut source = ParquetSource::new(columns.arrow().clone())
        .with_parquet_file_reader_factory(Arc::new(factory))
        .with_enable_page_index(true)
        .with_bloom_filter_on_read(true)
        .with_pushdown_filters(true);
    if let Some(filter) = filter {
        source = source.with_predicate(filter);
    }
    let groups = FileGroup::new(parts).split_files(readers.max(1));
    let config = FileScanConfigBuilder::new(ObjectStoreUrl::parse(URL)?, Arc::new(source))
        .with_file_groups(groups)
        .with_projection_indices(Some(projection))?
        .with_limit(limit)
        .build();
    Ok(DataSourceExec::from_data_source(config))
}

/// The files of one scan, by name.
struct Files {
    files: BTreeMap<String, TableFile>,
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
        let found = self.files.get(name).cloned().ok_or_else(|| {
            DataFusionError::Internal(format!("{name} is not one of the files of this query"))
        })?;
        Ok(Box::new(FileReader {
            file: found,
            shared: self.shared.clone(),
            bytes: MetricBuilder::new(metrics).counter("bytes_read", partition_index),
        }))
    }
}

struct FileReader {
    file: TableFile,
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

impl AsyncFileReader for FileReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        self.read(range).boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move {
            let len = self.file.len();
            let options = options.map(|options| options.metadata_options().clone());
            let reader = ParquetMetaDataReader::new()
                .with_page_index_policy(PageIndexPolicy::Optional)
                .with_metadata_options(options);
            let metadata = reader.load_and_finish(self, len).await?;
            Ok(Arc::new(metadata))
        }
        .boxed()
    }
}
