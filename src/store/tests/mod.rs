//! One behaviour suite for every store, and what the client does when a store misbehaves.

pub(super) mod faults;
mod http;
pub(crate) mod simulated;
mod suite;
