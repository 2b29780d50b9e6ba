//! What a consumer subscribes to, as far as the broker needs to know.
//!
//! The metadata of a consumer is opaque to Weir with one exception that Kafka makes too: offsets of a topic to
//! which a member subscribes are not deleted (KIP-496). Version 0 of the subscription is the prefix of all
//! later ones, so this reads that and no more.

use super::Group;
use crate::types::TopicName;

/// The type of protocol whose metadata are subscriptions.
const CONSUMER: &str = "consumer";

impl Group {
    /// Whether its members speak the protocol of consumers.
    pub(super) fn is_of_consumers(&self) -> bool {
        self.protocol_type() == Some(CONSUMER)
    }

    /// Whether a member subscribes to `topic`. Metadata that cannot be read might, so they do.
    pub(super) fn subscribes_to(&self, topic: &TopicName) -> bool {
        self.members().any(|(_, member)| {
            let mut metadata = member.protocols().iter().map(|p| p.metadata.bytes());
            metadata.any(|bytes| names(bytes, topic.as_str()).unwrap_or(true))
        })
    }
}

/// Whether a subscription names `topic`; `None` if it is no subscription. The layout: version (int16), number of
/// topics (int32), each topic (int16 length, bytes).
fn names(subscription: &[u8], topic: &str) -> Option<bool> {
    let mut rest = subscription.get(2..)?;
    let count = i32::from_be_bytes(take(&mut rest)?);
    for _ in 0..count {
        let length = usize::try_from(i16::from_be_bytes(take(&mut rest)?)).ok()?;
        let (name, after) = rest.split_at_checked(length)?;
        if name == topic.as_bytes() {
            return Some(true);
        }
        rest = after;
    }
    Some(false)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_is_read_and_a_torn_one_is_not() {
        let whole = b"\x00\x03\x00\x00\x00\x02\x00\x01a\x00\x02bc\xff\xff\xff\xff";
        assert_eq!(names(whole, "a"), Some(true));
        assert_eq!(names(whole, "bc"), Some(true));
        assert_eq!(names(whole, "b"), Some(false));
        assert_eq!(names(&whole[..12], "bc"), None);
        assert_eq!(names(b"", "a"), None);
        assert_eq!(names(b"\x00\x00\x7f\xff\xff\xff", "a"), None);
        assert_eq!(names(b"\x00\x00\x00\x00\x00\x01\xff\xff", "a"), None);
    }
}
