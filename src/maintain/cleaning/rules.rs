//! Which records stay. The rules are those of Kafka's cleaner.

use bytes::Bytes;

use super::offset_map::OffsetMap;
use crate::rules::{Rule, holds};
use crate::segment::{
    BatchError, BatchHeader, KeyedRecord, Limits, Retained, for_each_key, retain_records,
};
use crate::types::{Offset, Timestamp};

/// How much a batch may decompress to when it is opened: as much as is accepted of a producer.
const LIMITS: Limits = Limits {
    max_uncompressed: 256 << 20,
};

/// Notes the keys of a batch that begins at `base` in `map`, from the offset `from` on. Returns the offset of the first
/// record for which there was no space, if there is one.
pub(super) fn note_keys(
    map: &mut OffsetMap,
    from: Offset,
    base: Offset,
    batch: &Bytes,
) -> Result<Option<Offset>, BatchError> {
    if passes_whole(&BatchHeader::parse(batch)?) {
        return Ok(None);
    }
    let mut full = None;
    for_each_key(batch, LIMITS, |record| {
        let offset = at(base, record);
        if let Some(key) = record.key.filter(|_| offset >= from)
            && !map.insert(key, offset)
        {
            full = Some(offset);
        }
        full.is_none()
    })?;
    Ok(full)
}

/// Which records stay.
pub(super) struct Rules {
    /// The last offset of each key between the end of what was cleaned before and `to`.
    pub(super) map: OffsetMap,
    /// Where the map ends. Nothing is known of what is at or above, so it stays.
    pub(super) to: Offset,
    /// What is below cannot be read any more.
    pub(super) log_start: Offset,
    /// The time: tombstones whose delete horizon it has passed go.
    pub(super) now: Timestamp,
    /// The delete horizon of tombstones that have none yet.
    pub(super) horizon: Timestamp,
}

impl Rules {
    /// What is left of a batch that begins at `base`.
    pub(super) fn clean(&self, base: Offset, batch: &Bytes) -> Result<Retained, BatchError> {
        let header = BatchHeader::parse(batch)?;
        let end = BatchHeader {
            base_offset: base,
            ..header
        }
        .next_offset();
        if end <= self.log_start {
            return Ok(Retained::Nothing);
        }
        if base >= self.to || passes_whole(&header) {
            return Ok(Retained::Whole);
        }
        // The tombstones of a batch that is cleaned only in part must not begin to age: its other part is the first
        // that readers see of them.
        let whole = end <= self.to || !holds(Rule::TombstonesAgeOnceCleaned);
        let horizon = whole.then_some(self.horizon);
        let passed = header
            .delete_horizon()
            .is_some_and(|horizon| horizon <= self.now)
            || !holds(Rule::TombstonesStayForTheirTime);
        retain_records(batch, horizon, LIMITS, |record| {
            let offset = at(base, record);
            if offset >= self.to {
                return holds(Rule::RecordsBeyondMapStay);
            }
            // A topic may have had records without keys before it was compacted. There is nothing to keep them by.
            let Some(key) = record.key.filter(|_| offset >= self.log_start) else {
                return false;
            };
            let superseded = self.map.last(key).is_some_and(|last| {
                last > offset || last == offset && !holds(Rule::LastRecordOfKeyStays)
            });
            let over = record.is_tombstone && passed;
            !superseded && !over
        })
    }
}

/// Whether the records of a batch are left alone: transaction markers have no keys of users, and of records in a
/// transaction it is not known here whether they count.
fn passes_whole(header: &BatchHeader) -> bool {
    (header.attributes.is_control() || header.attributes.is_transactional())
        && holds(Rule::TransactionalBatchesStayWhole)
}

fn at(base: Offset, record: &KeyedRecord<'_>) -> Offset {
    base.advance(record.offset_delta.unsigned_abs().into())
}
