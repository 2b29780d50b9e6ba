//! One damage at a time, and what is found.

use bytes::Bytes;
use object_store::memory::InMemory;
use std::sync::Arc;

use super::scene::{Bucket, Writer, kinds, number};
use crate::format::{ObjectBuilder, ObjectHeader, ObjectKind};
use crate::invariants::Invariant;
use crate::maintain::fsck::{Report, Severity};
use crate::manifest::{ManifestOptions, decode_snapshot};
use crate::state::op::{AppendSource, Op};
use crate::state::{Level, State};
use crate::store::{ObjectPath, StoreError};
use crate::testing::snapshot_of_bytes;
use crate::types::Seq;

pub(super) fn snapshot_of(state: &State) -> Bytes {
    snapshot_of_bytes(&state.to_bytes())
}

/// What is found once `damage` is done to a healthy bucket.
async fn after(deep: bool, damage: impl AsyncFnOnce(&mut Bucket)) -> Report {
    let mut bucket = Bucket::healthy().await;
    damage(&mut bucket).await;
    let report = bucket.check(deep).await;
    assert!(!report.is_sound(), "{report:?}");
    for finding in &report.findings {
        assert!(!finding.detail.is_empty() && !finding.object.is_empty());
    }
    report
}

async fn flip(bucket: &Bucket, name: &str, at: usize) {
    let mut body = bucket.get(name).await.to_vec();
    body[at] ^= 0x10;
    bucket.put(name, body).await;
}

#[tokio::test(start_paused = true)]
async fn a_missing_commit_is_found_with_what_it_takes_along() {
    for behind_snapshot in [false, true] {
        let mut gone = Seq(0);
        let report = after(false, async |bucket| {
            let newest = number(&bucket.newest("manifest/snapshot").await);
            gone = Seq(if behind_snapshot {
                bucket.log_end().await - 1
            } else {
                newest - 1
            });
            assert!(behind_snapshot == (gone.0 > newest));
            bucket.delete(ObjectPath::commit(gone).as_str()).await;
        })
        .await;
        let first = &report.findings[0];
        assert_eq!(first.kind.id(), "missing-commit");
        assert_eq!(first.object, ObjectPath::commit(gone).as_str());
        let covered = first.detail.contains("covers them for nodes that start");
        assert_eq!(covered, !behind_snapshot, "{}", first.detail);
        assert_eq!(first.inspect, Some((gone.0 - 1).to_string()));
        if behind_snapshot {
            // What nodes see ends before the gap, and what lies behind must not be called superfluous.
            assert_eq!(report.state_seq, Some(Seq(gone.0 - 1)));
        } else {
            assert_eq!(report.state_seq, Some(report.log_end));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn commits_on_their_way_behind_the_end_of_the_log_are_no_damage() {
    // The last of 16 stands as far behind the last that can be folded as no node sends a commit.
    for (follows, count, is_damage) in [
        (Some(6), 3, false),
        (None, 3, true),
        (Some(6), 15, false),
        (Some(6), 16, true),
    ] {
        let mut bucket = Bucket::healthy().await;
        let end = bucket.log_end().await;
        bucket.put_ahead(follows, count).await;
        let report = bucket.check(true).await;
        let kinds: Vec<_> = report
            .findings
            .iter()
            .map(|found| found.kind.id())
            .collect();
        assert_eq!(report.is_sound(), !is_damage, "{kinds:?}");
        assert_eq!(kinds.contains(&"ahead-of-the-log"), !is_damage, "{kinds:?}");
        assert_eq!(kinds.contains(&"missing-commit"), is_damage, "{kinds:?}");
        assert_eq!(report.state_seq, Some(Seq(end)));
    }
}

#[tokio::test(start_paused = true)]
async fn with_the_log_broken_no_segment_is_called_an_orphan() {
    let report = after(false, async |bucket| {
        for name in bucket.names().await {
            if name.contains("snapshot") {
                bucket.delete(&name).await;
            }
        }
        bucket.delete(ObjectPath::commit(Seq(2)).as_str()).await;
        bucket.now = bucket.now.after(std::time::Duration::from_secs(7200));
    })
    .await;
    assert_eq!(kinds(&report), ["missing-commit", "not-judged"]);
}

#[tokio::test(start_paused = true)]
async fn a_missing_commit_that_holds_records_loses_them() {
    let report = after(false, async |bucket| {
        // A snapshot covers it, but its records are nowhere else.
        bucket.delete(ObjectPath::commit(Seq(2)).as_str()).await;
    })
    .await;
    assert_eq!(kinds(&report), ["missing-commit", "missing-object"]);
    let lost = &report.findings[1];
    assert_eq!(lost.invariant, Some("I10"));
    assert!(
        lost.detail.contains("offsets 0 to 0 of orders/0"),
        "{}",
        lost.detail
    );
}

#[tokio::test(start_paused = true)]
async fn a_log_that_ends_before_a_snapshot_of_it_was_cut_off() {
    let report = after(false, async |bucket| {
        let newest = number(&bucket.newest("manifest/snapshot").await);
        for seq in newest..=bucket.log_end().await {
            bucket.delete(ObjectPath::commit(Seq(seq)).as_str()).await;
        }
    })
    .await;
    assert!(kinds(&report).contains(&"log-cut-off"), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_missing_segment_loses_the_offsets_that_are_named() {
    let mut name = String::new();
    let report = after(false, async |bucket| {
        name = ObjectPath::segment(bucket.last_segment.unwrap())
            .as_str()
            .to_owned();
        bucket.delete(&name).await;
    })
    .await;
    assert_eq!(kinds(&report), ["missing-object"]);
    let found = &report.findings[0];
    assert_eq!(
        (found.object.as_str(), found.invariant),
        (name.as_str(), Some("I10"))
    );
    assert!(found.detail.contains("of orders/0") && found.detail.contains("of orders/1"));
}

#[tokio::test(start_paused = true)]
async fn a_missing_snapshot_that_was_announced_is_found() {
    let report = after(false, async |bucket| {
        let newest = bucket.newest("manifest/snapshot").await;
        bucket.delete(&newest).await;
    })
    .await;
    assert_eq!(kinds(&report), ["missing-snapshot"]);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_too_short_or_too_long_is_found_without_deep() {
    for folder in ["manifest/log", "manifest/snapshot", "segments"] {
        for change in [-1, 1, -60] {
            let report = after(false, async |bucket| {
                let name = bucket.newest(folder).await;
                let mut body = bucket.get(&name).await.to_vec();
                body.resize(body.len().strict_add_signed(change), 0);
                bucket.put(&name, body).await;
            })
            .await;
            assert!(
                kinds(&report)
                    .iter()
                    .any(|kind| ["wrong-length", "bad-slice"].contains(kind)),
                "{folder} {change}: {report:?}"
            );
        }
        let report = after(false, async |bucket| {
            let name = bucket.newest(folder).await;
            bucket.put(&name, Bytes::new()).await;
        })
        .await;
        assert!(
            kinds(&report).contains(&"wrong-length"),
            "{folder}: {report:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_flipped_bit_is_found_wherever_it_is() {
    let mut bucket = Bucket::healthy().await;
    let mut names = vec!["cluster.json".to_owned()];
    for folder in ["manifest/log", "manifest/snapshot", "segments"] {
        names.push(bucket.newest(folder).await);
    }
    for name in names {
        let sound = bucket.get(&name).await;
        for at in (0..sound.len()).step_by(if sound.len() > 400 { 11 } else { 3 }) {
            flip(&bucket, &name, at).await;
            let found = bucket.kinds(true).await;
            // JSON has no checksum: a digit of the cluster's id may be another.
            let told = !found.is_empty() || name == "cluster.json";
            assert!(told, "{name}, byte {at}");
            bucket.put(&name, sound.clone()).await;
        }
    }
    assert!(bucket.kinds(true).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_flipped_bit_is_named_by_the_section_that_it_is_in() {
    // Per object and section: whether it takes --deep, and what it is found as.
    for (folder, section, deep, expected) in [
        ("manifest/log", "header", false, "corrupt"),
        ("manifest/log", "head", false, "corrupt"),
        ("manifest/log", "data", true, "bad-slice"),
        ("manifest/snapshot", "data", false, "corrupt"),
        ("segments", "header", false, "corrupt"),
        ("segments", "data", true, "bad-slice"),
        ("segments", "tail", false, "corrupt"),
    ] {
        let report = after(deep, async |bucket| {
            let name = bucket.newest(folder).await;
            let body = bucket.get(&name).await;
            let header = ObjectHeader::parse(&name, &body).unwrap();
            let range = match section {
                "header" => 0..40,
                "head" => header.head_range(),
                "data" => header.data_range(),
                _ => header.tail_range(),
            };
            let at = usize::try_from(range.end - 1).unwrap();
            flip(bucket, &name, at).await;
        })
        .await;
        assert_eq!(kinds(&report), [expected], "{folder} {section}");
        assert!(report.findings[0].inspect.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn damage_where_no_record_can_be_read_is_a_warning() {
    let objects = Arc::new(InMemory::new());
    let writer = Writer::open(&objects, 1000).await;
    writer.create_orders().await;
    let (segment, mut ops) = writer.upload(3).await;
    // Of the second partition nothing is committed.
    ops.truncate(1);
    writer.manifest.commit(ops).await.unwrap();
    let mut bucket = Bucket::of(objects, writer.env.wall());
    drop(writer);
    let path = ObjectPath::segment(segment);
    let body = bucket.get(path.as_str()).await;
    let header = ObjectHeader::parse(path.as_str(), &body).unwrap();
    let last = usize::try_from(header.data_range().end - 1).unwrap();
    flip(&bucket, path.as_str(), last).await;
    let report = bucket.check(true).await;
    assert_eq!(kinds(&report), ["damaged-unused"]);
    assert_eq!(report.findings[0].severity, Severity::Warning);
    assert!(
        bucket.check(false).await.findings.is_empty(),
        "it takes --deep"
    );
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_is_not_the_fold_is_found_and_the_ones_after_it_are_not_blamed() {
    let mut changed = String::new();
    let report = after(false, async |bucket| {
        let names = bucket.names().await;
        changed = names.into_iter().find(|n| n.contains("snapshot")).unwrap();
        let seq = Seq(number(&changed));
        let state = decode_snapshot(&changed, seq, &bucket.get(&changed).await).unwrap();
        // The same, but that somebody was given producer ids.
        let mut bytes = state.to_bytes();
        assert_eq!(bytes[0] >> 5, 4, "an array");
        let at = 1
            + minicbor::to_vec(state.seq()).unwrap().len()
            + minicbor::to_vec(state.time()).unwrap().len();
        assert_eq!(bytes[at], 0, "no producer id was ever given");
        bytes[at] = 1;
        let other = State::from_bytes(&bytes).unwrap();
        bucket.put(&changed, snapshot_of(&other)).await;
    })
    .await;
    assert_eq!(kinds(&report), ["snapshot-differs"]);
    let [found] = report.findings.as_slice() else {
        panic!("{report:?}");
    };
    assert_eq!(found.object, changed);
    assert_eq!(found.invariant, Some(Invariant::StatesAreEqual.id()));
    assert!(
        found
            .detail
            .contains("next_producer_id is 1 and should be 0"),
        "{}",
        found.detail
    );
}

/// A cluster of the second level, whose snapshots are in chunks.
async fn writer_of_chunks(objects: &Arc<InMemory>) -> Writer {
    let options = ManifestOptions {
        snapshot_every: 6,
        max_chunk: 200,
        ..ManifestOptions::default()
    };
    let writer = Writer::open_with(objects, options).await;
    let raise = Op::RaiseLevel { to: Level(2) };
    writer.manifest.commit(vec![raise]).await.unwrap();
    writer.create_orders().await;
    writer
}

/// A stopped cluster of the second level, whose snapshots are in chunks.
async fn in_chunks() -> Bucket {
    let objects = Arc::new(InMemory::new());
    let writer = writer_of_chunks(&objects).await;
    for n in 0..16 {
        writer.append_inline(n % 2, 3).await;
        writer.catch_up().await;
    }
    let now = writer.env.wall();
    drop(writer);
    Bucket::of(objects, now)
}

#[tokio::test(start_paused = true)]
async fn snapshots_in_chunks_are_compared_and_what_is_wrong_with_a_chunk_is_found() {
    let mut bucket = in_chunks().await;
    let report = bucket.check(false).await;
    assert!(report.findings.is_empty(), "{report:?}");
    assert!(report.checked.snapshots_compared >= 2);
    let names = bucket.names().await;
    let chunks: Vec<&String> = names.iter().filter(|n| n.contains("/chunk/")).collect();
    assert!(chunks.len() > 4, "{names:?}");
    // One of a snapshot that is not announced any more.
    let spare = ObjectPath::chunk(Seq(2), 0);
    bucket
        .put(spare.as_str(), bucket.get(chunks[0]).await)
        .await;
    // The first two belong to one snapshot, and the last one to another.
    flip(&bucket, chunks[0], 60).await;
    bucket.delete(chunks[chunks.len() - 1]).await;
    let report = bucket.check(false).await;
    let mut found: Vec<_> = report.findings.iter().map(|f| f.kind.id()).collect();
    found.sort_unstable();
    assert_eq!(found, ["corrupt", "corrupt", "spare-snapshot"]);
    assert!(report.findings.iter().any(|f| f.object == spare.as_str()));
}

#[tokio::test(start_paused = true)]
async fn the_head_of_a_snapshot_that_a_late_request_brings_back_is_spare() {
    let objects = Arc::new(InMemory::new());
    let writer = writer_of_chunks(&objects).await;
    let mut late = None;
    for n in 0..60 {
        writer.append_inline(n % 2, 3).await;
        writer.catch_up().await;
        let bucket = Bucket::of(objects.clone(), writer.env.wall());
        let names = bucket.names().await;
        let head = names.iter().find(|name| name.contains("/snapshot/"));
        if let (Some(head), None) = (head, &late) {
            late = Some((head.clone(), bucket.get(head).await));
        }
    }
    let now = writer.env.wall();
    drop(writer);
    let mut bucket = Bucket::of(objects, now);
    let (head, bytes) = late.unwrap();
    assert!(!bucket.names().await.contains(&head), "it was deleted");
    bucket.put(&head, bytes).await;
    let report = bucket.check(true).await;
    let found: Vec<_> = report.findings.iter().map(|f| f.kind.id()).collect();
    assert_eq!(found, ["spare-snapshot"]);
    assert!(report.is_sound());
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_whose_offsets_are_not_dense_cannot_be_read() {
    let objects = Arc::new(InMemory::new());
    let writer = Writer::open(&objects, 1000).await;
    writer.create_orders().await;
    writer.append_inline(0, 300).await;
    let state = writer.catch_up().await;
    let mut bucket = Bucket::of(objects, writer.env.wall());
    drop(writer);
    // The high watermark comes before the slices.
    let mut bytes = state.to_bytes();
    let encoded = minicbor::to_vec(300u32).unwrap();
    let at = bytes
        .windows(3)
        .position(|window| window == encoded)
        .unwrap();
    bytes[at + 2] += 1;
    let path = ObjectPath::snapshot(Seq(2));
    bucket.put(path.as_str(), snapshot_of_bytes(&bytes)).await;
    let report = bucket.check(false).await;
    let found = report.findings.iter().find(|f| f.object == path.as_str());
    let detail = found.map(|f| f.detail.as_str()).unwrap_or_default();
    assert!(detail.contains("not in order"), "{report:?}");
}

/// The object with another version in its header, and a checksum that says that this is meant.
fn of_version(body: &Bytes, version: u16) -> Vec<u8> {
    let mut body = body.to_vec();
    body[6..8].copy_from_slice(&version.to_le_bytes());
    let crc = crc32c::crc32c(&body[..36]);
    body[36..40].copy_from_slice(&crc.to_le_bytes());
    body
}

#[tokio::test(start_paused = true)]
async fn what_newer_software_wrote_is_not_called_damaged() {
    for folder in ["manifest/log", "manifest/snapshot", "segments"] {
        let report = after(true, async |bucket| {
            let name = bucket.newest(folder).await;
            let body = of_version(&bucket.get(&name).await, 99);
            bucket.put(&name, body).await;
        })
        .await;
        let errors = report
            .findings
            .iter()
            .filter(|f| f.severity == Severity::Error);
        assert!(
            errors.clone().all(|f| f.kind.id() == "newer-version"),
            "{folder}: {report:?}"
        );
        assert_eq!(errors.count(), 1);
    }
    // An op that is not known, in a commit that is otherwise sound.
    let report = after(false, async |bucket| {
        let mut head = Vec::new();
        let mut e = minicbor::Encoder::new(&mut head);
        e.array(3)
            .unwrap()
            .array(2)
            .unwrap()
            .bytes(&[0; 16])
            .unwrap();
        e.u64(1)
            .unwrap()
            .i64(0)
            .unwrap()
            .array(1)
            .unwrap()
            .array(2)
            .unwrap();
        e.u32(999).unwrap().array(0).unwrap();
        let object = ObjectBuilder::new(ObjectKind::Commit)
            .finish(&head, &[])
            .unwrap()
            .concat();
        let next = ObjectPath::commit(Seq(bucket.log_end().await + 1));
        bucket.put(next.as_str(), object).await;
    })
    .await;
    assert_eq!(report.findings[0].kind.id(), "newer-version");
}

#[tokio::test(start_paused = true)]
async fn a_cluster_file_that_is_damaged_gone_or_newer_is_found() {
    for (content, expected) in [
        ("{", "bad-cluster"),
        ("", "bad-cluster"),
        (
            r#"{"cluster_id":"00000000-0000-0000-0000-000000000000","layout_version":99}"#,
            "newer-version",
        ),
    ] {
        let report = after(false, async |bucket| {
            bucket.put("cluster.json", content).await
        })
        .await;
        assert_eq!(kinds(&report), [expected]);
    }
    let report = after(false, async |bucket| bucket.delete("cluster.json").await).await;
    assert_eq!(kinds(&report), ["no-cluster"]);
    assert!(report.findings[0].detail.contains("objects do"));
}

#[tokio::test(start_paused = true)]
async fn a_segment_under_the_name_of_another_is_corrupt() {
    let report = after(false, async |bucket| {
        let names = bucket.names().await;
        let segments: Vec<_> = names.iter().filter(|n| n.starts_with("segments")).collect();
        let other = bucket.get(segments[0]).await;
        bucket.put(segments[1], other).await;
    })
    .await;
    assert_eq!(kinds(&report), ["corrupt"]);
    assert!(
        report.findings[0]
            .detail
            .contains("has the name of another")
    );
}

#[tokio::test(start_paused = true)]
async fn an_object_that_the_store_withholds_is_a_finding_and_a_store_that_is_away_an_error() {
    let mut bucket = Bucket::healthy().await;
    let segment = ObjectPath::segment(bucket.last_segment.unwrap());
    bucket.withheld = Some(segment.as_str().to_owned());
    let report = bucket.check(true).await;
    assert_eq!(kinds(&report), ["unreadable"]);
    assert!(report.findings[0].detail.contains("archived"), "{report:?}");
    bucket.is_away = true;
    let error = bucket.try_check(false).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_slice_that_reaches_out_of_its_object_is_bad() {
    let objects = Arc::new(InMemory::new());
    let writer = Writer::open(&objects, 1000).await;
    writer.create_orders().await;
    let (_, mut ops) = writer.upload(3).await;
    for op in &mut ops {
        if let Op::Append(append) = op {
            assert!(matches!(append.source, AppendSource::Segment(_)));
            append.entries[0].len += 1000;
        }
    }
    writer.manifest.commit(ops).await.unwrap();
    let mut bucket = Bucket::of(objects, writer.env.wall());
    drop(writer);
    for deep in [false, true] {
        let report = bucket.check(deep).await;
        assert_eq!(kinds(&report), ["bad-slice"]);
        assert_eq!(report.findings.len(), 2);
    }
}
