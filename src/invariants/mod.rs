//! What must always hold: the invariants of the design, each with one predicate, in one place.
//!
//! The simulator asks them of every history, the tests of every state, and `weir fsck` of a bucket at rest. A
//! predicate is pure: it takes what was observed and returns what is wrong with it, as [`Violation`]s that name the
//! invariant and the thing. An empty answer is a proof only for what was looked at.
//!
//! It never reads a store, never changes anything and never judges twice: whoever needs an invariant checked calls
//! the predicate here, and nobody spells it again elsewhere.

pub mod at_rest;
pub mod history;

use std::fmt;

/// An invariant of the design.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// I1.
    AcknowledgedStays,
    /// I2.
    OffsetsAreDense,
    /// I3.
    StatesAreEqual,
    /// I4.
    SlicesResolve,
    /// I5.
    RetriesAreStoredOnce,
    /// I6.
    OneOwnerPerGeneration,
    /// I7.
    UnacknowledgedReturns,
    /// I8.
    OutToOneConsumer,
    /// I9.
    TransactionsAreWhole,
    /// I10.
    NothingReferencedIsDeleted,
    /// I11.
    ArchiveEqualsLog,
    /// I12.
    AcknowledgedIsNotUndone,
    /// I13.
    DeletedStaysDeleted,
}

impl Invariant {
    /// Its id in the design, such as `I1`.
    pub fn id(self) -> &'static str {
        match self {
            Invariant::AcknowledgedStays => "I1",
            Invariant::OffsetsAreDense => "I2",
            Invariant::StatesAreEqual => "I3",
            Invariant::SlicesResolve => "I4",
            Invariant::RetriesAreStoredOnce => "I5",
            Invariant::OneOwnerPerGeneration => "I6",
            Invariant::UnacknowledgedReturns => "I7",
            Invariant::OutToOneConsumer => "I8",
            Invariant::TransactionsAreWhole => "I9",
            Invariant::NothingReferencedIsDeleted => "I10",
            Invariant::ArchiveEqualsLog => "I11",
            Invariant::AcknowledgedIsNotUndone => "I12",
            Invariant::DeletedStaysDeleted => "I13",
        }
    }

    /// What always holds, in words.
    pub fn statement(self) -> &'static str {
        match self {
            Invariant::AcknowledgedStays => {
                "an acknowledged record is readable at the offset acknowledged, until retention removes it"
            }
            Invariant::OffsetsAreDense => {
                "offsets of a partition are dense and never reused; a prefix once read never changes"
            }
            Invariant::StatesAreEqual => "all nodes at the same seq have byte-identical state",
            Invariant::SlicesResolve => {
                "every slice in state resolves to bytes with a valid checksum"
            }
            Invariant::RetriesAreStoredOnce => {
                "a retried idempotent batch is stored once and gets the original offset"
            }
            Invariant::OneOwnerPerGeneration => {
                "in one generation a partition has one owner in a group"
            }
            Invariant::UnacknowledgedReturns => {
                "an unacknowledged queue message is delivered again, an acknowledged one never"
            }
            Invariant::OutToOneConsumer => {
                "a queue message is out to at most one consumer at a time"
            }
            Invariant::TransactionsAreWhole => {
                "a read-committed reader sees all of a transaction or none of it"
            }
            Invariant::NothingReferencedIsDeleted => {
                "no object referenced by state or by a running read is deleted"
            }
            Invariant::ArchiveEqualsLog => {
                "the archive table equals the log's prefix up to the archived offset"
            }
            Invariant::AcknowledgedIsNotUndone => {
                "an acknowledged change is not undone by a request that began before it and was given up"
            }
            Invariant::DeletedStaysDeleted => {
                "a record whose deletion was acknowledged is not read a second later, nor by who begins to read by name"
            }
        }
    }
}

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// Of what, and how: names the partition, offset or object.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, statement) = (self.invariant.id(), self.invariant.statement());
        write!(f, "{id} ({statement}): {}", self.what)
    }
}
