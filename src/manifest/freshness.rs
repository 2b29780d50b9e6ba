//! How fresh a node's state is: what has shown that it is the newest, and when.

use tokio::time::{Duration, Instant};

use crate::env::Env;
use crate::state::TAIL_PROOF_LIFE;

/// The moment at which a request was sent, by the clock for waiting and by the one that counts suspension.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) at: Instant,
    pub(super) boot: Duration,
}

impl Moment {
    /// Whether it is not later than another, by either clock.
    pub(super) fn is_before(self, other: Moment) -> bool {
        self.at <= other.at && self.boot <= other.boot
    }
}

/// When it was last shown, by the boot-time clock, that a state is the newest. See [`Manifest::proof`](super::Manifest::proof).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Proof(pub(super) Duration);

impl Proof {
    /// The proof of a state that was asked for at this moment ([`Manifest::fresh`](super::Manifest::fresh)).
    pub fn begun_now(env: &Env) -> Proof {
        Proof(env.boot())
    }

    /// Whether what was read by a state of this proof is what the state meant, so that it may be handed out now.
    pub fn holds(self, env: &Env) -> bool {
        self.is_within(TAIL_PROOF_LIFE, env)
    }

    /// Whether the state was shown to be the newest not longer ago than `age`.
    pub fn is_within(self, age: Duration, env: &Env) -> bool {
        env.boot().saturating_sub(self.0) <= age
    }
}
