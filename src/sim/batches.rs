//! Record batches as the clients of a run make and read them.

use bytes::Bytes;

use crate::invariants::history::Value;
use crate::segment::{BatchBuilder, Batches, Codec, Limits, decode_records};
use crate::types::{Offset, ProducerEpoch, ProducerId, Timestamp};

/// An idempotent producer's stamp on a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    pub(super) id: ProducerId,
    pub(super) epoch: ProducerEpoch,
    pub(super) sequence: i32,
}

/// A batch of these records, each with so many bytes beside its value.
pub(super) fn batch(values: &[Value], padding: usize, stamp: Option<Stamp>) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    if let Some(stamp) = stamp {
        builder = builder.producer(stamp.id, stamp.epoch, stamp.sequence);
    }
    for value in values {
        let mut bytes = value.to_be_bytes().to_vec();
        bytes.resize(8 + padding, b'.');
        builder
            .push(Timestamp(1_700_000_000_000), None, Some(&bytes), &[])
            .unwrap();
    }
    builder.finish().unwrap()
}

/// The records of what a fetch returned, from `offset` on.
pub(super) fn records(pieces: &[Bytes], offset: Offset) -> Result<Vec<(Offset, Value)>, String> {
    let limits = Limits {
        max_uncompressed: 1 << 24,
    };
    let mut found = Vec::new();
    for piece in pieces {
        for batch in Batches::new(piece) {
            let batch = batch.map_err(|error| error.to_string())?;
            let base = batch.header.base_offset;
            let records = decode_records(&batch.slice(piece), limits).map_err(|e| e.to_string())?;
            for record in records {
                let record = record.map_err(|error| error.to_string())?;
                let at = base.advance(record.offset_delta as u64);
                let value = record.value.unwrap_or_default();
                let value = value.first_chunk().ok_or("a record without a value")?;
                found.push((at, Value::from_be_bytes(*value)));
            }
        }
    }
    found.retain(|(at, _)| *at >= offset);
    Ok(found)
}
