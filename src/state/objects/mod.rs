//! Which objects hold records, and which held some once: what deleting goes by.
//!
//! An object is *live* while a slice lies in it. When the last one goes (deleted, expired, replaced) it is *dead*
//! from that moment of the fold's time: no new reader will ask for it, but one with an older state still may, so it is
//! deleted only when it has been dead for a while. Once dead, a segment never lives again: the fold refuses whatever
//! refers to it; a commit may, while it is being folded: ops of one object append to a partition, delete all of it, and
//! append again. So that this holds for an object whose deletion is done, too, a dead segment stays on the books until
//! the sweep boundary has passed the time of its minting: from then on its age alone is refused.
//!
//! Durable: the dead objects and the sweep boundary. Derived from the slices of all partitions: how many lie in each
//! object. Derived from the dead objects: in which order the sweep boundary passes those that are deleted.

pub(super) mod rules;

#[cfg(test)]
mod tests;

use imbl::{OrdMap, OrdSet};
use minicbor::{Decode, Encode};
use serde::Serialize;

use super::State;
use super::codec::map;
use super::log::{Feature, Level};
use crate::rules::{Rule, holds};
use crate::types::{SegmentId, Seq, Timestamp};

/// An object that holds record batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize)]
pub enum ObjectRef {
    /// The commit of this seq, in its data section.
    #[n(0)]
    Commit(#[n(0)] Seq),
    /// A segment.
    #[n(1)]
    Segment(#[n(0)] SegmentId),
}

/// The objects that hold records or held some.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode, Serialize)]
#[cbor(array)]
pub(super) struct Objects {
    #[cbor(n(0), with = "map")]
    dead: OrdMap<ObjectRef, Dead>,
    /// Segments minted before are refused. Only ever raised.
    #[n(1)]
    sweep_boundary: Timestamp,
    /// How many slices lie in each. Derived from the partitions.
    #[cbor(skip)]
    #[serde(skip)]
    live: OrdMap<ObjectRef, u32>,
    /// The deleted ones of the dead, in the order in which sweep boundaries pass them. Derived from `dead`.
    #[cbor(skip)]
    #[serde(skip)]
    deleted: OrdSet<(Option<Timestamp>, ObjectRef)>,
    #[cbor(skip)]
    #[serde(skip)]
    now: Now,
}

/// Where the fold is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Now {
    /// The commit that is being folded.
    pub(super) seq: Seq,
    /// The time in the fold.
    pub(super) time: Timestamp,
    /// The rules in force.
    pub(super) level: Level,
}

/// An object in which no slice lies any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Dead {
    /// Since when, in the fold's time.
    #[n(0)]
    pub since: Timestamp,
    /// Whether it is deleted from the bucket.
    #[n(1)]
    pub deleted: bool,
    /// The commit that let go of its last slice.
    #[n(2)]
    pub seq: Seq,
}

impl Objects {
    pub(super) fn live(&self) -> &OrdMap<ObjectRef, u32> {
        &self.live
    }

    pub(super) fn dead(&self) -> &OrdMap<ObjectRef, Dead> {
        &self.dead
    }

    pub(super) fn sweep_boundary(&self) -> Timestamp {
        self.sweep_boundary
    }

    /// Says where the fold is.
    pub(super) fn at(&mut self, now: Now) {
        self.now = now;
    }

    /// Whether an op may place slices in this segment.
    pub(super) fn admits(&self, segment: SegmentId) -> bool {
        let is_dead = self.dead.contains_key(&ObjectRef::Segment(segment));
        let is_swept = segment.minted() < self.sweep_boundary;
        let is_refused = is_dead && holds(Rule::DeadSegmentsStayDead)
            || is_swept && holds(Rule::SweptSegmentsAreRefused);
        !is_refused
    }

    /// Counts a slice in `object`. Of what is put into an object, only the one that is being folded can be dead: all
    /// that an earlier op of the same object put there may be deleted already.
    pub(super) fn acquire(&mut self, object: ObjectRef) {
        *self.live.entry(object).or_default() += 1;
        let revives = Feature::LiveObjectsAreNotDead.since() <= self.now.level;
        if revives && holds(Rule::AppendsReviveCommits) {
            self.forget(object);
        }
    }

    /// Takes from the dead those that are alive, as acquiring them did not always do.
    pub(super) fn revive(&mut self) {
        let alive: Vec<ObjectRef> = self
            .dead
            .keys()
            .copied()
            .filter(|object| self.live.contains_key(object))
            .collect();
        for object in alive {
            self.forget(object);
        }
    }

    /// Discounts a slice in `object`, which is dead if it was the last one.
    pub(super) fn release(&mut self, object: ObjectRef) {
        let Some(slices) = self.live.get_mut(&object) else {
            return;
        };
        *slices = slices.saturating_sub(1);
        if *slices == 0 || !holds(Rule::ObjectsDieWithLastSlice) {
            self.live.remove(&object);
            let Now { seq, time, .. } = self.now;
            let dead = Dead {
                since: time,
                deleted: false,
                seq,
            };
            if let Some(before) = self.dead.insert(object, dead) {
                self.leave_index(object, before);
            }
        }
    }

    /// Notes that a dead object is deleted. What is not dead, or not known, is left as it is.
    pub(super) fn note_deleted(&mut self, object: ObjectRef) {
        let Some(dead) = self.dead.get_mut(&object) else {
            return;
        };
        dead.deleted = true;
        if self.is_past(object) || !holds(Rule::DeadSegmentsAreRemembered) {
            self.forget(object);
        } else {
            self.deleted.insert((past_from(object), object));
        }
    }

    /// Raises the sweep boundary; forgets the deleted segments that it has passed.
    pub(super) fn raise_sweep_boundary(&mut self, before: Timestamp) {
        self.sweep_boundary = match holds(Rule::SweepBoundaryOnlyRises) {
            true => self.sweep_boundary.max(before),
            false => before,
        };
        while let Some((past_from, object)) = self.deleted.get_min().copied()
            && past_from < Some(self.sweep_boundary)
        {
            self.forget(object);
        }
    }

    /// Enters the deleted ones of the dead, which were read from a snapshot, in the index.
    pub(super) fn index(&mut self) {
        let deleted = self.dead.iter().filter(|(_, dead)| dead.deleted);
        self.deleted = deleted
            .map(|(object, _)| (past_from(*object), *object))
            .collect();
    }

    /// Takes an object from the dead, if it is among them.
    fn forget(&mut self, object: ObjectRef) {
        if let Some(dead) = self.dead.remove(&object) {
            self.leave_index(object, dead);
        }
    }

    /// What is found by the index is not dead any more, or is dead again.
    fn leave_index(&mut self, object: ObjectRef, dead: Dead) {
        if dead.deleted {
            self.deleted.remove(&(past_from(object), object));
        }
    }

    /// Whether nothing can refer to `object` again, whatever is said of it here: only the commit itself ever refers
    /// to the records in it, and a segment of before the sweep boundary is refused.
    fn is_past(&self, object: ObjectRef) -> bool {
        past_from(object) < Some(self.sweep_boundary)
    }
}

/// What a sweep boundary must be above to be past `object`; nothing, if any is.
fn past_from(object: ObjectRef) -> Option<Timestamp> {
    match object {
        ObjectRef::Commit(_) => None,
        ObjectRef::Segment(segment) => Some(segment.minted()),
    }
}

impl State {
    /// The objects in which slices lie, in the order of their names, each with how many.
    pub fn live_objects(&self) -> impl Iterator<Item = (ObjectRef, u32)> {
        self.objects
            .live()
            .iter()
            .map(|(object, slices)| (*object, *slices))
    }

    /// Whether a slice lies in the object.
    pub fn is_live(&self, object: ObjectRef) -> bool {
        self.objects.live().contains_key(&object)
    }

    /// The objects in which no slice lies any more. They may be deleted when nobody can be reading them, the commits
    /// among them no sooner than the log boundary is beyond them.
    pub fn dead_objects(&self) -> impl Iterator<Item = (ObjectRef, Dead)> {
        self.objects
            .dead()
            .iter()
            .map(|(object, dead)| (*object, *dead))
    }

    /// Since when no slice lies in the object any more, if that is known of it.
    pub fn death_of(&self, object: ObjectRef) -> Option<Dead> {
        self.objects.dead().get(&object).copied()
    }

    /// Segments that were minted before are refused: those that no slice lies in are orphans.
    pub fn sweep_boundary(&self) -> Timestamp {
        self.objects.sweep_boundary()
    }
}
