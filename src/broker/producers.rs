//! Idempotent producers: ids (KIP-98).

use crate::types::{ProducerEpoch, ProducerId};

use super::{Broker, Session, Unavailable};

impl Broker {
    /// A producer id never handed out before, with its first epoch. Ids are minted in blocks, so most calls
    /// commit nothing.
    pub async fn new_producer(
        &self,
        session: &Session,
    ) -> Result<(ProducerId, ProducerEpoch), Unavailable> {
        let _ = session;
        todo!()
    }
}
