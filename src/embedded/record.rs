//! Records as programs see them.

use bytes::Bytes;

use crate::types::{Offset, PartitionIndex, Timestamp, TopicName};

/// A record to produce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The key: records of one key go to one partition. `None` is not the empty key.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone in a compacted topic.
    pub value: Option<Bytes>,
    /// Headers, in order; names may repeat.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// Its time; `None` is now.
    pub timestamp: Option<Timestamp>,
    /// Its partition; `None` lets the partitioner choose.
    pub partition: Option<PartitionIndex>,
}

impl Record {
    /// A record with a key.
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Record {
        Record {
            key: Some(key.into()),
            value: Some(value.into()),
            ..Record::default()
        }
    }

    /// A record without a key.
    pub fn of_value(value: impl Into<Bytes>) -> Record {
        Record {
            value: Some(value.into()),
            ..Record::default()
        }
    }

    /// The same with one more header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Record {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    /// The same for this partition.
    pub fn partition(mut self, partition: PartitionIndex) -> Record {
        self.partition = Some(partition);
        self
    }

    /// The same with this time.
    pub fn timestamp(mut self, timestamp: Timestamp) -> Record {
        self.timestamp = Some(timestamp);
        self
    }
}

/// Where a record was stored, durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The partition.
    pub partition: PartitionIndex,
    /// The offset.
    pub offset: Offset,
}

/// A record that was consumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumedRecord {
    /// Its topic.
    pub topic: TopicName,
    /// Its partition.
    pub partition: PartitionIndex,
    /// Its offset.
    pub offset: Offset,
    /// Its time: what the producer gave it, or when it was appended.
    pub timestamp: Timestamp,
    /// The key.
    pub key: Option<Bytes>,
    /// The value.
    pub value: Option<Bytes>,
    /// Headers, in order. Names are UTF-8 by Kafka's definition; bytes that are not are replaced.
    pub headers: Vec<(String, Option<Bytes>)>,
}
