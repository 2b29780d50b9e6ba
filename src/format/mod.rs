//! The framing that every durable object shares.
//!
//! An object is a fixed 40-byte header and three sections, each of which may be empty:
//!
//! ```text
//! header | head | data | tail
//! ```
//!
//! The *head* is small and comes first, so that whoever has the first bytes of a commit can read its
//! ops without the message bytes behind them. The *data* is bulk: parts are appended untouched and
//! never copied. The *tail* is for what is only known when the data is complete: a segment keeps its
//! index there, so that the place of a slice is final the moment it is appended. The layout, byte by
//! byte, is in `docs/formats/objects.md`.
//!
//! This room does no I/O, knows no path (the caller gives the name that errors carry), and does not
//! know what the sections mean: that is the business of the room that owns the kind.
//!
//! Invariants:
//!
//! * A section is handed out only after its CRC32C was checked; there is no way to read around it.
//! * No length is believed before it is checked against its maximum and the header's own CRC, and
//!   nothing is allocated by a length: sections are slices of what the caller read.
//! * The header's layout never changes; the version counts changes *inside* the sections of a kind.
//!   An unknown kind or version is an error that says to upgrade, never a guess.
//!
//! Everything here is a pure function of its input: there is nothing to do after a crash or when a
//! future is cancelled.

mod builder;
mod crc;
mod error;
mod header;
mod object;
#[cfg(test)]
mod tests;

pub use builder::ObjectBuilder;
pub use crc::join_crc;
pub use error::{FormatError, Section};
pub use header::{
    HEADER_LEN, MAGIC, MAX_DATA_LEN, MAX_HEAD_LEN, MAX_TAIL_LEN, ObjectHeader, ObjectKind,
};
pub use object::{Object, ObjectHead};
