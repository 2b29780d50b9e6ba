//! What was deleted lately, of what may come back under the same name.

use imbl::OrdMap;
use minicbor::{Decode, Encode};
use serde::Serialize;

use crate::state::codec::map;
use crate::types::{GroupId, Seq, TopicName};

/// How many deletions of a kind are remembered. What is older than those that are forgotten is refused, and judged
/// again.
const MAX_DELETIONS: usize = 1024;

/// What was deleted when, of what may come back under the same name.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode, Serialize)]
#[cbor(array)]
pub(in crate::state) struct Deletions {
    #[n(0)]
    topics: Recent,
    /// Groups that were deleted, or of which offsets were.
    #[n(1)]
    groups: Recent,
}

impl Deletions {
    pub(in crate::state) fn is_empty(&self) -> bool {
        *self == Deletions::default()
    }

    pub(in crate::state) fn note_topic(&mut self, name: &TopicName, seq: Seq) {
        self.topics.note(name.as_str(), seq);
    }

    pub(in crate::state) fn note_group(&mut self, id: &GroupId, seq: Seq) {
        self.groups.note(id.as_str(), seq);
    }

    /// When a topic of this name may have been deleted last.
    pub(in crate::state) fn last_of_topic(&self, name: &TopicName) -> Seq {
        self.topics.last(name.as_str())
    }

    /// When this group, or offsets of it, may have been deleted last.
    pub(in crate::state) fn last_of_group(&self, id: &GroupId) -> Seq {
        self.groups.last(id.as_str())
    }
}

/// The newest deletions, by name.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode, Serialize)]
#[cbor(array)]
struct Recent {
    #[cbor(n(0), with = "map")]
    deleted: OrdMap<String, Seq>,
    /// The last of those that are forgotten.
    #[n(1)]
    forgotten: Seq,
}

impl Recent {
    fn note(&mut self, name: &str, seq: Seq) {
        self.deleted.insert(name.to_owned(), seq);
        if self.deleted.len() > MAX_DELETIONS {
            self.forget_older_half();
        }
    }

    /// Half of them at once, so that one deletion costs little. All that were deleted in one commit are forgotten
    /// together.
    fn forget_older_half(&mut self) {
        let mut seqs: Vec<Seq> = self.deleted.values().copied().collect();
        seqs.sort_unstable();
        if let Some(middle) = seqs.get(seqs.len() / 2) {
            self.forgotten = self.forgotten.max(*middle);
            let kept = self.deleted.iter().filter(|(_, seq)| *seq > middle);
            self.deleted = kept.map(|(name, seq)| (name.clone(), *seq)).collect();
        }
    }

    /// When this may have been deleted last.
    fn last(&self, name: &str) -> Seq {
        let known = self.deleted.get(name).copied();
        known.unwrap_or_default().max(self.forgotten)
    }
}
