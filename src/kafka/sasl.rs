//! What is said in SASL: mechanisms, tokens, and how far a login is.

use crate::broker::{ScramLogin, Secret};
use crate::state::access::ScramMechanism;

/// How a client logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mechanism {
    /// With its password as it is (RFC 4616).
    Plain,
    /// With a proof that it knows its password.
    Scram(ScramMechanism),
}

impl Mechanism {
    /// All that are offered, in the order in which they are told.
    pub(crate) const ALL: [Mechanism; 3] = [
        Mechanism::Plain,
        Mechanism::Scram(ScramMechanism::Sha256),
        Mechanism::Scram(ScramMechanism::Sha512),
    ];

    /// The name that it has in SASL.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Scram(mechanism) => mechanism.name(),
        }
    }

    /// The one of that name, if it is offered.
    pub(crate) fn named(name: &str) -> Option<Mechanism> {
        Mechanism::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// A login that is under way.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) mechanism: Mechanism,
    /// Whether tokens are sent as they are, and not in SaslAuthenticate.
    pub(crate) bare: bool,
    /// What the client has to prove, once it was asked.
    pub(crate) challenge: Option<ScramLogin>,
}

/// What a client says with PLAIN.
#[derive(Debug)]
pub(crate) struct Plain {
    pub(crate) user: String,
    pub(crate) password: Secret,
}

/// The longest token: a login needs little, and whoever sends it is not known.
pub(crate) const MAX_TOKEN: usize = 64 * 1024;

impl Plain {
    /// `authorization id NUL user NUL password`. Says what is wrong in Kafka's words.
    pub(crate) fn parse(token: &[u8]) -> Result<Plain, &'static str> {
        const TOKENS: &str = "Invalid SASL/PLAIN response: expected 3 tokens";
        let mut parts = token.split(|byte| *byte == 0);
        let (Some(acts_for), Some(user), Some(password), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TOKENS);
        };
        let user = std::str::from_utf8(user).map_err(|_| TOKENS)?;
        if user.is_empty() {
            return Err("Authentication failed: username not specified");
        }
        if password.is_empty() {
            return Err("Authentication failed: password not specified");
        }
        if !acts_for.is_empty() && acts_for != user.as_bytes() {
            return Err(
                "Authentication failed: Client requested an authorization id that is different from username",
            );
        }
        Ok(Plain {
            user: user.to_owned(),
            password: Secret::new(password),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_with_plain_is_taken_apart_and_never_shown() {
        let said = Plain::parse(b"\0alice\0secret").unwrap();
        assert_eq!(
            (said.user.as_str(), &said.password),
            ("alice", &Secret::new("secret"))
        );
        assert!(!format!("{said:?}").contains("secret"));
        assert!(Plain::parse(b"alice\0alice\0secret").is_ok());
        for (bad, why) in [
            (&b""[..], "3 tokens"),
            (b"alice\0secret", "3 tokens"),
            (b"\0a\0b\0c", "3 tokens"),
            (b"\0\xff\0b", "3 tokens"),
            (b"\0\0b", "username not specified"),
            (b"\0a\0", "password not specified"),
            (b"b\0a\0c", "authorization id"),
        ] {
            let said = Plain::parse(bad).unwrap_err();
            assert!(said.contains(why), "{bad:?}: {said}");
        }
    }

    #[test]
    fn mechanisms_have_their_names() {
        let names = Mechanism::ALL.map(Mechanism::name);
        assert_eq!(names, ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]);
        for mechanism in Mechanism::ALL {
            assert_eq!(Mechanism::named(mechanism.name()), Some(mechanism));
        }
        assert_eq!(Mechanism::named("GSSAPI"), None);
    }
}
