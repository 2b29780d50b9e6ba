//! Idempotent producers: ids (KIP-98).

use tokio::sync::Mutex;

use super::access::{Action, Denied, Permit, Resource};
use super::{Broker, Home, Session, Unavailable};
use crate::state::op::{Applied, Op};
use crate::types::{ProducerEpoch, ProducerId};

/// How many ids are minted at once. What a node has left when it stops is never used.
const BLOCK: u32 = 1000;

/// The ids this node may hand out.
#[derive(Default)]
pub(super) struct Block(Mutex<std::ops::Range<i64>>);

/// Why no producer id was handed out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NewProducerError {
    /// The client may not do that.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Try again.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Broker {
    /// A producer id never handed out before, with its first epoch. Ids are minted in blocks, so most calls
    /// commit nothing.
    pub async fn new_producer(
        &self,
        session: &Session,
    ) -> Result<(ProducerId, ProducerEpoch), NewProducerError> {
        let on_cluster = self.authorize(session, Action::IdempotentWrite, Resource::Cluster);
        // Who may write anything may do so without repeating itself (KIP-679).
        let on_any_topic = || self.authorize_on_any_topic(session, Action::Write);
        let permit = on_cluster.or_else(|denied| on_any_topic().ok_or(denied))?;
        Ok(self.next_producer(permit).await?)
    }

    async fn next_producer(&self, _: Permit) -> Result<(ProducerId, ProducerEpoch), Unavailable> {
        let mut left = self.inner.producer_ids.0.lock().await;
        loop {
            if let Some(id) = left.next() {
                return Ok((ProducerId(id), ProducerEpoch(0)));
            }
            let committed = self
                .commit(
                    Home::Cluster,
                    vec![Op::AllocateProducerIds { count: BLOCK }],
                )
                .await?;
            match committed.outcomes.first() {
                Some(Ok(Applied::ProducerIds(first))) => {
                    *left = first.0..first.0.saturating_add(BLOCK.into());
                }
                _ => return Err(Unavailable::Internal("producer ids were not minted")),
            }
        }
    }
}
