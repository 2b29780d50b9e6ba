//! The last commit of each incarnation: the guard against folding one twice, and how a commit that
//! [follows](crate::state::op::Commit::follows) another is judged.
//!
//! Only so many incarnations are remembered; then the one is forgotten that has been silent for longest, measured in
//! commits. A commit can come twice only from an incarnation that is still resolving what became of it, so forgetting
//! is safe for the guard. It is not free: a commit that follows a forgotten one is void, and is sent again. Hence the
//! larger bound of level 2, at which no registered node is forgotten.

use imbl::{OrdMap, OrdSet};
use minicbor::decode::{self, Decoder};
use minicbor::encode::{self, Encoder, Write};
use minicbor::{Decode, Encode};
use serde::{Serialize, Serializer};

use crate::state::codec::map;
use crate::types::{CommitId, Incarnation, Seq};

/// The last commit of an incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
struct LastCommit {
    /// Its counter.
    #[n(0)]
    counter: u64,
    /// The seq of the object that it stands in.
    #[n(1)]
    seq: Seq,
}

/// The incarnations that are remembered, each with its last commit.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::state) struct LastCommits {
    last: OrdMap<Incarnation, LastCommit>,
    /// The longest silent first, of one object by incarnation. Derived.
    by_age: OrdSet<(Seq, Incarnation)>,
}

impl LastCommits {
    /// The counter of the last commit of `incarnation`.
    pub(in crate::state) fn last_of(&self, incarnation: Incarnation) -> Option<u64> {
        self.last.get(&incarnation).map(|last| last.counter)
    }

    /// Where the last commit of `incarnation` stands.
    pub(in crate::state) fn seq_of(&self, incarnation: Incarnation) -> Option<Seq> {
        self.last.get(&incarnation).map(|last| last.seq)
    }

    /// Notes a commit that was folded at `seq`. Beyond `max` incarnations the one is forgotten that has been silent for
    /// longest, of those that need not be kept.
    pub(in crate::state) fn note(
        &mut self,
        id: CommitId,
        seq: Seq,
        max: usize,
        is_kept: impl Fn(Incarnation) -> bool,
    ) {
        let (incarnation, counter) = (id.incarnation, id.counter);
        if let Some(before) = self.last.insert(incarnation, LastCommit { counter, seq }) {
            self.by_age.remove(&(before.seq, incarnation));
        }
        self.by_age.insert((seq, incarnation));
        if self.last.len() > max {
            let mut by_age = self.by_age.iter();
            let oldest = by_age
                .find(|(_, incarnation)| !is_kept(*incarnation))
                .copied();
            if let Some(oldest) = oldest {
                self.by_age.remove(&oldest);
                self.last.remove(&oldest.1);
            }
        }
    }
}

impl<C> Encode<C> for LastCommits {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        map::encode(&self.last, e, ctx)
    }
}

impl<'b, C> Decode<'b, C> for LastCommits {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<LastCommits, decode::Error> {
        let last: OrdMap<Incarnation, LastCommit> = map::decode(d, ctx)?;
        let by_age = last
            .iter()
            .map(|(incarnation, commit)| (commit.seq, *incarnation));
        let by_age = by_age.collect();
        Ok(LastCommits { last, by_age })
    }
}

impl Serialize for LastCommits {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.last.serialize(s)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn nth(n: u128) -> Incarnation {
        Incarnation(Uuid::from_u128(n))
    }

    /// What the fold of level 1 has always done, by a look at all of them.
    fn note_by_scan(
        commits: &mut OrdMap<Incarnation, LastCommit>,
        id: CommitId,
        seq: Seq,
        max: usize,
    ) {
        let counter = id.counter;
        commits.insert(id.incarnation, LastCommit { counter, seq });
        if commits.len() > max {
            let oldest = commits.iter().min_by_key(|(_, last)| last.seq);
            if let Some(oldest) = oldest.map(|(incarnation, _)| *incarnation) {
                commits.remove(&oldest);
            }
        }
    }

    proptest! {
        /// Several incarnations have the same seq: their commits came in one object.
        #[test]
        fn the_index_forgets_whom_the_scan_forgot(
            commits in prop::collection::vec((0..12u128, any::<bool>()), 0..100),
        ) {
            let (mut indexed, mut scanned) = (LastCommits::default(), OrdMap::new());
            let mut seq = Seq(1);
            for (counter, (n, is_next)) in (1..).zip(commits) {
                seq = if is_next { seq.next() } else { seq };
                let id = CommitId { incarnation: nth(n), counter };
                indexed.note(id, seq, 6, |_| false);
                note_by_scan(&mut scanned, id, seq, 6);
                prop_assert_eq!(&indexed.last, &scanned);
            }
            let bytes = minicbor::to_vec(&indexed).unwrap();
            prop_assert_eq!(minicbor::decode::<LastCommits>(&bytes).unwrap(), indexed);
        }
    }

    #[test]
    fn who_must_be_kept_is_not_forgotten() {
        let mut commits = LastCommits::default();
        for n in 1..=10 {
            let id = CommitId {
                incarnation: nth(n),
                counter: 1,
            };
            commits.note(id, Seq(n as u64), 4, |incarnation| incarnation == nth(1));
        }
        let remembered: Vec<_> = (1..=10)
            .filter(|n| commits.last_of(nth(*n)).is_some())
            .collect();
        assert_eq!(remembered, [1, 8, 9, 10]);
    }
}
