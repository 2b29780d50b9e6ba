//! The store as the rest of Weir sees it.

use std::collections::{BinaryHeap, HashSet};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};
use tokio::time::Instant;

use crate::types::Timestamp;

use super::attempt::{Asked, Ended, Requests, refused};
use super::backend::{Backend, Nature};
use super::error::{Cause, StoreError};
use super::failure::{Judged, Verdict};
use super::metrics::{Outcome, RequestKind, StoreMetrics};
use super::options::StoreOptions;
use super::paths::{ObjectPath, ObjectPrefix};
use super::url::StoreUrl;

/// An object store with the four things that Weir needs of one: create if absent, read, list, delete.
/// Cheap to clone; clones share connections, bounds and metrics.
#[derive(Clone)]
pub struct Store {
    requests: Arc<Requests>,
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

/// An object as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its name.
    pub path: ObjectPath,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written, by the store's clock.
    pub last_modified: Timestamp,
}

/// How far the store's clock is from ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ClockDifference {
    /// The store's clock minus ours, in milliseconds.
    pub ahead_millis: i64,
    /// How far off that figure may be, in milliseconds: stores tell the time to the second.
    pub uncertainty_millis: u64,
}

impl ClockDifference {
    /// Whether the clocks certainly differ by more than that.
    pub fn exceeds(&self, limit: std::time::Duration) -> bool {
        let certain = self
            .ahead_millis
            .unsigned_abs()
            .saturating_sub(self.uncertainty_millis);
        u128::from(certain) > limit.as_millis()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.name())
    }
}

/// The largest number of names in one bulk delete or one page of a listing.
const PAGE: usize = 1000;

/// How many deletes are under way at once in a store that has no bulk delete.
const DELETES: usize = 16;

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

    /// A store in this process's memory with the default settings, for tests.
    pub fn memory() -> Store {
        let objects = Arc::new(object_store::memory::InMemory::new());
        Store::from_object_store(objects, StoreOptions::default(), StoreMetrics::default())
    }

    /// Any implementation, taken as a store without a clock of its own: for simulation and faults.
    #[doc(hidden)]
    pub fn from_object_store(
        objects: Arc<dyn ObjectStore>,
        options: StoreOptions,
        metrics: StoreMetrics,
    ) -> Store {
        let backend = Backend::of(objects, Nature::Memory, "memory://".to_owned());
        Store::of(backend, options, metrics)
    }

    fn of(backend: Backend, options: StoreOptions, metrics: StoreMetrics) -> Store {
        Store {
            requests: Arc::new(Requests::new(backend, options, metrics)),
        }
    }

    /// The store's URL.
    pub fn name(&self) -> &str {
        &self.requests.backend.name
    }

    /// The counters of this store.
    pub fn metrics(&self) -> &StoreMetrics {
        &self.requests.metrics
    }

    /// The settings of this store.
    pub fn options(&self) -> &StoreOptions {
        &self.requests.options
    }

    fn objects(&self) -> &dyn ObjectStore {
        self.requests.backend.objects.as_ref()
    }

    fn location(&self, path: &ObjectPath) -> Path {
        self.under_prefix(path.as_str())
    }

    fn under_prefix(&self, name: &str) -> Path {
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
        let asked = Asked {
            kind,
            subject: path,
            sent: payload.content_length() as u64,
        };
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
        let asked = Asked {
            kind,
            subject: path,
            sent: payload.content_length() as u64,
        };
        let location = self.location(path);
        let put = || {
            let options = PutOptions::from(PutMode::Overwrite);
            self.objects().put_opts(&location, payload.clone(), options)
        };
        match self.requests.repeat(asked, put).await {
            Ok(_) => Ok(()),
            Err(ended) => Err(plain(ended, path, &(0..0))),
        }
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
        let get = || self.read(&location, GetOptions::default(), limit);
        match self.requests.repeat(asked, get).await {
            Ok(Read::Bytes(bytes, _)) => {
                self.metrics().add_received(kind, bytes.len() as u64);
                Ok(bytes)
            }
            Ok(Read::TooLarge(size)) => Err(StoreError::TooLarge {
                path: path.clone(),
                size,
                limit,
            }),
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
        let (asked, limit) = (reading(path, kind), self.options().max_object.0);
        self.check_range(path, &range)?;
        let location = self.location(path);
        let get = || self.read_range(&location, range.clone());
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
        let asked = reading(path, kind);
        let location = self.location(path);
        let began = Instant::now();
        let patience = self.options().request_timeout;
        let work = self.read_range(&location, range.clone());
        let attempt = self.requests.attempt(asked, patience, work).await;
        let failure = match attempt.result {
            Ok(read) => {
                attempt.running.end(Outcome::Ok);
                return self.received(read, path, kind, limit).map(Some);
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

    fn received(
        &self,
        read: Read,
        path: &ObjectPath,
        kind: RequestKind,
        limit: u64,
    ) -> Result<(Bytes, u64), StoreError> {
        match read {
            Read::Bytes(bytes, size) => {
                self.metrics().add_received(kind, bytes.len() as u64);
                Ok((bytes, size))
            }
            Read::TooLarge(size) => Err(StoreError::TooLarge {
                path: path.clone(),
                size,
                limit,
            }),
        }
    }

    async fn read_range(&self, location: &Path, range: Range<u64>) -> object_store::Result<Read> {
        let limit = range.end - range.start;
        let options = GetOptions::new().with_range(Some(GetRange::Bounded(range.clone())));
        let read = self.read(location, options, limit).await;
        let Err(object_store::Error::Generic { .. }) = &read else {
            return read;
        };
        if matches!(self.requests.backend.nature, Nature::Http(_)) {
            return read;
        }
        // Without a status the reason is not visible in the error, but the object's size is.
        let meta = self.objects().head(location).await?;
        if range.start < meta.size {
            return read;
        }
        let judged = Judged {
            verdict: Verdict::OutOfRange,
            cause: Cause::new("the range begins after the object's end"),
        };
        Err(judged.wrap("store"))
    }

    /// Reads what the options ask for if that is not more than `limit` bytes.
    async fn read(
        &self,
        location: &Path,
        options: GetOptions,
        limit: u64,
    ) -> object_store::Result<Read> {
        let result = self.objects().get_opts(location, options).await?;
        let (size, length) = (result.meta.size, result.range.end - result.range.start);
        if length > limit {
            return Ok(Read::TooLarge(length));
        }
        let bytes = result.bytes().await?;
        if bytes.len() as u64 == length {
            return Ok(Read::Bytes(bytes, size));
        }
        // A file that is cut short while it is read, or an answer that broke off unnoticed.
        let judged = Judged {
            verdict: Verdict::Transient { reached: true },
            cause: Cause::new(&format!("{} bytes came instead of {length}", bytes.len())),
        };
        Err(judged.wrap("store"))
    }

    /// Size and time of an object, with retries.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Unavailable`], [`StoreError::Refused`].
    pub async fn head(
        &self,
        path: &ObjectPath,
        kind: RequestKind,
    ) -> Result<ObjectMeta, StoreError> {
        let location = self.location(path);
        let head = || self.objects().head(&location);
        match self.requests.repeat(reading(path, kind), head).await {
            Ok(meta) => Ok(ObjectMeta {
                path: path.clone(),
                size: meta.size,
                last_modified: Timestamp(meta.last_modified.timestamp_millis()),
            }),
            Err(ended) => Err(plain(ended, path, &(0..0))),
        }
    }

    /// The first `limit` objects of a folder after `start_after`, in the order of their names. Objects
    /// that are not Weir's are left out. Only start-up, the check and fsck list.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Refused`].
    pub async fn list(
        &self,
        prefix: ObjectPrefix,
        start_after: Option<&ObjectPath>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, StoreError> {
        let name = prefix.name();
        let subject = if name.is_empty() {
            "all objects".to_owned()
        } else {
            format!("{name}/")
        };
        let asked = Asked {
            kind: RequestKind::List,
            subject: &subject,
            sent: 0,
        };
        let folder = self.under_prefix(&name);
        let folder = (!folder.as_ref().is_empty()).then_some(&folder);
        let mut after = start_after.map(|path| self.location(path));
        let mut found = Vec::new();
        if !self.requests.backend.nature.lists_in_pages() {
            let list = || self.smallest(folder, after.as_ref(), limit);
            return self
                .requests
                .repeat(asked, list)
                .await
                .map_err(|ended| listing(ended, asked));
        }
        while found.len() < limit {
            let list = || self.page(folder, after.as_ref());
            let page = self
                .requests
                .repeat(asked, list)
                .await
                .map_err(|e| listing(e, asked))?;
            let last = page.last().map(|meta| meta.location.clone());
            let ordered = page.is_sorted_by(|a, b| a.location < b.location);
            if !ordered || last.is_some() && last <= after {
                let cause = Cause::new("the names are not listed in order");
                let advice = "Weir needs a store that lists names in order";
                return Err(refused(asked, cause, advice));
            }
            let full = page.len() == PAGE;
            found.extend(page.into_iter().filter_map(|meta| self.known(&meta)));
            if !full {
                break;
            }
            after = last;
        }
        found.truncate(limit);
        Ok(found)
    }

    fn listed(
        &self,
        folder: Option<&Path>,
        after: Option<&Path>,
    ) -> BoxStream<'static, object_store::Result<object_store::ObjectMeta>> {
        match after {
            Some(after) => self.objects().list_with_offset(folder, after),
            None => self.objects().list(folder),
        }
    }

    /// One page, as the store gives it.
    async fn page(
        &self,
        folder: Option<&Path>,
        after: Option<&Path>,
    ) -> object_store::Result<Vec<object_store::ObjectMeta>> {
        self.listed(folder, after).take(PAGE).try_collect().await
    }

    /// The objects with the smallest names, out of a listing in any order.
    async fn smallest(
        &self,
        folder: Option<&Path>,
        after: Option<&Path>,
        limit: usize,
    ) -> object_store::Result<Vec<ObjectMeta>> {
        let mut smallest = BinaryHeap::new();
        let mut listed = self.listed(folder, after);
        while let Some(meta) = listed.try_next().await? {
            if let Some(meta) = self.known(&meta) {
                smallest.push(ByPath(meta));
                if smallest.len() > limit {
                    smallest.pop();
                }
            }
        }
        Ok(smallest
            .into_sorted_vec()
            .into_iter()
            .map(|ByPath(meta)| meta)
            .collect())
    }

    /// The object under Weir's own name for it, if it has one.
    fn known(&self, meta: &object_store::ObjectMeta) -> Option<ObjectMeta> {
        let rest = meta.location.prefix_match(&self.requests.backend.prefix)?;
        let relative: Path = rest.collect();
        Some(ObjectMeta {
            path: relative.as_ref().parse().ok()?,
            size: meta.size,
            last_modified: Timestamp(meta.last_modified.timestamp_millis()),
        })
    }

    /// Deletes objects, with retries. One that does not exist counts as deleted. After an error any number
    /// of them may be gone.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Refused`].
    pub async fn delete(&self, paths: Vec<ObjectPath>) -> Result<(), StoreError> {
        if self.requests.backend.nature.deletes_in_bulk() {
            for chunk in paths.chunks(PAGE) {
                self.delete_bulk(chunk).await?;
            }
            return Ok(());
        }
        stream::iter(paths)
            .map(|path| self.delete_one(path))
            .buffer_unordered(DELETES)
            .try_collect()
            .await
    }

    async fn delete_one(&self, path: ObjectPath) -> Result<(), StoreError> {
        let location = self.location(&path);
        let delete = || async {
            match self.objects().delete(&location).await {
                Err(object_store::Error::NotFound { .. }) => Ok(()),
                other => other,
            }
        };
        let asked = reading(&path, RequestKind::Delete);
        match self.requests.repeat(asked, delete).await {
            Ok(()) => Ok(()),
            Err(ended) => Err(plain(ended, &path, &(0..0))),
        }
    }

    async fn delete_bulk(&self, paths: &[ObjectPath]) -> Result<(), StoreError> {
        let left: HashSet<Path> = paths.iter().map(|path| self.location(path)).collect();
        let subject = format!("{} objects", left.len());
        let asked = Asked {
            kind: RequestKind::Delete,
            subject: &subject,
            sent: 0,
        };
        let left = Mutex::new(left);
        let delete = || async {
            let names: Vec<_> = lock(&left).iter().cloned().map(Ok).collect();
            let mut answers = self.objects().delete_stream(stream::iter(names).boxed());
            let mut failed = None;
            while let Some(answer) = answers.next().await {
                match answer {
                    Ok(path) => {
                        lock(&left).remove(&path);
                    }
                    Err(error) => failed = Some(error),
                }
            }
            failed.map_or(Ok(()), Err)
        };
        self.requests
            .repeat(asked, delete)
            .await
            .map_err(|ended| listing(ended, asked))
    }

    /// How far the store's clock is from ours, measured with an object that was written just now, at
    /// `written` by our clock. `None` for a store that has no clock of its own.
    ///
    /// # Errors
    /// Those of [`Store::head`]; makes one attempt.
    pub async fn clock_difference(
        &self,
        object: &ObjectPath,
        written: Timestamp,
        kind: RequestKind,
    ) -> Result<Option<ClockDifference>, StoreError> {
        match self.requests.backend.nature {
            Nature::Memory => Ok(None),
            Nature::File => {
                let meta = self.head(object, kind).await?;
                let now = self.options().env.now();
                let write_took = u64::try_from(now.0.saturating_sub(written.0)).unwrap_or(0);
                Ok(Some(ClockDifference {
                    ahead_millis: meta.last_modified.0.saturating_sub(written.0),
                    uncertainty_millis: write_took.saturating_add(10),
                }))
            }
            Nature::Http(_) => self.http_clock_difference(object, kind).await,
        }
    }

    async fn http_clock_difference(
        &self,
        object: &ObjectPath,
        kind: RequestKind,
    ) -> Result<Option<ClockDifference>, StoreError> {
        let location = self.location(object);
        let asked = reading(object, kind);
        let (env, began) = (&self.options().env, Instant::now());
        let asked_at = env.now();
        let limit = self.options().request_timeout;
        let attempt = self
            .requests
            .attempt(asked, limit, self.objects().head(&location))
            .await;
        let answered_at = env.now();
        if let Err(failure) = attempt.result {
            attempt.running.end(Outcome::Error);
            return Err(self.requests.unavailable(asked, failure.cause, 1, began));
        }
        attempt.running.end(Outcome::Ok);
        let round_trip = u64::try_from(answered_at.0.saturating_sub(asked_at.0)).unwrap_or(0);
        // The head of an answer tells the second that had begun when it was written.
        Ok(attempt.date.map(|date| ClockDifference {
            ahead_millis: date.0 + 500 - asked_at.0.midpoint(answered_at.0),
            uncertainty_millis: 500 + round_trip / 2,
        }))
    }
}

enum Read {
    Bytes(Bytes, u64),
    TooLarge(u64),
}

struct ByPath(ObjectMeta);

impl PartialEq for ByPath {
    fn eq(&self, other: &ByPath) -> bool {
        self.0.path == other.0.path
    }
}

impl Eq for ByPath {}

impl PartialOrd for ByPath {
    fn partial_cmp(&self, other: &ByPath) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByPath {
    fn cmp(&self, other: &ByPath) -> std::cmp::Ordering {
        self.0.path.cmp(&other.0.path)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn reading(path: &ObjectPath, kind: RequestKind) -> Asked<'_> {
    Asked {
        kind,
        subject: path,
        sent: 0,
    }
}

fn plain(ended: Ended, path: &ObjectPath, range: &Range<u64>) -> StoreError {
    match ended {
        Ended::NotFound => StoreError::NotFound { path: path.clone() },
        Ended::OutOfRange => StoreError::OutOfRange {
            path: path.clone(),
            range: range.clone(),
        },
        Ended::Error(error) => error,
    }
}

fn listing(ended: Ended, asked: Asked<'_>) -> StoreError {
    match ended {
        Ended::Error(error) => error,
        Ended::NotFound | Ended::OutOfRange => {
            let cause = Cause::new("the store knows nothing under this name");
            refused(
                asked,
                cause,
                "Create the bucket, or correct the store's URL",
            )
        }
    }
}
