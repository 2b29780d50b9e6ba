//! What is no damage.

use std::time::Duration;

use super::scene::{Bucket, kinds};
use crate::env::Env;
use crate::maintain::fsck::{FsckOptions, Kind, Severity, fsck};
use crate::store::{ObjectPath, RequestKind, Store, StoreMetrics, StoreOptions, StoreUrl};
use crate::types::{SegmentId, Seq};

#[tokio::test(start_paused = true)]
async fn a_healthy_bucket_has_no_findings_and_all_of_it_was_looked_at() {
    let mut bucket = Bucket::healthy().await;
    for deep in [false, true] {
        let report = bucket.check(deep).await;
        assert_eq!(report.findings, []);
        assert!(report.is_sound() && report.cluster_id.is_some());
        let checked = report.checked;
        assert_eq!(report.log_end, Seq(bucket.log_end().await));
        assert_eq!(report.state_seq, Some(report.log_end));
        assert_eq!(checked.commits, report.log_end.0);
        assert_eq!(checked.segments, 4);
        assert!(checked.snapshots_compared >= 2, "{checked:?}");
        assert!(checked.slices >= 18, "{checked:?}");
        if deep {
            assert!(checked.bytes_read >= checked.bytes - 200, "{checked:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_bucket_without_a_cluster_is_said_to_be_none_and_stays_empty() {
    let mut bucket = Bucket::empty();
    assert_eq!(bucket.kinds(false).await, ["no-cluster"]);
    assert!(bucket.names().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_upload_under_way_is_a_note_and_becomes_an_orphan_after_an_hour() {
    let mut bucket = Bucket::healthy().await;
    let env = Env::simulated(9, bucket.now);
    let path = ObjectPath::segment(SegmentId(env.uuid_at(env.wall())));
    bucket.put(path.as_str(), "half of a segment").await;
    let report = bucket.check(true).await;
    assert_eq!(kinds(&report), ["uploading"]);
    assert_eq!(report.findings[0].severity, Severity::Note);
    assert_eq!(report.findings[0].object, path.as_str());
    bucket.now = bucket.now.after(Duration::from_secs(3601));
    let report = bucket.check(true).await;
    assert_eq!(kinds(&report), ["orphan"]);
    assert_eq!(report.findings[0].severity, Severity::Warning);
    assert!(report.is_sound());
}

#[tokio::test(start_paused = true)]
async fn names_that_are_not_weirs_and_old_leftovers_of_checks_are_warnings() {
    let mut bucket = Bucket::healthy().await;
    let foreign = [
        "manifest/log/12.commit",
        "notes.txt",
        "segments/x/notes.segment",
    ];
    for name in foreign {
        bucket.put(name, "mine").await;
    }
    let check = ObjectPath::check(uuid::Uuid::from_u128(5), "race");
    bucket.put(check.as_str(), "x").await;
    let report = bucket.check(false).await;
    let found: Vec<_> = report.findings.iter().map(|f| &f.object).collect();
    assert_eq!(found, foreign);
    assert!(report.is_sound());
    assert_eq!(kinds(&report), ["foreign"], "a check may be under way");
    bucket.now = bucket.now.after(Duration::from_secs(2 * 3600));
    let report = bucket.check(false).await;
    assert_eq!(kinds(&report), ["check-leftover", "foreign"]);
    assert_eq!(report.count(Severity::Warning), 4);
}

#[tokio::test(start_paused = true)]
async fn what_is_reserved_for_other_logs_is_neither_foreign_nor_to_be_moved() {
    let mut bucket = Bucket::healthy().await;
    for name in [
        "logs/1/manifest/log/00000000000000000001.commit",
        "logs/1/segments/a/x",
    ] {
        bucket.put(name, "of another log").await;
    }
    bucket.now = bucket.now.after(Duration::from_secs(2 * 3600));
    let report = bucket.check(true).await;
    assert_eq!(kinds(&report), ["other-logs"]);
    let found = &report.findings[0];
    assert_eq!(
        (found.object.as_str(), found.detail.as_str()),
        (
            "logs/1/manifest/log/00000000000000000001.commit",
            "2 objects, 28 bytes"
        )
    );
    assert!(report.is_sound());
    let advice = format!("{} {}", Kind::OtherLogs.meaning(), Kind::OtherLogs.action());
    assert!(advice.contains("reserved") && advice.contains("leave it as it is"));
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_was_never_announced_is_a_note() {
    let mut bucket = Bucket::healthy().await;
    let report = bucket.check(false).await;
    assert!(report.findings.is_empty());
    // What a node leaves that died after it wrote it: here one that was retired long ago.
    let newest = bucket.newest("manifest/snapshot").await;
    let mut log = crate::state::State::new();
    for seq in 1..4 {
        let name = ObjectPath::commit(Seq(seq));
        let body = bucket.get(name.as_str()).await;
        let len = body.len() as u64;
        let logged =
            crate::manifest::LoggedCommit::decode(name.as_str(), Seq(seq), &body, len).unwrap();
        log.apply(Seq(seq), &logged.commit, logged.data_start);
    }
    let old = ObjectPath::snapshot(Seq(3));
    assert_ne!(old.as_str(), newest);
    bucket
        .put(old.as_str(), super::damage::snapshot_of(&log))
        .await;
    let report = bucket.check(false).await;
    assert_eq!(kinds(&report), ["spare-snapshot"]);
    assert!(report.is_sound());
}

#[tokio::test]
async fn a_directory_is_checked_as_it_is_and_one_that_does_not_exist_is_not_made() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("store");
    let url: StoreUrl = format!("file://{}", root.display()).parse().unwrap();
    let options = StoreOptions::default;
    let absent = Store::open_read_only(&url, options(), StoreMetrics::default()).await;
    assert!(absent.is_err() && !root.exists());

    let bucket = Bucket::healthy().await;
    for name in bucket.names().await {
        let path = root.join(&name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bucket.get(&name).await).unwrap();
    }
    // What a crash leaves of a write: it has no name yet.
    std::fs::create_dir_all(root.join(".staging")).unwrap();
    let staged = root.join(".staging/0198e6c2-7d5e-7cc3-b1f4-06d9bb0c2a51");
    std::fs::write(&staged, "half").unwrap();
    let before = tree(&root);
    let store = Store::open_read_only(&url, options(), StoreMetrics::default())
        .await
        .unwrap();
    let options = FsckOptions {
        deep: true,
        now: Env::system().wall(),
    };
    let report = fsck(&store, options, &()).await.unwrap();
    assert_eq!(report.findings, []);
    assert_eq!(tree(&root), before);
    let path = ObjectPath::commit(Seq(99));
    let refused = store.create(&path, b"x".to_vec(), RequestKind::CommitPut);
    assert!(refused.await.is_err());
    assert_eq!(tree(&root), before);
}

/// Every path below a directory, with when it was changed and its size.
fn tree(root: &std::path::Path) -> Vec<(std::path::PathBuf, std::time::SystemTime, u64)> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.metadata().unwrap();
            found.push((path.clone(), metadata.modified().unwrap(), metadata.len()));
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn every_kind_of_finding_has_a_name_of_its_own_a_meaning_and_something_to_do() {
    let names: std::collections::BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.id()).collect();
    assert_eq!(names.len(), Kind::ALL.len());
    for kind in Kind::ALL {
        assert!(
            kind.meaning().len() > 10 && kind.action().len() > 6,
            "{kind:?}"
        );
    }
    assert!(
        Kind::ALL.is_sorted_by_key(|kind| kind.severity()),
        "the worst first"
    );
}
