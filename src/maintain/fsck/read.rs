//! Reading an object that may be gone, damaged, or withheld: all that is an answer here, and no error.

use super::Kind;
use crate::format::FormatError;
use crate::manifest::ObjectError;
use crate::segment::SegmentError;
use crate::store::StoreError;

/// What came of looking at an object.
#[derive(Debug)]
pub(in crate::maintain) enum Looked<T> {
    /// It can be read.
    At(T),
    /// It is not there.
    Gone,
    /// It is there, and this is wrong with it.
    Bad(Kind, String),
}

/// Sorts the store's answer: only a store that cannot be reached is an error.
pub(super) fn look<T>(answer: Result<T, StoreError>) -> Result<Looked<T>, StoreError> {
    match answer {
        Ok(content) => Ok(Looked::At(content)),
        Err(StoreError::NotFound { .. }) => Ok(Looked::Gone),
        Err(error @ StoreError::OutOfRange { .. }) => {
            Ok(Looked::Bad(Kind::WrongLength, error.to_string()))
        }
        Err(error @ StoreError::TooLarge { .. }) => {
            Ok(Looked::Bad(Kind::Corrupt, error.to_string()))
        }
        Err(error @ StoreError::Refused { .. }) => {
            Ok(Looked::Bad(Kind::Unreadable, error.to_string()))
        }
        Err(error) => Err(error),
    }
}

/// What an error of the frame is found as.
pub(super) fn kind_of_format(error: &FormatError) -> Kind {
    match error {
        FormatError::UnknownKind { .. }
        | FormatError::UnknownVersion { .. }
        | FormatError::UnknownFlags { .. } => Kind::Newer,
        FormatError::Truncated { .. } | FormatError::Overlong { .. } => Kind::WrongLength,
        FormatError::NotAnObject { .. }
        | FormatError::WrongKind { .. }
        | FormatError::Checksum { .. }
        | FormatError::TooLong { .. } => Kind::Corrupt,
    }
}

/// What an error of a commit or snapshot is found as.
pub(super) fn kind_of_object(error: &ObjectError) -> Kind {
    match error {
        ObjectError::Format(error) => kind_of_format(error),
        ObjectError::Content { .. } | ObjectError::Level { .. } => Kind::Newer,
        ObjectError::WrongLog { .. }
        | ObjectError::WrongSeq { .. }
        | ObjectError::WrongChunk { .. }
        | ObjectError::WrongDigest { .. } => Kind::Corrupt,
    }
}

/// What an error of a segment is found as.
pub(super) fn kind_of_segment(error: &SegmentError) -> Kind {
    match error {
        SegmentError::Format(error) => kind_of_format(error),
        _ => Kind::Corrupt,
    }
}
