//! The fixed header of an object.

use std::fmt;
use std::ops::Range;

use super::{FormatError, Section};

/// The length of the header, in bytes. It is the same for every kind and version.
pub const HEADER_LEN: u64 = 40;

/// The longest head: 64 MiB.
pub const MAX_HEAD_LEN: u64 = 64 << 20;

/// The longest tail: 64 MiB.
pub const MAX_TAIL_LEN: u64 = 64 << 20;

/// The longest data section: 4 GiB, below what a single PUT may carry on every store.
pub const MAX_DATA_LEN: u64 = 4 << 30;

/// The first bytes of every object.
pub const MAGIC: [u8; 4] = *b"WEIR";
const CRC_AT: usize = 36;

/// The kinds of objects that have this framing. The numbers are durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// A commit of the manifest: ops in the head, message bytes in the data.
    Commit,
    /// The state at a seq.
    Snapshot,
    /// Record batches of many partitions in the data, their index in the tail.
    Segment,
    /// The mark that the manifest is truncated up to a seq.
    Boundary,
    /// A segment of few partitions whose batches carry their real offsets, with a sparse index for each slice.
    Compacted,
    /// A part of a state, in the data.
    Chunk,
}

impl ObjectKind {
    /// Every kind.
    pub const ALL: [ObjectKind; 6] = [
        ObjectKind::Commit,
        ObjectKind::Snapshot,
        ObjectKind::Segment,
        ObjectKind::Boundary,
        ObjectKind::Compacted,
        ObjectKind::Chunk,
    ];

    /// The number of the kind in the header.
    pub const fn number(self) -> u8 {
        match self {
            ObjectKind::Commit => 1,
            ObjectKind::Snapshot => 2,
            ObjectKind::Segment => 3,
            ObjectKind::Boundary => 4,
            ObjectKind::Compacted => 5,
            ObjectKind::Chunk => 6,
        }
    }

    /// The kind of a number, if this build knows it.
    pub fn from_number(number: u8) -> Option<ObjectKind> {
        ObjectKind::ALL
            .into_iter()
            .find(|kind| kind.number() == number)
    }

    /// The newest version of the kind's format that this build knows. All versions from 1 up to it can be read; what is
    /// written is as old as what it says allows.
    pub const fn newest_version(self) -> u16 {
        match self {
            ObjectKind::Commit => 5,
            ObjectKind::Snapshot => 4,
            ObjectKind::Segment
            | ObjectKind::Boundary
            | ObjectKind::Compacted
            | ObjectKind::Chunk => 1,
        }
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ObjectKind::Commit => "commit",
            ObjectKind::Snapshot => "snapshot",
            ObjectKind::Segment => "segment",
            ObjectKind::Boundary => "boundary",
            ObjectKind::Compacted => "compacted segment",
            ObjectKind::Chunk => "snapshot chunk",
        })
    }
}

/// What the header says: the kind and version of the object, and where its sections are.
///
/// A value of this type comes from a header whose checksum held, whose kind and version this build
/// knows, and whose lengths are within the maxima.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectHeader {
    pub(super) kind: ObjectKind,
    pub(super) version: u16,
    pub(super) head_len: u32,
    pub(super) head_crc: u32,
    pub(super) tail_len: u32,
    pub(super) tail_crc: u32,
    pub(super) data_len: u64,
    pub(super) data_crc: u32,
}

impl ObjectHeader {
    /// Reads the header from the first bytes of an object; `prefix` may be longer. `object` is the
    /// name that errors carry.
    pub fn parse(object: &str, prefix: &[u8]) -> Result<ObjectHeader, FormatError> {
        let object = || object.to_owned();
        if let Some(found) = prefix.first_chunk::<4>()
            && *found != MAGIC
        {
            return Err(FormatError::NotAnObject {
                object: object(),
                found: *found,
            });
        }
        let Some(header) = prefix.first_chunk::<{ HEADER_LEN as usize }>() else {
            return Err(FormatError::Truncated {
                object: object(),
                section: Section::Header,
                needed: HEADER_LEN,
                found: prefix.len() as u64,
            });
        };
        let expected = u32_at(header, CRC_AT);
        let found = crc32c::crc32c(&header[..CRC_AT]);
        if found != expected {
            let section = Section::Header;
            return Err(FormatError::Checksum {
                object: object(),
                section,
                expected,
                found,
            });
        }
        let kind = ObjectKind::from_number(header[4]).ok_or_else(|| FormatError::UnknownKind {
            object: object(),
            found: header[4],
        })?;
        let version = u16::from_le_bytes([header[6], header[7]]);
        let newest = kind.newest_version();
        if version == 0 || version > newest {
            return Err(FormatError::UnknownVersion {
                object: object(),
                kind,
                found: version,
                newest,
            });
        }
        if header[5] != 0 {
            return Err(FormatError::UnknownFlags {
                object: object(),
                found: header[5],
            });
        }
        let parsed = ObjectHeader {
            kind,
            version,
            head_len: u32_at(header, 8),
            head_crc: u32_at(header, 12),
            tail_len: u32_at(header, 16),
            tail_crc: u32_at(header, 20),
            data_len: u64::from(u32_at(header, 24)) | u64::from(u32_at(header, 28)) << 32,
            data_crc: u32_at(header, 32),
        };
        parsed.check_lengths(&object())?;
        Ok(parsed)
    }

    /// The header's bytes.
    pub(super) fn encode(&self) -> [u8; HEADER_LEN as usize] {
        let mut header = [0; HEADER_LEN as usize];
        header[..4].copy_from_slice(&MAGIC);
        header[4] = self.kind.number();
        header[6..8].copy_from_slice(&self.version.to_le_bytes());
        header[8..12].copy_from_slice(&self.head_len.to_le_bytes());
        header[12..16].copy_from_slice(&self.head_crc.to_le_bytes());
        header[16..20].copy_from_slice(&self.tail_len.to_le_bytes());
        header[20..24].copy_from_slice(&self.tail_crc.to_le_bytes());
        header[24..32].copy_from_slice(&self.data_len.to_le_bytes());
        header[32..36].copy_from_slice(&self.data_crc.to_le_bytes());
        let crc = crc32c::crc32c(&header[..CRC_AT]);
        header[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        header
    }

    fn check_lengths(&self, object: &str) -> Result<(), FormatError> {
        for (section, length, limit) in [
            (Section::Head, u64::from(self.head_len), MAX_HEAD_LEN),
            (Section::Data, self.data_len, MAX_DATA_LEN),
            (Section::Tail, u64::from(self.tail_len), MAX_TAIL_LEN),
        ] {
            check_length(object, section, length, limit)?;
        }
        Ok(())
    }

    /// Fails unless the object is of `expected` kind.
    pub fn expect_kind(&self, object: &str, expected: ObjectKind) -> Result<(), FormatError> {
        if self.kind == expected {
            Ok(())
        } else {
            let object = object.to_owned();
            Err(FormatError::WrongKind {
                object,
                expected,
                found: self.kind,
            })
        }
    }

    /// The kind of the object.
    pub fn kind(&self) -> ObjectKind {
        self.kind
    }

    /// The version of the kind's format, from 1 to [`ObjectKind::newest_version`].
    pub fn version(&self) -> u16 {
        self.version
    }

    /// Where the head is in the object, in bytes. A prefix of the object up to this range's end is
    /// enough to read header and head.
    pub fn head_range(&self) -> Range<u64> {
        HEADER_LEN..HEADER_LEN + u64::from(self.head_len)
    }

    /// Where the data is in the object, in bytes.
    pub fn data_range(&self) -> Range<u64> {
        let start = self.head_range().end;
        start..start + self.data_len
    }

    /// Where the tail is in the object, in bytes.
    pub fn tail_range(&self) -> Range<u64> {
        let start = self.data_range().end;
        start..start + u64::from(self.tail_len)
    }

    /// The length of the whole object, in bytes.
    pub fn object_len(&self) -> u64 {
        self.tail_range().end
    }

    /// A byte range of the data section as a byte range of the object; `None` when it is not within
    /// the data.
    pub fn locate(&self, in_data: &Range<u64>) -> Option<Range<u64>> {
        let data = self.data_range();
        let within = in_data.start <= in_data.end && in_data.end <= self.data_len;
        within.then(|| data.start + in_data.start..data.start + in_data.end)
    }

    /// The CRC32C that the data section must have, for whoever reads it in pieces.
    pub fn data_crc(&self) -> u32 {
        self.data_crc
    }

    /// Checks the bytes of the whole data section.
    pub fn check_data(&self, object: &str, data: &[u8]) -> Result<(), FormatError> {
        check_section(object, Section::Data, data, self.data_len, self.data_crc)
    }

    /// Checks the bytes of the tail.
    pub fn check_tail(&self, object: &str, tail: &[u8]) -> Result<(), FormatError> {
        check_section(
            object,
            Section::Tail,
            tail,
            self.tail_len.into(),
            self.tail_crc,
        )
    }

    pub(super) fn check_head(&self, object: &str, head: &[u8]) -> Result<(), FormatError> {
        check_section(
            object,
            Section::Head,
            head,
            self.head_len.into(),
            self.head_crc,
        )
    }
}

/// Fails when `length` is above `limit`.
pub(super) fn check_length(
    object: &str,
    section: Section,
    length: u64,
    limit: u64,
) -> Result<(), FormatError> {
    if length > limit {
        let object = object.to_owned();
        return Err(FormatError::TooLong {
            object,
            section,
            length,
            limit,
        });
    }
    Ok(())
}

fn check_section(
    object: &str,
    section: Section,
    bytes: &[u8],
    length: u64,
    expected: u32,
) -> Result<(), FormatError> {
    let object = || object.to_owned();
    let len = bytes.len() as u64;
    if len < length {
        let (needed, found) = (length, len);
        return Err(FormatError::Truncated {
            object: object(),
            section,
            needed,
            found,
        });
    }
    if len > length {
        return Err(FormatError::Overlong {
            object: object(),
            expected: length,
            found: len,
        });
    }
    let found = crc32c::crc32c(bytes);
    if found != expected {
        return Err(FormatError::Checksum {
            object: object(),
            section,
            expected,
            found,
        });
    }
    Ok(())
}

fn u32_at(header: &[u8; HEADER_LEN as usize], at: usize) -> u32 {
    u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}
