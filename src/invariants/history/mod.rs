//! Predicates over histories: what clients were told, and what they read.
//!
//! A history is made of operations, each with the moment when it began and, if the client learnt how it went, the
//! moment when it ended. Moments are the places of events in one total order, so "ended before the other began" is a
//! comparison. An operation of unknown outcome may have taken effect at any moment after it began, or never.
//!
//! Offsets make the order of a log visible, so whether a history is linearizable needs no search: the appends stand in
//! the order of their offsets, each question for the end of the log stands between two of them, and all that is left
//! to ask is whether anything stands before something that had ended before it began.

use std::collections::BTreeMap;

use super::{Invariant, Violation};
use crate::types::{Generation, MemberId, Offset, Seq};

mod deleted;
mod keyed;
mod register;
#[cfg(test)]
mod tests;

pub use deleted::{Deleted, DeletedHistory, Sight};
pub use keyed::{KeyedHistory, KeyedRecord, KeyedWrite, Pass};
pub use register::{RegisterHistory, Write, Written};

/// The place of an event in the order of all events of a history.
pub type Moment = u64;

/// A record as the history knows it. No two records that are sent are the same one, but for the retries of an
/// idempotent producer.
pub type Value = u64;

/// What became of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// The client was told this.
    Told(T, Moment),
    /// The client was told that it was refused and has changed nothing.
    Refused(Moment),
    /// The client was told nothing that it could rely on.
    Unknown,
}

impl<T> Outcome<T> {
    fn ended(&self) -> Moment {
        match self {
            Outcome::Told(_, at) | Outcome::Refused(at) => *at,
            Outcome::Unknown => Moment::MAX,
        }
    }
}

/// A batch that a producer sent: once, or, if it is idempotent, as often as it took.
#[derive(Clone, Debug)]
pub struct Append {
    /// Whose batch it is, for people.
    pub name: String,
    /// Its records.
    pub values: Vec<Value>,
    /// When it was first sent.
    pub begun: Moment,
    /// The offset of its first record.
    pub outcome: Outcome<Offset>,
    /// Every offset that any node gave for it, also in answers that were lost on their way to the client.
    pub given: Vec<Offset>,
}

/// What one read returned.
#[derive(Clone, Debug)]
pub struct Read {
    /// Who read where, for people.
    pub name: String,
    /// When it began.
    pub begun: Moment,
    /// When the answer came.
    pub ended: Moment,
    /// The records.
    pub records: Vec<(Offset, Value)>,
    /// The end of the log, if the answer says what it is: of a read that found nothing, or of a question for the
    /// latest offset.
    pub end: Option<Offset>,
}

/// A request to delete the records before an offset.
#[derive(Clone, Copy, Debug)]
pub struct Deletion {
    /// When it was first sent.
    pub begun: Moment,
    /// The first offset that is to stay.
    pub before: Offset,
}

/// All that happened to one partition.
#[derive(Clone, Debug, Default)]
pub struct PartitionHistory {
    /// The partition, for people.
    pub name: String,
    /// What was sent.
    pub appends: Vec<Append>,
    /// What was read.
    pub reads: Vec<Read>,
    /// What was to be deleted.
    pub deletions: Vec<Deletion>,
    /// Where the log starts when all is over.
    pub log_start: Offset,
    /// The offset after its last record.
    pub high_watermark: Offset,
    /// What is read then, from the log start to the high watermark.
    pub log: Vec<(Offset, Value)>,
}

impl PartitionHistory {
    fn violation(&self, invariant: Invariant, what: String) -> Violation {
        let what = format!("{}: {what}", self.name);
        Violation { invariant, what }
    }

    /// Every record that is known by its offset: from the log as it is in the end, and from reads before.
    fn known(&self) -> BTreeMap<Offset, Value> {
        let read = self.reads.iter().flat_map(|read| &read.records);
        read.chain(&self.log).copied().collect()
    }

    /// I1, I2, I5 and linearizability of this history.
    pub fn violations(&self) -> Vec<Violation> {
        let mut found = self.acknowledged_stays();
        found.extend(self.offsets_are_dense());
        found.extend(self.batches_are_stored_once());
        found.extend(self.is_linearizable());
        found
    }

    /// I1: what was acknowledged is in the log at the offset acknowledged, unless it was to be deleted.
    pub fn acknowledged_stays(&self) -> Vec<Violation> {
        let log: BTreeMap<Offset, Value> = self.log.iter().copied().collect();
        let mut found = Vec::new();
        let stays = |what| self.violation(Invariant::AcknowledgedStays, what);
        let allowed = self.deletions.iter().map(|deletion| deletion.before).max();
        if self.log_start > allowed.unwrap_or_default() {
            let what = format!(
                "the log starts at {}, and nobody asked for more than {allowed:?}",
                self.log_start
            );
            found.push(stays(what));
        }
        for append in &self.appends {
            let Outcome::Told(base, _) = append.outcome else {
                continue;
            };
            for (offset, value) in places(base, &append.values) {
                let there = log.get(&offset);
                if offset >= self.log_start && there != Some(&value) {
                    let what = format!(
                        "{} was acknowledged at {base}; at {offset} there is {} instead of {value:#x}",
                        append.name,
                        shown(there)
                    );
                    found.push(stays(what));
                    break;
                }
            }
        }
        found
    }

    /// I2: the log has a record at every offset and no record twice, and whoever read an offset read the same.
    pub fn offsets_are_dense(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        let dense = |what| self.violation(Invariant::OffsetsAreDense, what);
        let offsets = self.log.iter().map(|(offset, _)| *offset);
        let expected = (self.log_start.0..self.high_watermark.0).map(Offset);
        if !offsets.clone().eq(expected) {
            let what = format!(
                "between {} and {} the log has {} records: {}",
                self.log_start,
                self.high_watermark,
                self.log.len(),
                first_gap(self.log_start, offsets)
            );
            found.push(dense(what));
        }
        let mut known: BTreeMap<Offset, (Value, &str)> = BTreeMap::new();
        for (offset, value) in &self.log {
            known.insert(*offset, (*value, "the log in the end"));
        }
        for read in &self.reads {
            for pair in read.records.windows(2) {
                if pair[1].0 != pair[0].0.advance(1) {
                    let what = format!("{} read {} after {}", read.name, pair[1].0, pair[0].0);
                    found.push(dense(what));
                }
            }
            for (offset, value) in &read.records {
                let (other, whose) = *known.entry(*offset).or_insert((*value, &read.name));
                if other != *value {
                    let what = format!(
                        "at {offset} {} read {value:#x}, and {whose} has {other:#x}",
                        read.name
                    );
                    found.push(dense(what));
                }
            }
        }
        found
    }

    /// I5: a batch is in the log at most once and in one piece, one that was refused is not, and whoever was given an
    /// offset for it was given that one.
    pub fn batches_are_stored_once(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        let once = |what| self.violation(Invariant::RetriesAreStoredOnce, what);
        let mut stored: BTreeMap<Value, Vec<Offset>> = BTreeMap::new();
        for (offset, value) in self.known() {
            stored.entry(value).or_default().push(offset);
        }
        for append in &self.appends {
            let name = &append.name;
            let mut given = append.given.clone();
            given.extend(match append.outcome {
                Outcome::Told(base, _) => Some(base),
                _ => None,
            });
            given.sort_unstable();
            given.dedup();
            if given.len() > 1 {
                found.push(once(format!("{name} was given several offsets: {given:?}")));
            }
            let mut base = None;
            for (index, value) in (0..).zip(&append.values) {
                let Some(offsets) = stored.remove(value) else {
                    continue;
                };
                if offsets.len() > 1 {
                    found.push(once(format!("{name} is stored at each of {offsets:?}")));
                    break;
                }
                if matches!(append.outcome, Outcome::Refused(_)) {
                    let what = format!("{name} was refused and is stored at {offsets:?}");
                    found.push(once(what));
                    break;
                }
                let first = Offset(offsets[0].0 - index);
                if *base.get_or_insert(first) != first {
                    let what = format!("{name} is torn: record {index} is at {}", offsets[0]);
                    found.push(once(what));
                    break;
                }
            }
        }
        if let Some((value, offsets)) = stored.first_key_value() {
            found.push(once(format!(
                "nobody sent {value:#x}, which is stored at {offsets:?}"
            )));
        }
        found
    }

    /// Produce and read are linearizable: there is one order of all operations, the log's, in which none stands
    /// before one that had ended before it began.
    pub fn is_linearizable(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        let mut line: BTreeMap<(Offset, u8), Vec<Event<'_>>> = BTreeMap::new();
        let known = self.known();
        let at: BTreeMap<Value, Offset> = known.iter().map(|(offset, v)| (*v, *offset)).collect();
        for append in &self.appends {
            let stored = (0..)
                .zip(&append.values)
                .find_map(|(index, value)| at.get(value).map(|at| Offset(at.0 - index)));
            let base = match append.outcome {
                Outcome::Told(base, _) => Some(base),
                _ => stored,
            };
            if let Some(base) = base {
                let event = Event {
                    name: &append.name,
                    begun: append.begun,
                    ended: append.outcome.ended(),
                };
                line.entry((base, 1)).or_default().push(event);
            }
        }
        for read in &self.reads {
            let (name, ended) = (&read.name[..], read.ended);
            if let Some(end) = read.end {
                // It knows the end, so it stands before what begins there.
                let begun = read.begun;
                let event = Event { name, begun, ended };
                line.entry((end, 0)).or_default().push(event);
            }
            if let Some((last, _)) = read.records.last() {
                // It stands somewhere behind what it found, so nothing can be said to have come before it.
                let event = Event {
                    name,
                    begun: 0,
                    ended,
                };
                line.entry((last.advance(1), 0)).or_default().push(event);
            }
        }
        // From the front: nothing may have ended before something that stands ahead of it began.
        let mut latest: Option<Event<'_>> = None;
        for events in line.values() {
            let inverted = latest.and_then(|ahead| {
                let event = events.iter().find(|event| event.ended < ahead.begun)?;
                Some((ahead, event))
            });
            if let Some((ahead, event)) = inverted {
                let what = format!(
                    "{} had ended ({}) before {} began ({}), and stands behind it",
                    event.name, event.ended, ahead.name, ahead.begun
                );
                found.push(self.violation(Invariant::AcknowledgedStays, what));
                // The first inversion makes others.
                break;
            }
            latest = events
                .iter()
                .copied()
                .chain(latest)
                .max_by_key(|event| event.begun);
        }
        found
    }
}

/// An operation in the line of all.
#[derive(Clone, Copy)]
struct Event<'a> {
    name: &'a str,
    begun: Moment,
    ended: Moment,
}

fn places(base: Offset, values: &[Value]) -> impl Iterator<Item = (Offset, Value)> {
    (0..)
        .zip(values)
        .map(move |(index, value)| (base.advance(index), *value))
}

fn shown(value: Option<&Value>) -> String {
    value.map_or("nothing".to_owned(), |value| format!("{value:#x}"))
}

fn first_gap(log_start: Offset, offsets: impl Iterator<Item = Offset>) -> String {
    let mut next = log_start;
    for offset in offsets {
        if offset != next {
            return format!("{offset} follows where {next} is due");
        }
        next = next.advance(1);
    }
    format!("it ends before {next}")
}

/// A write of a register or a read of it.
#[derive(Clone, Debug)]
pub struct Access<T> {
    /// Who, for people.
    pub name: String,
    /// What is written or was read. Every write is of another value.
    pub value: T,
    /// When it began.
    pub begun: Moment,
    /// When it ended; [`Moment::MAX`] for a write of unknown outcome.
    pub ended: Moment,
}

/// Whether the reads and writes of a register are linearizable. Its first value is `first`, which nobody writes.
///
/// Every write with the reads of its value is a cluster. A cluster whose first end lies before its last beginning
/// holds the register from the one to the other; no two of those may overlap, and no other cluster may lie wholly
/// within one (Gibbons and Korach).
pub fn register_is_linearizable<T: Ord + std::fmt::Debug + Clone>(
    first: T,
    writes: &[Access<T>],
    reads: &[Access<T>],
) -> Result<(), String> {
    // Per value: the beginning of its write, the first end, the last beginning.
    let mut clusters: BTreeMap<T, (Moment, Moment, Moment)> = BTreeMap::new();
    clusters.insert(first, (0, 0, 0));
    for write in writes {
        clusters.insert(write.value.clone(), (write.begun, write.ended, write.begun));
    }
    for read in reads {
        let (name, value) = (&read.name, &read.value);
        let Some((written, ended, begun)) = clusters.get_mut(value) else {
            return Err(format!("{name} found {value:?}, which nobody wrote"));
        };
        if read.ended < *written {
            return Err(format!("{name} found {value:?} before it was written"));
        }
        *ended = (*ended).min(read.ended);
        *begun = (*begun).max(read.begun);
    }
    let zone = |(value, (_, ended, begun)): (&T, &(Moment, Moment, Moment))| {
        (*ended.min(begun), *ended.max(begun), value.clone())
    };
    let (holding, open): (Vec<_>, Vec<_>) = clusters
        .iter()
        .partition(|(_, (_, ended, begun))| ended < begun);
    let mut holding: Vec<_> = holding.into_iter().map(zone).collect();
    holding.sort();
    for pair in holding.windows(2) {
        if pair[1].0 < pair[0].1 {
            return Err(format!(
                "{:?} and {:?} were both found in turns",
                pair[0].2, pair[1].2
            ));
        }
    }
    for (from, to, value) in open.into_iter().map(zone) {
        let around = holding
            .iter()
            .find(|(begin, end, _)| *begin < from && to < *end);
        if let Some((.., other)) = around {
            return Err(format!(
                "{value:?} came and went while {other:?} was found before and after it"
            ));
        }
    }
    Ok(())
}

/// The state of a node at a seq, as a digest of its bytes.
#[derive(Clone, Debug)]
pub struct StateSeen {
    /// Which node, for people.
    pub node: String,
    /// The seq.
    pub seq: Seq,
    /// The digest.
    pub digest: u64,
}

/// I3: whoever has been at a seq has had the same state there.
pub fn states_are_equal<'a>(seen: impl IntoIterator<Item = &'a StateSeen>) -> Vec<Violation> {
    let mut first: BTreeMap<Seq, &StateSeen> = BTreeMap::new();
    let mut found = Vec::new();
    for state in seen {
        let known = *first.entry(state.seq).or_insert(state);
        if known.digest != state.digest {
            let what = format!(
                "at {} the state of {} differs from that of {}",
                state.seq, state.node, known.node
            );
            found.push(Violation {
                invariant: Invariant::StatesAreEqual,
                what,
            });
        }
    }
    found
}

/// A member was told what it owns.
#[derive(Clone, Debug)]
pub struct Ownership {
    /// The member.
    pub member: MemberId,
    /// The generation.
    pub generation: Generation,
    /// The partitions.
    pub partitions: Vec<u32>,
    /// When it was told.
    pub told: Moment,
}

/// A member committed an offset.
#[derive(Clone, Debug)]
pub struct OffsetCommit {
    /// The member.
    pub member: MemberId,
    /// The generation that it believed in.
    pub generation: Generation,
    /// The partition.
    pub partition: u32,
    /// Which commit: no two are the same.
    pub value: Value,
    /// When it was sent.
    pub begun: Moment,
    /// What became of it.
    pub outcome: Outcome<()>,
}

/// All that happened to one group.
#[derive(Clone, Debug, Default)]
pub struct GroupHistory {
    /// The group, for people.
    pub name: String,
    /// What members were told that they own.
    pub owned: Vec<Ownership>,
    /// What they committed.
    pub commits: Vec<OffsetCommit>,
    /// Which commits were found: by whom, of which partition.
    pub found: Vec<(u32, Access<Option<Value>>)>,
}

impl GroupHistory {
    /// I6, and that committed offsets are linearizable registers.
    pub fn violations(&self) -> Vec<Violation> {
        let mut found = self.one_owner_per_generation();
        found.extend(self.stale_generations_are_fenced());
        found.extend(self.generations_move_on());
        found.extend(self.offsets_are_linearizable());
        found
    }

    fn violation(&self, invariant: Invariant, what: &str) -> Violation {
        let what = format!("group {}: {what}", self.name);
        Violation { invariant, what }
    }

    /// I6: in one generation a partition has one owner.
    pub fn one_owner_per_generation(&self) -> Vec<Violation> {
        let mut owners: BTreeMap<(Generation, u32), &MemberId> = BTreeMap::new();
        let mut found = Vec::new();
        for owned in &self.owned {
            for partition in &owned.partitions {
                let owner = *owners
                    .entry((owned.generation, *partition))
                    .or_insert(&owned.member);
                if *owner != owned.member {
                    let what = format!(
                        "in generation {} partition {partition} belongs to {owner} and to {}",
                        owned.generation, owned.member
                    );
                    found.push(self.violation(Invariant::OneOwnerPerGeneration, &what));
                }
            }
        }
        found
    }

    /// I6: once a member was told of a generation, nobody commits in one before it.
    pub fn stale_generations_are_fenced(&self) -> Vec<Violation> {
        let newest = |at: Moment| {
            let told = self.owned.iter().filter(|owned| owned.told < at);
            told.map(|owned| owned.generation).max()
        };
        let stale = self.commits.iter().filter_map(|commit| {
            let Outcome::Told((), _) = commit.outcome else {
                return None;
            };
            let newest = newest(commit.begun).filter(|newest| *newest > commit.generation)?;
            let what = format!(
                "{} committed in generation {} after somebody was told of {newest}",
                commit.member, commit.generation
            );
            Some(self.violation(Invariant::OneOwnerPerGeneration, &what))
        });
        stale.collect()
    }

    /// I6: once the commit of a generation was found, none of an earlier one takes its place.
    pub fn generations_move_on(&self) -> Vec<Violation> {
        let generations: BTreeMap<(u32, Value), Generation> = self
            .commits
            .iter()
            .map(|commit| ((commit.partition, commit.value), commit.generation))
            .collect();
        let found = self.found.iter().filter_map(|(partition, access)| {
            let generation = generations.get(&(*partition, access.value?))?;
            Some((*partition, *generation, access))
        });
        let found: Vec<_> = found.collect();
        let back = found.iter().filter_map(|(partition, generation, access)| {
            let newer = found.iter().find(|(other, newer, before)| {
                other == partition && before.ended < access.begun && newer > generation
            })?;
            let what = format!(
                "{} found a commit of generation {generation} on partition {partition}, where {} had found one of {}",
                access.name, newer.2.name, newer.1
            );
            Some(self.violation(Invariant::OneOwnerPerGeneration, &what))
        });
        back.collect()
    }

    /// The committed offset of a partition is one register.
    pub fn offsets_are_linearizable(&self) -> Vec<Violation> {
        let mut writes: BTreeMap<u32, Vec<Access<Option<Value>>>> = BTreeMap::new();
        for commit in &self.commits {
            if !matches!(commit.outcome, Outcome::Refused(_)) {
                let (begun, ended) = (commit.begun, commit.outcome.ended());
                writes.entry(commit.partition).or_default().push(Access {
                    name: commit.member.to_string(),
                    value: Some(commit.value),
                    begun,
                    ended,
                });
            }
        }
        let mut reads: BTreeMap<u32, Vec<Access<Option<Value>>>> = BTreeMap::new();
        for (partition, access) in &self.found {
            reads.entry(*partition).or_default().push(access.clone());
        }
        let mut found = Vec::new();
        for (partition, reads) in reads {
            let writes = writes.remove(&partition).unwrap_or_default();
            if let Err(why) = register_is_linearizable(None, &writes, &reads) {
                let what = format!("the committed offset of partition {partition}: {why}");
                found.push(self.violation(Invariant::AcknowledgedStays, &what));
            }
        }
        found
    }
}

/// What happened to a topic of which the name is used once.
#[derive(Clone, Debug, Default)]
pub struct TopicHistory {
    /// Its name.
    pub name: String,
    /// When its creation began and ended ([`Moment::MAX`] if that is unknown).
    pub created: Option<(Moment, Moment)>,
    /// The same of its deletion.
    pub deleted: Option<(Moment, Moment)>,
    /// Who looked for it, and whether it was there.
    pub seen: Vec<Access<bool>>,
}

impl TopicHistory {
    /// A topic is there for everybody from its creation to its deletion.
    pub fn violations(&self) -> Vec<Violation> {
        let never = (Moment::MAX, Moment::MAX);
        let (created, deleted) = (self.created.unwrap_or(never), self.deleted.unwrap_or(never));
        // Whoever saw it proves that it had been created by then.
        let sight = self.seen.iter().filter(|seen| seen.value);
        let proof = sight.map(|seen| seen.ended).min().unwrap_or(Moment::MAX);
        let proof = proof.min(created.1);
        let absence = self.seen.iter().filter(|seen| !seen.value);
        let gone = absence
            .filter(|seen| seen.begun > proof)
            .map(|seen| seen.ended)
            .min();
        let gone = gone.unwrap_or(Moment::MAX).min(deleted.1);
        let wrong = self.seen.iter().filter_map(|seen| {
            let what = match seen.value {
                true if seen.ended < created.0 => "was there before anybody created it",
                true if seen.begun > gone => "was there after it was gone",
                false if seen.begun > proof && seen.ended < deleted.0 => {
                    "was gone before anybody deleted it"
                }
                _ => return None,
            };
            Some(Violation {
                invariant: Invariant::AcknowledgedStays,
                what: format!("topic {} {what}, as {} found", self.name, seen.name),
            })
        });
        wrong.collect()
    }
}
