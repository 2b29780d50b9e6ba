//! How far a client is in the partitions that it reads by name.
//!
//! Only a hint: whoever goes on where the last answer ended reads what it was reading, and need not be shown anew which
//! topic has the name (`confirm.rs`). Forgotten with the connection, and whenever there is too much of it: then a
//! reading begins once more, which costs one look at the log's end.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::TopicRef;
use super::fetch::{FetchError, FetchPartition, FetchedPartition};
use crate::segment::{BATCH_HEADER_LEN, BatchHeader};
use crate::types::{Offset, PartitionIndex};

/// How many partitions are remembered of one client.
const MAX_READINGS: usize = 10_000;

/// Where the last answers to a client ended, by the name of the topic. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Readings(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    topics: HashMap<String, BTreeMap<PartitionIndex, Offset>>,
    partitions: usize,
}

impl Readings {
    /// Whether this is where the last answer about the partition ended.
    pub(super) fn goes_on(&self, wanted: &FetchPartition) -> bool {
        let TopicRef::Name(name) = &wanted.topic else {
            return false;
        };
        let known = self.known();
        let topic = known.topics.get(name);
        topic.and_then(|topic| topic.get(&wanted.partition)) == Some(&wanted.offset)
    }

    /// Notes where these answers end.
    pub(super) fn note(
        &self,
        wanted: &[FetchPartition],
        answer: &[Result<FetchedPartition, FetchError>],
    ) {
        for (wanted, read) in wanted.iter().zip(answer) {
            let TopicRef::Name(name) = &wanted.topic else {
                continue;
            };
            let next = read.as_ref().ok().map(|read| {
                let after = after(&read.records);
                after.unwrap_or(wanted.offset)
            });
            self.known().set(name, wanted.partition, next);
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // A panic elsewhere leaves a hint.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn set(&mut self, name: &str, partition: PartitionIndex, next: Option<Offset>) {
        if !self.topics.contains_key(name) {
            if next.is_none() {
                return;
            }
            self.topics.insert(name.to_owned(), BTreeMap::new());
        }
        let Some(topic) = self.topics.get_mut(name) else {
            return;
        };
        let before = match next {
            Some(next) => topic.insert(partition, next).is_some(),
            None => topic.remove(&partition).is_some(),
        };
        match (before, next) {
            (false, Some(_)) => self.partitions += 1,
            (true, None) => self.partitions -= 1,
            _ => {}
        }
        if self.partitions > MAX_READINGS {
            *self = Known::default();
        }
    }
}

/// The offset after the last of the batches, which the pieces are cut from wherever it suits.
fn after(pieces: &[Bytes]) -> Option<Offset> {
    let mut end = None;
    let mut head: Vec<u8> = Vec::with_capacity(BATCH_HEADER_LEN);
    // How much of the present batch is behind its header.
    let mut body = 0usize;
    for piece in pieces {
        let mut left = &piece[..];
        while !left.is_empty() {
            let (skipped, rest) = left.split_at(body.min(left.len()));
            body -= skipped.len();
            let (more, rest) = rest.split_at((BATCH_HEADER_LEN - head.len()).min(rest.len()));
            head.extend_from_slice(more);
            left = rest;
            if head.len() == BATCH_HEADER_LEN {
                let header = BatchHeader::parse(&head).ok()?;
                end = Some(header.next_offset());
                body = header.size.saturating_sub(BATCH_HEADER_LEN);
                head.clear();
            }
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::TopicNotFound;
    use crate::segment::{BatchBuilder, Codec, LEADER_EPOCH, patch};
    use crate::types::{Timestamp, TopicId};

    fn batch(base: i64, records: usize) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Codec::None);
        for _ in 0..records {
            builder.push(Timestamp(1), None, Some(b"v"), &[]).unwrap();
        }
        let mut batch = builder.finish().unwrap().to_vec();
        patch(&mut batch, Offset(base), LEADER_EPOCH).unwrap();
        batch
    }

    #[test]
    fn an_answer_ends_behind_its_last_batch_however_it_is_cut() {
        let all = [batch(7, 2), batch(9, 1), batch(30, 5)].concat();
        for cut in 0..all.len() {
            let (one, other) = all.split_at(cut);
            for again in [0, other.len() / 2, other.len()] {
                let (other, third) = other.split_at(again);
                let pieces = [one, other, third].map(Bytes::copy_from_slice);
                assert_eq!(after(&pieces), Some(Offset(35)), "{cut} {again}");
            }
        }
        assert_eq!(after(&[]), None);
    }

    fn wanted(name: &str, partition: i32, offset: i64) -> FetchPartition {
        FetchPartition {
            topic: TopicRef::Name(name.to_owned()),
            partition: PartitionIndex(partition),
            offset: Offset(offset),
            max_bytes: 1,
            current_leader_epoch: None,
        }
    }

    fn read(records: Vec<u8>) -> Result<FetchedPartition, FetchError> {
        Ok(FetchedPartition {
            topic: TopicId::default(),
            records: vec![Bytes::from(records)],
            high_watermark: Offset(0),
            last_stable: Offset(0),
            log_start: Offset(0),
        })
    }

    #[test]
    fn a_reading_goes_on_where_its_last_answer_ended_and_nowhere_else() {
        let readings = Readings::default();
        assert!(!readings.goes_on(&wanted("t", 0, 0)));
        readings.note(&[wanted("t", 0, 0)], &[read(batch(0, 3))]);
        assert!(readings.goes_on(&wanted("t", 0, 3)));
        for other in [
            wanted("t", 0, 0),
            wanted("t", 0, 2),
            wanted("t", 1, 3),
            wanted("u", 0, 3),
        ] {
            assert!(!readings.goes_on(&other), "{other:?}");
        }
        readings.note(&[wanted("t", 0, 3)], &[read(Vec::new())]);
        assert!(readings.goes_on(&wanted("t", 0, 3)));
        let gone = Err(FetchError::from(TopicNotFound(TopicRef::Name(
            "t".to_owned(),
        ))));
        readings.note(&[wanted("t", 0, 3)], &[gone]);
        assert!(!readings.goes_on(&wanted("t", 0, 3)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let readings = Readings::default();
        for partition in 0..30_000 {
            let one = wanted("t", partition, 0);
            readings.note(&[one], &[read(Vec::new())]);
            assert!(readings.known().partitions <= MAX_READINGS);
        }
    }
}
