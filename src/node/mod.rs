//! One node without front ends: store, manifest, write path, read path and broker, wired and running.
//!
//! The server puts listeners in front of a node; the library and the command line use one as it is, for as
//! long as they need it. A node holds nothing that matters: it may be dropped, or its process killed, at any
//! time. [`Node::stop`] is only politer: what was handed in is committed, and the other nodes are told.
//!
//! Its tasks report their end: a node whose log cannot be folded any further [fails](Node::failed), and whoever
//! runs it ends the process with that error instead of answering for ever that it is unavailable.

mod error;
mod metrics;
mod options;
#[cfg(test)]
mod tests;

pub use error::NodeError;
pub use metrics::NodeMetrics;
pub use options::NodeOptions;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::broker::{Broker, BrokerParts, Logs};
use crate::fetch::{Block, Blocks, Reader, split};
use crate::ingest::{Ingest, LONG_BATCH};
use crate::maintain::{Maintenance, MaintenanceParts};
use crate::manifest::{self, Cluster, Manifest, Stopped, WriteThrough, find_cluster};
use crate::state::ObjectRef;
use crate::store::Store;
use crate::store::check::{CheckOptions, check};
use crate::types::{Incarnation, LogId, PeerKey};

/// A running node.
pub struct Node {
    broker: Broker,
    store: Store,
    cluster: Cluster,
    stop_background: CancellationToken,
    stop_manifest: CancellationToken,
    background: JoinSet<()>,
    tail: JoinHandle<Result<(), Stopped>>,
    /// A node that is dropped ends its tasks.
    _ends: [DropGuard; 2],
}

impl Node {
    /// Opens the store and starts a node on it. With `checked` the store is first shown to keep what
    /// correctness needs.
    ///
    /// # Errors
    ///
    /// A store that cannot be opened or does not keep its promises, a clock that is off, a manifest that
    /// cannot be read: each says what to do.
    pub async fn open(options: NodeOptions, metrics: &NodeMetrics) -> Result<Node, NodeError> {
        let store = Store::open(&options.url, options.store.clone(), metrics.store.clone()).await?;
        Node::start(store, options, metrics).await
    }

    /// Starts a node on a store that is open.
    pub async fn start(
        store: Store,
        options: NodeOptions,
        metrics: &NodeMetrics,
    ) -> Result<Node, NodeError> {
        let env = options.store.env.clone();
        let incarnation = Incarnation(env.random_uuid());
        let blocks = Blocks::new(
            store.clone(),
            LogId::ZERO,
            &options.cache,
            metrics.fetch.clone(),
        );
        let checked = async {
            match options.check_store {
                true => check_store(&store).await,
                false => Ok(()),
            }
        };
        let (env_, log, written) = (env.clone(), options.manifest, commits_into(&blocks));
        let metrics_of_log = metrics.manifest.clone();
        let (manifest, tail, cluster) = match find_cluster(&store).await? {
            // What is there is read while the store is checked: reading changes nothing, and takes as long.
            Some(cluster) => {
                let opened = manifest::open_in(
                    cluster,
                    store.clone(),
                    env_,
                    log,
                    metrics_of_log,
                    written,
                    incarnation,
                );
                let opened = async { opened.await.map_err(NodeError::from) };
                futures::try_join!(checked, opened)?.1
            }
            // Nothing is written before the store is known to keep its promises.
            None => {
                checked.await?;
                manifest::open(
                    store.clone(),
                    env_,
                    log,
                    metrics_of_log,
                    written,
                    incarnation,
                )
                .await?
            }
        };
        let ingest = Ingest::new(
            manifest.clone(),
            store.clone(),
            env.clone(),
            options.ingest,
            metrics.ingest.clone(),
            segments_into(&blocks),
        );
        let maintenance = options.maintenance.map(|maintenance| {
            let foreground = ingest.clone();
            Maintenance::new(MaintenanceParts {
                store: store.clone(),
                manifest: manifest.clone(),
                env: env.clone(),
                incarnation,
                options: maintenance,
                metrics: metrics.maintenance.clone(),
                busy: Arc::new(move || foreground.is_filling()),
            })
        });
        let broker = Broker::new(BrokerParts {
            logs: Logs::one(manifest),
            ingest,
            reader: Reader::new(blocks),
            store: store.clone(),
            env: env.clone(),
            incarnation,
            cluster_id: cluster.cluster_id,
            peer_key: options
                .peers
                .is_some()
                .then(|| PeerKey::new(env.random_key())),
            settings: options.broker,
        });
        let (stop_manifest, stop_background) = (CancellationToken::new(), CancellationToken::new());
        let tail = match options.peers {
            Some(peers) => tail.with_peers(peers),
            None => tail,
        };
        let tail = env.spawn(tail.run(stop_manifest.clone()));
        let mut background = JoinSet::new();
        let (lease, stop) = (broker.clone(), stop_background.clone());
        env.spawn_in(&mut background, async move { lease.keep_lease(stop).await });
        let (groups, stop) = (broker.clone(), stop_background.clone());
        env.spawn_in(
            &mut background,
            async move { groups.reap_groups(stop).await },
        );
        if let Some(maintenance) = maintenance {
            let stop = stop_background.clone();
            env.spawn_in(&mut background, async move { maintenance.run(stop).await });
        }
        let _ends = [&stop_background, &stop_manifest].map(|stop| stop.clone().drop_guard());
        Ok(Node {
            broker,
            store,
            cluster,
            stop_background,
            stop_manifest,
            background,
            tail,
            _ends,
        })
    }

    /// The operations.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// The log and its fold.
    pub fn manifest(&self) -> &Manifest {
        self.broker.manifest()
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Which cluster this is.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Resolves when the node can do nothing any more though nobody told it to stop; never, if all goes
    /// well.
    pub async fn failed(&mut self) -> Stopped {
        loop {
            tokio::select! {
                biased;
                ended = &mut self.tail => return match ended {
                    Ok(Ok(())) => Stopped::Stopping,
                    Ok(Err(stopped)) => stopped,
                    Err(panic) => Stopped::Halted(format!("the commit loop: {panic}").into()),
                },
                Some(ended) = self.background.join_next() => if let Err(panic) = ended {
                    return Stopped::Halted(format!("a background task: {panic}").into());
                },
            }
        }
    }

    /// Stops: takes the node out of the cluster, commits what was handed in, and ends. What is not done within
    /// `grace` is left as a crash would leave it.
    pub async fn stop(mut self, grace: Duration) {
        self.stop_background.cancel();
        let orderly = async {
            while self.background.join_next().await.is_some() {}
            if let Err(error) = self.broker.retire().await {
                tracing::warn!(%error, "could not remove this node from the cluster; its lease will lapse");
            }
            self.stop_manifest.cancel();
            let _ = self.tail.await;
        };
        if tokio::time::timeout(grace, orderly).await.is_err() {
            tracing::warn!(
                "stopped before all work was done; everything that was acknowledged is stored"
            );
        }
    }
}

/// Shows that the store keeps what correctness needs.
async fn check_store(store: &Store) -> Result<(), NodeError> {
    let policy = store.options().retry;
    let (began, mut attempt) = (Instant::now(), 0);
    loop {
        let report = check(store, &CheckOptions::quick()).await;
        if report.passed() {
            return Ok(());
        }
        attempt += 1;
        let pause = policy.pause(attempt, &store.options().env);
        // A store that only did not answer is asked again: it may be starting, too.
        if report.failed() || began.elapsed() + pause >= policy.deadline {
            let unclear = || format!("{} did not answer:\n{report}", store.name());
            return Err(NodeError::Check(report.refusal().unwrap_or_else(unclear)));
        }
        tracing::warn!("{}", report.refusal().unwrap_or_default());
        tokio::time::sleep(pause).await;
    }
}

/// Puts every commit that this node writes or follows in the cache before its state is published.
fn commits_into(blocks: &Blocks) -> WriteThrough {
    let blocks = blocks.clone();
    Arc::new(move |seq, object| {
        let pieces = match object.len() as u64 <= crate::fetch::BLOCK {
            true => vec![object.clone().into()],
            false => split(std::slice::from_ref(object), usize::MAX),
        };
        // Inserting does not wait for anything; polling it once completes it.
        let put = blocks.put(ObjectRef::Commit(seq), pieces);
        if put.now_or_never().is_none() {
            tracing::debug!(%seq, "a commit was not cached");
        }
    })
}

/// Puts every segment that this node uploads in the cache before its commit.
fn segments_into(blocks: &Blocks) -> crate::ingest::SegmentSink {
    let blocks = blocks.clone();
    Arc::new(move |object, parts| {
        let blocks = blocks.clone();
        async move {
            let cut = split(&parts, LONG_BATCH);
            drop(parts);
            let pieces = cut.iter().flat_map(Block::pieces).cloned().collect();
            blocks.put(object, cut).await;
            pieces
        }
        .boxed()
    })
}
