//! Which snapshots are kept, and how far the log may be deleted behind them.

use std::time::Duration;

use crate::state::tests::*;

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

#[test]
fn the_log_is_truncated_only_behind_a_snapshot_that_has_been_known_for_long() {
    let mut log = Log::new();
    log.inline_many(4);
    let snapshot = log.state.seq();
    let (seq, bytes) = (snapshot, 1);
    log.apply(Op::SnapshotTaken {
        seq,
        bytes,
        digest: None,
    })
    .unwrap();
    let raise = |to| Op::RaiseLogBoundary { to };
    log.wait(TRUNCATION_AGE - Duration::from_millis(1));
    let young = Err(Rejected::TooYoung {
        to: snapshot,
        limit: Seq(0),
    });
    assert_eq!(log.apply(raise(snapshot)), young);
    // A newer one that is not of age yet does not help, and does not make one forget the first.
    let newer = log.state.seq();
    log.apply(Op::SnapshotTaken {
        seq: newer,
        bytes,
        digest: None,
    })
    .unwrap();
    log.wait(Duration::from_millis(1));
    assert_eq!(
        log.apply(raise(newer)),
        Err(Rejected::TooYoung {
            to: newer,
            limit: snapshot
        })
    );
    assert_eq!(log.apply(raise(snapshot)), Ok(Applied::Done));
    assert_eq!(log.state.log_boundary(), snapshot);
    // Done is said of no more than was allowed, and the boundary never falls.
    log.apply(Op::LogTruncated { to: newer }).unwrap();
    assert_eq!(log.state.log_truncated(), snapshot);
    log.apply(raise(Seq(1))).unwrap();
    assert_eq!(log.state.log_boundary(), snapshot);
}

#[test]
fn frequent_snapshots_still_come_of_age() {
    let mut log = Log::new();
    let mut best = Seq(0);
    for _ in 0..200 {
        let seq = log.state.seq();
        log.apply(Op::SnapshotTaken {
            seq,
            bytes: 1,
            digest: None,
        })
        .unwrap();
        log.wait(Duration::from_secs(5));
        best = log.state.log_boundary_limit();
    }
    // Known for ten minutes; marks are a minute apart.
    let age = (log.state.seq().0 - best.0) * 5;
    assert!((600..=700).contains(&age), "{age}");
    let size = log.state.to_bytes().len();
    assert!(size < 2000, "{size}");
}

#[test]
fn a_log_that_is_truncated_too_early_is_found() {
    let test = the_log_is_truncated_only_behind_a_snapshot_that_has_been_known_for_long;
    assert_needed(&[(Rule::TruncationNeedsAgedSnapshot, test)]);
}
