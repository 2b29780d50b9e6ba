//! What a topic asks of each record, as Kafka's `LogValidator` has it: a key where the log is compacted, and a time
//! stamp within bounds. A batch with a record that breaks a rule is refused as a whole, and the records are named
//! (KIP-467).

use std::fmt;

use bytes::Bytes;

use super::TopicConfig;
use crate::segment::{BatchError, Limits, TimestampType, ValidBatch, refused_records};
use crate::types::Timestamp;

/// How many records are named one by one.
const MAX_NAMED: usize = 1000;

/// A record that a topic refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedRecord {
    /// Its index in the batch, from 0.
    pub index: i32,
    /// Why.
    pub why: RecordRefusal,
}

/// Why a topic refuses a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordRefusal {
    /// The topic is compacted.
    #[error("it has no key, and a compacted topic requires one")]
    WithoutKey,
    /// The time stamp is too far ahead of the broker's clock.
    #[error(
        "its timestamp {timestamp} is further ahead of {now} than message.timestamp.after.max.ms allows"
    )]
    TooFarAhead {
        /// The time stamp.
        timestamp: Timestamp,
        /// The time at which it was judged.
        now: Timestamp,
    },
    /// The time stamp is too far behind the broker's clock.
    #[error(
        "its timestamp {timestamp} is further behind {now} than message.timestamp.before.max.ms allows"
    )]
    TooFarBehind {
        /// The time stamp.
        timestamp: Timestamp,
        /// The time at which it was judged.
        now: Timestamp,
    },
    /// The batch says that a broker gave its records their time.
    #[error("its batch claims LogAppendTime, which only a broker may set")]
    LogAppendTime,
}

impl RecordRefusal {
    /// Whether it is for its time stamp.
    pub fn is_of_time(self) -> bool {
        self != RecordRefusal::WithoutKey
    }
}

/// Some of the refused records, for people.
pub(super) struct Named<'a>(pub(super) &'a [RefusedRecord]);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 3;
        for (at, record) in self.0.iter().take(SHOWN).enumerate() {
            let comma = if at == 0 { "" } else { "; " };
            write!(f, "{comma}record {}: {}", record.index, record.why)?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// The records of `batch` that a topic with these settings refuses at the time `now`; the first of them, if they are
/// very many. A second walk over the records is only made where the first has shown that there are some.
pub(super) fn refused(
    batch: &Bytes,
    valid: &ValidBatch,
    settings: &TopicConfig,
    now: Timestamp,
    limits: Limits,
) -> Result<Vec<RefusedRecord>, BatchError> {
    let compacted = settings.cleanup.compact;
    let by_time = |own| of_time(own, valid, settings, now);
    let facts = &valid.facts;
    let extremes = [facts.earliest_timestamp, Some(facts.max_timestamp)];
    let any = compacted && facts.first_without_key.is_some()
        || extremes
            .into_iter()
            .flatten()
            .any(|own| by_time(own).is_some());
    if !any {
        return Ok(Vec::new());
    }
    let judge = |has_key: bool, own| {
        if compacted && !has_key {
            return Some(RecordRefusal::WithoutKey);
        }
        by_time(own)
    };
    let refused = refused_records(batch, MAX_NAMED, limits, judge)?.into_iter();
    Ok(refused
        .map(|(index, why)| RefusedRecord { index, why })
        .collect())
}

/// What is wrong with the time of a record whose own time stamp is `own`.
///
/// A batch may say that its records have LogAppendTime: all of them the batch's largest time stamp. Kafka takes such
/// batches (of tools that copy them from broker to broker) where the topic's records have CreateTime, judges them by
/// that time, and stores them with the time stamps of the records. Those are judged as well here.
fn of_time(
    own: Timestamp,
    valid: &ValidBatch,
    settings: &TopicConfig,
    now: Timestamp,
) -> Option<RecordRefusal> {
    let header = &valid.header;
    let stamped = header.attributes.timestamp_type() == TimestampType::LogAppend;
    if settings.log_append_time {
        return stamped.then_some(RecordRefusal::LogAppendTime);
    }
    if stamped && header.max_timestamp == Timestamp::NONE {
        return Some(RecordRefusal::LogAppendTime);
    }
    let claimed = stamped.then_some(header.max_timestamp);
    let mut times = claimed.into_iter().chain([own]);
    times.find_map(|timestamp| out_of_bounds(timestamp, settings, now))
}

fn out_of_bounds(
    timestamp: Timestamp,
    settings: &TopicConfig,
    now: Timestamp,
) -> Option<RecordRefusal> {
    if timestamp == Timestamp::NONE {
        return None;
    }
    let before = settings.timestamp_before_max;
    let after = settings.timestamp_after_max;
    if before.is_some_and(|limit| now.since(timestamp) > limit) {
        return Some(RecordRefusal::TooFarBehind { timestamp, now });
    }
    if after.is_some_and(|limit| timestamp.since(now) > limit) {
        return Some(RecordRefusal::TooFarAhead { timestamp, now });
    }
    None
}
