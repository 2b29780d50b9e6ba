//! A bucket with compacted segments: sound, and damaged in each of their places.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use object_store::memory::InMemory;

use super::scene::{Bucket, Writer, batch, partition};
use crate::maintain::fsck::Finding;
use crate::segment::{CompactedBuilder, CompactedSlice as Built};
use crate::state::SliceIndex;
use crate::state::op::{CompactedSlice, Op, ReplaceSlices};
use crate::store::{ObjectPath, PART_LEN, RequestKind};
use crate::types::{Offset, SegmentId};

/// A bucket in which partition 0 is compacted, with gaps, and all of partition 1 was superseded.
async fn compacted() -> (Bucket, String, Vec<Built>) {
    let objects = Arc::new(InMemory::new());
    let writer = Writer::open(&objects, 1000).await;
    writer.create_orders().await;
    writer.append_segment(9).await;
    let id = SegmentId(writer.env.uuid_at(writer.env.wall()));
    let mut builder = CompactedBuilder::new(id, PART_LEN);
    let mut built = Vec::new();
    for index in 0..2 {
        builder.begin_slice(partition(index), Offset(0)).unwrap();
        if index == 0 {
            builder.push(Offset(1), &batch(2)).unwrap();
            builder.push(Offset(5), &batch(3)).unwrap();
        }
        built.push(builder.end_slice(Offset(9)).unwrap());
    }
    let parts: Vec<Bytes> = builder
        .finish()
        .unwrap()
        .parts
        .into_iter()
        .map(|part| part.bytes)
        .collect();
    let path = ObjectPath::segment(id);
    writer
        .store
        .put_unique(&path, parts, RequestKind::CompactedPut)
        .await
        .unwrap();
    for slice in &built {
        let replace = ReplaceSlices {
            partition: slice.partition,
            layout: 0,
            base: Offset(0),
            end: Offset(9),
            outputs: vec![CompactedSlice {
                end: Offset(9),
                segment: id,
                start: slice.range.start,
                len: slice.range.end - slice.range.start,
                max_timestamp: slice.max_timestamp,
                index: SliceIndex {
                    start: slice.index.start,
                    len: (slice.index.end - slice.index.start) as u32,
                },
            }],
            cleaned: None,
        };
        writer.commit(Op::ReplaceSlices(replace)).await;
    }
    let bucket = Bucket::of(objects, writer.env.wall().after(Duration::from_secs(60)));
    (bucket, path.to_string(), built)
}

/// What is found about the segment when the bit at `at` is flipped.
async fn flipped(at: impl Fn(&[Built], usize) -> u64, deep: bool) -> Vec<Finding> {
    let (mut bucket, name, built) = compacted().await;
    let object = bucket.get(&name).await;
    let at = at(&built, object.len()) as usize;
    let mut damaged = BytesMut::from(&object[..]);
    damaged[at] ^= 1;
    bucket.put(&name, damaged.freeze()).await;
    let found = bucket.check(deep).await.findings;
    found
        .into_iter()
        .filter(|finding| finding.object == name)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_sound_compacted_segment_is_nothing_to_find() {
    let (mut bucket, name, _) = compacted().await;
    for deep in [false, true] {
        let report = bucket.check(deep).await;
        assert!(
            report.findings.iter().all(|finding| finding.object != name),
            "{report:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn damage_in_any_place_of_a_compacted_segment_is_found() {
    type Place = fn(&[Built], usize) -> u64;
    // Where, whether it takes `deep`, and what is said.
    let places: [(&str, Place, bool, &str); 6] = [
        (
            "directory",
            |_, len| len as u64 - 1,
            false,
            "tail is corrupt",
        ),
        (
            "index",
            |built, _| built[0].index.start + 3,
            false,
            "index of a slice is corrupt",
        ),
        (
            "index of an empty slice",
            |built, _| built[1].index.start,
            false,
            "index of a slice is corrupt",
        ),
        (
            "record",
            |built, _| built[0].range.end - 1,
            true,
            "checksum",
        ),
        // A gap hides it from all but the checksum of the chunk: offset 5 becomes 4.
        (
            "base offset",
            |built, _| built[0].range.start + batch(2).len() as u64 + 7,
            true,
            "chunks fail",
        ),
        ("header", |_, _| 9, false, "checksum"),
    ];
    for (place, at, only_deep, says) in places {
        for deep in [false, true] {
            let found = flipped(at, deep).await;
            if only_deep && !deep {
                assert!(found.is_empty(), "{place}: {found:?}");
            } else {
                assert!(
                    found.iter().any(|f| f.detail.contains(says)),
                    "{place}: {found:?}"
                );
            }
        }
    }
}
