//! A bucket behind a network that does what a [`Network`] says: for the simulator.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::store::error::Cause;
use crate::store::failure::{Judged, Verdict, verdict};
use crate::store::wire::{Trace, Traced};
use crate::store::{Store, StoreMetrics, StoreOptions};
use crate::types::Timestamp;

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
    /// Begin an upload in parts.
    Begin,
    /// Put one of its parts.
    Part,
    /// Make its parts the object.
    Complete,
    /// Give it up.
    Abort,
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
    /// Not the bucket's: something between says that there is no such thing.
    Foreign,
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
    /// The store's clock, if its answers tell it.
    fn date(&self) -> Option<Timestamp>;
    /// The next number.
    fn next(&self) -> u64;
}

/// The bucket, which all nodes share.
#[derive(Clone, Default)]
pub(crate) struct Bucket(Arc<Contents>);

#[derive(Default)]
struct Contents {
    objects: InMemory,
    /// Uploads in parts that were begun and neither completed nor aborted.
    uploads: Mutex<HashSet<MultipartId>>,
}

impl Contents {
    fn with_uploads<T>(&self, f: impl FnOnce(&mut HashSet<MultipartId>) -> T) -> T {
        f(&mut self.uploads.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A store says so of an upload that was completed or aborted.
    fn known(&self, location: &Path, id: &MultipartId) -> Result<()> {
        match self.with_uploads(|uploads| uploads.contains(id)) {
            true => Ok(()),
            false => Err(no_upload(location)),
        }
    }

    fn ends(&self, location: &Path, id: &MultipartId) -> Result<()> {
        match self.with_uploads(|uploads| uploads.remove(id)) {
            true => Ok(()),
            false => Err(no_upload(location)),
        }
    }
}

fn no_upload(location: &Path) -> Error {
    Error::NotFound {
        path: location.to_string(),
        source: "no such upload".into(),
    }
}

impl Bucket {
    /// How many uploads in parts are neither completed nor aborted.
    pub(crate) fn unfinished_uploads(&self) -> usize {
        self.0.with_uploads(|uploads| uploads.len())
    }

    /// A store on this bucket behind that network.
    pub(crate) fn behind(&self, network: Arc<dyn Network>, options: StoreOptions) -> Store {
        let link = Link {
            bucket: self.0.clone(),
            network,
        };
        Store::from_multipart_store(Arc::new(link), options, StoreMetrics::default())
    }
}

/// One node's way to the bucket.
struct Link {
    bucket: Arc<Contents>,
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

/// What a gateway answers that has nobody to ask, judged as it would be if it came by HTTP.
fn foreign() -> Error {
    let seen = Traced {
        sent: true,
        status: Some(404),
        ..Traced::default()
    };
    let judged = Judged {
        verdict: verdict(&seen),
        cause: Cause::new(&seen.foreign()),
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
        apply: impl Fn(Arc<Contents>) -> F + Send + Sync + 'static,
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
            let reply = Answer {
                reply,
                date: network.date(),
            };
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
            Ok((answer, date)) => {
                if let Some(date) = date {
                    Trace::note_date(date);
                }
                answer
            }
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

/// Where an answer goes, and what it will say of the time.
struct Answer<T> {
    reply: oneshot::Sender<(Result<T>, Option<Timestamp>)>,
    date: Option<Timestamp>,
}

fn deliver<T>(which: Reply, answer: Option<Result<T>>, to: Answer<T>) {
    let answer = match (which, answer) {
        (Reply::First | Reply::Second, Some(answer)) => answer,
        (Reply::Never, _) => return,
        (Reply::NotSent, _) => Err(failure(false)),
        (Reply::Foreign, _) => Err(foreign()),
        _ => Err(failure(true)),
    };
    let date = to
        .date
        .filter(|_| !matches!(which, Reply::NotSent | Reply::Foreign));
    // Whoever sent it may be gone.
    let _ = to.reply.send((answer, date));
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
                let done = bucket
                    .objects
                    .put_opts(&name, body.clone().into(), opts)
                    .await;
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
            async move { bucket.objects.get_opts(&name, options).await }
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
                let delete = move |bucket: Arc<Contents>| {
                    let name = name.clone();
                    async move { bucket.objects.delete(&name).await }
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
            let list = move |bucket: Arc<Contents>| {
                let prefix = prefix.clone();
                async move {
                    let found: Vec<Result<ObjectMeta>> =
                        bucket.objects.list(prefix.as_ref()).collect().await;
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
        self.bucket.objects.list_with_delimiter(prefix).await
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        // Nobody asks for it: uploads go by `MultipartStore`.
        Err(Error::NotImplemented {
            operation: "put_multipart_opts".to_owned(),
            implementer: self.to_string(),
        })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.bucket.objects.copy_opts(from, to, options).await
    }
}

/// An upload takes at least three requests, each of which may be slow, lost, repeated or late like any other; the store
/// knows an upload from its beginning until it is completed or aborted, and says "not found" before and after.
#[async_trait]
impl MultipartStore for Link {
    async fn create_multipart(&self, location: &Path) -> Result<MultipartId> {
        let name = location.clone();
        self.send(Verb::Begin, location.as_ref(), 0, move |bucket| {
            let name = name.clone();
            async move {
                let id = bucket.objects.create_multipart(&name).await?;
                bucket.with_uploads(|uploads| uploads.insert(id.clone()));
                Ok(id)
            }
        })
        .await
    }

    async fn put_part(
        &self,
        location: &Path,
        id: &MultipartId,
        part_idx: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        let (name, id, body) = (location.clone(), id.clone(), Bytes::from(data));
        let part = format!("{location} part {part_idx}");
        self.send(Verb::Part, &part, body.len(), move |bucket| {
            let (name, id, body) = (name.clone(), id.clone(), body.clone());
            async move {
                bucket.known(&name, &id)?;
                bucket
                    .objects
                    .put_part(&name, &id, part_idx, body.into())
                    .await
            }
        })
        .await
    }

    async fn complete_multipart(
        &self,
        location: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        let (name, id, network) = (location.clone(), id.clone(), self.network.clone());
        self.send(Verb::Complete, location.as_ref(), 0, move |bucket| {
            let (name, id, parts) = (name.clone(), id.clone(), parts.clone());
            let network = network.clone();
            async move {
                bucket.ends(&name, &id)?;
                let done = bucket.objects.complete_multipart(&name, &id, parts).await?;
                let body = bucket.objects.get(&name).await?.bytes().await?;
                network.written(name.as_ref(), &body);
                Ok(done)
            }
        })
        .await
    }

    async fn abort_multipart(&self, location: &Path, id: &MultipartId) -> Result<()> {
        let (name, id) = (location.clone(), id.clone());
        self.send(Verb::Abort, location.as_ref(), 0, move |bucket| {
            let (name, id) = (name.clone(), id.clone());
            async move {
                bucket.ends(&name, &id)?;
                bucket.objects.abort_multipart(&name, &id).await
            }
        })
        .await
    }
}
