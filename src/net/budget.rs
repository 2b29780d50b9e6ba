//! A bound on memory that many connections share.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::types::ByteCount;

/// The grain in which memory is counted. Small enough not to matter, large enough that a budget fits
/// a semaphore.
const GRAIN: usize = 1024;

/// A number of bytes that may be held at one time. Cheap to clone; clones share it. Waiters are served
/// in the order in which they came, so a large one is not starved by small ones.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    grains: Arc<Semaphore>,
    capacity: u32,
}

/// A part of a [`MemoryBudget`]; given back when dropped.
#[derive(Debug)]
pub struct BytePermit {
    held: Option<OwnedSemaphorePermit>,
}

impl MemoryBudget {
    /// A budget of `bytes`, at least one grain of 1 KiB.
    pub fn new(bytes: ByteCount) -> MemoryBudget {
        let capacity = u32::try_from(bytes.as_usize() / GRAIN)
            .unwrap_or(u32::MAX)
            .max(1);
        let permits = usize::try_from(capacity)
            .unwrap_or(usize::MAX)
            .min(Semaphore::MAX_PERMITS);
        MemoryBudget {
            grains: Arc::new(Semaphore::new(permits)),
            capacity,
        }
    }

    /// Waits until `bytes` may be held. More than the whole budget counts as the whole budget: such a
    /// one goes alone, but it goes.
    pub async fn acquire(&self, bytes: usize) -> BytePermit {
        let grains = grains(bytes).min(self.capacity);
        let held = Arc::clone(&self.grains).acquire_many_owned(grains).await;
        // The semaphore is never closed.
        BytePermit { held: held.ok() }
    }

    /// How much is free at this moment.
    pub fn available(&self) -> ByteCount {
        ByteCount((self.grains.available_permits() as u64).saturating_mul(GRAIN as u64))
    }

    /// How much there is in all.
    pub fn capacity(&self) -> ByteCount {
        ByteCount(u64::from(self.capacity) * GRAIN as u64)
    }
}

impl BytePermit {
    /// A permit for nothing.
    pub fn none() -> BytePermit {
        BytePermit { held: None }
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
    use super::*;

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
