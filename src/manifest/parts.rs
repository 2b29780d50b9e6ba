//! A snapshot as objects: one, or a head and the chunks that it names.
//!
//! A state of up to a chunk's length is the data of the snapshot object itself. Of a longer one the object is only the
//! head: it says how long each chunk is, and the digest of the whole. Chunks are objects of their own, so none is
//! longer than what a store takes and a node reads as a whole, however large the cluster grows. A state of the first
//! level is always in one object, for nodes of that level read it.
//!
//! # What may be there without the rest
//!
//! Chunks are written before the head and deleted after it. So a head that is there has its chunks, whenever a process
//! dies: what is left over are chunks without a head, which nobody looks at, and the sweep deletes them. A reader that
//! finds the head and then a chunk gone looks for the head again: gone as well, the snapshot was superfluous; still
//! there, it is damaged.
//!
//! There is one exception, and it harms nobody: a node that is slower with a snapshot than others are with the next
//! four may write its head between the deletion of the head and that of the chunks, by who retires it. Nobody starts
//! from that while a newer one can be read, whoever tries passes it over, and the sweep takes it.
//!
//! The state at a seq and the length of chunks being the same on every node, so are the chunks, and it does no harm
//! that two nodes write them. If the length of chunks ever changes, two nodes may write other chunks of one name; the
//! head that came last fits at most those of one of them, and a node that reads it sees so by the lengths or the
//! digest, as each does that took one and reads it back.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use minicbor::{Decode, Encode};

use super::object::{ObjectError, join};
use crate::format::{FormatError, HEADER_LEN, Object, ObjectBuilder, ObjectKind};
use crate::state::{Feature, Level, State};
use crate::types::{Seq, StateDigest};

/// The most bytes of a state in one object.
pub const MAX_CHUNK: u64 = 64 << 20;

/// What the head says. There is none in versions 1 and 2.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
struct Head {
    /// Of all bytes of the state.
    #[n(0)]
    digest: StateDigest,
    /// How many of them each chunk has, in order; none if the state is in this object.
    #[n(1)]
    chunks: Vec<u64>,
}

/// A snapshot that is to be stored.
#[derive(Debug)]
pub(super) struct EncodedSnapshot {
    /// The object that a node starts from.
    pub(super) object: Bytes,
    /// The digest of the state, if it may be said.
    pub(super) digest: Option<StateDigest>,
    state: Bytes,
    chunks: Vec<Range<usize>>,
}

/// The version of the format of a snapshot of a state of this level.
const fn version_of(level: Level) -> u16 {
    match level {
        Level::FIRST => 2,
        Level(2) => 3,
        _ => 4,
    }
}

impl EncodedSnapshot {
    /// Encodes a snapshot of `state`, with at most `max_chunk` bytes of it in one object.
    pub(super) fn new(state: &State, max_chunk: u64) -> Result<EncodedSnapshot, FormatError> {
        let bytes = Bytes::from(state.to_bytes());
        let version = version_of(state.level());
        let mut builder = ObjectBuilder::in_version(ObjectKind::Snapshot, version);
        if !state.has(Feature::SnapshotDigests) {
            builder.push(bytes.clone());
            return Ok(EncodedSnapshot {
                object: join(&builder.finish(&[], &[])?),
                digest: None,
                state: bytes,
                chunks: Vec::new(),
            });
        }
        let max_chunk = usize::try_from(max_chunk.max(1)).unwrap_or(usize::MAX);
        let mut chunks = Vec::new();
        if bytes.len() <= max_chunk {
            builder.push(bytes.clone());
        } else {
            let starts = (0..bytes.len()).step_by(max_chunk);
            chunks.extend(starts.map(|at| at..bytes.len().min(at.saturating_add(max_chunk))));
        }
        let digest = StateDigest::of(&bytes);
        let head = Head {
            digest: digest.clone(),
            chunks: chunks.iter().map(|range| range.len() as u64).collect(),
        };
        Ok(EncodedSnapshot {
            object: join(&builder.finish(&head.to_cbor(), &[])?),
            digest: Some(digest),
            state: bytes,
            chunks,
        })
    }

    /// How many chunks there are.
    pub(super) fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    /// The object of a chunk.
    pub(super) fn chunk(&self, index: usize) -> Result<Bytes, FormatError> {
        let range = self.chunks.get(index).cloned().unwrap_or_default();
        let mut builder = ObjectBuilder::new(ObjectKind::Chunk);
        builder.push(self.state.slice(range));
        Ok(join(&builder.finish(&[], &[])?))
    }

    /// The bytes of all its objects.
    pub(super) fn len(&self) -> u64 {
        let chunks = self.chunks.iter();
        let chunks = chunks.map(|range| range.len() as u64 + HEADER_LEN);
        chunks.fold(self.object.len() as u64, u64::saturating_add)
    }

    /// The bytes of the largest.
    pub(super) fn max_len(&self) -> u64 {
        let chunks = self.chunks.iter();
        let chunks = chunks.map(|range| range.len() as u64 + HEADER_LEN);
        chunks.fold(self.object.len() as u64, u64::max)
    }

    /// Whether it is read back as the same state, with the same bytes.
    pub(super) fn is_read_back(&self, state: &State) -> Result<bool, ObjectError> {
        let parts = SnapshotParts::decode("the new snapshot", &self.object)?;
        let whole = [self.state.clone()];
        let chunks = if self.chunks.is_empty() {
            &[][..]
        } else {
            &whole
        };
        let read = parts.state("the new snapshot", state.seq(), chunks)?;
        Ok(read.to_bytes() == *self.state)
    }
}

impl Head {
    fn to_cbor(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match minicbor::encode(self, &mut bytes) {
            Ok(()) => bytes,
            Err(never) => unreachable!("writing to a Vec does not fail: {never}"),
        }
    }
}

/// A snapshot object as it was read.
#[derive(Clone, Debug)]
pub struct SnapshotParts {
    version: u16,
    head: Option<Head>,
    data: Bytes,
}

impl SnapshotParts {
    /// Reads the object of a snapshot.
    ///
    /// # Errors
    /// See [`ObjectError`].
    pub fn decode(object: &str, bytes: &Bytes) -> Result<SnapshotParts, ObjectError> {
        let frame = Object::decode_as(object, ObjectKind::Snapshot, bytes)?;
        let version = frame.header.version();
        let head = match version {
            1 | 2 => None,
            _ => Some(
                minicbor::decode(&frame.head)
                    .map_err(|cause| ObjectError::content(object, cause))?,
            ),
        };
        let data = frame.data;
        Ok(SnapshotParts {
            version,
            head,
            data,
        })
    }

    /// Whether a state of this level is written in this version now: of an older one it cannot be said that the fold
    /// must give the same, since the state has learnt to note more.
    pub fn is_present(&self, level: Level) -> bool {
        self.version == version_of(level)
    }

    /// How many bytes of the state each of its chunks has, in order; none if the state is in the object itself.
    pub fn chunks(&self) -> &[u64] {
        self.head.as_ref().map_or(&[], |head| &head.chunks)
    }

    /// The digest of the state, if the object says it.
    pub fn digest(&self) -> Option<&StateDigest> {
        self.head.as_ref().map(|head| &head.digest)
    }

    /// The bytes in the object of a chunk that has `len` of them.
    ///
    /// # Errors
    /// See [`ObjectError`].
    pub fn chunk(object: &str, len: u64, bytes: &Bytes) -> Result<Bytes, ObjectError> {
        let data = Object::decode_as(object, ObjectKind::Chunk, bytes)?.data;
        match data.len() as u64 == len {
            true => Ok(data),
            false => Err(ObjectError::WrongChunk {
                object: object.to_owned(),
                found: data.len() as u64,
                expected: len,
            }),
        }
    }

    /// The state at `seq`, from the bytes of all chunks.
    ///
    /// # Errors
    /// See [`ObjectError`].
    pub fn state(&self, object: &str, seq: Seq, chunks: &[Bytes]) -> Result<State, ObjectError> {
        let bytes = match chunks {
            [] => self.data.clone(),
            [one] => one.clone(),
            several => {
                let mut joined = BytesMut::with_capacity(several.iter().map(Bytes::len).sum());
                several
                    .iter()
                    .for_each(|chunk| joined.extend_from_slice(chunk));
                joined.freeze()
            }
        };
        if let Some(expected) = self.digest() {
            let found = StateDigest::of(&bytes);
            if found != *expected {
                return Err(ObjectError::WrongDigest {
                    object: object.to_owned(),
                    found,
                    expected: expected.clone(),
                });
            }
        }
        let state =
            State::from_bytes(&bytes).map_err(|cause| ObjectError::content(object, cause))?;
        match state.seq() == seq {
            true => Ok(state),
            false => Err(ObjectError::WrongSeq {
                object: object.to_owned(),
                found: state.seq(),
            }),
        }
    }
}

/// Reads a snapshot of the state at `seq` that is in one object.
///
/// # Errors
/// See [`ObjectError`]. One that has chunks is not whole by itself, and its digest says so.
pub fn decode_snapshot(object: &str, seq: Seq, bytes: &Bytes) -> Result<State, ObjectError> {
    SnapshotParts::decode(object, bytes)?.state(object, seq, &[])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The object of a snapshot of a state of the second level that has these bytes, if there is such a state.
    pub(crate) fn snapshot_of_bytes(bytes: &[u8]) -> Bytes {
        let head = Head {
            digest: StateDigest::of(bytes),
            chunks: Vec::new(),
        };
        let mut builder = ObjectBuilder::in_version(ObjectKind::Snapshot, 3);
        builder.push(Bytes::copy_from_slice(bytes));
        join(&builder.finish(&head.to_cbor(), &[]).unwrap())
    }
}
