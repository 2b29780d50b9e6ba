//! What a fetch hands out is still there: the records were not deleted, and the name is not another topic's by now.
//!
//! Any node answers any fetch, by the state that it has, which says nothing of what was deleted through another node
//! since. So no record is handed out by a state that was last shown to be the newest more than [`MAX_STALENESS`] ago:
//! it was there a second before the answer was ready, or later. This costs nothing while the node commits, follows the
//! log for whoever waits at its end, or is asked for a fresh state by anybody, for each of these is such a proof. Only
//! a node that does none of it, and whose consumers read what is old, asks for one: once a second, for all of them.
//!
//! A name can be given to a new topic. Who fetches by name and begins to read, on a connection or at another place than
//! where its last answer ended, may have been told of the new topic by somebody: it is answered by a state that was
//! shown to be the newest after it asked, never by one in which the name is the former topic's. Who reads on is
//! answered as everybody. A fetch by id needs no such thing, for an id is never given again.
//!
//! # A store that does not answer
//!
//! What cannot be confirmed by the end of the fetch's own wait, or within a second if that is longer, is not handed
//! out: the client is told that the store cannot be reached, and asks again. Dropped while it waits, the fetch leaves
//! nothing behind; a probe that it asked for goes on and serves others. A node that was suspended finds its proof too
//! old by the boot-time clock, which counts that.
//!
//! Records are read first and confirmed afterwards, so a read that takes long is confirmed for the moment at which it
//! ends. The state that confirms may be newer than the one by which they were read: the partition is the same if its
//! topic has the same id, and its log begins no later than what was asked for. What lies between is never changed.

use std::time::Duration;

use tokio::time::Instant;

use super::fetch::{FetchError, FetchPartition, FetchedPartition};
use super::{Broker, Home, Session, TopicRef, Unavailable};
use crate::manifest::Proof;
use crate::rules::{Rule, holds};
use crate::state::State;

/// How old the last proof may be that records which are handed out are still there.
pub const MAX_STALENESS: Duration = Duration::from_secs(1);

/// What must be shown before anything is handed out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needed {
    /// The moment at which the fetch began, if a name in it must be shown to be what it is then.
    since: Option<(Proof, Instant)>,
}

/// What was read, and the proof of the state by which it was.
type Read<'a> = (
    &'a [FetchPartition],
    &'a [Result<FetchedPartition, FetchError>],
    Proof,
);

impl Broker {
    /// What must be shown for a fetch that begins now.
    pub(super) fn needed_for(&self, session: &Session, partitions: &[FetchPartition]) -> Needed {
        let mut named = partitions
            .iter()
            .filter(|wanted| matches!(wanted.topic, TopicRef::Name(_)));
        let begins = named.any(|wanted| !session.readings.goes_on(wanted));
        let now = || (Proof::begun_now(&self.inner.env), Instant::now());
        Needed {
            since: begins.then(now),
        }
    }

    /// Whether what was read may be handed out; false if it is to be read again by the newest state.
    ///
    /// # Errors
    ///
    /// Nobody can tell, though this waited for it until `deadline` and for [`MAX_STALENESS`].
    pub(super) async fn confirm(
        &self,
        (wanted, answer, read_by): Read<'_>,
        needed: Needed,
        deadline: Instant,
    ) -> Result<bool, Unavailable> {
        if !holds(Rule::FetchesConfirmTheirState) || self.suffices(read_by, needed) {
            return Ok(true);
        }
        // The proof first: the state is not older than it.
        let proof = self.inner.logs.of(Home::Partitions).proof();
        let mut state = self.inner.logs.of(Home::Partitions).state();
        if !self.suffices(proof, needed) {
            let since_begun = needed.since.map(|(_, begun)| begun.elapsed());
            let age = since_begun.map_or(MAX_STALENESS, |age| age.min(MAX_STALENESS));
            let proven = self
                .inner
                .logs
                .of(Home::Partitions)
                .fresh_within(age, &self.inner.env);
            let until = deadline.max(Instant::now() + MAX_STALENESS);
            state = match tokio::time::timeout_at(until, proven).await {
                Ok(proven) => proven?,
                Err(_) => return Err(Unavailable::TimedOut),
            };
        }
        Ok(is_there(&state, wanted, answer))
    }

    pub(super) fn suffices(&self, proof: Proof, needed: Needed) -> bool {
        proof.is_within(MAX_STALENESS, &self.inner.env)
            && needed.since.is_none_or(|(begun, _)| begun < proof)
    }
}

/// Whether the records that were read are in `state`.
fn is_there(
    state: &State,
    wanted: &[FetchPartition],
    answer: &[Result<FetchedPartition, FetchError>],
) -> bool {
    wanted.iter().zip(answer).all(|(wanted, read)| match read {
        Ok(read) if !read.is_empty() => wanted
            .find(state)
            .is_some_and(|now| now.topic == read.topic && now.log_start <= wanted.offset),
        _ => true,
    })
}
