//! How a node is made, from its settings.

use std::sync::Arc;
use std::time::Duration;

use crate::broker::{BrokerOptions, CatalogOptions};
use crate::config::{NodeConfig, StoreConfig};
use crate::env::Env;
use crate::fetch::CacheOptions;
use crate::ingest::IngestOptions;
use crate::maintain::MaintenanceOptions;
use crate::manifest::{ManifestOptions, Peers};
use crate::state::Level;
use crate::store::{InvalidStoreUrl, StoreOptions, StoreUrl};

/// The least time between two commits where requests cost money: ten PUTs a second at most. See
/// `docs/cost.md`.
const CLOUD_COMMIT_INTERVAL: Duration = Duration::from_millis(100);

/// How often a bucket is probed while somebody follows; twenty GETs a second at most.
const CLOUD_FOLLOW_INTERVAL: Duration = Duration::from_millis(50);

/// How often a file or memory store is.
const LOCAL_FOLLOW_INTERVAL: Duration = Duration::from_millis(10);

/// How often a node looks whether a directory is still that of its cluster: it costs nothing.
const LOCAL_LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How a node is made.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Where everything durable is.
    pub url: StoreUrl,
    /// How its requests are made; also brings the clocks and the randomness of the whole node.
    pub store: StoreOptions,
    /// How the log is written and followed.
    pub manifest: ManifestOptions,
    /// How messages are gathered.
    pub ingest: IngestOptions,
    /// How much is cached.
    pub cache: CacheOptions,
    /// How operations behave.
    pub broker: BrokerOptions,
    /// How background work behaves; `None` leaves it to other nodes.
    pub maintenance: Option<MaintenanceOptions>,
    /// The way to other nodes, so that they race less.
    pub peers: Option<Arc<dyn Peers>>,
    /// Whether the store is checked at start.
    pub check_store: bool,
}

impl NodeOptions {
    /// The defaults, on this store.
    pub fn new(url: StoreUrl, env: Env) -> NodeOptions {
        let remote = url.is_remote();
        let defaults = ManifestOptions::default();
        let manifest = ManifestOptions {
            look_interval: if remote {
                defaults.look_interval
            } else {
                LOCAL_LOOK_INTERVAL
            },
            commit_interval: if remote {
                CLOUD_COMMIT_INTERVAL
            } else {
                Duration::ZERO
            },
            follow_interval: if remote {
                CLOUD_FOLLOW_INTERVAL
            } else {
                LOCAL_FOLLOW_INTERVAL
            },
            ..defaults
        };
        NodeOptions {
            url,
            store: StoreOptions::new(env),
            manifest,
            ingest: IngestOptions::default(),
            cache: CacheOptions::default(),
            broker: BrokerOptions::default(),
            maintenance: None,
            peers: None,
            check_store: false,
        }
    }

    /// What these settings say.
    ///
    /// # Errors
    ///
    /// A store URL that is none.
    pub fn from_config(
        store: &StoreConfig,
        node: &NodeConfig,
        env: Env,
    ) -> Result<NodeOptions, InvalidStoreUrl> {
        let mut options = NodeOptions::new(store.store.parse()?, env);
        options.store.connect_timeout = store.store_connect_timeout;
        options.store.request_timeout = store.store_request_timeout;
        options.store.log_timeout = store.store_log_timeout;
        options.store.retry.deadline = store.store_retry_deadline;
        options.store.max_requests = as_usize(store.store_max_requests);
        if let Some(interval) = node.commit_interval {
            options.manifest.commit_interval = interval;
        }
        options.manifest.commits_in_flight = as_usize(node.commits_in_flight);
        if let Some(level) = node.max_level {
            options.manifest.level =
                Level(u16::try_from(level).unwrap_or(u16::MAX)).min(Level::NEWEST);
        }
        if let Some(interval) = node.follow_interval {
            options.manifest.follow_interval = interval;
        }
        options.ingest = IngestOptions {
            buffer: node.ingest_buffer,
            inline_limit: node.inline_limit,
            segment_size: node.segment_size,
            uploads: as_usize(node.upload_parallelism),
            ..IngestOptions::default()
        };
        options.cache.size = node.cache;
        options.broker.node_lease = node.node_lease;
        options.broker.max_partitions = node.max_partitions.into();
        options.broker.catalog = CatalogOptions {
            access: node.catalog,
            role: node.catalog_role.clone(),
            lifetime: node.catalog_lifetime,
        };
        Ok(options)
    }
}

fn as_usize(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
