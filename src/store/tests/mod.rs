//! One behaviour suite for every store, and what the client does when a store misbehaves.

mod faults;
mod http;
pub(crate) mod simulated;
mod suite;
