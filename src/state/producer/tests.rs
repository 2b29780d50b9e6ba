//! Which batches of a producer are new, retries, or out of order.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::sequence_after;
use crate::state::tests::properties::{aimed, any_log};
use crate::state::tests::*;

#[test]
fn sequences_wrap_after_the_largest_to_zero() {
    assert_eq!(sequence_after(i32::MAX, 1), 0);
    assert_eq!(sequence_after(i32::MAX - 1, 3), 1);
    assert_eq!(sequence_after(5, 0), 5);
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

/// Every producer of every partition.
fn producers(state: &State) -> BTreeSet<(TopicPartition, ProducerId, Timestamp)> {
    let partitions = state.topics().flat_map(Topic::partitions);
    let each = partitions.flat_map(|(id, partition)| {
        let producers = partition.producers();
        producers.map(move |(producer, found)| (id, producer, found.last_write()))
    });
    each.collect()
}

proptest! {
    /// Whether a state was folded from the start or begun with a snapshot, whose index is made anew, and however often
    /// producers were forgotten before.
    #[test]
    fn producers_are_forgotten_by_the_index_as_by_a_look_at_all(
        log in any_log(40), cut in 0..40usize, times in prop::collection::vec(0..2500i64, 40),
    ) {
        let mut state = State::new();
        for (index, (commit, before)) in log.iter().zip(times).enumerate() {
            if index == cut {
                state = State::from_bytes(&state.to_bytes()).unwrap();
            }
            let commit = aimed(&state, commit);
            state.apply(state.seq().next(), &commit, 64);
            let (all, before) = (producers(&state), Timestamp(before));
            let is_old = |(_, _, last_write): &(_, _, Timestamp)| *last_write < before;
            prop_assert_eq!(state.has_producers_older_than(before), all.iter().any(is_old));
            // One entry for each partition that has producers, and none for what is deleted.
            let end = Timestamp(i64::MAX);
            let entered: Vec<_> = state.producers_by_age.older(end).collect();
            let with_producers: BTreeSet<_> = all.iter().map(|(id, _, _)| *id).collect();
            prop_assert_eq!(entered.len(), with_producers.len());
            prop_assert_eq!(entered.into_iter().collect::<BTreeSet<_>>(), with_producers);
            if index % 2 == 0 {
                let left = all.iter().filter(|producer| !is_old(producer)).copied().collect();
                state.expire_producers(before).unwrap();
                prop_assert_eq!(producers(&state), left);
            }
        }
    }
}
