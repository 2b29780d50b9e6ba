//! How queries are bounded.

use std::time::Duration;

use crate::config::QueryConfig;
use crate::types::ByteCount;

/// How queries are bounded.
#[derive(Clone, Copy, Debug)]
pub struct QueryOptions {
    /// How much memory all queries together may take for sorting, grouping, joining and for what they have read.
    pub memory: ByteCount,
    /// How long one may take, until its client has all of the answer.
    pub timeout: Duration,
    /// How many may run at once.
    pub max_running: usize,
}

impl Default for QueryOptions {
    fn default() -> QueryOptions {
        QueryOptions::from(&QueryConfig::default())
    }
}

impl From<&QueryConfig> for QueryOptions {
    fn from(config: &QueryConfig) -> QueryOptions {
        QueryOptions {
            memory: config.query_memory,
            timeout: config.query_timeout,
            max_running: usize::try_from(config.max_queries).unwrap_or(usize::MAX),
        }
    }
}
