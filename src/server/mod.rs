//! The composition root of `weir serve`: a node and its front ends, built, wired, run and shut down.
//!
//! Shutting down: readiness goes, so that load balancers look elsewhere; the front ends take no new connection
//! and answer what they have begun; the node commits what was handed in and takes itself out of the cluster. All
//! of it within a grace period, after which the process ends as a crash would end it: nothing acknowledged is
//! lost either way.

mod listeners;

pub use listeners::{ListenError, Listening};

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::broker::{Broker, Endpoints, Look, Neighbour, NodeProperties, Unavailable};
use crate::config::{CatalogAccess, Protocol, ServeConfig};
use crate::env::Env;
use crate::http::{HttpFrontEnd, StateMetrics};
use crate::kafka::{KafkaFrontEnd, KafkaMetrics, KafkaOptions};
use crate::maintain::MaintenanceOptions;
use crate::manifest::{PEER_ENDPOINT, Stopped};
use crate::net::{FrontEnd, connections_within, open_files};
use crate::node::{Node, NodeError, NodeMetrics, NodeOptions};
use crate::peer::HttpPeers;
use crate::query::{Queries, QueryError, QueryMetrics, QueryOptions};
use crate::store::InvalidStoreUrl;
use crate::telemetry::Telemetry;
use crate::types::NodeId;

use listeners::Bound;

/// What is left of the grace period for the front ends; the rest is for the last commit.
const FRONT_SHARE: u32 = 2;

/// Why a node does not serve, or serves no longer.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The store's URL is none.
    #[error(transparent)]
    Url(#[from] InvalidStoreUrl),
    /// The node did not start.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The process may not have enough files open.
    #[error(
        "this process may open {limit} files, but a node needs more than {needed}: raise the limit (ulimit -n, \
         LimitNOFILE)"
    )]
    OpenFiles {
        /// How many it may have.
        limit: u64,
        /// How many it needs for itself.
        needed: u64,
    },
    /// There is no way to speak to other nodes.
    #[error(
        "cannot create the HTTP client for other nodes: {0}; with peer_traffic=off none is needed"
    )]
    Peers(String),
    /// Queries could not be answered.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The node could not be registered.
    #[error("cannot register this node: {0}")]
    Register(#[from] Unavailable),
    /// The node failed while it ran.
    #[error(transparent)]
    Failed(#[from] Stopped),
}

/// A node that serves clients.
pub struct Server {
    node: Node,
    id: NodeId,
    listening: Vec<Listening>,
    fronts: JoinSet<()>,
    stop_fronts: CancellationToken,
    grace: Duration,
}

impl Server {
    /// Starts a node and its front ends. When this returns, clients are served.
    pub async fn start(mut config: ServeConfig) -> Result<Server, ServeError> {
        fit_connections(&mut config)?;
        let env = Env::system();
        let mut telemetry = Telemetry::new(env.wall());
        let metrics = NodeMetrics::register(telemetry.registry());
        let kafka_metrics = KafkaMetrics::register(telemetry.registry());
        let query_metrics = QueryMetrics::register(telemetry.registry());
        // Bound first: a port that is taken is found out before anything is written to the store.
        let listeners = listeners::bind(&config).await?;
        let mut options = NodeOptions::from_config(&config.store, &config.node, env)?;
        options.check_store = true;
        let http = listeners.iter().find(|one| one.protocol == Protocol::Http);
        let at_peers = http.filter(|_| config.node.peer_traffic);
        if at_peers.is_some() {
            let peers = HttpPeers::new().map_err(|error| ServeError::Peers(error.to_string()))?;
            options.peers = Some(Arc::new(peers));
        }
        if config.maintenance.background_work {
            options.maintenance = Some(MaintenanceOptions::from(&config.maintenance));
        }
        let node = Node::open(options, &metrics).await?;

        let mut endpoints: Endpoints = listeners
            .iter()
            .map(|one| (one.name().to_owned(), one.advertised.to_string()))
            .collect();
        if let Some(http) = at_peers {
            let address = listeners::for_peers(&config, http.address()).to_string();
            endpoints.insert(PEER_ENDPOINT.to_owned(), address);
        }
        let properties = NodeProperties::new(&config, &listeners::of_kafka(&listeners));
        node.broker().describe_self(properties);
        let rack = config.node.rack.as_deref();
        let timeout = config.store.store_retry_deadline;
        let id = register(node.broker(), &endpoints, rack, timeout).await?;
        let collector = StateMetrics::new(node.manifest().clone());
        telemetry.registry().register_collector(Box::new(collector));

        warn_if_open(&node, &listeners);
        let stop_fronts = CancellationToken::new();
        let grace = config.listen.shutdown_grace;
        let listening = listeners.iter().map(Bound::listening).collect();
        let broker = || node.broker().clone();
        let kafka = KafkaFrontEnd::new(broker(), kafka_options(&config), kafka_metrics);
        let options = QueryOptions::from(&config.query);
        let queries = Queries::new(broker(), options, query_metrics)?;
        let http = HttpFrontEnd::new(broker(), telemetry, queries);
        let front_ends: [(Protocol, &dyn FrontEnd); 2] =
            [(Protocol::Kafka, &kafka), (Protocol::Http, &http)];
        let mut fronts = JoinSet::new();
        for one in listeners {
            let of = front_ends
                .iter()
                .find(|(protocol, _)| *protocol == one.protocol);
            if let Some((_, front_end)) = of {
                let serving = front_end.serve(one.listener, stop_fronts.clone());
                fronts.spawn(serving.map(drop));
            }
        }
        let (broker, stop) = (node.broker().clone(), stop_fronts.clone());
        // One listener tells whether another node is there.
        let watched = config.listen.kafka.iter().next();
        let watched = watched.map_or(Protocol::Kafka.name(), |one| one.security.listener());
        fronts.spawn(async move {
            let _ = stop.run_until_cancelled(watch_peers(broker, watched)).await;
        });
        Ok(Server {
            node,
            id,
            listening,
            fronts,
            stop_fronts,
            grace,
        })
    }

    /// Where the front ends listen.
    pub fn listening(&self) -> &[Listening] {
        &self.listening
    }

    /// The node's integer id.
    pub fn node_id(&self) -> NodeId {
        self.id
    }

    /// The node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Serves until `shutdown` resolves or the node fails, then stops in order.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        let failure = tokio::select! {
            () = shutdown => None,
            why = self.node.failed() => Some(why),
            Some(ended) = self.fronts.join_next() => {
                let why = ended.err().map_or("it ended".to_owned(), |panic| panic.to_string());
                Some(Stopped::Halted(format!("a front end: {why}").into()))
            }
        };
        self.stop_fronts.cancel();
        let fronts = async { while self.fronts.join_next().await.is_some() {} };
        if tokio::time::timeout(self.grace, fronts).await.is_err() {
            tracing::warn!(
                "some clients were still connected when the grace period ended; their connections were \
                 closed"
            );
        }
        match failure {
            Some(why) => Err(why.into()),
            None => {
                self.node.stop(self.grace / FRONT_SHARE).await;
                Ok(())
            }
        }
    }
}

/// Says once that everybody who reaches this node may do everything, where others than this machine can.
fn warn_if_open(node: &Node, listeners: &[Bound]) {
    let state = node.broker().manifest().state();
    if !state.access().is_open() {
        return;
    }
    let reached = |protocol: Protocol| {
        let others = |one: &&Bound| one.protocol == protocol && !one.address().ip().is_loopback();
        listeners.iter().find(others)
    };
    if let Some(one) = reached(Protocol::Kafka) {
        tracing::warn!(
            address = %one.address(),
            "no user is defined, so whoever reaches this address may do everything: keep it inside a network that you \
             trust, or create a user (weir user create NAME --superuser)"
        );
    }
    let has_catalog = node.broker().catalog_options().access != CatalogAccess::Off;
    if let Some(one) = reached(Protocol::Http).filter(|_| has_catalog) {
        tracing::warn!(
            address = %one.address(),
            "no user is defined, so whoever reaches this address may read what is archived: keep it inside a network \
             that you trust, create a user (weir user create NAME --superuser), or set catalog=off"
        );
    }
}

/// Registers the node, for as long as requests to the store are repeated: each attempt takes a commit, which may have
/// to catch up with others that write, in a store that is slow. Registered twice is registered once.
async fn register(
    broker: &Broker,
    endpoints: &Endpoints,
    rack: Option<&str>,
    timeout: Duration,
) -> Result<NodeId, Unavailable> {
    let began = tokio::time::Instant::now();
    loop {
        match broker
            .register(endpoints.clone(), rack.map(str::to_owned))
            .await
        {
            Err(Unavailable::TimedOut) if began.elapsed() < timeout => {
                tracing::warn!(
                    "this node is not registered yet, because the store is slow; trying again"
                );
            }
            registered => return registered,
        }
    }
}

/// How often the other nodes' addresses are looked at while this one has clients.
const PEER_INTERVAL: Duration = Duration::from_millis(500);

/// How long connecting to another node may take.
const PEER_TIMEOUT: Duration = Duration::from_millis(400);

/// Looks whether the other nodes still listen, so that clients are not sent to one that is gone.
async fn watch_peers(broker: Broker, listener: &'static str) {
    loop {
        tokio::time::sleep(PEER_INTERVAL).await;
        if broker.clients() == 0 {
            continue;
        }
        let neighbours = broker.neighbours(listener).into_iter();
        let looks = neighbours.map(|node| async move {
            let look = look_at(&node).await;
            (node, look)
        });
        broker.note_looks(&futures::future::join_all(looks).await);
    }
}

async fn look_at(node: &Neighbour) -> Look {
    let clients = connect(&node.address).await;
    match (clients, &node.peer_address) {
        (Look::Refused, Some(address)) if connect(address).await == Look::Refused => Look::Deserted,
        _ => clients,
    }
}

async fn connect(address: &str) -> Look {
    let connect = tokio::net::TcpStream::connect(address);
    match tokio::time::timeout(PEER_TIMEOUT, connect).await {
        Ok(Ok(_)) => Look::Reached,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => Look::Refused,
        _ => Look::Silent,
    }
}

/// The open files of a node beside those of connections and of requests to the store: what the runtime and the
/// libraries have, connections being refused, looks at other nodes, and some to spare.
const OTHER_FILES: u64 = 64;

/// The share of the open files that connections of other nodes may take, where there are few: the rest is for clients.
const PEER_SHARE: u64 = 4;

/// Lowers the numbers of connections to what the limit of open files allows. Else a flood of connections would take
/// from the node what it needs to reach its store.
fn fit_connections(config: &mut ServeConfig) -> Result<(), ServeError> {
    let limit = open_files();
    let needed = OTHER_FILES
        + u64::from(config.store.store_max_requests)
        + u64::from(config.listen.max_http_connections);
    let peers = limit.map(|limit| limit.saturating_sub(needed) / PEER_SHARE);
    let peers = connections_within(peers, 0, config.listen.max_peer_connections);
    config.listen.max_peer_connections = match config.node.peer_traffic {
        true => peers,
        false => 0,
    };
    let wanted = config.listen.max_connections;
    let others = needed + u64::from(config.listen.max_peer_connections);
    let fit = connections_within(limit, others, wanted);
    if let (0, Some(limit)) = (fit, limit) {
        return Err(ServeError::OpenFiles { limit, needed });
    }
    if fit < wanted {
        tracing::warn!(
            max_connections = fit,
            wanted,
            max_peer_connections = config.listen.max_peer_connections,
            open_files = limit,
            "the limit of open files allows fewer connections: raise it (ulimit -n, LimitNOFILE)"
        );
        config.listen.max_connections = fit;
    }
    Ok(())
}

fn kafka_options(config: &ServeConfig) -> KafkaOptions {
    let listen = &config.listen;
    // Half of the memory is for what comes in, half for what goes out.
    let half = crate::types::ByteCount(listen.request_memory.0 / 2);
    KafkaOptions {
        max_request_size: listen.max_request_size,
        max_fetch_size: config.node.fetch_max_bytes,
        request_memory: half,
        response_memory: half,
        max_idle: listen.idle_timeout,
        max_login: listen.max_login,
        drain: listen.shutdown_grace / FRONT_SHARE,
        ..KafkaOptions::default()
    }
}
