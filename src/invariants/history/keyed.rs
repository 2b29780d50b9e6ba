//! The history of a compacted topic: who reads it from its beginning finds the last record of each key.

use std::collections::BTreeMap;

use super::{Moment, Value};
use crate::invariants::{Invariant, Violation};
use crate::types::Offset;

/// A record with a key that was written. One writer writes a key, one record after the other.
#[derive(Clone, Debug)]
pub struct KeyedWrite {
    /// Its key.
    pub key: u8,
    /// What tells it from all others.
    pub version: Value,
    /// Whether it deletes the key.
    pub tombstone: bool,
    /// When it was first sent.
    pub begun: Moment,
    /// When it was acknowledged; [`Moment::MAX`] if it was not.
    pub ended: Moment,
}

/// A record with a key, as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyedRecord {
    /// Where.
    pub offset: Offset,
    /// Its key.
    pub key: u8,
    /// Which write it is.
    pub version: Value,
}

/// A partition read from its beginning to where its end was at `begun` or later.
#[derive(Clone, Debug)]
pub struct Pass {
    /// Who read, for people.
    pub name: String,
    /// When it began.
    pub begun: Moment,
    /// When it had read all.
    pub ended: Moment,
    /// What was read, in the order in which it came.
    pub records: Vec<KeyedRecord>,
}

/// All that happened to a partition of a compacted topic.
#[derive(Clone, Debug, Default)]
pub struct KeyedHistory {
    /// The partition, for people.
    pub name: String,
    /// In the order in which they were written.
    pub writes: Vec<KeyedWrite>,
    /// The passes over it. None takes so long that a tombstone may be removed in front of it.
    pub passes: Vec<Pass>,
}

impl KeyedHistory {
    /// I1 and I2 as they are for compacted topics.
    ///
    /// * Offsets rise, and whoever reads an offset reads the same record there.
    /// * The records of a key come in the order in which they were written.
    /// * The last record of a key that a pass finds is no older than the last one that was acknowledged before it
    ///   began. If it finds none, a tombstone has come since.
    pub fn violations(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        let order: BTreeMap<Value, usize> =
            self.writes.iter().map(|w| w.version).zip(0..).collect();
        let mut known: BTreeMap<Offset, (KeyedRecord, &str)> = BTreeMap::new();
        for pass in &self.passes {
            let mut wrong = |invariant, what: String| {
                let what = format!("{}: {} {what}", self.name, pass.name);
                found.push(Violation { invariant, what });
            };
            let mut last: BTreeMap<u8, usize> = BTreeMap::new();
            let mut before = None;
            for record in &pass.records {
                let KeyedRecord {
                    offset,
                    key,
                    version,
                } = *record;
                if before >= Some(offset) {
                    let what = format!("read {offset} after {before:?}");
                    wrong(Invariant::OffsetsAreDense, what);
                }
                before = Some(offset);
                let (other, whose) = *known.entry(offset).or_insert((*record, &pass.name));
                if other != *record {
                    let what = format!("read {record:?}, and {whose} read {other:?}");
                    wrong(Invariant::OffsetsAreDense, what);
                }
                let write = order
                    .get(&version)
                    .filter(|at| self.writes[**at].key == key);
                let Some(at) = write.copied() else {
                    wrong(
                        Invariant::RetriesAreStoredOnce,
                        format!("read {record:?}, which nobody wrote"),
                    );
                    continue;
                };
                if last.insert(key, at).is_some_and(|other| other >= at) {
                    let what = format!("read {record:?} behind one that was written later");
                    wrong(Invariant::OffsetsAreDense, what);
                }
            }
            for key in self
                .writes
                .iter()
                .map(|write| write.key)
                .collect::<std::collections::BTreeSet<u8>>()
            {
                let of_key = || {
                    (0..)
                        .zip(&self.writes)
                        .filter(move |(_, write)| write.key == key)
                };
                let due = of_key()
                    .filter(|(_, write)| write.ended < pass.begun)
                    .last();
                let Some((due, write)) = due else { continue };
                let version = write.version;
                match last.get(&key) {
                    Some(at) if *at < due => {
                        let newest = self.writes[*at].version;
                        let what = format!(
                            "found {newest:#x} as the last of key {key}, where {version:#x} had been acknowledged"
                        );
                        wrong(Invariant::AcknowledgedStays, what);
                    }
                    Some(_) => {}
                    None => {
                        let mut since = of_key().filter(|(at, _)| *at >= due);
                        if !since.any(|(_, write)| write.tombstone && write.begun < pass.ended) {
                            let what = format!(
                                "found nothing of key {key}, where {version:#x} had been acknowledged"
                            );
                            wrong(Invariant::AcknowledgedStays, what);
                        }
                    }
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(key: u8, version: Value, tombstone: bool, begun: Moment, ended: Moment) -> KeyedWrite {
        KeyedWrite {
            key,
            version,
            tombstone,
            begun,
            ended,
        }
    }

    fn pass(begun: Moment, ended: Moment, records: &[(i64, u8, Value)]) -> Pass {
        let record = |(offset, key, version): &(i64, u8, Value)| KeyedRecord {
            offset: Offset(*offset),
            key: *key,
            version: *version,
        };
        Pass {
            name: "a reader".to_owned(),
            begun,
            ended,
            records: records.iter().map(record).collect(),
        }
    }

    /// Key 1 is written twice and deleted, key 2 written twice, the second time without an answer.
    fn history(passes: Vec<Pass>) -> KeyedHistory {
        KeyedHistory {
            name: "keyed-0".to_owned(),
            writes: vec![
                write(1, 10, false, 1, 2),
                write(2, 11, false, 1, 2),
                write(1, 12, false, 3, 4),
                write(2, 13, false, 5, Moment::MAX),
                write(1, 14, true, 20, 21),
            ],
            passes,
        }
    }

    fn ids(passes: Vec<Pass>) -> Vec<&'static str> {
        let violations = history(passes).violations();
        violations
            .iter()
            .map(|violation| violation.invariant.id())
            .collect()
    }

    #[test]
    fn a_compacted_log_that_keeps_the_last_of_each_key_is_sound() {
        assert!(
            ids(vec![
                pass(10, 11, &[(0, 1, 10), (1, 2, 11), (2, 1, 12)]),
                pass(10, 12, &[(1, 2, 11), (2, 1, 12), (3, 2, 13)]),
                pass(10, 12, &[(2, 1, 12), (3, 2, 13)]),
                pass(22, 23, &[(3, 2, 13), (4, 1, 14)]),
                pass(22, 23, &[(3, 2, 13)]),
                // The tombstone was written and removed while it read.
                pass(19, 23, &[(1, 2, 11)]),
            ])
            .is_empty()
        );
    }

    #[test]
    fn whatever_a_compaction_must_not_do_is_found() {
        type Read<'a> = &'a [(i64, u8, Value)];
        let broken: [(Read, &str); 7] = [
            // The newest record of a key is gone, and an older one left; or none.
            (&[(0, 1, 10), (1, 2, 11)], "I1"),
            (&[(1, 2, 11)], "I1"),
            // Another record at an offset; offsets out of order; a record twice; records of a key out of order.
            (&[(1, 2, 13), (2, 1, 12)], "I2"),
            (&[(2, 1, 12), (1, 2, 11)], "I2"),
            (&[(1, 2, 11), (2, 1, 12), (3, 1, 12)], "I2"),
            (&[(1, 2, 11), (2, 1, 12), (3, 1, 10)], "I2"),
            // A record that nobody wrote, or not with this key.
            (&[(1, 2, 11), (2, 1, 12), (3, 1, 99)], "I5"),
        ];
        for (records, id) in broken {
            let first = pass(10, 11, &[(0, 1, 10), (1, 2, 11), (2, 1, 12)]);
            let found = ids(vec![first, pass(10, 11, records)]);
            assert!(found.contains(&id), "{records:?}: {found:?}");
        }
        // What was deleted is not there again.
        assert!(ids(vec![pass(22, 23, &[(1, 2, 11), (2, 1, 12)])]).contains(&"I1"));
    }
}
