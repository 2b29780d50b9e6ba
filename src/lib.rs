//! Weir: a persistent message queue whose only durable part is a bucket.

pub mod broker;
pub mod cli;
pub mod client;
pub mod config;
pub mod env;
pub mod fetch;
pub mod format;
pub mod http;
pub mod ingest;
pub mod kafka;
pub mod manifest;
pub mod net;
pub mod node;
pub mod segment;
pub mod server;
pub mod state;
pub mod store;
pub mod telemetry;
pub mod types;
