//! Names that people and clients choose.

use std::fmt;
use std::sync::Arc;

use minicbor::decode::{self, Decoder};
use minicbor::encode::{self, Encoder, Write};
use minicbor::{Decode, Encode};
use serde::{Serialize, Serializer};

/// A name that is not allowed, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} name '{}' is not allowed: {reason}", shortened(.name))]
pub struct InvalidName {
    /// What was to be named: `topic`, `group`.
    pub what: &'static str,
    /// The name as it was given.
    pub name: String,
    /// The rule that it breaks.
    pub reason: &'static str,
}

/// The head of a hostile name, so that an error stays a line.
fn shortened(name: &str) -> String {
    name.chars().take(64).flat_map(char::escape_debug).collect()
}

/// Declares a name: a shared immutable string, ordered, cheap to clone.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), &*self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl<C> Encode<C> for $name {
            fn encode<W: Write>(
                &self,
                e: &mut Encoder<W>,
                _: &mut C,
            ) -> Result<(), encode::Error<W::Error>> {
                e.str(&self.0)?.ok()
            }
        }

        impl<'b, C> Decode<'b, C> for $name {
            fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
                d.str().map(|text| $name(text.into()))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }
    };
}

name! {
    /// The name of a topic: 1 to 249 of `a-z A-Z 0-9 . _ -`, not `.` or `..`, as Kafka's
    /// `Topic.validate`.
    TopicName
}

name! {
    /// The id of a consumer group. Kafka allows any text; the empty one is allowed only to clients
    /// that commit offsets without membership, so it is refused where a group is joined.
    GroupId
}

name! {
    /// The id of a member of a consumer group, minted by a node.
    MemberId
}

name! {
    /// The name of a table of the archive: 1 to [`TableName::MAX_LENGTH`] of `a-z 0-9 _`. It is a folder of the bucket
    /// and a name in SQL that needs no quotes.
    TableName
}

impl TableName {
    /// The longest name: as long as a topic's, and what keeps it apart from another one.
    pub const MAX_LENGTH: usize = 300;

    /// Checks `name`.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn new(name: &str) -> Result<TableName, InvalidName> {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let reason = match name {
            "" => "it is empty",
            _ if name.len() > Self::MAX_LENGTH => "it is longer than 300 characters",
            _ if !name.chars().all(legal) => {
                "it has characters other than lower-case ASCII letters, digits and '_'"
            }
            _ => return Ok(TableName(name.into())),
        };
        Err(InvalidName {
            what: "table",
            name: name.to_owned(),
            reason,
        })
    }

    /// The name of the table of a topic: lower case, with `_` for `.` and `-`.
    pub fn of_topic(topic: &TopicName) -> TableName {
        let name = topic.as_str().to_ascii_lowercase();
        TableName(name.replace(['.', '-'], "_").into())
    }

    /// The name that it has if [`TableName::of_topic`] is taken: so many digits of the topic's id, which has 32, keep
    /// it apart.
    pub fn of_topic_apart(topic: &TopicName, id: super::TopicId, digits: usize) -> TableName {
        let all = id.0.simple().to_string();
        let apart = all.get(..digits).unwrap_or(&all);
        TableName(format!("{}_{apart}", TableName::of_topic(topic)).into())
    }
}

name! {
    /// The name of a user: 1 to 255 bytes of any text without control characters, as the subject of a certificate
    /// may be one; not `*`, which stands for everybody, and not `ANONYMOUS`, who is whoever did not say.
    UserName
}

name! {
    /// The name of a group of users: as that of a user.
    UserGroup
}

name! {
    /// Who an access rule is about, in Kafka's words: `User:alice`, `User:*`, and also `Group:analysts`.
    Principal
}

/// The longest name of a user or of a group of users, in bytes.
const MAX_USER_NAME: usize = 255;

/// Why it names no user and no group of users.
fn fault_of_user_name(name: &str) -> Option<&'static str> {
    match name {
        "" => Some("it is empty"),
        "*" => Some("'*' stands for everybody"),
        "ANONYMOUS" => Some("it is the name of clients that do not say who they are"),
        _ if name.len() > MAX_USER_NAME => Some("it is longer than 255 bytes"),
        _ if name.chars().any(char::is_control) => Some("it has control characters"),
        _ => None,
    }
}

fn checked_user_name(what: &'static str, name: &str) -> Result<(), InvalidName> {
    match fault_of_user_name(name) {
        None => Ok(()),
        Some(reason) => Err(InvalidName {
            what,
            name: name.to_owned(),
            reason,
        }),
    }
}

impl UserName {
    /// Checks `name`.
    pub fn new(name: &str) -> Result<UserName, InvalidName> {
        checked_user_name("user", name).map(|()| UserName(name.into()))
    }

    /// Whether it is one: what is read from a log is not checked.
    pub fn is_valid(&self) -> bool {
        fault_of_user_name(&self.0).is_none()
    }
}

impl UserGroup {
    /// Checks `name`.
    pub fn new(name: &str) -> Result<UserGroup, InvalidName> {
        checked_user_name("group of users", name).map(|()| UserGroup(name.into()))
    }

    /// Whether it is one: what is read from a log is not checked.
    pub fn is_valid(&self) -> bool {
        fault_of_user_name(&self.0).is_none()
    }
}

impl Principal {
    /// Everybody, in a rule.
    pub const EVERYBODY: &str = "User:*";

    /// Who has not said who it is.
    pub const ANONYMOUS: &str = "User:ANONYMOUS";

    /// The longest: a type and a name.
    const MAX_LENGTH: usize = 300;

    /// Checks what a rule says: a type and a name with a colon between them.
    pub fn new(text: &str) -> Result<Principal, InvalidName> {
        match Principal::fault(text) {
            None => Ok(Principal(text.into())),
            Some(reason) => Err(InvalidName {
                what: "principal",
                name: text.to_owned(),
                reason,
            }),
        }
    }

    fn fault(text: &str) -> Option<&'static str> {
        match text.split_once(':') {
            None => Some("it is not a type and a name, as 'User:alice'"),
            Some(("", _) | (_, "")) => {
                Some("its type or its name is empty, and not as in 'User:alice'")
            }
            _ if text.len() > Self::MAX_LENGTH => Some("it is longer than 300 bytes"),
            _ if text.chars().any(char::is_control) => Some("it has control characters"),
            _ => None,
        }
    }

    /// Whether it is one: what is read from a log is not checked.
    pub fn is_valid(&self) -> bool {
        Principal::fault(&self.0).is_none()
    }

    /// The principal of a user.
    pub fn of_user(user: &UserName) -> Principal {
        Principal(format!("User:{user}").into())
    }

    /// The principal of a group of users.
    pub fn of_group(group: &UserGroup) -> Principal {
        Principal(format!("Group:{group}").into())
    }
}

impl TopicName {
    /// The longest name, as Kafka's.
    pub const MAX_LENGTH: usize = 249;

    /// Checks `name` by Kafka's rules.
    pub fn new(name: &str) -> Result<TopicName, InvalidName> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let reason = match name {
            "" => "it is empty",
            "." | ".." => "it is '.' or '..'",
            _ if name.len() > Self::MAX_LENGTH => "it is longer than 249 characters",
            _ if !name.chars().all(legal) => {
                "it has characters other than ASCII letters, digits, '.', '_' and '-'"
            }
            _ => return Ok(TopicName(name.into())),
        };
        Err(InvalidName {
            what: "topic",
            name: name.to_owned(),
            reason,
        })
    }

    /// Whether it is one of the few names that Kafka keeps for itself. Clients cannot create or write such a topic, and
    /// a subscription by pattern leaves it out. `__anything_else` is an ordinary topic.
    pub fn is_internal(&self) -> bool {
        TopicName::is_internal_name(self.as_str())
    }

    /// The same of a text that need not be a topic's name.
    pub fn is_internal_name(name: &str) -> bool {
        const INTERNAL: [&str; 3] = [
            "__consumer_offsets",
            "__share_group_state",
            "__transaction_state",
        ];
        INTERNAL.contains(&name)
    }

    /// The name with '_' for each '.'. Kafka's metrics know topics by it, so two topics must not have it in common.
    pub fn without_dots(&self) -> TopicName {
        if self.as_str().contains('.') {
            TopicName(self.as_str().replace('.', "_").into())
        } else {
            self.clone()
        }
    }
}

impl GroupId {
    /// The longest id that is stored. Kafka's bound is that of its string type.
    pub const MAX_LENGTH: usize = 32_767;

    /// A group id; any text within the bound.
    pub fn new(id: &str) -> Result<GroupId, InvalidName> {
        if id.len() > Self::MAX_LENGTH {
            let reason = "it is longer than 32767 bytes";
            return Err(InvalidName {
                what: "group",
                name: id.to_owned(),
                reason,
            });
        }
        Ok(GroupId(id.into()))
    }
}

impl From<&str> for MemberId {
    fn from(id: &str) -> MemberId {
        MemberId(id.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_follow_kafkas_rules() {
        let longest = "x".repeat(249);
        for good in ["a", "orders.eu-west_1", "__consumer", longest.as_str()] {
            assert!(TopicName::new(good).is_ok(), "{good}");
        }
        let too_long = "x".repeat(250);
        for bad in ["", ".", "..", "a b", "ä", "a/b", "a\n", too_long.as_str()] {
            assert!(TopicName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_kafkas_own_names_are_internal() {
        for (name, internal) in [
            ("__consumer_offsets", true),
            ("__transaction_state", true),
            ("__share_group_state", true),
            ("__debezium-heartbeat.x", false),
            ("__cluster_metadata", false),
            ("__", false),
            ("_schemas", false),
            ("__consumer_offsets_copy", false),
        ] {
            assert_eq!(
                TopicName::new(name).unwrap().is_internal(),
                internal,
                "{name}"
            );
        }
    }

    #[test]
    fn dots_and_underscores_are_one() {
        let dotless = |name| TopicName::new(name).unwrap().without_dots();
        assert_eq!(dotless("a.b_c.d"), dotless("a_b.c_d"));
        assert_ne!(dotless("a.b"), dotless("a-b"));
        assert_eq!(dotless("plain").as_str(), "plain");
    }

    #[test]
    fn users_and_principals_are_named_as_rules_can_name_them() {
        for good in ["alice", "CN=Alice A., O=Example, C=DE", "ä b:c"] {
            let user = UserName::new(good).unwrap();
            let principal = Principal::of_user(&user);
            assert!(user.is_valid() && principal.is_valid());
            assert_eq!(Principal::new(&format!("User:{good}")).unwrap(), principal);
            assert!(UserGroup::new(good).is_ok_and(|group| group.is_valid()));
        }
        let too_long = "x".repeat(256);
        for bad in ["", "*", "ANONYMOUS", "a\nb", &too_long] {
            assert!(UserName::new(bad).is_err() && UserGroup::new(bad).is_err());
        }
        for good in ["User:*", "Group:a", "Custom:x:y"] {
            assert!(Principal::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "alice",
            "User:",
            ":alice",
            "User:a\tb",
            &format!("User:{too_long:300}"),
        ] {
            assert!(Principal::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_error_names_the_name_and_stays_a_line() {
        let error = TopicName::new("bad\nname").unwrap_err().to_string();
        assert!(
            error.contains("bad\\nname") && !error.contains('\n'),
            "{error}"
        );
    }
}
