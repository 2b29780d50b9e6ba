//! Access rules: Kafka's ACLs, in Kafka's words and with Kafka's numbers (KIP-11, KIP-290).

use std::fmt;
use std::sync::Arc;

use minicbor::{Decode, Encode};
use serde::Serialize;

use crate::types::Principal;

/// Declares an enum whose numbers are those of Kafka's wire and of the log, with the names that Kafka's tools print.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $code:literal $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize)]
        #[cbor(index_only)]
        #[expect(missing_docs, reason = "the names are Kafka's and say it")]
        pub enum $name {
            $($(#[$of])* #[n($code)] #[serde(rename = $word)] $variant = $code),*
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            /// Kafka's number of it.
            pub fn code(self) -> i8 {
                self as i8
            }

            /// The one that has this number with Kafka.
            pub fn of_code(code: i8) -> Option<$name> {
                match code {
                    $($code => Some($name::$variant),)*
                    _ => None,
                }
            }

            /// Kafka's word for it.
            pub fn word(self) -> &'static str {
                match self {
                    $($name::$variant => $word),*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<$name, String> {
                let plain = |word: &str| word.replace(['_', '-'], "").to_ascii_lowercase();
                let found = $name::ALL.iter().find(|one| plain(one.word()) == plain(text));
                found.copied().ok_or_else(|| {
                    let words: Vec<&str> = $name::ALL.iter().map(|one| one.word()).collect();
                    format!("'{}' is none of {}", text.escape_debug(), words.join(", "))
                })
            }
        }
    };
}

words! {
    /// What kind of thing a rule is about.
    ResourceType {
        Topic = 2 "TOPIC",
        Group = 3 "GROUP",
        Cluster = 4 "CLUSTER",
        TransactionalId = 5 "TRANSACTIONAL_ID",
        DelegationToken = 6 "DELEGATION_TOKEN",
        User = 7 "USER",
    }
}

words! {
    /// How the name in a rule is to be read: as the name (`*` is every name), or as the beginning of names.
    PatternType {
        Literal = 3 "LITERAL",
        Prefixed = 4 "PREFIXED",
    }
}

words! {
    /// What is to be done.
    Operation {
        All = 2 "ALL",
        Read = 3 "READ",
        Write = 4 "WRITE",
        Create = 5 "CREATE",
        Delete = 6 "DELETE",
        Alter = 7 "ALTER",
        Describe = 8 "DESCRIBE",
        ClusterAction = 9 "CLUSTER_ACTION",
        DescribeConfigs = 10 "DESCRIBE_CONFIGS",
        AlterConfigs = 11 "ALTER_CONFIGS",
        IdempotentWrite = 12 "IDEMPOTENT_WRITE",
        CreateTokens = 13 "CREATE_TOKENS",
        DescribeTokens = 14 "DESCRIBE_TOKENS",
    }
}

words! {
    /// Whether a rule allows or denies.
    Permission {
        Deny = 2 "DENY",
        Allow = 3 "ALLOW",
    }
}

/// The things that rules are about: those of a type whose names the pattern matches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct ResourcePattern {
    /// Of which type they are.
    #[n(0)]
    pub kind: ResourceType,
    /// How `name` is to be read.
    #[n(1)]
    pub pattern: PatternType,
    /// The name, its beginning, or `*`.
    #[n(2)]
    #[cbor(with = "text")]
    pub name: Arc<str>,
}

impl ResourcePattern {
    /// The name of the only cluster that there is, with Kafka.
    pub const CLUSTER: &str = "kafka-cluster";

    /// The name that matches all.
    pub const WILDCARD: &str = "*";

    /// The pattern of this name alone, or of all if it is `*`.
    pub fn literal(kind: ResourceType, name: &str) -> ResourcePattern {
        ResourcePattern {
            kind,
            pattern: PatternType::Literal,
            name: name.into(),
        }
    }

    /// The pattern of all names that begin so.
    pub fn prefixed(kind: ResourceType, name: &str) -> ResourcePattern {
        ResourcePattern {
            pattern: PatternType::Prefixed,
            ..ResourcePattern::literal(kind, name)
        }
    }

    /// Whether it matches a name.
    pub fn matches(&self, name: &str) -> bool {
        match self.pattern {
            PatternType::Literal => &*self.name == ResourcePattern::WILDCARD || &*self.name == name,
            PatternType::Prefixed => name.starts_with(&*self.name),
        }
    }
}

impl fmt::Display for ResourcePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ResourcePattern {
            kind,
            pattern,
            name,
        } = self;
        write!(f, "{kind}:{pattern}:{}", name.escape_debug())
    }
}

/// What a rule says of the things that it is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct Entry {
    /// Of whom.
    #[n(0)]
    pub principal: Principal,
    /// From where: the text of an IP address, or `*`.
    #[n(1)]
    #[cbor(with = "text")]
    pub host: Arc<str>,
    /// What.
    #[n(2)]
    pub operation: Operation,
    /// Whether that is allowed or denied.
    #[n(3)]
    pub permission: Permission,
}

/// One rule: Kafka's ACL binding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize)]
#[cbor(array)]
pub struct AccessRule {
    /// What it is about.
    #[n(0)]
    pub resource: ResourcePattern,
    /// What it says of that.
    #[n(1)]
    pub entry: Entry,
}

impl AccessRule {
    /// The longest name of a resource: that of a consumer group.
    const MAX_NAME: usize = 32_767;

    /// The longest text of a host.
    const MAX_HOST: usize = 255;

    /// Why it is no rule.
    pub fn fault(&self) -> Option<&'static str> {
        let AccessRule { resource, entry } = self;
        if resource.name.is_empty() {
            return Some("the name of its resource is empty");
        }
        if resource.name.len() > Self::MAX_NAME {
            return Some("the name of its resource is longer than 32767 bytes");
        }
        if resource.kind == ResourceType::Cluster && &*resource.name != ResourcePattern::CLUSTER {
            return Some("the only cluster is named 'kafka-cluster'");
        }
        if !entry.principal.is_valid() {
            return Some("its principal is not a type and a name, as 'User:alice'");
        }
        match entry.host.len() {
            0 => Some("its host is empty; '*' is every host"),
            1..=Self::MAX_HOST => None,
            _ => Some("its host is longer than 255 bytes"),
        }
    }
}

impl fmt::Display for AccessRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entry {
            principal,
            host,
            operation,
            permission,
        } = &self.entry;
        let (principal, host) = (principal.as_str().escape_debug(), host.escape_debug());
        write!(
            f,
            "{permission} {principal} {operation} on {} from {host}",
            self.resource
        )
    }
}

/// How the pattern of a rule is to be, for a filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PatternFilter {
    /// Any, with just that name.
    #[default]
    Any,
    /// Any that matches the name.
    Match,
    /// Of that type, with just that name.
    Is(PatternType),
}

/// Which rules are asked for: Kafka's filter of ACL bindings. What is `None` is anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the names are those of what they are compared with"
)]
pub struct RuleFilter {
    pub kind: Option<ResourceType>,
    pub pattern: PatternFilter,
    pub name: Option<String>,
    pub principal: Option<String>,
    pub host: Option<String>,
    pub operation: Option<Operation>,
    pub permission: Option<Permission>,
}

impl RuleFilter {
    /// Whether it asks for that rule.
    pub fn matches(&self, rule: &AccessRule) -> bool {
        fn is<T: PartialEq>(wanted: Option<T>, found: T) -> bool {
            wanted.is_none_or(|wanted| wanted == found)
        }
        let AccessRule { resource, entry } = rule;
        let of_type = match self.pattern {
            PatternFilter::Any | PatternFilter::Match => true,
            PatternFilter::Is(pattern) => pattern == resource.pattern,
        };
        let named = match (self.name.as_deref(), self.pattern) {
            (None, _) => true,
            (Some(name), PatternFilter::Match) => resource.matches(name),
            (Some(name), _) => name == &*resource.name,
        };
        of_type
            && named
            && is(self.kind, resource.kind)
            && is(self.principal.as_deref(), entry.principal.as_str())
            && is(self.host.as_deref(), &entry.host)
            && is(self.operation, entry.operation)
            && is(self.permission, entry.permission)
    }
}

/// Shared text.
mod text {
    use std::sync::Arc;

    use minicbor::decode::{self, Decoder};
    use minicbor::encode::{self, Encoder, Write};

    pub(super) fn encode<C, W: Write>(
        text: &Arc<str>,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        e.str(text)?.ok()
    }

    pub(super) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Arc<str>, decode::Error> {
        d.str().map(Arc::from)
    }
}
