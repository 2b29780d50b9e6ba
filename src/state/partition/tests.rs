//! What a partition takes, and what takes the place of what it has.

use crate::state::tests::*;

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

#[test]
fn compacted_slices_take_the_place_of_those_that_were_read() {
    let mut log = Log::new();
    let inputs = [log.inline(), log.inline(), log.inline()];
    let segment = minted(log.now, 1);
    log.replace(0, (0, 4), &[(1, segment), (4, segment)])
        .unwrap();
    let new = ObjectRef::Segment(segment);
    assert_eq!(log.slices(), [(0, 1, new), (1, 4, new), (4, 6, inputs[2])]);
    let found = log.state.partition(partition(0)).unwrap();
    assert_eq!(found.gap_in_offsets(), None);
    assert_eq!(found.bytes(), ByteCount(300));
    assert!(log.state.death_of(inputs[0]).is_some() && log.state.death_of(inputs[1]).is_some());
    assert!(log.state.is_live(inputs[2]) && log.state.is_live(new));
    assert_eq!(log.state.totals().appended, ByteCount(300));
    assert_eq!(log.state.totals().compacted, ByteCount(200));
}

/// A slice of two records, of which the first is deleted; then two take its place, the first of which ends where the
/// log starts.
fn replace_across_the_log_start(log: &mut Log) -> [SegmentId; 2] {
    log.inline_many(2);
    let before = Some(Offset(1));
    let partition = partition(0);
    log.apply(Op::DeleteRecords { partition, before }).unwrap();
    let [below, above] = [1, 2].map(|n| minted(log.now, n));
    log.replace(0, (0, 4), &[(1, below), (4, above)]).unwrap();
    [below, above]
}

#[test]
fn a_replacement_leaves_no_slice_below_the_log_start() {
    let mut log = Log::new();
    log.apply(Op::RaiseLevel { to: Level(2) }).unwrap();
    let [below, above] = replace_across_the_log_start(&mut log);
    assert_eq!(log.slices(), [(1, 4, ObjectRef::Segment(above))]);
    assert!(log.state.death_of(ObjectRef::Segment(below)).is_some());
    let found = log.state.partition(partition(0)).unwrap();
    assert_eq!(found.bytes(), ByteCount(100));
    assert_eq!(State::from_bytes(&log.state.to_bytes()).unwrap(), log.state);
}

#[test]
fn what_the_first_level_left_below_the_log_start_can_be_read_and_raising_the_level_lets_go_of_it() {
    let mut log = Log::new();
    let [below, above] = replace_across_the_log_start(&mut log).map(ObjectRef::Segment);
    assert_eq!(log.slices(), [(0, 1, below), (1, 4, above)]);
    let mut read = State::from_bytes(&log.state.to_bytes()).unwrap();
    assert_eq!(read, log.state);
    log.apply(Op::RaiseLevel { to: Level(2) }).unwrap();
    assert_eq!(log.slices(), [(1, 4, above)]);
    assert!(log.state.death_of(below).is_some());
    std::mem::swap(&mut read, &mut log.state);
    log.apply(Op::RaiseLevel { to: Level(2) }).unwrap();
    assert_eq!(log.state.to_bytes(), read.to_bytes());
}

#[test]
fn a_compaction_of_slices_that_changed_meanwhile_is_refused() {
    let mut log = Log::new();
    log.inline_many(4);
    let changed = |base, end| {
        Err(Rejected::SlicesChanged {
            partition: partition(0),
            base: Offset(base),
            end: Offset(end),
        })
    };
    let segment = |n| minted(1_700_000_000_000, n);
    // Another node was faster with a part of them.
    log.replace(0, (2, 6), &[(6, segment(1))]).unwrap();
    assert_eq!(log.replace(0, (0, 4), &[(4, segment(2))]), changed(0, 4));
    assert_eq!(log.replace(0, (0, 2), &[(2, segment(2))]), changed(0, 2));
    // Not at the boundaries of slices.
    assert_eq!(log.replace(1, (0, 4), &[(4, segment(2))]), changed(0, 4));
    assert_eq!(log.replace(1, (3, 6), &[(6, segment(2))]), changed(3, 6));
    // The first ones expired.
    log.apply(Op::DeleteRecords {
        partition: partition(0),
        before: Some(Offset(2)),
    })
    .unwrap();
    assert_eq!(log.replace(1, (0, 6), &[(6, segment(2))]), changed(0, 6));
    // What came at the end does not matter.
    log.inline();
    log.replace(1, (2, 8), &[(8, segment(2))]).unwrap();
}

#[test]
fn outputs_that_do_not_cover_what_they_replace_are_refused() {
    let mut log = Log::new();
    log.inline_many(2);
    let segment = minted(log.now, 1);
    for outputs in [
        &[][..],
        &[(3, segment)],
        &[(5, segment)],
        &[(0, segment), (4, segment)],
        &[(3, segment), (2, segment), (4, segment)],
        &[(4, segment), (4, segment)],
    ] {
        let refused = log.replace(0, (0, 4), outputs);
        assert!(
            matches!(refused, Err(Rejected::InvalidReplacement { .. })),
            "{outputs:?}: {refused:?}"
        );
    }
    assert_eq!(log.state.totals().compacted, ByteCount(0));
}

#[test]
fn each_rule_of_replacing_has_a_test_that_fails_without_it() {
    assert_needed(&[
        (
            Rule::ReplacementsMatchLayout,
            a_compaction_of_slices_that_changed_meanwhile_is_refused,
        ),
        (
            Rule::OutputsCoverInputs,
            outputs_that_do_not_cover_what_they_replace_are_refused,
        ),
        (
            Rule::ReplacementsAreTrimmed,
            a_replacement_leaves_no_slice_below_the_log_start,
        ),
    ]);
}

impl Partition {
    /// A partition with these slices, for tests of who reads them.
    pub(crate) fn of_slices(log_start: Offset, slices: Vec<(Offset, Slice)>) -> Partition {
        Partition {
            log_start,
            high_watermark: slices.last().map_or(log_start, |(_, slice)| slice.end),
            bytes: ByteCount(slices.iter().map(|(_, slice)| slice.len).sum()),
            slices: slices.into_iter().collect(),
            ..Partition::default()
        }
    }
}
