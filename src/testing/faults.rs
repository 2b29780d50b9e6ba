//! A store in memory that does what a test tells it to.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};

use crate::env::Env;
use crate::store::{Store, StoreMetrics, StoreOptions};
use crate::types::Timestamp;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing unusual.
    None,
    /// It is not applied, and the answer is an error such as 503.
    Fails,
    /// The same, after so long.
    SlowlyFails(Duration),
    /// It is applied, and the answer is lost.
    AnswerLost,
    /// A create, or a part of an upload, is not applied and answered with an error; all else is as usual.
    CreateFails,
    /// It is never answered.
    Hangs,
    /// It takes so long to reach the store.
    Slow(Duration),
    /// A put goes over a link that carries so many bytes a second of all puts together.
    Narrow(u32),
    /// The credentials have no right to it.
    Denied,
    /// What is stored differs from what was sent in its last byte.
    Garbles,
    /// A create replaces what exists.
    IgnoresCondition,
    /// A create looks whether the object exists and writes it a moment later.
    ChecksThenWrites,
}

/// Decides by the number of the request, from 0, and by the name of the object.
type Plan = Box<dyn Fn(usize, &str) -> Fault + Send + Sync>;

/// Turns the fault of [`Faulty::switched`] on and off.
#[derive(Default)]
pub(crate) struct Switch(Arc<AtomicBool>);

impl Switch {
    pub(crate) fn set(&self, on: bool) {
        self.0.store(on, Ordering::SeqCst);
    }
}

/// A store in memory with faults.
pub(crate) struct Faulty {
    inner: Arc<InMemory>,
    plan: Plan,
    requests: AtomicUsize,
    /// How many puts are on a link that is narrow.
    on_link: AtomicUsize,
    /// Uploads that were begun and neither completed nor aborted.
    uploads: Mutex<HashSet<MultipartId>>,
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

impl Faulty {
    pub(crate) fn store(
        plan: impl Fn(usize) -> Fault + Send + Sync + 'static,
    ) -> (Store, Arc<Faulty>) {
        Faulty::by_name(move |number, _| plan(number))
    }

    pub(crate) fn by_name(
        plan: impl Fn(usize, &str) -> Fault + Send + Sync + 'static,
    ) -> (Store, Arc<Faulty>) {
        Faulty::on(Arc::new(InMemory::new()), plan)
    }

    fn on(
        bucket: Arc<InMemory>,
        plan: impl Fn(usize, &str) -> Fault + Send + Sync + 'static,
    ) -> (Store, Arc<Faulty>) {
        let faulty = Arc::new(Faulty {
            inner: bucket,
            plan: Box::new(plan),
            requests: AtomicUsize::new(0),
            on_link: AtomicUsize::new(0),
            uploads: Mutex::default(),
        });
        let options = StoreOptions::new(Env::simulated(7, Timestamp(1_700_000_000_000)));
        let objects = Arc::clone(&faulty);
        let store = Store::from_multipart_store(objects, options, StoreMetrics::default());
        (store, faulty)
    }

    /// A store to whose requests `fault` happens while the switch is on. It is off.
    pub(crate) fn switched(fault: Fault) -> (Store, Switch) {
        let switch = Switch::default();
        let is_on = switch.0.clone();
        let (store, _) = Faulty::store(move |_| match is_on.load(Ordering::SeqCst) {
            true => fault,
            false => Fault::None,
        });
        (store, switch)
    }

    /// A store on the same bucket to whose requests nothing happens.
    pub(crate) fn beside(&self) -> Store {
        self.beside_with(|_| Fault::None)
    }

    /// Another store on the same bucket, with faults of its own.
    pub(crate) fn beside_with(
        &self,
        plan: impl Fn(usize) -> Fault + Send + Sync + 'static,
    ) -> Store {
        Faulty::on(self.inner.clone(), move |number, _| plan(number)).0
    }

    /// The store without faults.
    pub(crate) fn inner(&self) -> &InMemory {
        &self.inner
    }

    /// Two stores on one bucket. To requests through the first `fault` happens while the switch is on. It is off.
    pub(crate) fn switched_of_two(fault: Fault) -> (Store, Store, Switch) {
        let switch = Switch::default();
        let is_on = switch.0.clone();
        let bucket = Arc::new(InMemory::new());
        let (faulty, _) = Faulty::on(bucket.clone(), move |_, _| {
            match is_on.load(Ordering::SeqCst) {
                true => fault,
                false => Fault::None,
            }
        });
        let (sound, _) = Faulty::on(bucket, |_, _| Fault::None);
        (faulty, sound, switch)
    }

    /// How many uploads were begun and neither completed nor aborted.
    pub(crate) fn uploads(&self) -> usize {
        self.uploads.lock().unwrap().len()
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Waits until so many bytes have come over the link, of which all that are on it have equal shares.
    async fn carry(&self, bytes: usize, per_second: u32) {
        struct OnLink<'a>(&'a AtomicUsize);
        impl Drop for OnLink<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.on_link.fetch_add(1, Ordering::SeqCst);
        let on_link = OnLink(&self.on_link);
        let (tick, mut left) = (Duration::from_millis(20), bytes as f64);
        while left > 0.0 {
            tokio::time::sleep(tick).await;
            let share = on_link.0.load(Ordering::SeqCst) as f64;
            left -= f64::from(per_second) * tick.as_secs_f64() / share;
        }
    }

    async fn next(&self, path: &Path) -> Result<Fault> {
        let fault = (self.plan)(self.requests.fetch_add(1, Ordering::SeqCst), path.as_ref());
        match fault {
            Fault::Fails => Err(slow_down()),
            Fault::SlowlyFails(time) => {
                tokio::time::sleep(time).await;
                Err(slow_down())
            }
            Fault::Hangs => futures::future::pending().await,
            Fault::Slow(time) => {
                tokio::time::sleep(time).await;
                Ok(fault)
            }
            Fault::Denied => Err(Error::PermissionDenied {
                path: path.to_string(),
                source: "no".into(),
            }),
            _ => Ok(fault),
        }
    }
}

/// The same with another last byte.
fn garbled(payload: &PutPayload) -> PutPayload {
    let mut bytes: Vec<u8> = payload.iter().flatten().copied().collect();
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    bytes.into()
}

fn slow_down() -> Error {
    Error::Generic {
        store: "faulty",
        source: "503 SlowDown".into(),
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        location: &Path,
        mut payload: PutPayload,
        mut opts: PutOptions,
    ) -> Result<PutResult> {
        let fault = self.next(location).await?;
        match fault {
            Fault::Garbles => payload = garbled(&payload),
            Fault::CreateFails => return Err(slow_down()),
            Fault::Narrow(per_second) => self.carry(payload.content_length(), per_second).await,
            Fault::IgnoresCondition => opts.mode = PutMode::Overwrite,
            Fault::ChecksThenWrites if opts.mode == PutMode::Create => {
                match self
                    .inner
                    .get_opts(location, GetOptions::new().with_head(true))
                    .await
                {
                    Err(Error::NotFound { .. }) => {
                        tokio::time::sleep(Duration::from_millis(1)).await
                    }
                    _ => {
                        return Err(Error::AlreadyExists {
                            path: location.to_string(),
                            source: "exists".into(),
                        });
                    }
                }
                opts.mode = PutMode::Overwrite;
            }
            _ => {}
        }
        let done = self.inner.put_opts(location, payload, opts).await;
        if fault == Fault::AnswerLost {
            Err(slow_down())
        } else {
            done
        }
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let fault = self.next(location).await?;
        let done = self.inner.get_opts(location, options).await;
        if fault == Fault::AnswerLost {
            Err(slow_down())
        } else {
            done
        }
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        match (self.plan)(self.requests.fetch_add(1, Ordering::SeqCst), "") {
            Fault::None | Fault::CreateFails => self.inner.delete_stream(locations),
            Fault::Hangs => futures::stream::pending().boxed(),
            Fault::AnswerLost => {
                let deleted = self.inner.delete_stream(locations);
                deleted.map(|_| Err(slow_down())).boxed()
            }
            _ => locations.map(|_| Err(slow_down())).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// A store answers so when an upload was completed or aborted before.
fn no_upload(path: &Path) -> Error {
    Error::NotFound {
        path: path.to_string(),
        source: "no such upload".into(),
    }
}

#[async_trait]
impl MultipartStore for Faulty {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        let fault = self.next(path).await?;
        let id = self.inner.create_multipart(path).await?;
        self.uploads.lock().unwrap().insert(id.clone());
        answer(fault, id)
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        part_idx: usize,
        data: PutPayload,
    ) -> Result<PartId> {
        let fault = self.next(path).await?;
        if !self.uploads.lock().unwrap().contains(id) {
            return Err(no_upload(path));
        }
        answer(fault, self.inner.put_part(path, id, part_idx, data).await?)
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        let fault = self.next(path).await?;
        if !self.uploads.lock().unwrap().remove(id) {
            return Err(no_upload(path));
        }
        answer(fault, self.inner.complete_multipart(path, id, parts).await?)
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        let fault = self.next(path).await?;
        if !self.uploads.lock().unwrap().remove(id) {
            return Err(no_upload(path));
        }
        answer(fault, self.inner.abort_multipart(path, id).await?)
    }
}

fn answer<T>(fault: Fault, value: T) -> Result<T> {
    if fault == Fault::AnswerLost {
        Err(slow_down())
    } else {
        Ok(value)
    }
}
