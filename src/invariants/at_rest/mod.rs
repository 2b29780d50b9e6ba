//! Predicates over a state, a snapshot or the bytes of objects: what data at rest can show.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Range;

use bytes::{Buf, BytesMut};
use serde_json::Value;

use super::{Invariant, Violation};
use crate::segment::{BATCH_HEADER_LEN, BatchError, BatchHeader};
use crate::state::table::Table;
use crate::state::{ObjectRef, Partition, Slice, State};
use crate::types::{Offset, TopicPartition};

/// A slice that the state refers to, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The partition.
    pub partition: TopicPartition,
    /// The offset of its first record.
    pub base: Offset,
    /// Where it is.
    pub slice: Slice,
}

impl Reference {
    /// Where the slice's bytes are in its object.
    pub fn range(&self) -> Range<u64> {
        self.slice.start..self.slice.start.saturating_add(self.slice.len)
    }
}

/// How a partition is called in a violation: by the name of its topic.
pub fn name_of(state: &State, id: TopicPartition) -> String {
    match state.topic(id.topic) {
        Some(topic) => format!("{}/{}", topic.name(), id.partition),
        None => id.to_string(),
    }
}

/// Every object that the slices of a state refer to, with those slices.
pub fn references(state: &State) -> BTreeMap<ObjectRef, Vec<Reference>> {
    let mut found: BTreeMap<ObjectRef, Vec<Reference>> = BTreeMap::new();
    for topic in state.topics() {
        for (partition, content) in topic.partitions() {
            for (base, slice) in content.slices_from(Offset::ZERO) {
                found.entry(slice.object).or_default().push(Reference {
                    partition,
                    base,
                    slice: *slice,
                });
            }
        }
    }
    found
}

/// I2, of a partition: its slices lie end to end from the log start to the high watermark, and their bytes are
/// as many as it says. Names the first place where that is not so.
pub fn offsets_are_dense(name: &str, partition: &Partition) -> Option<Violation> {
    let what = undense(partition)?;
    Some(Violation {
        invariant: Invariant::OffsetsAreDense,
        what: format!("{name}: {what}"),
    })
}

fn undense(partition: &Partition) -> Option<String> {
    let bytes = partition
        .slices_from(Offset::ZERO)
        .fold(0u64, |bytes, (_, slice)| bytes.saturating_add(slice.len));
    let counted = partition.bytes().0;
    let miscounted = || format!("{counted} bytes are counted, but the slices have {bytes}");
    partition
        .gap_in_offsets()
        .or_else(|| (counted != bytes).then(miscounted))
}

/// I11, of a table, as far as the state shows it: each offset up to where a partition is archived, and not expired, is in
/// exactly one manifest, but for those that were deleted from the topic before. Nothing is archived that is not in the
/// log.
pub fn archive_equals_log(state: &State, table: &Table) -> Option<Violation> {
    let beyond = || {
        let topic = state.topic(table.topic()?)?;
        table.partitions().find_map(|(index, archived)| {
            let end = topic.partition(index).map(Partition::high_watermark);
            let end = end.unwrap_or_default();
            (archived.end() > end).then(|| {
                format!(
                    "partition {index} is archived up to {}, and the log ends before {end}",
                    archived.end()
                )
            })
        })
    };
    let what = table.gap_in_archive().or_else(beyond)?;
    Some(Violation {
        invariant: Invariant::ArchiveEqualsLog,
        what: format!("table {}: {what}", table.name()),
    })
}

/// I3: two states of one seq are the same bytes; `found` is what `whose` says. Names the first thing in which
/// they differ.
pub fn states_are_equal(expected: &State, whose: &str, found: &State) -> Option<Violation> {
    if expected.to_bytes() == found.to_bytes() {
        return None;
    }
    let difference = match (serde_json::to_value(expected), serde_json::to_value(found)) {
        (Ok(expected), Ok(found)) => first_difference("", &expected, &found),
        _ => None,
    };
    let difference = difference.unwrap_or_else(|| "something that JSON cannot show".to_owned());
    Some(Violation {
        invariant: Invariant::StatesAreEqual,
        what: format!(
            "{whose} is not the fold of the log up to {}: {difference}",
            expected.seq()
        ),
    })
}

/// The path of the first thing in which two documents differ, and its two values.
fn first_difference(path: &str, expected: &Value, found: &Value) -> Option<String> {
    if expected == found {
        return None;
    }
    let below = |key: &str, a: Option<&Value>, b: Option<&Value>| {
        let path = format!("{path}/{key}");
        first_difference(&path, a.unwrap_or(&Value::Null), b.unwrap_or(&Value::Null))
    };
    let deeper = match (expected, found) {
        (Value::Object(a), Value::Object(b)) => a
            .keys()
            .chain(b.keys())
            .find_map(|key| below(key, a.get(key), b.get(key))),
        (Value::Array(a), Value::Array(b)) => {
            (0..a.len().max(b.len())).find_map(|n| below(&n.to_string(), a.get(n), b.get(n)))
        }
        _ => None,
    };
    Some(deeper.unwrap_or_else(|| {
        format!(
            "{path} is {} and should be {}",
            shortened(found),
            shortened(expected)
        )
    }))
}

fn shortened(value: &Value) -> String {
    const MAX_LEN: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(MAX_LEN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// I10: every object that the state refers to exists. Answers with those that do not, each with what is lost.
pub fn referenced_objects_exist(
    state: &State,
    references: &BTreeMap<ObjectRef, Vec<Reference>>,
    exists: impl Fn(ObjectRef) -> bool,
) -> Vec<(ObjectRef, Violation)> {
    references
        .iter()
        .filter(|(object, _)| !exists(**object))
        .map(|(object, slices)| {
            let violation = Violation {
                invariant: Invariant::NothingReferencedIsDeleted,
                what: format!(
                    "{} is gone, and with it {}",
                    shown(*object),
                    told(state, slices)
                ),
            };
            (*object, violation)
        })
        .collect()
}

fn shown(object: ObjectRef) -> String {
    match object {
        ObjectRef::Commit(seq) => format!("commit {seq}"),
        ObjectRef::Segment(id) => format!("segment {id}"),
    }
}

/// Which offsets of which partitions these slices hold.
pub fn told(state: &State, slices: &[Reference]) -> String {
    const MAX_SHOWN: usize = 5;
    let mut text = String::new();
    for (n, reference) in slices.iter().take(MAX_SHOWN).enumerate() {
        let name = name_of(state, reference.partition);
        let comma = if n > 0 { ", " } else { "" };
        let last = Offset(reference.slice.end.0.saturating_sub(1));
        // Writing to a String does not fail.
        let _ = write!(
            text,
            "{comma}offsets {} to {last} of {name}",
            reference.base
        );
    }
    if slices.len() > MAX_SHOWN {
        let _ = write!(text, " and {} more slices", slices.len() - MAX_SHOWN);
    }
    text
}

/// I4, as far as it shows without the bytes: the slice, and its index if it has one, lie within `data`, the range
/// of the object in which batches can be.
pub fn slice_lies_within(
    state: &State,
    reference: &Reference,
    data: &Range<u64>,
) -> Option<Violation> {
    let range = reference.range();
    if data.start <= range.start && range.end <= data.end {
        return None;
    }
    Some(unresolved(
        state,
        reference,
        &format!(
            "it is said to be the bytes {} to {} of {}, whose data is {} to {}",
            range.start,
            range.end,
            shown(reference.slice.object),
            data.start,
            data.end
        ),
    ))
}

/// I4, of a slice that does not resolve for this reason.
pub fn unresolved(state: &State, reference: &Reference, what: &str) -> Violation {
    Violation {
        invariant: Invariant::SlicesResolve,
        what: format!(
            "{}: the slice at offset {} does not resolve: {what}",
            name_of(state, reference.partition),
            reference.base
        ),
    }
}

/// I4, of bytes: a slice resolves to whole batches, each with its checksum right, which hold the offsets that the
/// state says. Takes the slice's bytes piece by piece and keeps no more of them than one batch.
#[derive(Debug)]
pub struct SliceCheck {
    reference: Reference,
    /// What was fed and is not a whole batch yet.
    rest: BytesMut,
    /// How many bytes were fed.
    fed: u64,
    /// The offset that the next batch begins at, or after which it begins if there may be gaps.
    next: Offset,
    batches: u64,
    damaged: u64,
    first: Option<String>,
    /// The bytes are no batches from here on, so nothing behind can be found.
    lost: bool,
}

impl SliceCheck {
    /// A check of this slice, with nothing fed yet.
    pub fn new(reference: Reference) -> SliceCheck {
        SliceCheck {
            reference,
            rest: BytesMut::new(),
            fed: 0,
            next: reference.base,
            batches: 0,
            damaged: 0,
            first: None,
            lost: false,
        }
    }

    /// Where the slice's bytes are in its object.
    pub fn range(&self) -> Range<u64> {
        self.reference.range()
    }

    /// Takes the next bytes of the slice.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.fed = self.fed.saturating_add(bytes.len() as u64);
        if self.lost {
            return;
        }
        self.rest.extend_from_slice(bytes);
        while !self.lost && self.rest.len() >= BATCH_HEADER_LEN {
            let left = self
                .reference
                .slice
                .len
                .saturating_sub(self.fed - self.rest.len() as u64);
            match BatchHeader::parse(&self.rest) {
                Err(error) => self.lose(&error),
                Ok(header) if header.size as u64 > left => {
                    let (needed, found) =
                        (header.size, usize::try_from(left).unwrap_or(usize::MAX));
                    self.lose(&BatchError::Truncated { needed, found });
                }
                Ok(header) if header.size > self.rest.len() => return,
                Ok(header) => {
                    self.judge(&header);
                    self.rest.advance(header.size);
                }
            }
        }
    }

    fn lose(&mut self, error: &BatchError) {
        self.lost = true;
        self.rest.clear();
        self.note(format!(
            "no batch where one with offset {} should be: {error}",
            self.next
        ));
    }

    fn note(&mut self, what: String) {
        self.damaged += 1;
        self.first.get_or_insert(what);
    }

    fn judge(&mut self, header: &BatchHeader) {
        self.batches += 1;
        let compacted = self.reference.slice.index.is_some();
        let base = if compacted {
            header.base_offset
        } else {
            self.next
        };
        let Ok(delta) = u64::try_from(header.last_offset_delta) else {
            return self.lose(&BatchError::BadLength {
                length: header.last_offset_delta,
            });
        };
        let end = base.advance(delta + 1);
        let batch = self.rest.get(..header.size).unwrap_or_default();
        if let Err(error) = header.check_crc(batch) {
            self.note(format!("the batch at offset {base}: {error}"));
        } else if base < self.next || end > self.reference.slice.end {
            self.note(format!(
                "a batch of the offsets {base} to {end} (exclusive) where {} to {} are due",
                self.next, self.reference.slice.end
            ));
        } else if !compacted
            && i64::from(header.record_count) != i64::from(header.last_offset_delta) + 1
        {
            self.note(format!(
                "the batch at offset {base} has {} records and {} offsets",
                header.record_count,
                delta + 1
            ));
        }
        self.next = self.next.max(end);
    }

    /// What is wrong, once all bytes of the slice were fed. At most one violation: the first damage, and how many
    /// batches are damaged in all.
    pub fn finish(mut self, state: &State) -> Option<Violation> {
        let slice = self.reference.slice;
        if self.fed != slice.len {
            let (fed, len) = (self.fed, slice.len);
            self.note(format!("{fed} bytes where {len} should be"));
        } else if !self.lost {
            if !self.rest.is_empty() {
                let found = self.rest.len();
                let needed = BATCH_HEADER_LEN;
                self.lose(&BatchError::Truncated { needed, found });
            } else if slice.index.is_none() && self.next != slice.end {
                let next = self.next;
                self.note(format!(
                    "its batches end before {next}, it before {}",
                    slice.end
                ));
            }
        }
        let first = self.first?;
        let more = if self.damaged > 1 {
            format!(" ({} of its batches are damaged)", self.damaged)
        } else {
            String::new()
        };
        Some(unresolved(
            state,
            &self.reference,
            &format!("{first}{more}"),
        ))
    }
}

/// I4, of a slice whose bytes are at hand. See [`SliceCheck`].
pub fn slice_resolves(state: &State, reference: Reference, bytes: &[u8]) -> Option<Violation> {
    let mut check = SliceCheck::new(reference);
    check.feed(bytes);
    check.finish(state)
}

#[cfg(test)]
mod tests;
