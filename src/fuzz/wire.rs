//! What clients send, and what the members of a group tell each other.

/// A frame of a Kafka client, without its length.
pub(super) fn request(input: &[u8]) -> bool {
    crate::kafka::fuzz::request(input)
}

/// All that a Kafka client sends.
pub(super) fn stream(input: &[u8]) -> bool {
    crate::kafka::fuzz::stream(input)
}

/// A subscription or an assignment.
pub(super) fn group_metadata(input: &[u8]) -> bool {
    crate::embedded::fuzz::read(input)
}
