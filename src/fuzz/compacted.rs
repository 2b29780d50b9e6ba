//! Compacted segments: the index of a slice, and the directory of all.

use crate::format::{ObjectHeader, ObjectKind};
use crate::segment::{ChunkIndex, CompactedDirectory};
use crate::types::Offset;

use super::objects::{NAME, frame, furthest_end};

/// CBOR as the index of a slice with the right checksum, and as the directory of a segment whose frame is right. True
/// if it is one of both.
pub(super) fn compacted(input: &[u8]) -> bool {
    index(input) | directory(input)
}

fn index(input: &[u8]) -> bool {
    let _ = ChunkIndex::decode(NAME, input);
    let sealed = [input, &crc32c::crc32c(input).to_le_bytes()].concat();
    let Ok(index) = ChunkIndex::decode(NAME, &sealed) else {
        return false;
    };
    let count = index.chunks().len();
    let mut at = index.range.start;
    for chunk in 0..count {
        let range = index.range_of(chunk);
        assert_eq!(range.start, at, "chunks fill the slice");
        at = range.end;
        let _ = index.check_chunk(NAME, chunk, input);
    }
    assert_eq!(at, index.range.end);
    assert!(index.range_of(count).is_empty() && index.range_of(usize::MAX).is_empty());
    for offset in [i64::MIN, -1, 0, 1, i64::MAX].map(Offset) {
        assert!(index.chunk_at(offset) < count.max(1));
    }
    true
}

fn directory(input: &[u8]) -> bool {
    // Where an entry says that the index of its slice ends.
    const INDEX_END: usize = 5;
    let data = vec![0; furthest_end(input, INDEX_END)];
    let Some(object) = frame(ObjectKind::Compacted, &[], &data, input) else {
        return false;
    };
    let Ok(header) = ObjectHeader::parse(NAME, &object) else {
        return false;
    };
    let _ = CompactedDirectory::decode(NAME, &object);
    let Ok(directory) = CompactedDirectory::decode_tail(NAME, &header, input) else {
        return false;
    };
    let mut at = header.data_range().start;
    for slice in &directory.slices {
        assert_eq!(
            slice.range.start, at,
            "slices and their indexes fill the data"
        );
        assert!(slice.range.end <= slice.index.end && slice.index.start == slice.range.end);
        assert!(slice.offsets.start < slice.offsets.end);
        at = slice.index.end;
    }
    assert_eq!(at, header.data_range().end);
    true
}
