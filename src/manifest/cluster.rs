//! Which cluster a bucket belongs to, and whether it still does.
//!
//! `cluster.json` is created before anything else of a cluster and is never changed or deleted. So where there is a log
//! and no `cluster.json`, somebody took it away, and a node that began a new cluster there would mix two of them.
//!
//! A bucket can also be emptied, exchanged or unmounted under a node that runs. To it the log then seems to end where
//! it has read to: it would go on as if all were well, and acknowledge what nobody finds again. So a node that does
//! something looks every now and then ([`ManifestOptions::look_interval`](super::ManifestOptions)) whether the same
//! `cluster.json` is there: one request, made beside the others and waited for by nobody; an idle node makes none. If
//! it is not, the node commits nothing and proves nothing any more, and says so
//! ([`Manifest::refusal`](super::Manifest::refusal)), until it is there again: a directory that was not mounted may be.
//! What was acknowledged in that interval is lost with all the rest.
//!
//! It does not end, for whoever starts it again would begin a new cluster in the empty place. A look that is dropped or
//! not answered is made again; nothing is stored here.

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::error::OpenError;
use super::tail::Tail;
use crate::env::Env;
use crate::rules::{Rule, holds};
use crate::store::{Created, ObjectPath, ObjectPrefix, RequestKind, Store};

/// The newest version of the layout of a bucket that this software knows.
const LAYOUT_VERSION: u32 = 1;

/// More than any `cluster.json` has.
const MAX_LEN: u64 = 64 << 10;

/// How often a node looks whether its cluster is there again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// `cluster.json`: created once, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// The cluster's id.
    pub cluster_id: Uuid,
    /// The version of the bucket's layout.
    pub layout_version: u32,
}

/// Reads `cluster.json`; `None` if nothing of a cluster is there. Writes nothing.
///
/// # Errors
/// [`OpenError::NoCluster`] if there is more, and no `cluster.json`.
pub async fn find_cluster(store: &Store) -> Result<Option<Cluster>, OpenError> {
    if let Some(cluster) = stored(store).await? {
        return Ok(Some(cluster));
    }
    for folder in [ObjectPrefix::Log, ObjectPrefix::Snapshots] {
        let Some(object) = store.list(folder, None, 1).await?.pop() else {
            continue;
        };
        if !holds(Rule::NewClustersNeedEmptyLog) {
            continue;
        }
        // Another node may have begun it since the first look.
        return match stored(store).await? {
            Some(cluster) => Ok(Some(cluster)),
            None => Err(OpenError::NoCluster {
                store: store.name().to_owned(),
                object: object.path.to_string(),
            }),
        };
    }
    Ok(None)
}

/// Reads `cluster.json`, after creating it if nothing of a cluster is there.
pub(super) async fn open_cluster(store: &Store, env: &Env) -> Result<Cluster, OpenError> {
    if let Some(cluster) = find_cluster(store).await? {
        return Ok(cluster);
    }
    let path = ObjectPath::cluster();
    let policy = store.options().retry;
    let (began, mut failures) = (Instant::now(), 0);
    loop {
        let new = Cluster {
            cluster_id: env.random_uuid(),
            layout_version: LAYOUT_VERSION,
        };
        let json = serde_json::to_vec_pretty(&new)
            .map_err(|error| OpenError::Cluster(error.to_string()))?;
        let created = store.create(&path, json, RequestKind::Cluster).await;
        match created {
            Ok(Created::Created | Created::Exists | Created::Unknown(_)) => {}
            Err(error) if error.is_retriable() && began.elapsed() < policy.deadline => {}
            Err(error) => return Err(error.into()),
        }
        // Whoever created it, it is read back: so all agree.
        if let Some(cluster) = stored(store).await? {
            return Ok(cluster);
        }
        failures += 1;
        tokio::time::sleep(policy.pause(failures, env)).await;
    }
}

async fn stored(store: &Store) -> Result<Option<Cluster>, OpenError> {
    match store
        .get(&ObjectPath::cluster(), RequestKind::Cluster)
        .await
    {
        Ok(bytes) => read_cluster(&bytes).map(Some),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Reads the content of `cluster.json`.
///
/// # Errors
/// [`OpenError::Cluster`], [`OpenError::NewerLayout`].
pub fn read_cluster(bytes: &[u8]) -> Result<Cluster, OpenError> {
    let cluster: Cluster =
        serde_json::from_slice(bytes).map_err(|error| OpenError::Cluster(error.to_string()))?;
    if cluster.layout_version > LAYOUT_VERSION {
        let (found, known) = (cluster.layout_version, LAYOUT_VERSION);
        return Err(OpenError::NewerLayout { found, known });
    }
    Ok(cluster)
}

/// What a look at the store showed.
enum Look {
    /// The store is that of the cluster.
    Same,
    /// It is not: why, and what to do.
    Lost(String),
    /// The store did not say.
    Unanswered,
}

/// Whether the store is still that of this node's cluster, and when to look again.
pub(super) struct Watch {
    cluster: Uuid,
    due: Instant,
    looking: Option<oneshot::Receiver<Look>>,
    /// It was not when somebody last looked.
    lost: bool,
}

impl Watch {
    /// The store was just seen to be that of the cluster.
    pub(super) fn new(cluster: Uuid, look_interval: Duration) -> Watch {
        Watch {
            cluster,
            due: Instant::now() + look_interval,
            looking: None,
            lost: false,
        }
    }
}

impl Tail {
    /// Has somebody look whether the store is still that of the cluster, if it is time to. Does not wait for it.
    pub(super) fn look_at_cluster(&mut self) {
        let now = Instant::now();
        if let Some(looking) = &mut self.watch.looking {
            match looking.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => return,
                looked => self.watch.lost |= matches!(looked, Ok(Look::Lost(_))),
            }
            self.watch.looking = None;
        }
        if now < self.watch.due || self.watch.lost || !holds(Rule::ClusterIsWatched) {
            return;
        }
        self.watch.due = now + self.options.look_interval;
        let (reply, looking) = oneshot::channel();
        let (store, cluster) = (self.store.clone(), self.watch.cluster);
        let shared = self.manifest.shared.clone();
        self.watch.looking = Some(looking);
        self.env.spawn(async move {
            let look = look(&store, cluster).await;
            if let Look::Lost(why) = &look {
                tracing::error!("{why}");
                // At once: the task may be busy with a commit that such a store does not take.
                shared.refuse(why.clone());
            }
            // The task may have ended.
            let _ = reply.send(look);
            if shared.refusal().is_some() {
                shared.nudged.notify_one();
            }
        });
    }

    /// Looks whether the store is still that of the cluster, if it is time to. If it is not, returns when it is again,
    /// or at `stop`.
    pub(super) async fn watch_cluster(&mut self, stop: &CancellationToken) {
        self.look_at_cluster();
        while self.watch.lost {
            match look(&self.store, self.watch.cluster).await {
                Look::Same => {
                    self.watch.lost = false;
                    self.manifest.shared.refuse_no_longer();
                    tracing::warn!("the cluster's store is back; resuming");
                    return;
                }
                Look::Lost(why) => self.manifest.shared.refuse(why),
                Look::Unanswered => {}
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.options.look_interval.min(LOOK_AGAIN)) => {}
            }
        }
    }
}

async fn look(store: &Store, cluster: Uuid) -> Look {
    let path = ObjectPath::cluster();
    let name = store.name();
    match store.probe(&path, MAX_LEN, RequestKind::Cluster).await {
        Ok(Some((bytes, _))) => match read_cluster(&bytes) {
            Ok(found) if found.cluster_id == cluster => Look::Same,
            Ok(found) => Look::Lost(format!(
                "{name} is now the store of cluster {}, and this node belongs to cluster {cluster}: nothing is \
                 committed there. Bring back the former store, or restart this node to serve the other cluster",
                found.cluster_id
            )),
            Err(error) => Look::Lost(format!(
                "{name}: {error}, and this node belongs to cluster {cluster}: nothing is committed there. Bring the former \
                 store back"
            )),
        },
        Ok(None) => Look::Lost(format!(
            "{name} was emptied or replaced while this node was running: its cluster.json is gone. Nothing is \
             committed there any more. If it is a directory that is not mounted, mount it, and this node goes on; if \
             everything was deleted, it is lost: restore it from a copy, or restart every node to begin a new cluster"
        )),
        Err(_) => Look::Unanswered,
    }
}
