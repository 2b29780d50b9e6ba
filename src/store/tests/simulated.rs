//! A bucket behind a network that does what a [`Network`] says: for the simulator.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::store::error::Cause;
use crate::store::failure::{Judged, Verdict};
use crate::store::{Store, StoreMetrics, StoreOptions};

/// A request on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Create if absent.
    Create,
    /// Put, whatever is there.
    Put,
    Get,
    Delete,
    List,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fate {
    /// How long it is on its way.
    pub(crate) arrives: Duration,
    /// Whether the bucket gets it.
    pub(crate) applied: bool,
    /// So long after that, the bucket gets it once more.
    pub(crate) again: Option<Duration>,
    pub(crate) answer: Reply,
    /// How long the answer is on its way.
    pub(crate) returns: Duration,
}

/// Which answer comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The bucket's.
    First,
    /// The bucket's to the request that it got once more: somebody between repeated it.
    Second,
    /// An error that leaves open what happened, such as 503 or a reset.
    Error,
    /// The request never left.
    NotSent,
    /// None.
    Never,
}

/// Decides what becomes of requests, and sees what they do.
pub(crate) trait Network: Send + Sync {
    /// A request is sent; `number` tells it from others in what follows.
    fn send(&self, number: u64, verb: Verb, name: &str, len: usize) -> Fate;
    /// The bucket has changed: this was written under the name.
    fn written(&self, name: &str, body: &Bytes);
    /// A request got to the bucket, which answered so.
    fn applied(&self, number: u64, says: &str);
    /// The next number.
    fn next(&self) -> u64;
}

/// The bucket, which all nodes share.
#[derive(Clone, Default)]
pub(crate) struct Bucket(Arc<InMemory>);

impl Bucket {
    /// A store on this bucket behind that network.
    pub(crate) fn behind(&self, network: Arc<dyn Network>, options: StoreOptions) -> Store {
        let link = Link {
            bucket: self.0.clone(),
            network,
        };
        Store::from_object_store(Arc::new(link), options, StoreMetrics::default())
    }
}

/// One node's way to the bucket.
struct Link {
    bucket: Arc<InMemory>,
    network: Arc<dyn Network>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated")
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated")
    }
}

fn failure(reached: bool) -> Error {
    let judged = Judged {
        verdict: Verdict::Transient { reached },
        cause: Cause::new(if reached { "503" } else { "no connection" }),
    };
    judged.wrap("simulated")
}

fn says<T>(answer: &Result<T>) -> &'static str {
    match answer {
        Ok(_) => "ok",
        Err(Error::NotFound { .. }) => "not found",
        Err(Error::AlreadyExists { .. }) => "exists",
        Err(_) => "error",
    }
}

impl Link {
    /// Sends a request. The network carries it on though whoever sent it may be gone.
    async fn send<T, F>(
        &self,
        verb: Verb,
        name: &str,
        len: usize,
        apply: impl Fn(Arc<InMemory>) -> F + Send + Sync + 'static,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let number = self.network.next();
        let fate = self.network.send(number, verb, name, len);
        let (reply, answer) = oneshot::channel();
        let (bucket, network) = (self.bucket.clone(), self.network.clone());
        tokio::spawn(async move {
            sleep(fate.arrives).await;
            let arrive = || arrive(&network, number, apply(bucket.clone()));
            let first = match fate.applied {
                true => Some(arrive().await),
                false => None,
            };
            match (fate.answer, fate.again) {
                (Reply::Second, Some(again)) => {
                    sleep(again).await;
                    let second = arrive().await;
                    sleep(fate.returns).await;
                    deliver(fate.answer, Some(second), reply);
                }
                (answer, again) => {
                    // The answer to the first does not wait for the second.
                    sleep(fate.returns).await;
                    deliver(answer, first, reply);
                    if let Some(again) = again {
                        sleep(again).await;
                        let _ = arrive().await;
                    }
                }
            }
        });
        match answer.await {
            Ok(answer) => answer,
            // Nothing comes any more.
            Err(_) => std::future::pending().await,
        }
    }
}

async fn arrive<T>(
    network: &Arc<dyn Network>,
    number: u64,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let answer = work.await;
    network.applied(number, says(&answer));
    answer
}

fn deliver<T>(which: Reply, answer: Option<Result<T>>, reply: oneshot::Sender<Result<T>>) {
    let answer = match (which, answer) {
        (Reply::First | Reply::Second, Some(answer)) => answer,
        (Reply::Never, _) => return,
        (Reply::NotSent, _) => Err(failure(false)),
        _ => Err(failure(true)),
    };
    // Whoever sent it may be gone.
    let _ = reply.send(answer);
}

#[async_trait]
impl ObjectStore for Link {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let verb = match opts.mode {
            PutMode::Create => Verb::Create,
            _ => Verb::Put,
        };
        let (name, network) = (location.clone(), self.network.clone());
        let body = Bytes::from(payload);
        self.send(verb, location.as_ref(), body.len(), move |bucket| {
            let (name, network) = (name.clone(), network.clone());
            let (body, opts) = (body.clone(), opts.clone());
            async move {
                let done = bucket.put_opts(&name, body.clone().into(), opts).await;
                if done.is_ok() {
                    network.written(name.as_ref(), &body);
                }
                done
            }
        })
        .await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let name = location.clone();
        self.send(Verb::Get, location.as_ref(), 0, move |bucket| {
            let (name, options) = (name.clone(), options.clone());
            async move { bucket.get_opts(&name, options).await }
        })
        .await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let link = Link {
            bucket: self.bucket.clone(),
            network: self.network.clone(),
        };
        let delete = move |location: Result<Path>| {
            let link = Link {
                bucket: link.bucket.clone(),
                network: link.network.clone(),
            };
            async move {
                let location = location?;
                let name = location.clone();
                let delete = move |bucket: Arc<InMemory>| {
                    let name = name.clone();
                    async move { bucket.delete(&name).await }
                };
                link.send(Verb::Delete, location.as_ref(), 0, delete)
                    .await?;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let link = Link {
            bucket: self.bucket.clone(),
            network: self.network.clone(),
        };
        let prefix = prefix.cloned();
        let listed = async move {
            let name = prefix.clone().unwrap_or_default();
            let list = move |bucket: Arc<InMemory>| {
                let prefix = prefix.clone();
                async move {
                    let found: Vec<Result<ObjectMeta>> =
                        bucket.list(prefix.as_ref()).collect().await;
                    found.into_iter().collect::<Result<Vec<ObjectMeta>>>()
                }
            };
            match link.send(Verb::List, name.as_ref(), 0, list).await {
                Ok(found) => found.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            }
        };
        stream::once(listed).flat_map(stream::iter).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.bucket.list_with_delimiter(prefix).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.bucket.put_multipart_opts(location, opts).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.bucket.copy_opts(from, to, options).await
    }
}
