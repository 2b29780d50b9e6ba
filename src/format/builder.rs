//! Writing objects.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::crc::join_crc;
use super::header::check_length;
use super::{
    FormatError, HEADER_LEN, MAX_DATA_LEN, MAX_HEAD_LEN, MAX_TAIL_LEN, ObjectHeader, ObjectKind,
    Section,
};

/// Builds an object without copying its data: parts go in, parts come out.
///
/// The data comes first, because head and tail usually say where in the data things are.
#[derive(Debug)]
pub struct ObjectBuilder {
    kind: ObjectKind,
    version: u16,
    data: Vec<Bytes>,
    data_len: u64,
    data_crc: u32,
}

impl ObjectBuilder {
    /// An empty object of `kind`, in the newest version of its format.
    pub fn new(kind: ObjectKind) -> ObjectBuilder {
        ObjectBuilder::in_version(kind, kind.newest_version())
    }

    /// An empty object of `kind` in this version of its format, which older builds may know, too.
    pub fn in_version(kind: ObjectKind, version: u16) -> ObjectBuilder {
        ObjectBuilder {
            kind,
            version,
            data: Vec::new(),
            data_len: 0,
            data_crc: 0,
        }
    }

    /// Appends `part` to the data section and returns its byte range *within that section*. Where
    /// the section starts depends on the head: see [`ObjectHeader::locate`]. With an empty head it
    /// starts at [`HEADER_LEN`].
    pub fn push(&mut self, part: Bytes) -> Range<u64> {
        let start = self.data_len;
        self.data_len += part.len() as u64;
        self.data_crc = crc32c::crc32c_append(self.data_crc, &part);
        if !part.is_empty() {
            self.data.push(part);
        }
        start..self.data_len
    }

    /// Appends parts whose checksum, taken together, is `crc`. It is believed: they are not read.
    pub fn push_summed(&mut self, parts: Vec<Bytes>, crc: u32) {
        self.note(crc, parts.iter().map(Bytes::len).sum());
        self.data
            .extend(parts.into_iter().filter(|part| !part.is_empty()));
    }

    /// The length of the data section so far, in bytes.
    pub fn data_len(&self) -> u64 {
        self.data_len
    }

    /// Appends `len` bytes whose checksum is `crc` to the data section, without having them: for who writes the data
    /// elsewhere and needs the header in the end, from [`ObjectBuilder::frame`].
    pub fn note(&mut self, crc: u32, len: usize) {
        self.data_len += len as u64;
        self.data_crc = join_crc(self.data_crc, crc, len as u64);
    }

    /// The header of an object with an empty head, this data and `tail`.
    ///
    /// Fails when a section is longer than its maximum.
    pub fn frame(&self, tail: &[u8]) -> Result<[u8; HEADER_LEN as usize], FormatError> {
        Ok(self.header(&[], tail)?.encode())
    }

    fn header(&self, head: &[u8], tail: &[u8]) -> Result<ObjectHeader, FormatError> {
        let object = format!("a new {}", self.kind);
        check_length(&object, Section::Data, self.data_len, MAX_DATA_LEN)?;
        Ok(ObjectHeader {
            kind: self.kind,
            version: self.version,
            head_len: short_length(&object, Section::Head, head, MAX_HEAD_LEN)?,
            head_crc: crc32c::crc32c(head),
            tail_len: short_length(&object, Section::Tail, tail, MAX_TAIL_LEN)?,
            tail_crc: crc32c::crc32c(tail),
            data_len: self.data_len,
            data_crc: self.data_crc,
        })
    }

    /// The object as parts that follow one another: header and head in one, then the data as it was
    /// pushed, then the tail. Only head and tail are copied.
    ///
    /// Fails when a section is longer than its maximum.
    pub fn finish(self, head: &[u8], tail: &[u8]) -> Result<Vec<Bytes>, FormatError> {
        let header = self.header(head, tail)?;
        let mut first = BytesMut::with_capacity(HEADER_LEN as usize + head.len());
        first.extend_from_slice(&header.encode());
        first.extend_from_slice(head);
        let mut parts = Vec::with_capacity(self.data.len() + 2);
        parts.push(first.freeze());
        parts.extend(self.data);
        if !tail.is_empty() {
            parts.push(Bytes::copy_from_slice(tail));
        }
        Ok(parts)
    }
}

/// The length of a section that has 32 bits for it.
fn short_length(
    object: &str,
    section: Section,
    bytes: &[u8],
    limit: u64,
) -> Result<u32, FormatError> {
    let length = bytes.len() as u64;
    check_length(object, section, length, limit)?;
    u32::try_from(length).map_err(|_| FormatError::TooLong {
        object: object.to_owned(),
        section,
        length,
        limit,
    })
}
