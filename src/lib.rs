//! Weir: a persistent message queue whose only durable part is a bucket.

pub mod env;
pub mod format;
pub mod segment;
pub mod types;
