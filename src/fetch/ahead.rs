//! What is loaded ahead of its reader, and how much of it there may be.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::sync::Notify;

use super::error::LoadError;
use super::extents::{BLOCK, Extent, Key};

/// The extents that were loaded ahead of their reader and not read yet. Bounded to three quarters of the cache, for all
/// readers together: more would push each other out before anybody reads them.
#[derive(Clone)]
pub(super) struct Ahead {
    extents: Arc<Mutex<Extents>>,
    most: u64,
}

#[derive(Default)]
struct Extents {
    unread: HashMap<Key, Noted>,
    unread_bytes: u64,
}

/// An extent that is to be read.
struct Noted {
    len: u64,
    /// The load that brings it, and its number there, as long as that is under way.
    load: Option<(Weak<RunLoad>, usize)>,
}

/// How soon what is loaded ahead will be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Soon {
    /// By this fetch or the next.
    Next,
    /// By the fetches after that. It takes only half of the capacity, so that no reader's future is in the way of what
    /// another wants next.
    Later,
}

impl Ahead {
    /// Nothing is ahead yet; bounded for a cache of that many bytes.
    pub(super) fn new(cache: u64) -> Ahead {
        Ahead {
            extents: Arc::default(),
            most: (cache / 4 * 3).max(MIN_AHEAD),
        }
    }

    /// How many bytes may be ahead.
    pub(super) fn capacity(&self) -> u64 {
        self.most
    }

    fn extents(&self) -> MutexGuard<'_, Extents> {
        // Nothing in a critical section panics half-way through a change.
        self.extents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the extent is to be read, so that it is there or on its way.
    pub(super) fn is_noted(&self, extent: &Extent) -> bool {
        self.extents().unread.contains_key(&extent.key())
    }

    /// How many of these extents, which come with one request, may be loaded ahead; they count until they are read or
    /// evicted. Of what is wanted later all or nothing: there will be space for one request when more was read.
    pub(super) fn begin(&self, run: &[Extent], soon: Soon) -> usize {
        let mut extents = self.extents();
        let mut free = match soon {
            Soon::Next => self.most,
            Soon::Later => self.most / 2,
        };
        free = free.saturating_sub(extents.unread_bytes);
        let fits = |extent: &&Extent| {
            let fits = extent.len <= free && !extents.unread.contains_key(&extent.key());
            free = free.saturating_sub(extent.len);
            fits
        };
        let count = run.iter().take_while(fits).count();
        if soon == Soon::Later && count < run.len() {
            return 0;
        }
        for extent in run.iter().take(count) {
            extents.add(extent);
        }
        count
    }

    /// Counts an extent that somebody reads, or is about to, whatever the bound. Whether it was not counted before.
    pub(super) fn note(&self, extent: &Extent) -> bool {
        let mut extents = self.extents();
        let new = !extents.unread.contains_key(&extent.key());
        if new {
            extents.add(extent);
        }
        new
    }

    /// Says which load brings the extents of a run.
    pub(super) fn is_coming(&self, run: &[Extent], load: &Arc<RunLoad>) {
        let mut extents = self.extents();
        for (number, extent) in run.iter().enumerate() {
            if let Some(noted) = extents.unread.get_mut(&extent.key()) {
                noted.load = Some((Arc::downgrade(load), number));
            }
        }
    }

    /// The load that brings the extent, and its number there, if one is under way.
    pub(super) fn load_of(&self, key: &Key) -> Option<(Arc<RunLoad>, usize)> {
        let extents = self.extents();
        let (load, number) = extents.unread.get(key)?.load.as_ref()?;
        Some((load.upgrade()?, *number))
    }

    pub(super) fn end(&self, key: &Key) {
        let mut extents = self.extents();
        let len = extents.unread.remove(key).map_or(0, |noted| noted.len);
        extents.unread_bytes -= len;
    }
}

impl Extents {
    fn add(&mut self, extent: &Extent) {
        let len = extent.len;
        self.unread.insert(extent.key(), Noted { len, load: None });
        self.unread_bytes += len;
    }
}

/// An extent that is being read. It is unread no more when this is dropped, also if its reader gave up.
pub(super) struct Reading<'a> {
    ahead: &'a Ahead,
    key: Key,
}

impl<'a> Reading<'a> {
    pub(super) fn new(ahead: &'a Ahead, key: Key) -> Reading<'a> {
        Reading { ahead, key }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.ahead.end(&self.key);
    }
}

/// The least that may be loaded ahead.
const MIN_AHEAD: u64 = 8 * BLOCK;

/// A load of several extents that follow one another by one request, which all who want one of them wait for. Each
/// extent is there as soon as its own bytes are.
pub(super) struct RunLoad {
    come: Arc<Come>,
    /// The request. It goes on as long as anybody waits.
    ended: Shared<BoxFuture<'static, Result<(), LoadError>>>,
}

impl RunLoad {
    /// A load by `request`, which says of each extent what has come for it. Who makes the request again may say
    /// so again. Whichever of those who wait happens to drive it when it panics, all are told: nobody else would wake
    /// them.
    pub(super) fn new<R>(request: impl FnOnce(Arc<Come>) -> R) -> RunLoad
    where
        R: Future<Output = Result<(), LoadError>> + Send + 'static,
    {
        let come = Arc::new(Come::default());
        // What it has said before it panicked is whole.
        let request = AssertUnwindSafe(request(come.clone())).catch_unwind();
        let ended = request.map(|ended| ended.unwrap_or(Err(LoadError::Panicked)));
        RunLoad {
            ended: ended.boxed().shared(),
            come,
        }
    }

    /// The bytes of the extent with this number, as soon as they have come. Empty if the object ends before it.
    pub(super) async fn extent(&self, number: usize) -> Result<Bytes, LoadError> {
        loop {
            let mut more = pin!(self.come.more.notified());
            // What comes from here on is not missed.
            more.as_mut().enable();
            if let Some(bytes) = self.come.extents().get(number) {
                return Ok(bytes.clone());
            }
            tokio::select! {
                biased;
                ended = self.ended.clone() => {
                    ended?;
                    return Ok(self.come.extents().get(number).cloned().unwrap_or_default());
                }
                () = more => {}
            }
        }
    }
}

/// What has come of a load.
#[derive(Default)]
pub(super) struct Come {
    /// In order.
    extents: Mutex<Vec<Bytes>>,
    more: Notify,
}

impl Come {
    fn extents(&self) -> MutexGuard<'_, Vec<Bytes>> {
        // Nothing in a critical section panics half-way through a change.
        self.extents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that the extent with this number is there.
    pub(super) fn note(&self, number: usize, bytes: &Bytes) {
        {
            let mut extents = self.extents();
            if extents.len() != number {
                return;
            }
            extents.push(bytes.clone());
        }
        self.more.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{ObjectPath, StoreError};
    use crate::types::Seq;

    fn gone() -> LoadError {
        let path = ObjectPath::commit(Seq(0));
        LoadError::from(StoreError::NotFound { path })
    }

    #[tokio::test]
    async fn a_place_is_there_before_the_rest_of_its_request() {
        let load = RunLoad::new(|come| async move {
            come.note(0, &Bytes::from_static(b"first"));
            std::future::pending().await
        });
        assert_eq!(load.extent(0).await.unwrap(), "first");
        assert!(futures::poll!(Box::pin(load.extent(1))).is_pending());
    }

    #[tokio::test]
    async fn a_request_that_is_made_again_doubles_nothing() {
        let load = RunLoad::new(|come| async move {
            for number in [0, 0, 1, 2] {
                come.note(number, &Bytes::from(vec![number as u8]));
            }
            Ok(())
        });
        for number in 0..3 {
            assert_eq!(load.extent(number).await.unwrap(), [number as u8][..]);
        }
        assert!(load.extent(3).await.unwrap().is_empty(), "the object ends");
    }

    #[tokio::test]
    async fn what_had_not_come_when_a_request_failed_is_an_error_for_all_who_wait() {
        let (fail, failed) = tokio::sync::oneshot::channel::<()>();
        let load = RunLoad::new(|come| async move {
            come.note(0, &Bytes::from_static(b"first"));
            failed.await.ok();
            Err(gone())
        });
        assert_eq!(load.extent(0).await.unwrap(), "first");
        fail.send(()).unwrap();
        let (one, other) = tokio::join!(load.extent(1), load.extent(1));
        assert!(matches!((one, other), (Err(LoadError::Store(_)), Err(_))));
    }
    #[tokio::test(start_paused = true)]
    async fn a_request_that_panics_is_an_error_for_all_who_wait() {
        let load = Arc::new(RunLoad::new(|_| async {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            panic!("a panic on purpose")
        }));
        let waiting = [0, 1, 2].map(|number| {
            let load = load.clone();
            tokio::spawn(async move { load.extent(number).await })
        });
        for one in waiting {
            let told = tokio::time::timeout(std::time::Duration::from_secs(5), one).await;
            assert!(matches!(told, Ok(Ok(Err(LoadError::Panicked)))), "{told:?}");
        }
    }
}
