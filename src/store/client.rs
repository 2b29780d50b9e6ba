//! The store as the rest of Weir sees it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, PutMode, PutOptions, PutPayload, PutResult};
use tokio::time::Instant;

use crate::types::Timestamp;

use super::attempt::{Asked, Ended, Requests, refused};
use super::backend::{Backend, Nature};
use super::body::Cut;
use super::error::{Cause, StoreError};
use super::failure::Verdict;
use super::listing::ObjectMeta;
use super::metrics::{Outcome, RequestKind, StoreMetrics};
use super::options::StoreOptions;
use super::paths::ObjectPath;
use super::url::StoreUrl;
use super::url::url_of;

/// An object store with the four things that Weir needs of one: create if absent, read, list, delete.
/// Cheap to clone; clones share connections, bounds and metrics.
#[derive(Clone)]
pub struct Store {
    pub(super) requests: Arc<Requests>,
}

/// The body of a put: one or more pieces that are sent one after the other and not copied.
#[derive(Clone, Debug, Default)]
pub struct PutBody(PutPayload);

impl PutBody {
    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.0.content_length() as u64
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Bytes> for PutBody {
    fn from(bytes: Bytes) -> PutBody {
        PutBody(bytes.into())
    }
}

impl From<Vec<u8>> for PutBody {
    fn from(bytes: Vec<u8>) -> PutBody {
        PutBody(bytes.into())
    }
}

impl From<Vec<Bytes>> for PutBody {
    fn from(pieces: Vec<Bytes>) -> PutBody {
        PutBody(pieces.into_iter().collect())
    }
}

/// What became of a create.
#[derive(Debug)]
#[must_use]
pub enum Created {
    /// The object did not exist and is now ours.
    Created,
    /// The object existed before, and the store said so in answer to the only attempt.
    Exists,
    /// The store may or may not have applied it: read the object to know. Another create of the same
    /// bytes at the same name is safe only for a caller who can tell its own bytes from others'.
    Unknown(Cause),
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.name())
    }
}

impl Store {
    /// Sets the store up. For a bucket no request is made to it: the first use finds out whether it is
    /// there. A directory is made if it is absent.
    ///
    /// # Errors
    /// [`StoreError::Setup`] if the environment lacks credentials or a region, or the directory cannot be
    /// made.
    pub async fn open(
        url: &StoreUrl,
        options: StoreOptions,
        metrics: StoreMetrics,
    ) -> Result<Store, StoreError> {
        let backend = Backend::open(url, &options).await?;
        Ok(Store::of(backend, options, metrics))
    }

    /// Sets the store up for looking only: whatever would change something is refused, and nothing is made
    /// that is not there, not even the directory of a file store.
    ///
    /// # Errors
    /// Those of [`Store::open`], and [`StoreError::Setup`] if the directory does not exist.
    pub async fn open_read_only(
        url: &StoreUrl,
        options: StoreOptions,
        metrics: StoreMetrics,
    ) -> Result<Store, StoreError> {
        let backend = Backend::open_read_only(url, &options).await?;
        Ok(Store::of(backend, options, metrics))
    }

    /// A store in this process's memory with the default settings, for tests.
    pub fn memory() -> Store {
        let objects = Arc::new(object_store::memory::InMemory::new());
        Store::from_multipart_store(objects, StoreOptions::default(), StoreMetrics::default())
    }

    /// Any implementation, taken as a store without a clock of its own: for simulation and faults.
    #[doc(hidden)]
    pub fn from_multipart_store<S: ObjectStore + MultipartStore>(
        objects: Arc<S>,
        options: StoreOptions,
        metrics: StoreMetrics,
    ) -> Store {
        let backend = Backend::of(objects, Nature::Memory, "memory://".to_owned());
        Store::of(backend, options, metrics)
    }

    /// The same for one that takes only whole objects: an upload in parts is gathered and put as one.
    #[doc(hidden)]
    pub fn from_object_store(
        objects: Arc<dyn ObjectStore>,
        options: StoreOptions,
        metrics: StoreMetrics,
    ) -> Store {
        let backend = Backend::plain(objects, Nature::Memory, "memory://".to_owned());
        Store::of(backend, options, metrics)
    }

    pub(super) fn of(backend: Backend, options: StoreOptions, metrics: StoreMetrics) -> Store {
        Store {
            requests: Arc::new(Requests::new(backend, options, metrics)),
        }
    }

    /// The store's URL.
    pub fn name(&self) -> &str {
        &self.requests.backend.name
    }

    /// The URL of what has that name below the store's prefix, as other programs open it: of a directory, the absolute
    /// path.
    pub fn url_of(&self, name: &str) -> String {
        url_of(self.name(), name)
    }

    /// The counters of this store.
    pub fn metrics(&self) -> &StoreMetrics {
        &self.requests.metrics
    }

    /// The settings of this store.
    pub fn options(&self) -> &StoreOptions {
        &self.requests.options
    }

    pub(super) fn objects(&self) -> &dyn ObjectStore {
        self.requests.backend.objects.as_ref()
    }

    pub(super) fn location(&self, path: &ObjectPath) -> Path {
        self.under_prefix(path.as_str())
    }

    pub(super) fn under_prefix(&self, name: &str) -> Path {
        let prefix = &self.requests.backend.prefix;
        prefix.parts().chain(Path::from(name).parts()).collect()
    }

    /// Creates the object if it does not exist. Makes **one** attempt, for a second could not tell the
    /// object that it finds from the one that the first attempt made. A future dropped before its end is an
    /// unknown outcome too.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: the request was never sent. [`StoreError::Refused`]: the store refused
    /// it. In both cases the object was not created by this call.
    pub async fn create(
        &self,
        path: &ObjectPath,
        body: impl Into<PutBody>,
        kind: RequestKind,
    ) -> Result<Created, StoreError> {
        let PutBody(payload) = body.into();
        let asked = writing(path, &payload, kind);
        let location = self.location(path);
        let options = PutOptions::from(PutMode::Create);
        let work = self.objects().put_opts(&location, payload, options);
        let began = Instant::now();
        let limit = self.options().request_timeout;
        let attempt = self.requests.attempt(asked, limit, work).await;
        let failure = match attempt.result {
            Ok(_) => {
                attempt.running.end(Outcome::Ok);
                return Ok(Created::Created);
            }
            Err(failure) => failure,
        };
        match failure.verdict {
            Verdict::Exists => {
                attempt.running.end(Outcome::Exists);
                Ok(Created::Exists)
            }
            Verdict::Transient { reached: true } => {
                attempt.running.end(Outcome::Unknown);
                Ok(Created::Unknown(failure.cause))
            }
            Verdict::Transient { reached: false } => {
                attempt.running.end(Outcome::Error);
                Err(self.requests.unavailable(asked, failure.cause, 1, began))
            }
            Verdict::Permanent { advice } => {
                attempt.running.end(Outcome::Error);
                Err(refused(asked, failure.cause, advice))
            }
            Verdict::NotFound | Verdict::OutOfRange => {
                attempt.running.end(Outcome::Error);
                let advice = "Create the bucket, or correct the store's URL";
                Err(refused(asked, failure.cause, advice))
            }
        }
    }

    /// Writes an object under a name that nobody else can mint, so that it may be repeated: with backoff
    /// until the deadline.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the deadline has passed (the object may exist),
    /// [`StoreError::Refused`].
    pub async fn put_unique(
        &self,
        path: &ObjectPath,
        body: impl Into<PutBody>,
        kind: RequestKind,
    ) -> Result<(), StoreError> {
        let PutBody(payload) = body.into();
        let put = || self.put(path, &payload);
        let asked = writing(path, &payload, kind);
        let done = self.requests.repeat(asked, put).await;
        done.map(|_| ())
            .map_err(|ended| plain(ended, path, &(0..0)))
    }

    /// The same for a put that others wait for: while it takes much longer than such puts do, it is sent again beside
    /// itself, and the first answer counts. See `hedge.rs` for what that may cost.
    ///
    /// # Errors
    /// Those of [`Store::put_unique`].
    pub async fn put_hedged(
        &self,
        path: &ObjectPath,
        body: impl Into<PutBody>,
        kind: RequestKind,
    ) -> Result<(), StoreError> {
        let PutBody(payload) = body.into();
        let put = || self.put(path, &payload);
        let asked = writing(path, &payload, kind);
        let done = self.requests.repeat_hedged(asked, put).await;
        done.map(|_| ())
            .map_err(|ended| plain(ended, path, &(0..0)))
    }

    /// How long a put of so many bytes takes, going by the hedged ones that ended last.
    pub fn expected_put(&self, bytes: u64) -> Duration {
        self.requests.hedging.expected(bytes)
    }

    /// One put, whatever stands under the name.
    async fn put(
        &self,
        path: &ObjectPath,
        payload: &PutPayload,
    ) -> object_store::Result<PutResult> {
        let options = PutOptions::from(PutMode::Overwrite);
        let location = self.location(path);
        self.objects()
            .put_opts(&location, payload.clone(), options)
            .await
    }

    /// Reads a whole object, with retries.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::TooLarge`], [`StoreError::Unavailable`],
    /// [`StoreError::Refused`].
    pub async fn get(&self, path: &ObjectPath, kind: RequestKind) -> Result<Bytes, StoreError> {
        let asked = reading(path, kind);
        let location = self.location(path);
        let limit = self.options().max_object.0;
        let get = || self.read(path, &location, GetOptions::default(), limit, Cut::Whole);
        match self.requests.repeat(asked, get).await {
            Ok(read) => Ok(one(self.received(read, path, kind, limit)?).0),
            Err(ended) => Err(plain(ended, path, &(0..0))),
        }
    }

    /// Reads a range of an object, cut off at the object's end, with retries. Returns the bytes and the
    /// size of the whole object.
    ///
    /// # Errors
    /// [`StoreError::OutOfRange`] if the range is empty or begins at or after the object's end, and those
    /// of [`Store::get`].
    pub async fn get_range(
        &self,
        path: &ObjectPath,
        range: Range<u64>,
        kind: RequestKind,
    ) -> Result<(Bytes, u64), StoreError> {
        Ok(one(self.get_cut(path, range, kind, Cut::Whole).await?))
    }

    /// Reads a range of an object as pieces of these lengths, which follow one another from `start` on, by one request.
    /// Each has memory of its own, and no more than it needs: for whoever keeps them. Where the object ends they are
    /// shorter or missing. `come` hears of each as soon as it is there and whole, with its number; if the request has
    /// to be made again it hears of the first ones again.
    ///
    /// # Errors
    /// Those of [`Store::get_range`].
    pub async fn get_pieces(
        &self,
        path: &ObjectPath,
        start: u64,
        lens: &[u64],
        kind: RequestKind,
        come: &(dyn Fn(usize, &Bytes) + Sync),
    ) -> Result<Vec<Bytes>, StoreError> {
        let end = lens.iter().fold(start, |end, len| end.saturating_add(*len));
        let (pieces, _) = self
            .get_cut(path, start..end, kind, Cut::Pieces(lens, come))
            .await?;
        Ok(pieces)
    }

    async fn get_cut(
        &self,
        path: &ObjectPath,
        range: Range<u64>,
        kind: RequestKind,
        cut: Cut<'_>,
    ) -> Result<(Vec<Bytes>, u64), StoreError> {
        let limit = self.options().max_object.0;
        self.check_range(path, &range)?;
        let asked = Asked {
            expected: range.end - range.start,
            ..reading(path, kind)
        };
        let location = self.location(path);
        let get = || self.read_range(path, &location, range.clone(), cut);
        match self.requests.repeat(asked, get).await {
            Ok(read) => self.received(read, path, kind, limit),
            Err(ended) => Err(plain(ended, path, &range)),
        }
    }

    /// Asks **once** for the first `limit` bytes of an object that may not exist: the follower's question
    /// whether there is a next commit. Returns the bytes and the size of the whole object, or `None`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: ask again later. [`StoreError::Refused`],
    /// [`StoreError::OutOfRange`] for an empty object.
    pub async fn probe(
        &self,
        path: &ObjectPath,
        limit: u64,
        kind: RequestKind,
    ) -> Result<Option<(Bytes, u64)>, StoreError> {
        let range = 0..limit;
        self.check_range(path, &range)?;
        let asked = Asked {
            expected: limit,
            ..reading(path, kind)
        };
        let location = self.location(path);
        let began = Instant::now();
        let timeout = self.options().request_timeout;
        let work = self.read_range(path, &location, range.clone(), Cut::Whole);
        let attempt = self.requests.attempt(asked, timeout, work).await;
        let failure = match attempt.result {
            Ok(read) => {
                attempt.running.end(Outcome::Ok);
                return Ok(Some(one(self.received(read, path, kind, limit)?)));
            }
            Err(failure) => failure,
        };
        let (outcome, answer) = match failure.verdict {
            Verdict::NotFound => (Outcome::NotFound, Ok(None)),
            Verdict::OutOfRange => {
                let path = path.clone();
                (Outcome::Error, Err(StoreError::OutOfRange { path, range }))
            }
            Verdict::Permanent { advice } => {
                (Outcome::Error, Err(refused(asked, failure.cause, advice)))
            }
            Verdict::Exists | Verdict::Transient { .. } => {
                let error = self.requests.unavailable(asked, failure.cause, 1, began);
                (Outcome::Error, Err(error))
            }
        };
        attempt.running.end(outcome);
        answer
    }

    fn check_range(&self, path: &ObjectPath, range: &Range<u64>) -> Result<(), StoreError> {
        let length = range.end.saturating_sub(range.start);
        let limit = self.options().max_object.0;
        if length == 0 {
            return Err(StoreError::OutOfRange {
                path: path.clone(),
                range: range.clone(),
            });
        }
        if length > limit {
            return Err(StoreError::TooLarge {
                path: path.clone(),
                size: length,
                limit,
            });
        }
        Ok(())
    }

    /// Size and time of an object that is not empty, with retries.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Unavailable`], [`StoreError::Refused`].
    pub async fn head(
        &self,
        path: &ObjectPath,
        kind: RequestKind,
    ) -> Result<ObjectMeta, StoreError> {
        let location = self.location(path);
        let head = || self.meta(&location);
        match self.requests.repeat(reading(path, kind), head).await {
            Ok(meta) => Ok(ObjectMeta {
                path: path.clone(),
                size: meta.size,
                last_modified: Timestamp(meta.last_modified.timestamp_millis()),
            }),
            Err(ended) => Err(plain(ended, path, &(0..0))),
        }
    }
}

/// What was read as a whole.
fn one((mut pieces, size): (Vec<Bytes>, u64)) -> (Bytes, u64) {
    (pieces.pop().unwrap_or_default(), size)
}

/// A request that sends this under that name.
fn writing<'a>(path: &'a ObjectPath, payload: &PutPayload, kind: RequestKind) -> Asked<'a> {
    Asked {
        kind,
        subject: path,
        sent: payload.content_length() as u64,
        expected: 0,
    }
}

pub(super) fn reading(path: &ObjectPath, kind: RequestKind) -> Asked<'_> {
    Asked {
        kind,
        subject: path,
        sent: 0,
        expected: 0,
    }
}

pub(super) fn plain(ended: Ended, path: &ObjectPath, range: &Range<u64>) -> StoreError {
    match ended {
        Ended::NotFound => StoreError::NotFound { path: path.clone() },
        Ended::OutOfRange => StoreError::OutOfRange {
            path: path.clone(),
            range: range.clone(),
        },
        Ended::Error(error) => error,
    }
}
