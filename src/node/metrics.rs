//! The metrics of a node's parts.

use prometheus_client::registry::Registry;

use crate::fetch::FetchMetrics;
use crate::ingest::IngestMetrics;
use crate::maintain::MaintenanceMetrics;
use crate::manifest::ManifestMetrics;
use crate::store::StoreMetrics;

/// The metrics of a node's parts. Cheap to clone; clones count together.
#[derive(Clone, Default)]
pub struct NodeMetrics {
    pub(super) store: StoreMetrics,
    pub(super) manifest: ManifestMetrics,
    pub(super) ingest: IngestMetrics,
    pub(super) fetch: FetchMetrics,
    pub(super) maintenance: MaintenanceMetrics,
}

impl NodeMetrics {
    /// Metrics that `registry` shows.
    pub fn register(registry: &mut Registry) -> NodeMetrics {
        NodeMetrics {
            store: StoreMetrics::register(registry),
            manifest: ManifestMetrics::register(registry),
            ingest: IngestMetrics::register(registry),
            fetch: FetchMetrics::register(registry),
            maintenance: MaintenanceMetrics::register(registry),
        }
    }

    /// Those of the manifest.
    pub fn manifest(&self) -> &ManifestMetrics {
        &self.manifest
    }

    /// Those of background work.
    pub fn maintenance(&self) -> &MaintenanceMetrics {
        &self.maintenance
    }
}
