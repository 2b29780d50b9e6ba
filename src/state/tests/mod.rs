//! The fold as a whole; and what the tests of the domains begin with: a log that is folded op by op.

mod forwarded;
pub(super) mod properties;

pub(super) use std::collections::BTreeMap;
use std::time::Duration;

pub(super) use bytes::Bytes;
pub(super) use uuid::Uuid;

pub(super) use super::group::{GroupAction, Join, Protocol};
pub(super) use super::op::*;
pub(super) use super::*;
pub(super) use crate::rules::{Rule, assert_needed};
pub(super) use crate::types::*;

pub(super) const TOPIC: TopicId = TopicId(Uuid::from_u128(7));

pub(super) fn id(incarnation: u128, counter: u64) -> CommitId {
    CommitId {
        incarnation: Incarnation(Uuid::from_u128(incarnation)),
        counter,
    }
}

pub(super) fn commit(counter: u64, ops: Vec<Op>) -> Commit {
    Commit {
        id: id(1, counter),
        time: Timestamp(1000 + counter as i64),
        ops,
        follows: None,
        forwarded: Vec::new(),
        wall: None,
        log: LogId::ZERO,
    }
}

pub(super) fn create(name: &str, topic: TopicId, partitions: i32) -> Op {
    Op::CreateTopic(CreateTopic {
        id: topic,
        name: TopicName::new(name).unwrap(),
        partitions,
        configs: BTreeMap::new(),
        replicas: None,
    })
}

pub(super) fn partition(index: i32) -> TopicPartition {
    TopicPartition {
        topic: TOPIC,
        partition: PartitionIndex(index),
    }
}

pub(super) fn entry(start: u64, records: u32, producer: Option<(i64, i16, i32)>) -> AppendEntry {
    AppendEntry {
        start,
        len: 100,
        records,
        max_timestamp: Timestamp(5),
        producer: producer.map(|(id, epoch, base_sequence)| ProducerBatch {
            id: ProducerId(id),
            epoch: ProducerEpoch(epoch),
            base_sequence,
            continues: false,
        }),
    }
}

pub(super) fn append(entries: Vec<AppendEntry>) -> Op {
    Op::Append(Append {
        partition: partition(0),
        source: AppendSource::Inline,
        entries,
    })
}

/// What an incarnation of a node says of itself.
pub(super) fn registration(run: u128, lease_millis: u64) -> RegisterNode {
    RegisterNode {
        incarnation: Incarnation(Uuid::from_u128(run)),
        endpoints: BTreeMap::new(),
        rack: None,
        version: String::new(),
        lease_millis,
        peer_key: None,
        properties: None,
    }
}

/// A state with the topic, and a function that applies one more op and returns its outcome.
pub(super) struct Folding {
    pub(super) state: State,
}

impl Folding {
    pub(super) fn new() -> Folding {
        let mut folding = Folding {
            state: State::new(),
        };
        assert_eq!(folding.apply(create("t", TOPIC, 2)), Ok(Applied::Done));
        folding
    }

    pub(super) fn apply(&mut self, op: Op) -> Outcome {
        let seq = self.state.seq().next();
        match self.state.apply(seq, &commit(seq.0, vec![op]), 64) {
            Folded::Outcomes(mut outcomes) => outcomes.pop().unwrap(),
            folded => panic!("a new commit was not folded: {folded:?}"),
        }
    }

    pub(super) fn append(&mut self, entry: AppendEntry) -> Result<i64, AppendRejected> {
        match self.apply(append(vec![entry])) {
            Ok(Applied::Appended(mut entries)) => entries
                .pop()
                .unwrap()
                .map(|appended| appended.base_offset.0),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_commit_behind_one_that_is_not_in_the_log_is_void_and_may_come_again() {
    let mut f = Folding::new();
    let counted = |counter, follows| Commit {
        follows,
        ..commit(counter, vec![append(vec![entry(0, 1, None)])])
    };
    let mut fold = |commit: Commit| {
        let before = f.state.clone();
        let seq = before.seq().next();
        let folded = f.state.apply(seq, &commit, 64);
        if folded == Folded::Void {
            let is_same =
                f.state.topics().eq(before.topics()) && f.state.nodes().eq(before.nodes());
            assert!(is_same && f.state.seq() == seq);
        }
        folded
    };
    let (first, second) = (counted(100, None), counted(101, Some(100)));
    assert_eq!(fold(second.clone()), Folded::Void);
    assert!(matches!(fold(first), Folded::Outcomes(_)));
    assert_eq!(fold(counted(102, Some(101))), Folded::Void);
    assert!(matches!(fold(second.clone()), Folded::Outcomes(_)));
    assert!(matches!(fold(counted(102, Some(101))), Folded::Outcomes(_)));
    assert_eq!(fold(second), Folded::Duplicate);
    // An incarnation of which nothing was folded has nothing to be followed.
    let stranger = Commit {
        id: id(77, 2),
        ..counted(2, Some(1))
    };
    assert_eq!(fold(stranger), Folded::Void);
}

#[test]
fn a_commit_folded_twice_changes_nothing_the_second_time() {
    let mut f = Folding::new();
    let twice = commit(100, vec![append(vec![entry(0, 1, None)])]);
    let seq = f.state.seq().next();
    assert!(matches!(
        f.state.apply(seq, &twice, 64),
        Folded::Outcomes(_)
    ));
    assert_eq!(f.state.apply(seq.next(), &twice, 64), Folded::Duplicate);
    assert_eq!(
        f.state.partition(partition(0)).unwrap().high_watermark(),
        Offset(1)
    );
}

pub(super) fn output(end: i64, segment: u128) -> CompactedSlice {
    CompactedSlice {
        end: Offset(end),
        segment: SegmentId(Uuid::from_u128(segment)),
        start: 40,
        len: 100,
        max_timestamp: Timestamp(5),
        index: SliceIndex { start: 140, len: 9 },
    }
}

/// A state whose time the test moves.
pub(super) struct Log {
    pub(super) state: State,
    pub(super) now: i64,
}

impl Log {
    /// With a topic of one partition.
    pub(super) fn new() -> Log {
        let mut log = Log {
            state: State::new(),
            now: 1_700_000_000_000,
        };
        assert_eq!(log.apply(create("t", TOPIC, 1)), Ok(Applied::Done));
        log
    }

    pub(super) fn apply(&mut self, op: Op) -> Outcome {
        let seq = self.state.seq().next();
        let commit = Commit {
            id: id(1, seq.0),
            time: Timestamp(self.now),
            ops: vec![op],
            follows: None,
            forwarded: Vec::new(),
            wall: None,
            log: LogId::ZERO,
        };
        match self.state.apply(seq, &commit, 64) {
            Folded::Outcomes(mut outcomes) => outcomes.pop().unwrap(),
            folded => panic!("a new commit was not folded: {folded:?}"),
        }
    }

    pub(super) fn wait(&mut self, duration: Duration) {
        self.now += i64::try_from(duration.as_millis()).unwrap();
    }

    /// Appends two records in the commit itself; returns it.
    pub(super) fn inline(&mut self) -> ObjectRef {
        self.apply(append(vec![entry(0, 2, None)])).unwrap();
        ObjectRef::Commit(self.state.seq())
    }

    pub(super) fn inline_many(&mut self, commits: usize) {
        for _ in 0..commits {
            self.inline();
        }
    }

    pub(super) fn append_segment(&mut self, segment: SegmentId) -> Result<i64, AppendRejected> {
        let append = Op::Append(Append {
            partition: partition(0),
            source: AppendSource::Segment(segment),
            entries: vec![entry(40, 2, None)],
        });
        match self.apply(append) {
            Ok(Applied::Appended(mut entries)) => entries
                .pop()
                .unwrap()
                .map(|appended| appended.base_offset.0),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn replace(
        &mut self,
        layout: u64,
        range: (i64, i64),
        outputs: &[(i64, SegmentId)],
    ) -> Outcome {
        self.apply(Op::ReplaceSlices(ReplaceSlices {
            partition: partition(0),
            layout,
            base: Offset(range.0),
            end: Offset(range.1),
            outputs: outputs
                .iter()
                .map(|(end, segment)| CompactedSlice {
                    segment: *segment,
                    ..output(*end, 0)
                })
                .collect(),
            cleaned: None,
        }))
    }

    pub(super) fn slices(&self) -> Vec<(i64, i64, ObjectRef)> {
        let found = self.state.partition(partition(0)).unwrap();
        found
            .slices_from(Offset(0))
            .map(|(base, slice)| (base.0, slice.end.0, slice.object))
            .collect()
    }
}

/// A segment minted at that wall time.
pub(super) fn minted(at: i64, n: u8) -> SegmentId {
    let id = uuid::Builder::from_unix_timestamp_millis(u64::try_from(at).unwrap(), &[n; 10]);
    SegmentId(id.into_uuid())
}

#[test]
fn who_folds_a_broken_chain_is_found() {
    let test = a_commit_behind_one_that_is_not_in_the_log_is_void_and_may_come_again;
    assert_needed(&[(Rule::CommitsFoldInChain, test)]);
}

impl State {
    /// The state before any commit, at a level.
    pub(crate) fn at_level(level: Level) -> State {
        State {
            level,
            ..State::default()
        }
    }

    /// Makes it one that the fold cannot come to, and that no node starts from.
    pub(crate) fn spoil(&mut self) {
        self.truncation.truncated = self.truncation.boundary.next();
    }
}
