//! Blocks of objects, cached.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use tokio::sync::Semaphore;

use super::metrics::FetchMetrics;
use crate::state::ObjectRef;
use crate::store::{ObjectPath, RequestKind, Store, StoreError};
use crate::types::ByteCount;

/// The length of a block in bytes; the last of an object may be shorter.
pub const BLOCK: u64 = 1 << 20;

/// How much is cached and how much is loaded at once.
#[derive(Clone, Debug)]
pub struct CacheOptions {
    /// The bytes of both caches together.
    pub size: ByteCount,
    /// Loads of recent objects at once.
    pub tail_loads: usize,
    /// Loads of old objects at once.
    pub catch_up_loads: usize,
}

impl Default for CacheOptions {
    fn default() -> CacheOptions {
        CacheOptions {
            size: ByteCount::mib(128),
            tail_loads: 16,
            catch_up_loads: 32,
        }
    }
}

/// Which block.
type Key = (ObjectRef, u64);

/// The cache of blocks and the loads that fill it. Cheap to clone.
#[derive(Clone)]
pub struct Blocks {
    store: Store,
    metrics: FetchMetrics,
    tail: Pool,
    catch_up: Pool,
}

/// A cache with a bound on the loads that fill it at once.
#[derive(Clone)]
struct Pool {
    cache: Cache<Key, Bytes>,
    loads: Arc<Semaphore>,
}

impl Pool {
    fn new(size: u64, loads: usize) -> Pool {
        let cache = Cache::builder()
            // The default policy admits by frequency and would turn away what was just written.
            .eviction_policy(EvictionPolicy::lru())
            .weigher(|_: &Key, block: &Bytes| u32::try_from(block.len()).unwrap_or(u32::MAX))
            .max_capacity(size)
            .build();
        Pool {
            cache,
            loads: Arc::new(Semaphore::new(loads)),
        }
    }
}

/// Cuts the parts of an object into blocks, each with memory of its own, so that what the cache counts is
/// what it holds.
pub fn split(parts: &[Bytes]) -> Vec<Bytes> {
    let block = BLOCK as usize;
    let mut left: usize = parts.iter().map(Bytes::len).sum();
    let mut blocks = Vec::with_capacity(left.div_ceil(block));
    let mut current = BytesMut::with_capacity(left.min(block));
    for part in parts {
        let mut rest = &part[..];
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(rest.len().min(block - current.len()));
            current.extend_from_slice(head);
            left -= head.len();
            rest = tail;
            if current.len() == block {
                blocks.push(std::mem::take(&mut current).freeze());
                current.reserve(left.min(block));
            }
        }
    }
    if !current.is_empty() {
        blocks.push(current.freeze());
    }
    blocks
}

impl Blocks {
    /// An empty cache over `store`.
    pub fn new(store: Store, options: &CacheOptions, metrics: FetchMetrics) -> Blocks {
        let catch_up = options.size.0 / 4;
        let tail = options.size.0 - catch_up;
        Blocks {
            store,
            metrics,
            tail: Pool::new(tail, options.tail_loads.max(1)),
            catch_up: Pool::new(catch_up, options.catch_up_loads.max(1)),
        }
    }

    /// Puts a whole object that was just written or followed in the cache, as the blocks of [`split`]. Returns
    /// when readers find it.
    pub async fn put(&self, object: ObjectRef, blocks: Vec<Bytes>) {
        for (index, block) in (0..).zip(blocks) {
            self.tail.cache.insert((object, index), block).await;
        }
        self.note_size();
    }

    /// The block of `object` with this index. `recent` says which pool and cache a load goes to.
    pub(super) async fn get(
        &self,
        object: ObjectRef,
        index: u64,
        recent: bool,
    ) -> Result<Bytes, Arc<StoreError>> {
        let key = (object, index);
        for pool in [&self.tail, &self.catch_up] {
            if let Some(block) = pool.cache.get(&key).await {
                self.metrics.hits.inc();
                return Ok(block);
            }
        }
        self.metrics.misses.inc();
        let pool = if recent { &self.tail } else { &self.catch_up };
        let block = pool
            .cache
            .try_get_with(key, self.load(key, &pool.loads))
            .await;
        self.note_size();
        block
    }

    /// Loads a block that will be wanted, in the background, unless it is there or the pool is busy.
    pub(super) fn prefetch(&self, object: ObjectRef, index: u64, recent: bool) {
        let key = (object, index);
        let pool = if recent { &self.tail } else { &self.catch_up };
        let cached = self.tail.cache.contains_key(&key) || self.catch_up.cache.contains_key(&key);
        if cached || pool.loads.available_permits() == 0 {
            return;
        }
        self.metrics.readahead.inc();
        let (blocks, cache, loads) = (self.clone(), pool.cache.clone(), pool.loads.clone());
        tokio::spawn(async move {
            // Who wants the block meets the error, if it lasts.
            let _ = cache.try_get_with(key, blocks.load(key, &loads)).await;
        });
    }

    async fn load(&self, (object, index): Key, loads: &Semaphore) -> Result<Bytes, StoreError> {
        let _permit = loads.acquire().await;
        let (path, kind) = match object {
            ObjectRef::Commit(seq) => (ObjectPath::commit(seq), RequestKind::CommitGet),
            ObjectRef::Segment(id) => (ObjectPath::segment(id), RequestKind::SegmentGet),
        };
        let start = index * BLOCK;
        let (bytes, _) = self
            .store
            .get_range(&path, start..start + BLOCK, kind)
            .await?;
        Ok(bytes)
    }

    /// Counts what a reader was given.
    pub(super) fn note_read(&self, records: u64, bytes: usize) {
        self.metrics.records.inc_by(records);
        self.metrics.bytes.inc_by(bytes as u64);
    }

    fn note_size(&self) {
        let size = self.tail.cache.weighted_size() + self.catch_up.cache.weighted_size();
        self.metrics
            .cached
            .set(i64::try_from(size).unwrap_or(i64::MAX));
    }
}
