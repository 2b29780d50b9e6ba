//! What an append says of the idempotent producer of a batch.

use minicbor::{Decode, Encode};
use serde::Serialize;

use crate::types::{ProducerEpoch, ProducerId};

/// What an idempotent producer says of a batch (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct ProducerBatch {
    /// Who.
    #[n(0)]
    pub id: ProducerId,
    /// Which epoch of it.
    #[n(1)]
    pub epoch: ProducerEpoch,
    /// The sequence number of the first record; each record is one more, wrapping after `i32::MAX`
    /// to 0.
    #[n(2)]
    pub base_sequence: i32,
    /// The node has been handed an earlier batch of this producer for the partition, so this one does not begin
    /// anything: while the fold knows nothing of the producer, one before it is missing.
    #[cbor(n(3), skip_if = "std::ops::Not::not")]
    pub continues: bool,
}
