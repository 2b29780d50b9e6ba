//! Sockets, before any protocol: listeners, connections, frames, and how much memory they may hold.
//!
//! [`Listener`] has a name; it binds, accepts and counts. What serves its connections is a [`FrontEnd`], of which each
//! gets a [`Stream`]: what carries the bytes is this room's business. A connection over a limit is closed at once. One
//! that shows who it is may be counted apart ([`Slot::become_known`]), so that strangers take no slots from it, nor
//! it from them. When the process runs out of file descriptors the listener waits and goes on; it never ends because
//! `accept` failed; and so that the node keeps the descriptors it needs for its store, it takes no more connections
//! than the limit of open files allows ([`connections_within`]). Stopping is a
//! [`CancellationToken`](tokio_util::sync::CancellationToken): the listener closes, connections are told, and those
//! that have not ended after the drain time are dropped.
//!
//! [`FrameReader`] cuts a stream into frames of a four-byte length and a body. It refuses a length
//! before it allocates, reserves the declared size of a [`MemoryBudget`] before it reads the body
//! (that is how a full node pushes back on its clients' sockets), and lets the buffer grow only
//! as bytes arrive, within a deadline.
//!
//! # Invariants
//!
//! * The bytes of all requests in flight on the node are within the budget, whatever clients declare.
//! * A frame that has begun makes headway ([`transfer_time`]) or ends, so that nobody can hold the budget for
//!   long, and least of all while others wait for it. What is small has a part of the budget to itself.
//! * Nothing here knows what a frame means, and nothing here writes more than one log line per ten
//!   seconds about one kind of refusal.
//!
//! # Dropped futures
//!
//! The future of [`Listener::serve`] owns its connections: dropping it drops them all at once.
//! [`FrameReader::next`] keeps what it has read in the reader, but gives up its place in the queue for
//! the budget when it is dropped: keep it and poll it to its end.

mod budget;
mod descriptors;
mod frames;
mod listener;
mod rate_limited_log;
mod stream;
mod tls;

pub use budget::{BytePermit, MemoryBudget};
pub use descriptors::{connections_within, open_files};
pub use frames::{Frame, FrameError, FrameLimits, FrameReader, LOOK, transfer_time};
pub use listener::{
    BindError, Closing, FrontEnd, Listener, ListenerEvent, ListenerOptions, Rejection, Slot,
};
pub use rate_limited_log::RateLimitedLog;
pub use stream::{Stream, StreamReader, StreamWriter};
pub use tls::{Tls, TlsError};
