//! Reading one commit.

use std::ops::Range;

use bytes::Bytes;

use super::read::{Looked, kind_of_format, kind_of_object, look};
use super::{Kind, Walk};
use crate::format::{FormatError, ObjectHeader, ObjectKind};
use crate::manifest::LoggedCommit;
use crate::store::{ObjectPath, RequestKind, StoreError};
use crate::types::Seq;

/// How much of a commit is read at first: the ops of most.
const PREFIX: u64 = 64 << 10;

/// A commit whose ops can be read.
#[derive(Debug)]
pub(in crate::maintain) struct ReadCommit {
    pub(in crate::maintain) logged: LoggedCommit,
    /// Where in the object its data is, as far as the object goes.
    pub(super) data: Range<u64>,
    /// The whole object, if it was read.
    pub(super) whole: Option<Bytes>,
    /// What is wrong with it though its ops can be read.
    pub(super) damage: Option<(Kind, String)>,
    /// How many bytes were read.
    pub(super) bytes: u64,
}

/// Reads the commit at `seq`: its ops, and with `deep` all of it.
pub(in crate::maintain) async fn read(
    walk: &Walk<'_>,
    seq: Seq,
) -> Result<Looked<ReadCommit>, StoreError> {
    let path = ObjectPath::commit(seq);
    let (store, kind) = (walk.store, RequestKind::CommitGet);
    let answer = if walk.deep {
        store.get(&path, kind).await.map(|whole| {
            let len = whole.len() as u64;
            (whole, len)
        })
    } else {
        store.get_range(&path, 0..PREFIX, kind).await
    };
    let (mut bytes, len) = match look(answer)? {
        Looked::At(read) => read,
        Looked::Gone => return Ok(Looked::Gone),
        Looked::Bad(kind, detail) => return Ok(Looked::Bad(kind, detail)),
    };
    let header = match ObjectHeader::parse(path.as_str(), &bytes) {
        Ok(header) => header,
        Err(error) => return Ok(Looked::Bad(kind_of_format(&error), error.to_string())),
    };
    let head_end = header.head_range().end;
    if header.kind() == ObjectKind::Commit && (bytes.len() as u64) < head_end && head_end <= len {
        bytes = match look(store.get_range(&path, 0..head_end, kind).await)? {
            Looked::At((bytes, _)) => bytes,
            Looked::Gone => return Ok(Looked::Gone),
            Looked::Bad(kind, detail) => return Ok(Looked::Bad(kind, detail)),
        };
    }
    Ok(decode(&path, seq, &header, bytes, len))
}

fn decode(
    path: &ObjectPath,
    seq: Seq,
    header: &ObjectHeader,
    bytes: Bytes,
    len: u64,
) -> Looked<ReadCommit> {
    let name = path.as_str();
    // Only header and head: what the data is worth is judged below, and not logged by the decoder.
    let head_end = usize::try_from(header.head_range().end).unwrap_or(usize::MAX);
    let head = bytes.slice(..head_end.min(bytes.len()));
    let logged = match LoggedCommit::decode(name, seq, &head, len) {
        Ok(logged) => logged,
        Err(error) => return Looked::Bad(kind_of_object(&error), error.to_string()),
    };
    let whole = (bytes.len() as u64 == len).then(|| bytes.clone());
    let data = header.data_range();
    let data = data.start..data.end.min(len);
    let damage = wrong_length(name, header, len).or_else(|| {
        let whole = whole.as_ref()?;
        let section = whole.get(usize::try_from(data.start).ok()?..usize::try_from(data.end).ok()?);
        header.check_data(name, section.unwrap_or_default()).err()
    });
    Looked::At(ReadCommit {
        logged,
        data,
        whole,
        damage: damage.map(|error| (kind_of_format(&error), error.to_string())),
        bytes: bytes.len() as u64,
    })
}

/// The error of an object that is not as long as its header says.
pub(super) fn wrong_length(name: &str, header: &ObjectHeader, len: u64) -> Option<FormatError> {
    let (object, expected) = (name.to_owned(), header.object_len());
    if len > expected {
        return Some(FormatError::Overlong {
            object,
            expected,
            found: len,
        });
    }
    (len < expected).then(|| FormatError::Truncated {
        object,
        section: if len < header.data_range().end {
            crate::format::Section::Data
        } else {
            crate::format::Section::Tail
        },
        needed: expected,
        found: len,
    })
}
