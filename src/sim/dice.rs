//! Chance, from the seed.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// One stream of chance. Each actor has its own, so that what one of them does changes nothing for the others.
#[derive(Debug)]
pub(super) struct Dice(StdRng);

impl Dice {
    /// The stream of this name.
    pub(super) fn of(seed: u64, name: &str) -> Dice {
        let name = u64::from(crc32c::crc32c(name.as_bytes()));
        Dice(StdRng::seed_from_u64(
            seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (name << 20),
        ))
    }

    /// True in this share of all cases.
    pub(super) fn chance(&mut self, share: f64) -> bool {
        self.0.random_bool(share.clamp(0.0, 1.0))
    }

    /// A number from `low` to below `high`.
    pub(super) fn number(&mut self, low: u64, high: u64) -> u64 {
        self.0.random_range(low..high)
    }

    /// An index of a list of this length.
    pub(super) fn index(&mut self, length: usize) -> usize {
        self.0.random_range(0..length)
    }

    /// One of these.
    pub(super) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }

    /// From `low` to `high` milliseconds; short times are as likely as long ones, on a scale of magnitudes.
    pub(super) fn time(&mut self, low: u64, high: u64) -> Duration {
        let (low, high) = ((low.max(1) as f64).ln(), (high.max(1) as f64).ln());
        let millis = (low + (high - low) * self.0.random_range(0.0..1.0)).exp();
        Duration::from_millis(millis as u64)
    }

    /// The generator itself.
    pub(super) fn into_random(self) -> StdRng {
        self.0
    }
}
