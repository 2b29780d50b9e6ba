//! Fetch responses, versions 4 to 18, as pieces: the records are not copied.
//!
//! Written by hand, because the codec takes the records of a partition as one contiguous buffer and
//! copies it. The tests hold it against the codec.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::TopicName;
use uuid::Uuid;

use crate::kafka::call::{Reply, Violation};
use crate::kafka::codec::{self, Unencodable};
use crate::kafka::context::{Context, Response};
use crate::net::BytePermit;

/// The first version with compact lengths and tagged fields.
const FLEXIBLE: i16 = 12;

/// What a Fetch is answered.
#[derive(Debug)]
pub(in crate::kafka) struct FetchAnswer {
    pub(in crate::kafka) error: i16,
    pub(in crate::kafka) topics: Vec<TopicAnswer>,
    /// The memory that the records take.
    pub(in crate::kafka) permit: BytePermit,
}

#[derive(Debug)]
pub(in crate::kafka) struct TopicAnswer {
    pub(in crate::kafka) name: TopicName,
    pub(in crate::kafka) id: Uuid,
    pub(in crate::kafka) partitions: Vec<PartitionAnswer>,
}

#[derive(Debug)]
pub(in crate::kafka) struct PartitionAnswer {
    pub(in crate::kafka) index: i32,
    pub(in crate::kafka) error: i16,
    pub(in crate::kafka) high_watermark: i64,
    pub(in crate::kafka) last_stable: i64,
    pub(in crate::kafka) log_start: i64,
    pub(in crate::kafka) records: Vec<Bytes>,
}

impl Response for FetchAnswer {
    fn into_reply(self, context: &Context) -> Result<Option<Reply>, Violation> {
        let (chunks, permit) = self.encode(context.correlation, context.version)?;
        Ok(Some(Reply { chunks, permit }))
    }
}

impl FetchAnswer {
    fn encode(
        self,
        correlation: i32,
        version: i16,
    ) -> Result<(VecDeque<Bytes>, BytePermit), Unencodable> {
        let flexible = version >= FLEXIBLE;
        let mut out = Pieces::default();
        codec::begin(&mut out.tail, correlation, i16::from(flexible));
        // Throttle time.
        out.tail.put_i32(0);
        if version >= 7 {
            out.tail.put_i16(self.error);
            // No session.
            out.tail.put_i32(0);
        }
        out.length(self.topics.len(), flexible);
        for topic in self.topics {
            if version >= 13 {
                out.tail.put_slice(topic.id.as_bytes());
            } else if flexible {
                out.length(topic.name.len(), true);
                out.tail.put_slice(topic.name.as_bytes());
            } else {
                // Names come from a request of the same version, so they fit.
                out.tail.put_u16(topic.name.len() as u16);
                out.tail.put_slice(topic.name.as_bytes());
            }
            out.length(topic.partitions.len(), flexible);
            for partition in topic.partitions {
                out.partition(partition, version);
            }
            out.no_tags(flexible);
        }
        out.no_tags(flexible);
        let chunks = out.finish().map_err(|why| Unencodable::new(version, why))?;
        Ok((chunks, self.permit))
    }
}

/// A frame under construction: finished pieces, and the one being written.
#[derive(Default)]
struct Pieces {
    done: Vec<Bytes>,
    /// Bytes in `done`.
    size: usize,
    /// The frame's first piece, which gets the length in the end.
    head: Option<BytesMut>,
    tail: BytesMut,
}

impl Pieces {
    fn partition(&mut self, partition: PartitionAnswer, version: i16) {
        let flexible = version >= FLEXIBLE;
        self.tail.put_i32(partition.index);
        self.tail.put_i16(partition.error);
        self.tail.put_i64(partition.high_watermark);
        self.tail.put_i64(partition.last_stable);
        if version >= 5 {
            self.tail.put_i64(partition.log_start);
        }
        // No aborted transactions.
        self.length(0, flexible);
        if version >= 11 {
            // No preferred replica.
            self.tail.put_i32(-1);
        }
        let size = partition.records.iter().map(Bytes::len).sum();
        self.length(size, flexible);
        for piece in partition.records {
            self.append(piece);
        }
        self.no_tags(flexible);
    }

    /// The length of an array, of a compact string, or of bytes.
    fn length(&mut self, length: usize, flexible: bool) {
        if !flexible {
            // A frame is within 2 GiB, or `finish` fails.
            self.tail.put_u32(length as u32);
            return;
        }
        let mut value = length as u64 + 1;
        while value >= 0x80 {
            self.tail.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.tail.put_u8(value as u8);
    }

    fn no_tags(&mut self, flexible: bool) {
        if flexible {
            self.tail.put_u8(0);
        }
    }

    fn append(&mut self, piece: Bytes) {
        /// Smaller pieces cost less to copy than to send separately.
        const WORTH_A_PIECE: usize = 512;
        if piece.len() < WORTH_A_PIECE {
            self.tail.put_slice(&piece);
            return;
        }
        self.seal();
        self.size += piece.len();
        self.done.push(piece);
    }

    /// Ends the piece being written.
    fn seal(&mut self) {
        let tail = std::mem::take(&mut self.tail);
        if self.head.is_none() {
            self.head = Some(tail);
        } else if !tail.is_empty() {
            self.size += tail.len();
            self.done.push(tail.freeze());
        }
    }

    fn finish(mut self) -> Result<VecDeque<Bytes>, String> {
        self.seal();
        let mut head = self.head.unwrap_or_default();
        codec::finish(&mut head, self.size)?;
        let mut chunks = VecDeque::from(self.done);
        chunks.push_front(head.freeze());
        Ok(chunks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::FetchResponse;
    use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
    use kafka_protocol::protocol::StrBytes;

    fn pieces(sizes: &[usize]) -> Vec<Bytes> {
        let fill = |(at, size): (usize, &usize)| Bytes::from(vec![at as u8 + 1; *size]);
        sizes.iter().enumerate().map(fill).collect()
    }

    fn sample() -> FetchAnswer {
        let partition = |index, error, sizes: &[usize]| PartitionAnswer {
            index,
            error,
            high_watermark: 1 << 40,
            last_stable: 77,
            log_start: 5,
            records: pieces(sizes),
        };
        let topic = |name, partitions| TopicAnswer {
            name: TopicName(StrBytes::from_static_str(name)),
            id: Uuid::from_u128(9),
            partitions,
        };
        FetchAnswer {
            error: 0,
            topics: vec![
                topic(
                    "orders",
                    vec![
                        partition(0, 0, &[]),
                        partition(1, 0, &[100]),
                        partition(2, 0, &[5000, 3, 70_000]),
                        partition(3, 1, &[]),
                    ],
                ),
                topic("empty", vec![]),
                topic("tail", vec![partition(9, 0, &[600, 600])]),
            ],
            permit: BytePermit::none(),
        }
    }

    /// The same answer through the codec.
    fn by_the_codec(answer: &FetchAnswer, version: i16) -> FetchResponse {
        let topics = answer.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                PartitionData::default()
                    .with_partition_index(partition.index)
                    .with_error_code(partition.error)
                    .with_high_watermark(partition.high_watermark)
                    .with_last_stable_offset(partition.last_stable)
                    .with_log_start_offset(partition.log_start)
                    .with_aborted_transactions(Some(Vec::new()))
                    .with_records(Some(partition.records.concat().into()))
            });
            let answer = FetchableTopicResponse::default().with_partitions(partitions.collect());
            if version >= 13 {
                answer.with_topic_id(topic.id)
            } else {
                answer.with_topic(topic.name.clone())
            }
        });
        FetchResponse::default()
            .with_error_code(answer.error)
            .with_responses(topics.collect())
    }

    #[test]
    fn the_pieces_together_are_what_the_codec_writes() {
        for version in 4..=18 {
            let expected = codec::encode(-3, version, &by_the_codec(&sample(), version)).unwrap();
            let (chunks, _) = sample().encode(-3, version).unwrap();
            assert!(
                chunks.len() > 4,
                "the large records are pieces of their own"
            );
            let joined = chunks.iter().flatten().copied().collect::<Vec<u8>>();
            assert_eq!(joined, expected, "version {version}");
        }
    }

    #[test]
    fn an_error_without_topics_is_what_the_codec_writes() {
        for version in 7..=18 {
            let answer = || FetchAnswer {
                error: 70,
                topics: Vec::new(),
                permit: BytePermit::none(),
            };
            let expected = codec::encode(1, version, &by_the_codec(&answer(), version)).unwrap();
            let (chunks, _) = answer().encode(1, version).unwrap();
            assert_eq!(chunks, [expected], "version {version}");
        }
    }

    #[test]
    fn large_records_are_not_copied() {
        let answer = sample();
        let record = answer.topics[0].partitions[2].records[2].clone();
        let (chunks, _) = answer.encode(0, 12).unwrap();
        let same = |chunk: &Bytes| chunk.as_ptr() == record.as_ptr();
        assert!(chunks.iter().any(same));
    }
}
