//! What a connection runs: a request that is ready, how it may overlap with others, and what comes of it.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::net::{BytePermit, FrameError};

use super::codec::{Malformed, Unencodable};

/// How a call relates to the calls around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overlap {
    /// May start while appends or a read before it are unfinished.
    Append,
    /// May start while looks before it are unfinished.
    Look,
    /// Starts alone; appends may start while it is unfinished. Dropped when the node stops.
    LongRead,
    /// Starts alone, and nothing starts until it is answered. Dropped when the node stops.
    LongWait,
    /// Starts alone, and nothing starts until it is answered.
    Alone,
}

/// A request, ready to run.
pub(crate) struct Call {
    pub(crate) overlap: Overlap,
    pub(crate) run: BoxFuture<'static, Outcome>,
}

/// How a call came out.
pub(crate) enum Outcome {
    /// An answer.
    Reply(Reply),
    /// No answer is expected (`acks=0`).
    Silent,
    /// An answer, after which the connection cannot go on.
    Last(Reply, Violation),
    /// The connection cannot go on.
    Close(Violation),
}

/// A frame to send, and what it holds of the node's memory until it is sent.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) chunks: VecDeque<Bytes>,
    pub(crate) permit: BytePermit,
}

/// Why this node ends a connection that the client would go on with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Violation {
    #[error(transparent)]
    Frame(FrameError),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Kafka, too, can only tell a producer with `acks=0` of an error by closing.
    #[error("a Produce with acks=0 failed: {0}")]
    Unacknowledged(String),
    /// The API has no way of saying this that clients would not misread.
    #[error("no answer can be given: {0}")]
    Unanswerable(String),
    #[error("{0}")]
    Defect(#[from] Unencodable),
    #[error("it sent a request before it logged in")]
    NotLoggedIn,
    #[error("its login has expired, and it did not log in again")]
    LoginExpired,
    /// Clients take this for a failure of the network, and come again.
    #[error("too many clients of its address log in at once, or have failed to")]
    TooManyLogins,
    /// Logged where it failed.
    #[error("it could not log in")]
    LoginFailed,
    #[error("it did not read an answer of {0} bytes in time")]
    SlowReader(usize),
}
