//! A store in memory that does what a test tells it to, and what the client makes of that.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::time::Instant;

use crate::env::Env;
use crate::store::{
    Created, ObjectPath, Outcome, RequestKind, Store, StoreError, StoreMetrics, StoreOptions,
};
use crate::types::{Seq, Timestamp};

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing unusual.
    None,
    /// It is not applied, and the answer is an error such as 503.
    Fails,
    /// It is applied, and the answer is lost.
    AnswerLost,
    /// It is never answered.
    Hangs,
    /// The credentials have no right to it.
    Denied,
    /// A create replaces what exists.
    IgnoresCondition,
    /// A create looks whether the object exists and writes it a moment later.
    ChecksThenWrites,
}

/// Decides by the number of the request, from 0.
type Plan = Box<dyn Fn(usize) -> Fault + Send + Sync>;

/// A store in memory with faults.
pub(crate) struct Faulty {
    inner: InMemory,
    plan: Plan,
    requests: AtomicUsize,
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
        let faulty = Arc::new(Faulty {
            inner: InMemory::new(),
            plan: Box::new(plan),
            requests: AtomicUsize::new(0),
        });
        let options = StoreOptions::new(Env::simulated(7, Timestamp(1_700_000_000_000)));
        let objects = Arc::clone(&faulty) as Arc<dyn ObjectStore>;
        let store = Store::from_object_store(objects, options, StoreMetrics::default());
        (store, faulty)
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    async fn next(&self, path: &Path) -> Result<Fault> {
        let fault = (self.plan)(self.requests.fetch_add(1, Ordering::SeqCst));
        match fault {
            Fault::Fails => Err(slow_down()),
            Fault::Hangs => futures::future::pending().await,
            Fault::Denied => Err(Error::PermissionDenied {
                path: path.to_string(),
                source: "no".into(),
            }),
            _ => Ok(fault),
        }
    }
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
        payload: PutPayload,
        mut opts: PutOptions,
    ) -> Result<PutResult> {
        let fault = self.next(location).await?;
        match fault {
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
        self.inner.delete_stream(locations)
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

const PUT: RequestKind = RequestKind::CommitPut;
const GET: RequestKind = RequestKind::CommitGet;

fn commit() -> ObjectPath {
    ObjectPath::commit(Seq(1))
}

fn first(fault: Fault) -> impl Fn(usize) -> Fault {
    move |n| if n == 0 { fault } else { Fault::None }
}

#[tokio::test(start_paused = true)]
async fn a_create_whose_answer_is_lost_is_unknown_and_was_tried_once() {
    let (store, faulty) = Faulty::store(first(Fault::AnswerLost));
    let created = store
        .create(&commit(), Bytes::from_static(b"mine"), PUT)
        .await
        .unwrap();
    assert!(matches!(created, Created::Unknown(_)), "{created:?}");
    assert_eq!(faulty.requests(), 1);
    assert_eq!(store.metrics().count(PUT, Outcome::Unknown), 1);
    // It was applied: only reading can tell.
    assert_eq!(store.get(&commit(), GET).await.unwrap(), "mine");
}

#[tokio::test(start_paused = true)]
async fn a_create_that_fails_or_hangs_is_unknown_and_was_tried_once() {
    for fault in [Fault::Fails, Fault::Hangs] {
        let (store, faulty) = Faulty::store(first(fault));
        let created = store
            .create(&commit(), Bytes::from_static(b"mine"), PUT)
            .await
            .unwrap();
        assert!(matches!(created, Created::Unknown(_)), "{created:?}");
        assert_eq!(faulty.requests(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_about_the_log_that_got_lost_is_given_up_soon_and_an_upload_is_not() {
    let (store, _) = Faulty::store(|n| if n < 3 { Fault::Hangs } else { Fault::None });
    let path = commit();
    // A store that is slow, and not just silent, gets twice the time at the second attempt.
    for (kind, body, seconds) in [
        (PUT, 10, 5),
        (PUT, 3 << 20, 10 + 6),
        (RequestKind::SegmentPut, 10, 30),
    ] {
        let began = Instant::now();
        let created = store.create(&path, vec![0; body], kind).await.unwrap();
        assert!(matches!(created, Created::Unknown(_)), "{created:?}");
        assert_eq!(began.elapsed().as_secs(), seconds);
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_is_repeated_over_a_burst_of_errors_with_growing_pauses() {
    let (store, faulty) = Faulty::store(|n| {
        if (1..6).contains(&n) {
            Fault::Fails
        } else {
            Fault::None
        }
    });
    assert!(matches!(
        store.create(&commit(), vec![1], PUT).await,
        Ok(Created::Created)
    ));
    let began = Instant::now();
    assert_eq!(store.get(&commit(), GET).await.unwrap(), vec![1]);
    assert_eq!(faulty.requests(), 1 + 6);
    assert_eq!(store.metrics().count(GET, Outcome::Retry), 5);
    assert_eq!(store.metrics().count(GET, Outcome::Ok), 1);
    // 100 + 200 + 400 + 800 + 1600 ms, each between half and one and a half.
    let waited = began.elapsed();
    assert!(
        waited > Duration::from_millis(1550) && waited < Duration::from_millis(4650),
        "{waited:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_upload_is_repeated_after_a_lost_answer() {
    let (store, faulty) = Faulty::store(first(Fault::AnswerLost));
    store
        .put_unique(&commit(), vec![7; 10], RequestKind::SegmentPut)
        .await
        .unwrap();
    assert_eq!(faulty.requests(), 2);
    assert_eq!(store.metrics().sent(RequestKind::SegmentPut), 20);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_away_is_given_up_at_the_deadline() {
    for fault in [Fault::Fails, Fault::Hangs] {
        let (store, _) = Faulty::store(move |_| fault);
        let began = Instant::now();
        let error = store.get(&commit(), GET).await.unwrap_err();
        assert!(error.is_retriable(), "{error:?}");
        let took = began.elapsed();
        assert!(
            took > Duration::from_secs(120) && took <= Duration::from_secs(180),
            "{took:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_made_once_and_its_failure_is_left_to_the_caller() {
    let (store, faulty) = Faulty::store(|_| Fault::Fails);
    let error = store
        .probe(&commit(), 10, RequestKind::CommitProbe)
        .await
        .unwrap_err();
    assert!(error.is_retriable());
    assert_eq!(faulty.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_at_once_and_not_repeated() {
    let (store, faulty) = Faulty::store(|_| Fault::Denied);
    let error = store.get(&commit(), GET).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
    assert!(error.to_string().contains("rights"), "{error}");
    let error = store.create(&commit(), vec![1], PUT).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
    assert_eq!(faulty.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_request_gives_its_place_back_and_counts_as_cancelled() {
    let (store, _) = Faulty::store(|n| if n < 100 { Fault::Hangs } else { Fault::None });
    for _ in 0..100 {
        let path = commit();
        let create = store.create(&path, vec![1], PUT);
        assert!(
            tokio::time::timeout(Duration::from_millis(1), create)
                .await
                .is_err()
        );
    }
    assert_eq!(store.metrics().count(PUT, Outcome::Cancelled), 100);
    assert!(matches!(
        store.create(&commit(), vec![1], PUT).await,
        Ok(Created::Created)
    ));
}

#[tokio::test(start_paused = true)]
async fn hanging_segment_reads_leave_places_for_commits() {
    let (store, _) = Faulty::store(|n| if n < 48 { Fault::Hangs } else { Fault::None });
    let path = ObjectPath::cluster();
    let reads = (0..200).map(|_| store.get(&path, RequestKind::SegmentGet).boxed_local());
    let mut reads = futures::future::join_all(reads);
    assert!(futures::poll!(&mut reads).is_pending());
    assert!(matches!(
        store.create(&commit(), vec![1], PUT).await,
        Ok(Created::Created)
    ));
}
