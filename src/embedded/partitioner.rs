//! Which partition a record goes to, as Kafka's own producers decide it.

use crate::env::Env;
use crate::types::PartitionIndex;

/// The partition of a key among `partitions` (at least 1): Kafka's default, murmur2 of the key, so that
/// programs in any language send a key to the same partition.
pub fn partition_of_key(key: &[u8], partitions: i32) -> PartitionIndex {
    let positive = murmur2(key).cast_signed() & i32::MAX;
    PartitionIndex(positive % partitions.max(1))
}

/// MurmurHash2 with Kafka's seed, 32 bits.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    // The hash mixes in the length as 32 bits; keys are far shorter than that.
    let mut hash = SEED ^ (data.len() as u32);
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * i);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// Chooses partitions for records without a key: stays with one until enough bytes went there, so that
/// batches grow, then goes on to another at random (KIP-480, KIP-794).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sticky {
    current: Option<PartitionIndex>,
    bytes: usize,
}

impl Sticky {
    /// The partition for a record of `size` bytes; a partition is kept for `stick` bytes.
    pub(super) fn choose(
        &mut self,
        env: &Env,
        partitions: i32,
        size: usize,
        stick: usize,
    ) -> PartitionIndex {
        let still = self
            .current
            .filter(|p| p.0 < partitions && self.bytes < stick);
        let chosen = still.unwrap_or_else(|| {
            self.bytes = 0;
            let drawn = (env.fraction() * f64::from(partitions)) as i32;
            PartitionIndex(drawn.clamp(0, partitions.max(1) - 1))
        });
        self.bytes = self.bytes.saturating_add(size);
        self.current = Some(chosen);
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Timestamp;

    #[test]
    fn keys_hash_as_with_kafkas_producers() {
        // The expected values are those of Kafka's own test of its murmur2.
        for (key, expected) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), expected, "{key}");
        }
    }

    #[test]
    fn a_key_has_one_partition_within_the_bounds() {
        for partitions in [1, 2, 7, 100] {
            for key in ["", "a", "order-1", "order-2"] {
                let partition = partition_of_key(key.as_bytes(), partitions);
                assert!((0..partitions).contains(&partition.0));
                assert_eq!(partition, partition_of_key(key.as_bytes(), partitions));
            }
        }
    }

    #[tokio::test]
    async fn records_without_a_key_stay_together_until_enough_went_there_and_reach_all() {
        let env = Env::simulated(7, Timestamp(0));
        let mut sticky = Sticky::default();
        let first = sticky.choose(&env, 4, 10, 30);
        assert_eq!(sticky.choose(&env, 4, 10, 30), first);
        assert_eq!(sticky.choose(&env, 4, 10, 30), first);
        let mut seen = [0; 4];
        for _ in 0..400 {
            seen[sticky.choose(&env, 4, 30, 30).0 as usize] += 1;
        }
        assert!(seen.iter().all(|n| *n > 50), "{seen:?}");
        assert_eq!(sticky.choose(&env, 1, 1, usize::MAX).0, 0);
    }
}
