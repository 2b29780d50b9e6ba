mod asked;
mod carried;
mod deletion;
mod group_changes;
mod groups;
mod level;
mod properties;
mod settings;
mod time;

use bytes::Bytes;
use uuid::Uuid;

use super::group::{GroupAction, Join, Protocol};
use super::op::*;
use super::*;
use crate::mutants::{Mutant, assert_found};
use crate::types::{
    CommitId, GroupId, Incarnation, MemberId, NodeId, Offset, PartitionIndex, PeerKey,
    ProducerEpoch, ProducerId, SegmentId, Seq, StateDigest, Timestamp, TopicId, TopicName,
    TopicPartition,
};

const TOPIC: TopicId = TopicId(Uuid::from_u128(7));

fn id(author: u128, counter: u64) -> CommitId {
    CommitId {
        incarnation: Incarnation(Uuid::from_u128(author)),
        counter,
    }
}

fn commit(counter: u64, ops: Vec<Op>) -> Commit {
    Commit {
        id: id(1, counter),
        time: Timestamp(1000 + counter as i64),
        ops,
        follows: None,
        carried: Vec::new(),
        wall: None,
    }
}

fn create(name: &str, topic: TopicId, partitions: i32) -> Op {
    Op::CreateTopic(CreateTopic {
        id: topic,
        name: TopicName::new(name).unwrap(),
        partitions,
        configs: BTreeMap::new(),
        replicas: None,
    })
}

fn partition(index: i32) -> TopicPartition {
    TopicPartition {
        topic: TOPIC,
        partition: PartitionIndex(index),
    }
}

fn entry(start: u64, records: u32, producer: Option<(i64, i16, i32)>) -> AppendEntry {
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

fn append(entries: Vec<AppendEntry>) -> Op {
    Op::Append(Append {
        partition: partition(0),
        source: AppendSource::Inline,
        entries,
    })
}

/// What a run of a node says of itself.
fn registration(run: u128, lease_millis: u64) -> RegisterNode {
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
struct Folding {
    state: State,
}

impl Folding {
    fn new() -> Folding {
        let mut folding = Folding {
            state: State::new(),
        };
        assert_eq!(folding.apply(create("t", TOPIC, 2)), Ok(Applied::Done));
        folding
    }

    fn apply(&mut self, op: Op) -> Outcome {
        let seq = self.state.seq().next();
        match self.state.apply(seq, &commit(seq.0, vec![op]), 64) {
            Folded::Outcomes(mut outcomes) => outcomes.pop().unwrap(),
            folded => panic!("a new commit was not folded: {folded:?}"),
        }
    }

    fn append(&mut self, entry: AppendEntry) -> Result<i64, AppendRejected> {
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
fn offsets_are_given_by_the_fold_and_follow_each_other() {
    let mut f = Folding::new();
    assert_eq!(f.append(entry(0, 3, None)), Ok(0));
    assert_eq!(f.append(entry(0, 2, None)), Ok(3));
    let found = f.state.partition(partition(0)).unwrap();
    assert_eq!(found.high_watermark(), Offset(5));
    assert_eq!(found.gap_in_offsets(), None);
}

#[test]
fn batches_that_lie_end_to_end_in_one_object_are_one_slice() {
    let mut f = Folding::new();
    f.apply(append(vec![
        entry(0, 1, None),
        entry(100, 1, None),
        entry(300, 1, None),
    ]))
    .unwrap();
    let found = f.state.partition(partition(0)).unwrap();
    let slices: Vec<_> = found
        .slices_from(Offset(0))
        .map(|(b, s)| (b.0, s.start, s.len))
        .collect();
    assert_eq!(slices, [(0, 64, 200), (2, 364, 100)]);
}

#[test]
fn a_retry_gets_its_original_offset_and_a_gap_is_refused() {
    let mut f = Folding::new();
    for sequence in 0..7 {
        assert_eq!(
            f.append(entry(0, 1, Some((9, 0, sequence)))),
            Ok(sequence.into())
        );
    }
    // The last five are remembered.
    assert_eq!(f.append(entry(0, 1, Some((9, 0, 2)))), Ok(2));
    let out_of_order = |found| AppendRejected::OutOfOrderSequence {
        partition: partition(0),
        id: ProducerId(9),
        expected: 7,
        found,
    };
    assert_eq!(f.append(entry(0, 1, Some((9, 0, 1)))), Err(out_of_order(1)));
    assert_eq!(f.append(entry(0, 1, Some((9, 0, 9)))), Err(out_of_order(9)));
    assert_eq!(f.append(entry(0, 1, Some((9, 0, 7)))), Ok(7));
}

#[test]
fn a_batch_between_two_of_one_append_that_is_a_retry_is_not_stored_again() {
    let mut f = Folding::new();
    f.append(entry(0, 1, Some((9, 0, 0)))).unwrap();
    let entries = vec![
        entry(0, 1, None),
        entry(100, 1, Some((9, 0, 0))),
        entry(200, 1, None),
    ];
    let Ok(Applied::Appended(outcomes)) = f.apply(append(entries)) else {
        panic!()
    };
    let offsets: Vec<_> = outcomes
        .iter()
        .map(|o| o.as_ref().unwrap().base_offset.0)
        .collect();
    assert_eq!(offsets, [1, 0, 2]);
    assert_eq!(
        f.state.partition(partition(0)).unwrap().gap_in_offsets(),
        None
    );
}

#[test]
fn an_older_epoch_is_fenced_and_a_newer_one_begins_at_zero() {
    let mut f = Folding::new();
    f.append(entry(0, 1, Some((9, 1, 0)))).unwrap();
    assert!(matches!(
        f.append(entry(0, 1, Some((9, 0, 1)))),
        Err(AppendRejected::FencedProducer { .. })
    ));
    assert!(matches!(
        f.append(entry(0, 1, Some((9, 2, 5)))),
        Err(AppendRejected::OutOfOrderSequence { expected: 0, .. })
    ));
    assert_eq!(f.append(entry(0, 1, Some((9, 2, 0)))), Ok(1));
}

#[test]
fn a_batch_that_comes_behind_another_begins_no_producer() {
    let mut f = Folding::new();
    let behind = |sequence| {
        let mut entry = entry(0, 1, Some((9, 0, sequence)));
        entry.producer.as_mut().unwrap().continues = true;
        entry
    };
    let refused = f.append(behind(1));
    assert!(
        matches!(refused, Err(AppendRejected::NotBegun { found: 1, .. })),
        "{refused:?}"
    );
    assert_eq!(f.append(entry(0, 1, Some((9, 0, 0)))), Ok(0));
    assert_eq!(f.append(behind(1)), Ok(1));
    // Known, it is judged as ever.
    assert_eq!(f.append(behind(0)), Ok(0));
    assert!(matches!(
        f.append(behind(3)),
        Err(AppendRejected::OutOfOrderSequence { expected: 2, .. })
    ));
    // One that nothing is known of, and that says nothing of others before it, begins where it likes, as in Kafka.
    assert_eq!(f.append(entry(0, 1, Some((8, 0, 40)))), Ok(2));
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
    // An author of whom nothing was folded has nothing to be followed.
    let stranger = Commit {
        id: id(77, 2),
        ..counted(2, Some(1))
    };
    assert_eq!(fold(stranger), Folded::Void);
}

#[test]
fn each_rule_of_who_may_say_what_has_a_test_that_fails_without_it() {
    assert_found(&[
        (
            Mutant::BrokenChainFolded,
            a_commit_behind_one_that_is_not_in_the_log_is_void_and_may_come_again,
        ),
        (
            Mutant::SpokenForByAnyRun,
            a_run_that_slept_does_not_speak_for_the_one_that_has_its_id_now,
        ),
    ]);
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

#[test]
fn a_topic_created_again_is_another_topic() {
    let mut f = Folding::new();
    f.append(entry(0, 1, None)).unwrap();
    f.apply(Op::DeleteTopic { topic: TOPIC }).unwrap();
    assert_eq!(
        f.append(entry(0, 1, None)),
        Err(AppendRejected::UnknownTopic(TOPIC))
    );
    let other = TopicId(Uuid::from_u128(8));
    f.apply(create("t", other, 1)).unwrap();
    assert_eq!(f.state.topic_by_name("t").unwrap().id(), other);
}

#[test]
fn deleting_records_keeps_the_slice_in_which_the_log_starts() {
    let mut f = Folding::new();
    for _ in 0..3 {
        f.append(entry(0, 2, None)).unwrap();
    }
    let delete = |before| Op::DeleteRecords {
        partition: partition(0),
        before,
    };
    assert_eq!(
        f.apply(delete(Some(Offset(3)))),
        Ok(Applied::RecordsDeleted(Offset(3)))
    );
    let found = f.state.partition(partition(0)).unwrap();
    assert_eq!(found.slices_from(Offset(3)).next().unwrap().0, Offset(2));
    assert!(matches!(
        f.apply(delete(Some(Offset(9)))),
        Err(Rejected::OffsetOutOfRange { .. })
    ));
    assert_eq!(
        f.apply(delete(None)),
        Ok(Applied::RecordsDeleted(Offset(6)))
    );
    assert_eq!(
        f.state.partition(partition(0)).unwrap().gap_in_offsets(),
        None
    );
}

#[test]
fn a_lease_that_holds_cannot_be_ended_by_others() {
    let mut f = Folding::new();
    let incarnation = Incarnation(Uuid::from_u128(77));
    let register = registration(77, 3);
    let Ok(Applied::NodeRegistered(node)) = f.apply(Op::RegisterNode(register)) else {
        panic!()
    };
    let expire = Op::ExpireNode {
        node,
        incarnation,
        as_of: None,
    };
    assert!(matches!(
        f.apply(expire.clone()),
        Err(Rejected::LeaseHolds { .. })
    ));
    // Every commit is a millisecond later than the one before.
    while f.apply(expire.clone()).is_err() {
        assert!(f.state.seq().0 < 20);
    }
    assert_eq!(f.state.nodes().count(), 0);
}

#[test]
fn a_run_that_slept_does_not_speak_for_the_one_that_has_its_id_now() {
    let mut f = Folding::new();
    let register = |run| Op::RegisterNode(registration(run, 3));
    let mut counter = 1000;
    let mut by = |f: &mut Folding, run: u128, op: Op| {
        counter += 1;
        let commit = Commit {
            id: id(run, counter),
            ..commit(counter, vec![op])
        };
        match f.state.apply(f.state.seq().next(), &commit, 64) {
            Folded::Outcomes(mut outcomes) => outcomes.pop().unwrap(),
            folded => panic!("{folded:?}"),
        }
    };
    let Ok(Applied::NodeRegistered(node)) = by(&mut f, 7, register(7)) else {
        panic!()
    };
    let incarnation = Incarnation(Uuid::from_u128(7));
    for _ in 0..9 {
        let _ = by(
            &mut f,
            8,
            Op::ExpireNode {
                node,
                incarnation,
                as_of: None,
            },
        );
    }
    assert_eq!(
        by(&mut f, 8, register(8)),
        Ok(Applied::NodeRegistered(node))
    );
    let act = |action| Op::Group {
        group: GroupId::new("g").unwrap(),
        action,
    };
    let member = MemberId::from("m");
    let join = GroupAction::Join(Join {
        member: member.clone(),
        known: false,
        instance: None,
        node,
        client_id: String::new(),
        client_host: String::new(),
        session_timeout_millis: 10_000,
        rebalance_timeout_millis: 10_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![Protocol {
            name: "range".to_owned(),
            metadata: Bytes::new().into(),
        }],
        require_known_member: false,
        supports_skip_assignment: false,
        max_size: 10,
        initial_delay_millis: 0,
    });
    let stale = Err(Rejected::UnknownNode { node, incarnation });
    assert_eq!(by(&mut f, 7, act(join.clone())), stale);
    assert!(matches!(by(&mut f, 8, act(join)), Ok(Applied::Group(_))));
    let expire = GroupAction::ExpireMember {
        member,
        node: Some(node),
    };
    assert_eq!(by(&mut f, 7, act(expire.clone())), stale);
    assert!(matches!(by(&mut f, 8, act(expire)), Ok(Applied::Group(_))));
}

#[test]
fn only_the_newest_snapshots_are_kept_and_the_others_are_named() {
    let mut f = Folding::new();
    let mut retired = Vec::new();
    for _ in 0..6 {
        let seq = f.state.seq();
        match f.apply(Op::SnapshotTaken {
            seq,
            bytes: 1,
            digest: None,
        }) {
            Ok(Applied::SnapshotsRetired(old)) => retired.extend(old),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(retired, [Seq(1), Seq(2)]);
    assert_eq!(f.state.last_snapshot().unwrap().seq, Seq(6));
}

fn output(end: i64, segment: u128) -> CompactedSlice {
    CompactedSlice {
        end: Offset(end),
        segment: SegmentId(Uuid::from_u128(segment)),
        start: 40,
        len: 100,
        max_timestamp: Timestamp(5),
        index: SliceIndex { start: 140, len: 9 },
    }
}

#[test]
fn an_append_that_no_node_asks_for_changes_nothing() {
    let mut f = Folding::new();
    assert_eq!(f.append(entry(0, 3, None)), Ok(0));
    let before = f.state.partition(partition(0)).cloned();
    let empty = AppendEntry {
        len: 0,
        ..entry(0, 1, None)
    };
    for impossible in [
        empty,
        entry(0, 0, None),
        entry(0, 0, Some((1, 0, 0))),
        entry(u64::MAX, 1, None),
        entry(u64::MAX - 64, 1, None),
        entry(u64::MAX - 64 - 99, 1, None),
    ] {
        let outcome = f.append(impossible);
        assert_eq!(outcome, Err(AppendRejected::Impossible(partition(0))));
    }
    assert_eq!(f.state.partition(partition(0)).cloned(), before);
}

/// Sums of lengths that a commit merely claims.
#[test]
fn replacements_of_any_length_are_counted_without_overflow() {
    let mut f = Folding::new();
    assert_eq!(f.append(entry(0, 3, None)), Ok(0));
    assert_eq!(f.append(entry(0, 3, None)), Ok(3));
    let huge = |end, segment| CompactedSlice {
        start: 0,
        len: u64::MAX,
        ..output(end, segment)
    };
    let replace = ReplaceSlices {
        partition: partition(0),
        layout: 0,
        base: Offset(0),
        end: Offset(6),
        outputs: vec![huge(3, 1), huge(6, 2)],
        cleaned: None,
    };
    assert_eq!(f.apply(Op::ReplaceSlices(replace)), Ok(Applied::Done));
    let found = f.state.partition(partition(0)).unwrap();
    assert_eq!(found.bytes(), ByteCount(u64::MAX));
    assert_eq!(State::from_bytes(&f.state.to_bytes()).unwrap(), f.state);
}
