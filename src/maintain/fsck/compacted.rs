//! Looking into compacted segments: the directory, the index of each slice, and with `deep` each chunk.

use std::ops::Range;

use super::Kind;
use super::objects::Examined;
use super::read::{Looked, kind_of_segment};
use crate::format::ObjectHeader;
use crate::invariants::at_rest::{Reference, name_of, unresolved};
use crate::segment::{ChunkIndex, CompactedDirectory};
use crate::store::StoreError;

impl Examined<'_> {
    /// The directory of a compacted segment, and the indexes of the slices that the state refers to: without its index
    /// no slice can be read. Fills `indexes`. False if the segment is gone.
    pub(super) async fn check_directory(
        &mut self,
        header: &ObjectHeader,
        tail: &[u8],
    ) -> Result<bool, StoreError> {
        let name = self.path.as_str().to_owned();
        match CompactedDirectory::decode_tail(&name, header, tail) {
            Err(error) => self.note(kind_of_segment(&error), error.to_string()),
            Ok(directory) if directory.id != self.id => self.note_other_id(directory.id),
            Ok(directory) => {
                let wrong = self.slices.iter().find(|reference| {
                    let range = reference.range();
                    let holds = |of: &&_| describes(of, reference, &range);
                    directory.slices.iter().find(holds).is_none()
                });
                if let Some(reference) = wrong {
                    let topic = name_of(self.state, reference.partition);
                    let base = reference.base;
                    let detail =
                        format!("its directory lacks the slice at offset {base} of {topic}");
                    self.note(Kind::Corrupt, detail);
                }
            }
        }
        for reference in self.slices {
            let Some(at) = reference.slice.index else {
                continue;
            };
            let range = at.start..at.start.saturating_add(at.len.into());
            let bytes = match self.read(range).await? {
                Looked::At((bytes, _)) => bytes,
                Looked::Gone => return Ok(false),
                Looked::Bad(_, detail) => {
                    self.bad_slice(*reference, unresolved(self.state, reference, &detail));
                    continue;
                }
            };
            let offsets = reference.base..reference.slice.end;
            let index = ChunkIndex::decode(&name, &bytes).and_then(|index| {
                index.expect(&name, reference.partition, &offsets, &reference.range())?;
                Ok(index)
            });
            match index {
                Ok(index) => self.indexes.push((*reference, index)),
                Err(error) => {
                    let what = error.to_string();
                    self.bad_slice(*reference, unresolved(self.state, reference, &what));
                }
            }
        }
        Ok(true)
    }
}

fn describes(
    slice: &crate::segment::CompactedSlice,
    reference: &Reference,
    range: &Range<u64>,
) -> bool {
    let index = reference.slice.index.map(|at| at.start);
    slice.partition == reference.partition
        && slice.offsets == (reference.base..reference.slice.end)
        && slice.range == *range
        && index == Some(slice.index.start)
}

/// The checksums of a slice's chunks, of which the bytes come in pieces. They cover the base offsets, which those of
/// the batches do not.
pub(super) struct ChunkSums {
    index: ChunkIndex,
    chunk: usize,
    at: u64,
    crc: u32,
    damaged: Option<(Range<u64>, usize)>,
}

impl ChunkSums {
    pub(super) fn new(index: ChunkIndex) -> ChunkSums {
        ChunkSums {
            chunk: 0,
            at: index.range.start,
            crc: 0,
            damaged: None,
            index,
        }
    }

    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while let (Some(chunk), false) = (self.index.chunks().get(self.chunk), bytes.is_empty()) {
            let range = self.index.range_of(self.chunk);
            let left = usize::try_from(range.end - self.at).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(bytes.len().min(left));
            self.crc = crc32c::crc32c_append(self.crc, now);
            self.at += now.len() as u64;
            bytes = later;
            if self.at == range.end {
                if self.crc != chunk.crc {
                    let (_, count) = self.damaged.get_or_insert((range, 0));
                    *count += 1;
                }
                (self.crc, self.chunk) = (0, self.chunk + 1);
            }
        }
    }

    /// What is wrong, once all was fed.
    pub(super) fn finish(self) -> Option<String> {
        let (range, count) = self.damaged?;
        let (start, end) = (range.start, range.end);
        Some(format!(
            "{count} of its chunks fail their checksum, first that of the bytes {start} to {end}"
        ))
    }
}
