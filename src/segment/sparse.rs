//! Batches of records that are not stored as such: each at an offset of its own, with gaps between, as the compaction
//! of a log leaves them.

use bytes::Bytes;

use crate::types::{Offset, ProducerEpoch, ProducerId, Timestamp};

use super::batch::crc_of;
use super::build::{put_bytes, put_varlong};
use super::compacted::LEADER_EPOCH;
use super::{Attributes, BATCH_HEADER_LEN, BatchHeader, BuildError};

/// A record with its offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SparseRecord {
    /// Its offset.
    pub offset: Offset,
    /// Its time.
    pub timestamp: Timestamp,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value; `None` says that the key is gone.
    pub value: Option<Vec<u8>>,
}

/// Makes one batch that covers the offsets from `first` to before `end`, in which there are only these records, in
/// the order of their offsets. Without any it is the empty batch that takes a reader to `end`, as Kafka's compaction
/// leaves one.
pub fn sparse_batch(
    first: Offset,
    end: Offset,
    records: &[SparseRecord],
) -> Result<Bytes, BuildError> {
    let delta = |offset: Offset| {
        let delta = offset.0.checked_sub(first.0);
        delta
            .and_then(|delta| i32::try_from(delta).ok())
            .ok_or(BuildError::TooLong)
    };
    let base = records
        .first()
        .map_or(Timestamp::NONE, |first| first.timestamp);
    let times = records.iter().map(|record| record.timestamp);
    let max_timestamp = times.max().unwrap_or(Timestamp::NONE);
    let mut body = Vec::new();
    let mut encoded = Vec::new();
    for record in records {
        body.clear();
        body.push(0); // attributes: none are defined
        put_varlong(&mut body, record.timestamp.0.saturating_sub(base.0));
        put_varlong(&mut body, delta(record.offset)?.into());
        put_bytes(&mut body, Some(&record.key))?;
        put_bytes(&mut body, record.value.as_deref())?;
        put_varlong(&mut body, 0); // headers
        let length = i32::try_from(body.len()).map_err(|_| BuildError::TooLong)?;
        put_varlong(&mut encoded, length.into());
        encoded.extend_from_slice(&body);
    }
    let too_long = |_| BuildError::TooLong;
    let mut header = BatchHeader {
        base_offset: first,
        size: BATCH_HEADER_LEN + encoded.len(),
        leader_epoch: LEADER_EPOCH,
        crc: 0,
        attributes: Attributes(0),
        last_offset_delta: delta(Offset(end.0.saturating_sub(1)))?,
        base_timestamp: base,
        max_timestamp,
        producer_id: ProducerId::NONE,
        producer_epoch: ProducerEpoch(-1),
        base_sequence: -1,
        record_count: i32::try_from(records.len()).map_err(|_| BuildError::TooLong)?,
    };
    header.crc = crc_of(&header.encode().map_err(too_long)?, &encoded);
    let mut batch = Vec::with_capacity(header.size);
    batch.extend_from_slice(&header.encode().map_err(too_long)?);
    batch.extend_from_slice(&encoded);
    Ok(Bytes::from(batch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::{Limits, decode_records};

    const LIMITS: Limits = Limits {
        max_uncompressed: 1 << 20,
    };

    #[test]
    fn records_keep_their_offsets_and_the_batch_covers_the_gaps() {
        let record = |offset, value: Option<&str>| SparseRecord {
            offset: Offset(offset),
            timestamp: Timestamp(1000 + offset),
            key: vec![offset as u8],
            value: value.map(|text| text.as_bytes().to_vec()),
        };
        let records = [record(12, Some("a")), record(700, None)];
        let bytes = sparse_batch(Offset(10), Offset(1000), &records).unwrap();
        let header = BatchHeader::parse(&bytes).unwrap();
        assert_eq!(header.base_offset, Offset(10));
        assert_eq!(header.last_offset_delta, 989);
        assert!(header.check_crc(&bytes).is_ok());
        let read: Vec<_> = decode_records(&bytes, LIMITS)
            .unwrap()
            .map(|read| read.unwrap())
            .map(|r| {
                (
                    Offset(10 + i64::from(r.offset_delta)),
                    r.timestamp,
                    r.key,
                    r.value,
                )
            })
            .collect();
        let wanted: Vec<_> = records
            .iter()
            .map(|r| {
                let value = r.value.clone().map(Bytes::from);
                (
                    r.offset,
                    r.timestamp,
                    Some(Bytes::from(r.key.clone())),
                    value,
                )
            })
            .collect();
        assert_eq!(read, wanted);
    }

    #[test]
    fn a_batch_without_records_takes_a_reader_to_the_end() {
        let bytes = sparse_batch(Offset(3), Offset(9), &[]).unwrap();
        let header = BatchHeader::parse(&bytes).unwrap();
        assert_eq!((header.record_count, header.last_offset_delta), (0, 5));
    }
}
