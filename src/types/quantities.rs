//! Positions, times and sizes.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::str::FromStr;
use std::time::Duration;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// The position of a record in its partition, from 0. Kafka's `offset` (int64).
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Encode,
    Decode,
    Serialize,
    Deserialize,
)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct Offset(#[n(0)] pub i64);

impl Offset {
    /// The first offset of every partition.
    pub const ZERO: Offset = Offset(0);

    /// The offset `records` further on; saturates at the largest offset.
    pub const fn advance(self, records: u64) -> Offset {
        Offset(self.0.saturating_add_unsigned(records))
    }

    /// The offset `records` further on, if there is one.
    pub const fn checked_advance(self, records: u64) -> Option<Offset> {
        match self.0.checked_add_unsigned(records) {
            Some(offset) => Some(Offset(offset)),
            None => None,
        }
    }

    /// How many records lie from `earlier` (inclusive) to here (exclusive); 0 if `earlier` is not
    /// earlier.
    pub const fn since(self, earlier: Offset) -> u64 {
        if self.0 > earlier.0 {
            self.0.abs_diff(earlier.0)
        } else {
            0
        }
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Offset({})", self.0)
    }
}

/// Milliseconds since the Unix epoch, as Kafka's timestamps. [`Timestamp::NONE`] is Kafka's "no
/// timestamp".
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Encode,
    Decode,
    Serialize,
    Deserialize,
)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct Timestamp(#[n(0)] pub i64);

impl Timestamp {
    /// Kafka's `NO_TIMESTAMP`.
    pub const NONE: Timestamp = Timestamp(-1);

    /// The time `by` later; saturates.
    pub fn after(self, by: Duration) -> Timestamp {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.0.saturating_add_unsigned(millis))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Timestamp) -> Duration {
        if self.0 > earlier.0 {
            Duration::from_millis(self.0.abs_diff(earlier.0))
        } else {
            Duration::ZERO
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timestamp({})", self.0)
    }
}

/// A number of bytes. Reads and prints human sizes: `8MiB`, `512KiB`, `100MB`, `42`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode, Serialize)]
#[cbor(transparent)]
#[serde(transparent)]
pub struct ByteCount(#[n(0)] pub u64);

impl ByteCount {
    /// Zero bytes.
    pub const ZERO: ByteCount = ByteCount(0);

    /// `n` KiB.
    pub const fn kib(n: u64) -> ByteCount {
        ByteCount(n << 10)
    }

    /// `n` MiB.
    pub const fn mib(n: u64) -> ByteCount {
        ByteCount(n << 20)
    }

    /// As a size of memory; saturates where `usize` is smaller.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Add for ByteCount {
    type Output = ByteCount;
    /// Saturates at the largest number.
    fn add(self, other: ByteCount) -> ByteCount {
        ByteCount(self.0.saturating_add(other.0))
    }
}

impl AddAssign for ByteCount {
    fn add_assign(&mut self, other: ByteCount) {
        *self = *self + other;
    }
}

impl Sub for ByteCount {
    type Output = ByteCount;
    /// Saturates at zero.
    fn sub(self, other: ByteCount) -> ByteCount {
        ByteCount(self.0.saturating_sub(other.0))
    }
}

const UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, size) = UNITS[..4]
            .iter()
            .rev()
            .find(|(_, size)| self.0 >= *size)
            .copied()
            .unwrap_or(("B", 1));
        if self.0.is_multiple_of(size) {
            write!(f, "{}{unit}", self.0 / size)
        } else {
            // One decimal; exact enough for a person, and never used to read a size back.
            write!(f, "{:.1}{unit}", self.0 as f64 / size as f64)
        }
    }
}

impl fmt::Debug for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ByteCount({})", self.0)
    }
}

/// A text that is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a size; write, for example, 8MiB, 512KiB or a number of bytes")]
pub struct ParseByteCountError(String);

impl FromStr for ByteCount {
    type Err = ParseByteCountError;

    fn from_str(text: &str) -> Result<ByteCount, ParseByteCountError> {
        let error = || ParseByteCountError(text.to_owned());
        let trimmed = text.trim();
        let (number, unit) = UNITS
            .iter()
            .find_map(|(unit, size)| trimmed.strip_suffix(unit).map(|n| (n, *size)))
            .unwrap_or((trimmed, 1));
        let number: u64 = number.trim().parse().map_err(|_| error())?;
        number.checked_mul(unit).map(ByteCount).ok_or_else(error)
    }
}

impl<'de> Deserialize<'de> for ByteCount {
    /// Reads a number of bytes or a human size.
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<ByteCount, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(u64),
            Text(String),
        }
        match Form::deserialize(d)? {
            Form::Number(n) => Ok(ByteCount(n)),
            Form::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn human_sizes_are_read_and_printed() {
        for (text, bytes) in [
            ("8MiB", 8 << 20),
            ("512KiB", 512 << 10),
            ("100MB", 100_000_000),
            ("42", 42),
            ("1 GiB", 1 << 30),
        ] {
            assert_eq!(text.parse(), Ok(ByteCount(bytes)), "{text}");
        }
        assert_eq!(ByteCount::mib(8).to_string(), "8MiB");
        assert_eq!(ByteCount(1536).to_string(), "1.5KiB");
        assert!("8 parsecs".parse::<ByteCount>().is_err());
        assert!("99999999999TiB".parse::<ByteCount>().is_err());
    }
}
