//! Whether something may be done: Kafka's `StandardAuthorizer`, rule for rule, and groups of users beside it.
//!
//! 1. Nobody is defined: everybody may.
//! 2. A user that is disabled, or that is not the one whose session it is, may do nothing; a superuser may do
//!    everything.
//! 3. The rules that match the resource by its name, by a beginning of it, or as `*`, and that are about the principal,
//!    about a group of it or about `User:*`, and about its address or `*`: any that denies decides, then any that
//!    allows.
//! 4. No rule is about the resource at all: what `allow.everyone.if.no.acl.found` says. Otherwise no.
//!
//! To be allowed to read, write, delete or alter implies to be allowed to describe, and to alter settings implies to
//! see them; to be denied them implies nothing.

use std::collections::BTreeSet;

use super::{
    Access, AccessRule, Entry, Operation, PatternType, Permission, ResourcePattern, ResourceType,
};
use crate::rules::{Rule, holds};
use crate::types::{Principal, Seq};

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// Who it is: `User:alice`.
    pub principal: &'a str,
    /// Its address, as text.
    pub host: &'a str,
    /// The commit that created its user, if it logged in as one that is defined.
    pub user: Option<Seq>,
    /// What is to be if no rule is about the resource: Kafka's `allow.everyone.if.no.acl.found`.
    pub everyone: bool,
}

/// What was decided, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody is defined.
    Open,
    /// A superuser may do everything.
    Superuser,
    /// The user is disabled, or was deleted.
    NoUser,
    /// This rule decides.
    Rule(AccessRule),
    /// No rule is about the resource; whether everybody may then.
    NoRules(bool),
    /// There are rules about the resource, but none about this.
    NotAllowed,
}

impl Verdict {
    /// Whether it may be done.
    pub fn allows(&self) -> bool {
        match self {
            Verdict::Open | Verdict::Superuser => true,
            Verdict::NoUser | Verdict::NotAllowed => false,
            Verdict::Rule(rule) => rule.entry.permission == Permission::Allow,
            Verdict::NoRules(everybody) => *everybody,
        }
    }
}

/// What the rules that were looked at come to.
#[derive(Default)]
struct Found {
    any: bool,
    allowing: Option<AccessRule>,
    denying: Option<AccessRule>,
}

impl Access {
    /// Whether the operation may be done on the resource of that type and name.
    pub fn judge(
        &self,
        asking: Asking<'_>,
        operation: Operation,
        kind: ResourceType,
        name: &str,
    ) -> Verdict {
        if let Some(verdict) = self.judge_user(asking) {
            return verdict;
        }
        let mut found = Found::default();
        self.look_at(
            &ResourcePattern::literal(kind, name),
            asking,
            operation,
            &mut found,
        );
        if name != ResourcePattern::WILDCARD {
            let every = ResourcePattern::literal(kind, ResourcePattern::WILDCARD);
            self.look_at(&every, asking, operation, &mut found);
        }
        self.each_prefix(kind, name, |resource| {
            self.look_at(resource, asking, operation, &mut found);
        });
        if !holds(Rule::DenialsComeFirst) && found.allowing.is_some() {
            found.denying = None;
        }
        match (found.denying, found.allowing) {
            (Some(rule), _) | (None, Some(rule)) => Verdict::Rule(rule),
            (None, None) if found.any => Verdict::NotAllowed,
            (None, None) => Verdict::NoRules(asking.everyone),
        }
    }

    /// Whether the operation may be done on any resource of that type at all (Kafka's `authorizeByResourceType`).
    pub fn judge_any(&self, asking: Asking<'_>, operation: Operation, kind: ResourceType) -> bool {
        // A name that rules are hardly about, as Kafka does it: superusers, and whoever may because there are no rules.
        if self.judge(asking, operation, kind, "hardcode").allows() {
            return true;
        }
        if matches!(self.judge_user(asking), Some(Verdict::NoUser)) {
            return false;
        }
        let mut allowed = BTreeSet::new();
        let (mut denied_names, mut denied_prefixes) = (BTreeSet::new(), BTreeSet::new());
        for (resource, entries) in self.of_type(kind) {
            for entry in entries {
                let is_about = entry.operation == operation || entry.operation == Operation::All;
                if !is_about || !self.concerns(entry, asking) {
                    continue;
                }
                let name = &*resource.name;
                match (entry.permission, resource.pattern) {
                    (Permission::Deny, PatternType::Literal)
                        if name == ResourcePattern::WILDCARD =>
                    {
                        return false;
                    }
                    (Permission::Deny, PatternType::Literal) => drop(denied_names.insert(name)),
                    (Permission::Deny, PatternType::Prefixed) => drop(denied_prefixes.insert(name)),
                    (Permission::Allow, pattern) => drop(allowed.insert((pattern, name))),
                }
            }
        }
        if allowed.contains(&(PatternType::Literal, ResourcePattern::WILDCARD)) {
            return true;
        }
        allowed.into_iter().any(|(pattern, name)| {
            let is_denied = pattern == PatternType::Literal && denied_names.contains(name);
            let ends = name.char_indices().map(|(at, c)| at + c.len_utf8());
            let mut beginnings = ends.map(|end| &name[..end]);
            !is_denied && !beginnings.any(|beginning| denied_prefixes.contains(beginning))
        })
    }

    /// What is decided without looking at rules.
    fn judge_user(&self, asking: Asking<'_>) -> Option<Verdict> {
        if self.is_open() {
            return Some(Verdict::Open);
        }
        let name = asking.principal.strip_prefix("User:").unwrap_or_default();
        let user = self.user(name);
        let is_gone = match (user, asking.user) {
            (Some(user), Some(created)) => user.disabled || user.created != created,
            (Some(user), None) => user.disabled,
            (None, created) => created.is_some(),
        };
        if is_gone && holds(Rule::SessionsEndWithTheirUser) {
            return Some(Verdict::NoUser);
        }
        user.is_some_and(|user| user.superuser)
            .then_some(Verdict::Superuser)
    }

    fn look_at(
        &self,
        resource: &ResourcePattern,
        asking: Asking<'_>,
        operation: Operation,
        found: &mut Found,
    ) {
        for entry in self
            .rules
            .get(resource)
            .into_iter()
            .flat_map(|entries| entries.iter())
        {
            found.any = true;
            if !entry.covers(operation) || !self.concerns(entry, asking) {
                continue;
            }
            let which = match entry.permission {
                Permission::Allow => &mut found.allowing,
                Permission::Deny => &mut found.denying,
            };
            which.get_or_insert_with(|| AccessRule {
                resource: resource.clone(),
                entry: entry.clone(),
            });
        }
    }

    /// Whether an entry is about who asks.
    fn concerns(&self, entry: &Entry, asking: Asking<'_>) -> bool {
        let host = &*entry.host;
        if host != "*" && host != asking.host {
            return false;
        }
        let principal = entry.principal.as_str();
        if principal == Principal::EVERYBODY || principal == asking.principal {
            return true;
        }
        let (Some(group), Some(user)) = (
            principal.strip_prefix("Group:"),
            asking.principal.strip_prefix("User:"),
        ) else {
            return false;
        };
        self.groups_of(user).any(|of| of.as_str() == group)
    }

    /// The patterns that are beginnings of `name`, found by jumps and not by trying each.
    fn each_prefix(&self, kind: ResourceType, name: &str, mut visit: impl FnMut(&ResourcePattern)) {
        let mut up_to = name;
        while !up_to.is_empty() {
            let from = ResourcePattern::prefixed(kind, up_to);
            let Some((found, _)) = self.rules.get_prev(&from) else {
                return;
            };
            if (found.kind, found.pattern) != (kind, PatternType::Prefixed) {
                return;
            }
            if name.starts_with(&*found.name) {
                visit(found);
                up_to = without_last(&name[..found.name.len()]);
            } else {
                // Every beginning of the name that is longer than what they have in common comes behind `found`.
                up_to = in_common(up_to, &found.name);
            }
        }
    }

    fn of_type(
        &self,
        kind: ResourceType,
    ) -> impl Iterator<Item = (&ResourcePattern, impl Iterator<Item = &Entry>)> {
        let first = ResourcePattern::literal(kind, "");
        self.rules
            .range(first..)
            .take_while(move |(resource, _)| resource.kind == kind)
            .map(|(resource, entries)| (resource, entries.iter()))
    }
}

impl Entry {
    /// Whether it is about this operation.
    fn covers(&self, operation: Operation) -> bool {
        use Operation::{All, Alter, AlterConfigs, Delete, Describe, DescribeConfigs, Read, Write};
        if self.operation == All || self.operation == operation {
            return true;
        }
        let implied = match operation {
            Describe => matches!(self.operation, Read | Write | Delete | Alter),
            DescribeConfigs => self.operation == AlterConfigs,
            _ => false,
        };
        implied && self.permission == Permission::Allow
    }
}

fn without_last(text: &str) -> &str {
    let mut chars = text.chars();
    chars.next_back();
    chars.as_str()
}

/// What both begin with, in whole characters.
fn in_common<'a>(one: &'a str, other: &str) -> &'a str {
    let pairs = one.char_indices().zip(other.chars());
    let differing = pairs.into_iter().find(|((_, a), b)| a != b);
    let end = differing.map_or(one.len().min(other.len()), |((at, _), _)| at);
    &one[..end]
}
