//! The manifest: one totally ordered log of commits in the bucket, and its fold.
//!
//! One task per node, the [`Tail`], owns the fold. It commits what others hand it, follows what other nodes
//! commit, and publishes the state after each commit. Everybody else holds a [`Manifest`], through which
//! they hand in ops and await outcomes, ask for a state that is up to date, and watch the state change.
//! Nothing else in the node reads or writes the log.
//!
//! # Committing
//!
//! The next commit is created at `seq + 1`, if absent. [`Created`](crate::store::Created::Created): it is in
//! the log; it is folded and every waiter is handed the outcome of its own op. In every other case (exists,
//! timeout, reset, 5xx) the task reads what stands at that seq: our own commit id means that it is in the log
//! after all (a response was lost, or something between us and the store repeated the request); another's
//! means that the race is lost, and the same ops go to the new tail; nothing there means that the same
//! bytes are created at the same seq again. The commit is tried at no other seq before this one is settled, so it
//! is in the log at most once, and the fold has its own guard against that as well.
//!
//! While nobody disturbs it the node sends the next commits to the seqs behind, before it knows of the first
//! ([`ManifestOptions::commits_in_flight`]). Each says which one it follows, and is void in the log if that one is not
//! before it; so one that loses its race is not overtaken by what was sent behind it, and all of it goes again in
//! order. They are settled in the order of their seqs: the log ends where nothing stands, whatever stands behind.
//!
//! # The files
//!
//! [`Tail`] (`tail.rs`) has the fold, the commits under way and the loop. Each of its steps is a file with methods of
//! it: `commit.rs`, `settle.rs`, `follow.rs`, `truncated.rs`, `snapshot.rs`, `forwarding/steps.rs`. What they decide by
//! are types that do not know it: `Forwarding`, `Freshness`, `Replay`. Apart from those methods no file uses one that
//! uses it.
//!
//! # Several nodes that write
//!
//! A node that loses a race forwards its commits to the node that wrote the newest object, which stores them with its
//! own; and nodes tell each other of new commits. Nothing depends on it: `forwarding/mod.rs` says what keeps it so.
//!
//! # Following
//!
//! [`Manifest::fresh`] answers with a state that contains every commit that was acknowledged anywhere
//! before the call. The proof of that is one request that was *sent* after the call and showed the tail: a
//! probe of the next seq that found nothing, or a create there that succeeded. One probe serves all
//! who wait, and who has time ([`Manifest::fresh_by`]) costs a probe only if no proof came by itself. While anybody
//! holds a [`Following`] guard the task also probes on a shared timer. With no guard and no caller it asks the store
//! nothing. `freshness.rs` says what proves a state, and who is answered by it.
//!
//! # A log that gets shorter
//!
//! Old commits are deleted, and what is deleted leaves its name free: to a node that slept meanwhile, the log seems to
//! end where it does not. `truncated.rs` says what keeps such a node from believing it.
//!
//! # Time
//!
//! `clock.rs`: which clock a node goes by for what, and why a wall clock that is wrong neither stops nor destroys
//! anything. `heard.rs`: how leases are held and judged without any wall clock.
//!
//! # A store that is another one
//!
//! `cluster.rs`: what a node does when its bucket is emptied, exchanged or not mounted, and why it does not start where
//! there is a log and no `cluster.json`.
//!
//! # When the process dies, when a future is dropped, when the store is away
//!
//! A process that dies leaves commits that are in the log or not, or void behind a place that somebody else's commit
//! takes; no client was told of one that is not in it. A dropped [`Manifest::commit`] future abandons the answer, and
//! the ops wherever they are surely not in the log: while they wait for a commit, and when the commit with them has
//! lost its race. A commit that may stand in the log, because its create was not answered or because it was forwarded,
//! is settled with the same bytes whoever waits; what the ops in it were judged against
//! ([`Asked`](crate::state::op::Asked)) keeps them from undoing what was acknowledged meanwhile. While the store is
//! away the task goes on trying the same commit, with jittered backoff, for as long as the process lives; its mailbox
//! is bounded, so those who hand in ops wait, each for as long as its client's timeout lets it. An object of the log
//! that cannot be understood (corrupt, or written by a newer version) halts the fold: the node answers
//! [`Stopped::Halted`] from then on and guesses nothing.

mod clock;
mod cluster;
mod commit;
mod divergence;
mod due;
mod error;
mod follow;
mod forwarding;
mod freshness;
mod handle;
mod heard;
mod known;
mod log;
mod metrics;
mod object;
mod open;
mod options;
mod parts;
mod peers;
mod prepared;
mod published;
mod restore;
mod settle;
mod snapshot;
mod tail;
mod truncated;

#[cfg(test)]
pub(crate) mod tests;

pub use cluster::{Cluster, find_cluster, read_cluster};
pub use error::OpenError;
pub use forwarding::PEER_ENDPOINT;
pub use freshness::Proof;
pub use handle::{
    Caller, CommitSource, Committed, Following, Manifest, Stopped, Submission, Waits,
};
pub use known::Known;
pub use metrics::ManifestMetrics;
pub use object::{LoggedCommit, ObjectError, encode_commit};
pub use open::{open, open_in};
pub use options::ManifestOptions;
pub use parts::{MAX_CHUNK, SnapshotParts, decode_snapshot};
pub use peers::{Declined, Peer, PeerError, Peers};
pub use published::{Ended, States};
pub use restore::{SnapshotError, read_snapshot};
pub use tail::{Tail, WriteThrough};
