//! What is lost, as far as anybody can tell.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;

use crate::format::ObjectHeader;
use crate::invariants::at_rest::name_of;
use crate::state::op::{Applied, Commit, Op, Outcome};
use crate::state::{Folded, State};

/// Records and other changes, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// Records by partition.
    pub records: BTreeMap<String, u64>,
    /// Other ops by name.
    pub ops: BTreeMap<String, u64>,
}

impl Lost {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.ops.is_empty()
    }

    /// What can be read of a damaged commit, if its ops can be decoded in spite of the damage.
    pub(super) fn of_damaged(object: &str, bytes: &Bytes, state: &State) -> Option<Lost> {
        let head = ObjectHeader::parse(object, bytes).ok()?.head_range();
        let head = usize::try_from(head.start).ok()?..usize::try_from(head.end).ok()?;
        let commit: Commit = minicbor::decode(bytes.get(head)?).ok()?;
        Some(Lost::of(&commit, state))
    }

    /// All that a commit says.
    pub(super) fn of(commit: &Commit, state: &State) -> Lost {
        let mut lost = Lost::default();
        let forwarded = commit.forwarded.iter().flat_map(|forwarded| &forwarded.ops);
        for op in commit.ops.iter().chain(forwarded) {
            match op {
                Op::Append(append) => {
                    let records = append.entries.iter().map(|entry| u64::from(entry.records));
                    let records = records.fold(0, u64::saturating_add);
                    lost.add_records(name_of(state, append.partition), records);
                }
                // What follows it is counted.
                Op::Asked(_) => {}
                op => lost.add(op),
            }
        }
        lost
    }

    /// Notes what of a commit the fold refused.
    pub(super) fn note_refused(&mut self, ops: &[Op], folded: &Folded, state: &State) {
        let Folded::Outcomes(outcomes) = folded else {
            return;
        };
        for (op, outcome) in ops.iter().zip(outcomes) {
            match (op, outcome) {
                (Op::Append(append), Ok(Applied::Appended(entries))) => {
                    let refused = append.entries.iter().zip(entries);
                    let refused = refused.filter(|(_, appended)| appended.is_err());
                    let records = refused.map(|(entry, _)| u64::from(entry.records)).sum();
                    if records > 0 {
                        self.add_records(name_of(state, append.partition), records);
                    }
                }
                (Op::Asked(_), _) => {}
                (op, outcome) if is_refused(outcome) => self.add(op),
                _ => {}
            }
        }
    }

    fn add_records(&mut self, partition: String, records: u64) {
        let count = self.records.entry(partition).or_default();
        *count = count.saturating_add(records);
    }

    fn add(&mut self, op: &Op) {
        *self.ops.entry(name_of_op(op)).or_default() += 1;
    }
}

fn is_refused(outcome: &Outcome) -> bool {
    outcome.is_err()
}

/// The op as `weir inspect` names it, and the topic it makes.
fn name_of_op(op: &Op) -> String {
    if let Op::CreateTopic(create) = op {
        return format!("CreateTopic {}", create.name);
    }
    match serde_json::to_value(op) {
        Ok(serde_json::Value::Object(tagged)) => tagged.keys().next().cloned().unwrap_or_default(),
        Ok(serde_json::Value::String(name)) => name,
        _ => "unknown".to_owned(),
    }
}
