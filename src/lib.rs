//! Weir: a persistent message queue whose only durable part is a bucket.

pub mod broker;
pub mod env;
pub mod kafka;
pub mod net;
pub mod types;
