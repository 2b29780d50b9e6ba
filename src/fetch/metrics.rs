//! What the read path counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// The read path's metrics. Cheap to clone; clones count together.
#[derive(Clone, Debug, Default)]
pub struct FetchMetrics {
    /// Blocks that were in the cache.
    pub hits: Counter,
    /// Blocks that were not.
    pub misses: Counter,
    /// Blocks that were loaded before anybody asked for them.
    pub readahead: Counter,
    /// Bytes in the caches.
    pub cached: Gauge,
    /// Records handed out.
    pub records: Counter,
    /// Bytes of batches handed out.
    pub bytes: Counter,
}

impl FetchMetrics {
    /// Metrics that `registry` shows.
    pub fn register(registry: &mut Registry) -> FetchMetrics {
        let m = FetchMetrics::default();
        let out = registry.sub_registry_with_prefix("weir_fetch");
        out.register("records", "Records handed out", m.records.clone());
        out.register_with_unit("handed_out", "Handed out", Unit::Bytes, m.bytes.clone());
        let r = registry.sub_registry_with_prefix("weir_cache");
        r.register(
            "hits",
            "Blocks of objects that were in the cache when asked for",
            m.hits.clone(),
        );
        r.register(
            "misses",
            "Blocks of objects that were not in the cache when asked for",
            m.misses.clone(),
        );
        r.register(
            "readahead",
            "Blocks that were loaded before they were asked for",
            m.readahead.clone(),
        );
        r.register_with_unit("size", "Bytes in the cache", Unit::Bytes, m.cached.clone());
        m
    }
}
