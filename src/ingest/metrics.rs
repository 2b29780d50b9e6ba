//! What the write path counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// The write path's metrics. Cheap to clone; clones count together.
#[derive(Clone, Debug, Default)]
pub struct IngestMetrics {
    /// Bytes admitted and not yet answered.
    pub buffered: Gauge,
    /// The size of the buffer.
    pub buffer_size: Gauge,
    /// Records admitted.
    pub records: Counter,
    /// Bytes of batches admitted.
    pub bytes: Counter,
    /// Appends that had to wait for space.
    pub waits: Counter,
    /// Bytes that travelled in commits.
    pub inline: Counter,
    /// Bytes that went to segments.
    pub uploaded: Counter,
    /// Segments that were uploaded.
    pub segments: Counter,
    /// Segments whose upload failed.
    pub failures: Counter,
}

impl IngestMetrics {
    /// Metrics that `registry` shows.
    pub fn register(registry: &mut Registry) -> IngestMetrics {
        let m = IngestMetrics::default();
        let r = registry.sub_registry_with_prefix("weir_ingest");
        let bytes = || Unit::Bytes;
        r.register_with_unit(
            "buffered",
            "Admitted and not yet answered",
            bytes(),
            m.buffered.clone(),
        );
        r.register_with_unit(
            "buffer_size",
            "Size of the buffer",
            bytes(),
            m.buffer_size.clone(),
        );
        r.register("records", "Records taken in", m.records.clone());
        r.register_with_unit("taken", "Taken in", bytes(), m.bytes.clone());
        r.register(
            "buffer_waits",
            "Appends that had to wait for space",
            m.waits.clone(),
        );
        r.register_with_unit("inline", "Travelled in commits", bytes(), m.inline.clone());
        r.register_with_unit("uploaded", "Went to segments", bytes(), m.uploaded.clone());
        r.register("segments", "Segments uploaded", m.segments.clone());
        r.register(
            "upload_failures",
            "Segments whose upload failed",
            m.failures.clone(),
        );
        m
    }
}
