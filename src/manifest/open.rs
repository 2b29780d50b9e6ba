//! Starting: which cluster this is, and its state from a snapshot (`restore.rs`) and the log after it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::{Duration, Instant};

use super::carry::guest_room;
use super::clock::Clock;
use super::cluster::{Cluster, Watch, open_cluster};
use super::divergence::{Divergence, Kept};
use super::due::Replay;
use super::handle::{Manifest, Shared, Stopped};
use super::handover::Rivals;
use super::heard::Heard;
use super::metrics::ManifestMetrics;
use super::object::ObjectError;
use super::parts::MAX_CHUNK;
use super::published::publish;
use super::restore::newest_state;
use super::tail::{Tail, WriteThrough};
use super::truncated::Moment;
use crate::env::Env;
use crate::state::Level;
use crate::store::{Store, StoreError};
use crate::types::{Incarnation, Seq};

/// How many messages may wait for the task.
const MAILBOX: usize = 1024;

/// How the manifest behaves.
#[derive(Clone, Debug)]
pub struct ManifestOptions {
    /// The least time between the beginnings of two commits of this node: the dial between the cost of
    /// requests and latency. A commit after a pause still goes at once.
    pub commit_interval: Duration,
    /// How many commits may be on their way at once, while no other node commits.
    pub commits_in_flight: usize,
    /// How often the next seq is probed while somebody follows. Grows up to five times while nothing is found.
    pub follow_interval: Duration,
    /// The least number of commits between two snapshots.
    pub snapshot_every: u64,
    /// The most bytes of a state in one object of a snapshot.
    pub max_chunk: u64,
    /// The highest level of the log that this node takes part in.
    pub level: Level,
    /// How often a node that does something looks whether the store is still that of its cluster.
    pub look_interval: Duration,
}

impl Default for ManifestOptions {
    fn default() -> ManifestOptions {
        ManifestOptions {
            commit_interval: Duration::ZERO,
            commits_in_flight: 4,
            follow_interval: Duration::from_millis(10),
            snapshot_every: 256,
            max_chunk: MAX_CHUNK,
            level: Level::NEWEST,
            look_interval: Duration::from_secs(30),
        }
    }
}

/// Why the manifest could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An object cannot be read.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// `cluster.json` is not what it should be.
    #[error("cluster.json cannot be understood: {0}")]
    Cluster(String),
    /// There is a log, and no `cluster.json`.
    #[error(
        "{store} holds {object} of a cluster, but no cluster.json, which a cluster has from its beginning: it was \
         deleted, or the store was emptied while a node wrote to it. To keep what is there, put cluster.json back; to \
         begin a new cluster, delete what is left or use another place"
    )]
    NoCluster {
        /// The store's URL.
        store: String,
        /// An object that is there.
        object: String,
    },
    /// The bucket was written by newer software.
    #[error(
        "the bucket has layout version {found}, and this node knows versions up to {known}: upgrade it"
    )]
    NewerLayout {
        /// The bucket's version.
        found: u32,
        /// The newest version known.
        known: u32,
    },
    /// The cluster was upgraded.
    #[error(
        "the cluster is at level {level}, and this node knows levels up to {known}: upgrade it"
    )]
    NewerLevel {
        /// The cluster's level.
        level: Level,
        /// The highest level known.
        known: Level,
    },
    /// No state can be made: the beginning of the log is gone, and no snapshot beyond it can be read.
    #[error(
        "the log is truncated up to {boundary}, and no snapshot at or after it can be read ({unreadable}). Nothing can be \
         folded from there: run `weir fsck`, and bring a snapshot back from a copy or an old version of the object"
    )]
    NoStart {
        /// Up to where the log may be gone.
        boundary: Seq,
        /// What was tried, and why it cannot be read.
        unreadable: String,
    },
    /// The log could not be folded to its end.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

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
    let began = Moment {
        at: Instant::now(),
        boot: env.boot(),
    };
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
        guest_room: guest_room(),
        level: options.level,
    };
    let manifest = Manifest {
        shared: Arc::new(shared),
    };
    let rest = options.follow_interval;
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
        published,
        mailbox,
        manifest: manifest.clone(),
        waiting: VecDeque::new(),
        in_flight: VecDeque::new(),
        resend: VecDeque::new(),
        peers: None,
        handed: VecDeque::new(),
        guests: VecDeque::new(),
        rivals: Rivals::default(),
        hearing: None,
        last_found: 0,
        undisturbed: 0,
        typical_put: Duration::ZERO,
        asking: Vec::new(),
        // Not shown yet: reading to the end will.
        proven: began,
        trusted: start.is_newest.then_some(began.boot),
        looked: Instant::now(),
        watch,
        last_commit: None,
        rest,
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
