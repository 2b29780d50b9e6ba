//! Who may do what: the gate through which every operation passes.
//!
//! An operation asks [`Broker::authorize`] and hands what it gets, a [`Permit`], to what does the work. Nothing else
//! makes a permit, and no work is done without one, so an operation that forgets to ask does not compile. Front ends
//! never decide: they say what was [`Denied`] in the words of their wire.
//!
//! What decides is a [`Policy`]: in a node the users and access rules that are in the state ([`ByRules`]), judged as
//! Kafka's authorizer judges them (`state/access`). While nobody is defined there everybody may do everything. Whoever
//! is inside the process ([`Session::internal`]) holds the bucket, and so may do everything.
//!
//! It goes by the newest state that this node knows, without asking the store. A node that has clients holds a lease,
//! and each commit that renews it meets what others have committed before; so a rule that another node has stored holds
//! here within seconds, as with Kafka, and at once where somebody follows the log.
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
//! A decision changes nothing. It is remembered with the session for as long as users and rules are the same
//! ([`Decisions`]). A permit is for one call.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Broker, Home, Session, TopicNotFound, TopicRef, offsets_topic};
use crate::state::State;
use crate::state::access::{Asking, Operation, ResourcePattern, ResourceType};
use crate::types::Seq;

/// Whether everybody may do that about which there is no rule: a setting of the cluster, by Kafka's name.
pub(super) const EVERYONE: &str = "allow.everyone.if.no.acl.found";

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

    /// Its type and its name, as rules have them.
    pub fn in_rules(&self) -> (ResourceType, &str) {
        match self {
            Resource::Topic(name) => (ResourceType::Topic, name),
            Resource::Group(id) => (ResourceType::Group, id),
            Resource::Cluster => (ResourceType::Cluster, ResourcePattern::CLUSTER),
            Resource::TransactionalId(id) => (ResourceType::TransactionalId, id),
        }
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
/// It is asked for each topic of each request, so it answers from memory and at once.
pub trait Policy: std::fmt::Debug + Send + Sync {
    /// Whether the client of that session may do that, in that state.
    fn allows(
        &self,
        state: &State,
        session: &Session,
        action: Action,
        resource: &Resource<'_>,
    ) -> bool;

    /// Whether it may do that on any resource of this type at all. Who cannot tell says no.
    fn allows_any(&self, _: &State, _: &Session, _: Action, _: ResourceType) -> bool {
        false
    }
}

/// The users and access rules in the state decide.
#[derive(Clone, Copy, Debug)]
pub struct ByRules;

impl Policy for ByRules {
    fn allows(
        &self,
        state: &State,
        session: &Session,
        action: Action,
        resource: &Resource<'_>,
    ) -> bool {
        if session.trusted || state.access().is_open() {
            return true;
        }
        let (kind, name) = resource.in_rules();
        session.decisions.of(state, action, (kind, name), || {
            let host = session.host();
            let asking = asking(state, session, &host);
            let verdict = state.access().judge(asking, action.into(), kind, name);
            verdict.allows()
        })
    }

    fn allows_any(
        &self,
        state: &State,
        session: &Session,
        action: Action,
        kind: ResourceType,
    ) -> bool {
        if session.trusted || state.access().is_open() {
            return true;
        }
        let host = session.host();
        let asking = asking(state, session, &host);
        state.access().judge_any(asking, action.into(), kind)
    }
}

fn asking<'a>(state: &State, session: &'a Session, host: &'a str) -> Asking<'a> {
    Asking {
        principal: &session.principal,
        host,
        user: session.user,
        everyone: may_everyone(state),
    }
}

/// Whether everybody may do that about which there is no rule.
pub fn may_everyone(state: &State) -> bool {
    let set = state.configs().get(EVERYONE);
    set.is_some_and(|value| value == "true")
}

impl From<Action> for Operation {
    fn from(action: Action) -> Operation {
        match action {
            Action::Read => Operation::Read,
            Action::Write => Operation::Write,
            Action::Create => Operation::Create,
            Action::Delete => Operation::Delete,
            Action::Alter => Operation::Alter,
            Action::Describe => Operation::Describe,
            Action::ClusterAction => Operation::ClusterAction,
            Action::DescribeConfigs => Operation::DescribeConfigs,
            Action::AlterConfigs => Operation::AlterConfigs,
            Action::IdempotentWrite => Operation::IdempotentWrite,
        }
    }
}

/// What was decided for a session, until users, rules or the setting are altered. Clones share it.
#[derive(Clone, Default)]
pub struct Decisions(Arc<Mutex<Decided>>);

#[derive(Default)]
struct Decided {
    /// What it was decided by: when users and rules were altered last, and the setting.
    by: (Seq, bool),
    count: usize,
    decisions: HashMap<(Action, ResourceType), HashMap<Box<str>, bool>>,
}

/// How many decisions a session remembers before it begins anew. A client that uses more topics is asked about again.
const MAX_DECISIONS: usize = 1000;

/// The longest name about which a decision is remembered, in bytes. Those of topics are no longer; what a client asks
/// about may be as long as a request, and be no name of anything.
const MAX_REMEMBERED_NAME: usize = 255;

impl Decisions {
    /// What was decided of it, or what `judge` decides.
    fn of(
        &self,
        state: &State,
        action: Action,
        (kind, name): (ResourceType, &str),
        judge: impl FnOnce() -> bool,
    ) -> bool {
        if name.len() > MAX_REMEMBERED_NAME {
            return judge();
        }
        let by = (state.access().altered(), may_everyone(state));
        let mut decided = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if decided.by != by || decided.count >= MAX_DECISIONS {
            *decided = Decided {
                by,
                ..Decided::default()
            };
        }
        let known = decided.decisions.get(&(action, kind));
        if let Some(known) = known.and_then(|known| known.get(name)) {
            return *known;
        }
        let allowed = judge();
        let of_this = decided.decisions.entry((action, kind)).or_default();
        of_this.insert(name.into(), allowed);
        decided.count += 1;
        allowed
    }
}

impl std::fmt::Debug for Decisions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decisions(..)")
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
        let state = self.inner.logs.of(Home::Cluster).state();
        let policy = &self.inner.settings.policy;
        if policy.allows(&state, session, action, &resource) {
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

    /// The gate for what needs a right on any topic, whichever that is, instead of one on the cluster.
    pub(super) fn authorize_on_any_topic(
        &self,
        session: &Session,
        action: Action,
    ) -> Option<Permit> {
        let state = self.inner.logs.of(Home::Cluster).state();
        let policy = &self.inner.settings.policy;
        let allowed = policy.allows_any(&state, session, action, ResourceType::Topic);
        allowed.then_some(Permit(()))
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
        let state = self.inner.logs.of(Home::Cluster).state();
        let policy = &self.inner.settings.policy;
        let allowed = move |action: &Action| policy.allows(&state, session, *action, resource);
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

    #[test]
    fn what_was_decided_of_a_name_that_nothing_can_have_is_not_remembered() {
        let (decisions, state) = (Decisions::default(), State::default());
        let of = |name: &str, allowed: bool| {
            let kind = ResourceType::Group;
            decisions.of(&state, Action::Read, (kind, name), || allowed)
        };
        for (length, is_kept) in [(255, true), (256, false)] {
            let name = "g".repeat(length);
            assert!(of(&name, true));
            assert_eq!(of(&name, false), is_kept);
        }
    }
}
