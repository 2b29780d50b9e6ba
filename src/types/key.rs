//! A secret between nodes.

use std::fmt;

use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};
use serde::{Serialize, Serializer};

/// With what a node's peers show that they read the same bucket as it does: random, of one incarnation, in the log and
/// nowhere else. It is never shown.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct PeerKey(#[n(0)] ByteArray<32>);

impl PeerKey {
    /// The key of these random bytes.
    pub fn new(random: [u8; 32]) -> PeerKey {
        PeerKey(ByteArray::from(random))
    }

    /// The secret itself.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerKey(..)")
    }
}

impl Serialize for PeerKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_shown() {
        let key = PeerKey::new([0x5a; 32]);
        let shown = format!("{key:?} {}", serde_json::to_string(&key).unwrap());
        assert_eq!(shown, "PeerKey(..) \"(hidden)\"");
        let bytes = minicbor::to_vec(&key).unwrap();
        assert_eq!(minicbor::decode::<PeerKey>(&bytes).unwrap(), key);
        assert_eq!(key.expose(), &[0x5a; 32]);
    }
}
