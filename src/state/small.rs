//! A map that takes little memory while it is small.
//!
//! Most partitions have a slice or two and one producer. A leaf of an `imbl::OrdMap` has space for sixteen entries,
//! which is 1.5 KB for one slice. So up to [`FEW`] entries are kept in a vector of exactly their size, in key order,
//! and more in an `OrdMap`. Which of the two it is follows from the history of the map and is no part of its value:
//! equality, order and the encoded bytes are those of the entries alone (I3).
//!
//! The vector is copied when the map is cloned, which a partition is when it is changed while a published state shares
//! it; that is no more than the leaf that would be copied otherwise.

use std::fmt;
use std::ops::{Bound, RangeBounds};

use imbl::OrdMap;
use minicbor::decode::{self, Decoder};
use minicbor::encode::{self, Encoder, Write};
use minicbor::{Decode, Encode};
use serde::{Serialize, Serializer};

/// The most entries in a vector.
const FEW: usize = 8;

/// When an `OrdMap` has shrunk to so many entries it becomes a vector again: fewer than [`FEW`], so that one entry that
/// comes and goes does not convert it each time.
const FEW_AGAIN: usize = 4;

/// A map in key order.
#[derive(Clone)]
pub(super) struct SmallMap<K, V>(Entries<K, V>);

#[derive(Clone)]
enum Entries<K, V> {
    Few(Vec<(K, V)>),
    Many(OrdMap<K, V>),
}

impl<K: Ord + Clone, V: Clone> SmallMap<K, V> {
    pub(super) fn len(&self) -> usize {
        match &self.0 {
            Entries::Few(few) => few.len(),
            Entries::Many(many) => many.len(),
        }
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        match &self.0 {
            Entries::Few(few) => find(few, key).ok().map(|index| &few[index].1),
            Entries::Many(many) => many.get(key),
        }
    }

    /// The entry with the greatest key that is not above `key`.
    pub(super) fn get_prev(&self, key: &K) -> Option<(&K, &V)> {
        match &self.0 {
            Entries::Few(few) => {
                let index = not_above(few, key).checked_sub(1)?;
                few.get(index).map(|(key, value)| (key, value))
            }
            Entries::Many(many) => many.get_prev(key),
        }
    }

    /// The same, to change.
    pub(super) fn get_prev_mut(&mut self, key: &K) -> Option<(&K, &mut V)> {
        match &mut self.0 {
            Entries::Few(few) => {
                let index = not_above(few, key).checked_sub(1)?;
                few.get_mut(index).map(|(key, value)| (&*key, value))
            }
            Entries::Many(many) => many.get_prev_mut(key),
        }
    }

    /// The entry with the least key.
    pub(super) fn get_min(&self) -> Option<(&K, &V)> {
        self.iter().next()
    }

    /// All entries, in key order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        match &self.0 {
            Entries::Few(few) => Either::Few(few.iter().map(|(key, value)| (key, value))),
            Entries::Many(many) => Either::Many(many.iter()),
        }
    }

    /// All values, in key order.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// The entries in a range of keys, in key order.
    pub(super) fn range(&self, range: impl RangeBounds<K>) -> impl Iterator<Item = (&K, &V)> {
        match &self.0 {
            Entries::Few(few) => {
                let from = match range.start_bound() {
                    Bound::Included(key) => few.partition_point(|(k, _)| k < key),
                    Bound::Excluded(key) => not_above(few, key),
                    Bound::Unbounded => 0,
                };
                let to = match range.end_bound() {
                    Bound::Included(key) => not_above(few, key),
                    Bound::Excluded(key) => few.partition_point(|(k, _)| k < key),
                    Bound::Unbounded => few.len(),
                };
                let within = few.get(from..to).unwrap_or_default();
                Either::Few(within.iter().map(|(key, value)| (key, value)))
            }
            Entries::Many(many) => Either::Many(many.range(range)),
        }
    }

    /// Puts an entry in, in the place of the one with this key.
    pub(super) fn insert(&mut self, key: K, value: V) {
        match &mut self.0 {
            Entries::Few(few) => match find(few, &key) {
                Ok(index) => few[index].1 = value,
                Err(index) if few.len() < FEW => {
                    few.reserve_exact(1);
                    few.insert(index, (key, value));
                }
                Err(_) => {
                    let mut many: OrdMap<K, V> = std::mem::take(few).into_iter().collect();
                    many.insert(key, value);
                    self.0 = Entries::Many(many);
                }
            },
            Entries::Many(many) => drop(many.insert(key, value)),
        }
    }

    /// The value of this key, put in first if there is none.
    pub(super) fn get_or_default(&mut self, key: &K) -> &mut V
    where
        V: Default,
    {
        if self.get(key).is_none() {
            self.insert(key.clone(), V::default());
        }
        match &mut self.0 {
            Entries::Few(few) => match find(few, key) {
                Ok(index) | Err(index) => &mut few[index].1,
            },
            Entries::Many(many) => many.entry(key.clone()).or_default(),
        }
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, key: &K) {
        match &mut self.0 {
            Entries::Few(few) => {
                if let Ok(index) = find(few, key) {
                    few.remove(index);
                    few.shrink_to_fit();
                }
            }
            Entries::Many(many) => {
                many.remove(key);
                if many.len() <= FEW_AGAIN {
                    let few = many.iter().map(|(key, value)| (key.clone(), value.clone()));
                    self.0 = Entries::Few(few.collect());
                }
            }
        }
    }
}

fn find<K: Ord, V>(few: &[(K, V)], key: &K) -> Result<usize, usize> {
    few.binary_search_by(|(k, _)| k.cmp(key))
}

/// How many keys are not above `key`.
fn not_above<K: Ord, V>(few: &[(K, V)], key: &K) -> usize {
    few.partition_point(|(k, _)| k <= key)
}

/// One of two iterators over the same things.
enum Either<A, B> {
    Few(A),
    Many(B),
}

impl<T, A: Iterator<Item = T>, B: Iterator<Item = T>> Iterator for Either<A, B> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        match self {
            Either::Few(few) => few.next(),
            Either::Many(many) => many.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Either::Few(few) => few.size_hint(),
            Either::Many(many) => many.size_hint(),
        }
    }
}

impl<K, V> Default for SmallMap<K, V> {
    fn default() -> SmallMap<K, V> {
        SmallMap(Entries::Few(Vec::new()))
    }
}

impl<K: Ord + Clone, V: Clone + PartialEq> PartialEq for SmallMap<K, V> {
    fn eq(&self, other: &SmallMap<K, V>) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl<K: Ord + Clone + fmt::Debug, V: Clone + fmt::Debug> fmt::Debug for SmallMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Ord + Clone, V: Clone> FromIterator<(K, V)> for SmallMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> SmallMap<K, V> {
        let mut map = SmallMap::default();
        entries
            .into_iter()
            .for_each(|(key, value)| map.insert(key, value));
        map
    }
}

impl<C, K: Encode<C> + Ord + Clone, V: Encode<C> + Clone> Encode<C> for SmallMap<K, V> {
    fn encode<W: Write>(
        &self,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        e.map(self.len() as u64)?;
        for (key, value) in self.iter() {
            key.encode(e, ctx)?;
            value.encode(e, ctx)?;
        }
        Ok(())
    }
}

impl<'b, C, K, V> Decode<'b, C> for SmallMap<K, V>
where
    K: Decode<'b, C> + Ord + Clone,
    V: Decode<'b, C> + Clone,
{
    fn decode(d: &mut Decoder<'b>, ctx: &mut C) -> Result<SmallMap<K, V>, decode::Error> {
        d.map_iter_with(ctx)?.collect()
    }
}

impl<K: Serialize + Ord + Clone, V: Serialize + Clone> Serialize for SmallMap<K, V> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Change {
        Insert(u8, u16),
        Remove(u8),
        Raise(u8),
        RaisePrev(u8),
    }

    fn change() -> impl Strategy<Value = Change> {
        let key = 0..14u8;
        prop_oneof![
            3 => (key.clone(), any::<u16>()).prop_map(|(key, value)| Change::Insert(key, value)),
            3 => key.clone().prop_map(Change::Remove),
            1 => key.clone().prop_map(Change::Raise),
            1 => key.prop_map(Change::RaisePrev),
        ]
    }

    fn pairs<'a>(entries: impl Iterator<Item = (&'a u8, &'a u16)>) -> Vec<(u8, u16)> {
        entries.map(|(key, value)| (*key, *value)).collect()
    }

    proptest! {
        #[test]
        fn it_does_what_an_ordered_map_does_and_has_its_bytes(
            changes in prop::collection::vec(change(), 0..60),
            at in 0..14u8, to in 0..14u8,
        ) {
            let (mut small, mut plain) = (SmallMap::<u8, u16>::default(), OrdMap::<u8, u16>::new());
            for change in changes {
                match change {
                    Change::Insert(key, value) => {
                        small.insert(key, value);
                        plain.insert(key, value);
                    }
                    Change::Remove(key) => {
                        small.remove(&key);
                        plain.remove(&key);
                    }
                    Change::Raise(key) => {
                        let value = small.get_or_default(&key);
                        *value = value.wrapping_add(1);
                        let value = plain.entry(key).or_default();
                        *value = value.wrapping_add(1);
                    }
                    Change::RaisePrev(key) => {
                        if let Some((_, value)) = small.get_prev_mut(&key) {
                            *value = value.wrapping_add(1);
                        }
                        if let Some((_, value)) = plain.get_prev_mut(&key) {
                            *value = value.wrapping_add(1);
                        }
                    }
                }
                prop_assert_eq!(pairs(small.iter()), pairs(plain.iter()));
                prop_assert_eq!(small.len(), plain.len());
            }
            prop_assert_eq!(small.get(&at), plain.get(&at));
            prop_assert_eq!(small.get_prev(&at), plain.get_prev(&at));
            prop_assert_eq!(small.get_min(), plain.get_min().map(|(key, value)| (key, value)));
            prop_assert_eq!(pairs(small.range(at..)), pairs(plain.range(at..)));
            if at <= to {
                prop_assert_eq!(pairs(small.range(at..to)), pairs(plain.range(at..to)));
            }
            // Its value is the entries, whatever way it came to them; and so are its bytes.
            let straight: SmallMap<u8, u16> = plain.iter().map(|(key, value)| (*key, *value)).collect();
            prop_assert_eq!(&small, &straight);
            let bytes = minicbor::to_vec(&small).unwrap();
            let mut expected = Vec::new();
            let mut encoder = Encoder::new(&mut expected);
            crate::state::codec::map::encode(&plain, &mut encoder, &mut ()).unwrap();
            prop_assert_eq!(&bytes, &expected);
            prop_assert_eq!(minicbor::decode::<SmallMap<u8, u16>>(&bytes).unwrap(), small);
        }
    }
}
