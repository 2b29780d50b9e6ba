//! What can go wrong, with what the reader of a log needs to know.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use super::metrics::RequestKind;
use super::paths::ObjectPath;

/// A request to the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such object. Not repeated: the store's answer is final at that moment.
    #[error("{path} does not exist")]
    NotFound {
        /// The object.
        path: ObjectPath,
    },
    /// The range asked for is empty or begins at or after the object's end.
    #[error("{path} has no bytes {}..{}", range.start, range.end)]
    OutOfRange {
        /// The object.
        path: ObjectPath,
        /// The range asked for.
        range: Range<u64>,
    },
    /// The object is larger than anything Weir reads as a whole. Nothing of it was read.
    #[error("{path} has {size} bytes, more than the {limit} that are read as a whole")]
    TooLarge {
        /// The object.
        path: ObjectPath,
        /// Its size in bytes.
        size: u64,
        /// `StoreOptions::max_object`.
        limit: u64,
    },
    /// The store could not be reached, was too slow or was overloaded. The same request may succeed
    /// later. From a create it means that the request was never sent.
    #[error("{kind} of {subject}: {cause} (attempts: {attempts}, in {:.1} s)", elapsed.as_secs_f64())]
    Unavailable {
        /// What the request was for.
        kind: RequestKind,
        /// The object, the folder or the number of objects.
        subject: String,
        /// Why the last attempt failed.
        cause: Cause,
        /// How often it was tried.
        attempts: u32,
        /// For how long it was tried.
        elapsed: Duration,
    },
    /// The store will answer the same request in the same way until somebody changes something. From a
    /// create it means that the object was not created.
    #[error("{kind} of {subject}: {cause}. {advice}")]
    Refused {
        /// What the request was for.
        kind: RequestKind,
        /// The object, the folder or the number of objects.
        subject: String,
        /// What the store said.
        cause: Cause,
        /// What to do about it: a sentence.
        advice: &'static str,
    },
    /// The store could not be set up.
    #[error("{store}: {cause}. {advice}")]
    Setup {
        /// The store's URL.
        store: String,
        /// What is wrong.
        cause: Cause,
        /// What to do about it: a sentence.
        advice: &'static str,
    },
}

impl StoreError {
    /// Whether the same request may succeed later without anybody changing anything.
    pub fn is_retriable(&self) -> bool {
        matches!(self, StoreError::Unavailable { .. })
    }

    /// Whether the object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, StoreError::NotFound { .. })
    }
}

/// Why a request failed, in words that are safe to log. Made from a status, an error code and a message
/// of the store or from a message of the transport: never from a whole answer, since a store may repeat
/// the signed request with its session token in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause(String);

/// The longest cause, in characters.
const MAX_CAUSE: usize = 400;

impl Cause {
    /// One line of these words.
    pub(super) fn new(words: &str) -> Cause {
        let line: String = words
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(MAX_CAUSE)
            .collect();
        Cause(line.trim_end_matches(['.', ' ']).to_owned())
    }

    /// An error and what caused it, outermost first, leaving out what repeats.
    pub(super) fn of(error: &(dyn std::error::Error + 'static)) -> Cause {
        let mut words = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            let inner_words = inner.to_string();
            if !words.contains(&inner_words) {
                words.push_str(": ");
                words.push_str(&inner_words);
            }
            source = inner.source();
        }
        Cause::new(&words)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Cause {}
