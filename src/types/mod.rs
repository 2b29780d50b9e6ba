//! The words of Weir as types: identifiers, positions and times that must not be mixed.
//!
//! A bare `u64` for two meanings is a bug waiting, so a sequence number of the manifest, an offset of
//! a partition and a count of bytes are three types. This room does no I/O, holds no state and
//! imports nothing from the other rooms.

mod digest;
mod ids;
mod key;
mod names;
mod quantities;
mod rendezvous;

pub use digest::StateDigest;
pub use ids::{
    CommitId, FileId, Generation, Incarnation, LogId, NodeId, PartitionIndex, ProducerEpoch,
    ProducerId, SegmentId, Seq, TableId, TopicId, TopicPartition,
};
pub use key::PeerKey;
pub use names::{GroupId, InvalidName, MemberId, TableName, TopicName};
pub use quantities::{ByteCount, Offset, ParseByteCountError, Timestamp};
pub use rendezvous::bid;
