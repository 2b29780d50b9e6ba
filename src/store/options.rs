//! What can be set about a store: timeouts, retries, bounds.

use std::time::Duration;

use super::upload::PART_LEN;
use crate::env::Env;
use crate::types::ByteCount;

/// The settings of a store. The defaults suit a bucket of a cloud and cost nothing on a local disk.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Clocks and randomness: jitter is drawn from it and the store's clock is compared with it.
    pub env: Env,
    /// How long a TCP and TLS handshake may take. Default 5 s.
    pub connect_timeout: Duration,
    /// How long one attempt of a request may take, from sending it to the last byte of the answer.
    /// Default 30 s.
    pub request_timeout: Duration,
    /// How long one attempt of a request about the manifest may take, with two seconds more for each MiB. If
    /// one takes longer, the next has twice the time. Never longer than `request_timeout`. Default 5 s.
    pub log_timeout: Duration,
    /// How the requests that may be repeated are repeated.
    pub retry: RetryPolicy,
    /// How many requests may be under way at once, which also bounds the sockets. A quarter of them,
    /// at least one, is kept for the manifest, so that segment traffic never holds up a commit.
    /// Default 64, at least 2.
    pub max_requests: usize,
    /// The largest object that is read as a whole; a larger one is an error and is not read. It keeps a
    /// foreign or corrupted object from taking all memory. Default 1 GiB.
    pub max_object: ByteCount,
    /// The length of every part of an upload but the last. [`PART_LEN`] for all real stores, and the file store knows
    /// no other; a simulation has small objects, and wants them in parts all the same.
    pub(crate) part_len: usize,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions::new(Env::system())
    }
}

impl StoreOptions {
    /// The defaults, with these clocks and this randomness.
    pub fn new(env: Env) -> StoreOptions {
        StoreOptions {
            env,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            log_timeout: Duration::from_secs(5),
            retry: RetryPolicy::default(),
            max_requests: 64,
            max_object: ByteCount::mib(1024),
            part_len: PART_LEN,
        }
    }
}

/// Jittered exponential backoff with a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The pause after the first failure, before jitter; it doubles with each failure. Default 100 ms.
    pub base: Duration,
    /// The longest pause before jitter: clients wait for a store that has come back no longer than this. Default 3 s.
    pub cap: Duration,
    /// After this long no attempt is begun, and one under way is abandoned. Default 3 min.
    pub deadline: Duration,
}

impl Default for RetryPolicy {
    fn default() -> RetryPolicy {
        RetryPolicy {
            base: Duration::from_millis(100),
            cap: Duration::from_secs(3),
            deadline: Duration::from_secs(180),
        }
    }
}

impl RetryPolicy {
    /// The pause after the `failures`-th failure in a row (1 for the first): half to one and a half
    /// times the doubled base, so that nodes which failed together do not return together.
    pub fn pause(&self, failures: u32, env: &Env) -> Duration {
        let doubled = 2u32.saturating_pow(failures.saturating_sub(1));
        env.jittered(self.base.saturating_mul(doubled).min(self.cap))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Timestamp;

    #[tokio::test]
    async fn pauses_double_up_to_the_cap_and_differ_by_jitter_that_a_seed_repeats() {
        let policy = RetryPolicy::default();
        let pauses = |seed| {
            let env = Env::simulated(seed, Timestamp(0));
            (1..40).map(|n| policy.pause(n, &env)).collect::<Vec<_>>()
        };
        let first = pauses(1);
        for (n, pause) in (0u32..).zip(&first) {
            let plain = Duration::from_millis(100 << n.min(20)).min(policy.cap);
            assert!(
                *pause >= plain / 2 && *pause <= plain * 3 / 2,
                "{n}: {pause:?}"
            );
        }
        assert_eq!(first, pauses(1));
        assert_ne!(first, pauses(2));
    }
}
