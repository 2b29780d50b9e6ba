//! The log as the fold sees it: who wrote which commit, how commits move time, which rules hold, what of it is in
//! snapshots, and how far it may be deleted.
//!
//! * A commit takes effect once: the last of each incarnation is remembered ([`LastCommits`]).
//! * Time never goes back ([`State::time_after`](super::State::time_after)).
//! * A [`Level`] is never lowered, and not raised over a registered node that does not know it.
//! * The log is deleted only behind a snapshot that has been known for long enough ([`Truncation`]).
//!
//! Durable: the last commit of each incarnation, the level, the newest [`Snapshot`]s, and the [`Truncation`].

mod last_commits;
mod level;
mod snapshots;
mod time;
mod truncation;

#[cfg(test)]
mod tests;

pub(super) use last_commits::LastCommits;
pub use level::{Feature, Level};
pub use snapshots::Snapshot;
pub(super) use truncation::Truncation;
pub use truncation::{TAIL_PROOF_LIFE, TRUNCATION_AGE};
