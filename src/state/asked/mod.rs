//! What clients ask for, and what was acknowledged since: a request does not undo what is newer than it (I12).
//!
//! A node judges a request against a state, and the commit with its ops may come into the log much later: the store was
//! away, the process was paused, a copy was handed over. Its client gave up long ago, asked another node for something
//! else, and was told that it is done. So the ops of a request stand behind an [`Asked`], which says against which state
//! they were judged ([`Asked::as_of`]) and until when, in the fold's time, they may take effect ([`Asked::until`]). The
//! fold refuses all of them
//!
//! * if anything that they overwrite, or would bring back, was changed or deleted after that state ([`State::changed`]);
//! * if their time is over. Deleting a topic, or members, overwrites what cannot be compared: records come all the time.
//!
//! Whoever still waits judges again, by the newer state; the request is then concurrent with what overtook it.
//!
//! What is remembered for it: a seq in each committed offset, in each member (since when its node vouches for it), in
//! each topic (of its settings and of its partitions), and [`Deletions`] of what is not there any more.

use imbl::OrdMap;
use minicbor::{Decode, Encode};
use serde::Serialize;

use super::codec::map;
use super::group::{Group, GroupAction, Member};
use super::op::{Applied, CreateTopic, Op, Outcome, Rejected};
use super::{Feature, State};
use crate::mutants::{self, Mutant};
use crate::types::{GroupId, Seq, Timestamp, TopicId, TopicName};

/// Says of the ops behind it that a client asked for them, against which state they were judged, and until when they may take
/// effect. The fold refuses all of them, with the same outcome as this, if what they overwrite was changed since, or if
/// it is too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Asked {
    /// How many ops.
    #[n(0)]
    pub ops: u32,
    /// The seq of a state that the node had when the request reached it, or of a newer one if it judged the request again
    /// by that while the client waited.
    #[n(1)]
    pub as_of: Seq,
    /// Until then, in the fold's time.
    #[n(2)]
    pub until: Timestamp,
}

/// How many deletions of a kind are remembered. What is older than those that are forgotten is refused, and judged again.
const MAX_DELETIONS: usize = 1024;

/// What was deleted when, of what may come back under the same name.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode, Serialize)]
#[cbor(array)]
pub(super) struct Deletions {
    #[n(0)]
    topics: Recent,
    /// Groups that were deleted, or of which offsets were.
    #[n(1)]
    groups: Recent,
}

impl Deletions {
    pub(super) fn is_empty(&self) -> bool {
        *self == Deletions::default()
    }

    pub(super) fn note_topic(&mut self, name: &TopicName, seq: Seq) {
        self.topics.note(name.as_str(), seq);
    }

    pub(super) fn note_group(&mut self, id: &GroupId, seq: Seq) {
        self.groups.note(id.as_str(), seq);
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

impl State {
    /// Judges whether the ops that a client asked for may still take effect.
    pub(super) fn judge_asked(&self, asked: &Asked, ops: &[Op]) -> Outcome {
        if mutants::on(Mutant::LateOpsAccepted) {
            return Ok(Applied::Done);
        }
        let (now, until) = (self.time, asked.until);
        if now > until {
            return Err(Rejected::Late { until, now });
        }
        let changed = ops.iter().map(|op| self.changed(op)).max();
        let changed = changed.unwrap_or_default();
        if changed > asked.as_of {
            let as_of = asked.as_of;
            return Err(Rejected::Overtaken { as_of, changed });
        }
        Ok(Applied::Done)
    }

    /// Notes what `action` has made of a group, which was `before`.
    pub(super) fn note_group_changed(
        &mut self,
        id: &GroupId,
        action: &GroupAction,
        before: &Group,
        group: &mut Group,
    ) {
        if !self.has(Feature::AskedOps) {
            return;
        }
        let seq = self.seq;
        match action {
            GroupAction::CommitOffsets(commit) => group.note_committed(commit, seq),
            GroupAction::Delete | GroupAction::DeleteOffsets { .. } => {
                self.deletions.note_group(id, seq);
            }
            _ => {}
        }
        if let Some(member) = action.vouched_for() {
            let voucher = |group: &Group| group.member(member).map(Member::voucher);
            if voucher(group) != voucher(before) {
                group.note_vouched(member, seq);
            }
        }
    }

    /// When what this op overwrites, or would bring back, was changed or deleted last. What is missing here adds and
    /// overwrites nothing, or says itself what it goes by (`docs/architecture.md` has the table).
    fn changed(&self, op: &Op) -> Seq {
        match op {
            Op::CreateTopic(CreateTopic { name, .. }) => self.deletions.topics.last(name.as_str()),
            Op::DeleteTopic { topic }
            | Op::AlterConfigs {
                topic: Some(topic), ..
            } => self.sized(*topic).max(self.altered(*topic)),
            // What was asked for by name may have been meant for the topic before.
            Op::CreatePartitions { topic, .. } => self.sized(*topic),
            Op::DeleteRecords { partition, .. } => self.sized(partition.topic),
            Op::AlterConfigs { topic: None, .. } => self.configs_altered,
            Op::Group { group, action } => self.changed_of_group(group, action),
            _ => Seq::ZERO,
        }
    }

    fn sized(&self, topic: TopicId) -> Seq {
        let topic = self.topics.get(&topic);
        topic.map(|topic| topic.sized).unwrap_or_default()
    }

    fn altered(&self, topic: TopicId) -> Seq {
        let topic = self.topics.get(&topic);
        topic.map(|topic| topic.configs_altered).unwrap_or_default()
    }

    fn changed_of_group(&self, id: &GroupId, action: &GroupAction) -> Seq {
        let group = self.group(id);
        let group = group.as_deref();
        let vouched = |member| {
            let member = group.and_then(|group| group.member(member));
            member.map(|member| member.vouched()).unwrap_or_default()
        };
        let committed = |partition| {
            let offset = group.and_then(|group| group.offset(partition));
            offset.map(|offset| offset.changed).unwrap_or_default()
        };
        match action {
            GroupAction::CommitOffsets(commit) => {
                let offsets = commit.offsets.iter();
                let changed = offsets.map(|offset| {
                    let topic = self.sized(offset.partition.topic);
                    committed(offset.partition).max(topic)
                });
                let changed = changed.max();
                changed
                    .max(commit.member.as_ref().map(vouched))
                    .unwrap_or_default()
                    .max(self.deletions.groups.last(id.as_str()))
            }
            GroupAction::DeleteOffsets { offsets } => {
                let changed = offsets.iter().map(|offset| committed(offset.partition));
                changed.max().unwrap_or_default()
            }
            GroupAction::Delete => {
                let offsets = group.into_iter().flat_map(|group| group.offsets());
                let changed = offsets.map(|(_, offset)| offset.changed);
                changed.max().unwrap_or_default()
            }
            GroupAction::Join(join) => vouched(&join.member),
            GroupAction::Sync(sync) => vouched(&sync.member),
            GroupAction::Adopt { member, .. } => vouched(member),
            // A member says once that it leaves, and the others are the fold's own to judge.
            GroupAction::Leave { .. }
            | GroupAction::ExpireMember { .. }
            | GroupAction::CompleteJoin { .. }
            | GroupAction::CompleteSync { .. }
            | GroupAction::ExpireOffsets { .. } => Seq::ZERO,
        }
    }
}
