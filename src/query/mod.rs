//! SQL over topics: each topic is a table, and a query reads one moment of all of them.
//!
//! [`Queries::run`] takes one statement and gives an [`Answer`], a stream of record batches, which [`Encoder`] writes
//! as JSON, CSV, Parquet, Arrow or a table. The engine is DataFusion.
//!
//! * A query is answered from one [`Snapshot`](crate::broker::Snapshot), taken when it begins: it contains every record
//!   acknowledged before, and of each partition what lies between the log start and the high watermark of that moment.
//!   What is produced meanwhile is not in it.
//! * Records are read by [`Broker::fetch`](crate::broker::Broker::fetch), a few mebibytes at a time, as consumers read
//!   them: with the checks of their bytes, and by the rules for what was deleted. Records that are deleted while the
//!   query has yet to read them end it with an error; it never leaves out any silently.
//! * The rows are made by the archive's own encoder ([`crate::table`]).
//! * What the filter says of `partition`, `offset` and `timestamp` decides what is read at all (`pruning.rs`).
//!
//! What it never does: change anything. Statements that would, or that reach files or other hosts, are refused before
//! they are planned (`statement.rs`), and what the engine has for them is not there: no functions that read files, no
//! stores of objects, no temporary files.
//!
//! # Bounds
//!
//! Queries run on threads of their own, so that one that computes for long takes no thread from producers and
//! consumers; what it asks of the broker runs where the node's tasks run. Memory for sorting, grouping and joining is
//! one pool for all queries, out of which nothing spills to disk; how many run at once and how long each may take is
//! bounded as well.
//!
//! # Futures that are dropped, nodes that die
//!
//! A dropped [`Answer`] stops its query at the next moment at which it waits, and gives its memory and its place back.
//! A node that dies takes its queries with it; they leave nothing behind.

mod archived;
mod bounds;
mod catalog;
mod dialect;
mod engine;
mod error;
mod functions;
mod metrics;
mod options;
mod output;
mod pruning;
mod records;
mod scan;
mod statement;
mod table;
#[cfg(test)]
mod tests;

pub use catalog::table_name;
pub use engine::{Answer, Queries, Reading};
pub use error::{QueryError, QueryErrorKind};
pub use metrics::QueryMetrics;
pub use options::QueryOptions;
pub use output::{Encoder, Form};
pub use statement::complete_statements;
