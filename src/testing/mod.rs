//! Test doubles and fixtures that the tests of several rooms share; there for tests only.
//!
//! | what | is |
//! |---|---|
//! | [`Faulty`], [`Fault`] | a store in memory that does to each request what a test says |
//! | [`simulated`] | a bucket behind a network that delays, repeats and loses requests, for the simulator |
//! | [`empty_commit`] | the object of a commit of nothing, to be put where a test wants one |
//! | [`snapshot_of_bytes`] | the object of a snapshot with any bytes for its state |
//!
//! The last three need the inside of their room and are in its tests; this is where others find them. What the tests of
//! one room use alone is in that room's `tests`, and objects of all format versions are in `tests/fixtures`.

mod faults;

pub(crate) use self::faults::{Fault, Faulty};
pub(crate) use crate::manifest::tests::{empty_commit, snapshot_of_bytes};
pub(crate) use crate::store::tests::simulated;
