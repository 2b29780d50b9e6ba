//! A bound on memory that many connections share.
//!
//! Most of it is for whoever comes, in the order in which they come. A part is kept for what is small and finds no
//! space there ([`MemoryBudget::acquire_small`]), so that a few who hold or await much do not keep everybody waiting;
//! and a part for what is held only as long as this node works on it ([`MemoryBudget::acquire_brief`]), for which no
//! client can keep anybody waiting. Those who hold some can see that others wait ([`BytePermit::is_wanted`]), and
//! shorten the timeouts of the clients they wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::types::ByteCount;

/// The grain in which memory is counted. Small enough not to matter, large enough that a budget fits
/// a semaphore.
const GRAIN: usize = 1024;

/// The part for what is small: an eighth.
const SMALL_SHARE: u32 = 8;

/// The part for what is brief: a sixteenth.
const BRIEF_SHARE: u32 = 16;

/// A number of bytes that may be held at one time. Cheap to clone; clones share it. Waiters are served
/// in the order in which they came, so a large one is not starved by small ones.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    whole: Part,
    small: Part,
    brief: Part,
    waiting: Arc<AtomicUsize>,
}

#[derive(Clone, Debug)]
struct Part {
    grains: Arc<Semaphore>,
    capacity: u32,
}

impl Part {
    fn new(capacity: u32) -> Part {
        let capacity = capacity.max(1);
        let permits = usize::try_from(capacity).unwrap_or(usize::MAX);
        Part {
            grains: Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS))),
            capacity,
        }
    }

    /// Waits for `bytes` of it, or for all of it if that is less.
    async fn acquire(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let grains = grains(bytes).min(self.capacity);
        // The semaphores are never closed.
        Arc::clone(&self.grains)
            .acquire_many_owned(grains)
            .await
            .ok()
    }
}

/// A part of a [`MemoryBudget`]; given back when dropped.
#[derive(Debug)]
pub struct BytePermit {
    held: Option<OwnedSemaphorePermit>,
    waiting: Arc<AtomicUsize>,
}

/// Somebody who waits, for as long as they do.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Waiting<'a> {
        count.fetch_add(1, Ordering::Relaxed);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl MemoryBudget {
    /// A budget of `bytes` in all, with at least one grain of 1 KiB in each part.
    pub fn new(bytes: ByteCount) -> MemoryBudget {
        let capacity = u32::try_from(bytes.as_usize() / GRAIN).unwrap_or(u32::MAX);
        let (small, brief) = (capacity / SMALL_SHARE, capacity / BRIEF_SHARE);
        MemoryBudget {
            whole: Part::new(capacity - small - brief),
            small: Part::new(small),
            brief: Part::new(brief),
            waiting: Arc::default(),
        }
    }

    /// Waits until `bytes` may be held. More than there is counts as all there is: such a one goes alone, but it
    /// goes.
    pub async fn acquire(&self, bytes: usize) -> BytePermit {
        let _waiting = Waiting::new(&self.waiting);
        self.permit(self.whole.acquire(bytes).await)
    }

    /// The same for what is small: of the whole, or of the part that is kept for such, where there is space first.
    pub async fn acquire_small(&self, bytes: usize) -> BytePermit {
        let _waiting = Waiting::new(&self.waiting);
        self.permit(tokio::select! {
            biased;
            held = self.whole.acquire(bytes) => held,
            held = self.small.acquire(bytes) => held,
        })
    }

    /// The same of the part that is kept for what no client can prolong.
    pub async fn acquire_brief(&self, bytes: usize) -> BytePermit {
        let _waiting = Waiting::new(&self.waiting);
        self.permit(self.brief.acquire(bytes).await)
    }

    /// As many of `bytes` as are free at this moment, but not fewer than `least`: those, if need be, of the part that
    /// is kept for what is small. For whoever can make do with less; holds up nobody who waits for more.
    pub async fn acquire_some(&self, bytes: usize, least: usize) -> BytePermit {
        let mut wanted = bytes;
        while wanted >= least.max(1) {
            let grains = grains(wanted).min(self.whole.capacity);
            if let Ok(held) = Arc::clone(&self.whole.grains).try_acquire_many_owned(grains) {
                return self.permit(Some(held));
            }
            wanted /= 2;
        }
        self.acquire_small(bytes.min(least)).await
    }

    /// Says that only `bytes` are held, now that this is known, and maybe for long: what was taken of the brief part
    /// goes over to the whole, if there is space.
    pub fn resize(&self, permit: &mut BytePermit, bytes: usize) {
        permit.shrink_to(bytes);
        let Some(held) = &mut permit.held else {
            return;
        };
        if Arc::ptr_eq(held.semaphore(), &self.brief.grains) {
            let grains = u32::try_from(held.num_permits()).unwrap_or(u32::MAX);
            let whole = Arc::clone(&self.whole.grains);
            if let Ok(instead) = whole.try_acquire_many_owned(grains) {
                *held = instead;
            }
        }
    }

    fn permit(&self, held: Option<OwnedSemaphorePermit>) -> BytePermit {
        BytePermit {
            held,
            waiting: Arc::clone(&self.waiting),
        }
    }

    /// Whether somebody waits for a part of it.
    pub fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// How much is free at this moment.
    pub fn available(&self) -> ByteCount {
        ByteCount((self.whole.grains.available_permits() as u64).saturating_mul(GRAIN as u64))
    }

    /// How much there is, beside the parts for what is small and brief.
    pub fn capacity(&self) -> ByteCount {
        ByteCount(u64::from(self.whole.capacity) * GRAIN as u64)
    }
}

impl BytePermit {
    /// A permit for nothing.
    pub fn none() -> BytePermit {
        BytePermit {
            held: None,
            waiting: Arc::default(),
        }
    }

    /// Whether somebody waits for a part of the budget that this is of, and this holds some.
    pub fn is_wanted(&self) -> bool {
        self.held.is_some() && self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Gives back all but `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        if let Some(held) = &mut self.held {
            let keep = usize::try_from(grains(bytes)).unwrap_or(usize::MAX);
            let surplus = held.num_permits().saturating_sub(keep);
            drop(held.split(surplus));
        }
    }

    /// How many bytes are held.
    pub fn bytes(&self) -> usize {
        self.held
            .as_ref()
            .map_or(0, |held| held.num_permits() * GRAIN)
    }
}

fn grains(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(GRAIN)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MOMENT: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_full_budget_makes_the_next_one_wait() {
        let budget = MemoryBudget::new(ByteCount::kib(4));
        let first = budget.acquire(3 * 1024).await;
        let mut second = Box::pin(budget.acquire(2 * 1024));
        assert!(futures::poll!(second.as_mut()).is_pending());
        drop(first);
        assert_eq!(second.await.bytes(), 2 * 1024);
    }

    #[tokio::test]
    async fn what_is_small_does_not_wait_for_what_is_large() {
        let budget = MemoryBudget::new(ByteCount::kib(128));
        let all = budget.acquire(104 * 1024).await;
        assert!(!all.is_wanted());
        let mut next = Box::pin(budget.acquire(32 * 1024));
        assert!(futures::poll!(next.as_mut()).is_pending());
        assert!(all.is_wanted() && budget.is_wanted());
        let small = budget.acquire_small(1024).await;
        assert_eq!(small.bytes(), 1024);
        // Who takes what there is gets of the small part too, when the large one is gone.
        let some = budget.acquire_some(104 * 1024, 4096).await;
        assert_eq!(some.bytes(), 4096);
        drop(next);
        assert!(!budget.is_wanted());
        drop(all);
        assert_eq!(
            budget.acquire_some(104 * 1024, 4096).await.bytes(),
            104 * 1024
        );
    }

    #[tokio::test]
    async fn what_is_small_has_all_the_room_there_is_and_takes_what_is_free_first() {
        let budget = MemoryBudget::new(ByteCount::kib(128));
        let mut held = Vec::new();
        for _ in 0..15 {
            held.push(
                tokio::time::timeout(MOMENT, budget.acquire_small(8 * 1024))
                    .await
                    .unwrap(),
            );
        }
        assert!(
            budget.available() < ByteCount::kib(8),
            "the whole is used, and the small part"
        );
        for freed in [0, 13] {
            let mut next = Box::pin(budget.acquire_small(8 * 1024));
            assert!(futures::poll!(next.as_mut()).is_pending());
            drop(held.remove(freed));
            held.push(tokio::time::timeout(MOMENT, next).await.unwrap());
        }
    }

    #[tokio::test]
    async fn what_is_large_has_its_turn_whatever_small_ones_come() {
        let budget = MemoryBudget::new(ByteCount::kib(128));
        let small = budget.acquire_small(64 * 1024).await;
        let mut large = Box::pin(budget.acquire(104 * 1024));
        assert!(futures::poll!(large.as_mut()).is_pending());
        let mut later: Vec<_> = (0..3)
            .map(|_| Box::pin(budget.acquire_small(16 * 1024)))
            .collect();
        for later in &mut later {
            let _ = futures::poll!(later.as_mut());
        }
        drop(small);
        assert_eq!(large.await.bytes(), 104 * 1024);
    }

    #[tokio::test]
    async fn what_is_brief_and_becomes_long_goes_over_to_the_whole() {
        let budget = MemoryBudget::new(ByteCount::kib(128));
        let mut brief = budget.acquire_brief(8 * 1024).await;
        assert_eq!(budget.available(), ByteCount::kib(104));
        budget.resize(&mut brief, 2 * 1024);
        assert_eq!(budget.available(), ByteCount::kib(102));
        let mut other = budget.acquire_brief(8 * 1024).await;
        let rest = budget.acquire(102 * 1024).await;
        budget.resize(&mut other, 1024);
        assert_eq!(other.bytes(), 1024);
        let third = budget.acquire_brief(7 * 1024).await;
        assert_eq!(third.bytes(), 7 * 1024);
        drop((rest, brief));
        assert_eq!(budget.available(), budget.capacity());
    }

    #[tokio::test]
    async fn who_makes_do_with_less_takes_what_is_free() {
        let budget = MemoryBudget::new(ByteCount::kib(128));
        let _most = budget.acquire(64 * 1024).await;
        assert_eq!(
            budget.acquire_some(104 * 1024, 4096).await.bytes(),
            26 * 1024
        );
    }

    #[tokio::test]
    async fn one_larger_than_the_budget_goes_alone() {
        let budget = MemoryBudget::new(ByteCount::kib(4));
        let mut whole = budget.acquire(1 << 40).await;
        assert_eq!(budget.available(), ByteCount::ZERO);
        whole.shrink_to(1);
        assert_eq!(budget.available(), ByteCount::kib(3));
        drop(whole);
        assert_eq!(budget.available(), budget.capacity());
    }
}
