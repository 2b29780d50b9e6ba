//! Who may do what: the gate through which every operation passes.
//!
//! An operation asks [`Broker::authorize`] and hands what it gets, a [`Permit`], to what does the work. Nothing else
//! makes a permit, and no work is done without one, so an operation that forgets to ask does not compile. Front ends
//! never decide: they say what was [`Denied`] in the words of their wire.
//!
//! What decides is a [`Policy`]. There are no accounts yet: everybody may do everything ([`AllowAll`]).
//!
//! # What is asked
//!
//! Each operation asks for the [`Action`] on the [`Resource`] for which Apache Kafka asks its authorizer, and in the
//! same order: whether something may be done comes before whether the thing exists, so a denial tells nobody what there
//! is. A topic that is named by its id is judged by the name that it has; of an id that there is not nothing can be
//! asked, and the operation says that there is none. Whoever asks for all topics or groups is told of those that it may
//! know of.
//!
//! Actions and resources are Kafka's. Those of AMQP (configure, write and read an exchange or a queue in a virtual
//! host) are to be variants beside them, judged by rules of their own.
//!
//! # Futures that are dropped, nodes that die
//!
//! A decision changes nothing and is remembered nowhere. A permit is for one call.

use std::borrow::Cow;

use super::{Broker, Session, TopicNotFound, TopicRef, offsets_topic};
use crate::state::State;

/// What is to be done: Kafka's operations (KIP-11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are Kafka's and say it")]
pub enum Action {
    Read,
    Write,
    Create,
    Delete,
    Alter,
    Describe,
    ClusterAction,
    DescribeConfigs,
    AlterConfigs,
    IdempotentWrite,
}

/// On what it is to be done: Kafka's types of resources.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource<'a> {
    /// A topic, by its name.
    Topic(Cow<'a, str>),
    /// A consumer group, by its id.
    Group(Cow<'a, str>),
    /// The cluster as a whole.
    Cluster,
    /// A producer with transactions, by the id that it gives itself.
    TransactionalId(Cow<'a, str>),
}

impl<'a> Resource<'a> {
    /// The topic of this name.
    pub fn topic(name: &'a str) -> Resource<'a> {
        Resource::Topic(Cow::Borrowed(name))
    }

    /// The group of this id.
    pub fn group(id: &'a str) -> Resource<'a> {
        Resource::Group(Cow::Borrowed(id))
    }

    /// The same, for who keeps it.
    pub fn into_owned(self) -> Resource<'static> {
        let owned = |name: Cow<'a, str>| Cow::Owned(name.into_owned());
        match self {
            Resource::Topic(name) => Resource::Topic(owned(name)),
            Resource::Group(id) => Resource::Group(owned(id)),
            Resource::Cluster => Resource::Cluster,
            Resource::TransactionalId(id) => Resource::TransactionalId(owned(id)),
        }
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Action::Read => "read",
            Action::Write => "write",
            Action::Create => "create",
            Action::Delete => "delete",
            Action::Alter => "alter",
            Action::Describe => "describe",
            Action::ClusterAction => "act for",
            Action::DescribeConfigs => "describe the settings of",
            Action::AlterConfigs => "alter the settings of",
            Action::IdempotentWrite => "write idempotently to",
        })
    }
}

impl std::fmt::Display for Resource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Resource::Topic(name) => write!(f, "topic '{}'", name.escape_debug()),
            Resource::Group(id) => write!(f, "group '{}'", id.escape_debug()),
            Resource::Cluster => f.write_str("the cluster"),
            Resource::TransactionalId(id) => {
                write!(f, "transactional id '{}'", id.escape_debug())
            }
        }
    }
}

/// The gate let nobody through.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{principal} may not {action} {resource}")]
pub struct Denied {
    /// Who asked.
    pub principal: String,
    /// What was to be done.
    pub action: Action,
    /// On what. It has the topic's name also where the client named it by id, so it is for logs: see `kafka/errors.rs`.
    pub resource: Resource<'static>,
}

/// What decides who may do what.
///
/// It is asked for each topic of each request, so it answers from memory, at once, and without allocating.
pub trait Policy: std::fmt::Debug + Send + Sync {
    /// Whether the client of that session may do that.
    fn allows(&self, session: &Session, action: Action, resource: &Resource<'_>) -> bool;
}

/// Everybody may do everything.
#[derive(Clone, Copy, Debug)]
pub struct AllowAll;

impl Policy for AllowAll {
    fn allows(&self, _: &Session, _: Action, _: &Resource<'_>) -> bool {
        true
    }
}

/// Shows that the gate was asked and let the operation pass. Only this file makes one.
#[derive(Clone, Copy, Debug)]
#[must_use = "an operation is authorised so that it is done"]
pub(super) struct Permit(());

impl Broker {
    /// The gate: whether the client may do that. Every operation asks it, and does its work with the permit.
    pub(super) fn authorize(
        &self,
        session: &Session,
        action: Action,
        resource: Resource<'_>,
    ) -> Result<Permit, Denied> {
        let policy = &self.inner.settings.policy;
        if policy.allows(session, action, &resource) {
            tracing::trace!(principal = session.principal, %action, %resource, "allowed");
            return Ok(Permit(()));
        }
        let denied = Denied {
            principal: session.principal.clone(),
            action,
            resource: resource.into_owned(),
        };
        tracing::debug!(%denied, "an operation was denied");
        Err(denied)
    }

    /// The same for a topic, however the client names it.
    ///
    /// # Errors
    ///
    /// [`Denied`]; or [`TopicNotFound`], if it is named by an id that is not in `state`.
    pub(super) fn authorize_topic<E: From<Denied> + From<TopicNotFound>>(
        &self,
        session: &Session,
        action: Action,
        topic: &TopicRef,
        state: &State,
    ) -> Result<Permit, E> {
        let permitted = match topic {
            TopicRef::Name(name) => self.authorize(session, action, Resource::topic(name)),
            TopicRef::Id(id) => match state.topic(*id) {
                Some(found) => {
                    let name = Resource::topic(found.name().as_str());
                    self.authorize(session, action, name)
                }
                None => {
                    let shown = offsets_topic::named(topic, state);
                    let view = shown.ok_or_else(|| TopicNotFound(topic.clone()))?;
                    self.authorize(session, action, Resource::topic(view.name.as_str()))
                }
            },
        };
        Ok(permitted?)
    }

    /// The permit for what Kafka tells whoever is connected: which nodes there are.
    pub(super) fn open_to_all(&self, session: &Session) -> Permit {
        tracing::trace!(principal = session.principal, "open to all");
        Permit(())
    }

    /// Those of `actions` that the client may do on `resource`.
    pub fn permitted(
        &self,
        session: &Session,
        actions: &'static [Action],
        resource: &Resource<'_>,
    ) -> impl Iterator<Item = Action> {
        let policy = &self.inner.settings.policy;
        let allowed = |action: &Action| policy.allows(session, *action, resource);
        actions.iter().copied().filter(allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Permit {
        /// For tests of the work alone.
        pub(in crate::broker) fn for_test() -> Permit {
            Permit(())
        }
    }
}
