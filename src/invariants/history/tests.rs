//! Each predicate on a history that is sound, and on the same one broken in the way that it is to find.

use super::*;

fn told(offset: i64, at: Moment) -> Outcome<Offset> {
    Outcome::Told(Offset(offset), at)
}

fn append(name: &str, values: &[Value], begun: Moment, outcome: Outcome<Offset>) -> Append {
    Append {
        name: name.to_owned(),
        values: values.to_vec(),
        begun,
        outcome,
        given: Vec::new(),
    }
}

fn read(name: &str, begun: Moment, ended: Moment, records: &[(i64, Value)]) -> Read {
    let records = records.iter().map(|(offset, v)| (Offset(*offset), *v));
    Read {
        name: name.to_owned(),
        begun,
        ended,
        records: records.collect(),
        end: None,
    }
}

fn end(name: &str, begun: Moment, ended: Moment, end: i64) -> Read {
    Read {
        end: Some(Offset(end)),
        ..read(name, begun, ended, &[])
    }
}

/// Two batches acknowledged, one of unknown outcome that is stored and one that is not, one refused.
fn sound() -> PartitionHistory {
    PartitionHistory {
        name: "t-0".to_owned(),
        appends: vec![
            append("a", &[10, 11], 1, told(0, 5)),
            append("b", &[20], 3, told(3, 8)),
            append("c", &[30], 2, Outcome::Unknown),
            append("d", &[40], 4, Outcome::Unknown),
            append("e", &[50], 6, Outcome::Refused(7)),
        ],
        reads: vec![
            read("r", 6, 9, &[(1, 11), (2, 30)]),
            end("l", 9, 10, 4),
            end("early", 0, 2, 0),
        ],
        deletions: Vec::new(),
        log_start: Offset(0),
        high_watermark: Offset(4),
        log: vec![
            (Offset(0), 10),
            (Offset(1), 11),
            (Offset(2), 30),
            (Offset(3), 20),
        ],
    }
}

fn of(found: Vec<Violation>) -> Vec<Invariant> {
    found.into_iter().map(|found| found.invariant).collect()
}

#[test]
fn a_sound_history_breaks_nothing() {
    assert_eq!(sound().violations(), []);
}

#[test]
fn i1_finds_an_acknowledged_record_that_is_gone_or_another_or_deleted_by_nobody() {
    let mut lost = sound();
    lost.log.pop();
    lost.high_watermark = Offset(3);
    assert_eq!(
        of(lost.acknowledged_stays()),
        [Invariant::AcknowledgedStays]
    );

    let mut elsewhere = sound();
    elsewhere.appends[1].outcome = told(2, 8);
    assert_eq!(
        of(elsewhere.acknowledged_stays()),
        [Invariant::AcknowledgedStays]
    );

    let mut cut = sound();
    cut.log.remove(0);
    cut.log_start = Offset(1);
    assert_eq!(of(cut.acknowledged_stays()), [Invariant::AcknowledgedStays]);
    cut.deletions.push(Deletion {
        begun: 3,
        before: Offset(1),
    });
    assert_eq!(cut.acknowledged_stays(), []);
}

#[test]
fn i2_finds_gaps_and_prefixes_that_change() {
    let mut gap = sound();
    gap.log.remove(2);
    assert_eq!(of(gap.offsets_are_dense()), [Invariant::OffsetsAreDense]);

    let mut jump = sound();
    jump.reads
        .push(read("jumps", 9, 10, &[(0, 10), (2, 30), (3, 20)]));
    assert_eq!(of(jump.offsets_are_dense()), [Invariant::OffsetsAreDense]);

    let mut changed = sound();
    changed.reads.push(read("before", 9, 10, &[(2, 20)]));
    assert_eq!(
        of(changed.offsets_are_dense()),
        [Invariant::OffsetsAreDense]
    );

    // Below the log start, too, where only reads tell what there was.
    let mut gone = sound();
    gone.log.drain(..3);
    gone.log_start = Offset(3);
    gone.reads.push(read("before", 9, 10, &[(1, 40)]));
    assert_eq!(of(gone.offsets_are_dense()), [Invariant::OffsetsAreDense]);
}

#[test]
fn i5_finds_what_is_stored_twice_or_torn_or_refused_or_sent_by_nobody_or_given_two_offsets() {
    let found = |change: fn(&mut PartitionHistory)| {
        let mut history = sound();
        change(&mut history);
        of(history.batches_are_stored_once())
    };
    assert_eq!(
        found(|h| h.log.push((Offset(4), 30))),
        [Invariant::RetriesAreStoredOnce]
    );
    assert_eq!(
        found(|h| h.appends[0].values.swap(0, 1)),
        [Invariant::RetriesAreStoredOnce]
    );
    assert_eq!(
        found(|h| h.log.push((Offset(4), 50))),
        [Invariant::RetriesAreStoredOnce]
    );
    assert_eq!(
        found(|h| h.log.push((Offset(4), 99))),
        [Invariant::RetriesAreStoredOnce]
    );
    assert_eq!(
        found(|h| h.appends[1].given.push(Offset(7))),
        [Invariant::RetriesAreStoredOnce]
    );
    assert_eq!(found(|h| h.appends[1].given.push(Offset(3))), []);
}

#[test]
fn a_history_in_which_something_overtakes_what_had_ended_is_not_linearizable() {
    let found = |change: fn(&mut PartitionHistory)| {
        let mut history = sound();
        change(&mut history);
        history.is_linearizable().len()
    };
    assert_eq!(found(|_| ()), 0);
    // An append that began after another had ended has a lower offset.
    assert_eq!(
        found(|h| {
            h.appends[0].begun = 9;
            h.appends[0].outcome = told(0, 12);
            h.reads.clear();
        }),
        1
    );
    // A question for the end that misses what had been acknowledged, or read by anybody, before it was asked.
    assert_eq!(found(|h| h.reads.push(end("stale", 9, 12, 3))), 1);
    assert_eq!(found(|h| h.reads.push(end("stale", 10, 12, 2))), 1);
    // One that knows of a batch that is sent only later.
    assert_eq!(found(|h| h.reads.push(end("soon", 1, 2, 4))), 1);
    // A read of a record that is sent only later.
    assert_eq!(found(|h| h.reads.push(read("soon", 0, 1, &[(2, 30)]))), 1);
    // A read of an old prefix is none of these, whenever it is made.
    assert_eq!(
        found(|h| h.reads.push(read("old", 11, 12, &[(0, 10), (1, 11)]))),
        0
    );
}

fn access<T>(value: T, begun: Moment, ended: Moment) -> Access<T> {
    Access {
        name: format!("at {begun}"),
        value,
        begun,
        ended,
    }
}

#[test]
fn a_register_is_linearizable_or_it_is_told_why_not() {
    let writes = [
        access(1, 1, 3),
        access(2, 2, 6),
        access(3, 7, 8),
        access(4, 7, Moment::MAX),
    ];
    let check = |reads: &[Access<i32>]| register_is_linearizable(0, &writes, reads);
    let sound = [
        access(0, 0, 2),
        access(1, 3, 4),
        access(2, 5, 7),
        access(3, 9, 10),
        access(4, 11, 12),
    ];
    assert_eq!(check(&sound), Ok(()));
    // What nobody wrote; from the future; overwritten long ago; the first value again; in turns.
    assert!(check(&[access(9, 4, 5)]).is_err());
    assert!(check(&[access(3, 4, 5)]).is_err());
    assert!(check(&[access(1, 9, 10)]).is_err());
    assert!(check(&[access(0, 4, 5)]).is_err());
    assert!(check(&[access(3, 9, 10), access(4, 11, 12), access(3, 13, 14)]).is_err());
}

#[test]
fn i3_finds_two_states_at_one_seq() {
    let seen = |node: &str, seq, digest| StateSeen {
        node: node.to_owned(),
        seq: Seq(seq),
        digest,
    };
    let mut states = vec![seen("a", 1, 7), seen("b", 2, 8), seen("b", 1, 7)];
    assert_eq!(states_are_equal(&states), []);
    states.push(seen("c", 2, 9));
    assert_eq!(of(states_are_equal(&states)), [Invariant::StatesAreEqual]);
}

fn group() -> GroupHistory {
    let owned = |member: &str, generation, partitions: &[u32], told| Ownership {
        member: MemberId::from(member),
        generation: Generation(generation),
        partitions: partitions.to_vec(),
        told,
    };
    let commit = |member: &str, generation, value, begun, ended| OffsetCommit {
        member: MemberId::from(member),
        generation: Generation(generation),
        partition: 0,
        value,
        begun,
        outcome: Outcome::Told((), ended),
    };
    GroupHistory {
        name: "g".to_owned(),
        owned: vec![
            owned("a", 1, &[0, 1], 1),
            owned("a", 2, &[1], 5),
            owned("b", 2, &[0], 6),
        ],
        commits: vec![commit("a", 1, 70, 2, 3), commit("b", 2, 71, 7, 8)],
        found: vec![(0, access(Some(70), 4, 5)), (0, access(Some(71), 9, 10))],
    }
}

#[test]
fn i6_finds_two_owners_and_a_commit_of_a_generation_that_is_over() {
    assert_eq!(group().violations(), []);
    let mut shared = group();
    shared.owned[1].partitions.push(0);
    assert_eq!(of(shared.violations()), [Invariant::OneOwnerPerGeneration]);
    let mut stale = group();
    stale.commits[0].begun = 6;
    stale.commits[0].outcome = Outcome::Told((), 7);
    stale.found.clear();
    assert_eq!(of(stale.violations()), [Invariant::OneOwnerPerGeneration]);
    // Refused, or sent before anybody knew of the next generation, it is in order.
    stale.commits[0].outcome = Outcome::Refused(7);
    assert_eq!(stale.violations(), []);
}

#[test]
fn i6_finds_a_late_commit_of_a_generation_that_is_over() {
    let mut late = group();
    late.commits[0].begun = 2;
    late.commits[0].outcome = Outcome::Unknown;
    late.found = vec![(0, access(Some(71), 9, 10)), (0, access(Some(70), 11, 12))];
    assert_eq!(of(late.violations()), [Invariant::OneOwnerPerGeneration]);
}

#[test]
fn a_committed_offset_that_is_forgotten_is_found() {
    let mut forgotten = group();
    forgotten.found.push((0, access(Some(70), 11, 12)));
    // It looks like a commit of the generation before as well.
    assert!(of(forgotten.violations()).contains(&Invariant::AcknowledgedStays));
    let mut never = group();
    never.found.push((0, access(None, 11, 12)));
    assert_eq!(of(never.violations()), [Invariant::AcknowledgedStays]);
}

#[test]
fn a_topic_is_there_from_its_creation_to_its_deletion() {
    let topic = |seen: &[Access<bool>]| {
        let history = TopicHistory {
            name: "t".to_owned(),
            created: Some((2, 4)),
            deleted: Some((10, 12)),
            seen: seen.to_vec(),
        };
        history.violations().len()
    };
    let sound = [
        access(false, 0, 1),
        access(true, 2, 3),
        access(true, 5, 6),
        access(true, 10, 11),
        access(false, 11, 12),
        access(false, 13, 14),
    ];
    assert_eq!(topic(&sound), 0);
    assert_eq!(topic(&[access(true, 0, 1)]), 1);
    assert_eq!(topic(&[access(false, 5, 6)]), 1);
    assert_eq!(topic(&[access(true, 13, 14)]), 1);
    assert_eq!(topic(&[access(true, 2, 3), access(false, 4, 5)]), 1);
    assert_eq!(topic(&[access(false, 11, 12), access(true, 13, 14)]), 1);
}
