//! Another node that this one speaks to, and how long it is left alone when it fails.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::{Duration, Instant};

use crate::manifest::peers::{Peer, PeerError, Peers};
use crate::types::{LogId, Seq};

/// The first and the longest time for which a peer that failed is left alone.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// A peer, and the way to it.
#[derive(Clone, Debug)]
pub(in crate::manifest) struct Contact {
    pub(super) peer: Peer,
    pub(super) peers: Arc<dyn Peers>,
}

impl Contact {
    /// As [`Peers::forward`].
    pub(super) async fn forward(&self, object: Bytes) -> Result<Seq, PeerError> {
        self.peers.forward(&self.peer, object).await
    }

    /// As [`Peers::log_after`].
    pub(super) async fn log_after(
        &self,
        log: LogId,
        after: Seq,
    ) -> Result<Vec<(Seq, Bytes)>, PeerError> {
        self.peers.log_after(&self.peer, log, after).await
    }
}

/// For how long a peer that failed is left alone: longer each time.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    until: Option<Instant>,
    failures: u32,
}

impl Backoff {
    /// Whether it is to be left alone now.
    pub(super) fn is_active(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// It failed.
    pub(super) fn fail(&mut self, now: Instant) {
        let (first, longest) = PAUSES;
        let pause = first
            .saturating_mul(1 << self.failures.min(16))
            .min(longest);
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + pause);
    }

    /// It did what it was asked for, or it is another peer now.
    pub(super) fn forgive(&mut self) {
        *self = Backoff::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_fails_is_left_alone_for_longer_each_time_up_to_ten_seconds() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        assert!(!backoff.is_active(now));
        for millis in [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000] {
            backoff.fail(now);
            let end = now + Duration::from_millis(millis);
            assert!(
                backoff.is_active(end - Duration::from_millis(1)),
                "{millis}"
            );
            assert!(!backoff.is_active(end), "{millis}");
        }
        backoff.forgive();
        assert!(!backoff.is_active(now));
        backoff.fail(now);
        assert!(!backoff.is_active(now + Duration::from_millis(100)));
    }
}
