//! What a client asks to change: judged against a state, and committed so that it undoes nothing that is newer.
//!
//! A request is carried out while its client waits, and not later. Its future is dropped when its client is gone, and
//! its time is limited; both end it here, but a commit may have left already. So its ops go with what they were judged
//! against and until when they may take effect ([`Asked`]), and the fold refuses them when that does not hold any more.
//! Then they are judged again, by the newer state, and the request is concurrent with what overtook it; but only within
//! [`JUDGED_AGAIN`] of its arrival. Nobody tells a node that a client gave up when the network between them is broken,
//! or when its library waits no longer and keeps the connection; all of them wait for that long. Later the client is
//! told to try again, and the new request comes after what it overwrites.
//!
//! What a request was judged against is the state at its *arrival*, however long it waited for its turn or for a
//! proof from the store; a newer state counts only within [`JUDGED_AGAIN`], for the same reason.
//!
//! A process that was paused finds requests that are older than they look. What arrives right after a pause is not
//! carried out: `groups/sessions.rs` notices it. What was under way when the machine was suspended is as old as the
//! boot-time clock says: tokio's clock, by which it would time out, has stood still.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{Home, Logs, Unavailable};
use crate::manifest::Committed;
use crate::rules::{Rule, holds};
use crate::state::op::{Asked, Op, Rejected};
use crate::state::{Feature, State};
use crate::types::Seq;

/// For how long after its arrival a request may be judged by a newer state than there was then. Less than any client
/// waits for an answer; enough for several commits.
const JUDGED_AGAIN: Duration = Duration::from_secs(2);

/// By how much the clocks of two nodes may differ at most: what is in time is not refused because another's is ahead.
const CLOCKS: Duration = Duration::from_secs(10);

/// When a request reached this node, and what this node knew then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    at: Instant,
    /// By the boot-time clock.
    boot: Duration,
    seq: Seq,
}

impl Arrival {
    pub(super) fn now(logs: &Logs) -> Arrival {
        Arrival {
            at: Instant::now(),
            boot: logs.of(Home::Cluster).boot(),
            seq: logs.of(Home::Cluster).state().seq(),
        }
    }

    /// How long ago that was, with the time that the machine was suspended since.
    fn age(&self, logs: &Logs) -> Duration {
        let awake = self.at.elapsed();
        match holds(Rule::SuspensionsAgeRequests) {
            true => awake.max(logs.of(Home::Cluster).boot().saturating_sub(self.boot)),
            false => awake,
        }
    }
}

/// A change that a client asks for, until it is done or refused.
pub(super) struct Asking<'a> {
    logs: &'a Logs,
    /// Where the change will be.
    home: Home<'a>,
    arrival: Arrival,
    /// How long after its arrival the client is told that its time is over.
    limit: Duration,
    state: Arc<State>,
}

impl<'a> Asking<'a> {
    /// Of a request that may take `limit` in all, to be judged by `state`, which is of the log where the change will
    /// be.
    pub(super) fn new(
        (logs, home): (&'a Logs, Home<'a>),
        arrival: Arrival,
        limit: Duration,
        state: Arc<State>,
    ) -> Asking<'a> {
        Asking {
            logs,
            home,
            arrival,
            limit,
            state,
        }
    }

    /// The state to judge by.
    pub(super) fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// Commits the ops to which [`state`](Self::state) leads. `None` if that is not so any more: then there is a newer
    /// one to judge by.
    pub(super) async fn commit(
        &mut self,
        mut ops: Vec<Op>,
    ) -> Result<Option<Committed>, Unavailable> {
        let left = self.limit.saturating_sub(self.age());
        if left.is_zero() {
            return Err(Unavailable::TimedOut);
        }
        let guarded = self.state.has(Feature::AskedOps);
        if guarded {
            let asked = self.asked(ops.len(), left);
            ops.insert(0, Op::Asked(asked));
        }
        let commit = self.logs.of(self.home).commit(ops);
        let committed = timeout(left, commit).await;
        let mut committed = committed.map_err(|_| Unavailable::TimedOut)??;
        if !guarded || committed.outcomes.is_empty() {
            return Ok(Some(committed));
        }
        match committed.outcomes.remove(0) {
            Err(refused @ (Rejected::Overtaken { .. } | Rejected::Late { .. })) => {
                if !self.surely_waits() {
                    tracing::debug!(%refused, "another request overtook this one; its client has to retry");
                    return Err(Unavailable::Overtaken);
                }
                self.state = committed.state;
                Ok(None)
            }
            _ => Ok(Some(committed)),
        }
    }

    fn asked(&self, ops: usize, left: Duration) -> Asked {
        let as_of = match self.surely_waits() {
            true => self.state.seq(),
            false => self.arrival.seq,
        };
        Asked {
            ops: u32::try_from(ops).unwrap_or(u32::MAX),
            as_of,
            until: self.logs.of(self.home).time().after(left + CLOCKS),
        }
    }

    /// Whether so little time has passed that the client waits, whoever it is.
    pub(super) fn surely_waits(&self) -> bool {
        self.age() < JUDGED_AGAIN
    }

    fn age(&self) -> Duration {
        self.arrival.age(self.logs)
    }
}
