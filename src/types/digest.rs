//! What bytes are told apart by.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};
use serde::{Serialize, Serializer};

/// The SHA-256 of a state's bytes: two nodes whose states at one seq have different digests have folded different
/// things.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct StateDigest(#[n(0)] ByteArray<32>);

impl StateDigest {
    /// The digest of the bytes of a state.
    pub fn of(bytes: &[u8]) -> StateDigest {
        let computed = digest(&SHA256, bytes);
        let mut own = [0; 32];
        own.iter_mut()
            .zip(computed.as_ref())
            .for_each(|(to, from)| *to = *from);
        StateDigest(ByteArray::from(own))
    }
}

impl fmt::Display for StateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for StateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateDigest({self})")
    }
}

impl Serialize for StateDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_sha_256_and_is_read_back() {
        let digest = StateDigest::of(b"abc");
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), hex);
        let bytes = minicbor::to_vec(&digest).unwrap();
        assert_eq!(minicbor::decode::<StateDigest>(&bytes).unwrap(), digest);
    }
}
