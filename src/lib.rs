//! Weir: a persistent message queue whose only durable part is a bucket.

pub mod broker;
pub mod env;
pub mod format;
pub mod manifest;
pub mod segment;
pub mod state;
pub mod store;
pub mod types;
