//! The truncation of the log, the deletion of dead commits behind it, and the node that slept through it.
//!
//! Keepers do the housekeeping, each step in one instant, in any order and at any time. Beside them are nodes that are
//! slow in every way: their requests are on the way for as long as they like, their answers too, and they sleep. A
//! commit that is deleted leaves its name free, and a late PUT fills it with *garbage*: what is not of the log. Nobody
//! may take that for the log, nor the free name for the log's end.
//!
//! Time is a few instants of one clock, by which all boot-time clocks run; the keepers' wall clocks may be ahead of it.

mod cases;
mod keeper;
mod log;
mod node;
mod steps;
mod world;

use crate::check::{Rules, rules};
use log::Op;

/// A point in time.
pub(super) type Instant = u8;

/// How long a node relies on having seen the end of the log.
const TAIL_PROOF_LIFE: Instant = 1;
/// The longest that a read may take.
const READ: Instant = 1;
/// How long a snapshot is known before the boundary may be raised to it: more than [`TAIL_PROOF_LIFE`].
const TRUNCATION_AGE: Instant = TAIL_PROOF_LIFE + 1;
/// How long an object is dead before it is deleted: more than [`TAIL_PROOF_LIFE`] and [`READ`].
const GRACE: Instant = TAIL_PROOF_LIFE + READ + 1;

rules! {
    /// The boundary object is created before any commit up to it is deleted.
    BoundaryBeforeDeleting,
    /// The fold accepts a boundary only up to a snapshot that was recorded.
    SnapshotBehindBoundary,
    /// ... and only TRUNCATION_AGE after it was, by the fold's time.
    TruncationAge,
    /// A node raises it only to a snapshot that it has itself known for TRUNCATION_AGE, by its boot-time clock.
    AgeByOwnClock,
    /// With an old proof, "created" is not believed before the boundaries were listed.
    CheckCreated,
    /// With an old proof, a commit that was found is not.
    CheckFound,
    /// With an old proof, "absent" is not.
    CheckAbsent,
    /// The boundaries are listed after the answer came, not before it was asked for.
    ListAfterAnswer,
    /// A probe proves the tail at the instant at which it was sent, not at that of its answer.
    ProofWhenSent,
    /// A create proves the tail at the instant of the first attempt at its seq, whichever of them was applied.
    ProofOfFirstAttempt,
    /// At opening, answers are trusted from the instant before the snapshots were listed on, not from after reading.
    OpeningProofBeforeListing,
    /// ... and that proves nothing about what the log holds: questions for a fresh state wait for the tail.
    OpeningIsNoTail,
    /// What was being committed when a node had to start over is not tried again: its waiters hear "unknown".
    UnknownAfterStartingOver,
    /// No commit is deleted in which a slice lies.
    KeepLive,
    /// Truncation leaves out what is dead: that waits for its grace.
    DeadWait,
    /// A dead commit is deleted only after GRACE.
    Grace,
    /// GRACE counts on the boot-time clock of the node that deletes, from when it learned of the death.
    GraceByOwnClock,
    /// A dead commit is deleted only behind what is truncated (so behind a boundary object).
    DeadBehindTruncated,
    /// Bytes are handed out only if the proof of the state that the read began with is not old when they arrive.
    ReadsNeedProof,
    /// LogTruncated is committed only when the commits are gone.
    TruncatedAfterDeleting,
}

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Housekeeping, in one instant each.
    Keeper,
    /// Commits once, or only asks for the next seq, with every delay that there is.
    Slow(Option<Op>),
    /// Follows in one instant, and reads bytes.
    Reader,
    /// Follows, in one instant.
    Follower,
}

/// The model, at one size.
#[derive(Clone, Debug)]
struct Truncation {
    rules: Rules,
    roles: &'static [Role],
    /// The log at the beginning, by the last node; all have folded it.
    begin: &'static [Op],
    /// The last node has folded nothing of that.
    behind: bool,
    /// A PUT to the next seq that is under way from the beginning, from a node that is gone.
    flying: Option<Op>,
    /// What keepers commit beside the ops of housekeeping.
    keeper_ops: &'static [Op],
    most_commits: usize,
    most_time: Instant,
    most_attempts: u8,
    /// How many authors the duplicate guard remembers.
    most_authors: usize,
    /// How often each node may crash.
    crashes: u8,
    /// How far the keepers' wall clocks are ahead.
    skew: Instant,
    age: Instant,
    grace: Instant,
}

impl Truncation {
    fn on(&self, rule: Rule) -> bool {
        self.rules.holds(rule)
    }
}
