//! What is loaded ahead of its reader, and how much of it there may be.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::future::{BoxFuture, Shared, WeakShared};

use super::error::LoadError;
use super::places::{BLOCK, Key, Place};

/// The places that were loaded ahead of their reader and not read yet. Bounded to half of the cache, for all
/// readers together: more would push each other out before anybody reads them.
#[derive(Clone)]
pub(super) struct Ahead {
    unread: Arc<Mutex<Unread>>,
    most: u64,
}

#[derive(Default)]
struct Unread {
    places: HashMap<Key, Noted>,
    bytes: u64,
}

/// A place that is to be read.
struct Noted {
    len: u64,
    /// The load that brings it, and its number there, as long as that is under way.
    load: Option<(WeakShared<RunLoading>, usize)>,
}

/// How soon what is loaded ahead will be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Soon {
    /// By this fetch or the next.
    Next,
    /// By the fetches after that. It takes only half of the room, so that no reader's future is in the way of what
    /// another wants next.
    Later,
}

impl Ahead {
    /// Nothing is ahead yet; bounded for a cache of that many bytes.
    pub(super) fn new(cache: u64) -> Ahead {
        Ahead {
            unread: Arc::default(),
            most: (cache / 2).max(LEAST_AHEAD),
        }
    }

    fn unread(&self) -> MutexGuard<'_, Unread> {
        // Nothing in a critical section panics half-way through a change.
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the place may be loaded ahead; if so it counts until it is read or evicted.
    pub(super) fn begin(&self, place: &Place, soon: Soon) -> bool {
        let room = match soon {
            Soon::Next => self.most,
            Soon::Later => self.most / 2,
        };
        let mut unread = self.unread();
        if unread.bytes + place.len > room || unread.places.contains_key(&place.key()) {
            return false;
        }
        unread.add(place);
        true
    }

    /// Counts a place that somebody reads, or is about to, whatever the bound. Whether it was not counted before.
    pub(super) fn note(&self, place: &Place) -> bool {
        let mut unread = self.unread();
        let new = !unread.places.contains_key(&place.key());
        if new {
            unread.add(place);
        }
        new
    }

    /// Says which load brings the places of a run.
    pub(super) fn is_coming(&self, run: &[Place], load: &RunLoad) {
        let mut unread = self.unread();
        for (number, place) in run.iter().enumerate() {
            if let Some(noted) = unread.places.get_mut(&place.key()) {
                noted.load = load.downgrade().map(|load| (load, number));
            }
        }
    }

    /// The load that brings the place, and its number there, if one is under way.
    pub(super) fn load_of(&self, key: &Key) -> Option<(RunLoad, usize)> {
        let unread = self.unread();
        let (load, number) = unread.places.get(key)?.load.as_ref()?;
        Some((load.upgrade()?, *number))
    }

    pub(super) fn end(&self, key: &Key) {
        let mut unread = self.unread();
        let len = unread.places.remove(key).map_or(0, |noted| noted.len);
        unread.bytes -= len;
    }
}

impl Unread {
    fn add(&mut self, place: &Place) {
        let len = place.len;
        self.places.insert(place.key(), Noted { len, load: None });
        self.bytes += len;
    }
}

/// A place that is being read. It is unread no more when this is dropped, also if its reader gave up.
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
const LEAST_AHEAD: u64 = 8 * BLOCK;

/// A load of several places, which all who want one of them wait for.
pub(super) type RunLoad = Shared<RunLoading>;
pub(super) type RunLoading = BoxFuture<'static, Result<Arc<[Bytes]>, LoadError>>;
