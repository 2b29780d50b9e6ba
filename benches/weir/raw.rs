//! The store alone, through the same library and with the same settings as a node uses it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::Instant;
use weir::env::Env;
use weir::store::{Created, ObjectPath, RequestKind, Store, StoreMetrics, StoreOptions};
use weir::types::{SegmentId, Seq};

use crate::stats::Samples;

/// How much data one burst writes at most.
const MAX_BYTES: u64 = 2 << 30;

/// How often an object is created at most until the store says that it is there.
const ATTEMPTS: usize = 3;

/// The store alone.
#[derive(Clone)]
pub(crate) struct Raw {
    store: Store,
    env: Env,
    /// The seq of the next object that is named as a commit.
    commits: Arc<AtomicU64>,
}

/// What a burst of requests took.
pub(crate) struct Burst {
    pub(crate) times: Samples,
    pub(crate) bytes_per_second: f64,
    /// What was written.
    pub(crate) objects: Vec<ObjectPath>,
}

impl Raw {
    pub(crate) async fn open(url: &str) -> Result<Raw> {
        let env = Env::system();
        let options = StoreOptions::new(env.clone());
        let store = Store::open(&url.parse()?, options, StoreMetrics::default()).await?;
        Ok(Raw {
            store,
            env,
            commits: Arc::default(),
        })
    }

    /// Creates a segment if it is absent.
    async fn put(&self, body: Bytes) -> Result<(ObjectPath, Duration)> {
        let name = || ObjectPath::segment(SegmentId(self.env.uuid_at(self.env.wall())));
        self.create(name, body, RequestKind::SegmentPut).await
    }

    /// Creates an object under a new name, and under another one when the store did not say what became of it, as a
    /// node would.
    async fn create(
        &self,
        name: impl Fn() -> ObjectPath,
        body: Bytes,
        kind: RequestKind,
    ) -> Result<(ObjectPath, Duration)> {
        let begun = Instant::now();
        let mut unknown = None;
        for _ in 0..ATTEMPTS {
            let path = name();
            match self.store.create(&path, body.clone(), kind).await? {
                Created::Created => return Ok((path, begun.elapsed())),
                Created::Exists => bail!("a name was minted twice"),
                Created::Unknown(cause) => unknown = Some(cause),
            }
        }
        let cause = unknown.map(|cause| cause.to_string()).unwrap_or_default();
        bail!("the outcome of {ATTEMPTS} creates is unknown: {cause}")
    }

    async fn get(&self, path: &ObjectPath) -> Result<(usize, Duration)> {
        let begun = Instant::now();
        let bytes = self.store.get(path, RequestKind::SegmentGet).await?;
        Ok((bytes.len(), begun.elapsed()))
    }

    /// Creates objects of `body` for `time`, so many at once.
    pub(crate) async fn puts(&self, body: &Bytes, at_once: usize, time: Duration) -> Result<Burst> {
        let begun = Instant::now();
        let most = MAX_BYTES / at_once as u64 / body.len() as u64;
        let mut workers = JoinSet::new();
        for _ in 0..at_once {
            let (raw, body) = (self.clone(), body.clone());
            workers.spawn(async move {
                let mut done = (Samples::default(), Vec::new(), 0);
                while begun.elapsed() < time && (done.1.len() as u64) < most {
                    let (path, took) = raw.put(body.clone()).await?;
                    done.0.push(took);
                    done.1.push(path);
                    done.2 += body.len() as u64;
                }
                Ok(done)
            });
        }
        gather(workers, begun).await
    }

    /// Reads the objects, one after the other and again, for `time`, so many at once.
    pub(crate) async fn gets(
        &self,
        objects: Vec<ObjectPath>,
        at_once: usize,
        time: Duration,
    ) -> Result<Burst> {
        let begun = Instant::now();
        let objects = Arc::new(objects);
        let mut workers = JoinSet::new();
        for worker in 0..at_once {
            let (raw, objects) = (self.clone(), objects.clone());
            workers.spawn(async move {
                let mut done = (Samples::default(), Vec::new(), 0);
                // Each its own share, so that nobody reads what another just read.
                for path in objects.iter().skip(worker).step_by(at_once).cycle() {
                    if begun.elapsed() >= time {
                        break;
                    }
                    let (bytes, took) = raw.get(path).await?;
                    done.0.push(took);
                    done.2 += bytes as u64;
                }
                Ok(done)
            });
        }
        gather(workers, begun).await
    }

    /// Creates objects of `body`, named as the commits of a log are, at the beat of a clock, whether or not
    /// the one before is there.
    pub(crate) async fn puts_at_intervals(
        &self,
        body: &Bytes,
        every: Duration,
        time: Duration,
    ) -> Result<Samples> {
        let mut beat = tokio::time::interval(every);
        let begun = Instant::now();
        let mut requests = JoinSet::new();
        while begun.elapsed() < time {
            beat.tick().await;
            let (raw, body) = (self.clone(), body.clone());
            requests.spawn(async move {
                let name = || ObjectPath::commit(Seq(raw.commits.fetch_add(1, Ordering::Relaxed)));
                raw.create(name, body, RequestKind::CommitPut).await
            });
        }
        let mut times = Samples::default();
        while let Some(done) = requests.join_next().await {
            times.push(done??.1);
        }
        Ok(times)
    }
}

type Done = (Samples, Vec<ObjectPath>, u64);

async fn gather(mut workers: JoinSet<Result<Done>>, begun: Instant) -> Result<Burst> {
    let (mut times, mut objects, mut bytes) = (Samples::default(), Vec::new(), 0);
    while let Some(done) = workers.join_next().await {
        let (their_times, their_objects, their_bytes) = done??;
        times.extend(their_times);
        objects.extend(their_objects);
        bytes += their_bytes;
    }
    Ok(Burst {
        times,
        bytes_per_second: bytes as f64 / begun.elapsed().as_secs_f64(),
        objects,
    })
}
