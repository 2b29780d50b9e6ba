//! Who wrote the commits, and which was the last of each: the guard against folding one twice, and what a commit that
//! [follows](crate::state::op::Commit::follows) another is judged by.
//!
//! So many are remembered; then the one is forgotten that has been silent for longest, measured in commits. A commit
//! can come twice only from an author that is still trying to settle it, so that is safe for the guard. It is not free:
//! a commit that follows a forgotten one is void, and goes again. Hence the bound of level 2, and that no registered
//! node is forgotten there.

use imbl::{OrdMap, OrdSet};
use minicbor::decode::{self, Decoder};
use minicbor::encode::{self, Encoder, Write};
use minicbor::{Decode, Encode};
use serde::{Serialize, Serializer};

use crate::state::codec::map;
use crate::types::{CommitId, Incarnation, Seq};

/// What is remembered of one author of commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
struct Author {
    /// The counter of its last commit.
    #[n(0)]
    counter: u64,
    /// The seq of its last commit.
    #[n(1)]
    seq: Seq,
}

/// The authors that are remembered.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::state) struct Authors {
    authors: OrdMap<Incarnation, Author>,
    /// The longest silent first, of one object by incarnation. Derived.
    by_age: OrdSet<(Seq, Incarnation)>,
}

impl Authors {
    /// The counter of the last commit of `author`.
    pub(in crate::state) fn last_of(&self, author: Incarnation) -> Option<u64> {
        self.authors.get(&author).map(|last| last.counter)
    }

    /// Where the last commit of `author` stands.
    pub(in crate::state) fn seq_of(&self, author: Incarnation) -> Option<Seq> {
        self.authors.get(&author).map(|last| last.seq)
    }

    /// Notes a commit that was folded at `seq`. Beyond `max` authors the one is forgotten that has been silent for
    /// longest, of those that need not be kept.
    pub(in crate::state) fn note(
        &mut self,
        id: CommitId,
        seq: Seq,
        max: usize,
        is_kept: impl Fn(Incarnation) -> bool,
    ) {
        let (author, counter) = (id.incarnation, id.counter);
        if let Some(before) = self.authors.insert(author, Author { counter, seq }) {
            self.by_age.remove(&(before.seq, author));
        }
        self.by_age.insert((seq, author));
        if self.authors.len() > max {
            let mut by_age = self.by_age.iter();
            let oldest = by_age.find(|(_, author)| !is_kept(*author)).copied();
            if let Some(oldest) = oldest {
                self.by_age.remove(&oldest);
                self.authors.remove(&oldest.1);
            }
        }
    }
}

impl<C> Encode<C> for Authors {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        map::encode(&self.authors, e, ctx)
    }
}

impl<'b, C> Decode<'b, C> for Authors {
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<Authors, decode::Error> {
        let authors: OrdMap<Incarnation, Author> = map::decode(d, ctx)?;
        let by_age = authors.iter().map(|(author, last)| (last.seq, *author));
        let by_age = by_age.collect();
        Ok(Authors { authors, by_age })
    }
}

impl Serialize for Authors {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.authors.serialize(s)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn run(n: u128) -> Incarnation {
        Incarnation(Uuid::from_u128(n))
    }

    /// What the fold of level 1 has always done, by a look at all of them.
    fn note_by_scan(authors: &mut OrdMap<Incarnation, Author>, id: CommitId, seq: Seq, max: usize) {
        let counter = id.counter;
        authors.insert(id.incarnation, Author { counter, seq });
        if authors.len() > max {
            let oldest = authors.iter().min_by_key(|(_, author)| author.seq);
            if let Some(oldest) = oldest.map(|(incarnation, _)| *incarnation) {
                authors.remove(&oldest);
            }
        }
    }

    proptest! {
        /// Several authors have the same seq: their commits came in one object.
        #[test]
        fn the_index_forgets_whom_the_scan_forgot(
            commits in prop::collection::vec((0..12u128, any::<bool>()), 0..100),
        ) {
            let (mut indexed, mut scanned) = (Authors::default(), OrdMap::new());
            let mut seq = Seq(1);
            for (counter, (author, is_next)) in (1..).zip(commits) {
                seq = if is_next { seq.next() } else { seq };
                let id = CommitId { incarnation: run(author), counter };
                indexed.note(id, seq, 6, |_| false);
                note_by_scan(&mut scanned, id, seq, 6);
                prop_assert_eq!(&indexed.authors, &scanned);
            }
            let bytes = minicbor::to_vec(&indexed).unwrap();
            prop_assert_eq!(minicbor::decode::<Authors>(&bytes).unwrap(), indexed);
        }
    }

    #[test]
    fn who_must_be_kept_is_not_forgotten() {
        let mut authors = Authors::default();
        for n in 1..=10 {
            let id = CommitId {
                incarnation: run(n),
                counter: 1,
            };
            authors.note(id, Seq(n as u64), 4, |author| author == run(1));
        }
        let remembered: Vec<_> = (1..=10)
            .filter(|n| authors.last_of(run(*n)).is_some())
            .collect();
        assert_eq!(remembered, [1, 8, 9, 10]);
    }
}
