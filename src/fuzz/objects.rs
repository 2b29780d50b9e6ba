//! The objects of the bucket: commits, snapshots and segments.

use bytes::Bytes;

use crate::format::{HEADER_LEN, Object, ObjectBuilder, ObjectHead, ObjectHeader, ObjectKind};
use crate::manifest::{LoggedCommit, decode_snapshot};
use crate::segment::{CompactedDirectory, SegmentIndex};
use crate::state::State;
use crate::types::{Seq, StateDigest};

use super::fold;

/// The name that errors carry.
pub(super) const NAME: &str = "an object";

/// Bytes as an object of every kind, as they are and with checksums made right. True if they are one.
pub(super) fn object(input: &[u8]) -> bool {
    let mut repaired = input.to_vec();
    repair_sections(&mut repaired);
    if let Some((header, _)) = repaired.split_first_chunk_mut::<{ HEADER_LEN as usize }>() {
        let crc = crc32c::crc32c(&header[..36]);
        header[36..].copy_from_slice(&crc.to_le_bytes());
    }
    read(&repaired.into()) | read(&Bytes::copy_from_slice(input))
}

/// Makes the checksums of the sections those of the bytes that the header says they are, as far as there are any.
fn repair_sections(object: &mut [u8]) {
    let Some((header, rest)) = object.split_first_chunk_mut::<{ HEADER_LEN as usize }>() else {
        return;
    };
    let number = |header: &[u8], at: usize| {
        u32::from_le_bytes(std::array::from_fn(|i| header[at + i])) as usize
    };
    let mut rest = &rest[..];
    // Each section's length and checksum, in the order of the sections.
    for (len, crc) in [(8, 12), (24, 32), (16, 20)] {
        let Some((section, after)) = rest.split_at_checked(number(header, len)) else {
            return;
        };
        header[crc..crc + 4].copy_from_slice(&crc32c::crc32c(section).to_le_bytes());
        rest = after;
    }
}

fn read(bytes: &Bytes) -> bool {
    let len = bytes.len() as u64;
    if let Ok(header) = ObjectHeader::parse(NAME, bytes) {
        assert!(header.head_range().end <= header.data_range().start);
        assert!(header.data_range().end <= header.tail_range().start);
        assert_eq!(header.locate(&(u64::MAX..u64::MAX)), None);
        assert_eq!(header.locate(&(0..u64::MAX)), None);
    }
    for kind in ObjectKind::ALL {
        let _ = ObjectHead::decode(NAME, kind, bytes);
    }
    for known in [0, len, u64::MAX] {
        let _ = LoggedCommit::decode(NAME, Seq(1), bytes, known);
    }
    let _ = decode_snapshot(NAME, Seq(1), bytes);
    if let Ok((index, contents)) = SegmentIndex::decode(NAME, bytes) {
        assert_eq!(index.slices.len(), contents.len());
        let data: u64 = contents.iter().map(|content| content.len() as u64).sum();
        assert!(data <= len);
    }
    let _ = CompactedDirectory::decode(NAME, bytes);
    Object::decode(NAME, bytes).is_ok()
}

/// The ops of a commit, as CBOR in a frame that is right. What is understood is folded.
pub(super) fn commit(input: &[u8]) -> bool {
    let Some(object) = frame(ObjectKind::Commit, input, &[], &[]) else {
        return false;
    };
    let len = object.len() as u64;
    let Ok(logged) = LoggedCommit::decode(NAME, Seq(1), &object, len) else {
        return false;
    };
    assert!(logged.whole.is_some(), "the frame is right");
    fold::fold(&logged.commit);
    true
}

/// A state, as CBOR in a frame that is right. What is understood is asked everything, and goes on.
pub(super) fn snapshot(input: &[u8]) -> bool {
    let Ok(seq) = State::from_bytes(input).map(|state| state.seq()) else {
        return false;
    };
    let head = snapshot_head(input);
    let Some(object) = frame(ObjectKind::Snapshot, &head, input, &[]) else {
        return false;
    };
    let read = decode_snapshot(NAME, seq, &object);
    let mut state = read.expect("the state was read, and the frame around it is right");
    fold::exercise(&state);
    fold::go_on(&mut state);
    fold::exercise(&state);
    true
}

/// The head of a snapshot that is in one object.
fn snapshot_head(state: &[u8]) -> Vec<u8> {
    let mut head = Vec::new();
    let mut encoder = minicbor::Encoder::new(&mut head);
    let written = encoder
        .array(2)
        .and_then(|e| e.encode(StateDigest::of(state)));
    let written = written.and_then(|e| e.array(0));
    assert!(written.is_ok(), "writing to a Vec does not fail");
    head
}

/// The index of a segment, as CBOR in a frame whose data is as long as the index says, and once more with none.
pub(super) fn segment_index(input: &[u8]) -> bool {
    let empty = frame(ObjectKind::Segment, &[], &[], input);
    if let Some(object) = empty {
        let _ = SegmentIndex::decode(NAME, &object);
    }
    // Where an entry says that its slice ends.
    const END: usize = 2;
    let data = vec![0; furthest_end(input, END)];
    let Some(object) = frame(ObjectKind::Segment, &[], &data, input) else {
        return false;
    };
    let Ok(header) = ObjectHeader::parse(NAME, &object) else {
        return false;
    };
    let _ = SegmentIndex::decode(NAME, &object);
    match SegmentIndex::decode_tail(NAME, &header, input) {
        Ok(index) => {
            let mut at = header.data_range().start;
            for slice in &index.slices {
                assert_eq!(slice.range.start, at, "slices fill the data");
                at = slice.range.end;
            }
            assert_eq!(at, header.data_range().end);
            true
        }
        Err(_) => false,
    }
}

/// How long the data would have to be for an index whose last slice ends where this one's seems to, by the field of
/// that number: at most 64 KiB.
pub(super) fn furthest_end(index: &[u8], field: usize) -> usize {
    const MAX_BODY: u64 = 64 << 10;
    let mut decoder = minicbor::Decoder::new(index);
    let mut end = HEADER_LEN;
    let read = (|| -> Result<(), minicbor::decode::Error> {
        decoder.array()?;
        decoder.skip()?;
        for _ in 0..decoder.array()?.unwrap_or(0) {
            let mut entry = decoder.clone();
            entry.array()?;
            for _ in 0..field {
                entry.skip()?;
            }
            end = entry.u64()?;
            decoder.skip()?;
        }
        Ok(())
    })();
    let _ = read;
    usize::try_from(end.saturating_sub(HEADER_LEN).min(MAX_BODY)).unwrap_or(0)
}

/// An object of these sections.
pub(super) fn frame(kind: ObjectKind, head: &[u8], data: &[u8], tail: &[u8]) -> Option<Bytes> {
    let mut builder = ObjectBuilder::new(kind);
    builder.push(Bytes::copy_from_slice(data));
    let parts = builder.finish(head, tail).ok()?;
    Some(parts.concat().into())
}
