//! The records against bytes that Apache Kafka 4.3.0 wrote.

use super::records::record;
use super::*;
use crate::segment::{BatchHeader, Limits, decode_records};
use crate::state::group::{CommitOffsets, GroupAction, OffsetToCommit, OffsetToDelete};
use crate::state::op::{Commit, CreateTopic, Op};
use crate::state::{GroupChange, Level, offsets_partition_of};
use crate::types::{
    CommitId, Generation, GroupId, Incarnation, LogId, Timestamp, TopicId, TopicPartition,
};
use uuid::Uuid;

/// The time of what Kafka wrote, and the id of its topic.
const AT: i64 = 0x01a2_2432_56fa;
const TOPIC: u128 = 0xb7bd_84aa_f4e2_440f_beb5_6907_14bd_ffae;

const LIMITS: Limits = Limits {
    max_uncompressed: 1 << 20,
};

struct Log {
    state: State,
    counter: u64,
}

impl Log {
    fn new() -> Log {
        let mut log = Log {
            state: State::at_level(Level::NEWEST),
            counter: 0,
        };
        let configs = BTreeMap::new();
        log.fold(vec![Op::CreateTopic(CreateTopic {
            id: TopicId(Uuid::from_u128(TOPIC)),
            name: TopicName::new("orders").unwrap(),
            partitions: 2,
            configs,
            replicas: None,
        })]);
        log
    }

    fn fold(&mut self, ops: Vec<Op>) {
        self.counter += 1;
        let commit = Commit {
            id: CommitId {
                incarnation: Incarnation(Uuid::from_u128(1)),
                counter: self.counter,
            },
            time: Timestamp(AT),
            ops,
            follows: None,
            forwarded: Vec::new(),
            wall: None,
            log: LogId::ZERO,
        };
        self.state.apply(self.state.seq().next(), &commit, 64);
    }

    fn act(&mut self, action: GroupAction) {
        let group = group();
        self.fold(vec![Op::Group { group, action }]);
    }

    fn commit(&mut self, partition: i32, offset: i64, metadata: &str) {
        self.act(GroupAction::CommitOffsets(CommitOffsets {
            member: None,
            instance: None,
            generation: Generation::NONE,
            offsets: vec![OffsetToCommit {
                partition: at(partition),
                offset: Offset(offset),
                leader_epoch: None,
                metadata: (!metadata.is_empty()).then(|| metadata.to_owned()),
            }],
        }));
    }

    fn delete(&mut self, partition: i32) {
        let topic = TopicName::new("orders").unwrap();
        let partition = at(partition);
        self.act(GroupAction::DeleteOffsets {
            offsets: vec![OffsetToDelete { partition, topic }],
        });
    }

    /// Reads from an offset on: the answer, and each record's offset with whether it has a value.
    fn read(&self, offset: i64, max_bytes: usize) -> (FetchedPartition, Vec<(i64, bool)>) {
        let wanted = FetchPartition {
            topic: TopicRef::Name(OFFSETS_TOPIC.to_owned()),
            partition: offsets_partition_of(&group()),
            offset: Offset(offset),
            max_bytes,
            current_leader_epoch: None,
        };
        let limits = ReadLimits {
            max_bytes,
            at_least_one: true,
        };
        let fetched = read(Permit::for_test(), &self.state, &wanted, limits)
            .unwrap()
            .unwrap();
        let records = fetched.records.iter().flat_map(|batch| {
            let header = BatchHeader::parse(batch).unwrap();
            header.check_crc(batch).unwrap();
            let records = decode_records(batch, LIMITS).unwrap();
            let records = records.map(|record| record.unwrap());
            let base = header.base_offset.0;
            records
                .map(|record| {
                    (
                        base + i64::from(record.offset_delta),
                        record.value.is_some(),
                    )
                })
                .collect::<Vec<_>>()
        });
        let records = records.collect();
        (fetched, records)
    }

    fn changes(&self) -> Vec<GroupChange> {
        let partition = offsets_partition_of(&group());
        self.state.group_changes(partition, Offset::ZERO).collect()
    }
}

fn group() -> GroupId {
    GroupId::new("kitchen").unwrap()
}

fn at(partition: i32) -> TopicPartition {
    TopicPartition {
        topic: TopicId(Uuid::from_u128(TOPIC)),
        partition: PartitionIndex(partition),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_committed_offset_is_written_as_kafka_writes_it() {
    let mut log = Log::new();
    log.commit(1, 5, "first");
    let written = record(&log.changes()[0]);
    let kafka = "00040000000000000005ffffffff066669727374000001a2243256fa010010\
                 b7bd84aaf4e2440fbeb5690714bdffae";
    assert_eq!(hex(&written.value.unwrap()), kafka);
    assert_eq!(
        hex(&written.key),
        "000100076b69746368656e00066f726465727300000001"
    );
    assert_eq!(written.timestamp, Timestamp(AT));
}

#[test]
fn a_reader_gets_to_the_end_whatever_is_gone() {
    let mut log = Log::new();
    assert_eq!(log.read(0, 1 << 20).1, []);
    log.commit(0, 1, "");
    log.commit(1, 2, "");
    log.commit(0, 3, "");
    let (fetched, records) = log.read(0, 1 << 20);
    assert_eq!(records, [(1, true), (2, true)]);
    assert_eq!(fetched.high_watermark, Offset(3));
    // One record at a time, and from the middle of a gap.
    assert_eq!(log.read(0, 1).1, [(1, true)]);
    assert_eq!(log.read(2, 1).1, [(2, true)]);
    assert!(log.read(3, 1 << 20).0.is_empty());
    log.delete(0);
    assert_eq!(log.read(2, 1 << 20).1, [(3, false)]);
    // The topic goes, and with it what was last: a batch without records leads on to the end.
    log.commit(1, 4, "");
    let topic = TopicId(Uuid::from_u128(TOPIC));
    log.fold(vec![Op::DeleteTopic { topic }]);
    let (fetched, records) = log.read(4, 1 << 20);
    assert_eq!(records, []);
    let header = BatchHeader::parse(&fetched.records[0]).unwrap();
    assert_eq!(header.record_count, 0);
    let next = header.base_offset.0 + i64::from(header.last_offset_delta) + 1;
    assert_eq!(Offset(next), fetched.high_watermark);
}

#[test]
fn offsets_are_found_by_time_and_what_is_out_of_range_is_refused() {
    let mut log = Log::new();
    log.commit(0, 1, "");
    let topic = TopicRef::Id(OFFSETS_TOPIC_ID);
    let partition = offsets_partition_of(&group());
    let find = |spec| {
        let found = find_offset(
            Permit::for_test(),
            &log.state,
            &topic,
            partition,
            None,
            spec,
        );
        found.unwrap().unwrap().offset
    };
    assert_eq!(find(OffsetSpec::Earliest), Some(Offset(0)));
    assert_eq!(find(OffsetSpec::Latest), Some(Offset(1)));
    assert_eq!(find(OffsetSpec::At(Timestamp(AT))), Some(Offset(0)));
    assert_eq!(find(OffsetSpec::At(Timestamp(AT + 1))), None);
    assert_eq!(find(OffsetSpec::MaxTimestamp), Some(Offset(0)));
    let none = find_offset(
        Permit::for_test(),
        &log.state,
        &topic,
        PartitionIndex(50),
        None,
        OffsetSpec::Latest,
    );
    assert_eq!(none, None);
    let wanted = FetchPartition {
        topic,
        partition,
        offset: Offset(2),
        max_bytes: 1000,
        current_leader_epoch: None,
    };
    let limits = ReadLimits {
        max_bytes: 1000,
        at_least_one: true,
    };
    let refused = read(Permit::for_test(), &log.state, &wanted, limits).unwrap();
    assert!(matches!(refused, Err(FetchError::OffsetOutOfRange { .. })));
}
