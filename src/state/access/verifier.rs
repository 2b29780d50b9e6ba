//! With what a password is checked: never the password.

use std::collections::BTreeMap;
use std::fmt;

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use serde::{Serialize, Serializer};

/// How a password was hashed (RFC 5802, RFC 7677).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize)]
#[cbor(index_only)]
pub enum ScramMechanism {
    /// SCRAM-SHA-256.
    #[n(1)]
    #[serde(rename = "SCRAM-SHA-256")]
    Sha256,
    /// SCRAM-SHA-512.
    #[n(2)]
    #[serde(rename = "SCRAM-SHA-512")]
    Sha512,
}

impl ScramMechanism {
    /// Both.
    pub const ALL: [ScramMechanism; 2] = [ScramMechanism::Sha256, ScramMechanism::Sha512];

    /// The name that it has in SASL.
    pub fn name(self) -> &'static str {
        match self {
            ScramMechanism::Sha256 => "SCRAM-SHA-256",
            ScramMechanism::Sha512 => "SCRAM-SHA-512",
        }
    }

    /// How many bytes its hashes have.
    pub fn hash_len(self) -> usize {
        match self {
            ScramMechanism::Sha256 => 32,
            ScramMechanism::Sha512 => 64,
        }
    }
}

impl fmt::Display for ScramMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a server keeps of a password under SCRAM. Who has it can neither log in with it nor compute the password but by
/// trying; all the same it is shown nowhere: `Debug` and what is serialised for people say how it was made.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Verifier {
    /// How often the hash was iterated.
    #[n(0)]
    pub iterations: u32,
    #[n(1)]
    salt: ByteVec,
    #[n(2)]
    stored_key: ByteVec,
    #[n(3)]
    server_key: ByteVec,
}

impl Verifier {
    /// The fewest iterations, as Kafka's.
    pub const MIN_ITERATIONS: u32 = 4096;

    /// The most, as Kafka's: what a client says is hashed as often with PLAIN.
    pub const MAX_ITERATIONS: u32 = 16_384;

    /// The longest salt, in bytes.
    const MAX_SALT: usize = 256;

    /// A verifier of these parts. The fold refuses it unless it fits its mechanism.
    pub fn new(
        iterations: u32,
        salt: Vec<u8>,
        stored_key: Vec<u8>,
        server_key: Vec<u8>,
    ) -> Verifier {
        Verifier {
            iterations,
            salt: salt.into(),
            stored_key: stored_key.into(),
            server_key: server_key.into(),
        }
    }

    /// The salt.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// The hash of the client's key.
    pub fn stored_key(&self) -> &[u8] {
        &self.stored_key
    }

    /// The key with which the server signs.
    pub fn server_key(&self) -> &[u8] {
        &self.server_key
    }

    /// Whether it can be one of this mechanism.
    pub(super) fn fits(&self, mechanism: ScramMechanism) -> bool {
        let len = mechanism.hash_len();
        (Verifier::MIN_ITERATIONS..=Verifier::MAX_ITERATIONS).contains(&self.iterations)
            && (1..=Verifier::MAX_SALT).contains(&self.salt.len())
            && self.stored_key.len() == len
            && self.server_key.len() == len
    }
}

/// The verifiers of a user, one for each mechanism at most.
pub type Verifiers = BTreeMap<ScramMechanism, Verifier>;

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({} iterations, ..)", self.iterations)
    }
}

impl Serialize for Verifier {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("(hidden; {} iterations)", self.iterations))
    }
}
