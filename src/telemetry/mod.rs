//! What a node tells about itself: its log and its metrics.
//!
//! [`start_logging`] sets up the process's log: lines or JSON objects on stderr. [`Telemetry`] holds the
//! registry in which every room registers its metrics at start, and writes them in the Prometheus text
//! format for `/metrics`. Names begin with `weir_` and end in their unit (`_seconds`, `_bytes`,
//! `_total`); those of the process itself begin with `process_` as everywhere.
//!
//! What it never does: listen, send anything anywhere, or see a value of a message. Secrets never reach
//! it, because no type that holds one can be shown.
//!
//! There is nothing durable here and nothing to wait for: a crash loses the counters, and scrapers see
//! that they began again.

mod logging;
mod metrics;
mod process;

pub use logging::{LoggingError, start_logging};
pub use metrics::Telemetry;
