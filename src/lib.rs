//! Weir: a persistent message queue whose only durable part is a bucket.

pub mod broker;
pub mod config;
pub mod env;
pub mod types;
