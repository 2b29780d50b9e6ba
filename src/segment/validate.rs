//! What a broker must know of a produced record set before it takes it.
//!
//! The rules are Kafka's: `ProduceRequest.validateRecords` (exactly one batch per partition, magic 2),
//! `UnifiedLog.analyzeAndValidateRecords` (base offset 0, size, checksum) and `LogValidator` (counts,
//! control batches, sequences, records). Weir is stricter in three places, in which no client of the
//! ecosystem is known to differ: offset deltas must be 0, 1, 2, … also in uncompressed batches (Kafka
//! rewrites a compressed batch where they are not, and stores an uncompressed one as it is), the
//! attribute of a delete horizon is refused, and bytes after the batch are refused also when they are no whole batch.
//! Whether the attribute `LogAppendTime` is taken depends on the topic, and is up to the caller.

use crate::types::Timestamp;

use super::records::create_time;
use super::walk::walk;
use super::{BatchError, BatchHeader, Limits, RecordFault};

/// What is allowed in a produced batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProduceRules {
    /// The longest batch, in bytes, header included: the topic's `max.message.bytes`.
    pub max_batch_bytes: usize,
    /// How much it may decompress to.
    pub limits: Limits,
    /// Whether transactional batches are accepted.
    pub allow_transactional: bool,
}

/// What a walk over the records showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordFacts {
    /// The smallest time stamp that the producer gave a record, of those that have one. This and the largest are the
    /// records' own also where the batch says `LogAppendTime`.
    pub earliest_timestamp: Option<Timestamp>,
    /// The largest time stamp, or [`Timestamp::NONE`]. Where the header says otherwise, Kafka (and
    /// the caller, by [`set_max_timestamp`]) corrects the header.
    ///
    /// [`set_max_timestamp`]: super::set_max_timestamp
    pub max_timestamp: Timestamp,
    /// The offset delta of the first record with the largest time stamp.
    pub max_timestamp_delta: i32,
    /// The index of the first record without a key: a compacted topic refuses the batch for it.
    pub first_without_key: Option<i32>,
    /// The bytes of the records, decompressed.
    pub uncompressed_bytes: u64,
}

/// A produced batch that keeps to the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValidBatch {
    /// Its header.
    pub header: BatchHeader,
    /// What its records are like.
    pub facts: RecordFacts,
}

/// Validates `records`, what a producer sent for one partition: exactly one whole batch, sound and
/// within `rules`. Compressed records are decompressed piece by piece and thrown away.
pub fn validate(records: &[u8], rules: ProduceRules) -> Result<ValidBatch, BatchError> {
    if records.is_empty() {
        return Err(BatchError::NoBatch);
    }
    let header = BatchHeader::parse(records)?;
    if header.base_offset.0 != 0 {
        return Err(BatchError::BaseOffset {
            found: header.base_offset,
        });
    }
    let (size, limit) = (header.size, rules.max_batch_bytes);
    if size > limit {
        return Err(BatchError::TooLarge { size, limit });
    }
    match records.len().checked_sub(size) {
        None => {
            return Err(BatchError::Truncated {
                needed: size,
                found: records.len(),
            });
        }
        Some(0) => {}
        Some(extra) => return Err(BatchError::SeveralBatches { extra }),
    }
    header.check_crc(records)?;
    check_header(&header, rules.allow_transactional)?;
    let facts = check_records(records, &header, rules.limits)?;
    Ok(ValidBatch { header, facts })
}

fn check_header(header: &BatchHeader, allow_transactional: bool) -> Result<(), BatchError> {
    let attributes = header.attributes;
    attributes.codec()?;
    let (record_count, last_offset_delta) = (header.record_count, header.last_offset_delta);
    if record_count <= 0 || last_offset_delta != record_count - 1 {
        return Err(BatchError::BadCount {
            record_count,
            last_offset_delta,
        });
    }
    if attributes.is_control() {
        return Err(BatchError::ControlBatch);
    }
    if attributes.has_delete_horizon() {
        return Err(BatchError::DeleteHorizon);
    }
    let incomplete =
        header.has_producer() && (header.base_sequence < 0 || header.producer_epoch.0 < 0);
    let anonymous = attributes.is_transactional() && !header.has_producer();
    if incomplete || anonymous {
        return Err(BatchError::BadProducer {
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
        });
    }
    if attributes.is_transactional() && !allow_transactional {
        return Err(BatchError::Transactional);
    }
    Ok(())
}

fn check_records(
    batch: &[u8],
    header: &BatchHeader,
    limits: Limits,
) -> Result<RecordFacts, BatchError> {
    let mut facts = RecordFacts {
        earliest_timestamp: None,
        max_timestamp: Timestamp::NONE,
        max_timestamp_delta: 0,
        first_without_key: None,
        uncompressed_bytes: 0,
    };
    facts.uncompressed_bytes = walk(batch, header, limits, |seen| {
        let fault = |fault| BatchError::Record {
            index: seen.index,
            fault,
        };
        if seen.offset_delta != seen.index {
            return Err(fault(RecordFault::BadOffsetDelta {
                found: seen.offset_delta,
            }));
        }
        let timestamp = create_time(header, seen.timestamp_delta).map_err(fault)?;
        if timestamp != Timestamp::NONE {
            let earliest = facts
                .earliest_timestamp
                .map_or(timestamp, |t| t.min(timestamp));
            facts.earliest_timestamp = Some(earliest);
        }
        if timestamp > facts.max_timestamp {
            facts.max_timestamp = timestamp;
            facts.max_timestamp_delta = seen.offset_delta;
        }
        if !seen.has_key && facts.first_without_key.is_none() {
            facts.first_without_key = Some(seen.index);
        }
        Ok(true)
    })?;
    Ok(facts)
}
