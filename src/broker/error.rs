//! What several operations answer: there is no such topic or partition, or nobody can tell now.
//!
//! An error says what is so, in fields; what it came from is its source. Sentences are made where they are read.

use std::sync::Arc;

use super::topics::TopicRef;
use crate::fetch::ReadError;
use crate::manifest::Stopped;
use crate::state::op::{AppendRejected, Rejected};
use crate::store::{ClockOff, StoreError};
use crate::types::PartitionIndex;

/// There is no such topic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct TopicNotFound(pub TopicRef);

impl std::fmt::Display for TopicNotFound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let TopicNotFound(topic) = self;
        match topic {
            TopicRef::Name(_) => write!(f, "there is no topic named {topic}"),
            TopicRef::Id(_) => write!(f, "there is no topic with id {topic}"),
        }
    }
}

/// There is no such partition of a topic that there is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("topic {topic} has no partition {partition}")]
pub struct PartitionNotFound {
    /// The topic, as it was named.
    pub topic: TopicRef,
    /// The partition.
    pub partition: PartitionIndex,
}

/// The operation could not be carried out now, and the client should try again. A change that was asked for
/// may still come about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The store did not answer in time.
    #[error("the store did not answer within the request's timeout")]
    TimedOut,
    /// What the request was to change was changed after it had arrived, by another. Nothing was done.
    #[error("another request changed the same thing in the meantime; try again")]
    Overtaken,
    /// The store could not be reached, or did not do what it was asked.
    #[error("a request to the store failed: {0}")]
    Store(#[source] Origin<StoreError>),
    /// Records were not appended, and can be if they, or those before them, are sent again.
    #[error(transparent)]
    Retry(AppendRejected),
    /// This node is not registered: it was taken for dead and is not back yet, or serves no clients.
    #[error("this node is not registered in the cluster at the moment; try again")]
    NotRegistered,
    /// The fold does not let this node in: its software is too old for the cluster.
    #[error("this node cannot join the cluster: {0}")]
    RegistrationRefused(#[source] Rejected),
    /// This node does not say where clients of that listener find it.
    #[error("this node has no advertised address for listener '{listener}'")]
    NoEndpoint {
        /// The name of the listener.
        listener: String,
    },
    /// The wall clock of this machine is off, so this node makes no changes.
    #[error(transparent)]
    Clock(ClockOff),
    /// This node is stopping, or can follow the log no further.
    #[error(transparent)]
    Stopped(Stopped),
    /// Something came about that cannot.
    #[error("{0}; this is a bug in Weir, please report it")]
    Internal(&'static str),
}

impl Unavailable {
    /// Whether this node will not do it later either.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Unavailable::Stopped(_) | Unavailable::RegistrationRefused(_)
        )
    }
}

impl From<Stopped> for Unavailable {
    fn from(stopped: Stopped) -> Unavailable {
        match stopped {
            // The node goes on. As after any answer that did not come in time, the client cannot know either.
            Stopped::OutcomeUnknown => Unavailable::TimedOut,
            Stopped::ClockOff(off) => Unavailable::Clock(off),
            stopped => Unavailable::Stopped(stopped),
        }
    }
}

/// An error from below, of which another came. Clones share it, and only they are equal.
#[derive(Debug)]
pub struct Origin<E>(Arc<E>);

impl<E> From<Arc<E>> for Origin<E> {
    fn from(error: Arc<E>) -> Origin<E> {
        Origin(error)
    }
}

impl<E> From<E> for Origin<E> {
    fn from(error: E) -> Origin<E> {
        Origin(Arc::new(error))
    }
}

impl<E> Clone for Origin<E> {
    fn clone(&self) -> Origin<E> {
        Origin(Arc::clone(&self.0))
    }
}

impl<E> PartialEq for Origin<E> {
    fn eq(&self, other: &Origin<E>) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<E> Eq for Origin<E> {}

impl<E: std::fmt::Display> std::fmt::Display for Origin<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<E: std::error::Error> std::error::Error for Origin<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

/// What was stored could not be read: it is damaged, or cannot be had now.
pub(super) fn unread<E: From<Unavailable>>(
    error: ReadError,
    corrupt: impl FnOnce(Origin<ReadError>) -> E,
) -> E {
    match error {
        ReadError::Store(error) => Unavailable::Store(error.into()).into(),
        ReadError::Panicked => Unavailable::Internal("a load from the store broke off").into(),
        damaged @ (ReadError::Corrupt { .. } | ReadError::Damaged { .. }) => {
            tracing::error!(error = %damaged, "stored records cannot be read");
            corrupt(damaged.into())
        }
    }
}
