//! Record batches as the clients of a run make and read them.

use bytes::Bytes;

use crate::invariants::history::{KeyedRecord, KeyedWrite, Value};
use crate::segment::{BatchBuilder, Batches, Codec, Limits, RecordHeader, decode_records};

const LIMITS: Limits = Limits {
    max_uncompressed: 1 << 24,
};

use crate::types::{Offset, ProducerEpoch, ProducerId, Timestamp};

/// An idempotent producer's stamp on a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    pub(super) id: ProducerId,
    pub(super) epoch: ProducerEpoch,
    pub(super) sequence: i32,
}

/// A batch of these records, made at `at`, each with so many bytes beside its value.
pub(super) fn batch(
    values: &[Value],
    padding: usize,
    stamp: Option<Stamp>,
    at: Timestamp,
) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    if let Some(stamp) = stamp {
        builder = builder.producer(stamp.id, stamp.epoch, stamp.sequence);
    }
    for value in values {
        let mut bytes = value.to_be_bytes().to_vec();
        bytes.resize(8 + padding, b'.');
        builder.push(at, None, Some(&bytes), &[]).unwrap();
    }
    builder.finish().unwrap()
}

/// The header that tells a record with a key from others.
const VERSION: &str = "version";

/// A batch of records with keys: key, version, whether it is a tombstone.
pub(super) fn keyed_batch(
    records: &[KeyedWrite],
    padding: usize,
    stamp: Stamp,
    at: Timestamp,
) -> Bytes {
    let mut builder =
        BatchBuilder::new(Codec::None).producer(stamp.id, stamp.epoch, stamp.sequence);
    let value = vec![b'.'; padding];
    for record in records {
        let version = RecordHeader {
            key: VERSION.into(),
            value: Some(record.version.to_be_bytes().to_vec().into()),
        };
        let value = (!record.tombstone).then_some(&value[..]);
        builder
            .push(at, Some(&[record.key]), value, &[version])
            .unwrap();
    }
    builder.finish().unwrap()
}

/// The records with keys of what a fetch returned, from `offset` on, and where to read on.
pub(super) fn keyed_records(
    pieces: &[Bytes],
    offset: Offset,
) -> Result<(Vec<KeyedRecord>, Offset), String> {
    let (mut found, mut next) = (Vec::new(), offset);
    for piece in pieces {
        for batch in Batches::new(piece) {
            let batch = batch.map_err(|error| error.to_string())?;
            let base = batch.header.base_offset;
            let records = decode_records(&batch.slice(piece), LIMITS).map_err(|e| e.to_string())?;
            for record in records {
                let record = record.map_err(|error| error.to_string())?;
                let key = record.key.as_ref().and_then(|key| key.first());
                let version = record
                    .headers
                    .first()
                    .and_then(|header| header.value.as_ref());
                let version = version.and_then(|bytes| bytes.first_chunk());
                found.push(KeyedRecord {
                    offset: base.advance(record.offset_delta as u64),
                    key: *key.ok_or("a record without a key")?,
                    version: Value::from_be_bytes(*version.ok_or("a record without a version")?),
                });
            }
            next = next.max(batch.header.next_offset());
        }
    }
    found.retain(|record| record.offset >= offset);
    Ok((found, next))
}

/// The records of what a fetch returned, from `offset` on.
pub(super) fn records(pieces: &[Bytes], offset: Offset) -> Result<Vec<(Offset, Value)>, String> {
    let mut found = Vec::new();
    for piece in pieces {
        for batch in Batches::new(piece) {
            let batch = batch.map_err(|error| error.to_string())?;
            let base = batch.header.base_offset;
            let records = decode_records(&batch.slice(piece), LIMITS).map_err(|e| e.to_string())?;
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
