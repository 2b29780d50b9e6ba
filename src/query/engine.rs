//! Runs queries: plans a statement, executes it on threads of its own, and hands out the answer.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use datafusion::common::TableReference;
use datafusion::error::DataFusionError;
use datafusion::execution::context::{SQLOptions, SessionConfig, SessionContext};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{
    GreedyMemoryPool, MemoryConsumer, MemoryReservation, TrackConsumersPool,
};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::sql::parser::Statement;
use futures::StreamExt;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::archived::NoStores;
use super::bounds::bounded;
use super::catalog::{CATALOG, SCHEMA, Tables};
use super::error::{QueryError, QueryErrorKind};
use super::functions;
use super::metrics::{Outcome, QueryMetrics};
use super::options::QueryOptions;
use super::output::{Encoder, Form};
use super::statement::{asks_what_there_is, parse};
use crate::broker::{Broker, Session, Snapshot};

/// How many of those who hold memory an error names.
const NAMED_CONSUMERS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(2);

/// Functions that make much out of nothing, past every bound of memory, and such as tell where files are.
const LEFT_OUT: &[&str] = &[
    "repeat",
    "lpad",
    "rpad",
    "array_repeat",
    "array_resize",
    "range",
    "generate_series",
    "input_file_name",
];

/// The same, that make tables.
const LEFT_OUT_TABLES: &[&str] = &["range", "generate_series"];

/// The most memory that one reader of a scan is reckoned with: so many run side by side as the memory allows.
const READER_MEMORY: u64 = 32 << 20;

/// The stack of the threads of queries: statements are walked recursively, and what is bounded elsewhere is deep
/// enough. It is memory only where it is used.
const STACK: usize = 64 << 20;

/// How many bytes of records one batch of the engine is to have, about.
const BATCH_BYTES: u64 = 16 << 20;

/// How many times larger records are when they are decompressed, at worst that is reckoned with.
const COMPRESSION: u64 = 8;

/// The most and the fewest rows of a batch.
const BATCH_ROWS: (u64, u64) = (16, 8_192);

/// What runs the queries of a node. Cheap to clone.
#[derive(Clone)]
pub struct Queries {
    inner: Arc<Inner>,
}

struct Inner {
    broker: Broker,
    options: QueryOptions,
    metrics: QueryMetrics,
    /// Where the tasks of the node run: requests to the store and to the broker are made there.
    node: Handle,
    places: Arc<Semaphore>,
    engine: Arc<RuntimeEnv>,
    /// The threads of queries, once there is one.
    threads: Mutex<Option<Runtime>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let threads = self.threads.get_mut();
        // What runs is dropped where it waits; nobody waits for that.
        if let Some(threads) = threads.unwrap_or_else(PoisonError::into_inner).take() {
            threads.shutdown_background();
        }
    }
}

impl Queries {
    /// What runs queries for clients of this broker. To be made where the node's tasks run.
    ///
    /// # Errors
    ///
    /// The engine cannot be made.
    pub fn new(
        broker: Broker,
        options: QueryOptions,
        metrics: QueryMetrics,
    ) -> Result<Queries, QueryError> {
        let memory = usize::try_from(options.memory.0).unwrap_or(usize::MAX);
        let pool = TrackConsumersPool::new(GreedyMemoryPool::new(memory), NAMED_CONSUMERS);
        let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
        let engine = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(pool))
            .with_disk_manager_builder(disk)
            .with_object_store_registry(Arc::new(NoStores::default()))
            .build_arc()
            .map_err(|error| QueryError::of_engine(&error, options.memory))?;
        Ok(Queries {
            inner: Arc::new(Inner {
                broker,
                options,
                metrics,
                node: Handle::current(),
                places: Arc::new(Semaphore::new(options.max_running)),
                engine,
                threads: Mutex::new(None),
            }),
        })
    }

    /// Answers one statement, for this client and in this form. Returns when the first rows are there;
    /// `watch` tells meanwhile and later how far it is.
    ///
    /// # Errors
    ///
    /// What is wrong with the statement, or in the way of it. What goes wrong later is told by [`Answer::next`].
    pub async fn run(
        &self,
        session: &Session,
        sql: &str,
        form: Form,
        watch: &Reading,
    ) -> Result<Answer, QueryError> {
        let inner = &self.inner;
        inner.metrics.running.inc();
        let mut ended = Ended {
            metrics: inner.metrics.clone(),
            began: Instant::now(),
            outcome: Outcome::Cancelled,
        };
        match self.begin(session, (sql, form, watch), ended.began).await {
            Ok((first, answers, task)) => Ok(Answer {
                first: Some(first),
                answers: Some(answers),
                ended,
                _task: task,
            }),
            Err(error) => {
                ended.outcome = Outcome::Failed(error.kind());
                Err(error)
            }
        }
    }

    async fn begin(
        &self,
        session: &Session,
        (sql, form, watch): (&str, Form, &Reading),
        began: Instant,
    ) -> Result<(Part, mpsc::Receiver<Sent>, AbortOnDropHandle<()>), QueryError> {
        let inner = &self.inner;
        let place = inner.places.clone().try_acquire_owned();
        let place = place.map_err(|_| QueryError::busy(inner.options.max_running))?;
        let snapshot = inner.broker.snapshot(session).await?;
        let shared = Shared {
            node: inner.node.clone(),
            options: inner.options,
            metrics: inner.metrics.clone(),
            reading: watch.clone(),
            engine: inner.engine.clone(),
        };
        let (send, mut answers) = mpsc::channel(1);
        let running = Running {
            inner: inner.clone(),
            shared,
            send: send.clone(),
            form,
            _place: place,
        };
        // Some of its steps cannot be broken off, such as those of planning. Who waits for it is answered beside it;
        // its place is free when it has ended.
        let sql = sql.to_owned();
        let work = async move { running.work(&sql, snapshot).await };
        let work = AbortOnDropHandle::new(self.on_threads(work)?);
        let task = watch_over(inner.clone(), work, send, began + inner.options.timeout);
        let task = AbortOnDropHandle::new(self.on_threads(task)?);
        let first = answers.recv().await.unwrap_or_else(|| Err(vanished()))?;
        Ok((first, answers, task))
    }

    /// How queries are bounded.
    pub fn options(&self) -> QueryOptions {
        self.inner.options
    }

    fn on_threads<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Result<tokio::task::JoinHandle<T>, QueryError> {
        let threads = &self.inner.threads;
        let mut threads = threads.lock().unwrap_or_else(PoisonError::into_inner);
        if threads.is_none() {
            let built = tokio::runtime::Builder::new_multi_thread()
                .thread_name("weir-query")
                .thread_stack_size(STACK)
                .enable_time()
                .build();
            let built = built.map_err(|error| {
                let message = format!("the threads of queries cannot be started: {error}");
                QueryError::new(QueryErrorKind::Failed, message)
            })?;
            *threads = Some(built);
        }
        match threads.as_ref() {
            Some(threads) => Ok(threads.spawn(task)),
            None => Err(vanished()),
        }
    }
}

/// A bug: the task of a query ended without saying how.
fn vanished() -> QueryError {
    let message = "the query ended without an answer; this is a bug in Weir, please report it with the statement";
    QueryError::new(QueryErrorKind::Failed, message)
}

/// What comes of a query, in order.
enum Part {
    More(Bytes),
    /// The last of it.
    End(Bytes),
}

type Sent = Result<Part, QueryError>;

/// The answer to a query, as bytes of its form.
pub struct Answer {
    first: Option<Part>,
    answers: Option<mpsc::Receiver<Sent>>,
    ended: Ended,
    _task: AbortOnDropHandle<()>,
}

/// Counts how a query ended when it is dropped.
struct Ended {
    metrics: QueryMetrics,
    began: Instant,
    outcome: Outcome,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.metrics.running.dec();
        self.metrics.ended(self.outcome, self.began.elapsed());
    }
}

impl Answer {
    /// What is next of it; `None` at the end. After an error there is nothing more.
    pub async fn next(&mut self) -> Result<Option<Bytes>, QueryError> {
        let Some(answers) = &mut self.answers else {
            return Ok(None);
        };
        let sent = match self.first.take() {
            Some(first) => Ok(first),
            None => answers.recv().await.unwrap_or_else(|| Err(vanished())),
        };
        match sent {
            Ok(Part::More(bytes)) => Ok(Some(bytes)),
            Ok(Part::End(bytes)) => {
                self.answers = None;
                self.ended.outcome = Outcome::Answered;
                Ok((!bytes.is_empty()).then_some(bytes))
            }
            Err(error) => {
                self.answers = None;
                self.ended.outcome = Outcome::Failed(error.kind());
                Err(error)
            }
        }
    }
}

/// How much a query has read. Clones are of the same query.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    inner: Arc<Amounts>,
}

#[derive(Debug, Default)]
struct Amounts {
    bytes: AtomicU64,
    records: AtomicU64,
    expected: AtomicU64,
}

impl Reading {
    /// Bytes of record batches that were read, and about how many there are to be read.
    pub fn progress(&self) -> (u64, u64) {
        let bytes = self.inner.bytes.load(Ordering::Relaxed);
        (bytes, self.inner.expected.load(Ordering::Relaxed))
    }

    /// Records that were read.
    pub fn total_records(&self) -> u64 {
        self.inner.records.load(Ordering::Relaxed)
    }
}

/// What the parts of one query share.
#[derive(Clone)]
pub(super) struct Shared {
    node: Handle,
    options: QueryOptions,
    metrics: QueryMetrics,
    reading: Reading,
    engine: Arc<RuntimeEnv>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl Shared {
    /// Starts something where the node's tasks run, to be awaited by a query: who drops the handle stops it.
    pub(super) fn spawn_on_node<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> AbortOnDropHandle<T> {
        AbortOnDropHandle::new(self.node.spawn(work))
    }

    /// The same, awaited.
    pub(super) async fn on_node<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, QueryError> {
        self.spawn_on_node(work).await.map_err(|error| {
            QueryError::new(QueryErrorKind::Failed, format!("reading failed: {error}"))
        })
    }

    /// Memory of all queries, for this purpose; none at first.
    pub(super) fn memory(&self, purpose: &str) -> MemoryReservation {
        MemoryConsumer::new(purpose).register(&self.engine.memory_pool)
    }

    pub(super) fn options(&self) -> QueryOptions {
        self.options
    }

    pub(super) fn reading(&self) -> Counting<'_> {
        Counting(self)
    }
}

/// Counts what a query reads, for it and for the node.
pub(super) struct Counting<'a>(&'a Shared);

impl Counting<'_> {
    pub(super) fn expect_bytes(&self, bytes: u64) {
        let expected = &self.0.reading.inner.expected;
        expected.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn bytes(&self, bytes: u64) {
        self.0.metrics.read.inc_by(bytes);
        self.0
            .reading
            .inner
            .bytes
            .fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn records(&self, records: u64) {
        self.0.metrics.records.inc_by(records);
        let counted = &self.0.reading.inner.records;
        counted.fetch_add(records, Ordering::Relaxed);
    }
}

/// A query that runs.
struct Running {
    inner: Arc<Inner>,
    shared: Shared,
    send: mpsc::Sender<Sent>,
    form: Form,
    _place: OwnedSemaphorePermit,
}

/// Sees a query to its end: tells its client what became of it, or that its time is over, and stops it if nobody wants
/// it any more.
async fn watch_over(
    inner: Arc<Inner>,
    work: AbortOnDropHandle<Result<Bytes, QueryError>>,
    send: mpsc::Sender<Sent>,
    deadline: Instant,
) {
    let ended = tokio::select! {
        ended = work => ended.unwrap_or_else(|_| Err(vanished())),
        // Nobody wants it any more.
        () = send.closed() => return,
        () = tokio::time::sleep_until(deadline) => {
            Err(QueryError::timed_out(inner.options.timeout))
        }
    };
    // What it had reserved was given back with it.
    inner.gauge_memory();
    let last = ended.map(Part::End);
    // Who does not take it has gone.
    let _ = tokio::time::timeout_at(deadline + GONE, send.send(last)).await;
}

impl Inner {
    fn gauge_memory(&self) {
        let reserved = self.engine.memory_pool.reserved();
        let gauge = &self.metrics.memory;
        gauge.set(i64::try_from(reserved).unwrap_or(i64::MAX));
    }
}

impl Running {
    /// Sends the answer but for its end, which it returns.
    async fn work(&self, sql: &str, snapshot: Snapshot) -> Result<Bytes, QueryError> {
        let statement: Statement = parse(sql)?;
        let memory = self.inner.options.memory;
        let failed = |error: DataFusionError| QueryError::of_engine(&error, memory);
        let tables = Tables::new(snapshot, self.shared.clone());
        let context = self.context(&tables, BATCH_ROWS.1);
        let state = context.state();
        let used = state.resolve_table_references(&statement);
        let used: Vec<TableReference> = used.map_err(failed)?;
        let is_function = |name: &str| state.table_functions().contains_key(name);
        tables.check(&used, asks_what_there_is(&statement), is_function)?;
        let context = self.context(&tables, tables.batch_rows(&used));
        let state = context.state();
        let plan: LogicalPlan = state.statement_to_plan(statement).await.map_err(failed)?;
        let reads = SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false);
        reads.verify_plan(&plan).map_err(|error| {
            let message = format!(
                "{}; a query reads topics and changes nothing",
                error.message()
            );
            QueryError::new(QueryErrorKind::Refused, message)
        })?;
        let physical = state.create_physical_plan(&plan).await.map_err(failed)?;
        let physical = bounded(physical).map_err(failed)?;
        let mut encoder = Encoder::new(self.form, &physical.schema())?;
        let mut rows = execute_stream(physical, context.task_ctx()).map_err(failed)?;
        while let Some(batch) = rows.next().await {
            let batch = batch.map_err(failed)?;
            self.inner.gauge_memory();
            let count = u64::try_from(batch.num_rows()).unwrap_or(u64::MAX);
            self.inner.metrics.rows.inc_by(count);
            let bytes = encoder.write(&batch)?;
            if !bytes.is_empty() {
                // Who does not take it has gone, which ends this at its next wait.
                let _ = self.send.send(Ok(Part::More(bytes))).await;
            }
        }
        encoder.finish()
    }

    /// How many parts of a query run side by side.
    fn readers(&self) -> usize {
        let memory = self.inner.options.memory.0 / READER_MEMORY;
        let memory = usize::try_from(memory).unwrap_or(usize::MAX);
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        cores.min(memory).max(1)
    }

    fn context(&self, tables: &Tables, batch_rows: u64) -> SessionContext {
        let mut config = SessionConfig::new()
            .with_default_catalog_and_schema(CATALOG, SCHEMA)
            .with_create_default_catalog_and_schema(false)
            .with_information_schema(true)
            .with_target_partitions(self.readers())
            .with_batch_size(usize::try_from(batch_rows).unwrap_or(usize::MAX));
        let options = config.options_mut();
        options.execution.time_zone = Some("UTC".to_owned());
        let state = SessionStateBuilder::new_with_default_features()
            .with_config(config)
            .with_runtime_env(self.inner.engine.clone())
            .build();
        let context = SessionContext::new_with_state(state);
        for function in LEFT_OUT {
            context.deregister_udf(function);
        }
        for function in LEFT_OUT_TABLES {
            context.deregister_udtf(function);
        }
        functions::register(&context, self.inner.options.memory);
        context.register_catalog(CATALOG, Arc::new(tables.clone()));
        context
    }
}

/// For how long the end of a query is kept for a client that does not take it.
const GONE: std::time::Duration = std::time::Duration::from_secs(30);

/// How many rows a batch is to have of records of that size: what is large by nature is handled in few.
pub(super) fn batch_rows(bytes: u64, records: u64) -> u64 {
    let each = (bytes / records.max(1)).saturating_mul(COMPRESSION).max(1);
    (BATCH_BYTES / each).clamp(BATCH_ROWS.0, BATCH_ROWS.1)
}
