//! Large objects, written in parts.
//!
//! An object of hundreds of megabytes is neither held in memory nor sent by one request: it goes to the store in parts
//! of [`PART_LEN`], in any order, a few at once, and becomes visible as a whole when the upload ends. Only for names
//! that nobody else can mint, so that every request may be repeated.
//!
//! The answer to the request that ends the upload may be lost. The store then has the object and no upload any more:
//! before the request is repeated, and when it is given up, the object's length tells.
//!
//! An upload that fails, is aborted or is dropped is aborted at the store, and leaves nothing there. After a crash its
//! parts stay: on S3 and Google until a lifecycle rule removes them, on Azure for a week, in the file store until a
//! start an hour later. So does an empty upload, if the answer to the request that began it was lost. They are no
//! objects, so no listing shows them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{MultipartId, PutPayload};
use tokio::task::JoinSet;

use super::attempt::{Asked, Ended, refused};
use super::backend::Nature;
use super::client::{PutBody, Store, plain, reading};
use super::error::{Cause, StoreError};
use super::metrics::RequestKind;
use super::paths::ObjectPath;

/// The length of every part of an upload but the last. Above what every store asks for at least (5 MiB), the same
/// for all as some demand, and small enough to be repeated.
pub const PART_LEN: usize = 8 << 20;

/// How often an upload is aborted that had parts on their way.
const ABORTS: usize = 2;

/// An upload under way. It holds as many parts as are sent at once, and no others. Dropped, it is aborted in the
/// background.
#[must_use = "an upload that is dropped is aborted"]
pub struct Upload {
    target: Option<Target>,
    at_once: usize,
    sending: JoinSet<Result<(usize, Sent), StoreError>>,
    /// By number; there may be gaps as long as parts are missing.
    sent: Vec<Option<Sent>>,
}

/// What is known of a part that was sent.
struct Sent {
    len: usize,
    /// The store's name for it; or the part itself, for a store that takes only whole objects.
    part: Result<PartId, Bytes>,
}

/// Where an upload goes.
#[derive(Clone)]
struct Target {
    store: Store,
    path: ObjectPath,
    location: Path,
    kind: RequestKind,
    /// None for a store that takes only whole objects.
    multipart: Option<(Arc<dyn MultipartStore>, MultipartId)>,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.target.as_ref().map(|target| &target.path);
        f.debug_struct("Upload")
            .field("path", &path)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Begins the upload of an object under a name that nobody else can mint; `at_once` parts are sent side by side.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Refused`].
    pub async fn upload(
        &self,
        path: &ObjectPath,
        at_once: usize,
        kind: RequestKind,
    ) -> Result<Upload, StoreError> {
        let location = self.location(path);
        let multipart = match &self.requests.backend.parts {
            None => None,
            Some(parts) => {
                let begin = || parts.create_multipart(&location);
                let begun = self.requests.repeat(reading(path, kind), begin).await;
                let id = begun.map_err(|ended| ending(ended, path, kind))?;
                Some((Arc::clone(parts), id))
            }
        };
        Ok(Upload {
            target: Some(Target {
                store: self.clone(),
                path: path.clone(),
                location,
                kind,
                multipart,
            }),
            at_once: at_once.max(1),
            sending: JoinSet::new(),
            sent: Vec::new(),
        })
    }
}

impl Upload {
    /// Hands in the part with this number, counted from 0; in any order. All but the last have [`PART_LEN`] bytes.
    /// Waits until there is a place for it.
    ///
    /// # Errors
    /// Those of a part handed in before, after which the upload cannot succeed: [`StoreError::Unavailable`],
    /// [`StoreError::Refused`].
    pub async fn part(&mut self, number: u32, bytes: Bytes) -> Result<(), StoreError> {
        while self.sending.len() >= self.at_once {
            self.one_sent().await?;
        }
        if let Some(target) = self.target.clone() {
            let number = number as usize;
            let env = target.store.options().env.clone();
            let send = async move { Ok((number, target.send(number, bytes).await?)) };
            env.spawn_in(&mut self.sending, send);
        }
        Ok(())
    }

    /// Waits for all parts and makes them the object.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] (the object may exist), [`StoreError::Refused`], also if parts are missing or of a
    /// wrong length.
    pub async fn finish(mut self) -> Result<(), StoreError> {
        while !self.sending.is_empty() {
            self.one_sent().await?;
        }
        let Some(target) = self.target.clone() else {
            return Ok(());
        };
        let mut parts = Vec::with_capacity(self.sent.len());
        let (mut len, mut whole) = (0, !self.sent.is_empty());
        let last = self.sent.len().saturating_sub(1);
        let part = target.store.options().part_len;
        for (number, sent) in std::mem::take(&mut self.sent).into_iter().enumerate() {
            let fits = |sent: &Sent| sent.len == part || number == last && sent.len < part;
            match sent.filter(fits) {
                Some(sent) => {
                    len += sent.len as u64;
                    parts.push(sent.part);
                }
                None => whole = false,
            }
        }
        if !whole {
            let cause = Cause::new("the parts do not form an object");
            let advice = "This is a bug in Weir; please report it";
            return Err(refused(reading(&target.path, target.kind), cause, advice));
        }
        target.complete(parts, len).await?;
        self.target = None;
        Ok(())
    }

    /// Gives the upload up; nothing of it stays in the store.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Refused`]: its parts may stay until the store's rules remove them.
    pub async fn abort(mut self) -> Result<(), StoreError> {
        match self.target.take() {
            None => Ok(()),
            Some(target) => target.abort(std::mem::take(&mut self.sending)).await,
        }
    }

    /// Waits for one of the parts under way.
    async fn one_sent(&mut self) -> Result<(), StoreError> {
        match self.sending.join_next().await {
            None => Ok(()),
            Some(Ok(sent)) => {
                let (number, sent) = sent?;
                if self.sent.len() <= number {
                    self.sent.resize_with(number + 1, || None);
                }
                if let Some(place) = self.sent.get_mut(number) {
                    *place = Some(sent);
                }
                Ok(())
            }
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(target) = self.target.take() else {
            return;
        };
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let env = target.store.options().env.clone();
        let sending = std::mem::take(&mut self.sending);
        env.spawn(async move {
            let path = target.path.clone();
            if let Err(error) = target.abort(sending).await {
                tracing::warn!(%path, %error, "an upload could not be aborted; its parts stay until the store's \
                     lifecycle rules remove them");
            }
        });
    }
}

impl Target {
    async fn send(&self, number: usize, bytes: Bytes) -> Result<Sent, StoreError> {
        let len = bytes.len();
        let Some((parts, id)) = &self.multipart else {
            let part = Err(bytes);
            return Ok(Sent { len, part });
        };
        let asked = Asked {
            sent: len as u64,
            ..reading(&self.path, self.kind)
        };
        let put = || parts.put_part(&self.location, id, number, PutPayload::from(bytes.clone()));
        let part = self.store.requests.repeat(asked, put).await;
        let part = part.map_err(|ended| ending(ended, &self.path, self.kind))?;
        Ok(Sent {
            len,
            part: Ok(part),
        })
    }

    async fn complete(
        &self,
        parts: Vec<Result<PartId, Bytes>>,
        len: u64,
    ) -> Result<(), StoreError> {
        let Some((multipart, id)) = &self.multipart else {
            let bytes: Vec<Bytes> = parts.into_iter().filter_map(Result::err).collect();
            return self
                .store
                .put_unique(&self.path, PutBody::from(bytes), self.kind)
                .await;
        };
        let parts: Vec<PartId> = parts.into_iter().filter_map(Result::ok).collect();
        let first = AtomicBool::new(true);
        let complete = || async {
            // Whose answer was lost finds the object, and no upload.
            if !first.swap(false, Ordering::Relaxed) {
                let found = self.store.meta(&self.location).await;
                if found.is_ok_and(|found| found.size == len) {
                    return Ok(());
                }
            }
            let done = multipart
                .complete_multipart(&self.location, id, parts.clone())
                .await;
            done.map(|_| ())
        };
        let Err(ended) = self
            .store
            .requests
            .repeat(reading(&self.path, self.kind), complete)
            .await
        else {
            return Ok(());
        };
        match self.store.head(&self.path, self.kind).await {
            Ok(found) if found.size == len => Ok(()),
            _ => Err(ending(ended, &self.path, self.kind)),
        }
    }

    async fn abort(
        self,
        mut sending: JoinSet<Result<(usize, Sent), StoreError>>,
    ) -> Result<(), StoreError> {
        let on_their_way = !sending.is_empty();
        sending.shutdown().await;
        let Some((parts, id)) = &self.multipart else {
            return Ok(());
        };
        // A part that a distant store was still taking in when the upload was aborted may stay; the next time it is
        // gone.
        let distant = matches!(self.store.requests.backend.nature, Nature::Http(_));
        for _ in 0..if on_their_way && distant { ABORTS } else { 1 } {
            let abort = || parts.abort_multipart(&self.location, id);
            let asked = reading(&self.path, self.kind);
            match self.store.requests.repeat(asked, abort).await {
                Ok(()) => {}
                Err(Ended::NotFound) => break,
                Err(ended) => return Err(ending(ended, &self.path, self.kind)),
            }
        }
        Ok(())
    }
}

/// The upload's error; "not found" is about the bucket or the upload, never about the object.
fn ending(ended: Ended, path: &ObjectPath, kind: RequestKind) -> StoreError {
    match ended {
        Ended::NotFound => {
            let cause = Cause::new("the store does not know the upload");
            let advice =
                "Create the bucket, or see whether a rule of it aborts uploads within the hour";
            refused(reading(path, kind), cause, advice)
        }
        other => plain(other, path, &(0..0)),
    }
}
