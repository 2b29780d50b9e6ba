//! Who is who, and who may do what: users, groups of users, and access rules, the same for every front end.
//!
//! * A password is never stored: a user has [`Verifier`]s, and they are shown nowhere (`verifier.rs`).
//! * Rules are Kafka's ACLs (`rule.rs`), judged as Kafka judges them (`judge.rs`). What judges changes nothing.
//! * **Nobody defined means everybody may**: no user, no group and no rule. Otherwise there is at least one
//!   *administrator*, a superuser who is not disabled: a change that would leave none is refused (I14). So is one that
//!   would leave none with a password when there was one. So nobody is locked out by a slip, and the first user is a
//!   superuser.
//! * A session belongs to the user of its name that there was when it began ([`User::created`]): deleting a user ends
//!   what it may do, and who gets its name later does not inherit its sessions.
//! * All of it counts as one thing when a request comes late ([`Access::altered`]): it is small, and seldom changed.
//!
//! Durable: users with their verifiers, groups, rules, and when any of it was altered last. Derived: the groups of each
//! user, the superusers, and how many rules there are.

mod judge;
mod op;
mod rule;
mod rules;
mod verifier;

#[cfg(test)]
pub(in crate::state) mod tests;

use std::collections::BTreeSet;

use imbl::{OrdMap, OrdSet};
use minicbor::{Decode, Encode};
use serde::{Serialize, Serializer};

pub use judge::{Asking, Verdict};
pub use op::AccessAction;
pub use rule::{
    AccessRule, Entry, Operation, PatternFilter, PatternType, Permission, ResourcePattern,
    ResourceType, RuleFilter,
};
pub use rules::AccessError;
pub use verifier::{ScramMechanism, Verifier, Verifiers};

use super::State;
use super::codec::{Shared, map};
use crate::types::{Seq, UserGroup, UserName};

/// The most users, rules, groups, and users of one group.
const MAX_USERS: usize = 100_000;
const MAX_RULES: usize = 100_000;
const MAX_GROUPS: usize = 10_000;
const MAX_MEMBERS: usize = 10_000;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct User {
    /// May do everything.
    #[n(0)]
    pub superuser: bool,
    /// May do nothing, and cannot log in.
    #[n(1)]
    pub disabled: bool,
    /// With what its password is checked.
    #[n(2)]
    pub verifiers: Verifiers,
    /// The commit that created it.
    #[n(3)]
    pub created: Seq,
}

impl User {
    fn is_administrator(&self) -> bool {
        self.superuser && !self.disabled
    }
}

/// Who is who, and who may do what.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Access {
    #[cbor(n(0), with = "map")]
    users: OrdMap<UserName, Shared<User>>,
    #[cbor(n(1), with = "map")]
    groups: OrdMap<UserGroup, Shared<BTreeSet<UserName>>>,
    /// What is said of the things that each pattern matches; never nothing.
    #[cbor(n(2), with = "map")]
    #[serde(serialize_with = "as_list")]
    rules: OrdMap<ResourcePattern, Shared<BTreeSet<Entry>>>,
    #[n(3)]
    altered: Seq,
    /// In which groups each user is. Derived.
    #[cbor(skip)]
    #[serde(skip)]
    groups_of: OrdMap<UserName, OrdSet<UserGroup>>,
    /// The superusers, disabled or not. Derived.
    #[cbor(skip)]
    #[serde(skip)]
    superusers: OrdSet<UserName>,
    /// How many rules there are. Derived.
    #[cbor(skip)]
    #[serde(skip)]
    rule_count: usize,
}

impl Access {
    /// Whether nobody is defined, and so everybody may do everything.
    pub fn is_open(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty() && self.rules.is_empty()
    }

    /// When anything of it was altered last.
    pub fn altered(&self) -> Seq {
        self.altered
    }

    /// A user.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name).map(|user| &**user)
    }

    /// All users, by name.
    pub fn users(&self) -> impl Iterator<Item = (&UserName, &User)> {
        self.users.iter().map(|(name, user)| (name, &**user))
    }

    /// The groups of users, with who is in them.
    pub fn groups(&self) -> impl Iterator<Item = (&UserGroup, &BTreeSet<UserName>)> {
        self.groups.iter().map(|(name, members)| (name, &**members))
    }

    /// The groups in which a user is.
    pub fn groups_of(&self, user: &str) -> impl Iterator<Item = &UserGroup> {
        self.groups_of.get(user).into_iter().flatten()
    }

    /// All rules, in order.
    pub fn rules(&self) -> impl Iterator<Item = AccessRule> + '_ {
        self.rules.iter().flat_map(|(resource, entries)| {
            entries.iter().map(move |entry| AccessRule {
                resource: resource.clone(),
                entry: entry.clone(),
            })
        })
    }

    /// How many rules there are.
    pub fn rule_count(&self) -> usize {
        self.rule_count
    }

    /// Whether it is as in the state before any commit: then it is not written.
    pub(super) fn is_untouched(&self) -> bool {
        self.is_open() && self.altered.is_zero()
    }

    /// Whether there is a superuser who is not disabled; and whether one of them has a password.
    fn administrators(&self) -> (bool, bool) {
        let users = self
            .superusers
            .iter()
            .filter_map(|name| self.user(name.as_str()));
        users
            .filter(|user| user.is_administrator())
            .fold((false, false), |(_, with_password), user| {
                (true, with_password || !user.verifiers.is_empty())
            })
    }

    /// Makes what is derived.
    pub(super) fn index(&mut self) {
        let superusers = self.users.iter().filter(|(_, user)| user.superuser);
        self.superusers = superusers.map(|(name, _)| name.clone()).collect();
        self.rule_count = self.rules.values().map(|entries| entries.len()).sum();
        self.groups_of = OrdMap::new();
        for (group, members) in &self.groups {
            for member in members.iter() {
                let groups = self.groups_of.entry(member.clone()).or_default();
                groups.insert(group.clone());
            }
        }
    }

    /// Why this is nothing that the fold can come to.
    pub(super) fn check(&self, seq: Seq) -> Result<(), String> {
        if self.altered > seq || self.users().any(|(_, user)| user.created > self.altered) {
            return Err("users or access rules are from the future".to_owned());
        }
        if !self.is_open() && !self.administrators().0 {
            return Err("there are users or access rules, but no administrator".to_owned());
        }
        if let Some((name, _)) = self.users().find(|(name, user)| {
            let mut verifiers = user.verifiers.iter();
            !name.is_valid() || !verifiers.all(|(mechanism, verifier)| verifier.fits(*mechanism))
        }) {
            return Err(format!("user {name:?} is none"));
        }
        if let Some((name, _)) = self.groups().find(|(name, members)| {
            let fits = (1..=MAX_MEMBERS).contains(&members.len());
            !name.is_valid() || !fits || !members.iter().all(UserName::is_valid)
        }) {
            return Err(format!("group of users {name:?} is none"));
        }
        if self.rules.values().any(|entries| entries.is_empty()) {
            return Err("a resource has access rules that are none".to_owned());
        }
        if let Some(rule) = self.rules().find(|rule| rule.fault().is_some()) {
            return Err(format!("access rule {rule} is none"));
        }
        let bounds = [
            (self.users.len(), MAX_USERS),
            (self.groups.len(), MAX_GROUPS),
            (self.rule_count, MAX_RULES),
        ];
        match bounds.iter().find(|(count, max)| count > max) {
            Some((count, max)) => Err(format!(
                "{count} users, groups or access rules are more than {max}"
            )),
            None => Ok(()),
        }
    }
}

impl State {
    /// Who is who, and who may do what.
    pub fn access(&self) -> &Access {
        &self.access
    }
}

/// As a list: a pattern is no key in JSON.
fn as_list<S: Serializer>(
    rules: &OrdMap<ResourcePattern, Shared<BTreeSet<Entry>>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(rules)
}
