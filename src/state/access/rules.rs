//! How users, groups and access rules change.

use std::collections::BTreeSet;

use super::{
    Access, AccessAction, AccessRule, MAX_GROUPS, MAX_MEMBERS, MAX_RULES, MAX_USERS,
    ScramMechanism, User, Verifiers,
};
use crate::rules::{Rule, holds};
use crate::state::op::{Applied, Outcome};
use crate::state::{Feature, Shared, State};
use crate::types::{Seq, UserGroup, UserName};

/// Why users, groups or access rules were not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// The cluster's level is too low.
    #[error(
        "the level of the cluster is too low for users and access rules: upgrade all nodes, then run `weir cluster upgrade`"
    )]
    LevelTooLow,
    /// The name is taken.
    #[error("there is already a user named '{}'", .0.as_str().escape_debug())]
    UserExists(UserName),
    /// There is no such user.
    #[error("there is no user named '{}'", .0.as_str().escape_debug())]
    UnknownUser(UserName),
    /// The user has no such verifier.
    #[error("user '{}' has no password for {mechanism}", user.as_str().escape_debug())]
    NoVerifier {
        /// The user.
        user: UserName,
        /// The mechanism.
        mechanism: ScramMechanism,
    },
    /// Nobody could administer the cluster any more.
    #[error(
        "then nobody could administer the cluster: there must be a superuser who is not disabled (`weir user create NAME --superuser`)"
    )]
    NoAdministrator,
    /// No superuser could log in with a password any more.
    #[error("then no superuser who is not disabled would have a password any more")]
    NoAdministratorWithPassword,
    /// Nobody would be defined any more.
    #[error("this is the last user: without it everybody may do everything")]
    OpensToEverybody,
    /// A name, verifier or rule is none.
    #[error("{0}")]
    Invalid(&'static str),
    /// There are too many.
    #[error("there are too many {what}: no more than {max}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        max: usize,
    },
}

impl State {
    /// Changes users, groups or access rules, all of what the action says or nothing.
    pub(in crate::state) fn change_access(&mut self, action: &AccessAction) -> Outcome {
        self.check_access_level()?;
        let seq = self.seq;
        let mut access = self.access.clone();
        access.change(action, seq)?;
        access.altered = seq;
        self.access = access;
        Ok(Applied::Done)
    }

    /// Whether there may be users and rules at the level of the cluster.
    ///
    /// # Errors
    /// [`AccessError::LevelTooLow`]
    pub fn check_access_level(&self) -> Result<(), AccessError> {
        match self.has(Feature::Access) {
            true => Ok(()),
            false => Err(AccessError::LevelTooLow),
        }
    }

    /// What would refuse this action in this state.
    ///
    /// # Errors
    /// As the fold would.
    pub fn check_access(&self, action: &AccessAction) -> Result<(), AccessError> {
        self.check_access_level()?;
        self.access.clone().change(action, self.seq.next())
    }
}

impl Access {
    /// Changes it, as of `seq`; refused, it may be changed in part.
    fn change(&mut self, action: &AccessAction, seq: Seq) -> Result<(), AccessError> {
        let (_, had_password) = self.administrators();
        match action {
            AccessAction::CreateUser {
                user,
                superuser,
                verifiers,
            } => self.create_user(user, *superuser, verifiers, seq)?,
            AccessAction::AlterUser {
                user,
                superuser,
                disabled,
            } => {
                let altered = self.user_mut(user)?;
                altered.superuser = superuser.unwrap_or(altered.superuser);
                altered.disabled = disabled.unwrap_or(altered.disabled);
                self.note_superuser(user);
            }
            AccessAction::DeleteUser {
                user,
                open_to_everybody,
            } => {
                self.delete_user(user)?;
                if self.is_open() && !open_to_everybody {
                    return Err(AccessError::OpensToEverybody);
                }
            }
            AccessAction::AlterVerifiers { user, set, remove } => {
                self.alter_verifiers(user, set, remove, seq)?;
            }
            AccessAction::AlterGroup { group, add, remove } => {
                self.alter_group(group, add, remove)?;
            }
            AccessAction::AddRules { rules } => self.add_rules(rules)?,
            AccessAction::RemoveRules { rules } => self.remove_rules(rules),
        }
        if self.is_open() || !holds(Rule::SomebodyCanAdminister) {
            return Ok(());
        }
        match self.administrators() {
            (false, _) => Err(AccessError::NoAdministrator),
            (_, false) if had_password => Err(AccessError::NoAdministratorWithPassword),
            _ => Ok(()),
        }
    }

    fn user_mut(&mut self, user: &UserName) -> Result<&mut User, AccessError> {
        let found = self.users.get_mut(user).map(Shared::make_mut);
        found.ok_or_else(|| AccessError::UnknownUser(user.clone()))
    }

    fn note_superuser(&mut self, user: &UserName) {
        match self.user(user.as_str()) {
            Some(User {
                superuser: true, ..
            }) => self.superusers.insert(user.clone()),
            _ => self.superusers.remove(user),
        };
    }

    fn create_user(
        &mut self,
        name: &UserName,
        superuser: bool,
        verifiers: &Verifiers,
        seq: Seq,
    ) -> Result<(), AccessError> {
        if !name.is_valid() {
            return Err(AccessError::Invalid("it cannot be the name of a user"));
        }
        if self.users.contains_key(name) {
            return Err(AccessError::UserExists(name.clone()));
        }
        if self.users.len() >= MAX_USERS {
            return Err(too_many("users", MAX_USERS));
        }
        check_verifiers(verifiers)?;
        let user = User {
            superuser,
            disabled: false,
            verifiers: verifiers.clone(),
            created: seq,
        };
        self.users.insert(name.clone(), Shared::new(user));
        self.note_superuser(name);
        Ok(())
    }

    fn delete_user(&mut self, user: &UserName) -> Result<(), AccessError> {
        if self.users.remove(user).is_none() {
            return Err(AccessError::UnknownUser(user.clone()));
        }
        self.note_superuser(user);
        let groups = self.groups_of.get(user).cloned().unwrap_or_default();
        for group in groups {
            self.leave(&group, user);
        }
        Ok(())
    }

    fn alter_verifiers(
        &mut self,
        user: &UserName,
        set: &Verifiers,
        remove: &BTreeSet<ScramMechanism>,
        seq: Seq,
    ) -> Result<(), AccessError> {
        check_verifiers(set)?;
        if !self.users.contains_key(user) && !set.is_empty() && remove.is_empty() {
            return self.create_user(user, false, set, seq);
        }
        let altered = self.user_mut(user)?;
        for mechanism in remove {
            if altered.verifiers.remove(mechanism).is_none() {
                let (user, mechanism) = (user.clone(), *mechanism);
                return Err(AccessError::NoVerifier { user, mechanism });
            }
        }
        altered.verifiers.extend(set.clone());
        Ok(())
    }

    fn alter_group(
        &mut self,
        group: &UserGroup,
        add: &BTreeSet<UserName>,
        remove: &BTreeSet<UserName>,
    ) -> Result<(), AccessError> {
        if !group.is_valid() || !add.iter().all(UserName::is_valid) {
            return Err(AccessError::Invalid(
                "it cannot be the name of a user or of a group of users",
            ));
        }
        for user in remove {
            self.leave(group, user);
        }
        if add.is_empty() {
            return Ok(());
        }
        if !self.groups.contains_key(group) && self.groups.len() >= MAX_GROUPS {
            return Err(too_many("groups of users", MAX_GROUPS));
        }
        let members = self
            .groups
            .entry(group.clone())
            .or_insert_with(|| Shared::new(BTreeSet::new()));
        members.make_mut().extend(add.iter().cloned());
        if members.len() > MAX_MEMBERS {
            return Err(too_many("users in a group", MAX_MEMBERS));
        }
        for user in add {
            let groups = self.groups_of.entry(user.clone()).or_default();
            groups.insert(group.clone());
        }
        Ok(())
    }

    fn leave(&mut self, group: &UserGroup, user: &UserName) {
        let Some(members) = self.groups.get_mut(group).map(Shared::make_mut) else {
            return;
        };
        members.remove(user);
        if members.is_empty() {
            self.groups.remove(group);
        }
        if let Some(groups) = self.groups_of.get_mut(user) {
            groups.remove(group);
            if groups.is_empty() {
                self.groups_of.remove(user);
            }
        }
    }

    fn add_rules(&mut self, rules: &BTreeSet<AccessRule>) -> Result<(), AccessError> {
        for rule in rules {
            if let Some(fault) = rule.fault() {
                return Err(AccessError::Invalid(fault));
            }
            let AccessRule { resource, entry } = rule.clone();
            let entries = self
                .rules
                .entry(resource)
                .or_insert_with(|| Shared::new(BTreeSet::new()));
            if !entries.contains(&entry) {
                entries.make_mut().insert(entry);
                self.rule_count += 1;
            }
        }
        if self.rule_count > MAX_RULES {
            return Err(too_many("access rules", MAX_RULES));
        }
        Ok(())
    }

    fn remove_rules(&mut self, rules: &BTreeSet<AccessRule>) {
        for AccessRule { resource, entry } in rules {
            let Some(entries) = self.rules.get_mut(resource) else {
                continue;
            };
            if entries.contains(entry) {
                let entries = entries.make_mut();
                entries.remove(entry);
                self.rule_count -= 1;
                if entries.is_empty() {
                    self.rules.remove(resource);
                }
            }
        }
    }
}

fn too_many(what: &'static str, max: usize) -> AccessError {
    AccessError::TooMany { what, max }
}

fn check_verifiers(verifiers: &Verifiers) -> Result<(), AccessError> {
    let mut verifiers = verifiers.iter();
    match verifiers.all(|(mechanism, verifier)| verifier.fits(*mechanism)) {
        true => Ok(()),
        false => Err(AccessError::Invalid(
            "the keys of a password do not have the lengths of its mechanism, or it has fewer than 4096 or more than \
             16384 iterations",
        )),
    }
}
