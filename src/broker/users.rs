//! Users, groups of users and access rules: shown and changed.
//!
//! To see them one needs the right to describe the cluster, to change them that to alter it, as with Kafka. What is
//! changed is judged by the fold, which refuses what would leave nobody able to administer; it is checked here first,
//! so that a refusal costs no commit and names what is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::access::{Action, Denied, Permit, Resource, may_everyone};
use super::login::{Secret, of_salted};
use super::{Broker, Home, Session, Unavailable};
use crate::state::access::{
    AccessAction, AccessError, AccessRule, Asking, Operation, ResourceType, RuleFilter,
    ScramMechanism, Verdict, Verifiers,
};
use crate::state::op::{Op, Rejected};
use crate::state::{Feature, State};
use crate::types::UserName;

/// The most rules, filters or users of one request.
const MAX_AT_ONCE: usize = 10_000;

/// The most rules that the filters of one request may match, taken together: each is in the answer.
const MAX_FOUND: usize = 100_000;

/// Why users or rules were not shown or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsersError {
    /// The client may not do that.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// It would not do.
    #[error(transparent)]
    Refused(#[from] AccessError),
    /// One request may name only so many.
    #[error("a request may name {MAX_AT_ONCE} rules, filters or users at most, but it names {0}")]
    TooMany(usize),
    /// Try again.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// What is to become of the password of a user for one mechanism.
#[derive(Clone, Debug)]
pub enum AlterPassword {
    /// It is set, salted and hashed by the client.
    Set {
        /// The salt.
        salt: Vec<u8>,
        /// What was made of the password.
        salted: Secret,
        /// How often it was hashed.
        iterations: u32,
    },
    /// It is removed.
    Remove,
}

impl Broker {
    /// A state that has every user and rule that was acknowledged before the call.
    ///
    /// # Errors
    /// [`UsersError`].
    pub async fn users(&self, session: &Session) -> Result<Arc<State>, UsersError> {
        let permit = self.authorize(session, Action::Describe, Resource::Cluster)?;
        self.shown(permit).await
    }

    async fn shown(&self, _: Permit) -> Result<Arc<State>, UsersError> {
        Ok(self.fresh(Home::Cluster).await?)
    }

    /// Whether somebody may do something, and which rule says so.
    ///
    /// # Errors
    /// [`UsersError`].
    pub async fn judge(
        &self,
        session: &Session,
        (principal, host): (&str, &str),
        operation: Operation,
        (kind, name): (ResourceType, &str),
    ) -> Result<Verdict, UsersError> {
        let state = self.users(session).await?;
        let host = canonical_host(host);
        let asking = Asking {
            principal,
            host: &host,
            user: None,
            everyone: may_everyone(&state),
        };
        Ok(state.access().judge(asking, operation, kind, name))
    }

    /// Changes users, groups or rules.
    ///
    /// # Errors
    /// [`UsersError`].
    pub async fn change_users(
        &self,
        session: &Session,
        action: AccessAction,
    ) -> Result<(), UsersError> {
        let permit = self.authorize(session, Action::Alter, Resource::Cluster)?;
        let mut outcomes = self.change_each(permit, session, vec![action]).await?;
        Ok(outcomes.pop().unwrap_or(Ok(()))?)
    }

    /// Makes changes of which each is judged by itself, after those before it.
    async fn change_each(
        &self,
        _: Permit,
        session: &Session,
        actions: Vec<AccessAction>,
    ) -> Result<Vec<Result<(), AccessError>>, UsersError> {
        let mut asking = self.asks(session, Home::Cluster).await?;
        loop {
            // What the fold would refuse anyway is not sent; of the others it has the last word, as they are folded.
            let state = asking.state();
            let checked: Vec<_> = match actions.as_slice() {
                // The first commit of a cluster gives it its level: the one that this node knows.
                all if state.seq().is_zero() => {
                    let may = match Feature::Access.since()
                        <= self.inner.logs.of(Home::Cluster).level()
                    {
                        true => Ok(()),
                        false => Err(AccessError::LevelTooLow),
                    };
                    all.iter().map(|_| may.clone()).collect()
                }
                [action] => vec![state.check_access(action)],
                all => all.iter().map(|_| state.check_access_level()).collect(),
            };
            let accepted = actions
                .iter()
                .zip(&checked)
                .filter(|(_, checked)| checked.is_ok());
            let ops = accepted.map(|(action, _)| Op::Access {
                action: action.clone(),
            });
            let ops: Vec<Op> = ops.collect();
            if ops.is_empty() {
                return Ok(checked);
            }
            let Some(committed) = asking.commit(ops).await? else {
                continue;
            };
            let mut outcomes = committed.outcomes.into_iter();
            let judged = checked.into_iter().map(|checked| {
                checked?;
                match outcomes.next() {
                    Some(Ok(_)) => Ok(()),
                    Some(Err(Rejected::Access(refused))) => Err(refused),
                    Some(Err(_)) | None => Err(AccessError::Invalid("the change was not made")),
                }
            });
            return Ok(judged.collect());
        }
    }

    /// The rules for which one of the filters asks.
    ///
    /// # Errors
    /// [`UsersError`].
    pub async fn access_rules(
        &self,
        session: &Session,
        filter: &RuleFilter,
    ) -> Result<Vec<AccessRule>, UsersError> {
        let state = self.users(session).await?;
        let filter = filter.clone().in_canonical_form();
        let rules = state.access().rules();
        Ok(rules.filter(|rule| filter.matches(rule)).collect())
    }

    /// Adds rules; each has its own outcome.
    ///
    /// # Errors
    /// [`UsersError`], if none was added.
    pub async fn add_access_rules(
        &self,
        session: &Session,
        rules: Vec<AccessRule>,
    ) -> Result<Vec<Result<(), AccessError>>, UsersError> {
        let permit = self.authorize(session, Action::Alter, Resource::Cluster)?;
        check_count(rules.len())?;
        let rules: Vec<AccessRule> = rules.into_iter().map(in_canonical_form).collect();
        let checked: Vec<Result<(), AccessError>> = rules
            .iter()
            .map(|rule| {
                rule.fault()
                    .map_or(Ok(()), |fault| Err(AccessError::Invalid(fault)))
            })
            .collect();
        let good = rules
            .into_iter()
            .zip(&checked)
            .filter(|(_, checked)| checked.is_ok());
        let rules: BTreeSet<AccessRule> = good.map(|(rule, _)| rule).collect();
        if rules.is_empty() {
            return Ok(checked);
        }
        let add = vec![AccessAction::AddRules { rules }];
        let added = self.change_each(permit, session, add).await?.pop();
        let added = added.unwrap_or(Ok(()));
        let outcomes = checked
            .into_iter()
            .map(|checked| checked.and(added.clone()));
        Ok(outcomes.collect())
    }

    /// Removes the rules for which the filters ask; those of each, as they were.
    ///
    /// # Errors
    /// [`UsersError`].
    pub async fn remove_access_rules(
        &self,
        session: &Session,
        filters: Vec<RuleFilter>,
    ) -> Result<Vec<Vec<AccessRule>>, UsersError> {
        let permit = self.authorize(session, Action::Alter, Resource::Cluster)?;
        check_count(filters.len())?;
        let filters = filters.into_iter().map(RuleFilter::in_canonical_form);
        let filters: Vec<RuleFilter> = filters.collect();
        self.remove_found(permit, session, &filters).await
    }

    async fn remove_found(
        &self,
        _: Permit,
        session: &Session,
        filters: &[RuleFilter],
    ) -> Result<Vec<Vec<AccessRule>>, UsersError> {
        let mut asking = self.asks(session, Home::Cluster).await?;
        loop {
            let all: Vec<AccessRule> = asking.state().access().rules().collect();
            let of = |filter: &RuleFilter| -> Vec<AccessRule> {
                all.iter()
                    .filter(|rule| filter.matches(rule))
                    .cloned()
                    .collect()
            };
            let count =
                |filter: &RuleFilter| all.iter().filter(|rule| filter.matches(rule)).count();
            let mut left = MAX_FOUND;
            for filter in filters {
                let found = count(filter);
                left = left.checked_sub(found).ok_or(AccessError::Invalid(
                    "the filters match too many rules, taken together: ask with fewer filters",
                ))?;
            }
            let found: Vec<Vec<AccessRule>> = filters.iter().map(of).collect();
            let rules: BTreeSet<AccessRule> = found.iter().flatten().cloned().collect();
            if rules.is_empty() {
                return Ok(found);
            }
            let action = AccessAction::RemoveRules { rules };
            asking.state().check_access(&action)?;
            let Some(committed) = asking.commit(vec![Op::Access { action }]).await? else {
                continue;
            };
            return match committed.outcomes.into_iter().next() {
                Some(Ok(_)) => Ok(found),
                Some(Err(Rejected::Access(refused))) => Err(refused.into()),
                Some(Err(_)) | None => Err(AccessError::Invalid("the change was not made").into()),
            };
        }
    }

    /// Alters the passwords of users; each user has its own outcome.
    ///
    /// # Errors
    /// [`UsersError`], if none was altered.
    pub async fn alter_passwords(
        &self,
        session: &Session,
        users: BTreeMap<UserName, BTreeMap<ScramMechanism, AlterPassword>>,
    ) -> Result<BTreeMap<UserName, Result<(), AccessError>>, UsersError> {
        let permit = self.authorize(session, Action::Alter, Resource::Cluster)?;
        check_count(users.len())?;
        let (names, actions): (Vec<_>, Vec<_>) = users
            .into_iter()
            .map(|(user, alterations)| (user.clone(), alter_verifiers(user, alterations)))
            .unzip();
        let outcomes = self.change_each(permit, session, actions).await?;
        Ok(names.into_iter().zip(outcomes).collect())
    }
}

fn alter_verifiers(
    user: UserName,
    alterations: BTreeMap<ScramMechanism, AlterPassword>,
) -> AccessAction {
    let (mut set, mut remove) = (Verifiers::new(), BTreeSet::new());
    for (mechanism, alteration) in alterations {
        match alteration {
            AlterPassword::Set {
                salt,
                salted,
                iterations,
            } => {
                let verifier = of_salted(&salted, mechanism, &salt, iterations);
                set.insert(mechanism, verifier);
            }
            AlterPassword::Remove => {
                remove.insert(mechanism);
            }
        }
    }
    AccessAction::AlterVerifiers { user, set, remove }
}

fn check_count(count: usize) -> Result<(), UsersError> {
    match count {
        0..=MAX_AT_ONCE => Ok(()),
        _ => Err(UsersError::TooMany(count)),
    }
}

/// An address in the form in which those of clients are compared with it.
fn canonical_host(host: &str) -> String {
    let address: Result<IpAddr, _> = host.parse();
    address.map_or_else(
        |_| host.to_owned(),
        |address| address.to_canonical().to_string(),
    )
}

fn in_canonical_form(mut rule: AccessRule) -> AccessRule {
    rule.entry.host = canonical_host(&rule.entry.host).into();
    rule
}

impl RuleFilter {
    fn in_canonical_form(mut self) -> RuleFilter {
        self.host = self.host.as_deref().map(canonical_host);
        self
    }
}
