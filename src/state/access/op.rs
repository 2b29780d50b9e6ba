//! What an op says of who may do what.

use std::collections::BTreeSet;

use minicbor::{Decode, Encode};
use serde::Serialize;

use super::{AccessRule, ScramMechanism, Verifiers};
use crate::types::{UserGroup, UserName};

/// A change of users, groups of users or access rules.
#[derive(Clone, Debug, PartialEq, Encode, Decode, Serialize)]
pub enum AccessAction {
    /// Create a user.
    #[n(0)]
    CreateUser {
        /// Its name.
        #[n(0)]
        user: UserName,
        /// Whether it may do everything.
        #[n(1)]
        superuser: bool,
        /// With what its password is checked. A user without any cannot log in with a password; a certificate or a
        /// token may tell who it is.
        #[n(2)]
        verifiers: Verifiers,
    },
    /// Change what a user may do at all.
    #[n(1)]
    AlterUser {
        /// Its name.
        #[n(0)]
        user: UserName,
        /// Whether it may do everything, if that is to change.
        #[n(1)]
        superuser: Option<bool>,
        /// Whether it may do nothing, if that is to change.
        #[n(2)]
        disabled: Option<bool>,
    },
    /// Delete a user, with its password and its memberships. Rules about it stay, as with Kafka.
    #[n(2)]
    DeleteUser {
        /// Its name.
        #[n(0)]
        user: UserName,
        /// Also if nobody is defined then, so that everybody may do everything.
        #[n(1)]
        open_to_everybody: bool,
    },
    /// Set and remove verifiers of a user, which is created if there is no such user and there are some to set.
    #[n(3)]
    AlterVerifiers {
        /// Its name.
        #[n(0)]
        user: UserName,
        /// Those to set.
        #[n(1)]
        set: Verifiers,
        /// Those to remove; refused if there is no such.
        #[n(2)]
        remove: BTreeSet<ScramMechanism>,
    },
    /// Change who is in a group of users. A group that nobody is in does not exist.
    #[n(4)]
    AlterGroup {
        /// Its name.
        #[n(0)]
        group: UserGroup,
        /// Users to add; they need not be defined, as a certificate may tell who somebody is.
        #[n(1)]
        add: BTreeSet<UserName>,
        /// Users to remove.
        #[n(2)]
        remove: BTreeSet<UserName>,
    },
    /// Add rules. What is there already stays.
    #[n(5)]
    AddRules {
        /// The rules.
        #[n(0)]
        rules: BTreeSet<AccessRule>,
    },
    /// Remove rules. What is not there is no mistake.
    #[n(6)]
    RemoveRules {
        /// The rules.
        #[n(0)]
        rules: BTreeSet<AccessRule>,
    },
}
