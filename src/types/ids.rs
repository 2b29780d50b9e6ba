//! Identifiers.

use std::fmt;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Timestamp;

/// Declares a newtype over an integer that is ordered, hashable, and encodes as the bare integer.
macro_rules! integer_id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode, Serialize,
            Deserialize,
        )]
        #[cbor(transparent)]
        #[serde(transparent)]
        pub struct $name(#[n(0)] pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

/// Declares a newtype over a UUID that encodes as 16 bytes.
macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode, Serialize,
            Deserialize,
        )]
        #[cbor(transparent)]
        #[serde(transparent)]
        pub struct $name(#[cbor(n(0), with = "uuid_bytes")] pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

integer_id! {
    /// The number of a commit in the manifest. Dense: the first commit is 1 and each is one more
    /// than the one before; 0 is the empty state before any commit.
    Seq(u64)
}

impl Seq {
    /// The seq of the state before any commit.
    pub const ZERO: Seq = Seq(0);

    /// Whether it is [`Seq::ZERO`].
    pub fn is_zero(&self) -> bool {
        *self == Seq::ZERO
    }

    /// The seq after this one.
    pub const fn next(self) -> Seq {
        Seq(self.0 + 1)
    }
}

integer_id! {
    /// The number of a log. A [`Seq`] is a position in one log, and so is the name of an object that is numbered by
    /// it: what is stored, sent or cached names both, or means [`LogId::ZERO`].
    LogId(u32)
}

impl LogId {
    /// The only log that there is today, whose objects lie where they always have.
    pub const ZERO: LogId = LogId(0);

    /// Whether it is [`LogId::ZERO`], which is not spelled out where it was not before.
    pub fn is_zero(&self) -> bool {
        *self == LogId::ZERO
    }
}

integer_id! {
    /// The index of a partition in its topic, from 0. Kafka's `partition` (int32).
    PartitionIndex(i32)
}

integer_id! {
    /// Kafka's producer id (KIP-98), minted by the fold. [`ProducerId::NONE`] marks a batch of a
    /// producer without idempotence.
    ProducerId(i64)
}

impl ProducerId {
    /// The value on the wire of "no producer id".
    pub const NONE: ProducerId = ProducerId(-1);
}

integer_id! {
    /// Kafka's producer epoch (KIP-98).
    ProducerEpoch(i16)
}

integer_id! {
    /// The generation of a consumer group: it grows by one with every completed rebalance.
    Generation(i32)
}

impl Generation {
    /// The generation that a client outside of group management sends.
    pub const NONE: Generation = Generation(-1);
}

integer_id! {
    /// The small integer by which Kafka clients know a node (`broker.id`), handed out by the fold.
    NodeId(i32)
}

uuid_id! {
    /// Kafka's topic id (KIP-516). Never reused: a topic that is deleted and created again has
    /// another id.
    TopicId
}

uuid_id! {
    /// One life of a node's process: minted at each start, never reused.
    Incarnation
}

/// How the incarnations of repairs begin.
const REPAIR: &[u8; 6] = b"repair";

impl Incarnation {
    /// Who writes the commits of one run of `weir store repair`: a UUID v8, which no node has.
    pub fn of_repair(run: Uuid) -> Incarnation {
        let mut bytes = run.into_bytes();
        bytes[..REPAIR.len()].copy_from_slice(REPAIR);
        Incarnation(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }

    /// Whether a repair writes under this name, and no node.
    pub fn is_of_repair(self) -> bool {
        self.0.as_bytes().starts_with(REPAIR) && self.0.get_version() == Some(uuid::Version::Custom)
    }
}

uuid_id! {
    /// The name of a segment object, a UUID v7: it carries the time of its minting, by which the
    /// sweep boundary judges it.
    SegmentId
}

impl SegmentId {
    /// When it was minted, by what its node took for the time; the epoch if it is not a UUID v7.
    pub fn minted(self) -> Timestamp {
        minted(self.0)
    }
}

uuid_id! {
    /// A table of the archive. Never reused: a table that is dropped and created again has another id.
    TableId
}

uuid_id! {
    /// The name of a data file or a manifest of a table, a UUID v7: as a [`SegmentId`], it carries the time of its
    /// minting, by which the sweep boundary judges it.
    FileId
}

impl FileId {
    /// When it was minted, by what its node took for the time; the epoch if it is not a UUID v7.
    pub fn minted(self) -> Timestamp {
        minted(self.0)
    }
}

/// The time in a UUID v7; the epoch if it is not one.
fn minted(id: Uuid) -> Timestamp {
    let (seconds, nanos) = match id.get_version() {
        Some(uuid::Version::SortRand) => id.get_timestamp().map(|time| time.to_unix()),
        _ => None,
    }
    .unwrap_or_default();
    let millis = seconds
        .saturating_mul(1000)
        .saturating_add(u64::from(nanos) / 1_000_000);
    Timestamp(i64::try_from(millis).unwrap_or(i64::MAX))
}

/// The identity of a commit: which incarnation made it, and how many it had made before.
/// Two commits with one id are the same commit.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[cbor(array)]
pub struct CommitId {
    /// The incarnation that made the commit.
    #[n(0)]
    pub incarnation: Incarnation,
    /// 1 for the first commit of that incarnation, and one more for each after it.
    #[n(1)]
    pub counter: u64,
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.incarnation, self.counter)
    }
}

/// A partition of a topic.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
#[cbor(array)]
pub struct TopicPartition {
    /// The topic.
    #[n(0)]
    pub topic: TopicId,
    /// The partition's index in it.
    #[n(1)]
    pub partition: PartitionIndex,
}

impl TopicPartition {
    /// Its key for [`bid`](super::bid): the same at every node.
    pub fn key(self) -> u64 {
        let (high, low) = self.topic.0.as_u64_pair();
        high ^ low.rotate_left(32) ^ u64::from(self.partition.0.unsigned_abs())
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// A UUID as a CBOR byte string of 16 bytes.
mod uuid_bytes {
    use minicbor::decode::{self, Decoder};
    use minicbor::encode::{self, Encoder, Write};
    use uuid::Uuid;

    pub(super) fn encode<C, W: Write>(
        id: &Uuid,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        e.bytes(id.as_bytes())?.ok()
    }

    pub(super) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Uuid, decode::Error> {
        let at = d.position();
        let bytes = d.bytes()?;
        Uuid::from_slice(bytes).map_err(|_| decode::Error::message("a UUID has 16 bytes").at(at))
    }
}
