//! Extents of objects, loaded and cached.

use std::sync::Arc;

use bytes::Bytes;
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use tokio::sync::Semaphore;

use super::ahead::{Ahead, Reading, RunLoad, Soon};
use super::block::Block;
use super::error::LoadError;
use super::extents::{BLOCK, Extent, Key, STRETCH, Window};
use super::metrics::FetchMetrics;
use crate::segment::{ChunkIndex, check_slice};
use crate::state::{ObjectRef, Slice, SliceIndex};
use crate::store::{ObjectPath, RequestKind, Store, StoreError};
use crate::types::{ByteCount, LogId, Offset, TopicPartition};

/// How much is cached and how much is loaded at once.
#[derive(Clone, Debug)]
pub struct CacheOptions {
    /// The bytes of all caches together.
    pub size: ByteCount,
    /// Blocks of recent objects that are loaded at once.
    pub tail_loads: usize,
    /// Blocks of old objects that are loaded at once.
    pub catch_up_loads: usize,
}

impl Default for CacheOptions {
    fn default() -> CacheOptions {
        CacheOptions {
            size: ByteCount::mib(256),
            tail_loads: 16,
            catch_up_loads: 64,
        }
    }
}

/// Sixteenths of the memory for the indexes of compacted slices: enough for some hundred slices of 256 MiB.
const INDEXES: u64 = 1;

/// Sixteenths of the memory for what is old: enough to read eight partitions in the longest requests from a distant
/// store. The rest is the tail's.
const CATCH_UP: u64 = 11;

/// The caches and the loads that fill them. Cheap to clone.
#[derive(Clone)]
pub struct Blocks {
    store: Store,
    log: LogId,
    metrics: FetchMetrics,
    tail: Pool,
    catch_up: Pool,
    indexes: Cache<Key, Arc<ChunkIndex>>,
}

/// A cache with a bound on the loads that fill it at once.
#[derive(Clone)]
struct Pool {
    cache: Cache<Key, Block>,
    /// A permit for each block of memory that loads take.
    loads: Arc<Semaphore>,
    most_permits: u32,
    ahead: Ahead,
}

impl Pool {
    fn new(size: u64, loads: usize) -> Pool {
        let ahead = Ahead::new(size);
        let evicted = ahead.clone();
        let cache = Cache::builder()
            // The default policy admits by frequency and would turn away what was just written.
            .eviction_policy(EvictionPolicy::lru())
            .weigher(|_: &Key, block: &Block| u32::try_from(block.len()).unwrap_or(u32::MAX))
            .max_capacity(size)
            .eviction_listener(move |key: Arc<Key>, _, _| evicted.end(&key))
            .build();
        let most_permits = u32::try_from(loads.max(1)).unwrap_or(u32::MAX);
        Pool {
            cache,
            loads: Arc::new(Semaphore::new(most_permits as usize)),
            most_permits,
            ahead,
        }
    }
}

impl Blocks {
    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// An empty cache over `store`, for readers of the objects of `log`.
    pub fn new(store: Store, log: LogId, options: &CacheOptions, metrics: FetchMetrics) -> Blocks {
        let indexes = options.size.0 / 16 * INDEXES;
        let catch_up = options.size.0 / 16 * CATCH_UP;
        let tail = options.size.0 - catch_up - indexes;
        Blocks {
            store,
            log,
            metrics,
            tail: Pool::new(tail, options.tail_loads),
            catch_up: Pool::new(catch_up, options.catch_up_loads),
            indexes: Cache::builder()
                .eviction_policy(EvictionPolicy::lru())
                .weigher(|_: &Key, index: &Arc<ChunkIndex>| {
                    u32::try_from(index.memory()).unwrap_or(u32::MAX)
                })
                .max_capacity(indexes)
                .build(),
        }
    }

    /// The log whose objects are read: their names say it of none of them, and their keys in the caches of each.
    pub(super) fn log(&self) -> LogId {
        self.log
    }

    fn pool(&self, recent: bool) -> &Pool {
        if recent { &self.tail } else { &self.catch_up }
    }

    /// Puts a whole object that was just written or followed in the cache, as the blocks of [`split`](super::split).
    /// Returns when readers find it.
    pub async fn put(&self, object: ObjectRef, blocks: Vec<Block>) {
        for (index, block) in (0..).zip(blocks) {
            let key = Extent::block(self.log, object, index, true).key();
            self.tail.cache.insert(key, block).await;
        }
        self.note_size();
    }

    /// The bytes of `extent`. Of `next`, which the same reader will read right after it, what lies behind it and is
    /// not there comes with the same request.
    pub(super) async fn get(&self, extent: Extent, next: &[Extent]) -> Result<Block, LoadError> {
        let key = extent.key();
        for pool in [&self.tail, &self.catch_up] {
            if let Some(block) = pool.cache.get(&key).await {
                pool.ahead.end(&key);
                self.metrics.hits.inc();
                return Ok(block);
            }
        }
        self.metrics.misses.inc();
        let pool = self.pool(extent.recent);
        let mut run = vec![extent];
        let is_new = pool.ahead.note(&extent);
        let _reading = Reading::new(&pool.ahead, key);
        for extent in next.iter().take_while(|_| is_new) {
            let follows = run
                .last()
                .is_some_and(|last| last.comes_with(extent, STRETCH));
            if !follows || self.is_cached(extent) || !pool.ahead.note(extent) {
                break;
            }
            run.push(*extent);
        }
        // What was loaded ahead may be on its way.
        let coming = match run.len() {
            1 => pool.ahead.load_of(&key),
            _ => Some((self.start(run), 0)),
        };
        let block = match coming {
            None => pool.cache.try_get_with(key, self.load_one(extent)).await,
            Some((load, number)) => {
                let part = part_of(load, number, extent);
                pool.cache.try_get_with(key, part).await
            }
        };
        self.note_size();
        block.map_err(Arc::unwrap_or_clone)
    }

    /// How what is old is to be loaded for fetches of `bytes` from so many partitions.
    pub(super) fn window(&self, partitions: usize, bytes: u64) -> Window {
        Window::of(self.catch_up.ahead.capacity(), partitions, bytes)
    }

    /// Loads extents that will be wanted, in the background, unless they are there or enough is loaded ahead. Whatever
    /// the order in which they are wanted, those that lie side by side in a stretch of that length come with one
    /// request.
    pub(super) fn prefetch(
        &self,
        extents: impl IntoIterator<Item = Extent>,
        soon: Soon,
        stretch: u64,
    ) {
        let is_missing = |extent: &Extent| {
            !self.pool(extent.recent).ahead.is_noted(extent) && !self.is_cached(extent)
        };
        let mut missing: Vec<Extent> = extents.into_iter().filter(is_missing).collect();
        missing.sort_unstable_by_key(Extent::key);
        missing.dedup_by_key(|extent| extent.key());
        for run in missing.chunk_by(|extent, next| extent.comes_with(next, stretch)) {
            let Some(first) = run.first() else {
                continue;
            };
            let count = self.pool(first.recent).ahead.begin(run, soon);
            let run = run.get(..count).unwrap_or_default();
            if !run.is_empty() {
                self.metrics.readahead.inc_by(run.len() as u64);
                drop(self.start(run.to_vec()));
            }
        }
    }

    /// Begins the load of extents that follow one another; in the background it goes on to its end.
    fn start(&self, run: Vec<Extent>) -> Arc<RunLoad> {
        let load = Arc::new(self.load_run(run.clone()));
        if let Some(first) = run.first() {
            self.pool(first.recent).ahead.is_coming(&run, &load);
        }
        self.spawn(self.clone().fill(run, load.clone()));
        load
    }

    /// Starts a task that loads something.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.store.options().env.spawn(task);
    }

    /// Puts what a run brings in the cache, as it comes.
    async fn fill(self, run: Vec<Extent>, load: Arc<RunLoad>) {
        for (number, extent) in run.into_iter().enumerate() {
            let (pool, key) = (self.pool(extent.recent), extent.key());
            let part = part_of(load.clone(), number, extent);
            if pool.cache.try_get_with(key, part).await.is_err() {
                // Who wants it meets the error, if it lasts.
                pool.ahead.end(&key);
            }
        }
    }

    fn is_cached(&self, extent: &Extent) -> bool {
        let key = extent.key();
        self.tail.cache.contains_key(&key) || self.catch_up.cache.contains_key(&key)
    }

    /// The load of extents that follow one another.
    fn load_run(&self, run: Vec<Extent>) -> RunLoad {
        let blocks = self.clone();
        RunLoad::new(|come| async move {
            let Some(first) = run.first() else {
                return Ok(());
            };
            let lens: Vec<u64> = run.iter().map(|extent| extent.len).collect();
            let note = |number, bytes: &Bytes| come.note(number, bytes);
            blocks
                .load(first.object, first.start, &lens, first.recent, &note)
                .await?;
            Ok(())
        })
    }

    async fn load_one(&self, extent: Extent) -> Result<Block, LoadError> {
        let lens = [extent.len];
        let load = self.load(
            extent.object,
            extent.start,
            &lens,
            extent.recent,
            &|_, _| (),
        );
        checked(&extent, load.await?.pop().unwrap_or_default())
    }

    /// The pieces of these lengths from `start` on, by one request; each in memory of its own, so that what the caches
    /// count is what they hold. `come` hears of each as soon as it is there.
    async fn load(
        &self,
        object: ObjectRef,
        start: u64,
        lens: &[u64],
        recent: bool,
        come: &(dyn Fn(usize, &Bytes) + Sync),
    ) -> Result<Vec<Bytes>, StoreError> {
        let pool = self.pool(recent);
        let blocks = lens.iter().sum::<u64>().div_ceil(BLOCK);
        let permits = u32::try_from(blocks)
            .unwrap_or(u32::MAX)
            .min(pool.most_permits);
        let _permits = pool.loads.acquire_many(permits).await;
        let (path, kind) = match object {
            ObjectRef::Commit(seq) => (ObjectPath::commit(seq), RequestKind::CommitGet),
            ObjectRef::Segment(id) => (ObjectPath::segment(id), RequestKind::SegmentGet),
        };
        self.store.get_pieces(&path, start, lens, kind, come).await
    }

    /// The index of a compacted slice of `partition` that begins with the offset `base`.
    pub(super) async fn index(
        &self,
        partition: TopicPartition,
        base: Offset,
        slice: &Slice,
        at: SliceIndex,
        recent: bool,
    ) -> Result<Arc<ChunkIndex>, LoadError> {
        let load = async {
            let lens = [at.len.into()];
            let load = self.load(slice.object, at.start, &lens, recent, &|_, _| ());
            let bytes = load.await?.pop().unwrap_or_default();
            let name = name_of(slice.object);
            let index = ChunkIndex::decode(&name, &bytes).map_err(LoadError::Damaged)?;
            let range = slice.start..slice.start + slice.len;
            index
                .expect(&name, partition, &(base..slice.end), &range)
                .map_err(LoadError::Damaged)?;
            Ok(Arc::new(index))
        };
        let key = (self.log, slice.object, at.start);
        let index = self.indexes.try_get_with(key, load).await;
        index.map_err(Arc::unwrap_or_clone)
    }

    /// Counts what a reader was given.
    pub(super) fn note_read(&self, records: u64, bytes: usize) {
        self.metrics.records.inc_by(records);
        self.metrics.bytes.inc_by(bytes as u64);
    }

    fn note_size(&self) {
        let size = self.tail.cache.weighted_size()
            + self.catch_up.cache.weighted_size()
            + self.indexes.weighted_size();
        self.metrics
            .cached
            .set(i64::try_from(size).unwrap_or(i64::MAX));
    }
}

/// What a load brings for an extent, checked.
async fn part_of(load: Arc<RunLoad>, number: usize, extent: Extent) -> Result<Block, LoadError> {
    checked(&extent, load.extent(number).await?)
}

fn checked(extent: &Extent, bytes: Bytes) -> Result<Block, LoadError> {
    if let Some(crc) = extent.crc {
        let range = extent.start..extent.start + extent.len;
        check_slice(&name_of(extent.object), &range, crc, &bytes).map_err(LoadError::Damaged)?;
    }
    Ok(bytes.into())
}

fn name_of(object: ObjectRef) -> String {
    match object {
        ObjectRef::Commit(seq) => ObjectPath::commit(seq).to_string(),
        ObjectRef::Segment(id) => ObjectPath::segment(id).to_string(),
    }
}
