//! Why a query has no answer, or no complete one.

use std::error::Error;
use std::time::Duration;

use arrow_schema::ArrowError;
use datafusion::error::DataFusionError;

use crate::broker::{Denied, FetchError, ListOffsetsError, Unavailable};
use crate::types::ByteCount;

/// What kind of error it is: front ends have a status for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryErrorKind {
    /// The statement is wrong.
    Invalid,
    /// The statement is none that only reads.
    Refused,
    /// There is no such table.
    UnknownTable,
    /// The client may not read the topic.
    Denied,
    /// Too many queries are running.
    Busy,
    /// It needs more memory than there is.
    Memory,
    /// It took too long.
    TimedOut,
    /// Records were deleted before the query had read them.
    Deleted,
    /// The store cannot be reached, or the node is stopping.
    Unavailable,
    /// Stored bytes are damaged, or there is a bug.
    Failed,
}

impl QueryErrorKind {
    /// Its name, for machines.
    pub fn name(self) -> &'static str {
        match self {
            QueryErrorKind::Invalid => "invalid",
            QueryErrorKind::Refused => "refused",
            QueryErrorKind::UnknownTable => "unknown_table",
            QueryErrorKind::Denied => "denied",
            QueryErrorKind::Busy => "busy",
            QueryErrorKind::Memory => "memory",
            QueryErrorKind::TimedOut => "timed_out",
            QueryErrorKind::Deleted => "deleted",
            QueryErrorKind::Unavailable => "unavailable",
            QueryErrorKind::Failed => "failed",
        }
    }
}

/// Why a query has no answer, or no complete one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct QueryError {
    kind: QueryErrorKind,
    message: String,
}

impl QueryError {
    pub(super) fn new(kind: QueryErrorKind, message: impl Into<String>) -> QueryError {
        QueryError {
            kind,
            message: message.into(),
        }
    }

    pub(super) fn invalid(message: impl Into<String>) -> QueryError {
        QueryError::new(QueryErrorKind::Invalid, message)
    }

    pub(super) fn refused(what: &str) -> QueryError {
        let message = format!("{what} is refused: a query reads topics and changes nothing");
        QueryError::new(QueryErrorKind::Refused, message)
    }

    pub(super) fn busy(max_running: usize) -> QueryError {
        let message = format!(
            "{max_running} queries are running on this node, and no more may (max_queries); try again later"
        );
        QueryError::new(QueryErrorKind::Busy, message)
    }

    pub(super) fn timed_out(timeout: Duration) -> QueryError {
        let message = format!(
            "the query took longer than {} (query_timeout); filter by offset, partition or timestamp, so that it reads \
             less",
            humantime::format_duration(timeout)
        );
        QueryError::new(QueryErrorKind::TimedOut, message)
    }

    /// What kind of error it is.
    pub fn kind(&self) -> QueryErrorKind {
        self.kind
    }

    /// An error of the engine. Errors of this room have travelled through it as they were.
    pub(super) fn of_engine(error: &DataFusionError, memory: ByteCount) -> QueryError {
        if let Some(own) = own(error) {
            return own.clone();
        }
        let root = error.find_root();
        let text = first_sentence(&root.strip_backtrace());
        match root {
            DataFusionError::ResourcesExhausted(_) => QueryError::new(
                QueryErrorKind::Memory,
                format!(
                    "the queries of this node need more memory than {memory} (query_memory): {text}; filter more, \
                     group by less, or add a LIMIT to what is sorted"
                ),
            ),
            DataFusionError::ArrowError(error, _)
                if matches!(**error, ArrowError::OffsetOverflowError(_)) =>
            {
                let message = format!("a batch of rows became too large: {text}; select less of each record");
                QueryError::new(QueryErrorKind::Memory, message)
            }
            DataFusionError::SQL(..)
            | DataFusionError::Plan(_)
            | DataFusionError::SchemaError(..)
            | DataFusionError::NotImplemented(_)
            | DataFusionError::Configuration(_)
            | DataFusionError::Diagnostic(..)
            | DataFusionError::Collection(_)
            // An error of computing: a division by zero, a cast that fails.
            | DataFusionError::ArrowError(..)
            | DataFusionError::Execution(_) => QueryError::invalid(text),
            _ => QueryError::new(QueryErrorKind::Failed, text),
        }
    }
}

/// The error of this room that the engine's error was made of.
fn own(error: &DataFusionError) -> Option<&QueryError> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(own) = error.downcast_ref::<QueryError>() {
            return Some(own);
        }
        if let Some(DataFusionError::External(inner)) = error.downcast_ref::<DataFusionError>()
            && let Some(own) = inner.downcast_ref::<QueryError>()
        {
            return Some(own);
        }
        if let Some(DataFusionError::Shared(inner)) = error.downcast_ref::<DataFusionError>() {
            next = Some(inner.as_ref());
            continue;
        }
        next = error.source();
    }
    None
}

/// Without the engine's advice to report what is a mistake of the statement.
fn first_sentence(text: &str) -> String {
    let text = text.split("\n\nbacktrace:").next().unwrap_or(text);
    let text = text
        .split("This issue was likely caused by a bug")
        .next()
        .unwrap_or(text);
    text.split('\n')
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}

impl From<QueryError> for DataFusionError {
    fn from(error: QueryError) -> DataFusionError {
        DataFusionError::External(Box::new(error))
    }
}

impl From<Unavailable> for QueryError {
    fn from(error: Unavailable) -> QueryError {
        QueryError::new(QueryErrorKind::Unavailable, error.to_string())
    }
}

impl From<Denied> for QueryError {
    fn from(denied: Denied) -> QueryError {
        QueryError::new(QueryErrorKind::Denied, denied.to_string())
    }
}

impl From<FetchError> for QueryError {
    fn from(error: FetchError) -> QueryError {
        let kind = match &error {
            FetchError::Unavailable(_) => QueryErrorKind::Unavailable,
            FetchError::Denied(_) => QueryErrorKind::Denied,
            FetchError::TopicNotFound(_)
            | FetchError::PartitionNotFound(_)
            | FetchError::OffsetOutOfRange { .. } => QueryErrorKind::Deleted,
            FetchError::UnknownLeaderEpoch(_) | FetchError::Corrupt(_) | FetchError::Unshown(_) => {
                QueryErrorKind::Failed
            }
        };
        QueryError::new(kind, error.to_string())
    }
}

impl From<ListOffsetsError> for QueryError {
    fn from(error: ListOffsetsError) -> QueryError {
        let kind = match &error {
            ListOffsetsError::Unavailable(_) => QueryErrorKind::Unavailable,
            ListOffsetsError::Denied(_) => QueryErrorKind::Denied,
            ListOffsetsError::TopicNotFound(_) | ListOffsetsError::PartitionNotFound(_) => {
                QueryErrorKind::Deleted
            }
            ListOffsetsError::UnknownLeaderEpoch(_) | ListOffsetsError::Corrupt(_) => {
                QueryErrorKind::Failed
            }
        };
        QueryError::new(kind, error.to_string())
    }
}
