//! Weir: a persistent message queue whose only durable part is a bucket.

pub mod env;
pub mod store;
pub mod types;
