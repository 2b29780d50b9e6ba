//! Starting: which cluster this is, and its state from a snapshot (`restore.rs`) and the log after it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::Duration;

use super::clock::Clock;
use super::cluster::{Cluster, Watch, open_cluster};
use super::divergence::{Divergence, Kept};
use super::due::Replay;
use super::error::OpenError;
use super::forwarding::{Forwarding, capacity};
use super::freshness::{Freshness, Moment};
use super::handle::{Manifest, Shared};
use super::heard::Heard;
use super::metrics::ManifestMetrics;
use super::options::ManifestOptions;
use super::published::publish;
use super::restore::newest_state;
use super::tail::{LogEnd, Tail, WriteThrough};
use crate::env::Env;
use crate::store::Store;
use crate::types::{Incarnation, Seq};

/// How many messages may wait for the task.
const MAILBOX: usize = 1024;

/// Opens the manifest of a bucket, which is a new cluster if it is empty: reads the newest snapshot and
/// folds the log after it. The returned task must be run for anything further to happen.
pub async fn open(
    store: Store,
    env: Env,
    options: ManifestOptions,
    metrics: ManifestMetrics,
    write_through: WriteThrough,
    incarnation: Incarnation,
) -> Result<(Manifest, Tail, Cluster), OpenError> {
    let cluster = open_cluster(&store, &env).await?;
    open_in(
        cluster,
        store,
        env,
        options,
        metrics,
        write_through,
        incarnation,
    )
    .await
}

/// The same, in a bucket of which is known whose it is ([`find_cluster`](super::find_cluster)).
pub async fn open_in(
    cluster: Cluster,
    store: Store,
    env: Env,
    options: ManifestOptions,
    metrics: ManifestMetrics,
    write_through: WriteThrough,
    incarnation: Incarnation,
) -> Result<(Manifest, Tail, Cluster), OpenError> {
    let began = Moment::now(&env);
    let start = newest_state(&store, &metrics).await?;
    let state = start.state;
    let began_with = state.seq();
    let clock = Clock::new(env.clone(), store.clone());
    clock.folded(state.time());
    let (published, states) = publish(state.clone());
    let (sender, mailbox) = mpsc::channel(MAILBOX);
    let shared = Shared {
        incarnation,
        mailbox: sender,
        states,
        nudged: Notify::new(),
        followers: AtomicUsize::new(0),
        contended: AtomicBool::new(false),
        source: OnceLock::new(),
        stopped: OnceLock::new(),
        refusal: Mutex::default(),
        proven: AtomicU64::new(0),
        clock,
        heard: Mutex::new(Heard::new(incarnation, began.boot)),
        marks: Mutex::default(),
        recent: Mutex::default(),
        forwarded_capacity: capacity(),
        level: options.level,
    };
    let manifest = Manifest {
        shared: Arc::new(shared),
    };
    let commits_in_flight = options.commits_in_flight;
    let freshness = Freshness::new(began, start.is_newest, options.follow_interval);
    let watch = Watch::new(cluster.cluster_id, options.look_interval);
    let mut tail = Tail {
        store,
        env,
        options,
        metrics,
        write_through,
        incarnation,
        counter: 0,
        state,
        end: LogEnd::Unseen { failures: 0 },
        published,
        mailbox,
        manifest: manifest.clone(),
        waiting: VecDeque::new(),
        in_flight: VecDeque::new(),
        resend: VecDeque::new(),
        forwarding: Forwarding::new(incarnation, commits_in_flight),
        undisturbed: 0,
        typical_put: Duration::ZERO,
        freshness,
        watch,
        last_commit: None,
        losses: 0,
        snapshots: Arc::new(Semaphore::new(1)),
        snapshot_tried: Seq::ZERO,
        replay: Replay::new(began_with),
        kept: Kept::default(),
        divergence: Divergence::default(),
    };
    tail.read_to_the_end().await?;
    let (level, known) = (tail.state.level(), tail.options.level);
    if level > known {
        return Err(OpenError::NewerLevel { level, known });
    }
    tail.publish_proof();
    Ok((manifest, tail, cluster))
}
