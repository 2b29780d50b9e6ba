//! Reading objects.

use std::ops::Range;

use bytes::Bytes;

use super::{FormatError, HEADER_LEN, ObjectHeader, ObjectKind, Section};

/// The header and head of an object of which perhaps only the first bytes were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectHead {
    /// The header.
    pub header: ObjectHeader,
    /// The head section; its checksum held.
    pub head: Bytes,
}

impl ObjectHead {
    /// Reads header and head from a prefix of an object of `kind`. Data and tail are neither needed
    /// nor looked at; whether the object is complete is not known.
    ///
    /// [`FormatError::Truncated`] tells how many bytes from the start are needed when `prefix` is
    /// too short.
    pub fn decode(
        object: &str,
        kind: ObjectKind,
        prefix: &Bytes,
    ) -> Result<ObjectHead, FormatError> {
        let header = ObjectHeader::parse(object, prefix)?;
        header.expect_kind(object, kind)?;
        let head = section(object, Section::Head, prefix, header.head_range())?;
        header.check_head(object, &head)?;
        Ok(ObjectHead { header, head })
    }
}

/// A whole object; all its checksums held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The header.
    pub header: ObjectHeader,
    /// The head section.
    pub head: Bytes,
    /// The data section.
    pub data: Bytes,
    /// The tail section.
    pub tail: Bytes,
}

impl Object {
    /// Reads a whole object of any known kind. The sections are slices of `bytes`.
    pub fn decode(object: &str, bytes: &Bytes) -> Result<Object, FormatError> {
        let header = ObjectHeader::parse(object, bytes)?;
        let head = section(object, Section::Head, bytes, header.head_range())?;
        let data = section(object, Section::Data, bytes, header.data_range())?;
        let tail = section(object, Section::Tail, bytes, header.tail_range())?;
        let (expected, found) = (header.object_len(), bytes.len() as u64);
        if found > expected {
            return Err(FormatError::Overlong {
                object: object.to_owned(),
                expected,
                found,
            });
        }
        header.check_head(object, &head)?;
        header.check_data(object, &data)?;
        header.check_tail(object, &tail)?;
        Ok(Object {
            header,
            head,
            data,
            tail,
        })
    }

    /// Reads a whole object that must be of `kind`.
    pub fn decode_as(object: &str, kind: ObjectKind, bytes: &Bytes) -> Result<Object, FormatError> {
        if bytes.len() as u64 >= HEADER_LEN {
            ObjectHeader::parse(object, bytes)?.expect_kind(object, kind)?;
        }
        Object::decode(object, bytes)
    }
}

/// The bytes of a section out of an object, or out of a prefix of it.
fn section(
    object: &str,
    section: Section,
    bytes: &Bytes,
    range: Range<u64>,
) -> Result<Bytes, FormatError> {
    match (usize::try_from(range.start), usize::try_from(range.end)) {
        (Ok(start), Ok(end)) if end <= bytes.len() => Ok(bytes.slice(start..end)),
        _ => Err(FormatError::Truncated {
            object: object.to_owned(),
            section,
            needed: range.end,
            found: bytes.len() as u64,
        }),
    }
}
