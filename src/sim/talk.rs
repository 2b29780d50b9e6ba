//! How nodes speak to each other: across a network that delays, loses, repeats and holds back what they say.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::cluster::Cluster;
use super::dice::Dice;
use crate::manifest::{Declined, Manifest, Peer, PeerError, Peers};
use crate::types::{LogId, Seq};

/// For how long a node looks for something new in the log.
const NEWS_WITHIN: Duration = Duration::from_secs(5);

/// When whoever asked gives up.
const TIMEOUT: Duration = Duration::from_secs(30);

/// One node's way to the others.
pub(super) struct Talk {
    cluster: Cluster,
    dice: Mutex<Dice>,
}

impl fmt::Debug for Talk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Talk")
    }
}

/// What becomes of a question.
#[derive(Clone, Copy, Debug)]
struct Fate {
    arrives: Duration,
    is_lost: bool,
    /// It comes once more, so long after the first.
    again: Option<Duration>,
    answer_is_lost: bool,
    returns: Duration,
}

impl Talk {
    pub(super) fn new(cluster: &Cluster, dice: Dice) -> Talk {
        Talk {
            cluster: cluster.clone(),
            dice: Mutex::new(dice),
        }
    }

    fn fate(&self) -> Fate {
        let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
        let weather = self.cluster.sky.lock();
        let factor = match weather.slow {
            Some((until, factor)) if Instant::now() < until => factor,
            _ => 1,
        };
        let mut way = || dice.time(1, 4) * factor;
        let well = Fate {
            arrives: way(),
            is_lost: false,
            again: None,
            answer_is_lost: false,
            returns: way(),
        };
        // What passes between nodes matters less than what passes to the store, so more of it may fail.
        if !dice.chance((weather.faults * 4.0).min(0.5)) {
            return well;
        }
        match dice.number(0, 4) {
            0 => Fate {
                is_lost: true,
                ..well
            },
            1 => Fate {
                answer_is_lost: true,
                ..well
            },
            2 => Fate {
                again: Some(dice.time(1, 30_000)),
                ..well
            },
            // Long after whoever asked has given it up.
            3 => Fate {
                arrives: dice.time(500, 120_000),
                ..well
            },
            _ => Fate {
                returns: dice.time(100, 5_000),
                ..well
            },
        }
    }

    /// Has the peer do something, as a task of its own.
    async fn ask<T, F>(
        &self,
        peer: &Peer,
        work: impl Fn(Manifest) -> F + Send + Sync + 'static,
    ) -> Result<T, PeerError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Declined>> + Send + 'static,
    {
        let fate = self.fate();
        let (reply, answer) = oneshot::channel();
        let (cluster, address) = (self.cluster.clone(), peer.address.clone());
        // What was sent goes its way, whatever becomes of its sender.
        tokio::spawn(async move {
            sleep(fate.arrives).await;
            if fate.is_lost {
                return;
            }
            let mut reply = Some(reply);
            for pause in [Some(Duration::ZERO), fate.again].into_iter().flatten() {
                sleep(pause).await;
                let Some((env, broker)) = cluster.at(&address) else {
                    return;
                };
                let answering = work(broker.manifest().clone());
                let reply = reply.take();
                env.spawn(async move {
                    let answer = answering.await;
                    sleep(fate.returns).await;
                    if let Some(reply) = reply.filter(|_| !fate.answer_is_lost) {
                        let _ = reply.send(answer);
                    }
                });
            }
        });
        let nobody = || PeerError::Unreachable("nobody answers".into());
        match tokio::time::timeout(TIMEOUT, answer).await {
            Ok(Ok(answer)) => answer.map_err(PeerError::Declined),
            Ok(Err(_)) | Err(_) => Err(nobody()),
        }
    }
}

#[async_trait]
impl Peers for Talk {
    async fn forward(&self, peer: &Peer, commit: Bytes) -> Result<Seq, PeerError> {
        self.cluster.world.count("commits forwarded", 1);
        let work = move |manifest: Manifest| {
            let commit = commit.clone();
            async move { manifest.admit(commit).await }
        };
        self.ask(peer, work).await
    }

    async fn log_after(
        &self,
        peer: &Peer,
        log: LogId,
        after: Seq,
    ) -> Result<Vec<(Seq, Bytes)>, PeerError> {
        let work = move |manifest: Manifest| async move {
            manifest.log_after(log, after, NEWS_WITHIN).await
        };
        self.ask(peer, work).await
    }
}
