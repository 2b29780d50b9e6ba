//! Idempotent producers (KIP-98): the last five batches of each producer in each partition, so that a
//! retry, on whichever node, gets the original offset (I5).
//!
//! Durable: the next id to be minted; each [`Producer`], in every partition that it wrote to. Ids are minted once.
//! Derived from the partitions: which of them may have producers that wrote nothing for long (`by_age.rs`).

mod by_age;
mod op;
mod rules;

#[cfg(test)]
mod tests;

use minicbor::{Decode, Encode};
use serde::Serialize;

pub(super) use by_age::{ByAge, Entered};
pub use op::ProducerBatch;

use super::op::AppendRejected;
use crate::rules::{Rule, holds};
use crate::types::{Offset, ProducerEpoch, Timestamp, TopicPartition};

/// How many batches are remembered: as many as a producer may have in flight.
const REMEMBERED: usize = 5;

/// One producer in one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Producer {
    #[n(0)]
    epoch: ProducerEpoch,
    #[n(1)]
    last_write: Timestamp,
    /// The last batches of this epoch, oldest first. Not empty once recorded.
    #[n(2)]
    recent: Recent,
}

/// A batch that was appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
struct Remembered {
    #[n(0)]
    first_sequence: i32,
    #[n(1)]
    last_sequence: i32,
    #[n(2)]
    base_offset: Offset,
}

impl Producer {
    /// When it wrote last, in the fold's time.
    pub fn last_write(&self) -> Timestamp {
        self.last_write
    }

    /// Its epoch.
    pub fn epoch(&self) -> ProducerEpoch {
        self.epoch
    }

    /// Judges a batch of `records` records as Kafka's `ProducerStateManager` does: `Some(offset)` if it is a
    /// retry of a remembered one, `None` if it is to be appended.
    pub(super) fn judge(
        known: Option<&Producer>,
        partition: TopicPartition,
        batch: &ProducerBatch,
        records: u32,
    ) -> Result<Option<Offset>, AppendRejected> {
        // A producer that is not known (any more: expired) may begin at any sequence, but not with a batch of which
        // the node knows that it is not the first: the ones before it have failed, and come again.
        let Some(known) = known else {
            return match batch.continues {
                true => Err(AppendRejected::NotBegun {
                    partition,
                    id: batch.id,
                    found: batch.base_sequence,
                }),
                false => Ok(None),
            };
        };
        let out_of_order = |expected| AppendRejected::OutOfOrderSequence {
            partition,
            id: batch.id,
            expected,
            found: batch.base_sequence,
        };
        if batch.epoch < known.epoch {
            return Err(AppendRejected::FencedProducer {
                partition,
                id: batch.id,
                epoch: batch.epoch,
                current: known.epoch,
            });
        }
        if batch.epoch > known.epoch {
            return if batch.base_sequence == 0 {
                Ok(None)
            } else {
                Err(out_of_order(0))
            };
        }
        let last_sequence = sequence_after(batch.base_sequence, records.saturating_sub(1));
        let retry = known.recent.as_slice().iter().find(|old| {
            old.first_sequence == batch.base_sequence && old.last_sequence == last_sequence
        });
        if let Some(retry) = retry {
            return Ok(holds(Rule::RetriesAreDeduplicated).then_some(retry.base_offset));
        }
        match known.recent.as_slice().last() {
            Some(last) if sequence_after(last.last_sequence, 1) != batch.base_sequence => {
                Err(out_of_order(sequence_after(last.last_sequence, 1)))
            }
            _ => Ok(None),
        }
    }

    /// Remembers a batch that was appended at `base_offset`.
    pub(super) fn record(
        &mut self,
        batch: &ProducerBatch,
        records: u32,
        base_offset: Offset,
        now: Timestamp,
    ) {
        if batch.epoch != self.epoch {
            *self = Producer {
                epoch: batch.epoch,
                ..Producer::default()
            };
        }
        self.last_write = now;
        self.recent.push(Remembered {
            first_sequence: batch.base_sequence,
            last_sequence: sequence_after(batch.base_sequence, records.saturating_sub(1)),
            base_offset,
        });
    }
}

/// The sequence `by` after `sequence`; wraps from `i32::MAX` to 0 as Kafka's does.
fn sequence_after(sequence: i32, by: u32) -> i32 {
    let modulus = i64::from(i32::MAX) + 1;
    let sum = i64::from(sequence).rem_euclid(modulus) + i64::from(by);
    i32::try_from(sum % modulus).unwrap_or(0)
}

/// The last five batches, held in place: producers are copied often and must not allocate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Recent {
    len: u8,
    batches: [Remembered; REMEMBERED],
}

impl Recent {
    fn as_slice(&self) -> &[Remembered] {
        &self.batches[..usize::from(self.len)]
    }

    fn push(&mut self, batch: Remembered) {
        if usize::from(self.len) == REMEMBERED {
            self.batches.rotate_left(1);
            self.batches[REMEMBERED - 1] = batch;
        } else {
            self.batches[usize::from(self.len)] = batch;
            self.len += 1;
        }
    }
}

impl<C> Encode<C> for Recent {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        self.as_slice().encode(e, ctx)
    }
}

impl<'b, C> Decode<'b, C> for Recent {
    fn decode(
        d: &mut minicbor::Decoder<'b>,
        ctx: &mut C,
    ) -> Result<Recent, minicbor::decode::Error> {
        let mut recent = Recent::default();
        for batch in d.array_iter_with(ctx)? {
            recent.push(batch?);
        }
        Ok(recent)
    }
}

impl Serialize for Recent {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.as_slice().serialize(s)
    }
}
