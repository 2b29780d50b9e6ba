//! Blocks of objects, cached.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    ahead: Ahead,
}

/// The blocks that were loaded ahead of their reader and not read yet. Bounded to half of the cache, for all
/// readers together: more would push each other out before anybody reads them.
#[derive(Clone)]
struct Ahead {
    unread: Arc<Mutex<HashSet<Key>>>,
    most: usize,
}

impl Ahead {
    fn unread(&self) -> MutexGuard<'_, HashSet<Key>> {
        // Nothing in a critical section panics half-way through a change.
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the block may be loaded ahead; if so it counts until it is read or evicted.
    fn begin(&self, key: Key) -> bool {
        let mut unread = self.unread();
        unread.len() < self.most && unread.insert(key)
    }

    fn end(&self, key: &Key) {
        self.unread().remove(key);
    }
}

/// The least number of blocks that may be loaded ahead.
const LEAST_AHEAD: usize = 8;

impl Pool {
    fn new(size: u64, loads: usize) -> Pool {
        let blocks = usize::try_from(size / BLOCK / 2).unwrap_or(usize::MAX);
        let ahead = Ahead {
            unread: Arc::default(),
            most: blocks.max(LEAST_AHEAD),
        };
        let evicted = ahead.clone();
        let cache = Cache::builder()
            // The default policy admits by frequency and would turn away what was just written.
            .eviction_policy(EvictionPolicy::lru())
            .weigher(|_: &Key, block: &Bytes| u32::try_from(block.len()).unwrap_or(u32::MAX))
            .max_capacity(size)
            .eviction_listener(move |key: Arc<Key>, _, _| evicted.end(&key))
            .build();
        Pool {
            cache,
            loads: Arc::new(Semaphore::new(loads)),
            ahead,
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
        let catch_up = options.size.0 / 2;
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
                pool.ahead.end(&key);
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
        pool.ahead.end(&key);
        self.note_size();
        block
    }

    /// Loads a block that will be wanted, in the background, unless it is there or enough is loaded ahead.
    pub(super) fn prefetch(&self, object: ObjectRef, index: u64, recent: bool) {
        let key = (object, index);
        let pool = if recent { &self.tail } else { &self.catch_up };
        let cached = self.tail.cache.contains_key(&key) || self.catch_up.cache.contains_key(&key);
        if cached || !pool.ahead.begin(key) {
            return;
        }
        self.metrics.readahead.inc();
        let (blocks, pool) = (self.clone(), pool.clone());
        self.store.options().env.spawn(async move {
            let load = blocks.load(key, &pool.loads);
            if pool.cache.try_get_with(key, load).await.is_err() {
                // Who wants the block meets the error, if it lasts.
                pool.ahead.end(&key);
            }
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
