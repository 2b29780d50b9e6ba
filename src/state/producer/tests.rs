//! Which batches of a producer are new, retries, or out of order.

use super::sequence_after;
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
