//! Commit objects: what stands in their sections. Snapshots are in `parts.rs`.
//!
//! A commit's head is its ops as CBOR, its data the bytes of its inline appends. Around them is the frame of
//! [`crate::format`].

use bytes::{Bytes, BytesMut};

use crate::format::{FormatError, Object, ObjectBuilder, ObjectHead, ObjectKind};
use crate::state::Level;
use crate::state::op::Commit;
use crate::types::{LogId, Seq, StateDigest};

/// The log whose commits are read and written here: the only one there is.
pub(super) const LOG: LogId = LogId::ZERO;

/// Why an object cannot be read. Final: reading it again gives the same.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The frame is broken, or of a version that this node does not know.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The frame is whole but its content is not understood.
    #[error(
        "{object}: {cause}. Its checksum is right, so a newer version of Weir most likely wrote it: upgrade this node"
    )]
    Content {
        /// The object.
        object: String,
        /// What was not understood.
        cause: minicbor::decode::Error,
    },
    /// A commit says that it stands in another log than the one in which it was found.
    #[error("{object} holds a commit of log {found}, expected log {expected}")]
    WrongLog {
        /// The object.
        object: String,
        /// The log that the commit names.
        found: LogId,
        /// The log that was read.
        expected: LogId,
    },
    /// A snapshot holds the state of another seq than its name says.
    #[error("{object} holds the state at {found}")]
    WrongSeq {
        /// The object.
        object: String,
        /// The seq of the state in it.
        found: Seq,
    },
    /// A chunk of a snapshot is not as long as its head says.
    #[error("{object} has {found} bytes of the state, expected {expected} by the snapshot's head")]
    WrongChunk {
        /// The chunk.
        object: String,
        /// How many it has.
        found: u64,
        /// How many it should have.
        expected: u64,
    },
    /// The bytes of a state are not those of which the snapshot says the digest.
    #[error("the state in {object} has digest {found}, expected {expected}")]
    WrongDigest {
        /// The snapshot.
        object: String,
        /// The digest of what was read.
        found: StateDigest,
        /// The one that the snapshot says.
        expected: StateDigest,
    },
    /// The cluster was upgraded beyond what this node knows.
    #[error(
        "{object} needs level {level}, but this node supports levels up to {known}: upgrade this node"
    )]
    Level {
        /// The object.
        object: String,
        /// Its level.
        level: Level,
        /// The highest level that this node knows.
        known: Level,
    },
}

impl ObjectError {
    pub(super) fn content(object: &str, cause: minicbor::decode::Error) -> ObjectError {
        let object = object.to_owned();
        ObjectError::Content { object, cause }
    }

    /// Whether the frame says that newer software wrote it: then it is whole, and this node too old for it.
    pub fn is_of_newer_software(&self) -> bool {
        matches!(
            self,
            ObjectError::Level { .. }
                | ObjectError::Format(
                    FormatError::UnknownKind { .. }
                        | FormatError::UnknownVersion { .. }
                        | FormatError::UnknownFlags { .. }
                )
        )
    }
}

/// A commit as it stands in the log.
#[derive(Debug)]
pub struct LoggedCommit {
    /// Its place in the log.
    pub seq: Seq,
    /// Its ops.
    pub commit: Commit,
    /// The position of its data section in the object.
    pub data_start: u64,
    /// The size of the object in bytes.
    pub object_len: u64,
    /// The whole object, if as much was read and its data is sound. Damaged data does not concern the fold: who
    /// reads a batch in it meets the damage.
    pub whole: Option<Bytes>,
}

/// Whether `prefix` is the whole object, with every checksum right.
fn is_sound(object: &str, prefix: &Bytes, object_len: u64) -> bool {
    prefix.len() as u64 == object_len
        && Object::decode_as(object, ObjectKind::Commit, prefix)
            .inspect_err(|error| tracing::error!(%error, "a commit's records are damaged"))
            .is_ok()
}

/// A commit ready to be stored.
#[derive(Clone, Debug)]
pub(super) struct EncodedCommit {
    pub(super) object: Bytes,
    pub(super) head_len: u64,
    pub(super) data_start: u64,
}

impl EncodedCommit {
    /// Encodes `commit` with the bytes of its inline appends.
    pub(super) fn new(commit: &Commit, data: Bytes) -> Result<EncodedCommit, FormatError> {
        let head = to_cbor(commit);
        let data_len = data.len();
        let version = commit_version(commit.level());
        let mut builder = ObjectBuilder::in_version(ObjectKind::Commit, version);
        builder.push(data);
        let object = join(&builder.finish(&head, &[])?);
        let data_start = (object.len() - data_len) as u64;
        Ok(EncodedCommit {
            object,
            head_len: head.len() as u64,
            data_start,
        })
    }

    /// The same data with another head.
    pub(super) fn changed(
        &self,
        commit: &Commit,
        change: impl FnOnce(&mut Commit),
    ) -> (Commit, EncodedCommit) {
        let mut commit = commit.clone();
        change(&mut commit);
        let start = usize::try_from(self.data_start).unwrap_or(usize::MAX);
        let data = self.object.slice(start..);
        let encoded = EncodedCommit::new(&commit, data).unwrap_or_else(|_| self.clone());
        (commit, encoded)
    }
}

/// A commit as an object, with the bytes of its inline appends: for who writes to a log that no node writes to.
///
/// # Errors
///
/// A section is longer than its maximum.
pub fn encode_commit(commit: &Commit, data: Bytes) -> Result<Bytes, FormatError> {
    Ok(EncodedCommit::new(commit, data)?.object)
}

impl LoggedCommit {
    /// Reads the commit at `seq` from the first bytes of its object, of `object_len` bytes in all.
    ///
    /// [`FormatError::Truncated`] says how many bytes are needed if `prefix` is too short.
    pub fn decode(
        object: &str,
        seq: Seq,
        prefix: &Bytes,
        object_len: u64,
    ) -> Result<LoggedCommit, ObjectError> {
        let ObjectHead { header, head } = ObjectHead::decode(object, ObjectKind::Commit, prefix)?;
        let commit: Commit = minicbor::decode(&head).map_err(|cause| ObjectError::Content {
            object: object.to_owned(),
            cause,
        })?;
        if commit.log != LOG {
            return Err(ObjectError::WrongLog {
                object: object.to_owned(),
                found: commit.log,
                expected: LOG,
            });
        }
        let logged = LoggedCommit {
            seq,
            commit,
            data_start: header.data_range().start,
            object_len,
            whole: is_sound(object, prefix, object_len).then(|| prefix.clone()),
        };
        logged.at_level(object, Level::NEWEST)
    }

    /// The commit, if a node can fold it that knows levels up to `known`.
    pub(super) fn at_level(self, object: &str, known: Level) -> Result<LoggedCommit, ObjectError> {
        let level = self.commit.level();
        if level <= known {
            return Ok(self);
        }
        let object = object.to_owned();
        Err(ObjectError::Level {
            object,
            level,
            known,
        })
    }
}

/// The version of the format of a commit whose ops are of this level. All nodes that know levels know version 3.
const fn commit_version(level: Level) -> u16 {
    match level {
        Level::FIRST => 3,
        Level(2) => 4,
        _ => 5,
    }
}

fn to_cbor(commit: &Commit) -> Vec<u8> {
    let mut bytes = Vec::new();
    match minicbor::encode(commit, &mut bytes) {
        Ok(()) => bytes,
        Err(never) => unreachable!("writing to a Vec does not fail: {never}"),
    }
}

pub(super) fn join(parts: &[Bytes]) -> Bytes {
    let mut joined = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
    parts.iter().for_each(|part| joined.extend_from_slice(part));
    joined.freeze()
}
