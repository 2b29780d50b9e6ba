//! The last offset of each key, in bounded memory.
//!
//! Keys are not kept, only the first 128 bits of their SHA-256, 24 bytes with the offset. Two keys with the same 128
//! bits would be taken for one, and the last record of one of them would be lost; so that must not happen. By chance:
//! with the four million keys that fit in the default memory, one such pair in 2^85 maps. On purpose: whoever wants two
//! keys that meet has 2^64 hashes to compute, and harms only the topic that they may write to. That is why the hash is
//! a cryptographic one. (Kafka uses MD5, for which meeting keys can be made in seconds.)

use aws_lc_rs::digest::{SHA256, digest};

use crate::types::{ByteCount, Offset};

/// Half of the hash, the other half, and the offset plus one; an empty slot is zero.
type Slot = [u64; 3];

/// How many slots of four are used at most: beyond that, looking for a free one takes long.
const MAX_USED: (usize, usize) = (3, 4);

/// The last offset of each key of a part of a log.
pub(super) struct OffsetMap {
    slots: Vec<Slot>,
    len: usize,
    most: usize,
}

impl OffsetMap {
    /// An empty map for at most `records` keys that takes at most `memory`, but has space for one key.
    pub(super) fn new(memory: ByteCount, records: u64) -> OffsetMap {
        let (used, of) = MAX_USED;
        let slot = size_of::<Slot>();
        let fitting = usize::try_from(memory.0).unwrap_or(usize::MAX) / slot;
        let records = usize::try_from(records).unwrap_or(usize::MAX);
        let wanted = (records / used).saturating_mul(of).saturating_add(of);
        let slots = fitting.min(wanted).max(2);
        OffsetMap {
            slots: vec![[0; 3]; slots],
            len: 0,
            most: (slots / of * used).max(1),
        }
    }

    /// Notes that the last record of `key`, so far, is at `offset`. Offsets come in ascending order. False if there is
    /// no space for another key.
    #[must_use]
    pub(super) fn insert(&mut self, key: &[u8], offset: Offset) -> bool {
        let (hash, at) = self.find(key);
        let full = self.len == self.most;
        let Some(slot) = self.slots.get_mut(at) else {
            return false;
        };
        if slot[2] == 0 {
            if full {
                return false;
            }
            self.len += 1;
        }
        *slot = [hash[0], hash[1], offset.0.unsigned_abs().saturating_add(1)];
        true
    }

    /// The offset of the last record of `key`, if it has one here.
    pub(super) fn last(&self, key: &[u8]) -> Option<Offset> {
        let (_, at) = self.find(key);
        let stored = self.slots.get(at)?[2].checked_sub(1)?;
        i64::try_from(stored).ok().map(Offset)
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The hash of a key and the slot that has it, or else the empty one where it belongs. There always is one.
    fn find(&self, key: &[u8]) -> ([u64; 2], usize) {
        let hash = hash(key);
        let slots = self.slots.len();
        // The hash times the number of slots, without its lower half: evenly spread over them.
        let mut at = ((u128::from(hash[0]) * slots as u128) >> 64) as usize;
        loop {
            match self.slots.get(at) {
                Some([a, b, offset]) if *offset != 0 && [*a, *b] != hash => at += 1,
                Some(_) => return (hash, at),
                None => at = 0,
            }
        }
    }
}

fn hash(key: &[u8]) -> [u64; 2] {
    let hash = digest(&SHA256, key);
    let half = |at: usize| {
        let bytes = hash.as_ref().get(at..at + 8).unwrap_or_default();
        bytes
            .iter()
            .fold(0, |all, byte| all << 8 | u64::from(*byte))
    };
    [half(0), half(8)]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map(keys in proptest::collection::vec(proptest::collection::vec(0..4_u8, 0..4), 0..300)) {
            let mut map = OffsetMap::new(ByteCount::kib(64), keys.len() as u64);
            let mut model = BTreeMap::new();
            for (offset, key) in (0..).zip(&keys) {
                prop_assert!(map.insert(key, Offset(offset)));
                model.insert(key.clone(), Offset(offset));
            }
            prop_assert_eq!(map.len(), model.len());
            for (key, offset) in model {
                prop_assert_eq!(map.last(&key), Some(offset));
            }
            prop_assert_eq!(map.last(b"no such key"), None);
        }
    }

    #[test]
    fn a_full_map_takes_no_further_key_but_still_those_it_has() {
        let memory = ByteCount(24 * 100);
        let mut map = OffsetMap::new(memory, u64::MAX);
        assert_eq!(map.slots.capacity() * size_of::<Slot>(), 2400);
        for key in 0..75_i64 {
            assert!(map.insert(&key.to_be_bytes(), Offset(key)));
        }
        assert!(!map.insert(b"another", Offset(75)));
        assert_eq!(map.last(b"another"), None);
        assert!(map.insert(&3_i64.to_be_bytes(), Offset(76)));
        assert_eq!(map.last(&3_i64.to_be_bytes()), Some(Offset(76)));
        assert_eq!(map.last(&4_i64.to_be_bytes()), Some(Offset(4)));
    }

    #[test]
    fn a_map_is_no_larger_than_its_records_need_and_has_room_for_all_of_them() {
        for records in [0, 1, 2, 3, 10, 1000] {
            let mut map = OffsetMap::new(ByteCount::mib(128), records);
            assert!(map.slots.len() as u64 <= records / 3 * 4 + 4);
            for key in 0..records {
                assert!(map.insert(&key.to_be_bytes(), Offset(1)));
            }
        }
        let mut least = OffsetMap::new(ByteCount::ZERO, 5);
        assert!(least.insert(b"a", Offset(0)));
        assert!(!least.insert(b"b", Offset(1)));
        assert_eq!(least.last(b"b"), None);
    }

    #[test]
    fn the_empty_key_is_a_key() {
        let mut map = OffsetMap::new(ByteCount::mib(1), 10);
        assert_eq!(map.last(b""), None);
        assert!(map.insert(b"", Offset(0)));
        assert_eq!(map.last(b""), Some(Offset(0)));
    }
}
