//! Looking into the objects that the fold did not read: segments, and commits that only live on for their records.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;

use super::commit::{self, wrong_length};
use super::compacted::ChunkSums;
use super::finding::{About, Candidate};
use super::log::{check_data, of_commit};
use super::read::{Looked, kind_of_format, kind_of_segment, look};
use super::{Checked, Finding, Fold, Inventory, Kind, Walk};
use crate::format::{FormatError, HEADER_LEN, Object, ObjectHeader, ObjectKind, Section};
use crate::invariants::at_rest::{
    Reference, SliceCheck, name_of, references, slice_lies_within, unresolved,
};
use crate::segment::{ChunkIndex, SegmentError, SegmentIndex};
use crate::state::{ObjectRef, State};
use crate::store::{ObjectPath, RequestKind, StoreError};
use crate::types::{SegmentId, Seq};

/// How many objects are looked into at once. With `deep` each holds one piece in memory.
const OBJECTS_AT_ONCE: usize = 8;

/// How much of a segment is read at once with `deep`.
const PIECE: u64 = 8 << 20;

/// What is to be looked into.
pub(super) struct Objects {
    state: State,
    segments: Vec<(SegmentId, Vec<Reference>)>,
    commits: Vec<(Seq, Vec<Reference>)>,
    boundaries: Vec<Seq>,
}

/// One of them.
enum Subject<'a> {
    Segment(SegmentId, &'a [Reference]),
    Commit(Seq, &'a [Reference]),
    Boundary(Seq),
}

/// What came of it.
struct Seen {
    found: Vec<Candidate>,
    gone: bool,
    bytes: u64,
}

impl Objects {
    pub(super) fn new(inventory: &Inventory, fold: &Fold) -> Objects {
        let state = fold.state.clone().unwrap_or_default();
        let mut of_commits: BTreeMap<Seq, Vec<Reference>> = BTreeMap::new();
        let mut segments = Vec::new();
        for (object, slices) in references(&state) {
            match object {
                ObjectRef::Commit(seq) => drop(of_commits.insert(seq, slices)),
                ObjectRef::Segment(id) if inventory.segments.contains_key(&id) => {
                    segments.push((id, slices));
                }
                ObjectRef::Segment(_) => {}
            }
        }
        let commits = inventory.commits.keys().filter(|seq| !fold.has(**seq));
        Objects {
            commits: commits
                .map(|seq| (*seq, of_commits.remove(seq).unwrap_or_default()))
                .collect(),
            segments,
            boundaries: inventory.boundaries.keys().copied().collect(),
            state,
        }
    }

    pub(super) fn count(&self) -> u64 {
        (self.segments.len() + self.commits.len() + self.boundaries.len()) as u64
    }

    /// Looks into all. What is there no more is taken out of the inventory.
    pub(super) async fn look(
        &mut self,
        walk: &Walk<'_>,
        inventory: &mut Inventory,
        found: &mut Vec<Candidate>,
        checked: &mut Checked,
    ) -> Result<(), StoreError> {
        let segments = self.segments.iter().map(|(id, s)| Subject::Segment(*id, s));
        let commits = self.commits.iter().map(|(seq, s)| Subject::Commit(*seq, s));
        let boundaries = self.boundaries.iter().map(|seq| Subject::Boundary(*seq));
        let state = &self.state;
        let mut looking = stream::iter(segments.chain(commits).chain(boundaries))
            .map(|subject| async move {
                let seen = match &subject {
                    Subject::Segment(id, slices) => segment(walk, state, *id, slices).await,
                    Subject::Commit(seq, slices) => live_commit(walk, state, *seq, slices).await,
                    Subject::Boundary(seq) => boundary(walk, *seq).await,
                };
                (subject, seen)
            })
            .buffer_unordered(OBJECTS_AT_ONCE);
        while let Some((subject, seen)) = looking.next().await {
            let seen = seen?;
            walk.watch.advance(1);
            checked.bytes_read += seen.bytes;
            found.extend(seen.found);
            match subject {
                Subject::Segment(..) => checked.segments += 1,
                Subject::Commit(..) => checked.commits += 1,
                Subject::Boundary(_) => {}
            }
            if seen.gone {
                match subject {
                    Subject::Segment(id, _) => drop(inventory.segments.remove(&id)),
                    Subject::Commit(seq, _) => drop(inventory.commits.remove(&seq)),
                    Subject::Boundary(seq) => drop(inventory.boundaries.remove(&seq)),
                }
            }
        }
        Ok(())
    }
}

fn seen(found: Vec<Candidate>, bytes: u64) -> Seen {
    Seen {
        found,
        gone: false,
        bytes,
    }
}

fn gone() -> Seen {
    Seen {
        found: Vec::new(),
        gone: true,
        bytes: 0,
    }
}

async fn live_commit(
    walk: &Walk<'_>,
    state: &State,
    seq: Seq,
    slices: &[Reference],
) -> Result<Seen, StoreError> {
    Ok(match commit::read(walk, seq).await? {
        Looked::Gone => gone(),
        Looked::Bad(kind, detail) => seen(vec![of_commit(seq, kind, detail)], 0),
        Looked::At(read) => seen(check_data(seq, &read, state, slices), read.bytes),
    })
}

async fn boundary(walk: &Walk<'_>, seq: Seq) -> Result<Seen, StoreError> {
    let path = ObjectPath::boundary(seq);
    let answer = walk.store.get(&path, RequestKind::BoundaryGet).await;
    let (kind, detail) = match look(answer)? {
        Looked::Gone => return Ok(gone()),
        Looked::Bad(kind, detail) => (kind, detail),
        Looked::At(bytes) => match Object::decode_as(path.as_str(), ObjectKind::Boundary, &bytes) {
            Ok(_) => return Ok(seen(Vec::new(), bytes.len() as u64)),
            Err(error) => (kind_of_format(&error), error.to_string()),
        },
    };
    let finding = Finding::new(kind, path.as_str(), detail).inspect(path.as_str());
    let about = About::Boundary(seq);
    Ok(seen(vec![Candidate { about, finding }], 0))
}

/// A segment under examination.
pub(super) struct Examined<'a> {
    walk: &'a Walk<'a>,
    pub(super) state: &'a State,
    pub(super) id: SegmentId,
    pub(super) path: ObjectPath,
    pub(super) slices: &'a [Reference],
    /// Of a compacted segment, the indexes of its slices.
    pub(super) indexes: Vec<(Reference, ChunkIndex)>,
    found: Vec<Candidate>,
    bytes: u64,
}

async fn segment(
    walk: &Walk<'_>,
    state: &State,
    id: SegmentId,
    slices: &[Reference],
) -> Result<Seen, StoreError> {
    let mut examined = Examined {
        walk,
        state,
        id,
        path: ObjectPath::segment(id),
        slices,
        indexes: Vec::new(),
        found: Vec::new(),
        bytes: 0,
    };
    let (prefix, len) = match examined.read(0..HEADER_LEN).await? {
        Looked::At(read) => read,
        Looked::Gone => return Ok(gone()),
        Looked::Bad(kind, detail) => {
            examined.note(kind, detail);
            return Ok(seen(examined.found, examined.bytes));
        }
    };
    let header = match ObjectHeader::parse(examined.path.as_str(), &prefix) {
        Ok(header) => Some(header),
        Err(error) => {
            examined.note(kind_of_format(&error), error.to_string());
            None
        }
    };
    if let Some(header) = &header
        && !examined.check_frame(header, len).await?
    {
        return Ok(gone());
    }
    let data = header.as_ref().map_or(0..len, |header| header.data_range());
    examined.check_ranges(&(data.start..data.end.min(len)));
    if walk.deep && !examined.check_bytes(header.as_ref(), len).await? {
        return Ok(gone());
    }
    Ok(seen(examined.found, examined.bytes))
}

impl Examined<'_> {
    pub(super) fn note(&mut self, kind: Kind, detail: String) {
        let finding = Finding::new(kind, self.path.as_str(), detail);
        self.found.push(Candidate {
            about: About::Segment(self.id),
            finding: finding.inspect(self.id.to_string()),
        });
    }

    pub(super) async fn read(
        &mut self,
        range: std::ops::Range<u64>,
    ) -> Result<Looked<(Bytes, u64)>, StoreError> {
        let (store, kind) = (self.walk.store, RequestKind::SegmentGet);
        let looked = look(store.get_range(&self.path, range, kind).await)?;
        if let Looked::At((bytes, _)) = &looked {
            self.bytes += bytes.len() as u64;
        }
        Ok(looked)
    }

    /// The length, and the index: its checksum, its id, and that the slices lie in what it says is theirs. False if
    /// the segment is gone.
    async fn check_frame(&mut self, header: &ObjectHeader, len: u64) -> Result<bool, StoreError> {
        let name = self.path.as_str().to_owned();
        let is_compacted = header.kind() == ObjectKind::Compacted;
        if !is_compacted && let Err(error) = header.expect_kind(&name, ObjectKind::Segment) {
            self.note(kind_of_format(&error), error.to_string());
            return Ok(true);
        }
        if let Some(error) = wrong_length(&name, header, len) {
            self.note(kind_of_format(&error), error.to_string());
            return Ok(true);
        }
        let tail = match self.read(header.tail_range()).await? {
            Looked::At((tail, _)) => tail,
            Looked::Gone => return Ok(false),
            Looked::Bad(kind, detail) => {
                self.note(kind, detail);
                return Ok(true);
            }
        };
        if is_compacted {
            return self.check_directory(header, &tail).await;
        }
        match SegmentIndex::decode_tail(&name, header, &tail) {
            Err(error) => self.note(kind_of_segment(&error), error.to_string()),
            Ok(index) => self.check_index(&index),
        }
        Ok(true)
    }

    fn check_index(&mut self, index: &SegmentIndex) {
        if index.id != self.id {
            return self.note_other_id(index.id);
        }
        let wrong = self.slices.iter().find(|reference| {
            let range = reference.range();
            let at = index
                .slices
                .partition_point(|slice| slice.range.end <= range.start);
            let holds = index.slices.get(at).is_some_and(|slice| {
                slice.partition == reference.partition && slice.range.start <= range.start
            });
            !range.is_empty() && !holds
        });
        if let Some(reference) = wrong {
            let detail = format!(
                "its index has something else where offset {} of {} should be",
                reference.base,
                name_of(self.state, reference.partition)
            );
            self.note(Kind::Corrupt, detail);
        }
    }

    pub(super) fn note_other_id(&mut self, id: SegmentId) {
        let detail = format!("it is segment {id}, but has the name of another");
        self.note(Kind::Corrupt, detail);
    }

    fn check_ranges(&mut self, data: &std::ops::Range<u64>) {
        for reference in self.slices {
            if let Some(violation) = slice_lies_within(self.state, reference, data) {
                self.bad_slice(*reference, violation);
            }
        }
    }

    pub(super) fn bad_slice(
        &mut self,
        reference: Reference,
        violation: crate::invariants::Violation,
    ) {
        let finding = Finding::of(Kind::BadSlice, self.path.as_str(), violation);
        self.found.push(Candidate {
            about: About::Slice(reference),
            finding: finding.inspect(self.id.to_string()),
        });
    }

    /// Every byte: the batches of each slice, and the checksum of the data. False if the segment is gone.
    async fn check_bytes(
        &mut self,
        header: Option<&ObjectHeader>,
        len: u64,
    ) -> Result<bool, StoreError> {
        let known: Vec<Reference> = self
            .found
            .iter()
            .filter_map(|candidate| match candidate.about {
                About::Slice(reference) => Some(reference),
                _ => None,
            })
            .collect();
        // Those that reach out of the object have been told already.
        let sound = self.slices.iter().filter(|slice| !known.contains(slice));
        let mut checks: Vec<(Reference, SliceCheck)> = sound
            .map(|slice| (*slice, SliceCheck::new(*slice)))
            .collect();
        let indexes = std::mem::take(&mut self.indexes).into_iter();
        let mut sums: Vec<(Reference, ChunkSums)> = indexes
            .map(|(reference, index)| (reference, ChunkSums::new(index)))
            .collect();
        let data = header.map_or(0..len, ObjectHeader::data_range);
        let mut crc = 0;
        let mut at = 0;
        while at < len {
            let end = (at + PIECE).min(len);
            let piece = match self.read(at..end).await? {
                Looked::At((piece, _)) => piece,
                Looked::Gone => return Ok(false),
                Looked::Bad(kind, detail) => {
                    self.note(kind, detail);
                    return Ok(true);
                }
            };
            crc = crc32c::crc32c_append(crc, part(&piece, at, &data));
            for (reference, check) in &mut checks {
                let range = reference.range();
                if range.start < end && at < range.end {
                    check.feed(part(&piece, at, &range));
                }
            }
            for (reference, sums) in &mut sums {
                let range = reference.range();
                if range.start < end && at < range.end {
                    sums.feed(part(&piece, at, &range));
                }
            }
            at = end;
        }
        let before = self.found.len();
        for (reference, check) in checks {
            if let Some(violation) = check.finish(self.state) {
                self.bad_slice(reference, violation);
                sums.retain(|(other, _)| *other != reference);
            }
        }
        for (reference, sums) in sums {
            if let Some(what) = sums.finish() {
                self.bad_slice(reference, unresolved(self.state, &reference, &what));
            }
        }
        if let Some(header) = header
            && header.data_crc() != crc
            && self.found.len() == before
            && known.is_empty()
        {
            let error = FormatError::Checksum {
                object: self.path.as_str().to_owned(),
                section: Section::Data,
                expected: header.data_crc(),
                found: crc,
            };
            self.note(Kind::DamagedUnused, SegmentError::from(error).to_string());
        }
        Ok(true)
    }
}

/// The part of `piece`, which begins at `at`, that lies in `range`.
fn part<'a>(piece: &'a [u8], at: u64, range: &std::ops::Range<u64>) -> &'a [u8] {
    let within = |position: u64| {
        let offset = position.saturating_sub(at);
        usize::try_from(offset).map_or(piece.len(), |offset| offset.min(piece.len()))
    };
    let (start, end) = (within(range.start), within(range.end));
    piece.get(start..end).unwrap_or_default()
}
