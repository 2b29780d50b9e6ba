//! What can be wrong with an object.

use std::fmt;

use super::ObjectKind;

/// A part of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// The fixed header.
    Header,
    /// The small section before the data.
    Head,
    /// The bulk section.
    Data,
    /// The section after the data.
    Tail,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Section::Header => "header",
            Section::Head => "head",
            Section::Data => "data",
            Section::Tail => "tail",
        })
    }
}

/// Why bytes are not the object they should be. Every variant names the object as the caller called
/// it (its path in the bucket).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The first four bytes are not Weir's.
    #[error("{object}: not an object of Weir (it starts with {found:02x?}, not \"WEIR\")")]
    NotAnObject {
        /// The object.
        object: String,
        /// Its first four bytes.
        found: [u8; 4],
    },
    /// A kind this build does not know, in a header that is otherwise sound.
    #[error(
        "{object}: unknown object kind {found}: a newer version of Weir wrote it; upgrade this node"
    )]
    UnknownKind {
        /// The object.
        object: String,
        /// The kind's number.
        found: u8,
    },
    /// A known kind, but not the one that belongs here.
    #[error("{object}: found a {found}, expected a {expected}")]
    WrongKind {
        /// The object.
        object: String,
        /// What the caller asked for.
        expected: ObjectKind,
        /// What the object is.
        found: ObjectKind,
    },
    /// A version this build cannot read.
    #[error(
        "{object}: version {found} of the {kind} format, but this node reads 1 to {newest}: a newer version of Weir \
         wrote it; upgrade this node"
    )]
    UnknownVersion {
        /// The object.
        object: String,
        /// Its kind.
        kind: ObjectKind,
        /// The version of the object.
        found: u16,
        /// The newest version this build reads.
        newest: u16,
    },
    /// Flags that this build does not know.
    #[error(
        "{object}: unknown flags {found:#04x}: a newer version of Weir wrote it; upgrade this node"
    )]
    UnknownFlags {
        /// The object.
        object: String,
        /// The flags byte.
        found: u8,
    },
    /// Fewer bytes than the object has, or than the asked section needs.
    #[error("{object}: truncated in the {section}: {found} of {needed} bytes")]
    Truncated {
        /// The object.
        object: String,
        /// The section that is incomplete.
        section: Section,
        /// How many bytes are needed, from the start of the object (or of the section, where only
        /// the section was given).
        needed: u64,
        /// How many there are.
        found: u64,
    },
    /// More bytes than the object has.
    #[error("{object}: {found} bytes, expected {expected}")]
    Overlong {
        /// The object.
        object: String,
        /// The length that the header declares.
        expected: u64,
        /// The length found.
        found: u64,
    },
    /// Bytes that are not what was written.
    #[error("{object}: the {section} is corrupt: checksum {found:08x}, expected {expected:08x}")]
    Checksum {
        /// The object.
        object: String,
        /// The corrupt section.
        section: Section,
        /// The CRC32C that the object declares.
        expected: u32,
        /// The CRC32C of the bytes.
        found: u32,
    },
    /// A section longer than any this build writes.
    #[error("{object}: the {section} has {length} bytes; the limit is {limit}")]
    TooLong {
        /// The object.
        object: String,
        /// The section.
        section: Section,
        /// Its length.
        length: u64,
        /// The most that is allowed.
        limit: u64,
    },
}
